"""Drawing again: images that show the concept are drawn anew, the others are left as they are."""

import math
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..core.errors import InvalidSetting
from ..core.evidence import Evidence, Surroundings
from ..core.guidance import Guidance, Wrapper, joined
from ..core.laboratory import Laboratory
from ..core.laws import Equals, Identity, Law, Runs
from ..core.records import Guided, PerStep, State, Step
from ..core.redrawing import ABANDONED, FLAG, Redrawing
from ..core.rows import of_rows, scattered
from ..core.settings import finite, whole
from ..core.shapes import Bool
from ..core.watching import WatchState, begin_watching, largest, watch, watched_branches
from .classifier_free import ClassifierFreeGuidance
from .unguided import Unguided

BY_JUDGE, BY_EVIDENCE = 0.1, 0.5
"""Thresholds by who flags."""


@dataclass(frozen=True)
class RedrawState(State):
    """States of the guidance and of the two evidences (None without them), and the images that were given up."""

    inner: State
    flagging: WatchState | None
    abandoning: WatchState | None
    gone: Bool[Tensor, " batch"]
    gives_up: bool

    def resumed(self, fresh: State) -> "RedrawState":
        """Nothing is given up yet, and only the fresh draw knows whether it is the last try."""
        assert isinstance(fresh, RedrawState)
        return replace(self, inner=self.inner.resumed(fresh.inner), gone=fresh.gone, gives_up=fresh.gives_up)


