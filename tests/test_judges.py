"""Judges of one's own: a function by its name, a network of the hub, a folder of labelled images."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import tiny_vision
from steerclear.cli.app import main
from steerclear.core.errors import InvalidSetting, SteerclearWarning, UnknownName, UnsupportedModel
from steerclear.core.laboratory import Asked, Judge, Laboratory
from steerclear.core.logistic import fit
from steerclear.core.parsing import parse_part
from steerclear.features.pixels import PixelFeatures
from steerclear.laboratories.callable import ImportedFunction
from steerclear.laboratories.hub import HubNetwork, question
from steerclear.laboratories.labels import LabelledImages, learned_class
from steerclear.laboratories.shared.probabilities import Vocabulary
from steerclear.study.measure import find_judge, named_judge
from steerclear.study.results import Results
from steerclear.testbeds.labelled_folder import read_image

DETECTOR = '''
"""A judge of one's own."""
import torch

def colors(images):
    means = images.double().mean((2, 3)) / 255
    return {"red": means[:, 0], "green": means[:, 1], "blue light": means[:, 2]}

def one(images):
    return {"red": images[:, 0, 0, 0].double() / 255}

class Judge:
    @staticmethod
    def see(images):
        return one(images)

def fails(images):
    raise ZeroDivisionError("no images today")

def bare(images):
    return images.double().mean((1, 2, 3))

def nothing(images):
    return {}

def wide(images):
    return {"red": images.double()}

NUMBER = 5
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with a module of one's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_detector.py").write_text(DETECTOR)
    (tmp_path / "broken_detector.py").write_text("import nowhere_to_be_found")
    (tmp_path / "leaving_detector.py").write_text("raise SystemExit(3)")
    yield tmp_path
    for name in ("own_detector", "broken_detector", "leaving_detector"):
        sys.modules.pop(name, None)


def judge_of(laboratory: Laboratory, *negatives: str, watch: tuple[str, ...] | None = None) -> Judge:
    return laboratory.judge(None, Asked("a man", negatives, watch=watch))  # type: ignore[arg-type]


def columns(judge: Judge) -> dict[str, str]:
    return {column.name: column.role for column in judge.columns()}


# a function


def test_a_function_of_ones_own_is_named(here: Path) -> None:
    laboratory = named_judge("own_detector:colors")
    assert (
        laboratory == ImportedFunction("own_detector:colors") == parse_part("callable:own_detector:colors", Laboratory)
    )
    assert Laboratory.from_config(laboratory.to_config()) == laboratory
    path = list(sys.path)
    judge = judge_of(laboratory, "red")
    assert sys.path == path
    assert columns(judge) == {"red": "concept", "green": "rate", "blue light": "rate"}
    images = tiny_vision.images(40)
    seen = judge.see(images)
    assert torch.allclose(seen.probabilities["green"], images[:, 1].double().mean((1, 2)) / 255)
    share = float((images[:, 1].double().mean((1, 2)) > 127.5).double().mean())
    assert judge.measure(seen)["green"].value == share
    assert (judge.target, judge.features, judge.errors()) == (None, None, {})
    assert judge_of(named_judge("own_detector:Judge.see")).see(images).shown["red"].shape == (40,)


def test_a_function_in_a_package_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "package_of_faces").mkdir()
    (here / "package_of_faces" / "__init__.py").write_text("")
    (here / "package_of_faces" / "faces.py").write_text(DETECTOR)
    judge = find_judge("package_of_faces.faces:one", None, Asked("a man", ("a red",))).judge  # type: ignore[arg-type]
    assert judge is not None
    assert columns(judge) == {"red": "concept"}
    for name in ("package_of_faces", "package_of_faces.faces"):
        monkeypatch.delitem(sys.modules, name)


def test_what_is_watched_chooses_the_columns(here: Path) -> None:
    laboratory = ImportedFunction("own_detector:colors")
    assert columns(judge_of(laboratory, "red", watch=("Blue Light", "red"))) == {"red": "concept", "blue light": "rate"}
    assert columns(judge_of(laboratory, "red", watch=())) == {"red": "concept"}
    with pytest.raises(
        InvalidSetting, match=r"watch is 'trees', but must be something that this judge knows: red, green, blue light"
    ):
        judge_of(laboratory, "red", watch=("green", "trees"))
    with pytest.warns(
        SteerclearWarning, match=r"knows nothing that the negative prompt names \('mustache'\).*it knows: red, green"
    ):
        assert set(columns(judge_of(laboratory, "mustache")).values()) == {"rate"}


