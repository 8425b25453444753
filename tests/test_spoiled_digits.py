"""Digits of which a part is spoiled: which, how, what captions say of them; and "bad" as a negative prompt against a weak network."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from scipy.ndimage import gaussian_filter

pytest.importorskip("pyarrow")

import bad_words_tables
import labelled
from steerclear.benchmark.bad_words import BadWords, BadWordsBenchmark, Real, best, claims_of
from steerclear.benchmark.bad_words_cells import AUTO, UNGUIDED, WORDS, Cell, Looked, draw, weak_of
from steerclear.core.class_names import class_number
from steerclear.core.errors import InvalidSetting, UnknownName, UnsupportedModel
from steerclear.features.label_classifier import LABEL_CLASSIFIER, LabelClassifier
from steerclear.laboratories.digits import Reference
from steerclear.models.loading import load_model
from steerclear.networks.shared.averages import average_of, snapshots_in
from steerclear.testbeds.labelled_images import DIGITS, SPOILED_DIGITS, Labelled, read_labelled
from steerclear.testbeds.spoiled_images import BLUR, Spoiling, blurred, broken
from steerclear.training import command, digits
from steerclear.training.digits import NO_CLASS, LabelledCourse, Scaled, denoiser_loss
from steerclear.training.loop import Schedule

COURSE = LabelledCourse(
    (8, 32), Schedule(4, 4, 1e-3, snapshots=4), Schedule(30, 20, 3e-3, warmup_steps=1, weight_decay=0.0)
)


# the world


def test_the_shares_are_those_asked_for() -> None:
    spoiled, told = Spoiling(0.3, 0.5, seed=4).chosen(20_000)
    assert float(spoiled.double().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(told[spoiled].double().mean()) == pytest.approx(0.5, abs=0.02)
    assert not bool((told & ~spoiled).any())
    assert [int(some.sum()) for some in Spoiling(1.0, 0.0).chosen(50)] == [50, 0]
    assert [int(some.sum()) for some in Spoiling(0.0, 1.0).chosen(50)] == [0, 0]


def test_an_image_is_spoiled_in_one_way_whatever_comes_after_it() -> None:
    images = torch.randint(256, (300, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    spoiling = Spoiling(0.5, 0.5, seed=1)
    every, few = spoiling.spoil(images), spoiling.spoil(images[:37])
    assert torch.equal(every[:37], few)
    chosen = spoiling.chosen(300)[0]
    assert torch.equal(every[~chosen], images[~chosen])
    assert not (every[chosen] == images[chosen]).flatten(1).all(1).any()
    assert torch.equal(spoiling.chosen(300)[1][:37], spoiling.chosen(37)[1])


def test_the_blur_is_scipys() -> None:
    images = torch.randint(256, (3, 1, 28, 28), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    ours = blurred(images)[:, 0].double()
    for own, image in zip(ours, images[:, 0].double().numpy(), strict=True):
        theirs = gaussian_filter(image, BLUR, mode="nearest", radius=round(3 * BLUR))
        assert float((own - torch.from_numpy(theirs)).abs().max()) <= 0.51  # rounded once
    with pytest.raises(InvalidSetting, match="more than 5 pixels, the reach of the blur"):
        blurred(torch.zeros(1, 1, 5, 5, dtype=torch.uint8))


def test_a_gap_is_where_its_line_is() -> None:
    """Direction 0 is across: of 28 columns those less than 1.3 from the middle, 13.5, are 13 and 14; a quarter turn has rows."""
    images = torch.full((2, 1, 28, 28), 200, dtype=torch.uint8)
    images[:, :, 0, 0] = 7  # the background
    middle = torch.tensor([[[0.0, 0.5]], [[0.25, 0.5]]])
    columns, rows = broken(images, middle)[:, 0]
    lost = torch.zeros(28, 28, dtype=torch.bool)
    lost[:, 13:15] = True
    lost[0, 0] = True  # it was 7 already
    assert torch.equal(columns == 7, lost)
    assert torch.equal(rows == 7, lost.T)
    assert set(columns.unique().tolist()) == {7, 200}


def test_labels_are_the_truth_and_captions_what_was_said(tmp_path: Path) -> None:
    labelled.both_splits(tmp_path, DIGITS, train=400, test=60)
    plain, found = read_labelled(DIGITS, "train", tmp_path), read_labelled(SPOILED_DIGITS, "train", tmp_path)
    assert torch.equal(found.labels % 10, plain.labels)
    changed = (found.images != plain.images).flatten(1).any(1)
    assert torch.equal(changed, found.labels >= 10)
    assert torch.equal(found.captions % 10, plain.labels)
    assert bool((found.labels[found.captions >= 10] >= 10).all())
    assert 0 < int((found.captions >= 10).sum()) < int(changed.sum())
    assert torch.equal(found.first(7).captions, found.captions[:7])
    assert plain.captions is plain.labels
    other = read_labelled(SPOILED_DIGITS, "test", tmp_path).labels >= 10
    assert not torch.equal(other, changed[:60])


def test_spoiled_digits_have_names_that_prompts_find() -> None:
    names = SPOILED_DIGITS.classes
    assert (len(names), names[3], names[13]) == (20, "3", "bad 3")
    assert [class_number(text, names) for text in ("a photo of a bad 3", "bad 0", "the digit three", "any")] == [
        13,
        10,
        3,
        20,
    ]


@pytest.mark.parametrize("settings", [{"share": 1.5}, {"told": -0.1}, {"seed": -1}])
def test_what_cannot_be_is_refused(settings: dict) -> None:
    with pytest.raises(InvalidSetting, match=f"{next(iter(settings))} is "):
        Spoiling(**settings)


def test_the_denoiser_is_told_the_captions() -> None:
    image = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    data = Labelled(image, torch.tensor([13, 3]), said=torch.tensor([3, 3]))
    told: list[torch.Tensor] = []

    def network(sample: torch.Tensor, timestep: torch.Tensor, labels: torch.Tensor) -> SimpleNamespace:
        told.append(labels)
        return SimpleNamespace(sample=torch.zeros_like(sample))

    network.config = SimpleNamespace(num_class_embeds=21)  # type: ignore[attr-defined]
    denoiser_loss(network, data, Scaled(-1.0, 1.0), 400, "cpu")(0, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert set(told[0].tolist()) == {3, 20}
    assert float((told[0] == 20).double().mean()) == pytest.approx(NO_CLASS, abs=0.08)


# the benchmark


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a finished training in "train" and its model in "model"."""
    folder = tmp_path_factory.mktemp("spoiled")
    data = labelled.both_splits(folder / "data", DIGITS, train=80, test=400)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(digits.COURSES, "brief", COURSE)
        command.train_digits(
            "spoiled-digits", data, "brief", folder / "train", folder / "model", seed=0, device="cpu", resume=False,
            report=lambda progress: None,
        )  # fmt: skip
    return folder


