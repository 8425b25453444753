"""Every family of pipelines, and all its variants: against diffusers itself, bit by bit."""

import copy
import gc
import warnings
import weakref
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import tiny
from mutants import Mutant
from skeleton_network import FaintSample
from steerclear.bridges.diffusers.asking import check_prompt
from steerclear.bridges.diffusers.steer import steer
from steerclear.bridges.families import FAMILIES
from steerclear.core.errors import InvalidSetting, PromptError, SteerclearWarning, UnknownName, UnsupportedModel
from steerclear.guidance.auto import AutoGuidance
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.guidance.interval import IntervalGuidance
from steerclear.guidance.negative_prompt import NegativePromptGuidance
from steerclear.guidance.unguided import Unguided
from trajectories import CFG, NEGATIVE, PROMPT, SCALE, STEPS, equal, furthest, steered, trajectory

THREE_BRANCHES = NegativePromptGuidance(SCALE, negative_scale=1.5)
CLOSE = 1e-5

quiet = pytest.mark.filterwarnings("ignore::steerclear.core.errors.SteerclearWarning")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Case:
    """One comparison with a pipeline's own classifier-free guidance."""

    family: str
    variant: str
    scheduler: str | None = None
    images: int = 1
    negative: str | None = None
    rescale: float = 0.0

    def __str__(self) -> str:
        return "-".join(str(part) for part in vars(self).values() if part)

    def own_call(self, pipe) -> dict:
        """The arguments by which the pipeline itself guides; Flux does so only when it has a negative prompt."""
        kind = tiny.FAMILIES[self.family]
        rescale = {"guidance_rescale": self.rescale} if self.rescale else {}
        if kind.scale not in tiny.parameters(pipe):
            return rescale
        absent = "" if kind.scale == "true_cfg_scale" else tiny.default(pipe, "negative_prompt")
        negative = {"negative_prompt": absent if self.negative is None else self.negative} if kind.negative else {}
        return {kind.scale: SCALE, **negative, **rescale}


def variants():
    """(family, variant) of all."""
    for name, kind in tiny.FAMILIES.items():
        yield from ((name, variant) for variant in kind.variants)


def has_own_guidance(name: str, variant: str) -> bool:
    """Two of Flux's ControlNet pipelines and the one that fills have none at all."""
    kind = tiny.FAMILIES[name]
    return kind.scale in tiny.parameters(tiny.pipeline_class(kind.variants[variant].pipeline))


def several_images(name: str, variant: str) -> int:
    """diffusers' own image-to-image pipeline of SD 3 fails with more than one image a prompt."""
    return 1 if (name, variant) == ("sd3", "img2img") else 2


EACH = tuple(tiny.one_of_each().values())
READING = tuple(name for name in EACH if name in tiny.READING)
GUIDED = [pair for pair in variants() if has_own_guidance(*pair)]
CASES = [
    *(Case(*pair) for pair in GUIDED),
    *(Case(*pair, images=several_images(*pair), negative="beard") for pair in GUIDED if pair[0] in tiny.WITH_TEXT),
    *(Case("sdxl", "text2img", name) for name in ("ddim", "ddpm", "dpm++-sde", "heun", "unipc", "kdpm2-ancestral")),
    *(Case("sdxl", "img2img", name, negative="beard") for name in ("dpm++-karras", "lms")),
    Case("sd3", "text2img", "flow-heun"),
    Case("sd3", "text2img", "dpm++-flow", 2, "beard"),
    *(Case("pixart", "text2img", name, 2, "beard") for name in ("ddim", "euler", "deis", "sa")),
    *(Case("dit", "class", name, 2) for name in ("euler", "ddpm", "dpm++", "pndm")),
    *(Case("sd", "text2img", name, 2, "beard", 0.7) for name in ("ddim", "euler-ancestral", "dpm++")),
    *(Case("sdxl", variant, None, 2, negative, 0.7) for variant in ("text2img", "img2img", "inpaint-wide")
      for negative in (None, "beard")),
]  # fmt: skip


@quiet
@pytest.mark.parametrize("case", CASES, ids=str)
def test_plain_guidance_is_bit_identical_to_the_pipelines_own(case):
    pipe = tiny.family(case.family, case.variant, case.scheduler)
    arguments = case.own_call(pipe)
    expected = trajectory(case.family, case.variant, pipe, images=case.images, **arguments)
    guidance = CFG if case.negative is None else NEGATIVE
    with steer(pipe, guidance) as run:
        found = trajectory(case.family, case.variant, pipe, images=case.images, **arguments)
    assert equal(found, expected)
    assert set(run.trace.branches) == {("empty" if case.negative is None else "negative", "positive")}


