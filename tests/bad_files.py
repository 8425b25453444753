"""Files that are no images, or hardly: each kind with what is said of it."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

PIXELS = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)


def encoded(kind: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, format=kind, **settings)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, depth: int = 8) -> bytes:
    """A PNG whose header says so, with these compressed pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff_of(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="TIFF")
    return buffer.getvalue()


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def damaged(data: bytes) -> bytes:
    """With other bytes in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes(255 - byte for byte in data[middle : middle + 40]) + data[middle + 40 :]


def written(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path has at most 108 characters
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)


NOT_NUMBERS = np.full((8, 8), np.nan, dtype=np.float32)
BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "empty": ("empty.png", written(b""), "it is empty"),
    "truncated png": ("cut.png", written(half(encoded("PNG"))), "damaged"),
    "truncated jpeg": ("cut.jpg", written(encoded("JPEG")[:-200]), "truncated"),
    "truncated gif": ("cut.gif", written(half(encoded("GIF"))), "damaged"),
    "truncated webp": ("cut.webp", written(half(encoded("WEBP"))), ""),
    "truncated bmp": ("cut.bmp", written(half(encoded("BMP"))), "truncated"),
    "truncated tiff": ("cut.tiff", written(half(encoded("TIFF"))), ""),
    "a few bytes of a png": ("head.png", written(encoded("PNG")[:20]), ""),
    "text": ("text.png", written(b"these are words\n"), "it is text, not an image"),
    "web page": ("page.jpg", written(b"<!DOCTYPE html><html>404</html>"), "it is a web page, not an image"),
    "drawing of lines": ("lines.png", written(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "a drawing of lines"),
    "pdf": ("paper.png", written(b"%PDF-1.7\n%\xe2\xe3"), "it is a PDF"),
    "pointer": ("large.png", written(b"version https://git-lfs.github.com/spec/v1\noid sha256:0"), "git lfs"),
    "postscript": (
        "print.eps",
        written(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n"),
        "not an image",
    ),
    "noise": ("noise.png", written(np.random.default_rng(1).bytes(4000)), "not an image of a known format"),
    "zeros": ("zeros.jpg", written(bytes(4000)), "not an image of a known format"),
    "folder": ("folder.png", lambda path: path.mkdir(), "it is a folder"),
    "broken link": ("link.png", lambda path: path.symlink_to("nowhere.png"), "it is a link to nothing"),
    "link to itself": ("round.png", lambda path: path.symlink_to(path.name), "it cannot be read"),
    "pipe": ("pipe.png", lambda path: os.mkfifo(path), "a pipe, a socket or a device"),
    "socket": ("socket.png", a_socket, "a pipe, a socket or a device"),
    "device": ("device.png", lambda path: path.symlink_to("/dev/zero"), "a pipe, a socket or a device"),
    "huge by its header": ("huge.png", written(png(2**31 - 1, 2**31 - 1, zlib.compress(b""))), "pixels"),
    "a bomb": ("bomb.png", written(png(30_000, 30_000, zlib.compress(bytes(30_000)))), "more than 89,478,485 pixels"),
    "larger than what Pillow warns of": (
        "wide.png",
        written(png(10_000, 9_000, zlib.compress(b""))),
        "more than 89,478,485",
    ),
    "no pixels": ("none.png", written(png(0, 0, zlib.compress(b""))), ""),
    "damaged data": ("zlib.png", written(damaged(encoded("PNG"))), "damaged"),
    "another depth": ("depth.png", written(png(4, 4, zlib.compress(b""), depth=3)), ""),
    "not numbers": ("nan.tiff", written(tiff_of(NOT_NUMBERS)), "some of its pixels are not numbers"),
    "no white": (
        "range.tiff",
        written(tiff_of(np.full((8, 8), 5e6, np.float32))),
        "nothing says which of them is white",
    ),
    "below black": (
        "minus.tiff",
        written(tiff_of(np.full((8, 8), -1, np.int32))),
        "nothing says which of them is white",
    ),
}
"""Kind -> name of the file, what writes it, and words of what is said of it."""
