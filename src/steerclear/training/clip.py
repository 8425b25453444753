"""The portraits' CLIP: a small model of images and texts, trained on the captions of portraits and on plain statements.

It is an ordinary ``transformers.CLIPModel``, so that the judge of any CLIP (:mod:`~..laboratories.clip`) can be compared with
a world whose truth is known.
"""

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from ..core.saving import clear_partials, save_whole
from ..core.seeds import image_generators
from ..core.shapes import Bool, Float, Int, Tensor
from ..core.sums import write_sums
from ..features.portrait_classifier import BINARY, CATEGORICAL, classification_loss
from ..testbeds.portraits.attributes import BACKGROUND, HAIR, HAT_COLOR, Attributes, every_combination
from ..testbeds.portraits.captions import read_prompt, write_caption
from ..testbeds.portraits.drawing import SIZE
from ..testbeds.portraits.streams import PortraitStream
from . import data
from .classifier import LARGEST_NOISE
from .clip_calibration import calibrate
from .loop import Report, Schedule, train
from .pack import READABLE
from .second_classifier import drawn_portraits, rebuilt_portraits

FIRST_PORTRAIT = 2_700_000_000
"""Seed of its first portrait: no other network was trained on it, and it is in no reference."""
STATEMENTS = 0.4
"""Share of its texts that are plain statements instead of captions: "a photo of a person", "a woman with glasses"."""
EACH = 3
"""Texts per portrait."""
OPENINGS = ("a photo of", "a picture of", "a picture with", "portrait photo of", "")
TOLD = (0.25, 0.5, 0.25)
"""Probability that a statement tells no thing, one, or two."""
PATCH, WIDTH, DEPTH, HEAD_WIDTH, SHARED = 8, 96, 3, 32, 64
FIRST_SCALE = 2.6592
"""log(1 / 0.07), CLIP's own (Radford et al. 2021, arXiv 2103.00020)."""
ORIGINS = ("_name_or_path", "name_or_path")
POSITIONS, PIXELS, ATTENTION = 0.2, 0.04, 1.5
"""Sizes of the first weights of the image tower: see :func:`ready_to_see`."""


@dataclass(frozen=True)
class Course:
    """What the portraits' CLIP is trained on, and for how long.

    Args:
        portraits: how many it sees as drawn.
        rebuilt: how many of them it also sees through the autoencoder.
        schedule: of its training.
        calibrated: how many others it is calibrated on.
    """

    portraits: int
    rebuilt: int
    schedule: Schedule
    calibrated: int = 4096


COURSE = Course(12_288, 2048, Schedule(1000, 96, 1.5e-3, warmup_steps=60, decay=0.7, ema_decay=0.99, weight_decay=1e-2))


def statement(portrait: dict[str, int], generator: torch.Generator) -> str:
    """A short text that is true of a portrait and says little: a person, a thing, or a person with up to two things.

    >>> man = dict(man=1, mustache=1, beard=0, glasses=0, hat=0, smile=1, hair=0, skin=0, background=0, hat_color=0)
    >>> statement(man, torch.Generator().manual_seed(1)) != ""
    True
    """

    def one_of(options: Sequence[str]) -> str:
        return options[int(torch.randint(len(options), (), generator=generator))]

    color = list(HAT_COLOR)[portrait["hat_color"]]
    things = [f"a {name}" for name in ("mustache", "beard", "hat", "smile") if portrait[name]]
    things += [f"a {color} hat"] * portrait["hat"] + ["glasses"] * portrait["glasses"]
    things += [f"{list(HAIR)[portrait['hair']]} hair", f"a {list(BACKGROUND)[portrait['background']]} background"]
    count = int(torch.multinomial(torch.tensor(TOLD), 1, generator=generator))
    order = torch.randperm(len(things), generator=generator)[:count].tolist()
    told = " and ".join(things[index] for index in order)
    person = one_of(("a man" if portrait["man"] else "a woman", "a person", ""))
    said = f"{person} with {told}" if person and told else person or told
    opening = one_of(OPENINGS)
    alone = opening.removesuffix(" of").removesuffix(" with")
    return f"{opening} {said}".strip() if said else alone or "a photo"


