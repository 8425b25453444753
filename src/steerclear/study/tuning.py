"""What a tuning is asked for, as data; and the place where its settings are measured."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import GivenTwice, InvalidSetting, in_words_of
from ..core.parsing import name_and_settings
from ..core.saving import save_whole
from ..core.seeds import checked_seeds
from ..core.settings import whole
from ..models.loading import Model, with_networks
from .folders import claim_folder
from .goals import Direction, Limit, parse_limit
from .methods import Method
from .recipe import format_seeds
from .results import Results
from .run import identity, option, question_of, run
from .space import HOLE, Space, parse_varied
from .study import Study

SEARCH, FINAL, OWN = "search", "final", "own-networks"
"""Folders of the search's images and of the final ones; in them, that of the model's own networks."""
UNGUIDED = "unguided"
FIRST_SEED = 2_000_000
"""Of the default seeds of a search, which those who make and measure images do not take by default (some benchmarks do)."""
IMAGES, TRIALS, FINAL_SEEDS = 256, 30, "0-255"
"""Defaults."""
MOST_TRIALS = 10_000


@dataclass(frozen=True)
class Tuning:
    """A question of ``steerclear tune`` as data.

    Attributes:
        study: the question, its judge, and the seeds of the search; its one method is the one that is tuned, at its defaults.
        space: what is varied.
        direction, objective, limits: what is wanted, by names of measurements as typed.
        trials: their number.
        final_seeds: of the last measurement; none of them is a seed of the search.

    Raises:
        InvalidSetting: seeds in both; fewer trials than 1.
    """

    study: Study
    space: Space
    direction: Direction
    objective: str
    limits: tuple[Limit, ...] = ()
    trials: int = TRIALS
    final_seeds: tuple[int, ...] = tuple(range(256))

    def __post_init__(self) -> None:
        object.__setattr__(self, "final_seeds", checked_seeds(self.final_seeds))
        whole(in_words_of("trials", "--trials"), self.trials, low=1, high=MOST_TRIALS)
        both = sorted({*self.final_seeds} & {*self.study.seeds})
        if both:
            raise InvalidSetting(
                in_words_of("final_seeds", "--final-seeds"), format_seeds(self.final_seeds),
                f"seeds that the search has not seen ({format_seeds(self.study.seeds)})",
                f"{format_seeds(both)} would be in both, and settings look better on the images they were chosen by than they are",
            )  # fmt: skip

    def asked(self) -> dict[str, Any]:
        """What two runs in one folder must share. They may have other numbers of trials, and other final seeds."""
        return question_of(self.study, "tune") | {
            "method": self.space.method, "vary": self.space.written, "networks": dict(self.space.sources),
            "objective": f"{self.direction} {self.objective}", "subject_to": [one.written for one in self.limits],
            "seeds": format_seeds(self.study.seeds), "judge": self.study.judge,
        }  # fmt: skip


def wanted(minimise: str | None, maximise: str | None) -> tuple[Direction, str]:
    """The objective, given in one of two ways.

    Raises:
        InvalidSetting: both or none are given, or an empty name.

    >>> wanted("frechet", None)
    ('minimise', 'frechet')
    """
    ways = in_words_of("minimise or maximise", "--minimise or --maximise")
    if (minimise is None) == (maximise is None):
        given = "missing" if minimise is None else "given twice"
        raise InvalidSetting("the objective", given, f"given by {ways}", "such as frechet")
    name = minimise if minimise is not None else maximise
    if not isinstance(name, str) or not name.strip():
        raise InvalidSetting("the objective", name, "the name of a measurement, such as frechet")
    return ("minimise" if minimise is not None else "maximise"), name.strip()


def limits_of(texts: Sequence[str]) -> tuple[Limit, ...]:
    """Limits from texts, each perhaps several with commas between them; errors as :func:`~steerclear.study.goals.parse_limit`."""
    return tuple(parse_limit(one) for text in texts for one in text.split(","))


def search_seeds(seeds: Sequence[int] | None, images: int | None) -> tuple[int, ...]:
    """The seeds of a search: the first ``images`` of those given, or from :data:`FIRST_SEED` on.

    Raises:
        InvalidSetting: fewer seeds than images, or no whole number of images from 1.

    >>> search_seeds(None, 2), search_seeds([5, 6, 7], 2)
    ((2000000, 2000001), (5, 6))
    """
    count = None if images is None else whole(in_words_of("images", "--images"), images, low=1, high=1_000_000)
    if seeds is None:
        return tuple(range(FIRST_SEED, FIRST_SEED + (count or IMAGES)))
    if count is not None and count > len(seeds):
        raise InvalidSetting(in_words_of("images", "--images"), count, f"at most the number of seeds, {len(seeds)}")
    return tuple(seeds[:count])


def split_networks(networks: Mapping[str, str], vary: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The networks that stay, and those whose source has a ``{place}`` for something varied.

    Raises:
        GivenTwice: a network that is given and varied.
    """
    open_ones = {name: source for name, source in networks.items() if HOLE.search(source)}
    for one in parse_varied(vary):
        if one.key in networks:
            raise GivenTwice(f"the {one.key} network", networks[one.key], one.written)
    return {name: source for name, source in networks.items() if name not in open_ones}, open_ones


