"""``steerclear.generate(pipe, prompt, ...)``: images with their seeds, files and traces."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from PIL.Image import Image

from ..bridges.diffusers.asking import takes_classes
from ..core.calibration import Calibration
from ..core.errors import InvalidSetting
from ..core.guidance import Guidance
from ..models.given import Given
from ..study.calibrations import as_given
from ..study.gallery import Picture
from ..study.guidance_settings import build_guidance
from ..study.methods import WITH_NEGATIVE, WITHOUT_NEGATIVE, Method
from ..study.recipe import Recipe, format_seeds
from ..study.run import images_of
from ..study.study import Study, checked_negatives
from .comparison import as_model, as_negatives, as_seeds, as_tuple, asked_model
from .place import Place
from .progress import progress_bars, show_methods
from .report import data_uri, rendered

TEMPLATE = "images.html.j2"


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """A sequence of images of one recipe, in the order of the seeds. A notebook shows them.

    Attributes:
        recipe: everything that made them, except the seeds.
        pictures: each image with its seed, file, trace and cost.
        place: the folder of the files.
    """

    recipe: Recipe
    pictures: tuple[Picture, ...]
    place: Place

    def __len__(self) -> int:
        return len(self.pictures)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image]: ...
    def __getitem__(self, index: int | slice) -> Image | list[Image]:
        found = self.pictures[index]
        return [picture.open() for picture in found] if isinstance(found, tuple) else found.open()

    def __iter__(self) -> Iterator[Image]:
        for picture in self.pictures:  # the generator keeps self, and with it the temporary folder, alive
            yield picture.open()

    @property
    def seeds(self) -> list[int]:
        return [picture.seed for picture in self.pictures]

    @property
    def paths(self) -> list[Path]:
        """The PNG files, each with its recipe inside; those in a temporary folder last as long as this object."""
        return [picture.path for picture in self.pictures]

    @property
    def traces(self) -> list[dict[str, list[float | None]]]:
        """For each image: name -> the guidance's number per step (None at steps without one)."""
        return [picture.trace for picture in self.pictures]

    def figure(self, *names: str) -> Any:
        """A figure of the traces, see :meth:`~steerclear.core.records.Trace.figure`."""
        from .figures.trace import Line, TraceDrawing

        lines = [Line(f"image {picture.seed}", None, picture.trace) for picture in self.pictures]
        return TraceDrawing(names).of_lines(self.pictures[0].levels, lines)

    def save(self, folder: Path | str) -> Path:
        """Copy the images into a folder; returns it.

        Raises:
            FolderConflict: the folder holds something else.
        """
        return self.place.copied(folder)

    def __repr__(self) -> str:
        cost = sum(picture.evaluations for picture in self.pictures) / len(self.pictures)
        return (
            f"Images({len(self)} of {self.recipe.prompt!r}, seeds {format_seeds(self.seeds)}, "
            f"{self.recipe.built_guidance().name}, {cost:g} evaluations per image)"
        )

    def _repr_html_(self) -> str:
        shown = [(picture.seed, data_uri(picture.path.read_bytes(), "image/png")) for picture in self.pictures]
        return rendered(TEMPLATE, text=repr(self), images=shown)


def generate(
    model: Any, prompt: str, negative_prompt: str | Iterable[str] = (), *, guidance: Guidance | str | None = None,
    seeds: Iterable[int] | str = range(8), num_inference_steps: int = 30, height: int | None = None,
    width: int | None = None, weak: Given | None = None, networks: Mapping[str, Given] | None = None,
    calibration: Calibration | str | Path | Iterable[Calibration | str | Path] | None = None,
    folder: Path | str | None = None, batch_size: int = 16, progress: bool | None = None,
) -> Images:  # fmt: skip
    """Make images of one prompt under one guidance. Image k depends only on seed k; the pipeline is left unchanged.

    Args:
        model, prompt, negative_prompt, seeds, num_inference_steps, height, width, weak, networks, calibration, folder, batch_size,
            progress: see :func:`~steerclear.telling.comparison.compare`, also for errors and warnings.
        guidance: a guidance, or its name with settings; None for classifier-free guidance, and with a negative prompt for
            the dynamic negative.

    Raises:
        UnsupportedModel: also if the model lacks a network that the guidance uses.
    """
    place = Place(folder)
    loaded = as_model(model, weak, networks)
    negatives = checked_negatives(as_negatives(negative_prompt))
    built = _guidance(guidance, bool(negatives), takes_classes(loaded.pipe))
    method = Method(built.name, built.name, prompt, negatives, built)
    calibrations = as_given(as_tuple(calibration))
    study = Study(
        prompt, negatives, (method,), as_seeds(seeds), num_inference_steps, height, width, model=asked_model(loaded),
        calibrations=tuple(one.source for one in calibrations),
    )  # fmt: skip
    with progress_bars(progress) as bars:
        on_method, on_progress = show_methods(bars)
        recipe, pictures = images_of(
            study, place.path, model=loaded, batch_size=batch_size, on_method=on_method, on_progress=on_progress,
            calibrations=calibrations,
        )  # fmt: skip
    return Images(recipe, tuple(pictures), place)


def _guidance(guidance: Guidance | str | None, negative: bool, classes: bool) -> Guidance:
    if isinstance(guidance, Guidance):
        return guidance
    if guidance is None:
        guidance = WITH_NEGATIVE[-1 if classes else 0] if negative else WITHOUT_NEGATIVE
    if not isinstance(guidance, str):
        raise InvalidSetting("guidance", guidance, "a guidance or its name")
    return build_guidance(guidance)
