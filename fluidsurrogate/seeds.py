"""Random numbers that depend on what they are for, not on what was drawn before."""

import hashlib


def derive_seed(*labels: int | str) -> int:
    """A seed in [0, 2⁶³) from labels such as (seed, "train", 3): the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, labels)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