def method_text(guidance: str, settings: Sequence[str]) -> str:
    """What is tuned, from a method's name with settings and further settings.

    >>> method_text("autoguidance", ["inner=cfg"]), method_text("cfg:5", ["guidance_rescale=0.5"])
    ('autoguidance:inner=cfg', 'cfg:5, guidance_rescale=0.5')
    """
    name, own = name_and_settings(guidance, "guidance")
    given = ", ".join([*([own] if own else []), *settings])
    return f"{name}:{given}" if given else name


@dataclass(frozen=True)
class Workshop:
    """Where settings are measured: a loaded model, those who look, and a folder.

    Attributes:
        asked, model, folder: the question, the model with its own networks, and the folder of all images.
        given: further arguments of :func:`~steerclear.study.run.run`.
        beside: whether each setting is compared with unguided images, because a measurement that is wanted needs it.
    """

    asked: Tuning
    model: Model
    folder: Path
    given: Mapping[str, Any]
    beside: bool

    def with_networks(self, networks: Mapping[str, str]) -> Model:
        """The model with these networks; errors as :func:`~steerclear.models.loading.load_model`."""
        return with_networks(self.model, networks)

    def measured(
        self, methods: Sequence[Method], networks: Mapping[str, str], seeds: Sequence[int], where: str,
        model: Model | None = None,
    ) -> Results:  # fmt: skip
        """The results of methods with these networks, in a folder of their own; existing images are kept.

        Args:
            methods: with different names, or one several times.
            networks: name -> source, beside the model's own.
            seeds: of the images.
            where: "search" or "final".
            model: with these networks, already loaded.

        Raises:
            SteerclearError: see :func:`~steerclear.study.run.run`.
        """
        model = self.with_networks(networks) if model is None else model
        different = tuple({method.name: method for method in methods}.values())
        study = replace(self.asked.study, methods=different, seeds=tuple(seeds))
        folder = self.folder / where / folder_of(networks)
        self._share_reference(folder, model, study)
        return run(study, folder, model=model, **self.given)

    @property
    def unguided(self) -> Method:
        return self.asked.space.named(UNGUIDED)

    @property
    def first(self) -> tuple[Method, ...]:
        """What comes before each setting, where it is compared with unguided images."""
        return (self.unguided,) if self.beside else ()

    def _share_reference(self, folder: Path, model: Model, study: Study) -> None:
        """Images of a truth that is redrawn are the same for all networks, so the first ones are copied."""
        drawn = self.folder / SEARCH / OWN / "reference"
        if folder == drawn.parent or not drawn.is_dir() or (folder / "reference").exists():
            return
        claim_folder(folder, identity(model, study), option())
        save_whole(folder / "reference", lambda to: shutil.copytree(drawn, to))


def folder_of(networks: Mapping[str, str]) -> str:
    """The name of the folder of some networks.

    >>> folder_of({}), folder_of({"weak": "noised:0.1"})
    ('own-networks', 'weak-5b23179c')
    """
    if not networks:
        return OWN
    digest = hashlib.sha256(json.dumps(networks, sort_keys=True).encode()).hexdigest()[:8]
    return "-".join([*sorted(networks), digest])
