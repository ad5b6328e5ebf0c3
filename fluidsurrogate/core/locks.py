"""Locks that keep two runs out of the same folder or result."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fluidsurrogate.core.errors import UsageError

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep every other run out of a folder while the block runs.

    The lock ends with its process. A folder that is read-only needs no lock to be looked at: `check_writable` refuses
    work in it.

    Parameters
    ----------
    folder : Path
        The folder, which is made if it does not exist.

    Yields
    ------
    None
        While the lock is held.

    Raises
    ------
    UsageError
        If another run holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder / ".lock", f"{folder} is in use by another run; wait for it or choose another --out"):
        yield


@contextmanager
def output_lock(path: Path) -> Iterator[None]:
    """Keep every other run from writing a file or folder while the block runs.

    Nothing of the lock stays beside the file or folder.

    Parameters
    ----------
    path : Path
        The file or folder to be written, whose parent is made if it does not exist.

    Yields
    ------
    None
        While the lock is held.

    Raises
    ------
    UsageError
        If another run holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    with _held(file, f"{path} is being made by another run; wait for it or choose another name"):
        try:
            yield
        finally:
            with suppress(OSError):  # in a read-only folder there is none
                file.unlink(missing_ok=True)


@contextmanager
def _held(file: Path, refusal: str) -> Iterator[None]:
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(refusal) from None
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
    try:
        yield
    finally:
        lock.release()
