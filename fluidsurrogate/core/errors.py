"""What a user can do something about."""

import operator
import traceback
from pathlib import Path
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


def describe_exception(error: Exception) -> str:
    """Describe an exception in one line: its type, the first line of its message, and where it was raised.

    Parameters
    ----------
    error : Exception
        Any exception, raised by code of a user's, say.

    Returns
    -------
    str
        The place is the innermost one outside of torch, as file and line.
    """
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "torch" not in Path(f.filename).parts]
    message = (str(error).splitlines() or [""])[0]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {message}{place}"
