"""Evidence that looks: at other points, at decoded previews, at what surrounds a run."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
import tiny_modular
from looking_preview import PreviewEvidence
from looking_renoised import RenoisedEvidence
from steerclear.bridges.diffusers.steer import steer
from steerclear.bridges.modular.guider import guider
from steerclear.core.denoiser import Branch, Point
from steerclear.core.errors import InvalidSetting, UnsupportedModel
from steerclear.core.evidence import Surroundings
from steerclear.core.laboratory import Judge
from steerclear.core.numerics import norm
from steerclear.core.records import Guided, State, Step
from steerclear.core.sampling import sample
from steerclear.core.schedulers import is_flow, level_at
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.models.loading import load_model
from steerclear.testbeds.mixture import MixtureDenoiser
from steerclear.testbeds.spiral import Spiral
from test_families import GUIDED, quiet
from trajectories import trajectory

PROMPT, STEPS = "portrait photo of a man", 6


@dataclass(frozen=True)
class Looking(ClassifierFreeGuidance):
    """The prompt's own prediction; what it looks at besides is a function of the test."""

    look: ClassVar[Callable[[Step, Surroundings | None], dict[str, Tensor]]]
    further: ClassVar[tuple[str, ...]] = ()
    name: ClassVar[str] = "looking"

    @dataclass(frozen=True)
    class Seen(State):
        surroundings: Surroundings

    def begin(self, surroundings: Surroundings) -> State:
        return self.Seen(surroundings)

    def needs_noise_level(self) -> bool:
        return True

    def branches(self, negatives: int) -> tuple[str, ...]:
        return (*super().branches(negatives), *self.further)

    def __call__(self, step: Step, state: State) -> Guided:
        assert isinstance(state, self.Seen)
        _, positive = step.predict("empty", "positive")
        return Guided(positive, state, type(self).look(step, state.surroundings) or {})


def looking(look: Callable[..., Any], *further: str) -> Looking:
    """A guidance that looks with a function of (step, surroundings), which may ask for further branches."""

    class Own(Looking):
        pass

    Own.look, Own.further = staticmethod(look), further
    return Own(3.0)


def missed(step: Step, surroundings: Surroundings) -> dict[str, Tensor]:
    """How far apart two answers are at one point: the sampler's own, made again of its parts, and looked at again."""
    if not 0 < step.noise_to_signal < math.inf:
        return {}
    own = step.predict("empty", "positive")
    there = step.at(step.denoised(own[1]), step.noise(own[1]), step.noise_to_signal)
    again = there.predict("empty", "positive")
    pairs = [norm(a.float() - b.float()) / norm(b.float()) for a, b in zip(again, own, strict=True)]
    one = there.predict_one("empty", rows=torch.tensor([step.batch_size - 1]))
    return {"missed": torch.stack([*pairs, norm(one - again[0][-1:]).expand(step.batch_size)]).amax(0)}


# other points


@quiet
@pytest.mark.parametrize("pair", GUIDED, ids="-".join)
def test_the_samplers_own_point_looked_at_again_gives_the_same_answers(pair: tuple[str, str]) -> None:
    """So timestep, scaling, mask, ControlNet and text are the pipeline's, in every family."""
    pipe = tiny.family(*pair)
    with steer(pipe, looking(missed)) as run:
        trajectory(*pair, pipe, images=1 if pair == ("sd3", "img2img") else 2)
    missing = run.trace.table("missed")
    looked = [step for step in run.trace.steps if "missed" in step.info]
    assert len(looked) >= 1
    assert float(missing.nan_to_num(0).max()) < 1e-3
    for step in looked:
        level = f"{step.noise_to_signal:.4g}"
        assert step.branches == ("empty", "positive", f"empty@{level}", f"positive@{level}")
        assert step.evaluations.tolist() == [4.0] * len(step.evaluations)


