"""Whether what is about to be computed fits in the free memory."""

from __future__ import annotations

import psutil
import torch

from fluidsurrogate.core.errors import UsageError


def free_memory(device: torch.device | None = None) -> int:
    """Return the free memory.

    Parameters
    ----------
    device : torch.device, optional
        The device whose memory counts. By default the CPU.

    Returns
    -------
    int
        Number of bytes.
    """
    if device is not None and device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def check_free_memory(needed: int, what: str, advice: str, device: torch.device | None = None) -> None:
    """Check that the free memory is enough.

    Parameters
    ----------
    needed : int
        Number of bytes.
    what : str
        What takes them, for the error message.
    advice : str
        What to do if they are not free, for the error message.
    device : torch.device, optional
        The device whose memory counts. By default the CPU.

    Raises
    ------
    UsageError
        If less memory is free.
    """
    if needed > (free := free_memory(device)):
        raise UsageError(f"{what} would take {needed / 2**30:.3g} GiB of memory, {free / 2**30:.3g} are free: {advice}")
