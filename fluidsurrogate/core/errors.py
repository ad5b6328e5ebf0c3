"""What a user can do something about."""

import operator
from typing import Any


class UsageError(ValueError):
    """Bad input or a refusal, said in one line (a few where a list helps) with what to do. The command line prints it
    and exits with 2."""


def whole(name: str, value: Any, least: int | None = None) -> int:
    """`value` as an int; UsageError that calls it `name` unless it is a whole number and at least `least`."""
    try:
        number = operator.index(value)  # of ints and NumPy's; a float, whole or not, is none
    except TypeError:
        raise UsageError(f"{name} must be a whole number (got {value!r})") from None
    if least is not None and number < least:
        raise UsageError(f"{name} must be at least {least} (got {number})")
    return number
