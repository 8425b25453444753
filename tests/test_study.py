"""A study is data: hashable, JSON in and out, and the same guidance may appear in it with several settings."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
from torch import Tensor

import tiny
from steerclear.cli.app import main
from steerclear.core import shelf
from steerclear.core.errors import (
    GivenTwice,
    InvalidSetting,
    PromptError,
    SteerclearError,
    UnknownName,
)  # fmt: skip
from steerclear.core.evidence import Belief, Evidence, Surroundings
from steerclear.core.records import State, Step
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.dynamic_negative import DynamicNegativeGuidance
from steerclear.models import shipped
from steerclear.study.methods import Method
from steerclear.study.results import Results
from steerclear.study.run import images_of, run
from steerclear.study.study import ModelAsked, Study, comparison

MAN = "portrait photo of a man"
TWICE = [
    "cfg",
    "dynamic-negative:negative_scale=2",
    "dynamic-negative:negative_scale=0.5,evidence.prior=0.3",
    "negative",
]

pytestmark = pytest.mark.usefixtures("few_references")


def asked(**settings: object) -> Study:
    given = {
        "prompt": MAN,
        "negative_prompts": ["mustache"],
        "seeds": range(2),
        "num_inference_steps": 2,
        "methods": TWICE,
    }
    return comparison(**(given | settings))  # type: ignore[arg-type]


def test_a_study_comes_back_from_its_json() -> None:
    study = asked(
        model=ModelAsked("portraits", (("weak", "noised:0.2"),), scheduler="euler_a"), judge="portraits", height=64
    )
    again = Study.from_json(study.to_json())
    assert again == study
    assert hash(again) == hash(study)
    assert again.digest() == study.digest()
    assert json.loads(study.to_json())["methods"][1]["guidance"]["negative_scale"] == 2.0


def test_the_digest_is_of_what_is_asked_and_not_of_where_it_runs() -> None:
    study = asked()
    assert asked(model=ModelAsked(device="cuda:1", offload="model")).digest() == study.digest()
    others = [asked(seeds=range(3)), asked(methods=TWICE[:3]), asked(judge="none"), asked(model=ModelAsked(dtype="float16")),
              asked(guidance_scale=4.0), asked(num_inference_steps=3)]  # fmt: skip
    assert len({study.digest(), *(other.digest() for other in others)}) == 7


def test_methods_with_settings_have_labels_and_folders_of_their_own() -> None:
    study = asked(guidance_scale=5.0)
    assert [method.label for method in study.methods] == [
        "classifier-free guidance", "dynamic negative (negative_scale 2)",
        "dynamic negative (negative_scale 0.5, evidence.prior 0.3)", "negative prompt",
    ]  # fmt: skip
    assert [method.name for method in study.methods] == [
        "cfg", "dynamic-negative-negative_scale-2", "dynamic-negative-negative_scale-0.5-evidence.prior-0.3", "negative",
    ]  # fmt: skip
    assert study.methods[1].guidance == DynamicNegativeGuidance(5.0, negative_scale=2.0)  # the question's scale stays


@pytest.mark.parametrize(
    ("text", "name", "label"),
    [
        ("cfg:guidance_scale=3.0", "cfg", "classifier-free guidance"),  # as it is anyway
        ("cfg:4", "cfg-guidance_scale-4", "classifier-free guidance (guidance_scale 4)"),
        ("dynamic-negative:evidence=constant", "dynamic-negative-evidence-constant", "dynamic negative (evidence constant)"),
        ("interval(inner=cfg(guidance_scale=4), stop=0.5)", "interval-inner.guidance_scale-4-stop-0.5",
         "interval (inner.guidance_scale 4, stop 0.5)"),
        ("dynamic-negative:negative_scale=1,0.5", "dynamic-negative-negative_scale-1-0.5", "dynamic negative (negative_scale 1, 0.5)"),
    ],
)  # fmt: skip
def test_names_and_labels(text: str, name: str, label: str) -> None:
    (method,) = asked(methods=[text]).methods
    assert (method.name, method.label) == (name, label)


def test_a_long_name_stays_a_folder() -> None:
    settings = (
        "guidance_scale=4.123456789,negative_scale=0.123456789,evidence.prior=0.123456789,evidence.temperature=0.5"
    )
    (first,) = asked(methods=[f"dynamic-negative:{settings}"]).methods
    (second,) = asked(methods=[f"dynamic-negative:{settings}1"]).methods
    assert len(first.name) == len(second.name) == 69
    assert first.name[:60] == second.name[:60]
    assert first.name != second.name


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        ({"methods": ["cfg:guidance_scal=3"]}, UnknownName, "did you mean 'guidance_scale'"),
        ({"methods": ["cfg:guidance_scale=many"]}, InvalidSetting, "guidance_scale is 'many'"),
        ({"methods": ["cgf:3"]}, UnknownName, "there is no method 'cgf'; did you mean 'cfg'"),
        (
            {"methods": ["cfg:4", "cfg:guidance_scale=4.0"]},
            GivenTwice,
            "the method 'cfg-guidance_scale-4' is given twice",
        ),
        ({"methods": ["cfg(4"]}, InvalidSetting, "close the parenthesis"),
        ({"judge": "portrait"}, UnknownName, "there is no laboratory 'portrait'; did you mean 'portraits'"),
        ({"judge": 5}, InvalidSetting, "judge is 5, but must be a laboratory's name, 'none' or None"),
        ({"judge": "classifier"}, InvalidSetting, "probabilities is None, but must be a function of images"),
        ({"model": "portraits"}, InvalidSetting, "model is 'portraits', but must be a ModelAsked"),
    ],
)
def test_what_cannot_be_asked_is_refused(settings: dict, error: type[SteerclearError], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        asked(**settings)


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "", ".hidden", "a b", "ü", "x" * 81, 5])
def test_a_method_never_leaves_its_folder(name: str) -> None:
    with pytest.raises(InvalidSetting, match="the name of a method"):
        Study(MAN, (), (Method(name, "label", MAN, (), ClassifierFreeGuidance()),), (0,))


def test_two_methods_never_share_a_folder() -> None:
    """Also where a file system does not tell A from a."""
    same = [Method(name, "label", MAN, (), ClassifierFreeGuidance()) for name in ("a", "A")]
    with pytest.raises(GivenTwice):
        Study(MAN, (), tuple(same), (0,))


def damaged(**changes: object) -> str:
    return json.dumps(json.loads(asked().to_json()) | changes)


@pytest.mark.parametrize(
    ("text", "error", "sentence"),
    [
        ("", InvalidSetting, "the content of a study is 'damaged'"),
        ("[1]", InvalidSetting, "not an object: list"),
        ('{"a":' * 70 + "1" + "}" * 70, InvalidSetting, "nested"),
        (damaged(seed=5), InvalidSetting, "the content of a study is 'seed'"),
        (damaged(seeds=["0"]), InvalidSetting, "seeds.0"),
        (damaged(seeds=[0, 0]), InvalidSetting, "the seed 0 is given twice"),
        (damaged(prompt=" "), PromptError, "the prompt is empty"),
        (damaged(methods=[]), InvalidSetting, "methods is"),
        (damaged(methods=[{"name": "a"}]), InvalidSetting, "methods.0"),
        (damaged(model={"name": "portraits", "file": "x"}), InvalidSetting, "model.file"),
    ],
)  # fmt: skip
def test_a_damaged_study_is_refused(text: str, error: type[SteerclearError], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        Study.from_json(text)


def test_a_guidance_that_there_is_not_is_refused_by_its_name() -> None:
    plain = json.loads(asked().to_json())
    plain["methods"][0]["guidance"]["_class_name"] = "ClassifierFree"
    with pytest.raises(UnknownName, match="did you mean 'ClassifierFreeGuidance'"):
        Study.from_json(json.dumps(plain))
    plain["methods"][0]["guidance"] = 5
    with pytest.raises(InvalidSetting, match="the guidance of a method is 5"):
        Study.from_json(json.dumps(plain))


def test_a_study_is_answered_again_from_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the command line with one guidance in three settings; and by what it left in the folder, which makes the same images."""
    methods = "cfg,dynamic-negative:negative_scale=2,dynamic-negative:negative_scale=0.5,negative"
    first, second = tmp_path / "first", tmp_path / "second"
    arguments = [
        "compare",
        MAN,
        "--negative-prompt",
        "mustache",
        "--seeds",
        "0-1",
        "--steps",
        "3",
        "--outdir",
        str(first),
    ]
    assert main([*arguments, "--methods", methods, "--format", "json"]) == 0
    found = Results.model_validate_json(capsys.readouterr().out)
    assert [method.guidance.get("negative_scale") for method in found.methods] == [None, 2.0, 0.5, None]
    again = run(Study.from_json((first / "study.json").read_text()), second)
    assert [method.recipe_digest for method in again.methods] == [method.recipe_digest for method in found.methods]
    images = sorted(path.relative_to(first) for path in first.rglob("images/*/*.png"))
    assert len(images) == 8
    assert [(first / path).read_bytes() for path in images] == [(second / path).read_bytes() for path in images]
    assert (second / "study.json").read_bytes() == (first / "study.json").read_bytes()
    strong, weak = ((first / "images" / found.methods[place].name / "00000.png").read_bytes() for place in (1, 2))
    assert strong != weak
    # another setting is another method of the same folder, and a method never changes its settings there
    assert main([*arguments, "--methods", "dynamic-negative:negative_scale=3"]) == 0
    capsys.readouterr()
    assert main([*arguments, "--methods", "cfg", "--guidance-scale", "4"]) == 2
    assert "holds another run (cfg.guidance_scale: 3.0 there, 4.0 now)" in " ".join(capsys.readouterr().err.split())


