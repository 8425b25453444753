"""What autoguidance with the weak network that ships does to precision, recall and Fréchet distance."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..core.errors import UnsupportedModel
from ..core.laboratory import Measurement
from ..guidance.auto import AutoGuidance
from ..guidance.unguided import Unguided
from ..models.loading import Model
from ..networks.shared.naming import WEAK
from ..study.compare import Started
from ..study.methods import Method
from ..study.recipe import format_seeds
from .claims import Benchmark, Claim, at_least, at_most
from .portraits import MAN, measured_methods

SCALES = (1.1, 1.25, 1.5)


def benchmark_autoguidance(
    model: Model, seeds: Sequence[int], folder: Path, *, num_inference_steps: int = 30, batch_size: int = 16,
    on_method: Started | None = None, on_progress: Callable[[int, int], None] | None = None,
) -> Benchmark:  # fmt: skip
    """Hold autoguidance at the best of ``SCALES``, that of the least Fréchet distance, against no guidance.

    Args:
        model: the shipped pipeline, with its weak network.
        seeds: of every method.
        folder: images go to ``images/<method>``; those that are there are not made again; writes ``autoguidance.json``.
        num_inference_steps, batch_size: of every method.
        on_method, on_progress: called as methods begin and as steps are made.

    Raises:
        UnsupportedModel: a model without a weak network, or without a classifier of portraits.
        InvalidSetting: too few seeds for a Fréchet distance.
    """
    if WEAK not in model.networks:
        raise UnsupportedModel(
            f"the model {model.name!r} has no weak network to guide away from; measure a shipped model"
        )
    guided = [Method(f"auto-{scale:g}", f"autoguidance {scale:g}", MAN, (), AutoGuidance(scale)) for scale in SCALES]
    found = measured_methods(
        model, [Method("unguided", "unguided", MAN, (), Unguided()), *guided], [MAN], seeds, folder,
        num_inference_steps=num_inference_steps, batch_size=batch_size, on_method=on_method, on_progress=on_progress,
    )  # fmt: skip
    result = Benchmark(
        model=model.name, model_digest=model.digest, weak_digest=model.networks[WEAK].source.digest,
        scheduler=type(model.pipe.scheduler).__name__, num_inference_steps=num_inference_steps,
        seeds=format_seeds(seeds), claims=_against_unguided(found),
    )  # fmt: skip
    result.save(folder / "autoguidance.json")
    return result


def _against_unguided(found: dict[str, dict[str, Measurement]]) -> list[Claim]:
    best = min(SCALES, key=lambda scale: found[f"auto-{scale:g}"]["frechet"].value)
    ours, plain = found[f"auto-{best:g}"], found["unguided"]
    swept = ", ".join(f"{scale:g}: {found[f'auto-{scale:g}']['frechet'].value:.2f}" for scale in SCALES)
    truth = ours["frechet"].truth
    return [
        at_least(f"autoguidance {best:g}: precision, against unguided's", plain["precision"].value, ours["precision"]),
        at_least(f"autoguidance {best:g}: recall, against unguided's", plain["recall"].value, ours["recall"]),
        at_most(f"autoguidance {best:g}: Fréchet distance, against unguided's (swept {swept}; as many true portraits {truth:.2f})",
                plain["frechet"].value, ours["frechet"]),
    ]  # fmt: skip
