"""Devices, threads and the default precision of torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def device_available(name: str) -> bool:
    """Return whether torch can put a tensor on a device of this machine.

    Parameters
    ----------
    name : str
        "cpu", "cuda", "cuda:1", "mps".

    Returns
    -------
    bool
        False for any other name, too.
    """
    try:
        return torch.device(name).type in ("cpu", "cuda", "mps") and torch.empty(0, device=name).numel() == 0
    except (RuntimeError, AssertionError):
        return False


@contextmanager
def current_device(device: torch.device) -> Iterator[None]:
    """Make a numbered GPU the current one of torch while the block runs, as compiled kernels need.

    Of several processes that train one model, each has its own GPU already.

    Parameters
    ----------
    device : torch.device
        The device.

    Yields
    ------
    None
        While it is the current one.
    """
    if device.type == "cuda" and device.index is not None and "WORLD_SIZE" not in os.environ:
        with torch.cuda.device(device):
            yield
    else:
        yield


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Let torch use a fixed number of threads while the block runs.

    The last bits of sums depend on how the work is divided among threads.

    Parameters
    ----------
    count : int
        Number of threads.

    Yields
    ------
    None
        While torch uses that many.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def single_precision_default() -> Iterator[None]:
    """Make single precision torch's default dtype while the block runs, whatever default the user has set.

    The random numbers that a weight is initialised with depend on its dtype.

    Yields
    ------
    None
        While single precision is the default.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
