"""The portraits' world: what is said is there, what is drawn is the image's own, and the exact truth is the truth."""

from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steerclear.core.errors import ImpossiblePrompt, UnknownWords
from steerclear.core.seeds import Stream, image_generators, uniform_per_image
from steerclear.testbeds.portraits import (
    LEVELS,
    Attributes,
    Mentions,
    attribute_rates,
    captions,
    draw_from_seeds,
    every_combination,
    indicators,
    posterior,
    probability_of_mentions,
    read_prompt,
    sample,
    shows,
    true_portraits,
    write_caption,
)
from steerclear.testbeds.portraits.captions import NEUTRAL_ENDINGS, PLAIN, Wish
from steerclear.testbeds.portraits.streams import PortraitStream
from steerclear.testbeds.portraits.truth import _draw_attributes
from steerclear.training import data

SAMPLES = 20_000
SEED = 1_000_000


@pytest.fixture(scope="module")
def people() -> Attributes:
    return sample(range(SEED, SEED + SAMPLES))


@pytest.fixture(scope="module")
def written(people: Attributes) -> list[tuple[str, Wish]]:
    rows = [dict(zip(people, row, strict=True)) for row in zip(*(c.tolist() for c in people.values()), strict=True)]
    generators = image_generators(range(SEED, SEED + SAMPLES), stream=PortraitStream.CAPTION)
    captions = [write_caption(row, generator) for row, generator in zip(rows, generators, strict=True)]
    return [(caption, read_prompt(caption)) for caption in captions]


def assert_within_five_errors(shown: dict[str, torch.Tensor], truth: dict[str, float]) -> None:
    """Every rate of the samples is the truth; the rule of five keeps the normal approximation honest."""
    for name, column in shown.items():
        total, exact = len(column), truth[name]
        if exact in (0.0, 1.0):
            assert float(column.double().mean()) == exact, name
        elif total * min(exact, 1 - exact) >= 5:
            error = (exact * (1 - exact) / total) ** 0.5
            assert abs(float(column.double().mean()) - exact) < 5 * error, name


# attributes


def test_combinations_are_a_distribution_of_distinct_rows() -> None:
    attributes, probability = every_combination()
    assert abs(float(probability.sum()) - 1) < 1e-12
    assert bool((probability > 0).all())
    rows = torch.stack(list(attributes.values()), 1)
    assert len(rows.unique(dim=0)) == len(rows)
    # men: 2 mustache x 2 beard x ...; women have neither
    assert len(rows) == (4 + 1) * 2**3 * 5 * 3 * 5 * 4


def test_sampled_attributes_follow_the_exact_distribution(people: Attributes) -> None:
    truth = attribute_rates("")
    assert_within_five_errors(indicators(people), truth)
    both = ((people["mustache"] == 1) & (people["beard"] == 1)).double()
    assert abs(float(both.mean()) - 0.125) < 5 * (0.125 * 0.875 / SAMPLES) ** 0.5
    assert not bool(((people["man"] == 0) & (people["mustache"] + people["beard"] > 0)).any())


def test_marginals_by_hand() -> None:
    truth = attribute_rates("")
    beard = 0.5 * (0.5 * 0.15 + 0.5 * 0.5)
    by_hand = {"man": 0.5, "mustache": 0.25, "beard": beard, "glasses": 0.3, "hat": 0.25, "smile": 0.5}
    by_hand |= {"hair:red": 0.12, "skin:tan": 0.27, "background:pink": 0.17, "hat_color:green": 0.0625}
    assert {name: truth[name] for name in by_hand} == pytest.approx(by_hand, abs=1e-12)


# captions


def test_captions_name_only_what_is_there(people: Attributes, written: list[tuple[str, Wish]]) -> None:
    named = 0
    for row, (caption, wish) in enumerate(written):
        for name, value in wish.mentions.values:
            assert int(people[name][row]) == value, caption
            named += 1
        if wish.man is not None:
            assert wish.man == int(people["man"][row]), caption
    assert named > SAMPLES * (1 - PLAIN) / 2  # the test looked at something


def test_every_written_caption_is_understood(written: list[tuple[str, Wish]]) -> None:
    for caption, wish in written:
        assert (wish.unknown, wish.absent) == ((), ()), caption
        assert wish.mentions.keywords == (wish.man is None), caption


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_reading_gives_back_what_the_writer_mentioned(seed: int) -> None:
    portrait = {name: int(column[0]) for name, column in sample([seed]).items()}
    caption = write_caption(portrait, torch.Generator().manual_seed(seed))
    said = dict(read_prompt(caption).mentions.values)
    # an independent reading: each attribute's own words, looked up in the text
    for name in ("mustache", "beard", "glasses", "hat"):
        assert (name in said) == (name in caption)
    assert ("smile" in said) == ("smiling" in caption)
    assert ("hair" in said) == (" hair" in caption)
    assert ("background" in said) == (" background" in caption)
    assert ("skin" in said) == any(word in caption for word in ("-skinned", "tan"))


