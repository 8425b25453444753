"""Who judges the images: laboratories and metrics are shelves, and one file of a stranger is one entry."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import red_pixels
import rooms
import steerclear
import tiny
from steerclear.cli.app import main
from steerclear.core import shelf
from steerclear.core.errors import InvalidSetting, UnfitFeatures, UnsupportedModel
from steerclear.core.laboratory import Asked, Laboratory, Measurement
from steerclear.core.metric import FeatureMetric, metrics
from steerclear.laboratories.classifier import Classifier
from steerclear.laboratories.portraits import PortraitJudge, Portraits
from steerclear.metrics.estimates import mean_estimate
from steerclear.models import shipped
from steerclear.models.loading import load_model
from steerclear.study.measure import find_judge
from steerclear.study.results import Results
from steerclear.study.run import run
from steerclear.study.study import ModelAsked, comparison
from steerclear.testbeds.portraits import true_portraits

MAN = "portrait photo of a man"
pytestmark = pytest.mark.usefixtures("few_references")


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Announces modules by name as an installed package's entry points do."""
    announced: dict[str, list[SimpleNamespace]] = {}

    def announce(room: str, module: str) -> None:
        points = announced.setdefault(f"steerclear.{room}", [])
        points.append(SimpleNamespace(load=lambda: sys.modules[module]))
        monkeypatch.setattr(shelf, "entry_points", lambda group: announced.get(group, []))
        shelf.entries.cache_clear()

    yield announce
    monkeypatch.undo()
    shelf.entries.cache_clear()


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "sd"
    tiny.family("sd").save_pretrained(folder)
    return folder


def pictures(folder: Path, method: str) -> Tensor:
    paths = sorted((folder / "images" / method).glob("*.png"))
    return torch.stack([torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in paths])


def checked_by_hand(found: Results, folder: Path) -> None:
    """Every number of the red pixels, counted in the files."""
    for method in found.methods:
        images = pictures(folder, method.name).double()
        red = (images[:, 0] > images[:, 1]) & (images[:, 0] > images[:, 2])
        share = red.double().mean((1, 2))
        assert method.measurements["red"].value == float((share > 0.5).double().mean())
        assert method.measurements["red_pixels"].value == pytest.approx(float(share.mean()), abs=1e-12)
        assert [image.shown["red"] for image in method.images] == (share > 0.5).long().tolist()
        assert [image.probability["red"] for image in method.images] == [round(one, 4) for one in share.tolist()]


