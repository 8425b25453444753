"""Weak networks of every kind and family: against another way of making them, per image, and without a trace."""

import copy
import gc
import json
import threading
import weakref
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

import tiny
from steerclear.bridges.diffusers.steer import steer
from steerclear.core.errors import InvalidSetting, SteerclearWarning, UnknownName, UnsupportedModel, on_command_line
from steerclear.core.network import Forward, Network
from steerclear.core.seeds import mixed
from steerclear.guidance.auto import AutoGuidance
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.networks.dropout import SeededDropout
from steerclear.networks.dropped_layers import DroppedLayers
from steerclear.networks.narrow_context import NarrowContext
from steerclear.networks.noised_weights import NoisedWeights
from steerclear.networks.other_network import OtherNetwork
from steerclear.networks.quantized_weights import QuantizedWeights
from steerclear.networks.shared.naming import as_networks, is_kind, network_text, parse_network
from steerclear.networks.shared.second_weights import second_weights, weighted_layers
from steerclear.networks.snapshot import SnapshotWeights
from steerclear.networks.with_lora import WithLora
from steerclear.networks.without_lora import WithoutLora

SEEDS = (7, 3, 11, 5)
TEXTS = ["a red hat", "a blue car", "a hen", "a"]
FAMILIES = tuple(name for name in tiny.one_of_each().values() if name != "classes")
"""The network of named classes is made of Stable Diffusion's layers, without attention to a text."""
WITH_TEXT = tuple(name for name in FAMILIES if name in tiny.WITH_TEXT)
WITH_ADAPTERS = ("sd", "sdxl", "sd3", "flux")  # diffusers gives the other networks no adapters

pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # two adapters are meant


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


@cache
def captured(name):
    """What a pipeline of the family gives its network at the first step, on four images; and a fresh such network."""
    pipe = tiny.family(name)
    seen = []

    def see(module, args, kwargs):
        if not seen:
            seen.append((args, kwargs))

    network = tiny.network_of(pipe)
    handle = network.register_forward_pre_hook(see, with_kwargs=True)
    settings = {**tiny.call_arguments(name), "num_inference_steps": 2, "output_type": "latent"}
    if name not in WITH_TEXT:
        settings.pop("output_type")
        pipe([3, 5, 7, 3], guidance_scale=1.0, **settings)
    else:
        scale = {tiny.FAMILIES[name].scale: 1.0}
        pipe(TEXTS, generator=tiny.generators(*SEEDS), **scale, **settings)
    handle.remove()
    return seen[0]


@cache
def built(name):
    return tiny.network_of(tiny.family(name))


def fresh(name):
    return copy.deepcopy(built(name))


def weak_call(network, name, rows=(0, 1, 2, 3), step=2):
    args, kwargs = captured(name)
    rows = list(rows)
    return Forward(network, taken(args, rows), taken(kwargs, rows), tuple(SEEDS[row] for row in rows), step)


def taken(value, rows):
    if isinstance(value, torch.Tensor):
        return value[rows] if value.ndim and len(value) == len(SEEDS) else value
    if isinstance(value, dict):
        return {key: taken(inner, rows) for key, inner in value.items()}
    return tuple(taken(inner, rows) for inner in value) if isinstance(value, tuple) else value


def tensor(output):
    return output[0] if isinstance(output, tuple) else output.sample


def weak_prediction(kind, network, name, **rows):
    kind.check(None, network)
    with kind.attached(None, network) as run:
        return tensor(run(weak_call(network, name, **rows)))


def prediction(network, name):
    call = weak_call(network, name)
    return tensor(network(*call.args, **call.kwargs))


def zeroed(*layers):
    for layer in layers:
        for parameter in layer.parameters():
            parameter.zero_()


# one layer of every kind that can be left out, and the weights that must be zero for it to add nothing

