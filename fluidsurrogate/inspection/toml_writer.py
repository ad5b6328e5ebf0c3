"""Write nested plain data as TOML, so that a recorded experiment becomes a file again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")  # a key that needs no quotes


def to_toml(tree: Mapping[str, Any]) -> str:
    """Format nested plain data as TOML.

    Parameters
    ----------
    tree : mapping
        Strings, numbers, booleans, lists and mappings.

    Returns
    -------
    str
        The keys that are no tables first, then each table under its own heading.
    """
    return "\n".join(_lines(tree, "")).strip() + "\n"


def _lines(tree: Mapping[str, Any], prefix: str) -> list[str]:
    """Return the lines of a table whose name begins with a prefix."""
    lines = [f"{_key(key)} = {_value(value)}" for key, value in tree.items() if not isinstance(value, Mapping)]
    for key, value in tree.items():
        if isinstance(value, Mapping):
            name = f"{prefix}{_key(key)}"
            inner = _lines(value, f"{name}.")
            # A table that only holds other tables needs no heading of its own; an empty table does.
            only_tables = bool(value) and all(isinstance(part, Mapping) for part in value.values())
            lines += ["", *([] if only_tables else [f"[{name}]"]), *inner]
    return lines


def _key(key: str) -> str:
    """Return a key, in quotes if it needs them."""
    return key if BARE_KEY.fullmatch(key) else _value(key)


def _value(value: Any) -> str:
    """Return a value as TOML, on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    # Numbers, booleans and strings are the same in JSON and TOML, except for one character that JSON does not escape.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
