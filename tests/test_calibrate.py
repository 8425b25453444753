"""Measuring a concept once: the file, the probe, the tracking's settings, the command, and who takes the file."""

import json
import math
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.optimize import minimize
from torch import Tensor

import steerclear
import tiny
from steerclear.bridges.calibrations import matched, reads
from steerclear.bridges.diffusers.steer import steer
from steerclear.cli.app import main
from steerclear.core.calibration import KEY, About, Calibration, Observed
from steerclear.core.denoiser import Point
from steerclear.core.errors import InvalidSetting, SteerclearWarning, UnsupportedModel
from steerclear.core.evidence import Circumstances, Surroundings
from steerclear.core.logistic import auc, fit
from steerclear.core.records import Step
from steerclear.core.sampling import sample
from steerclear.evidence.constant import ConstantEvidence
from steerclear.evidence.probe import ProbeEvidence, pooled
from steerclear.evidence.transition import TransitionEvidence
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.guidance.redraw import Redraw
from steerclear.guidance.unguided import Unguided
from steerclear.models import loading
from steerclear.study.again import read_results
from steerclear.study.calibrate import calibrate, output_path
from steerclear.study.calibrations import CalibrationSource, as_given
from steerclear.study.commands import generate_command
from steerclear.study.gallery import read_settings
from steerclear.testbeds.mixture import Mixture, MixtureDenoiser, MixtureWorld

pytestmark = pytest.mark.usefixtures("few_references", "loaded_once")

ABOUT = About("portraits", "digest", "a man", "hat", "DDIMScheduler", 4, 40, 20, "portraits", "0")
MAN, MUSTACHE = "portrait photo of a man", "mustache"


def drawn(images: int = 60, levels: int = 3, width: int = 6) -> Observed:
    """Random denoised predictions whose first numbers say, more at lower noise, what the image will show."""
    generator = torch.Generator().manual_seed(0)
    shown = torch.rand(images, generator=generator) < 0.4
    denoised = torch.randn(images, levels, width, generator=generator)
    denoised[:, :, 0] += shown[:, None] * torch.arange(1.0, levels + 1)
    denoised[:, :, 1] *= 3
    return Observed(torch.tensor([8.0, 2.0, 0.5])[:levels].double(), denoised, {}, shown, 0.4)


def latents_drawn() -> Observed:
    """Of the size that the tiny pipelines have."""
    observed = drawn(width=256)
    return replace(observed, denoised=observed.denoised.unflatten(2, (4, 8, 8)))


def measured(observed: Observed | None = None, **about: object) -> Calibration:
    observed = drawn() if observed is None else observed
    probe = ProbeEvidence().calibrated(observed)
    tensors = {f"probe.{name}": value for name, value in probe.items()}
    tensors |= {"transition.temperature": torch.tensor([2.5]), "transition.stop_below": torch.tensor([1.5])}
    return Calibration(replace(ABOUT, **about), observed.prior, tensors)


def at(sample: Tensor, level: float, prediction_type: str = "sample") -> Step:
    """A step at alpha 1 whose network answers with the sample itself."""
    return Step(Point(sample, 1.0, level, 500, 0, 4), prediction_type, 1, lambda names, rows: [sample for _ in names])


def probed(calibration: Calibration, sample: Tensor, level: float, evidence: ProbeEvidence | None = None) -> Tensor:
    evidence = evidence or ProbeEvidence()
    state = evidence.begin(Surroundings(len(sample), 1, calibrations=(calibration,)))
    return evidence.update(at(sample, level), sample, sample, state).log_odds


# the file


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    made = measured()
    made.save(tmp_path / "new" / "hat.safetensors")
    again = Calibration.load(tmp_path / "new" / "hat.safetensors")
    assert (again.about, again.prior, again.digest()) == (made.about, made.prior, made.digest())
    assert again.tensors.keys() == made.tensors.keys()
    for name, value in made.tensors.items():
        assert torch.equal(again.tensors[name], value)
        assert again.tensors[name].dtype == value.dtype
    assert {*again.of("transition")} == {"temperature", "stop_below"}
    assert measured(prompt="a woman").digest() != made.digest()
    changed = replace(made, tensors={**made.tensors, "transition.temperature": torch.tensor([2.6])})
    assert changed.digest() != made.digest()


