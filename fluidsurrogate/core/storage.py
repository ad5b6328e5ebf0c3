"""What happens on disk: locks, and files and folders that are whole or not there.

Everything is written beside its final name and renamed. A folder is made in NAME.partial/result, and
NAME.partial/provenance.json says what from, so that only the same run goes on with it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fluidsurrogate.core.errors import UsageError

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
# What decides the last bits of a result that is made from the same inputs, beside the versions; in words.
HOW = {"device": "the device", "kernel": "the solver's kernel", "stepper.kernel": "the solver's kernel"}
UMASK = os.umask(0)
os.umask(UMASK)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other run out of `folder` for the duration; the lock dies with its process.

    A folder that may not be written needs no lock to be looked at: `check_writable` refuses work in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder / ".lock", f"{folder} is in use by another run; wait for it or choose another --out"):
        yield


@contextmanager
def locked_beside(path: Path) -> Iterator[None]:
    """Keep every other run from making `path` for the duration; nothing of the lock stays in its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f".{path.name}.lock")
    with _held(file, f"{path} is being made by another run; wait for it or choose another name"):
        try:
            yield
        finally:
            with suppress(OSError):  # where there is none, in a folder that may not be written
                file.unlink(missing_ok=True)


@contextmanager
def _held(file: Path, in_use: str) -> Iterator[None]:
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(in_use) from None
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
    try:
        yield
    finally:
        lock.release()


def compressors() -> list[Any]:
    """How chunks are written: as Zarr does by itself, with a checksum that finds a damaged one when it is read."""
    from zarr.codecs import ZstdCodec  # imported late, as whatever takes its time

    return [ZstdCodec(level=0, checksum=True)]


def check_writable(folder: Path) -> None:
    """UsageError where no file can be made in a folder, or the folder cannot be made: to be known before the work."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written ({error.strerror}): name another folder with --to or --out"
        ) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which becomes `path` if the block ends well and vanishes if not.

    OSError "No space left on device" where that is the reason, whatever the writing library calls it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    beside = path.with_name(f".{path.name}.new")
    try:
        yield beside
        os.chmod(beside, 0o666 & ~UMASK)  # some libraries write files that nobody else may read
        os.replace(beside, path)
    except Exception as error:
        if shutil.disk_usage(path.parent).free < 64 * 1024:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file in one piece."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write plain data as JSON."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def partial(path: Path) -> Path:
    """The folder in which `path` is being made."""
    return path.with_name(path.name + ".partial")


def begin(path: Path, provenance: Mapping[str, Any], force: bool) -> Path:
    """The folder to fill, then to `publish` as `path`: as an interrupted run left it where that was making the same
    with the same versions, else new. UsageError where it holds work on something else, unless `force` drops that."""
    folder = partial(path)
    provenance = {**provenance, "versions": versions()}
    started = read_json(folder / "provenance.json")
    if started != provenance:
        has_work = started is not None and any(entry.name != "provenance.json" for entry in folder.iterdir())
        if has_work and not force:
            refuse_to_go_on(path, started, provenance)
        discard(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "provenance.json", provenance)
    return folder


def discard(folder: Path) -> None:
    """Delete a folder; its label first, so that what a kill leaves of it is never taken for work to go on with."""
    (folder / "provenance.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(path: Path) -> None:
    """Delete what a kill may have left beside a finished result, where that may be deleted."""
    for left in (partial(path), path.with_name(path.name + ".old")):
        with suppress(PermissionError):
            discard(left)


def publish(path: Path) -> None:
    """Give the finished `result` in the partial folder its name, in place of what had it."""
    old = path.with_name(path.name + ".old")
    discard(old)
    if path.exists():
        os.replace(path, old)
    os.replace(partial(path) / "result", path)
    remove_leftovers(path)


def read_json(path: Path) -> Any:
    """The content of a JSON file; None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError):
        raise UsageError(f"{path} is not valid JSON") from None


def parse_record(text: Any) -> dict[str, Any] | None:
    """What a result says that it was made from, JSON in an attribute; None where it says nothing of the kind."""
    try:
        tree = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return tree if isinstance(tree, dict) else None


def refuse_changes(path: Path, provenance: Any, now: Mapping[str, Any]) -> None:
    """UsageError that names what differs, where a result was made from other inputs."""
    old, new = flatten(provenance if isinstance(provenance, Mapping) else {}), flatten(now)
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if keys:
        shown = [f"{key} was {_brief(old.get(key))}, is {_brief(new.get(key))}" for key in keys[:3]]
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        raise UsageError(
            f"{path} was made from other inputs: {'; '.join(shown)}{more}\n"
            "  give --force to make it again, or another --out or --to to keep both"
        )


def refuse_to_go_on(path: Path, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """UsageError that names what differs, where `path` is half made: other inputs, or the same ones on a machine that
    would compute other last bits."""
    old, new = flatten(begun), flatten(now)
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if not all(key in HOW or key.startswith("versions.") for key in keys):
        refuse_changes(partial(path), begun, now)
    shown = [f"{HOW.get(key, key)} was {_brief(old.get(key))}, is {_brief(new.get(key))}" for key in keys]
    remedy = (
        "; the native kernel needs a C++ compiler, g++ or the one that CXX names" if "native" in old.values() else ""
    )
    raise UsageError(
        f"{path} is half made, and the rest would not be computed as its beginning was: {'; '.join(shown)}\n"
        f"  go on where it was begun{remedy}; or give --force to begin again here"
    )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level of dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return flat


def stamp(experiment: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What every result says of itself: the full experiment, the parts of it that the result depends on and their
    hash, the seed and the versions; JSON in strings, as file formats take it."""
    text = json.dumps(provenance)
    return {
        "experiment": json.dumps(experiment),
        "provenance": text,
        "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16],
        "seed": experiment["seed"],
        "versions": json.dumps(versions()),
    }


def versions() -> dict[str, str]:
    """What computed a result."""
    packages = ("fluidsurrogate", "torch", "numpy", "xarray")
    return {"python": sys.version.split()[0], **{package: version(package) for package in packages}}


def _brief(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
