"""What autoguidance with the weak network that ships does to precision, recall and Fréchet distance."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..bridges.loading import Model
from ..errors import UnsupportedModel
from ..guidance.auto import AutoGuidance
from ..guidance.interval import IntervalGuidance
from ..guidance.unguided import Unguided
from ..methods import Method
from ..recipe import format_seeds
from ..results import Measurement
from .claims import Benchmark, Claim, at_least, at_most
from .portraits import MAN, OnMethod, measured_methods

SCALES = (1.1, 1.25, 1.5)
FINE = 2.0
"""sigma / alpha under which skin, hair and background are decided: there autoguidance can only sharpen them."""


def benchmark_autoguidance(
    model: Model, seeds: Sequence[int], folder: Path, *, num_inference_steps: int = 30, batch_size: int = 16,
    on_method: OnMethod | None = None, on_progress: Callable[[int, int], None] | None = None,
) -> Benchmark:  # fmt: skip
    """Hold autoguidance at the best of ``SCALES`` against no guidance: at all steps, and below ``FINE`` alone.

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
    if model.weak is None:
        raise UnsupportedModel(
            f"the model {model.name!r} has no weak network to guide away from; measure a shipped model"
        )
    whole = [Method(f"auto-{scale:g}", f"autoguidance {scale:g}", MAN, (), AutoGuidance(scale)) for scale in SCALES]
    fine = [
        Method(f"auto-fine-{scale:g}", f"autoguidance {scale:g}, fine", MAN, (),
               IntervalGuidance(AutoGuidance(scale), 0.0, FINE, "sigma"))
        for scale in SCALES[1:]
    ]  # fmt: skip
    found = measured_methods(
        model, [Method("unguided", "unguided", MAN, (), Unguided()), *whole, *fine], [MAN], seeds, folder,
        num_inference_steps=num_inference_steps, batch_size=batch_size, on_method=on_method, on_progress=on_progress,
    )  # fmt: skip
    claims = [
        *_against_unguided(found, whole, "at all steps"),
        *_against_unguided(found, fine, f"below sigma / alpha = {FINE:g}"),
    ]
    result = Benchmark(
        model=model.name, model_digest=model.digest, weak_digest=model.weak_digest,
        scheduler=type(model.pipe.scheduler).__name__, num_inference_steps=num_inference_steps,
        seeds=format_seeds(seeds), claims=claims,
    )  # fmt: skip
    result.save(folder / "autoguidance.json")
    return result


def _against_unguided(found: dict[str, dict[str, Measurement]], methods: Sequence[Method], where: str) -> list[Claim]:
    best = min(methods, key=lambda method: found[method.name]["frechet"].value)
    ours, plain = found[best.name], found["unguided"]
    swept = ", ".join(
        f"{method.name.rpartition('-')[2]}: {found[method.name]['frechet'].value:.2f}" for method in methods
    )
    what = f"autoguidance {best.name.rpartition('-')[2]} {where}"
    return [
        at_least(f"{what}: precision, against unguided's", plain["precision"].value, ours["precision"]),
        at_least(f"{what}: recall, against unguided's", plain["recall"].value, ours["recall"]),
        at_most(f"{what}: Fréchet distance, against unguided's (swept {swept})", plain["frechet"].value, ours["frechet"]),
    ]  # fmt: skip
