"""Figures of results: one file is one figure, see :class:`~steerclear.telling.figures.base.Drawing`.

Figures only draw, they compute no statistics. The only room that imports matplotlib.
"""

import contextlib
import os
import sys

BACKEND = "MPLBACKEND"


def _load_matplotlib() -> None:
    """Load matplotlib even if the environment names an unknown backend, with which it refuses to load.

    Figures here need no backend. A known one is still set afterwards, because a notebook's own plots need it.
    """
    named = os.environ.pop(BACKEND, None)
    try:
        import matplotlib
    finally:
        if named is not None:
            os.environ[BACKEND] = named
    if named:
        with contextlib.suppress(ValueError):  # unknown to matplotlib
            matplotlib.rcParams["backend"] = named


if "matplotlib" not in sys.modules:
    _load_matplotlib()
