"""The page and its words: exact numbers, escaped prompts, nothing from the network, no claim beyond the intervals."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

import skeleton_figure
from sample_results import sample_results
from steerclear.core import shelf
from steerclear.core.guidance import guidances
from steerclear.core.laboratory import Column, Measurement
from steerclear.core.shelf import entries
from steerclear.evidence.transition import TransitionEvidence
from steerclear.study.disagreement import Disagreement
from steerclear.study.notes import unsure_notes
from steerclear.study.results import Results, TruthResult
from steerclear.telling.figures.base import SHELF, drawings
from steerclear.telling.guidance_docs import documentation
from steerclear.telling.looking import who
from steerclear.telling.report import parts, write_figures, write_report
from steerclear.telling.summary import _best, question, summary
from steerclear.telling.table import (
    attribute_columns,
    cell,
    concept_columns,
    header,
    off_truth,
    rows,
    side_effect_column,
    terminal_tables,
    truth_row,
)  # fmt: skip

ATTACK = '<script>alert("1")</script>'


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return sample_results(folder)


@pytest.fixture(scope="module")
def page(results: Results, folder: Path) -> str:
    return write_report(results, folder).read_text(encoding="utf-8")


class Reader(HTMLParser):
    """What a browser finds: elements with their attributes, and the text of table cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.inside = False
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.inside:
            self.tables[-1][-1][-1] += data


def told(results: Results, **measurements: list[Measurement]) -> Results:
    """Results whose methods M0, M1, ... have these numbers and no others; M0 is the unguided one."""
    count = len(next(iter(measurements.values())))
    methods = []
    for index in range(count):
        own = {name: values[index] for name, values in measurements.items()}
        model = results.methods[0 if index == 0 else 3]
        methods.append(model.model_copy(update={"name": f"m{index}", "label": f"M{index}", "measurements": own}))
    return results.model_copy(update={"methods": methods})


def share(value: float, low: float, high: float) -> Measurement:
    return Measurement(value=value, low=low, high=high, interval="wilson", truth=0.0)


def distance(value: float, low: float | None, high: float | None) -> Measurement:
    return Measurement(value=value, low=low, high=high, interval="bootstrap")


# numbers


def test_numbers_are_written_to_what_their_interval_carries() -> None:
    assert cell(Measurement(value=0.1234, low=0.08, high=0.17), percent=True) == "12 % [8, 17]"
    assert cell(Measurement(value=0.1234, low=0.1201, high=0.1268), percent=True) == "12.34 % [12.01, 12.68]"
    assert cell(Measurement(value=0.0, low=0.0, high=0.194), percent=True) == "0 % [0, 19]"
    assert cell(Measurement(value=-0.0004, low=-0.02, high=0.02), percent=False) == "0.000 [-0.020, 0.020]"
    assert cell(Measurement(value=9.63, low=8.2, high=11.0), percent=False) == "9.6 [8.2, 11.0]"
    assert cell(Measurement(value=0.81), percent=False) == "0.810"
    assert cell(Measurement(value=87.5), percent=False) == "87.5"
    assert cell(Measurement(value=3.0, low=3.0, high=3.0), percent=False) == "3 [3, 3]"
    assert cell(Measurement(value=float("nan"), low=0.0, high=1.0), percent=True) == "– [0, 100]"
    assert cell(None, percent=True) == "–"


def test_a_number_is_off_only_when_its_whole_interval_is() -> None:
    assert off_truth(Measurement(value=0.4, low=0.2, high=0.6, truth=0.1))
    assert off_truth(Measurement(value=0.4, low=0.2, high=0.6, truth=0.7))
    assert not off_truth(Measurement(value=0.4, low=0.2, high=0.6, truth=0.2))
    assert not off_truth(Measurement(value=0.4, truth=0.2))
    assert not off_truth(Measurement(value=0.4, low=0.2, high=0.6))


def test_columns_play_their_roles(results: Results) -> None:
    assert [column.name for column in concept_columns(results)] == ["mustache"]
    assert [column.name for column in attribute_columns(results)] == ["man", "beard", "glasses", "hat", "smile"]
    side_effect = side_effect_column(results)
    assert side_effect is not None
    assert side_effect.name == "collateral_shift"


def test_a_column_that_nobody_measured_plays_no_role(results: Results) -> None:
    bare = told(results, frechet=[distance(0.1, 0.0, 0.2)])
    assert concept_columns(bare) == attribute_columns(bare) == []
    side_effect = side_effect_column(bare)  # the next best
    assert side_effect is not None
    assert side_effect.name == "frechet"


