"""Independent uses of one portrait's seed."""

from enum import IntEnum


class PortraitStream(IntEnum):
    """Beside those of :class:`~steerclear.core.seeds.Stream`, whose numbers are others."""

    ATTRIBUTES = 1
    DRAWING = 2
    CAPTION = 3