def test_what_needs_a_network_that_there_is_not_is_left_out_or_refused(tmp_path: Path) -> None:
    tiny.family("sd").save_pretrained(tmp_path / "sd")
    model = ModelAsked(str(tmp_path / "sd"))
    found = run(comparison("a man", (), (0,), 1, model=model), tmp_path / "standard")
    assert [method.name for method in found.methods] == ["unguided", "cfg"]
    assert any(note.startswith("Autoguidance is left out: there is no weak network.") for note in found.notes)
    with pytest.raises(SteerclearError, match="autoguidance asks for the weak network, and none is given"):
        run(comparison("a man", (), (0,), 1, methods=["autoguidance"], model=model), tmp_path / "named")
    assert not (tmp_path / "named").exists()


def test_the_images_of_one_method_go_into_the_folder_itself(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="but must be exactly one"):
        images_of(asked(), tmp_path / "several")
    begun: list[tuple[str, int, int]] = []
    study = asked(methods=["cfg"], seeds=(4, 3))
    recipe, found = images_of(study, tmp_path, on_method=lambda method, *place: begun.append((method.name, *place)))
    assert begun == [("cfg", 0, 1)]
    assert [picture.path for picture in found] == [tmp_path / "00004.png", tmp_path / "00003.png"]
    assert recipe.guidance == ClassifierFreeGuidance(3.0).to_config()
    assert json.loads((tmp_path / "run.json").read_text())["command"] == "generate"