def without_tiny(kinds):
    """Pipelines that steerclear declares and that no tiny one stands for: its families, and the classes."""
    there = {variant.pipeline for kind in kinds.values() for variant in kind.variants.values()}
    lacking = [family.name for family in FAMILIES if family.name not in tiny.one_of_each(kinds)]
    return lacking, [name for family in FAMILIES for name in family.pipelines if name not in there]


def test_every_declared_pipeline_has_a_tiny_one():
    assert without_tiny(tiny.FAMILIES) == ([], [])


def test_a_family_without_a_tiny_pipeline_is_noticed():
    without = {name: kind for name, kind in tiny.FAMILIES.items() if not name.startswith("pixart")}
    assert without_tiny(without) == (["PixArt"], ["PixArtAlphaPipeline", "PixArtSigmaPipeline"])


def test_the_table_covers_what_it_should():
    assert len(CASES) >= 60
    assert {(case.family, case.variant) for case in CASES} == set(GUIDED)
    assert len({case.scheduler for case in CASES}) > 15


@quiet
@pytest.mark.parametrize(
    "pair", [pair for pair in GUIDED if "controlnet" not in pair[1] and pair[0] in tiny.WITH_TEXT], ids="-".join
)
def test_it_does_not_matter_who_is_given_the_negative_prompt(pair):
    """Nor whether the pipeline guides by itself: what it does not encode is encoded in the same way."""
    pipe = tiny.family(*pair)
    images = several_images(*pair)
    case = Case(*pair, images=images, negative="beard")
    expected = trajectory(*pair, pipe, images=images, **case.own_call(pipe))
    off = {tiny.FAMILIES[pair[0]].scale: 1.0}
    assert equal(steered(*pair, pipe, NEGATIVE, "beard", images=images)[0], expected)
    assert equal(steered(*pair, pipe, NEGATIVE, "beard", images=images, **off)[0], expected)
    assert equal(steered(*pair, pipe, NEGATIVE, images=images, negative_prompt="beard", **off)[0], expected)
    plain = trajectory(*pair, pipe, images=images, **Case(*pair).own_call(pipe))
    assert equal(steered(*pair, pipe, CFG, images=images, **off)[0], plain)
    assert furthest(plain, expected) > 1e-3  # the negative prompt has an effect on these tiny networks


@quiet
@pytest.mark.parametrize(
    "pair", [pair for pair in GUIDED if "controlnet" in pair[1] and pair[0] != "flux-distilled"], ids="-".join
)
def test_a_controlnet_reads_further_texts_as_the_pipeline_has_it_read_its_own(pair):
    pipe = tiny.family(*pair)
    images = several_images(*pair)
    expected = trajectory(*pair, pipe, images=images, **Case(*pair, negative="beard").own_call(pipe))
    found, run = steered(*pair, pipe, NEGATIVE, "beard", images=images)
    assert furthest(found, expected) <= CLOSE
    assert run.forwards == (2 if pair[0] == "flux" else 1) * len(run.trace.steps)
    in_parts, _ = steered(*pair, pipe, NEGATIVE, "beard", images=images, steer_settings={"max_batch": 1})
    assert furthest(in_parts, expected) <= CLOSE
    if pair[0] in ("sd", "sdxl"):  # SD 3 draws noise for the picture of each part of its batch
        off, _ = steered(*pair, pipe, NEGATIVE, "beard", images=images, guidance_scale=1.0)
        assert furthest(off, expected) <= CLOSE
    assert not any("_compiled_call_impl" in vars(network) for network in (pipe.controlnet, tiny.network_of(pipe)))


@quiet
def test_nothing_is_held_after_the_block():
    """Not the pipeline, its networks, its ControlNet's last outputs, nor a weak network."""
    pipe, weak = tiny.family("sd", "controlnet"), tiny.unet(seed=8)
    outputs = []
    pipe.controlnet.register_forward_hook(lambda *call: outputs.append(weakref.ref(call[-1][1])))
    _, run = steered(
        "sd", "controlnet", pipe, AutoGuidance(2.0, THREE_BRANCHES), "beard", steer_settings={"weak": weak}
    )
    alive = [weakref.ref(thing) for thing in (pipe, pipe.unet, pipe.controlnet, pipe.scheduler, weak)]
    del pipe, weak
    gc.collect()
    assert [reference() for reference in (*alive, *outputs)] == [None] * (5 + len(outputs))
    assert len(outputs) == 2 * len(run.trace.steps)  # the pipeline's own call, and one for the further text


@quiet
@pytest.mark.parametrize("pair", [pair for pair in variants() if not has_own_guidance(*pair)], ids="-".join)
def test_pipelines_without_guidance_of_their_own_can_be_guided(pair):
    pipe = tiny.family(*pair)
    expected = trajectory(*pair, pipe)
    assert equal(steered(*pair, pipe, Unguided())[0], expected)
    found, run = steered(*pair, pipe, THREE_BRANCHES, "beard")
    assert run.evaluations.tolist() == [3.0 * len(run.trace.steps)]
    assert furthest(found, expected) > 1e-3