# the words


def test_the_question_names_both_prompts(results: Results) -> None:
    assert question(results) == (
        "“portrait photo of a man”, but no “mustache”: what does each way of saying so remove, "
        "and what else does it change?"
    )


def test_the_answer_to_the_sample(results: Results) -> None:
    first, second = summary(results)
    assert first.startswith(
        "“mustache” shows in 69 % [44, 86] of the unguided images, "
        "clearly less often with “negative prompt” (0 % [0, 19]), "
    )
    assert "said in the prompt" not in first  # 31 % [14, 56] overlaps 69 % [44, 86]
    assert second == (
        "Of these, the lowest collateral shift measured is that of "
        "“autoguidance + dynamic negative” (4.8 % [4.1, 5.5]); "
        "it is clearly below “negative prompt” (19 % [16, 22]) and cannot be told apart from "
        "“dynamic negative guidance” (5.2 % [4.4, 6.0]); a perfect method would have 0 %."
    )


def test_overlap_is_told_as_overlap(results: Results) -> None:
    (only,) = summary(told(results, mustache=[share(0.5, 0.3, 0.7), share(0.1, 0.0, 0.3)]))
    assert only == (
        "“mustache” shows in 50 % [30, 70] of the unguided images, "
        "and no other method can be claimed to be lower: the intervals overlap."
    )


def test_one_method_that_removes_is_told_with_its_side_effect(results: Results) -> None:
    found = told(
        results,
        mustache=[share(0.5, 0.3, 0.7), share(0.1, 0.0, 0.2)],
        collateral_shift=[distance(0.01, 0.0, 0.02), distance(0.2, 0.1, 0.3)],
    )
    assert summary(found)[1] == "The collateral shift of “M1” is 20 % [10, 30]."


def test_a_few_images_are_told_without_a_claim(results: Results) -> None:
    """Of one image the bootstrap had no width, so that the lower of any two numbers was clearly below the other."""
    found = told(
        results,
        mustache=[share(1.0, 0.21, 1.0), share(0.0, 0.0, 0.79), share(0.0, 0.0, 0.79)],
        collateral_shift=[distance(0.45, None, None), distance(0.52, None, None), distance(0.31, None, None)],
    )
    first, second = summary(found)
    assert first == (
        "“mustache” shows in 100 % [21, 100] of the unguided images, and no other method can be claimed to be lower: the "
        "intervals overlap."
    )
    assert second == (
        "The lowest collateral shift measured is that of “M2” (31 %); it cannot be told apart from “M0” (45 %) and “M1” (52 %)."
    )


def test_more_is_told_as_more(results: Results) -> None:
    (only,) = summary(told(results, mustache=[share(0.2, 0.1, 0.3), share(0.6, 0.5, 0.7)]))
    assert only.endswith("; it shows clearly more often with “M1” (60 % [50, 70]).")


def test_without_a_classifier_nothing_is_claimed(results: Results) -> None:
    blind = told(results, evaluations=[Measurement(value=30.0), Measurement(value=60.0)])
    assert summary(blind) == [
        "No judge recognizes “mustache”, so how often it shows was not measured: look at the images."
    ]
    assert summary(results.model_copy(update={"negative_prompts": []}))[0].startswith("There is no negative prompt")


triples = st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted)
shares = triples.map(lambda three: share(three[1], three[0], three[2]))
distances = st.one_of(
    triples.map(lambda three: distance(three[1], three[0], three[2])),
    st.floats(0, 1).map(lambda value: distance(value, None, None)),
    st.just(distance(float("nan"), None, None)),
)
CLAIM = re.compile(
    r"(?:“(M\d)” |it )?(clearly less often with|clearly more often with|is clearly below) ([^;]*?)(?= and cannot|;|\.$)"
)


