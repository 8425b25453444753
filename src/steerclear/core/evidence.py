"""What an evidence promises (is this image becoming the concept? log-odds, one per image), and what it may look at."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar

import torch
from torch import Tensor

from .calibration import Calibration, Observed
from .errors import InvalidSetting, UnsupportedModel
from .laboratory import Judge
from .records import State, Step
from .seeds import Stream, mixed, stream_seed
from .settings import Configurable
from .shapes import Bool, PerImage, Prediction


@dataclass(frozen=True)
class Belief:
    """What an evidence returns at a step.

    Attributes:
        log_odds: L = log p(concept | x_t) - log p(not concept | x_t), one per image, ``[batch]``, float64.
        state: what the evidence needs later.
        known: whether the evidence has anything to say of an image yet, ``[batch]``; None for all of them. Where it has not,
            the log-odds are the prior's.
    """

    log_odds: PerImage
    state: State
    known: Bool[Tensor, " batch"] | None = None


@dataclass(frozen=True)
class Push:
    """What was done at a step, for an evidence that must remember it.

    Attributes:
        positive, concept: predictions under the prompt and under the concept, in the network's space.
        guided: the prediction of "the prompt without the concept", before any classifier-free guidance, and with this push
            alone, without those away from other negatives.
        weight: the theory's weight of the concept's direction, w = exp(L) clamped, without the user's negative_scale,
            ``[batch]``.
    """

    positive: Prediction
    concept: Prediction
    guided: Prediction
    weight: PerImage


@dataclass(frozen=True)
class Circumstances:
    """What is known of a run before its first step; it determines settings that were left open (None).

    Attributes:
        exact: the denoiser is exact, of a world whose truth is known; not a learned network.
        prior: how often the concept shows without guidance, in (0, 1), or a tuple with one per negative prompt; 0.5 if
            unknown.
        stochastic: whether a step of the sampler draws noise.
        calibrations: what was measured before, one per negative prompt (None where nothing was), or ().
    """

    exact: bool = False
    prior: float | tuple[float, ...] = 0.5
    stochastic: bool = False
    calibrations: tuple[Calibration | None, ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """What guidances and evidences are given before the first step and may use at every step. Unused, it costs nothing.

    Attributes:
        batch_size: number of images.
        negatives: number of negative prompts.
        seeds: one per image; () if unknown.
        prompts: one per image; () if unknown, as for classes or embeddings.
        negative_prompts: for each negative prompt one text per image, or () if it is not known as a text. An evidence is
            given only those of its own concept.
        concept: for an evidence, the branch that predicts its concept, such as "conjunction_2".
        decoder: see :meth:`decode`; None if there is none.
        given_judge: see :attr:`judge`.
        folder: where :meth:`file` looks; None if the model has no folder.
        calibrations: what ``steerclear calibrate`` measured, one per negative prompt (None where nothing was), or ().
        draw: which draw of these images this is, from 0; above 0 they are drawn again.
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
    calibrations: tuple[Calibration | None, ...] = ()
    draw: int = 0

    def for_negative(self, index: int, concept: str) -> "Surroundings":
        """The surroundings for the evidence of the index-th negative prompt (from 0)."""
        own = slice(index, index + 1)
        return replace(
            self, negative_prompts=self.negative_prompts[own], calibrations=self.calibrations[own], concept=concept
        )

    @property
    def calibration(self) -> Calibration | None:
        """That of an evidence's own negative prompt; None without one."""
        return self.calibrations[0] if self.calibrations else None

    def of_rows(self, rows: Tensor) -> "Surroundings":
        """The surroundings of some of the images, as if they were a batch of their own.

        Args:
            rows: their indices, ``[n]``.
        """

        def some(each: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(each[row] for row in rows.tolist()) if len(each) == self.batch_size else each

        return replace(
            self, batch_size=len(rows), seeds=some(self.seeds), prompts=some(self.prompts),
            negative_prompts=tuple(some(texts) for texts in self.negative_prompts),
        )  # fmt: skip

    def decode(self, denoised: Tensor) -> Tensor:
        """Denoised predictions as the images that the pipeline would show.

        Args:
            denoised: ``[n, ...]``, in the sampler's space; see :meth:`Step.denoised`.

        Returns:
            float32 in [0, 1], ``[n, 3, height, width]``.

        Raises:
            UnsupportedModel: there is no decoder.
        """
        if self.decoder is None:
            raise UnsupportedModel(
                "an evidence asks for decoded images, and nothing here decodes them; use a pipeline with a vae, or an exact "
                "world with a method decode"
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
            name: its path inside the model's folder, with "/" between the parts.

        Raises:
            InvalidSetting: the path leads out of the folder.
            UnsupportedModel: the model has no folder, or no such file in it.
        """
        parts = PureWindowsPath(name)  # reads "/" and "\\" as the same, on every system
        if parts.anchor or not parts.name or ".." in parts.parts:
            raise InvalidSetting("file", name, "the path of a file inside the model's folder")
        path = None if self.folder is None else self.folder.joinpath(*parts.parts)
        if path is None or not path.is_file():
            where = "the model has no folder here" if path is None else f"{str(self.folder)!r} does not have it"
            raise UnsupportedModel(
                f"an evidence asks for the file {name!r}, and {where}; give steer(..., files=FOLDER) a folder that has it"
            )
        return path

    def noise(self, step: Step, number: int = 0) -> Tensor:
        """An evidence's own standard normal numbers, shaped like the step's sample, float32.

        Those of image k depend on its seed, the index of the step and the ``number`` alone.

        Args:
            step: where the sampler stands.
            number: of several draws at one step, from 0; they are independent.

        Raises:
            UnsupportedModel: the seeds are unknown.
        """
        if len(self.seeds) != self.batch_size:
            raise UnsupportedModel(
                "an evidence asks for random numbers, and the images' seeds are unknown; give one seed per image"
            )
        shape = step.sample.shape[1:]
        which = (step.index, number) if number else (step.index,)
        own = [mixed(stream_seed(seed, Stream.EVIDENCE), *which) % 2**32 for seed in self.seeds]
        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in own]
        return torch.stack(drawn).to(step.sample.device)


class Evidence(Configurable, ABC):
    """The contract: a frozen dataclass about one concept; log-odds in, log-odds out, per image, without hidden state.

    At each step ``update`` comes first (what does the sampler's move say?), then ``remember`` (keep what the next update
    needs of this push).

    Class attributes:
        name: on the command line.
        paper: title, authors, year, arXiv number.
        trust_region: whether a guidance limits the push (its weight, and its length to that of noise).
        reads_concept: whether ``update`` reads the concept's prediction. If not, who only looks, and does not push, gives the
            prompt's in its place and saves the evaluation.
        least_push: of a push that a guidance chooses by itself, as a multiple of the theory's weight; above 1 for an evidence
            that leaves much of the concept at 1.
        needs_judge: whether it looks through the judge of the run.
    """

    shelf: ClassVar[str] = "evidence"
    kind: ClassVar[str] = "evidence"
    name: ClassVar[str]
    paper: ClassVar[str]
    trust_region = True
    reads_concept: ClassVar[bool] = True
    least_push: ClassVar[float] = 1.0
    needs_judge: ClassVar[bool] = False

    def fitted(self, known: Circumstances) -> "Evidence":
        """The same evidence with open settings (None) set to what fits the run."""
        return self

    def least_pushes(self) -> tuple[float, ...]:
        """:attr:`least_push` of each negative prompt, or a single one for all."""
        return (self.least_push,)

    def branches(self, concept: str) -> tuple[str, ...]:
        """Every branch that it may ask a step for by itself, as of :meth:`~steerclear.core.guidance.Guidance.branches`.

        "positive" and the concept's branch need not be among them.

        Args:
            concept: the branch that predicts its concept, such as "conjunction_2".
        """
        return ()

    def for_concepts(self, count: int) -> tuple["Evidence", ...]:
        """One evidence per negative prompt, each with its own entry of settings that are tuples.

        Raises:
            InvalidSetting: a setting has another number of entries.
        """
        return (self,) * count

    @abstractmethod
    def begin(self, surroundings: Surroundings) -> State:
        """The state before the first step; an evidence that uses the surroundings later keeps them there."""

    @abstractmethod
    def update(self, step: Step, positive: Prediction, concept: Prediction, state: State) -> Belief:
        """The log-odds at the point that the sampler reached.

        Args:
            step: where the sampler stands.
            positive, concept: the predictions there, in the network's space, ``[batch, ...]``.
            state: from :meth:`begin` or :meth:`remember`.
        """

    def remember(self, step: Step, push: Push, state: State) -> State:
        """The state for the next step, given the push. Most evidences need nothing more."""
        return state

    def uncalibrated(self) -> "Evidence":
        """The same evidence as ``steerclear calibrate`` watches it: raw, without any earlier calibration; see :meth:`calibrated`."""
        return self

    def calibrated(self, observed: Observed) -> dict[str, Tensor]:
        """What ``steerclear calibrate`` keeps of this evidence in its file, by name; see :meth:`Calibration.of`.

        Args:
            observed: unguided images, what they showed at each step and at the end; log-odds are those of
                :meth:`uncalibrated`.
        """
        return {}
