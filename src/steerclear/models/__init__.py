"""The models that ship with steerclear, each a folder as diffusers lays it out."""

from pathlib import Path

FOLDER = Path(__file__).parent


def shipped() -> dict[str, Path]:
    """Name -> folder of every model in this package.

    >>> sorted(shipped())
    ['digits', 'portraits']
    """
    return {path.parent.name: path.parent for path in FOLDER.glob("*/model_index.json")}
