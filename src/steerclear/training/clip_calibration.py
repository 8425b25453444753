"""How the portraits' CLIP is read: temperature and offset of every word, learned from portraits whose attributes are known."""

from pathlib import Path
from typing import Any

import torch

from ..core.laboratory import Asked
from ..core.logistic import fit
from ..core.shapes import Bool, Tensor, UInt8
from ..laboratories.portraits import SHOWN_ATTRIBUTES
from ..laboratories.shared.pairs import Calibration, PairJudge
from ..laboratories.shared.towers import Towers, load_towers
from ..testbeds.portraits.attributes import Attributes
from . import autoencoder, data
from .loop import Report, in_parts

CALIBRATION_PORTRAITS = 2_800_000_000
"""Seed of the first portrait of the calibration: nothing was trained on it."""
PROMPTS = {"": None, "portrait photo of a man": 1, "portrait photo of a woman": 0}
"""Prompts of the calibration's questions, and whose portraits they are asked of: ``man`` is 1 or 0, None for all."""
SMALLEST_SLOPE = 1e-3
RIDGE = 1e-3


def calibrate(folder: Path, vae: Any, count: int, report: Report) -> Calibration:
    """The calibration of the CLIP in a folder: the logistic regression of what portraits show on the evidence (Platt 1999).

    The first half of the portraits is fitted, half of it as drawn and half through the autoencoder, with every prompt that is
    true of a portrait; on the other half the errors are counted. A word without a calibration of its own is read with the
    temperature and offset of all words together.

    Args:
        folder: of the CLIP.
        vae: the autoencoder of the shipped model.
        count: how many portraits.
        report: called after every part of them.
    """
    towers = load_towers(str(folder), "cpu")
    images, attributes = _portraits(vae, count, report)
    vectors = towers.of_images(images, 128)
    first = torch.arange(count) % 4 < 2  # of either kind: every other one went through the autoencoder
    evidence = {
        word: _evidence(towers, word, attributes, vectors) for word in SHOWN_ATTRIBUTES
    }  # of each: evidence, what is shown, and which portrait
    found = {}
    for word, (value, shown, row) in evidence.items():
        found[word] = _fitted(value[first[row]], shown[first[row]])
    pooled = [
        torch.cat([part[kind][first[part[2]]] for part in evidence.values()])
        for kind in (0, 1)
    ]  # fmt: skip
    temperature, offset = _fitted(pooled[0], pooled[1].bool())
    errors = {}
    for word, (value, shown, row) in evidence.items():
        seen = value / found[word][0] + found[word][1] > 0
        errors[word] = round(float((seen != shown)[~first[row]].double().mean()), 5)
    source = f"{count} true portraits with other seeds, every other one through the model's autoencoder"
    return Calibration(temperature, offset, found, SHOWN_ATTRIBUTES, errors, source)


def _portraits(vae: Any, count: int, report: Report) -> tuple[UInt8[Tensor, "images 3 64 64"], Attributes]:
    """True portraits; every other one as the autoencoder gives it back."""
    parts = in_parts("calibration", count, report)
    drawn = data.drawn((CALIBRATION_PORTRAITS + rows).tolist() for rows in parts)
    images = drawn["images"]
    images[1::2] = data.to_pixels(autoencoder.decode(vae, autoencoder.encode(vae, images[1::2])))
    return images, data.attributes_of(drawn)


def _evidence(
    towers: Towers, word: str, attributes: Attributes, vectors: Tensor
) -> tuple[Tensor, Bool[Tensor, " asked"], Tensor]:
    """The evidence for a word at every prompt, whether it shows, and the portrait's row; ``[asked]`` each."""
    values, shown, rows = [], [], []
    for prompt, man in PROMPTS.items():
        of = torch.arange(len(vectors)) if man is None else (attributes["man"] == man).nonzero().flatten()
        judge = PairJudge(towers, "softmax", Asked(prompt, watch=(word,)))
        values.append(judge.evidence(vectors[of])[word])
        shown.append(attributes[word][of] == 1)
        rows.append(of)
    return torch.cat(values), torch.cat(shown), torch.cat(rows)


def _fitted(evidence: Tensor, shown: Bool[Tensor, " asked"]) -> tuple[float, float]:
    """Temperature and offset, rounded."""
    slope, offset = fit(evidence[:, None], shown, RIDGE)
    return round(1 / max(float(slope[0]), SMALLEST_SLOPE), 5), round(offset, 5)