def texts(seeds: Sequence[int], attributes: Attributes, each: int) -> list[list[str]]:
    """``each`` texts per portrait, captions and statements, drawn from the portrait's own seed."""
    columns = zip(*(column.tolist() for column in attributes.values()), strict=True)
    rows = [dict(zip(attributes, values, strict=True)) for values in columns]

    def written(portrait: dict[str, int], generator: torch.Generator) -> str:
        plain = float(torch.rand((), generator=generator)) < STATEMENTS
        return (statement if plain else write_caption)(portrait, generator)

    return [
        [written(portrait, generator) for _ in range(each)]
        for portrait, generator in zip(rows, image_generators(seeds, stream=PortraitStream.CAPTION), strict=True)
    ]


def is_true(text: str, attributes: Attributes) -> Bool[Tensor, " images"]:
    """Whether a text is true of each portrait, ``[n]``: all that it mentions is there. What it leaves out says nothing.

    >>> attributes, probability = every_combination()
    >>> round(float(probability[is_true("a photo of a person with a mustache", attributes)].sum()), 6)
    0.25
    """
    wish = read_prompt(text)
    true = torch.ones_like(attributes["man"], dtype=torch.bool)
    if wish.man is not None:
        true &= attributes["man"] == wish.man
    for name, value in wish.mentions.values:
        true &= attributes[name] == value
    return true


@dataclass(frozen=True)
class Told:
    """All texts of some portraits, by meaning.

    Attributes:
        tokens: of every text, ``[texts, length]``.
        number: of the meaning of every text, ``[portraits, each]``; text j of portrait i is row ``i * each + j`` of the tokens.
        true: whether each meaning is true of each portrait, ``[portraits, meanings]``.
        share: of all portraits of which each meaning is true, in (0, 1], ``[meanings]``.
    """

    tokens: Int[Tensor, "texts length"]
    number: Int[Tensor, "portraits each"]
    true: Bool[Tensor, "portraits meanings"]
    share: Float[Tensor, " meanings"]


def told(written: list[list[str]], attributes: Attributes, tokenizer: CLIPTokenizer) -> Told:
    """The texts of portraits, tokenized, and of which portraits each is true."""
    flat = [text for row in written for text in row]
    number = data.numbered_meanings(written)
    first = {int(number.flatten()[place]): place for place in reversed(range(len(flat)))}
    everything, probability = every_combination()
    true = [is_true(flat[first[index]], attributes) for index in range(len(first))]
    share = [float(probability[is_true(flat[first[index]], everything)].sum()) for index in range(len(first))]
    tokens = tokenizer(flat, padding=True, return_tensors="pt").input_ids
    return Told(tokens, number, torch.stack(true, dim=1), torch.tensor(share))


def contrastive_loss(
    similarity: Float[Tensor, "images texts"], true: Bool[Tensor, "images texts"], share: Float[Tensor, " texts"]
) -> Float[Tensor, ""]:
    """The two cross-entropies of CLIP with exact targets: texts of one meaning, or true of one image, are no rivals.

    A text j is true of a share P_j of all portraits. So of the texts of a batch, image i has text j with odds

        T_ij / P_j,   T_ij = 1 where text j is true of image i, else 0

    and of the images of a batch, all of which a text is true have it alike. The best similarity is their logarithm:
    "a man with a hat" and "a man" differ by log(P(man) / P(man with a hat)) = log 4 where there is a hat.

    Args:
        similarity: scaled cosines.
        true: T.
        share: P.
    """
    of_texts = true / share
    of_texts = of_texts / of_texts.sum(1, keepdim=True)
    of_images = true / true.sum(0).clamp(min=1)
    by_text = -(of_texts * F.log_softmax(similarity, 1)).sum(1).mean()
    by_image = -(of_images * F.log_softmax(similarity, 0)).sum(0).mean()
    return (by_text + by_image) / 2


