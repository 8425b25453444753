"""Diagrams: planar mixtures against others, pushes against formulas, samples against the truth, and the pictures themselves."""

import io
import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from steerclear import DynamicNegativeGuidance, TransitionEvidence, sample
from steerclear.cli.app import main
from steerclear.core.errors import InvalidSetting, UnknownName
from steerclear.core.guidance import Guidance
from steerclear.core.parsing import parse_part
from steerclear.evidence.constant import ConstantEvidence
from steerclear.evidence.oracle import OracleEvidence
from steerclear.guidance.redraw import Redraw
from steerclear.guidance.unguided import Unguided
from steerclear.study.diagram import (
    BINS,
    MECHANISMS,
    PIXELS,
    Diagram,
    Scene,
    Shading,
    numbers_of,
    scheduler,
    shares,
    with_oracle,
)
from steerclear.telling import schematics
from steerclear.telling.figures.base import LIGHT, blank
from steerclear.telling.figures.diagram import SHADES, colours, draw_pushes, draw_samples, words_of
from steerclear.telling.figures.diagram_files import save_animation, save_diagram, shown_steps
from steerclear.testbeds.mixture import Mixture
from steerclear.testbeds.planar import PlanarMixture
from steerclear.testbeds.scattered import Scattered
from steerclear.testbeds.spiral import Spiral

LEVELS = [(1.0, 0.0), (0.8, 0.6), (0.1, 0.995), (0.0, 1.0), (1.0, 20.0), (1.0, 0.002)]
MIXTURES = {"turned": Spiral().world.full, "round": Scattered(2).world.full}


def guidances(*texts: str) -> tuple[Guidance, ...]:
    return tuple(parse_part(text, Guidance) for text in texts)


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Diagram(Spiral(), samples=400, paths=2, moving=3, steps=12).scene()


@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_a_planar_mixture_is_the_same_mixture(name: str, alpha: float, sigma: float) -> None:
    plain = MIXTURES[name]
    planar = PlanarMixture.of(plain)
    noise = torch.randn(40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = alpha * plain.sample(range(40)) + sigma * noise
    assert torch.allclose(planar.log_joint(x, alpha, sigma), plain.log_joint(x, alpha, sigma), rtol=1e-9, atol=1e-9)
    for one, other in zip(
        planar.denoised_and_noise(x, alpha, sigma), plain.denoised_and_noise(x, alpha, sigma), strict=True
    ):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)


def test_what_is_made_of_a_planar_mixture_is_planar() -> None:
    plain, planar = MIXTURES["turned"], PlanarMixture.of(MIXTURES["turned"])
    factors, x = torch.arange(10.0), torch.tensor([[0.3, -0.2]], dtype=torch.float64)
    assert isinstance(planar.reweighted(factors), PlanarMixture)
    assert isinstance(planar.inflated(2.0), PlanarMixture)
    assert torch.allclose(planar.reweighted(factors).log_density(x), plain.reweighted(factors).log_density(x))
    assert torch.allclose(planar.inflated(2.0).log_density(x), plain.inflated(2.0).log_density(x))


def test_images_may_have_levels_of_their_own() -> None:
    planar, x = PlanarMixture.of(MIXTURES["turned"]), MIXTURES["turned"].sample(range(2))
    levels = torch.tensor([0.1, 0.5], dtype=torch.float64)
    together = planar.denoised(x, 1.0, levels)
    for row in range(2):
        assert torch.allclose(together[row], planar.denoised(x[row : row + 1], 1.0, float(levels[row]))[0])


def test_a_planar_mixture_lies_in_the_plane() -> None:
    with pytest.raises(InvalidSetting, match="the dimension of a planar mixture is 3, but must be 2"):
        PlanarMixture.of(Mixture.isotropic([1.0], torch.zeros(1, 3), 1.0))


def test_shares_of_a_gaussian_are_known() -> None:
    """Of a normal density in the plane, 1 - exp(-r^2 / 2) is denser than a place at r."""
    along = torch.linspace(-6, 6, 241, dtype=torch.float64)
    squared = along[:, None] ** 2 + along**2
    found = shares((-squared / 2).exp())
    assert np.allclose(found, 1 - np.exp(-squared.numpy() / 2), atol=0.01)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 20.0])
