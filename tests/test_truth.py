"""The truth by redrawing: from what is it made, what is measured against it, and that it agrees with the exact one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import steerclear
import tiny
from steerclear.cli.app import main
from steerclear.core.errors import InvalidSetting, SteerclearWarning, UnsupportedModel
from steerclear.core.laboratory import Asked, Column, Judge, Judged, Laboratory, Measurement, Seen
from steerclear.features.pixels import PixelFeatures
from steerclear.laboratories.classifier import Classifier
from steerclear.laboratories.portraits import PortraitJudge
from steerclear.metrics.estimates import Rate
from steerclear.metrics.rates import rate
from steerclear.models import shipped
from steerclear.models.given import given_model
from steerclear.models.loading import load_model
from steerclear.study.again import read_run
from steerclear.study.disagreement import disagreements
from steerclear.study.judging import check_names, partly_known
from steerclear.study.measure import Judging
from steerclear.study.notes import BLACKENED, notes
from steerclear.study.results import Results
from steerclear.study.run import run
from steerclear.study.study import Study, comparison
from steerclear.study.truth import FIRST_SEED, RedrawnJudge, reference_seeds, truth_of
from steerclear.testbeds.portraits import attribute_rates, true_portraits

MAN = "portrait photo of a man"

pytestmark = pytest.mark.usefixtures("few_references")


@dataclass(frozen=True)
class Brightness(Laboratory):
    """Bright and red images, by their mean pixels; what a user would write."""

    name = "brightness"

    threshold: float = 127.0

    def refuses(self, model: Judged, asked: Asked) -> str | None:
        return None

    def judge(self, model: Judged, asked: Asked) -> Judge:
        return BrightnessJudge(self.threshold, "bright" in asked.negative_prompts)


@dataclass(frozen=True)
class BrightnessJudge(Judge):
    threshold: float
    unwanted: bool

    @property
    def features(self) -> str:
        return "mean colors"

    def errors(self) -> dict[str, float]:
        return {"bright": 0.02}

    @property
    def error_source(self) -> str:
        return "on 100 gray images"

    def columns(self) -> list[Column]:
        def share(name: str, unwanted: bool) -> Column:
            return Column(name=name, label=name, meaning=name, percent=True, role="concept" if unwanted else "rate")

        return [share("bright", self.unwanted), share("red", False)]

    def see(self, images: Tensor) -> Seen:
        colors = images.double().mean((2, 3))
        sure = torch.sigmoid((colors.mean(1) - self.threshold) / 4)
        shown = {"bright": (sure > 0.5).long(), "red": (colors.argmax(1) == 0).long()}
        return Seen(shown, {"bright": sure}, colors)

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        return {name: rate(values > 0).measured() for name, values in seen.shown.items()}


def seen_of(bright: list[int], sure: list[float] | None = None) -> Seen:
    values = torch.tensor(bright)
    features = torch.arange(2.0 * len(bright)).view(-1, 2)
    shown = {"bright": values, "red": torch.arange(len(bright)) % 3 == 0}
    return Seen(shown, {} if sure is None else {"bright": torch.tensor(sure)}, features)


# what it is made of


def test_images_that_show_the_concept_are_dropped_and_the_others_are_cut_in_two() -> None:
    judge, seen = BrightnessJudge(127.0, True), seen_of([1] * 6 + [0] * 24)
    found = truth_of(judge, seen, target="dark ones", images=5)
    assert (found.drawn, found.kept, found.target) == (30, 24, "dark ones")
    truth = found.truth
    assert truth is not None
    assert truth.features is not None
    assert truth.perfect is not None
    assert truth.images == 24
    assert truth.rates == {"bright": 0.0, "red": pytest.approx(8 / 24)}  # every third of those kept
    assert seen.features is not None
    assert torch.equal(truth.perfect, seen.features[6:11])
    assert torch.equal(truth.features, seen.features[11:])


def test_with_few_images_half_are_the_perfect_answer() -> None:
    truth = truth_of(BrightnessJudge(127.0, True), seen_of([0] * 15 + [1]), target="", images=12).truth
    assert truth is not None
    assert truth.features is not None
    assert truth.perfect is not None
    assert (len(truth.perfect), len(truth.features)) == (7, 8)


def test_without_a_concept_all_images_are_true() -> None:
    found = truth_of(BrightnessJudge(127.0, False), seen_of([1] * 10 + [0] * 10), target="")
    assert found.kept == 20
    assert found.truth is not None
    assert found.truth.rates["bright"] == 0.5


@pytest.mark.parametrize("kept", [0, 7])
def test_of_too_few_images_there_is_no_truth_and_a_note_says_what_to_do(kept: int) -> None:
    judge = BrightnessJudge(127.0, True)
    redrawn = RedrawnJudge(judge, truth_of(judge, seen_of([0] * kept + [1] * 20), target="dark ones"))
    assert redrawn.target is None
    note = " ".join(redrawn.notes(4))
    assert f"dark ones, but these are only {kept} of {kept + 20} images, and at least 8 are needed" in note
    assert "reference_images" in note
    assert {column.name for column in redrawn.columns()} == {"bright", "red"}
    assert set(redrawn.measure(seen_of([0, 1, 1, 0]))) == {"bright", "red"}


def test_images_of_which_the_judge_is_unsure_are_counted() -> None:
    sure = [0.9] * 4 + [0.1] * 10 + [0.3, 0.45, 0.2]
    judge = BrightnessJudge(127.0, True)
    redrawn = RedrawnJudge(judge, truth_of(judge, seen_of([1] * 4 + [0] * 13, sure), target="dark ones", images=4))
    assert redrawn.redrawn is not None
    assert redrawn.redrawn.unsure == 3
    note = redrawn.notes(4)[0]
    assert "dark ones (13 of 17 images)" in note
    assert "errors: bright 2.0 % (on 100 gray images)" in note
    assert "unsure (20 to 80 %) of 3 of those images" in note


def test_seeds_of_a_truth_are_not_those_of_the_images() -> None:
    taken = [FIRST_SEED + 1, FIRST_SEED + 2, 5]
    assert reference_seeds(taken, 3) == [FIRST_SEED, FIRST_SEED + 3, FIRST_SEED + 4]


# what is measured against it


def test_rates_have_the_interval_of_their_truth() -> None:
    judge = BrightnessJudge(127.0, True)
    redrawn = RedrawnJudge(judge, truth_of(judge, seen_of([0] * 40), target="", images=20))
    found = redrawn.measure(seen_of([1, 0, 0, 0] * 5))
    wilson = Rate.of(14, 40)
    red = found["red"]
    assert (red.truth, red.truth_low, red.truth_high) == (14 / 40, wilson.low, wilson.high)
    assert (found["bright"].value, found["bright"].truth, found["bright"].truth_low) == (0.25, 0.0, None)
    assert found["collateral_shift"].by_chance is not None


def test_a_rate_differs_from_a_measured_truth_where_newcombes_interval_says_so() -> None:
    # 56 of 70 and 48 of 80: 0.2 [0.0524, 0.3339] (Newcombe 1998, table II a)
    first, second = Rate.of(56, 70), Rate.of(48, 80)
    apart = Measurement(
        value=first.value, low=first.low, high=first.high, truth=second.value, truth_low=second.low, truth_high=second.high
    )  # fmt: skip
    assert apart.beside_truth == pytest.approx((0.0524, 0.3339), abs=1e-4)
    exact = Measurement(value=0.8, low=0.69, high=0.88, truth=0.6)
    assert exact.beside_truth == pytest.approx((0.09, 0.28))
    assert Measurement(value=0.8, truth=0.6).beside_truth is None


@pytest.fixture(scope="module")
def man() -> PortraitJudge:
    return PortraitJudge(shipped()["portraits"], MAN, "mustache")


def test_on_portraits_the_redrawn_truth_is_the_exact_one(man: PortraitJudge) -> None:
    """True portraits stand for a perfect model: those without a mustache are the exact truth's own draws."""
    everyone, _ = true_portraits(MAN, range(FIRST_SEED, FIRST_SEED + 600))
    redrawn = RedrawnJudge(man, truth_of(man, man.see(everyone), target="redrawn", images=100))
    exact = attribute_rates(MAN, without="mustache")
    assert redrawn.truth is not None
    kept = redrawn.truth.images
    assert kept is not None
    for name, share in exact.items():
        known = Rate.of(round(redrawn.truth.rates[name] * kept), kept, level=0.999)
        assert known.low <= share <= known.high, name
    women, _ = true_portraits("a woman with glasses", range(100))
    for images in (everyone[:100], women):
        seen = man.see(images)
        ours, theirs = redrawn.measure(seen), man.measure(seen)
        assert ours.keys() == theirs.keys()
        for name in ("collateral_shift", "frechet", "precision", "recall", "diversity"):
            size = (theirs[name].high or 0.0) - (theirs[name].low or 0.0)
            assert ours[name].value == pytest.approx(theirs[name].value, abs=max(size, 0.1 * theirs[name].value))


