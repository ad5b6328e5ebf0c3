"""What is known about a file beside its numbers: box, viscosity, interval, layout; and where each fact comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, final

import numpy as np

from fluidsurrogate.core.errors import UsageError

FILE, FLAG, DEFAULT = "file", "flag", "default"  # where a fact comes from
# Every fact that a user can give: what it is called in messages, and the option of the command line that gives it.
NAMES = {
    "format": ("the format", "--format"),
    "axes": ("the order of the axes", "--axes"),
    "names": ("the names of the variables", "--map"),
    "length": ("the length of the box", "--length"),
    "viscosity": ("the viscosity", "--viscosity"),
    "interval": ("the interval between stored states", "--interval"),
    "split": ("which trajectories are for what", "--split"),
    "periodic": ("that the data are periodic", "--periodic"),
}


@final
@dataclass(frozen=True)
class Fact:
    """One fact about a file.

    Parameters
    ----------
    name : str
        What it is about, such as "viscosity".
    value : object
        Its value.
    source : {"file", "flag", "default"}
        Where it comes from: the file, an option of the user's, or the usual value of the format.
    reason : str, default ""
        Where in the file it stands, or why the default is right.
    """

    name: str
    value: Any
    source: str
    reason: str = ""


@final
class Facts:
    """The facts about one file, as a reader collects them.

    A reader asks for each fact that it needs (`take`), says what it found besides (`note`), and says in a word what it
    has changed (`say`). `fluidsurrogate import` prints all of it.

    Parameters
    ----------
    path : Path
        The file or folder, for messages.
    given : mapping of str to object, optional
        What the user states, by the names in `NAMES`.

    Attributes
    ----------
    found : dict of str to Fact
        The facts so far, by name.
    remarks : list of str
        What was changed in the data, one sentence each.

    Examples
    --------
    >>> from pathlib import Path
    >>> from fluidsurrogate.data.readers.facts import Facts
    >>> facts = Facts(Path("mine.mat"), {"viscosity": 1e-3})
    >>> facts.take("viscosity"), facts.take("length", default=1.0, reason="the unit box of this format")
    (0.001, 1.0)
    >>> [f"{fact.name} {fact.value} ({fact.source})" for fact in facts.found.values()]
    ['viscosity 0.001 (flag)', 'length 1.0 (default)']
    """

    def __init__(self, path: Path, given: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self.given = {name: value for name, value in (given or {}).items() if value is not None}
        self.found: dict[str, Fact] = {}
        self.remarks: list[str] = []

    def take(
        self, name: str, in_file: Any = None, default: Any = None, reason: str = "", is_needed: bool = True
    ) -> Any:
        """Settle a fact: the file's value, else the user's, else the default.

        Parameters
        ----------
        name : str
            The fact, one of `NAMES`.
        in_file : object, optional
            What the file says.
        default : object, optional
            The usual value for this format.
        reason : str, default ""
            Where in the file it stands, or why the default is right.
        is_needed : bool, default True
            Whether the file is of no use without it.

        Returns
        -------
        object
            The value; None if nothing states it and it is not needed.

        Raises
        ------
        UsageError
            If the user states something else than the file does, or nobody states what is needed.
        """
        given, (what, option) = self.given.get(name), NAMES[name]
        if in_file is not None:
            if given is not None and not _agree(given, in_file):
                raise UsageError(f"{self.path}: states {in_file} as {what}, but {option} says {given}: leave out the "
                                 "option, or correct the file")  # fmt: skip
            return self.note(name, in_file, FILE, reason)
        if given is not None:
            return self.note(name, given, FLAG)
        if default is not None:
            return self.note(name, default, DEFAULT, reason)
        if is_needed:
            self.ask_for(name)
        return None

    def note(self, name: str, value: Any, source: str = FILE, reason: str = "") -> Any:
        """Record a fact.

        Parameters
        ----------
        name : str
            What it is about.
        value : object
            Its value.
        source : {"file", "flag", "default"}
            Where it comes from.
        reason : str, default ""
            Where in the file it stands, or why the default is right.

        Returns
        -------
        object
            The value.
        """
        self.found[name] = Fact(name, value, source, reason)
        return value

    def say(self, remark: str) -> None:
        """Record, in a sentence, that the data were changed.

        Parameters
        ----------
        remark : str
            What was done, such as "y was descending and has been reversed".
        """
        self.remarks.append(remark)

    def ask_for(self, name: str, example: str = "") -> NoReturn:
        """Refuse the file, because it does not state a fact and the user has not given it.

        Parameters
        ----------
        name : str
            The fact, one of `NAMES`.
        example : str, default ""
            An example of the option's value.

        Raises
        ------
        UsageError
            Always: it says which option gives the fact.
        """
        what, option = NAMES[name]
        example = example or {"axes": '"n t x y"', "names": "vorticity=vort"}.get(name, name.upper())
        raise UsageError(f"{self.path}: the file does not state {what}: give it, "
                         f"fluidsurrogate import {self.path} {option} {example} --to FOLDER")  # fmt: skip


def _agree(given: Any, in_file: Any) -> bool:
    """Return whether the user's value is the file's, up to the rounding of float32."""
    numbers = isinstance(given, int | float | np.number) and isinstance(in_file, int | float | np.number)
    return math.isclose(given, in_file, rel_tol=1e-5) if numbers else bool(np.all(given == in_file))
