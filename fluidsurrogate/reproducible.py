"""What fixes the last bit of a result: seeds that depend on what they are for, and a number of threads."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

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
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators, of the CPU and of `device`, for the duration, and leave them as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def has_device(name: str) -> bool:
    """True where torch can put a tensor on that device here."""
    try:
        return torch.device(name).type in ("cpu", "cuda", "mps") and torch.empty(0, device=name).numel() == 0
    except (RuntimeError, AssertionError):
        return False