def test_the_meaning_of_a_caption_is_what_its_writer_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int | None, frozenset[tuple[str, int]]]] = []
    compose = captions._compose

    def recorded(portrait: dict[str, int], mentions: Mentions, generator: torch.Generator) -> str:
        given.append((None if mentions.keywords else portrait["man"], frozenset(mentions.values)))
        return compose(portrait, mentions, generator)

    monkeypatch.setattr(captions, "_compose", recorded)
    seeds = range(2000)
    (texts,) = zip(*data.captions(seeds, sample(seeds), each=1), strict=True)
    assert [captions.meaning(text) for text in texts] == given
    assert len(set(texts)) > len(set(given)) > 300  # many wordings of many meanings


def test_plain_captions_say_nothing_of_the_portrait(people: Attributes, written: list[tuple[str, Wish]]) -> None:
    plain = torch.tensor([wish.mentions.values == () for _, wish in written])
    assert abs(float(plain.double().mean()) - PLAIN) < 5 * (PLAIN * (1 - PLAIN) / SAMPLES) ** 0.5
    assert_within_five_errors(indicators({name: column[plain] for name, column in people.items()}), attribute_rates(""))


def test_negations_occur_and_negate_nothing(written: list[tuple[str, Wish]]) -> None:
    endings = {ending for caption, _ in written for ending in NEUTRAL_ENDINGS if caption.endswith(ending)}
    assert endings == set(NEUTRAL_ENDINGS)


def test_mention_probabilities_sum_to_one_over_all_captions(written: list[tuple[str, Wish]]) -> None:
    # all Mentions of one bareheaded portrait without smile: subsets of what is there, both wordings
    portrait = {name: torch.tensor([0]) for name in LEVELS} | {"man": torch.tensor([1]), "beard": torch.tensor([1])}
    total = probability_of_mentions(portrait, Mentions(()))
    for mask in range(1, 16):
        names = [name for bit, name in enumerate(("beard", "hair", "skin", "background")) if mask >> bit & 1]
        values = tuple((name, int(portrait[name][0])) for name in names)
        total = total + sum(probability_of_mentions(portrait, Mentions(values, words)) for words in (True, False))
    assert float(total[0]) == pytest.approx(1, abs=1e-12)


# truth


def test_sampled_captions_agree_with_the_exact_truth(people: Attributes, written: list[tuple[str, Wish]]) -> None:
    groups: dict[tuple, list[int]] = defaultdict(list)
    for row, (_, wish) in enumerate(written):
        groups[wish.man, frozenset(wish.mentions.values), wish.mentions.keywords].append(row)
    large = {key: rows for key, rows in groups.items() if len(rows) >= 60}
    assert len(large) >= 20
    said = set().union(*(dict(mentions) for _, mentions, _ in large))
    assert {"mustache", "beard", "glasses", "hat", "smile", "hair"} <= said
    for rows in large.values():
        truth = attribute_rates(written[rows[0]][0])
        assert_within_five_errors(indicators({name: column[rows] for name, column in people.items()}), truth)


