"""From what was made to more of it: commands of methods, images and comparisons as recipes, sheets and pages drawn again."""

import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from sample_results import sample_results
from steerclear.cli import options
from steerclear.cli.app import app, main
from steerclear.core.errors import InvalidSetting, PromptError, UnknownName
from steerclear.core.guidance import Guidance, guidances
from steerclear.core.parsing import changed_by, part_text
from steerclear.models import shipped
from steerclear.models.loading import load_model
from steerclear.models.samplers import scheduler_by_name, scheduler_text
from steerclear.networks.dropped_layers import DroppedLayers
from steerclear.study.again import Before, _scales, read_image, read_results, read_run
from steerclear.study.commands import generate_command
from steerclear.study.gallery import Picture, read_settings
from steerclear.study.guidance_settings import build_guidance, with_scale
from steerclear.study.methods import standard_methods
from steerclear.study.request import DEFAULTS, _asked, request
from steerclear.study.results import SCHEMA_VERSION
from steerclear.study.run import recipe_of
from steerclear.study.study import comparison
from steerclear.telling.comparison import as_model
from steerclear.telling.glossary import GLOSSARY, explained
from steerclear.telling.sheet import MOST, sheet
from steerclear.telling.sizes import CELL
from steerclear.telling.table import legend

MAN = "portrait photo of a man"
Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("few_references", "loaded_once")