@quiet
@pytest.mark.parametrize("name", tiny_modular.CALLS)
def test_the_same_in_a_modular_pipeline(name: str) -> None:
    pipe = tiny_modular.pipeline(name)
    ours = guider(looking(missed))
    pipe.update_components(guider=ours)
    tiny_modular.latents(pipe, name, seeds=(0, 1))
    looked = [step for step in ours.trace.steps if "missed" in step.info]
    assert len(looked) >= 2
    rounded = 0.1 if name == "wan" else 1e-3  # its scheduler tells the network whole timesteps
    assert float(ours.trace.table("missed").nan_to_num(0).max()) < rounded
    assert all(step.evaluations.tolist() == [4.0, 4.0] for step in looked)


@quiet
@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "kdpm2-ancestral", "dpm++", "dpm++-karras", "lms"])
def test_another_level_is_the_network_called_by_hand(name: str) -> None:
    pipe, found = tiny.stable_diffusion(name), []

    def look(step: Step, surroundings: Surroundings) -> None:
        x0, noise = step.denoised(step.predict_one("positive")), surroundings.noise(step)
        found.append((x0, noise, step.at(x0, noise, 0.7).predict_one("positive")))

    with steer(pipe, looking(look)):
        pipe(
            PROMPT,
            num_inference_steps=3,
            generator=tiny.generators(0, 1),
            num_images_per_prompt=2,
            output_type="latent",
        )
    text = pipe.encode_prompt(PROMPT, "cpu", 2, False)[0]
    table = pipe.scheduler.alphas_cumprod.double()
    timestep = float(np.interp(math.log(0.7), ((1 / table - 1).log() / 2).numpy(), np.arange(1000.0)))
    for x0, noise, prediction in found:
        unit = (x0 + 0.7 * noise) / 1.49**0.5  # all of these networks see samples of unit variance
        with torch.no_grad():
            expected = pipe.unet(unit, torch.tensor(timestep), encoder_hidden_states=text).sample
        assert torch.allclose(prediction, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["ddim", "euler", "flow-euler"])
def test_an_exact_world_is_exact_elsewhere(name: str) -> None:
    scheduler = tiny.scheduler(name)
    network = MixtureDenoiser(Spiral().world, "flow_prediction" if is_flow(scheduler) else "epsilon")

    def look(step: Step, surroundings: Surroundings) -> dict[str, Tensor]:
        x0, noise = step.denoised(step.predict_one("positive")), surroundings.noise(step).double()
        there = step.at(x0, noise, 0.3)
        alpha, sigma, _ = level_at(scheduler, 0.3)
        assert sigma / alpha == pytest.approx(0.3)
        x = alpha * x0 + sigma * noise
        expected = network.mixture(Branch.parse("negative")).denoised(x, alpha, sigma)
        deeper = there.at(x0, noise, 0.1)
        assert deeper.noise_to_signal == pytest.approx(0.1)
        assert math.isnan(there.point.next_alpha)
        return {"error": (there.denoised(there.predict_one("negative")) - expected).abs().amax(1)}

    result = sample(
        network, looking(look, "negative"), scheduler, (0, 1, 2), (2,), num_inference_steps=4, negatives=1,
        dtype=torch.float64,
    )  # fmt: skip
    assert float(result.trace.table("error").max()) < 1e-12
    assert result.trace.evaluations.tolist() == [12.0] * 3
    assert result.trace.branches[0] == ("empty", "positive", "negative@0.3")


def test_points_that_cannot_be() -> None:
    step = Step(Point(torch.zeros(2, 3), 0.6, 0.8, 500, 0, 4), "epsilon", 0, lambda names, rows: [])
    x = torch.zeros(2, 3)
    with pytest.raises(UnsupportedModel, match="whose timestep this sampler does not give; use another scheduler"):
        step.at(x, x, 0.5)
    with pytest.raises(InvalidSetting, match=r"shapes of denoised and noise .* must be \(2, 3\), as the sample's"):
        step.at(x[:1], x[:1], 0.5)
    for level in (0.0, math.inf, math.nan):
        with pytest.raises(InvalidSetting, match="noise_to_signal"):
            step.at(x, x, level)


# what surrounds a run


class Nobody(Judge):
    """A judge that is never asked."""

    def columns(self) -> Any: ...
    def see(self, images: Tensor) -> Any: ...
    def measure(self, seen: Any) -> Any: ...


