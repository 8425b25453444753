"""``steerclear.compare(pipe, prompt, ...)``, shown by notebooks and terminals.

comparison = steerclear.compare(pipe, "portrait photo of a man", negative_prompt="mustache", seeds=range(16))
comparison.report("out/man")
"""

import inspect
import io
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ..core.calibration import Calibration
from ..core.errors import InvalidSetting, MissingPackage
from ..core.features import Features
from ..core.laboratory import Laboratory
from ..core.parsing import split_methods
from ..models.given import Given, given_model, networks_beside
from ..models.loading import Model, load_model
from ..models.samplers import own_scheduler
from ..networks.shared.naming import named
from ..study.calibrations import as_given
from ..study.commands import given_networks, lora_texts
from ..study.judging import REFERENCE_METHOD, watched_words
from ..study.recipe import parse_seeds
from ..study.results import Results
from ..study.run import run, settings_of
from ..study.study import LOOKING, ModelAsked, comparison
from .place import Place
from .progress import progress_bars, show_methods
from .report import data_uri, rendered, write_figures, write_report
from .summary import question, summary
from .table import header, rows, terminal_tables, truth_row

TEMPLATE = "comparison.html.j2"


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """The result of a comparison, or of measured folders. A notebook shows its table and images, a terminal its table.

    Attributes:
        results: all measurements, as in ``results.json``.
        place: the folder of the images.
    """

    results: Results
    place: Place

    @property
    def folder(self) -> Path:
        """Folder of the images and ``results.json``; a temporary one lasts as long as this object."""
        return self.place.path

    def figure(self, name: str, *, dark: bool = False, **settings: Any) -> Any:
        """A matplotlib figure, as ``comparison.figure("grid", columns=4)``.

        Args:
            name: "grid", "shift", "trace", or a figure that another package adds.
            dark: use the colours for dark pages.
            settings: of the figure.

        Raises:
            UnknownName: no such figure or setting.
            InvalidSetting: a setting out of range.
        """
        from .figures.base import DARK, LIGHT, find_drawing

        return find_drawing(name).with_settings(settings).figure(self.results, self.folder, DARK if dark else LIGHT)

    def report(self, folder: Path | str | None = None) -> Path:
        """Write the page and its figures; returns the path of ``report.html``.

        Args:
            folder: where to save the run first, see :meth:`save`; None for its own folder.
        """
        folder = self.folder if folder is None else self.save(folder)
        write_figures(self.results, folder)
        return write_report(self.results, folder)

    def save(self, folder: Path | str) -> Path:
        """Copy the images and ``results.json`` into a folder; returns it. Comparing again in it makes no image twice.

        Raises:
            FolderConflict: the folder holds something else.
        """
        return self.place.copied(folder)

    def rows(self) -> list[dict[str, Any]]:
        """One row of plain values per method: name, label, prompts, and measurements.

        A measurement ``m`` has the keys ``m``, ``m_low`` and ``m_high`` (its 95 % interval) and ``m_truth``, None if unknown.
        """
        table = []
        for method in self.results.methods:
            row: dict[str, Any] = {
                "method": method.name, "label": method.label, "prompt": method.prompt,
                "negative_prompt": list(method.negative_prompts),
            }  # fmt: skip
            for column in self.results.columns:
                found = method.measurements.get(column.name)
                for key in ("value", "low", "high", "truth"):
                    name = column.name if key == "value" else f"{column.name}_{key}"
                    row[name] = None if found is None else getattr(found, key)
            table.append(row)
        return table

    def to_pandas(self) -> Any:
        """The :meth:`rows` as a pandas table, indexed by method.

        Raises:
            MissingPackage: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingPackage("to_pandas()", "pandas") from error
        return pandas.DataFrame(self.rows()).set_index("method")

    def __repr__(self) -> str:
        console = Console(file=io.StringIO(), emoji=False)
        with console.capture() as captured:
            console.print(*terminal_tables(self.results, width=console.width), sep="\n\n")
        return "\n".join([question(self.results), "", captured.get().rstrip(), "", *summary(self.results)])

    def _repr_html_(self) -> str:
        from .figures.base import LIGHT, png
        from .figures.grid import Grid

        grid = png(Grid().figure(self.results, self.folder, LIGHT))
        return rendered(
            TEMPLATE, question=question(self.results), answer=summary(self.results), header=header(self.results),
            rows=rows(self.results), truth=None if self.results.target is None else truth_row(self.results),
            grid=data_uri(grid, "image/png"), meaning=Grid.meaning,
        )  # fmt: skip


def compare(
    model: Any, prompt: str, negative_prompt: str | Iterable[str] = (), *, seeds: Iterable[int] | str = range(64),
    num_inference_steps: int = 30, guidance_scale: float = 3.0, auto_scale: float = 2.0,
    methods: Iterable[str] | None = None, height: int | None = None, width: int | None = None,
    weak: Given | None = None, networks: Mapping[str, Given] | None = None, judge: Laboratory | str | None = None,
    calibration: Calibration | str | Path | Iterable[Calibration | str | Path] | None = None,
    folder: Path | str | None = None, batch_size: int = 16, progress: bool | None = None,
    second_judge: Laboratory | str | None = None, watch: Iterable[str] | str | None = None, truth: str | None = None,
    reference_images: int | None = None, reference_method: str = REFERENCE_METHOD, features: Features | str | None = None,
) -> Comparison:  # fmt: skip
    """Compare ways of steering away from something, on the same seeds: what each removed, and what else it changed.

    Image k depends only on seed k. The pipeline is left unchanged; threads may share it, but not a result of ``load_model``.

    Args:
        model: a diffusers pipeline on any device; a model's name, folder or hub id; or a result of ``load_model``.
        prompt: what the images should show.
        negative_prompt: what they should not show; one text per concept.
        seeds: one per image, the same for every method; whole numbers in [0, 2**32), or text such as "0-63".
        num_inference_steps: sampler steps, in [1, 1000].
        guidance_scale: of classifier-free guidance and of the negative prompt; 1 is off.
        auto_scale: of autoguidance; 1 is off.
        methods: names of methods or guidances, with settings as "cfg:guidance_scale=5"; None for the standard ones.
        height, width: of every image, in pixels; None for the model's default.
        weak, networks: further networks for methods that use them, by name; ``weak`` is the one named "weak". See ``steer``.
        judge: a laboratory or its name, "none", or None for the first that can judge these images.
        calibration: what ``calibrate`` measured of the negative prompts: files, or read already.
        folder: folder of the run: comparing again makes only missing images. None for a temporary folder.
        batch_size: images per forward pass.
        progress: whether to show progress bars; None for only in terminals and notebooks.
        second_judge: another laboratory or its name, to see where the two differ.
        watch: what else the judge looks for, as "trees, sky" or several texts; None for its own list.
        truth: "exact", known to the judge; "redrawn", from images of the model in which the judge sees no concept; "none"; None
            for exact where it is known, else redrawn if the judge has features or ``features`` is given.
        reference_images: images that are drawn for a redrawn truth, from 8 to 1,000,000; None for twice the seeds.
        reference_method: the method that draws them, which uses no negative prompt.
        features: in what the images are compared with a redrawn truth, or its name; None for the judge's own.

    Raises:
        InvalidSetting, UnknownName, PromptError: an argument of the wrong type, out of range, or unknown.
        UnsupportedModel: the model cannot be steered, or takes no prompts.
        FolderConflict: the folder holds another run.
        NotFiniteError: a network returned NaN; finished images stay in the folder.

    Warns:
        SteerclearWarning: something given has no effect; says why.
    """
    asked = dict(locals())
    asked |= {name: plain(asked[name]) for name, plain in PLAIN.items() if not isinstance(asked[name], WRITTEN)}
    place = Place(folder)
    loaded = as_model(model, weak, networks)
    with progress_bars(progress) as bars:
        return Comparison(_measured(loaded, asked, place.path, *show_methods(bars)), place)


def _measured(model: Model, asked: Mapping[str, Any], folder: Path, on_method: Any, on_progress: Any) -> Results:
    """Run the study of the arguments of :func:`compare`."""
    methods, judge, calibrations = asked["methods"], asked["judge"], as_given(as_tuple(asked["calibration"]))
    second, features = asked["second_judge"], asked["features"]
    typed = {name: asked[name] for name in LOOKING} | {"watch": as_tuple(watched_words(asked["watch"]))}
    typed |= {"second_judge": None} if isinstance(second, Laboratory) else {}
    typed |= {"features": None} if isinstance(features, Features) else {}
    study = comparison(
        asked["prompt"], as_negatives(asked["negative_prompt"]), as_seeds(asked["seeds"]),
        methods=as_methods(methods), model=asked_model(model),
        judge=None if isinstance(judge, Laboratory) else judge, calibrations=tuple(one.source for one in calibrations),
        **{name: asked[name] for name in ("num_inference_steps", "guidance_scale", "auto_scale", "height", "width")},
        **typed,
    )  # fmt: skip
    return run(
        study, folder, model=model, judge=judge if isinstance(judge, Laboratory) else None,
        batch_size=asked["batch_size"], command=call_text(asked, compare), on_method=on_method, on_progress=on_progress,
        calibrations=calibrations, second_judge=second if isinstance(second, Laboratory) else None,
        features=features if isinstance(features, Features) else None,
    )  # fmt: skip


def asked_model(model: Model) -> ModelAsked:
    """A loaded model as a study describes it: what ``load_model`` needs to load the same."""
    networks = given_networks({name: beside.source for name, beside in model.networks.items()})
    settings = settings_of(model)
    own = settings["scheduler"] == own_scheduler(model.folder)
    return ModelAsked(
        model.name, tuple(networks.items()), model.config, tuple(lora_texts(model.loras)),
        None if own else settings["scheduler"], settings["dtype"], model.device, model.offload,
    )  # fmt: skip


def as_model(model: Any, weak: Given | None, networks: Mapping[str, Given] | None = None) -> Model:
    """The model of a call in Python: given as a pipeline, a name, or a loaded model.

    Raises:
        InvalidSetting: not a model; or networks beside a loaded model, which has its own.
    """
    given = named(weak, networks)
    if isinstance(model, Model):
        if given:
            raise InvalidSetting("networks", list(given), "left out beside a loaded model", "give them to load_model")
        return model
    if not isinstance(model, (str, os.PathLike)):
        if not hasattr(model, "components"):
            raise InvalidSetting("model", type(model), "a pipeline, a model's name, or a result of load_model")
        return given_model(model, networks=given)
    typed = {name: one for name, one in given.items() if isinstance(one, (str, os.PathLike))}
    loaded = load_model(model, networks=typed)
    objects = {name: one for name, one in given.items() if name not in typed}
    return replace(loaded, networks={**loaded.networks, **networks_beside(loaded.pipe, objects)})


def as_negatives(negative_prompt: Any) -> Any:
    """The negative prompts, one or several, as a tuple, checked later by the study."""
    if negative_prompt is None:
        return ()
    return (negative_prompt,) if isinstance(negative_prompt, str) else as_tuple(negative_prompt)


def as_seeds(seeds: Any) -> Any:
    """Seeds, perhaps as text, as a tuple, checked later by the study."""
    return parse_seeds(seeds) if isinstance(seeds, str) else as_tuple(seeds)


def as_methods(methods: Any) -> Any:
    """Names of methods, perhaps in one text with commas, as a tuple, checked later by the study."""
    return tuple(split_methods(methods)) if isinstance(methods, str) else as_tuple(methods)


def as_tuple(values: Any) -> Any:
    """The plain values of anything that has several, such as an array; other things unchanged."""
    plain = values.tolist() if hasattr(values, "tolist") else values
    return tuple(plain) if isinstance(plain, Iterable) and not isinstance(plain, (str, bytes, Mapping)) else plain


PLAIN: Mapping[str, Callable[[Any], Any]] = {"negative_prompt": as_negatives, "seeds": as_seeds, "methods": as_methods}
WRITTEN = (str, int, float, list, tuple, range)
"""Types of arguments that the command repeats as given; of others it repeats the plain values."""


def call_text(asked: Mapping[str, Any], function: Any) -> str:
    """The call of a function of this door that repeats a run, with the arguments that are not defaults."""
    parameters = inspect.signature(function).parameters
    model = asked["model"]
    given = [repr(model) if isinstance(model, str) else "pipe"]
    for name, value in asked.items():
        if name not in ("model", "folder", "progress") and value != parameters[name].default:
            text = repr(value) if isinstance(value, WRITTEN) else "..."
            given.append(text if name == "prompt" else f"{name}={text}")
    return f"steerclear.{function.__name__}({', '.join(given)})"