def test_of_many_names_only_those_asked_for_are_columns() -> None:
    many = tuple(f"thing {number}" for number in range(1000))
    assert Vocabulary.of(many, Asked("", ("thing 7",))).names == ("thing 7",)
    assert Vocabulary.of(many, Asked("", ("thing 7",), watch=("thing 999",))).names == ("thing 7", "thing 999")
    with pytest.raises(InvalidSetting, match="thing 19 and 980 more"):
        Vocabulary.of(many, Asked("", (), watch=("nothing",)))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("own_detector:faces", "own_detector has Judge, bare, colors, fails, nothing, one, wide"),
        ("own_detector:Judge.hear", "must be package.module:function"),
        ("own_detector:NUMBER", "it is a int, which cannot be called"),
        ("own_detector:fails", "on one gray image it raised ZeroDivisionError: no images today"),
        ("own_detector:bare", r"must be a function that gives a mapping of names to probabilities; on one gray image it gave tensor"),
        ("own_detector:nothing", r"a mapping of names to probabilities; on one gray image it gave \{\}"),
        ("broken_detector:one", "importing broken_detector raised ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("leaving_detector:one", "importing leaving_detector raised SystemExit: 3"),
        ("no_package.detector:one", "importing no_package.detector raised ModuleNotFoundError"),
    ],
)  # fmt: skip
def test_functions_that_cannot_be_used(name: str, sentence: str, here: Path) -> None:
    with pytest.raises(InvalidSetting, match=sentence):
        judge_of(named_judge(name))


def test_a_function_of_the_wrong_shape_is_refused_before_anything_is_made(here: Path) -> None:
    with pytest.raises(
        ValueError, match=r"own_detector:wide gave shape \[1, 3, 64, 64\].* one probability in \[0, 1\] per image"
    ):
        judge_of(named_judge("own_detector:wide"))


def test_a_misspelled_laboratory_is_not_taken_for_a_function(here: Path) -> None:
    for text in ("portrait:second", "labls:folder", "clib:x"):
        with pytest.raises(UnknownName, match=r"there is no laboratory .*package.module:function"):
            named_judge(text)


def test_compare_takes_a_function(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "a man", "--negative-prompt", "red", "--methods", "unguided", "--seeds", "0-1", "--steps", "1",
                 "--outdir", "out", "--format", "json", "--judge", "own_detector:colors"]) == 0  # fmt: skip
    found = Results.model_validate_json(capsys.readouterr().out)
    assert found.judge == {"_class_name": "ImportedFunction", "function": "own_detector:colors"}
    pictures = [np.array(Image.open(path)) for path in sorted(Path("out/images/unguided").glob("*.png"))]
    for image, picture in zip(found.methods[0].images, pictures, strict=True):
        assert image.probability["red"] == pytest.approx(picture[..., 0].mean() / 255, abs=1e-4)


# a network of the hub


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("networks")
    kinds: dict[str, Callable[[Path], Path]] = {
        "classifier": tiny_vision.classifier, "detector": tiny_vision.detector, "vilt": tiny_vision.vilt,
        "blip": tiny_vision.blip, "clip": tiny_vision.clip,
        "several": lambda folder: tiny_vision.classifier(folder, problem_type="multi_label_classification"),
    }  # fmt: skip
    return {name: make(root / name) for name, make in kinds.items()}


def pillows(images: Tensor) -> list[Image.Image]:
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


@pytest.mark.parametrize("kind", ["classifier", "several", "detector", "vilt", "blip"])
def test_image_k_is_judged_alone(kind: str, networks: dict[str, Path]) -> None:
    asks = {"watch": ("red hat",)} if kind in ("vilt", "blip") else {}
    judge = judge_of(HubNetwork(str(networks[kind])), "cat", **asks)
    images = tiny_vision.images(6, 24)
    together = judge.see(images).probabilities
    assert {*together} >= {"cat", "red hat"}
    assert max(float(values.max() - values.min()) for values in together.values()) > 1e-3
    for name, values in together.items():
        alone = torch.cat([judge.see(images[k : k + 1]).probabilities[name] for k in range(6)])
        assert torch.allclose(values, alone, atol=1e-4)