@settings(max_examples=300, deadline=None)
@given(numbers=st.lists(st.tuples(shares, distances), min_size=1, max_size=6))
def test_no_difference_is_claimed_whose_intervals_overlap(
    results: Results, numbers: list[tuple[Measurement, Measurement]]
) -> None:
    found = told(results, mustache=[one for one, _ in numbers], collateral_shift=[two for _, two in numbers])
    by_label = {method.label: method.measurements for method in found.methods}
    for sentence in summary(found):
        lowest = re.search(r"measured is that of “(M\d)”", sentence)
        column = "collateral_shift" if lowest else "mustache"
        claims = CLAIM.findall(sentence)
        assert sentence.count("clearly") == len(claims), sentence
        assert not re.search(r"\b(best|most|least|significant)", sentence)
        for subject, verb, objects in claims:
            names = re.findall(r"“(M\d)”", objects)
            assert names, sentence
            subject = subject or (lowest[1] if lowest else "M0")
            for name in names:
                mine, theirs = by_label[subject][column], by_label[name][column]
                lower, higher = (
                    (mine, theirs) if verb in ("is clearly below", "clearly more often with") else (theirs, mine)
                )
                assert lower.high < higher.low, sentence


def measured_truth(results: Results) -> Results:
    """The results as if their truth was redrawn by a judge that errs, with a second judge beside it."""

    def told_of(one: Measurement) -> Measurement:
        known = one.truth is not None
        return one.model_copy(update={"truth_low": one.truth - 0.05, "truth_high": one.truth + 0.05}) if known else one

    methods = [
        method.model_copy(update={"measurements": {name: told_of(one) for name, one in method.measurements.items()}})
        for method in results.methods
    ]
    file = results.methods[0].images[0].file
    return results.model_copy(update={
        "methods": methods, "features": "what the judge sees", "judge": {"_class_name": "Portraits", "classifier": "second"},
        "second_judge": {"_class_name": "Portraits", "classifier": "own"}, "watched": ["hat"],
        "judge_errors": {"hat": 0.0123}, "judge_error_source": "2,000 true portraits",
        "truth": TruthResult(
            kind="redrawn", target="images without it", method="unguided", drawn=2000, kept=1530, unsure=12, seeds="7-8"
        ),
        "disagreements": [
            Disagreement(column="mustache", first="a", second="b", share=0.25, low=0.1, high=0.4, images=[file])
        ],
    })  # fmt: skip


# who judged, and against what


def test_a_measured_truth_has_its_interval(results: Results) -> None:
    found = measured_truth(results)
    assert truth_row(found)[1:4] == ["0 % [-5, 5]", "100 % [95, 105]", "15 % [10, 20]"]
    off = Measurement(value=0.5, low=0.4, high=0.6, truth=0.35)
    assert off_truth(off)
    # the interval of the difference reaches sqrt(0.1^2 + (high - 0.35)^2) below 0.15
    assert not off_truth(off.model_copy(update={"truth_low": 0.2, "truth_high": 0.47}))
    assert off_truth(off.model_copy(update={"truth_low": 0.3, "truth_high": 0.36}))


def test_who_judged_is_told_on_the_page_and_in_the_terminal(results: Results, folder: Path) -> None:
    found = measured_truth(results)
    lines = who(found)
    assert lines == [
        "Judge: portraits (classifier second).",
        "Second judge: portraits (classifier own).",
        "Watched: hat.",
        "The judge errs in hat 1.2 %, on 2,000 true portraits.",
        (
            "Truth: measured against 1,530 of 2,000 images, made with unguided, in which the judge sees no mustache, unsure of 12 of "
            "those kept."
        ),
        "Features: what the judge sees.",
    ]
    reader = Reader(write_report(found, folder).read_text(encoding="utf-8"))
    text = reader.text.replace("\N{NO-BREAK SPACE}", " ")
    for line in lines:
        assert line in text
    (table,) = [table for table in reader.tables if table[0][0] == "they differ on"]
    assert table[1] == ["mustache", "25 % [10, 40]", "1"]
    seen = results.methods[0].images[0].shown["mustache"]
    assert f"mustache: {'a' if seen else 'b'} sees it, {'b' if seen else 'a'} does not" in text


def test_details_are_in_a_folded_table_alone(results: Results, folder: Path) -> None:
    columns = [column.model_copy(update={"detail": column.name == "hat"}) for column in results.columns]
    reader = Reader(write_report(results.model_copy(update={"columns": columns}), folder).read_text(encoding="utf-8"))
    short, whole = [table for table in reader.tables if table[0][0] == "method" and table[0][1] == "mustache ↓"]
    assert [name for name in whole[0] if name not in short[0]] == ["hat ◎"]
    assert "details" in {tag for tag, _ in reader.elements}


# the page


