"""``compare``, ``generate`` and ``steer`` make the same images of the same question and prior, with nothing else set by hand."""

import json
from pathlib import Path

import diffusers
import numpy as np
import pytest
from PIL import Image

from steerclear import DynamicNegativeGuidance, IntervalGuidance, load_model, steer
from steerclear.cli.app import main
from steerclear.core.engine import GuidedDenoiser
from steerclear.core.evidence import Circumstances, Surroundings
from steerclear.core.seeds import image_generators
from steerclear.evidence.constant import ConstantEvidence
from steerclear.evidence.transition import TransitionEvidence
from steerclear.study.gallery import read_settings
from steerclear.study.measure import circumstances
from steerclear.study.methods import unmeasured
from steerclear.testbeds.mixture import MixtureDenoiser
from steerclear.testbeds.spiral import Spiral

PROMPT, NEGATIVE = "portrait photo of a man", "mustache"
COMMON = ["--negative-prompt", NEGATIVE, "--seeds", "3-4", "--steps", "4"]


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


@pytest.fixture(scope="module")
def compared(few_references: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    arguments = ["compare", PROMPT, *COMMON, "--methods", "unguided,dynamic-negative", "--outdir", str(folder)]
    assert main(arguments) == 0
    return folder / "images" / "dynamic-negative"


def test_generate_takes_the_dynamic_negative_of_compare(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """... as soon as there is a negative, and says so."""
    assert main(["generate", PROMPT, *COMMON, "--outdir", str(tmp_path)]) == 0
    assert "guidance: dynamic-negative, which uses the negative prompt" in capsys.readouterr().err
    for seed in (3, 4):
        assert np.array_equal(pixels(tmp_path / f"{seed:05d}.png"), pixels(compared / f"{seed:05d}.png"))
        ours, its = (read_settings(folder / f"{seed:05d}.png") for folder in (tmp_path, compared))
        assert ours is not None
        assert its is not None
        assert ours["recipe"]["guidance"] == its["recipe"]["guidance"]


def test_steer_makes_the_images_of_compare(compared: Path) -> None:
    pipe = load_model("portraits").pipe
    with steer(pipe, DynamicNegativeGuidance(), NEGATIVE):
        images = pipe(
            PROMPT, num_images_per_prompt=2, num_inference_steps=4, generator=image_generators([3, 4])
        ).images  # fmt: skip
    for seed, image in zip((3, 4), images, strict=True):
        assert np.array_equal(np.array(image), pixels(compared / f"{seed:05d}.png"))


def test_without_a_negative_generate_takes_plain_guidance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", PROMPT, "--seeds", "0", "--steps", "1", "--outdir", str(tmp_path), "--format", "json"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["recipe"]["guidance"]["_class_name"] == "ClassifierFreeGuidance"
    assert "guidance:" not in printed.err


def test_what_is_left_open_fits_the_run() -> None:
    """1 for learned networks, 0 for exact worlds; the prior where it is known; and what was set stays."""
    open_ = IntervalGuidance(DynamicNegativeGuidance())
    learned = open_.fitted(Circumstances(prior=0.25)).inner.evidence
    assert (learned.stop_below, learned.prior) == (1.0, 0.25)
    exact = GuidedDenoiser(MixtureDenoiser(Spiral().world), open_, Surroundings(2, 1)).guidance
    assert isinstance(exact, IntervalGuidance)
    assert (exact.inner.evidence.stop_below, exact.inner.evidence.prior) == (0.0, 0.5)
    chosen = TransitionEvidence(0.3, stop_below=2.0, temperature=1.0)
    assert chosen.fitted(Circumstances(prior=0.25)) == chosen


@pytest.mark.parametrize("prior", [("hat", 0.25), ("beard", 0.325), ("mustache", 0.5)], ids=lambda pair: pair[0])
def test_the_prior_of_the_shipped_world_is_its_truth(
    prior: tuple[str, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    negative, rate = prior
    arguments = ["generate", PROMPT, "--negative-prompt", negative, "--seeds", "0", "--steps", "1"]
    assert main([*arguments, "--outdir", str(tmp_path), "--format", "json"]) == 0
    evidence = json.loads(capsys.readouterr().out)["recipe"]["guidance"]["evidence"]
    assert evidence["prior"] == pytest.approx(rate)
    assert evidence["stop_below"] == 1.0


def test_each_negative_has_the_prior_of_its_own() -> None:
    model = load_model("portraits")
    assert circumstances(model, PROMPT, ["mustache", "hat"]) == Circumstances(prior=(0.5, 0.25))
    assert circumstances(model, PROMPT, []) == Circumstances()


def test_steer_knows_no_world_and_takes_the_prior_that_it_is_given(tmp_path: Path) -> None:
    """A hat is in a quarter of the true portraits; the fallback of one half makes other images."""
    asked = ["generate", PROMPT, "--negative-prompt", "hat", "--seeds", "3", "--steps", "4", "--outdir", str(tmp_path)]
    assert main(asked) == 0
    pipe, expected = load_model("portraits").pipe, pixels(tmp_path / "00003.png")

    def steered(guidance: DynamicNegativeGuidance) -> np.ndarray:
        with steer(pipe, guidance, "hat"):
            return np.array(pipe(PROMPT, num_inference_steps=4, generator=image_generators([3])).images[0])

    known = DynamicNegativeGuidance(evidence=TransitionEvidence(0.25))
    assert np.array_equal(steered(known), expected)
    assert np.abs(steered(DynamicNegativeGuidance()).astype(int) - expected).max() > 20


@pytest.mark.parametrize(("scheduler", "said"), [("FlowMatchEulerDiscreteScheduler", 1), ("DDIMScheduler", 0)])
def test_what_nobody_has_measured_is_said(scheduler: str, said: int) -> None:
    made = getattr(diffusers, scheduler)()
    assert len(unmeasured(made, IntervalGuidance(DynamicNegativeGuidance()))) == said
    assert not unmeasured(made, DynamicNegativeGuidance(evidence=ConstantEvidence()))
