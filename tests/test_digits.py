"""Models of real images with classes: their training, their folder, their laboratory, the commands; on made-up images."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

pytest.importorskip("pyarrow")

import labelled
from steerclear.benchmark.digits import Digits as DigitsBenchmark
from steerclear.cli.app import main
from steerclear.core.errors import (
    FolderConflict,
    InvalidSetting,
    PromptError,
    UnfitFeatures,
    UnknownName,
    UnsupportedModel,
)
from steerclear.core.laboratory import Asked, Seen
from steerclear.core.sums import SUMS, check_sums
from steerclear.features.label_classifier import LABEL_CLASSIFIER, LabelClassifier, classify
from steerclear.laboratories.digits import REFERENCE, ClassJudge, Digits, Reference, judge_of
from steerclear.laboratories.portraits import Portraits
from steerclear.metrics.frechet import frechet_distance
from steerclear.models import shipped
from steerclear.models.about import _about
from steerclear.models.loading import Model, load_model
from steerclear.study.measure import find_judge
from steerclear.testbeds.labelled_images import DIGITS, Labelled, read_labelled
from steerclear.training import command, digits
from steerclear.training.diffusion import build_scheduler
from steerclear.training.digits import LOG_NOISE, NO_CLASS, LabelledCourse, Scaled, denoiser_loss, noise_level_timesteps
from steerclear.training.loop import Progress, Schedule

COURSE = LabelledCourse((8, 32), Schedule(2, 4, 1e-3), Schedule(30, 20, 3e-3, warmup_steps=1, weight_decay=0.0))


def silent(progress: Progress) -> None:
    pass


def train(data: Path, folder: Path, outdir: Path, **settings: object) -> None:
    own = {"seed": 0, "device": "cpu", "resume": False, "report": silent, **settings}
    command.train_digits("digits", data, "cpu", folder, outdir, **own)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def short() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(digits.COURSES, "cpu", COURSE)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled.both_splits(tmp_path_factory.mktemp("data"), DIGITS)


@pytest.fixture(scope="module")
def work(short: object, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a finished training in "work" and its model in "out"."""
    folder = tmp_path_factory.mktemp("training")
    train(data, folder / "work", folder / "out")
    return folder


@pytest.fixture(scope="module")
def model(work: Path) -> Model:
    return load_model(str(work / "out"))


# the training


