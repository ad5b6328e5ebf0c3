"""The registered writers, by the names that `fluidsurrogate export --format` takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from fluidsurrogate.data.writers.source import Source

WRITERS: dict[str, Writer] = {}


@final
@dataclass(frozen=True)
class Writer:
    """A format that data can be written in.

    Parameters
    ----------
    name : str
        What the user calls it: "well".
    about : str
        What is written and who reads it, in one line.
    write : callable
        Writes a `Source` to a folder (Path), which need not exist, and returns the files that a user would open. The
        third argument, a bool, allows writing over files that are there already. It raises UsageError, before anything
        is written, if the format cannot hold the data.
    """

    name: str
    about: str
    write: Callable[[Source, Path, bool], list[Path]]


def register_writer(writer: Writer) -> Writer:
    """Add a writer to the formats that `export_data` knows.

    Parameters
    ----------
    writer : Writer
        The format.

    Returns
    -------
    Writer
        The same writer.
    """
    WRITERS[writer.name] = writer
    return writer
