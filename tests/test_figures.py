"""Figures: each picture at its place, each line the numbers it stands for, the same bytes every time."""

import ast
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

import steerclear
from sample_results import sample_results
from steerclear.core.errors import InvalidSetting, UnknownName
from steerclear.core.records import Trace, TraceStep
from steerclear.study.results import ImageResult, MethodResult, Results
from steerclear.telling.figures.base import DARK, LIGHT, Theme, drawings, find_drawing, png, save
from steerclear.telling.figures.grid import CELL, Grid, fitted
from steerclear.telling.figures.shift import Shift
from steerclear.telling.figures.trace import NOTHING, TraceDrawing
from steerclear.telling.table import shows_concept


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return sample_results(folder)


def grid(results: Results, folder: Path, columns: int = 8) -> Figure:
    return Grid(columns).figure(results, folder)


def shift(results: Results, theme: Theme = LIGHT) -> Figure:
    return Shift().figure(results, Path("unused"), theme)


def trace(results: Results, *names: str) -> Figure:
    return TraceDrawing(names).figure(results, Path("unused"))


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_label(): axes for axes in figure.axes}


def words(figure: Figure) -> str:
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    return "\n".join(text.get_text() for text in texts)


def changed(results: Results, change: Callable[[MethodResult], dict]) -> Results:
    return results.model_copy(
        update={"methods": [method.model_copy(update=change(method)) for method in results.methods]}
    )


def box(axes: Axes) -> np.ndarray:
    return np.array(axes.get_position().bounds)


# the grid


def test_every_cell_holds_the_image_of_its_seed_and_method(results: Results, folder: Path) -> None:
    cells = panels(grid(results, folder, columns=5))
    assert list(cells) == [f"{method.name}/{seed}" for method in results.methods for seed in range(5)]
    for row, method in enumerate(results.methods):
        for seed in range(5):
            cell = cells[f"{method.name}/{seed}"]
            with Image.open(folder / method.images[seed].file) as opened:
                expected = np.asarray(opened.convert("RGB"))
            shown = np.asarray(cell.images[0].get_array())
            assert np.array_equal(shown[1::3, 1::3], expected)  # three screen pixels a pixel
            above, before = f"{results.methods[row - 1].name}/{seed}", f"{method.name}/{seed - 1}"
            assert row == 0 or box(cell)[1] < box(cells[above])[1]
            assert seed == 0 or box(cell)[0] > box(cells[before])[0]


def test_columns_and_rows_are_aligned_to_whole_pixels(results: Results, folder: Path) -> None:
    figure = grid(results, folder, columns=3)
    size = figure.get_size_inches() * figure.dpi
    for cell in figure.axes:
        corners = box(cell) * np.tile(size, 2)
        assert np.allclose(corners, corners.round(), atol=1e-6)
        assert np.allclose(corners[2:], CELL)


def test_the_page_shows_the_pixels_unchanged(results: Results, folder: Path) -> None:
    """Read back from the PNG, so that nothing between the array and the file smooths or moves them."""
    figure = grid(results, folder, columns=2)
    page = np.asarray(Image.open(save(figure, folder / "grid.png")).convert("RGB"))
    unframed = next(
        (method, seed)
        for method in results.methods
        for seed in range(2)
        if not shows_concept(results, method.images[seed])
    )
    cell = panels(figure)[f"{unframed[0].name}/{unframed[1]}"]
    x, y, width, height = (box(cell) * np.tile(page.shape[1::-1], 2)).round().astype(int)
    drawn = page[page.shape[0] - y - height : page.shape[0] - y, x : x + width]
    assert np.array_equal(drawn, np.asarray(cell.images[0].get_array()))


def test_frames_are_where_the_concept_is_seen(results: Results, folder: Path) -> None:
    cells = panels(grid(results, folder, columns=4))
    framed = {name for name, cell in cells.items() if cell.patches}
    assert framed == {
        f"{method.name}/{image.seed}"
        for method in results.methods
        for image in method.images[:4]
        if image.shown["mustache"]
    }
    assert framed


def with_certainty(results: Results, sure: list[float]) -> Results:
    """Of the first images of each method the classifier gives these probabilities of a mustache."""

    def change(method: MethodResult) -> dict:
        pairs = zip(method.images[: len(sure)], sure, strict=True)
        images = [
            image.model_copy(update={"shown": {"mustache": int(p > 0.5)}, "probability": {"mustache": p}})
            for image, p in pairs
        ]
        return {"images": images}

    return changed(results, change)