def test_the_table_has_every_number_in_its_place(results: Results, page: str) -> None:
    (table,) = [table for table in Reader(page).tables if table[0][0] == "method" and table[0][1] == "mustache ↓"]
    assert table[0] == header(results)
    assert [[text.strip() for text in cells] for cells in table[1:-1]] == rows(results)
    assert table[-1] == truth_row(results)
    negative = next(cells for cells in table if cells[0] == "negative prompt")
    assert negative[1] == "0 % [0, 19]"
    assert negative[table[0].index("collateral shift ↓")] == "19 % [16, 22]"
    assert table[-1][1:4] == ["0 %", "100 %", "15 %"]


def test_the_page_says_question_answer_notes_warnings_and_command(results: Results, page: str) -> None:
    text = Reader(page).text.replace("\N{NO-BREAK SPACE}", " ")
    computed = [question(results), *summary(results), *results.notes, results.command, results.model_digest]
    written = [
        "autoguidance looks at negative prompts only",
        "D = D_empty + w (D_prompt - D_empty)",
        "arXiv 2410.14398",
    ]
    for expected in [*computed, *written, results.scheduler, "conjunction"]:
        assert expected in text


def test_prompts_are_escaped(results: Results, folder: Path, tmp_path: Path) -> None:
    methods = [
        method.model_copy(
            update={
                "prompt": ATTACK, "negative_prompts": [ATTACK], "label": f'{ATTACK}" onerror="x', "warnings": [ATTACK],
                "guidance": {"_class_name": ATTACK, ATTACK: ATTACK},
                "images": [image.model_copy(update={"file": str(folder / image.file)}) for image in method.images[:1]],
            }
        )
        for method in results.methods
    ]  # fmt: skip
    columns = [
        column.model_copy(update={"label": ATTACK, "meaning": f'{ATTACK}" onload="x'}) for column in results.columns
    ]
    hostile = results.model_copy(
        update={
            "prompt": ATTACK, "negative_prompts": [ATTACK], "command": ATTACK, "notes": [ATTACK], "target": ATTACK,
            "columns": columns, "methods": methods, "model": ATTACK, "scheduler": ATTACK,
        }
    )  # fmt: skip
    reader = Reader(write_report(hostile, tmp_path).read_text(encoding="utf-8"))
    assert ATTACK in reader.text
    assert "script" not in {tag for tag, _ in reader.elements}
    assert not any(name.startswith("on") for _, attributes in reader.elements for name in attributes)


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    reader = Reader(page)
    for tag, attributes in reader.elements:
        assert tag not in ("script", "link", "iframe", "object", "embed")
        for name, value in attributes.items():
            if name in ("src", "srcset"):
                assert value.startswith("data:image/")
            if value and ("http://" in value or "https://" in value):
                assert (tag, name) == ("a", "href")
                assert value.startswith("https://arxiv.org/abs/")
    style = re.search(r"<style>(.*)</style>", page, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_every_image_is_described(results: Results, page: str) -> None:
    described = [attributes["alt"] for tag, attributes in Reader(page).elements if tag == "img"]
    assert all(described)
    assert "unguided, seed 0, shows the concept" in described
    assert "negative prompt, seed 0, does not show the concept" in described
    shown = [drawing for drawing in drawings() if drawing.on_page]
    assert len(described) == 7 * 8 + len(shown)
    headings = [attributes for tag, attributes in Reader(page).elements if tag == "th"]
    assert all(attributes.get("scope") in ("col", "row") for attributes in headings)


def test_an_image_that_the_classifier_is_unsure_of_is_told(results: Results, folder: Path, tmp_path: Path) -> None:
    method = results.methods[3]
    images = [
        image.model_copy(update={"file": str(folder / image.file), "probability": {"mustache": sure}})
        for image, sure in zip(method.images[:2], (0.724, 0.001), strict=True)
    ]
    unsure = results.model_copy(update={"methods": [method.model_copy(update={"images": images})]})
    page = write_report(unsure, tmp_path).read_text(encoding="utf-8")
    drawn = [attributes for tag, attributes in Reader(page).elements if tag == "img"][:2]
    assert [one["alt"].rpartition(", ")[2] for one in drawn] == ["may show the concept", "does not show the concept"]
    assert [one.get("class") for one in drawn] == ["unsure", None]
    assert " ".join(unsure_notes(unsure.methods)) == (
        "The judge is unsure of 'mustache' (20 to 80 %) in 1 of 2 images: negative prompt seed 0. "
        "Each counts as the likelier answer; look at them."
    )
    assert unsure_notes(results.methods) == []


def test_the_page_is_the_same_every_time(results: Results, folder: Path) -> None:
    short = results.model_copy(update={"methods": results.methods[4:5]})
    first = write_report(short, folder).read_bytes()
    assert write_report(short, folder).read_bytes() == first


def test_photographs_do_not_make_the_page_huge(results: Results, tmp_path: Path) -> None:
    Image.effect_noise((768, 512), 80).save(tmp_path / "photo.png")
    methods = [
        method.model_copy(
            update={
                "images": [
                    image.model_copy(update={"file": "photo.png", "shown": {}, "trace": {}}) for image in method.images
                ]
            }
        )
        for method in results.methods
    ]
    bare = results.model_copy(update={"methods": methods, "columns": [], "target": None, "notes": [], "command": ""})
    path = write_report(bare, tmp_path)
    assert path.stat().st_size < 7 * 16 * 40_000
    assert "What the guidance did" not in path.read_text(encoding="utf-8")


def test_figures_are_written_beside_the_page(results: Results, tmp_path: Path, folder: Path) -> None:
    paths = write_figures(results, folder)
    assert [path.name for path in paths] == [f"{drawing.name}.png" for drawing in drawings()]
    assert {"grid.png", "shift.png", "trace.png"} <= {path.name for path in paths}
    for path in paths:
        with Image.open(path) as opened:
            assert min(opened.size) > 400


def test_a_strangers_figure_is_written_and_stands_on_the_page(
    results: Results, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced = SimpleNamespace(load=lambda: skeleton_figure)
    monkeypatch.setattr(shelf, "entry_points", lambda group: [announced] if group == f"steerclear.{SHELF}" else [])
    entries.cache_clear()
    try:
        few = results.model_copy(update={"methods": results.methods[2:5]})
        paths = write_figures(few, folder)
        page = write_report(few, folder).read_text(encoding="utf-8")
        empty = results.model_copy(update={"methods": []})
        reason = skeleton_figure.Evaluations().figure(empty, folder).texts[0].get_text()
        bars = skeleton_figure.Evaluations().figure(few, folder).axes[0].patches
    finally:
        entries.cache_clear()
    assert [path.name for path in paths][:3] == ["grid.png", "shift.png", "trace.png"]
    assert "evaluations.png" in [path.name for path in paths]
    headings = re.findall("<h2>(.*)</h2>", page)
    assert headings[:4] == [
        "The images", "What it removed, and what else it changed", "All measurements", "What the guidance did on the way",
    ]  # fmt: skip
    assert "What it cost" in headings
    alts = [attributes["alt"] for tag, attributes in Reader(page).elements if tag == "img"]
    assert "Network evaluations per image, a bar per method." in alts
    assert [bar.get_height() for bar in bars] == [60.0, 60.0, 60.0]
    assert reason == "There are no methods, so nothing was evaluated."


def test_the_terminal_shows_the_same_numbers(results: Results) -> None:
    marked = results.methods[0].model_copy(update={"label": "[red]x[/red]"})
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(*terminal_tables(results.model_copy(update={"methods": [marked, *results.methods[1:]]}), width=200))
    text = console.export_text()
    for expected in ("[red]x[/red]", "69 % [44, 86]", "4.5 % [3.8, 5.2]", "mustache ↓", "truth"):
        assert expected in text
    first, others = text.split("method", 2)[1:]
    for name in ("beard", "glasses", "hat", "smile"):
        assert name not in first
        assert name in others
    assert cell(results.methods[0].measurements["beard"], percent=True) in others


def test_details_are_in_the_full_table_and_not_in_the_terminal(results: Results) -> None:
    hidden = [one.model_copy(update={"detail": one.name in ("beard", "precision")}) for one in results.columns]
    results = results.model_copy(update={"columns": hidden})
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(*terminal_tables(results, width=200))
    text = console.export_text()
    assert "precision" not in text
    assert "beard" not in text
    assert "glasses" in text
    assert {"beard ◎", "precision ↑"} <= {*header(results)}


@pytest.mark.parametrize("width", [50, 80, 100, 139, 140, 150, 160, 180])
@pytest.mark.parametrize(
    "negatives", [["mustache"], ["mustache", "beard"], ["mustache", "beard", "glasses", "hat", "smile"]]
)
def test_no_terminal_cuts_anything_off(results: Results, negatives: list[str], width: int) -> None:
    moved = Column(name="moved", label="moved", meaning="how far an image went", role="score")
    columns = [
        column.model_copy(update={"role": "concept"}) if column.name in negatives else column
        for column in (*results.columns, moved)
    ]
    results = results.model_copy(update={"negative_prompts": negatives, "columns": columns}, deep=True)
    methods = list(results.methods)
    methods[1] = methods[1].model_copy(update={"label": "dynamic-negative a_guidance_of_somebody_with_quite_a_name"})
    results = results.model_copy(update={"methods": methods})
    for place, method in enumerate(results.methods):
        method.measurements["moved"] = Measurement(value=0.0123 + place, low=0.0101 + place, high=0.0146 + place)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(*terminal_tables(results, width=width))
    text = console.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for word in ("unguided", "autoguidance", "dynamic-negative", "mustache", "collateral", "precision"):
        assert word in text
    for column in results.columns:
        brief = (*negatives, "precision", "evaluations", "moved")
        if column.name in (*(rate.name for rate in attribute_columns(results)), *brief):
            assert set(column.label.split()) <= set(text.split())
            for method in results.methods:
                value, _, interval = cell(method.measurements[column.name], column.percent).partition(" [")
                assert value in text
                assert interval in text
                if width >= 140 and interval:
                    assert f"{value} [{interval}" in text


# what docstrings say


@pytest.mark.parametrize("cls", [*guidances().values(), TransitionEvidence], ids=lambda cls: cls.name)
def test_every_docstring_can_be_read(cls: type) -> None:
    doc = documentation(cls)
    assert doc.summary.endswith((".", "?"))
    assert "=" in doc.equation
    assert doc.paper
    assert [parameter.name for parameter in doc.parameters] == list(cls.parameters())
    assert all(parameter.meaning for parameter in doc.parameters)
    assert "`" not in str(doc)


def test_documentation_is_exact() -> None:
    doc = documentation(guidances()["interval"])
    assert doc.equation.splitlines() == [
        'D = D_inner where int(start N) <= i < int(stop N), else D_prompt     (by="fraction")',
        'D = D_inner where start <= sigma / alpha < stop, else D_prompt       (by="sigma")',
    ]
    assert doc.cost == "the inner guidance's inside, 1 evaluation per step outside"
    assert doc.parameters[0].default == "ClassifierFreeGuidance(guidance_scale=3, guidance_rescale=0)"
    assert doc.parameters[1] == (
        "start",
        "0",
        "the bounds, start included, stop excluded; 0 <= start < stop, at most 1 for fractions.",
    )
    assert doc.parameters[2] == doc.parameters[1]._replace(name="stop", default="1")
    assert len(documentation(guidances()["negative"]).equation.splitlines()) == 2
    assert documentation(TransitionEvidence).equation.startswith("L += -((1 + w) / s'^2)")


def test_parts_reach_into_nested_settings(results: Results) -> None:
    found = parts(results.methods[-1].guidance)
    assert [(part.where, part.class_name) for part in found] == [
        ("", "AutoGuidance"), ("inner", "DynamicNegativeGuidance"), ("inner.evidence", "TransitionEvidence"),
    ]  # fmt: skip
    assert ("negative_scale", "2") in [setting[:2] for setting in found[1].settings]


def test_a_guidance_that_is_not_installed_still_shows_its_settings() -> None:
    (part,) = parts({"_class_name": "TheirGuidance", "scale": 2.0})
    assert part.doc is None
    assert part.settings == [("scale", "2", "")]


@pytest.mark.parametrize(
    ("better", "sentence"),
    [
        (
            "lower",
            "The lowest distance measured is that of “b” (0.20 [0.10, 0.30]); it is clearly below “a” (0.90 [0.80, 1.00]).",
        ),
        ("higher", "The highest distance measured is that of “a” (0.90 [0.80, 1.00])."),
        ("truth", "The distance nearest to the truth is that of “a” (0.90 [0.80, 1.00])."),
    ],
)
def test_the_best_is_what_the_column_says(results: Results, better: str, sentence: str) -> None:
    column = Column(name="distance", label="distance", meaning="a test", role="score", better=better)  # type: ignore[arg-type]
    numbers = {"a": Measurement(value=0.9, low=0.8, high=1.0), "b": Measurement(value=0.2, low=0.1, high=0.3)}
    methods = [
        results.methods[0].model_copy(update={"name": name, "label": name, "measurements": {"distance": number}})
        for name, number in numbers.items()
    ]
    assert _best(sorted(methods, key=lambda one: one.name == "a"), column, 1.0) == sentence
