"""Images that are drawn again in studies: their recipes, files, results, notes and options."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

import steerclear
import tiny
from red_pixels import RedPixels
from steerclear.core.errors import InvalidSetting, PromptError, SteerclearError, SteerclearWarning, UnsupportedModel
from steerclear.core.laboratory import Asked, Laboratory
from steerclear.evidence.constant import ConstantEvidence
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.interval import IntervalGuidance
from steerclear.guidance.negative_prompt import NegativePromptGuidance
from steerclear.guidance.redraw import Redraw
from steerclear.guidance.unguided import Unguided
from steerclear.laboratories.classifier import Classifier
from steerclear.laboratories.portraits import Portraits
from steerclear.models.loading import Model, load_model
from steerclear.study.again import Before, read_image
from steerclear.study.gallery import SETTINGS_KEY, find_picture, read_settings
from steerclear.study.generate import generate
from steerclear.study.guidance_settings import Again
from steerclear.study.measure import Judging, acting_laboratory
from steerclear.study.methods import Method, chosen_methods, standard_methods
from steerclear.study.notes import same_judge_notes
from steerclear.study.request import asked_to_compare, request
from steerclear.study.run import lacks, recipe_of, run
from steerclear.study.study import Study, comparison

MAN, MUSTACHE, STEPS = "portrait photo of a man", "mustache", 8
CFG = ClassifierFreeGuidance(2.0)


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("portraits")


def recipe(model: Model, guidance: Any, negatives: tuple[str, ...] = (MUSTACHE,), **size: Any):
    return recipe_of(model, Method(guidance.name, guidance.name, MAN, negatives, guidance), STEPS, **size)


def pixels(picture) -> np.ndarray:
    return np.array(picture.open()).astype(int)


def test_images_know_their_draws_and_are_the_same_at_any_batch_size(model: Model, tmp_path: Path) -> None:
    """Half of the portraits show a mustache: some images are drawn again, each as it is alone."""
    asked, seeds = recipe(model, Redraw(CFG, tries=3)), range(4)
    together = generate(model, asked, seeds, tmp_path / "4", batch_size=4)
    alone = generate(model, asked, seeds, tmp_path / "1", batch_size=1)
    plain = generate(model, recipe(model, CFG, ()), seeds, tmp_path / "plain", batch_size=4)
    assert len({picture.draws for picture in together}) > 1
    for one, other, before in zip(together, alone, plain, strict=True):
        assert (one.draws, one.flagged) == (other.draws, other.flagged)
        assert one.evaluations == other.evaluations
        assert np.abs(pixels(one) - pixels(other)).max() <= 1
        assert one.draws > 1 or np.array_equal(pixels(one), pixels(before))
        assert one.evaluations > 2 * STEPS if one.draws > 1 else one.evaluations == 2 * STEPS
        assert (before.draws, before.flagged) == (1, False)
        assert find_picture(tmp_path / "4", one.seed, asked) == one
    said = read_settings(together[0].path)
    assert said is not None
    assert (said["draws"], said["flagged"]) == (together[0].draws, together[0].flagged)


def test_draws_that_cannot_be_are_no_settings(model: Model, tmp_path: Path) -> None:
    asked = recipe(model, CFG, ())
    [picture] = generate(model, asked, [0], tmp_path)
    said = read_settings(picture.path)
    assert said is not None

    def write(**changed: Any) -> None:
        info = PngImagePlugin.PngInfo()
        info.add_text(SETTINGS_KEY, json.dumps({**said, **changed}))
        image = Image.open(picture.path)
        image.load()
        image.save(picture.path, pnginfo=info)

    for changed in ({"draws": 0}, {"draws": "2"}, {"draws": 1.5}, {"flagged": 1}):
        write(**changed)
        assert read_settings(picture.path) is None
    write(draws=2, flagged=True)
    found = find_picture(tmp_path, 0, asked)
    assert found is not None
    assert (found.draws, found.flagged) == (2, True)
    del said["draws"], said["flagged"]  # as earlier versions wrote it, which drew every image once
    write()
    found = find_picture(tmp_path, 0, asked)
    assert found is not None
    assert (found.draws, found.flagged) == (1, False)


def test_the_recipe_says_who_flags(model: Model) -> None:
    second = acting_laboratory(model, Asked(MAN, (MUSTACHE,)))
    assert second is not None
    assert second.name == "portraits"
    assert recipe(model, Redraw(CFG)).guidance["judge"] == second.to_config()
    inside = recipe(model, IntervalGuidance(Redraw(CFG), 0.0, 0.5)).guidance
    assert inside["inner"]["judge"] == second.to_config()
    for settled in (Redraw(CFG, evidence=ConstantEvidence(0.7)), Redraw(CFG, tries=1), CFG):
        assert recipe(model, settled).guidance == settled.to_config()
    named = recipe(model, Redraw(CFG, judge=second))
    assert named.digest() == recipe(model, Redraw(CFG)).digest()
    assert named.built_guidance() == Redraw(CFG, judge=second)


def test_the_second_of_a_laboratory_flags(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it cannot judge the images."""
    first = acting_laboratory(model, Asked(MAN, (MUSTACHE,)))
    assert first is not None
    assert first == Portraits("second")
    kind, other = type(first), RedPixels(0.25)
    monkeypatch.setattr(kind, "second", lambda self: other)
    assert acting_laboratory(model, Asked(MAN, (MUSTACHE,))) == other
    monkeypatch.setattr(RedPixels, "refuses", lambda self, model, asked: "it is tired")
    assert isinstance(acting_laboratory(model, Asked(MAN, (MUSTACHE,))), kind)
    assert Laboratory.second(other) is other


