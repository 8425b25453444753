"""Tiny networks of images with random weights in folders as ``save_pretrained`` writes them: what features and judges load."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

SIDE = 32
SMALL: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SEEN: dict[str, Any] = {**SMALL, "image_size": SIDE, "patch_size": 8}
READ: dict[str, Any] = {**SMALL, "vocab_size": 64, "max_position_embeddings": 40}
LABELS = {0: "cat", 1: "dog, hound", 2: "red hat"}
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", "yes", "no", "is", "are", "there", "a", "an", "in", "the", "picture", "?", "hat",
         "people", "cat", "red")  # fmt: skip


def _tokenizer(folder: Path) -> None:
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)


def _saved(folder: Path, model: Any, processor: Any) -> Path:
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _square(kind: Any = ViTImageProcessorPil) -> Any:
    return kind(size={"height": SIDE, "width": SIDE})


def clip(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    config = transformers.CLIPConfig(text_config=READ, vision_config=SEEN, projection_dim=12)
    sizes = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    return _saved(folder, transformers.CLIPModel(config), CLIPImageProcessorPil(**sizes))


def siglip(folder: Path) -> Path:
    torch.manual_seed(1)
    config = transformers.SiglipConfig(text_config=READ, vision_config=SEEN)
    return _saved(folder, transformers.SiglipModel(config), _square())


def dinov2(folder: Path) -> Path:
    torch.manual_seed(2)
    config = transformers.Dinov2Config(**{**SEEN, "mlp_ratio": 2})
    return _saved(folder, transformers.Dinov2Model(config), _square())


def classifier(folder: Path, **settings: Any) -> Path:
    torch.manual_seed(3)
    config = transformers.ViTConfig(**SEEN, id2label=LABELS, initializer_range=0.5, **settings)
    return _saved(folder, transformers.ViTForImageClassification(config), _square())


def detector(folder: Path) -> Path:
    torch.manual_seed(4)
    config = transformers.YolosConfig(
        **{**SEEN, "image_size": [SIDE, SIDE]}, num_detection_tokens=6, id2label=LABELS, initializer_range=0.5
    )
    processor = YolosImageProcessorPil(size={"shortest_edge": SIDE, "longest_edge": SIDE})
    return _saved(folder, transformers.YolosForObjectDetection(config), processor)


def vilt(folder: Path, answers: Mapping[int, str] = {0: "maybe", 1: "yes", 2: "no"}) -> Path:
    torch.manual_seed(5)
    config = transformers.ViltConfig(
        **SEEN, vocab_size=64, max_position_embeddings=40, id2label=dict(answers), initializer_range=0.5
    )
    _tokenizer(folder)
    processor = ViltImageProcessorPil(size={"shortest_edge": SIDE}, size_divisor=8)
    return _saved(folder, transformers.ViltForQuestionAnswering(config), processor)


def blip(folder: Path) -> Path:
    torch.manual_seed(6)
    text = {
        **READ,
        "encoder_hidden_size": 16,
        "bos_token_id": 4,
        "pad_token_id": 0,
        "sep_token_id": 3,
        "initializer_range": 0.5,
    }
    config = transformers.BlipConfig(text_config=text, vision_config=SEEN)
    model = transformers.BlipForQuestionAnswering(config)
    for weight in model.parameters():
        if weight.ndim > 1:  # its own random weights are so small that no image would change an answer
            torch.nn.init.normal_(weight, std=0.3)
    _tokenizer(folder)
    return _saved(folder, model, _square())


def images(count: int, side: int = 20, seed: int = 0) -> torch.Tensor:
    """Random uint8 images, ``[count, 3, side, side]``."""
    return torch.randint(
        0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
    )


def described(folder: Path) -> dict[str, Any]:
    """A network's configuration."""
    return json.loads((folder / "config.json").read_text())