def test_the_picture_has_the_same_spread_at_every_noise_level(sigma: float) -> None:
    diagram = Diagram(Spiral())
    frame, alpha = diagram.frame, 1 / math.hypot(1, sigma)
    clean = diagram.truth.full.sample(range(4000))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    seen = frame.seen(alpha * (clean + sigma * noise), sigma)
    assert float(seen.var(0).mean()) == pytest.approx(frame.spread**2, rel=0.05)
    assert torch.allclose(frame.noisy(frame.seen(clean, sigma), sigma), clean)


def test_the_push_of_a_weak_network_is_its_formula() -> None:
    """(w - 1) (D_main - D_weak), with the denoised images of the two mixtures."""
    diagram, sigma = Diagram(Spiral(), guidances("autoguidance:2.5")), 0.4
    push = diagram._push(diagram.mechanisms[0], sigma)
    assert push is not None
    x = diagram.frame.noisy(torch.from_numpy(push.places), sigma) * math.hypot(1, sigma)
    main, weak = diagram.learned.full, diagram.learned.full.inflated(3.0)
    assert np.allclose(push.arrows, 1.5 * (main.denoised(x, 1.0, sigma) - weak.denoised(x, 1.0, sigma)), atol=1e-9)


@pytest.mark.parametrize("sigma", [0.2, 0.8])
def test_the_dynamic_push_leads_to_the_prediction_without_the_concept(sigma: float) -> None:
    """With the exact posterior the guided prediction is that of p(x | not c), up to the bound of the weight."""
    diagram = Diagram(Spiral())
    guidance = with_oracle(parse_part("dynamic-negative:1", Guidance), OracleEvidence(diagram.log_odds))
    push = diagram._push(guidance, sigma)
    assert push is not None
    x = diagram.frame.noisy(torch.from_numpy(push.places), sigma) * math.hypot(1, sigma)
    moved = diagram.learned.target.denoised(x, 1.0, sigma) - diagram.learned.full.denoised(x, 1.0, sigma)
    doubtful = (diagram.learned.log_odds(x, 1.0, sigma) < 1).numpy()
    assert doubtful.sum() > 20
    assert np.allclose(push.arrows[doubtful], moved.numpy()[doubtful], atol=1e-8)


def test_a_perfect_network_samples_what_is_wanted() -> None:
    """Within chance of the truth: the sampler, the bins, and the dynamic push; a constant push is far away."""
    asked = guidances("unguided", "dynamic-negative:1", "redraw:from_step=0", "negative:2")
    scene = Diagram(Spiral(), asked, samples=1500, paths=1, steps=25, blur=0.0).scene()
    plain, dynamic, again, negative = (one.numbers for one in scene.drawn)
    chance = {without: scene.wanted[without].numbers for without in (False, True)}
    assert plain.misplaced == pytest.approx(chance[False].misplaced, abs=0.02)
    assert dynamic.misplaced == pytest.approx(chance[True].misplaced, abs=0.03)
    assert again.misplaced == pytest.approx(chance[True].misplaced, abs=0.02)
    assert plain.concept == pytest.approx(0.3, abs=0.04)
    assert max(dynamic.concept, again.concept) < 0.02
    assert max(plain.outside, dynamic.outside, again.outside) < 0.03
    assert negative.misplaced > 0.7
    assert (plain.calls, dynamic.calls) == (25, 50)
    assert again.calls == pytest.approx(25 / (1 - 0.3), rel=0.1)


def test_images_in_one_bin_are_misplaced_but_for_its_mass() -> None:
    diagram = Diagram(Spiral(), samples=100)
    masses = diagram._masses[False]
    assert masses.sum() == pytest.approx(1, abs=0.01)
    row, column = np.unravel_index(masses.argmax(), masses.shape)
    place = diagram.frame.pixels(BINS)[row * BINS + column].expand(100, 2)
    assert diagram._misplaced(place, False) == pytest.approx(1 - masses.max(), abs=0.01)
    assert diagram._misplaced(place + 100, False) == pytest.approx(1, abs=0.01)


def test_ways_are_those_of_the_samples(scene: Scene) -> None:
    """Every seed has one draw that is kept, and it ends where the image is."""
    request = scene.request
    for drawn in scene.drawn:
        acting = with_oracle(drawn.guidance, OracleEvidence(request.log_odds))
        made = sample(
            request.denoiser, acting, scheduler(), range(3), (2,), num_inference_steps=12, negatives=1, dtype=torch.float64
        )  # fmt: skip
        kept = [way for way in drawn.paths if way.kept]
        assert [way.seed for way in kept] == [0, 1, 2]
        assert np.allclose([way.points[-1] for way in kept], made.samples, atol=1e-4)
        odds = request.truth.log_odds(made.samples)
        assert [way.shows for way in kept] == (odds > 0).tolist()
        again = [way for way in drawn.paths if not way.kept]
        assert len(again) == (0 if made.draws is None else int(made.draws.sum()) - 3)
        assert all(way.shows for way in again)