def test_numbers_that_were_changed_are_refused(tmp_path: Path) -> None:
    """The description stays as it was, and every tensor has its shape."""
    path = tmp_path / "hat.safetensors"
    rough = torch.tensor([0.5, 1.5], dtype=torch.bfloat16)
    made = replace(
        measured(),
        tensors={
            **measured().tensors,
            "other.rough": rough,
            "other.one": torch.tensor(2.0),
            "other.row": torch.ones(1, 3).unbind(1)[0],
        },
    )
    made.save(path)
    assert torch.equal(Calibration.load(path).of("other")["rough"], rough)
    with safe_open(str(path), framework="pt") as file:
        said = file.metadata()
    save_file({**made.tensors, "other.rough": rough + 1}, path, said)
    with pytest.raises(InvalidSetting, match="its numbers are not those that were written"):
        Calibration.load(path)
    with pytest.raises(InvalidSetting, match="calibration is '~nobody-here/x', but must be a path"):
        as_given("~nobody-here/x")


def _said(**changes: object) -> dict[str, str]:
    about = {**vars(ABOUT), **changes.pop("about", {})}  # type: ignore[dict-item]
    return {KEY: json.dumps({"about": about, "prior": 0.4, **changes})}


DAMAGED: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "empty": lambda path: path.write_bytes(b""),
    "no safetensors": lambda path: path.write_text("calibration"),
    "cut off": lambda path: (measured().save(path), path.write_bytes(path.read_bytes()[:-7])),
    "of another program": lambda path: save_file({"a": torch.zeros(1)}, path),
    "not json": lambda path: save_file({"a": torch.zeros(1)}, path, {KEY: "{"}),
    "no object": lambda path: save_file({"a": torch.zeros(1)}, path, {KEY: "[1]"}),
    "a field missing": lambda path: save_file({"a": torch.zeros(1)}, path, {KEY: json.dumps({"about": {}, "prior": 0.4})}),
    "a field too many": lambda path: save_file({"a": torch.zeros(1)}, path, _said(about={"more": 1})),
    "a text for a number": lambda path: save_file({"a": torch.zeros(1)}, path, _said(about={"images": "many"})),
    "a prior of 1": lambda path: save_file({"a": torch.zeros(1)}, path, _said(prior=1.0)),
    "not finite": lambda path: save_file({"a": torch.tensor([math.nan])}, path, _said()),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_is_a_sentence(what: str, tmp_path: Path) -> None:
    path = tmp_path / "hat.safetensors"
    DAMAGED[what](path)
    with pytest.raises(InvalidSetting, match=r"calibration is '.*hat.safetensors', but must be a file of steerclear"):
        Calibration.load(path)


# the probe