DROPPED = {
    "sd": {
        "mid_block.attentions.0.transformer_blocks.0.attn1": ["mid_block.attentions.0.transformer_blocks.0.attn1.to_out"],
        "mid_block.attentions.0.transformer_blocks.0.attn2": ["mid_block.attentions.0.transformer_blocks.0.attn2.to_out"],
        "mid_block.attentions.0.transformer_blocks.0.ff": ["mid_block.attentions.0.transformer_blocks.0.ff.net.2"],
        "mid_block.attentions.0": ["mid_block.attentions.0.proj_out"],
        "down_blocks.1.resnets.0": ["down_blocks.1.resnets.0.conv2"],
        "mid_block.resnets.1": ["mid_block.resnets.1.conv2"],
        "mid_block": ["mid_block.attentions.0.proj_out", "mid_block.resnets.0.conv2", "mid_block.resnets.1.conv2"],
    },
    "sdxl": {"*.attentions.0": ["down_blocks.1.attentions.0.proj_out", "mid_block.attentions.0.proj_out",
                                "up_blocks.0.attentions.0.proj_out"]},
    "sd3": {
        "transformer_blocks.0.attn": ["transformer_blocks.0.attn.to_out", "transformer_blocks.0.attn.to_add_out"],
        "transformer_blocks.1.attn": ["transformer_blocks.1.attn.to_out"],
        "transformer_blocks.0.ff": ["transformer_blocks.0.ff.net.2"],
        "transformer_blocks.0": ["transformer_blocks.0.attn.to_out", "transformer_blocks.0.attn.to_add_out",
                                 "transformer_blocks.0.ff.net.2", "transformer_blocks.0.ff_context.net.2"],
        "transformer_blocks.1": ["transformer_blocks.1.attn.to_out", "transformer_blocks.1.ff.net.2"],
    },
    "flux": {
        "transformer_blocks.0.attn": ["transformer_blocks.0.attn.to_out", "transformer_blocks.0.attn.to_add_out"],
        "transformer_blocks.0": ["transformer_blocks.0.attn.to_out", "transformer_blocks.0.attn.to_add_out",
                                 "transformer_blocks.0.ff.net.2", "transformer_blocks.0.ff_context.net.2"],
        "single_transformer_blocks.0": ["single_transformer_blocks.0.proj_out"],
        "single_transformer_blocks.0.attn": ["single_transformer_blocks.0.attn.to_v"],
    },
    "pixart": {
        "transformer_blocks.1.attn2": ["transformer_blocks.1.attn2.to_out"],
        "transformer_blocks.0": ["transformer_blocks.0.attn1.to_out", "transformer_blocks.0.attn2.to_out",
                                 "transformer_blocks.0.ff.net.2"],
    },
    "dit": {"transformer_blocks.1": ["transformer_blocks.1.attn1.to_out", "transformer_blocks.1.ff.net.2"]},
}  # fmt: skip


@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name, layers in DROPPED.items() for layer in layers])
def test_a_dropped_layer_is_one_whose_last_weights_are_zero(name, layer):
    network = fresh(name)
    other = copy.deepcopy(network)
    zeroed(*(other.get_submodule(path) for path in DROPPED[name][layer]))
    found = weak_prediction(DroppedLayers((layer,)), network, name)
    assert torch.allclose(found, prediction(other, name), rtol=1e-6, atol=1e-6)
    assert float((found - prediction(network, name)).abs().max()) > 1e-5  # so that the comparison means something


def test_dropped_layers_are_not_run():
    network, ran = fresh("sd"), []
    network.mid_block.attentions[0].proj_out.register_forward_hook(lambda *_: ran.append("proj_out"))
    network.mid_block.attentions[0].register_forward_hook(lambda *_: ran.append("attention"))
    weak_prediction(DroppedLayers(("mid_block.attentions.0",)), network, "sd")
    assert ran == ["attention"]  # the hooks of the layer itself still are, those of what is in it are not


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (("mid_blok.attentions.0",), "has no layer 'mid_blok.attentions.0'; the nearest are mid_block.attentions.0, "),
        (
            ("down_blocks.0",),
            "down_blocks.0 is a DownBlock2D, without which the network cannot run; what can be left out",
        ),
        (("conv_in",), "conv_in is a Conv2d, without which the network cannot run"),
    ],
)
def test_layers_that_cannot_be_dropped(layers, message):
    with pytest.raises(UnsupportedModel) as caught:
        DroppedLayers(layers).check(None, fresh("sd"))
    assert message in str(caught.value)


def test_a_network_without_a_middle_block_names_some_of_its_layers():
    with pytest.raises(UnsupportedModel) as caught:
        parse_network("dropped-layers").check(None, fresh("sd3"))
    assert str(caught.value) == (
        "SD3Transformer2DModel has no mid_block, which dropped layers are by default; name some of its own, such as "
        "layers=('transformer_blocks.0', 'transformer_blocks.0.attn', 'transformer_blocks.0.ff')"
    )
    with (
        on_command_line(),
        pytest.raises(UnsupportedModel, match=r"such as dropped-layers:transformer_blocks\.0,transf"),
    ):
        parse_network("dropped-layers").check(None, fresh("sd3"))
    parse_network("dropped-layers").check(None, fresh("sd"))


# changed weights


def by_hand(network, change):
    """A copy of the network with every weight of a linear, convolution or embedding layer changed in place."""
    other = copy.deepcopy(network)
    for path, layer in other.named_modules():
        if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Embedding)):
            layer.weight.copy_(change(path, layer.weight))
    return other


def noised(path, weight):
    generator = torch.Generator().manual_seed(mixed(4, zlib.crc32(path.encode())) % 2**32)
    return weight + 0.2 * weight.std() * torch.randn(weight.shape, generator=generator)


