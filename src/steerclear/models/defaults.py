"""What was found to work best with a model: its own defaults of the standard methods, in a file of its folder."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import InvalidSetting, SteerclearError, first_line
from ..core.guidance import Guidance
from ..core.parsing import parse_part
from ..core.settings import read_object
from . import shipped
from .files import DEFAULTS_FILE

KEY = "defaults"


@dataclass(frozen=True)
class Default:
    """A model's own default of a standard method of ``steerclear compare``.

    Attributes:
        guidance: as for ``--guidance``, with settings; None if the method is better left off.
        why: how that was found, in a sentence.
    """

    guidance: str | None
    why: str

    def entry(self) -> dict[str, str | None]:
        """Its plain values in the file."""
        return {"guidance": self.guidance, "why": self.why}


def defaults_of(name: str) -> dict[str, Default]:
    """The defaults that a model's folder has, by the name of the standard method; none for models that are not a folder.

    The file, ``steerclear.json``, has the form ``{"defaults": {"autoguidance": {"guidance": null, "why": "..."}}}``. It makes no
    image, so it is in no digest of the model.

    Args:
        name: of a shipped model, or a local folder.

    Raises:
        InvalidSetting: the file is damaged.
    """
    folder = shipped().get(name) or (Path(name) if name and os.path.isdir(name) else None)
    file = None if folder is None else folder / DEFAULTS_FILE
    if file is None or not file.is_file():
        return {}
    found = read_object(file, f"the object {KEY!r}").get(KEY, {})
    entries = found if isinstance(found, Mapping) else {"": found}
    return {method: _read(file, method, entry) for method, entry in entries.items()}


def _read(file: Path, method: str, entry: Any) -> Default:
    plain = entry if isinstance(entry, Mapping) else {}
    guidance, why = plain.get("guidance", ""), plain.get("why")
    if not (guidance is None or (isinstance(guidance, str) and guidance)) or not isinstance(why, str) or not why:
        allowed = 'an object with "guidance" (a text or null) and "why" (a text)'
        raise InvalidSetting(f"{KEY}.{method} in {file}", entry, allowed, "write the file again")
    if guidance is not None:
        try:
            parse_part(guidance, Guidance)
        except SteerclearError as error:
            raise InvalidSetting(f"{KEY}.{method} in {file}", guidance, "a guidance", first_line(error)) from error
    return Default(guidance, why)
