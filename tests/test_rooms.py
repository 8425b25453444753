"""Data goes one way: a room imports from rooms below it alone, and no modules import one another in a circle."""

import subprocess
import sys
from pathlib import Path

import pytest

import steerclear
from rooms import FLOORS, LAZY, MOST_ROOMS, OUTSIDE, Module, circles, floor_of, functions, modules, violations

ROOT = Path(steerclear.__file__).parent
LONGEST_FUNCTION = 60


def test_no_arrow_runs_up() -> None:
    assert [line for module, source in modules(ROOT).items() for line in violations(source, module)] == []


def test_there_is_no_circle() -> None:
    assert circles(modules(ROOT)) == []


def test_every_room_is_a_folder_and_there_are_few() -> None:
    names = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert names - {*OUTSIDE} == {room for floor in FLOORS for room in floor}
    assert len(names - {*OUTSIDE}) <= MOST_ROOMS


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        (("core", "noise"), "from ..study.recipe import Recipe", "core.noise imports the room study, which is not below core"),
        (("guidance", "auto"), "from ..laboratories import x", "guidance.auto imports the room laboratories, which is not below guidance"),
        (("metrics", "rates"), "import matplotlib.pyplot", "metrics.rates imports matplotlib, which belongs to telling.figures"),
        (("telling", "table"), "import matplotlib", "telling.table imports matplotlib, which belongs to telling.figures"),
        (("core", "engine"), "def late():\n    from ..cli.app import main", "core.engine imports the room cli, which is not below core"),
        (("core", "seeds"), "from steerclear.testbeds.mixture import x", "core.seeds imports the room testbeds, which is not below core"),
        (("testbeds", "portraits", "truth"), "from ... import guidance", "testbeds.portraits.truth imports the room guidance, which is not below testbeds"),
        (("study", "recipe"), "from .. import compare", "study.recipe imports steerclear.compare, which is of the door; import it from its room"),
        (("study", "recipe"), "import steerclear\nsteerclear.compare", "study.recipe imports steerclear, which is of the door; import it from its room"),
        (("study", "recipe"), "from .. import *", "study.recipe imports * from steerclear; name what it needs"),
        (("study", "recipe"), "from .gallery import *", "study.recipe imports * from steerclear.study.gallery; name what it needs"),
        (("study", "recipe"), "from ... import torch", "study.recipe imports from beyond the top of the package; it has fewer folders than dots"),
        (("study", "recipe"), "from ..... import torch", "study.recipe imports from beyond the top of the package; it has fewer folders than dots"),
        (("core", "seeds"), "import importlib\nimportlib.import_module('steerclear.cli.app')", "core.seeds imports the room cli, which is not below core"),
        (("core", "seeds"), "x = import_module('..guidance.auto', __package__)", "core.seeds imports the room guidance, which is not below core"),
        (("core", "seeds"), "import_module(name='steerclear.study')", "core.seeds imports the room study, which is not below core"),
        (("core", "seeds"), "__import__('matplotlib.pyplot')", "core.seeds imports matplotlib, which belongs to telling.figures"),
    ],
)  # fmt: skip
def test_the_rule_can_fail(module: Module, source: str, expected: str) -> None:
    assert violations(source, module) == [expected]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (("core", "engine"), "from .guidance import Guidance"),
        (("guidance", "auto"), "from .negative_prompt import NegativePromptGuidance"),
        (("guidance", "auto"), "from ..evidence.constant import ConstantEvidence"),
        (("testbeds", "portraits", "truth"), "from .attributes import BINARY"),
        (("telling", "figures", "grid"), "from matplotlib.figure import Figure"),
        (("study", "recipe"), "from .. import __version__"),
        (("__init__",), "from .cli.app import main"),
        (("cli", "docs"), "import steerclear"),
        (("core", "shelf"), "import_module(f'steerclear.{shelf}')"),
        (("core", "shelf"), "import_module('.seeds', __package__)"),
    ],
)
def test_what_is_allowed_is_not_refused(module: Module, source: str) -> None:
    assert violations(source, module) == []


def test_a_circle_is_found() -> None:
    sources = {
        ("a", "one"): "from .two import x", ("a", "two"): "from ..b import three", ("b", "three"): "import steerclear.a.one",
        ("b", "__init__"): "", ("b", "four"): "from . import three",
    }  # fmt: skip
    assert circles(sources) == [("a", "one"), ("a", "two"), ("b", "four"), ("b", "three")]
    assert circles({**sources, ("b", "three"): ""}) == []


def test_a_room_on_no_floor_is_refused() -> None:
    with pytest.raises(LookupError, match="attic"):
        floor_of("attic")


def test_no_function_is_longer_than_a_page() -> None:
    found = {
        ".".join((*module, name)): lines
        for module, source in modules(ROOT).items()
        for name, lines in functions(source)
    }
    assert {name: lines for name, lines in found.items() if lines > LONGEST_FUNCTION} == {}


def loaded_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(' '.join(sorted(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return {name.split(".")[0] for name in printed.split()}


def test_import_steerclear_is_light() -> None:
    assert loaded_by("import steerclear; steerclear.ClassifierFreeGuidance") & LAZY == set()


def test_the_weight_test_can_fail() -> None:
    assert "diffusers" in loaded_by("import diffusers") & LAZY
