"""The C++ of the inner steps (`native.cpp`), compiled for this machine and kept in the user's cache."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")  # -ffast-math would hide NaN

log = logging.getLogger("solvers")


def unavailable(device: torch.device) -> str | None:
    """Why the native steps cannot run on a device; None where they can."""
    if device.type != "cpu":
        return f"it runs on a CPU, not on {device.type}"
    found = library()
    return found if isinstance(found, str) else None


@functools.cache
def say_slow(reason: str) -> None:
    """Log once that torch does the inner steps, and why."""
    log.warning(
        f"the solver takes its steps by torch's operations, some 3 to 8 times slower than in C++: {reason}; "
        "set CXX to a C++ compiler"
    )


@functools.cache
def library() -> ctypes.CDLL | str:
    """The compiled code, or in one line why there is none.

    `CXX` names the compiler, in one word or several; by default it is g++. The code is kept in the user's cache, under
    a name with a hash of what it was compiled from, for which processor, and a hash of the file: a file that was cut
    short is compiled again. A folder or a file that somebody else could have written is not used; where there is no
    other, the code is compiled for this process alone, and the log says why.
    """
    named = os.environ.get("CXX", "")
    try:
        compiler = shlex.split(named) or ["g++"]
        macros = _run([*compiler, "-march=native", "-dM", "-E", "-x", "c++", "-"])  # its version, and the processor's
        key = _hash(SOURCE.read_bytes() + macros + " ".join(FLAGS).encode())
        folder = found = None
        try:
            folder = _cache_folder()
            found = _cached(folder, key)
        except (OSError, RuntimeError) as error:  # RuntimeError: no home directory
            log.warning(f"the solver's C++ is compiled for this process alone, which takes some seconds: {error}")
        return found or _compiled(compiler, key, folder)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        return f"{named or 'g++'} cannot compile it here: {_first_line(error)}"


def _cache_folder() -> Path:
    """Made where it is missing. OSError or RuntimeError where there is none that others cannot write."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = (given if given.is_absolute() else Path.home() / ".cache") / "fluidsurrogate"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_private(folder):
        raise PermissionError(f"others could write to {folder}: chmod go-w, or set XDG_CACHE_HOME to a folder of yours")
    return folder


def _is_private(path: Path) -> bool:
    """Whether only this user, or root, can have written a file or a folder."""
    if os.name != "posix":
        return True
    about = path.stat()
    return about.st_uid in (0, os.getuid()) and not about.st_mode & 0o022


def _cached(folder: Path, key: str) -> ctypes.CDLL | None:
    """The library of that key, if it is there as a whole. What is damaged is deleted."""
    for path in sorted(folder.glob(f"native-{key}-*.so")):
        try:
            if _is_private(path) and path.name == _name(key, path.read_bytes()):
                return ctypes.CDLL(str(path))
            path.unlink(missing_ok=True)
        except OSError:  # it cannot be read, loaded or deleted
            continue
    return None


def _compiled(compiler: Sequence[str], key: str, folder: Path | None) -> ctypes.CDLL:
    """Compile, and keep a copy in `folder` where that is possible."""
    with tempfile.TemporaryDirectory(prefix="fluidsurrogate-", ignore_cleanup_errors=True) as scratch:
        made = Path(scratch) / "native.so"
        _run([*compiler, *FLAGS, str(SOURCE), "-o", str(made)])
        if folder is not None:
            try:
                path = folder / _name(key, made.read_bytes())
                with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as beside:
                    copy = Path(beside) / path.name
                    copy.touch(mode=0o700)
                    copy.write_bytes(made.read_bytes())
                    copy.replace(path)  # in one piece: several processes may come here at once
                return ctypes.CDLL(str(path))
            except OSError as error:
                log.warning(f"the solver's C++ is not kept for the next start: {error}")
        return ctypes.CDLL(str(made))


def _name(key: str, content: bytes) -> str:
    return f"native-{key}-{_hash(content)}.so"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _run(command: Sequence[str]) -> bytes:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout


def _first_line(error: Exception) -> str:
    """Of what a compiler complains of, the first error; of another exception, the first line."""
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr.decode(errors="replace").strip().splitlines()
        return next((line for line in said if "error" in line), said[0] if said else f"exit status {error.returncode}")
    return str(error).partition("\n")[0]
