"""Where diffusers and steerclear differ: every figure and statement of docs/differences.md that a test can hold."""

from contextlib import ExitStack
from typing import Any

import diffusers
import diffusers.guiders
import pytest
import torch
from diffusers.guiders.guider_utils import rescale_noise_cfg
from torch import Tensor

import tiny_modular
from steerclear import AutoGuidance, Unguided, guider
from steerclear.core.numerics import rescaled

PROMPT, NEGATIVE = "a red hat", "beard"
WHOLE = {"start": 0.0, "stop": 1.0}


@pytest.mark.parametrize(("dtype", "largest"), [(torch.bfloat16, 3e-3), (torch.float16, 4e-4)])
def test_our_rescaling_is_nearer_to_the_exact_one_in_half_precision(dtype: torch.dtype, largest: float) -> None:
    generator = torch.Generator().manual_seed(0)
    positive, noise = torch.randn(2, 64, 4, 16, 16, generator=generator, dtype=torch.float64)
    positive, empty = positive.to(dtype), (positive + 0.3 * noise).to(dtype)
    guided = empty + 7.5 * (positive - empty)
    exact = rescaled(guided.double(), positive.double(), 0.7)

    def error(found: Tensor) -> float:
        apart = (found.double() - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
        return float(apart.mean())

    ours, theirs = (error(rescale(guided, positive, 0.7)) for rescale in (rescaled, rescale_noise_cfg))
    assert ours < 0.95 * theirs < 0.95 * largest


class Texts:
    """Which text each evaluation of a modular Stable Diffusion 3 reads."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.read: list[Tensor] = []

    def latents(self, guidance: Any, prompt: str = PROMPT, negative: str = NEGATIVE) -> Tensor:
        """The latents of a run, whose evaluations replace ``read``."""
        self.read.clear()
        self.pipe.update_components(guider=guidance)

        def remember(module: torch.nn.Module, arguments: tuple, named: dict[str, Any]) -> None:
            self.read.append(named["encoder_hidden_states"].clone())

        with ExitStack() as hooks:
            for network in (self.pipe.transformer, getattr(guidance, "weak", None)):
                if network is not None:
                    hooks.enter_context(network.register_forward_pre_hook(remember, with_kwargs=True))
            return tiny_modular.latents(self.pipe, "sd3", prompt, negative_prompt=negative)


@pytest.fixture
def texts() -> Texts:
    return Texts(tiny_modular.pipeline("sd3"))


def read_as(read: list[Tensor], texts: dict[str, Tensor]) -> list[str]:
    return [next(name for name, text in texts.items() if torch.equal(text, one)) for one in read]


@pytest.fixture
def known(texts: Texts) -> dict[str, Tensor]:
    """The embeddings of the prompt and of the negative prompt."""
    found = {}
    for prompt in (PROMPT, NEGATIVE):
        texts.latents(guider(Unguided()), prompt=prompt, negative="")
        found[prompt] = texts.read[0]
    assert not torch.equal(found[PROMPT], found[NEGATIVE])
    return found


def test_their_weak_pass_reads_the_negative_and_ours_the_prompt(texts: Texts, known: dict[str, Tensor]) -> None:
    skipped = diffusers.LayerSkipConfig(indices=[1], fqn="transformer_blocks", skip_attention=False)
    theirs = diffusers.guiders.AutoGuidance(guidance_scale=2.0, auto_guidance_config=skipped)
    texts.latents(theirs)
    assert read_as(texts.read, known) == [PROMPT, NEGATIVE] * 3
    texts.latents(guider(AutoGuidance(2.0), weak=tiny_modular.network("sd3", seed=5)))
    assert read_as(texts.read, known) == [PROMPT, PROMPT] * 3


THEIR_LAYERS = {
    "skip-layer": lambda **scales: diffusers.guiders.SkipLayerGuidance(
        skip_layer_guidance_scale=2.8, skip_layer_guidance_layers=[0], skip_layer_guidance_start=0.0,
        skip_layer_guidance_stop=1.0, **WHOLE, **scales
    ),
    "perturbed-attention": lambda **scales: diffusers.guiders.PerturbedAttentionGuidance(
        perturbed_guidance_scale=2.8, perturbed_guidance_layers=[0], perturbed_guidance_start=0.0,
        perturbed_guidance_stop=1.0, **WHOLE, **scales
    ),
    "smoothed-energy": lambda **scales: diffusers.guiders.SmoothedEnergyGuidance(
        seg_guidance_scale=2.8, seg_guidance_layers=[0], seg_guidance_start=0.0,
        seg_guidance_stop=1.0, **WHOLE, **scales
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", THEIR_LAYERS)
def test_without_cfg_they_change_no_layer_and_read_the_negative(
    kind: str, texts: Texts, known: dict[str, Tensor]
) -> None:
    """With a guidance_scale of 1, three guiders of diffusers are classifier-free guidance under their own scale."""
    without = texts.latents(THEIR_LAYERS[kind](guidance_scale=1.0))
    # they begin after the first step
    assert read_as(texts.read, known) == [PROMPT, *[PROMPT, NEGATIVE] * 2]
    plain = texts.latents(diffusers.guiders.ClassifierFreeGuidance(guidance_scale=2.8, start=0.34))
    assert torch.equal(without, plain)
