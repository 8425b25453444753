"""Real images with labels are read as the hub lays them out, and what is not that is met with a sentence."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("pyarrow")

import labelled
from steerclear.core.errors import InvalidSetting, MissingPackage, UnknownName
from steerclear.testbeds.labelled_images import CIFAR10, DIGITS, World, files_of, read_labelled, world_named


@pytest.mark.parametrize("world", [DIGITS, CIFAR10], ids=lambda world: world.name)
def test_pixels_and_labels_are_those_that_were_written(world: World, tmp_path: Path) -> None:
    labels = [3, 0, 9]
    labelled.write(tmp_path / "train.parquet", world, labels, names=world.classes)
    found = read_labelled(world, "train", tmp_path)
    assert found.images.shape == (3, world.channels, world.size, world.size)
    assert found.images.dtype == torch.uint8
    assert found.labels.tolist() == labels
    for row, label in enumerate(labels):
        expected = labelled.picture(world, label, row).reshape(world.size, world.size, world.channels)
        assert np.array_equal(found.images[row].permute(1, 2, 0).numpy(), expected)
    assert len(found.first(2)) == 2


@pytest.mark.parametrize(
    "place",
    [
        "train.parquet",
        "train-00000-of-00001.parquet",
        "data/train-0.parquet",
        "mnist/train-0.parquet",
        "plain_text/train-0.parquet",
    ],
)
def test_a_file_is_found_where_the_hub_and_its_copies_have_it(tmp_path: Path, place: str) -> None:
    labelled.write(tmp_path / place, DIGITS, [1])
    assert files_of(DIGITS, "train", tmp_path) == [tmp_path / place]
    assert read_labelled(DIGITS, "train", str(tmp_path)).labels.tolist() == [1]


def test_a_split_in_parts_is_read_in_order(tmp_path: Path) -> None:
    labelled.write(tmp_path / "test-00000-of-00002.parquet", DIGITS, [4, 5])
    labelled.write(tmp_path / "test-00001-of-00002.parquet", DIGITS, [6])
    assert read_labelled(DIGITS, "test", tmp_path).labels.tolist() == [4, 5, 6]


GOOD = labelled.png(labelled.picture(DIGITS, 1, 0))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"labels": [10]}, r"must be labels from 0 to 9; one is 10"),
        ({"labels": [None]}, r"must be labels from 0 to 9; one is None"),
        ({"labels": [1], "names": ["one", "two"]}, r"must be the classes of ylecun/mnist: 0, 1, "),
        ({"labels": [1], "column": "img"}, r"a file with the columns image and label of ylecun/mnist"),
        ({"labels": [1, 1], "images": [GOOD, b"no image"]}, r"data is 'row 1 of .* an image that can be read"),
        ({"labels": [1], "images": [GOOD[:60]]}, r"row 0 of .*an image that can be read"),
        ({"labels": [1], "images": [labelled.png(np.zeros((30, 28), np.uint8))]}, r"28 x 30.*an image of 28 x 28"),
    ],
    ids=["label", "no label", "classes", "column", "bytes", "cut off", "size"],
)  # fmt: skip
def test_files_of_something_else_are_refused(tmp_path: Path, settings: dict, match: str) -> None:
    labelled.write(tmp_path / "train.parquet", DIGITS, **settings)
    with pytest.raises(InvalidSetting, match=match):
        read_labelled(DIGITS, "train", tmp_path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x00" * 100, b"PAR1" + b"x" * 90 + b"PAR1"])
def test_files_that_are_not_parquet_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(InvalidSetting, match=r"but must be a parquet file \("):
        read_labelled(DIGITS, "train", tmp_path)


def test_folders_without_files_and_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidSetting, match=r"a folder with test\.parquet \(or test-\.\.\.\.parquet\) of ylecun/mnist"
    ):
        read_labelled(DIGITS, "test", tmp_path)
    with pytest.raises(InvalidSetting, match="split is 'valid', but must be train or test"):
        read_labelled(DIGITS, "valid", tmp_path)  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="there is no world 'digit'; did you mean 'digits'"):
        world_named("digit")


def test_without_pyarrow_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled.write(tmp_path / "train.parquet", DIGITS, [1])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackage, match="reading parquet files needs the package pyarrow"):
        read_labelled(DIGITS, "train", tmp_path)


def test_a_hub_that_cannot_be_reached_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreached(*arguments: object, **settings: object) -> None:
        raise ConnectionError("no route to the hub\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreached)
    with pytest.raises(
        InvalidSetting, match=r"ylecun/mnist'.*give a folder with its parquet files \(ConnectionError: no route"
    ):
        read_labelled(DIGITS, "train")
