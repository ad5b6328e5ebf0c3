"""What a result was made from: the attributes that record it, and its comparison with what would be made now."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fluidsurrogate.core.errors import UsageError

LONGEST_SHOWN = 60  # characters of a value in a message
MOST_SHOWN = 3  # differences in a message


def provenance_attributes(experiment: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes with which every result records what it was made from.

    Parameters
    ----------
    experiment : mapping
        The full experiment as plain data.
    provenance : mapping
        The parts of the experiment that the result depends on.

    Returns
    -------
    dict
        `experiment`, `provenance` and `versions` as JSON in strings, which every file format takes; `fingerprint`, a
        hash of the provenance; and `seed`.
    """
    text = json.dumps(provenance)
    return {
        "experiment": json.dumps(experiment),
        "provenance": text,
        "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16],
        "seed": experiment["seed"],
        "versions": json.dumps(package_versions()),
    }


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute a result.

    Returns
    -------
    dict
        Version by name.
    """
    packages = ("fluidsurrogate", "torch", "numpy", "xarray")
    return {"python": sys.version.split()[0], **{package: version(package) for package in packages}}


@cache
def processor_name() -> str:
    """Return the name of the processor.

    Returns
    -------
    str
        Such as "Intel(R) Xeon(R) Processor @ 2.60GHz"; at least the architecture.
    """
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def parse_json_attribute(text: Any) -> dict[str, Any] | None:
    """Return the mapping that an attribute of a result holds as JSON.

    Parameters
    ----------
    text : object
        The attribute.

    Returns
    -------
    dict or None
        None if the attribute is no JSON object.
    """
    try:
        tree = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return tree if isinstance(tree, dict) else None


def check_same_provenance(path: str | Path, recorded: Any, current: Mapping[str, Any]) -> None:
    """Check that a result was made from the current inputs.

    Parameters
    ----------
    path : str or Path
        Where the result is, for the message.
    recorded : object
        The provenance that the result records; anything but a mapping counts as none.
    current : mapping
        The provenance of what would be made now.

    Raises
    ------
    UsageError
        If they differ, with the first differences.
    """
    old, new = flatten_keys(recorded if isinstance(recorded, Mapping) else {}), flatten_keys(current)
    if keys := differing_keys(old, new):
        shown = [f"{key} was {brief_json(old.get(key))}, is {brief_json(new.get(key))}" for key in keys[:MOST_SHOWN]]
        more = f" and {len(keys) - MOST_SHOWN} more" if len(keys) > MOST_SHOWN else ""
        raise UsageError(
            f"{path} was made from other inputs: {'; '.join(shown)}{more}\n"
            "  give --force to make it again, or another --out or --to to keep both"
        )


def differing_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the keys at which two flat mappings differ.

    Parameters
    ----------
    old, new : mapping
        One level of keys; a missing key counts as None.

    Returns
    -------
    list of str
        Sorted.
    """
    return [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]


def flatten_keys(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one level of dotted keys.

    Parameters
    ----------
    tree : mapping
        Mappings in mappings.
    prefix : str, default ""
        What every key begins with.

    Returns
    -------
    dict
        `{"a.b": 1}` for `{"a": {"b": 1}}`.
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(flatten_keys(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return flat


def brief_json(value: Any) -> str:
    """Return a value as short JSON for a message.

    Parameters
    ----------
    value : object
        Whatever JSON holds; None is shown as "absent".

    Returns
    -------
    str
        At most 60 characters.
    """
    text = "absent" if value is None else json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."
