"""Tiny pipelines with random weights, built without a network: what the tests of the bridges steer.

``stable_diffusion(...)`` is the one most tests take; ``family(name, variant)`` builds any of :data:`FAMILIES`.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import diffusers
import PIL.Image
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

from steerclear.bridges import families
from steerclear.models.class_conditional import ClassConditionalPipeline

TEXT_WIDTH = 16
LONGEST_PROMPT = 77

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCALED = {**BETAS, "steps_offset": 1}
UNCLIPPED = {**SCALED, "clip_sample": False}

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {**UNCLIPPED, "set_alpha_to_one": False}),
    "ddim-zero-snr": ("DDIMScheduler", {**UNCLIPPED, "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
    "ddpm": ("DDPMScheduler", UNCLIPPED),
    "pndm": ("PNDMScheduler", {**SCALED, "skip_prk_steps": True}),
    "lcm": ("LCMScheduler", UNCLIPPED),
    "tcd": ("TCDScheduler", UNCLIPPED),
    "euler": ("EulerDiscreteScheduler", SCALED),
    "euler-karras": ("EulerDiscreteScheduler", {**SCALED, "use_karras_sigmas": True}),
    "euler-ancestral": ("EulerAncestralDiscreteScheduler", SCALED),
    "heun": ("HeunDiscreteScheduler", SCALED),
    "lms": ("LMSDiscreteScheduler", SCALED),
    "kdpm2": ("KDPM2DiscreteScheduler", SCALED),
    "kdpm2-ancestral": ("KDPM2AncestralDiscreteScheduler", SCALED),
    "dpm-sde": ("DPMSolverSDEScheduler", {**SCALED, "noise_sampler_seed": 0}),
    "dpm++": ("DPMSolverMultistepScheduler", SCALED),
    "dpm++-karras": ("DPMSolverMultistepScheduler", {**SCALED, "use_karras_sigmas": True}),
    "dpm++-sde": ("DPMSolverMultistepScheduler", {**SCALED, "algorithm_type": "sde-dpmsolver++"}),
    "dpm++-flow": (
        "DPMSolverMultistepScheduler",
        {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0},
    ),
    "dpm++-singlestep": ("DPMSolverSinglestepScheduler", BETAS),
    "deis": ("DEISMultistepScheduler", SCALED),
    "unipc": ("UniPCMultistepScheduler", SCALED),
    "sa": ("SASolverScheduler", SCALED),
}
"""Every scheduler that the Stable Diffusion pipelines take, in settings that models use: name -> class and settings."""

FLOW_SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "flow-euler": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    "flow-heun": ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0}),
}
"""Those of networks that predict the flow."""


def scheduler(name: str, **settings: Any) -> Any:
    """One of :data:`SCHEDULERS` or :data:`FLOW_SCHEDULERS`, with some settings changed."""
    class_name, own = {**SCHEDULERS, **FLOW_SCHEDULERS}[name]
    return getattr(diffusers, class_name)(**{**own, **settings})


@cache
def tokenizer() -> CLIPTokenizer:
    """One token a letter: CLIP's byte alphabet without a single merge."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    letters = [chr(code) for code in printable]
    letters += [chr(256 + count) for count in range(256 - len(letters))]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=LONGEST_PROMPT)


@cache
def t5_tokenizer() -> PreTrainedTokenizerFast:
    """One token a letter."""
    words = ["<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz0123456789., "]
    model = models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    letters = Tokenizer(model)
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    letters.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=letters, model_max_length=LONGEST_PROMPT, **special)


def t5_encoder(seed: int = 4) -> T5EncoderModel:
    torch.manual_seed(seed)
    config = T5Config(vocab_size=64, d_model=2 * TEXT_WIDTH, d_kv=8, d_ff=TEXT_WIDTH, num_layers=2, num_heads=2)
    return T5EncoderModel(config).eval()


def text_encoder(seed: int = 1, kind: type = CLIPTextModel) -> Any:
    torch.manual_seed(seed)
    words = len(tokenizer())
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=TEXT_WIDTH,
        intermediate_size=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LONGEST_PROMPT,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
        projection_dim=TEXT_WIDTH,
    )
    return kind(config).eval()


def autoencoder(seed: int = 2, **settings: Any) -> AutoencoderKL:
    torch.manual_seed(seed)
    defaults = {
        "block_out_channels": (8, 8),
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "sample_size": 16,
    }
    return AutoencoderKL(**{**defaults, **settings}).eval()