def test_a_way_is_the_same_alone_and_in_a_batch() -> None:
    few, many = (
        Diagram(Spiral(), guidances("negative:1.5"), paths=count, steps=10, samples=100)._ways(
            parse_part("negative:1.5", Guidance)
        )
        for count in (1, 5)
    )
    assert np.allclose(next(few).points, next(many).points, atol=1e-4)


def test_the_prompt_that_names_a_class_never_becomes_the_concept() -> None:
    """Then a dynamic push has nothing to do, and everything is wanted without the concept."""
    asked = guidances("unguided", "dynamic-negative:1", "cfg:2")
    scene = Diagram(Spiral(), asked, samples=100, paths=1, steps=8, prompt="class").scene()
    assert [one.without for one in scene.drawn] == [True, True, True]
    assert scene.drawn[1].pushes == (None, None, None)
    assert all(push is not None and push.mean > 1e-3 for push in scene.drawn[2].pushes[:2])
    assert all((noisy.concept == 0).all() for noisy in scene.noisy)


def test_only_an_evidence_that_was_left_open_becomes_the_oracle() -> None:
    oracle = OracleEvidence(Diagram(Spiral()).log_odds)
    kept = DynamicNegativeGuidance(1.0, evidence=ConstantEvidence(posterior=0.5))
    assert with_oracle(kept, oracle) == kept
    assert with_oracle(Unguided(), oracle) == Unguided()
    assert with_oracle(Redraw(from_step=0), oracle) == Redraw(from_step=0, evidence=oracle)
    (both,) = guidances("autoguidance(inner=dynamic-negative)")
    assert both.inner.evidence == TransitionEvidence()
    assert with_oracle(both, oracle).inner.evidence == oracle


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sigmas": (0.0,)}, "sigma is 0.0, but must be a finite number from 0.002 to 80"),
        ({"samples": 99}, "samples is 99"), ({"paths": 0}, "paths is 0"), ({"steps": 1}, "steps is 1"),
        ({"blur": -0.1}, "blur is -0.1"), ({"weaker": 0.5}, "weaker is 0.5"), ({"seed": -1}, "seed is -1"),
        ({"prompt": "some"}, "prompt is 'some', but must be all or class"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused(settings: dict, told: str) -> None:
    with pytest.raises(InvalidSetting, match=told.replace(".", r"\.")):
        Diagram(Spiral(), **settings)


def test_numbers_of_a_scene_are_json(scene: Scene) -> None:
    numbers = json.loads(json.dumps(numbers_of(scene, lambda guidance: guidance.name)))
    assert [one["guidance"] for one in numbers["guidances"]] == [one.guidance.name for one in scene.drawn]
    assert [one["wanted"] for one in numbers["guidances"]] == ["all"] * 2 + ["without"] * 4
    assert numbers["guidances"][0]["mean push"] == [0.0, 0.0, 0.0]
    assert numbers["exact draws"]["all"]["concept"] == pytest.approx(0.3, abs=0.05)


def test_colours_say_density_and_concept() -> None:
    share = np.array([[0.0, 0.0], [0.99, 1.0]])
    found = colours(Shading(share, np.array([[0.0, 1.0], [0.0, 1.0]])), LIGHT)
    (_, darkest), paper = SHADES[0], np.ones(3)
    for place, color in (((0, 0), LIGHT.other), ((0, 1), LIGHT.concept)):
        assert np.allclose(found[place], paper + darkest * (np.array(to_rgb(color)) - paper))
    assert np.allclose(found[1], 1)


def test_a_row_per_guidance_and_a_panel_per_noise_level(scene: Scene) -> None:
    figure = draw_pushes(scene)
    assert len(figure.axes) == len(MECHANISMS["all"]) * (len(scene.sigmas) + 1)
    assert figure.axes[0].images[0].get_array().shape == (PIXELS, PIXELS, 3)
    said = [axes.texts[0].get_text() for axes in figure.axes]
    assert said[:3] == ["no push"] * 3
    mean = scene.drawn[1].pushes[0].mean
    assert said[4] == f"mean push {mean:.2g}"
    ended = sum(way.shows for way in scene.drawn[0].paths if way.seed < 2)
    assert said[3] == f"{ended} of 2 end in the concept"


def test_what_is_wanted_begins_every_row(scene: Scene) -> None:
    figure = draw_samples(scene)
    labels = [axes.get_label() for axes in figure.axes]
    assert labels[0] == "wanted/all"
    assert labels[3] == "wanted/without"
    assert labels[1:3] == ["unguided/all", "autoguidance:auto_scale=2/all"]
    assert len(labels) == 8
    told = [one.get_text() for one in figure.texts]
    percent = 100 * scene.drawn[2].numbers.misplaced
    assert any(f"in the wrong place: {percent:.0f} %" in one for one in told)


def test_a_guidance_around_another_is_told_with_it() -> None:
    (both, other) = guidances("autoguidance(inner=dynamic-negative)", "interval(inner=cfg)")
    assert words_of(both).title == "Dynamic negative + weak network"
    assert words_of(other).title == "CFG + interval"


def test_files_of_a_diagram(scene: Scene, tmp_path: Path) -> None:
    figure = draw_samples(scene)
    once = save_diagram(figure, tmp_path / "a" / "one.png").read_bytes()
    assert save_diagram(draw_samples(scene), tmp_path / "two.png").read_bytes() == once
    with Image.open(io.BytesIO(once)) as image:
        assert image.width == 1000
    svg = save_diagram(figure, tmp_path / "one.svg").read_bytes()
    assert save_diagram(draw_samples(scene), tmp_path / "two.svg").read_bytes() == svg
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert save_diagram(blank(1, 1, LIGHT), tmp_path / "blank.png").stat().st_size < 2000


def test_an_animation_has_a_frame_per_step(scene: Scene, tmp_path: Path) -> None:
    steps = shown_steps(scene)
    assert steps[-1] == 12
    assert scene.levels[steps[0]] <= 4 * scene.request.frame.spread < scene.levels[steps[0] - 1]
    with Image.open(save_animation(scene, tmp_path / "one.gif")) as image:
        assert (image.n_frames, image.info["loop"]) == (len(steps), 0)


def test_the_command_writes_what_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["diagram", "--world", "spiral", "--samples", "100", "--steps", "6", "--paths", "1", "--moving", "2", "--mechanism", "negative:2",
                 "--sigma", "0.5", "--animate", "--outdir", str(tmp_path), "-q"]  # fmt: skip
    assert main(arguments) == 0
    printed = [Path(line).name for line in capsys.readouterr().out.split()]
    assert printed == ["spiral-pushes.png", "spiral-samples.png", "spiral.gif", "spiral.json"]
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(printed)
    found = json.loads((tmp_path / "spiral.json").read_text())
    assert (found["sigmas"], found["samples"], len(found["guidances"])) == ([0.5], 100, 1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--world", "spirall"], "there is no testbed 'spirall'; did you mean 'spiral'?"),
        (["--world", "scattered"], "the dimension of --world is 64, but must be 2"),
        (["--mechanism", "negativ"], "did you mean 'negative'?"),
        (["--prompt", "none"], "prompt is 'none', but must be all or class"),
        (["--schematic", "samplr"], "there is no schematic 'samplr'; did you mean 'sampler'?"),
        (
            ["--schematic", "sampler", "--sigma", "1"],
            "--schematic is 'sampler', but must be given without --sigma; only worlds",
        ),
        (["--schematic", "space", "--format", "gif"], "--schematic is 'space', but must be given without --format gif"),
    ],
)
def test_what_the_command_refuses(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagram", *arguments]) == 2
    assert told in capsys.readouterr().err.replace("\n", " ")


def test_a_schematic_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its data are made, in a folder of its own if it keeps any, and its drawing draws them."""
    one = schematics.Schematic("core.settings:folder_path", "core.errors:typed", True)
    monkeypatch.setattr(schematics, "SCHEMATICS", {"one": one})
    monkeypatch.setattr("steerclear.core.settings.folder_path", lambda place: f"data in {place.name}")
    assert schematics.schematic("one", tmp_path) == "data in one"
    with pytest.raises(UnknownName, match="there is no schematic 'two'"):
        schematics.schematic("two", tmp_path)
