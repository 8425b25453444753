"""The kind of network "snapshot": the pipeline's own with the weights of an average of its training."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import tiny
from steerclear.bridges.diffusers.steer import steer
from steerclear.core.errors import InvalidSetting, SteerclearError, UnsupportedModel
from steerclear.core.network import Forward
from steerclear.guidance.auto import AutoGuidance
from steerclear.models.networks import load_named
from steerclear.networks.shared.averages import PowerAverages, Snapshot, average_of, snapshots_in
from steerclear.networks.shared.naming import network_text, parse_network
from steerclear.networks.snapshot import SnapshotWeights, with_weights
from steerclear.training.loop import Schedule, train

STEPS = 12


def run(kind: SnapshotWeights, network: nn.Module, *args: torch.Tensor) -> torch.Tensor:
    kind.check(None, network)
    with torch.no_grad(), kind.attached(None, network) as runner:
        return runner(Forward(network, args, {}, tuple(range(len(args[0]))), 0))


class Pair(nn.Module):
    """A layer with a parameter of its own above another one, as some transformers have."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(3))
        self.inner = nn.Linear(3, 3)
        self.dtype = torch.float32

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.inner(value) + self.shift


class Around(nn.Module):
    """A network in a training beside another one."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, nn.Linear(3, 3)


def trained(folder: Path, model: nn.Module, network: nn.Module) -> list[dict[str, torch.Tensor]]:
    """Train some steps; returns the network's weights after each, by name."""
    seen = []

    def loss(step: int, generator: torch.Generator) -> torch.Tensor:
        if step:
            seen.append({name: value.detach().clone() for name, value in network.named_parameters()})
        return (network(torch.randn(4, 3, generator=generator)) - 1).square().mean()

    def done(progress: object) -> None:
        pass

    train(
        "denoiser", model, loss, Schedule(STEPS, 4, 0.05, warmup_steps=1, snapshots=STEPS), folder, seed=0, report=done
    )
    return seen


@pytest.mark.parametrize("inside", [False, True])
def test_it_is_the_network_with_the_average_of_its_steps(tmp_path: Path, inside: bool) -> None:
    """Against the average of the weights themselves, summed by hand."""
    torch.manual_seed(0)
    network = Pair()
    seen = trained(tmp_path, Around(network) if inside else network, network)
    step, width = STEPS - 1, 0.1
    gamma = 6.937  # of the width
    parts = torch.tensor(
        [(tau / step) ** (gamma + 1) - ((tau - 1) / step) ** (gamma + 1) for tau in range(1, step + 1)]
    )
    by_hand = Pair()
    average = {name: sum(part * weights[name] for part, weights in zip(parts, seen, strict=True)) for name in seen[0]}
    by_hand.load_state_dict(average)
    value = torch.randn(5, 3)
    kind = SnapshotWeights(str(tmp_path / "snapshots/denoiser"), step, width)
    found = run(kind, network, value)
    torch.testing.assert_close(found, by_hand(value).detach(), atol=1e-4, rtol=0)
    assert float((found - network(value).detach()).abs().max()) > 0.01
    torch.testing.assert_close(with_weights(network, kind)(value), found)


def written(folder: Path, network: nn.Module, factor: float, step: int = 1) -> str:
    """A snapshot of a network with its weights times a factor."""
    names = [name for name, _ in network.named_parameters()]
    averages = PowerAverages([factor * value.detach().float() for value in network.parameters()])
    Snapshot.write(folder / f"{step:07d}.safetensors", step, names, averages)
    return str(folder)


