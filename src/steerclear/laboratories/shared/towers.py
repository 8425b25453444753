"""Models of images and texts (CLIP, SigLIP) through transformers' own classes: safetensors only, no code from the hub."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ...core.devices import usable
from ...core.errors import (
    NotEnoughMemory,
    NotFiniteError,
    SteerclearError,
    UnsupportedModel,
    lacks_memory,
)
from ...core.shapes import Float, Tensor, UInt8
from ...core.sums import check_sums
from ...features.shared.hub import Stamps, one_line, silent, stamps


@dataclass(frozen=True)
class Towers:
    """A network for images and one for texts whose vectors are compared.

    Attributes:
        name: the folder or hub id.
        model, processor: transformers' own.
        device: where the model is.
    """

    name: str
    model: Any
    processor: Any
    device: str

    @property
    def scale(self) -> float:
        """What cosines are multiplied by: exp of the learned ``logit_scale``."""
        return float(self.model.logit_scale.detach().exp())

    @property
    def bias(self) -> float | None:
        """SigLIP's learned ``logit_bias``, added to the scaled cosine; None for a CLIP, which has none."""
        bias = getattr(self.model, "logit_bias", None)
        return None if bias is None else float(bias.detach())

    @property
    def longest(self) -> int:
        """How many tokens a text may have."""
        return int(self.model.config.text_config.max_position_embeddings)

    def fits(self, text: str) -> bool:
        """Whether the model reads the whole text."""
        return len(self.processor.tokenizer(text, truncation=False, verbose=False)["input_ids"]) <= self.longest

    @torch.no_grad()
    def of_texts(self, texts: Sequence[str]) -> Float[Tensor, "texts columns"]:
        """Unit vectors of texts, float32, ``[n, width]``. Padded to the full length, as SigLIP was trained."""
        read = self.processor(
            text=list(texts), padding="max_length", max_length=self.longest, truncation=True, return_tensors="pt"
        )
        return self._unit(self.model.get_text_features(**_moved(read, self.device)), "texts")

    @torch.no_grad()
    def of_images(self, images: UInt8[Tensor, "images 3 height width"], batch: int) -> Float[Tensor, "images columns"]:
        """Unit vectors of uint8 images, float32, ``[n, width]``; ``batch`` of them are seen at once."""
        parts = []
        for some in images.split(batch) if len(images) else ():
            seen = self.processor.image_processor(
                images=[one.numpy() for one in some.cpu()], input_data_format="channels_first", return_tensors="pt"
            )
            parts.append(self._unit(self.model.get_image_features(**_moved(seen, self.device)), "images"))
        return torch.cat(parts) if parts else torch.empty(0, self.of_texts([""]).shape[1])

    def _unit(self, found: Any, what: str) -> Tensor:
        vectors = (found if isinstance(found, Tensor) else found.pooler_output).float().cpu()
        if not vectors.isfinite().all():
            raise NotFiniteError(f"the output of {self.name!r}", f"for these {what}", "Its weights are damaged.")
        return vectors / vectors.norm(dim=-1, keepdim=True)


def _moved(inputs: Mapping[str, Any], device: str) -> dict[str, Any]:
    return {name: value.to(device) for name, value in inputs.items()}


def load_towers(name: str, device: str) -> Towers:
    """A model of images and texts by folder or hub id; a hub id may end with ``@revision``.

    It is kept for the next question. One that was trained again in its folder is loaded again.

    Raises:
        InvalidSetting: torch cannot use the device.
        UnsupportedModel: it is not found, damaged, not in safetensors, or not a model of images and texts.
        NotEnoughMemory: the memory is full.
    """
    usable(device)
    folder = Path(name).expanduser()
    if name.startswith((".", "/", "~")) and not folder.is_dir():
        raise UnsupportedModel(
            f"there is no folder {name!r}; give model=PLACE, the folder or hub id of a CLIP or SigLIP."
        )
    return _loaded(name, device, folder, stamps(folder) if folder.is_dir() else None)


@lru_cache(maxsize=2)
def _loaded(name: str, device: str, folder: Path, found: Stamps | None) -> Towers:
    """The model; ``found`` are the files of a folder, None for a hub id."""
    if found is not None:
        check_sums(f"the model {name!r}", folder)
    repository, _, revision = (str(folder), "", "") if found is not None else name.partition("@")
    where: dict[str, Any] = {"revision": revision} if revision else {}
    try:
        with silent():
            from huggingface_hub import hf_hub_download
            from transformers import AutoModel, AutoProcessor

            if found is None:  # transformers would ask the hub for many files, each with its retries
                hf_hub_download(repository, "config.json", **where)
            model, loading = AutoModel.from_pretrained(
                repository, use_safetensors=True, trust_remote_code=False, output_loading_info=True,
                dtype=torch.float32, **where,
            )  # fmt: skip
            lacking = sorted(loading["missing_keys"])
            processor = AutoProcessor.from_pretrained(repository, trust_remote_code=False, **where)
            _refuse_others(name, model, processor, lacking)
            model = model.to(device).eval()
    except SteerclearError:
        raise
    except Exception as error:  # libraries raise many kinds for files that are missing, damaged or of another model
        if lacks_memory(error):
            raise NotEnoughMemory(f"the model {name!r}") from error
        raise UnsupportedModel(
            f"the model {name!r} cannot be loaded to judge images ({one_line(error)}); give a folder or a hub id of a CLIP or SigLIP "
            f"in transformers' layout with safetensors, as model=PLACE."
        ) from error
    return Towers(name, model, processor, device)


def _refuse_others(name: str, model: Any, processor: Any, lacking: list[str]) -> None:
    """Raises :class:`UnsupportedModel` for a model that does not compare images with texts."""
    needed = (hasattr(model, "get_text_features"), hasattr(model, "get_image_features"), hasattr(model, "logit_scale"))
    if not all(needed) or not all(hasattr(processor, part) for part in ("tokenizer", "image_processor")):
        raise UnsupportedModel(
            f"the model {name!r} is a {type(model).__name__}, which does not compare images with texts; give a CLIP or a SigLIP."
        )
    if lacking:
        raise UnsupportedModel(f"the model {name!r} lacks weights, as {lacking[0]}; copy or download it again.")
