"""Every law of every guidance on the shelf is measured; and broken guidances are caught."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

import laws
import looking_ahead
import skeleton_guidance
import skeleton_network
from steerclear.core import guidance as base
from steerclear.core import laws as claims
from steerclear.core.denoiser import Point, numbered
from steerclear.core.engine import GUIDANCE_NORM, GuidedDenoiser
from steerclear.core.errors import UnsupportedModel
from steerclear.core.evidence import Surroundings
from steerclear.core.guidance import Guidance, guidances
from steerclear.core.records import Guided, State, Step
from steerclear.evidence.constant import ConstantEvidence
from steerclear.evidence.oracle import OracleEvidence
from steerclear.evidence.published import PublishedEvidence
from steerclear.evidence.transition import TransitionEvidence
from steerclear.guidance.auto import AutoGuidance
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.guidance.interval import IntervalGuidance
from steerclear.guidance.negative_prompt import NegativePromptGuidance
from steerclear.guidance.rescaled import RescaledGuidance

CFG = ClassifierFreeGuidance(3.0)
SHELF = [
    *guidances().values(),
    skeleton_guidance.LimitedGuidance,
    looking_ahead.AheadGuidance,
    looking_ahead.ReturnGuidance,
]
COMPOSED = [
    ClassifierFreeGuidance(4.0, 0.7),
    NegativePromptGuidance(3.0, negative_scale=1.5, guidance_rescale=0.5),
    NegativePromptGuidance(3.0, negative_scale=(1.5, 0.25), guidance_rescale=0.5),
    DynamicNegativeGuidance(1.0, negative_scale=(1.0, 0.5), evidence=TransitionEvidence((0.25, 0.1))),
    RescaledGuidance(DynamicNegativeGuidance(2.0)),
    DynamicNegativeGuidance(2.0, negative_scale=1.5, evidence=TransitionEvidence(0.3, stop_below=0.5)),
    DynamicNegativeGuidance(1.0, concept="negative", evidence=PublishedEvidence()),
    DynamicNegativeGuidance(1.0, negative_scale=2.0, evidence=TransitionEvidence(temperature=2.0, innovation=False)),
    DynamicNegativeGuidance(1.0, evidence=ConstantEvidence(0.7)),
    DynamicNegativeGuidance(1.0, evidence=OracleEvidence(laws.WORLD.log_odds)),
    AutoGuidance(2.0, DynamicNegativeGuidance(1.5)),
    IntervalGuidance(AutoGuidance(1.5, NegativePromptGuidance(2.0)), 0.2, 0.6),
    IntervalGuidance(DynamicNegativeGuidance(1.0), 0.1, 4.0, "sigma"),
]


@pytest.mark.parametrize("law", [law for cls in (*SHELF, skeleton_network.TwoNetworks) for law in cls.laws()], ids=str)
def test_every_law_of_every_guidance(law: claims.Law) -> None:
    laws.CHECKS[type(law)](law)


@pytest.mark.parametrize("guidance", [*(cls() for cls in SHELF), *COMPOSED, skeleton_network.TwoNetworks()], ids=str)
def test_image_k_of_a_batch_is_image_k_alone(guidance: Guidance) -> None:
    laws.check_per_image(guidance)
    laws.check_no_hidden_state(guidance)


@pytest.mark.parametrize("guidance", [*(cls() for cls in guidances().values()), *COMPOSED], ids=str)
def test_a_guidance_comes_back_from_its_file(guidance: Guidance, tmp_path: Path) -> None:
    if "OracleEvidence" in str(guidance):
        with pytest.raises(ValueError, match="an oracle exists only with its testbed"):
            guidance.to_config()
        return
    path = guidance.save_pretrained(tmp_path / "guider")
    assert path.name == "guider_config.json"
    assert Guidance.from_pretrained(tmp_path / "guider") == guidance
    assert Guidance.from_config(guidance.to_config()) == guidance


@pytest.mark.parametrize("guidance", [*(cls() for cls in SHELF), *COMPOSED], ids=str)
def test_a_guidance_asks_for_all_branches_that_it_declares(guidance: Guidance) -> None:
    assert laws.check_declared(guidance) == set()


@pytest.mark.parametrize("example", dict.fromkeys(law.example for cls in SHELF for law in cls.laws()), ids=str)
def test_every_example_asks_for_nothing_that_it_does_not_declare(example: Guidance) -> None:
    laws.check_declared(example)


@pytest.mark.parametrize(
    ("guidance", "negatives", "reason"),
    [
        (CFG, 1, "cfg does not look at negative prompts"),
        (AutoGuidance(2.0), 1, "autoguidance does not look at negative prompts"),
        (NegativePromptGuidance(3.0), 1, None),
        (NegativePromptGuidance(1.0), 1, "guidance_scale is 1"),
        (NegativePromptGuidance(1.0, negative_scale=0.0), 1, "guidance_scale is 1 and negative_scale is 0"),
        (NegativePromptGuidance(3.0, negative_scale=(0.0, 0.0)), 2, "negative_scale is (0.0, 0.0)"),
        (DynamicNegativeGuidance(1.0), 1, None),
        (DynamicNegativeGuidance(1.0, negative_scale=0.0), 1, "negative_scale is 0"),
        (RescaledGuidance(AutoGuidance(2.0, NegativePromptGuidance(1.0))), 1, "inner.inner.guidance_scale is 1"),
    ],
    ids=str,
)
def test_why_a_negative_prompt_has_no_effect(guidance: Guidance, negatives: int, reason: str | None) -> None:
    assert base.negative_has_no_effect(guidance, negatives) == reason


def test_conditions_and_networks_follow_from_the_branches() -> None:
    guidance = AutoGuidance(2.0, DynamicNegativeGuidance(2.0, concept="negative"))
    assert guidance.branches(2) == ("empty", "positive", "negative", "negative_2", "weak:positive")
    assert base.conditions_of(guidance, 2) == ("empty", "negative", "negative_2")
    assert base.networks_of(guidance, 2) == ("weak",)
    assert base.networks_of(replace(guidance, auto_scale=1.0), 2) == ()


@pytest.mark.parametrize("guidance", [*(cls() for cls in SHELF), *COMPOSED], ids=str)
def test_every_guidance_with_its_scales_off_is_the_plain_prediction(guidance: Guidance) -> None:
    laws.check_identity(claims.Identity(base.switched_off(guidance)))


@pytest.mark.parametrize("cls", SHELF, ids=lambda cls: cls.name)
def test_a_scale_means_the_same_in_every_guidance(cls: type[Guidance]) -> None:
    """guidance_scale is the prompt's, against the empty prompt; negative_scale is a push, in proportion to its number."""
    scales = cls.off.keys() & cls.parameters().keys()
    for value in (0.5, 2.0, 5.0):
        if "guidance_scale" in scales:
            others: dict = {name: cls.off[name] for name in scales - {"guidance_scale"}}
            with_scale = replace(cls(), guidance_scale=value, **others)
            laws.check_linear(claims.Linear(with_scale, (("positive", value), ("empty", 1 - value))))
        if "negative_scale" in scales:
            at, network = laws.point(), laws.denoiser()
            off, one, pushed = (
                laws.guided(replace(cls(), negative_scale=scale), at, network)[0] for scale in (0.0, 1.0, value)
            )
            assert laws.largest(pushed - off - value * (one - off)) < laws.EXACT