def test_nothing_is_shared_by_the_images_of_a_set(man: PortraitJudge) -> None:
    images, _ = true_portraits(MAN, range(6))
    redrawn = RedrawnJudge(man, None)
    together, alone = redrawn.see(images), [redrawn.see(images[k : k + 1]) for k in range(6)]
    for k, one in enumerate(alone):
        assert one.features is not None
        assert together.features is not None
        assert torch.allclose(one.features[0], together.features[k], atol=1e-4)
        assert all(int(values[0]) == int(together.shown[name][k]) for name, values in one.shown.items())


# a run


def studied(**settings: Any) -> Study:
    given: dict[str, Any] = {
        "prompt": "a hat", "negative_prompts": ("bright",), "seeds": range(4), "num_inference_steps": 2,
        "methods": ("unguided", "cfg"),
    }  # fmt: skip
    return comparison(**(given | settings))


@pytest.fixture(scope="module")
def model() -> Any:
    return given_model(tiny.stable_diffusion(), networks={})


def test_a_run_draws_its_truth_and_a_second_run_draws_nothing(tmp_path: Path, model: Any) -> None:
    labels: list[str] = []
    found = run(
        studied(reference_images=24), tmp_path, model=model, judge=Brightness(300.0),
        on_method=lambda method, place, total: labels.append(method.label),
    )  # fmt: skip
    assert labels[-1] == "the truth"
    truth = found.truth
    assert truth is not None
    assert (truth.kind, truth.method, truth.drawn, truth.seeds) == ("redrawn", "unguided", 24, "2800000000-2800000023")
    assert truth.kept is not None
    assert truth.kept >= 8
    assert found.target == truth.target
    assert "the laboratory brightness sees no bright" in truth.target
    assert found.features == "mean colors"
    assert found.judge_errors == {"bright": 0.02}
    assert found.judge_error_source == "on 100 gray images"
    drawn = sorted((tmp_path / "reference" / "unguided").glob("*.png"))
    assert len(drawn) == 24
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    again = run(studied(reference_images=24), tmp_path, model=model, judge=Brightness(300.0))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")} == times
    assert again.methods == found.methods
    assert Results.model_validate_json((tmp_path / "results.json").read_bytes()).truth == truth


