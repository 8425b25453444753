"""What the laboratory of the portraits measures."""

import pytest
import torch

from steerclear.laboratories import portraits
from steerclear.laboratories.portraits import REFERENCE_SEEDS, PortraitJudge
from steerclear.metrics.collateral import collateral_shift
from steerclear.models import shipped
from steerclear.study.measure import pixel_change
from steerclear.telling.summary import apart
from steerclear.testbeds.portraits import (
    LEVELS,
    concept_probability,
    every_combination,
    indicators,
    shows,
    true_portraits,
)


@pytest.mark.parametrize("references", [50, 100])
def test_precision_and_recall_compare_equal_numbers(references: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against themselves true portraits have both exactly, also when there are more of them than references."""
    monkeypatch.setattr(portraits, "REFERENCE_PORTRAITS", references)
    judge = PortraitJudge(shipped()["portraits"], "portrait photo of a man", "mustache")
    images, _ = true_portraits(judge.prompt, range(REFERENCE_SEEDS, REFERENCE_SEEDS + 100), without=judge.negative)
    found = judge.measure(judge.see(images))
    assert (found["precision"].value, found["recall"].value) == (1.0, 1.0)
    assert found["mustache"].value == 0


@pytest.fixture(scope="module")
def judge(few_references: None) -> PortraitJudge:
    return PortraitJudge(shipped()["portraits"], "portrait photo of a man", "mustache")


def test_the_collateral_shift_is_shown_corrected_and_kept_uncorrected(judge: PortraitJudge) -> None:
    images, _ = true_portraits("portrait photo of a man", range(60), without="mustache")
    seen = judge.see(images)
    found = judge.measure(seen)["collateral_shift"]
    shift = collateral_shift(indicators(seen.shown), judge.truth, exclude="mustache")
    assert (found.value, found.low, found.high) == (shift.excess.value, shift.excess.low, shift.excess.high)
    assert (found.uncorrected, found.by_chance, found.truth) == (shift.value, shift.floor, 0.0)
    assert found.low == 0  # these portraits are true
    assert found.uncorrected > 0.02


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_few_images_claim_nothing_by_their_spread(judge: PortraitJudge, count: int) -> None:
    """A bootstrap of one image has no width, so that any two such numbers were apart."""
    men, _ = true_portraits("portrait photo of a man", range(count), without="mustache")
    hats, _ = true_portraits("a man wearing a red hat", range(count))
    first, second = judge.measure(judge.see(men)), judge.measure(judge.see(hats))
    for name in ("collateral_shift", "diversity"):
        for one, other in ((first, second), (second, first)):
            assert not apart(one.get(name), other.get(name))
            assert name not in one or (one[name].low, one[name].high, one[name].interval) == (None, None, None)
    moved = pixel_change(men, hats)
    assert (moved.low, moved.high, moved.interval) == (None, None, None)
    assert moved.value > 0


def test_the_moved_pixels_have_students_interval() -> None:
    # by 0, 1, ..., 7 gray levels: mean 3.5, standard error sqrt(6 / 8), t of 7 degrees 2.364624
    images = torch.arange(8, dtype=torch.uint8).reshape(8, 1, 1, 1).expand(8, 3, 2, 2)
    moved = pixel_change(images, torch.zeros_like(images))
    reach = 2.364624251 * (6 / 8) ** 0.5
    assert [255 * end for end in (moved.value, moved.low, moved.high)] == pytest.approx([3.5, 3.5 - reach, 3.5 + reach])


@pytest.mark.parametrize(
    "concept", ["mustache", "red hat", "man with a beard", "woman", "hair", "no hat", "without red hair"]
)
def test_a_certain_classifier_is_sure_of_what_is_shown(concept: str) -> None:
    attributes, _ = every_combination()
    sure = {
        name: values.double() if name not in LEVELS or LEVELS[name] == 2 else torch.eye(LEVELS[name])[values].double()
        for name, values in attributes.items()
    }
    if concept != "hair":
        assert torch.equal(concept_probability(concept, sure) > 0.5, shows(concept, attributes))
    # half sure of everything is half sure of every concept that names something
    half = {name: torch.full_like(values, 0.5) for name, values in sure.items()}
    assert concept_probability(concept, half).unique().tolist() == ([1.0] if concept == "hair" else [0.5])
