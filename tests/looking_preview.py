"""An evidence that looks at the image: the shipped classifier's log-odds at the decoded preview."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from steerclear.core.evidence import Belief, Evidence, Surroundings
from steerclear.core.records import State, Step
from steerclear.features.portrait_classifier import CLASSIFIER, PortraitClassifier, split_logits


@dataclass(frozen=True)
class PreviewState(State):
    """What decodes, and who looks."""

    surroundings: Surroundings
    classifier: PortraitClassifier


@dataclass(frozen=True)
class PreviewEvidence(Evidence):
    """What the image would be if the sampler stopped here is decoded and judged.

    Equation:
        L = logit of the concept in classifier(decode(D_prompt))

    Args:
        attribute: a yes-or-no attribute of the portraits.
    """

    attribute: str = "mustache"

    name: ClassVar[str] = "preview"
    paper: ClassVar[str] = "an example of the tests"

    def begin(self, surroundings: Surroundings) -> State:
        return PreviewState(surroundings, PortraitClassifier.load(surroundings.file(CLASSIFIER)))

    def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Belief:
        assert isinstance(state, PreviewState)
        images = state.surroundings.decode(step.denoised(positive))
        logits = state.classifier(2 * images - 1)
        return Belief(split_logits(logits)[self.attribute].double(), state)
