"""Output on any stream: characters that its encoding lacks are replaced for people, and escaped in JSON."""

import codecs
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper

SHOWABLE, ESCAPED = "steerclear.showable", "steerclear.escaped"
"""Names of the error handlers for characters that a stream lacks: for people, and within JSON."""

FAILING = ("strict", "surrogateescape", "backslashreplace")
"""Python's own handlers, which fail or print codes; any other was chosen with PYTHONIOENCODING."""

PLAIN = str.maketrans({
    "–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-", "…": "~", "“": '"', "”": '"', "„": '"', "‘": "'", "’": "'",
    "↓": "v", "↑": "^", "◎": "o", "→": "->", "←": "<-", "×": "x", "·": ".", "•": "*", "±": "+-", "≤": "<=", "≥": ">=",
    "∞": "inf", "⁄": "/", "ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
})  # fmt: skip
"""One character for one where tables use them, so that columns stay aligned."""


def showable(text: str) -> str:
    """A text in ASCII: accents are dropped, Greek letters named, unknown characters become question marks.

    >>> showable("Fréchet 5.7 ↓, σ²")
    'Frechet 5.7 v, sigma2'
    """
    named = "".join(_greek(character) for character in text.translate(PLAIN))
    parts = unicodedata.normalize("NFKD", named).translate(PLAIN)
    bare = "".join(part for part in parts if not unicodedata.combining(part))
    return bare.encode("ascii", "replace").decode()


def _greek(character: str) -> str:
    words = unicodedata.name(character, "").split()
    return words[-1].lower() if words[:1] == ["GREEK"] and words[-2:-1] == ["LETTER"] else character


def _show(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return showable(error.object[error.start : error.end]), error.end


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)), error.end


codecs.register_error(SHOWABLE, _show)
codecs.register_error(ESCAPED, _escape)


@contextmanager
def showable_streams() -> Iterator[None]:
    """A block in which printing never fails for lack of a character."""
    changed = []
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors in FAILING:
            changed.append((stream, stream.errors))
            stream.reconfigure(errors=SHOWABLE)
    try:
        yield
    finally:
        for stream, errors in changed:
            if not stream.closed:
                stream.reconfigure(errors=errors)


def print_json(text: str) -> None:
    """Print JSON; characters that the stream lacks can only be in strings, where they are escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, ESCAPED).decode(encoding))