def rounded(path, weight):
    scale = weight.flatten(1).abs().max(1).values / 7
    return torch.fake_quantize_per_channel_affine(
        weight, scale.clamp(min=1e-30), torch.zeros(len(scale), dtype=torch.int32), 0, -7, 7
    )


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("kind", "change"), [(NoisedWeights(0.2, 4), noised), (QuantizedWeights(4), rounded)], ids=["noised", "quantized"]
)
def test_changed_weights_are_those_of_a_network_changed_by_hand(name, kind, change):
    network = fresh(name)
    found = weak_prediction(kind, network, name)
    assert torch.allclose(found, prediction(by_hand(network, change), name), rtol=1e-6, atol=1e-6)
    assert float((found - prediction(network, name)).abs().max()) > 1e-3


def test_noise_is_as_strong_as_it_says_and_different_in_each_layer():
    network = tiny.unet(channels=(32, 64))
    kind = NoisedWeights(0.2, 4)
    noises = {}
    for path, layer in weighted_layers(network).items():
        if layer.weight.numel() > 5000:
            noise = (kind.changed_weight(path, layer.weight) - layer.weight) / layer.weight.std()
            assert abs(float(noise.std()) - 0.2) < 0.01
            assert abs(float(noise.mean())) < 0.01
            noises[path] = noise.flatten()[:4000]
    correlations = torch.corrcoef(torch.stack(list(noises.values()))) - torch.eye(len(noises))
    assert float(correlations.abs().max()) < 0.08


@pytest.mark.parametrize("kind", [NoisedWeights(0.0), QuantizedWeights(16)], ids=str)
def test_a_change_of_nothing_is_the_network_itself(kind):
    network = fresh("sd")
    distance = float((weak_prediction(kind, network, "sd") - prediction(network, "sd")).abs().max())
    assert distance == 0 if isinstance(kind, NoisedWeights) else 0 < distance < 1e-3


def test_weights_in_double_precision_keep_it():
    layers = torch.nn.Sequential(torch.nn.Linear(3, 3, dtype=torch.float64))
    weight = layers[0].weight.fill_(1 / 3)
    second = second_weights(layers, lambda path, weight: weight)
    assert torch.equal(second.network[0].weight, weight)


def test_quantised_weights_have_few_levels():
    weight = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    for bits in (2, 3, 8):
        levels = [len(row.unique()) for row in QuantizedWeights(bits).changed_weight("x", weight)]
        assert max(levels) <= 2**bits - 1
    assert torch.equal(QuantizedWeights(4).changed_weight("x", torch.zeros(2, 3)), torch.zeros(2, 3))


def test_weights_are_made_once_and_gone_afterwards(monkeypatch):
    from steerclear.networks.shared import second_weights as changed_weights

    made = []

    def watched(network, change):
        second = second_weights(network, change)
        made.append([weakref.ref(layer._parameters["weight"]) for _, layer in second.pairs])
        return second

    monkeypatch.setattr(changed_weights, "second_weights", watched)
    network = fresh("sd")
    with NoisedWeights(0.1).attached(None, network) as run:
        assert made == []  # not before they are needed
        for step in range(3):
            run(weak_call(network, "sd", step=step))
        assert len(made) == 1
        assert all(alive() is not None for alive in made[0])
        biases = {layer.bias.data_ptr() for _, layer in changed_weights.second_weights(network, noised).pairs
                  if layer.bias is not None}  # fmt: skip
        assert biases <= {parameter.data_ptr() for parameter in network.parameters()}  # what is the same is shared
    gc.collect()
    assert all(alive() is None for alive in made[0])


def test_the_second_weights_follow_the_first():
    network = fresh("sd")
    with NoisedWeights(0.1).attached(None, network) as run:
        run(weak_call(network, "sd"))
        network.to(torch.float64)
        call = weak_call(network, "sd")
        args, kwargs = (
            torch.utils._pytree.tree_map_only(torch.Tensor, torch.Tensor.double, part)
            for part in (call.args, call.kwargs)
        )
        found = tensor(run(Forward(network, args, kwargs, call.seeds, 0)))
    assert found.dtype == torch.float64


# dropout


def splitmix(key, count):
    """SplitMix64 in numpy."""
    with np.errstate(over="ignore"):
        state = np.uint64(key) + np.uint64(0x9E3779B97F4A7C15) * np.arange(1, count + 1, dtype=np.uint64)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


def test_splitmix_is_the_published_one():
    assert [int(value) for value in splitmix(1234567, 3)] == [
        6457827717110365317, 3203168211198807973, 9817491932198370423,
    ]  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_dropout_is_that_of_masks_made_by_hand(name):
    network = fresh(name)
    other = copy.deepcopy(network)
    for path, layer in other.named_modules():
        if isinstance(layer, torch.nn.Dropout):

            def drop(module, args, output, path=path):
                rows = []
                for seed, row in zip(SEEDS, output, strict=True):
                    numbers = splitmix(mixed(9, seed, 2, zlib.crc32(path.encode())), row.numel())
                    kept = torch.from_numpy((numbers >> np.uint64(11)).astype(np.float64) / 2**53 >= 0.3)
                    rows.append(row * kept.reshape(row.shape) / 0.7)
                return torch.stack(rows)

            layer.register_forward_hook(drop)
    found = weak_prediction(SeededDropout(0.3, 9), network, name)
    assert torch.allclose(found, prediction(other, name), rtol=1e-6, atol=1e-6)