@quiet
@pytest.mark.parametrize(("mistake", "same"), [("none", True), ("branches swapped", False), ("scale", False)])
@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_mistakes_are_caught_in_each_family(name, mistake, same):
    pair = (name, next(iter(tiny.FAMILIES[name].variants)))
    pipe = tiny.family(*pair)
    expected = trajectory(*pair, pipe, **Case(*pair).own_call(pipe))
    found, _ = steered(*pair, pipe, Mutant(SCALE, mistake=mistake))
    assert equal(found, expected) == same
    assert (furthest(found, expected) <= 1e-6) == same


# against loops written by hand


@dataclass
class ByHand:
    """One family's sampling, written as its paper would: for one image, any network, any texts.

    ``ask`` evaluates texts in one batch, or one after another where the pipeline does.
    """

    name: str
    pipe: object

    def texts(self, text: str | None) -> dict:
        """The conditions of a text; None for the unconditional ones."""
        pipe, absent = self.pipe, text is None
        own = {"device": "cpu", "num_images_per_prompt": 1}
        if self.name == "sd":
            return {"encoder_hidden_states": pipe.encode_prompt(text or "", "cpu", 1, False)[0]}
        if self.name == "sdxl":
            embeds, _, pooled, _ = pipe.encode_prompt(text or "", do_classifier_free_guidance=False, **own)
            conditions = {"encoder_hidden_states": embeds, "text_embeds": pooled}
            return {key: torch.zeros_like(value) for key, value in conditions.items()} if absent else conditions
        if self.name == "sd3":
            settings = {"do_classifier_free_guidance": False, "max_sequence_length": 32}
            embeds, _, pooled, _ = pipe.encode_prompt(text or "", None, None, **settings, **own)
            return {"encoder_hidden_states": embeds, "pooled_projections": pooled}
        if self.name == "flux":
            embeds, pooled, _ = pipe.encode_prompt(text or "", max_sequence_length=32, **own)
            return {"encoder_hidden_states": embeds, "pooled_projections": pooled}
        if self.name == "pixart":
            embeds, mask, _, _ = pipe.encode_prompt(text or "", False, **own)
            return {"encoder_hidden_states": embeds, "encoder_attention_mask": mask}
        return {"class_labels": torch.tensor([1000 if absent else int(text)])}

    def evaluate(self, network, sample, timestep, conditions):
        """The prediction for some rows."""
        rows = len(sample)
        if self.name == "sd":
            return network(sample, timestep, **conditions).sample
        if self.name == "sdxl":
            added = {
                "text_embeds": conditions["text_embeds"],
                "time_ids": torch.tensor([[16.0, 16, 0, 0, 16, 16]] * rows),
            }
            embeds = conditions["encoder_hidden_states"]
            return network(sample, timestep, encoder_hidden_states=embeds, added_cond_kwargs=added).sample
        if self.name == "flux":
            ids = {"txt_ids": torch.zeros(32, 3), "img_ids": self.image_ids}
            return network(hidden_states=sample, timestep=timestep.expand(rows) / 1000, **conditions, **ids).sample
        if self.name == "pixart":
            added = {"resolution": None, "aspect_ratio": None}
            whole = network(sample, timestep=timestep.expand(rows), added_cond_kwargs=added, **conditions).sample
            return whole[:, :4]
        return network(hidden_states=sample, timestep=timestep.expand(rows), **conditions).sample[:, :16][
            :, : self.channels
        ]

    @property
    def channels(self) -> int:
        return 16 if self.name == "sd3" else 4

    def ask(self, network, sample, timestep, *texts):
        conditions = [self.texts(text) for text in texts]
        if self.name == "flux":
            return [self.evaluate(network, sample, timestep, each) for each in conditions]
        together = {key: torch.cat([each[key] for each in conditions]) for key in conditions[0]}
        return self.evaluate(network, torch.cat([sample] * len(texts)), timestep, together).chunk(len(texts))

    @torch.no_grad()
    def run(self, guide) -> torch.Tensor:
        """The end of a trajectory; ``guide(ask)`` gives each step's prediction."""
        scheduler, generator = self.pipe.scheduler, tiny.generators(0)[0]
        if self.name == "flux":
            shape = (1, 4, 16, 16, torch.float32, "cpu", generator)
            sample, self.image_ids = self.pipe.prepare_latents(*shape)
            scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / STEPS, STEPS))
        else:
            scheduler.set_timesteps(STEPS)
            sample = torch.randn(1, self.channels, 8, 8, generator=generator)
            sample = sample * getattr(scheduler, "init_noise_sigma", 1.0)
        for timestep in scheduler.timesteps:
            scaled = (
                scheduler.scale_model_input(sample, timestep) if hasattr(scheduler, "scale_model_input") else sample
            )

            def ask(*texts, network=None, scaled=scaled, timestep=timestep):
                own = tiny.network_of(self.pipe)
                return self.ask(network or own, scaled, timestep, *texts)

            sample = scheduler.step(guide(ask), timestep, sample, return_dict=False)[0]
        return sample