def test_a_strangers_laboratory_judges_the_shipped_model(
    strangers: Callable[[str, str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strangers("laboratories", "red_pixels")
    arguments = ["compare", MAN, "--negative-prompt", "red", "--methods", "cfg,negative", "--seeds", "0-1", "--steps", "2",
                 "--outdir", str(tmp_path), "--format", "json", "--judge"]  # fmt: skip
    assert main([*arguments, "red-pixels:threshold=0.5"]) == 0
    found = Results.model_validate_json(capsys.readouterr().out)
    assert found.judge == {"_class_name": "RedPixels", "threshold": 0.5}
    roles = [(column.name, column.role) for column in found.columns]
    assert roles == [("red", "concept"), ("red_pixels", "score"), ("moved", "score"), ("evaluations", "cost")]
    checked_by_hand(found, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("images/*/*.png")}
    for name, judge in (
        ("portraits", {"_class_name": "Portraits", "classifier": "own"}),
        ("none", None),
    ):  # no judge changes an image
        assert main([*arguments, name]) == 0
        again = Results.model_validate_json(capsys.readouterr().out)
        assert again.judge == judge
        assert [one.recipe_digest for one in again.methods] == [one.recipe_digest for one in found.methods]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("images/*/*.png")} == before
    assert [column.name for column in again.columns] == ["moved", "evaluations"]
    assert any(note.startswith("No judge was asked for, so only how far") for note in again.notes)


def test_the_first_laboratory_that_does_not_refuse_judges_any_pipeline(
    strangers: Callable[[str, str], None], random_model: Path, tmp_path: Path
) -> None:
    asked = Asked(MAN, ("unheard of",))  # a word that the built-in laboratories know nothing of
    model = load_model(random_model)
    nobody = find_judge(None, model, asked)
    assert (nobody.laboratory, nobody.judge) == (None, None)
    assert nobody.refusal is not None
    assert "portraits: this model ships no attribute classifier" in nobody.refusal
    strangers("laboratories", "red_pixels")
    assert {*Laboratory.known()} >= {"classifier", "portraits", "red-pixels"}
    assert find_judge(None, load_model("portraits"), asked).laboratory == Portraits()
    study = comparison(
        "a man",
        asked.negative_prompts,
        (3, 4),
        2,
        methods=("unguided", "negative"),
        model=ModelAsked(str(random_model)),
    )
    found = run(study, tmp_path)  # loads the model by its name
    assert found.judge == {"_class_name": "RedPixels", "threshold": 0.5}
    checked_by_hand(found, tmp_path)


def test_a_named_judge_that_refuses_is_an_error(random_model: Path, tmp_path: Path) -> None:
    model = load_model(random_model)
    with pytest.raises(UnsupportedModel, match=r"the laboratory portraits cannot judge images of the model .*ships no"):
        find_judge("portraits", model, Asked(MAN))
    with pytest.raises(UnsupportedModel, match="sees only images of 64 x 64; leave out height and width"):
        find_judge(Portraits(), load_model("portraits"), Asked(MAN, (), 128, None))
    assert main(["compare", MAN, "--judge", "portrait", "--outdir", str(tmp_path / "o")]) == 2
    assert not (tmp_path / "o").exists()


def test_nobody_who_compares_knows_a_world_by_name() -> None:
    sources = rooms.modules(Path(steerclear.__file__).parent)
    worlds = {"testbeds", "laboratories"}
    for module, source in sources.items():
        if module == ("study", "sampling_space"):
            continue  # the picture of one world's story: it compares nothing
        if module[0] in ("study", "telling") or module == ("cli", "compare"):
            targets = [target for target in rooms.imports(source, module) if len(target) > 1]
            # of any judge, and what any world of the plane is drawn by: no world
            plain = {("laboratories", "shared"), ("testbeds", "mixture"), ("testbeds", "planar")}
            known = {target[1] for target in targets if target[1:3] not in plain}
            assert known & worlds == set(), module


# a classifier of one's own


def test_a_function_of_images_is_a_judge(random_model: Path, tmp_path: Path) -> None:
    laboratory = Classifier(
        lambda images: {"red": red_pixels.red_share(images), "dark": 0 * images[:, 0, 0, 0]}, ("red", "dark")
    )
    study = comparison("a man", ("a red",), (3, 4), 2, methods=("cfg",), model=ModelAsked(str(random_model)))
    found = run(study, tmp_path, judge=laboratory)
    share = red_pixels.red_share(pictures(tmp_path, "cfg"))
    measured = found.methods[0].measurements
    assert (measured["red"].value, measured["dark"].value) == (float((share > 0.5).double().mean()), 0.0)
    assert [(column.name, column.role, column.better) for column in found.columns[:2]] == [
        ("red", "concept", "lower"), ("dark", "rate", None),
    ]  # fmt: skip
    assert [image.probability["red"] for image in found.methods[0].images] == [round(one, 4) for one in share.tolist()]
    assert found.judge is not None
    assert found.judge["concepts"] == ["red", "dark"]
    assert json.loads((tmp_path / "results.json").read_text())["judge"] == found.judge


def test_the_function_is_given_few_images_at_once() -> None:
    sizes: list[int] = []

    def probabilities(images: Tensor) -> dict[str, Tensor]:
        sizes.append(len(images))
        return {"first": images[:, 0, 0, 0].double() / 255}

    judge = Classifier(probabilities, ("first",)).judge(load_model("portraits"), Asked(MAN))
    images = torch.arange(70, dtype=torch.uint8).view(70, 1, 1, 1).expand(70, 3, 2, 2)
    assert judge.see(images).probabilities["first"].tolist() == [number / 255 for number in range(70)]
    assert sizes == [32, 32, 6]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, r"gave nothing for 'red'; give one probability in \[0, 1\] per image, shape \[2\]"),
        ({"red": torch.zeros(3)}, r"gave shape \[3\], values \[0.0, 0.0, 0.0\] for 'red'"),
        ({"red": torch.tensor([0.5, 1.5])}, r"values \[0.5, 1.5\] for 'red'"),
        ({"red": torch.tensor([0.5, torch.nan])}, r"values \[0.5, nan\] for 'red'"),
    ],
)
def test_what_are_no_probabilities_is_refused(given: dict[str, Tensor], sentence: str) -> None:
    judge = Classifier(lambda images: given, ("red",)).judge(load_model("portraits"), Asked(MAN))
    with pytest.raises(UnfitFeatures, match=sentence):
        judge.see(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize(
    "settings", [{"probabilities": 5, "concepts": ("red",)}, {"probabilities": len, "concepts": ()}]
)
def test_a_classifier_needs_a_function_and_names(settings: dict) -> None:
    with pytest.raises(InvalidSetting):
        Classifier(**settings)


# metrics


@dataclass(frozen=True)
class MeanNorm(FeatureMetric):
    """A stranger's metric: the mean length of the feature vectors."""

    name = "mean_norm"
    label = "mean norm"
    meaning = "mean length of the feature vectors"
    better = "truth"
    fewest = 3

    def of(self, features: Tensor, reference: Tensor) -> Measurement:
        return mean_estimate(features.norm(dim=1)).measured("jackknife")


FEWEST = {"collateral_shift": 1, "frechet": 48, "precision": 4, "recall": 4, "diversity": 2}


def test_the_columns_of_the_built_in_metrics() -> None:
    ours = {metric.name: metric.fewest for metric in metrics() if metric.name in FEWEST}
    assert list(ours.items()) == list(FEWEST.items())  # in the order of their columns


def test_a_strangers_metric_is_a_column(strangers: Callable[[str, str], None]) -> None:
    strangers("metrics", __name__)
    judge = PortraitJudge(shipped()["portraits"], MAN, "mustache")
    columns = {column.name: column for column in judge.columns()}
    assert [name for name in columns if name in ("diversity", "mean_norm")] == ["diversity", "mean_norm"]
    assert (columns["mean_norm"].role, columns["mean_norm"].better) == ("score", "truth")
    for count in (2, 3):
        images, _ = true_portraits(MAN, range(count), without="mustache")
        seen = judge.see(images)
        found = judge.measure(seen)
        assert ("mean_norm" in found) == (count >= 3)
        assert any("mean norm is left out: it needs at least 3 images" in note for note in judge.notes(count)) == (
            count < 3
        )
    assert seen.features is not None
    assert found["mean_norm"].value == pytest.approx(float(seen.features.double().norm(dim=1).mean()), rel=1e-6)
    perfect, _ = true_portraits(MAN, range(3_500_000_000, 3_500_000_003), without="mustache")
    features = judge.see(perfect).features
    assert features is not None
    assert found["mean_norm"].truth == pytest.approx(float(features.double().norm(dim=1).mean()), rel=1e-6)


def test_a_judges_nan_is_left_out_and_said(random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Classifier(lambda images: {"bright": images.double().mean((1, 2, 3)) / 255}, ("bright",))
    bound = type(judge.judge(load_model(str(random_model)), Asked("a man")))
    plain = bound.measure
    monkeypatch.setattr(
        bound, "measure", lambda self, seen: plain(self, seen) | {"bright": Measurement(value=float("nan"))}
    )
    study = comparison("a man", (), (0, 1), 1, methods=("unguided",), model=ModelAsked(str(random_model)))
    found = run(study, tmp_path, judge=judge)
    assert "bright" not in found.methods[0].measurements
    assert found.methods[0].warnings == ["the judge gave no number for bright: nan"]
    assert Results.model_validate_json((tmp_path / "results.json").read_text()) == found


def test_a_classifier_that_gives_no_mapping_is_refused() -> None:
    judge = Classifier(lambda images: images.double().mean((1, 2, 3)), ("bright",)).judge(None, Asked("a man"))  # type: ignore
    with pytest.raises(UnfitFeatures, match=r"gave a Tensor; give a mapping of .'bright',. to probabilities"):
        judge.see(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