@quiet
def test_a_pipeline_says_what_there_is(tmp_path: Path) -> None:
    pipe, found, judge = tiny.stable_diffusion("ddim"), [], Nobody()
    (tmp_path / "table.json").write_text("[1]")
    guidance = looking(lambda step, surroundings: found.append(surroundings))
    call = {"num_inference_steps": 1, "num_images_per_prompt": 2, "generator": tiny.generators(5, 6, 7, 8)}
    with steer(pipe, guidance, ["beard", "hat"], judge=judge, files=tmp_path):
        pipe(["a man", "a cat"], **call)
    with steer(pipe, guidance):
        pipe(["a man", "a cat"], negative_prompt=["beard", "wheel"], **call)
    several, of_call = found
    assert (several.batch_size, several.negatives, several.seeds) == (4, 2, (5, 6, 7, 8))
    assert several.prompts == ("a man", "a man", "a cat", "a cat")
    assert several.negative_prompts == (("beard",) * 4, ("hat",) * 4)
    assert several.for_negative(1, "conjunction_2").negative_prompts == (("hat",) * 4,)
    assert several.for_negative(1, "conjunction_2").concept == "conjunction_2"
    assert several.judge is judge
    assert several.file("table.json").read_text() == "[1]"
    assert of_call.negative_prompts == (("beard", "beard", "wheel", "wheel"),)
    with pytest.raises(UnsupportedModel, match=r"asks for a judge, and none was given; give steer\(..., judge=...\)"):
        _ = of_call.judge
    with pytest.raises(
        UnsupportedModel, match=r"'table.json', and the model has no folder here; give steer\(..., files="
    ):
        of_call.file("table.json")


@quiet
def test_a_guider_says_what_there_is(tmp_path: Path) -> None:
    pipe, found, judge = tiny_modular.pipeline("sdxl", tiny.scheduler("ddim")), [], Nobody()
    (tmp_path / "table.json").write_text("[1]")
    guidance = looking(lambda step, surroundings: found.append(surroundings))
    ours = guider(guidance, "beard", judge=judge, files=tmp_path)
    pipe.update_components(guider=ours)
    tiny_modular.latents(pipe, "sdxl", seeds=(3, 4))
    assert (found[0].seeds, found[0].prompts, found[0].negative_prompts) == (
        (3, 4),
        ("a red hat",) * 2,
        (("beard",) * 2,),
    )
    assert found[0].judge is judge
    assert found[0].file("table.json").read_text() == "[1]"
    copied = guider(ClassifierFreeGuidance(3.0), judge=judge, files=tmp_path).new(start=0.5)
    assert (copied.judge, copied.files) == (judge, tmp_path)


def test_what_is_not_a_judge_or_not_a_folder_is_refused(tmp_path: Path) -> None:
    pipe = tiny.stable_diffusion("ddim")
    for settings, words in (
        ({"judge": print}, "judge is .*a Judge of"),
        ({"files": tmp_path / "no"}, "a folder that exists"),
    ):
        with pytest.raises(InvalidSetting, match=words), steer(pipe, ClassifierFreeGuidance(3.0), **settings):
            pass
        with pytest.raises(InvalidSetting, match=words):
            guider(ClassifierFreeGuidance(3.0), **settings)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "..\\b", "C:\\b", "C:b", "\\b", "", "."])
def test_a_file_never_leaves_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidSetting, match="the path of a file inside the model's folder"):
        Surroundings(1, folder=tmp_path).file(name)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "calibrated").mkdir()
    (tmp_path / "calibrated" / "beta.json").write_text("{}")
    inside = Surroundings(1, folder=tmp_path)
    assert inside.file("calibrated/beta.json") == tmp_path / "calibrated" / "beta.json"
    with pytest.raises(UnsupportedModel, match=r"'calibrated', and .* does not have it"):
        inside.file("calibrated")


