"""The main job on the shipped model, small; and the program's doors: exit codes, sentences, JSON."""

import html
import json
import os
import shutil
from pathlib import Path

import jsonschema
import pytest

from steerclear.cli.app import main
from steerclear.core.guidance import Guidance, guidances
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.interval import IntervalGuidance
from steerclear.models import shipped
from steerclear.study.methods import Method
from steerclear.study.notes import method_warnings
from steerclear.study.results import Results

MAN = "portrait photo of a man"
SMALL = ["--seeds", "0-3", "--steps", "3", "--batch-size", "4"]
STANDARD = [
    "unguided",
    "without",
    "cfg",
    "negative",
    "dynamic-negative",
    "looking",
    "redraw",
    "autoguidance",
    "autoguidance-dynamic-negative",
]


pytestmark = pytest.mark.usefixtures("few_references")


@pytest.fixture(scope="module")
def run(few_references: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare") / "demo"
    assert main(["compare", MAN, "--negative-prompt", "mustache", "--outdir", str(folder), *SMALL]) == 0
    return folder


def results(folder: Path) -> Results:
    return Results.model_validate_json((folder / "results.json").read_text())


def test_every_file_is_there(run: Path) -> None:
    assert {
        "report.html",
        "grid.png",
        "trace.png",
        "shift.png",
        "results.json",
        "run.json",
        "study.json",
        "images",
    } <= set(os.listdir(run))
    images = sorted(path.relative_to(run).as_posix() for path in run.rglob("images/*/*.png"))
    assert images == sorted(f"images/{name}/{seed:05d}.png" for name in STANDARD for seed in range(4))


def test_every_method_is_measured_in_every_column(run: Path) -> None:
    found = results(run)
    assert [method.name for method in found.methods] == STANDARD
    assert found.columns[0].name == "mustache"
    assert {"beard", "collateral_shift", "precision", "recall", "diversity", "moved"} < {c.name for c in found.columns}
    for method in found.methods:
        beside = {"selectivity"} if method is found.methods[0] else set()  # it is compared with the first method
        assert list(method.measurements) == [one.name for one in found.columns if one.name not in beside]
        assert [image.seed for image in method.images] == [0, 1, 2, 3]
        counted = sum(image.shown["mustache"] for image in method.images) / 4
        assert method.measurements["mustache"].value == counted


def test_what_each_method_costs(run: Path) -> None:
    """Three steps; what is drawn again costs its draws without the steps that they go through again."""
    found = {method.name: method for method in results(run).methods}
    again = found.pop("redraw")
    cost = {name: method.evaluations / 3 for name, method in found.items()}
    assert cost == dict(zip(found, [1, 2, 2, 2, 3, 3, 2, 3], strict=True))
    redrawing = Guidance.from_config(again.guidance).redrawing()
    draws = [image.draws for image in again.images]
    skipped = [redrawing.begins_at(number, [1.0] * 3) for drawn in draws for number in range(1, drawn)]
    assert again.evaluations == 2 * (3 * sum(draws) - sum(skipped)) / len(draws)


def test_the_truth_is_the_worlds_own(run: Path) -> None:
    truth = {name: one.truth for name, one in results(run).methods[0].measurements.items()}
    assert (truth["mustache"], truth["man"]) == (0.0, 1.0)
    assert truth["beard"] == pytest.approx(0.15, abs=1e-12)
    assert truth["hat"] == pytest.approx(0.25, abs=1e-12)


def test_only_what_the_negative_names_changes(run: Path) -> None:
    """The first method is its own reference; the dynamic negative's images differ from plain CFG's by its push alone."""
    found = {method.name: method for method in results(run).methods}
    assert found["unguided"].measurements["moved"].value == 0
    assert "weight" in found["dynamic-negative"].images[0].trace
    assert "weight" not in found["cfg"].images[0].trace


def test_a_second_run_makes_no_image_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.png")}  # and no figure
    arguments = ["compare", MAN, "--negative-prompt", "mustache", "--outdir", str(run), *SMALL, "--format", "json"]
    assert main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.png")} == before
    printed = json.loads(capsys.readouterr().out)
    assert Results.model_validate(printed).methods == results(run).methods


def test_the_exported_schema_is_the_programs(run: Path) -> None:
    exported = json.loads((Path(__file__).parents[1] / "docs" / "results.schema.json").read_text())
    assert exported == Results.model_json_schema()
    jsonschema.validate(json.loads((run / "results.json").read_text()), exported)


def test_another_run_is_not_overwritten(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "results.json").read_bytes()
    assert main(["compare", MAN, "--negative-prompt", "hat", "--outdir", str(run), *SMALL]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "holds another run (negative_prompts: ['mustache'] there, ['hat'] now)" in message
    assert (run / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["compare", " "], "the prompt is empty (' '); say in a few words what the image should show."),
        (["compare", MAN, "--negative-prompt", ""], "the negative prompt is empty ('');"),
        (["compare", MAN + " very" * 90], "these words are cut off: 'very very"),
        (["compare", MAN, "--methods", "cgf"], "there is no method 'cgf'; did you mean 'cfg'?"),
        (["compare", MAN, "--guidance-scale", "nan"], "guidance_scale is nan, but must be a finite number."),
        (["compare", MAN, "--model", "portrait"], "did you mean 'portraits'?"),
        (
            ["compare", MAN, "--scheduler", "DDIMSchedular"],
            "there is no scheduler 'DDIMSchedular'; did you mean 'DDIMScheduler'? Available for this model: ",
        ),
        (["compare", MAN, "--dtype", "float8"], "there is no dtype 'float8'"),
        (["compare", MAN, "--weak", "nowhere"], "the weak network 'nowhere' is not a folder"),
        (["compare", MAN, "--seeds", "3-1"], "must be an increasing range"),
        (["generate", MAN, "--guidance", "negativ"], "there is no guidance 'negativ'; did you mean 'negative'?"),
        (["generate", MAN, "--set", "guidance_scal=3"], "did you mean 'guidance_scale'?"),
        (["guidance", "show", "auto"], "there is no guidance 'auto'; did you mean 'autoguidance'?"),
        (["train", "portraits", "--preset", "tpu"], "there is no preset 'tpu'"),
        (["compare", MAN, "--device", "nonsense"], "device is 'nonsense', but must be one that torch can use here"),
        (["compare", MAN, "--methods", "cfg,cfg"], "the method 'cfg' is given twice; give it once."),
        (["compare", MAN, "--weak", str(shipped()["portraits"] / "vae")], "cannot be loaded"),
        (["compare"], "there is no prompt; say in a few words what the image should show, or give --recipe."),
        (["compare", MAN, "--steps", "0"], "Invalid value for '--steps'"),
        (["compare", MAN, "--seeds", ""], "seeds is '', but must be like 0-63 or 1,5,9"),
        (["compare", MAN, "--seeds", "9" * 5000], "but must be like 0-63 or 1,5,9"),
        (["compare", MAN, "--auto-scale", "inf"], "auto_scale is inf, but must be a finite number."),
        (["compare", "a man \udcff"], "has bytes that are not UTF-8; use a terminal or a file in UTF-8."),
        (["compare", MAN, "--height", "800000"], "Invalid value for '--height'"),
        (["compare", MAN, "--nonsense"], "No such option"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert sentence in printed
    assert "Traceback" not in printed
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_its_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", MAN, "--model", str(tmp_path)]) == 2
    assert "has no model_index.json, so it is not a diffusers pipeline" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "model_index.json").write_text((shipped()["portraits"] / "model_index.json").read_text())
    assert main(["compare", MAN, "--model", str(tmp_path)]) == 2
    assert "lacks scheduler, text_encoder, tokenizer, unet, vae" in " ".join(capsys.readouterr().err.split())


def test_a_weak_network_that_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import tiny

    tiny.unet().save_pretrained(tmp_path / "weak")
    arguments = ["generate", MAN, "--guidance", "autoguidance", "--weak", str(tmp_path / "weak"), "--outdir", str(tmp_path / "o"),
                 "--seeds", "0", "--steps", "2"]  # fmt: skip
    assert main(arguments) == 2
    assert "cross_attention_dim" in " ".join(capsys.readouterr().err.split())
    assert list((tmp_path / "o").glob("*.png")) == []


def test_a_negative_without_effect_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--negative-prompt", "hat", "--seeds", "0", "--steps", "2", "--outdir", str(tmp_path / "o")]
    assert main(["generate", MAN, *arguments, "--guidance", "cfg"]) == 0
    printed = " ".join(capsys.readouterr().err.split())
    assert "steerclear: warning: the negative prompt has no effect: cfg does not look at negative prompts" in printed
    assert ".py" not in printed


def test_nothing_is_said_against_a_deterministic_scheduler(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tracking works there: docs/measured.md."""
    arguments = ["compare", MAN, "--negative-prompt", "mustache", "--scheduler", "DDIMScheduler", "--seeds", "0-1", "--steps", "2",
                 "--methods", "dynamic-negative", "--outdir", str(tmp_path / "o"), "--format", "json"]  # fmt: skip
    assert main(arguments) == 0
    assert "deterministic" not in " ".join(json.loads(capsys.readouterr().out)["notes"])


def test_guidance_list_and_show_are_readable_by_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guidance", "list", "--format", "json"]) == 0
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)]
    assert names == sorted(guidances())
    assert {*names} >= {"autoguidance", "cfg", "dynamic-negative", "interval", "negative", "rescaled", "unguided"}
    assert main(["guidance", "show", "cfg", "--format", "json"]) == 0
    page = json.loads(capsys.readouterr().out)
    assert page["equation"] == "D = D_empty + w (D_prompt - D_empty)"
    assert page["parameters"][0][:2] == ["guidance_scale", "3"]
    assert "arXiv 2207.12598" in page["paper"]


def test_guidance_list_and_show_are_readable_by_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["guidance", "show", "negative"]) == 0
    printed = capsys.readouterr().out
    assert "D = D_neg + w (D_prompt - D_neg)" in printed
    assert "guidance_scale = 3: w, the classifier-free scale of the prompt; 1 is off" in " ".join(printed.split())
    assert "arXiv 2206.01714" in " ".join(printed.split())
    assert main(["guidance", "list"]) == 0
    assert "autoguidance" in capsys.readouterr().out


def test_generate_prints_what_a_program_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", MAN, "--guidance", "negative", "--negative-prompt", "hat", "--guidance-scale", "2", "--seeds", "4-5",
                 "--steps", "2", "--outdir", str(tmp_path / "o"), "--format", "json"]  # fmt: skip
    assert main(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["recipe"]["guidance"]["guidance_scale"] == 2
    assert [(image["seed"], image["evaluations"]) for image in printed["images"]] == [(4, 4.0), (5, 4.0)]
    assert all(Path(image["file"]).is_file() for image in printed["images"])


def test_any_guidance_joins_the_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", MAN, "--negative-prompt", "red hat, beard", "--methods", "unguided,interval", "--seeds", "0-1",
                 "--steps", "2", "--outdir", str(tmp_path / "o"), "--format", "json"]  # fmt: skip
    assert main(arguments) == 0
    found = Results.model_validate_json(capsys.readouterr().out)
    assert [method.name for method in found.methods] == ["unguided", "interval"]
    assert {"red hat", "beard"} <= {column.name for column in found.columns}
    assert set(found.methods[0].images[0].shown) >= {"red hat", "beard", "hair"}


def compared(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Results, str]:
    """What is found with one image of one step, and what is said on the error stream."""
    told = ["compare", MAN, *arguments, "--seeds", "0", "--steps", "1", "--outdir", str(folder), "--format", "json"]
    assert main(told) == 0
    printed = capsys.readouterr()
    return Results.model_validate_json(printed.out), " ".join(printed.err.split())


def test_images_of_another_size_are_made_and_not_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = compared(["--methods", "unguided", "--height", "128", "--width", "96"], tmp_path / "o", capsys)
    assert [column.name for column in found.columns] == ["moved", "evaluations"]
    assert any("sees only images of 64 x 64" in note for note in found.notes)


def test_a_method_without_its_negative_keeps_its_scale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, said = compared(["--methods", "negative", "--guidance-scale", "7"], tmp_path / "o", capsys)
    assert found.methods[0].guidance["guidance_scale"] == 7
    assert "has no negative to push away from" in said


def test_a_scale_that_no_method_takes_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, said = compared(["--methods", "unguided", "--guidance-scale", "7", "--auto-scale", "3"], tmp_path / "o", capsys)
    assert "guidance_scale=7 has no effect: none of the methods unguided takes it" in said
    assert "auto_scale=3 has no effect" in said


def test_a_guidance_that_ignores_the_negative_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, said = compared(["--negative-prompt", "mustache", "--methods", "interval"], tmp_path / "o", capsys)
    assert [len(method.warnings) for method in found.methods] == [1]
    assert f"warning: {found.methods[0].warnings[0]}" in said


def test_a_prompt_that_the_world_does_not_know_has_no_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", "a dragon", "--negative-prompt", "fire", "--methods", "unguided,negative", "--seeds", "0-1",
                 "--steps", "2", "--outdir", str(tmp_path / "o"), "--format", "json"]  # fmt: skip
    assert main(arguments) == 0
    found = Results.model_validate_json(capsys.readouterr().out)
    assert found.target is None
    assert any("contains 'dragon', which this world does not know" in note for note in found.notes)
    assert all(one.truth is None for one in found.methods[0].measurements.values())


def test_without_a_negative_only_methods_that_need_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", MAN, "--seeds", "0-1", "--steps", "2", "--outdir", str(tmp_path / "o"), "--format", "json"]
    assert main(arguments) == 0
    found = Results.model_validate_json(capsys.readouterr().out)
    assert [method.name for method in found.methods] == ["unguided", "cfg", "autoguidance"]
    assert found.target == 'true portraits of "portrait photo of a man"'


def test_one_image_is_measured_as_far_as_one_can_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", MAN, "--negative-prompt", "hat, tie", "--methods", "unguided,negative", "--seeds", "7", "--steps", "2",
                 "--outdir", str(tmp_path / "o"), "--format", "json"]  # fmt: skip
    assert main(arguments) == 0
    found = Results.model_validate_json(capsys.readouterr().out)
    assert found.columns[0].name == "hat"  # the world knows hats; it says that it does not know ties
    assert any("'tie'" in note for note in found.notes)
    assert "frechet" not in found.methods[0].measurements
    assert [method.measurements["moved"].low for method in found.methods] == [None, None]
    assert "With fewer than 8 images, only rates, precision and recall have intervals." in found.notes


def test_another_dtype_or_scale_is_another_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    same = ["compare", MAN, "--negative-prompt", "mustache", "--outdir", str(run), *SMALL]
    for change in (["--dtype", "bfloat16"], ["--guidance-scale", "4"]):
        assert main([*same, *change]) == 2
        assert "holds another run" in " ".join(capsys.readouterr().err.split())
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_prompt_that_is_refused_leaves_the_folder_free(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--outdir", str(tmp_path / "o"), "--seeds", "0", "--steps", "2", "--guidance", "unguided"]
    assert main(["generate", MAN + " very" * 90, *arguments]) == 2
    assert main(["generate", MAN, *arguments]) == 0


def test_ctrl_c_is_a_sentence_and_exit_code_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from steerclear.study import generate

    made: list[int] = []
    write = generate.write_picture

    def stop(image: object, recipe: object, picture: object) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        write(image, recipe, picture)

    monkeypatch.setattr(generate, "write_picture", stop)
    arguments = [
        "generate",
        MAN,
        "--guidance",
        "unguided",
        "--seeds",
        "0-3",
        "--steps",
        "2",
        "--outdir",
        str(tmp_path / "o"),
    ]
    assert main(arguments) == 130
    assert "steerclear: stopped; what was done is kept. Run the same command to go on" in " ".join(
        capsys.readouterr().err.split()
    )
    assert sorted(path.name for path in (tmp_path / "o").glob("0*.png")) == ["00000.png", "00001.png"]
    monkeypatch.undo()
    assert main(arguments) == 0
    assert len(list((tmp_path / "o").glob("0*.png"))) == 4


@pytest.mark.parametrize(("written", "kept"), [(0, ""), (2, "; what was done is kept")])
def test_a_full_disk_is_a_sentence(
    written: int, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says that something is kept only where something was done."""
    import errno

    from steerclear.study import generate

    made: list[int] = []
    write = generate.write_picture

    def full(image: object, recipe: object, picture: object) -> None:
        if len(made) == written:
            raise OSError(errno.ENOSPC, "No space left on device", "o/00000.png")
        made.append(1)
        write(image, recipe, picture)

    monkeypatch.setattr(generate, "write_picture", full)
    folder = tmp_path / "o"
    arguments = ["generate", MAN, "--guidance", "unguided", "--seeds", "0-3", "--steps", "2", "--outdir", str(folder)]
    assert main(arguments) == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert f"the disk is full, so 'o/00000.png' could not be written{kept}. Make room and run it again." in printed
    assert folder.exists() == (written > 0)


def test_a_scheduler_that_clips_latents_is_told_of_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model whose config does not say that nothing is clipped, under a scheduler that then does."""
    model = tmp_path / "model"
    shutil.copytree(shipped()["portraits"], model)
    path = model / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text())
    assert config.pop("clip_sample") is False
    path.write_text(json.dumps(config))
    told = []
    for scheduler in ("DDIMScheduler", "EulerDiscreteScheduler"):
        outdir = tmp_path / scheduler
        question = ["compare", MAN, "--negative-prompt", "mustache", "--methods", "cfg", "--model", str(model), *SMALL]
        assert main([*question, "--scheduler", scheduler, "--outdir", str(outdir)]) == 0
        notes = [note for note in results(outdir).notes if "clip_sample" in note]
        assert all(note in page(outdir) for note in notes)
        told.append((len(notes), capsys.readouterr().err.count("warning: DDIMScheduler has clip_sample=True, so each")))
    assert told == [(1, 1), (0, 0)]


def page(folder: Path) -> str:
    return html.unescape((folder / "report.html").read_text())


def test_rows_of_the_results_are_steps(tmp_path: Path) -> None:
    """Also for a sampler that evaluates twice in its first step."""
    question = ["compare", MAN, "--negative-prompt", "mustache", "--methods", "dynamic-negative", "--scheduler", "plms"]
    assert main([*question, "--seeds", "0-1", "--steps", "5", "--outdir", str(tmp_path / "out")]) == 0
    (method,) = results(tmp_path / "out").methods
    assert len(method.noise_levels) == len(method.branches) == 5
    assert [len(image.trace["posterior"]) for image in method.images] == [5, 5]
    assert method.evaluations == 3 * 6


def test_a_method_without_a_step_says_so() -> None:
    method = Method("m", "m", MAN, (), IntervalGuidance(ClassifierFreeGuidance(3.0), 0.5, 0.55))
    assert method_warnings(method, [None, 3.0, 2.0, 1.0]) == [
        "the guidance has no effect: start=0.5 and stop=0.55 leave none of the 4 steps to cfg; set them farther apart"
    ]
    assert method_warnings(method, [1.0] * 20) == []
