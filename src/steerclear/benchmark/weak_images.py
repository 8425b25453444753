"""Worlds of weaknesses that are pipelines: their networks by what people type, and their images."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Module

from ..bridges.diffusers.steer import steer
from ..bridges.families import family_of
from ..core.errors import InvalidSetting, UnsupportedModel
from ..core.network import Network
from ..core.seeds import image_generators
from ..core.shapes import UInt8
from ..metrics.frechet import frechet_estimate
from ..metrics.precision_recall import NEIGHBORS, precision_recall
from ..models.files import WEAK_FOLDER, folder_digest
from ..models.loading import Model, load_model
from ..models.networks import load_named
from ..models.samplers import scheduler_text
from ..networks.noised_weights import NoisedWeights
from ..networks.quantized_weights import QuantizedWeights
from ..networks.shared.averages import snapshots_in
from ..networks.shared.naming import WEAK, is_kind, parse_network
from ..networks.shared.second_weights import second_weights
from ..networks.snapshot import SnapshotWeights, with_weights
from .weak_world import (
    AVERAGES,
    DROPOUT,
    EARLIER,
    LAYERS,
    NARROWER,
    NOISED,
    OWN,
    QUANTIZED,
    Cell,
    Samples,
    Weak,
    WeaknessWorld,
    WorldAsked,
)

SHARES = (32, 16, 8, 4, 2)
"""Earlier snapshots: one part in so many of the training."""
WIDTH, WIDTHS = 0.1, (0.05, 0.15, 0.2, 0.28)
"""Of the averages of earlier snapshots, and of the last one's other averages."""
LOOKED_UP = 5000
"""Images of both sets for precision and recall, which take time by the square of it."""
WHERE_SNAPSHOTS_ARE = ("snapshots/denoiser", "snapshots/unet", "snapshots", ".")
AT = " @ "
"""Between the folder of a network and the snapshot whose weights it gets."""
OTHERS = {
    "dropout 0.1": Weak(DROPOUT, "dropout:0.1"),
    "dropout 0.3": Weak(DROPOUT, "dropout:0.3"),
    "noised 0.05": Weak(NOISED, "noised:0.05"),
    "noised 0.1": Weak(NOISED, "noised:0.1"),
    "noised 0.2": Weak(NOISED, "noised:0.2"),
    "noised 0.1, other noise": Weak(NOISED, "noised:strength=0.1,seed=1"),
    "quantized to 4 bits": Weak(QUANTIZED, "quantized:4"),
    "quantized to 3 bits": Weak(QUANTIZED, "quantized:3"),
    "without the middle block": Weak(LAYERS, "dropped-layers"),
}
"""Made of the main network itself. "noised" begins with the same noise as a main network of the same name: the same fault, stronger."""
MAINS = {OWN: "", "noised 0.05": "noised:0.05", "noised 0.1": "noised:0.1", "quantized to 4 bits": "quantized:4"}
"""The main network as it is, and with faults whose origin is known."""


