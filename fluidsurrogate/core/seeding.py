"""What fixes the last bit of a result: seeds that depend on what they are for, and a number of threads."""

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(*labels: int | str) -> int:
    """A seed in [0, 2⁶³) from labels such as (seed, "train", 3), the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, labels)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Let torch use this many threads for the duration: sums, and so last bits, depend on how work is divided."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def current_device(device: torch.device) -> Iterator[None]:
    """Make a numbered GPU torch's current one for the duration, as compiled kernels need; of several processes each has
    its own already."""
    if device.type == "cuda" and device.index is not None and "WORLD_SIZE" not in os.environ:
        with torch.cuda.device(device):
            yield
    else:
        yield


@contextmanager
def preserving_random_state(device: torch.device | None = None) -> Iterator[None]:
    """Leave the global generators of torch (of the CPU and of `device`), NumPy and Python as they were: they are the
    user's."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (it is there, whoever uses it)
    try:
        with torch.random.fork_rng(devices=[device] if device is not None and device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed these generators for the duration, and leave them as they were."""
    with preserving_random_state(device):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (a module of the user's may draw from it)
        random.seed(seed)
        yield


@contextmanager
def in_single_precision() -> Iterator[None]:
    """Make tensors whose dtype nobody says in single precision, whatever default the user has set: what is drawn for
    a weight depends on its dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def has_device(name: str) -> bool:
    """True where torch can put a tensor on that device here."""
    try:
        return torch.device(name).type in ("cpu", "cuda", "mps") and torch.empty(0, device=name).numel() == 0
    except (RuntimeError, AssertionError):
        return False
