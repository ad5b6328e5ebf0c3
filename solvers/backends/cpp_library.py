"""Libraries in C++, such as that of the inner steps: compiled on the user's machine, and kept in a cache."""

from __future__ import annotations

import contextlib
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

FOLDER = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")  # not -ffast-math, which would hide NaN
INCLUDES = ("-I", str(FOLDER))

log = logging.getLogger("solvers")


def why_not_compiled(dimensions: int = 2) -> str | None:
    """Explain why there is no C++ library.

    Parameters
    ----------
    dimensions : int
        Number of dimensions of the flow, 2 or 3.

    Returns
    -------
    str or None
        The reason in one line; None if the library is there, compiled now or before.
    """
    found = load_library(dimensions)
    return found if isinstance(found, str) else None


def load_library(dimensions: int = 2, adjoint: bool = False) -> ctypes.CDLL | str:
    """Load the library of the inner steps in two or three dimensions, after compiling it if need be.

    Parameters
    ----------
    dimensions : int
        Number of dimensions of the flow, 2 or 3.
    adjoint : bool
        Whether to load the gradients of the steps, in two dimensions, instead of the steps.

    Returns
    -------
    ctypes.CDLL or str
        The library, or the reason in one line why there is none.
    """
    return compiled_library(FOLDER / f"native_{dimensions}d{'_adjoint' * adjoint}.cpp")


@functools.cache
def compiled_library(source: Path) -> ctypes.CDLL | str:
    """Load the library of a C++ file, after compiling it if need be.

    The environment variable ``CXX`` names the compiler, in one word or several; the default is g++. The library is
    kept in the user's cache folder. Its file name holds a hash of the sources, the flags, the compiler and the
    processor, and a hash of the file: a truncated file is compiled again. A folder or file that another user could
    have written is not used. If the cache cannot be used, the code is compiled for this process alone, and a warning
    says why.

    Parameters
    ----------
    source : Path
        A C++ file. The headers beside it and beside this file belong to it.

    Returns
    -------
    ctypes.CDLL or str
        The library, or the reason in one line why there is none.
    """
    named = os.environ.get("CXX", "")
    try:
        compiler = shlex.split(named) or ["g++"]
        # The predefined macros tell versions of the compiler and processors apart.
        macros = _run([*compiler, "-march=native", "-dM", "-E", "-x", "c++", "-"])
        headers = b"".join(path.read_bytes() for path in sorted({*source.parent.glob("*.h"), *FOLDER.glob("*.h")}))
        key = _hash(source.read_bytes() + headers + macros + " ".join(FLAGS).encode())
        folder = found = None
        try:
            folder = _cache_folder()
            found = _load_cached(folder, key)
        except (OSError, RuntimeError) as error:  # RuntimeError: no home directory
            log.warning(f"{source.name} is compiled for this process alone, which takes some seconds: {error}")
        return found or _compile(compiler, source, key, folder)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        return f"{named or 'g++'} cannot compile {source.name}: {_error_line(error)}"


def _cache_folder() -> Path:
    """Make the cache folder if need be; OSError or RuntimeError if there is none that is safe from other users."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))  # relative paths are invalid by the XDG specification
    folder = (given if given.is_absolute() else Path.home() / ".cache") / "fluidsurrogate"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_private(folder):
        raise PermissionError(
            f"other users can write to {folder}: run chmod go-w on it, or set XDG_CACHE_HOME to a folder of your own"
        )
    return folder


def _is_private(path: Path) -> bool:
    """Return whether only this user, or root, can have written a file or a folder."""
    if os.name != "posix":
        return True
    about = path.stat()
    return about.st_uid in (0, os.getuid()) and not about.st_mode & 0o022


def _load(path: Path) -> ctypes.CDLL:
    """Load a library; what it shares among threads is done by those of PyTorch, if it knows how to borrow them."""
    library = ctypes.CDLL(str(path))
    _lend_threads(library)
    return library


def _lend_threads(library: ctypes.CDLL) -> None:
    """Let a library use the threads of PyTorch's OpenMP, if both are able to: see `threads.h`."""
    pytorch = ctypes.CDLL(torch._C.__file__)
    with contextlib.suppress(AttributeError):  # an OpenMP with another interface, or a library that needs no threads
        functions = (pytorch.GOMP_parallel, pytorch.omp_get_thread_num)
        library.lend_threads(*(ctypes.cast(function, ctypes.c_void_p) for function in functions))


def _load_cached(folder: Path, key: str) -> ctypes.CDLL | None:
    """Load the library of that key if its file is complete; delete files that are damaged."""
    for path in sorted(folder.glob(f"native-{key}-*.so")):
        try:
            if _is_private(path) and path.name == _file_name(key, path.read_bytes()):
                return _load(path)
            path.unlink(missing_ok=True)
        except OSError:  # it cannot be read, loaded or deleted
            continue
    return None


def _compile(compiler: Sequence[str], source: Path, key: str, folder: Path | None) -> ctypes.CDLL:
    """Compile the library, and keep a copy in `folder` if that is possible."""
    with tempfile.TemporaryDirectory(prefix="fluidsurrogate-", ignore_cleanup_errors=True) as scratch:
        made = Path(scratch) / "native.so"
        _run([*compiler, *FLAGS, *INCLUDES, str(source), "-o", str(made)])
        if folder is not None:
            try:
                path = folder / _file_name(key, made.read_bytes())
                with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as beside:
                    copy = Path(beside) / path.name
                    copy.touch(mode=0o700)
                    copy.write_bytes(made.read_bytes())
                    copy.replace(path)  # atomic: several processes may come here at once
                return _load(path)
            except OSError as error:
                log.warning(f"the library of {source.name} cannot be kept for the next process: {error}")
        return _load(made)


def _file_name(key: str, content: bytes) -> str:
    return f"native-{key}-{_hash(content)}.so"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _run(command: Sequence[str]) -> bytes:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout


def _error_line(error: Exception) -> str:
    """Return the first error that a compiler reports, or the first line of another exception."""
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr.decode(errors="replace").strip().splitlines()
        return next((line for line in said if "error" in line), said[0] if said else f"exit status {error.returncode}")
    return str(error).partition("\n")[0]
