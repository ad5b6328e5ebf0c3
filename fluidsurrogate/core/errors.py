"""The error that a user can do something about, and the check of whole numbers."""

import operator
import traceback
from pathlib import Path
from typing import Any


class UsageError(ValueError):
    """Input that is not valid, or work that is refused, explained in one line with what to do about it.

    A few lines are used if a list helps. The command line prints the message and exits with status 2.

    Examples
    --------
    >>> import fluidsurrogate as fs
    >>> try:
    ...     fs.open_data("missing.zarr")
    ... except fs.UsageError as error:
    ...     print(error)
    missing.zarr: no such dataset
    """


def check_integer(name: str, value: Any, minimum: int | None = None) -> int:
    """Return a number as an int, if it is a whole number and large enough.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    value : object
        The number: an int of Python or NumPy. A float is refused, even a whole one.
    minimum : int, optional
        Smallest value that is allowed.

    Returns
    -------
    int
        The number.

    Raises
    ------
    UsageError
        If it is no whole number, or less than `minimum`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise UsageError(f"{name} must be a whole number (got {value!r})") from None
    if minimum is not None and number < minimum:
        raise UsageError(f"{name} must be at least {minimum} (got {number})")
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