def test_a_frame_is_dashed_where_the_classifier_is_unsure(results: Results, folder: Path) -> None:
    unsure = with_certainty(results, [0.02, 0.3, 0.72, 0.97])
    figure = grid(unsure, folder)
    drawn = {name: [patch.get_linestyle() for patch in cell.patches] for name, cell in panels(figure).items()}
    for method in results.methods:
        dashes = [drawn[f"{method.name}/{seed}"] for seed in range(4)]
        assert [len(one) for one in dashes] == [0, 1, 1, 1]
        assert dashes[1] == dashes[2] != dashes[3] == ["solid"]
    assert "dashed: the judge is unsure (20 to 80 %)" in words(figure)
    assert "dashed" not in words(grid(with_certainty(results, [0.02, 0.97]), folder))


def test_a_grid_says_labels_prompts_and_rates(results: Results, folder: Path) -> None:
    said = words(grid(results, folder))
    for expected in (
        "negative prompt",
        "“portrait photo of a man”",
        "negative: “mustache”",
        "69 %",
        "[44, 86]",
        "seed 0",
    ):
        assert expected in said


def test_a_missing_image_leaves_its_cell_empty(results: Results, folder: Path) -> None:
    interrupted = changed(
        results, lambda method: {"images": method.images[:2] if method.name == "cfg" else method.images}
    )
    cells = panels(grid(interrupted, folder, columns=3))
    assert "cfg/1" in cells
    assert "cfg/2" not in cells
    assert "negative/2" in cells


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (100, 40), (193, 20), (512, 768), (2048, 400)])
def test_any_size_fits_and_keeps_its_shape(size: tuple[int, int]) -> None:
    shown = fitted(Image.new("RGB", size))
    assert max(shown.size) <= CELL
    assert max(shown.size) >= 96
    if min(size) > 10:
        assert shown.width / shown.height == pytest.approx(size[0] / size[1], rel=0.03)


def test_mixed_sizes_stand_side_by_side(results: Results, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "red").save(tmp_path / "wide.png")
    images = [ImageResult(seed=seed, file="wide.png", shown={}, trace={}) for seed in (7, 3)]
    figure = grid(changed(results, lambda method: {"images": images}), tmp_path)
    assert [axes.get_label() for axes in figure.axes][:2] == ["unguided/7", "unguided/3"]
    assert "framed" not in words(figure)


def test_no_images_is_said(results: Results, tmp_path: Path) -> None:
    assert words(grid(changed(results, lambda method: {"images": []}), tmp_path)) == "There are no images to show."


def test_a_prompt_is_no_mathematics(results: Results, folder: Path) -> None:
    priced = changed(results, lambda method: {"prompt": r"a $\frac{1}$ bill, ${$", "label": "$x_$"})
    png(grid(priced, folder, columns=1))
    png(shift(priced))
    png(trace(priced))


# the trace


def test_lines_are_the_traces(results: Results) -> None:
    drawn = panels(trace(results))
    adaptive = [method for method in results.methods if "dynamic" in method.name]
    assert set(drawn) == {f"{method.name}/{name}" for method in adaptive for name in ("weight", "posterior")}
    for method in adaptive:
        for name in ("weight", "posterior"):
            lines = {line.get_gid(): line for line in drawn[f"{method.name}/{name}"].lines}
            for image in method.images:
                line = lines[f"image {image.seed}"]
                expected = np.array([np.nan if value is None else value for value in image.trace[name]])
                assert np.array_equal(line.get_ydata(), expected, equal_nan=True)
                assert np.array_equal(line.get_xdata(), np.arange(1, len(expected) + 1))
                assert line.get_color() == (LIGHT.concept if image.shown["mustache"] else LIGHT.other)


def test_the_bold_line_is_the_median_of_its_group(results: Results) -> None:
    method = next(method for method in results.methods if method.name == "dynamic-negative")
    lines = panels(trace(results))["dynamic-negative/posterior"].lines
    for shown, color in ((1, LIGHT.concept), (0, LIGHT.other)):
        (bold,) = [line for line in lines if line.get_gid() == "median" and line.get_color() == color]
        group = [image.trace["posterior"][1:] for image in method.images if image.shown["mustache"] == shown]
        assert np.allclose(bold.get_ydata()[1:], np.median(np.array(group, dtype=float), axis=0))
        assert np.isnan(bold.get_ydata()[0])