def test_a_classifier_of_the_hub(networks: dict[str, Path]) -> None:
    from transformers import AutoImageProcessor, ViTForImageClassification

    images = tiny_vision.images(4, 24)
    for name, squash in (("classifier", lambda logits: logits.softmax(1)), ("several", torch.sigmoid)):
        processor = AutoImageProcessor.from_pretrained(networks[name], backend="pil")
        with torch.no_grad():
            logits = (
                ViTForImageClassification.from_pretrained(networks[name])
                .eval()(**processor(pillows(images), return_tensors="pt"))
                .logits
            )
        judge = judge_of(named_judge(f"hub:{networks[name]}"), "a hound")
        assert columns(judge) == {"dog, hound": "concept", "cat": "rate", "red hat": "rate"}
        found = judge.see(images).probabilities
        for place, label in tiny_vision.LABELS.items():
            assert torch.allclose(found[label], squash(logits)[:, place].double(), atol=1e-5)


def test_a_detector_of_the_hub(networks: dict[str, Path]) -> None:
    from transformers import AutoImageProcessor, YolosForObjectDetection

    images = tiny_vision.images(4, 24)
    processor = AutoImageProcessor.from_pretrained(networks["detector"], backend="pil")
    with torch.no_grad():
        logits = (
            YolosForObjectDetection.from_pretrained(networks["detector"])
            .eval()(**processor(pillows(images), return_tensors="pt"))
            .logits
        )
    sure = logits.softmax(-1)[..., :-1]  # the last is "nothing"
    best = torch.where(sure == sure.amax(-1, keepdim=True), sure, 0).amax(1)
    found = judge_of(HubNetwork(str(networks["detector"]))).see(images).probabilities
    for place, label in tiny_vision.LABELS.items():
        assert torch.allclose(found[label], best[:, place].double(), atol=1e-5)


def test_networks_that_answer_questions(networks: dict[str, Path]) -> None:
    from transformers import AutoImageProcessor, AutoTokenizer, BlipForQuestionAnswering, ViltForQuestionAnswering

    images = tiny_vision.images(2, 24)
    for name, kind in (("vilt", ViltForQuestionAnswering), ("blip", BlipForQuestionAnswering)):
        model = kind.from_pretrained(networks[name]).eval()
        pixels = AutoImageProcessor.from_pretrained(networks[name], backend="pil")(pillows(images), return_tensors="pt")
        words = AutoTokenizer.from_pretrained(networks[name])(
            ["is there a hat in the picture?"] * 2, return_tensors="pt"
        )
        with torch.no_grad():
            if name == "vilt":
                yes, no = model(**words, **pixels).logits[:, 1:3].double().unbind(1)
            else:
                written = model.generate(words.input_ids, pixels.pixel_values, words.attention_mask, max_new_tokens=1,
                                         return_dict_in_generate=True, output_logits=True, do_sample=False)  # fmt: skip
                yes, no = written.logits[0][:, 5:7].double().unbind(1)
        judge = judge_of(HubNetwork(str(networks[name])), "hat", watch=("people",))
        assert columns(judge) == {"hat": "concept", "people": "rate"}
        before = torch.get_rng_state()
        assert torch.allclose(judge.see(images).probabilities["hat"], (yes - no).sigmoid(), atol=1e-4)
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("word", "asked"),
    [
        ("glasses", "are there glasses in the picture?"), ("grass", "is there a grass in the picture?"),
        ("the sea", "is there the sea in the picture?"), ("two people", "are there two people in the picture?"),
        ("Apple tree", "is there an Apple tree in the picture?"), ("any text", "is there any text in the picture?"),
    ],
)  # fmt: skip
def test_questions_are_grammatical(word: str, asked: str) -> None:
    assert question(word) == asked


def test_networks_of_the_hub_that_cannot_judge(networks: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(
        UnsupportedModel, match=r"it is a CLIPModel, but must be .*; the judges clip and siglip take it"
    ):
        judge_of(HubNetwork(str(networks["clip"])))
    with pytest.raises(InvalidSetting, match="words to ask for, as there is no negative prompt"):
        judge_of(HubNetwork(str(networks["vilt"])))
    silent = tiny_vision.vilt(tmp_path / "silent", {0: "two", 1: "three", 2: "blue"})
    with pytest.raises(UnsupportedModel, match="its answers have no yes and no; they are two, three, blue"):
        judge_of(HubNetwork(str(silent)), "hat")
    with pytest.raises(
        InvalidSetting, match="watch is 'boat', but must be something that this judge knows: cat, dog, hound, red hat"
    ):
        judge_of(HubNetwork(str(networks["detector"])), "cat", watch=("boat",))


# a folder of labelled images


def labelled(
    folder: Path, count: int = 24, classes: tuple[str, ...] = ("red", "none"), noise: int = 60, side: int = 12
) -> Path:
    """Noisy images whose red, green or blue says their class."""
    generator = np.random.default_rng(0)
    colors = {"red": 0, "green": 1, "blue": 2}
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            image = generator.integers(100 - noise, 100 + noise, (side, side, 3))
            if name in colors:
                image[..., colors[name]] += 60
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number:03d}.png")
    return folder


