"""Data goes one way: a room imports from its own floor or below, and a shelf's files do not know one another."""

import subprocess
import sys
from pathlib import Path

import pytest

import steerclear
from floors import LAZY, floor_of, modules, violations

ROOT = Path(steerclear.__file__).parent


def test_every_module_keeps_to_its_floor() -> None:
    found = [line for module, source in modules(ROOT) for line in violations(source, module)]
    assert found == []


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        (("noise",), "from .engine import GuidedDenoiser", "noise (floor 1) imports engine (floor 3)"),
        (
            ("guidance", "auto"),
            "from .interval import IntervalGuidance",
            "guidance.auto imports its neighbour interval",
        ),
        (
            ("guidance", "auto"),
            "from ..evidence.oracle import OracleEvidence",
            "guidance.auto imports the shelf evidence",
        ),
        (
            ("metrics", "rates"),
            "import matplotlib.pyplot",
            "metrics.rates imports matplotlib, which belongs to figures",
        ),
        (("engine",), "def late():\n    from .cli.app import main", "engine (floor 3) imports cli (floor 6)"),
        (("seeds",), "from steerclear.records import Step", "seeds (floor 0) imports records (floor 1)"),
        (
            ("testbeds", "portraits", "truth"),
            "from ...engine import x",
            "testbeds.portraits.truth (floor 2) imports engine (floor 3)",
        ),
        (("errors",), "from . import engine", "errors (floor 0) imports engine (floor 3)"),
    ],
)
def test_the_rule_can_fail(module: tuple[str, ...], source: str, expected: str) -> None:
    assert violations(source, module) == [expected]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (("engine",), "from .guidance.base import Guidance"),
        (("guidance", "auto"), "from .base import Guidance"),
        (("testbeds", "portraits", "truth"), "from .attributes import BINARY"),
        (("figures", "grid"), "from matplotlib.figure import Figure"),
    ],
)
def test_what_is_allowed_is_not_refused(module: tuple[str, ...], source: str) -> None:
    assert violations(source, module) == []


def test_a_room_on_no_floor_is_refused() -> None:
    with pytest.raises(LookupError, match="attic"):
        floor_of("attic")


def loaded_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(' '.join(sorted(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return {name.split(".")[0] for name in printed.split()}


def test_import_steerclear_is_light() -> None:
    assert loaded_by("import steerclear; steerclear.ClassifierFreeGuidance") & LAZY == set()


def test_the_weight_test_can_fail() -> None:
    assert "diffusers" in loaded_by("import diffusers") & LAZY
