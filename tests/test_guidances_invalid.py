"""Settings that a guidance refuses, and what it says."""

import math

import pytest

import laws
from steerclear.core.engine import GuidedDenoiser
from steerclear.core.errors import InvalidSetting
from steerclear.core.evidence import Surroundings
from steerclear.core.guidance import guidances
from steerclear.evidence.constant import ConstantEvidence
from steerclear.evidence.transition import TransitionEvidence
from steerclear.guidance.auto import AutoGuidance
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.guidance.interval import IntervalGuidance
from steerclear.guidance.negative_prompt import NegativePromptGuidance
from steerclear.guidance.rescaled import RescaledGuidance

SCALED = [
    (cls, name) for cls in guidances().values() for name in ("guidance_scale", "auto_scale") if name in cls.parameters()
]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "3", None, True], ids=str)
@pytest.mark.parametrize(("cls", "name"), SCALED, ids=lambda part: getattr(part, "name", part))
def test_a_scale_is_a_finite_number(cls, name: str, value) -> None:
    with pytest.raises(InvalidSetting) as caught:
        cls(**{name: value})
    assert str(caught.value) == f"{name} is {value!r}, but must be a finite number."


@pytest.mark.parametrize("cls", [NegativePromptGuidance, DynamicNegativeGuidance])
def test_only_the_scale_of_the_prompt_goes_without_its_name(cls) -> None:
    with pytest.raises(TypeError, match="takes from 1 to 2 positional arguments but 3 were given"):
        cls(3.0, 1.0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ClassifierFreeGuidance(3.0, 1.5), "guidance_rescale is 1.5, but must be a finite number from 0 to 1."),
        (lambda: ClassifierFreeGuidance(3.0, -0.1), "guidance_rescale is -0.1, but must be a finite number from 0 to 1."),
        (lambda: NegativePromptGuidance(3.0, negative_scale=math.nan), "negative_scale is nan, but must be a finite number."),
        (lambda: NegativePromptGuidance(3.0, negative_scale=1.0, guidance_rescale=2.0), "guidance_rescale is 2.0, but must be a finite number from 0 to 1."),
        (lambda: NegativePromptGuidance(3.0, negative_scale=(1.0, math.inf)), "negative_scale[1] is inf, but must be a finite number."),
        (lambda: NegativePromptGuidance(3.0, negative_scale=[1.0, 0.5]),
         "negative_scale is [1.0, 0.5], but must be a finite number, or a tuple with one for each negative prompt."),
        (lambda: NegativePromptGuidance(3.0, negative_scale=()),
         "negative_scale is (), but must be a finite number, or a tuple with one for each negative prompt."),
        (lambda: DynamicNegativeGuidance(1.0, negative_scale=(1.0, -1.0)), "negative_scale[1] is -1.0, but must be a finite number of at least 0."),
        (lambda: TransitionEvidence((0.5, 1.0)), "prior is (0.5, 1.0), but must be between 0 and 1, both excluded."),
        (lambda: RescaledGuidance(ClassifierFreeGuidance(), 1.5), "guidance_rescale is 1.5, but must be a finite number from 0 to 1."),
        (lambda: RescaledGuidance(0.5), "inner is 0.5, but must be a guidance."),
        (lambda: AutoGuidance(math.inf), "auto_scale is inf, but must be a finite number."),
        (lambda: DynamicNegativeGuidance(1.0, negative_scale=-1.0), "negative_scale is -1.0, but must be a finite number of at least 0."),
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


@pytest.mark.parametrize(
    ("guidance", "negatives", "message"),
    [
        (NegativePromptGuidance(3.0), 2,
         ("negative_scale is None, but must be a number when there are 2 negatives; the form without it has room for one: "
         "join them with commas.")),
        (NegativePromptGuidance(3.0, negative_scale=(1.0, 0.5)), 1,
         "negative_scale is (1.0, 0.5), but must be a number."),
        (DynamicNegativeGuidance(1.0, negative_scale=(1.0, 0.5)), 3,
         "negative_scale is (1.0, 0.5), but must be a number, or 3 of them for 3 negative prompts."),
        (DynamicNegativeGuidance(evidence=TransitionEvidence((0.25, 0.1))), 0,
         "prior is (0.25, 0.1), but must be a number, or 0 of them for 0 negative prompts."),
        (DynamicNegativeGuidance(evidence=ConstantEvidence((0.25, 0.1))), 1,
         "posterior is (0.25, 0.1), but must be a number."),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "around",
    [lambda inner: inner, lambda inner: IntervalGuidance(inner, 0.5), RescaledGuidance, lambda inner: AutoGuidance(2.0, inner)],
    ids=["alone", "interval", "rescaled", "autoguidance"],
)  # fmt: skip
def test_a_number_of_negatives_that_does_not_fit_is_refused_before_anything_runs(
    around, guidance, negatives: int, message: str
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        GuidedDenoiser(laws.denoiser(), around(guidance), Surroundings(len(laws.SEEDS), negatives))
    assert str(caught.value) == message
