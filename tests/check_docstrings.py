"""Check the docstrings of everything public against numpydoc: `make check` runs it.

    python tests/check_docstrings.py

Prints one line for each fault and exits with 1 if there is any. Checked are the classes and functions of
`fluidsurrogate.__all__`, `fluidsurrogate.nn.__all__` and `solvers.__all__`, and the public methods and properties that
these classes define. What a class inherits is not checked again, nor is a method that overrides one without a docstring
of its own, such as the `forward` of a network or the `advance` of a stepper.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# The folder of this file holds `solvers`, the tests of the package of that name, which must not be imported for it.
sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry).resolve() != ROOT / "tests")]

from numpydoc.validate import validate  # noqa: E402

PACKAGES = ("fluidsurrogate", "fluidsurrogate.nn", "solvers")
# Not required: an example of everything, a "See Also" section, and more than a summary.
IGNORED = ("EX01", "SA01", "ES01")
MEMBERS = (staticmethod, classmethod, property, functools.cached_property)


def public_names() -> Iterator[str]:
    """Yield the full names of all public classes, functions, methods and properties, each once."""
    seen: set[int] = set()
    for package_name in PACKAGES:
        package = importlib.import_module(package_name)
        for name in package.__all__:
            value = getattr(package, name)
            if id(value) in seen or not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            seen.add(id(value))
            yield f"{package_name}.{name}"
            if inspect.isclass(value):
                yield from (f"{package_name}.{name}.{member}" for member in members_of(value))


def members_of(cls: type) -> Iterator[str]:
    """Yield the public methods and properties that a class defines, or inherits from a class of ours not checked."""
    public = {id(value) for package in PACKAGES for value in vars(importlib.import_module(package)).values()}
    found = set()
    for base in cls.__mro__:
        is_ours = base.__module__.partition(".")[0] in ("fluidsurrogate", "solvers")
        if not is_ours or (base is not cls and id(base) in public):
            continue
        for name, value in vars(base).items():
            if name.startswith("_") or name in found or not (inspect.isfunction(value) or isinstance(value, MEMBERS)):
                continue
            found.add(name)
            if not is_inherited(base, name, value):
                yield name


def is_inherited(cls: type, name: str, value: Any) -> bool:
    """Return whether a method leaves its docstring to a class that it inherits from."""
    function = value.__func__ if isinstance(value, staticmethod | classmethod) else value
    return not getattr(function, "__doc__", None) and any(name in vars(base) for base in cls.__mro__[1:])


def faults() -> Iterator[str]:
    """Yield one line for each fault."""
    for name in public_names():
        result = validate(name)
        try:
            file = Path(result["file"]).relative_to(ROOT)
        except (TypeError, ValueError):
            file = result["file"]
        for code, message in result["errors"]:
            if code not in IGNORED:
                yield f"{file}:{result['file_line']}: {name}: {code} {' '.join(message.split())}"


def main() -> int:
    """Print the faults; return the exit code."""
    found = list(faults())
    for line in found:
        print(line)
    if found:
        print(f"{len(found)} faults in docstrings")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