def test_the_probe_is_the_minimum_of_its_loss() -> None:
    """Against scipy's optimizer of the same loss, written again."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(50, 4, generator=generator, dtype=torch.float64)
    shown = (features[:, 0] + torch.randn(50, generator=generator)) > 0.3
    for ridge in (0.1, 3.0):

        def loss(at: np.ndarray, ridge: float = ridge) -> float:
            log_odds = features.numpy() @ at[:-1] + at[-1]
            each = np.logaddexp(0, np.where(shown.numpy(), -log_odds, log_odds))
            half = (np.logaddexp(0, at[-1]) + np.logaddexp(0, -at[-1])) / 2
            return float(each.sum() + half + ridge / 2 * (at[:-1] ** 2).sum())

        found = minimize(loss, np.zeros(5), tol=1e-12)
        coefficients, intercept = fit(features, shown, ridge)
        assert coefficients.numpy() == pytest.approx(found.x[:-1], abs=1e-4)
        assert intercept == pytest.approx(found.x[-1], abs=1e-4)


def test_the_probe_is_what_the_file_says() -> None:
    """By hand from the file's numbers, at a level, between two in log s, and beyond the ends."""
    made = measured()
    kept = {name: value.double() for name, value in made.of("probe").items()}
    sample = torch.randn(5, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def by_hand(index: int) -> Tensor:
        seen = (sample - kept["mean"][index]) @ kept["directions"][index].mT
        return seen @ kept["coefficients"][index] + kept["intercept"][index]

    assert kept["levels"].tolist() == [0.5, 2.0, 8.0]
    for level, expected in (
        (0.5, by_hand(0)), (2.0, by_hand(1)), (4.0, (by_hand(1) + by_hand(2)) / 2), (0.1, by_hand(0)), (99.0, by_hand(2)),
    ):  # fmt: skip
        assert torch.allclose(probed(made, sample, level), expected, atol=1e-10)
    turned = {name: value.flip(0) for name, value in made.of("probe").items()}
    falling = replace(made, tensors={f"probe.{name}": value for name, value in turned.items()})
    assert torch.allclose(probed(falling, sample, 4.0), probed(made, sample, 4.0), atol=1e-12)


def test_an_image_is_itself_in_any_batch() -> None:
    made = measured()
    sample = torch.randn(7, 6, generator=torch.Generator().manual_seed(3))
    for level in (8.0, 3.0, 0.5):
        together = probed(made, sample, level)
        alone = torch.cat([probed(made, sample[k : k + 1], level) for k in range(7)])
        assert torch.allclose(together, alone, atol=1e-9)


def test_the_probe_stays_below_its_last_level_and_knows_nothing_of_pure_noise() -> None:
    made, evidence = measured(), ProbeEvidence(stop_below=1.0)
    sample = torch.randn(2, 6, generator=torch.Generator().manual_seed(4))
    state = evidence.begin(Surroundings(2, 1, calibrations=(made,)))
    pure = Step(Point(sample, 0.0, 1.0, 999, 0, 4), "sample", 1, lambda names, rows: [sample])
    first = evidence.update(pure, sample, sample, state)
    assert first.known is not None
    assert not first.known.any()
    assert first.log_odds.tolist() == pytest.approx([math.log(0.4 / 0.6)] * 2)
    second = evidence.update(at(sample, 2.0), sample, sample, first.state)
    third = evidence.update(at(sample + 1, 0.5), sample + 1, sample, second.state)
    assert torch.equal(third.log_odds, second.log_odds)
    assert not torch.equal(probed(made, sample + 1, 0.5), second.log_odds)


def test_predictions_of_another_size_and_files_without_a_probe_are_refused() -> None:
    made = measured()
    with pytest.raises(UnsupportedModel, match=r"denoised predictions of 6 numbers \(6\), and these have 5"):
        probed(made, torch.zeros(1, 5), 2.0)
    for given, words in (((), "there is none"), ((replace(made, tensors={}),), "the one that was given has none")):
        with pytest.raises(
            UnsupportedModel, match=rf"{words}; write a file with steerclear calibrate.*calibration=FILE"
        ):
            ProbeEvidence().begin(Surroundings(1, 1, calibrations=given))
    with pytest.raises(UnsupportedModel, match=r"6 numbers \(6\), and these have 6 numbers \(2 x 3\)"):
        probed(made, torch.zeros(1, 2, 3), 2.0)
    for name in ("levels", "mean", "directions", "coefficients", "intercept", "shape"):
        without = {key: value for key, value in made.tensors.items() if key != f"probe.{name}"}
        for tensors in (
            without,
            *({**made.tensors, f"probe.{name}": torch.zeros(own)} for own in ((2, 2, 2, 2), (), (0,))),
        ):
            with pytest.raises(InvalidSetting, match=r"calibration is .* the probe evidence finds"):
                ProbeEvidence().begin(Surroundings(1, 1, calibrations=(replace(made, tensors=tensors),)))


def test_large_predictions_are_averaged_and_small_ones_stay() -> None:
    large = torch.arange(2 * 4 * 64 * 64).reshape(2, 4, 64, 64).float()
    small = pooled(large)
    assert small.shape == (2, 4, 32, 32)
    assert torch.allclose(small[1, 2, 3, 5], large[1, 2, 6:8, 10:12].mean())
    assert pooled(torch.zeros(1, 256, 64)).shape == (1, 64, 64)
    assert torch.equal(pooled(large[:, :1]), large[:, :1])


WORLD = MixtureWorld(
    Mixture.isotropic([0.6, 0.4], torch.stack([torch.zeros(6), torch.linspace(0.1, 0.8, 6)]), 0.5),
    torch.tensor([0.0, 1.0]),
)
"""Two round components: their log-odds are linear in the denoised prediction's order."""


def seen_in_the_world(seeds: range) -> tuple[Observed, Tensor]:
    """Unguided samples: what was seen of them, with component labels drawn of the exact posterior; the exact log-odds."""
    denoised: list[Tensor] = []
    exact: list[Tensor] = []
    levels: list[float] = []

    class Watching(Unguided):
        def needs_noise_level(self) -> bool:
            return True

        def __call__(self, step: Step, state: steerclear.State) -> steerclear.Guided:
            positive = step.predict_one("positive")
            denoised.append(step.denoised(positive).float())
            exact.append(WORLD.log_odds(step.sample, step.alpha, step.sigma))
            levels.append(step.noise_to_signal)
            return steerclear.Guided(positive, state)

    made = sample(
        MixtureDenoiser(WORLD), Watching(), tiny.scheduler("dpm++-sde"), seeds, (6,), num_inference_steps=12,
        dtype=torch.float64,
    )  # fmt: skip
    chance = torch.rand(len(seeds), generator=torch.Generator().manual_seed(seeds[0]), dtype=torch.float64)
    shown = chance < WORLD.log_odds(made.samples).sigmoid()
    observed = Observed(
        torch.tensor(levels, dtype=torch.float64), torch.stack(denoised, 1), {}, shown, float(shown.double().mean())
    )  # fmt: skip
    return observed, torch.stack(exact, 1)


def test_the_probe_finds_the_exact_posterior() -> None:
    """Measured on 600 samples, held against the exact posterior on 2,000 others."""
    made = measured(seen_in_the_world(range(600))[0])
    fresh, exact = seen_in_the_world(range(10_000, 12_000))
    told = []
    for index, level in enumerate(fresh.levels.tolist()):
        log_odds = probed(made, fresh.denoised[:, index], level)
        told.append(auc(exact[:, index], fresh.shown))
        assert auc(log_odds, fresh.shown) == pytest.approx(told[-1], abs=0.02)
        assert float(log_odds.sigmoid().mean()) == pytest.approx(float(fresh.shown.double().mean()), abs=0.05)
    assert told[-1] > 0.9 > 0.8 > told[3]  # there was something to find, and more at lower noise


# the tracking


def test_the_tracking_is_told_what_its_log_odds_are_worth() -> None:
    """Log-odds that say four times too much down to level 4, and nothing more below."""
    generator = torch.Generator().manual_seed(5)
    honest = torch.randn(4000, 4, generator=generator, dtype=torch.float64).cumsum(1) / 2
    shown = torch.rand(4000, generator=generator, dtype=torch.float64) < honest[:, 1].sigmoid()
    log_odds = 3 * honest
    log_odds[:, 2:] = log_odds[:, 1:2] + 4 * torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    observed = Observed(
        torch.tensor([16.0, 4.0, 1.0, 0.25]).double(), torch.zeros(4000, 4, 1), {"transition": log_odds}, shown, 0.5
    )
    kept = TransitionEvidence().calibrated(observed)
    assert float(kept["stop_below"]) == pytest.approx(2.0)  # between 4 and 1
    assert float(kept["temperature"]) == pytest.approx(3.0, rel=0.15)
    endless = replace(observed, levels=torch.tensor([math.inf, 16.0, 4.0, 1.0]).double())
    assert float(TransitionEvidence().calibrated(endless)["stop_below"]) == pytest.approx(8.0)
    endless.log_odds["transition"][:, 1:] = torch.randn(4000, 3, generator=generator, dtype=torch.float64)
    assert math.isfinite(float(TransitionEvidence().calibrated(endless)["stop_below"]))
    assert TransitionEvidence().calibrated(drawn()) == {}  # it did not watch


def test_open_settings_of_the_tracking_are_the_calibrations() -> None:
    made, other = measured(), measured(negative_prompt="beard")
    other.tensors["transition.temperature"][:] = 1.5  # type: ignore[index]
    table = torch.tensor([[0.5, -1.0], [2.0, -3.0]])
    one = Circumstances(prior=0.3, calibrations=(replace(made, tensors={**made.tensors, "transition.volume": table}),))
    fitted = TransitionEvidence().fitted(one)
    assert (fitted.prior, fitted.temperature, fitted.stop_below) == (0.4, 2.5, 1.5)
    assert fitted.volume == ((0.5, -1.0), (2.0, -3.0))
    own = TransitionEvidence(prior=0.2, temperature=1.0, stop_below=3.0, volume=((1.0, -1.0),))
    assert own.fitted(one) == own
    two = TransitionEvidence().fitted(Circumstances(prior=(0.3, 0.1), calibrations=(other, None)))
    assert (two.prior, two.temperature, two.volume) == ((0.4, 0.1), 1.5, ())
    other.tensors["transition.stop_below"][:] = 0.2  # type: ignore[index]
    assert TransitionEvidence().fitted(Circumstances(calibrations=(other, None))).stop_below == 1.0
    for wrong in ({"temperature": torch.zeros(0)}, {"stop_below": torch.ones(1, 1)}, {"volume": torch.ones(2)}):
        kept = replace(made, tensors={f"transition.{name}": value for name, value in wrong.items()})
        with pytest.raises(InvalidSetting, match="the transition evidence finds"):
            TransitionEvidence().fitted(Circumstances(calibrations=(kept,)))
    plain = TransitionEvidence().fitted(Circumstances(prior=0.3))
    assert (plain.prior, plain.temperature, plain.stop_below, plain.volume) == (0.3, 1.0, 1.0, ())


# who takes it


def test_each_calibration_goes_to_its_negative_prompt() -> None:
    hat, beard = measured(), measured(negative_prompt="beard")
    assert matched([hat, beard], ["beard", "hat"]) == (beard, hat)
    assert matched([hat], ["beard", "hat"]) == (None, hat)
    assert matched([hat], ["cap"]) == (hat,)  # with a warning, see below
    assert matched([], ["cap"]) == ()
    assert reads(DynamicNegativeGuidance(evidence=ProbeEvidence()), hat)
    assert reads(DynamicNegativeGuidance(), hat)
    assert not reads(DynamicNegativeGuidance(evidence=ConstantEvidence()), hat)
    assert not reads(Unguided(), hat)


@pytest.mark.parametrize(
    ("guidance", "about", "negatives", "message"),
    [
        ("probe", {}, "hat", None),
        ("probe", {"prompt": "a woman"}, "hat", "its prompt is 'a man', and the calibration's 'a woman'"),
        ("probe", {"negative_prompt": "cap"}, "hat", "its negative prompt is 'hat', and the calibration's 'cap'"),
        ("probe", {"num_inference_steps": 9}, "hat", "its number of steps is 2, and the calibration's 9"),
        ("probe", {"scheduler": "X(eta=1)"}, "hat", "its scheduler is 'DDIMScheduler', and the calibration's 'X(eta=1)'"),
        ("probe", {"height": 512}, "hat", "its height is None, and the calibration's 512"),
        ("probe", {"sampler": "stochastic"}, "hat", "its kind of sampler is 'deterministic', and the calibration's 'stoch"),
        ("scale 3", {}, "hat", "its guidance scale is 3.0, and the calibration's 1.0"),
        ("hub", {}, "hat", "its model is 'someone/model', and the calibration's 'portraits'"),
        ("list", {}, "hat", "its prompt is 'a boy', and the calibration's 'a man'"),
        ("negative", {}, "hat", "its concept is the negative alone, and the calibration's the conjunction"),
        ("constant", {}, "hat", "the calibration of 'hat' has no effect: dynamic-negative has no evidence that reads it"),
        ("two", {}, "hat", "the calibration of 'cap' has no effect: there is no negative prompt for it; leave it out"),
    ],
)  # fmt: skip
def test_a_pipeline_is_told_where_a_calibration_does_not_belong(
    guidance: str, about: dict, negatives: str, message: str | None
) -> None:
    made = measured(latents_drawn(), **{"num_inference_steps": 2, **about})
    evidences = {"constant": ConstantEvidence(), "negative": TransitionEvidence()}
    evidence = evidences.get(guidance, ProbeEvidence())
    concept, scale = "negative" if guidance == "negative" else "conjunction", 3.0 if guidance == "scale 3" else 1.0
    pipe = tiny.stable_diffusion("ddim")
    if guidance == "hub":
        pipe.register_to_config(_name_or_path="someone/model")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        given = [made, replace(made, about=replace(made.about, negative_prompt="cap"))] if guidance == "two" else made
        with steer(
            pipe, DynamicNegativeGuidance(scale, evidence=evidence, concept=concept), negatives, calibration=given
        ):
            prompts = ["a man", "a boy"] if guidance == "list" else "a man"
            seeds = (0, 1) if guidance == "list" else (0,)
            pipe(prompts, num_inference_steps=2, generator=tiny.generators(*seeds), output_type="latent")
    said = [str(one.message) for one in caught if issubclass(one.category, SteerclearWarning) and "calib" in str(one.message)]  # fmt: skip
    assert len(said) == (message is not None)
    assert message is None or message in said[0]


def test_a_file_and_what_was_read_from_it_steer_the_same(tmp_path: Path) -> None:
    made = measured(latents_drawn(), num_inference_steps=2)
    made.save(tmp_path / "hat.safetensors")
    pipe = tiny.stable_diffusion("ddim")

    def latents(calibration: object) -> tuple[Tensor, Tensor]:
        with steer(pipe, DynamicNegativeGuidance(1.0, evidence=ProbeEvidence()), "hat", calibration=calibration) as run:
            made = pipe(
                "a man",
                num_inference_steps=2,
                num_images_per_prompt=2,
                generator=tiny.generators(0, 1),
                output_type="latent",
            )
        return made.images, run.trace.table("posterior")

    first, posterior = latents(made)
    assert torch.equal(latents(tmp_path / "hat.safetensors")[0], first)
    assert torch.equal(latents([str(tmp_path / "hat.safetensors")])[1], posterior)
    assert len(posterior.unique()) == 4  # of every image at every step its own
    for wrong in (5, [None], object()):
        with pytest.raises(InvalidSetting, match=r"calibration is .* a file of steerclear calibrate, a Calibration"):
            latents(wrong)


# the command


SEEDS, STEPS = "0-23", "4"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def mustache(loaded_once: None, few_references: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibration of the shipped model; its images are in the folder "run" beside it."""
    folder = tmp_path_factory.mktemp("calibrated")
    asked = ["--seeds", SEEDS, "--steps", STEPS, "--batch-size", "8", "--outdir", str(folder / "run"), "-q"]
    path = folder / "mustache.safetensors"
    assert main(["calibrate", MAN, "--negative-prompt", MUSTACHE, *asked, "-o", str(path)]) == 0
    return path


def test_the_command_writes_a_calibration_and_a_table(mustache: Path) -> None:
    made, table = Calibration.load(mustache), json.loads(mustache.with_suffix(".json").read_text())
    about = made.about
    assert (about.prompt, about.negative_prompt, about.images, about.num_inference_steps) == (MAN, MUSTACHE, 24, 4)
    assert (about.model, about.model_digest, about.judge) == (
        "portraits",
        loading.load_model("portraits").digest,
        "portraits:classifier=second",
    )
    assert made.prior == pytest.approx((about.shown + 0.5) / 25)
    assert table["digest"] == made.digest()
    assert {*table["auc"]} >= {"transition", "probe"}
    assert all(len(values) == 4 for values in table["auc"].values())
    assert table["auc"]["probe"][-1] > 0.7
    assert table["evaluations"]["transition"] == 4.0
    assert "probe" not in table["left_out"]


def test_its_images_are_those_of_no_guidance(mustache: Path, tmp_path: Path) -> None:
    """So watching changes nothing, bit for bit; and what was made is found again."""
    folder = mustache.parent / "run" / "images" / "unguided"
    model = loading.load_model("portraits")
    plain = steerclear.generate(
        model, MAN, guidance="unguided", seeds=range(8), num_inference_steps=4, batch_size=8, folder=tmp_path
    )
    for picture in plain.pictures:
        ours = read_settings(folder / picture.path.name)
        assert ours is not None
        assert ours["pixels"] == read_settings(picture.path)["pixels"]  # type: ignore[index]
        assert ours["digest"] == plain.recipe.digest()


def test_a_resumed_command_is_an_uninterrupted_one(mustache: Path, tmp_path: Path) -> None:
    """Some images are gone, some of what was seen is damaged: the file is the same bit for bit."""
    here, run = tmp_path / "again.safetensors", tmp_path / "run"
    shutil.copytree(mustache.parent / "run", run)
    (run / "images" / "unguided" / "00003.png").unlink()
    (run / "seen" / "00010.safetensors").write_bytes(b"damaged")
    untouched = (run / "seen" / "00020.safetensors").stat().st_mtime_ns
    with pytest.warns(SteerclearWarning, match=r"are damaged or of other settings, and are made again"):
        calibrate(
            loading.load_model("portraits"),
            MAN,
            MUSTACHE,
            run,
            here,
            seeds=range(24),
            num_inference_steps=4,
            batch_size=8,
        )
    assert here.read_bytes() == mustache.read_bytes()
    assert (run / "seen" / "00020.safetensors").stat().st_mtime_ns == untouched


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["calibrate"], "Missing"),
        (["calibrate", MAN], "Missing option '--negative-prompt'"),
        (["calibrate", MAN, "--negative-prompt", MUSTACHE], "Missing option '--output'"),
        (["calibrate", " ", "--negative-prompt", MUSTACHE, "-o", "a.safetensors"], "the prompt is empty"),
        (["calibrate", MAN, "--negative-prompt", "", "-o", "a.safetensors"], "the negative prompt is empty"),
        (["calibrate", MAN, "--negative-prompt", MUSTACHE, "-o", "a.bin"], "--output is 'a.bin', but must be the path of a file *.safetensors"),
        (["calibrate", MAN, "--negative-prompt", MUSTACHE, "-o", "a.safetensors", "--images", "3"], "Invalid value for '--images': Input should be greater than or equal to 16"),
        (["calibrate", MAN, "--negative-prompt", MUSTACHE, "-o", "a.safetensors", "--seeds", "0-x"], "seeds is '0-x'"),
        (["calibrate", MAN, "--negative-prompt", MUSTACHE, "-o", "a.safetensors", "--judge", "nobody"], "there is no laboratory 'nobody'"),
        (["calibrate", MAN, "--negative-prompt", MUSTACHE, "-o", "a.safetensors", "--judge", "none"], "a calibration needs a judge"),
        (["calibrate", MAN, "--negative-prompt", "gloom", "-o", "a.safetensors"], "the laboratory portraits does not know what 'gloom' names"),
        (["calibrate", MAN, "--negative-prompt", MUSTACHE, "-o", "a.safetensors", "--seeds", "0-8", "--steps", "1"], "so many that at least 8 show 'mustache' and 8 do not; only"),
        (["calibrate", MAN, "--negative-prompt", MUSTACHE, "-o", "a.safetensors", "--seeds", "0-30", "--images", "128"], "--seeds 0-30"),
        (["generate", MAN, "--negative-prompt", MUSTACHE, "--calibration", "none.safetensors"], "calibration is 'none.safetensors', but must be a file of steerclear calibrate"),
        (["generate", MAN, "--negative-prompt", MUSTACHE, "--set", "evidence=probe", "--outdir", "out"], "needs what was measured of this concept, and there is none; write a file with steerclear calibrate, and give --calibration FILE"),
    ],
)  # fmt: skip
def test_wrong_inputs(
    arguments: list[str], message: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code == 2
    assert message in re.sub(r" *[│╭╮╰╯─]+ *", " ", err)
    assert not list(tmp_path.glob("*.safetensors"))


def test_what_is_no_calibration_is_not_replaced(tmp_path: Path) -> None:
    assert output_path(tmp_path / "new" / "a.safetensors")
    measured().save(tmp_path / "a.safetensors")
    assert output_path(tmp_path / "a.safetensors")
    save_file({"weights": torch.zeros(1)}, tmp_path / "b.safetensors")
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "file").write_text("")
    for name, words in (("b", "nothing else"), ("a", "the table would replace a.json"), ("file/c", "can be written")):
        with pytest.raises(InvalidSetting, match=words):
            output_path(tmp_path / f"{name}.safetensors")


def _generate(run: Run, mustache: Path, outdir: Path, *arguments: object) -> tuple[int, str, str]:
    asked = ["--negative-prompt", MUSTACHE, "--seeds", "0", "--steps", STEPS, "--guidance", "dynamic-negative", "-q"]
    return run(
        "generate", MAN, *asked, "--set", "guidance_scale=1", "--calibration", mustache, "--outdir", outdir, *arguments
    )


def test_images_know_their_calibration(run: Run, mustache: Path, tmp_path: Path) -> None:
    made = Calibration.load(mustache)
    assert _generate(run, mustache, tmp_path / "a", "--set", "evidence=probe")[::2] == (0, "")
    said = read_settings(tmp_path / "a" / "00000.png")
    assert said is not None
    assert said["recipe"]["calibrations"] == [{"name": str(mustache), "digest": made.digest()}]
    again = ["generate", "--from", tmp_path / "a" / "00000.png", "-q", "--outdir"]
    assert run(*again, tmp_path / "b")[::2] == (0, "")
    assert read_settings(tmp_path / "b" / "00000.png")["pixels"] == said["pixels"]  # type: ignore[index]
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(mustache.read_bytes())
    assert run(*again, tmp_path / "c", "--calibration", moved)[::2] == (0, "")
    assert read_settings(tmp_path / "c" / "00000.png")["digest"] == said["digest"]  # type: ignore[index]
    assert _generate(run, mustache, tmp_path / "d")[::2] == (0, "")
    evidence = read_settings(tmp_path / "d" / "00000.png")["recipe"]["guidance"]["evidence"]  # type: ignore[index]
    assert evidence["prior"] == made.prior
    assert evidence["temperature"] == float(made.tensors["transition.temperature"])
    assert evidence["stop_below"] == float(made.tensors["transition.stop_below"])


def test_a_calibration_that_is_gone_or_changed_is_a_sentence(run: Run, mustache: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied.safetensors"
    copied.write_bytes(mustache.read_bytes())
    assert _generate(run, copied, tmp_path / "a", "--set", "evidence=probe")[0] == 0
    again = ["generate", "--from", tmp_path / "a" / "00000.png", "--outdir", tmp_path / "b", "-q"]
    made = Calibration.load(copied)
    replace(made, prior=0.123).save(copied)
    code, _, err = run(*again)
    assert (code, "it says something else now" in err, "give --calibration again" in err) == (2, True, True)
    copied.unlink()
    code, _, err = run(*again)
    assert (code, f"but must be the file with the digest {made.digest()}; it is not there any more" in err) == (2, True)
    with pytest.raises(InvalidSetting, match=r"given in Python, and no file keeps it; give calibration=\.\.\. again"):
        as_given([CalibrationSource("", "d")])


def test_a_comparison_takes_it_where_it_is_read(run: Run, mustache: Path, tmp_path: Path) -> None:
    methods = "unguided,dynamic-negative:evidence=probe"
    asked = [
        "compare",
        MAN,
        "--negative-prompt",
        MUSTACHE,
        "--seeds",
        "0-1",
        "--steps",
        STEPS,
        "--guidance-scale",
        "1",
        "-q",
    ]
    code, _, err = run(*asked, "--methods", methods, "--calibration", mustache, "--outdir", tmp_path / "a")
    assert (code, err) == (0, "")
    results = json.loads((tmp_path / "a" / "results.json").read_text())
    plain = steerclear.generate(
        loading.load_model("portraits"), MAN, guidance="unguided", seeds=[0, 1], num_inference_steps=4
    )
    assert results["methods"][0]["recipe_digest"] == plain.recipe.digest()  # nothing of it in what does not read it
    assert results["calibrations"] == [{"name": str(mustache), "digest": Calibration.load(mustache).digest()}]
    found = read_results(tmp_path / "a")
    commands = [generate_command(found, method) for method in found.methods]
    assert [f"--calibration {mustache}" in str(command) for command in commands] == [False, True]
    nameless = found.model_copy(update={"calibrations": [CalibrationSource("", "d")]})
    assert [generate_command(nameless, method) is None for method in found.methods] == [False, True]
    code, _, err = run("compare", "--recipe", tmp_path / "a", "--outdir", tmp_path / "b", "-q")
    assert (code, err) == (0, "")
    code, _, err = run(*asked, "--methods", "unguided", "--calibration", mustache, "--outdir", tmp_path / "c")
    assert "the calibration of 'mustache' has no effect: nothing in this run reads it" in err
    code, _, err = run(
        *asked[:-1], "--methods", methods, "--calibration", mustache, "--steps", "5", "--outdir", tmp_path / "d", "-q"
    )
    assert "was measured elsewhere, so its numbers may be wrong here: its number of steps is 5" in err
    assert err.count("measured elsewhere") == 1
    code, _, err = run(*asked, "--methods", methods, "--outdir", tmp_path / "a")
    assert (code, "holds another run (calibrations:" in err) == (2, True)


def test_python_takes_what_the_command_takes(mustache: Path, tmp_path: Path) -> None:
    made, model = Calibration.load(mustache), loading.load_model("portraits")
    asked = {"guidance": "dynamic-negative:evidence=probe", "seeds": [0], "num_inference_steps": 4}
    first = steerclear.generate(model, MAN, MUSTACHE, calibration=made, **asked)
    second = steerclear.generate(model, MAN, MUSTACHE, calibration=mustache, **asked)
    assert np.array_equal(np.array(first[0]), np.array(second[0]))
    assert first.recipe.digest() == second.recipe.digest()
    assert (first.recipe.calibrations[0].name, second.recipe.calibrations[0].name) == ("", str(mustache))
    again = steerclear.calibrate(
        model, MAN, MUSTACHE, tmp_path / "p.safetensors", seeds=range(24), num_inference_steps=4, batch_size=8,
        folder=mustache.parent / "run",
    )  # fmt: skip
    assert again.digest() == made.digest()


@pytest.mark.filterwarnings("ignore:the negative prompt has no effect")  # of the one that draws once
def test_a_probe_flags_what_is_drawn_again(mustache: Path) -> None:
    """The flagged are those above one half at the last step; nothing more is evaluated; an image alone is the same image."""
    model = loading.load_model("portraits")
    redraw = Redraw(evidence=ProbeEvidence(), tries=2, from_step=0)
    asked = {"guidance": redraw, "calibration": mustache, "num_inference_steps": 4}
    several = steerclear.generate(model, MAN, MUSTACHE, seeds=range(6), **asked)
    watched = steerclear.generate(
        model, MAN, MUSTACHE, seeds=range(6), **{**asked, "guidance": redraw.changed(tries=1)}
    )
    flagged = [picture.trace["concept"][-1] > 0.5 for picture in watched.pictures]
    assert 0 < sum(flagged) < 6
    assert [picture.draws for picture in several.pictures] == [1 + one for one in flagged]
    assert [picture.evaluations for picture in several.pictures] == [4.0 * (1 + one) for one in flagged]
    last = flagged.index(True)
    alone = steerclear.generate(model, MAN, MUSTACHE, seeds=[last], **asked)
    apart = np.abs(np.array(alone[0], dtype=int) - np.array(several[last], dtype=int))
    assert apart.max() <= 1
