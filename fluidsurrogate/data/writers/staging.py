"""Writing a folder of files so that either all of them appear or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import UMASK


@contextmanager
def staged_files(folder: Path, names: Sequence[str], force: bool) -> Iterator[Path]:
    """Yield an empty folder inside a folder, whose files are moved up if the block ends without an error.

    Parameters
    ----------
    folder : Path
        Where the files go; it is made if it does not exist.
    names : sequence of str
        Names of the files that the block writes, relative to the folder.
    force : bool
        Whether files that are there already are replaced.

    Yields
    ------
    Path
        The folder to write to. It is deleted if the block raises.

    Raises
    ------
    UsageError
        If one of the files is there already and `force` is False.
    """
    if present := [folder / name for name in names if (folder / name).exists()]:
        if not force:
            raise UsageError(
                f"{present[0]} exists already; name another folder, or add --force (force=True) to replace it"
            )
        if blocked := next((path for path in present if path.is_dir()), None):
            raise UsageError(f"{blocked} is a folder, and a file is to be written there: name another folder")
    missing = next((path for path in reversed((folder, *folder.absolute().parents)) if not path.exists()), None)
    beside = folder / ".new"  # inside, so that both are on one disk
    shutil.rmtree(beside, ignore_errors=True)  # of an export that was killed
    beside.mkdir(parents=True)
    try:
        yield beside
        for name in names:
            os.chmod(beside / name, 0o666 & ~UMASK)
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(beside / name, folder / name)
    except BaseException:
        shutil.rmtree(beside if missing is None else missing, ignore_errors=True)
        raise
    shutil.rmtree(beside)