def test_levels_that_no_scheduler_said_are_not_drawn(results: Results) -> None:
    untold = [
        method.model_copy(update={"noise_levels": [None] * len(method.noise_levels)}) for method in results.methods
    ]
    for axes in trace(results.model_copy(update={"methods": untold})).axes:
        assert all(label.get_text().isdecimal() for label in axes.get_xticklabels())


def test_nothing_leaves_its_panel(results: Results) -> None:
    for axes in trace(results).axes:
        low, high = axes.get_ylim()
        values = np.concatenate([line.get_ydata() for line in axes.lines])
        assert low <= np.nanmin(values)
        assert np.nanmax(values) <= high


def test_each_negative_has_its_own_row(results: Results) -> None:
    def twice(method: MethodResult) -> dict:
        images = [
            image.model_copy(update={"trace": image.trace | {f"{name}_2": one for name, one in image.trace.items()}})
            for image in method.images
        ]
        return {"images": images, "negative_prompts": ["mustache", "beard"]}

    figure = trace(changed(results, twice))
    assert "dynamic-negative/weight_2" in panels(figure)
    assert "away from “beard”" in words(figure)


def test_no_trace_is_said_in_one_sentence(results: Results) -> None:
    def untraced(method: MethodResult) -> dict:
        return {"images": [image.model_copy(update={"trace": {"push_norm": [1.0]}}) for image in method.images]}

    figure = trace(changed(results, untraced))
    assert words(figure) == NOTHING
    assert figure.axes == []


def test_any_number_is_drawn_by_its_name(results: Results) -> None:
    def kept(method: MethodResult) -> dict:
        images = [image.model_copy(update={"trace": {"kept_part": [-0.5, 2.0, None]}}) for image in method.images]
        return {"images": images, "noise_levels": [3.0, 2.0, 1.0]}

    drawn = panels(trace(changed(results, kept)))
    assert list(drawn) == [f"{method.name}/kept_part" for method in results.methods]
    axes = drawn["cfg/kept_part"]
    assert axes.get_title(loc="left") == "kept part"
    assert axes.lines[0].get_ydata()[:2].tolist() == [-0.5, 2.0]
    low, high = axes.get_ylim()
    assert low < -0.5 < 2.0 < high


def test_lengths_are_drawn_where_they_are_asked_for(results: Results) -> None:
    assert {name.split("/")[1] for name in panels(trace(results, "push_norm"))} == {"push_norm"}
    assert {name.split("/")[1] for name in panels(trace(results))} == {"weight", "posterior"}


def test_large_numbers_of_either_sign_are_in_their_panel(results: Results) -> None:
    def wide(method: MethodResult) -> dict:
        return {"images": [image.model_copy(update={"trace": {"odds": [-40.0, 700.0]}}) for image in method.images]}

    axes = panels(trace(changed(results, wide)))["cfg/odds"]
    low, high = axes.get_ylim()
    assert low <= -40 < 700 <= high
    assert axes.get_yticks().tolist() == [-1, -10, 0, 1, 10, 100, 1000]


