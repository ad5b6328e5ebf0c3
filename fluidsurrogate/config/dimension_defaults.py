"""Defaults that differ between two and three dimensions: the stored field, and options of some architectures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fluidsurrogate.nn.registry import SPACE_DEFAULTS


def dimensions_in(tree: Mapping[str, Any]) -> int:
    """Return the number of dimensions of an experiment that has not been checked yet.

    Parameters
    ----------
    tree : mapping
        The experiment as nested plain data, which may hold mistakes.

    Returns
    -------
    int
        3 if `grid.dimensions` or the length of a list in the table `grid` says so, 2 if not.
    """
    grid = tree.get("grid")
    if not isinstance(grid, Mapping):
        return 2
    if "dimensions" in grid:
        return 3 if grid["dimensions"] == 3 else 2
    sequences = [grid[key] for key in ("n", "length", "store") if isinstance(grid.get(key), list | tuple)]
    return 3 if sequences and len(sequences[0]) == 3 else 2


def with_dimension_defaults(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fill in the defaults of three dimensions where an experiment in space leaves keys out.

    Parameters
    ----------
    tree : mapping
        The experiment as nested plain data, which may hold mistakes; they stay.

    Returns
    -------
    mapping
        The experiment. In two dimensions nothing is filled in.
    """
    if dimensions_in(tree) == 2:
        return tree
    filled = dict(tree)
    if isinstance(tree.get("data"), Mapping):
        filled["data"] = {"state": "velocity", **tree["data"]}
    if isinstance(tree.get("models"), Mapping):
        filled["models"] = {name: _with_option_defaults(model) for name, model in tree["models"].items()}
    return filled


def _with_option_defaults(model: Any) -> Any:
    """Return the table of a model with the options whose default is another one in space."""
    if not isinstance(model, Mapping) or not isinstance(model.get("kind"), str):
        return model
    return {**SPACE_DEFAULTS.get(model["kind"], {}), **model}
