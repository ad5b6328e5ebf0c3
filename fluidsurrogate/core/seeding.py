"""Random seeds that depend on what they are for, and generators that are left as they were."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(*labels: int | str) -> int:
    """Return a random seed that depends on labels, the same on every machine.

    Distinct labels give independent streams.

    Parameters
    ----------
    *labels : int or str
        What the seed is for, such as (seed, "train", 3).

    Returns
    -------
    int
        At least 0, less than 2⁶³.
    """
    digest = hashlib.blake2b("/".join(map(str, labels)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def preserving_random_state(device: torch.device | None = None) -> Iterator[None]:
    """Restore the global random generators of torch, NumPy and Python after the block: they are the user's.

    Parameters
    ----------
    device : torch.device, optional
        A GPU whose generator is restored too, besides that of the CPU.

    Yields
    ------
    None
        While the generators may be used.
    """
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (it is there, whoever uses it)
    try:
        with torch.random.fork_rng(devices=[device] if device is not None and device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def seeded_generators(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global random generators of torch, NumPy and Python for the block, and restore them after it.

    Parameters
    ----------
    seed : int
        The seed.
    device : torch.device
        A GPU whose generator is seeded too, or the CPU.

    Yields
    ------
    None
        While the generators are seeded.
    """
    with preserving_random_state(device):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (a module of the user's may draw from it)
        random.seed(seed)
        yield
