"""What an evidence promises: is this image becoming the concept? Log-odds, one per image. And what it may look at."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import ClassVar

import torch
from torch import Tensor

from .errors import InvalidSetting, UnsupportedModel
from .laboratory import Judge
from .records import State, Step
from .seeds import Stream, mixed, stream_seed
from .settings import Configurable


@dataclass(frozen=True)
class Belief:
    """What an evidence says at a step.

    Attributes:
        log_odds: L = log p(concept | x_t) - log p(not concept | x_t), one per image, ``[batch]``, float64.
        state: what the evidence needs further on.
    """

    log_odds: Tensor
    state: State


@dataclass(frozen=True)
class Push:
    """What was done at a step, for an evidence that must remember it.

    Attributes:
        positive, concept: predictions under the prompt and under the concept, in the network's space.
        guided: the prediction of "the prompt without the concept", before any classifier-free guidance on top, and with this
            push alone: the pushes away from other negatives say nothing about this concept.
        weight: the theory's weight of the concept's direction, w = exp(L) clamped, without the user's negative_scale,
            ``[batch]``.
    """

    positive: Tensor
    concept: Tensor
    guided: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Circumstances:
    """What is known of a run before its first step: settings that were left open (None) follow from it.

    Attributes:
        exact: the denoiser is that of a world whose truth is known, and not a learned network.
        prior: how often the concept shows without guidance, in (0, 1), or a tuple with one for each negative prompt; 0.5
            where nobody knows.
    """

    exact: bool = False
    prior: float | tuple[float, ...] = 0.5


@dataclass(frozen=True)
class Surroundings:
    """What guidances and evidences are given before the first step, and may use at every step. What is not used costs nothing.

    Attributes:
        batch_size: how many images there are.
        negatives: how many negative prompts there are.
        seeds: one per image; () where they are not known.
        prompts: one per image; () where they are not known, as of classes or embeddings.
        negative_prompts: for each negative prompt one text per image, or () where it is not known as a text. An evidence is
            given those of its own concept alone.
        concept: for an evidence, the branch that predicts its concept, such as "conjunction_2".
        decoder: see :meth:`decode`; None where there is none.
        given_judge: see :attr:`judge`.
        folder: where :meth:`file` looks; None where the model has no folder.
    """

    batch_size: int
    negatives: int = 0
    seeds: tuple[int, ...] = ()
    prompts: tuple[str, ...] = ()
    negative_prompts: tuple[tuple[str, ...], ...] = ()
    concept: str = ""
    decoder: Callable[[Tensor], Tensor] | None = None
    given_judge: Judge | None = None
    folder: Path | None = None

    def for_negative(self, index: int, concept: str) -> "Surroundings":
        """What the evidence of the index-th negative prompt (from 0) is given."""
        return replace(self, negative_prompts=self.negative_prompts[index : index + 1], concept=concept)

    def decode(self, denoised: Tensor) -> Tensor:
        """The images of some denoised predictions, as the pipeline would show them.

        Args:
            denoised: ``[n, ...]``, of any of the images, in the sampler's space; see :meth:`Step.denoised`.

        Returns:
            float32 in [0, 1], ``[n, 3, height, width]``.

        Raises:
            UnsupportedModel: there is nothing to decode with.
        """
        if self.decoder is None:
            raise UnsupportedModel(
                "an evidence asks for decoded images, and nothing here decodes them; give a pipeline with its vae, or an "
                "exact world with a method decode"
            )
        return self.decoder(denoised)

    @property
    def judge(self) -> Judge:
        """Who says what an image shows. Raises :class:`UnsupportedModel` where none was given."""
        if self.given_judge is None:
            raise UnsupportedModel("an evidence asks for a judge, and none was given; give steer(..., judge=...) one")
        return self.given_judge

    def file(self, name: str) -> Path:
        """A calibrated file beside the model.

        Args:
            name: its path inside of the model's folder, with "/" between the parts.

        Raises:
            InvalidSetting: the path leads out of the folder.
            UnsupportedModel: the model has no folder, or no such file in it.
        """
        parts = PureWindowsPath(name)  # reads "/" and "\\" as the same, on every system
        if parts.anchor or not parts.name or ".." in parts.parts:
            raise InvalidSetting("file", name, "the path of a file inside of the model's folder")
        path = None if self.folder is None else self.folder.joinpath(*parts.parts)
        if path is None or not path.is_file():
            where = "the model has no folder here" if path is None else f"{str(self.folder)!r} does not have it"
            raise UnsupportedModel(
                f"an evidence asks for the file {name!r}, and {where}; give steer(..., files=FOLDER) a folder that has it"
            )
        return path

    def noise(self, step: Step) -> Tensor:
        """Standard normal numbers of an evidence's own, shaped like the step's sample, float32.

        Those of image k follow from its seed and the index of the step, and from nothing else.

        Raises:
            UnsupportedModel: the seeds are not known.
        """
        if len(self.seeds) != self.batch_size:
            raise UnsupportedModel(
                "an evidence asks for random numbers, and the images' seeds are not known; give one per image"
            )
        shape = step.sample.shape[1:]
        own = [mixed(stream_seed(seed, Stream.EVIDENCE), step.index) % 2**32 for seed in self.seeds]
        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in own]
        return torch.stack(drawn).to(step.sample.device)


class Evidence(Configurable, ABC):
    """The contract: a frozen dataclass of one concept; log-odds in, log-odds out, per image, no hidden state.

    At each step ``update`` comes first (the sampler has moved: what does that say?), then ``remember``
    (this is what we pushed: keep what the next update needs).

    Class attributes:
        name: on the command line.
        paper: title, authors, year, arXiv number.
        trust_region: whether a guidance limits the push (its weight, and its length to that of noise).
    """

    shelf: ClassVar[str] = "evidence"
    kind: ClassVar[str] = "evidence"
    name: ClassVar[str]
    paper: ClassVar[str]
    trust_region = True

    def fitted(self, known: Circumstances) -> "Evidence":
        """The same evidence with what was left open (None) set to what fits the run."""
        return self

    def for_concepts(self, count: int) -> tuple["Evidence", ...]:
        """One evidence per negative prompt: where a setting has a number for each, every one gets its own.

        Raises:
            InvalidSetting: the setting has another number of entries.
        """
        return (self,) * count

    @abstractmethod
    def begin(self, surroundings: Surroundings) -> State:
        """The state before the first step; an evidence that looks at something keeps the surroundings there."""

    @abstractmethod
    def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Belief:
        """The log-odds at the point that the sampler really reached.

        Args:
            step: where the sampler stands.
            positive, concept: the predictions there, in the network's space, ``[batch, ...]``.
            state: from :meth:`begin` or :meth:`remember`.
        """

    def remember(self, step: Step, push: Push, state: State) -> State:
        """The state for the next step, once the push is known. Most evidences need nothing more."""
        return state
