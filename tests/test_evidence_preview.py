"""The preview: what a judge sees in the decoded denoised prediction, as log-odds."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

import tiny
from steerclear.bridges.diffusers.steer import steer
from steerclear.core.calibration import About, Calibration, Observed
from steerclear.core.denoiser import Point
from steerclear.core.errors import InvalidSetting, UnsupportedModel
from steerclear.core.evidence import Belief, Circumstances, Surroundings
from steerclear.core.guidance import Guidance
from steerclear.core.laboratory import Asked, Judge, Seen
from steerclear.core.logistic import auc
from steerclear.core.parsing import parse_part
from steerclear.core.records import Guided, State, Step
from steerclear.evidence.preview import FEWEST, RIDGE, PreviewEvidence
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.guidance.unguided import Unguided
from steerclear.laboratories.portraits import Portraits
from steerclear.models.loading import Model, load_model

PROMPT = "portrait photo of a man"
ABOUT = About("tiny", "", "a man", "red", "ddim", 4, 40, 20, "red", "0")


@dataclass
class Colours(Judge):
    """The probability of a colour is the mean of its channel; counts what it was shown."""

    names: tuple[str, ...] = ("red", "green", "blue")
    shown: list[int] = field(default_factory=list)

    def columns(self) -> Any: ...
    def measure(self, seen: Any) -> Any: ...

    def see(self, images: Tensor) -> Seen:
        assert images.dtype == torch.uint8
        self.shown.append(len(images))
        mean = images.double().mean((2, 3)) / 255
        return Seen({}, {name: mean[:, channel] for channel, name in enumerate(self.names)})


def around(judge: Judge | None = None, texts: tuple[str, ...] = ("red",), **settings: Any) -> Surroundings:
    """Surroundings whose decoder shows the denoised prediction as it is."""
    every = {
        "negative_prompts": (texts,),
        "decoder": lambda denoised: denoised.float(),
        "given_judge": judge or Colours(),
    }
    return Surroundings(**{"batch_size": len(texts), "negatives": 1, **every, **settings})


def step(s: float, index: int = 0, images: int = 1, substep: bool = False) -> Step:
    """At sigma / alpha = s, where the network predicts x_0."""
    alpha = 1 / math.sqrt(1 + s**2)
    at = Point(torch.zeros(images, 3, 2, 2), alpha, s * alpha, 500, index, 30, substep=substep)
    return Step(at, "sample", 1, lambda names, rows: [])


def painted(*shares: tuple[float, float, float]) -> Tensor:
    """One image per triple, each channel of one value."""
    return torch.tensor(shares, dtype=torch.float32).view(-1, 3, 1, 1).expand(-1, 3, 2, 2).contiguous()


def looked(evidence: PreviewEvidence, surroundings: Surroundings, image: Tensor, s: float = 2.0) -> Belief:
    return evidence.update(step(s, images=len(image)), image, image, evidence.begin(surroundings))


def logit(p: float) -> float:
    return math.log(p / (1 - p))


# the exact log-odds


@pytest.mark.parametrize(
    ("settings", "temperature"),
    [({"stochastic": True}, 1 + 2.0), ({"stochastic": False}, 1 + 2.0 / 2), ({"temperature": 1.0}, 1.0)],
)
def test_a_tempered_look_is_the_judges_logit_over_the_temperature(settings: dict[str, Any], temperature: float) -> None:
    evidence = PreviewEvidence(0.2, **settings)
    belief = looked(evidence, around(texts=("red",) * 3), painted((204 / 255, 0, 0), (51 / 255, 0, 0), (1, 1, 1)))
    assert belief.known is None
    assert belief.log_odds.dtype == torch.float64
    expected = [logit(0.2) + logit(p) / temperature for p in (0.8, 0.2, 1 - 1e-4)]  # 1 is kept from being infinite
    assert belief.log_odds.tolist() == pytest.approx(expected, abs=1e-9)


def test_of_several_concepts_the_likeliest_counts_and_each_image_has_its_own() -> None:
    texts = ("red, a Blue", "green", "blue")
    belief = looked(
        PreviewEvidence(0.5, temperature=1.0),
        around(texts=texts),
        painted((0.2, 1, 0.6), (1, 0.4, 1), (1, 1, 0.2)),
    )
    assert belief.log_odds.tolist() == pytest.approx([logit(0.6), logit(0.4), logit(0.2)], abs=1e-9)


def test_a_negative_that_is_no_text_is_the_only_concept_of_the_judge() -> None:
    one = Colours(names=("red",))
    belief = looked(PreviewEvidence(0.5, temperature=1.0), around(one, batch_size=1, negative_prompts=((),)),
                    painted((0.6, 0, 0)))  # fmt: skip
    assert float(belief.log_odds) == pytest.approx(logit(0.6), abs=1e-9)
    with pytest.raises(
        UnsupportedModel, match="a negative prompt that is not known as a text, and it says how likely these"
    ):
        looked(PreviewEvidence(), around(batch_size=1, negative_prompts=((),)), painted((0.6, 0, 0)))


# when it looks


def test_it_looks_between_two_levels_every_few_steps_and_keeps_what_it_saw() -> None:
    judge, evidence = Colours(), PreviewEvidence(0.25, every=2, below=6.0, stop_below=1.0, temperature=1.0)
    state = evidence.begin(around(judge))
    levels = [math.inf, 8.0, 6.0, 4.0, 3.0, 2.0, 1.5, 0.9, 0.1]
    said, known = [], []
    for index, s in enumerate(levels):
        alpha = 0.0 if s == math.inf else 1 / math.sqrt(1 + s**2)
        at = Point(torch.zeros(1, 3, 2, 2), alpha, s * alpha if alpha else 1.0, 500, index, len(levels))
        share = 0.1 * (index + 1)
        for substep in (False, True):  # a point that is not kept is not looked at
            here = Step(replace(at, substep=substep), "sample", 1, lambda names, rows: [])
            belief = evidence.update(here, painted((share, 0, 0)), painted((0, 0, 0)), state)
            state = belief.state
        said.append(float(belief.log_odds))
        known.append(belief.known is None)
    seen = [0.25, 0.25, 0.3, 0.3, 0.5, 0.5, 0.7, 0.7, 0.7]
    prior = logit(0.25)
    expected = [prior + (0 if p == 0.25 else logit(round(255 * p) / 255)) for p in seen]
    assert said == pytest.approx(expected, abs=1e-9)
    assert known == [False, False, *[True] * 7]
    assert judge.shown == [1, 1, 1]


def test_decided_images_are_not_decoded_again_and_no_image_feels_it() -> None:
    """Image k of a batch says what image k says alone, whoever else is decided."""
    evidence = PreviewEvidence(0.5, every=1, temperature=1.0, sure=1.0)
    shares = [[0.9, 0.2], [0.5, 0.6], [0.4, 0.95], [0.3, 0.1]]  # |logit| > 1 above .73 and below .27

    def run(rows: list[int]) -> tuple[Tensor, list[int]]:
        judge = Colours()
        state, said = evidence.begin(around(judge, texts=("red",) * len(rows))), []
        for index in range(2):
            here = painted(*[(shares[row][index], 0, 0) for row in rows])
            belief = evidence.update(step(3.0 - index, index, len(rows)), here, here, state)
            state = belief.state
            said.append(belief.log_odds)
        return torch.stack(said, 1), judge.shown

    together, decoded = run([0, 1, 2, 3])
    assert decoded == [4, 3]
    assert together[0, 1] == together[0, 0]
    assert together[1:, 1].tolist() == pytest.approx([logit(round(255 * p) / 255) for p in (0.6, 0.95, 0.1)], abs=1e-9)
    for row in range(4):
        assert torch.equal(run([row])[0][0], together[row])
    assert run([0])[1] == [1]  # nobody is left to look at


# a calibration


def calibration(prior: float = 0.4, **tensors: list[float]) -> Calibration:
    every = {f"preview.{name}": torch.tensor(values, dtype=torch.float64) for name, values in tensors.items()}
    return Calibration(ABOUT, prior, {**every, "probe.levels": torch.tensor([1.0])})


@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize(
    ("s", "intercept", "slope"),
    [(1.0, -1.0, 0.5), (2.0, -0.5, 0.35), (4.0, 0.0, 0.2), (0.6, -1.0, 0.5), (9.0, 0.0, 0.2)],
)
def test_a_calibration_is_used_and_interpolated_in_the_logarithm(
    s: float, intercept: float, slope: float, falling: bool
) -> None:
    order = -1 if falling else 1
    file = calibration(levels=[1.0, 4.0][::order], intercept=[-1.0, 0.0][::order], slope=[0.5, 0.2][::order])
    surroundings, image = around(calibrations=(file,)), painted((0.8, 0, 0))
    for evidence in (
        PreviewEvidence(stop_below=0.5),
        PreviewEvidence(stop_below=0.5).fitted(Circumstances(prior=0.9, calibrations=(file,))),
    ):
        belief = looked(evidence, surroundings, image, s)
        assert float(belief.log_odds) == pytest.approx(intercept + slope * logit(0.8), abs=1e-9)
    shifted = looked(PreviewEvidence(0.7, stop_below=0.5), surroundings, image, s)
    expected = intercept + slope * logit(0.8) + logit(0.7) - logit(0.4)
    assert float(shifted.log_odds) == pytest.approx(expected, abs=1e-9)
    plain = looked(PreviewEvidence(0.4, temperature=2.0, stop_below=0.5), surroundings, image, s)
    assert float(plain.log_odds) == pytest.approx(logit(0.4) + logit(0.8) / 2, abs=1e-9)


def test_a_calibration_of_another_evidence_changes_nothing() -> None:
    belief = looked(PreviewEvidence(0.5, temperature=1.0), around(calibrations=(calibration(),)), painted((0.8, 0, 0)))
    assert float(belief.log_odds) == pytest.approx(logit(0.8), abs=1e-9)


def test_what_was_left_open_is_what_is_known() -> None:
    file = calibration(0.3)
    known = Circumstances(prior=(0.6, 0.7), stochastic=True, calibrations=(None, file))
    assert PreviewEvidence().fitted(known) == PreviewEvidence((0.6, 0.3), stochastic=True)
    assert PreviewEvidence().fitted(Circumstances(prior=0.6)) == PreviewEvidence(0.6, stochastic=False)
    given = PreviewEvidence(0.1, stochastic=False)
    assert given.fitted(known) == given
    assert PreviewEvidence((0.6, 0.3)).for_concepts(2) == (PreviewEvidence(0.6), PreviewEvidence(0.3))


def observed(logits: Tensor, shown: Tensor, levels: tuple[float, ...]) -> Observed:
    return Observed(torch.tensor(levels), torch.zeros(len(shown), len(levels), 1), {"preview": logits}, shown, 0.5)


def test_a_level_is_calibrated_by_the_ridge_logistic_optimum(tmp_path: Path) -> None:
    """Against another implementation (BFGS on the same objective); levels with few images of a kind are left out."""
    generator = torch.Generator().manual_seed(3)
    logits = 4 * torch.randn(200, 4, generator=generator, dtype=torch.float64)
    chance = (0.3 + 0.5 * logits[:, 1]).sigmoid()
    shown = torch.rand(200, generator=generator, dtype=torch.float64) < chance
    logits[:, 0] = torch.nan
    logits[50:, 3] = torch.nan
    logits[:50, 3][shown[:50].nonzero()[FEWEST - 1 :, 0]] = torch.nan
    logits[:, 2] = -logits[:, 1]
    found = PreviewEvidence().calibrated(observed(logits, shown, (40.0, 5.0, 2.0, 1.0)))
    assert found["levels"].tolist() == [5.0, 2.0]

    x, y = logits[:, 1].numpy(), shown.double().numpy()

    def objective(at: np.ndarray) -> float:
        line = at[0] + at[1] * x
        half = np.logaddexp(0, at[0]) - at[0] / 2  # half an image of each kind, without features
        return float((np.logaddexp(0, line) - y * line).sum() + half + RIDGE / 2 * at[1] ** 2)

    best = minimize(objective, np.zeros(2), tol=1e-12).x
    assert [float(found["intercept"][0]), float(found["slope"][0])] == pytest.approx(best.tolist(), abs=1e-5)
    rate = float(shown.double().mean())
    assert (float(found["slope"][1]), float(found["intercept"][1])) == pytest.approx((0.0, logit(rate)), abs=1e-9)

    Calibration(ABOUT, rate, {f"preview.{name}": value for name, value in found.items()}).save(
        tmp_path / "red.safetensors"
    )
    read = Calibration.load(tmp_path / "red.safetensors")
    belief = looked(PreviewEvidence(), around(calibrations=(read,)), painted((0.8, 0, 0)), 5.0)
    assert float(belief.log_odds) == pytest.approx(best[0] + best[1] * logit(0.8), abs=1e-4)


def test_what_a_calibration_is_fitted_to_are_the_judges_own_logits() -> None:
    watching = PreviewEvidence(0.1, every=5, below=4.0, temperature=7.0, sure=0.1).uncalibrated()
    state = watching.begin(around(texts=("red",) * 2))
    for index, (s, share) in enumerate(((60.0, 1.0), (5.0, 0.8), (0.4, 0.2))):
        image = painted((share, 0, 0), (1 - share, 0, 0))
        belief = watching.update(step(s, index, 2), image, image, state)
        state = belief.state
        p = min(share, 1 - 1e-4)
        assert belief.log_odds.tolist() == pytest.approx([logit(p), -logit(p)], abs=1e-9)
    none = torch.zeros(4, dtype=torch.bool)
    assert PreviewEvidence().calibrated(replace(observed(torch.zeros(4, 1), none, (1.0,)), log_odds={})) == {}


# what is refused


def test_wrong_settings_are_refused() -> None:
    for settings, message in (
        ({"every": 0}, "every is 0, but must be a whole number of at least 1"),
        ({"every": 1.5}, "every is 1.5, but must be a whole number"),
        ({"below": -1.0}, "below is -1.0, but must be a finite number of at least 0"),
        ({"stop_below": 21.0}, "stop_below is 21.0, but must be at most below (20)"),
        ({"temperature": 0.0}, "temperature is 0.0, but must be a finite number of at least 0.001"),
        ({"sure": -0.1}, "sure is -0.1"),
        ({"prior": 1.0}, "prior is 1.0, but must be between 0 and 1, both excluded"),
    ):
        with pytest.raises(InvalidSetting) as caught:
            PreviewEvidence(**settings)
        assert message in str(caught.value)


def test_without_a_judge_or_a_decoder_the_first_step_is_not_made() -> None:
    evidence = PreviewEvidence()
    with pytest.raises(UnsupportedModel, match=r"asks for a judge, and none was given; give steer\(..., judge=...\)"):
        evidence.begin(around(given_judge=None))
    with pytest.raises(UnsupportedModel, match="asks for decoded images, and nothing here decodes them"):
        evidence.begin(around(decoder=None))
    with pytest.raises(
        UnsupportedModel, match="asks the judge for 'hat', and it says how likely these are: red, green, blue"
    ):
        looked(evidence, around(texts=("hat",)), painted((1, 0, 0)))


def test_it_can_be_typed() -> None:
    typed = parse_part("dynamic-negative:evidence=preview(every=3, below=6)", Guidance)
    assert typed.evidence == PreviewEvidence(every=3, below=6.0)


# on the shipped model


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("portraits")


def judged(model: Model) -> Judge:
    return Portraits().judge(model, Asked(PROMPT, ("mustache",)))


def made(model: Model, guidance: Guidance, seeds: range, steps: int) -> tuple[Tensor, Any]:
    looks = Portraits().second().judge(model, Asked(PROMPT, ("mustache",)))
    with steer(model.pipe, guidance, "mustache", judge=looks) as run:
        images = model.pipe(PROMPT, num_inference_steps=steps, num_images_per_prompt=len(seeds),
                            generator=tiny.generators(*seeds), output_type="pt").images  # fmt: skip
    return images, run


def test_image_k_is_image_k_alone_and_nothing_is_evaluated_for_a_look(model: Model) -> None:
    guidance = DynamicNegativeGuidance(1.0, evidence=PreviewEvidence(every=1, sure=1.0, stop_below=0.5))
    together, run = made(model, guidance, range(4), 10)
    assert run.evaluations.tolist() == [20.0] * 4
    assert run.trace.branches == [("positive", "conjunction")] * 10
    posterior = run.trace.table("posterior")
    levels = run.trace.levels
    assert torch.equal(posterior[[s > 20 for s in levels]], torch.full((sum(s > 20 for s in levels), 4), 0.5))
    decided = [(posterior[i] - posterior[i - 1]).abs() == 0 for i, s in enumerate(levels) if 0.5 <= s <= 20]
    assert 0 < int(torch.stack(decided).sum()) < 4 * len(decided)  # some images were skipped at some steps
    for seed in (1, 3):
        alone, _ = made(model, guidance, range(seed, seed + 1), 10)
        # a judge sees whole gray levels, so a last bit that crosses half a level counts 1/255 of a pixel
        assert float((alone[0] - together[seed]).abs().max()) < 0.25 / 255


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*does not look at negative prompts")
def test_the_preview_ranks_images_long_before_they_are_finished(model: Model) -> None:
    """Area under the curve against the finished image, on the shipped, stochastic sampler. The second classifier looks, the
    model's own says what the finished image shows. Standard error .04 at the highest level."""
    evidence = PreviewEvidence().uncalibrated()
    beliefs: list[Tensor] = []

    class Watching(Unguided):
        def begin(self, surroundings: Surroundings) -> State:
            return evidence.begin(surroundings.for_negative(0, "conjunction"))

        def needs_noise_level(self) -> bool:
            return True

        def __call__(self, step: Step, state: State) -> Guided:
            positive = step.predict_one("positive")
            belief = evidence.update(step, positive, positive, state)
            beliefs.append(belief.log_odds)
            return Guided(positive, belief.state)

    said, shown = [], []
    for first in range(70_000, 70_128, 32):
        beliefs.clear()
        images, run = made(model, Watching(), range(first, first + 32), 30)
        said.append(torch.stack(beliefs))
        shown.append(judged(model).see((images * 255).round().to(torch.uint8)).shown["mustache"] == 1)
    every, label = torch.cat(said, 1), torch.cat(shown)
    least = {8: 0.70, 5: 0.80, 3: 0.90, 1.5: 0.95}
    levels = run.trace.levels
    found = {s: auc(every[next(i for i, level in enumerate(levels) if level <= s)], label) for s in least}
    assert all(found[s] >= least[s] for s in least), found
