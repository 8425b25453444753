"""The second classifier of portraits: who flags images is not who measures them."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import steerclear
from steerclear.benchmark import classifiers
from steerclear.benchmark.classifiers import FRESH, FRESH_SEED
from steerclear.benchmark.shipped import HELD_OUT, HELD_OUT_SEED
from steerclear.core.errors import FolderConflict, InvalidSetting, UnsupportedModel
from steerclear.core.laboratory import Asked, Laboratory
from steerclear.core.sums import check_sums
from steerclear.features.portrait_classifier import BINARY, CATEGORICAL, PortraitClassifier, read
from steerclear.laboratories.classifier import Classifier
from steerclear.laboratories.portraits import (
    PERFECT_SEEDS,
    REFERENCE_PORTRAITS,
    REFERENCE_SEEDS,
    SHOWN_ATTRIBUTES,
    PortraitJudge,
    Portraits,
)
from steerclear.laboratories.second_classifier import (
    SECOND_CLASSIFIER,
    WEIGHTS_FOLDER,
    SecondClassifier,
    second_classifier,
)
from steerclear.models import shipped
from steerclear.models.loading import load_model
from steerclear.study.measure import default_judge, find_judge, named_judge
from steerclear.testbeds.portraits import attribute_rates, true_portraits
from steerclear.training import command
from steerclear.training.loop import Progress, Report, Schedule
from steerclear.training.presets import PRESETS
from steerclear.training.second_classifier import COURSE, FIRST_PORTRAIT, Course, latent_noise

MAN = "portrait photo of a man"
PORTRAITS = 768
FOLDER = shipped()["portraits"]


@pytest.fixture(scope="module")
def men() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return true_portraits(MAN, range(4_200_000_000, 4_200_000_000 + PORTRAITS))


def test_its_rates_are_the_exact_truth_within_chance(men: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> None:
    judge = PortraitJudge(FOLDER, MAN, "mustache", "second")
    images, attributes = men
    seen, truth = judge.see(images).shown, attribute_rates(MAN)
    for name in SHOWN_ATTRIBUTES:
        right = float((seen[name] == attributes[name]).double().mean())
        assert right >= 0.99, name
        found, exact = float(seen[name].double().mean()), truth[name]
        chance = (exact * (1 - exact) / PORTRAITS) ** 0.5
        assert abs(found - exact) <= 4 * chance + (1 - right), name
    for name in ("hair", "skin", "background"):
        assert float((seen[name] == attributes[name]).double().mean()) >= 0.98, name


def test_the_two_classifiers_agree_on_true_portraits(men: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> None:
    own, second = (PortraitJudge(FOLDER, MAN, which=which).see(men[0]) for which in ("own", "second"))
    for name in (*BINARY, "hair", "skin", "background"):
        assert float((own.shown[name] == second.shown[name]).double().mean()) >= 0.985, name
    assert own.features is not None
    assert second.features is not None
    assert (own.features.shape[1], second.features.shape[1]) == (128, 96)


def test_its_features_have_the_unit_of_the_first() -> None:
    """Over true portraits of every kind their mean variance is 1."""
    images, _ = true_portraits("", range(4_250_000_000, 4_250_000_000 + PORTRAITS))
    for classifier in (second_classifier(), PortraitClassifier.load(FOLDER / "classifier.safetensors")):
        assert float(read(classifier, images)[1].var(0).mean()) == pytest.approx(1, rel=0.1)


def test_an_image_is_read_as_alone(men: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> None:
    classifier, images = second_classifier(), men[0][:5]
    shown, features, sure = read(classifier, images)
    for index in range(len(images)):
        alone, feature, certain = read(classifier, images[index : index + 1])
        assert torch.allclose(feature[0], features[index], atol=1e-4)
        for name in (*BINARY, *CATEGORICAL):
            assert alone[name][0] == shown[name][index]
            assert torch.allclose(certain[name][0], sure[name][index], atol=1e-4)
    nothing, no_features, unsure = read(classifier, images[:0])
    assert no_features.shape == (0, 96)
    assert {len(value) for value in (*nothing.values(), *unsure.values())} == {0}


def test_it_ships_small_and_whole() -> None:
    assert (WEIGHTS_FOLDER / SECOND_CLASSIFIER).stat().st_size < 600_000
    assert (WEIGHTS_FOLDER / "SHA256SUMS").read_text().endswith(f"  {SECOND_CLASSIFIER}\n")
    check_sums("the second classifier", WEIGHTS_FOLDER)
    assert {tensor.dtype for tensor in load_file(WEIGHTS_FOLDER / SECOND_CLASSIFIER).values()} == {torch.float16}
    assert {parameter.dtype for parameter in second_classifier().parameters()} == {torch.float32}
    assert WEIGHTS_FOLDER.is_relative_to(Path(steerclear.__file__).parent)
    assert load_model("portraits").digest == "17a3b1af4f7ebce0"  # it lies outside the model's folder


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(WEIGHTS_FOLDER, folder)
    path = folder / SECOND_CLASSIFIER
    weights = bytearray(path.read_bytes())
    weights[len(weights) // 2] ^= 4
    path.write_bytes(weights)
    with pytest.raises(
        UnsupportedModel, match=r"the second classifier of portraits is damaged: second_classifier\.s.* does not"
    ):
        second_classifier(folder)
    (folder / "SHA256SUMS").unlink()
    save_file(PortraitClassifier().state_dict(), path)
    with pytest.raises(
        UnsupportedModel, match=r"is not that of portraits: the shape of its .*; install steerclear again\."
    ):
        second_classifier(folder)
    path.unlink()
    with pytest.raises(UnsupportedModel, match=r"cannot be read \(.*\); install steerclear again\."):
        second_classifier(folder)


def test_it_shares_nothing_with_the_first() -> None:
    first, second = PortraitClassifier(), SecondClassifier()
    kinds = [{type(part) for part in model.modules()} for model in (first, second)]
    assert torch.nn.BatchNorm2d in kinds[0]
    assert torch.nn.GroupNorm not in kinds[0]
    assert torch.nn.GroupNorm in kinds[1]
    assert torch.nn.BatchNorm2d not in kinds[1]
    used = [
        (0, max(preset.images for preset in PRESETS.values())), (FIRST_PORTRAIT, COURSE.portraits),
        (REFERENCE_SEEDS, REFERENCE_PORTRAITS), (PERFECT_SEEDS, 10_000), (HELD_OUT_SEED, HELD_OUT), (FRESH_SEED, FRESH),
    ]  # fmt: skip
    for (one, many), (other, _) in itertools.pairwise(used):
        assert one + many <= other
    assert FRESH_SEED + FRESH <= 2**32


# who asks which


def test_the_second_of_a_laboratory_has_the_other_classifier() -> None:
    assert Portraits() == Portraits("own")
    assert Portraits().second() == Portraits("second") == named_judge("portraits:classifier=second")
    assert Portraits().second().second() == Portraits()
    for which, seer in (("own", "the classifier"), ("second", "the second classifier")):
        meaning = PortraitJudge(FOLDER, MAN, "mustache", which).columns()[0].meaning  # type: ignore[arg-type]
        assert meaning == f"share of images in which {seer} sees: mustache"
    assert Portraits("second").to_config() == {"_class_name": "Portraits", "classifier": "second"}
    assert Laboratory.from_config({"_class_name": "Portraits"}) == Portraits()  # of results that were written before
    alone = Classifier(lambda images: {"red": images.float().mean((1, 2, 3)) / 255}, ("red",))
    assert alone.second() is alone
    with pytest.raises(InvalidSetting, match=r"classifier is 'third', but must be own or second"):
        Portraits("third")  # type: ignore[arg-type]


def test_who_looks_is_not_who_measures(men: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> None:
    model, asked, images = load_model("portraits"), Asked(MAN, ("mustache",)), men[0][:16]
    looking, measuring = default_judge(model, asked), find_judge(None, model, asked)
    assert measuring.laboratory == Portraits()
    assert looking is not None
    assert measuring.judge is not None
    by_hand = {
        "own": read(PortraitClassifier.load(FOLDER / "classifier.safetensors"), images),
        "second": read(second_classifier(), images),
    }
    for judge, which in (
        (looking, "second"),
        (measuring.judge, "own"),
        (Portraits("second").judge(model, asked), "second"),
    ):
        assert torch.equal(judge.see(images).probabilities["mustache"], by_hand[which][2]["mustache"])
    assert not torch.equal(by_hand["own"][2]["mustache"], by_hand["second"][2]["mustache"])


def test_a_second_that_refuses_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(self: Portraits, model: object, asked: Asked) -> str | None:
        return "it is away" if self.classifier == "second" else None

    monkeypatch.setattr(Portraits, "refuses", refuses)
    looking = default_judge(load_model("portraits"), Asked(MAN))
    assert looking is not None
    assert looking._laboratory == Portraits()  # type: ignore[attr-defined]


# its training

SHORT = Course(12, 8, Schedule(3, 4, 1e-3, warmup_steps=1))


def go(
    folder: Path, outdir: Path, *, seed: int = 1, resume: bool = False, report: Report = lambda progress: None
) -> None:
    command.train_beside(
        "second-classifier", folder, outdir, seed=seed, device="cpu", resume=resume, report=report, course=SHORT
    )


def trained(outdir: Path) -> dict[str, torch.Tensor]:
    check_sums("the classifier", outdir)
    return load_file(outdir / SECOND_CLASSIFIER)


def test_a_stopped_training_ends_in_the_same_file(tmp_path: Path) -> None:
    stages: list[str] = []
    go(tmp_path / "whole", tmp_path / "out", report=lambda progress: stages.append(progress.stage))
    assert list(dict.fromkeys(stages)) == ["portraits", "rebuilt", "second-classifier"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["SHA256SUMS", SECOND_CLASSIFIER]

    def stop(progress: Progress) -> None:
        if (progress.stage, progress.step) == ("second-classifier", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "parts", tmp_path / "resumed", report=stop)
    with pytest.raises(FolderConflict, match="holds a training run; add --resume"):
        go(tmp_path / "parts", tmp_path / "resumed")
    go(tmp_path / "parts", tmp_path / "resumed", resume=True)
    go(tmp_path / "other", tmp_path / "seeded", seed=2)
    first, resumed, other = (trained(tmp_path / name) for name in ("out", "resumed", "seeded"))
    assert all(torch.equal(first[name], resumed[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert second_classifier(tmp_path / "out").head.out_features == 23
    with pytest.raises(
        FolderConflict, match=r"is not an empty folder; give another --outdir for the finished classifier"
    ):
        go(tmp_path / "again", tmp_path / "out")


def test_the_softness_of_a_portrait_is_its_own() -> None:
    seeds = [FIRST_PORTRAIT, FIRST_PORTRAIT + 1, FIRST_PORTRAIT + 2]
    noise = latent_noise(seeds, torch.Size((4, 16, 16)))
    assert torch.equal(latent_noise(seeds[1:2], torch.Size((4, 16, 16)))[0], noise[1])
    many = latent_noise(list(range(2000)), torch.Size((4, 4, 4))).flatten(1).square().mean(1)
    assert float(many.mean()) == pytest.approx(0.25**2 / 3, rel=0.06)  # of uniform standard deviations up to 0.25


# the figures


def test_the_figures_are_what_both_classifiers_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "FRESH", 64)
    found = classifiers.Classifiers(seeds="0-47", num_inference_steps=1).run(tmp_path)
    values = {claim.claim: claim.value for claim in found.claims}
    assert len(values) == 5 + 4 * (len(BINARY) + len(CATEGORICAL))
    paths = sorted((tmp_path / "images/unguided").glob("*.png"))
    images = torch.stack([torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1) for path in paths])
    own, second = (PortraitJudge(FOLDER, MAN, which=which).see(images).shown for which in ("own", "second"))
    for name in classifiers.CONCEPTS:
        told = f'"{MAN}", scale 1: the classifiers disagree about {name}'
        assert values[told] == int((own[name] != second[name]).sum()) / 48
    fresh, attributes = true_portraits("", range(FRESH_SEED, FRESH_SEED + 64))
    right = int((PortraitJudge(FOLDER, "", which="second").see(fresh).shown["hair"] == attributes["hair"]).sum()) / 64
    assert values["second classifier, true portraits as drawn: hair right"] == right
