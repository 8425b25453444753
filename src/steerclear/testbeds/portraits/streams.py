"""Independent uses of a portrait's seed."""

from enum import IntEnum


class PortraitStream(IntEnum):
    """Streams in addition to those of :class:`~steerclear.core.seeds.Stream`, with other numbers."""

    ATTRIBUTES = 1
    DRAWING = 2
    CAPTION = 3
    SOFTNESS = 10