def test_the_shipped_model_has_its_name() -> None:
    assert ModelAsked().load().folder == shipped()["portraits"]


@dataclass(frozen=True)
class Judged(Evidence):
    """Looks at the decoded preview through the judge that a study passes on, and remembers what it saw."""

    name: ClassVar[str] = "judged"
    paper: ClassVar[str] = "a test"
    seen: ClassVar[list[float]] = []

    def begin(self, surroundings: Surroundings) -> State:
        return _Looks(surroundings)

    def update(self, step: Step, positive: Tensor, concept: Tensor, state: State) -> Belief:
        assert isinstance(state, _Looks)
        images = (state.surroundings.decode(step.denoised(positive)) * 255).round().byte()
        sure = state.surroundings.judge.see(images).probabilities["mustache"].double().clamp(1e-6, 1 - 1e-6)
        Judged.seen.append(float(sure[0]))
        return Belief(sure.logit(), state)


@dataclass(frozen=True)
class _Looks(State):
    surroundings: Surroundings


def test_an_evidence_of_a_study_looks_through_the_shelfs_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("judged")
    monkeypatch.setattr(Judged, "__module__", "judged")
    module.Judged = Judged  # type: ignore[attr-defined]
    points = [SimpleNamespace(load=lambda: module)]
    monkeypatch.setattr(shelf, "entry_points", lambda group: points if group == "steerclear.evidence" else [])
    shelf.entries.cache_clear()
    try:
        study = comparison(
            "portrait photo of a man", ["mustache"], [1], 4, judge="none", methods=["dynamic-negative:evidence=judged"]
        )
        found = run(study, tmp_path)
    finally:
        monkeypatch.undo()
        shelf.entries.cache_clear()
    (image,) = found.methods[0].images
    assert len(Judged.seen) == 4
    assert image.trace["posterior"] == pytest.approx(Judged.seen, rel=1e-5)
    assert found.judge is None  # nobody judges the finished images


