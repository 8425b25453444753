"""The examples run as they are, offline, and print these numbers."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
LONGEST = 42

pytestmark = pytest.mark.usefixtures("few_references", "loaded_once")


@pytest.fixture
def printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], list[str]]:
    """The lines that an example prints, run in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(name: str) -> list[str]:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"(?<!\w)-?\d+(?:\.\d+)?", line.partition(":")[2])]


def test_each_example_is_short_and_has_a_test() -> None:
    tested = re.findall(r'printed\("(\w+)"\)', Path(__file__).read_text())
    assert sorted(tested) == sorted(path.stem for path in EXAMPLES.glob("*.py"))
    assert [path.name for path in EXAMPLES.glob("*.py") if len(path.read_text().splitlines()) > LONGEST] == []


def test_steer_your_pipeline(printed) -> None:
    lines = printed("steer_your_pipeline")
    found = [numbers(line) for line in lines[:4]]
    assert [most for most, _ in found] == pytest.approx([1.02, 1.10, 1.02, 0.96], abs=0.03)
    assert [last for _, last in found] == pytest.approx([0.02, 0, 0, 0], abs=0.02)
    assert lines[4] == "evaluations per image: [24.0, 24.0, 24.0, 24.0]"
    assert sorted(path.name for path in Path().iterdir()) == ["0.png", "1.png", "2.png", "3.png"]


def test_compare(printed) -> None:
    lines = printed("compare")
    assert lines[-4:] == [
        "unguided: 0.500 show a mustache, 8 evaluations per image",
        "negative: 0.000 show a mustache, 16 evaluations per image",
        "dynamic-negative: 0.000 show a mustache, 24 evaluations per image",
        f"report: {Path('out/example/report.html')}",
    ]
    assert {path.name for path in Path("out/example").iterdir()} >= {
        "report.html",
        "grid.png",
        "shift.png",
        "trace.png",
    }


def test_add_a_guidance(printed) -> None:
    off, on = (numbers(line) for line in printed("add_a_guidance"))
    assert off == pytest.approx([0, 0], abs=1e-3)
    assert on == pytest.approx([0.023, 0], abs=1e-3)


def test_add_a_laboratory(printed) -> None:
    assert printed("add_a_laboratory") == [
        "classifier-free guidance: 75% bright [30%, 95%]",
        "negative prompt: 50% bright [15%, 85%]",
    ]


def test_add_a_world(printed) -> None:
    assert printed("add_a_world") == ["50.0% bright, in truth 41.2%; precision 0.88"]


def test_judge_with_your_own_function(printed) -> None:
    assert printed("judge_with_your_own_function") == [
        "classifier-free guidance: 100% bright, 50% blue",
        "negative prompt: 100% bright, 50% blue",
    ]


def test_exact_world(printed) -> None:
    lines = printed("exact_world")
    assert lines[0] == "without guidance 0.300 show the concept"
    assert [numbers(line) for line in lines[1:]] == [
        pytest.approx(pair, abs=2e-3) for pair in ([0.049, 0.760], [0.046, 0.010], [0.002, 0.001])
    ]


def test_draw_a_trace(printed) -> None:
    lines = printed("draw_a_trace")
    assert lines[0] == "Images(4 of 'portrait photo of a man', seeds 0-3, dynamic-negative, 24 evaluations per image)"
    found = [numbers(line) for line in lines[1:]]
    assert found[0] == pytest.approx([0.51, 0.02, 1.02], abs=0.03)
    assert [most for *_, most in found] == pytest.approx([1.02, 1.10, 1.02, 0.96], abs=0.03)
    assert Path("trace.png").read_bytes().startswith(b"\x89PNG")


def test_redraw_the_truth(printed) -> None:
    truth, *methods = printed("redraw_the_truth")
    assert truth == "the truth: 42 of 64 images; bright 0.238"
    assert methods == [
        "unguided: bright 0.438 (-0.05 to 0.45 of the truth), shift 0.184",
        "cfg: bright 0.500 (-0.00 to 0.50 of the truth), shift 0.258",
        "negative: bright 0.500 (-0.00 to 0.50 of the truth), shift 0.258",
    ]
