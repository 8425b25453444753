"""Images of steered pipelines are drawn again: which ones, from where, at what cost, and what stays as it was."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tiny
from steerclear.bridges.diffusers import redraw as door
from steerclear.bridges.diffusers.call import PipelineCall
from steerclear.bridges.diffusers.steer import steer
from steerclear.bridges.modular.guider import guider
from steerclear.core.errors import InvalidSetting, PromptError, SteerclearWarning, UnsupportedModel
from steerclear.core.evidence import Belief, Evidence, Surroundings
from steerclear.core.laboratory import Asked
from steerclear.core.records import State, Step
from steerclear.core.redrawing import noise_seed
from steerclear.evidence.constant import ConstantEvidence
from steerclear.guidance.auto import AutoGuidance
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.interval import IntervalGuidance
from steerclear.guidance.redraw import Redraw
from steerclear.guidance.rescaled import RescaledGuidance
from steerclear.guidance.unguided import Unguided
from steerclear.laboratories.classifier import Classifier
from test_families import with_picture

PROMPT, STEPS, SEEDS = "a red hat", 6, (0, 1, 2, 3, 4, 5)
CFG = ClassifierFreeGuidance(2.0)


def brightness(images: Tensor) -> Tensor:
    """uint8 -> the mean over all pixels in [0, 1], ``[n]``."""
    return images.double().mean((1, 2, 3)) / 255


BRIGHT = Classifier(lambda images: {"hat": brightness(images)}, ("hat",))
NEVER = Classifier(lambda images: {"hat": torch.zeros(len(images))}, ("hat",))
ALWAYS = Classifier(lambda images: {"hat": torch.ones(len(images))}, ("hat",))


def arguments(seeds=SEEDS, **settings: Any) -> dict[str, Any]:
    own = {"num_images_per_prompt": len(seeds), "generator": tiny.generators(*seeds), "output_type": "np"}
    return {"num_inference_steps": STEPS, **own, **settings}


def images_of(pipe, guidance, seeds=SEEDS, *, negative="hat", prompt: Any = PROMPT, judge=None, **settings: Any):
    """Images under a guidance, and the run."""
    with steer(pipe, guidance, negative, judge=judge) as run:
        output = pipe(prompt, **arguments(seeds, **settings))
    return output.images, run


def uint8(images: np.ndarray) -> Tensor:
    return torch.from_numpy((images * 255).round().astype("uint8")).permute(0, 3, 1, 2)


def between(pipe, guidance=CFG, seeds=SEEDS, *, rank: int = 3, **settings: Any) -> tuple[np.ndarray, float]:
    """Plain images, and a threshold that flags all but so many of them."""
    plain, _ = images_of(pipe, guidance, seeds, negative=None, **settings)
    ordered = brightness(uint8(plain)).sort().values
    return plain, float((ordered[rank - 1] + ordered[rank]) / 2)


# what is drawn again, and what is kept


@pytest.mark.parametrize("name", ["dpm++", "dpm++-sde"])
def test_images_that_are_not_flagged_stay_bit_for_bit(name):
    pipe = tiny.stable_diffusion(name)
    plain, threshold = between(pipe)
    found, run = images_of(pipe, Redraw(CFG, judge=BRIGHT, threshold=threshold, tries=3))
    flagged = brightness(uint8(plain)) > threshold
    assert 0 < int(flagged.sum()) < len(SEEDS)
    same = torch.tensor([np.array_equal(one, other) for one, other in zip(found, plain, strict=True)])
    assert torch.equal(run.draws == 1, ~flagged)
    assert same[~flagged].all()
    assert torch.equal(run.flagged, brightness(uint8(found)) > threshold)
    # whatever is kept is no more suspicious than what it replaces
    assert (brightness(uint8(found)) <= brightness(uint8(plain))).all()
    assert not same[flagged & ~run.flagged].any()


def test_nothing_is_drawn_again_where_nothing_shows():
    pipe = tiny.stable_diffusion("dpm++")
    plain, _ = images_of(pipe, CFG, negative=None)
    found, run = images_of(pipe, Redraw(CFG, judge=NEVER))
    assert np.array_equal(found, plain)
    assert run.draws.tolist() == [1] * len(SEEDS)
    assert not run.flagged.any()
    assert run.forwards == STEPS


@pytest.mark.parametrize(("tries", "latest"), [(2, 0.0), (4, 0.0), (4, 0.5)])
@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_tries_are_bounded_and_evaluations_counted(name, tries, latest):
    """Every image is flagged always, so each is drawn ``tries`` times; the steps gone through again cost nothing."""
    pipe = tiny.stable_diffusion(name)
    guidance = Redraw(CFG, judge=ALWAYS, tries=tries, latest=latest)
    redrawing = guidance.redrawing()
    begins = [redrawing.begins_at(number, [1.0] * STEPS) for number in range(1, tries)]
    assert begins == {(2, 0.0): [0], (4, 0.0): [0, 0, 0], (4, 0.5): [3, 2, 0]}[tries, latest]
    _, run = images_of(pipe, guidance, (0, 1))
    assert run.draws.tolist() == [tries] * 2
    assert run.flagged.tolist() == [True, True]
    expected = 2 * (tries * STEPS - sum(begins))
    assert run.evaluations.tolist() == [expected] * 2
    assert run.forwards == expected // 2


def test_the_least_suspicious_draw_is_kept(monkeypatch):
    pipe, seen = tiny.stable_diffusion("euler-ancestral"), []

    def look(images: Tensor) -> dict[str, Tensor]:
        seen.append(brightness(images))
        return {"hat": brightness(images).clamp(min=0.01)}

    guidance = Redraw(CFG, judge=Classifier(look, ("hat",)), threshold=1e-3, tries=4)
    found, run = images_of(pipe, guidance, (0, 1, 2))
    assert len(seen) == 4
    assert run.flagged.all()
    assert torch.allclose(brightness(uint8(found)), torch.stack(seen).amin(0))
    assert len(torch.stack(seen).argmin(0).unique()) > 1  # not always the same draw


def test_the_merged_trace_is_of_the_draw_that_is_kept():
    pipe = tiny.stable_diffusion("dpm++-sde")
    _, threshold = between(pipe)
    guidance = Redraw(CFG, judge=BRIGHT, threshold=threshold, tries=2, latest=0.0)
    _, run = images_of(pipe, guidance)
    with steer(pipe, CFG) as plain:
        pipe(PROMPT, **arguments())
    name = "guidance_norm"
    differs = (run.trace.table(name) != plain.trace.table(name)).any(0)
    assert torch.equal(differs | run.flagged, run.draws == 2)
    assert run.evaluations.tolist() == [2 * STEPS * draws for draws in run.draws.tolist()]


# image k of a batch is image k alone


@pytest.mark.parametrize("latest", [0.0, 0.5])
@pytest.mark.parametrize("name", ["ddim", "euler", "dpm++-sde", "euler-ancestral"])
def test_image_k_of_a_batch_is_image_k_alone(name, latest):
    pipe = tiny.stable_diffusion(name)
    _, threshold = between(pipe, rank=2)
    guidance = Redraw(CFG, judge=BRIGHT, threshold=threshold, tries=3, latest=latest)
    batch, run = images_of(pipe, guidance, output_type="latent")
    assert len(run.draws.unique()) > 1
    for k in (0, 3, 5):
        alone, run_alone = images_of(pipe, guidance, SEEDS[k : k + 1], output_type="latent")
        assert int(run_alone.draws) == int(run.draws[k])
        assert torch.allclose(batch[k], alone[0], atol=1e-4 * max(1.0, float(alone.abs().max())))
        assert float(run_alone.evaluations) == float(run.evaluations[k])


def test_several_prompts_are_divided_among_their_images():
    pipe = tiny.stable_diffusion("dpm++")
    prompts, each = ["a red hat", "a blue car", "a cat"], 2
    _, threshold = between(pipe, prompt=prompts, num_images_per_prompt=each)
    guidance = Redraw(CFG, judge=BRIGHT, threshold=threshold, tries=3)
    batch, run = images_of(pipe, guidance, prompt=prompts, num_images_per_prompt=each)
    assert len(run.draws.unique()) > 1
    for k in range(len(SEEDS)):
        alone, _ = images_of(pipe, guidance, SEEDS[k : k + 1], prompt=prompts[k // each])
        assert np.abs(alone[0] - batch[k]).max() < 1e-4


def test_a_negative_prompt_for_each_prompt():
    """Each prompt's own negative is judged: only the second asks for no hat."""
    pipe = tiny.stable_diffusion("dpm++")
    with steer(pipe, Redraw(CFG, judge=ALWAYS, tries=2)) as run:
        pipe(["a cat", "a man"], negative_prompt=["beard", "hat"], **arguments((0, 1), num_images_per_prompt=1))
    assert run.draws.tolist() == [1, 2]


