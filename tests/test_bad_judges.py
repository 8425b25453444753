"""More than a hundred bad inputs about judges: each ends in a sentence that names it, exit code 2, and nothing written."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from steerclear.cli.app import main
from steerclear.cli.commands import compare

pytestmark = pytest.mark.usefixtures("few_references", "loaded_once")

LONG = "x" * 5000
ASK = ["compare", "portrait photo of a man", "--negative-prompt", "mustache", "--methods", "unguided", "--seeds", "0",
       "--steps", "1", "--outdir", "out"]  # fmt: skip

JUDGES: list[tuple[str, str]] = [
    # names
    ("", "there is no laboratory ''"), (" ", "there is no laboratory"), ("nobody", "there is no laboratory 'nobody'"),
    ("portrait", "did you mean 'portraits'"), ("judge portraits", "there is no laboratory 'judge portraits'"), ("label", "did you mean 'labels'"),
    ("5", "there is no laboratory '5'"), ("-", "there is no laboratory '-'"), (":", "there is no laboratory"), ("=", "there is no laboratory '='"),
    (LONG, "(5,002 characters)"), ("\x00", "there is no laboratory"), ("\udcff", "there is no laboratory"), ("portraits,none", "there is no laboratory"),
    ("owner/model", "there is no laboratory 'owner/model'"), ("https://huggingface.co/owner/model", "there is no laboratory 'https'"),
    ("judge.py", "there is no laboratory 'judge.py'"), ("./judge.py:see", "there is no laboratory './judge.py'"),
    # their settings
    ("portraits:classifier=third", "classifier is 'third', but must be"), ("portraits:classifier=", "classifier is '', but must be"),
    ("portraits:third", "classifier is 'third', but must be"), ("portraits:second=yes", "there is no parameter of portraits 'second'"),
    ("portraits(", "close the parenthesis"), ("portraits(classifier=own", "close the parenthesis"), ("portraits:=own", "must be"),
    ("portraits:classifier=own,classifier=second", "classifier is given twice, as own and as second"),
    ("portraits" + ":(" * 5000, "the depth of portraits is"), ("classifier", "probabilities is none, but must be a function"),
    ("classifier:probabilities=len", "it is given in Python"), ("classifier:concepts=a", "it is given in Python"),
    # functions
    ("callable", "function is none, but must be package.module:function"), ("callable:", "function is none, but must be package.module:function"),
    ("callable:function=", "function is '', but must be package.module:function"), ("callable:5", "function is '5', but must be"),
    ("callable:json", "function is 'json', but must be package.module:function"), ("callable:json.loads", "function is 'json.loads', but must be"),
    ("callable:json:loads:dumps", "function is 'json:loads:dumps', but must be"), ("callable:../judge:see", "function is '../judge:see', but must be"),
    ("callable:function=json:loads,batch=3", "there is no parameter of callable 'batch'"), ("json:", "there is no laboratory 'json'"),
    (":loads", "there is no laboratory"), ("json:loads:dumps", "there is no laboratory 'json'"), ("json:1", "there is no laboratory 'json'"),
    ("no_package_of_this_name:see", "there is no laboratory 'no_package_of_this_name'"),
    ("no_package.of_this_name:see", "importing no_package.of_this_name raised ModuleNotFoundError"),
    ("json:nothing", "function is 'json:nothing', but must be package.module:function"), ("os:sep", "it is a str, which cannot be called"),
    ("math:pi", "it is a float, which cannot be called"), ("json:loads", "on one gray image it raised TypeError"), ("sys:exit", "raised SystemExit"),
    ("builtins:len", "on one gray image it gave 1"), ("builtins:id", "on one gray image it gave "), ("broken_judge:see", "importing broken_judge raised SyntaxError"),
    ("good_judge:shape", "gave shape [2], values [0.5, 0.5] for 'hat'; give one probability in [0, 1] per image, shape [1]"),
    ("good_judge:above", "values [1.5] for 'hat'"), ("good_judge:words", "gave a list for 'hat'"), ("good_judge:numbers", "a mapping of names to probabilities"),
    # networks of the hub
    ("hub", "model is none, but must be a folder or a hub id like owner/model"), ("hub:", "model is none, but must be a folder or a hub id"),
    ("hub:model=", "model is '', but must be a folder or a hub id"), ("hub:nowhere", "'nowhere' is neither a folder nor a hub id"),
    ("hub:nobody/nothing-of-this-name", "'nobody/nothing-of-this-name' is found neither locally nor on the hub"),
    ("hub:model=a,model=b", "model is given twice, as a and as b"), ("hub:model=a/b,more=1", "there is no parameter of hub 'more'"),
    ("hub:.", "the folder '.' has no config.json"), ("hub:a/b/c", "'a/b/c' is neither a folder nor a hub id"),
    ("hub:no_config", "config.json is not a configuration"), ("hub:pickled", "has no weights as .safetensors; pickled ones are not read"),
    ("hub:unnamed", "it is a network without a name, but must be a network that classifies images"),
    ("hub:clip", "it is a CLIPModel, but must be"), ("hub:" + LONG, "characters)"), ("hub:model=a\x00b", "is neither a folder nor a hub id"),
    # labelled images
    ("labels", "folder is none, but must be a path"), ("labels:", "folder is none, but must be a path"), ("labels:folder=", "folder is '', but must be a path"),
    ("labels:nowhere", "nowhere', but must be a folder with one subfolder of images per class"), ("labels:empty", "no subfolder has images"),
    ("labels:a_file", "it is a file"), ("labels:one_class", "the only one with images is hat"), ("labels:few", "a folder with at least 8 images of each class, and as many of anything else; of hat it has 3"),
    ("labels:nothing_else", "at least one class beside none and other"), ("labels:a\x00b", "take the character NUL out of it"),
    ("labels:~nobody-of-this-name/x", "it names no home folder that is known here"), ("labels:good,ridge=1", "there is no parameter of labels 'ridge'"),
    ("labels:folder=good,features=nothing", "there is no features 'nothing'"), ("labels:folder=good,features=none", "features is none, but must be"),
    ("labels:folder=good,features=pixels(size=0)", "size is 0, but must be a whole number from 1 to 64"),
    ("labels:folder=good,features=pixels(size=many)", "size is 'many', but must be"),
    ("labels:folder=good,features=pixels(colour=yes)", "there is no parameter of pixels 'colour'"), ("labels:folder=good,features=pixels(", "close the parenthesis"),
    ("labels:folder=good,features=clip(model=nowhere)", "'nowhere' is neither a folder nor a hub id"),
    ("labels:folder=good,features=vision", "model is none, but must be a folder or a hub id"),
    ("labels:folder=good,features=digits(folder=nowhere)", "nowhere/classifier.safetensors cannot be read"),
    ("labels:folder=good,features=portraits", "the features portraits see only images of 64 x 64, and these are 12 x 12"),
]  # fmt: skip

OTHERS: list[tuple[str, str, str]] = [
    *(("--second-judge", typed, sentence) for typed, sentence in JUDGES if typed in (
        "nobody", "", "portraits:classifier=third", "callable:json", "no_package.of_this_name:see", "json:loads", "hub:nowhere", "labels:nowhere",
        "labels:few", "portraits(", "labels:folder=good,features=nothing", "classifier",
    )),
    ("--watch", "", "''"), ("--watch", ",", "watch is ','"), ("--watch", " , ", "watch is ' , '"), ("--watch", "hat,,beard", "watch is 'hat,,beard'"),
    ("--watch", "hat,hat", "the watched 'hat' is given twice"), ("--watch", "hat, wings", "watch is 'wings', but must be what the laboratory portraits can see"),
    ("--watch", "Mustache", "watch is 'Mustache', but must be what no negative prompt names"),
    ("--features", "nothing", "there is no features 'nothing'"), ("--features", "", "features is '', but must be one of"), ("--features", "pixel", "did you mean 'pixels'"),
    ("--features", "pixels:size=0", "size is 0, but must be"), ("--features", "pixels:size=abc", "size is 'abc', but must be"), ("--features", "pixels(", "close the parenthesis"),
    ("--features", "pixels:colour=yes", "there is no parameter of pixels 'colour'"), ("--features", "clip:nowhere", "'nowhere' is neither a folder nor a hub id"),
    ("--features", "clip:model=", "model is '', but must be a folder or a hub id"), ("--features", "vision", "model is none, but must be"),
    ("--features", "dinov2:nobody/nothing-of-this-name", "is found neither locally nor on the hub"), ("--features", "siglip:.", "has no config.json"),
    ("--features", "portraits:folder=nowhere", "nowhere/classifier.safetensors cannot be read"), ("--features", "digits:folder=nowhere", "cannot be read"),
    ("--features", "inception:nowhere", "inception"), ("--features", "owner/model", "there is no features 'owner/model'"),
    ("--truth", "", "''"), ("--truth", "real", "truth is 'real', but must be one of exact, redrawn, none"), ("--truth", "exact,redrawn", "exact,redrawn"), ("--truth", "5", "5"),
    *(("--reference-images", typed, f"is {typed}, but must be a whole number from 8") for typed in ("0", "7", "-1", "1000001")),
    *(("--reference-images", typed, typed) for typed in ("1.5", "many", "nan", "1e3")),
    ("--reference-method", "nobody", "'nobody'"), ("--reference-method", "", "''"), ("--reference-method", "cfg,negative", "cfg"),
    ("--reference-method", "cfg:scale=3", "scale"),
]  # fmt: skip
"""Option, what is typed, what the sentence says."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files that are named above."""
    root = tmp_path_factory.mktemp("place")
    (root / "a_file").write_text("")
    (root / "broken_judge.py").write_text("def see(")
    (root / "good_judge.py").write_text(
        "import torch\n"
        "def shape(images): return {'hat': torch.full((2,), 0.5)}\n"
        "def above(images): return {'hat': torch.full((1,), 1.5)}\n"
        "def words(images): return {'hat': ['yes']}\n"
        "def numbers(images): return {1: torch.full((1,), 0.5)}\n"
    )
    classes: dict[str, dict[str, int]] = {
        "empty": {"hat": 0, "none": 0}, "one_class": {"hat": 9}, "few": {"hat": 3, "none": 9}, "nothing_else": {"none": 9, "other": 9},
        "good": {"hat": 9, "none": 9},
    }  # fmt: skip
    generator = np.random.default_rng(0)
    for name, counts in classes.items():
        for label, count in counts.items():
            (root / name / label).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (12, 12, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / name / label / f"{number}.png")
    configs = {"no_config": "[1]", "pickled": '{"architectures": ["ViTForImageClassification"]}', "unnamed": "{}",
               "clip": '{"architectures": ["CLIPModel"]}'}  # fmt: skip
    for name, text in configs.items():
        (root / name).mkdir()
        (root / name / "config.json").write_text(text)
    (root / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    return root


def said_of(
    arguments: list[str], place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.chdir(place)
    before = {path for path in place.rglob("*") if "__pycache__" not in path.parts}
    capsys.readouterr()
    assert main([*ASK, *arguments]) == 2, arguments
    out, err = capsys.readouterr()
    assert {path for path in place.rglob("*") if "__pycache__" not in path.parts} == before
    assert out == ""
    assert "Traceback" not in err
    assert len(err) < 5000
    return " ".join(err.split())


def test_there_are_more_than_a_hundred() -> None:
    assert len(JUDGES) + len(OTHERS) > 130
    assert len({typed for typed, _ in JUDGES}) == len(JUDGES)


@pytest.mark.parametrize(("typed", "sentence"), JUDGES, ids=[typed[:40] or "empty" for typed, _ in JUDGES])
def test_judges(typed: str, sentence: str, place: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = said_of(["--judge", typed], place, capsys, monkeypatch)
    assert said.startswith("steerclear: ")
    assert sentence in said


@pytest.mark.parametrize(
    ("option", "typed", "sentence"), OTHERS, ids=[f"{option} {typed[:40]}" for option, typed, _ in OTHERS]
)
def test_what_goes_with_a_judge(
    option: str, typed: str, sentence: str, place: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if option.removeprefix("--").replace("-", "_") not in inspect.signature(compare.command).parameters:
        pytest.skip(f"compare has no {option}")
    redrawn = ["--truth", "redrawn"] if option == "--features" else []
    assert sentence in said_of([option, typed, "--judge", "portraits", *redrawn], place, capsys, monkeypatch)
