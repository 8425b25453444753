"""Results drawn: one file on this shelf is one figure, see :class:`~steerclear.telling.figures.base.Drawing`.

Figures only draw; what is computed is computed before, in measurements. The only room that imports matplotlib.
"""

import contextlib
import os
import sys

BACKEND = "MPLBACKEND"


def _load_matplotlib() -> None:
    """Load matplotlib whatever backend the environment names; notebooks name one that may not be installed here.

    matplotlib refuses to load with a backend that it does not know. Figures need none, each has a canvas of its own. The
    backend still is what the environment says, where it can be: a notebook's own plots depend on it.
    """
    named = os.environ.pop(BACKEND, None)
    try:
        import matplotlib
    finally:
        if named is not None:
            os.environ[BACKEND] = named
    if named:
        with contextlib.suppress(ValueError):  # unknown to matplotlib: nobody could plot with it
            matplotlib.rcParams["backend"] = named


if "matplotlib" not in sys.modules:
    _load_matplotlib()