def test_noise_is_the_images_own() -> None:
    def step(index: int, images: int) -> Step:
        return Step(Point(torch.zeros(images, 4, 8, 8), 0.6, 0.8, 500, index, 4), "epsilon", 0, lambda names, rows: [])

    together = Surroundings(3, seeds=(7, 8, 9)).noise(step(2, 3))
    assert torch.equal(Surroundings(1, seeds=(8,)).noise(step(2, 1))[0], together[1])
    assert float(together.mean()) == pytest.approx(0, abs=0.15)
    assert float(together.std()) == pytest.approx(1, abs=0.1)
    start = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(8))
    others = [together[0], Surroundings(1, seeds=(8,)).noise(step(3, 1))[0], start]
    assert all(abs(float((together[1] * other).mean())) < 0.25 for other in others)
    with pytest.raises(UnsupportedModel, match="the images' seeds are unknown"):
        Surroundings(3).noise(step(0, 3))
    with pytest.raises(UnsupportedModel, match="nothing here decodes them"):
        Surroundings(3).decode(torch.zeros(3, 2))


@quiet
@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux", "pixart", "sdxl with moments", "sdxl in half precision"])
def test_decoded_latents_are_the_pipelines_own_images(name: str) -> None:
    name, _, how = name.partition(" ")
    pipe, found = tiny.family(name), []
    if how == "with moments":
        pipe.vae.register_to_config(latents_mean=[0.1, -0.2, 0.3, 0.4], latents_std=[0.5, 1.5, 2.0, 0.8])
    if how == "in half precision":  # where the pipeline itself decodes in float32
        pipe.vae.to(torch.float16)
        pipe.vae.register_to_config(force_upcast=True)
    call = {**tiny.call_arguments(name), "prompt": PROMPT, "num_inference_steps": 2, "num_images_per_prompt": 2}
    with steer(pipe, looking(lambda step, surroundings: found.append(surroundings)), max_batch=1):
        latents = pipe(**call, generator=tiny.generators(0, 1), output_type="latent").images
        images = pipe(**call, generator=tiny.generators(0, 1), output_type="pt").images
    with torch.no_grad():
        assert torch.allclose(found[0].decode(latents), images.float(), atol=1e-5)
    assert pipe.vae.dtype == (torch.float16 if how == "in half precision" else torch.float32)


# the two examples, on the shipped model


@pytest.fixture(scope="module")
def portraits() -> Any:
    return load_model("portraits").pipe


@dataclass
class Kept:
    """What an evidence was asked, and said."""

    denoised: list[Tensor] = field(default_factory=list)
    log_odds: list[Tensor] = field(default_factory=list)


def made(pipe: Any, evidence: Any, seeds: tuple[int, ...], **settings: Any) -> tuple[Tensor, Any, Kept]:
    """Images under dynamic negative guidance with an evidence; the run; what the evidence was asked."""
    kept = Kept()

    class Watched(type(evidence)):  # type: ignore[misc]
        def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Any:
            belief = super().update(step, positive, concept, state)
            kept.denoised.append(step.denoised(positive))
            kept.log_odds.append(belief.log_odds)
            return belief

    guidance = DynamicNegativeGuidance(1.0, evidence=Watched())
    with steer(pipe, guidance, "mustache", **settings) as run:
        images = pipe(PROMPT, num_inference_steps=STEPS, num_images_per_prompt=len(seeds),
                      generator=tiny.generators(*seeds), output_type="pt").images  # fmt: skip
    return images, run, kept


def test_the_preview_is_judged_by_the_classifier(portraits: Any) -> None:
    from steerclear.features.portrait_classifier import CLASSIFIER, PortraitClassifier, split_logits

    images, run, kept = made(portraits, PreviewEvidence(), (0, 1, 2))
    classifier = PortraitClassifier.load(Path(portraits.name_or_path) / CLASSIFIER)
    assert run.trace.branches == [("positive", "conjunction")] * STEPS
    assert run.evaluations.tolist() == [2.0 * STEPS] * 3
    with torch.no_grad():
        for index, (denoised, log_odds) in enumerate(zip(kept.denoised, kept.log_odds, strict=True)):
            preview = portraits.vae.decode(denoised / portraits.vae.config.scaling_factor).sample.clamp(-1, 1)
            by_hand = split_logits(classifier(preview))["mustache"]
            assert torch.allclose(log_odds.float(), by_hand, atol=1e-4)
            assert torch.allclose(run.trace.steps[index].info["posterior"], by_hand.sigmoid(), atol=1e-5)
    alone, _, _ = made(portraits, PreviewEvidence(), (1,))
    assert float((alone[0] - images[1]).abs().max()) < 1e-4