# going through steps again


@pytest.mark.parametrize("name", ["dpm++-sde", "euler-ancestral", "ddpm", "sa", "lcm", "kdpm2-ancestral"])
def test_a_replay_without_fresh_noise_is_the_first_draw_bit_for_bit(name, monkeypatch):
    pipe = tiny.stable_diffusion(name)
    plain, _ = images_of(pipe, CFG, (0, 1, 2), negative=None)
    kept = []
    monkeypatch.setattr(door, "reseed", lambda generators, seeds, replayed: kept.append(replayed))
    drawn = []

    def look(images: Tensor) -> dict[str, Tensor]:
        drawn.append(images)
        return {"hat": torch.ones(len(images)) / len(drawn)}  # each draw less suspicious, so that the last is kept

    guidance = Redraw(CFG, judge=Classifier(look, ("hat",)), threshold=0.01, tries=3, from_step=3)
    found, run = images_of(pipe, guidance, (0, 1, 2))
    assert kept == [True, True]
    assert run.draws.tolist() == [3, 3, 3]
    assert np.array_equal(found, plain)
    assert all(torch.equal(each, uint8(plain)) for each in drawn)


@pytest.mark.parametrize("name", ["dpm++-sde", "euler-ancestral", "ddpm"])
def test_a_replay_keeps_the_latents_up_to_its_step(name):
    """The latents of the first draw until the step, others from there on."""
    pipe, seen = tiny.stable_diffusion(name), []
    see = {"callback_on_step_end": lambda pipe, index, timestep, tensors: seen.append(tensors["latents"].clone()) or {}}
    images_of(pipe, Redraw(CFG, judge=ALWAYS, tries=2, from_step=4), (7,), **see)
    first, second = torch.stack(seen).split(STEPS)
    assert torch.equal(first[:4], second[:4])
    assert (first[4:] - second[4:]).abs().flatten(1).amax(1).min() > 0.1