@pytest.mark.parametrize(
    ("settings", "kind"),
    [({"truth": "none"}, None), ({}, "redrawn"), ({"negative_prompts": (), "reference_images": 8}, "redrawn")],
)
def test_where_the_truth_comes_from(settings: Mapping[str, Any], kind: str | None, tmp_path: Path, model: Any) -> None:
    found = run(studied(methods=("unguided",), **settings), tmp_path, model=model, judge=Brightness(300.0))
    assert (found.truth.kind if found.truth else None) == kind
    assert (tmp_path / "reference").exists() == (kind == "redrawn")
    shown = found.methods[0].measurements
    assert ("collateral_shift" in shown) == (kind == "redrawn")
    if found.truth is not None:
        assert found.truth.kept == found.truth.drawn == 8


def test_pixels_stand_in_for_the_features_of_another(tmp_path: Path, model: Any) -> None:
    found = run(
        studied(methods=("unguided",), features="pixels:size=4"), tmp_path, model=model, judge=Brightness(300.0)
    )
    assert found.features == PixelFeatures(4).described


def test_two_judges_are_asked_and_their_disagreement_is_told(tmp_path: Path, model: Any) -> None:
    found = run(
        studied(truth="none"), tmp_path, model=model, judge=Brightness(300.0), second_judge=Brightness(-300.0)
    )  # fmt: skip
    assert found.second_judge == {"_class_name": "Brightness", "threshold": -300.0}
    by_column = {one.column: one for one in found.disagreements}
    assert (by_column["bright"].share, by_column["red"].share) == (1.0, 0.0)
    assert by_column["bright"].images == [
        f"images/{name}/{seed:05d}.png" for name in ("unguided", "cfg") for seed in range(4)
    ]


