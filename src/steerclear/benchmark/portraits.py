"""Images of several methods on a model of the portraits' world, made or found, and measured against its exact truth."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from ..core.errors import InvalidSetting, UnsupportedModel, keeping
from ..core.laboratory import Measurement
from ..core.saving import clear_partials
from ..laboratories.portrait_classifier import CLASSIFIER
from ..laboratories.portraits import FEWEST_FOR_FRECHET, PortraitLaboratory
from ..metrics.rates import rate
from ..models.loading import Model
from ..study.compare import Started, recipe_of
from ..study.folders import working_folder
from ..study.generate import generate
from ..study.measure import pixels
from ..study.methods import Method
from ..study.recipe import format_seeds
from ..testbeds.portraits import indicators

MAN = "portrait photo of a man"


def measured_methods(
    model: Model, methods: Sequence[Method], prompts: Sequence[str], seeds: Sequence[int], folder: Path, *,
    num_inference_steps: int, batch_size: int, on_method: Started | None, on_progress: Callable[[int, int], None] | None,
) -> dict[str, dict[str, Measurement]]:  # fmt: skip
    """Every measurement, and the rate of every attribute as "rate:NAME", by the name of the method.

    Args:
        model: a pipeline with a classifier of portraits.
        methods: what makes the images.
        prompts: whose true portraits a method of the same prompt is held against; methods of others, against the first's.
        seeds: of every method.
        folder: images go to ``images/<method>``; those that are there are not made again.
        num_inference_steps, batch_size: of every method.
        on_method, on_progress: called as methods begin and as steps are made.

    Raises:
        UnsupportedModel: a model without a classifier of portraits, so that nothing can be measured.
        InvalidSetting: too few seeds for a Fréchet distance.
        FolderConflict: another process is at work in the folder.
    """
    laboratories = {prompt: PortraitLaboratory(model.folder or Path(), prompt, None) for prompt in prompts}
    made = made_images(
        model, methods, seeds, folder, num_inference_steps=num_inference_steps, batch_size=batch_size,
        on_method=on_method, on_progress=on_progress,
    )  # fmt: skip
    found: dict[str, dict[str, Measurement]] = {}
    for method, images in zip(methods, made, strict=True):
        laboratory = laboratories.get(method.prompt, laboratories[prompts[0]])
        seen = laboratory.see(images)
        rates = {f"rate:{name}": measured_rate(shown) for name, shown in indicators(seen.attributes).items()}
        found[method.name] = laboratory.measure(seen) | rates
    return found


def made_images(
    model: Model, methods: Sequence[Method], seeds: Sequence[int], folder: Path, *, num_inference_steps: int,
    batch_size: int, on_method: Started | None, on_progress: Callable[[int, int], None] | None,
) -> Iterator[torch.Tensor]:  # fmt: skip
    """The pixels of each method's images, one method after another; arguments and errors as :func:`measured_methods`."""
    if model.folder is None or not (model.folder / CLASSIFIER).is_file():
        raise UnsupportedModel(
            f"the model {model.name!r} has no {CLASSIFIER}, which sees what its portraits show; measure a shipped model, or "
            f"one that steerclear train has made"
        )
    if len(seeds) < FEWEST_FOR_FRECHET:
        raise InvalidSetting(
            "seeds", format_seeds(seeds), f"at least {FEWEST_FOR_FRECHET}", "fewer give no Fréchet distance"
        )
    done: list[str] = []
    with working_folder(folder / "images"), keeping(lambda: done):
        clear_partials(folder / "images")
        for place, method in enumerate(methods):
            if on_method is not None:
                on_method(method, place, len(methods))
            pictures = generate(
                model, recipe_of(model, method, num_inference_steps), seeds, folder / "images" / method.name,
                batch_size=batch_size, on_progress=on_progress,
            )  # fmt: skip
            done.append(method.name)
            yield pixels(pictures)


def measured_rate(indicator: torch.Tensor) -> Measurement:
    """The share of those of which it is true, with Wilson's interval."""
    counted = rate(indicator)
    return Measurement(value=counted.value, low=counted.low, high=counted.high, interval="wilson")