def unet(seed: int = 3, channels: tuple[int, ...] = (8, 16), **settings: Any) -> UNet2DConditionModel:
    torch.manual_seed(seed)
    defaults = {
        "block_out_channels": channels,
        "layers_per_block": 1,
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": TEXT_WIDTH,
        "norm_num_groups": 4,
        "attention_head_dim": 4,
    }
    return UNet2DConditionModel(**{**defaults, **settings}).eval()


def stable_diffusion(
    name: str = "ddim", kind: Callable[..., Any] = StableDiffusionPipeline, network: Any = None, **settings: Any
) -> Any:
    """A pipeline of the Stable Diffusion family.

    Args:
        name: of its scheduler, see :data:`SCHEDULERS`.
        kind: the pipeline's class.
        network: its UNet; None for a tiny one.
        settings: of the scheduler.
    """
    pipe = kind(
        vae=autoencoder(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        unet=network if network is not None else unet(),
        scheduler=scheduler(name, **settings),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generators(*seeds: int) -> list[torch.Generator]:
    """One generator an image."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


# any family


@dataclass(frozen=True)
class Kind:
    """One family of pipelines.

    Args:
        title: for readers of tables.
        parts: builds what is common to its variants; gets the number of the network's input channels, or None.
        scheduler: what it has unless told otherwise.
        variants: name of a variant -> its class in diffusers, and what is special about it.
        scale: the argument of the call that is its guidance's scale.
        call: arguments that every call of these tiny pipelines needs.
        negative: whether the call takes a negative prompt.
        batch: whether the call takes ``num_images_per_prompt`` and a callback.
        reads: whether a prompt may be any text; else it is the name of a class.
    """

    title: str
    parts: Callable[[int | None], dict[str, Any]]
    scheduler: str
    variants: dict[str, "Variant"]
    scale: str = "guidance_scale"
    call: dict[str, Any] = field(default_factory=dict)
    negative: bool = True
    batch: bool = True
    reads: bool = True


@dataclass(frozen=True)
class Variant:
    """One pipeline of a family.

    Args:
        pipeline: its class in diffusers.
        channels: of the network's input; None for as many as the latents have.
        controlnets: how many it has.
        call: arguments of its call, by name: ``"image"``, ``"mask"`` stand for pictures.
    """

    pipeline: str
    channels: int | None = None
    controlnets: int = 0
    call: dict[str, Any] = field(default_factory=dict)


def picture(colour: str = "red") -> PIL.Image.Image:
    """16 x 16: left half in a colour."""
    image = PIL.Image.new("RGB", (16, 16), "white")
    image.paste(colour, (0, 0, 8, 16))
    return image


def mask() -> PIL.Image.Image:
    """Keeps the left half."""
    image = PIL.Image.new("L", (16, 16), 255)
    image.paste(0, (0, 0, 8, 16))
    return image


IMG2IMG = {"image": picture(), "strength": 0.7}
INPAINT = {"image": picture(), "mask_image": mask(), "strength": 0.9}
INPAINT_WHOLE = {**INPAINT, "strength": 1.0}


def _stable_diffusion_parts(channels: int | None) -> dict[str, Any]:
    return {
        "vae": autoencoder(),
        "text_encoder": text_encoder(),
        "tokenizer": tokenizer(),
        "unet": unet(in_channels=channels or 4),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


XL_NETWORK = {
    "cross_attention_dim": 2 * TEXT_WIDTH,
    "transformer_layers_per_block": 1,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + TEXT_WIDTH,
}


def _xl_parts(channels: int | None) -> dict[str, Any]:
    return {
        "vae": autoencoder(force_upcast=False),
        "text_encoder": text_encoder(),
        "tokenizer": tokenizer(),
        "text_encoder_2": text_encoder(5, CLIPTextModelWithProjection),
        "tokenizer_2": tokenizer(),
        "unet": unet(in_channels=channels or 4, **XL_NETWORK),
    }


SD3_NETWORK = {
    "sample_size": 8,
    "patch_size": 1,
    "num_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "caption_projection_dim": 16,
    "joint_attention_dim": 2 * TEXT_WIDTH,
    "pooled_projection_dim": 2 * TEXT_WIDTH,
    "out_channels": 16,
    "pos_embed_max_size": 8,
}


def _sd3_parts(channels: int | None) -> dict[str, Any]:
    torch.manual_seed(3)
    network = diffusers.SD3Transformer2DModel(in_channels=channels or 16, **SD3_NETWORK).eval()
    return {
        "vae": autoencoder(latent_channels=16, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        "text_encoder": text_encoder(1, CLIPTextModelWithProjection),
        "tokenizer": tokenizer(),
        "text_encoder_2": text_encoder(5, CLIPTextModelWithProjection),
        "tokenizer_2": tokenizer(),
        "text_encoder_3": t5_encoder(),
        "tokenizer_3": t5_tokenizer(),
        "transformer": network,
    }


FLUX_NETWORK = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 2 * TEXT_WIDTH,
    "pooled_projection_dim": TEXT_WIDTH,
    "axes_dims_rope": [4, 4, 8],
}


def flux_parts(distilled: bool) -> Callable[[int | None], dict[str, Any]]:
    """Parts of Flux; a distilled one is told the guidance's scale and needs no unconditional prediction."""

    def parts(channels: int | None) -> dict[str, Any]:
        torch.manual_seed(3)
        wide = {} if channels is None else {"in_channels": channels, "out_channels": FLUX_NETWORK["in_channels"]}
        network = diffusers.FluxTransformer2DModel(**{**FLUX_NETWORK, **wide}, guidance_embeds=distilled).eval()
        return {
            "vae": autoencoder(shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
            "text_encoder": text_encoder(),
            "tokenizer": tokenizer(),
            "text_encoder_2": t5_encoder(),
            "tokenizer_2": t5_tokenizer(),
            "transformer": network,
        }

    return parts


PATCHES = {
    "sample_size": 8,
    "num_layers": 2,
    "patch_size": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "in_channels": 4,
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "num_embeds_ada_norm": 1000,
    "norm_elementwise_affine": False,
}


def pixart_parts(learned_sigma: bool) -> Callable[[int | None], dict[str, Any]]:
    """Parts of PixArt; most of its networks predict a variance too, which no sampler uses."""

    def parts(channels: int | None) -> dict[str, Any]:
        torch.manual_seed(3)
        network = diffusers.PixArtTransformer2DModel(
            **PATCHES,
            out_channels=8 if learned_sigma else 4,
            cross_attention_dim=16,
            caption_channels=2 * TEXT_WIDTH,
            norm_type="ada_norm_single",
            norm_eps=1e-6,
        ).eval()
        torch.nn.init.normal_(network.proj_out.weight, std=0.2)
        return {
            "vae": autoencoder(),
            "text_encoder": t5_encoder(),
            "tokenizer": t5_tokenizer(),
            "transformer": network,
        }

    return parts


CLASS_NAMES = ("hat", "red hat", "beard", "wheel", "blue car", "man", "cat", "3")
"""So that the texts of the tests are classes."""


def classes_parts(channels: int | None) -> dict[str, Any]:
    torch.manual_seed(3)
    network = diffusers.UNet2DModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=4,
        num_class_embeds=len(CLASS_NAMES) + 1,
    ).eval()
    # rows of the class embeddings are far apart, so that classes matter as much as texts do
    torch.nn.init.normal_(network.class_embedding.weight, std=3.0)
    return {"unet": network, "class_names": CLASS_NAMES, "mean": -0.5, "deviation": 0.6, "patch": 2, "channels": 1}


LABELS = {3: "tench, Tinca tinca", 5: "hen", 7: "cock"}


def _dit_parts(channels: int | None) -> dict[str, Any]:
    torch.manual_seed(3)
    network = diffusers.DiTTransformer2DModel(**PATCHES, out_channels=8, norm_type="ada_norm_zero").eval()
    torch.nn.init.normal_(network.proj_out_2.weight, std=0.2)
    # rows of the class embeddings are far apart, so that labels matter as much as texts do
    for block in network.transformer_blocks:
        torch.nn.init.normal_(block.norm1.emb.class_embedder.embedding_table.weight)
    return {"vae": autoencoder(), "transformer": network, "id2label": LABELS}


def _with_control(name: str, prefix: str) -> dict[str, "Variant"]:
    """ControlNet variants as SD and SDXL have them."""
    control = {"image": picture("blue")}
    both = {"image": [picture("blue"), picture("green")], "controlnet_conditioning_scale": [1.0, 0.5]}
    return {
        "controlnet": Variant(f"{prefix}ControlNetPipeline", None, 1, control),
        "controlnet-guess": Variant(f"{prefix}ControlNetPipeline", None, 1, {**control, "guess_mode": True}),
        "controlnet-end": Variant(f"{prefix}ControlNetPipeline", None, 1, {**control, "control_guidance_end": 0.5}),
        "controlnet-multi": Variant(f"{prefix}ControlNetPipeline", None, 2, both),
        "controlnet-img2img": Variant(
            f"{prefix}ControlNetImg2ImgPipeline", None, 1, {**IMG2IMG, "control_image": picture("blue")}
        ),
        "controlnet-inpaint": Variant(
            f"{prefix}ControlNetInpaintPipeline", None, 1, {**INPAINT, "control_image": picture("blue")}
        ),
    }


def _plain(prefix: str, wide: int | None, text2img: str = "Pipeline") -> dict[str, "Variant"]:
    """Text to image, image to image and inpainting; ``wide`` are the channels of a network made for inpainting."""
    variants = {
        "text2img": Variant(f"{prefix}{text2img}"),
        "img2img": Variant(f"{prefix}Img2ImgPipeline", call=IMG2IMG),
        "inpaint": Variant(f"{prefix}InpaintPipeline", call=INPAINT),
    }
    if wide is not None:
        variants["inpaint-wide"] = Variant(f"{prefix}InpaintPipeline", wide, call=INPAINT_WHOLE)
    return variants


_FLUX_VARIANTS = {
    **_plain("Flux", None),
    "fill": Variant("FluxFillPipeline", 48, call={"image": picture(), "mask_image": mask()}),
    "controlnet": Variant("FluxControlNetPipeline", None, 1, {"control_image": picture("blue")}),
    "controlnet-end": Variant(
        "FluxControlNetPipeline", None, 1, {"control_image": picture("blue"), "control_guidance_end": 0.5}
    ),
    "controlnet-multi": Variant(
        "FluxControlNetPipeline",
        None,
        2,
        {
            "control_image": [picture("blue"), picture("green")],
            "controlnet_conditioning_scale": [1.0, 0.5],
            "control_mode": [None, None],
        },
    ),
    "controlnet-img2img": Variant(
        "FluxControlNetImg2ImgPipeline", None, 1, {**IMG2IMG, "control_image": picture("blue")}
    ),
    "controlnet-inpaint": Variant(
        "FluxControlNetInpaintPipeline", None, 1, {**INPAINT, "control_image": picture("blue")}
    ),
}
_SIZE = {"height": 16, "width": 16}
_PIXART = {**_SIZE, "use_resolution_binning": False, "clean_caption": False}

FAMILIES: dict[str, Kind] = {
    "sd": Kind(
        "SD 1, 2",
        _stable_diffusion_parts,
        "ddim",
        {**_plain("StableDiffusion", 9), **_with_control("sd", "StableDiffusion")},
    ),
    "sdxl": Kind(
        "SDXL",
        _xl_parts,
        "euler",
        {**_plain("StableDiffusionXL", 9), **_with_control("sdxl", "StableDiffusionXL")},
    ),
    "sd3": Kind(
        "SD 3",
        _sd3_parts,
        "flow-euler",
        {
            **_plain("StableDiffusion3", 33),
            "controlnet": Variant(
                "StableDiffusion3ControlNetPipeline", None, 1, {"control_image": picture("blue")}
            ),
            "controlnet-end": Variant(
                "StableDiffusion3ControlNetPipeline",
                None,
                1,
                {"control_image": picture("blue"), "control_guidance_end": 0.5},
            ),
            "controlnet-multi": Variant(
                "StableDiffusion3ControlNetPipeline",
                None,
                2,
                {
                    "control_image": [picture("blue"), picture("green")],
                    "controlnet_conditioning_scale": [1.0, 0.5],
                },
            ),
            "controlnet-inpaint": Variant(
                "StableDiffusion3ControlNetInpaintingPipeline",
                None,
                1,
                {"control_image": picture("blue"), "control_mask": mask()},
            ),
        },
        call={"max_sequence_length": 32},
    ),
    "flux": Kind(
        "Flux",
        flux_parts(False),
        "flow-euler",
        _FLUX_VARIANTS,
        scale="true_cfg_scale",
        call={**_SIZE, "max_sequence_length": 32},
    ),
    "flux-distilled": Kind(
        "Flux distilled",
        flux_parts(True),
        "flow-euler",
        _FLUX_VARIANTS,
        scale="true_cfg_scale",
        call={**_SIZE, "max_sequence_length": 32},
    ),
    "pixart": Kind("PixArt-α", pixart_parts(True), "dpm++", {"text2img": Variant("PixArtAlphaPipeline")}, call=_PIXART),
    "pixart-sigma": Kind("PixArt-Σ", pixart_parts(False), "dpm++", {"text2img": Variant("PixArtSigmaPipeline")}, call=_PIXART),
    "classes": Kind(
        "Classes by name", classes_parts, "ddim", {"text2img": Variant("ClassConditionalPipeline")}, reads=False
    ),
    "dit": Kind(
        "DiT", _dit_parts, "ddim", {"class": Variant("DiTPipeline")}, negative=False, batch=False
    ),
}  # fmt: skip
"""Every family that can be steered: name -> how a tiny one is built and called. A new one is tested from here alone."""


WITH_TEXT = tuple(name for name, kind in FAMILIES.items() if kind.negative)
READING = tuple(name for name in WITH_TEXT if FAMILIES[name].reads)
"""Families that any text can be given to; the others with a text have one per class."""


def one_of_each(kinds: Mapping[str, Kind] = FAMILIES) -> dict[str, str]:
    """Name of each of steerclear's families -> the first tiny one of it."""
    found: dict[str, str] = {}
    for name, kind in reversed(kinds.items()):
        classes = {variant.pipeline for variant in kind.variants.values()}
        found |= {family.name: name for family in families.FAMILIES if classes.intersection(family.pipelines)}
    return dict(reversed(found.items()))


def controlnet(name: str, variant: str, seed: int = 6) -> Any:
    """A ControlNet whose last layers are not zero, as training starts them."""
    torch.manual_seed(seed)
    if name in ("sd", "sdxl"):
        own = {"cross_attention_dim": TEXT_WIDTH} if name == "sd" else XL_NETWORK
        network: Any = diffusers.ControlNetModel(
            block_out_channels=(8, 16),
            layers_per_block=1,
            in_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            norm_num_groups=4,
            attention_head_dim=4,
            conditioning_embedding_out_channels=(8, 16),
            **own,
        )
        zeros = [*network.controlnet_down_blocks, network.controlnet_mid_block]
        zeros.append(network.controlnet_cond_embedding.conv_out)
    elif name == "sd3":
        extra = {"extra_conditioning_channels": 1} if variant == "controlnet-inpaint" else {}
        network = diffusers.SD3ControlNetModel(
            **{**SD3_NETWORK, "num_layers": 1}, in_channels=16, force_zeros_for_pooled_projection=False, **extra
        )
        zeros = [*network.controlnet_blocks, network.pos_embed_input.proj]
    else:
        network = diffusers.FluxControlNetModel(**FLUX_NETWORK, guidance_embeds=name == "flux-distilled")
        zeros = [*network.controlnet_blocks, *network.controlnet_single_blocks, network.controlnet_x_embedder]
    for layer in zeros:
        torch.nn.init.normal_(layer.weight, std=0.2)
    return network.eval()


def pipeline_class(name: str) -> Any:
    """A class of diffusers, or our own."""
    return ClassConditionalPipeline if name == "ClassConditionalPipeline" else getattr(diffusers, name)


def family(name: str, variant: str = "", scheduler_name: str | None = None, **settings: Any) -> Any:
    """A tiny pipeline of a family.

    Args:
        name, variant: see :data:`FAMILIES`; no variant is the first one.
        scheduler_name: see :data:`SCHEDULERS`; None for the family's own.
        settings: of the scheduler.
    """
    kind = FAMILIES[name]
    own = kind.variants[variant or next(iter(kind.variants))]
    parts = kind.parts(own.channels)
    if own.controlnets:
        nets = [controlnet(name, variant, seed) for seed in range(6, 6 + own.controlnets)]
        parts["controlnet"] = nets[0] if len(nets) == 1 else nets
    pipe = pipeline_class(own.pipeline)(**parts, scheduler=scheduler(scheduler_name or kind.scheduler, **settings))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call_arguments(name: str, variant: str = "") -> dict[str, Any]:
    """What a call of such a pipeline needs besides a prompt: size, picture, mask."""
    kind = FAMILIES[name]
    return {**kind.call, **kind.variants[variant or next(iter(kind.variants))].call}


def network_of(pipe: Any) -> torch.nn.Module:
    """A pipeline's denoising network, as it is now."""
    return pipe.transformer if getattr(pipe, "unet", None) is None else pipe.unet


def parameters(pipe: Any) -> set[str]:
    """What the call of a pipeline, or of a class of pipelines, takes."""
    return set(inspect.signature((pipe if inspect.isclass(pipe) else type(pipe)).__call__).parameters)


def default(pipe: Any, name: str) -> Any:
    """Of an argument of a pipeline's call; None where there is none."""
    argument = inspect.signature(type(pipe).__call__).parameters.get(name)
    return argument and argument.default
