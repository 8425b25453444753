"""Evidences made of others: two as one, and to each negative prompt its own."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

import laws
from steerclear.core.calibration import About, Calibration
from steerclear.core.denoiser import Point
from steerclear.core.errors import InvalidSetting
from steerclear.core.evidence import Belief, Circumstances, Evidence, Push, Surroundings
from steerclear.core.guidance import Guidance
from steerclear.core.parsing import parse_part, part_text
from steerclear.core.records import State, Step
from steerclear.core.sampling import Sampled, sample
from steerclear.core.watching import watched_branches
from steerclear.evidence.combined import CombinedEvidence
from steerclear.evidence.constant import ConstantEvidence
from steerclear.evidence.each import EachEvidence
from steerclear.evidence.oracle import OracleEvidence
from steerclear.evidence.preview import PreviewEvidence
from steerclear.evidence.transition import TransitionEvidence
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.study.guidance_settings import build_guidance
from steerclear.testbeds.mixture import Mixture, MixtureDenoiser, MixtureWorld
from steerclear.testbeds.spiral import Spiral

WORLD = Spiral().world


def logit(p: float) -> float:
    return math.log(p / (1 - p))


@dataclass(frozen=True)
class Late(Evidence):
    """Says what it is told, of images whose first number is positive, from a step on."""

    log_odds: float = 2.0
    begins: int = 1

    reads_concept: ClassVar[bool] = False
    name: ClassVar[str] = "late"
    paper: ClassVar[str] = "an example of the tests"

    def branches(self, concept: str) -> tuple[str, ...]:
        return ("empty",)

    def begin(self, surroundings: Surroundings) -> State:
        return State()

    def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Belief:
        known = (step.sample.flatten(1)[:, 0] > 0) & (step.index >= self.begins)
        return Belief(torch.where(known, self.log_odds, 0.0).double(), state, known)


def step(*first: float, index: int = 1) -> Step:
    at = Point(torch.tensor(first, dtype=torch.float64)[:, None], 0.6, 0.8, 500, index, 4)
    return Step(at, "sample", 1, lambda names, rows: [])


def said(evidence: Evidence, here: Step) -> Belief:
    return evidence.update(here, here.sample, here.sample, evidence.begin(Surroundings(here.batch_size, 1)))


def drawn(evidence: Evidence, scale: Any = 1.0, negatives: int = 1, steps: int = 12) -> Sampled:
    """Under dynamic negative guidance, in float64."""
    scheduler = DPMSolverMultistepScheduler(use_karras_sigmas=True, algorithm_type="sde-dpmsolver++")
    network = MixtureDenoiser(WORLD, conjunctions=(WORLD.concept,) * negatives)
    return sample(network, DynamicNegativeGuidance(1.0, negative_scale=scale, evidence=evidence), scheduler, range(16), (2,),
                  num_inference_steps=steps, negatives=negatives, dtype=torch.float64)  # fmt: skip


# two as one


def test_the_last_that_knows_something_is_the_one_that_counts() -> None:
    last = CombinedEvidence(ConstantEvidence(0.25), Late(2.0))
    early, late = said(last, step(1.0, -1.0, index=0)), said(last, step(1.0, -1.0))
    assert early.log_odds.tolist() == pytest.approx([logit(0.25)] * 2)
    assert late.log_odds.tolist() == pytest.approx([2.0, logit(0.25)])
    assert early.known is not None
    assert early.known.tolist() == [True, True]
    unsure = said(CombinedEvidence(Late(1.0), Late(3.0, begins=2)), step(1.0, -1.0))
    assert unsure.known is not None
    assert unsure.known.tolist() == [True, False]
    assert unsure.log_odds.tolist() == [1.0, 0.0]
    three = CombinedEvidence(last, CombinedEvidence(Late(3.0), Late(4.0, begins=2)))
    assert [said(three, step(1.0, index=index)).log_odds.tolist() for index in (0, 1, 2)] == [
        pytest.approx([logit(0.25)]), [3.0], [4.0]
    ]  # fmt: skip


@pytest.mark.parametrize(("share", "prior"), [(0.5, 0.3), (1.0, 0.3), (0.25, None)])
def test_a_sum_adds_to_the_prior_what_both_add(share: float, prior: float | None) -> None:
    both = CombinedEvidence(ConstantEvidence(0.6), ConstantEvidence(0.9), "sum", share, prior)
    start = logit(prior or 0.5)
    expected = start + share * (logit(0.6) - start) + share * (logit(0.9) - start)
    belief = said(both, step(0.1, 0.2))
    assert belief.known is None
    assert belief.log_odds.tolist() == pytest.approx([expected] * 2, abs=1e-12)


def test_the_sum_of_independent_evidence_is_exact() -> None:
    """Two numbers, independent given the concept: with a share of 1 the sum is the log-odds of both together."""
    weights = (0.3, 0.7)
    means = torch.tensor([[1.0, -0.5], [-1.0, 2.0]])

    def world(columns: list[int]) -> MixtureWorld:
        return MixtureWorld(Mixture.isotropic(weights, means[:, columns], 0.8), torch.tensor([1.0, 0.0]))

    x, alpha, sigma = torch.randn(20, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64), 0.6, 0.8
    parts = [OracleEvidence(lambda at, a, s, k=k: world([k]).log_odds(at[:, [k]], a, s)) for k in (0, 1)]
    here = Step(Point(x, alpha, sigma, 500, 0, 4), "sample", 1, lambda names, rows: [])
    naive = said(CombinedEvidence(*parts, by="sum", share=1.0, prior=0.3), here).log_odds
    assert torch.allclose(naive, world([0, 1]).log_odds(x, alpha, sigma), atol=1e-12)


def test_half_of_two_that_say_the_same_is_what_they_say() -> None:
    oracle = OracleEvidence(WORLD.log_odds)
    alone, both = drawn(oracle), drawn(CombinedEvidence(oracle, oracle, by="sum", prior=0.2))
    assert torch.allclose(both.samples, alone.samples, atol=1e-10)
    assert torch.allclose(both.trace.table("posterior"), alone.trace.table("posterior"), atol=1e-6)


def test_the_second_alone_is_the_second_bit_for_bit_and_so_is_the_first() -> None:
    """Both remember their own steps: the transitions are tracked as if nobody else were there."""
    oracle, transition = OracleEvidence(WORLD.log_odds), TransitionEvidence(0.2)
    assert torch.equal(drawn(CombinedEvidence(transition, oracle)).samples, drawn(oracle).samples)
    assert torch.equal(drawn(CombinedEvidence(oracle, transition)).samples, drawn(transition).samples)
    never = CombinedEvidence(transition, Late(begins=99))
    assert torch.equal(drawn(never).samples, drawn(transition).samples)
    nothing = CombinedEvidence(transition, Late(begins=99), by="sum", share=1.0, prior=0.2)
    assert torch.allclose(drawn(nothing).samples, drawn(transition).samples, atol=1e-9)


def test_the_parts_are_told_what_is_known() -> None:
    about = About("tiny", "", "a man", "red", "ddim", 4, 40, 20, "red", "0")
    known = Circumstances(prior=0.3, stochastic=True, calibrations=(Calibration(about, 0.4),))
    fitted = CombinedEvidence(second=PreviewEvidence(0.6)).fitted(known)
    assert fitted == CombinedEvidence(fitted.first, PreviewEvidence(0.6, stochastic=True), prior=0.4)
    given = CombinedEvidence(second=CombinedEvidence(), prior=0.7).fitted(known)
    assert isinstance(given.second, CombinedEvidence)
    inside = (given.first, given.second, given.second.first, given.second.second)
    assert [one.prior for one in inside[1:]] == [0.7] * 3  # type: ignore[attr-defined]
    several = CombinedEvidence(ConstantEvidence((0.2, 0.3)), PreviewEvidence(), prior=(0.5, 0.6)).for_concepts(2)
    assert several == tuple(
        CombinedEvidence(ConstantEvidence(p), PreviewEvidence(), prior=q) for p, q in ((0.2, 0.5), (0.3, 0.6))
    )


def test_what_is_asked_for_is_what_the_parts_ask_for() -> None:
    reads, looks = CombinedEvidence(TransitionEvidence(), Late()), CombinedEvidence(Late(), ConstantEvidence())
    assert (reads.reads_concept, looks.reads_concept) == (True, False)
    assert watched_branches(reads, 1) == ("positive", "conjunction", "empty")
    assert watched_branches(looks, 1) == ("positive", "empty")
    assert reads.branches("conjunction") == ("empty",)
    assert DynamicNegativeGuidance(1.0, evidence=reads).branches(1) == ("positive", "conjunction", "empty")
    published = parse_part("published", Evidence)
    assert not CombinedEvidence(published, published).trust_region
    assert CombinedEvidence(published, ConstantEvidence()).trust_region


def test_combinations_can_be_typed_and_saved() -> None:
    typed = "dynamic-negative:guidance_scale=1,evidence=combined(first=transition, second=preview(every=3), by=sum, share=0.7)"
    guidance = parse_part(typed, Guidance)
    expected = CombinedEvidence(TransitionEvidence(), PreviewEvidence(every=3), "sum", 0.7)
    assert guidance.evidence == expected
    assert parse_part(part_text(guidance), Guidance) == guidance
    assert Guidance.from_config(guidance.to_config()) == guidance
    settings = [
        "evidence=combined",
        "evidence.first=constant",
        "evidence.first.posterior=0.3",
        "evidence.second.below=5",
    ]
    built = build_guidance("dynamic-negative", None, settings)
    assert built.evidence == CombinedEvidence(ConstantEvidence(0.3), PreviewEvidence(below=5.0))


def test_wrong_combinations_are_refused() -> None:
    for settings, message in (
        ({"first": None}, "first is None, but must be an evidence, such as TransitionEvidence()"),
        ({"second": "preview"}, "second is 'preview', but must be an evidence"),
        ({"by": "mean"}, "by is 'mean', but must be last or sum"),
        ({"by": "sum", "share": 0.0}, "share is 0.0, but must be a finite number from 0.001 to 1"),
        ({"share": 0.7}, "share is 0.7, but must be left out (or 0.5) with by=last; or take by=sum"),
        ({"prior": (0.5, 0.0)}, "prior is (0.5, 0.0), but must be between 0 and 1"),
    ):
        with pytest.raises(InvalidSetting) as caught:
            CombinedEvidence(**settings)
        assert message in str(caught.value)


# to each its own


def test_each_negative_has_its_own_evidence_and_its_own_weight() -> None:
    each = EachEvidence(ConstantEvidence(0.25), ConstantEvidence(0.75))
    assert torch.equal(drawn(each, (1.0, 2.0), 2).samples, drawn(ConstantEvidence((0.25, 0.75)), (1.0, 2.0), 2).samples)
    mixed = drawn(EachEvidence(OracleEvidence(WORLD.log_odds), ConstantEvidence(0.75)), (1.0, 2.0), 2).trace
    assert torch.equal(mixed.table("posterior_2"), torch.full((12, 16), 0.75))
    assert float(mixed.table("weight_2").max()) == pytest.approx(2.0 * 3.0)
    assert mixed.table("posterior")[0].tolist() == pytest.approx([WORLD.prior] * 16, abs=2e-3)  # pure noise, nearly
    one = drawn(EachEvidence(OracleEvidence(WORLD.log_odds), TransitionEvidence()), (1.0, 0.0), 2)
    assert torch.equal(one.samples, drawn(OracleEvidence(WORLD.log_odds)).samples)


def test_each_negative_has_its_own_least_push() -> None:
    each = EachEvidence(TransitionEvidence(), ConstantEvidence(0.25))
    scales = DynamicNegativeGuidance(1.0, evidence=each).fitted(Circumstances())
    assert scales.negative_scale == (2.0, 1.0)
    same = DynamicNegativeGuidance(1.0, evidence=EachEvidence(TransitionEvidence(), TransitionEvidence()))
    assert same.fitted(Circumstances()).negative_scale == 2.0


def test_each_is_told_of_its_own_negative() -> None:
    each = EachEvidence(TransitionEvidence(), CombinedEvidence(), PreviewEvidence(0.9))
    known = each.fitted(Circumstances(prior=(0.2, 0.3, 0.4)))
    assert isinstance(known.second, CombinedEvidence)
    assert [known.first.prior, known.second.prior, known.second.second.prior, known.third.prior] == [0.2, 0.3, 0.3, 0.9]  # type: ignore
    assert known.for_concepts(3) == (known.first, known.second, known.third)
    assert each.fitted(Circumstances(prior=0.2)).second.prior == 0.2  # type: ignore[union-attr]
    inside = CombinedEvidence(EachEvidence(ConstantEvidence(0.2), Late()), ConstantEvidence((0.3, 0.4))).for_concepts(2)
    assert inside == (
        CombinedEvidence(ConstantEvidence(0.2), ConstantEvidence(0.3)), CombinedEvidence(Late(), ConstantEvidence(0.4))
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_evidences_as_negatives(count: int) -> None:
    guidance = DynamicNegativeGuidance(1.0, evidence=EachEvidence(ConstantEvidence(), TransitionEvidence()))
    words = (
        f"the number of evidences of each is 2, but must be {count}, one per negative prompt; it takes at most three"
    )
    with pytest.raises(InvalidSetting, match=words):
        guidance.branches(count)
    assert guidance.branches(2) == ("positive", "conjunction", "conjunction_2")


def test_each_can_be_typed_and_saved() -> None:
    typed = "dynamic-negative:negative_scale=1,2,evidence=each(first=transition(prior=0.3), second=preview(every=3))"
    guidance = parse_part(typed, Guidance)
    each = EachEvidence(TransitionEvidence(0.3), PreviewEvidence(every=3))
    assert guidance == DynamicNegativeGuidance(negative_scale=(1.0, 2.0), evidence=each)
    assert Guidance.from_config(guidance.to_config()) == guidance
    assert parse_part(part_text(guidance), Guidance) == guidance
    assert EachEvidence(ConstantEvidence(), Late()).reads_concept is False
    assert each.reads_concept
    assert EachEvidence(ConstantEvidence(), Late()).branches("conjunction") == ("empty",)


def test_wrong_choices_are_refused() -> None:
    with pytest.raises(
        InvalidSetting, match=r"second is None, but must be an evidence where there is a third; or give the"
    ):
        EachEvidence(ConstantEvidence(), None, ConstantEvidence())
    for name in ("first", "second", "third"):
        with pytest.raises(InvalidSetting, match=f"{name} is 1, but must be an evidence, such as TransitionEvidence"):
            EachEvidence(**{"second": ConstantEvidence(), name: 1})


@pytest.mark.parametrize(
    "evidence",
    [
        CombinedEvidence(TransitionEvidence(0.3), ConstantEvidence(0.2), by="sum"),
        CombinedEvidence(ConstantEvidence(0.2), TransitionEvidence(0.3)),
        EachEvidence(CombinedEvidence(TransitionEvidence(0.3), Late())),
    ],
    ids=["sum", "last", "each"],
)
def test_image_k_of_a_batch_is_image_k_alone(evidence: Evidence) -> None:
    guidance = DynamicNegativeGuidance(1.0, evidence=evidence)
    laws.check_per_image(guidance)
    laws.check_no_hidden_state(guidance)


def test_each_alone_is_its_first() -> None:
    each, first = EachEvidence(TransitionEvidence(0.3)), TransitionEvidence(0.3)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = []
    for evidence in (each, first):
        state = evidence.begin(Surroundings(3, 1))
        for index, s in enumerate((2.0, 1.0)):
            alpha = 1 / math.sqrt(1 + s**2)
            here = Step(Point(x * (1 + index), alpha, s * alpha, 500, index, 4), "sample", 1, lambda names, rows: [])
            belief = evidence.update(here, x, x / 2, state)
            state = evidence.remember(here, Push(x, x / 2, x, belief.log_odds.exp()), belief.state)
        found.append(belief.log_odds)
    assert torch.equal(*found)