def test_masks_differ_by_seed_image_step_and_layer():
    def masks(**change):
        settings = {"seed": 0, "image": 7, "step": 2, "layer": 5, **change}
        return splitmix(mixed(*settings.values()), 1000) >> np.uint64(63)

    for name in ("seed", "image", "step", "layer"):
        assert 400 < int((masks() != masks(**{name: 77})).sum()) < 600


def test_dropout_in_chosen_layers_only():
    network = fresh("sd")
    path = "mid_block.attentions.0.transformer_blocks.0.ff.net.1"
    ran = []
    network.get_submodule(path).register_forward_hook(lambda *_: ran.append(path))
    few = weak_prediction(SeededDropout(0.3, layers=("mid_block.*.ff.*",)), network, "sd")
    assert ran == []  # another layer is in its place
    assert not torch.equal(few, weak_prediction(SeededDropout(0.3), network, "sd"))
    with pytest.raises(UnsupportedModel, match=r"has no layer 'mid_block\.ff'; the nearest are"):
        SeededDropout(0.3, layers=("mid_block.ff",)).check(None, network)


# narrow context


@pytest.mark.parametrize("name", WITH_TEXT)
def test_a_narrow_context_is_a_text_cut_by_hand(name):
    network = fresh(name)
    call = weak_call(network, name)
    kwargs = dict(call.kwargs)
    cut = {"encoder_hidden_states": lambda text: text[:, :3], "encoder_attention_mask": lambda mask: mask[:, :3],
           "txt_ids": lambda ids: ids[:3]}  # fmt: skip
    for argument, narrow in cut.items():
        if kwargs.get(argument) is not None:
            kwargs[argument] = narrow(kwargs[argument])
    found = weak_prediction(NarrowContext(3), network, name)
    assert torch.equal(found, tensor(network(*call.args, **kwargs)))
    assert float((found - prediction(network, name)).abs().max()) > 1e-6


def test_a_context_that_is_not_narrower_says_so_once():
    network = fresh("sd")
    with NarrowContext(77).attached(None, network) as run, pytest.warns(SteerclearWarning) as warned:
        found = [tensor(run(weak_call(network, "sd"))) for _ in range(2)]
    assert len(warned) == 1
    assert str(warned[0].message) == (
        "a narrow context has no effect: the text has 77 tokens, and with tokens=77 all of them are seen; take fewer"
    )
    assert torch.equal(found[0], prediction(network, "sd"))


def test_a_network_without_text_has_no_context():
    with pytest.raises(UnsupportedModel, match="DiTTransformer2DModel takes no text"):
        NarrowContext(1).check(None, fresh("dit"))


# LoRA


def with_loras(name, *adapters):
    """A network with LoRA adapters of random weights, all of them on."""
    from peft import LoraConfig

    network = fresh(name)
    for index, adapter in enumerate(adapters):
        torch.manual_seed(20 + index)
        targets = ["to_q", "to_v", "to_out.0"]
        network.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False), adapter)
    if adapters:
        network.set_adapters(list(adapters))
    return network.eval()


@pytest.mark.parametrize("name", WITH_ADAPTERS)
def test_without_lora_is_the_network_with_its_adapters_deleted(name):
    network = with_loras(name, "style", "colour")
    expected = prediction(fresh(name), name)
    found = weak_prediction(WithoutLora(), network, name)
    assert torch.equal(found, expected)
    assert float((found - prediction(network, name)).abs().max()) > 1e-4

    other = with_loras(name, "style", "colour")
    other.delete_adapters("style")
    assert torch.equal(weak_prediction(WithoutLora(("style",)), network, name), prediction(other, name))


@pytest.mark.parametrize("name", WITH_ADAPTERS)
@pytest.mark.parametrize("others", [(), ("style",)], ids=["alone", "beside another"])
def test_with_lora_is_the_network_with_the_adapter_on(name, others):
    network = with_loras(name, "style", "bad")
    expected = copy.deepcopy(network)
    expected.set_adapters([*others, "bad"], [*(1.0 for _ in others), 0.7])
    if others:
        network.set_adapters(list(others))
    else:
        network.disable_adapters()
    assert torch.equal(weak_prediction(WithLora("bad", 0.7), network, name), prediction(expected, name))


def test_the_scale_of_the_call_is_honoured_in_the_weak_pass():
    network = with_loras("sd", "style", "colour")
    other = with_loras("sd", "style", "colour")
    other.set_adapters(["style"])
    call = weak_call(network, "sd")
    kwargs = {**call.kwargs, "cross_attention_kwargs": {"scale": 0.3}}
    with WithoutLora(("colour",)).attached(None, network) as run:
        found = tensor(run(Forward(network, call.args, kwargs, call.seeds, 0)))
    assert torch.equal(found, tensor(other(*call.args, **kwargs)))