SMALL = PixelFeatures(size=2)


def test_a_folder_of_labelled_images_is_a_judge(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "faces", classes=("red", "green", "none"))
    laboratory = named_judge(f"labels:folder={folder},features=pixels(size=2)")
    assert laboratory == LabelledImages(str(folder), SMALL)
    assert Laboratory.from_config(laboratory.to_config()) == laboratory
    judge = judge_of(laboratory, "red")
    assert columns(judge) == {"red": "concept", "green": "rate"}
    assert judge.errors() == {"red": 0, "green": 0}
    assert judge.error_source == (f"5-fold cross-validation on the 72 labelled images in {folder}, with colors of images shrunk to "
                                  f"2 x 2 pixels")  # fmt: skip
    fresh = torch.full((3, 3, 20, 20), 100, dtype=torch.uint8)
    fresh[0, 0], fresh[1, 1] = 160, 160
    seen = judge.see(fresh)
    assert (seen.shown["red"].tolist(), seen.shown["green"].tolist()) == ([1, 0, 0], [0, 1, 0])
    assert torch.equal(seen.features, SMALL.of(fresh))
    assert judge.features == SMALL.described
    alone = judge.see(fresh[1:2])
    assert torch.allclose(alone.probabilities["green"], seen.probabilities["green"][1:2], atol=1e-4)


def test_the_error_is_that_of_images_which_chose_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    errors, areas = [], []
    for _ in range(20):  # labels by chance: more features than images, so that every fit is perfect on its own images
        vectors = torch.randn(40, 100, generator=generator, dtype=torch.float64)
        shown = torch.rand(40, generator=generator) < 0.5
        found = learned_class(vectors, shown)
        assert bool((((vectors @ found.weights + found.intercept) > 0) == shown).all()) or found.error > 0.2
        errors.append(found.error)
        areas.append(found.auc)
    assert np.mean(errors) == pytest.approx(0.5, abs=0.07)
    assert np.mean(areas) == pytest.approx(0.5, abs=0.08)


def test_the_error_is_that_of_fresh_images() -> None:
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(30, generator=generator, dtype=torch.float64)

    def drawn(count: int) -> tuple[Tensor, Tensor]:
        shown = torch.rand(count, generator=generator) < 0.4
        vectors = torch.randn(count, 30, generator=generator, dtype=torch.float64)
        return vectors + (shown.double()[:, None] - 0.5) * direction * 0.4, shown

    said, true = [], []
    for _ in range(10):
        found = learned_class(*drawn(80))
        vectors, shown = drawn(4000)
        said.append(found.error)
        true.append(float((((vectors @ found.weights + found.intercept) > 0) != shown).double().mean()))
    assert np.mean(said) == pytest.approx(np.mean(true), abs=0.035)


def test_the_fit_in_the_span_of_the_features_is_the_whole_fit() -> None:
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(24, 60, generator=generator, dtype=torch.float64)
    shown = vectors[:, 0] + 0.5 * torch.randn(24, generator=generator, dtype=torch.float64) > 0
    found = learned_class(vectors, shown)
    centered = vectors - vectors.mean(0)
    scaled = centered / centered.square().sum(1).mean().sqrt()
    whole = [fit(scaled, shown, ridge) for ridge in (0.01, 0.1, 1.0, 10.0)]
    ours = vectors @ found.weights + found.intercept
    nearest = min(float((scaled @ weights + intercept - ours).abs().max()) for weights, intercept in whole)
    assert nearest < 1e-6


def test_an_image_in_several_subfolders_shows_them_all(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "x", classes=("red", "green", "none"))
    for path in sorted((folder / "red").glob("*.png"))[:12]:
        path.rename(folder / "green" / f"also_{path.name}")
        (folder / "red" / path.name).write_bytes((folder / "green" / f"also_{path.name}").read_bytes())
    from steerclear.testbeds.labelled_folder import read_labelled_folder

    read = read_labelled_folder(folder)
    assert len(read.images) == 72
    assert sum(one == {"red", "green"} for one in read.shown) == 12
    assert sum(one == {"red"} for one in read.shown) == 12
    assert sum(not one for one in read.shown) == 24


