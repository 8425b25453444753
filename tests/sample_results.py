"""Synthetic results with portraits that are really drawn: what ``compare`` would write, without a model."""

import math
from pathlib import Path

import torch
from PIL import Image

from steerclear.core.laboratory import Column, Measurement
from steerclear.guidance.auto import AutoGuidance
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.guidance.negative_prompt import NegativePromptGuidance
from steerclear.guidance.unguided import Unguided
from steerclear.metrics.rates import rate
from steerclear.models.networks import NetworkSource
from steerclear.study.results import ImageResult, MethodResult, Results
from steerclear.testbeds.portraits import Attributes, attribute_rates, draw_from_seeds, indicators, sample

SEEDS = range(16)
STEPS = 30
PROMPT = "portrait photo of a man"
NEGATIVE = "mustache"
ATTRIBUTES = ("man", "beard", "glasses", "hat", "smile")

METHODS = {
    # name: label, prompt, negatives, guidance, attributes that a method forces or (by a wild card) removes
    "unguided": ("unguided", PROMPT, [], Unguided(), {}),
    "without": ("said in the prompt", f"{PROMPT} without a mustache", [], Unguided(), {}),
    "cfg": ("classifier-free guidance", PROMPT, [], ClassifierFreeGuidance(guidance_scale=3.0), {"hat": 0}),
    "negative": ("negative prompt", PROMPT, [NEGATIVE], NegativePromptGuidance(), {"mustache": 0, "beard": 0}),
    "dynamic-negative": (
        "dynamic negative guidance", PROMPT, [NEGATIVE], DynamicNegativeGuidance(), {"mustache": 0},
    ),
    "autoguidance": ("autoguidance", PROMPT, [], AutoGuidance(), {}),
    "autoguidance-dynamic": (
        "autoguidance + dynamic negative", PROMPT, [NEGATIVE],
        AutoGuidance(inner=DynamicNegativeGuidance(negative_scale=2.0)), {"mustache": 0},
    ),
}  # fmt: skip

SCORES = {
    # name: collateral shift, Fréchet distance, precision, recall, diversity, evaluations
    "unguided": (0.045, 4.1, 0.71, 0.64, 0.42, 30.0),
    "without": (0.061, 4.9, 0.70, 0.61, 0.41, 30.0),
    "cfg": (0.102, 7.7, 0.83, 0.40, 0.33, 60.0),
    "negative": (0.187, 9.6, 0.80, 0.35, 0.31, 60.0),
    "dynamic-negative": (0.052, 4.6, 0.72, 0.62, 0.42, 60.0),
    "autoguidance": (0.040, 3.3, 0.81, 0.60, 0.40, 60.0),
    "autoguidance-dynamic": (0.048, 3.5, 0.82, 0.59, 0.40, 87.5),
}


def columns() -> list[Column]:
    rates = [
        Column(
            name=name,
            label=name,
            meaning=f"how many of the images show: {name}",
            percent=True,
            role="rate",
            better="truth",
        )
        for name in ATTRIBUTES
    ]
    return [
        Column(name=NEGATIVE, label="mustache", percent=True, meaning="share of images in which a mustache is seen",
               role="concept", better="lower"),
        *rates,
        Column(
            name="collateral_shift", label="collateral shift", percent=True, role="score", better="lower", side_effect=True,
            meaning="how far all other rates are from their truth, less what chance alone would show",
        ),
        Column(name="frechet", label="Fréchet distance", meaning="between the images and the truth, in features",
               role="score", better="lower", side_effect=True),
        Column(name="precision", label="precision", percent=True, meaning="share of images that look like true ones",
               role="score", better="higher"),
        Column(name="recall", label="recall", percent=True, meaning="share of the truth that the images cover",
               role="score", better="higher"),
        Column(name="diversity", label="diversity", meaning="mean distance of two images", role="score", better="truth"),
        Column(name="evaluations", label="network calls", meaning="network evaluations an image", role="cost", better="lower"),
    ]  # fmt: skip


def _attributes(name: str, forced: dict[str, int]) -> Attributes:
    shown = sample(SEEDS, man=1)
    for attribute, level in forced.items():
        # a forced attribute holds but for one image in eight, as guidance is never perfect
        keep = torch.tensor([seed % 8 == 3 and name == "dynamic-negative" for seed in SEEDS])
        shown[attribute] = torch.where(keep, shown[attribute], torch.full_like(shown[attribute], level))
    if name == "without":
        shown["mustache"] = shown["mustache"] * torch.tensor([seed % 2 for seed in SEEDS])
    return shown


