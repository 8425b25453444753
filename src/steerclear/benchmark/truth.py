"""How far a truth that is redrawn agrees with the exact one, on portraits, where both are known."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import spearmanr

from ..core.laboratory import Judge, Measurement, Seen
from ..core.settings import whole
from ..laboratories.portraits import PortraitJudge
from ..metrics.estimates import Rate
from ..models.loading import Model
from ..study.folders import working_folder
from ..study.gallery import Picture
from ..study.generate import generate
from ..study.judging import FEWEST, MOST, REFERENCE_METHOD, reference_of
from ..study.methods import SCALES, chosen_methods, standard_methods
from ..study.recipe import parse_seeds
from ..study.run import recipe_of
from ..study.truth import RedrawnJudge, looked, reference_seeds, truth_of
from ..testbeds.portraits import attribute_rates
from .claims import Benchmark, Claim, OnStage, at_least
from .portraits import MAN, PortraitExperiment

CONCEPT = "mustache"
RANKED = {"frechet": 0.95, "precision": 0.95, "recall": 0.95, "collateral_shift": 0.9}
"""Metric -> least rank correlation of the methods' numbers."""
WITHIN = 0.9
"""Least share of the rates whose interval includes the exact truth."""

Measured = Mapping[str, Mapping[str, Measurement]]
"""Method -> metric -> number."""


@dataclass(frozen=True)
class TruthByRedrawing(PortraitExperiment):
    """The truth by redrawing beside the exact one: rates, and the order in which the metrics put the standard methods.

    Args:
        reference_images: images that are drawn for the truth.
    """

    name = "truth"

    reference_images: int = 4000

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("reference_images", self.reference_images, low=FEWEST, high=MOST)

    def measure(self, folder: Path, on_stage: OnStage) -> Benchmark:
        standard = standard_methods(MAN, (CONCEPT,), **SCALES)
        study = self.study(chosen_methods(None, standard, MAN, (CONCEPT,)), (CONCEPT,))
        model = study.model.load()
        judge = PortraitJudge(model.folder or Path(), MAN, CONCEPT)
        seen = {method.label: judge.see(images) for method, images in self.images(model, study, folder, on_stage)}
        pictures = self._reference(model, folder, on_stage)
        target = f"unguided images without a {CONCEPT}"
        redrawn = RedrawnJudge(judge, truth_of(judge, looked(judge, pictures), target=target, images=len(study.seeds)))
        measured = _measured(judge, seen), _measured(redrawn, seen)
        return self.benchmark(model, [*_rates(redrawn), *_ranks(*measured)])

    def _reference(self, model: Model, folder: Path, on_stage: OnStage) -> list[Picture]:
        """The images of the truth; existing ones are kept."""
        images, on_progress = folder / "images" / "reference", on_stage("the truth")
        on_progress(1, 1)  # full if no image is missing
        recipe = recipe_of(model, reference_of(MAN, REFERENCE_METHOD), self.num_inference_steps)
        seeds = reference_seeds(parse_seeds(self.seeds), self.reference_images)
        with working_folder(images):
            return generate(model, recipe, seeds, images, batch_size=self.batch_size, on_progress=on_progress)


def _measured(judge: Judge, seen: Mapping[str, Seen]) -> Measured:
    return {label: judge.measure(one) for label, one in seen.items()}


def _rates(redrawn: RedrawnJudge) -> list[Claim]:
    """A claim per attribute that the concept leaves alone, and one of all of them."""
    truth = redrawn.truth
    if truth is None or truth.images is None:
        kept = 0 if redrawn.redrawn is None else redrawn.redrawn.kept
        return [at_least("images without the concept", FEWEST, kept)]
    exact, claims = attribute_rates(MAN, without=CONCEPT), []
    for name, share in exact.items():
        if name == CONCEPT:
            continue
        shown = Rate.of(round(truth.rates[name] * truth.images), truth.images)
        claims.append(Claim(
            claim=f"{name}: its rate by redrawing, of {truth.images} images", value=shown.value, low=shown.low, high=shown.high,
            bound=f"interval includes {share:.4f}", met=shown.low <= share <= shown.high,
        ))  # fmt: skip
    within = sum(claim.met for claim in claims) / len(claims)
    told = f"share of {len(claims)} rates by redrawing whose interval includes the exact truth"
    return [at_least(told, WITHIN, within), *claims]


def _ranks(exact: Measured, redrawn: Measured) -> list[Claim]:
    """Spearman's rank correlation over the methods, for each metric."""
    claims = []
    for metric, bound in RANKED.items():
        pairs = {
            label: (exact[label][metric].value, redrawn[label][metric].value)
            for label in exact
            if metric in exact[label] and metric in redrawn[label]
        }
        if len(pairs) < 2:
            continue
        shown = ", ".join(f"{label} {one:.3g} and {other:.3g}" for label, (one, other) in pairs.items())
        correlation = float(spearmanr(*zip(*pairs.values(), strict=True)).statistic)
        told = f"{metric.replace('_', ' ')}: rank correlation over methods, exact and redrawn truth ({shown})"
        claims.append(at_least(told, bound, correlation))
    return claims
