"""Can torch compute on a device, on this machine?"""

import torch

from .errors import InvalidSetting, first_line


def usable(device: str) -> torch.device:
    """A torch device by name; raises :class:`InvalidSetting` if torch cannot use it on this machine."""
    try:
        target = torch.device(device)
        torch.empty(0, device=target).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError, ValueError) as error:
        raise InvalidSetting("device", device, "one that torch can use here", first_line(error)) from error
    return target
