"""Evidences that look at a run without pushing: who flags an image, who abandons it, who is measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import numbered
from .errors import PromptError, in_words_of
from .evidence import Belief, Evidence, Push, Surroundings
from .numerics import over_images
from .records import State, Step
from .shapes import Float

LARGEST_WEIGHT = 99.0
"""Of a push within the trust region."""
CONCEPT = "conjunction"
"""The branch of a concept: the prompt and the negative prompt together."""


@dataclass(frozen=True)
class WatchState(State):
    """One state per negative prompt."""

    evidence: tuple[State, ...]


def watched_branches(evidence: Evidence, negatives: int) -> tuple[str, ...]:
    """Every branch that watching may ask a step for."""
    names = [numbered(CONCEPT, index) for index in range(negatives)]
    own = [name for name, each in zip(names, evidence.for_concepts(negatives), strict=True) if each.reads_concept]
    asked = [branch for name in names for branch in evidence.branches(name)]
    return tuple(dict.fromkeys(["positive", *own, *asked]))


def begin_watching(evidence: Evidence, surroundings: Surroundings) -> WatchState:
    """The state before the first step.

    Raises:
        PromptError: there is no negative prompt, so no concept to look for.
    """
    if not surroundings.negatives:
        given = in_words_of("steer(..., negative_prompt=...)", "--negative-prompt")
        raise PromptError(
            f"{evidence.name} looks for what a negative prompt names, and there is none; give {given}, or leave {evidence.name} out"
        )
    each = evidence.for_concepts(surroundings.negatives)
    own = [surroundings.for_negative(index, numbered(CONCEPT, index)) for index in range(len(each))]
    return WatchState(tuple(one.begin(around) for one, around in zip(each, own, strict=True)))


def watch(evidence: Evidence, step: Step, state: WatchState) -> tuple[list[Belief], WatchState]:
    """What an evidence says of each negative prompt's concept at a step of a run that it does not push.

    An evidence that compares transitions is told that nothing but the theory's own push was done, so that it says what the
    sampler's moves say.
    """
    positive = step.predict_one("positive")
    beliefs, after = [], []
    each = evidence.for_concepts(len(state.evidence))
    for index, (one, before) in enumerate(zip(each, state.evidence, strict=True)):
        concept = step.predict_one(numbered(CONCEPT, index)) if one.reads_concept else positive
        belief = one.update(step, positive, concept, before)
        weight = belief.log_odds.exp().clamp(max=LARGEST_WEIGHT)
        unpushed = positive - over_images(weight, positive) * (concept - positive)
        beliefs.append(belief)
        after.append(one.remember(step, Push(positive, concept, unpushed, weight), belief.state))
    return beliefs, WatchState(tuple(after))


def largest(beliefs: Sequence[Belief]) -> Float[Tensor, " batch"]:
    """The log-odds of the likeliest concept of each image; -infinity where nothing is known."""
    known = [one.log_odds if one.known is None else torch.where(one.known, one.log_odds, -torch.inf) for one in beliefs]
    return torch.stack(known).amax(0)
