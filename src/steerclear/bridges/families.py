"""Kinds of pipelines. A family is data: where its network is, and how text gets into it.

A new family is one declaration here, and a tiny pipeline of it in the tests.
"""

from dataclasses import dataclass
from typing import Any

from ..errors import UnsupportedModel


@dataclass(frozen=True)
class TextInput:
    """One argument of the network that depends on the prompt.

    Args:
        argument: its name; a dot leads into a dictionary, as in ``added_cond_kwargs.text_embeds``.
        positive, negative: where ``encode_prompt`` has it in what it returns, for the prompt and the negative prompt.
    """

    argument: str
    positive: int
    negative: int


@dataclass(frozen=True)
class Family:
    """Pipelines that call their network in one way: under classifier-free guidance with a batch of two halves,
    the unconditional (or negative) one first.

    Args:
        name: for people.
        pipelines: class names, as diffusers has them; classes that derive from these belong to the family too.
        network: the attribute of the pipeline that holds the denoising network.
        texts: the network's arguments that depend on the prompt.
    """

    name: str
    pipelines: tuple[str, ...]
    network: str
    texts: tuple[TextInput, ...]


FAMILIES: tuple[Family, ...] = (
    Family(
        name="Stable Diffusion",
        pipelines=("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"),
        network="unet",
        texts=(TextInput("encoder_hidden_states", positive=0, negative=1),),
    ),
)


def family_of(pipe: Any) -> Family:
    """The family of a pipeline.

    Raises:
        UnsupportedModel: no family knows it; the message says what there is, and what to add.
    """
    class_name = type(pipe).__name__
    if "PAG" in class_name or hasattr(pipe, "pag_scale"):
        raise UnsupportedModel(
            f"{class_name} mixes a guidance of its own (perturbed attention) into every prediction, so no other "
            f"guidance can be put in its place; use the pipeline without PAG"
        )
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