def test_what_cannot_be_drawn_again_is_refused_before_an_image_is_made(model: Model) -> None:
    function = Classifier(lambda images: {MUSTACHE: torch.zeros(len(images))}, (MUSTACHE,))
    with pytest.raises(PromptError, match="names, and there is none; give negative_prompt"):
        recipe(model, Redraw(CFG), ())
    with pytest.raises(InvalidSetting, match="a function cannot be written into it"):
        recipe(model, Redraw(CFG, judge=function))
    second = acting_laboratory(model, Asked(MAN, (MUSTACHE,)))
    with pytest.raises(UnsupportedModel, match=r"which should flag the images, cannot judge .* only images of 64 x 64"):
        recipe(model, Redraw(CFG, judge=second), height=32, width=32)
    with pytest.raises(UnsupportedModel, match=r"no laboratory judges .* Redraw\(\.\.\., evidence=\.\.\.\)"):
        steerclear.generate(tiny.stable_diffusion("dpm++"), "a man", "hat", guidance=Redraw(CFG), seeds=[0])


def test_a_model_without_a_judge_is_compared_without(tmp_path: Path) -> None:
    """The standard methods leave it out with a note; who asks for it is told what to give, and may give an evidence."""
    pipe, settings = tiny.stable_diffusion("dpm++"), {"seeds": [0, 1], "num_inference_steps": 2, "progress": False}
    results = steerclear.compare(pipe, "a man", "hat", folder=tmp_path / "all", **settings).results
    assert "redraw" not in [method.name for method in results.methods]
    left_out = [note for note in results.notes if "is left out" in note]
    assert len(left_out) == 3  # and looking, and autoguidance
    assert any(
        "no laboratory judges these images by what" in note and "redraw:evidence=NAME" in note for note in left_out
    )
    with pytest.raises(UnsupportedModel, match="nobody says which are to be drawn again"):
        steerclear.compare(pipe, "a man", "hat", methods=["redraw"], **settings)
    methods = ["cfg", "redraw:evidence=constant(posterior=0.7), tries=2, from_step=0"]
    results = steerclear.compare(pipe, "a man", "hat", methods=methods, **settings).results
    assert [image.draws for image in results.methods[1].images] == [2, 2]
    assert [image.flagged for image in results.methods[1].images] == [True, True]
    assert results.methods[1].evaluations == 2 * 2 * 2
    [note] = [note for note in results.notes if "draws" in note]
    assert note.endswith(
        "2 images took 4 draws; seeds 0-1 could not be cleared, and the least suspicious draw is shown."
    )


def test_results_say_how_often_each_image_was_drawn(model: Model, tmp_path: Path) -> None:
    study = Study(
        MAN,
        (MUSTACHE,),
        tuple(chosen_methods(["cfg", "redraw:tries=3"], standard(), MAN, (MUSTACHE,))),
        (0, 1, 2, 3),
        STEPS,
    )
    results = run(study, tmp_path, model=model)
    plain, again = results.methods
    assert {image.draws for image in plain.images} == {1}
    draws = [image.draws for image in again.images]
    assert max(draws) > 1
    assert f"took {sum(draws)} draws" in " ".join(results.notes)
    judge = Laboratory.from_config(again.guidance["judge"]).judge(model, Asked(MAN, (MUSTACHE,)))

    def shows(method: Any) -> list[bool]:
        images = np.stack([np.array(Image.open(tmp_path / image.file)) for image in method.images])
        return (judge.see(torch.from_numpy(images).permute(0, 3, 1, 2)).probabilities[MUSTACHE] > 0.5).tolist()

    assert [drawn > 1 for drawn in draws] == shows(plain)
    assert [image.flagged for image in again.images] == shows(again)
    assert results.schema_version == "2.2"
    assert run(study, tmp_path, model=model).methods == results.methods  # from the files