def test_adapters_changed_between_two_calls_are_noticed():
    network, other = with_loras("sd", "style", "colour"), with_loras("sd", "style", "colour")
    with WithoutLora(("colour",)).attached(None, network) as run:
        for scale in (1.0, 0.25):
            network.set_adapters(["style", "colour"], [scale, 1.0])
            other.set_adapters(["style"], [scale])
            assert torch.equal(tensor(run(weak_call(network, "sd"))), prediction(other, "sd"))


@pytest.mark.parametrize(
    ("kind", "prepare", "error", "message"),
    [
        (WithoutLora(), lambda: fresh("sd"), UnsupportedModel, "the pipeline's network has no LoRA, or it is fused"),
        (WithoutLora(("stile",)), lambda: with_loras("sd", "style"), UnknownName,
         "there is no LoRA adapter of the network 'stile'; did you mean 'style'?"),
        (WithLora("bad"), lambda: with_loras("sd", "bad"), UnsupportedModel, "is on in the pipeline itself"),
        (WithoutLora(), lambda: switched_off(with_loras("sd", "style")), UnsupportedModel,
         "has all its LoRA adapters switched off already"),
        (WithoutLora(), lambda: fused(with_loras("sd", "style")), UnsupportedModel, "call pipe.unfuse_lora()"),
    ],
)  # fmt: skip
def test_adapters_that_cannot_be_switched(kind, prepare, error, message):
    with pytest.raises(error) as caught:
        kind.check(None, prepare())
    assert message in str(caught.value)


def switched_off(network):
    network.disable_adapters()
    return network


def fused(network):
    network.fuse_lora()
    return network


# laws of all kinds

KINDS = sorted(Network.known())
SECOND_WEIGHTS = (NoisedWeights, QuantizedWeights, SnapshotWeights)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_costs_and_gives_an_example(kind):
    assert Network.known()[kind].memory
    assert Network.known()[kind].time
    network, weak = prepared(kind, "sd")
    assert type(weak) is Network.known()[kind]
    assert float((weak_prediction(weak, network, "sd") - prediction(network, "sd")).abs().max()) > 1e-5


def prepared(kind, name):
    """A network with two LoRAs, one of them on, and the kind's example for it."""
    if name in WITH_ADAPTERS:
        network = with_loras(name, "style", "bad")
        network.set_adapters(["style"])
    else:
        network = fresh(name)
    examples = Network.known()[kind].examples(network)
    if not examples:
        pytest.skip(f"{kind} cannot be made of this network")
    return network, examples[0]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_row_k_of_a_batch_is_row_k_alone(kind, name):
    network, weak = prepared(kind, name)
    together = weak_prediction(weak, network, name)
    for row in range(len(SEEDS)):
        alone = weak_prediction(weak, network, name, rows=[row])
        assert torch.allclose(together[row], alone[0], rtol=1e-5, atol=1e-5)
    swapped = weak_prediction(weak, network, name, rows=[2, 0])
    assert torch.allclose(swapped, together[[2, 0]], rtol=1e-5, atol=1e-5)


def everything(network):
    """All that a weak pass could leave behind: attributes, weights and hooks of every module."""
    return {
        path: (id(module), type(module), vars(module).copy(), {key: dict(value) for key, value in vars(module).items()
                                                               if isinstance(value, dict)})
        for path, module in network.named_modules()
    }  # fmt: skip


