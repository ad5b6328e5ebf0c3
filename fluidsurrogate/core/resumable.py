"""Results that take long to make: folders that are complete or absent, and that an interrupted run can resume.

A result NAME is made in NAME.partial/result. NAME.partial/provenance.json says from what, so that only a run that makes
the same with the same versions resumes it. When it is complete, it is renamed to NAME.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json, write_json
from fluidsurrogate.core.provenance import (
    brief_json,
    check_same_provenance,
    differing_keys,
    flatten_keys,
    package_versions,
)

# Keys of a provenance that decide the last bits of a result made from the same inputs, besides the versions; in words.
MACHINE_KEYS = {"device": "the device", "kernel": "the solver's kernel", "stepper.kernel": "the solver's kernel",
                "writer": "what writes it"}  # fmt: skip


def is_leftover(path: Path) -> bool:
    """Return whether a folder is what an interrupted run left beside a finished result.

    Parameters
    ----------
    path : Path
        The folder.

    Returns
    -------
    bool
        Whether its name ends as that of unfinished work, or of a result that was being replaced.
    """
    return path.name.endswith((".partial", ".old"))


def partial_folder(path: Path) -> Path:
    """Return the folder in which a result is being made.

    Parameters
    ----------
    path : Path
        The finished result.

    Returns
    -------
    Path
        The folder beside it with the ending ".partial".
    """
    return path.with_name(path.name + ".partial")


def start_or_resume(path: Path, provenance: Mapping[str, Any], force: bool) -> Path:
    """Return the partial folder of a result, to be filled and then published.

    Parameters
    ----------
    path : Path
        The result to make.
    provenance : mapping
        What it is made from.
    force : bool
        Whether unfinished work on something else is dropped.

    Returns
    -------
    Path
        The partial folder: as an interrupted run left it if that was making the same with the same versions, else new.

    Raises
    ------
    UsageError
        If the folder holds unfinished work on something else and `force` is False.
    """
    folder = partial_folder(path)
    provenance = {**provenance, "versions": package_versions()}
    started = read_json(folder / "provenance.json")
    if started != provenance:
        has_work = started is not None and any(entry.name != "provenance.json" for entry in folder.iterdir())
        if has_work and not force:
            refuse_to_resume(path, folder, started, provenance)
        delete_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "provenance.json", provenance)
    return folder


def delete_folder(folder: Path) -> None:
    """Delete a folder, its provenance first.

    If the deletion is interrupted, what is left is then never taken for unfinished work that can be resumed.

    Parameters
    ----------
    folder : Path
        The folder, which need not exist.
    """
    (folder / "provenance.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def delete_leftovers(path: Path) -> None:
    """Delete the folders that an interrupted run may have left beside a finished result, if they may be deleted.

    Parameters
    ----------
    path : Path
        The finished result.
    """
    for folder in (partial_folder(path), path.with_name(path.name + ".old")):
        with suppress(PermissionError):
            delete_folder(folder)


def publish(path: Path) -> None:
    """Rename the finished `result` in the partial folder to its final name, in place of an older result.

    Parameters
    ----------
    path : Path
        The final name.
    """
    old = path.with_name(path.name + ".old")
    delete_folder(old)
    if path.exists():
        os.replace(path, old)
    os.replace(partial_folder(path) / "result", path)
    delete_leftovers(path)


def refuse_to_resume(
    path: str | Path, partial: str | Path, started: Mapping[str, Any], current: Mapping[str, Any]
) -> NoReturn:
    """Refuse unfinished work on something else, or by a machine that would compute other last bits.

    Parameters
    ----------
    path : str or Path
        The result.
    partial : str or Path
        Where the unfinished work is.
    started : mapping
        The provenance of the unfinished work.
    current : mapping
        What would be made now.

    Raises
    ------
    UsageError
        Always. It names the differences.
    """
    old, new = flatten_keys(started), flatten_keys(current)
    keys = differing_keys(old, new)
    if not all(key in MACHINE_KEYS or key.startswith("versions.") for key in keys):
        check_same_provenance(partial, started, current)
    shown = [f"{MACHINE_KEYS.get(key, key)} was {brief_json(old.get(key))}, is {brief_json(new.get(key))}"
             for key in keys]  # fmt: skip
    remedy = (
        "; the native kernel needs a C++ compiler, g++ or the one that CXX names" if "native" in old.values() else ""
    )
    raise UsageError(
        f"{path} is half made, and the rest would be computed differently here: {'; '.join(shown)}\n"
        f"  resume it where it was begun{remedy}; or give --force to begin again here"
    )