def standard(scale: float = 2.0) -> list[Method]:
    return standard_methods(MAN, (MUSTACHE,), guidance_scale=scale, auto_scale=2.0)


def test_the_standard_method() -> None:
    names = [method.name for method in standard()]
    assert names.index("redraw") == names.index("looking") + 1
    [method] = [method for method in standard() if method.name == "redraw"]
    assert (method.label, method.negative_prompts, method.guidance) == ("drawn again", (MUSTACHE,), Redraw(CFG))
    [off] = [method for method in standard(1.0) if method.name == "redraw"]
    assert off.guidance == Redraw(Unguided())
    assert "redraw" not in [one.name for one in comparison(MAN, [], [0]).methods]


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_comparison_is_asked_again(scale: float, tmp_path: Path) -> None:
    """The scale and the settings are read back from the study's own file."""
    from steerclear.study.again import read_run

    asked, _ = asked_to_compare(
        {"prompt": MAN, "negative_prompts": [MUSTACHE], "methods": "redraw:tries=3", "guidance_scale": scale},
        folder=tmp_path,
    )
    (tmp_path / "study.json").write_text(asked.to_json())
    again, _ = asked_to_compare({}, read_run(tmp_path), folder=tmp_path / "again")
    assert (again.methods[0].name, again.methods[0].guidance) == ("redraw-tries-3", asked.methods[0].guidance)


# the terminal


def asked_for(guidance: str | None = None, scale: float | None = None, settings: tuple[str, ...] = (), **again: Any):
    options = {"prompt": MAN, "negative_prompts": [MUSTACHE]}
    return request(options, guidance, scale, settings, again=Again(**again)).guidance


def test_options_of_drawing_again() -> None:
    assert asked_for(redraw=True) == Redraw(ClassifierFreeGuidance(3.0))
    assert asked_for(scale=1.0, redraw=True) == Redraw(Unguided())
    assert asked_for(scale=5.0, redraw=True, tries=4) == Redraw(ClassifierFreeGuidance(5.0), tries=4)
    assert asked_for("negative", 2.0, redraw=True, from_step=12).guidance.name == "negative"
    assert asked_for(redraw=True, from_sigma=8.0).from_sigma == 8.0
    abandoning = asked_for(redraw=True, abandon="constant:0.7")
    assert abandoning.abandon == ConstantEvidence(0.7)
    # an image's own guidance that draws again is changed, not wrapped once more
    assert Again(True, tries=2).around(Redraw(CFG, from_step=3)) == Redraw(CFG, from_step=3, tries=2)
    assert Again(True, from_sigma=2.0).around(Redraw(CFG, from_step=3)) == Redraw(CFG, from_sigma=2.0)


def test_the_scale_is_that_of_what_draws() -> None:
    assert asked_for("redraw", 5.0) == Redraw(ClassifierFreeGuidance(5.0))
    assert asked_for("redraw", 1.0, ("tries=3",)) == Redraw(Unguided(), tries=3)
    assert asked_for("redraw", None) == Redraw(Unguided())
    own = ("guidance=negative", "guidance.negative_scale=0.5")
    assert asked_for("redraw", 4.0, own).guidance == NegativePromptGuidance(guidance_scale=4.0, negative_scale=0.5)
    assert asked_for("redraw:cfg(guidance_rescale=0.7)", 4.0).guidance == ClassifierFreeGuidance(4.0, 0.7)
    assert asked_for("redraw:tries=3", 4.0) == Redraw(ClassifierFreeGuidance(4.0), tries=3)
    with pytest.raises(SteerclearError, match="guidance_scale"):
        asked_for("redraw", 4.0, ("guidance=unguided",))


def test_an_evidence_takes_the_place_of_the_judge_of_an_image() -> None:
    options = {"prompt": MAN, "negative_prompts": [MUSTACHE]}

    def again(own: Redraw, *settings: str) -> Any:
        return request(options, None, None, settings, Before(Path("a.png"), options, own)).guidance

    judged = Redraw(CFG, judge=Portraits("second"))
    assert again(judged, "evidence=constant:0.7") == Redraw(CFG, evidence=ConstantEvidence(0.7))
    assert again(Redraw(CFG, evidence=ConstantEvidence(0.7)), "judge=portraits") == Redraw(CFG, judge=Portraits())
    assert again(judged, "tries=3") == replace(judged, tries=3)