def assert_same(before, after):
    assert before.keys() == after.keys()
    for path, (*kind, attributes, inside) in before.items():
        *kind_now, attributes_now, inside_now = after[path]
        assert kind == kind_now
        assert attributes.keys() == attributes_now.keys()
        assert all(attributes_now[key] is value for key, value in attributes.items()), path
        for key, values in inside.items():
            assert values.keys() == inside_now[key].keys(), (path, key)
            assert all(inside_now[key][name] is value for name, value in values.items()), (path, key)


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_as_it_was_whatever_happens(kind, error):
    network, weak = prepared(kind, "sd")
    seen = []

    def stop(module, args):
        seen.append(everything(network))
        if error is not None:
            raise error

    run_last = network.conv_out if kind != "network" else weak.network.conv_out
    handle = run_last.register_forward_pre_hook(stop)
    before, weights = everything(network), {name: value.clone() for name, value in network.state_dict().items()}
    trainable = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    weak.check(None, network)
    attempt = weak.attached(None, network)
    if error is None:
        with attempt as run:
            run(weak_call(network, "sd"))
    else:
        with pytest.raises(error), attempt as run:
            run(weak_call(network, "sd"))
    if not isinstance(weak, SECOND_WEIGHTS):
        assert len(seen) == 1
        assert_same(before, seen[0])  # not even in the middle of a weak pass
    assert_same(before, everything(network))
    handle.remove()
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    assert trainable == {name: parameter.requires_grad for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("kind", ["noised", "dropped-layers", "without-lora"])
def test_another_thread_may_run_the_network_meanwhile(kind):
    """The network is asked by another thread in the middle of a weak pass, and answers as ever."""
    network, weak = prepared(kind, "sd")
    expected, inside, answers = prediction(network, "sd"), [], []

    def ask(module, args):
        if not inside:
            inside.append(True)
            thread = threading.Thread(target=lambda: answers.append(asked()))
            thread.start()
            thread.join()

    def asked():
        with torch.no_grad():
            return prediction(network, "sd")

    network.conv_norm_out.register_forward_pre_hook(ask)
    found = weak_prediction(weak, network, "sd")
    assert torch.equal(answers[0], expected)
    assert not torch.equal(found, expected)


@pytest.mark.parametrize("in_place", [False, True], ids=["wrapped", "in place"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_compiled_network_has_the_same_weak_one(kind, in_place):
    network, weak = prepared(kind, "sd")
    expected = weak_prediction(weak, network, "sd")
    if in_place:
        network.compile(backend="eager")
        compiled = network
    else:
        compiled = torch.compile(network, backend="eager")
    if kind == "network":
        weak = OtherNetwork(weak.network)
    assert torch.allclose(weak_prediction(weak, compiled, "sd"), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_under_offloading_as_a_whole(kind):
    """accelerate's hook moves the weights before the network's forward, which a weak pass does not call."""
    from accelerate import cpu_offload_with_hook

    network, weak = prepared(kind, "sd")
    expected = weak_prediction(weak, network, "sd")
    moved = []
    _, hook = cpu_offload_with_hook(network, torch.device("cpu"))
    before = hook.hook.pre_forward
    hook.hook.pre_forward = lambda module, *args, **kwargs: (moved.append(module), before(module, *args, **kwargs))[1]
    assert torch.equal(weak_prediction(weak, network, "sd"), expected)
    assert (set(moved) == {network}) == (kind != "network")


@pytest.mark.parametrize("kind", KINDS)
def test_under_sequential_offloading(kind):
    """Weights are on no device between forwards: second weights are refused, everything else works."""
    from accelerate import cpu_offload

    network, weak = prepared(kind, "sd")
    expected = weak_prediction(weak, network, "sd")
    cpu_offload(network, torch.device("cpu"))
    if isinstance(weak, SECOND_WEIGHTS):
        with pytest.raises(UnsupportedModel, match=r"sequential offloading\).* use enable_model_cpu_offload"):
            weak.check(None, network)
    else:
        assert torch.equal(weak_prediction(weak, network, "sd"), expected)


def test_a_forward_that_somebody_replaced_is_refused():
    network = fresh("sd")
    network.enable_layerwise_casting(storage_dtype=torch.float16, compute_dtype=torch.float32)
    with pytest.raises(UnsupportedModel, match=r"the forward of .* was replaced .* so it cannot be copied"):
        NoisedWeights().check(None, network)
    found = weak_prediction(DroppedLayers(("mid_block",)), network, "sd")  # the hooks are on layers that are shared
    other = fresh("sd")
    other.enable_layerwise_casting(storage_dtype=torch.float16, compute_dtype=torch.float32)
    zeroed(other.mid_block.attentions[0].proj_out, *(resnet.conv2 for resnet in other.mid_block.resnets))
    assert torch.allclose(found, prediction(other, "sd"), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("level", ["block_level", "leaf_level"])
@pytest.mark.parametrize("kind", KINDS)
def test_under_group_offloading_a_kind_is_refused_or_exact(kind, level):
    network, weak = prepared(kind, "sd3")
    expected = weak_prediction(weak, network, "sd3")
    blocks = {"num_blocks_per_group": 1} if level == "block_level" else {}
    network.enable_group_offload(
        onload_device=torch.device("cpu"), offload_device=torch.device("cpu"), offload_type=level, **blocks
    )
    refused = None
    try:
        weak.check(None, network)
    except UnsupportedModel as error:
        refused = str(error)
    if refused is None:
        assert torch.equal(weak_prediction(weak, network, "sd3"), expected)
        return
    assert "was replaced (diffusers' group offloading" in refused
    assert level == "block_level" or isinstance(weak, SECOND_WEIGHTS)  # with groups of leaves all leaves are shared
    assert not isinstance(weak, OtherNetwork | NarrowContext)


def test_quantised_networks_cannot_be_changed():
    network = fresh("sd")
    network.conv_out.weight = torch.nn.Parameter(network.conv_out.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(UnsupportedModel, match=r"the weight of conv_out is a Parameter of torch\.int8"):
        NoisedWeights().check(None, network)


# another network


def test_another_network_must_fit():
    network = fresh("sd")
    with pytest.raises(UnsupportedModel, match="its cross_attention_dim is 8, and the pipeline's network has 16"):
        OtherNetwork(tiny.unet(cross_attention_dim=8)).check(None, network)
    with pytest.raises(UnsupportedModel, match=r"bring it there with network\.to\(torch\.float32\)"):
        OtherNetwork(tiny.unet().to(torch.bfloat16)).check(None, network)


def test_another_network_must_be_where_the_pipeline_runs():
    pipe = tiny.stable_diffusion()
    weak = OtherNetwork(tiny.unet().to("meta"))
    with pytest.raises(
        UnsupportedModel, match=r"on meta and the pipeline runs on cpu; bring it there with network\.to\('cpu'\)"
    ):
        weak.check(pipe, pipe.unet)
    weak.network._hf_hook = "brings it to the pipeline's device"
    weak.check(pipe, pipe.unet)


def test_a_module_is_another_network():
    network = tiny.unet()
    assert as_networks(network, None) == {"weak": OtherNetwork(network)}
    assert as_networks(NoisedWeights(), {"b": network}) == {"weak": NoisedWeights(), "b": OtherNetwork(network)}
    assert as_networks(None, None) == {}


@pytest.mark.parametrize(
    ("weak", "networks", "message"),
    [
        ("noised", None, "weak is 'noised', but must be a network (a torch module) or one of"),
        (None, {"b": "noised"}, "networks['b'] is 'noised', but must be a network (a torch module) or one of"),
        (
            None,
            NoisedWeights(),
            "networks is NoisedWeights(strength=0.1, seed=0), but must be a mapping of names to networks;",
        ),
        (NoisedWeights(), {"weak": NoisedWeights()}, "the weak network is given twice; give it once."),
        (
            None,
            {"main": NoisedWeights()},
            "the name of a network is 'main', but must be lower-case letters, digits and",
        ),
        (None, {"a:b": NoisedWeights()}, "the name of a network is 'a:b', but must be lower-case letters, digits and"),
        (None, {3: NoisedWeights()}, "the name of a network is 3, but must be lower-case letters, digits and"),
    ],
)
def test_what_is_no_network_of_a_run(weak, networks, message):
    with pytest.raises(InvalidSetting) as caught:
        as_networks(weak, networks)
    assert message in str(caught.value)


# what people type


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("noised", NoisedWeights()),
        ("noised:strength=0.1,seed=0", NoisedWeights(0.1, 0)),
        ("noised: strength=0.1, seed=3", NoisedWeights(0.1, 3)),
        ("quantized:bits=3", QuantizedWeights(3)),
        ("dropout:probability=0.2,layers=mid_block.*,up_blocks.*,seed=4", SeededDropout(0.2, 4, ("mid_block.*", "up_blocks.*"))),
        ("dropped-layers:layers=mid_block", DroppedLayers(("mid_block",))),
        ("noised:0.1", NoisedWeights(0.1)),
        ("noised:0.2,seed=3", NoisedWeights(0.2, 3)),
        ("quantized:3", QuantizedWeights(3)),
        ("dropout:0.2", SeededDropout(0.2)),
        ("narrow-context:4", NarrowContext(4)),
        ("with-lora:lora_1,scale=0.5", WithLora("lora_1", 0.5)),
        ("without-lora:lora_1,lora_2", WithoutLora(("lora_1", "lora_2"))),
        ("dropped-layers:mid_block,up_blocks.0.*", DroppedLayers(("mid_block", "up_blocks.0.*"))),
        ("dropped-layers", DroppedLayers(("mid_block",))),
        ("narrow-context:tokens=4", NarrowContext(4)),
        ("without-lora", WithoutLora()),
        ("Without_Lora:adapters=style", WithoutLora(("style",))),
        ("with-lora:adapter=123,scale=-0.5", WithLora("123", -0.5)),
    ],
)  # fmt: skip
def test_a_weak_network_from_what_people_type(text, expected):
    assert is_kind(text)
    assert parse_network(text) == expected
    assert parse_network(network_text(parse_network(text))) == expected
    assert Network.from_config(json.loads(json.dumps(expected.to_config()))) == expected


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("quantised:bits=3", UnknownName, "there is no kind of network 'quantised'; did you mean 'quantized'?"),
        ("noised:strenght=0.1", UnknownName, "there is no parameter of noised 'strenght'; did you mean 'strength'?"),
        ("noised:0.1,0.2", InvalidSetting, "strength is '0.1,0.2', but must be a finite number of at least 0."),
        ("noised:0.1,strength=0.2", InvalidSetting, "strength is given twice, as 0.1 and as 0.2; give it once."),
        ("noised:seed=1,seed=2", InvalidSetting, "seed is given twice, as 1 and as 2; give it once."),
        ("noised:strength=loud", InvalidSetting, "strength is 'loud', but must be a finite number of at least 0."),
        ("noised:seed=1.5", InvalidSetting, "seed is 1.5, but must be a whole number of at least 0."),
        ("quantized:bits=1", InvalidSetting, "bits is 1, but must be a whole number from 2 to 16."),
        ("narrow-context:tokens=0", InvalidSetting, "tokens is 0, but must be a whole number of at least 1."),
        ("dropout:probability=1", InvalidSetting, "probability is 1.0, but must be above 0 and below 1."),
        ("dropped-layers:layers=", InvalidSetting, "layers is ('',), but must be a tuple of paths of layers;"),
        ("without-lora:adapters=", InvalidSetting, "adapters is ('',), but must be a tuple of names of LoRA adapters;"),
        ("noised:strength=" + "9" * 400, InvalidSetting, "9, but must be a finite number of at least 0."),
        ("with-lora:adapter=", InvalidSetting, "adapter is '', but must be the name of a LoRA adapter."),
        (
            "network:network=folder",
            InvalidSetting,
            "network is 'folder', but must be a torch module; on the command line",
        ),
    ],
)
def test_what_is_no_weak_network(text, error, message):
    with pytest.raises(error) as caught:
        parse_network(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: DroppedLayers("mid_block"),
            "layers is 'mid_block', but must be a tuple of paths of layers; one alone",
        ),
        (lambda: DroppedLayers(()), "layers is (), but must be at least one path of a layer."),
        (lambda: SeededDropout(layers="mid_block"), "layers is 'mid_block', but must be a tuple of paths of layers;"),
        (lambda: SeededDropout(layers=(1,)), "layers is (1,), but must be a tuple of paths of layers;"),
        (lambda: WithoutLora("style"), "adapters is 'style', but must be a tuple of names of LoRA adapters;"),
        (lambda: WithoutLora(["style"]), "adapters is ['style'], but must be a tuple of names of LoRA adapters;"),
    ],
)
def test_names_are_tuples_of_texts(make, message):
    with pytest.raises(InvalidSetting) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"strength": 0.1}, InvalidSetting, "_class_name is None, but must be one of DroppedLayers"),
        ({"_class_name": "NoisyWeights"}, UnknownName, "'NoisyWeights'; did you mean 'NoisedWeights'?"),
        ({"_class_name": "WithLora"}, InvalidSetting, "adapter is None, but must be the name of a LoRA adapter."),
    ],
)
def test_what_is_no_stored_weak_network(config, error, message):
    with pytest.raises(error) as caught:
        Network.from_config(config)
    assert message in str(caught.value)


