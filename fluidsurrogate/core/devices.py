"""Devices, threads and the default precision of torch."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fluidsurrogate.core.provenance import processor_name

_lock = threading.Lock()
_tf32 = {"users": 0, "before": True}  # how many blocks need single precision, and torch's setting before the first


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


def describe_machine(device: torch.device) -> str:
    """Describe what a time was measured on.

    Parameters
    ----------
    device : torch.device
        Where the tensors are.

    Returns
    -------
    str
        The name of the GPU; or the processor, the threads of torch and the cores.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = f"{torch.get_num_threads()} threads of torch on {os.cpu_count()} cores"
    return f"{processor_name()}, {device.type if device.type != 'cpu' else threads}"


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
def single_precision_convolutions(device: torch.device) -> Iterator[None]:
    """Compute convolutions of a GPU in single precision while the block runs.

    By default torch rounds their operands to TF32, which has ten bits of mantissa instead of 23: a symmetry that is
    exact in single precision would hold to three or four digits. Several threads may be in such a block.

    Parameters
    ----------
    device : torch.device
        The device that computes; nothing changes for others than CUDA's.

    Yields
    ------
    None
        While convolutions are in single precision.
    """
    cudnn: Any = torch.backends.cudnn
    try:
        changes = device.type == "cuda" and cudnn.allow_tf32 is not None
    except RuntimeError:  # the user has chosen a precision by torch's newer settings, and torch does not mix the two
        changes = False
    if not changes:
        yield
        return
    with _lock:
        if not _tf32["users"]:
            _tf32["before"], cudnn.allow_tf32 = cudnn.allow_tf32, False
        _tf32["users"] += 1
    try:
        yield
    finally:
        with _lock:
            _tf32["users"] -= 1
            if not _tf32["users"]:
                cudnn.allow_tf32 = _tf32["before"]


@contextmanager
def reproducible_kernels(device: torch.device) -> Iterator[None]:
    """Let a GPU compute the same bits every time while the block runs, convolutions in single precision.

    By default the sums of some gradients depend on which thread of the GPU comes first. An operation that has no
    reproducible kernel, in a module of the user's, gives a warning.

    Parameters
    ----------
    device : torch.device
        The device that computes; nothing changes for others than CUDA's.

    Yields
    ------
    None
        While only reproducible kernels are used.
    """
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it torch warns of matrix products
    enabled, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filling = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=warns or not enabled)  # an error if the user has asked for it
    memory.fill_uninitialized_memory = False  # a debugging aid, which takes time
    try:
        with single_precision_convolutions(device):
            yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
        memory.fill_uninitialized_memory = filling


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