def test_a_run_draws_its_trace() -> None:
    levels, shown = [math.inf, 2.0, 0.5], [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    steps = [
        TraceStep(index, level, ("positive",), torch.ones(2), {"weight": torch.tensor(row), "push_norm": torch.ones(2)})
        for index, (level, row) in enumerate(zip(levels, shown, strict=True))
    ]
    drawn = panels(Trace(steps).figure())
    assert list(drawn) == ["run/weight"]
    lines = {line.get_gid(): line.get_ydata().tolist() for line in drawn["run/weight"].lines}
    assert lines == {"image 0": [0, 2, 4], "image 1": [1, 3, 5], "median": [0.5, 2.5, 4.5]}
    assert [label.get_text() for label in drawn["run/weight"].get_xticklabels()] == ["1\n∞", "2\n2.0", "3\n0.5"]
    assert list(panels(Trace(steps).figure("push_norm"))) == ["run/push_norm"]
    with pytest.raises(UnknownName, match="no measurement in this trace 'wieght'; did you mean 'weight'"):
        Trace(steps).figure("wieght")
    assert Trace(steps).figure()._repr_png_().startswith(b"\x89PNG")
    assert words(Trace().figure()) == NOTHING


# the shift


def test_dots_intervals_and_truths_are_the_measurements(results: Results) -> None:
    drawn = panels(shift(results))
    assert list(drawn) == ["mustache", "man", "beard", "glasses", "hat", "smile"]
    for name, axes in drawn.items():
        dots = [line for line in axes.lines if line.get_marker() == "o"]
        bars = [line for line in axes.lines if line.get_marker() == "None" and line.get_linewidth() == 2]
        for row, (method, dot, bar) in enumerate(zip(results.methods, dots, bars, strict=True)):
            measured = method.measurements[name]
            assert dot.get_xydata().tolist() == [[pytest.approx(measured.value * 100), row]]
            assert bar.get_xdata() == pytest.approx([measured.low * 100, measured.high * 100])
            off = not measured.low <= measured.truth <= measured.high
            assert dot.get_color() == bar.get_color() == (LIGHT.concept if off else LIGHT.other)
        truths = [line for line in axes.lines if line.get_color() == LIGHT.ink]
        assert truths[0].get_xdata() == pytest.approx([measured.truth * 100] * 2)


def test_without_a_truth_nothing_is_called_off(results: Results) -> None:
    def unknown(method: MethodResult) -> dict:
        blind = {"truth": None, "better": None}
        return {"measurements": {name: one.model_copy(update=blind) for name, one in method.measurements.items()}}

    drawn = panels(shift(changed(results, unknown)))
    assert next(iter(drawn)) == "mustache"
    colors = {line.get_color() for axes in drawn.values() for line in axes.lines if line.get_marker() == "o"}
    assert colors == {LIGHT.muted}


def test_no_rates_is_said(results: Results) -> None:
    assert "No rates were measured" in words(shift(changed(results, lambda method: {"measurements": {}})))


def test_no_words_are_cut_off(results: Results, folder: Path) -> None:
    for figure in (grid(results, folder, columns=2), shift(results), trace(results)):
        renderer = figure.canvas.get_renderer()
        width, height = figure.get_size_inches() * figure.dpi
        texts = [*figure.texts, *(text for axes in figure.axes for text in (*axes.texts, *axes.get_xticklabels()))]
        for text in texts:
            extent = text.get_window_extent(renderer)
            assert extent.x0 >= 0, text
            assert extent.y0 >= 0, text
            assert extent.x1 <= width, text
            assert extent.y1 <= height, text


# the shelf


def test_the_figures_in_the_order_of_the_page() -> None:
    ours = ("grid", "shift", "trace")
    assert tuple(drawing.name for drawing in drawings() if drawing.name in ours) == ours
    assert [drawing.place for drawing in drawings()] == sorted(drawing.place for drawing in drawings())
    assert find_drawing("grid") is Grid
    with pytest.raises(UnknownName, match="did you mean 'shift'"):
        find_drawing("shfit")
    with pytest.raises(InvalidSetting, match="columns is 0"):
        Grid(0)


# the room


def test_figures_are_the_same_bytes_every_time(results: Results, folder: Path) -> None:
    assert png(shift(results)) == png(shift(results))
    assert png(grid(results, folder, columns=1)) == png(grid(results, folder, columns=1))
    assert png(shift(results, DARK)) != png(shift(results, LIGHT))


def matplotlib_importers(root: Path) -> set[str]:
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "matplotlib" for name in names):
                found.add(path.relative_to(root).parent.as_posix())
    return found


def test_only_figures_import_matplotlib(tmp_path: Path) -> None:
    assert matplotlib_importers(Path(steerclear.__file__).parent) == {"telling/figures"}
    (tmp_path / "other.py").write_text("def late():\n    import matplotlib.pyplot\n")
    assert matplotlib_importers(tmp_path) == {"."}  # the check itself can fail


def test_drawing_leaves_no_global_state() -> None:
    code = "import sys, steerclear.telling.figures.shift, steerclear.telling.figures.trace, steerclear.telling.figures.grid; "
    code += "assert 'matplotlib.pyplot' not in sys.modules"
    root = str(Path(steerclear.__file__).parent.parent)
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": root, "PATH": ""})