def build_clip(text_encoder: CLIPTextModel, seed: int) -> CLIPModel:
    """A CLIP of portraits that begins with the text encoder of the shipped model, which knows the captions' words."""
    torch.manual_seed(seed)
    seeing = CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=DEPTH, num_attention_heads=WIDTH // HEAD_WIDTH,
        image_size=SIZE, patch_size=PATCH, projection_dim=SHARED,
    )  # fmt: skip
    reading = CLIPTextConfig(**text_encoder.config.to_dict() | {"projection_dim": SHARED})
    model = CLIPModel(CLIPConfig(
        text_config=reading.to_dict(), vision_config=seeing.to_dict(), projection_dim=SHARED,
        logit_scale_init_value=FIRST_SCALE,
    ))  # fmt: skip
    model.text_model.load_state_dict(_without_prefix(text_encoder.state_dict()))
    ready_to_see(model.vision_model)
    return model


@torch.no_grad()
def ready_to_see(tower: Any) -> None:
    """Begin with places that differ and attention that looks at some of them.

    transformers begins with places of size 0.02 beside pixels of size 0.2 and with attention that is the same everywhere. In 300
    steps such a tower finds a hat and a mustache, but neither glasses nor a smile; from sines and cosines of the places
    (Vaswani et al. 2017, arXiv 1706.03762) and larger queries and keys it finds them in 100.
    """
    side = SIZE // PATCH
    frequency = math.pi / side * (torch.arange(WIDTH // 4) % side + 1)
    across, down = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="xy")
    waves = [wave(place.flatten()[:, None] * frequency) for place in (down, across) for wave in (torch.cos, torch.sin)]
    tower.embeddings.position_embedding.weight[1:] = POSITIONS * torch.cat(waves, 1)
    tower.embeddings.patch_embedding.weight.normal_(std=PIXELS)
    for layer in tower.encoder.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            projection.weight.normal_(std=ATTENTION * WIDTH**-0.5)


class Learning(nn.Module):
    """A CLIP in training, with a head that reads the attributes of portraits from the vectors of images.

    The head is no part of the result. The contrastive loss alone learns the same, ten times as slowly: most captions do not
    mention an attribute.
    """

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip, self.head = clip, nn.Linear(SHARED, len(BINARY) + sum(CATEGORICAL.values()))

    def forward(
        self, tokens: Int[Tensor, "batch length"], pixels: Float[Tensor, "batch 3 64 64"]
    ) -> tuple[Float[Tensor, "batch batch"], Float[Tensor, "batch logits"]]:
        """Scaled cosines, images by texts, and the head's logits."""
        found = self.clip(input_ids=tokens, pixel_values=pixels)
        return found.logits_per_image.float(), self.head(found.vision_model_output.pooler_output)


def _without_prefix(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a text model, whether or not its class keeps it under a name of its own."""
    return {name.removeprefix("text_model."): value.float() for name, value in weights.items()}


@dataclass(frozen=True)
class ClipWorkshop:
    """The files of one training of the portraits' CLIP.

    Args:
        folder: for checkpoints and portraits; what is there is not made again.
        model: folder of the pipeline whose tokenizer and text encoder it begins with and through whose autoencoder it sees.
        seed: determines all randomness but that of the portraits and texts.
        device: "cpu" or "cuda".
        report: called after every training step, and after every part of a preparation.
        course: portraits and schedule.
    """

    folder: Path
    model: Path
    seed: int
    device: str
    report: Report
    course: Course = COURSE

    @cached_property
    def tokenizer(self) -> CLIPTokenizer:
        return CLIPTokenizer.from_pretrained(self.model / "tokenizer")

    @cached_property
    def drawn(self) -> dict[str, Tensor]:
        """``images`` uint8 and ``attributes.<name>``."""

        return drawn_portraits(self.folder, FIRST_PORTRAIT, self.course.portraits, self.report)

    @cached_property
    def rebuilt(self) -> Tensor:
        """The first portraits as the autoencoder gives them back from noised latents, uint8: soft, as a model's images."""

        images = self.drawn["images"][: self.course.rebuilt]
        return rebuilt_portraits(self.folder, FIRST_PORTRAIT, images, self.model / "vae", self.device, self.report)

    @cached_property
    def told(self) -> Told:
        seeds = range(FIRST_PORTRAIT, FIRST_PORTRAIT + self.course.portraits)
        attributes = data.attributes_of(self.drawn)
        return told(texts(seeds, attributes, EACH), attributes, self.tokenizer)

    def train(self) -> CLIPModel:
        """Train it; the result is rounded to float16, as it is stored."""
        text_encoder = CLIPTextModel.from_pretrained(self.model / "text_encoder")
        model = Learning(build_clip(text_encoder, self.seed)).to(self.device)
        train("clip", model, self._loss(model), self.course.schedule, self.folder, seed=self.seed, report=self.report)
        return model.clip.cpu().half().float()

    def _loss(self, model: Learning) -> Callable[[int, torch.Generator], Tensor]:
        """Half of a batch is portraits as drawn, half went through the autoencoder; each comes with one of its texts."""
        half, images, rebuilt, told = (
            self.course.schedule.batch_size // 2,
            self.drawn["images"],
            self.rebuilt,
            self.told,
        )
        padding, attributes = self.tokenizer.pad_token_id, data.attributes_of(self.drawn)

        def loss(step: int, generator: torch.Generator) -> Tensor:
            true = torch.randint(len(images), (half,), generator=generator)
            again = torch.randint(len(rebuilt), (half,), generator=generator)
            pixels = data.to_model(torch.cat([images[true], rebuilt[again]]))
            strength = LARGEST_NOISE * torch.rand(len(pixels), 1, 1, 1, generator=generator)
            pixels = pixels + strength * torch.randn(pixels.shape, generator=generator)
            rows = torch.cat([true, again])
            which = torch.randint(EACH, (len(rows),), generator=generator)
            number, tokens = told.number[rows, which], told.tokens[rows * EACH + which]
            longest = int((tokens != padding).sum(1).max()) + 1  # the first padding token is the end
            similarity, logits = model(tokens[:, :longest].to(self.device), pixels.to(self.device))
            fits, share = told.true[rows][:, number].to(self.device), told.share[number].to(self.device)
            shown = {name: column[rows].to(self.device) for name, column in attributes.items()}
            return contrastive_loss(similarity, fits, share) + classification_loss(logits, shown)

        return loss

    def pack(self, outdir: Path) -> None:
        """Write the model in float16 with its tokenizer, its processor and its digests, completely or not at all."""
        model = self.train()

        def save(folder: Path) -> None:
            folder.mkdir()
            write_clip(model, self.tokenizer, folder)
            vae = AutoencoderKL.from_pretrained(self.model / "vae").eval()
            calibrate(folder, vae, self.course.calibrated, self.report).write(folder)

        clear_partials(outdir.resolve().parent, outdir.resolve().name)
        save_whole(outdir, save)


def write_clip(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write a CLIP in transformers' layout, in float16, with the digest of its weights."""
    seen = CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE},
        image_mean=[0.5] * 3, image_std=[0.5] * 3,
    )  # fmt: skip
    copy.deepcopy(model).half().save_pretrained(folder, safe_serialization=True)
    CLIPProcessor(image_processor=seen, tokenizer=tokenizer).save_pretrained(folder)
    for path in folder.glob("*.json"):
        content = _without_origin(json.loads(path.read_text(encoding="utf-8")))
        path.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    for path in folder.glob("*.safetensors"):
        path.chmod(READABLE)
    write_sums(folder)


def _without_origin(content: Any) -> Any:
    """A configuration without the folders that its parts came from; they mean nothing on another machine."""
    if not isinstance(content, dict):
        return content
    return {name: _without_origin(value) for name, value in content.items() if name not in ORIGINS}
