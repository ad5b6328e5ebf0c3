"""Translate the validation errors of pydantic into messages that name the keys of the user's file."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from fluidsurrogate.config.parameter_sampling import PARAMETER_FORMS

MAX_MESSAGE_LENGTH = 400  # characters
_AXES_BRANCHES = {"int", "float", "tuple[int, ...]", "tuple[float, ...]"}


def describe_errors(
    root: type[BaseModel], errors: Sequence[Any], config_of_kind: Callable[[str, str], type[BaseModel] | None]
) -> list[str]:
    """Describe each key that is wrong in one message.

    Parameters
    ----------
    root : type of BaseModel
        The class of the whole tree.
    errors : sequence of dict
        The errors that pydantic reports.
    config_of_kind : callable
        From the name of a table and a `kind` to the config class of this table, or None.

    Returns
    -------
    list of str
        One message a key, with the nearest valid key for an unknown one.
    """
    lines: dict[str, str] = {}
    for error in errors:
        # A union puts its branch into the path (flow.decaying.viscosity.value, grid.n.int): not a key of the file.
        location, config = [str(part) for part in error["loc"]], root
        tag_at = {"flow": 1, "models": 2}.get(location[0] if location else "", len(location))
        begin = 0
        if len(location) > tag_at:
            config, begin = config_of_kind(location[0], location.pop(tag_at)) or root, tag_at
        branch = next((i for i, part in enumerate(location) if part in _AXES_BRANCHES), None)
        if branch is not None:
            location = location[:branch]
        location = [part for i, part in enumerate(location) if i <= begin or part not in PARAMETER_FORMS]
        for part in location[begin:-1]:
            config = _config_at(config, part) or config
        key = ".".join(location)
        lines.setdefault(key, _message(config, key, error, is_per_axis=branch is not None))
    return [_printable(line) for line in lines.values()]


def _printable(message: str) -> str:
    """Return a message that fits a terminal, whatever characters the user's file put into it."""
    text = "".join(c if c.isprintable() or c == "\n" else "?" for c in message)
    return text if len(text) <= MAX_MESSAGE_LENGTH else f"{text[:MAX_MESSAGE_LENGTH]}..."


def _config_at(config: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the config class of the table at a key; None if the key holds no table."""
    field = config.model_fields.get(key)
    return None if field is None else next(_config_classes(field.annotation), None)


def _config_classes(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the config classes in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _config_classes(part)


def _message(config: type[BaseModel], key: str, error: Any, is_per_axis: bool) -> str:
    """Return the message for one of pydantic's errors."""
    message = error["msg"].removeprefix("Value error, ")
    match error["type"]:
        case "extra_forbidden":
            known = sorted(config.model_fields)
            near = difflib.get_close_matches(key.rpartition(".")[2], known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            return f"unknown key {key!r}{hint}\n  allowed here: {', '.join(known)}"
        case "model_type":
            return f"{key} must be a table (got {error['input']!r})"
        case "missing":
            return f"{key} is missing"
        case "union_tag_invalid":
            context = error["ctx"]
            what = "flow" if key == "flow" else "model"
            return f"{key}.kind: unknown {what} {context['tag']!r}; one of {context['expected_tags']}"
        case "union_tag_not_found":
            return f"{key}.kind is missing"
        case "value_error":
            return f"{key}: {message}" if key else message
        case _ if is_per_axis:
            number = "whole number" if "int" in map(str, error["loc"]) else "finite number"
            return f"{key}: must be one {number}, [y, x] or [z, y, x] (got {error['input']!r})"
        case _:
            return f"{key}: {message[0].lower()}{message[1:]} (got {error['input']!r})"