@pytest.mark.parametrize(
    "guidance", [*(cls() for cls in SHELF), *COMPOSED, DynamicNegativeGuidance(2.0, negative_scale=0.0)], ids=str
)
def test_a_guidance_declares_whether_it_needs_the_noise_level(guidance: Guidance) -> None:
    """With points that do not say their level it runs, or asks for the level at some step."""
    run = GuidedDenoiser(
        laws.Told(laws.denoiser()), guidance, Surroundings(len(laws.SEEDS), laws.negatives_of(guidance))
    )
    asked = False
    for index in range(laws.STEPS):
        try:
            run.predict(laws.untold(index))
        except UnsupportedModel:
            asked = True
            break
    assert guidance.needs_noise_level() == asked
    if not asked:
        assert all(math.isnan(level) for level in run.trace.levels)
        assert GUIDANCE_NORM not in run.trace.names


def test_every_number_that_is_called_a_scale_has_a_meaning() -> None:
    for cls in guidances().values():
        named = {name for name in cls.parameters() if name.endswith("_scale")}
        assert named <= cls.off.keys(), cls.name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 4, 16, 16), (2, 64, 16)], ids=["images", "packed"])
def test_rescaling_is_bit_equal_to_diffusers(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    empty, positive = (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))
    step = Step(Point(positive, 0.8, 0.6, 500, 0, 4), "epsilon", 0, lambda names, rows: [known[name] for name in names])
    known = {"empty": empty, "positive": positive}
    guidance = RescaledGuidance(ClassifierFreeGuidance(7.5), 0.7)
    expected = rescale_noise_cfg(empty + 7.5 * (positive - empty), positive, 0.7)
    assert torch.equal(guidance(step, guidance.begin(Surroundings(len(positive), step.negatives))).prediction, expected)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("concept", ["conjunction", "negative"])
def test_each_negative_has_its_own_scale_and_prior(which: int, concept: Literal["conjunction", "negative"]) -> None:
    """With the scale of the other at 0 it is as if there were only this one."""
    network = laws.denoiser()
    alone = replace(network, negatives=network.negatives[which:], conjunctions=network.conjunctions[which:])
    scales, prior = tuple(1.5 * (index == which) for index in range(2)), (0.25, 0.1)
    both = DynamicNegativeGuidance(2.0, negative_scale=scales, concept=concept, evidence=TransitionEvidence(prior))
    one = DynamicNegativeGuidance(2.0, negative_scale=1.5, concept=concept, evidence=TransitionEvidence(prior[which]))
    found, trace = laws.trajectory(both, network)
    expected, own = laws.trajectory(one, alone)
    assert torch.equal(found, expected)
    assert torch.equal(trace.table(numbered("posterior", which)), own.table("posterior"))
    assert {"weight", "weight_2"}.intersection(trace.names) == {numbered("weight", which)}