def test_a_second_judge_that_counts_nothing_of_the_first_has_no_effect(tmp_path: Path, model: Any) -> None:
    other = Classifier(lambda images: {"blue": torch.zeros(len(images))}, ("blue",))
    with pytest.warns(SteerclearWarning, match="second_judge has no effect: the two judges count nothing in common"):
        found = run(
            studied(methods=("unguided",), seeds=(0,), truth="none"), tmp_path, model=model, judge=Brightness(), second_judge=other
        )  # fmt: skip
    assert found.second_judge is None


def test_a_second_judge_of_few_words_looks_for_its_own_where_others_are_watched(tmp_path: Path, model: Any) -> None:
    own = Classifier(lambda images: {"red": torch.ones(len(images)), "dark": torch.ones(len(images))}, ("red", "dark"))
    other = Classifier(lambda images: {"red": torch.zeros(len(images))}, ("red",))
    asked = studied(methods=("unguided",), seeds=(0, 1), truth="none", watch=("red", "dark"))
    found = run(asked, tmp_path, model=model, judge=own, second_judge=other)
    assert [(one.column, one.share) for one in found.disagreements] == [("red", 1.0)]


@dataclass(frozen=True)
class Colors(Judge):
    """Reads the number of a color, which it does not count, and counts dark images."""

    counted: tuple[str, ...] = ("a Dark",)

    def columns(self) -> list[Column]:
        return [Column(name=name, label=name, meaning=name, percent=True, role="rate") for name in self.counted]

    def see(self, images: Tensor) -> Seen:
        mean = images.float().mean((1, 2, 3))
        return Seen(
            {"bright": torch.full((len(images),), 3), "a Dark": (mean < 128).long(), "precision": (mean < 9).long()}
        )

    def measure(self, seen: Seen) -> dict[str, Measurement]:
        return {name: rate(seen.shown[name] > 0).measured() for name in self.counted}


def test_judges_differ_only_in_what_both_count() -> None:
    dark = Column(name="dark", label="dark", meaning="dark", role="rate")
    bright = dark.model_copy(update={"name": "bright"})
    images = torch.stack([torch.zeros(3, 8, 8), torch.full((3, 8, 8), 255)]).to(torch.uint8)
    first = Seen({"bright": torch.tensor([0, 0]), "dark": torch.tensor([1, 1])})
    told = disagreements([bright, dark], Colors().columns(), first, Colors().see(images), "one", "other", ["a", "b"])
    assert [(one.column, one.share, one.images) for one in told] == [("dark", 0.5, ["b"])]


def test_no_concept_or_rate_has_the_name_of_another_column() -> None:
    check_names("colors", Colors(), None)
    with pytest.raises(InvalidSetting, match=r"watch is 'precision', but must be no name of a metric"):
        check_names("colors", Colors(("a Dark", "precision")), ("precision",))
    with pytest.raises(InvalidSetting, match="a column of colors is 'precision'"):
        check_names("colors", Colors(("precision",)), None)
    with pytest.raises(InvalidSetting, match="a column of colors is 'a Dark'"):
        check_names("colors", Colors(("a Dark", "a Dark")), None)