def _trace(seed: int, shows: bool) -> dict[str, list[float | None]]:
    """Log-odds that wander up or down; the last steps are frozen, and the very first shows nothing."""
    posterior: list[float | None] = [None]
    for step in range(1, STEPS):
        along = min(step, 22) / 22
        end = (2.5 if shows else -4.0) + math.sin(seed)
        odds = end * along + 0.9 * math.sin(0.7 * step + seed) * along * (1 - along) * 2
        posterior.append(1 / (1 + math.exp(-odds)))
    weight = [None if p is None else min(p / (1 - p), 99.0) for p in posterior]
    return {"weight": weight, "posterior": posterior, "push_norm": weight}


def _measurements(name: str, shown: dict[str, torch.Tensor]) -> dict[str, Measurement]:
    truth = attribute_rates(PROMPT, without=NEGATIVE)

    def share(attribute: str) -> Measurement:
        return rate(shown[attribute]).measured(truth[attribute])

    shift, frechet, precision, recall, diversity, evaluations = SCORES[name]

    def around(value: float, truth: float | None = None, most: float = math.inf) -> Measurement:
        return Measurement(
            value=value, low=value * 0.85, high=min(value * 1.15, most), interval="bootstrap", truth=truth
        )

    return {
        NEGATIVE: share(NEGATIVE),
        **{attribute: share(attribute) for attribute in ATTRIBUTES},
        "collateral_shift": around(shift, 0.0),
        "frechet": around(frechet),
        "precision": around(precision, 0.86, 1.0),
        "recall": around(recall, 0.84, 1.0),
        "diversity": around(diversity, 0.43),
        "evaluations": Measurement(value=evaluations),
    }


def sample_results(folder: Path) -> Results:
    """Seven methods, sixteen seeds; the images are written into the folder.

    Args:
        folder: where results.json would lie.
    """
    methods = []
    for name, (label, prompt, negatives, guidance, forced) in METHODS.items():
        attributes = _attributes(name, forced)
        shown = indicators(attributes)
        (folder / "images" / name).mkdir(parents=True, exist_ok=True)
        images = []
        for seed, pixels in zip(SEEDS, draw_from_seeds(attributes, list(SEEDS)), strict=True):
            file = f"images/{name}/{seed:06d}.png"
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / file)
            sees = {attribute: int(values[seed]) for attribute, values in attributes.items()}
            adaptive = "dynamic" in name
            trace = _trace(seed, bool(sample(SEEDS, man=1)["mustache"][seed])) if adaptive else {}
            images.append(ImageResult(seed=seed, file=file, shown=sees, trace=trace))
        methods.append(
            MethodResult(
                name=name,
                label=label,
                prompt=prompt,
                negative_prompts=negatives,
                guidance=guidance.to_config(),
                recipe_digest=f"{len(methods):016x}",
                evaluations=SCORES[name][-1],
                noise_levels=[80.0 * (0.001 / 80.0) ** (step / (STEPS - 1)) for step in range(STEPS)],
                branches=[["positive"]] * STEPS,
                measurements=_measurements(name, shown),
                images=images,
                warnings=["autoguidance looks at negative prompts only through its inner guidance, and there is none"]
                if name == "autoguidance"
                else [],
            )
        )
    return Results(
        steerclear_version="0.1.0",
        versions={"torch": "2.13.0", "diffusers": "0.38.0"},
        command='steerclear compare "portrait photo of a man" --negative-prompt mustache --outdir out/demo',
        prompt=PROMPT,
        negative_prompts=[NEGATIVE],
        model="portraits",
        model_digest="0123456789abcdef",
        scheduler="EulerAncestralDiscreteScheduler",
        num_inference_steps=STEPS,
        dtype="float32",
        networks={"weak": NetworkSource("portraits/weak", "fedcba9876543210")},
        seeds="0-15",
        columns=columns(),
        target="the exact distribution of portraits of a man without a mustache",
        notes=["The classifier that reads the images errs in 0.4 % of true portraits."],
        methods=methods,
    )
