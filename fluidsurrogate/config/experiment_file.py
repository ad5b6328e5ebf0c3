"""Read the TOML file of an experiment into plain data, with overrides from the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import as_path, is_model_address
from fluidsurrogate.core.stores import is_address


def read_tree(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML file and apply overrides.

    Parameters
    ----------
    path : str or Path
        The TOML file. Paths in it are relative to its folder.
    overrides : sequence of str
        Values to replace, as "dotted.key=value". Paths in them are relative to the current folder.

    Returns
    -------
    dict
        Nested plain data, with absolute paths.

    Raises
    ------
    UsageError
        If the file is not a text file in UTF-8 or not valid TOML, or an override cannot be applied.
    """
    try:
        text = as_path(path).read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file in UTF-8; save it in this encoding"
        raise UsageError(f"{path}: cannot read the experiment: {reason}") from None
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from None
    make_paths_absolute(tree, as_path(path).absolute().parent)
    for override in overrides:
        _override(tree, override)
    make_paths_absolute(tree, Path.cwd())
    return tree


def make_paths_absolute(tree: dict[str, Any], folder: Path) -> None:
    """Make the relative paths in an experiment absolute, in place.

    Paths are `data.path` and the models' `init`. A recorded experiment then names the same files, wherever it is read.

    Parameters
    ----------
    tree : dict
        The experiment as plain data.
    folder : Path
        The folder that its paths are relative to.
    """
    models = tree["models"].values() if isinstance(tree.get("models"), dict) else []
    for table, key in [(tree.get("data"), "path"), *((model, "init") for model in models)]:
        path = table.get(key) if isinstance(table, dict) else None
        if isinstance(path, str) and not is_address(path) and not is_model_address(path):
            table[key] = str(folder / as_path(path))


def _override(tree: dict[str, Any], override: str) -> None:
    """Replace one value, given as "dotted.key=value", in place."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {override}: expected dotted.key=value, as in --set train.steps=100")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text
    *parents, last = key.strip().split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise UsageError(f"--set {override}: {parent!r} is a value, not a table, and has no keys")
    tree[last] = value