# what has no effect, and what cannot be


@pytest.mark.parametrize(
    ("settings", "judge", "said"),
    [
        ({"truth": "none", "reference_images": 9}, Brightness(), "reference_images has no effect: no truth was asked for"),
        ({"truth": "none", "reference_method": "cfg"}, Brightness(), "reference_method has no effect"),
        ({"truth": "none", "features": "pixels"}, Brightness(), "features has no effect"),
        ({"truth": "none", "watch": ("red",)}, Brightness(), None),
        ({"truth": "none", "watch": ("Red",)}, Brightness(), None),
        ({"judge": "none", "watch": ("red",)}, None, "watch has no effect: nobody judges the images"),
        ({"judge": "none", "truth": "redrawn"}, None, "truth has no effect: nobody judges the images"),
        ({"judge": "none", "second_judge": "portraits"}, None, "second_judge has no effect: nobody judges the images"),
    ],
)  # fmt: skip
def test_what_has_no_effect_is_said(
    settings: Mapping[str, Any], judge: Laboratory | None, said: str | None, tmp_path: Path, model: Any,
    recwarn: pytest.WarningsRecorder,
) -> None:  # fmt: skip
    run(studied(methods=("unguided",), seeds=(0,), **settings), tmp_path, model=model, judge=judge)
    found = [str(one.message) for one in recwarn if issubclass(one.category, SteerclearWarning)]
    assert any(said in one for one in found) if said else not any("no effect" in one for one in found)


def test_a_second_judge_that_is_the_judge_has_no_effect(tmp_path: Path, model: Any) -> None:
    with pytest.warns(SteerclearWarning, match="second_judge has no effect: it is the judge itself"):
        found = run(
            studied(methods=("unguided",), seeds=(0,), truth="none"), tmp_path, model=model, judge=Brightness(), second_judge=Brightness()
        )  # fmt: skip
    assert found.second_judge is None
    assert found.disagreements == []


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"truth": "exact"}, UnsupportedModel, "brightness knows no exact truth"),
        ({"truth": "redrawn", "negative_prompts": ("bright", "a cat")}, UnsupportedModel, "does not recognize 'a cat'"),
        (
            {"watch": ("trees", "red")},
            InvalidSetting,
            "watch is 'trees', but must be what the laboratory brightness can see",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_image(
    settings: Mapping[str, Any], error: type[Exception], said: str, tmp_path: Path, model: Any
) -> None:
    with pytest.raises(error, match=said):
        run(studied(**settings), tmp_path / "new", model=model, judge=Brightness())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"truth": "real"}, "truth is 'real', but must be one of exact, redrawn, none"),
        ({"reference_images": 7}, "reference_images is 7"), ({"reference_method": "negative"}, "without a negative prompt"),
        ({"reference_method": "redraw"}, "without a negative prompt"), ({"watch": ()}, "watch is"),
        ({"watch": ("Bright",)}, "what no negative prompt names"), ({"watch": ("red", "Red")}, "given twice"),
        ({"second_judge": 3}, "second_judge is 3"), ({"features": 3}, "features is 3"),
    ],
)  # fmt: skip
def test_a_study_refuses_what_it_cannot_use(settings: Mapping[str, Any], said: str) -> None:
    with pytest.raises(InvalidSetting, match=said):
        studied(**settings)


def test_a_truth_is_not_redrawn_by_a_judge_who_does_not_know_the_concept(tmp_path: Path, model: Any) -> None:
    study = studied(methods=("unguided",), seeds=(0,), negative_prompts=("a cat",))
    found = run(study, tmp_path, model=model, judge=Brightness())
    assert found.truth is None
    assert any("No truth is redrawn: the judge does not recognize 'a cat'" in note for note in found.notes)


