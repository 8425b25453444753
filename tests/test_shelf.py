"""One file on a shelf is one entry; strangers come through the same door."""

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import skeleton_guidance
import steerclear
from steerclear.core import shelf
from steerclear.core.errors import InvalidSetting, SteerclearWarning, UnknownName
from steerclear.core.guidance import Guidance, find_guidance, guidances
from steerclear.core.shelf import entries, find
from steerclear.guidance.classifier_free import ClassifierFreeGuidance
from steerclear.guidance.interval import IntervalGuidance


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch):
    """Announces modules as an installed package's entry points do."""

    def announce(*modules: ModuleType) -> None:
        points = [SimpleNamespace(load=lambda module=module: module) for module in modules]
        monkeypatch.setattr(shelf, "entry_points", lambda group: points if group == "steerclear.guidance" else [])
        entries.cache_clear()

    yield announce
    monkeypatch.undo()
    entries.cache_clear()


def test_the_built_in_guidances() -> None:
    names = {(name, cls.__name__) for name, cls in guidances().items()}
    assert names >= {
        ("autoguidance", "AutoGuidance"), ("cfg", "ClassifierFreeGuidance"), ("dynamic-negative", "DynamicNegativeGuidance"),
        ("interval", "IntervalGuidance"), ("negative", "NegativePromptGuidance"), ("unguided", "Unguided"),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["cfg", "CFG", "ClassifierFreeGuidance"])
def test_a_guidance_is_found_by_either_name(name: str) -> None:
    assert find_guidance(name) is ClassifierFreeGuidance


def test_underscores_are_dashes() -> None:
    assert find_guidance("dynamic_negative").name == "dynamic-negative"


def test_the_nearest_name_is_told() -> None:
    with pytest.raises(UnknownName) as raised:
        find_guidance("dynamic-negativ")
    assert str(raised.value) == (
        "there is no guidance 'dynamic-negativ'; did you mean 'dynamic-negative'? "
        f"Available: {', '.join(sorted(guidances()))}."
    )
    with pytest.raises(UnknownName) as raised:
        ClassifierFreeGuidance.with_settings({"guidance_scal": 3})
    assert str(raised.value) == (
        "there is no parameter of cfg 'guidance_scal'; did you mean 'guidance_scale'? Available: guidance_rescale, guidance_scale."
    )


def test_strangers_come_through_the_same_door(strangers) -> None:
    strangers(skeleton_guidance)
    assert find("guidance", Guidance, "limited") is skeleton_guidance.LimitedGuidance
    config = skeleton_guidance.LimitedGuidance(4.0, 2.0).to_config()
    assert Guidance.from_config(config) == skeleton_guidance.LimitedGuidance(4.0, 2.0)
    inside = IntervalGuidance(skeleton_guidance.LimitedGuidance(), 0.0, 0.5)
    assert Guidance.from_config(inside.to_config()) == inside


def test_two_entries_of_one_name_are_refused(strangers) -> None:
    twin = ModuleType("twin")
    exec("from steerclear.guidance.unguided import Unguided\nclass Twin(Unguided):\n    name = 'cfg'\n", twin.__dict__)
    sys.modules["twin"] = twin
    try:
        twin.Twin.__module__ = "twin"
        strangers(twin)
        with pytest.raises(InvalidSetting, match=r"the guidance name of Twin is 'cfg', but must be used once"):
            guidances()
    finally:
        del sys.modules["twin"]


def test_a_strangers_module_that_cannot_be_imported_is_left_out(announce) -> None:
    announce("guidance", "limited", "skeleton_guidance")
    announce("guidance", "gone", "astray.gone")
    with pytest.warns(SteerclearWarning) as told:
        assert guidances().keys() >= {"cfg", "limited"}
    (said,) = told
    assert str(said.message) == (
        "an installed package announces 'gone' (astray.gone) in the group steerclear.guidance, which cannot be imported and is "
        "left out: ModuleNotFoundError: No module named 'astray'; update or uninstall that package"
    )


@pytest.fixture
def shelf_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A nested shelf of files: ``steerclear.attic.boxes``."""
    folder = tmp_path / "attic" / "boxes"
    (folder / "large").mkdir(parents=True)
    (tmp_path / "attic" / "__init__.py").touch()
    (folder / "__init__.py").write_text("class Box: kind = 'box'")
    monkeypatch.setattr(steerclear, "__path__", [*steerclear.__path__, str(tmp_path)])
    yield folder
    for name in [name for name in sys.modules if name.startswith("steerclear.attic")]:
        del sys.modules[name]
    entries.cache_clear()


def test_any_package_is_a_shelf(shelf_on_disk: Path) -> None:
    use = "from steerclear.attic.boxes import Box\n"
    (shelf_on_disk / "small.py").write_text(
        use + "class Small(Box): name = 'small'\nclass _Hidden(Box): name = 'hidden'"
    )
    (shelf_on_disk / "helper.py").write_text("from .small import Small\nclass NoBox: name = 'none'")
    (shelf_on_disk / "_private.py").write_text("raise ImportError('not an entry')")
    (shelf_on_disk / "bare.py").write_text(
        use
        + "from abc import ABC, abstractmethod\nclass Bare(Box, ABC):\n    @abstractmethod\n    def open(self): ...\n"
        "class Barrel(Bare):\n    name = 'barrel'\n    def open(self): ..."
    )
    (shelf_on_disk / "large" / "__init__.py").write_text("from .inside import Large")
    (shelf_on_disk / "large" / "inside.py").write_text(use + "class Large(Box): name = 'large'")
    box = importlib.import_module("steerclear.attic.boxes").Box
    assert {name: entry.__name__ for name, entry in entries("attic.boxes", box).items()} == {
        "barrel": "Barrel", "large": "Large", "small": "Small",
    }  # fmt: skip
    assert find("attic.boxes", box, "LARGE").__name__ == "Large"
    with pytest.raises(UnknownName, match=r"^there is no box 'smal'; did you mean 'small'\?"):
        find("attic.boxes", box, "smal")


def test_an_entry_without_a_name_is_refused(shelf_on_disk: Path) -> None:
    (shelf_on_disk / "small.py").write_text("from steerclear.attic.boxes import Box\nclass Small(Box): ...")
    box = importlib.import_module("steerclear.attic.boxes").Box
    with pytest.raises(InvalidSetting, match=r"^the class attribute name of Small is None, but must be a text\.$"):
        entries("attic.boxes", box)


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({}, InvalidSetting, "_class_name is None, but must be one of "),
        ({"_class_name": "AutoGuidence"}, UnknownName, "did you mean 'AutoGuidance'?"),
        ({"_class_name": "ClassifierFreeGuidance", "scale": 3}, UnknownName, "there is no parameter of cfg 'scale'"),
        (
            {"_class_name": "ClassifierFreeGuidance", "guidance_scale": float("inf")},
            InvalidSetting,
            "guidance_scale is inf",
        ),
    ],
)
def test_what_is_no_config(config: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        Guidance.from_config(config)
    assert message in str(raised.value)
