"""Settings that a guidance refuses, and what it says."""

import math

import pytest

from steerclear.errors import InvalidSetting
from steerclear.evidence.constant import ConstantEvidence
from steerclear.guidance.auto import AutoGuidance
from steerclear.guidance.base import guidances
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.guidance.interval import IntervalGuidance
from steerclear.guidance.negative_prompt import NegativePromptGuidance

SCALED = [cls for cls in guidances().values() if "guidance_scale" in cls.parameters()]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "3", None, True], ids=str)
@pytest.mark.parametrize("cls", SCALED, ids=lambda cls: cls.name)
def test_a_scale_is_a_finite_number(cls, value) -> None:
    with pytest.raises(InvalidSetting) as caught:
        cls(guidance_scale=value)
    assert str(caught.value) == f"guidance_scale is {value!r}, but must be a finite number."


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ClassifierFreeGuidance(3.0, 1.5), "guidance_rescale is 1.5, but must be a finite number from 0 to 1."),
        (lambda: ClassifierFreeGuidance(3.0, -0.1), "guidance_rescale is -0.1, but must be a finite number from 0 to 1."),
        (lambda: NegativePromptGuidance(3.0, math.nan), "negative_scale is nan, but must be a finite number."),
        (lambda: NegativePromptGuidance(3.0, 1.0, 2.0), "guidance_rescale is 2.0, but must be a finite number from 0 to 1."),
        (lambda: AutoGuidance(math.inf), "guidance_scale is inf, but must be a finite number."),
        (lambda: DynamicNegativeGuidance(1.0, -1.0), "strength is -1.0, but must be a finite number of at least 0."),
        (lambda: DynamicNegativeGuidance(concept="both"), "concept is 'both', but must be conjunction or negative."),
        (lambda: DynamicNegativeGuidance(evidence=0.5),
         "evidence is 0.5, but must be an evidence, such as TransitionEvidence()."),
        (lambda: IntervalGuidance(start=0.5, stop=0.5), "start is 0.5, but must be below stop (0.5)."),
        (lambda: IntervalGuidance(stop=2.0), "stop is 2.0, but must be a finite number from 0 to 1."),
        (lambda: IntervalGuidance(start=-1.0, stop=4.0, by="sigma"),
         "start is -1.0, but must be a finite number of at least 0."),
        (lambda: IntervalGuidance(by="time"), "by is 'time', but must be fraction or sigma."),
        (lambda: ConstantEvidence(1.0), "posterior is 1.0, but must be between 0 and 1, both excluded."),
        (lambda: ConstantEvidence(math.nan), "posterior is nan, but must be between 0 and 1, both excluded."),
    ],
)  # fmt: skip
def test_what_is_refused(build, message: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        build()
    assert str(caught.value) == message


def test_several_negatives_need_a_scale_of_their_own() -> None:
    import laws
    from steerclear.engine import GuidedDenoiser
    from steerclear.errors import InvalidSetting

    run = GuidedDenoiser(laws.denoiser(), NegativePromptGuidance(3.0), len(laws.SEEDS), negatives=2)
    with pytest.raises(
        InvalidSetting, match="must be a number when there are 2 negatives; the form without it has room for one"
    ):
        run.predict(laws.point())
