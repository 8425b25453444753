"""``steerclear.measure(folders, concepts, ...)``: folders of images, whoever made them, shown by notebooks and terminals.

found = steerclear.measure(["out/a", "out/b"], "people", judge="siglip")
found.report("out/measured")
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import InvalidSetting
from ..core.features import Features
from ..core.laboratory import Laboratory
from ..core.settings import folder_path
from ..study.gallery import write_text
from ..study.judging import watched_words
from ..study.outside import Outside, measure_folders, words
from ..study.results import RESULTS_FILE, ImageResult, Results
from .comparison import WRITTEN, Comparison, as_tuple
from .place import Place
from .progress import progress_bars, show_stages

Folder = Path | str


@dataclass(frozen=True, eq=False, repr=False)
class Measured(Comparison):
    """The result for measured folders. The images stay where they are: only what was found of them is saved."""

    def report(self, folder: Path | str | None = None) -> Path:
        """See :meth:`~steerclear.telling.comparison.Comparison.report`."""
        if folder is None:
            return super().report()
        there = self.save(folder)
        return Comparison(_seen_from(self.results, self.folder, there), Place(there)).report()

    def save(self, folder: Path | str) -> Path:
        """Copy ``results.json``, and what the judges saw, into a folder; returns it. Measuring again in it asks no judge again.

        Raises:
            FolderConflict: the folder holds something else.
        """
        there = self.place.copied(folder)
        moved = _seen_from(self.results, self.folder, there)
        write_text(there / RESULTS_FILE, moved.model_dump_json(indent=1) + "\n")
        return there


def measure(
    folders: Folder | Iterable[Folder], concepts: str | Iterable[str] = (), *, judge: Laboratory | str | None = None,
    watch: Iterable[str] | str | None = None, reference: Folder | None = None, prompt: str | None = None,
    second_judge: Laboratory | str | None = None, features: Features | str | None = None, folder: Folder | None = None,
    batch_size: int = 16, progress: bool | None = None,
) -> Measured:  # fmt: skip
    """Measure folders of images, whoever made them: what they show, and how far they are from a reference.

    No model is loaded. A file that cannot be read is left out, and a note says which and why.

    Args:
        folders: of images, or of a comparison; each is a row.
        concepts: what the images should not show, as "mustache, beard" or several texts; () only with the judge "none".
        judge: a laboratory that knows no model, or its name, as "siglip"; "none" to compare features alone.
        watch: what else to look for, as "trees, sky" or several texts; None for the judge's own list.
        reference: a folder of images; those in which the judge sees no concept are what the others are compared with.
        prompt: what the images should show, for a judge that knows the truth of it.
        second_judge: another laboratory or its name, to see where the two differ.
        features: in what the images are compared, or its name; None for the judge's own.
        folder: of the results: what a judge saw there before is not asked again. None for a temporary folder.
        batch_size: most images that a judge sees at once.
        progress: whether to show progress bars; None for only in terminals and notebooks.

    Raises:
        InvalidSetting, UnknownName, PromptError: an argument of the wrong type, out of range, or unknown; a folder without an
            image that can be read; a judge that needs the images' model.
        UnsupportedModel: the files of the judge are damaged.
        FolderConflict: the folder of the results holds something else, or is inside a measured one.

    Warns:
        SteerclearWarning: something given has no effect; says why.
    """
    asked = dict(locals())
    for name in ("judge", "second_judge"):
        if not isinstance(asked[name], Laboratory | str | None):
            raise InvalidSetting(name, asked[name], "a laboratory or its name", "Classifier(function, names) is one")
    several = as_tuple(folders)
    paths = tuple(folder_path("folders", one) for one in (several if isinstance(several, tuple) else (several,)))
    question = Outside(
        paths, _words("concepts", concepts), None if watch is None else _words("watch", watched_words(watch)), prompt,
        None if reference is None else folder_path("reference", reference), judge if isinstance(judge, str) else None,
        second_judge if isinstance(second_judge, str) else None, features,
    )  # fmt: skip
    place = Place(folder)
    with progress_bars(progress) as bars:
        stage = show_stages(bars)
        results = measure_folders(
            question, place.path, judge=judge if isinstance(judge, Laboratory) else None,
            second_judge=second_judge if isinstance(second_judge, Laboratory) else None, batch_size=batch_size,
            command=_call(asked), on_folder=lambda one: stage(one.label),
        )  # fmt: skip
    return Measured(results, place)


def _words(name: str, texts: Any) -> tuple[str, ...]:
    """Words of a text with commas between them, or of several texts.

    Raises:
        InvalidSetting: another type, or an empty word.
    """
    several = (texts,) if isinstance(texts, str) else as_tuple(texts)
    if not isinstance(several, tuple) or not all(isinstance(one, str) for one in several):
        raise InvalidSetting(name, texts, "a text with commas between words, or several texts")
    return words(name, several) if several else ()


def _call(asked: Mapping[str, Any]) -> str:
    """The call that repeats the measurement, with what was given."""

    def written(value: Any) -> str:
        plain = [written(one) for one in as_tuple(value)] if isinstance(value, list | tuple) else []
        if plain:
            return f"[{', '.join(plain)}]"
        return (
            repr(os.fspath(value))
            if isinstance(value, os.PathLike)
            else repr(value)
            if isinstance(value, WRITTEN)
            else "..."
        )

    left = ("folders", "concepts", "folder", "progress")
    further = [f"{name}={written(one)}" for name, one in asked.items() if name not in left and one is not None]
    further = [text for text in further if text != "batch_size=16"]
    return f"steerclear.measure({', '.join([written(asked['folders']), written(asked['concepts']), *further])})"


def _seen_from(results: Results, here: Path, there: Path) -> Results:
    """Results in a folder, with the paths of the images as another folder needs them."""

    def path(file: str) -> str:
        return Path(os.path.relpath(here / file, there)).as_posix()

    def moved(image: ImageResult) -> ImageResult:
        return image.model_copy(update={"file": path(image.file)})

    methods = [
        method.model_copy(update={"images": [moved(image) for image in method.images]}) for method in results.methods
    ]
    doubts = [one.model_copy(update={"images": [path(file) for file in one.images]}) for one in results.disagreements]
    return results.model_copy(update={"methods": methods, "disagreements": doubts})
