"""Autoguidance everywhere: on the shipped pipelines and on transformers, alone and with what else guides; every forward is counted."""

import copy
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny
import tiny_modular
from steerclear.bridges.diffusers.steer import steer
from steerclear.bridges.modular.guider import guider
from steerclear.core.errors import InvalidSetting
from steerclear.core.guidance import Guidance
from steerclear.evidence.constant import ConstantEvidence
from steerclear.guidance.auto import AutoGuidance
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.guidance.interval import IntervalGuidance
from steerclear.guidance.negative_prompt import NegativePromptGuidance
from steerclear.guidance.unguided import Unguided
from steerclear.models.loading import load_model

STEPS = 4
CFG, NEGATIVE = ClassifierFreeGuidance(3.0), NegativePromptGuidance(2.0, negative_scale=1.0)
DYNAMIC = DynamicNegativeGuidance(1.0, concept="negative", evidence=ConstantEvidence(0.4))
MIDDLE = {"start": 0.25, "stop": 0.75}
"""Two of four steps."""


@dataclass(frozen=True)
class World:
    """A pipeline, a prompt for it, and a negative one."""

    name: str
    prompt: str
    negative: str

    def pipe(self) -> Any:
        return load_model(self.name).pipe if self.name in ("portraits", "digits") else tiny.family(self.name)

    def arguments(self) -> dict[str, Any]:
        own = {} if self.name in ("portraits", "digits") else tiny.call_arguments(self.name)
        return {**own, "num_inference_steps": STEPS, "output_type": "latent"}

    @property
    def off(self) -> dict[str, float]:
        """The pipeline's own guidance, off."""
        return {} if self.name == "flux" else {"guidance_scale": 1.0}


WORLDS = [
    World("portraits", "portrait photo of a man", "mustache"), World("portraits", "", "mustache"),
    World("digits", "any", "3"), World("digits", "3", "5"),
    World("sd3", "a red hat", "beard"), World("flux", "a red hat", "beard"),
]  # fmt: skip
"""With a condition and without: "any" digit and the empty prompt are unconditional."""


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@cache
def built(name: str) -> tuple[Any, dict[str, torch.nn.Module]]:
    """A pipeline and two networks that are worse: its own weights with noise."""
    pipe = World(name, "", "").pipe()
    pipe.set_progress_bar_config(disable=True)
    worse = {}
    for index, network in enumerate(("weak", "perturbed")):
        worse[network] = copy.deepcopy(tiny.network_of(pipe))
        torch.manual_seed(index)
        with torch.no_grad():
            for parameter in worse[network].parameters():
                parameter += 0.1 * torch.randn_like(parameter) * parameter.std(correction=0)
    return pipe, worse


class Counts(Counter[str]):
    """Forwards ("weak") and rows of them ("weak rows") of networks, while open."""

    def __init__(self, **networks: torch.nn.Module) -> None:
        super().__init__()
        self.networks = networks

    def __enter__(self) -> "Counts":
        self.handles = [
            network.register_forward_pre_hook(self.counter(name), with_kwargs=True)
            for name, network in self.networks.items()
        ]
        return self

    def counter(self, name: str):
        def count(module, args, kwargs):
            self.update({name: 1, f"{name} rows": len(args[0] if args else kwargs["hidden_states"])})

        return count

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()


def drawn(world: World, guidance: Guidance, seeds: tuple[int, ...] = (0,), **networks: torch.nn.Module):
    """Final latents, the run and the counts."""
    pipe, worse = built(world.name)
    given = networks or worse
    with (
        Counts(main=tiny.network_of(pipe), **given) as counts,
        steer(pipe, guidance, world.negative, networks=given) as run,
    ):
        prompt = world.prompt if len(seeds) == 1 else [world.prompt] * len(seeds)
        latents: Tensor = pipe(prompt, generator=tiny.generators(*seeds), **world.arguments()).images
    return latents, run, counts


TWICE = AutoGuidance(1.5, AutoGuidance(1.25, network="perturbed"))
COUNTED = {
    "alone": (AutoGuidance(2.0), {"main": 1, "weak": 1}),
    "a mean of both": (AutoGuidance(0.5), {"main": 1, "weak": 1}),
    "the weak one": (AutoGuidance(0.0), {"main": 0, "weak": 1}),
    "off": (AutoGuidance(1.0), {"main": 1, "weak": 0}),
    "with cfg": (AutoGuidance(2.0, CFG), {"main": 2, "weak": 1}),
    "with a negative": (AutoGuidance(2.0, NEGATIVE), {"main": 3, "weak": 1}),
    "with a dynamic negative": (AutoGuidance(2.0, DYNAMIC), {"main": 2, "weak": 1}),
    "around an interval": (AutoGuidance(2.0, IntervalGuidance(CFG, **MIDDLE)), {"main": 1.5, "weak": 1}),
    "in an interval": (IntervalGuidance(AutoGuidance(2.0, CFG), **MIDDLE), {"main": 1.5, "weak": 0.5}),
    "the weak one in an interval": (IntervalGuidance(AutoGuidance(0.0), **MIDDLE), {"main": 0.5, "weak": 0.5}),
    "two networks": (TWICE, {"main": 1, "weak": 1, "perturbed": 1}),
    "two networks, a negative and an interval": (
        IntervalGuidance(AutoGuidance(1.5, AutoGuidance(1.25, DYNAMIC, network="perturbed")), **MIDDLE),
        {"main": 1.5, "weak": 0.5, "perturbed": 0.5},
    ),
}  # fmt: skip
"""Rows that each network evaluates, per step and image."""


