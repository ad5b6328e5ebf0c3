"""Errors of torch's compiler, explained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fluidsurrogate.core.errors import UsageError


@contextmanager
def explaining_compile_errors(is_compiled: bool) -> Iterator[None]:
    """Turn errors of torch's compiler into a `UsageError` of one line.

    Parameters
    ----------
    is_compiled : bool
        Whether the network is compiled; if not, every error passes as it is.

    Yields
    ------
    None
        The block runs once, with its errors explained.

    Raises
    ------
    UsageError
        If torch cannot compile the network on this machine.
    """
    try:
        yield
    except Exception as error:
        if not is_compiled or not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = next(iter(str(error).splitlines()), "")[:200]
        raise UsageError(f"train.compile = true: torch cannot compile the network here: {reason}") from None
