"""The two schematics: the plane of real samples, the tokens of both places; what is drawn is what was measured."""

from pathlib import Path

import pytest
import torch
from matplotlib.offsetbox import AnnotationBbox
from matplotlib.patches import Rectangle

from steerclear.core.errors import InvalidSetting, UnsupportedModel
from steerclear.models.loading import load_model
from steerclear.study.sampling_space import STORY, Asking, Region, Space, plane_of, sampling_space
from steerclear.study.two_places import Places, Slot, Way, slot_of, two_places
from steerclear.telling.figures.base import DARK, LIGHT
from steerclear.telling.figures.schematic_sampler import draw_sampler
from steerclear.telling.figures.schematic_space import PICTURES, draw_space, spread


def test_the_plane_is_that_of_the_widest_directions() -> None:
    """Points on a cross: 4 along a diagonal, 1 along the other; the third number is the same in all."""
    one, other = torch.tensor([0.6, -0.8, 0.0]), torch.tensor([0.8, 0.6, 0.0])
    points = torch.stack([4 * one, -4 * one, other, -other]) + 5.0
    middle, axes, share = plane_of(points)
    assert torch.allclose(middle, torch.full((3,), 5.0))
    assert torch.allclose(axes, torch.stack([-one, other]), atol=1e-6)  # the largest number of each is positive
    assert share == pytest.approx(1.0)
    assert torch.allclose((points - middle) @ axes.T, torch.tensor([[-4.0, 0], [4, 0], [0, 1], [0, -1]]), atol=1e-5)
    deep = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    assert plane_of(torch.cat([deep, -deep]))[2] == pytest.approx(13 / 14)
    with pytest.raises(InvalidSetting, match="at least 3; fewer span no plane"):
        plane_of(points[:2])


def test_pictures_are_apart_and_begin_in_the_middle() -> None:
    points = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    rows = spread(points, 9, 0.5)
    apart = (points[rows][:, None] - points[rows][None]).abs().amax(2) + 9 * torch.eye(len(rows))
    assert len(set(rows)) == len(rows) == 9
    assert float(apart.min()) >= 0.5
    assert rows[0] == int((points - points.mean(0)).norm(dim=1).argmin())
    assert spread(points, 0, 0.5) == spread(points[:0], 5, 0.5) == []


def space_of(counts: tuple[int, ...]) -> Space:
    generator = torch.Generator().manual_seed(0)
    regions = []
    for asked, count in zip(STORY, counts, strict=True):
        images = torch.randint(256, (count, 3, 64, 64), generator=generator, dtype=torch.uint8)
        shows = torch.arange(count) % 4 == 0
        regions.append(Region(asked, images, torch.randn(count, 2, generator=generator), shows))
    return Space(tuple(regions), 0.25, "mustache", "what a classifier sees")


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_every_image_is_a_dot_and_some_are_pictures(theme: object) -> None:
    space = space_of((40, 20, 8))
    figure = draw_space(space, theme)  # type: ignore[arg-type]
    panels = [axes for axes in figure.axes if axes.get_label()]
    assert [axes.get_label() for axes in panels] == [asked.title for asked in STORY]
    for place, (axes, region) in enumerate(zip(panels, space.regions, strict=True)):
        dots = [torch.as_tensor(one.get_offsets().data) for one in axes.collections]
        assert [len(one) for one in dots[place > 0 :]] == [int((~region.shows).sum()), int(region.shows.sum())]
        assert torch.allclose(dots[-1].double(), region.points[region.shows].double())
        pictures = [one for one in axes.artists if isinstance(one, AnnotationBbox)]
        assert 0 < len(pictures) <= PICTURES
        there = {tuple(point) for point in region.points.tolist()}
        assert all(tuple(one.xy) in there for one in pictures)
    assert "25% of 8 images show a mustache; scale 3" in [one.get_text() for one in panels[2].texts]


def test_real_samples_are_kept_and_lie_in_one_plane(tmp_path: Path) -> None:
    done: list[tuple[str, int, int]] = []
    asked = (STORY[0], STORY[2])
    arguments = {"asked": asked, "count": 3, "num_inference_steps": 1}
    space = sampling_space(tmp_path, batch_size=2, **arguments, on_progress=lambda *one: done.append(one))
    assert done == [(one.title, count, 3) for one in asked for count in (2, 3)]
    assert [region.asked for region in space.regions] == list(asked)
    assert space.share == pytest.approx(1.0)  # three points lie in a plane
    assert torch.allclose(space.regions[0].points.mean(0), torch.zeros(2), atol=1e-4)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = sampling_space(tmp_path, batch_size=2, **arguments)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
    assert torch.equal(again.regions[1].images, space.regions[1].images)
    alone = sampling_space(tmp_path / "alone", batch_size=1, **arguments)
    for own, other in zip(alone.regions, space.regions, strict=True):
        assert int((own.images.int() - other.images.int()).abs().max()) <= 1  # a level of gray


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="count is 2, but must be"):
        sampling_space(tmp_path, count=2)
    with pytest.raises(UnsupportedModel, match="the model 'digits' has no classifier of portraits"):
        sampling_space(tmp_path, count=3, model=load_model("digits"))
    with pytest.raises(UnsupportedModel, match="has no tokenizer with a fixed number of tokens"):
        slot_of(load_model("digits").pipe, "prompt", "3")


def test_both_places_have_77_tokens() -> None:
    pipe = load_model("portraits").pipe
    for text, words in (("", 0), ("mustache", 1), ("portrait photo of a man", 5)):
        slot = slot_of(pipe, "a place", text)
        assert (slot.words, slot.places, slot.text) == (words, 77, text)


def places_of(images: int) -> Places:
    picture = torch.zeros(images, 3, 64, 64, dtype=torch.uint8)
    ways = tuple(Way(prompt, other, "what it does", picture) for prompt in ("a man", "") for other in ("", "hat"))
    return Places(Slot("the prompt", "a man", 2, 77), Slot("the other place", "hat", 1, 77), ways, 30)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_sampler_has_both_places_and_every_way(theme: object) -> None:
    figure = draw_sampler(places_of(3), theme)  # type: ignore[arg-type]
    (axes,) = figure.axes
    cells = [one for one in axes.patches if isinstance(one, Rectangle)]
    colours = [one.get_facecolor() for one in cells]
    assert len(cells) == 2 * 77
    per_place = [
        [colours[first : first + 77].count(one) for one in dict.fromkeys(colours[first : first + 77])]
        for first in (0, 77)
    ]
    assert per_place == [[2, 2, 73], [2, 1, 74]]  # start and end, words, filling
    assert len([one for one in axes.artists if isinstance(one, AnnotationBbox)]) == 4 * 3
    words = [one.get_text() for one in axes.texts]
    assert "start, 2 tokens, end, 73 of filling: 77" in words
    assert words.count("“” (empty)") == 4


def test_without_a_contrast_nothing_changes() -> None:
    """Both places empty: the two predictions are one, whatever w is; and the same text in both is the prompt alone."""
    model = load_model("portraits")
    places = two_places(seeds=(0, 1), num_inference_steps=1, model=model)
    assert [(way.prompt, way.negative) for way in places.ways] == [
        ("portrait photo of a man", ""), ("portrait photo of a man", "mustache"), ("", "mustache"), ("", ""),
    ]  # fmt: skip
    from steerclear.study.sampling_space import drawn

    plain = drawn(model, Asking("no guidance", ""), (0, 1), 1)
    assert int((places.ways[3].images.int() - plain.int()).abs().max()) <= 1
    assert int((places.ways[0].images.int() - places.ways[1].images.int()).abs().max()) > 8