def asked(work: Path, **settings: object) -> BadWords:
    own = {"model": str(work / "model"), "snapshots": str(work / "train/snapshots/denoiser"), "weak_at": 0.5,
           "ways": "bad words:1.5, weak network:2", "images": 5, "num_inference_steps": 1, "batch_size": 5}  # fmt: skip
    return BadWords(**own | settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def measured(work: Path) -> Path:
    """The folder of a finished benchmark."""
    asked(work).run(work / "measured")
    return work / "measured"


def found_in(measured: Path) -> BadWordsBenchmark:
    return BadWordsBenchmark.model_validate_json((measured / "bad-words.json").read_text())


def test_every_way_is_measured_and_drawn_once(work: Path, measured: Path) -> None:
    stored = found_in(measured)
    assert [(row.way, row.scale, row.images) for row in stored.rows] == [
        ("unguided", 1.0, 150), ("bad words", 1.5, 150), ("weak network", 2.0, 150), ("real images", 1.0, len_of_perfect(work)),
    ]  # fmt: skip
    assert [len(row.sets) for row in stored.rows] == [3, 3, 3, 0]
    assert len(list((measured / "cells").iterdir())) == 3 * 10 * 3
    before = {path: path.stat().st_mtime_ns for path in (measured / "cells").iterdir()}
    again = asked(work, ways="bad words:1.5").run(measured)
    assert isinstance(again, BadWordsBenchmark)
    assert again.rows[:2] == stored.rows[:2]
    assert {path: path.stat().st_mtime_ns for path in (measured / "cells").iterdir()} == before
    assert (measured / "bad-words.png").is_file()
    assert json.loads((work / "model/model_index.json").read_text())["class_names"]["13"] == "bad 3"
    stored.save(measured / "bad-words.json")  # as the first run left it


def len_of_perfect(work: Path) -> int:
    labels = read_labelled(SPOILED_DIGITS, "test", work / "data").labels
    return min(150, int((labels < 10).sum()) // 2)


def test_image_k_is_image_k_alone(work: Path) -> None:
    pipe, classifier = load_model(str(work / "model")).pipe, LabelClassifier.load(work / "model" / LABEL_CLASSIFIER)
    weak = weak_of(pipe.unet, work / "train/snapshots/denoiser", 0.5, 0.1)
    for way in (WORDS, AUTO):
        cell = Cell(way, 2.0, 3, 1, 4)
        together = draw(pipe, cell, weak, classifier, 2, 4)
        alone = draw(pipe, cell, weak, classifier, 2, 1)
        assert float((together.features - alone.features).abs().max()) < 0.05  # of images in 256 levels of gray
        assert together.asked.tolist() == [3] * 4
        assert list(cell.seeds) == [1_030_000, 1_030_001, 1_030_002, 1_030_003]


def test_the_weak_network_is_the_average_of_its_training(work: Path) -> None:
    unet = load_model(str(work / "model")).pipe.unet
    folder = work / "train/snapshots/denoiser"
    weak = weak_of(unet, folder, 0.5, 0.1)
    expected = average_of(snapshots_in(folder), 2, 0.1)
    assert all(torch.equal(value, expected[name]) for name, value in weak.named_parameters())
    assert not torch.equal(weak.conv_in.weight, unet.conv_in.weight)
    with pytest.raises(InvalidSetting, match="a folder of snapshots of the model's training; train with"):
        weak_of(unet, work, 0.5, 0.1)


def real_of(spoiled: int, count: int = 400) -> Real:
    """Clean images lie at 0, spoiled ones at 9, in two dimensions."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 10
    labels[:spoiled] += 10
    features = torch.randn(count, 2, generator=generator) + 9.0 * (labels >= 10)[:, None]
    return Real(Reference(features, labels, labels), 10, Spoiling())


def test_rows_count_what_the_classifier_sees() -> None:
    real, asked_for = real_of(100), torch.arange(100) % 10
    features = torch.randn(100, 2, generator=torch.Generator().manual_seed(1))
    seen = asked_for.clone()
    seen[:20] += 10  # spoiled, and right
    seen[90:] = (seen[90:] + 1) % 10  # another digit
    row = real.row(WORDS, 2.0, [Looked(asked_for, seen, features)])
    assert (row.spoiled.value, row.right.value, row.images) == (0.2, 0.9, 100)
    assert abs(row.to_clean.value) < 0.3  # the same distribution
    assert row.precision.value > 0.8
    far = real.row(WORDS, 3.0, [Looked(asked_for, seen, features + 9.0)])
    assert far.to_clean.value == pytest.approx(162, rel=0.05)  # 9^2 in each of two dimensions
    assert far.precision.value == 0.0


def test_data_are_the_clean_images_and_the_spoiled_that_nobody_named() -> None:
    real = real_of(400)
    spoiling = Spoiling(0.3, 0.5, seed=1)  # the test split's
    assert torch.equal(real.unnamed, ~spoiling.chosen(400)[1])
    perfect = real_of(100).perfect(120)
    assert (perfect.images, perfect.spoiled.value, perfect.right.value) == (120, 0.0, 1.0)
    assert abs(perfect.to_clean.value) < 0.3
    assert perfect.to_data.value > 1  # half of the spoiled ones lie elsewhere


def test_the_best_scale_is_the_nearest_to_clean_images() -> None:
    real, asked_for = real_of(100), torch.arange(100) % 10
    near = torch.randn(100, 2, generator=torch.Generator().manual_seed(1))
    looked = Looked(asked_for, asked_for, near)
    moved = replace(looked, features=near + 1.0)
    rows = [real.row(UNGUIDED, 1.0, [moved]), real.row(WORDS, 2.0, [moved]), real.row(WORDS, 1.5, [looked]),
            real.row(AUTO, 2.0, [moved])]  # fmt: skip
    assert best(rows, WORDS).scale == 1.5
    claims = {claim.claim: claim for claim in claims_of(rows, real)}
    against = claims["bad words 1.5: Fréchet distance to clean images, against that of the weak network at its best, 2"]
    assert against.met
    assert against.bound == f"<= {rows[3].to_clean.value:g}"
    assert not claims["bad words 1.5: spoiled images, against half of unguided's, 0.000"].value


def test_other_models_and_ways_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="there is no way 'bad word'; did you mean 'bad words'"):
        BadWords(ways="bad word:2")
    with pytest.raises(InvalidSetting, match="a scale is 'much'"):
        BadWords(ways="bad words:much")
    with pytest.raises(
        UnsupportedModel, match=r"does not draw the classes 0 to bad 9; make one with `steerclear train digits"
    ):
        BadWords(model="digits").run(tmp_path)


def test_the_page_has_the_table_of_what_was_measured() -> None:
    page = (Path(__file__).parents[1] / "docs/negative-prompt-or-bad-version.md").read_text()
    assert bad_words_tables.written_into(page) == page


def test_the_table_says_the_rows(measured: Path) -> None:
    found = found_in(measured)
    head, _, plain, words, weak, real, *_ = bad_words_tables.table(found).splitlines()
    assert head.startswith("| way | w | spoiled |")
    assert plain.startswith(f"| unguided |  | {found.rows[0].spoiled.value:.3f} [")
    assert [line.split("|")[1:3] for line in (words, weak)] == [[" bad words ", " 1.5 "], [" weak network ", " 2 "]]
    assert real.split("|")[1].strip() == "real images"