# under steer


def latents(pipe, weak, seeds, **settings):
    guidance = AutoGuidance(2.5, ClassifierFreeGuidance(3.0))
    with steer(pipe, guidance, weak=weak, **settings) as run:
        images = pipe(
            [TEXTS[SEEDS.index(seed)] for seed in seeds],
            generator=tiny.generators(*seeds),
            num_inference_steps=3,
            output_type="latent",
        ).images
    assert run.evaluations.tolist() == [9.0] * len(seeds)
    return images


@pytest.mark.parametrize("kind", KINDS)
def test_image_k_of_a_steered_batch_is_image_k_alone(kind):
    pipe = tiny.stable_diffusion(prediction_type="v_prediction")
    pipe.unet, weak = prepared(kind, "sd")
    together = latents(pipe, weak, SEEDS)
    assert torch.allclose(latents(pipe, weak, SEEDS, max_batch=3), together, rtol=1e-5, atol=1e-5)
    for row, seed in enumerate(SEEDS):
        assert torch.allclose(latents(pipe, weak, (seed,))[0], together[row], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("weak", "make"),
    [
        (NoisedWeights(0.2, 4), lambda network: by_hand(network, noised)),
        (QuantizedWeights(4), lambda network: by_hand(network, rounded)),
        (WithoutLora(), lambda network: without_adapters(network)),
    ],
    ids=["noised", "quantized", "without-lora"],
)
def test_steering_with_a_kind_is_steering_with_the_network_that_it_means(weak, make):
    pipe = tiny.stable_diffusion(prediction_type="v_prediction")
    if isinstance(weak, WithoutLora):
        pipe.unet = with_loras("sd", "style")
    expected = latents(pipe, make(pipe.unet), SEEDS)
    assert torch.allclose(latents(pipe, weak, SEEDS), expected, rtol=1e-6, atol=1e-6)


def without_adapters(network):
    other = copy.deepcopy(network)
    other.delete_adapters("style")
    return other


def test_what_does_not_fit_is_refused_before_anything_runs():
    pipe = tiny.stable_diffusion()
    pipe.unet.register_forward_pre_hook(lambda *_: pytest.fail("the network ran"))
    with (
        pytest.raises(UnsupportedModel, match="the pipeline's network has no LoRA"),
        steer(pipe, AutoGuidance(2.0), weak=WithoutLora()),
    ):
        pipe("a red hat")


# the page


def test_the_second_weights_of_stable_diffusion_are_as_large_as_the_page_says():
    page = (Path(__file__).parents[1] / "docs" / "weak-networks.md").read_text()
    with torch.device("meta"):
        network = UNet2DConditionModel(cross_attention_dim=768, sample_size=64)
    assert sum(parameter.numel() for parameter in network.parameters()) == 859_520_964  # of Stable Diffusion 1.5
    count = sum(layer.weight.numel() for layer in weighted_layers(network).values())
    assert f"{2 * count / 2**30:.2f} GiB: {count:,} weights" in page
