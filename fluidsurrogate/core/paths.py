"""Paths as a user writes them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from fluidsurrogate.core.errors import UsageError


def as_path(path: str | Path) -> Path:
    """A path that a user gave, with `~` as the home folder.

    Every path of a user's passes through here, so that all parts of a run, and the libraries that it writes with, mean
    the same place.

    Parameters
    ----------
    path
        As given, on a command line, in an experiment, or from Python.

    Returns
    -------
    Path
        Relative where it was relative.

    Raises
    ------
    UsageError
        If the home folder is not known, or no file or Zarr folder can have this name.
    """
    try:
        found = Path(path).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(found)  # is it a name at all? Not too long, nor with a character that no file name holds
    except RuntimeError:
        raise UsageError(f"{path}: there is no such home folder; write the path in full") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no file can have this name"
        raise UsageError(f"{_shown(path)}: {reason}") from None
    if "::" in str(found.absolute()):
        raise UsageError(f"{found.absolute()}: a path may not hold '::', which Zarr takes for an address; rename it")
    return found


def _shown(path: str | Path) -> str:
    text = "".join(c if c.isprintable() else "?" for c in str(path))
    return text if len(text) <= 200 else f"{text[:200]}..."
