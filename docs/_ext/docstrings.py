"""Docstrings are read in an editor too: there |k| is a modulus, not a substitution of reStructuredText."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

BAR = re.compile(r"(?<!\\)\|")
LONE_STAR = re.compile(r"(?<![\w*\\])\*{1,2}(?=[A-Za-z_])(?![^*]*\*)")  # of *inputs or **options, not of emphasis
LITERAL = re.compile(r"(``.*?``|(?::[\w:]+:)?`[^`]*`)")  # literals and roles stay as they are


def escaped(lines: list[str]) -> Iterator[str]:
    """The lines with bars and lone stars escaped, except in literals, in literal blocks and in equations."""
    inside: int | None = None  # the indent of the line that opened a block
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if inside is not None and line.strip() and indent <= inside:
            inside = None
        if inside is None and (line.strip().startswith(".. ") or line.rstrip().endswith("::")):
            inside = indent
            yield line
        elif inside is not None or line.lstrip().startswith((">>>", "...")):
            yield line
        else:
            parts = LITERAL.split(line)
            parts[::2] = [LONE_STAR.sub(r"\\\g<0>", BAR.sub(r"\\|", part)) for part in parts[::2]]
            yield "".join(parts)


def process(app: Sphinx, what: str, name: str, object_: Any, options: Any, lines: list[str]) -> None:
    """The hook of autodoc."""
    lines[:] = list(escaped(lines))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the hook, after numpydoc's."""
    app.connect("autodoc-process-docstring", process, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