@dataclass(frozen=True)
class Redraw(Wrapper):
    """Draw again what shows the concept: the exact way of saying "no", if who flags is right.

    Equation:
        x ~ p(x | prompt) again and again, until p(c | x) <= threshold        gives  p(x | prompt, not c)

    A draw costs what the guidance costs, so clear images cost 1 / (1 - prior) draws on average: with no guidance and a prior
    below one half that is less than the two evaluations a step of a negative prompt. Images that are not flagged stay as they
    were, bit for bit (with ``abandon`` up to the rounding of another batch size). A further draw begins at the start, with other noise of the same seed, or *rewound*: the same noise up
    to a step, fresh noise from there. That saves evaluations and keeps more of the image, and is no longer exact: an image
    that was about to show the concept is another one than an image that never would. A deterministic sampler has no noise on
    its way; there the finished image is noised again to the level of that step (a restart, Xu et al. 2023, arXiv 2306.14878).

    Args:
        guidance: draws the images.
        judge: the laboratory that flags; None for the judge of the run: the model's second one in ``compare`` and
            ``generate``, so that who flags is not who measures, and ``steer(..., judge=...)``.
        evidence: flags in place of a judge, by its last log-odds: for models without a judge.
        threshold: probability of the concept above which an image is flagged, strictly between 0 and 1. None takes 0.1 for a
            judge, who is sure of most images, so that the doubtful ones cost little; and 0.5 for an evidence, which is not.
        tries: most draws of one image, the first included, at least 1. The least suspicious draw is kept if none is clear.
        from_step: every further draw begins at this step; 0 draws from the start, which is exact.
        from_sigma: ... at the first step whose sigma / alpha is not above this. Not both.
        latest: where neither is given, the share of the steps at which the second draw begins; each further one begins
            earlier, the last from the start. From 0 (always from the start) to 1.
        abandon: an evidence that ends hopeless draws on their way; only as a last try an image is drawn to its end. With it,
            or with ``evidence``, this is the outermost guidance: none stands around it.
        abandon_above: its probability above which a draw is hopeless, strictly between 0 and 1.

    Raises:
        InvalidSetting: a value out of range, or two that exclude one another.
    """

    guidance: Guidance = field(default_factory=Unguided)
    _: KW_ONLY
    judge: Laboratory | None = None
    evidence: Evidence | None = None
    threshold: float | None = None
    tries: int = 8
    from_step: int | None = None
    from_sigma: float | None = None
    latest: float = 0.4
    abandon: Evidence | None = None
    abandon_above: float = 0.95

    name: ClassVar[str] = "redraw"
    paper: ClassVar[str] = (
        "rejection sampling, von Neumann, 1951; restarts: Restart Sampling for Improving Generative Processes, Xu, Deng, Cheng, "
        "Tian, Liu and Jaakkola, 2023, arXiv 2306.14878"
    )
    cost: ClassVar[str] = "the guidance's, 1 / (1 - prior) times on average; less with a rewound draw"

    def __post_init__(self) -> None:
        if not isinstance(self.guidance, Guidance):
            raise InvalidSetting(
                "guidance", self.guidance, "a guidance", "unguided is the plain conditional prediction"
            )
        if any(part.redrawing() is not None for part in self.guidance.parts() if isinstance(part, Guidance)):
            raise InvalidSetting("guidance", self.guidance, "one that does not draw again itself")
        for name in ("threshold", "abandon_above"):
            if getattr(self, name) is not None and not 0 < finite(name, getattr(self, name)) < 1:
                raise InvalidSetting(name, getattr(self, name), "between 0 and 1, both excluded")
        whole("tries", self.tries, low=1)
        finite("latest", self.latest, low=0, high=1)
        if self.from_step is not None:
            whole("from_step", self.from_step, low=0)
        if self.from_sigma is not None and finite("from_sigma", self.from_sigma) <= 0:
            raise InvalidSetting("from_sigma", self.from_sigma, "a finite number above 0")
        for one, other in (("from_step", "from_sigma"), ("judge", "evidence")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise InvalidSetting(one, getattr(self, one), f"left out where {other} is given", "give one of the two")

    @property
    def inner(self) -> Guidance:  # type: ignore[override]  # a field in other wrappers
        """The guidance that draws."""
        return self.guidance

    def redrawing(self) -> Redrawing | None:
        if self.tries == 1:
            return None
        usual = BY_JUDGE if self.evidence is None else BY_EVIDENCE
        return Redrawing(
            tries=self.tries,
            threshold=usual if self.threshold is None else self.threshold,
            judge=self.judge,
            by_evidence=self.evidence is not None,
            from_step=self.from_step,
            from_sigma=self.from_sigma,
            latest=self.latest,
            abandons=self.abandon is not None,
        )

    def begin(self, surroundings: Surroundings) -> RedrawState:
        flagging, abandoning = (
            None if one is None else begin_watching(one, surroundings) for one in (self.evidence, self.abandon)
        )
        none = torch.zeros(surroundings.batch_size, dtype=torch.bool)
        last = surroundings.draw == self.tries - 1
        return RedrawState(self.guidance.begin(surroundings), flagging, abandoning, none, not last)

    def branches(self, negatives: int) -> tuple[str, ...]:
        watched = [watched_branches(one, negatives) for one in (self.evidence, self.abandon) if one is not None]
        return joined(self.guidance.branches(negatives), *watched)

    def needs_noise_level(self) -> bool:
        own = (self.evidence, self.abandon, self.from_sigma)
        return any(one is not None for one in own) or self.guidance.needs_noise_level()

    def __call__(self, step: Step, state: State) -> Guided:
        assert isinstance(state, RedrawState)
        going = (~state.gone).nonzero()[:, 0]
        if len(going) == step.batch_size:
            return self._all(step, state)
        if not len(going):
            return Guided(torch.zeros_like(step.sample), state, {ABANDONED: state.gone.double()})
        own = self._all(step.of_rows(going.to(step.sample.device)), of_rows(state, going, step.batch_size))
        return self._spread(step, state, going, own)

    def _all(self, step: Step, state: RedrawState) -> Guided:
        made = self.guidance(step, state.inner)
        info, gone, flagging, abandoning = dict(made.info), state.gone, state.flagging, state.abandoning
        if self.evidence is not None and flagging is not None:
            beliefs, flagging = watch(self.evidence, step, flagging)
            info[FLAG] = largest(beliefs).sigmoid()
        if self.abandon is not None and abandoning is not None:
            beliefs, abandoning = watch(self.abandon, step, abandoning)
            hopeless = largest(beliefs).sigmoid() > self.abandon_above
            gone = gone | (hopeless.cpu() & torch.tensor(state.gives_up))
            info[ABANDONED] = gone.double()
        return Guided(made.prediction, RedrawState(made.state, flagging, abandoning, gone, state.gives_up), info)

    def _spread(self, step: Step, state: RedrawState, going: Tensor, own: Guided) -> Guided:
        """What was done for the images that still go, put among all; the others stay what they were."""
        assert isinstance(own.state, RedrawState)
        device = step.sample.device
        prediction = torch.zeros_like(step.sample, dtype=own.prediction.dtype)
        prediction[going.to(device)] = own.prediction
        gone = state.gone.clone()
        gone[going] = own.state.gone
        info: PerStep = {}
        for name, values in own.info.items():
            info[name] = torch.full((step.batch_size,), math.nan, dtype=torch.float64)
            info[name][going] = values.double().cpu()
        info[ABANDONED] = gone.double()
        after = scattered(state, own.state, going, step.batch_size)
        return Guided(
            prediction, RedrawState(after.inner, after.flagging, after.abandoning, gone, state.gives_up), info
        )

    @classmethod
    def laws(cls) -> tuple[Law, ...]:
        cfg = ClassifierFreeGuidance(guidance_scale=3.0)
        once = cls(cfg, tries=1)
        return Identity(cls(tries=1)), Runs(cls()), Runs(cls(cfg)), Runs(once), Equals(once, cfg)
