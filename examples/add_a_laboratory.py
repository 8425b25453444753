"""A laboratory in one file: your own classifier says what the images show, on any pipeline."""

from dataclasses import dataclass

import torch

import steerclear
from steerclear.core.laboratory import Asked, Column, Judge, Judged, Laboratory, Measurement, Seen
from steerclear.metrics.rates import rate


class BrightnessJudge(Judge):
    def columns(self) -> list[Column]:  # role "concept": what a negative prompt names; "rate": anything else
        meaning = "share of images whose mean is above 0.66"
        return [Column(name="bright", label="bright", meaning=meaning, percent=True, role="rate")]

    def see(self, images: torch.Tensor) -> Seen:
        probability = images.double().mean((1, 2, 3)) / 255  # your classifier: uint8 images -> one number per image
        return Seen({"bright": (probability > 0.66).long()}, {"bright": probability})

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        return {"bright": rate(seen.shown["bright"]).measured()}  # with its 95 % interval


@dataclass(frozen=True)
class Brightness(Laboratory):
    name = "brightness"

    def refuses(self, model: Judged, asked: Asked) -> str | None:
        return None  # it looks at any image

    def judge(self, model: Judged, asked: Asked) -> Judge:
        return BrightnessJudge()


comparison = steerclear.compare(
    "portraits", "portrait photo of a man", "mustache", methods=["cfg", "negative"], judge=Brightness(), seeds=range(4), num_inference_steps=4
)  # fmt: skip
for row in comparison.rows():
    print(f"{row['label']}: {row['bright']:.0%} bright [{row['bright_low']:.0%}, {row['bright_high']:.0%}]")