@pytest.fixture(scope="module")
def made(few_references: None, loaded_once: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished comparison."""
    folder = tmp_path_factory.mktemp("again") / "o'ne"
    asked = [
        "--negative-prompt",
        "mustache",
        "--seeds",
        "3,1",
        "--steps",
        "2",
        "--guidance-scale",
        "2.5",
        "--auto-scale",
        "1.5",
    ]
    assert main(["compare", MAN, *asked, "--scheduler", "dpm++ 2m karras", "--outdir", str(folder)]) == 0
    return folder


def options_of(command: str) -> dict[str, Any]:
    """What the program reads of a command line of ``generate``."""
    words = shlex.split(command)
    assert words[:2] == ["steerclear", "generate"]
    return get_command(app).commands["generate"].make_context("generate", words[2:]).params  # type: ignore[attr-defined]


def test_the_command_of_each_method_is_its_recipe(made: Path) -> None:
    """Read by the program's own parser; the digests of all settings are equal."""
    results = read_results(made)
    assert len(results.methods) == 9
    model = load_model("portraits", scheduler="dpm++ 2m karras")
    for method in results.methods:
        given = options_of(generate_command(results, method) or "")
        names = ("prompt", "negative_prompts", "num_inference_steps", "seeds")
        asked = request(
            {name: given[name] for name in names}, given["guidance"], given["guidance_scale"], given["set"] or []
        )
        assert asked.study.seeds == (3, 1)
        assert (
            recipe_of(model, asked.study.methods[0], asked.study.num_inference_steps).digest() == method.recipe_digest
        )
        scheduler, settings = scheduler_by_name(given["scheduler"], load_model("portraits").pipe.scheduler)
        made_again = getattr(__import__("diffusers"), scheduler).from_config(
            load_model("portraits").pipe.scheduler.config, **settings
        )
        assert scheduler_text(made_again, shipped()["portraits"]) == results.scheduler
        assert (given["model"], given["networks"] or None, given["loras"] or None, given["dtype"]) == (
            "portraits",
            None,
            None,
            None,
        )
    assert (
        generate_command(results, results.methods[0].model_copy(update={"guidance": {"_class_name": "Gone"}})) is None
    )


def test_settings_are_written_as_they_are_read() -> None:
    built = [
        *(cls() for cls in guidances().values()),
        *(method.guidance for method in standard_methods(MAN, ["hat", "tie"], guidance_scale=2.5, auto_scale=1.25)),
        build_guidance("dynamic-negative", 1.5, ["negative_scale=1,0.5", "evidence.prior=0.1,0.2", "evidence.volume=[1, 0], [4, -2]"]),
        build_guidance("interval", None, ["inner=autoguidance(inner=negative(guidance_scale=4))", "stop=0.5"]),
        build_guidance("autoguidance", None, ["inner=dynamic-negative(evidence=constant(posterior=0.3))"]),
    ]  # fmt: skip
    for guidance in built:
        assert build_guidance(part_text(guidance)) == guidance


def test_some_settings_are_replaced_and_the_others_kept() -> None:
    before = build_guidance("dynamic-negative", 2.0, ["negative_scale=3", "evidence.prior=0.2"])
    now = changed_by(before, "", with_scale(4.0, ["evidence.prior=0.4"]))
    assert now == build_guidance("dynamic-negative", 4.0, ["negative_scale=3", "evidence.prior=0.4"])
    assert changed_by(before, "", with_scale(None, [])) == before


def test_an_image_makes_itself_again_and_others(made: Path, tmp_path: Path, run: Run) -> None:
    image = made / "images/dynamic-negative/00003.png"
    for name in ("once", "more"):
        seeds = [] if name == "once" else ["--seeds", "1"]
        code, out, _ = run(
            "generate", "--from", image, *seeds, "--batch-size", 16, "--outdir", tmp_path / name, "--format", "json"
        )
        assert code == 0
        told = json.loads(out)
        seed = 3 if name == "once" else 1
        before, now = (read_settings(folder / f"{seed:05d}.png") for folder in (image.parent, tmp_path / name))
        assert before is not None
        assert now is not None
        assert (told["images"][0]["seed"], now["digest"]) == (seed, before["digest"])
        first, second = (
            np.asarray(Image.open(folder / f"{seed:05d}.png"), int) for folder in (image.parent, tmp_path / name)
        )
        assert np.abs(first - second).max() <= 1  # alone and in a batch of two, to rounding


def test_options_replace_what_the_image_says(made: Path) -> None:
    before = read_image(made / "images/dynamic-negative/00001.png")
    options = {"num_inference_steps": 9, "negative_prompts": ["a hat"], "scheduler": "ddim"}
    asked = request(options, None, 1.5, ["negative_scale=2"], before)
    study = asked.study
    assert (study.prompt, study.negative_prompts, study.num_inference_steps, study.seeds) == (MAN, ("a hat",), 9, (1,))
    assert (asked.guidance.guidance_scale, asked.guidance.negative_scale) == (1.5, 2.0)  # type: ignore[attr-defined]
    assert study.model.scheduler == "ddim"
    notes = asked.notes(load_model("portraits"))
    assert len(notes) == 1
    assert notes[0].startswith("note: the guidance keeps its prior of 0.")
    assert request({}, None, None, [], before).notes(load_model("portraits")) == []
    assert request(options, "negative", None, [], before).guidance == build_guidance("negative")


def test_a_model_whose_files_changed_is_told(made: Path, run: Run, tmp_path: Path) -> None:
    before = read_image(made / "images/cfg/00003.png")
    other = load_model("portraits")
    changed = {**before.digests, "model": "other"}
    object.__setattr__(before, "digests", changed)
    with pytest.warns(UserWarning, match="had other files than now .'other' there, .* so the images will differ"):
        before.warn_of_other_files(other, {})
    before.warn_of_other_files(other, {"model": "portraits"})  # asked for: nothing to tell


@pytest.mark.parametrize("what", ["folder", "results.json"])
def test_a_comparison_is_asked_again(what: str, made: Path, tmp_path: Path, run: Run) -> None:
    source = made if what == "folder" else made / "results.json"
    assert run("compare", "--recipe", source, "--methods", "negative,autoguidance", "--outdir", tmp_path / "o", "-q")[:2] == (
        0, f"{tmp_path / 'o' / 'report.html'}\n",
    )  # fmt: skip
    before, now = read_results(made), read_results(tmp_path / "o")
    assert (now.seeds, now.num_inference_steps, now.scheduler) == (before.seeds, 2, before.scheduler)
    assert {method.name for method in now.methods} == {"negative", "autoguidance"}
    for method in now.methods:
        old = next(one for one in before.methods if one.name == method.name)
        assert method.recipe_digest == old.recipe_digest
        for image, same in zip(method.images, old.images, strict=True):
            assert (tmp_path / "o" / image.file).read_bytes() == (made / same.file).read_bytes()


def test_the_scales_of_a_comparison_are_read_back(made: Path) -> None:
    asked = read_run(made).asked
    assert (asked["guidance_scale"], asked["auto_scale"], asked["seeds"]) == (2.5, 1.5, (3, 1))
    assert read_run(made / "images/cfg/00003.png").asked["prompt"] == MAN


def test_the_page_is_drawn_again(made: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written = {path.name: path.read_bytes() for path in made.glob("*.*") if path.suffix in (".html", ".png")}
    assert set(written) == {"report.html", "grid.png", "shift.png", "trace.png"}
    for name in written:
        (made / name).unlink()
    monkeypatch.setattr("steerclear.models.loading.load_model", None)  # no model is needed
    code, out, err = run("report", made)
    assert (code, err) == (0, "")
    assert out.endswith(f"report: {made / 'report.html'}\n")
    assert {name: (made / name).read_bytes() for name in written} == written
    assert run("report", made, "--format", "json")[1] == (made / "results.json").read_text()


def test_the_terminal_says_the_answer_and_what_its_signs_mean(made: Path, tmp_path: Path, run: Run) -> None:
    out = " ".join(run("report", made)[1].split())
    assert f" {legend(read_results(made))} " in out
    assert legend(sample_results(tmp_path)) == (
        "↓ lower is better, ↑ higher is better, ◎ nearer to the truth is better. In brackets: 95 % intervals."
    )
    assert f"truth: {GLOSSARY['truth']}." in out
    assert "“mustache” shows in" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["generate"], "there is no prompt; say in a few words what the image should show, or give --from."),
        (["compare"], "there is no prompt; say in a few words what the image should show, or give --recipe."),
        (["generate", "--from", "none.png"], "the image is 'none.png', but must be an image that steerclear made, unchanged; there is no such file."),
        (["generate", "--from", "."], "the image is '.', but must be an image that steerclear made, unchanged; there is no such file."),
        (["generate", "--from", "plain.png"], "the image is 'plain.png', but must be an image that steerclear made, unchanged; editing or re-saving an image removes its settings."),
        (["compare", "--recipe", "none"], "the comparison is 'none', but must be the folder of a comparison, or its results.json; there is no file none."),
        (["compare", "--recipe", "."], "the comparison is '.', but must be the folder of a comparison, or its results.json; there is no file results.json."),
        (["compare", "--recipe", "damaged.json"], "the comparison is 'damaged.json', but must be the folder of a comparison, or its results.json; damaged.json is damaged or of another version: "),
        (["report", "none"], "the comparison is 'none', but must be"),
        (["report"], "Missing argument 'FOLDER'."),
    ],
)  # fmt: skip
def test_what_is_refused(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("plain.png")
    Path("damaged.json").write_text('{"schema_version": 3}')
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"steerclear: {sentence}")


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("/etc/hostname", "an image of results.json is '/etc/hostname', but must be a file in its folder."),
        ("images/../../x.png", "an image of results.json is 'images/../../x.png', but must be a file in its folder."),
        ("images/none.png", "an image of results.json is 'images/none.png', but must be an image that exists and is undamaged; run the same comparison in this folder to make it again."),
    ],
)  # fmt: skip
def test_a_page_has_images_of_its_folder_alone(file: str, sentence: str, made: Path, tmp_path: Path, run: Run) -> None:
    told = json.loads((made / "results.json").read_text())
    told["methods"][0]["images"][0]["file"] = file
    (tmp_path / "results.json").write_text(json.dumps(told))
    assert run("report", tmp_path)[0::2] == (2, f"steerclear: {sentence}")