@pytest.mark.parametrize("step", [1, 3, 5])
@pytest.mark.parametrize("name", ["pndm", "euler", "dpm++", "unipc", "ddim"])
def test_a_restart_lands_at_the_finished_sample_with_noise(name, step):
    """x = alpha x_0 + sigma z at its step, to rounding, with z of the further draw's own seed."""
    pipe, points = tiny.stable_diffusion(name), []

    @dataclass(frozen=True)
    class Watched(ClassifierFreeGuidance):
        name: ClassVar[str] = "watched"

        def __call__(self, here: Step, state: State):
            points.append((here.index, here.substep, here.sample.clone(), here.alpha, here.sigma))
            return super().__call__(here, state)

    ends = []
    see = {"callback_on_step_end": lambda pipe, index, timestep, tensors: ends.append(tensors["latents"].clone()) or {}}
    images_of(pipe, Redraw(Watched(2.0), judge=ALWAYS, tries=2, from_step=step), (7, 8), **see)
    whole = len(points) // 2 if step == 0 else [index for index, *_ in points].index(STEPS - 1) + 1
    index, _, sample, alpha, sigma = points[whole]
    assert index == step
    finished = ends[len(ends) // 2 - 1]
    noise = torch.cat([
        torch.randn(1, *finished.shape[1:], generator=torch.Generator().manual_seed(noise_seed(seed, 1))) for seed in (7, 8)
    ])  # fmt: skip
    expected = alpha * finished + sigma * noise
    assert torch.allclose(sample, expected, atol=1e-4 * float(expected.abs().max()))


def test_the_users_generators_move_on_as_without_drawing_again():
    pipe, states = tiny.stable_diffusion("euler-ancestral"), []
    for guidance in (CFG, Redraw(CFG, judge=ALWAYS, tries=3)):
        own = tiny.generators(*SEEDS)
        with steer(pipe, guidance, "hat" if guidance is not CFG else None):
            pipe(PROMPT, **arguments(generator=own))
        states.append(torch.stack([generator.get_state() for generator in own]))
    assert torch.equal(*states)


def test_a_second_call_with_the_same_generators_draws_other_noise():
    """Generators that were drawn from before are of other images, which must not be drawn again to the same ones."""
    pipe, made = tiny.stable_diffusion("dpm++"), []
    own = tiny.generators(0, 1)
    with steer(pipe, Redraw(CFG, judge=ALWAYS, tries=2, from_step=0), "hat"):
        for _ in range(2):
            rows: list[Tensor] = []
            see = lambda pipe, index, timestep, tensors, rows=rows: rows.append(tensors["latents"].clone()) or {}  # noqa: E731
            pipe(PROMPT, **arguments((0, 1), generator=own, callback_on_step_end=see))
            made.append(rows[-1])
    assert (made[0] - made[1]).abs().max() > 0.1


def test_own_latents_are_kept_in_a_replay_and_dropped_for_fresh_noise():
    seen: list[Tensor] = []
    see = {"callback_on_step_end": lambda pipe, index, timestep, tensors: seen.append(tensors["latents"].clone()) or {}}
    start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    for name, from_step in (("ddpm", 3), ("ddim", 0)):
        pipe = tiny.stable_diffusion(name)
        seen.clear()
        images_of(pipe, Redraw(CFG, judge=ALWAYS, tries=2, from_step=from_step), (0, 1), latents=start.clone(), **see)
        assert torch.equal(seen[0], seen[STEPS]) == (from_step > 0)
        again = [tensor.clone() for tensor in seen[:STEPS]]
        seen.clear()
        images_of(pipe, CFG, (0, 1), negative=None, latents=start.clone(), **see)
        assert all(torch.equal(*pair) for pair in zip(again, seen, strict=True))


# evidences that flag, and that give up


@dataclass(frozen=True)
class Level(Evidence):
    """An image's log-odds: how bright its latents are, times a factor; unknown before the level falls below one."""

    factor: float = 100.0
    offset: float = 0.0
    below: float = 1e9
    once: bool = False

    name: ClassVar[str] = "level"
    paper: ClassVar[str] = "an example of the tests"
    reads_concept: ClassVar[bool] = False

    def begin(self, surroundings: Surroundings) -> State:
        return State()

    def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Belief:
        mean = step.denoised(positive).double().flatten(1).mean(1)
        known = torch.full((len(mean),), step.noise_to_signal < self.below and (step.index == 0 or not self.once))
        return Belief(self.factor * (mean - self.offset), state, known)


@pytest.mark.filterwarnings("ignore:.*does not look at negative prompts:steerclear.core.errors.SteerclearWarning")
def test_an_evidence_flags():
    pipe = tiny.stable_diffusion("dpm++-sde")
    _, run = images_of(pipe, Redraw(CFG, evidence=Level(1.0), tries=1))
    offset = float(run.trace.table("concept")[-1].logit().median())
    level = Level(1.0, offset + 1e-3)
    last = (run.trace.table("concept")[-1].logit() - level.offset).sigmoid()
    assert int((last > 0.5).sum()) == len(SEEDS) // 2
    _, again = images_of(pipe, Redraw(CFG, evidence=level, tries=3))
    assert torch.equal(again.draws > 1, last > 0.5)
    assert torch.equal(again.flagged, again.trace.table("concept")[-1] > 0.5)


def test_what_an_evidence_never_knew_is_not_flagged():
    pipe = tiny.stable_diffusion("dpm++-sde")
    _, run = images_of(pipe, Redraw(CFG, evidence=Level(below=0.0), tries=3))
    assert run.draws.tolist() == [1] * len(SEEDS)


@pytest.mark.parametrize("name", ["ddpm", "dpm++"])
@pytest.mark.filterwarnings("ignore:.*does not look at negative prompts:steerclear.core.errors.SteerclearWarning")
def test_abandoned_draws_cost_less_and_leave_the_others_alone(name):
    """Half of the first draws are given up at their first step; what was not given up is what it was."""
    pipe = tiny.stable_diffusion(name)
    plain, first = images_of(pipe, CFG, negative=None)
    means = []

    @dataclass(frozen=True)
    class Noted(Level):
        name: ClassVar[str] = "noted"

        def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Belief:
            means.append(step.denoised(positive).double().flatten(1).mean(1))
            return super().update(step, positive, concept, state)

    images_of(pipe, Redraw(CFG, evidence=Noted(), tries=1))
    offset = float(means[0].sort().values[2:4].mean())
    guidance = Redraw(CFG, judge=NEVER, abandon=Level(1e6, offset, once=True), abandon_above=0.9, tries=2, latest=0.0)
    found, run = images_of(pipe, guidance)
    gone = run.draws == 2
    assert torch.equal(gone, means[0] > offset)
    # a draw that is given up at its first step has cost that step's two evaluations
    costs = run.evaluations
    assert (costs[gone] == 2 + 2 * STEPS).all()
    untouched = costs[~gone] == 2 * STEPS
    assert untouched.any()
    for row in (~gone).nonzero()[:, 0].tolist():
        assert np.abs(found[row] - plain[row]).max() < 1e-4
    assert not run.flagged.any()
    # how far the guidance moved each is known where the others were given up, too
    moved, before = (one.trace.table("guidance_norm") for one in (run, first))
    assert torch.allclose(moved[:, ~gone], before[:, ~gone], rtol=1e-3)
    assert moved.isfinite().all()


@pytest.mark.parametrize("from_step", [0, 3])
@pytest.mark.filterwarnings("ignore:.*does not look at negative prompts:steerclear.core.errors.SteerclearWarning")
def test_the_last_try_is_drawn_to_its_end_also_after_a_replay(from_step):
    """Hopeless from the third step on: only the last draw comes to an end, and it is the one that is kept."""
    pipe = tiny.stable_diffusion("ddpm")

    @dataclass(frozen=True)
    class Third(Level):
        name: ClassVar[str] = "third"

        def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Belief:
            return Belief(torch.full((len(positive),), 9.0 if step.index >= 2 else -9.0), state)

    guidance = Redraw(CFG, judge=ALWAYS, abandon=Third(), tries=3, from_step=from_step)
    _, run = images_of(pipe, guidance, (0, 1))
    assert run.draws.tolist() == [3, 3]
    assert (run.trace.table("abandoned") == 0).all()
    # the second and the third draw begin at the third step, where the first one was abandoned, or at the start
    costs = [3, 1, STEPS - 2] if from_step else [3, 3, STEPS]
    assert run.evaluations.tolist() == [2 * sum(costs)] * 2
    assert run.trace.table("guidance_norm").isfinite().all()


def test_a_replay_under_autocast_gives_the_pipeline_the_dtype_of_the_first_draw(monkeypatch):
    pipe, guidance = tiny.stable_diffusion("ddpm"), Redraw(CFG, judge=ALWAYS, tries=2, from_step=3)
    seen: list[torch.dtype] = []
    before_step = PipelineCall.before_step

    def see(self: PipelineCall, prediction: Tensor) -> Tensor:
        seen.append(before_step(self, prediction).dtype)
        return before_step(self, prediction)

    monkeypatch.setattr(PipelineCall, "before_step", see)
    with torch.autocast("cpu", torch.bfloat16):
        images_of(pipe, guidance, (0, 1))
    assert seen == [torch.bfloat16] * 2 * STEPS


# what a call may be


@pytest.mark.parametrize("kind", ["pil", "np", "pt", "latent"])
@pytest.mark.parametrize("as_tuple", [False, True])
def test_the_output_keeps_its_type_and_order(kind, as_tuple):
    pipe = tiny.stable_diffusion("dpm++")
    plain, threshold = between(pipe)
    guidance = Redraw(CFG, judge=BRIGHT, threshold=threshold, tries=3)
    expected, reference = images_of(pipe, guidance)
    with steer(pipe, guidance, "hat") as run:
        output = pipe(PROMPT, **arguments(output_type=kind, return_dict=not as_tuple))
    images = output[0] if as_tuple else output.images
    assert isinstance(output, tuple) == as_tuple
    assert torch.equal(run.draws, reference.draws)
    assert isinstance(images, {"pil": list, "np": np.ndarray}.get(kind, Tensor))
    assert len(images) == len(SEEDS)
    if kind == "pil":
        assert all(isinstance(image, Image.Image) for image in images)
        assert np.array_equal(np.stack(images), uint8(expected).permute(0, 2, 3, 1).numpy())
    elif kind == "pt":
        assert np.allclose(images.permute(0, 2, 3, 1).numpy(), expected, atol=1e-6)
    elif kind == "latent":
        assert images.shape[1] == 4
        assert not np.allclose(plain, expected)


def test_flags_are_of_the_images_as_they_are_saved():
    """Whatever the type of the output, the judge sees the pixels of the PNG."""
    pipe, seen = tiny.stable_diffusion("dpm++"), {}
    for kind in ("pil", "np", "pt", "latent"):

        def look(images: Tensor, kind: str = kind) -> dict[str, Tensor]:
            seen[kind] = images
            return {"hat": torch.zeros(len(images))}

        images_of(pipe, Redraw(CFG, judge=Classifier(look, ("hat",))), output_type=kind)
    assert all(one.dtype == torch.uint8 and one.shape == (6, 3, 16, 16) for one in seen.values())
    assert torch.equal(seen["pil"], seen["np"])
    assert torch.equal(seen["pil"], seen["pt"])
    assert int((seen["pil"].int() - seen["latent"].int()).abs().max()) <= 1


VARIANTS = [
    (name, variant)
    for name, variants in {
        "sd": ("img2img", "inpaint", "controlnet", "controlnet-multi", "controlnet-img2img"),
        "sdxl": ("text2img", "inpaint"),
        "sd3": ("text2img", "controlnet"),
        "flux": ("text2img", "img2img", "fill"),
        "pixart": ("text2img",),
        "classes": ("text2img",),
        "dit": ("class",),
    }.items()
    for variant in variants
]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
@pytest.mark.filterwarnings("ignore::steerclear.core.errors.SteerclearWarning")
def test_every_family_draws_again(name, variant):
    """Flagged images become others, the rest stays bit for bit, and alone each is what it is in its batch."""
    pipe, kind = tiny.family(name, variant), tiny.FAMILIES[name]
    seen: list[Tensor] = []

    def look(images: Tensor) -> dict[str, Tensor]:
        seen.append(brightness(images))
        return {"hat" if kind.negative else "hen": brightness(images)}

    def call(guidance, rows, *, negative=True):
        own = {"num_inference_steps": 4, **tiny.call_arguments(name, variant), "generator": tiny.generators(*rows)}
        own |= {"output_type": "np"}
        own |= (
            {"prompt": PROMPT, "num_images_per_prompt": len(rows)} if kind.batch else {"class_labels": [3] * len(rows)}
        )
        unwanted = {"negative_prompt": "hat"} if kind.negative else {"negative_class_labels": "hen"}
        torch.manual_seed(0)
        with steer(pipe, guidance, **(unwanted if negative else {})) as run:
            return pipe(**own).images, run

    rows = (0, 1, 2)
    plain, _ = call(Unguided(), rows, negative=False)
    ordered = brightness(uint8(plain)).sort().values
    judge = Classifier(look, ("hat" if kind.negative else "hen",))
    guidance = Redraw(judge=judge, threshold=float((ordered[0] + ordered[1]) / 2), tries=2)
    found, run = call(guidance, rows)
    flagged = brightness(uint8(plain)) > guidance.threshold
    assert torch.equal(run.draws > 1, flagged)
    assert len(seen[0]) == 3
    assert len(seen[1]) == int(flagged.sum()) == 2
    for row in range(3):
        assert flagged[row] or np.array_equal(found[row], plain[row])
    if (name, variant) in (("sd3", "controlnet"), ("flux", "img2img")):
        return  # diffusers draws all pictures' latents from no generator, or from the first one
    row = int(flagged.nonzero()[0])
    alone, _ = call(guidance, (row,))
    assert np.abs(alone[0] - found[row]).max() < 1e-3


def test_pictures_go_with_their_images():
    """Image to image with a picture for each prompt: an image that is drawn again begins from its own."""
    pipe = tiny.family("sd", "img2img", "dpm++-sde")
    pictures = [tiny.picture("red"), tiny.picture("blue"), tiny.picture("green")]
    prompts = ["a red hat", "a blue car", "a cat"]
    settings = {"strength": 0.7, "num_images_per_prompt": 1}
    guidance = Redraw(CFG, judge=ALWAYS, tries=3, latest=0.5)
    batch, run = images_of(pipe, guidance, (0, 1, 2), prompt=prompts, image=pictures, **settings)
    assert run.draws.tolist() == [3] * 3
    for k in range(3):
        alone, _ = images_of(pipe, guidance, (k,), prompt=prompts[k], image=pictures[k], **settings)
        assert np.abs(alone[0] - batch[k]).max() < 1e-4


def test_embeddings_go_with_their_images():
    pipe = tiny.stable_diffusion("dpm++")
    prompts = ["a red hat", "a blue car", "a cat"]
    encoded = [pipe.encode_prompt(text, "cpu", 1, True, "") for text in prompts]
    positive, empty = (torch.cat([each[place] for each in encoded]) for place in (0, 1))
    _, threshold = between(pipe, prompt=prompts, num_images_per_prompt=2)
    guidance = Redraw(CFG, tries=2, threshold=threshold)
    settings = {"num_images_per_prompt": 2, "judge": BRIGHT_JUDGE, "negative": ["hat"]}
    expected, run = images_of(pipe, guidance, prompt=prompts, **settings)
    assert len(run.draws.unique()) > 1
    with pytest.warns(SteerclearWarning, match="prompt_embeds are given without"):
        found, again = images_of(pipe, guidance, prompt=None, prompt_embeds=positive, **settings)
    assert torch.equal(run.draws, again.draws)
    assert np.abs(found - expected).max() < 1e-4
    assert empty.shape == positive.shape


def test_the_picture_of_an_ip_adapter_stays_with_its_prompt():
    pipe = tiny.family("sd", "text2img", "dpm++")
    picture = with_picture("sd", pipe)
    guidance = Redraw(CFG, judge=ALWAYS, tries=2)
    batch, run = images_of(pipe, guidance, (0, 1), **picture)
    assert run.draws.tolist() == [2, 2]
    alone, _ = images_of(pipe, guidance, (1,), **picture)
    assert np.abs(alone[0] - batch[1]).max() < 1e-4
    with (
        steer(pipe, guidance, "hat") as run,
        pytest.raises(UnsupportedModel, match="call the pipeline once for each prompt"),
    ):
        pipe(["a cat", "a man"], **arguments((0, 1), num_images_per_prompt=1), **picture)
    assert run.forwards == 0
    several = tiny.family("sd", "controlnet-multi")
    own = {**tiny.call_arguments("sd", "controlnet-multi"), **arguments((0, 1), num_images_per_prompt=1)}
    with steer(several, guidance, "hat") as run, pytest.raises(UnsupportedModel, match="several ControlNets"):
        several(["a cat", "a man"], **own)
    assert run.forwards == 0


def test_a_picture_for_each_prompt_of_a_controlnet():
    pipe = tiny.family("sd", "controlnet", "dpm++")
    pictures, prompts = [tiny.picture("red"), tiny.picture("blue")], ["a red hat", "a blue car"]
    guidance = Redraw(CFG, judge=ALWAYS, tries=2)
    batch, _ = images_of(pipe, guidance, (0, 1, 2, 3), prompt=prompts, image=pictures, num_images_per_prompt=2)
    for k in (1, 2):
        settings = {"prompt": prompts[k // 2], "image": pictures[k // 2]}
        alone, _ = images_of(pipe, guidance, (k,), **settings)
        assert np.abs(alone[0] - batch[k]).max() < 1e-4


BRIGHT_JUDGE = BRIGHT.judge(None, Asked("", ("hat",)))  # type: ignore[arg-type]  # it asks for nothing of the model


def test_a_largest_batch_and_the_judge_of_the_block():
    pipe = tiny.stable_diffusion("dpm++")
    _, threshold = between(pipe)
    own = Redraw(CFG, judge=BRIGHT, threshold=threshold, tries=2)
    expected, run = images_of(pipe, own)
    with steer(pipe, replace(own, judge=None), "hat", judge=BRIGHT_JUDGE, max_batch=4) as small:
        found = pipe(PROMPT, **arguments()).images
    assert np.abs(found - expected).max() < 1e-4
    assert torch.equal(small.draws, run.draws)
    assert small.forwards > run.forwards


# what cannot work


def test_what_cannot_be_drawn_again_is_refused_before_the_network_runs():
    pipe = tiny.stable_diffusion("dpm++")
    plain = Redraw(CFG, judge=BRIGHT)
    wrong = [
        (
            replace(plain, judge=None),
            "hat",
            {},
            UnsupportedModel,
            r"nobody says which images .* Redraw\(\.\.\., judge=\.\.\.\)",
        ),
        (plain, None, {}, PromptError, r"there is none; give steer\(\.\.\., negative_prompt=\.\.\.\)"),
        (plain, "hat", {"generator": None}, InvalidSetting, r"generator=\[torch\.Generator\(\)\.manual_seed\(seed\)"),
        (
            plain,
            "hat",
            {"generator": torch.Generator()},
            InvalidSetting,
            "number of generators is 1, but must be 6, one for each",
        ),
        (Redraw(CFG, evidence=Level()), None, {}, PromptError, "there is none"),
    ]
    for guidance, negative, settings, kind, message in wrong:
        with steer(pipe, guidance, negative) as run, pytest.raises(kind, match=message):
            pipe(PROMPT, **arguments(**settings))
        assert run.forwards == 0
    embeddings = pipe.encode_prompt("hat", "cpu", 1, False)[0]
    with steer(pipe, plain) as run, pytest.raises(PromptError, match="as embeddings, so a laboratory cannot read"):
        pipe(PROMPT, negative_prompt_embeds=embeddings, **arguments())
    assert run.forwards == 0


def test_a_refusal_of_the_laboratory_says_why():
    @dataclass(frozen=True)
    class Refusing(Classifier):
        name = "refusing"

        def refuses(self, model, asked):
            return f"it knows no {asked.prompt}"

    pipe = tiny.stable_diffusion("dpm++")
    refusing = Refusing(BRIGHT.probabilities, ("hat",))
    with (
        steer(pipe, Redraw(CFG, judge=refusing), "hat") as run,
        pytest.raises(UnsupportedModel, match="it knows no a red hat"),
    ):
        pipe(PROMPT, **arguments())
    assert run.forwards == 0


def test_a_judge_that_knows_none_of_the_concepts_is_said():
    pipe = tiny.stable_diffusion("dpm++")
    with pytest.warns(SteerclearWarning, match="the judge knows none of the concepts that the negative prompts name"):
        _, run = images_of(pipe, Redraw(CFG, judge=ALWAYS), negative="beard")
    assert run.draws.tolist() == [1] * len(SEEDS)


@pytest.mark.parametrize(
    ("name", "variant", "scheduler"),
    [
        ("sd", "img2img", "ddim"),
        ("sd", "inpaint", "euler"),
        ("sd", "inpaint", "dpm++-sde"),
        ("flux", "fill", None),
        ("dit", "class", "ddim"),
    ],
)
def test_pictures_and_classes_are_rewound_too(name, variant, scheduler):
    """These pipelines take no noise to begin with; half of their steps are gone through again all the same."""
    pipe, kind = tiny.family(name, variant, scheduler), tiny.FAMILIES[name]
    concept = "hat" if kind.negative else "hen"
    judge = Classifier(lambda images: {concept: torch.ones(len(images))}, (concept,))
    own = {"num_inference_steps": STEPS, **tiny.call_arguments(name, variant), "generator": tiny.generators(0, 1)}
    own |= {"prompt": PROMPT, "num_images_per_prompt": 2} if kind.batch else {"class_labels": [3, 5]}
    with steer(
        pipe,
        Redraw(judge=judge, tries=2, latest=0.5, from_step=2),
        **({"negative_prompt": "hat"} if kind.negative else {"negative_class_labels": "hen"}),
    ) as run:
        pipe(**own, output_type="np")
    assert run.evaluations.tolist() == [2 * len(run.trace.steps) - 2] * 2


def test_the_end_of_a_run_before_its_last_step_is_refused():
    pipe = tiny.family("sdxl")
    with steer(pipe, Redraw(CFG, judge=BRIGHT), "hat") as run, pytest.raises(UnsupportedModel, match="denoising_end"):
        pipe(PROMPT, denoising_end=0.5, **arguments())
    assert run.forwards == 0


def test_wrappers_draw_again():
    """An interval and autoguidance pass it on; the rescaling of the call acts on what draws."""
    pipe = tiny.stable_diffusion("ddpm")
    inside = IntervalGuidance(Redraw(CFG, judge=ALWAYS, tries=2, latest=0.0), 0.5, 1.0)
    _, run = images_of(pipe, inside, (0, 1))
    assert run.evaluations.tolist() == [2 * (3 + 2 * 3)] * 2
    weak = tiny.unet(seed=8, channels=(4, 8))
    with steer(pipe, AutoGuidance(2.0, Redraw(CFG, judge=ALWAYS, tries=2, latest=0.0)), "hat", weak) as run:
        pipe(PROMPT, **arguments((0, 1)))
    assert run.evaluations.tolist() == [2 * 3 * STEPS] * 2
    abandoning = Redraw(CFG, judge=ALWAYS, tries=2, latest=0.0, abandon=ConstantEvidence(0.99))
    found, run = images_of(pipe, abandoning, (0, 1), guidance_rescale=0.7)
    assert run.draws.tolist() == [2, 2]
    assert run.evaluations.tolist() == [2 + 2 * STEPS] * 2
    assert (
        run.trace.table("abandoned") == 0
    ).all()  # an abandoned draw loses against one that surely shows the concept
    plain, _ = images_of(pipe, replace(abandoning, guidance=RescaledGuidance(CFG, 0.7)), (0, 1))
    assert np.array_equal(found, plain)


@pytest.mark.parametrize(
    "own", [{"evidence": ConstantEvidence(0.9)}, {"judge": NEVER, "abandon": ConstantEvidence(0.9)}]
)
def test_nothing_stands_around_what_an_evidence_flags_or_abandons(own):
    inside = Redraw(CFG, **own)
    for wrap in (AutoGuidance, RescaledGuidance, IntervalGuidance):
        with pytest.raises(
            InvalidSetting, match=f"put redraw outermost.* with '{list(own)[-1]}' it follows every step"
        ):
            wrap(inner=inside)
        assert wrap(inner=replace(inside, tries=1)).inner.tries == 1


@pytest.mark.parametrize("tries", [1, 3])
def test_an_evidence_with_no_concept_to_look_for_is_refused(tries):
    pipe = tiny.stable_diffusion("dpm++")
    with (
        steer(pipe, Redraw(CFG, judge=NEVER, abandon=ConstantEvidence(0.9), tries=tries)) as run,
        pytest.raises(PromptError, match=r"there is none; give steer\(\.\.\., negative_prompt="),
    ):
        pipe(PROMPT, **arguments((0, 1)))
    assert run.forwards == 0


def test_guiders_refuse_to_draw_again():
    with pytest.raises(UnsupportedModel, match=r"steerclear\.steer"):
        guider(Redraw(CFG, judge=BRIGHT), "hat")
    assert guider(Redraw(CFG, judge=BRIGHT, tries=1), "hat").guidance.tries == 1


def test_a_run_of_one_draw_says_nothing_of_draws():
    pipe = tiny.stable_diffusion("dpm++")
    _, run = images_of(pipe, CFG, negative=None)
    assert run.draws is None
    assert run.flagged is None
    _, run = images_of(pipe, Redraw(CFG, judge=BRIGHT, tries=1), negative=None)
    assert run.draws is None


def test_an_interrupted_call_draws_nothing_more():
    """By a callback, in the first draw or in a further one: what was finished before is kept."""
    pipe, steps = tiny.stable_diffusion("dpm++"), []

    def stop_at(which: int):
        def see(pipe, index, timestep, tensors):
            steps.append(index)
            if len(steps) == which:
                pipe._interrupt = True
            return {}

        steps.clear()
        return {"callback_on_step_end": see}

    guidance = Redraw(CFG, judge=ALWAYS, tries=4, latest=0.0)
    _, run = images_of(pipe, guidance, (0, 1), **stop_at(2))
    assert run.draws.tolist() == [1, 1]
    assert len(steps) == 2
    plain, _ = images_of(pipe, CFG, (0, 1), negative=None)
    found, run = images_of(pipe, guidance, (0, 1), **stop_at(STEPS + 2))
    assert np.array_equal(found, plain)
    assert run.draws.tolist() == [1, 1]
    assert run.flagged.tolist() == [True, True]
    assert run.forwards == STEPS + 2