def test_a_comparison_with_settings_is_asked_again_from_its_folder(tmp_path: Path) -> None:
    methods = "cfg,dynamic-negative:negative_scale=2,dynamic-negative:negative_scale=0.5"
    first, second = tmp_path / "first", tmp_path / "second"
    few = ["--seeds", "3", "--steps", "2", "-q"]
    asked = ["a man", "--negative-prompt", "hat", "--guidance-scale", "2", "--methods", methods]
    assert main(["compare", *asked, *few, "--outdir", str(first)]) == 0
    assert main(["compare", "--recipe", str(first), "--outdir", str(second), "-q"]) == 0
    before, now = (Study.from_json((folder / "study.json").read_text()) for folder in (first, second))
    assert now == before
    assert [method.label for method in now.methods] == [
        "classifier-free guidance", "dynamic negative (negative_scale 2)", "dynamic negative (negative_scale 0.5)",
    ]  # fmt: skip


def test_a_network_that_nothing_asks_for_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["compare", "a man", "--methods", "cfg", "--seeds", "0", "--steps", "1", "--outdir", str(tmp_path), "-q"]
    assert main([*asked, "--network", "perturbed=noised:0.1"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "the perturbed network 'noised:strength=0.1' has no effect: no guidance of this run asks for it" in said


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["perturbed"], "--network is 'perturbed', but must be NAME=SOURCE"),
        (["=noised"], "--network is '=noised', but must be NAME=SOURCE"),
        (["a=noised", "a=quantized"], "the a network is given twice"),
        (["main=noised"], "the name of a network is 'main', but must be"),
    ],
)
def test_networks_that_cannot_be(texts: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [word for text in texts for word in ("--network", text)]
    assert main(["generate", "a man", *options]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_the_model_of_a_study_is_checked() -> None:
    asked = ModelAsked("portraits", networks={"weak": "noised:0.1"}, loras=["a:0.5"])  # type: ignore[arg-type]
    assert asked == ModelAsked("portraits", (("weak", "noised:0.1"),), loras=("a:0.5",))
    study = comparison("a man", [], [0], model=asked)
    assert hash(study) == hash(Study.from_json(study.to_json()))
    for wrong in ({"name": ["x"]}, {"scheduler": 3}, {"loras": "a"}, {"networks": (("weak",),)}, {"dtype": None}):
        with pytest.raises(InvalidSetting, match=f"{next(iter(wrong))} of the model is"):
            ModelAsked(**wrong)
