"""The decoded denoised prediction, seen by the judge of images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..core.calibration import Observed
from ..core.errors import InvalidSetting, UnsupportedModel
from ..core.evidence import Belief, Circumstances, Surroundings
from ..core.logistic import fit
from ..core.numerics import logit
from ..core.prompts import concepts_named
from ..core.records import State, Step
from ..core.settings import finite, whole
from ..core.shapes import PerImage, Prediction
from .prior import PriorEvidence
from .transition import interpolated

SUREST = 1e-4
"""Probabilities of a judge are kept this far from 0 and 1: nearer to 1, a last bit of float32 would count."""

STOCHASTIC, DETERMINISTIC = 1.0, 0.5
"""How fast the temperature rises with sigma / alpha, for each kind of sampler."""

WATCHED = 0.2, 80.0
"""Noise levels of a calibration."""

COLUMNS = "levels", "intercept", "slope"
"""Of the table that a calibration keeps."""

RIDGE = 0.1
FEWEST = 8
"""Images of each kind that a level needs to be calibrated."""


@dataclass(frozen=True)
class PreviewState(State):
    """What was seen last.

    Attributes:
        surroundings: what decodes, who looks, what the concept is called.
        log_odds: of the last look, ``[batch]``; None before the first.
        looked_at: index of the step of the last look; None before the first.
    """

    surroundings: Surroundings
    log_odds: PerImage | None = None
    looked_at: int | None = None


@dataclass(frozen=True)
class PreviewEvidence(PriorEvidence):
    """The image that the prompt's prediction would be, decoded and seen by the judge, every few steps.

    Equation:
        L = log(prior / (1 - prior)) + logit(p) / T(s)         without a calibration
        L = a(s) + b(s) logit(p) + log-odds of prior / prior_0    with one

        p = the judge's probability of the concept in decode(D_prompt), kept in [0.0001, 0.9999];  s = sigma / alpha

    At high noise D_prompt is the mean of many images, a blurred one, of which a judge is far too sure. T(s) = 1 + s
    tempers it, or 1 + s / 2 on a deterministic sampler, whose predictions are decided earlier: what logistic fits to
    the shipped model's images gave. A calibration has the logistic regression of the finished image on logit(p) at each
    noise level, a(s) and b(s), and the prior_0 under which it was measured; between its levels they are interpolated in
    log s, beyond its ends they are constant. Of several concepts in one negative prompt the likeliest counts. Between
    two looks the log-odds stay; before the first they are the prior's.

    A look costs one decoding and one call of the judge, and no evaluation of the network. On the model that ships that
    is two thirds of an evaluation; where decoding costs more, as in large latent models, look less often.

    Args:
        prior: how often the concept shows without guidance, strictly between 0 and 1; a tuple has one per negative
            prompt. None takes the calibration's, or else the rate in the world's truth, kept between 0.05 and 0.95, if
            it is known, or else 0.5.
        every: steps from one look to the next, at least 1.
        below: s above which it does not look.
        stop_below: s below which it does not look any more; at most ``below``.
        temperature: T at all noise levels, instead of T(s) and of a calibration. None takes the calibration, or else
            T(s).
        sure: images whose log-odds at the last look were farther than this from 0 are decided and not decoded again;
            None decodes all.
        stochastic: whether a step of the sampler draws noise, which decides about T(s); None finds out.

    Raises:
        InvalidSetting: a setting out of range.
        UnsupportedModel: there is no judge or no decoder, or the judge does not know the concept; raised before the
            first step if it can be known there.
    """

    every: int = 1
    below: float = 20.0
    stop_below: float = 1.2
    temperature: float | None = None
    sure: float | None = None
    stochastic: bool | None = None

    reads_concept: ClassVar[bool] = False
    needs_judge: ClassVar[bool] = True
    name: ClassVar[str] = "preview"
    paper: ClassVar[str] = (
        "after Universal Guidance for Diffusion Models, Bansal, Chu, Schwarzschild, Sengupta, Goldblum, Geiping and "
        "Goldstein, 2023, arXiv 2302.07121, which takes a classifier's gradient at the denoised prediction; here its "
        "probability alone"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("every", self.every, low=1)
        finite("below", self.below, low=0)
        finite("stop_below", self.stop_below, low=0)
        if self.stop_below > self.below:
            raise InvalidSetting("stop_below", self.stop_below, f"at most below ({self.below:g})")
        if self.temperature is not None:
            finite("temperature", self.temperature, low=1e-3)
        if self.sure is not None:
            finite("sure", self.sure, low=0)

    def begin(self, surroundings: Surroundings) -> State:
        _ = surroundings.judge
        if surroundings.calibration is not None:
            surroundings.calibration.columns(self.name, COLUMNS)  # raises here, and not at the first look
        if surroundings.decoder is None:
            surroundings.decode(torch.empty(0))  # says what to give
        return PreviewState(surroundings)

    def update(self, step: Step, positive: Prediction, concept: Prediction, state: State) -> Belief:
        assert isinstance(state, PreviewState)
        if not step.substep and self._looks(step.noise_to_signal, step.index, state.looked_at):
            state = replace(state, log_odds=self._seen(step, positive, state), looked_at=step.index)
        if state.log_odds is None:
            nothing = self.unmoved(step)
            return Belief(nothing, state, torch.zeros_like(nothing, dtype=torch.bool))
        return Belief(state.log_odds, state)

    def fitted(self, known: Circumstances) -> Self:
        found = super().fitted(known)
        return found if found.stochastic is not None else replace(found, stochastic=known.stochastic)

    def uncalibrated(self) -> Self:
        """The judge's own logits at every step, over a wide range of noise levels."""
        low, high = WATCHED
        return replace(self, prior=0.5, every=1, below=high, stop_below=low, temperature=1.0, sure=None)

    def calibrated(self, observed: Observed) -> dict[str, Tensor]:
        """ "levels", "intercept" a(s) and "slope" b(s): a logistic regression at each level.

        A level with fewer than :data:`FEWEST` images of either kind is left out.
        A slope below 0 is noise and becomes 0: there the log-odds are those of the images' own rate.

        Args:
            observed: its ``log_odds["preview"]`` are those of :meth:`uncalibrated`, logit(p).
        """
        nodes: list[tuple[float, float, float]] = []
        levels, said = observed.levels.tolist(), observed.log_odds.get(self.name)
        for level, logits in zip(levels, () if said is None else said.double().unbind(1), strict=False):
            known = logits.isfinite()
            shown = observed.shown[known]
            if not WATCHED[0] <= level <= WATCHED[1] or min(int(shown.sum()), int((~shown).sum())) < FEWEST:
                continue
            coefficients, intercept = fit(logits[known, None], shown, RIDGE)
            if float(coefficients) < 0:
                coefficients, intercept = torch.zeros(1), logit(float(shown.double().mean()))
            nodes.append((level, intercept, float(coefficients)))
        columns = torch.tensor(nodes, dtype=torch.float64).unbind(1) if nodes else ()
        return dict(zip(COLUMNS, columns, strict=False))

    def _looks(self, level: float, index: int, last: int | None) -> bool:
        """Whether it looks at a step, given the index of the step of its last look."""
        return self.stop_below <= level <= self.below and (last is None or index - last >= self.every)

    def _temperature(self, level: float) -> float:
        if self.temperature is not None:
            return self.temperature
        return 1 + (STOCHASTIC if self.stochastic else DETERMINISTIC) * level

    def _seen(self, step: Step, positive: Prediction, state: PreviewState) -> PerImage:
        """The log-odds of all images after a look at those that are not decided."""
        around, rows = state.surroundings, torch.arange(step.batch_size, device=step.sample.device)
        if state.log_odds is not None and self.sure is not None:
            rows = rows[state.log_odds.abs() <= self.sure]
        before = self.unmoved(step) if state.log_odds is None else state.log_odds
        if not len(rows):
            return before
        images = around.decode(step.denoised(positive[rows], rows))
        probabilities = seen_in((images * 255).round().to(torch.uint8).cpu(), around.of_rows(rows.cpu()))
        own = self._log_odds(torch.logit(probabilities), step.noise_to_signal, around)
        return before.index_copy(0, rows, own.to(before))

    def _log_odds(self, logits: PerImage, level: float, around: Surroundings) -> PerImage:
        table = () if around.calibration is None else around.calibration.columns(self.name, COLUMNS)
        if self.temperature is not None or around.calibration is None or not table:
            return self.prior_log_odds() + logits / self._temperature(level)
        levels, *others = table
        intercept, slope = (interpolated(tuple(sorted(zip(levels, one, strict=True))), level) for one in others)
        shift = 0.0 if self.prior is None else self.prior_log_odds() - logit(around.calibration.prior)
        return intercept + slope * logits + shift