def by_hand(name):
    """A pipeline and its loop."""
    pair = (name, next(iter(tiny.FAMILIES[name].variants)))
    pipe = tiny.family(*pair)
    return pair, pipe, ByHand(name, pipe)


def end(name: str, found: list) -> torch.Tensor:
    """The last latents: of DiT, which gives pictures, the first part of what its scheduler reached."""
    return found[-2][:1] if name == "dit" else found[-1]


BY_HAND = [("sd", 0.0), ("sdxl", 0.0), ("sd3", CLOSE), ("flux", CLOSE), ("pixart", CLOSE), ("dit", CLOSE)]


@quiet
@pytest.mark.parametrize(("name", "allowed"), BY_HAND)
def test_three_branches_by_hand(name, allowed):
    pair, pipe, hand = by_hand(name)
    classes = name == "dit"
    positive, negative = ("3", "7") if classes else (PROMPT, "beard")

    def guide(ask):
        empty, prompt, concept = ask(None, positive, negative)
        return empty + SCALE * (prompt - empty) - 1.5 * (concept - empty)

    given = {"negative_class_labels": "cock"} if classes else {"negative_prompt": "beard"}
    found, run = steered(*pair, pipe, THREE_BRANCHES, steer_settings=given)
    assert run.trace.branches == [("empty", "positive", "negative")] * STEPS
    difference = (end(name, found) - hand.run(guide)).abs().max()
    assert float(difference) <= allowed


@quiet
@pytest.mark.parametrize(("name", "allowed"), BY_HAND)
def test_two_networks_by_hand(name, allowed):
    pair, pipe, hand = by_hand(name)
    own = tiny.network_of(pipe)
    weak = copy.deepcopy(own)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in weak.parameters():
            parameter += 0.1 * torch.randn_like(parameter) * parameter.std(correction=0)
    positive = "3" if name == "dit" else PROMPT

    def guide(ask):
        (bad,) = ask(positive, network=weak)
        (good,) = ask(positive)
        return good + 1.5 * (good - bad)  # bad + 2.5 (good - bad), in the order that rounds as ours does

    found, run = steered(*pair, pipe, AutoGuidance(2.5), steer_settings={"weak": weak})
    assert run.evaluations.tolist() == [2.0 * STEPS]  # the one evaluation that is not reused is the weak one
    assert float((end(name, found) - hand.run(guide)).abs().max()) <= allowed


@quiet
@pytest.mark.parametrize("name", READING)
def test_a_conjunction_by_hand(name):
    from steerclear.evidence.constant import ConstantEvidence

    pair, pipe, hand = by_hand(name)

    def guide(ask):
        prompt, both = ask(PROMPT, f"{PROMPT}, beard")
        return prompt - (both - prompt)

    found, _ = steered(*pair, pipe, DynamicNegativeGuidance(1.0, evidence=ConstantEvidence(0.5)), "beard")
    assert float((end(name, found) - hand.run(guide)).abs().max()) <= CLOSE


# what runs, and how often


@quiet
@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_an_interval_of_half_of_the_steps_runs_one_and_a_half_branches_a_step(name):
    pair = (name, next(iter(tiny.FAMILIES[name].variants)))
    _, run = steered(*pair, tiny.family(*pair), IntervalGuidance(CFG, 0.5, 1.0), num_inference_steps=4)
    assert (run.evaluations / len(run.trace.steps)).tolist() == [1.5]


@quiet
@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_image_k_of_a_batch_is_image_k_alone(name):
    pair = (name, next(iter(tiny.FAMILIES[name].variants)))
    pipe = tiny.family(*pair)
    given = {"negative_prompt": "beard"} if name in tiny.WITH_TEXT else {"negative_class_labels": 7}
    batch, run = steered(*pair, pipe, THREE_BRANCHES, steer_settings={**given, "max_batch": 2}, images=3)
    alone = {} if name in tiny.WITH_TEXT else {"class_labels": [7]}
    one, run_alone = steered(*pair, pipe, THREE_BRANCHES, steer_settings=given, seeds=(2,), **alone)
    assert float((batch[-1][2:] - one[-1]).abs().max()) <= 1e-4
    norms = run.trace.table("guidance_norm")
    assert torch.allclose(norms[:, 2:], run_alone.trace.table("guidance_norm"), rtol=1e-4)
    assert bool((norms[1:] > 0).all())  # flow matching starts at pure noise, where all predictions imply the same


# what else people have on their pipelines