@dataclass
class ImageWorld(WeaknessWorld):
    """A pipeline, and networks that are typed.

    Args:
        asked: which pipeline, and how it samples.
    """

    asked: WorldAsked
    _networks: dict[str, Any] = field(default_factory=dict)

    shipped: ClassVar[str]
    """The model that is taken by default."""

    @cached_property
    def model(self) -> Model:
        return load_model(self.asked.model or self.shipped, scheduler=self.asked.scheduler, device=self.asked.device)

    @cached_property
    def own(self) -> Any:
        """The pipeline's network as it was loaded."""
        return getattr(self.model.pipe, family_of(self.model.pipe).network)

    @property
    def title(self) -> str:
        return self.model.name

    @property
    def digest(self) -> str:
        return self.model.digest

    @property
    def sampler(self) -> str:
        return scheduler_text(self.model.pipe.scheduler, self.model.folder)

    # networks

    def mains(self) -> dict[str, str]:
        return dict(MAINS)

    def weaknesses(self) -> dict[str, Weak]:
        found = self._of_training() if self.asked.training else {}
        if self.asked.narrow is not None:
            found["narrow"] = Weak(NARROWER, self.asked.narrow)
            if self.asked.narrow_training is not None:
                for share, how in _earlier(self.asked.narrow_training):
                    found[f"narrow, 1/{share} of its training"] = Weak(NARROWER, f"{self.asked.narrow}{AT}{how}")
        elif WEAK in self.model.networks:
            found["narrow"] = Weak(NARROWER, "")
        return found | OTHERS

    def _of_training(self) -> dict[str, Weak]:
        place = _snapshots(self.asked.training or "")
        last = snapshots_in(Path(place))[-1].step
        found = {f"1/{share} of the training": Weak(EARLIER, how) for share, how in _earlier(place)}
        for width in WIDTHS:
            found[f"average {width:g}"] = Weak(AVERAGES, f"snapshot:folder={place},step={last},width={width:g}")
        return found

    def made_with(self, main: str, weak: Weak | None) -> str:
        said = [self.model.digest, self.sampler, str(self.asked.num_inference_steps), self.asked.prompt or ""]
        said += ["main", *self._said(main)]
        if weak is not None:
            own = self.model.networks.get(WEAK)
            said += ["weak", *(self._said(weak.how) if weak.how or own is None else [str(own.source.digest)])]
        return "\n".join(said)

    def _said(self, how: str) -> list[str]:
        """What determines a network that is typed: the text, and digests of its files."""
        said = [how]
        for part in filter(None, how.split(AT)):
            if is_kind(part):
                said.append(str(parse_network(part).digest()))
            elif Path(part).is_dir():
                said.append(folder_digest(Path(part)))
        return said

    def _main(self, how: str) -> Any:
        """The main network of a way to make it; see :meth:`mains`."""
        if how not in self._networks:
            self._networks[how] = self._made_main(how) if how else self.own
        return self._networks[how]

    def _made_main(self, how: str) -> Any:
        if AT in how:
            folder, _, snapshot = how.partition(AT)
            kind = parse_network(snapshot)
            if not isinstance(kind, SnapshotWeights):
                raise InvalidSetting("what follows @", snapshot, "a snapshot, as snapshot:folder=FOLDER,step=1000")
            return with_weights(self._made_main(folder), kind)
        if not is_kind(how):
            loaded = load_named("main", how, self.model.folder, self.model.pipe)
            assert loaded is not None  # only where nothing is named
            return loaded.network.to(self.asked.device)
        kind = parse_network(how)
        if isinstance(kind, SnapshotWeights):
            return with_weights(self.own, kind)
        if isinstance(kind, NoisedWeights | QuantizedWeights):
            return second_weights(self.own, kind.changed_weight).network
        raise InvalidSetting("mains", how, "a folder of a network, or one of the kinds snapshot, noised and quantized")

    def _weak(self, weak: Weak) -> Network | Module:
        """The network of a weakness; it is made of the main network that the pipeline has."""
        if not weak.how:
            if WEAK not in self.model.networks:
                raise UnsupportedModel(
                    f"the model {self.model.name!r} has no folder {WEAK_FOLDER!r}; name a weak network"
                )
            return self.model.networks[WEAK].network
        if is_kind(weak.how):
            kind = parse_network(weak.how)
            if not isinstance(kind, SnapshotWeights):
                return kind
        if weak.how not in self._networks:  # many files are read for a snapshot: once is enough
            self._networks[weak.how] = self._made_main(weak.how)
        return self._networks[weak.how]

    # images

    def draw(
        self, cell: Cell, main: str, weak: Weak | None, seeds: Sequence[int], on_samples: Callable[[int], None]
    ) -> Samples:
        pipe, part = self.model.pipe, family_of(self.model.pipe).network
        parts: list[dict[str, Tensor]] = []
        setattr(pipe, part, self._main(main))
        try:
            other = None if weak is None else self._weak(weak)
            for first in range(0, len(seeds), self.asked.batch_size):
                some = seeds[first : first + self.asked.batch_size]
                with steer(pipe, cell.guidance(), weak=other) as run:
                    made = pipe(
                        self.prompts(cell.condition, some), generator=image_generators(some), output_type="pt",
                        num_inference_steps=self.asked.num_inference_steps,
                    ).images  # fmt: skip
                seen = self.see((made.float().cpu() * 255).round().to(torch.uint8), some)
                parts.append(seen | {"evaluations": run.evaluations.float().cpu()})
                on_samples(len(some))
        finally:
            setattr(pipe, part, self.own)
        return {name: torch.cat([one[name] for one in parts]) for name in parts[0]}

    @abstractmethod
    def prompts(self, condition: str, seeds: Sequence[int]) -> list[str]:
        """What each image is to show."""

    @abstractmethod
    def see(self, images: UInt8[Tensor, "n 3 height width"], seeds: Sequence[int]) -> dict[str, Tensor]:
        """What is kept of images; "features" is among it."""


def distances(features: Tensor, real: Tensor) -> dict[str, float]:
    """Fréchet distance, precision and recall of features against real ones; precision and recall of as many of both."""
    count = min(len(features), len(real), LOOKED_UP)
    if count <= NEIGHBORS:
        raise InvalidSetting("images", len(features), f"more than {NEIGHBORS}")
    shares = precision_recall(real[:count], features[:count])
    return {
        "frechet": frechet_estimate(features, real).value,
        "precision": shares.precision.value,
        "recall": shares.recall.value,
    }


def _earlier(folder: str) -> list[tuple[int, str]]:
    """Snapshots of a training after one part in so many of it, as they are typed."""
    place = _snapshots(folder)
    steps = [snapshot.step for snapshot in snapshots_in(Path(place))]
    at = [(share, round(steps[-1] / share)) for share in SHARES]
    return [(share, f"snapshot:folder={place},step={step},width={WIDTH:g}") for share, step in at if step >= steps[0]]


def _snapshots(folder: str) -> str:
    """Where a training keeps its denoiser's snapshots."""
    for inside in WHERE_SNAPSHOTS_ARE:
        place = Path(folder).expanduser() / inside
        if any(place.glob("*.safetensors")) and place.is_dir():
            return place.as_posix()
    raise InvalidSetting(
        "training",
        folder,
        "the folder of a training that keeps snapshots",
        "its --folder has them in snapshots/denoiser",
    )
