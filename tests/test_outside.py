"""Anybody's folders of images: read with care, judged one by one, compared with a reference, told as a comparison is."""

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import steerclear
from bad_files import BAD, PIXELS, encoded
from steerclear.core.errors import (
    FolderConflict,
    InvalidSetting,
    SteerclearError,
    SteerclearWarning,
    UnfitFeatures,
)
from steerclear.core.laboratory import Asked, Judge, Laboratory, Seen
from steerclear.features.pixels import PixelFeatures
from steerclear.laboratories.classifier import Classifier
from steerclear.study import judgements, outside
from steerclear.study.again import check_images, read_run
from steerclear.study.judgements import Judgements
from steerclear.study.outside import Outside, measure_folders, words
from steerclear.study.outside_folders import image_folders, pair_names
from steerclear.study.reading import Unreadable, candidates, read_pixels
from steerclear.study.results import Results
from steerclear.telling.looking import differing_images, unsure_images, who
from steerclear.telling.report import write_all
from steerclear.telling.summary import question, summary


def red(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The share of red of an image, and of green."""
    share = images.float().mean((2, 3)) / 255
    return {"red": share[:, 0], "green": share[:, 1]}


RED = Classifier(red, ("red", "green"))
GREEN = Classifier(lambda images: {"red": red(images)["green"]}, ("red",))


def paint(path: Path, red: float, green: float = 0.0, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (round(255 * red), round(255 * green), 40)).save(path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders of ten images: three red ones of which one is at 70 %, and six; of different sizes."""
    for k in range(10):
        paint(tmp_path / "a" / f"{k}.png", 0.7 if k == 0 else float(k < 3), float(k % 2), (8, 8 + 4 * (k % 2)))
        paint(tmp_path / "b" / f"{k:05d}.png", float(k < 6), 0.9)
    return tmp_path / "a", tmp_path / "b"


# reading


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    name, write, said = BAD[kind]
    write(tmp_path / name)
    assert [path.name for path in candidates(tmp_path)] == [name]
    with pytest.raises(Unreadable) as refused:
        read_pixels(tmp_path / name)
    assert said in str(refused.value)
    assert not set(str(refused.value)) & set("\n<>")


def test_there_are_at_least_twenty_kinds_of_bad_files() -> None:
    assert len(BAD) >= 20


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = paint(tmp_path / "a.png", 1)
    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(Unreadable, match="it may not be read"):
        read_pixels(path)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA", "PCX", "ICO", "WEBP"])
def test_formats_without_loss_give_the_pixels(kind: str, tmp_path: Path) -> None:
    lossless = {"lossless": True} if kind == "WEBP" else {"sizes": [(32, 32)]} if kind == "ICO" else {}
    path = tmp_path / f"image.{kind.lower()}"
    path.write_bytes(encoded(kind, **lossless))
    assert torch.equal(read_pixels(path), torch.from_numpy(PIXELS).permute(2, 0, 1))


def test_a_wrong_or_missing_suffix_is_no_matter(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(encoded("BMP"))
    (tmp_path / "photo").write_bytes(encoded("PNG"))
    (tmp_path / "photo.txt").write_text("a caption")
    (tmp_path / ".hidden.png").write_bytes(encoded("PNG"))
    assert [path.name for path in candidates(tmp_path)] == ["photo", "photo.png"]
    assert torch.equal(read_pixels(tmp_path / "photo"), read_pixels(tmp_path / "photo.png"))


def test_modes_become_what_a_person_sees(tmp_path: Path) -> None:
    def saved(image: Image.Image, name: str, **settings: object) -> list[int]:
        image.save(tmp_path / name, **settings)
        return read_pixels(tmp_path / name)[:, 0, 0].tolist()

    assert saved(Image.new("RGBA", (4, 4), (255, 0, 0, 51)), "clear.png") == [255, 204, 204]  # a fifth of red on white
    assert saved(Image.new("LA", (4, 4), (0, 0)), "gray.png") == [255, 255, 255]
    deep = Image.fromarray(np.full((4, 4), 257 * 100, np.uint16))
    assert saved(deep, "deep.png") == [100, 100, 100]
    assert saved(Image.fromarray(np.full((4, 4), 0.2, np.float32)), "float.tiff") == [51, 51, 51]
    assert saved(Image.new("1", (4, 4), 1), "bits.png") == [255, 255, 255]
    assert saved(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "print.tiff") == [255, 0, 0]
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([9, 9, 9, 10, 20, 30])
    assert saved(palette, "palette.png") == [10, 20, 30]
    assert saved(palette, "palette.gif", transparency=1) == [255, 255, 255]


def test_of_an_animation_the_first_frame_and_the_camera_is_believed(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ((200, 0, 0), (0, 200, 0))]
    frames[0].save(tmp_path / "film.png", save_all=True, append_images=frames[1:])
    assert read_pixels(tmp_path / "film.png")[:, 0, 0].tolist() == [200, 0, 0]

    picture = Image.new("RGB", (6, 2))
    picture.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the upper left corner is the upper right one
    picture.save(tmp_path / "turned.png", exif=exif)
    turned = read_pixels(tmp_path / "turned.png")
    assert turned.shape == (3, 6, 2)
    assert turned[0].nonzero().tolist() == [[0, 1]]


# folders


def test_labels_tell_folders_apart_and_pairs_have_one_name(tmp_path: Path) -> None:
    for name in ("x/a", "y/a", "b"):
        paint(tmp_path / name / "0.png", 1)
    found = image_folders([tmp_path / "x/a", tmp_path / "y/a", tmp_path / "b"])
    assert [one.label for one in found] == ["x/a", "y/a", "b"]
    assert [one.name for one in found] == ["x-a", "y-a", "b"]
    assert pair_names([[Path("7.png"), Path("z.jpg")], [Path("007.webp")]]) == [["7", "z"], ["7"]]


def test_a_comparison_stands_for_its_methods(tmp_path: Path) -> None:
    for method in ("cfg", "unguided"):
        paint(tmp_path / "run/images" / method / "00000.png", 1)
    (tmp_path / "run/results.json").write_text("{}")
    assert [one.label for one in image_folders([tmp_path / "run"])] == ["cfg", "unguided"]


def test_a_folder_given_twice_is_measured_once(folders: tuple[Path, Path]) -> None:
    with pytest.warns(SteerclearWarning, match="given more than once"):
        assert len(image_folders([folders[0], folders[0] / ".." / "a"])) == 1


# judging


def test_rates_are_exact_and_sizes_do_not_matter(folders: tuple[Path, Path], tmp_path: Path) -> None:
    results = measure_folders(Outside(folders, ("red",)), tmp_path / "out", judge=RED, batch_size=3)
    a, b = results.methods
    assert (a.measurements["red"].value, b.measurements["red"].value) == (0.3, 0.6)
    assert (a.measurements["green"].value, b.measurements["green"].value) == (0.5, 1.0)
    assert [image.seed for image in a.images] == [image.seed for image in b.images] == list(range(10))
    for method, folder in zip((a, b), folders, strict=True):
        for image in method.images:
            path = (tmp_path / "out" / image.file).resolve()
            assert path.parent == folder.resolve()
            alone = red(read_pixels(path)[None])["red"].item()
            assert image.probability["red"] == pytest.approx(alone, abs=1e-4)
    assert (results.model, results.seeds, results.target, results.truth) == (None, None, None, None)
    check_images(results, tmp_path / "out")


def test_broken_files_are_named_and_the_others_measured(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for name, write, _ in BAD.values():
        write(folders[0] / name)
    a, b = measure_folders(Outside(folders, ("red",)), tmp_path / "out", judge=RED).methods
    assert a.measurements["red"].value == 0.3
    assert a.warnings[0].startswith(f"{len(BAD)} of {len(BAD) + 10} files are left out: ")
    assert all(name in a.warnings[0] for name, _, _ in BAD.values())
    assert b.warnings == []


class Counting(Laboratory):
    """Counts the images that it has seen; refuses those of 12 pixels if asked to, and stops at one."""

    name = "counting"

    def __init__(self, stop: int | None = None, narrow: bool = False) -> None:
        self.stop, self.narrow, self.seen = stop, narrow, 0

    def __eq__(self, other: object) -> bool:
        return self is other

    def to_config(self) -> dict[str, object]:
        return {"_class_name": "Counting"}

    def refuses(self, model: object, asked: Asked) -> None:
        return None

    def judge(self, model: object, asked: Asked) -> Judge:
        inside = RED.judge(model, asked)
        see = inside.see

        def counted(images: torch.Tensor) -> Seen:
            self.seen += len(images)
            if self.stop is not None and self.seen > self.stop:
                raise KeyboardInterrupt
            if self.narrow and images.shape[2] == 12:
                raise UnfitFeatures("images of 12 pixels are too high.")
            return see(images)

        object.__setattr__(inside, "see", counted)
        return inside


def test_a_stopped_run_goes_on(folders: tuple[Path, Path], tmp_path: Path) -> None:
    asked, first, second = Outside(folders, ("red",)), Counting(stop=4), Counting()
    with pytest.raises(KeyboardInterrupt):
        measure_folders(asked, tmp_path / "out", judge=first, batch_size=2)
    went_on = measure_folders(asked, tmp_path / "out", judge=second, batch_size=2)
    assert second.seen == 3  # of seven: the others of the twenty files are copies
    again = Counting()
    assert measure_folders(asked, tmp_path / "out", judge=again).methods == went_on.methods
    assert again.seen == 0
    fresh = measure_folders(asked, tmp_path / "other", judge=Counting())
    assert [one.measurements for one in fresh.methods] == [one.measurements for one in went_on.methods]


def test_a_damaged_file_of_judgements_is_made_again(folders: tuple[Path, Path], tmp_path: Path) -> None:
    asked = Outside(folders, ("red",))
    before = measure_folders(asked, tmp_path / "out", judge=Counting())
    shard = next((tmp_path / "out/judgements").rglob("*.safetensors"))
    shard.write_bytes(b"damaged")
    assert measure_folders(asked, tmp_path / "out", judge=Counting()).methods == before.methods


def test_what_a_function_saw_is_not_kept_because_it_may_be_another_one(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    asked = Outside(folders, ("red",))
    first = measure_folders(asked, tmp_path / "out", judge=RED)
    second = measure_folders(
        asked, tmp_path / "out", judge=Classifier(lambda images: red(255 - images), ("red", "green"))
    )
    assert not (tmp_path / "out/judgements").exists()
    assert [one.measurements for one in first.methods] != [one.measurements for one in second.methods]


def test_what_a_judge_cannot_see_is_left_out(folders: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = measure_folders(Outside(folders, ("red",)), tmp_path / "out", judge=Counting(narrow=True)).methods
    assert [image.seed for image in a.images] == [0, 2, 4, 6, 8]
    assert "1.png: the judge cannot see it: images of 12 pixels are too high" in a.warnings[0]
    assert len(b.images) == 10
    odd = tuple(paint(folders[0].parent / "odd" / f"{k}.png", 0, size=(8, 12)) for k in range(3))
    with pytest.raises(UnfitFeatures, match="too high"):
        measure_folders(Outside((odd[0].parent,), ("red",)), tmp_path / "odd-out", judge=Counting(narrow=True))


def test_images_that_wait_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judgements, "MOST_HELD", 200)
    paths = [paint(tmp_path / f"{k}.png", float(k % 2), k / 40, (8, 8 + k % 3)) for k in range(20)]
    sizes: list[int] = []
    judge = Classifier(lambda images: sizes.append(images[:, 0].numel()) or red(images), ("red", "green"))
    found = Judgements(judge.judge(None, Asked("", ("red",))), batch_size=16).of(paths)
    assert max(sizes) <= 280
    assert sum(sizes) == sum(8 * (8 + k % 3) for k in range(20))
    assert found.seen.shown["red"].tolist() == [k % 2 for k in range(20)]


# a reference


def test_the_truth_is_the_reference_without_the_concept(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for k in range(40):
        paint(tmp_path / "true" / f"{k}.png", float(k < 8), float(k % 4 == 0) * (0.8 + k / 400))
    results = measure_folders(
        Outside(folders, ("red",), reference=tmp_path / "true", features="pixels"), tmp_path / "out", judge=RED
    )
    assert results.truth is not None
    assert (results.truth.kind, results.truth.drawn, results.truth.kept) == ("reference", 40, 32)
    known = results.methods[0].measurements["green"]
    assert known.truth == 0.25
    assert known.truth_low is not None
    assert known.truth_low < 0.25
    assert results.methods[0].measurements["red"].truth == 0.0
    assert any("32 of 40" in line for line in who(results))
    assert any("32 of 40 images of the reference" in note for note in results.notes)


def test_a_concept_that_the_judge_does_not_know_is_told(folders: tuple[Path, Path], tmp_path: Path) -> None:
    results = measure_folders(Outside(folders, ("red", "unicorn")), tmp_path / "out", judge=RED)
    told = [note for note in results.notes if "does not recognize 'unicorn'" in note]
    assert len(told) == 1
    assert told[0].endswith("are about 'red' alone.")


def test_a_small_reference_gives_no_truth_and_says_so(folders: tuple[Path, Path], tmp_path: Path) -> None:
    results = measure_folders(
        Outside(folders[:1], ("red",), reference=folders[1], features="pixels"), tmp_path / "out", judge=RED
    )
    assert results.truth is None
    assert any("only 4 of 10" in note for note in results.notes)


def test_two_judges_are_compared_image_by_image(folders: tuple[Path, Path], tmp_path: Path) -> None:
    results = measure_folders(Outside(folders, ("red",)), tmp_path / "out", judge=RED, second_judge=GREEN)
    only = results.disagreements
    assert [one.column for one in only] == ["red"]
    differ = sum((k < 3) != (k % 2 == 1) for k in range(10)) + 4
    assert only[0].share == pytest.approx(differ / 20)
    assert len(differing_images(results)) == differ
    page = write_all(results, tmp_path / "out").read_text()
    assert "Where two judges differ" in page


# from Python


def test_measured_in_python_it_is_as_by_the_study(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found = steerclear.measure(folders, "red", judge=RED, second_judge=GREEN, progress=False)
    asked = Outside(folders, ("red",))
    expected = measure_folders(asked, tmp_path / "out", judge=RED, second_judge=GREEN)
    assert [one.measurements for one in found.results.methods] == [one.measurements for one in expected.methods]
    assert [(row["label"], row["red"]) for row in found.rows()] == [("a", 0.3), ("b", 0.6)]
    a, b = map(str, folders)
    assert found.results.command == f"steerclear.measure([{a!r}, {b!r}], 'red', judge=..., second_judge=...)"
    assert "30 %" in repr(found)
    assert "<table" in found._repr_html_()
    check_images(found.results, found.folder)


def test_what_was_measured_can_be_saved_anywhere(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """The images stay where they are, and the saved results find them."""
    found = steerclear.measure(str(folders[0]), ["red"], judge=RED, second_judge=GREEN, progress=False)
    there = found.save(tmp_path / "deep" / "er")
    assert sorted(path.name for path in there.iterdir()) == ["results.json", "run.json"]
    saved = Results.model_validate_json((there / "results.json").read_text())
    check_images(saved, there)
    assert {(there / image.file).resolve() for image in saved.methods[0].images} == set(folders[0].resolve().iterdir())
    assert all((there / file).resolve().is_file() for one in saved.disagreements for file in one.images)
    assert len(saved.disagreements[0].images) == len(found.results.disagreements[0].images) > 0
    page = found.report(tmp_path / "page")
    assert page.parent == tmp_path / "page"
    assert "Where two judges differ" in page.read_text()


def test_measured_again_in_a_folder_no_judge_is_asked(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for expected in (7, 0):
        judge = Counting()
        steerclear.measure(folders, "red", judge=judge, folder=tmp_path / "out", progress=False)
        assert judge.seen == expected


def test_features_alone_by_an_object(folders: tuple[Path, Path], tmp_path: Path) -> None:
    found = {
        features if isinstance(features, str) else "object": steerclear.measure(
            folders[0], judge="none", reference=folders[1], features=features, progress=False
        )
        for features in ("pixels", PixelFeatures())
    }
    assert found["pixels"].rows() == found["object"].rows()
    assert {"precision", "sliced_wasserstein"} <= found["object"].rows()[0].keys()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"folders": 3}, "folders is 3, but must be a path"),
        ({"folders": []}, "the folders is 'none', but must be at least one folder"),
        ({"concepts": 3}, "concepts is 3, but must be a text"),
        ({"concepts": ""}, "concepts is '', but must be words"),
        ({"concepts": ()}, "concepts is None, but must be what to look for"),
        ({"watch": "trees,,sky"}, "watch is 'trees,,sky'"),
        ({"judge": red}, "judge is .*Classifier"),
        ({"judge": None}, "judge is None, but must be given"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"features": "pixel"}, "did you mean 'pixels'"),
        ({"reference": "nowhere"}, "reference is 'nowhere'"),
    ],
    ids=lambda value: (
        value if isinstance(value, str) else "+".join(value)
    ),  # not a function's address: workers must agree
)
def test_bad_arguments_in_python(arguments: dict[str, object], said: str, folders: tuple[Path, Path]) -> None:
    given: dict[str, Any] = {"folders": folders, "concepts": "red", "judge": RED, **arguments}
    with pytest.raises(SteerclearError, match=said):
        steerclear.measure(**given, progress=False)


# telling


def test_the_page_and_its_words_cope_without_a_model(folders: tuple[Path, Path], tmp_path: Path) -> None:
    results = measure_folders(Outside(folders, ("red",)), tmp_path / "out", judge=RED)
    assert question(results) == "How often do the images of 2 folders show “red”?"
    assert summary(results)[0].startswith("The lowest red measured is that of “a” (30 %")
    assert [doubt.said for doubt in unsure_images(results)] == ["red 70 %"]
    for earlier in ("trace.png", "grid.png"):
        (tmp_path / "out" / earlier).write_bytes(b"of an earlier version")
    page = write_all(results, tmp_path / "out").read_text()
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "grid.png",
        "shift.png",
    ]  # no trace of a run
    for words_ in ("Where the judge is unsure", "red 70 %", "The folders", "2 folders · 20 images"):
        assert words_ in page
    for absent in ("None", "steps", "scheduler", "recipe"):
        assert absent not in page
    with pytest.raises(InvalidSetting, match="folders of images were measured"):
        read_run(tmp_path / "out")
    alone = measure_folders(Outside(folders[:1], ("red",)), tmp_path / "alone", judge=RED)
    assert summary(alone)[0].startswith("“red” shows in 30 % [")


def test_images_without_numbers_go_by_their_names(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        paint(tmp_path / "a" / f"{name}.png", 1)
        paint(tmp_path / "b" / f"{name}.webp", 0)
    paint(tmp_path / "b" / "9.png", 0)
    a, b = measure_folders(Outside((tmp_path / "a", tmp_path / "b"), ("red",)), tmp_path / "out", judge=RED).methods
    assert [(image.seed, image.called) for image in b.images] == [(2, "9"), (0, "cat"), (1, "dog")]
    assert [image.called for image in a.images] == ["cat", "dog"]


def test_a_number_is_a_seed_only_where_steerclear_made_the_images(tmp_path: Path) -> None:
    for name in ("theirs", "ours", "run/images/plain"):
        paint(tmp_path / name / "00007.png", 1)
    (tmp_path / "ours/run.json").write_text("{}")
    (tmp_path / "run/results.json").write_text("{}")
    given = (tmp_path / "theirs", tmp_path / "ours", tmp_path / "run")
    theirs, *ours = measure_folders(Outside(given, ("red",)), tmp_path / "out", judge=RED).methods
    assert theirs.images[0].called == "7"
    assert [method.images[0].called for method in ours] == ["seed 7", "seed 7"]


# bad input


def mistakes(folder: Path) -> dict[str, tuple[list[object], str]]:
    full, empty, words_only = folder / "full", folder / "empty", folder / "words"
    paint(full / "0.png", 1)
    paint(folder / "nested/inside/0.png", 1)
    empty.mkdir()
    words_only.mkdir()
    (words_only / "a.png").write_text("words")
    (folder / "other").mkdir()
    (folder / "other/notes.txt").write_text("words")
    there = ["--concept", "mustache", "--judge", "portraits"]
    return {
        "no such folder": ([folder / "none", *there], "there is no such folder"),
        "a file": ([full / "0.png", *there], "it is a file"),
        "an empty folder": ([empty, *there], "there is no image in it"),
        "folders inside": ([folder / "nested", *there], "folders inside are not entered; give them: inside"),
        "no readable image": ([words_only, *there], "a.png: it is text, not an image"),
        "no concept": ([full, "--judge", "portraits"], "--concept is none, but must be what to look for"),
        "an empty concept": ([full, "--concept", "a,,b"], "there is nothing between two commas"),
        "a blank concept": ([full, "--concept", " "], "it is empty"),
        "an unknown judge": ([full, "--concept", "hat", "--judge", "portrait"], "did you mean 'portraits'"),
        "an unknown second judge": ([full, *there, "--second-judge", "x"], "there is no laboratory 'x'"),
        "unknown features": ([full, *there, "--features", "x"], "there is no features 'x'"),
        "a judge that needs the model": ([full, *there], "a laboratory that judges images without their model"),
        "nobody and nothing": ([full, "--judge", "none"], "only the features are compared"),
        "no reference": ([full, *there, "--reference", folder / "none"], "--reference is"),
        "an empty reference": ([full, *there, "--reference", empty], "there is no image in it"),
        "results inside": ([full, *there, "--outdir", full / "out"], "inside the measured folder"),
        "results in it": ([full, *there, "--outdir", full], "inside the measured folder"),
        "another folder's things": ([full, *there, "--outdir", folder / "other"], "does not hold a run of steerclear"),
        "an empty path": (["", *there], "a path"),
        "an empty watch": ([full, *there, "--watch", ","], "nothing between two commas"),
    }


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[object], str]]:
    return mistakes(tmp_path_factory.mktemp("wrong"))


KINDS = (
    "no such folder", "a file", "an empty folder", "folders inside", "no readable image", "no concept", "an empty concept",
    "a blank concept", "an unknown judge", "an unknown second judge", "unknown features", "a judge that needs the model",
    "nobody and nothing", "no reference", "an empty reference", "results inside", "results in it", "another folder's things",
    "an empty path", "an empty watch",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_is_a_sentence_and_exit_code_2(
    kind: str, wrong: dict[str, tuple[list[object], str]], run: Callable[..., tuple[int, str, str]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    arguments, said = wrong[kind]
    code, out, err = run("measure", *arguments)
    assert code == 2
    assert said in err
    assert out == ""
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == []  # nothing is left behind


def test_the_results_stay_out_of_what_is_measured(folders: tuple[Path, Path]) -> None:
    with pytest.raises(FolderConflict, match="inside the measured folder"):
        measure_folders(Outside(folders, ("red",)), folders[1] / "deep" / "out", judge=RED)
    assert words("--concept", ["a hat, people", "a hat"]) == ("a hat", "people")


def test_results_can_be_read_by_other_programs(folders: tuple[Path, Path], tmp_path: Path) -> None:
    results = measure_folders(Outside(folders, ("red",)), tmp_path / "out", judge=RED)
    plain = json.loads((tmp_path / "out/results.json").read_text())
    assert plain["folders"] == [str(folder) for folder in folders]
    assert type(results).model_validate(plain) == results


def test_what_a_judge_stands_on_is_all_that_its_settings_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge is asked again when one of these changes; what it saw before would be a wrong figure."""
    (tmp_path / "own_package").mkdir()
    for name in ("own_package/__init__.py", "own_package/detector.py", "own_package/weights.bin", "model.bin"):
        (tmp_path / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)

    def named(**config: str) -> set[str]:
        return {Path(path).name for path, *_ in outside._files_behind(config)}

    importlib.import_module("own_package.detector")  # writes what Python makes of it, which is no change
    assert named(features=f"vision:model={tmp_path / 'model.bin'}") == {"model.bin"}
    assert named(function="own_package.detector:faces") == {"__init__.py", "detector.py", "weights.bin"}
    assert named(function="no_such_package.detector:faces", model="owner/model") == set()
    for module in ("own_package.detector", "own_package"):
        del sys.modules[module]