def ip_adapter(network) -> dict:
    """Weights of an IP-Adapter for a UNet, in the form of its files."""
    from diffusers.models.attention_processor import IPAdapterAttnProcessor
    from diffusers.models.embeddings import ImageProjection

    torch.manual_seed(0)
    width, channels, attention, number = network.config.cross_attention_dim, network.config.block_out_channels, {}, 1
    for name in network.attn_processors:
        if name.endswith("attn1.processor"):
            continue
        block = {"mid_block": -1, "down_blocks.1": 1, "up_blocks.0": -1}
        size = next(channels[index] for place, index in block.items() if name.startswith(place))
        own = IPAdapterAttnProcessor(hidden_size=size, cross_attention_dim=width, scale=1.0).state_dict()
        attention |= {f"{number}.to_{kind}_ip.weight": own[f"to_{kind}_ip.0.weight"] for kind in "kv"}
        number += 2
    own = ImageProjection(cross_attention_dim=width, image_embed_dim=width, num_image_text_embeds=4).state_dict()
    projection = {key.replace("image_embeds.", "proj."): value for key, value in own.items()}
    return {"image_proj": projection, "ip_adapter": attention}


def with_lora(name, pipe):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    network = tiny.network_of(pipe)
    settings = {"r": 2, "lora_alpha": 8, "init_lora_weights": False, "target_modules": ["to_k", "to_v"]}
    network.add_adapter(peft.LoraConfig(**settings))
    return {}


def with_picture(name, pipe):
    pipe.unet._load_ip_adapter_weights([ip_adapter(pipe.unet)])
    width = pipe.unet.config.cross_attention_dim
    generator = torch.Generator().manual_seed(0)
    return {"ip_adapter_image_embeds": [torch.randn(2, 1, width, generator=generator)]}


def with_slices(name, pipe):
    pipe.enable_attention_slicing(1)
    return {}


def with_group_offload(name, pipe):
    network = tiny.network_of(pipe)
    on_cpu = {"onload_device": torch.device("cpu"), "offload_device": torch.device("cpu")}
    network.enable_group_offload(**on_cpu, offload_type="leaf_level")
    return {}


def with_model_offload(name, pipe):
    pipe.enable_model_cpu_offload(device="cpu")
    return {}


def with_sequential_offload(name, pipe):
    if not torch.cuda.is_available():
        pytest.skip("accelerate offloads layer by layer to a GPU only")
    pipe.enable_sequential_cpu_offload()
    return {}


def with_casting(name, pipe):
    network = tiny.network_of(pipe)
    network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    return {}


def in_half_precision(name, pipe):
    pipe.to(torch.bfloat16)
    return {}


def compiled(name, pipe):
    tiny.network_of(pipe).compile(backend="eager")
    return {}


FEATURES = {
    "lora": (with_lora, ("sd", "sdxl", "sd3", "flux")),
    "ip-adapter": (with_picture, ("sd", "sdxl")),
    "attention-slicing": (with_slices, ("sd", "sdxl")),
    "model-offload": (with_model_offload, READING),
    "sequential-offload": (with_sequential_offload, ("sd", "sd3")),
    "group-offload": (with_group_offload, READING),
    "layerwise-casting": (with_casting, READING),
    "bfloat16": (in_half_precision, EACH),
    "torch-compile": (compiled, ("flux",)),
}
"""What people put on their pipelines -> how, and the families that have it."""


@quiet
@pytest.mark.parametrize(
    ("feature", "name"), [(feature, name) for feature, (_, names) in FEATURES.items() for name in names]
)
def test_features_of_pipelines_do_not_disturb(feature, name):
    pair = (name, next(iter(tiny.FAMILIES[name].variants)))
    pipe = tiny.family(*pair)
    plain = trajectory(*pair, pipe, **Case(*pair).own_call(pipe))
    further = FEATURES[feature][0](name, pipe)
    arguments = {**Case(*pair).own_call(pipe), **further}
    expected = trajectory(*pair, pipe, **arguments)
    assert equal(steered(*pair, pipe, CFG, **arguments)[0], expected)
    assert equal(trajectory(*pair, pipe, **arguments), expected)  # and all is as before
    if feature in ("lora", "ip-adapter", "layerwise-casting", "bfloat16"):
        assert furthest([each.float() for each in expected], plain) > 1e-3
    reads = name in tiny.WITH_TEXT
    _, run = steered(*pair, pipe, THREE_BRANCHES if reads else CFG, "beard" if reads else None, **further)
    assert run.evaluations.tolist() == [(3.0 if reads else 2.0) * STEPS]


@pytest.mark.slow
@quiet
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("name", READING)
def test_compiled_networks(name, backend):
    pair = (name, next(iter(tiny.FAMILIES[name].variants)))
    pipe = tiny.family(*pair)
    tiny.network_of(pipe).compile(backend=backend)
    expected = trajectory(*pair, pipe, **Case(*pair).own_call(pipe))
    assert equal(steered(*pair, pipe, CFG, **Case(*pair).own_call(pipe))[0], expected)


