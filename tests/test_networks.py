"""Several networks in one step, by name; and kinds of networks that come from strangers."""

import warnings
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch

import skeleton_network
import tiny
from skeleton_network import FaintSample, TwoNetworks
from steerclear.bridges.diffusers.steer import steer
from steerclear.core import shelf
from steerclear.core.errors import GivenTwice, SteerclearWarning, UnsupportedModel, on_command_line
from steerclear.core.network import Network
from steerclear.core.shelf import entries
from steerclear.guidance.auto import AutoGuidance
from steerclear.models.loading import load_model
from steerclear.models.networks import NetworkSource
from steerclear.networks.dropout import SeededDropout
from steerclear.networks.dropped_layers import DroppedLayers
from steerclear.networks.noised_weights import NoisedWeights
from steerclear.networks.other_network import OtherNetwork
from steerclear.networks.shared.naming import parse_network
from steerclear.study.generate import check_recipe
from steerclear.study.methods import Method
from steerclear.study.run import recipe_of

STEPS = 3
SEEDS = (7, 3, 11)
TEXTS = {7: "a red hat", 3: "a blue car", 11: "a hen"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


def latents(pipe: Any, guidance: Any, seeds: tuple[int, ...] = SEEDS, **settings: Any) -> tuple[torch.Tensor, Any]:
    with steer(pipe, guidance, **settings) as run:
        images = pipe(
            [TEXTS[seed] for seed in seeds], generator=tiny.generators(*seeds), num_inference_steps=STEPS,
            output_type="latent",
        ).images  # fmt: skip
    return images, run


def by_hand(pipe: Any, weak: Any, perturbed: Any) -> torch.Tensor:
    """DDIM's trajectory with each network called once per step on all images, combined as the guidance says."""
    texts = torch.cat([pipe.encode_prompt(TEXTS[seed], "cpu", 1, False)[0] for seed in SEEDS])
    sample = torch.cat([torch.randn(1, 4, 8, 8, generator=generator) for generator in tiny.generators(*SEEDS)])
    scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(STEPS)
    for timestep in scheduler.timesteps:
        own, far, near = (network(sample, timestep, texts).sample for network in (pipe.unet, weak, perturbed))
        sample = scheduler.step(own + 0.5 * (own - far) + 0.25 * (own - near), timestep, sample).prev_sample
    return sample


def test_two_networks_in_one_step_are_their_predictions_combined_by_hand() -> None:
    pipe, weak, perturbed = tiny.stable_diffusion("ddim"), tiny.unet(seed=8), tiny.unet(seed=9)
    found, run = latents(pipe, TwoNetworks(), weak=weak, networks={"perturbed": perturbed})
    expected = by_hand(pipe, weak, perturbed)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert run.trace.branches == [("positive", "perturbed:positive", "weak:positive")] * STEPS
    assert run.evaluations.tolist() == [3.0 * STEPS] * len(SEEDS)
    swapped, _ = latents(pipe, TwoNetworks(), weak=perturbed, networks={"perturbed": weak})
    assert float((swapped - expected).abs().max()) > 1e-2


def test_weak_is_one_name_among_others() -> None:
    pipe, weak, kind = tiny.stable_diffusion("ddim"), tiny.unet(seed=8), DroppedLayers()
    found, _ = latents(pipe, TwoNetworks(), networks={"weak": weak, "perturbed": kind})
    assert torch.equal(found, latents(pipe, TwoNetworks(), weak=weak, networks={"perturbed": kind})[0])
    with pytest.raises(GivenTwice, match="the weak network is given twice; give it once"):
        latents(pipe, TwoNetworks(), weak=weak, networks={"weak": weak, "perturbed": kind})


def test_image_k_of_a_batch_under_two_networks_is_image_k_alone() -> None:
    pipe = tiny.stable_diffusion("ddim")
    networks = {"weak": SeededDropout(0.3, 1), "perturbed": NoisedWeights(0.2, 4)}
    together, _ = latents(pipe, TwoNetworks(), networks=networks)
    assert torch.allclose(latents(pipe, TwoNetworks(), networks=networks, max_batch=2)[0], together, rtol=0, atol=1e-5)
    for row, seed in enumerate(SEEDS):
        alone, _ = latents(pipe, TwoNetworks(), (seed,), networks=networks)
        assert torch.allclose(together[row], alone[0], rtol=0, atol=1e-5)


def test_a_network_that_is_missing_is_refused_by_name_before_anything_runs() -> None:
    pipe = tiny.stable_diffusion("ddim")
    pipe.unet.register_forward_pre_hook(lambda *_: pytest.fail("the network ran"))
    with pytest.raises(UnsupportedModel) as caught:
        latents(pipe, TwoNetworks(), weak=NoisedWeights())
    assert str(caught.value) == (
        "two-networks asks for the perturbed network, and none is given; give steer(..., networks={'perturbed': ...}) another "
        "network of the same shape, or a kind such as NoisedWeights(strength=0.1)"
    )
    with on_command_line(), pytest.raises(UnsupportedModel, match=r"give --network perturbed=\.\.\. another network"):
        latents(pipe, TwoNetworks(), weak=NoisedWeights())


def said(guidance: Any, **networks: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", SteerclearWarning)
        with steer(tiny.stable_diffusion("ddim"), guidance, networks=networks):
            pass
    return [str(one.message) for one in found if issubclass(one.category, SteerclearWarning)]


def test_networks_that_have_no_effect_are_said_with_the_reason() -> None:
    weak, other = NoisedWeights(0.2), DroppedLayers()
    assert said(AutoGuidance(2.0), weak=weak) == []
    assert said(AutoGuidance(2.0), weak=weak, perturbed=other) == [
        "the perturbed network has no effect: autoguidance with these settings never asks for it"
    ]
    (idle,) = said(TwoNetworks(), weak=weak, perturbed=NoisedWeights(0.0))
    assert idle == (
        "the perturbed network has no effect: its strength is 0, so two-networks has nothing to push away from; give one that is "
        "worse, such as NoisedWeights(strength=0.1)"
    )


# a stranger's kind


@pytest.fixture
def a_strangers_kind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Announced as an installed package's entry points are."""

    def announced(group: str) -> list[Any]:
        points: list[tuple[str, ModuleType]] = [("steerclear.networks", skeleton_network)]
        return [SimpleNamespace(load=lambda module=module: module) for own, module in points if own == group]

    monkeypatch.setattr(shelf, "entry_points", announced)
    entries.cache_clear()
    yield
    monkeypatch.undo()
    entries.cache_clear()


@pytest.mark.usefixtures("a_strangers_kind")
def test_a_strangers_kind_is_typed_stored_and_run_as_ours_are() -> None:
    assert Network.known()["faint-sample"] is FaintSample
    assert parse_network("faint-sample:0.25") == FaintSample(0.25)
    assert Network.from_config(FaintSample(0.25).to_config()) == FaintSample(0.25)
    pipe = tiny.stable_diffusion("ddim")

    class Faint(torch.nn.Module):
        config, dtype, device = pipe.unet.config, pipe.unet.dtype, pipe.unet.device

        def forward(self, sample: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            return pipe.unet.forward(0.25 * sample, *args, **kwargs)

    networks = {"weak": parse_network("faint-sample:0.25"), "perturbed": DroppedLayers()}
    found, _ = latents(pipe, TwoNetworks(), networks=networks)
    expected, _ = latents(pipe, TwoNetworks(), networks={**networks, "weak": OtherNetwork(Faint())})
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)


# by name


def test_a_model_is_loaded_with_networks_and_a_recipe_names_those_that_are_asked_for() -> None:
    model = load_model("portraits", networks={"perturbed": "Dropped_Layers:mid_block"})
    assert list(model.networks) == ["weak", "perturbed"]
    assert model.networks["perturbed"].network == DroppedLayers(("mid_block",))
    dropped = NetworkSource("dropped-layers:layers=mid_block")
    assert model.networks["perturbed"].source == dropped
    assert model.networks["weak"].source == NetworkSource("weak", model.networks["weak"].source.digest)
    assert len(model.networks["weak"].source.digest or "") == 16

    def asked(guidance: Any) -> dict[str, NetworkSource]:
        return recipe_of(model, Method("m", "m", "a man", (), guidance), 2).networks

    assert asked(AutoGuidance(1.0)) == {}
    assert asked(AutoGuidance(2.0)) == {"weak": model.networks["weak"].source}


def test_a_recipe_whose_network_is_missing_is_refused() -> None:
    model = load_model("portraits", weak="noised:0.2")
    assert model.networks["weak"].source == NetworkSource("noised:strength=0.2")
    recipe = recipe_of(model, Method("m", "m", "a man", (), AutoGuidance(2.0)), 2)
    without = load_model("portraits")
    object.__setattr__(without, "networks", {})
    with pytest.raises(UnsupportedModel, match=r"asks for the weak network, .* give load_model\(\.\.\., weak=\.\.\.\)"):
        check_recipe(without, recipe)