@dataclass(frozen=True)
class _Broken(Guidance):
    name: ClassVar[str] = "broken"

    def branches(self, negatives: int) -> tuple[str, ...]:
        return ("empty", "positive")

    @classmethod
    def laws(cls) -> tuple[claims.Law, ...]:
        return ()


@dataclass(frozen=True)
class _BatchMean(_Broken):
    def __call__(self, step: Step, state: State) -> Guided:
        positive = step.predict_one("positive")
        return Guided(positive + 1e-6 * positive.mean(), state)


@dataclass(frozen=True)
class _Scaled(_Broken):
    off: float = 1e-8

    def __call__(self, step: Step, state: State) -> Guided:
        empty, positive = step.predict("empty", "positive")
        return Guided(empty + (3.0 + self.off) * (positive - empty), state)


@dataclass(frozen=True)
class _Swapped(_Broken):
    def __call__(self, step: Step, state: State) -> Guided:
        empty, positive = step.predict("empty", "positive")
        return Guided(positive + 3.0 * (empty - positive), state)


@dataclass(frozen=True)
class _Wasteful(_Broken):
    def __call__(self, step: Step, state: State) -> Guided:
        return Guided(step.predict("empty", "positive")[1], state)


@dataclass(frozen=True)
class _Backwards(_Broken):
    def __call__(self, step: Step, state: State) -> Guided:
        return Guided(step.predict("positive", "empty")[0], state)


@dataclass(frozen=True)
class _ClipsNoise(_Broken):
    """Clips in the network's own space: another guidance for every prediction type."""

    def __call__(self, step: Step, state: State) -> Guided:
        return Guided(step.predict_one("positive").clamp(-0.1, 0.1), state)


_calls: list[int] = []


@dataclass(frozen=True)
class _Remembers(_Broken):
    def __call__(self, step: Step, state: State) -> Guided:
        _calls.append(1)
        return Guided(step.predict_one("positive") * (1 + 1e-9 * len(_calls)), state)


@dataclass(frozen=True)
class _PushesAnyway(_Broken):
    def __call__(self, step: Step, state: State) -> Guided:
        return Guided(step.predict_one("positive") + 1e-8, state)


@pytest.mark.parametrize(
    "measure",
    [
        lambda: laws.check_per_image(_BatchMean()),
        lambda: laws.check_identity(claims.Identity(_PushesAnyway())),
        lambda: laws.check_linear(claims.Linear(_Scaled(), (("positive", 3.0), ("empty", -2.0)))),
        lambda: laws.check_linear(claims.Linear(_Swapped(), (("positive", 3.0), ("empty", -2.0)))),
        lambda: laws.check_equals(claims.Equals(_Scaled(), CFG)),
        lambda: laws.check_runs(claims.Runs(_Wasteful(), ("positive",))),
        lambda: laws.check_runs(claims.Runs(CFG, ("positive", "empty"))),
        lambda: laws.check_declared(_Backwards()),
        lambda: laws.check_prediction_type(claims.PredictionTypeInvariant(_ClipsNoise())),
        lambda: laws.check_no_push(claims.NoPushWhenAbsent(_PushesAnyway())),
        lambda: laws.check_no_hidden_state(_Remembers()),
    ],
    ids=["batch mean", "not the identity", "wrong coefficient", "swapped", "not equal", "one branch too many", "order", "backwards",
         "space", "push", "hidden state"],
)  # fmt: skip
def test_each_check_can_fail(measure) -> None:
    with pytest.raises(AssertionError):
        measure()


def test_the_oracle_needs_a_function() -> None:
    with pytest.raises(ValueError, match="must be a function of an exact testbed"):
        OracleEvidence(0.5)  # type: ignore[arg-type]


def test_weights_are_limited() -> None:
    """The trust region: |w (e_c - e_p)| is at most sqrt(dimension) + 3, and w at most 99."""
    sure = DynamicNegativeGuidance(1.0, evidence=ConstantEvidence(1 - 1e-9))
    at, network = laws.point(), laws.denoiser()
    _, trace = laws.guided(sure, at, network)
    norms = trace.steps[0].info["push_norm"]
    limit = torch.tensor(laws.WORLD.full.dimension).sqrt() + 3
    assert (norms <= limit * (1 + 1e-6)).all()
    assert (trace.steps[0].info["weight"] <= 99).all()
    assert torch.isclose(norms, limit, rtol=1e-5).any() or (trace.steps[0].info["weight"] == 99).any()