def test_an_ip_adapter_without_a_picture_for_the_branch_is_refused():
    pipe = tiny.family("sd")
    picture = with_picture("sd", pipe)["ip_adapter_image_embeds"][0][1:]
    with pytest.raises(UnsupportedModel, match="no picture for it, only the prompt's; give the call a guidance_scale"):
        steered("sd", "text2img", pipe, CFG, ip_adapter_image_embeds=[picture], guidance_scale=1.0)


# classes in the place of prompts


@pytest.mark.parametrize("label", [7, "cock", [7]])
def test_negative_classes_by_number_and_by_name(label):
    pipe = tiny.family("dit")
    settings = {"steer_settings": {"negative_class_labels": label}}
    found, run = steered("dit", "class", pipe, NEGATIVE, **settings)
    assert run.trace.branches == [("negative", "positive")] * STEPS
    expected = trajectory("dit", "class", pipe, class_labels=[7], guidance_scale=1.0)
    swapped, _ = steered("dit", "class", pipe, NegativePromptGuidance(0.0), **settings)
    assert furthest(swapped[-1:], expected[-1:]) <= CLOSE  # at scale 0 it is the negative class itself
    assert furthest(found[-1:], expected[-1:]) > 1e-3


def test_what_classes_cannot_be_is_refused():
    pipe = tiny.family("dit")
    labels = {"steer_settings": {"negative_class_labels": 7}}
    with pytest.raises(PromptError, match=r"negative_prompt is 'hen'.*give negative_class_labels in its place"):
        steered("dit", "class", pipe, NEGATIVE, "hen")
    with pytest.raises(PromptError, match=r"negative_class_labels is 5.*give negative_prompt in its place"):
        steered("sd", "text2img", tiny.family("sd"), NEGATIVE, steer_settings={"negative_class_labels": 5})
    with pytest.raises(UnknownName, match="no class label 'hem'; did you mean 'hen'"):
        steered("dit", "class", pipe, NEGATIVE, steer_settings={"negative_class_labels": "hem"})
    with pytest.raises(InvalidSetting, match="negative_class_labels is 1000, but must be a class from 0 to 999"):
        steered("dit", "class", pipe, NEGATIVE, steer_settings={"negative_class_labels": [5, 1000]})
    for wrong in (3.5, [3.5], True, [None], []):
        with pytest.raises(InvalidSetting, match=r"negative_class_labels is .* but must be a class from 0 to 999"):
            steered("dit", "class", pipe, NEGATIVE, steer_settings={"negative_class_labels": wrong})
    with pytest.raises(PromptError, match=r'of which an image has one.*concept="negative"'):
        steered("dit", "class", pipe, DynamicNegativeGuidance(), **labels)


# said, or refused


def said(name, guidance, match, *, count=1, **settings):
    pipe = tiny.family(name)
    variant = next(iter(tiny.FAMILIES[name].variants))
    with pytest.warns(SteerclearWarning, match=match) as warned:
        steered(name, variant, pipe, guidance, **settings)
    assert len([one for one in warned if issubclass(one.category, SteerclearWarning)]) == count


def test_what_has_no_effect_is_said_once():
    said("flux", CFG, r"true_cfg_scale=9\.0 .* the guidance cfg has 3\.0; set it there", true_cfg_scale=9.0)
    said("flux", CFG, r"guidance_scale=3\.5 .* with steer or without: this network takes no", guidance_scale=3.5)
    said("flux-distilled", CFG, "this network is distilled.* cfg acts on top of that.* set one of the two scales to 1")
    said("sd3", CFG, r"skip_guidance_layers=\[0\] .* cfg takes its place", skip_guidance_layers=[0])
    said("sdxl", CFG, r"guidance_scale=9\.0 .* has no effect", guidance_scale=9.0)
    said("dit", CFG, r"guidance_scale=9\.0 .* has no effect", guidance_scale=9.0)


def test_nothing_is_said_where_nothing_is_amiss(recwarn):
    for name, kind in tiny.FAMILIES.items():
        guidance = Unguided() if name == "flux-distilled" else CFG
        steered(name, next(iter(kind.variants)), tiny.family(name), guidance)
        if kind.negative and name != "flux-distilled":
            steered(name, "text2img", tiny.family(name), NEGATIVE, negative_prompt="beard")
    assert [one for one in recwarn if issubclass(one.category, SteerclearWarning)] == []