def test_what_a_judge_does_not_recognize_beside_a_concept_is_said(tmp_path: Path, model: Any) -> None:
    """The truth is redrawn for what it knows alone, and not only the words of its target say so."""
    said = "The judge does not recognize {} of what the negative prompts name: its rates, and a truth, are about 'bright' alone."
    for negatives, strange in (
        (("bright, a unicorn",), "'a unicorn'"), (("bright", "a cat, bright", "a dog"), "'a cat' or 'a dog'"), (("Bright",), None),
    ):  # fmt: skip
        found = partly_known(BrightnessJudge(127.0, True), negatives)
        assert found == (() if strange is None else (said.format(strange),))
    assert partly_known(BrightnessJudge(127.0, False), ("a unicorn",)) == ()  # told in another way
    judge = Classifier(lambda images: {"bright": (images.float().mean((1, 2, 3)) > 255).double()}, ("bright",))
    study = studied(methods=("unguided",), negative_prompts=("bright, a unicorn",), features="pixels")
    found = run(study, tmp_path, model=model, judge=judge)
    assert found.truth is not None
    assert said.format("'a unicorn'") in found.notes


# the doors


def test_a_study_comes_back_with_what_is_asked_of_its_judges(tmp_path: Path) -> None:
    study = studied(
        judge="portraits", second_judge="portraits:classifier=second", watch=("hat",), truth="redrawn", reference_images=9,
        reference_method="cfg", features="pixels:size=8",
    )  # fmt: skip
    assert Study.from_json(study.to_json()) == study
    plain = studied()
    old = {name: value for name, value in json.loads(plain.to_json()).items() if name not in (
        "second_judge", "watch", "truth", "reference_images", "reference_method", "features",
    )}  # fmt: skip
    assert Study.from_json(json.dumps(old)) == plain  # of an earlier version
    assert plain.digest() != study.digest()


def test_the_command_line_asks_for_the_same_and_repeats_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--truth",
        "redrawn",
        "--reference-images",
        "16",
        "--features",
        "pixels:size=4",
        "--second-judge",
        "portraits:second",
    ]
    ask = ["--methods", "unguided", "--seeds", "0-1", "--steps", "1", "--outdir", str(tmp_path / "first"), "--quiet"]
    assert main(["compare", MAN, "--negative-prompt", "hat", *words, *ask]) == 0
    asked = read_run(tmp_path / "first").asked
    assert (asked["truth"], asked["reference_images"], asked["features"]) == ("redrawn", 16, "pixels:size=4")
    repeat = ["compare", "--recipe", str(tmp_path / "first"), "--outdir", str(tmp_path / "second"), "--quiet"]
    assert main(repeat) == 0
    first, second = (
        Results.model_validate_json((tmp_path / name / "results.json").read_bytes()) for name in ("first", "second")
    )
    assert second.truth == first.truth
    assert first.truth is not None
    assert first.second_judge == {"_class_name": "Portraits", "classifier": "second"}
    assert [one.measurements for one in second.methods] == [one.measurements for one in first.methods]


def test_python_takes_objects_and_words(tmp_path: Path) -> None:
    found = steerclear.compare(
        tiny.stable_diffusion(), "a hat", "bright", seeds=range(2), num_inference_steps=1, methods=["unguided"], judge=Brightness(300.0),
        watch="red", features=PixelFeatures(4), reference_images=8, second_judge=Brightness(-300.0), folder=tmp_path,
        progress=False,
    ).results  # fmt: skip
    assert found.watched == ["red"]
    assert found.features == PixelFeatures(4).described
    assert found.truth is not None
    assert found.truth.drawn == 8
    assert "watch='red'" in found.command


def test_a_safety_checker_that_blackens_images_is_said() -> None:
    scheduler = load_model("portraits").pipe.scheduler
    for checker, said in ((None, False), (object(), True)):
        model: Any = SimpleNamespace(pipe=SimpleNamespace(scheduler=scheduler, safety_checker=checker))
        assert (BLACKENED in notes(model, [], [], Judging(None, None), 8)) == said