def test_steps_and_widths_differ(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Pair()
    trained(tmp_path, network, network)
    folder, value = str(tmp_path / "snapshots/denoiser"), torch.randn(5, 3)
    last = run(SnapshotWeights(folder), network, value)
    torch.testing.assert_close(last, run(SnapshotWeights(folder, STEPS, 0.1), network, value), atol=0, rtol=0)
    exact = average_of(snapshots_in(Path(folder)), STEPS, 0.2)
    network.load_state_dict(exact)
    torch.testing.assert_close(run(SnapshotWeights(folder, width=0.2), network, value), network(value).detach())
    assert float((run(SnapshotWeights(folder, 2), network, value) - last).abs().max()) > 0.01


@pytest.mark.filterwarnings("ignore:the weak network has no effect")
def test_image_k_of_a_steered_batch_is_image_k_alone(tmp_path: Path) -> None:
    """And w = 1 is the network itself, without a look at the snapshot."""
    pipe = tiny.family("sd")
    kind = SnapshotWeights(written(tmp_path, pipe.unet, 0.9))

    def made(*seeds: int, scale: float = 3.0) -> torch.Tensor:
        with steer(pipe, AutoGuidance(scale), weak=kind) as steered:
            images = pipe(
                ["a red hat"] * len(seeds), generator=tiny.generators(*seeds), num_inference_steps=3, output_type="latent",
                height=16, width=16,
            ).images  # fmt: skip
        assert steered.evaluations.tolist() == [3.0 * (1 if scale == 1 else 2)] * len(seeds)
        return images

    together = made(3, 8)
    for row, seed in enumerate((3, 8)):
        torch.testing.assert_close(together[row], made(seed)[0], atol=1e-4, rtol=0)
    plain = pipe(
        "a red hat", generator=tiny.generators(3)[0], num_inference_steps=3, output_type="latent", guidance_scale=1.0,
        height=16, width=16,
    ).images  # fmt: skip
    assert torch.equal(made(3, scale=1.0), plain)
    assert float((together[0] - plain[0]).abs().max()) > 1e-3


def test_it_is_typed_and_its_files_have_a_digest(tmp_path: Path) -> None:
    kind = parse_network("snapshot:folder=runs/a/snapshots/denoiser,step=1000,width=0.05")
    assert kind == SnapshotWeights("runs/a/snapshots/denoiser", 1000, 0.05)
    assert network_text(kind) == "snapshot:folder=runs/a/snapshots/denoiser,step=1000,width=0.05"
    pipe = tiny.family("sd")
    folder = written(tmp_path, pipe.unet, 0.9, step=10)
    one = load_named("weak", f"snapshot:{folder}", None, pipe)
    written(tmp_path, pipe.unet, 0.5, step=10)
    other = load_named("weak", f"snapshot:{folder}", None, pipe)
    assert one is not None
    assert other is not None
    assert one.source.source == other.source.source == f"snapshot:folder={folder}"
    assert one.source.digest != other.source.digest  # so that images of both are not taken for the same
    written(tmp_path, pipe.unet, 0.1, step=20)
    assert SnapshotWeights(folder, 10).digest() == other.source.digest  # later snapshots do not matter


def test_the_digest_is_of_all_snapshots_that_the_average_is_made_of(tmp_path: Path) -> None:
    """Without one of them the weights are others, and so is the digest."""
    torch.manual_seed(0)
    network = Pair()
    trained(tmp_path, network, network)
    kind = SnapshotWeights(str(tmp_path / "snapshots/denoiser"), STEPS, 0.28)
    whole, digest = kind.weights(network), kind.digest()
    earlier = tmp_path / "snapshots/denoiser/0000006.safetensors"
    content = earlier.read_bytes()
    earlier.unlink()
    assert not torch.equal(kind.weights(network)["shift"], whole["shift"])
    assert kind.digest() != digest
    earlier.write_bytes(content)
    assert kind.digest() == digest
    written(earlier.parent, network, 3.0, step=6)
    assert not torch.equal(kind.weights(network)["shift"], whole["shift"])
    assert kind.digest() != digest


def test_snapshots_of_two_networks_in_one_folder_are_refused(tmp_path: Path) -> None:
    wide = Pair()
    wide.inner = nn.Linear(3, 4)
    written(tmp_path, wide, 0.9, step=10)
    folder = written(tmp_path, Pair(), 0.9, step=20)
    with pytest.raises(UnsupportedModel, match="are of different networks; give the folder of one training"):
        SnapshotWeights(folder).weights(Pair())


@pytest.mark.parametrize(
    ("about", "names"),
    [
        ({"step": "0", "widths": "0.05"}, ["0.w"]),
        ({"step": "-3", "widths": "0.05"}, ["0.w"]),
        ({"step": "5", "widths": ""}, ["0.w"]),
        ({"step": "5", "widths": "7"}, ["0.w"]),
        ({"step": "5", "widths": "nan"}, ["0.w"]),
        ({"step": "5", "widths": "0.05 0.1"}, ["0.w"]),  # its second average is missing
        ({"step": "5", "widths": "0.05 0.1"}, ["0.w", "0.b", "1.w"]),
        ({"step": "5", "widths": "0.05"}, ["w"]),
        ({"step": "9" * 5000, "widths": "0.05"}, ["0.w"]),
        ({}, ["0.w"]),
    ],
)
def test_a_file_that_says_what_cannot_be_is_no_snapshot(
    tmp_path: Path, about: dict[str, str], names: list[str]
) -> None:
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "a.safetensors", about)
    with pytest.raises(UnsupportedModel, match=r"the snapshot .*a.safetensors cannot be read"):
        snapshots_in(tmp_path)


def test_a_folder_in_the_place_of_a_snapshot_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(UnsupportedModel, match=r"the snapshot .*a.safetensors cannot be read"):
        snapshots_in(tmp_path)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"step": 0}, r"step is 0, but must be a whole number of at least 1"),
        ({"step": 5}, r"step is 5, but must be between the first and the last of the snapshots \(10\)"),
        ({"width": 0.3}, r"width is 0.3, but must be more than 0 and at most 0.28"),
        ({"folder": "nowhere"}, r"folder is 'nowhere', but must be a folder with snapshots"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, settings: dict[str, object], error: str) -> None:
    network = Pair()
    folder = written(tmp_path, network, 0.9, step=10)
    with pytest.raises(InvalidSetting, match=error):
        SnapshotWeights(**{"folder": folder, **settings}).check(None, network)


def test_snapshots_of_another_network_are_refused(tmp_path: Path) -> None:
    wide, folder = Pair(), written(tmp_path, Pair(), 0.9)
    wide.inner = nn.Linear(3, 4)
    with pytest.raises(UnsupportedModel, match=r"they have inner.weight of shape \(3, 3\), where it has \(4, 3\)"):
        SnapshotWeights(folder).check(None, wide)
    more = Pair()
    more.second = nn.Linear(3, 3)
    with pytest.raises(UnsupportedModel, match=r"they lack its second.weight, second.bias"):
        SnapshotWeights(folder).check(None, more)
    (tmp_path / "0000001.safetensors").write_bytes(b"not weights")
    with pytest.raises(SteerclearError, match=r"cannot be read"):
        SnapshotWeights(folder).check(None, Pair())
