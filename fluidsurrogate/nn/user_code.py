"""Code of the user's own: the permission to run it, and the module that it defines."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fluidsurrogate.core.errors import UsageError, describe_exception

USER_MODULE = "module"  # the kind of a model that is the user's own code
_allowed: ContextVar[bool] = ContextVar("code is allowed", default=False)


@contextmanager
def allowing_code(allowed: bool) -> Iterator[None]:
    """Allow models of kind "module" to import and run the code that their `path` names, within this context and thread.

    No file can give this permission, only whoever starts the program: a TOML file or a model's folder may be somebody
    else's.

    Parameters
    ----------
    allowed : bool
        Whether to allow it. False leaves the permission of an outer context as it is.

    Yields
    ------
    None
        Nothing.
    """
    token = _allowed.set(allowed or _allowed.get())
    try:
        yield
    finally:
        _allowed.reset(token)


def code_is_allowed() -> bool:
    """Return True inside of `allowing_code(True)`.

    Returns
    -------
    bool
        Whether user code may run.
    """
    return _allowed.get()


def require_code_permission(path: str | None) -> str:
    """Return the path of user code if it is allowed to run.

    Parameters
    ----------
    path : str or None
        The class, as "package.module:Class".

    Returns
    -------
    str
        The path.

    Raises
    ------
    UsageError
        If there is no path, or the code is not allowed to run. The message says what would be executed.
    """
    if path is None:
        raise UsageError(
            f'kind = {USER_MODULE!r} has no path: name the class, path = "package.module:Class"; or give the module '
            "itself from Python, to fs.train and fs.load"
        )
    if not code_is_allowed():
        raise UsageError(
            f"kind = {USER_MODULE!r} would import and run {path}: if you trust that code, "
            "allow it by --allow-code (from Python: allow_code=True)"
        )
    return path


def construct_module(path: str, offered: Mapping[str, Any], options: Mapping[str, Any]) -> nn.Module:
    """Construct a module of a user's class.

    Parameters
    ----------
    path : str
        The class, as "package.module:Class".
    offered : mapping of str to object
        Arguments that the constructor is given if it names them.
    options : mapping of str to object
        Arguments that the constructor is given in any case.

    Returns
    -------
    Module
        The module.

    Raises
    ------
    UsageError
        If the class cannot be found, takes other arguments, or its constructor raises an exception.
    """
    found = _find_class(path)
    signature = inspect.signature(found.__init__)
    arguments = {key: value for key, value in offered.items() if key in signature.parameters} | dict(options)
    try:
        signature.bind(None, **arguments)
    except TypeError as error:
        known = ", ".join(list(signature.parameters)[1:])
        raise UsageError(f"{path}: {error} (options); its constructor takes {known or 'nothing'}") from None
    try:
        with torch.device("cpu"):  # a constructor may compute with what it makes, which the meta device cannot
            return found(**arguments)
    except Exception as error:
        raise UsageError(f"{path}: its constructor raised {describe_exception(error)}") from error


def _find_class(path: str) -> type[nn.Module]:
    """Import the class behind "package.module:Class"."""
    name, colon, attribute = path.partition(":")
    if not (colon and name and attribute):
        raise UsageError(f'path must be "package.module:Class" (got {path!r})')
    try:
        where = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"{path}: importing {name} raised {describe_exception(error)}") from error
        raise UsageError(f"{path}: no module {error.name!r} here or among the installed packages") from None
    except Exception as error:
        raise UsageError(f"{path}: importing {name} raised {describe_exception(error)}") from error
    found = getattr(where, attribute, None)
    if found is None:
        raise UsageError(f"{path}: {where.__name__} ({getattr(where, '__file__', 'built in')}) has no {attribute!r}")
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UsageError(f"{path} is not a torch.nn.Module's class")
    return found


def hash_source(path: str) -> str:
    """Compute a hash of the source file that defines a user's class.

    Parameters
    ----------
    path : str
        The class, as "package.module:Class".

    Returns
    -------
    str
        The first 16 digits of the SHA-256 hash; "unknown" if the class has no source file.

    Raises
    ------
    UsageError
        If the code is not allowed to run, or the class cannot be found.
    """
    file = inspect.getsourcefile(_find_class(require_code_permission(path)))
    return "unknown" if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
