"""The registered readers, and which of them is for a given file or folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.readers.facts import Facts

READERS: dict[str, Reader] = {}
HDF5 = b"\x89HDF\r\n\x1a\n"
FIRST_BLOCK = 512  # bytes: behind a block of the user's, HDF5's signature lies at this offset, its double, ...


@final
@dataclass(frozen=True)
class Reader:
    """A data format that can be opened.

    Parameters
    ----------
    name : str
        What a dataset of this format is, in a few words for messages: "NetCDF file".
    recognises : callable
        Tells whether an existing file or folder (Path) is of this format, by its content and never by its name.
    open : callable
        Opens the file or folder (Path) as a Dataset whose values are read when they are used, in the layout of this
        package where the format is another; it asks the `Facts` for what the file does not state. It may raise anything
        for a damaged file: `open_data` turns that into a UsageError of one line.
    write_sample : callable, optional
        Writes a small Dataset to a path, for the tests of all readers, which skip a reader without it.
    priority : int, default 0
        Of several readers that recognise a path, the one with the highest priority opens it. A reader for a special
        layout of a general format takes a higher one than the reader of the general format.
    is_plain : bool, default False
        Whether names and order of axes in such files are whatever their makers chose: `open_data` then converts what it
        gets to the layout of this package.
    """

    name: str
    recognises: Callable[[Path], bool]
    open: Callable[[Path, Facts], xr.Dataset]
    write_sample: Callable[[xr.Dataset, Path], None] | None = None
    priority: int = 0
    is_plain: bool = False


def register_reader(reader: Reader) -> Reader:
    """Add a reader to the formats that `open_data` knows.

    Parameters
    ----------
    reader : Reader
        The format.

    Returns
    -------
    Reader
        The same reader.
    """
    READERS[reader.name] = reader
    return reader


def find_reader(path: Path) -> Reader | None:
    """Return the reader for a file or folder.

    Parameters
    ----------
    path : Path
        An existing file or folder.

    Returns
    -------
    Reader or None
        The reader of the highest priority that recognises the content; None if there is none.
    """
    by_priority = sorted(READERS.values(), key=lambda reader: -reader.priority)
    return next((reader for reader in by_priority if reader.recognises(path)), None)


def reader_named(name: str) -> Reader:
    """Return the reader of a format that a user names.

    Parameters
    ----------
    name : str
        The name of the format or a part of it, in capitals or not.

    Returns
    -------
    Reader
        The reader.

    Raises
    ------
    UsageError
        If no format or more than one has this in its name.
    """

    def plain(text: str) -> str:
        return "".join(character for character in text.lower() if character.isalnum())

    found = [own for own in READERS if plain(name) and plain(name) in plain(own)]
    exact = [own for own in found if plain(own) == plain(name)]
    found = exact or found
    if len(found) != 1:
        what = "names several formats" if found else "names no format"
        raise UsageError(f"--format {name}: {what}; take one of {', '.join(sorted(found or READERS))}")
    return READERS[found[0]]


def starts_with(path: Path, *signatures: bytes, offset: int = 0) -> bool:
    """Return whether the bytes of a file from `offset` on begin with one of the signatures ("magic bytes").

    Parameters
    ----------
    path : Path
        Any path; False if it is not a regular file.
    *signatures : bytes
        The bytes that files of a format begin with.
    offset : int, default 0
        Position in the file.

    Returns
    -------
    bool
        True if one of the signatures is there.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(max(map(len, signatures))).startswith(signatures)


def is_hdf5(path: Path) -> bool:
    """Return whether a file is an HDF5 file, at its beginning or behind a block of other content.

    Parameters
    ----------
    path : Path
        Any path.

    Returns
    -------
    bool
        True if HDF5's signature is where the format allows it.
    """
    if not path.is_file():
        return False
    offset, size = 0, path.stat().st_size
    while offset < size:
        if starts_with(path, HDF5, offset=offset):
            return True
        offset = max(FIRST_BLOCK, 2 * offset)
    return False
