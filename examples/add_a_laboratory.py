"""A laboratory in one file: your own classifier says what the images show, on any pipeline."""

from dataclasses import dataclass

import numpy as np
import torch

import steerclear
from steerclear.core.laboratory import Asked, Column, Judge, Judged, Laboratory, Measurement, Seen


class BrightnessJudge(Judge):
    def columns(self) -> list[Column]:
        return [Column(name="bright", label="bright", meaning="share of images above middle gray", percent=True)]

    def see(self, images: torch.Tensor) -> Seen:
        probability = images.double().mean((1, 2, 3)) / 255  # your classifier: uint8 images -> one number per image
        return Seen({"bright": (probability > 0.5).int()}, {"bright": probability})

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        return {"bright": Measurement(value=float(seen.shown["bright"].double().mean()))}


@dataclass(frozen=True)
class Brightness(Laboratory):
    name = "brightness"

    def refuses(self, model: Judged, asked: Asked) -> str | None:
        return None  # it looks at any image

    def judge(self, model: Judged, asked: Asked) -> Judge:
        return BrightnessJudge()


model, prompt = steerclear.load_model("portraits"), "portrait photo of a man"
made = steerclear.generate(model, prompt, seeds=range(4), num_inference_steps=4)
judge = Brightness().judge(model, Asked(prompt))
seen = judge.see(torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in made]))
print("brightness:", [round(float(one), 3) for one in seen.probabilities["bright"]])
print("bright:", judge.measure(seen)["bright"].value)
