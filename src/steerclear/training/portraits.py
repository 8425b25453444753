"""All stages in order: draw, autoencoder, latents, siblings, text, denoiser, weak denoiser, classifier, pack.

Each stage writes a file and is skipped if the file exists; a stopped stage resumes from its last checkpoint.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from ..core.errors import InvalidSetting
from ..core.saving import save_whole
from ..core.values import parse_json
from ..features.portrait_classifier import CLASSIFIER, PortraitClassifier
from ..testbeds.portraits.drawing import draw_from_seeds
from . import autoencoder, data, diffusion, tokenizer
from .calibration import caption_weights
from .classifier import classifier_loss
from .loop import Report, Schedule, in_parts, train
from .metric import error_metric
from .presets import Preset
from .references import REFERENCES, Families

RECONSTRUCTIONS = 4096
TOKENIZER_CAPTIONS = 20_000
FEATURE_SCALE_PORTRAITS = 4096
KEPT_PARTS = ("vae", "tokenizer", CLASSIFIER)
LEARNING_PARTS = ("unet", "text_encoder")
"""Parts of a finished pipeline that a further training keeps unchanged, and parts that it trains further."""


@dataclass(frozen=True)
class Workshop:
    """The files and results of one training run, shared by its stages.

    Args:
        folder: folder for checkpoints, drawn portraits, latents and trained parts.
        preset: sizes and lengths.
        seed: determines all randomness.
        device: "cpu" or "cuda".
        report: called after every training step, and after every part of a preparation.
        start: folder of a finished pipeline to continue from; None to train from scratch.
    """

    folder: Path
    preset: Preset
    seed: int
    device: str
    report: Report
    start: Path | None = None

    def _kept(self, name: str) -> None:
        """Copy a part of the pipeline that training starts from."""
        if self.start is None or (self.folder / name).exists():
            return
        source = self.start / name
        save_whole(self.folder / name, lambda to: (shutil.copytree if source.is_dir() else shutil.copyfile)(source, to))

    def _in_parts(self, stage: str) -> Iterator[Tensor]:
        """The indices of all training portraits, which are also their seeds, in parts; reports the progress."""
        return in_parts(stage, self.preset.images, self.report)

    @cached_property
    def drawn(self) -> dict[str, Tensor]:
        """``images`` uint8 and ``attributes.<name>``."""

        def make() -> dict[str, Tensor]:
            return data.drawn(rows.tolist() for rows in self._in_parts("portraits"))

        return data.cached(self.folder / "portraits.safetensors", make)

    @property
    def attributes(self) -> dict[str, Tensor]:
        return data.attributes_of(self.drawn)

    @cached_property
    def autoencoder(self) -> AutoencoderKL:
        done = self.folder / "vae"
        self._kept("vae")
        if not done.exists():
            images, schedule = self.drawn["images"], self.preset.autoencoder
            model = autoencoder.build(self.preset.autoencoder_channels, self.seed).to(self.device)

            def loss(step: int, generator: torch.Generator) -> Tensor:
                rows = torch.randint(len(images), (schedule.batch_size,), generator=generator)
                return autoencoder.reconstruction_loss(model, images[rows].to(self.device), generator)

            train("autoencoder", model, loss, schedule, self.folder, seed=self.seed, report=self.report)
            some = autoencoder.encode(model, images[:2048].to(self.device))
            model.register_to_config(scaling_factor=1 / float(some.std()))
            save_whole(done, model.save_pretrained)
        return AutoencoderKL.from_pretrained(done).to(self.device).eval()

    def _latents(self, stage: str, images_of: Callable[[Tensor], Tensor]) -> Tensor:
        """Scaled latents of one image per training portrait; the images themselves are not stored."""

        def make() -> dict[str, Tensor]:
            model = self.autoencoder
            parts = [autoencoder.encode(model, images_of(rows).to(self.device)).cpu() for rows in self._in_parts(stage)]
            return {"latents": torch.cat(parts) * model.config.scaling_factor}

        return data.cached(self.folder / f"{stage}.safetensors", make)["latents"]

    @cached_property
    def latents(self) -> Tensor:
        """Scaled latents of all training portraits."""
        return self._latents("latents", lambda rows: self.drawn["images"][rows])

    @cached_property
    def sibling_attributes(self) -> dict[str, Tensor]:
        """The attributes of every training portrait's sibling."""
        return data.sibling(range(self.preset.images), self.attributes)

    @cached_property
    def metric(self) -> Tensor:
        """Weights of errors in the latents, ``[places, places]``; see :func:`~.metric.error_metric`."""
        portrait, sibling = self.families.latents.unbind(1)
        differing = data.differing(self.attributes, self.sibling_attributes)
        return error_metric(portrait - sibling, differing.to(self.device))

    @cached_property
    def families(self) -> Families:
        """All training portraits with their siblings."""
        sibling = self.sibling_attributes

        def drawn(rows: Tensor) -> Tensor:
            return draw_from_seeds({name: column[rows] for name, column in sibling.items()}, rows.tolist())

        latents = self._latents("siblings", drawn)
        members, meanings = (self.attributes, sibling), data.numbered_meanings(self.captions)
        told = data.log_probability_told(members, self.captions, meanings)
        return Families(
            torch.stack([self.latents, latents], dim=1).to(self.device), meanings,
            caption_weights(members, self.captions, meanings, told), told, data.log_probability_unsaid(members),
        )  # fmt: skip

    @cached_property
    def captions(self) -> list[list[str]]:
        path = self.folder / "captions.json"
        if not path.exists():
            written: list[list[str]] = []
            for rows in self._in_parts("captions"):
                some = {name: column[rows] for name, column in self.attributes.items()}
                written += data.captions(rows.tolist(), some, self.preset.captions_each)
            save_whole(path, lambda to: to.write_text(json.dumps(written), encoding="utf-8"))
        try:
            return parse_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InvalidSetting(
                f"the content of {path}", "damaged", "a list of captions per portrait",
                f"{error}; remove the file to generate it again",
            ) from error  # fmt: skip

    @cached_property
    def tokenizer(self) -> CLIPTokenizer:
        done = self.folder / "tokenizer"
        self._kept("tokenizer")
        if not done.exists():
            flat = [caption for row in self.captions for caption in row]
            save_whole(done, tokenizer.learn(flat[:TOKENIZER_CAPTIONS]).save_pretrained)
        return CLIPTokenizer.from_pretrained(done)

    def _tokens(self, captions: list[str]) -> Tensor:
        return self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids

    @cached_property
    def tokens(self) -> Tensor:
        """Tokens of all captions, ``[images, captions_each, 77]``."""

        def make() -> dict[str, Tensor]:
            parts = []
            for rows in self._in_parts("tokens"):
                flat = [caption for row in rows.tolist() for caption in self.captions[row]]
                parts.append(self._tokens(flat).to(torch.int32).view(len(rows), self.preset.captions_each, -1))
            return {"tokens": torch.cat(parts)}

        return data.cached(self.folder / "tokens.safetensors", make)["tokens"]

    def _train_denoiser(self, stage: str, model: diffusion.TextToLatents, schedule: Schedule) -> None:
        families, metric, tokens, empty = self.families, self.metric, self.tokens, self._tokens([""])[0]
        alphas_cumprod = diffusion.build_scheduler().alphas_cumprod

        def loss(step: int, generator: torch.Generator) -> Tensor:
            rows = torch.randint(len(tokens), (schedule.batch_size,), generator=generator)
            which = torch.randint(tokens.shape[1], (schedule.batch_size,), generator=generator)
            unsaid = torch.rand(schedule.batch_size, generator=generator) < diffusion.EMPTY_PROMPT
            texts = torch.where(unsaid[:, None], empty, tokens[rows, which].long())
            meanings = families.meanings[rows, which]
            latents, references, log_weight = families.draw(meanings, unsaid, REFERENCES, generator)
            return diffusion.denoising_loss(
                model, latents, texts.to(self.device), references, log_weight, metric, alphas_cumprod, generator
            )

        train(stage, model.to(self.device), loss, schedule, self.folder, seed=self.seed + 1, report=self.report)

    def _untrained_denoiser(self) -> tuple[UNet2DConditionModel, CLIPTextModel]:
        if self.start is not None and not self.preset.anew:
            return _read_denoiser(self.start)
        unet = diffusion.build_unet(self.preset.denoiser_channels, self.seed)
        if self.start is not None:
            return unet, CLIPTextModel.from_pretrained(self.start / "text_encoder")
        return unet, diffusion.build_text_encoder(self.tokenizer, self.seed)

    @cached_property
    def denoiser(self) -> tuple[UNet2DConditionModel, CLIPTextModel]:
        done = self.folder / "denoiser"
        if not done.exists():
            unet, text = self._untrained_denoiser()
            model = diffusion.TextToLatents(unet, text.to(self.device), train_text=not self.preset.anew)
            self._train_denoiser("denoiser", model, self.preset.denoiser)

            def save(folder: Path) -> None:
                unet.save_pretrained(folder / "unet")
                text.save_pretrained(folder / "text_encoder")

            save_whole(done, save)
        unet, text = _read_denoiser(done)
        return unet.to(self.device).eval(), text.to(self.device).eval()

    @cached_property
    def weak(self) -> UNet2DConditionModel:
        done = self.folder / "weak"
        if not done.exists():
            unet = diffusion.build_unet(self.preset.weak_channels, self.seed)
            model = diffusion.TextToLatents(unet, self.denoiser[1], train_text=False)
            self._train_denoiser("weak", model, self.preset.weak)
            save_whole(done, unet.save_pretrained)
        return UNet2DConditionModel.from_pretrained(done).to(self.device).eval()

    @cached_property
    def classifier(self) -> PortraitClassifier:
        done = self.folder / CLASSIFIER
        self._kept(CLASSIFIER)
        if not done.exists():
            images, attributes, schedule = self.drawn["images"], self.attributes, self.preset.classifier
            scale = self.autoencoder.config.scaling_factor
            latents = self.latents[:RECONSTRUCTIONS].to(self.device) / scale
            rebuilt = data.to_pixels(autoencoder.decode(self.autoencoder, latents)).cpu()
            torch.manual_seed(self.seed)
            model = PortraitClassifier().to(self.device)
            loss = classifier_loss(model, images, rebuilt, attributes, schedule.batch_size, self.device)
            train("classifier", model, loss, schedule, self.folder, seed=self.seed + 2, report=self.report)
            model.cpu().set_feature_scale(images[:FEATURE_SCALE_PORTRAITS])
            save_whole(done, model.save)
        return PortraitClassifier.load(done)


def _read_denoiser(folder: Path) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    return UNet2DConditionModel.from_pretrained(folder / "unet"), CLIPTextModel.from_pretrained(folder / "text_encoder")
