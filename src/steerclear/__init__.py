"""steerclear: guidance for diffusion models that says what it changed.

    import steerclear
    with steerclear.steer(pipe, steerclear.DynamicNegativeGuidance(5.0), negative_prompt="mustache") as run:
        images = pipe("portrait photo of a man").images
    run.trace  # weight and posterior of every image at every step

Names are loaded when they are first used, so that importing steerclear is light. Classes of the shelves (guidances, evidences,
networks, laboratories, features, testbeds) are discovered, those of installed packages too.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("steerclear")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0.1.0"

_HOMES = {
    "core.guidance": ("Guidance", "guidances"),
    "core.evidence": ("Belief", "Circumstances", "Evidence", "Surroundings"),
    "core.records": ("Guided", "State", "Step", "Trace"),
    "core.sampling": ("sample",),
    "bridges.diffusers.steer": ("steer",),
    "bridges.modular.guider": ("Guider", "guider"),
    "models.loading": ("load_model",),
    "core.network": ("Network",),
    "telling.comparison": ("compare",),
    "telling.measuring": ("measure",),
    "telling.images": ("generate",),
    "telling.calibrating": ("calibrate",),
    "telling.tuning": ("tune",),
    "core.calibration": ("Calibration",),
    "core.errors": ("SteerclearError", "SteerclearWarning"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

_CONTRACTS = {
    "guidance": ("core.guidance", "Guidance"),
    "evidence": ("core.evidence", "Evidence"),
    "networks": ("core.network", "Network"),
    "laboratories": ("core.laboratory", "Laboratory"),
    "features": ("core.features", "Features"),
    "testbeds": ("core.testbed", "Testbed"),
}
"""Shelf -> module and name of its contract. Each entry of these shelves is a public name."""


def _load(home: str, name: str) -> Any:
    return getattr(importlib.import_module(f".{home}", __name__), name)


def _classes(shelf: str) -> dict[str, Any]:
    """Every entry of a shelf by the name of its class."""
    found = _load("core.shelf", "entries")(shelf, _load(*_CONTRACTS[shelf]))
    return {entry.__name__: entry for entry in found.values()}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return _load(_HOME_OF[name], name)
    if name == "__all__":
        return ["__version__", *sorted({*_HOME_OF}.union(*map(_classes, _CONTRACTS)))]
    if name[0].isupper():  # a class of a shelf; other names load nothing
        for shelf in _CONTRACTS:
            if name in (classes := _classes(shelf)):
                return classes[name]
    raise AttributeError(f"module 'steerclear' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __getattr__("__all__")