def test_the_last_preview_is_the_image(portraits: Any) -> None:
    previews = []

    def look(step: Step, surroundings: Surroundings) -> None:
        previews.append(surroundings.decode(step.denoised(step.predict_one("positive"))))

    with steer(portraits, looking(look)):
        images = portraits(PROMPT, num_inference_steps=STEPS, generator=tiny.generators(0, 1), num_images_per_prompt=2,
                           output_type="pt").images  # fmt: skip
    errors = [float((preview - images).abs().mean()) for preview in previews]
    assert len(previews) == STEPS
    assert errors[-1] < 1e-5
    assert errors[0] > 10 * errors[-1]


def test_the_network_is_asked_at_a_renoised_preview(portraits: Any) -> None:
    images, run, kept = made(portraits, RenoisedEvidence(), (0, 1, 2))
    assert run.evaluations.tolist() == [4.0 * STEPS] * 3
    assert run.forwards == 2 * STEPS
    for step in run.trace.steps:
        level = f"{step.noise_to_signal / 2:.4g}"
        assert step.branches == ("positive", "conjunction", f"positive@{level}", f"conjunction@{level}")
    alone, _, _ = made(portraits, RenoisedEvidence(), (1,))
    assert float((alone[0] - images[1]).abs().max()) < 1e-4
    few, _, _ = made(portraits, RenoisedEvidence(), (0, 1, 2), max_batch=2)
    assert float((few - images).abs().max()) < 1e-4
    assert all(float(log_odds.abs().max()) <= 5 for log_odds in kept.log_odds)
    assert len({float(log_odds[0]) for log_odds in kept.log_odds}) == STEPS


def test_the_renoised_log_odds_by_hand(portraits: Any) -> None:
    """At the last step: two forwards of the network itself, at x' = alpha' x_0 + sigma' noise."""
    _, run, kept = made(portraits, RenoisedEvidence(), (0, 1))
    level = run.trace.levels[-1] / 2
    alpha, sigma, timestep = level_at(portraits.scheduler, level)
    at = Step(
        Point(torch.zeros_like(kept.denoised[-1]), 1, 1, 0, STEPS - 1, STEPS), "epsilon", 0, lambda names, rows: []
    )
    noise = Surroundings(2, seeds=(0, 1)).noise(at)
    x = alpha * kept.denoised[-1] + sigma * noise
    errors = []
    for text in (PROMPT, f"{PROMPT}, mustache"):
        with torch.no_grad():
            v = portraits.unet(
                x, timestep, encoder_hidden_states=portraits.encode_prompt(text, "cpu", 2, False)[0]
            ).sample
        errors.append(norm(sigma * x + alpha * v - noise) ** 2)
    by_hand = ((errors[0] - errors[1]) / 2).clamp(-5, 5)
    assert torch.allclose(kept.log_odds[-1].float(), by_hand, atol=1e-3)


def test_what_is_not_looked_at_costs_nothing(portraits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No decoding, no file and no judge where nobody asks: with a decoder that fails the run is the same, bit for bit."""
    from steerclear.bridges.diffusers import call
    from steerclear.evidence.constant import ConstantEvidence

    def fail(*given: Any) -> Tensor:
        raise AssertionError("decoded")

    expected, plain, _ = made(portraits, ConstantEvidence(), (0, 1))
    own = call.surroundings_of
    monkeypatch.setattr(
        call, "surroundings_of", lambda *args, **settings: replace(own(*args, **settings), decoder=fail)
    )
    images, run, _ = made(portraits, ConstantEvidence(), (0, 1))
    assert torch.equal(images, expected)
    assert torch.equal(run.evaluations, plain.evaluations)
    assert run.forwards == plain.forwards == STEPS
    with pytest.raises(AssertionError, match="decoded"):
        made(portraits, PreviewEvidence(), (0, 1))
