"""The benchmark of ways of saying "no": its figures at equal rates, its claims, and its settings."""

import pytest

from steerclear.benchmark.fronts import GATE, WAYS, Fronts, Row, claims_of, of_negative
from steerclear.core.errors import InvalidSetting, UnknownName
from steerclear.core.guidance import Guidance
from steerclear.core.laboratory import Measurement
from steerclear.core.parsing import parse_part


def row(way: str, strength: float, rate: float, shift: float, frechet: float, ratio: float | None = 0.3) -> Row:
    def measured(value: float) -> Measurement:
        return Measurement(value=value, low=value - 0.01, high=value + 0.01, interval="bootstrap", truth=0.0)

    return Row(
        concept="mustache", scheduler="own", way=way, strength=strength, images=1000, rate=measured(rate), rate_by_other=rate,
        shift=measured(shift), frechet=measured(frechet), moved_without=0.01, moved_with=0.04,
        ratio=None if ratio is None else measured(ratio), calls=60, sets=[],
    )  # fmt: skip


NEGATIVE = [row("negative prompt", strength, rate, shift, frechet)
            for strength, rate, shift, frechet in ((2, 0.16, 0.04, 6.0), (3, 0.04, 0.10, 12.0), (5, 0.01, 0.20, 36.0))]  # fmt: skip


@pytest.mark.parametrize(
    ("rate", "shift", "frechet"),
    [(0.16, 0.04, 6.0), (0.08, 0.07, 9.0), (0.04, 0.10, 12.0), (0.02, 0.15, 24.0), (0.001, 0.20, 36.0)],
)
def test_the_negative_prompt_at_an_equal_rate(rate: float, shift: float, frechet: float) -> None:
    """Halfway in the logarithm of the rate is halfway in the figure; beyond the strongest it is the strongest."""
    own = row("looking", 1, rate, 0.0, 0.0)
    assert of_negative([*NEGATIVE, own], own, "shift") == pytest.approx(shift)
    assert of_negative([*NEGATIVE, own], own, "frechet") == pytest.approx(frechet)


def test_a_weaker_way_than_the_weakest_negative_is_compared_with_nothing() -> None:
    own = row("transition", 1, 0.3, 0.0, 0.0)
    assert of_negative([*NEGATIVE, own], own, "shift") is None
    assert claims_of([*NEGATIVE, own]) == []


def test_claims_of_a_guidance_and_of_drawing_again() -> None:
    rows = [*NEGATIVE, row("looking", 1, 0.04, 0.021, 3.9), row("drawn again", 8, 0.021, 0.02, 0.4, None)]
    claims = claims_of(rows)
    assert [claim.met for claim in claims] == [False, True, True, False, True, False]
    assert [claim.bound for claim in claims] == ["<= 0.02", "<= 4", "<= 0.45", "<= 0.02", "<= 0.5", "<= 0"]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_a_guidance_at_each_strength(way: str) -> None:
    text, strengths = WAYS[way]
    assert all(isinstance(parse_part(text.format(f"{one:g}"), Guidance), Guidance) for one in strengths)


def test_ways_as_people_type_them() -> None:
    assert Fronts(ways="looking:1 2, oracle gate")._ways() == {"looking": (1.0, 2.0), GATE: WAYS["constant"][1]}
    with pytest.raises(UnknownName, match="there is no way 'lookin'; did you mean 'looking'"):
        Fronts(ways="lookin")
    with pytest.raises(InvalidSetting, match="a strength is 'x', but must be a number of at least 0"):
        Fronts(ways="looking:x")
    with pytest.raises(InvalidSetting, match="at least 144"):
        Fronts(seeds="0-9")