def test_layers_skipped_by_the_call_change_nothing():
    """SD 3 then calls its network twice before a step, and the second call is given what the first one was."""
    pipe = tiny.family("sd3")
    skipping = {"skip_guidance_layers": [0], "skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 1.0}
    own = Case("sd3", "text2img").own_call(pipe)
    expected = trajectory("sd3", "text2img", pipe, **own)
    assert furthest(trajectory("sd3", "text2img", pipe, **own, **skipping), expected) > 1e-3
    with pytest.warns(SteerclearWarning, match="skip_guidance_layers"):
        found, run = steered("sd3", "text2img", pipe, CFG, **own, **skipping)
    assert equal(found, expected)
    assert run.evaluations.tolist() == [2.0 * STEPS]


def test_distilled_networks_keep_the_scale_that_they_are_told():
    pipe = tiny.family("flux-distilled")
    ends = []
    for scale in (1.0, 6.0):
        expected = trajectory("flux-distilled", "text2img", pipe, guidance_scale=scale)
        assert equal(steered("flux-distilled", "text2img", pipe, Unguided(), guidance_scale=scale)[0], expected)
        ends.append(expected)
    assert furthest(*ends) > 1e-3


@pytest.mark.parametrize("name", READING)
def test_prompts_that_cannot_be_read_are_refused_before_anything_runs(name):
    pipe = tiny.family(name)
    network = tiny.network_of(pipe)
    calls = []
    network.register_forward_pre_hook(lambda *_: calls.append(1))
    long = "x" * 130
    with pytest.raises(PromptError, match=r"longer than the \d+ tokens.*cut off"):
        steered(name, "text2img", pipe, NEGATIVE, long)
    with pytest.raises(PromptError, match=r"longer than the \d+ tokens.*cut off"):
        steered(name, "text2img", pipe, NEGATIVE, negative_prompt=long)
    with pytest.raises(PromptError, match="given twice"):
        steered(name, "text2img", pipe, NEGATIVE, "hat", negative_prompt="beard")
    if name in ("sdxl", "sd3", "flux"):
        with pytest.raises(PromptError, match="negative_prompt_2 is 'beard', and negative_prompt is not given"):
            steered(name, "text2img", pipe, NEGATIVE, negative_prompt_2="beard")
    assert calls == []


@quiet
@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize(
    ("negative", "match"),
    [
        (3, "negative_prompt is 3, but must be a text or a list of texts"),
        (["hat", None], "one of them is None"),
        (
            ["hat", "beard"],
            "has 2 texts, and its prompt has 1; give one text for all, or a list of one for each prompt",
        ),
        ([], "has 0 texts, and its prompt has 1"),
    ],
    ids=str,
)
def test_negative_prompts_of_the_call_are_texts_one_for_each_prompt(name, negative, match):
    for own in (SCALE, 1.0):
        scale = {tiny.FAMILIES[name].scale: own}
        with pytest.raises(PromptError, match=match):
            steered(name, "text2img", tiny.family(name), DynamicNegativeGuidance(), negative_prompt=negative, **scale)


def test_without_t5_as_much_is_read_as_clip_reads():
    pipe = tiny.family("sd3")
    pipe.text_encoder_3 = pipe.tokenizer_3 = None
    text = "x" * 76  # CLIP's begin and end leave room for 75
    with pytest.raises(PromptError, match="longer than the 77 tokens"):
        steered("sd3", "text2img", pipe, NEGATIVE, text, max_sequence_length=256)
    with pytest.raises(PromptError, match="the prompt is longer than the 77 tokens"):
        check_prompt(pipe, "prompt", text)
    steered("sd3", "text2img", pipe, NEGATIVE, text[1:], max_sequence_length=32)


@pytest.mark.parametrize("name", ["sd", "sd3", "flux"])
def test_a_callback_that_runs_the_network_is_refused(name):
    """Its call would be taken for the next step's; so would every call after a scheduler that is not the call's."""
    pipe = tiny.family(name)
    other = type(pipe)(**{**pipe.components, "scheduler": copy.deepcopy(pipe.scheduler)})
    other.set_progress_bar_config(disable=True)

    def another(pipe, index, timestep, tensors):
        other(PROMPT, num_inference_steps=1, output_type="latent", **tiny.call_arguments(name))
        return tensors

    def replaced(pipe, index, timestep, tensors):
        pipe.scheduler = copy.deepcopy(pipe.scheduler)
        return tensors

    for callback in (another, replaced):
        with pytest.raises(UnsupportedModel, match=r"called .* before a step of the scheduler.* a callback that runs"):
            steered(name, "text2img", pipe, CFG, callback_on_step_end=callback)


def test_sizes_that_the_pipeline_leaves_out_are_said():
    """SDXL makes the unconditional part's sizes under its own guidance only."""
    sizes = {"negative_original_size": (8, 8)}
    message = r"negative_original_size .* has no effect at guidance_scale=1\.0: .* leave guidance_scale out"
    with pytest.warns(SteerclearWarning, match=message):
        steered("sdxl", "text2img", tiny.family("sdxl"), CFG, guidance_scale=1.0, **sizes)
    pipe = tiny.family("sdxl")
    expected = trajectory("sdxl", "text2img", pipe, guidance_scale=SCALE, **sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SteerclearWarning)
        assert equal(steered("sdxl", "text2img", pipe, CFG, **sizes)[0], expected)


@quiet
@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux"])
def test_a_prompt_for_each_text_encoder(name):
    pipe = tiny.family(name)
    pair, scale = (name, "text2img"), tiny.FAMILIES[name].scale
    words = {"prompt_2": "a blue car", "negative_prompt": "beard", "negative_prompt_2": "wheel"}
    expected = trajectory(*pair, pipe, **words, **{scale: SCALE})
    for own in (SCALE, 1.0):
        assert equal(steered(*pair, pipe, NEGATIVE, **words, **{scale: own})[0], expected)
    single = {**words, "negative_prompt_2": None}
    assert furthest(trajectory(*pair, pipe, **single, **{scale: SCALE}), expected) > 1e-4


@quiet
@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux", "pixart"])
def test_prompts_given_as_embeddings(name):
    """Of both: with the pipeline's own guidance on and off. Without a negative one it is the pipeline's own empty one."""
    pipe = tiny.family(name)
    pair, scale = (name, "text2img"), tiny.FAMILIES[name].scale
    hand = ByHand(name, pipe)
    names = {
        "encoder_hidden_states": "prompt_embeds",
        "text_embeds": "pooled_prompt_embeds",
        "pooled_projections": "pooled_prompt_embeds",
        "encoder_attention_mask": "prompt_attention_mask",
    }
    with torch.no_grad():
        prompt, negative = hand.texts(PROMPT), hand.texts("beard")
    given = {names[key]: value for key, value in prompt.items()}
    absent = {"negative_prompt": None} if name == "pixart" else {}
    both = {**given, **{f"negative_{names[key]}": value for key, value in negative.items()}, "prompt": None, **absent}
    expected = trajectory(*pair, pipe, negative_prompt="beard", **{scale: SCALE})
    for own in (SCALE, 1.0):
        assert furthest(steered(*pair, pipe, NEGATIVE, **both, **{scale: own})[0], expected) <= CLOSE
    plain = trajectory(*pair, pipe, **Case(*pair).own_call(pipe))
    assert furthest(steered(*pair, pipe, CFG, **given, prompt=None)[0], plain) <= CLOSE
    if name == "sdxl":
        pipe.text_encoder = pipe.text_encoder_2 = None
        with pytest.raises(PromptError, match=r"no text encoder.*give the call negative_prompt_embeds"):
            steered(*pair, pipe, THREE_BRANCHES, **both)


def test_weak_networks_beside_a_controlnet_have_its_layers():
    weak = tiny.unet(channels=(4, 8))
    with pytest.raises(UnsupportedModel, match=r"its block_out_channels is .* the same residuals of the ControlNet"):
        steered("sd", "controlnet", tiny.family("sd", "controlnet"), AutoGuidance(), steer_settings={"weak": weak})


# seeds


@quiet
def test_each_row_of_a_weak_pass_has_the_seed_of_its_image():
    """Through branches, parts of a batch and rows of it."""
    calls = []

    @dataclass(frozen=True)
    class Seen(FaintSample):
        def check(self, pipe, network):
            calls.append("check")

        @contextmanager
        def attached(self, pipe, network):
            def run(call):
                calls.append((call.step, call.seeds, len(call.args[0])))
                return call.network(*call.args, **call.kwargs)

            yield run
            calls.append("left")

    @dataclass(frozen=True)
    class Some(ClassifierFreeGuidance):
        def branches(self, negatives):
            return ("weak:positive", "weak:empty", "weak:negative", "empty", "positive")

        def __call__(self, step, state):
            step.predict("weak:positive", "weak:empty")
            step.predict("weak:negative", rows=torch.tensor([2, 0]))
            return super().__call__(step, state)

    pipe = tiny.family("sd")
    run_settings = {"images": 3, "seeds": (5, 9, 7), "num_inference_steps": 1}
    steered("sd", "text2img", pipe, Some(), "beard", steer_settings={"weak": Seen(), "max_batch": 4}, **run_settings)
    assert calls == ["check", (0, (5, 9, 7, 5), 4), (0, (9, 7), 2), (0, (7, 5), 2), "left"]


def test_an_interval_behind_the_end_of_the_base_model_has_no_step():
    """SDXL's ``denoising_end`` leaves the last steps to a refiner."""
    pipe = tiny.family("sdxl", "text2img")
    low = IntervalGuidance(CFG, 0.0, 1.0, by="sigma")
    for end, said in ((None, 0), (0.5, 1)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SteerclearWarning)
            steered("sdxl", "text2img", pipe, low, num_inference_steps=8, denoising_end=end)
        assert sum("leave none of the 4 steps to cfg" in str(one.message) for one in caught) == said