@pytest.mark.filterwarnings(
    "ignore::steerclear.core.errors.SteerclearWarning"
)  # a negative prompt that nothing looks at
@pytest.mark.parametrize("world", WORLDS, ids=str)
@pytest.mark.parametrize("what", COUNTED)
def test_every_forward_is_counted(world: World, what: str) -> None:
    guidance, expected = COUNTED[what]
    _, run, counts = drawn(world, guidance)
    for name in ("main", "weak", "perturbed"):
        assert counts[f"{name} rows"] == STEPS * expected.get(name, 0)
    for name in ("weak", "perturbed"):  # and in one forward each
        assert counts[name] == STEPS * expected.get(name, 0)
    assert run.evaluations.tolist() == [STEPS * sum(expected.values())]


@pytest.mark.filterwarnings("ignore::steerclear.core.errors.SteerclearWarning")
@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_at_scale_0_it_is_the_weak_pipeline_alone_and_at_1_the_pipeline(world: World) -> None:
    """Bit by bit: of the pipeline with the weak network in place of its own, not steered."""
    pipe, worse = built(world.name)
    part = "unet" if getattr(pipe, "unet", None) is not None else "transformer"
    own = getattr(pipe, part)
    ends = {}
    for name, network in (("weak", worse["weak"]), ("main", own)):
        try:
            setattr(pipe, part, network)
            ends[name] = pipe(world.prompt, generator=tiny.generators(0), **world.arguments(), **world.off).images
        finally:
            setattr(pipe, part, own)
    assert torch.equal(drawn(world, AutoGuidance(0.0))[0], ends["weak"])
    assert torch.equal(drawn(world, AutoGuidance(1.0))[0], ends["main"])
    assert not torch.equal(ends["weak"], ends["main"])


@pytest.mark.filterwarnings("ignore::steerclear.core.errors.SteerclearWarning")
@pytest.mark.parametrize("world", WORLDS, ids=str)
@pytest.mark.parametrize("what", ["a mean of both", "the weak one", "two networks, a negative and an interval"])
def test_image_k_of_a_batch_is_image_k_alone(world: World, what: str) -> None:
    guidance, _ = COUNTED[what]
    together, run, _ = drawn(world, guidance, (5, 3, 8))
    for row, seed in enumerate((5, 3, 8)):
        alone, own, _ = drawn(world, guidance, (seed,))
        assert float((together[row] - alone[0]).abs().max()) < 1e-4
        assert run.evaluations[row] == own.evaluations[0]


def test_the_shipped_weak_network_is_evaluated_once_a_step() -> None:
    model = load_model("portraits")
    pipe, weak = model.pipe, model.networks["weak"].network
    with Counts(main=pipe.unet, weak=weak) as counts, steer(pipe, AutoGuidance(1.5, CFG), weak=weak) as run:
        pipe("portrait photo of a man", num_inference_steps=6, generator=tiny.generators(0), output_type="latent")
    assert counts == {"main": 6, "main rows": 12, "weak": 6, "weak rows": 6}
    assert run.trace.branches == [("empty", "positive", "weak:positive")] * 6


@pytest.mark.filterwarnings("ignore::steerclear.core.errors.SteerclearWarning")
def test_outside_of_an_interval_of_noise_levels_the_weak_network_does_not_run() -> None:
    """An interval that the last two steps lie in, and one that none does."""
    world = World("digits", "3", "5")
    plain, run, _ = drawn(world, Unguided())
    levels = run.trace.levels
    _, run, counts = drawn(world, IntervalGuidance(AutoGuidance(2.0), 0.0, (levels[1] + levels[2]) / 2, "sigma"))
    assert run.trace.branches == [("positive",)] * 2 + [("positive", "weak:positive")] * 2
    assert (counts["main"], counts["weak"]) == (4, 2)
    never, _, counts = drawn(world, IntervalGuidance(AutoGuidance(2.0), 2 * levels[0], 1e9, "sigma"))
    assert (counts["main"], counts["weak"]) == (4, 0)
    assert torch.equal(never, plain)


@pytest.mark.filterwarnings("ignore::steerclear.core.errors.SteerclearWarning")
def test_two_networks_push_as_two_guidances() -> None:
    """The pushes add up, in any order of the two; two names of one network are one push of both sizes."""
    world, weak = World("sd3", "a red hat", "beard"), built("sd3")[1]["weak"]
    ours, theirs = drawn(world, TWICE)[0], drawn(world, AutoGuidance(1.25, AutoGuidance(1.5), "perturbed"))[0]
    assert float((ours - theirs).abs().max()) < 1e-5
    same = drawn(world, TWICE, weak=weak, perturbed=weak)[0]
    assert float((same - drawn(world, AutoGuidance(1.75))[0]).abs().max()) < 1e-5
    assert float((same - ours).abs().max()) > 1e-3


def test_a_modular_pipeline_at_scale_0_is_the_weak_one_alone() -> None:
    pipe, weak = tiny_modular.pipeline("sd3"), tiny_modular.network("sd3", seed=7)
    pipe.update_components(guider=guider(Unguided()))
    main = tiny_modular.latents(pipe, "sd3")
    pipe.update_components(guider=guider(AutoGuidance(0.0), weak=weak))
    with Counts(main=pipe.transformer, weak=weak) as counts:
        found = tiny_modular.latents(pipe, "sd3")
    assert (counts["main"], counts["weak"]) == (0, 3)
    pipe.update_components(guider=guider(Unguided()), transformer=weak)
    assert torch.equal(found, tiny_modular.latents(pipe, "sd3"))
    assert float((found - main).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["main", "Weak", "", "2nd", "weak:positive", 3, None])
def test_names_that_no_weak_network_has(name: Any) -> None:
    with pytest.raises(InvalidSetting, match=r"network is .*, but must be"):
        AutoGuidance(2.0, network=name)
