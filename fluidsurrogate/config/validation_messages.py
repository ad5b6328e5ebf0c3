"""What pydantic finds wrong with an experiment, in the words of the file that its user wrote."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from fluidsurrogate.config.parameter_sampling import FORMS

MOST_CHARACTERS = 400  # of a message
_PAIR_BRANCHES = {"int", "float", "tuple[int, int]", "tuple[float, float]"}


def explain(
    root: type[BaseModel], faults: Sequence[Any], tagged: Callable[[str, str], type[BaseModel] | None]
) -> list[str]:
    """A line for each key that is wrong, with the nearest valid key for an unknown one.

    `faults` are pydantic's; `tagged(table, kind)` is the section that a `kind` chooses in a table of the tree.
    """
    lines: dict[str, str] = {}
    for fault in faults:
        # A union puts its branch into the path (flow.decaying.viscosity.value, grid.n.int): not a key of the file.
        location, config = [str(part) for part in fault["loc"]], root
        tag_at = {"flow": 1, "models": 2}.get(location[0] if location else "", len(location))
        begin = 0
        if len(location) > tag_at:
            config, begin = tagged(location[0], location.pop(tag_at)) or root, tag_at
        branch = next((i for i, part in enumerate(location) if part in _PAIR_BRANCHES), None)
        if branch is not None:
            location = location[:branch]
        location = [part for i, part in enumerate(location) if i <= begin or part not in FORMS]
        for part in location[begin:-1]:
            config = _table(config, part) or config
        key = ".".join(location)
        lines.setdefault(key, _message(config, key, fault, is_pair=branch is not None))
    return [_shown(line) for line in lines.values()]


def _shown(message: str) -> str:
    """A message that holds what the user wrote, whatever that is, fit for a terminal."""
    text = "".join(c if c.isprintable() or c == "\n" else "?" for c in message)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."


def _table(config: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The section that a key of another one holds; None where it holds none."""
    field = config.model_fields.get(key)
    return None if field is None else next(_models(field.annotation), None)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _message(config: type[BaseModel], key: str, fault: Any, is_pair: bool) -> str:
    message = fault["msg"].removeprefix("Value error, ")
    match fault["type"]:
        case "extra_forbidden":
            known = sorted(config.model_fields)
            near = difflib.get_close_matches(key.rpartition(".")[2], known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            return f"unknown key {key!r}{hint}\n  allowed here: {', '.join(known)}"
        case "model_type":
            return f"{key} must be a table (got {fault['input']!r})"
        case "missing":
            return f"{key} is missing"
        case "union_tag_invalid":
            context = fault["ctx"]
            what = "flow" if key == "flow" else "model"
            return f"{key}.kind: unknown {what} {context['tag']!r}; one of {context['expected_tags']}"
        case "union_tag_not_found":
            return f"{key}.kind is missing"
        case "value_error":
            return f"{key}: {message}" if key else message
        case _ if is_pair:
            number = "whole number" if "int" in map(str, fault["loc"]) else "finite number"
            return f"{key}: must be one {number} or a pair [y, x] (got {fault['input']!r})"
        case _:
            return f"{key}: {message[0].lower()}{message[1:]} (got {fault['input']!r})"