def test_images_of_any_size_and_format(tmp_path: Path) -> None:
    red = np.zeros((30, 20, 3), np.uint8)
    red[..., 0] = 200
    rgb = Image.fromarray(red)
    half = Image.fromarray(np.dstack([red, np.full((30, 20), 0, np.uint8)]), "RGBA")
    deep = Image.fromarray(np.full((30, 20), 257 * 100, np.uint16))
    for name, image, expected, size in [
        ("a.jpg", rgb, (200, 0, 0), (30, 20)), ("b.png", half, (255, 255, 255), (30, 20)), ("c.webp", rgb, (200, 0, 0), (30, 20)),
        ("d.gif", rgb, (200, 0, 0), (30, 20)), ("e.png", deep, (100, 100, 100), (30, 20)),
        ("f.png", rgb.resize((2000, 1000)), (200, 0, 0), (256, 512)), ("g.bmp", rgb.convert("L"), (60, 60, 60), (30, 20)),
    ]:  # fmt: skip
        image.save(tmp_path / name)
        found = read_image(tmp_path / name)
        assert (found.dtype, found.shape) == (torch.uint8, (3, *size)), name
        assert found.double().mean((1, 2)).tolist() == pytest.approx(expected, abs=4), name
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    rgb.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (3, 20, 30)


def test_a_broken_image_is_named_and_left_out(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "x")
    whole = (folder / "red" / "000.png").read_bytes()
    broken = {
        "half.png": whole[: len(whole) // 2],
        "empty.jpg": b"",
        "text.png": b"not an image",
        "head.webp": whole[:20],
    }
    for name, content in broken.items():
        (folder / "none" / name).write_bytes(content)
    (folder / "none" / "notes.txt").write_text("not an image, and not taken for one")
    (folder / ".hidden").mkdir()
    with pytest.warns(
        SteerclearWarning, match=r"images that cannot be read are left out: .*empty.jpg .*; .*; .*; and 1 more"
    ) as caught:
        judge = judge_of(LabelledImages(str(folder), SMALL), "red")
    assert len(caught) == 1
    assert "the 48 labelled images" in judge.error_source


def test_folders_that_are_no_labels(tmp_path: Path) -> None:
    def said(change: Callable[[Path], Any], kind: type[Exception], match: str) -> None:
        folder = labelled(tmp_path / str(len(list(tmp_path.iterdir()))), 8)
        change(folder)
        with pytest.raises(kind, match=match):
            judge_of(LabelledImages(str(folder), SMALL), "red")

    def empty(place: str) -> Callable[[Path], None]:
        return lambda folder: [path.unlink() for path in (folder / place).iterdir()] and None

    said(empty("none"), InvalidSetting, "the only one with images is red")
    said(lambda folder: (folder / "none" / "000.png").unlink(), InvalidSetting, "of what is not red it has 7")
    said(
        lambda folder: (folder / "red" / "000.png").unlink(),
        InvalidSetting,
        "at least 8 images of each class, and .* of red it has 7",
    )
    said(
        lambda folder: (folder / "red").rename(folder / "other"),
        InvalidSetting,
        "at least one class beside none and other",
    )
    with pytest.raises(InvalidSetting, match="there is no such folder"):
        judge_of(LabelledImages(str(tmp_path / "nowhere"), SMALL))
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSetting, match="it is a file"):
        judge_of(LabelledImages(str(tmp_path / "file"), SMALL))


def test_a_judge_that_is_often_wrong_says_so(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "x", classes=("here", "none"))  # equal but for chance
    judge = judge_of(LabelledImages(str(folder), SMALL), "here")
    assert judge.errors()["here"] > 0.2
    assert any("The judge is wrong about 'here' in" in note for note in judge.notes(10))


@pytest.mark.parametrize("features", ["nothing", "clip(model=nowhere)", "pixels(size=0)"])
def test_labels_need_features_that_are_there(features: str, tmp_path: Path) -> None:
    folder = labelled(tmp_path / "x", 8)
    with pytest.raises((UnknownName, UnsupportedModel, InvalidSetting), match=r"nothing|nowhere|size is 0"):
        judge_of(named_judge(f"labels:folder={folder},features={features}"))