@pytest.mark.parametrize("count", [1, 3, 9, MOST, MOST + 5])
def test_a_sheet_has_each_image_at_its_place_and_never_more_than_64(count: int, tmp_path: Path) -> None:
    pictures = []
    for seed in range(count):
        Image.new("RGB", (24, 12), (seed, 2 * seed, 0)).save(tmp_path / f"{seed}.png")
        pictures.append(Picture(seed, tmp_path / f"{seed}.png", {}, [], [], 1.0))
    page = sheet(pictures)
    assert page.width <= 12 + 8 * (CELL + 12)
    assert page.height <= 12 + 8 * (CELL + 22 + 12) + 22
    for place in range(min(count, MOST)):
        row, column = divmod(place, 8)
        middle = 12 + column * (CELL + 12) + CELL // 2, 12 + row * (CELL + 34) + CELL // 2
        assert page.getpixel(middle) == (place, 2 * place, 0)
    last = np.asarray(page.crop((0, page.height - 12, page.width, page.height)))
    assert bool(last.min() < 200) is (count > MOST)  # "and 5 more"


def test_a_damaged_image_leaves_its_place_empty(tmp_path: Path) -> None:
    Image.new("RGB", (24, 24)).save(tmp_path / "0.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes()[:40])
    page = sheet([Picture(seed, tmp_path / f"{seed}.png", {}, [], [], 1.0) for seed in (0, 1)])
    middles = [page.getpixel((12 + place * (CELL + 12) + CELL // 2, 12 + CELL // 2)) for place in (0, 1)]
    assert middles == [(0, 0, 0), (255, 255, 255)]


def test_a_sheet_lies_beside_the_images_and_does_not_count_as_one(tmp_path: Path, run: Run) -> None:
    asked = ["generate", MAN, "--seeds", "0-1", "--steps", "1", "--outdir", tmp_path / "o"]
    assert run(*asked)[1] == f"2 images in {tmp_path / 'o'}, side by side in {tmp_path / 'o' / 'sheet.png'}\n"
    (tmp_path / "o" / "run.json").unlink()
    code, out, err = run(*asked, "--quiet")  # claimed again by the images
    assert (code, out) == (0, f"{tmp_path / 'o'}\n")
    assert err.startswith("steerclear: warning:")
    assert Image.open(tmp_path / "o" / "sheet.png").size == (12 + 2 * (CELL + 12), 12 + CELL + 34)


def test_quiet_says_where_it_is_and_nothing_else(tmp_path: Path, run: Run) -> None:
    asked = ["generate", MAN, "--negative-prompt", "hat", "--seeds", "0", "--steps", "1", "--outdir", tmp_path / "o"]
    assert run(*asked, "--quiet") == (0, f"{tmp_path / 'o'}\n", "")


def test_open_shows_the_file_or_says_where_it_is(made: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(options.webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.setattr(options.sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":0")
    assert run("report", made, "-q", "--open")[2] == ""
    assert opened == [(made / "report.html").resolve().as_uri()]
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert run("report", made, "-q", "--open")[2] == f"there is no display to open {made.resolve() / 'report.html'} on"
    assert len(opened) == 1


def test_words_are_explained_where_they_appear(run: Run) -> None:
    assert explained("nothing of it") == []
    out = " ".join(run("guidance", "show", "dynamic-negative")[1].split())
    for word in ("evidence", "posterior", "prior", "conjunction", "innovation"):
        assert f"{word}: {GLOSSARY[word]}" in out
    assert "words:" not in run("guidance", "show", "cfg")[1]


def test_models_and_networks_are_listed(run: Run) -> None:
    told = json.loads(run("models", "--format", "json")[1])
    pipe = load_model("portraits").pipe
    parameters = sum(one.numel() for part in (pipe.unet, pipe.vae, pipe.text_encoder) for one in part.parameters())
    shipped = {one["name"]: one for one in told["shipped"]}
    digits = sum(one.numel() for one in load_model("digits").pipe.unet.parameters())
    assert {name: one["parameters"] for name, one in shipped.items()} == {"digits": digits, "portraits": parameters}
    assert "makes images of 64 x 64 pixels" in shipped["portraits"]["abilities"]
    assert told["families"]["DiT"] == ["DiTPipeline"]
    assert "portraits: StableDiffusionPipeline, " in run("models")[1]
    kinds = {one["name"]: one for one in json.loads(run("networks", "--format", "json")[1])}
    assert kinds["noised"]["memory"] == "one more copy of the weights"
    assert [parameter["name"] for parameter in kinds["noised"]["parameters"]] == ["strength", "seed"]
    assert set(kinds) <= set(run("networks")[1].split())


def test_a_guidance_of_an_image_is_what_it_was(made: Path) -> None:
    image = made / "images/autoguidance-dynamic-negative/00001.png"
    before = read_image(image)
    said = read_settings(image)
    assert said is not None
    assert before.guidance == Guidance.from_config(said["recipe"]["guidance"])
    assert before.asked["seeds"] == (1,)
    assert before.asked["networks"] == {}  # the model's own goes without saying


def test_a_scheduler_is_read_as_recipes_write_it() -> None:
    current = load_model("portraits").pipe.scheduler
    kind, settings = scheduler_by_name(
        'DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", solver_order=3)', current
    )
    assert (kind, settings) == ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 3})
    assert scheduler_by_name("euler(use_karras_sigmas=true)", current) == (
        "EulerDiscreteScheduler",
        {"use_karras_sigmas": True},
    )
    with pytest.raises(UnknownName, match="there is no setting of DDIMScheduler 'foo'"):
        scheduler_by_name("DDIMScheduler(foo=1)", current)
    for text in (
        "DDIMScheduler(clip_sample=",
        "DDIMScheduler([[",
        "DDIMScheduler(clip_sample=true",
        "DDIMScheduler(clip_sample=[[[[",
    ):
        with pytest.raises(InvalidSetting, match="must be a name, perhaps with settings as in"):
            scheduler_by_name(text, current)


# what is there alone, damaged, or of another version


def test_a_study_alone_is_run(tmp_path: Path, run: Run) -> None:
    study = comparison(MAN, ["mustache"], [2], 1, guidance_scale=2.5, methods=["cfg", "negative"], judge="none")
    (tmp_path / "study.json").write_text(study.to_json())
    for place in (tmp_path, tmp_path / "study.json"):
        assert run("compare", "--recipe", place, "--outdir", tmp_path / "o", "-q")[:2] == (
            0,
            f"{tmp_path / 'o' / 'report.html'}\n",
        )
    assert (tmp_path / "o" / "study.json").read_text() == study.to_json()
    assert [method.guidance["guidance_scale"] for method in read_results(tmp_path / "o").methods] == [2.5, 2.5]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"{", b"[]", b'{"prompt": 3}'])
def test_a_damaged_study_is_named(content: bytes, tmp_path: Path, run: Run) -> None:
    (tmp_path / "study.json").write_bytes(content)
    code, _, err = run("compare", "--recipe", tmp_path, "--outdir", tmp_path / "o")
    assert (code, str(tmp_path / "study.json") in err, "Traceback" in err) == (2, True, False)


@pytest.mark.parametrize("version", ["1.0", "99.0"])
def test_results_of_another_version_are_refused(version: str, tmp_path: Path, run: Run) -> None:
    (tmp_path / "results.json").write_text(
        sample_results(tmp_path).model_dump_json().replace(f'"{SCHEMA_VERSION}"', f'"{version}"', 1)
    )
    for command in (("report", tmp_path), ("compare", "--recipe", tmp_path, "--outdir", tmp_path / "o")):
        code, _, err = run(*command)
        assert (code, f"schema_version: it is '{version}', and this version reads 2.x" in err) == (2, True)


def test_a_report_is_redrawn_from_its_file(made: Path, run: Run) -> None:
    assert run("report", made / "results.json", "-q")[:2] == (0, f"{made / 'report.html'}\n")


def test_another_scale_is_told_by_its_name(run: Run, tmp_path: Path) -> None:
    asked = [
        "generate",
        MAN,
        "--negative-prompt",
        "mustache",
        "--steps",
        "1",
        "--seeds",
        "0",
        "--outdir",
        tmp_path / "o",
    ]
    assert run(*asked)[0] == 0
    code, _, err = run(*asked, "--guidance-scale", "5")
    assert code == 2
    assert "holds another run (guidance.guidance_scale: 3.0 there, 5.0 now)." in err


def test_an_empty_negative_prompt_drops_those_before(made: Path) -> None:
    before = read_image(made / "images/dynamic-negative/00001.png")
    assert request({}, "cfg", None, [], before).study.negative_prompts == ("mustache",)
    assert request({"negative_prompts": [""]}, "cfg", None, [], before).study.negative_prompts == ()
    with pytest.raises(PromptError, match="the negative prompt is empty"):
        request({"prompt": MAN, "negative_prompts": [""]}, "cfg", None, [])


def test_judges_that_can_be_typed_are_offered(run: Run, tmp_path: Path) -> None:
    asked = ["compare", MAN, "--outdir", tmp_path / "o", "--judge"]
    said = run(*asked, "nome")[2]
    assert "there is no laboratory 'nome'; did you mean 'none'? Available: " in said
    assert {"none", "portraits", "digits"} <= set(said.split("Available: ")[1].rstrip(".\n ").split(", "))
    code, _, err = run(*asked, "classifier")
    assert (code, "it is given in Python, as compare(..., judge=Classifier(function, names))" in err) == (2, True)


def test_networks_and_scales_of_the_run_before_stay() -> None:
    earlier = {"model": "f.safetensors", "config": "portraits", "networks": {"weak": "noised:0.1"}, "prompt": MAN}
    before = Before(Path(), earlier)
    asked = _asked(DEFAULTS, before, {"networks": {"q": "noised:0.2"}})
    assert asked["networks"] == {"weak": "noised:0.1", "q": "noised:0.2"}
    assert asked["config"] == "portraits"
    assert _asked(DEFAULTS, before, {"model": "portraits"})["config"] is None
    scales = _scales([("dynamic-negative-negative_scale-2", {"guidance_scale": 5.0, "negative_scale": 2.0})])
    assert scales == {"guidance_scale": 5.0}
    assert _scales([("cfg-guidance_scale-4", {"guidance_scale": 4.0})]) == {}
    unguided = {"guidance": {"_class_name": "Unguided"}}
    assert _scales([("redraw", unguided)]) == {"guidance_scale": 1.0}
    assert _scales([("redraw-tries-3", unguided)]) == {"guidance_scale": 1.0}
    assert _scales([("redraw-guidance-unguided", unguided)]) == {}


def test_another_model_may_have_other_networks(made: Path, recwarn: pytest.WarningsRecorder) -> None:
    before = read_run(made)
    other = dataclasses.replace(load_model("portraits"), networks={}, digest="other")
    before.warn_of_other_files(other, {"model": "elsewhere"})
    assert [str(one.message) for one in recwarn if "other files" in str(one.message)] == []


def test_a_name_with_a_network_of_python_keeps_its_own_weak_network() -> None:
    found = as_model("portraits", None, {"perturbed": DroppedLayers(("mid_block",))})
    plain = load_model("portraits")
    assert found.networks.keys() == {"weak", "perturbed"}
    assert (found.digest, found.name) == (plain.digest, plain.name)