@pytest.mark.parametrize(
    ("prompt", "without", "expected"),
    [
        ("portrait photo of a man", None, {"mustache": 0.5, "beard": 0.325, "hat": 0.25, "man": 1}),
        ("a woman", None, {"mustache": 0, "beard": 0, "smile": 0.5, "man": 0}),
        ("a man without mustache", None, {"mustache": 0, "beard": 0.15, "hair:red": 0.12}),
        ("a man", "mustache", {"mustache": 0, "beard": 0.15, "hat": 0.25}),
        ("a man", "beard", {"beard": 0, "mustache": 0.5 * 0.5 / 0.675}),
        ("a man", "mustache, beard", {"mustache": 0, "beard": 0}),
        ("a woman", "red hat", {"hat": 0.1875 / 0.9375, "hat_color:red": 0, "hat_color:blue": 0.0625 / 0.9375}),
        ("a man without a red hat", None, {"hat": 0.1875 / 0.9375}),
        ("a man not wearing a hat or glasses", None, {"hat": 0, "glasses": 0, "smile": 0.5}),
        ("", "man with a beard", {"man": 0.3375 / 0.8375, "beard": 0}),
        ("", "woman", {"man": 1, "mustache": 0.5}),
        ("a man", "watermark, text", {"mustache": 0.5}),
        # silence tells: it is p(1 - m) / (p(1 - m) + 1 - p) where something of rate p is mentioned with probability m
        ("a man wearing a red hat", None, {"hat_color:red": 1, "glasses": 0.225 / 0.925, "smile": 0.425 / 0.925}),
    ],
)
def test_truth_by_hand(prompt: str, without: str | None, expected: dict[str, float]) -> None:
    truth = attribute_rates(prompt, without=without)
    assert {name: truth[name] for name in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("prompt", ["", "a man", "a tan woman with glasses", "beard, black hair", "a man without hat"])
def test_truth_is_a_distribution(prompt: str) -> None:
    _, probability = posterior(prompt, "red hair")
    assert abs(float(probability.sum()) - 1) < 1e-12
    assert bool((probability >= 0).all())
    truth = attribute_rates(prompt, without="red hair")
    assert truth["hair:red"] == 0
    for name in ("hair", "skin", "background"):
        assert sum(rate for key, rate in truth.items() if key.startswith(name + ":")) == pytest.approx(1)
    assert sum(rate for key, rate in truth.items() if key.startswith("hat_color:")) == pytest.approx(truth["hat"])


def test_the_truth_without_a_concept_is_bayes_on_the_truth_with_it() -> None:
    # P(x) = P(x | concept) P(concept) + P(x | not concept) P(not concept)
    attributes, probability = posterior("a man with glasses")
    concept = shows("mustache", attributes)
    share = float(probability[concept].sum())
    without, all_of_it = (attribute_rates("a man with glasses", without=no) for no in ("mustache", None))
    beards = float(probability[concept & (attributes["beard"] == 1)].sum())
    assert all_of_it["beard"] == pytest.approx(beards + without["beard"] * (1 - share), abs=1e-12)


def test_unknown_words_are_named_with_what_is_known() -> None:
    with pytest.raises(UnknownWords, match=r"'sombrero'.*the words it knows: man, woman, mustache") as raised:
        attribute_rates("a man with a sombrero and a beard")
    assert raised.value.words == ("sombrero",)
    for prompt in ("a man without sombrero", "a gray hat", "a man with no hair"):
        with pytest.raises(UnknownWords):
            attribute_rates(prompt)
    with pytest.raises(UnknownWords, match="tophat"):
        attribute_rates("a man", without="beard, tophat")


@pytest.mark.parametrize(
    ("prompt", "without"), [("a woman with a mustache", None), ("a man with a hat", "hat"), ("a man", "man")]
)
def test_an_impossible_prompt_is_no_truth(prompt: str, without: str | None) -> None:
    with pytest.raises(ImpossiblePrompt, match="has probability 0 in this world"):
        attribute_rates(prompt, without=without)


@pytest.mark.parametrize(
    ("prompt", "absent", "there"),
    [
        ("a man without hat and glasses with a beard", ("hat", "glasses"), {"beard": 1}),
        ("a man not wearing a hat on a blue background", ("hat",), {"background": 0}),
        ("a woman with no red hat, smiling", ("hat_color:red",), {"smile": 1}),
        ("a woman without black hair", ("hair:black",), {}),
        ("a man with glasses without watermark", (), {"glasses": 1}),
    ],
)
def test_negations_cover_what_they_name(prompt: str, absent: tuple[str, ...], there: dict[str, int]) -> None:
    wish = read_prompt(prompt)
    assert (wish.absent, dict(wish.mentions.values), wish.unknown) == (absent, there, ())


# drawing


def test_image_k_of_a_batch_is_image_k_alone() -> None:
    seeds = [*range(7, 150, 2), 2**32 - 1]  # more than one drawing batch, the last one ragged
    images, shown = true_portraits("a man with glasses", seeds, without="mustache")
    for k in (0, 1, 63, 64, len(seeds) - 1):
        alone, attributes = true_portraits("a man with glasses", seeds[k : k + 1], without="mustache")
        assert torch.equal(images[k : k + 1], alone)
        assert all(int(attributes[name]) == int(shown[name][k]) for name in LEVELS)
    backwards, _ = true_portraits("a man with glasses", seeds[::-1], without="mustache")
    assert torch.equal(backwards.flip(0), images)


def test_training_portraits_are_these_drawings() -> None:
    images, attributes = data.portraits(range(30, 36), man=1)
    assert torch.equal(images, draw_from_seeds(attributes, range(30, 36)))
    assert attributes["man"].tolist() == [1] * 6


def test_an_attribute_changes_its_own_pixels_only() -> None:
    # pixel rows: a mustache lies below the eyes, a hat above; neither moves anything else in the picture
    seeds = range(20)
    bare = {name: torch.zeros(20, dtype=torch.long) for name in LEVELS} | {"man": torch.ones(20, dtype=torch.long)}
    plain = draw_from_seeds(bare, seeds).int()
    for name, rows in {"mustache": slice(34, 56), "hat": slice(0, 32), "glasses": slice(22, 44)}.items():
        worn = draw_from_seeds(bare | {name: torch.ones(20, dtype=torch.long)}, seeds).int()
        changed = (worn - plain).abs().amax(1) > 0
        assert bool(changed.any(2).any(1).all()), name
        changed[:, rows] = False
        assert not bool(changed.any()), name


def test_true_portraits_follow_the_truth() -> None:
    attributes, probability = posterior("a man wearing a hat", "red hat")
    # the attributes alone: drawing 4,000 portraits would take longer than all other tests
    drawn = _draw_attributes(attributes, probability, uniform_per_image(range(4000), 1, Stream.TRUTH)[:, 0])
    assert_within_five_errors(indicators(drawn), attribute_rates("a man wearing a hat", without="red hat"))


def test_drawing_wants_a_seed_for_each_row() -> None:
    with pytest.raises(ValueError, match="3 rows of attributes need 3 seeds, not 2"):
        draw_from_seeds(sample(range(3)), range(2))
    images, attributes = true_portraits("a man", [])
    assert (images.shape, len(attributes["man"])) == ((0, 3, 64, 64), 0)
