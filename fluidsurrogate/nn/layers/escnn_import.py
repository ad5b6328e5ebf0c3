"""The import of escnn, without the packages that it needs for rotations in space only."""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType
from typing import Any

# escnn takes one function from lie_learn, for SO(3): a package with wheels for x86-64 Linux and numpy < 2 alone.
WIGNER = "lie_learn.representations.SO3.wigner_d"


def import_escnn() -> ModuleType:
    """Import escnn.

    escnn asks for py3nj and lie_learn, which only rotations in space need. It works without py3nj. It imports one
    function from lie_learn, for which a placeholder stands while escnn is first imported.

    Returns
    -------
    module
        The package escnn, with its modules `gspaces` and `nn` imported.

    Raises
    ------
    ValueError
        If escnn is not installed.
    """
    if "escnn.nn" in sys.modules:
        return sys.modules["escnn"]
    placeholders = _placeholders()
    sys.modules.update(placeholders)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*py3nj")
            for part in ("escnn.gspaces", "escnn.nn"):
                importlib.import_module(part)
    except (ImportError, OSError) as error:
        how = "pip install joblib scipy, then pip install --no-deps escnn==1.0.11"
        raise ValueError(f"kind = 'steerable' needs escnn ({error}): {how}") from None
    finally:
        for name in placeholders:
            del sys.modules[name]
    return sys.modules["escnn"]


def _placeholders() -> dict[str, ModuleType]:
    """Make lie_learn's module and its parents if it is not installed or does not work with this numpy."""
    try:
        importlib.import_module(WIGNER)
    except (ImportError, ValueError):  # the latter where it was compiled for another numpy
        parts = WIGNER.split(".")
        made = {name: ModuleType(name) for name in (".".join(parts[: i + 1]) for i in range(len(parts)))}
        made[WIGNER].wigner_D_matrix = _wigner_matrix  # type: ignore[attr-defined]
        return made
    return {}


def _wigner_matrix(*args: Any, **options: Any) -> None:
    """Stand in for lie_learn's function."""
    raise ImportError("rotations in space need lie_learn: install it, and import escnn before fluidsurrogate uses it")
