"""What ``steerclear calibrate`` measures of a concept under a prompt, and the file that keeps it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .errors import InvalidSetting, shown
from .saving import save_whole
from .shapes import Bool, Float, Tensor
from .values import parse_object

KEY = "steerclear_calibration"
"""Of the metadata in the file."""


@dataclass(frozen=True)
class Observed:
    """Unguided images, seen on their way and at the end.

    Attributes:
        levels: sigma / alpha at each step, falling.
        denoised: the denoised predictions under the prompt, float32.
        log_odds: what each evidence said, by its name, uncalibrated; NaN where it had nothing to say.
        shown: whether the finished image shows the concept, as the judge sees it.
        prior: how often the concept shows.
    """

    levels: Float[Tensor, " steps"]
    denoised: Float[Tensor, "images steps *shape"]
    log_odds: Mapping[str, Float[Tensor, "images steps"]]
    shown: Bool[Tensor, " images"]
    prior: float


@dataclass(frozen=True)
class About:
    """Where a calibration was measured.

    Attributes:
        model, model_digest: the model's name, and the hash of its files.
        prompt, negative_prompt: the prompt, and the concept.
        scheduler: class name and settings, as in a recipe.
        num_inference_steps: sampler steps.
        guidance_scale: 1; calibrations are measured on unguided images.
        images, shown: how many were judged, and how many of them show the concept.
        judge: who judged.
        version: of steerclear.
        height, width: of the images in pixels; None for the model's own.
        sampler: "stochastic" or "deterministic"; "" if unknown.
    """

    model: str
    model_digest: str
    prompt: str
    negative_prompt: str
    scheduler: str
    num_inference_steps: int
    images: int
    shown: int
    judge: str
    version: str
    guidance_scale: float = 1.0
    height: int | None = None
    width: int | None = None
    sampler: str = ""


DECIDE = {
    "model": "model", "model_digest": "model", "prompt": "prompt", "negative_prompt": "negative prompt", "scheduler": "scheduler",
    "num_inference_steps": "number of steps", "height": "height", "width": "width",
    "sampler": "kind of sampler", "guidance_scale": "guidance scale",
}  # fmt: skip
"""Fields that must be those of a run for the calibration to be right, and their names for people."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """A concept under a prompt, measured.

    Attributes:
        about: where.
        prior: how often the concept shows without guidance, strictly between 0 and 1.
        tensors: what each evidence keeps, as "evidence.name".
        file: where it was read from; empty if nowhere.
    """

    about: About
    prior: float
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    file: str = ""

    def of(self, evidence: str) -> dict[str, Tensor]:
        """What an evidence keeps, by name; empty if nothing was measured for it."""
        start = f"{evidence}."
        return {name.removeprefix(start): value for name, value in self.tensors.items() if name.startswith(start)}

    def columns(self, evidence: str, names: Sequence[str]) -> tuple[tuple[float, ...], ...]:
        """Of a table that an evidence keeps, these columns, each a tensor ``[rows]``; () if it keeps none of them.

        Raises:
            InvalidSetting: one is missing, has no rows or other rows than the first, or is no ``[rows]``.
        """
        own = self.of(evidence)
        if not any(name in own for name in names):
            return ()
        shapes = {name: tuple(own[name].shape) if name in own else None for name in names}
        if None in shapes.values() or len({*shapes.values()}) > 1 or own[names[0]].ndim != 1 or not len(own[names[0]]):
            listed = ", ".join(
                f"{name} {'missing' if shape is None else list(shape)}" for name, shape in shapes.items()
            )
            raise self.unlike(evidence, f"{listed}, which is no table")
        if "levels" in names and not bool((own["levels"] > 0).all()):
            raise self.unlike(evidence, "noise levels that are not above 0")
        return tuple(tuple(own[name].double().tolist()) for name in names)

    def unlike(self, evidence: str, what: str) -> InvalidSetting:
        """The error for tensors of an evidence that steerclear calibrate does not write."""
        remedy = f"measure it again: the {evidence} evidence finds {what}"
        where = self.file or f"that of {shown(self.about.negative_prompt)}"
        return InvalidSetting("calibration", where, "as steerclear calibrate writes it", remedy)

    def digest(self) -> str:
        """A short hash of all that it says."""
        found = hashlib.sha256(json.dumps([asdict(self.about), self.prior], sort_keys=True).encode())
        for name in sorted(self.tensors):
            value = self.tensors[name].detach().cpu().contiguous()
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            plain = value.flatten().clone(memory_format=torch.contiguous_format)  # a single number may have any stride
            found.update(plain.view(torch.uint8).numpy().tobytes())  # numpy has no bfloat16
        return found.hexdigest()[:16]

    def differences(self, run: Mapping[str, object]) -> list[str]:
        """In what a run differs from where this was measured, one clause each.

        Args:
            run: names of :class:`About` -> the run's values; what is missing is not compared.
        """
        about = asdict(self.about)
        return [
            f"its {words} is {run[name]!r}, and the calibration's {about[name]!r}"
            for name, words in DECIDE.items()
            if name in run and run[name] != about[name] and about[name] != ""
        ]

    def save(self, path: Path) -> None:
        """Write it as safetensors, completely or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        said = {KEY: json.dumps({"about": asdict(self.about), "prior": self.prior, "digest": self.digest()})}
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.tensors.items()}
        save_whole(path, lambda to: save_file(tensors, to, metadata=said))

    @classmethod
    def load(cls, path: Path | str) -> "Calibration":
        """From its file.

        Raises:
            InvalidSetting: the file is missing, damaged, or none that steerclear calibrate wrote.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                said = parse_object((file.metadata() or {})[KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            about = said["about"]
            kinds = {each.name: each.type for each in fields(About)}
            wrong = [name for name, kind in kinds.items() if not isinstance(about[name], _accepted(kind))]
            prior = float(said["prior"])
            if wrong or set(about) != set(kinds) or not 0 < prior < 1:
                raise ValueError(f"its {wrong[0] if wrong else 'description'} is damaged")
            if not all(bool(value.isfinite().all()) for value in tensors.values()):
                raise ValueError("a number in it is not finite")
            found = cls(About(**about), prior, tensors, str(path))
            if found.digest() != said["digest"]:
                raise ValueError("its numbers are not those that were written")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            remedy = f"{error}; write one with steerclear calibrate"
            raise InvalidSetting("calibration", str(path), "a file of steerclear calibrate", remedy) from error
        return found


def _accepted(kind: object) -> tuple[type, ...]:
    return {str: (str,), int: (int,), float: (int, float), int | None: (int, type(None))}[kind]  # type: ignore[index]
