"""An evidence that asks the network itself: which condition explains a re-noised preview better?"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steerclear.core.evidence import Belief, Evidence, Surroundings
from steerclear.core.numerics import norm
from steerclear.core.records import State, Step


@dataclass(frozen=True)
class RenoisedState(State):
    """Where the noise comes from, and which branch is the concept's."""

    surroundings: Surroundings


@dataclass(frozen=True)
class RenoisedEvidence(Evidence):
    """The preview gets fresh noise of a lower level, and both conditions are asked to find it.

    Equation:
        L = clip((|e_prompt(x') - noise|^2 - |e_concept(x') - noise|^2) / 2, +-5),   x' = alpha' D_prompt + sigma' noise

    Args:
        share: sigma' / alpha' over that of the step, in (0, 1).
    """

    share: float = 0.5

    name: ClassVar[str] = "renoised"
    paper: ClassVar[str] = "Your Diffusion Model is Secretly a Zero-Shot Classifier, Li et al., 2023, arXiv 2303.16203"

    def begin(self, surroundings: Surroundings) -> State:
        return RenoisedState(surroundings)

    def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Belief:
        assert isinstance(state, RenoisedState)
        if not math.isfinite(step.noise_to_signal):
            return Belief(torch.zeros(step.batch_size, dtype=torch.float64, device=step.sample.device), state)
        noise = state.surroundings.noise(step)
        there = step.at(step.denoised(positive), noise, self.share * step.noise_to_signal)
        prompt, other = (there.noise(each) for each in there.predict("positive", state.surroundings.concept))
        log_odds = (norm(prompt - noise) ** 2 - norm(other - noise) ** 2).double() / 2
        return Belief(log_odds.clamp(-5, 5), state)
