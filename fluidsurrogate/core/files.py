"""Writing files so that they are complete or absent, and reading JSON."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fluidsurrogate.core.errors import UsageError

FULL = 64 * 1024  # bytes free: with less a disk is full, and that is why a file could not be written
UMASK = os.umask(0)
os.umask(UMASK)


def zarr_compressors() -> list[Any]:
    """Return the compressors of Zarr chunks: Zarr's default with a checksum, which finds a damaged chunk on reading.

    Returns
    -------
    list
        Codecs of Zarr.
    """
    from zarr.codecs import ZstdCodec  # imported late, as whatever takes its time

    return [ZstdCodec(level=0, checksum=True)]


def check_writable(folder: Path) -> None:
    """Check that files can be made in a folder, before any work is done for them.

    Parameters
    ----------
    folder : Path
        The folder, which need not exist yet.

    Raises
    ------
    UsageError
        If no file can be made in it, or the folder itself cannot be made.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written ({error.strerror}): name another folder with --to or --out"
        ) from None


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary file name beside a path, which is renamed to the path if the block ends without an error.

    Parameters
    ----------
    path : Path
        The file to write, whose parent is made if it does not exist.

    Yields
    ------
    Path
        The temporary name to write to. The file is deleted if the block raises.

    Raises
    ------
    OSError
        If the path is a folder. "No space left on device" if that is the reason, whatever the writing library raised.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(f".{path.name}.new")
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~UMASK)  # some libraries write files that nobody else may read
        os.replace(temporary, path)
    except Exception as error:
        if shutil.disk_usage(path.parent).free < FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file, complete or not at all.

    Parameters
    ----------
    path : Path
        The file.
    text : str
        Its content, written as UTF-8.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON, complete or not at all.

    Parameters
    ----------
    path : Path
        The file.
    value : object
        Whatever JSON holds.
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    object
        Its content; None if there is no such file.

    Raises
    ------
    UsageError
        If the file is not valid JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError):
        raise UsageError(f"{path} is not valid JSON") from None