def test_a_judge_that_does_not_know_the_concept_flags_nothing_by_default(model: Model) -> None:
    """The standard row is left out with a note, as it is where nobody judges."""
    for negative, left_out in ((MUSTACHE, False), ("a zebra", True)):
        study = comparison(MAN, [negative], [0])
        [method] = [method for method in study.methods if method.name == "redraw"]
        said = lacks(model, method, study)
        assert (said is not None and "Drawing again is left out" in said) == left_out


def test_the_report_says_where_the_judge_that_measures_flagged() -> None:
    guidances = {"cfg": CFG, "drawn again": Redraw(CFG, judge=Portraits("second"))}
    assert same_judge_notes(guidances, Judging(Portraits(), None)) == []
    assert same_judge_notes(guidances, Judging(None, None)) == []
    [said] = same_judge_notes(guidances, Judging(Portraits("second"), None))
    assert said.startswith("drawn again: the judge that measures the images is the one that flagged them")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tries": 3}, "--tries is 3, but must be given together with --redraw"),
        ({"from_step": 0}, "--from-step is 0, but must be given together with --redraw"),
        ({"abandon": "constant"}, "--abandon"),
        ({"redraw": True, "from_step": 1, "from_sigma": 1.0}, "left out where --from-sigma is given"),
        ({"redraw": True, "tries": 0}, "tries"),
        ({"redraw": True, "from_sigma": -1.0}, "above 0"),
        ({"redraw": True, "abandon": "nobody"}, "nobody"),
    ],
)
def test_wrong_options(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SteerclearError, match=message):
        asked_for(**given)


def test_the_command_and_what_its_images_make_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from steerclear.cli.app import main

    command = ["generate", MAN, "--negative-prompt", MUSTACHE, "--redraw", "--tries", "3", "--guidance-scale", "2"]
    common = ["--seeds", "0-3", "--steps", str(STEPS)]
    assert main([*command, *common, "--outdir", str(tmp_path / "a"), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    draws = [image["draws"] for image in told["images"]]
    assert max(draws) > 1
    assert told["recipe"]["guidance"]["judge"]["_class_name"] == "Portraits"
    image = tmp_path / "a" / f"{draws.index(max(draws)):05d}.png"
    before = read_image(image)
    assert isinstance(before.guidance, Redraw)
    assert main(["generate", "--from", str(image), "--outdir", str(tmp_path / "b")]) == 0
    assert f"drawn again: {max(draws)} draws of 1 images" in capsys.readouterr().out
    one, other = (np.array(Image.open(folder / image.name)).astype(int) for folder in (tmp_path / "a", tmp_path / "b"))
    assert np.abs(one - other).max() <= 1
    changed = request({}, None, 4.0, ["tries=5"], before, again=Again())
    assert changed.guidance == before.guidance.changed(guidance=ClassifierFreeGuidance(4.0), tries=5)
    assert main([*command[:4], "--tries", "2"]) == 2
    assert "must be given together with --redraw" in capsys.readouterr().err
    assert main(["generate", MAN, "--redraw", "--outdir", str(tmp_path / "c")]) == 2
    assert "give --negative-prompt" in capsys.readouterr().err


def test_a_judge_that_knows_no_concept_is_said(model: Model, tmp_path: Path) -> None:
    with pytest.warns(SteerclearWarning, match="the judge knows none of the concepts"):
        [picture] = generate(model, recipe(model, Redraw(CFG), ("wheel",)), [0], tmp_path)
    assert picture.draws == 1


def test_progress_counts_the_first_draws(model: Model, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    tell: Callable[[int, int], None] = lambda done, total: seen.append((done, total))  # noqa: E731
    asked = recipe(model, Redraw(CFG, evidence=ConstantEvidence(0.7), tries=2, from_step=0))
    generate(model, asked, range(4), tmp_path, batch_size=2, on_progress=tell)
    assert [done for done, _ in seen[:STEPS]] == [2 * (step + 1) for step in range(STEPS)]
    assert {done for done, _ in seen[STEPS : 2 * STEPS]} == {2 * STEPS}  # the second draws of the first two
    assert seen[-1] == (4 * STEPS, 4 * STEPS)
