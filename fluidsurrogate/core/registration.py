"""Finding the modules of a package that register something on import."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable


def import_submodules(package: str, path: Iterable[str]) -> None:
    """Import every module of a package, so that all that they register is known.

    Packages of things that people add (readers, metrics, diagnostics) call it at the end of their `__init__`: a file
    put into the folder is then found without being named anywhere.

    Parameters
    ----------
    package : str
        Name of the package, `__name__` in its `__init__`.
    path : iterable of str
        Its folders, `__path__` in its `__init__`.
    """
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