def seen_in(images: Tensor, surroundings: Surroundings) -> PerImage:
    """The judge's probability of the concept in each image, within [0.0001, 0.9999], float64.

    Args:
        images: uint8, ``[batch, 3, height, width]``.
        surroundings: of an evidence of one negative prompt, and of these images alone.

    Raises:
        UnsupportedModel: the judge knows no concept that the negative prompt names; or the negative prompt is not known as a
            text, and the judge knows several concepts.
    """
    found = {name: each.double().cpu() for name, each in surroundings.judge.see(images).probabilities.items()}
    texts: Sequence[str | None] = surroundings.negative_prompts[0] if any(surroundings.negative_prompts) else ()
    texts = texts or (None,) * len(images)
    names = {text: _named(text, tuple(found)) for text in dict.fromkeys(texts)}
    likeliest = [torch.stack([found[name][row] for name in names[text]]).amax() for row, text in enumerate(texts)]
    return torch.stack(likeliest).clamp(SUREST, 1 - SUREST)


def _named(text: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """The concepts of a judge that a negative prompt names."""
    found = concepts_named((text,), known) if text is not None else known if len(known) == 1 else ()
    if not found:
        what = "a negative prompt that is not known as a text" if text is None else f"{text!r}"
        raise UnsupportedModel(
            f"the preview evidence asks the judge for {what}, and it says how likely these are: {', '.join(known) or 'none'}; "
            "give a judge that knows the concept, or another evidence"
        )
    return found
