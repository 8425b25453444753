"""Kinds of pipelines. A family is data: where its network is, what it is called with, and how text gets into it.

A new family is one declaration in :data:`FAMILIES`, and a tiny pipeline of it in the tests, ``tests/tiny.py``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import UnsupportedModel

POSITIVE, UNCONDITIONAL = "positive", "unconditional"
"""Parts of a pipeline's batch. Under a negative prompt of its own call the unconditional part is the negative's."""

HasUnconditional = Callable[[Any, Mapping[str, Any]], bool]
"""(pipeline, arguments of its call) -> whether the batch that it now makes has an unconditional part."""


@dataclass(frozen=True)
class TextInput:
    """One argument of the network that depends on the prompt.

    Args:
        argument: its name; a dot leads into a dictionary, as in ``added_cond_kwargs.text_embeds``.
        positive: where ``encode_prompt`` has it in what it returns, for the prompt.
        negative: the same for the negative prompt; None where the pipeline encodes that in a call of its own.
        ready_made: the parameter of ``encode_prompt`` that takes it encoded; the negative's begins with ``negative_``.
    """

    argument: str
    positive: int
    negative: int | None
    ready_made: str


def says_itself(pipe: Any, arguments: Mapping[str, Any]) -> bool:
    """The pipeline has a property for it, which a callback may change from step to step."""
    return pipe.do_classifier_free_guidance


def scale_above_one(pipe: Any, arguments: Mapping[str, Any]) -> bool:
    """The pipeline keeps it in a local variable."""
    return arguments["guidance_scale"] > 1


def never(pipe: Any, arguments: Mapping[str, Any]) -> bool:
    """The pipeline asks for the unconditional prediction in a call of its own."""
    return False


@dataclass(frozen=True)
class Family:
    """Pipelines that call their network in one way.

    Args:
        name: for people.
        pipelines: class names, as diffusers has them; classes that derive from these belong to the family too.
        network: the attribute of the pipeline that holds the denoising network.
        texts: the network's arguments that depend on the prompt; none for classes.
        class_labels: the network's argument that holds the class of each image, where classes stand for prompts.
        parts: of the batch under classifier-free guidance, in the pipeline's order.
        has_unconditional: whether the batch has all of these, or the positive one alone.
        calls_a_step: how often the pipeline may call its network before a step of its scheduler. All calls but the
            first are given what the first was given.
        sequential: whether the pipeline runs its branches one after another. Then all branches run this way, because
            one batch of two differs in its last bits from two batches of one.
        scale: the argument of the call that is the scale of its classifier-free guidance.
        timestep_scale: the scheduler's timestep over the one that the network is told.
        shared: the network's arguments that are the same for all images, whatever their length.
        controls: the network's arguments that a ControlNet gives it, in the order of its outputs.
        control_reads_text: whether the ControlNet reads the unconditional part's own text there; else the prompt's.
        readers: tokenizers that read the whole of a prompt, which is checked against them: the first group that the
            pipeline has completely. None at all: a text is the name of a class, which the pipeline's ``check_prompt`` checks.
        empty: what the pipeline's call has for a negative prompt that is not given.
    """

    name: str
    pipelines: tuple[str, ...]
    network: str
    texts: tuple[TextInput, ...] = ()
    class_labels: str | None = None
    parts: tuple[str, ...] = (UNCONDITIONAL, POSITIVE)
    has_unconditional: HasUnconditional = says_itself
    calls_a_step: int = 1
    sequential: bool = False
    scale: str = "guidance_scale"
    timestep_scale: float = 1.0
    shared: frozenset[str] = frozenset()
    controls: tuple[str, ...] = ()
    control_reads_text: bool = True
    readers: tuple[tuple[str, ...], ...] = (("tokenizer",),)
    empty: str | None = None

    @property
    def encodes_negatives_apart(self) -> bool:
        """Whether a negative prompt is encoded as a prompt is, in a call of ``encode_prompt`` of its own."""
        return any(text.negative is None for text in self.texts)


UNET_RESIDUALS = ("down_block_additional_residuals", "mid_block_additional_residual")
PROMPT_EMBEDS = TextInput("encoder_hidden_states", 0, 1, "prompt_embeds")


def _pipelines(prefix: str, *forms: str) -> tuple[str, ...]:
    return tuple(f"{prefix}{form}Pipeline" for form in forms)


UNET_FORMS = ("", "Img2Img", "Inpaint", "ControlNet", "ControlNetImg2Img", "ControlNetInpaint")
FAMILIES: tuple[Family, ...] = (
    Family(
        "Stable Diffusion", _pipelines("StableDiffusion", *UNET_FORMS), "unet",
        texts=(PROMPT_EMBEDS,),
        controls=UNET_RESIDUALS,
    ),
    Family(
        "Stable Diffusion XL", _pipelines("StableDiffusionXL", *UNET_FORMS), "unet",
        texts=(PROMPT_EMBEDS, TextInput("added_cond_kwargs.text_embeds", 2, 3, "pooled_prompt_embeds")),
        controls=UNET_RESIDUALS,
        readers=(("tokenizer", "tokenizer_2"), ("tokenizer_2",)),
    ),
    Family(
        "Stable Diffusion 3", _pipelines("StableDiffusion3", *UNET_FORMS[:4], "ControlNetInpainting"), "transformer",
        texts=(PROMPT_EMBEDS, TextInput("pooled_projections", 2, 3, "pooled_prompt_embeds")),
        calls_a_step=2,  # skip_guidance_layers adds one
        controls=("block_controlnet_hidden_states",),
        readers=(("tokenizer_3",), ("tokenizer", "tokenizer_2")),
    ),
    Family(
        "Flux", _pipelines("Flux", *UNET_FORMS[:3], "Fill", *UNET_FORMS[3:]), "transformer",
        texts=(
            TextInput("encoder_hidden_states", 0, None, "prompt_embeds"),
            TextInput("pooled_projections", 1, None, "pooled_prompt_embeds"),
        ),
        parts=(POSITIVE,),
        has_unconditional=never,
        calls_a_step=2,  # the prompt, and with true_cfg_scale the negative prompt
        sequential=True,
        scale="true_cfg_scale",
        timestep_scale=1000.0,
        shared=frozenset({"txt_ids", "img_ids"}),
        controls=("controlnet_block_samples", "controlnet_single_block_samples"),
        control_reads_text=False,
        readers=(("tokenizer_2",),),
    ),
    Family(
        "PixArt", _pipelines("PixArt", "Alpha", "Sigma"), "transformer",
        texts=(
            TextInput("encoder_hidden_states", 0, 2, "prompt_embeds"),
            TextInput("encoder_attention_mask", 1, 3, "prompt_attention_mask"),
        ),
        has_unconditional=scale_above_one,
        empty="",
    ),
    Family(
        "DiT", ("DiTPipeline",), "transformer",
        class_labels="class_labels",
        parts=(POSITIVE, UNCONDITIONAL),
        has_unconditional=scale_above_one,
    ),
    Family(
        "Classes by name", ("ClassConditionalPipeline",), "unet",  # of models/class_conditional.py
        texts=(TextInput("class_labels", 0, 1, "prompt_embeds"),),
        readers=(),
    ),
)  # fmt: skip

REFUSED: Mapping[str, str] = {
    "PAG": "mixes a guidance of its own (perturbed attention) into every prediction, so no other guidance can be put "
    "in its place; use the pipeline without PAG",
    "InstructPix2Pix": "guides by a picture as well as by a prompt, with three predictions a step and two scales, which "
    "no guidance here has a place for; use an image-to-image or inpainting pipeline",
}
"""Part of a class name -> why such pipelines cannot be steered."""


def family_of(pipe: Any) -> Family:
    """The family of a pipeline.

    Raises:
        UnsupportedModel: no family knows it; the message says what there is, and what to add.
    """
    class_name = type(pipe).__name__
    for part, reason in REFUSED.items():
        if part in class_name or (part == "PAG" and hasattr(pipe, "pag_scale")):
            raise UnsupportedModel(f"{class_name} {reason}")
    ancestors = {ancestor.__name__ for ancestor in type(pipe).__mro__}
    for family in FAMILIES:
        if ancestors.intersection(family.pipelines):
            return family
    known = ", ".join(name for family in FAMILIES for name in family.pipelines)
    raise UnsupportedModel(
        f"steerclear does not know how {class_name} calls its network; it knows {known}. Use one of these, or add a "
        f"Family for it to steerclear/bridges/families.py: the attribute of its network, and the network's arguments "
        f"that come from encode_prompt"
    )


def prediction_channels(network: Any) -> int:
    """How many channels of the network's output are the prediction; a learned variance may follow them."""
    taken, given = network.config.in_channels, getattr(network.config, "out_channels", None)
    return taken if given is None or given == 2 * taken else given


def is_distilled(network: Any) -> bool:
    """Whether the network has learnt guidance: it takes a scale as input, and answers as if it had been guided."""
    config = network.config
    return bool(getattr(config, "guidance_embeds", False) or getattr(config, "time_cond_proj_dim", None))
