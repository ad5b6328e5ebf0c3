"""Paths as a user writes them."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from fluidsurrogate.core.errors import UsageError

LONGEST_SHOWN = 200  # characters of a path in a message
HUB_PREFIX, PRETRAINED_PREFIX = "hf://", "pretrained:"


def is_model_address(path: str | Path) -> bool:
    """Return whether a text is the address of a model and not its folder.

    Parameters
    ----------
    path : str or Path
        A path or an address.

    Returns
    -------
    bool
        True for "hf://user/model", a model on the Hugging Face Hub, and "pretrained:NAME", one within this package.
    """
    return isinstance(path, str) and path.startswith((HUB_PREFIX, PRETRAINED_PREFIX))


def as_path(path: str | Path) -> Path:
    """Return a path that a user gave, with `~` replaced by the home folder.

    Every path that a user gives passes through here, so that all parts of a run, and the libraries that it writes with,
    mean the same place.

    Parameters
    ----------
    path : str or Path
        The path as given on a command line, in an experiment, or from Python.

    Returns
    -------
    Path
        A relative path stays relative.

    Raises
    ------
    UsageError
        If the home folder is not known, or no file or Zarr folder can have this name.
    """
    try:
        found = Path(path).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(found)  # fails for a name that is too long, or that holds a character that no file name holds
    except RuntimeError:
        raise UsageError(f"{path}: there is no such home folder; write the path in full") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise UsageError(f"{_printable(path)}: {reason}") from None
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):  # `Path` makes "s3:/bucket" of "s3://bucket"
        raise UsageError(f"{path}: an address of another storage, but a path on this machine is needed here")
    if "::" in str(found.absolute()):
        raise UsageError(f"{found.absolute()}: a path may not hold '::', which Zarr takes for an address; rename it")
    return found


def _printable(path: str | Path) -> str:
    """Return a path for a message: on one line and not too long."""
    text = "".join(c if c.isprintable() else "?" for c in str(path))
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
