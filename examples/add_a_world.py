"""A world of your own in one file: a laboratory that knows the truth, against which every metric is measured."""

from dataclasses import dataclass

import steerclear
from steerclear.core.laboratory import Column, Judge, Laboratory, Seen, Truth
from steerclear.laboratories.shared.measuring import rates, score_columns, scores
from steerclear.testbeds.portraits import true_portraits  # your world: true images of a question


@dataclass(frozen=True)
class ColorJudge(Judge):
    true: Seen | None = None
    target = "true portraits, by their colors"

    def columns(self):
        bright = Column(name="bright", label="bright", meaning="share of bright images", role="rate", better="truth")
        return [bright, *score_columns()]

    def see(self, images):
        colors = images.float().mean((2, 3)) / 255  # features: any vector per image
        return Seen({"bright": (colors.mean(1) > 0.66).long()}, features=colors)

    def measure(self, seen):
        rate, n = float(self.true.shown["bright"].double().mean()), len(seen.features)
        truth = Truth(self.target, {"bright": rate}, self.true.features[n:], self.true.features[:n])
        return rates(self, seen, truth) | scores(self, seen, truth)


@dataclass(frozen=True)
class Colors(Laboratory):
    name = "colors"

    def refuses(self, model, asked):
        return None

    def judge(self, model, asked):
        return ColorJudge(ColorJudge().see(true_portraits(asked.prompt, range(400))[0]))


row = steerclear.compare("portraits", "a man", methods=["cfg"], seeds=range(8), judge=Colors()).rows()[0]
print(f"{row['bright']:.1%} bright, in truth {row['bright_truth']:.1%}; precision {row['precision']:.2f}")