def test_predicting_v_is_edms_preconditioning() -> None:
    """Karras et al. 2022, table 1 and equation 8, at sigma_data = 1."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 6, generator=generator, dtype=torch.float64)

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ matrix)  # v of a sample of variance 1

    clean, noise = torch.randn(2, 50, 6, generator=generator, dtype=torch.float64)
    for level in (0.01, 0.3, 1.0, 7.0, 150.0):
        alpha, sigma = 1 / math.sqrt(1 + level**2), level / math.sqrt(1 + level**2)
        sample = alpha * clean + sigma * noise
        v, target = network(sample), alpha * noise - sigma * clean
        skip, out, scale = 1 / (level**2 + 1), level / math.sqrt(level**2 + 1), 1 / math.sqrt(level**2 + 1)
        noisy = clean + level * noise
        denoised = skip * noisy + out * -network(scale * noisy)
        assert torch.allclose(alpha * sample - sigma * v, denoised, rtol=0, atol=1e-12)
        weight = (level**2 + 1) / level**2
        assert torch.allclose(weight * (denoised - clean) ** 2, (v - target) ** 2, rtol=1e-9, atol=1e-12)


def test_noise_levels_are_edms() -> None:
    """Log-normal with -1.2 and 1.2 at a deviation of the data of 0.5."""
    assert (pytest.approx(-1.2 - math.log(0.5), abs=0.01), 1.2) == LOG_NOISE
    alphas_cumprod = build_scheduler().alphas_cumprod
    timesteps = noise_level_timesteps(4096, alphas_cumprod, torch.Generator().manual_seed(1))
    level = ((1 - alphas_cumprod) / alphas_cumprod).sqrt().log()[timesteps]
    assert float(level.mean()) == pytest.approx(LOG_NOISE[0], abs=0.03)
    assert float(level.std()) == pytest.approx(LOG_NOISE[1], abs=0.03)


def test_the_loss_of_a_perfect_network_is_zero() -> None:
    """Of one image, v is known: (alpha x_t - x_0) / sigma. And the share of images without their class."""
    image = torch.arange(28 * 28).reshape(1, 1, 28, 28).remainder(256).to(torch.uint8)
    only = Labelled(image, torch.tensor([3]))
    scaled, alphas_cumprod = Scaled.of(image), build_scheduler().alphas_cumprod
    told: list[torch.Tensor] = []

    class Perfect:
        config = SimpleNamespace(num_class_embeds=11)

        def __init__(self, wrong: float) -> None:
            self.wrong = wrong

        def __call__(self, sample: torch.Tensor, timestep: torch.Tensor, labels: torch.Tensor) -> SimpleNamespace:
            told.append(labels)
            alpha = alphas_cumprod[timestep].double().sqrt().view(-1, 1, 1, 1)
            sigma = (1 - alphas_cumprod[timestep].double()).sqrt().view(-1, 1, 1, 1)
            return SimpleNamespace(sample=(alpha * sample - scaled.patches(image)) / sigma + self.wrong)

    for wrong in (0.0, 0.5):
        loss = denoiser_loss(Perfect(wrong), only, scaled, 512, "cpu")  # type: ignore[arg-type]
        assert float(loss(0, torch.Generator().manual_seed(0))) == pytest.approx(wrong**2, abs=1e-4)
    labels = torch.cat(told)
    assert set(labels.tolist()) == {3, 10}
    assert float((labels == 10).double().mean()) == pytest.approx(NO_CLASS, abs=0.06)


def test_scaled_pixels_have_mean_0_and_deviation_1_and_come_back(model: Model, data: Path) -> None:
    images = read_labelled(DIGITS, "train", data).images
    patches = Scaled.of(images).patches(images)
    assert patches.shape == (80, 4, 14, 14)
    assert float(patches.double().mean()) == pytest.approx(0, abs=1e-5)
    assert float(patches.double().std()) == pytest.approx(1, abs=1e-5)
    back = (model.pipe.decode(patches) * 255).round().to(torch.uint8)
    assert torch.equal(back, images.expand(-1, 3, -1, -1))


def test_a_training_ends_in_a_model_that_says_what_it_is(work: Path, data: Path, model: Model) -> None:
    out = work / "out"
    assert {path.name for path in out.iterdir()} == {
        "unet", "scheduler", "model_index.json", LABEL_CLASSIFIER, REFERENCE, SUMS,
    }  # fmt: skip
    check_sums("the model", out)
    assert not [path for path in out.rglob("*.json") if str(work) in path.read_text()]
    assert {path.stat().st_mode & 0o777 for path in out.rglob("*.safetensors")} == {0o644}
    half = [value for value in load_file(out / LABEL_CLASSIFIER).values() if value.is_floating_point()]
    assert {value.dtype for value in half} == {torch.float16}
    assert model.pipe.classes == DIGITS.classes
    assert model.pipe.config.mean == Scaled.of(read_labelled(DIGITS, "train", data).images).mean
    test = read_labelled(DIGITS, "test", data)
    stored, (sure, features) = (
        load_file(out / REFERENCE),
        classify(LabelClassifier.load(out / LABEL_CLASSIFIER), test.images),
    )
    assert stored["labels"].tolist() == test.labels.tolist()
    assert stored["seen"].tolist() == sure.argmax(1).tolist()
    assert torch.allclose(stored["features"].float(), features, rtol=1e-3, atol=1e-3)


def test_a_training_is_resumed_with_what_it_began_with_alone(
    work: Path, data: Path, short: object, tmp_path: Path
) -> None:
    with pytest.raises(FolderConflict, match="holds a training run; add --resume"):
        train(data, work / "work", tmp_path / "out")
    trained: list[Progress] = []
    train(data, work / "work", tmp_path / "out", resume=True, report=trained.append)
    assert trained == []
    for path in (work / "out").rglob("*.safetensors"):
        ours, theirs = load_file(path), load_file(tmp_path / "out" / path.relative_to(work / "out"))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    other = labelled.both_splits(tmp_path / "other", DIGITS, train=70)
    with pytest.raises(FolderConflict):
        train(other, work / "work", tmp_path / "again", resume=True)
    with pytest.raises(FolderConflict, match="is not an empty folder"):
        train(data, tmp_path / "work", work / "out")
    with pytest.raises(InvalidSetting, match=r"a folder with train\.parquet"):
        train(tmp_path, tmp_path / "work", tmp_path / "new")
    with pytest.raises(UnknownName, match="there is no preset 'tpu'"):
        command.train_digits(
            "digits", data, "tpu", tmp_path, tmp_path, seed=0, device="cpu", resume=False, report=silent
        )
    with pytest.raises(UnknownName, match="there is no world 'mnist'"):
        command.train_digits(
            "mnist", data, "cpu", tmp_path, tmp_path, seed=0, device="cpu", resume=False, report=silent
        )
    assert not (tmp_path / "work").exists()


def test_train_digits_is_a_command(
    short: object, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(data), "--folder", str(tmp_path / "work"), "--outdir", str(tmp_path / "out")]
    assert main(["train", "digits", *arguments]) == 0
    assert (tmp_path / "out/model_index.json").is_file()
    assert main(["train", "digits", *arguments, "--world", "birds"]) == 2
    assert "there is no world 'birds'" in capsys.readouterr().err


def test_the_list_of_models_says_what_it_can(work: Path, model: Model) -> None:
    about = _about("tiny", work / "out")
    assert (about.pipeline, about.parameters) == (
        "ClassConditionalPipeline",
        sum(one.numel() for one in model.pipe.unet.parameters()),
    )
    assert about.abilities == (
        "makes images of 28 x 28 pixels",
        "its prompts are classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, or any",
        "its images are measured against real images by a classifier that ships with it",
    )


# the laboratory


def asked(prompt: str, *negatives: str, watch: tuple[str, ...] | None = None) -> Asked:
    return Asked(prompt, negatives, watch=watch)


def test_the_laboratory_of_classes_judges_this_model_and_that_of_portraits_does_not(model: Model) -> None:
    judging = find_judge(None, model, asked("any", "3"))
    assert isinstance(judging.judge, ClassJudge)
    assert Portraits().refuses(model, asked("any")) is not None
    assert Portraits().prior(model, "any", "3") is None
    portraits = SimpleNamespace(name="portraits", folder=None, pipe=object())
    assert "ships no classifier of classes" in str(Digits().refuses(portraits, asked("a man")))
    assert "leave out" in str(Digits().refuses(model, Asked("any", (), 28, 28)))


@pytest.mark.parametrize(
    ("prompt", "negatives", "target", "concepts", "rates"),
    [
        ("any", (), "real images", "", "0123456789"),
        ("any", ("3",), "real images without 3", "3", "012456789"),
        ("", ("5, three",), "real images without 5, 3", "53", "01246789"),
        ("4", ("3",), "real images of 4", "3", "012456789"),
        ("3", ("3",), None, "3", "012456789"),
    ],
)
def test_what_is_asked_is_what_is_measured(
    work: Path, model: Model, prompt: str, negatives: tuple[str, ...], target: str | None, concepts: str, rates: str
) -> None:
    judge = judge_of(work / "out", prompt, negatives)
    assert judge.target == target
    by_role = {role: "".join(one.name for one in judge.columns() if one.role == role) for role in ("concept", "rate")}
    assert by_role == {"concept": concepts, "rate": rates}
    assert {column.better for column in judge.columns() if column.role == "concept"} <= {"lower" if target else None}
    assert bool([column for column in judge.columns() if column.role == "score"]) == (target is not None)
    assert bool(judge.notes(100)) == (target is None)


def test_watched_classes_are_counted_and_others_are_named(work: Path, model: Model) -> None:
    judge = judge_of(work / "out", "any", ("3",), ("5", "eight"))
    assert [column.name for column in judge.columns() if column.role in ("concept", "rate")] == ["3", "5", "8"]
    with pytest.raises(InvalidSetting, match=r"watch is 'trees', but must be classes of this model: 0, 1, 2"):
        judge_of(work / "out", "any", ("3",), ("trees",))
    with pytest.raises(PromptError, match="is no class of this model"):
        judge_of(work / "out", "any", ("trees",))


NOTHING = SimpleNamespace(name="images", folder=None, pipe=None)


def test_images_of_no_known_model_are_judged_by_what_ships_or_by_a_folder(work: Path, data: Path) -> None:
    assert Digits().refuses(NOTHING, Asked("", ("3",), 28, 28)) is None
    assert Digits().judge(NOTHING, Asked("", ("3",), 28, 28)).folder == shipped()["digits"]
    own = Digits(str(work / "out"))
    assert own.refuses(NOTHING, Asked("", ("3",), 28, 28)) is None
    assert own.judge(NOTHING, Asked("", ("3",), 28, 28)).folder == work / "out"
    assert own.refuses(NOTHING, Asked("", ("3",), 64, 32)) == "its classifier sees images of 28 x 28, not of 32 x 64"
    assert "the folder 'nowhere' ships no classifier" in str(
        Digits("nowhere").refuses(NOTHING, Asked("", ("3",), 28, 28))
    )
    with pytest.raises(UnfitFeatures, match="sees images of 28 x 28, not of 30 x 28"):
        judge_of(work / "out", "any", ("3",)).see(torch.zeros(2, 3, 28, 30, dtype=torch.uint8))


def test_the_shipped_classifier_measures_folders_of_digits(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "real").mkdir()
    images = read_labelled(DIGITS, "test", data).images[:12, 0]
    for number, image in enumerate(images):
        Image.fromarray(image.numpy()).save(tmp_path / "real" / f"{number:02d}.png")
    Image.new("L", (30, 28)).save(tmp_path / "real" / "wide.png")
    asked = [str(tmp_path / "real"), "--concept", "three"]
    assert main(["measure", *asked, "--judge", "digits", "--prompt", "any", "--outdir", str(tmp_path / "out")]) == 0
    row = json.loads((tmp_path / "out" / "results.json").read_text())["methods"][0]
    probabilities = classify(LabelClassifier.load(shipped()["digits"] / LABEL_CLASSIFIER), images[:, None])[0]
    assert [image["shown"]["3"] for image in row["images"]] == (probabilities.argmax(1) == 3).int().tolist()
    assert "wide.png: the judge cannot see it: the classifier sees images of 28 x 28" in row["warnings"][0]
    # real images are as many as they are: no truth to all its digits
    assert "Truth: real images without 3, counted in labelled images." in capsys.readouterr().out.replace("\n", " ")
    assert main(["measure", *asked]) == 2
    assert "--judge is none, but must be given" in capsys.readouterr().err


def known(judge: ClassJudge, labels: list[int], seen: list[int], features: torch.Tensor) -> None:
    vars(judge)["reference"] = Reference(features, torch.tensor(labels), torch.tensor(seen))


def test_the_truth_is_real_images_of_the_kept_classes(work: Path, model: Model) -> None:
    judge = judge_of(work / "out", "any", ("3",))
    labels = [0] * 30 + [1] * 50 + [3] * 20
    features = torch.arange(100.0).unsqueeze(1).expand(-1, 4)
    known(judge, labels, [1, *labels[1:]], features)
    truth = judge.truth(10)
    assert truth is not None
    assert truth.rates == {"3": 0.0, "0": 0.375, "1": 0.625} | dict.fromkeys("2456789", 0.0)
    assert truth.images == 80
    assert truth.features is not None
    assert truth.perfect is not None
    assert truth.features[:, 0].tolist() == list(range(0, 80, 2))
    assert truth.perfect[:, 0].tolist() == list(range(1, 20, 2))
    assert judge.errors()["0"] == judge.errors()["1"] == 0.01
    assert judge.errors()["3"] == 0.0
    shown = {name: torch.zeros(8) for name in DIGITS.classes}
    shown["1"], shown["3"] = torch.ones(8), torch.tensor([1, 1, 0, 0, 0, 0, 0, 0])
    found = judge.measure(Seen(shown, {}, features[:8]))
    assert (found["3"].value, found["3"].truth) == (0.25, 0.0)
    assert (found["1"].value, found["1"].truth) == (1.0, 0.625)
    nothing = judge_of(work / "out", "3", ("3",))
    known(nothing, labels, labels, features)
    assert nothing.truth(10) is None
    assert set(nothing.measure(Seen(shown, {}, features[:8]))) == set(DIGITS.classes)


def test_it_sees_what_the_classifier_sees_image_by_image(work: Path, model: Model, data: Path) -> None:
    judge, images = judge_of(work / "out", "any", ("3",)), read_labelled(DIGITS, "test", data).images
    gray = images.expand(-1, 3, -1, -1)
    seen = judge.see(gray)
    with torch.no_grad():
        logits = judge.classifier(images.float() / 127.5 - 1)
    assert torch.stack([seen.shown[name] for name in DIGITS.classes], 1).argmax(1).tolist() == logits.argmax(1).tolist()
    assert torch.allclose(seen.probabilities["3"], logits.softmax(1)[:, 3], atol=1e-5)
    alone = judge.see(gray[7:8])
    assert seen.features is not None
    assert alone.features is not None
    assert torch.allclose(alone.features, seen.features[7:8], atol=1e-4)


def test_the_prior_is_the_share_among_real_images(model: Model) -> None:
    assert Digits().prior(model, "any", "3") == pytest.approx(0.1)
    assert Digits().prior(model, "3", "three") == 0.95
    assert Digits().prior(model, "4", "3") == 0.05
    assert Digits().prior(model, "any", "trees") is None


@pytest.mark.parametrize("name", [LABEL_CLASSIFIER, REFERENCE])
def test_damaged_files_are_refused_before_an_image_is_made(work: Path, model: Model, tmp_path: Path, name: str) -> None:
    (tmp_path / "unet").mkdir()
    for path in (LABEL_CLASSIFIER, REFERENCE, "model_index.json", "unet/config.json"):
        (tmp_path / path).write_bytes((work / "out" / path).read_bytes())
    stored = load_file(work / "out" / name)
    damaged = {key: value[:5] if value.ndim else value for key, value in stored.items() if key != "labels"}
    for write in (lambda path: path.write_bytes(b"no"), lambda path: save_file(damaged, path)):
        write(tmp_path / name)
        with pytest.raises(UnsupportedModel, match=r"cannot be read \(.*steerclear train digits"):
            Digits().judge(replace(model, folder=tmp_path), asked("any"))


# the commands


def test_images_are_generated_by_class(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", str(work / "out"), "--seeds", "0-1", "--steps", "2", "--outdir", str(tmp_path / "images")]
    assert main(["generate", "any", "--negative-prompt", "5", *arguments]) == 0
    assert len(list((tmp_path / "images").glob("0*.png"))) == 2
    assert main(["generate", "a cat", *arguments[:-1], str(tmp_path / "other")]) == 2
    assert "'a cat' is no class of this model; it has 0, 1, 2" in " ".join(capsys.readouterr().err.split())


def test_a_comparison_is_measured_and_leaves_out_what_cannot_be_asked(work: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(work / "out"), "--seeds", "0-3", "--steps", "2"]
    assert main(["compare", "any", "--negative-prompt", "3", *arguments, "--outdir", str(tmp_path / "any")]) == 0
    found = json.loads((tmp_path / "any/results.json").read_text())
    assert found["target"] == "real images without 3"
    assert found["columns"][0]["name"] == "3"
    names = [method["name"] for method in found["methods"]]
    assert names == ["unguided", "negative", "dynamic-negative", "looking", "redraw"]
    why = "the prompt 'any' names no class, so classifier-free guidance equals unguided, at twice the evaluations."
    told = [note for note in found["notes"] if note.endswith(why)]
    assert [note.removesuffix(why) for note in told] == ["Classifier-free guidance is left out: ", "drawn again: "]
    assert [note for note in found["notes"] if "is left out: 'any without 3' is no class" in note]
    assert main(["compare", "4", "--negative-prompt", "3", *arguments, "--outdir", str(tmp_path / "four")]) == 0
    found = json.loads((tmp_path / "four/results.json").read_text())
    assert [method["name"] for method in found["methods"]] == ["unguided", "cfg", "negative", "redraw"]
    assert not any("names no class" in note for note in found["notes"])
    assert [note for note in found["notes"] if note.startswith("Dynamic negative is left out: '4, 3' names several")]


def test_the_benchmark_is_measured_and_goes_on(work: Path, data: Path, tmp_path: Path) -> None:
    settings = {"model": str(work / "out"), "data": str(data), "images": 30, "num_inference_steps": 2, "batch_size": 20}
    done: list[int] = []
    found = DigitsBenchmark(**settings).run(tmp_path, lambda stage: lambda count, total: done.append(count))
    assert done == [20, 30]
    files = sorted((tmp_path / "features").rglob("*.safetensors"))
    assert [path.stem for path in files] == ["0-19", "20-29"]
    stored = [load_file(path) for path in files]
    features, seen = (torch.cat([one[name] for one in stored]) for name in ("features", "seen"))
    classifier = LabelClassifier.load(work / "out" / LABEL_CLASSIFIER)
    half = classify(classifier, read_labelled(DIGITS, "train", data).images[:40])[1]
    test = read_labelled(DIGITS, "test", data)
    sure, real = classify(classifier, test.images)
    ratio = frechet_distance(features, half) / frechet_distance(real[:30], half)
    assert found.claims[0].value == pytest.approx(ratio, rel=1e-9)
    assert found.claims[1].value == float((sure.argmax(1) == test.labels).double().mean())
    assert found.claims[2].value == pytest.approx(abs(float((seen == 0).double().mean()) - 0.1), abs=1e-9)
    assert len(found.claims) == 12
    kept = [path.stat().st_mtime_ns for path in files]
    assert DigitsBenchmark(**settings).run(tmp_path) == found
    assert [path.stat().st_mtime_ns for path in files] == kept
    other = DigitsBenchmark(**{**settings, "scheduler": "dpm++ 2m karras"}).run(tmp_path)
    assert other.scheduler != found.scheduler
    assert other.claims[0].value != found.claims[0].value
    with pytest.raises(UnsupportedModel, match="needs one with named classes"):
        DigitsBenchmark(model="portraits", data=str(data), images=1).run(tmp_path)
