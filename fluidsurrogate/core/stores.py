"""Folders of results on this machine, or at an address of any storage that fsspec knows, such as s3://bucket/name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, final

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import as_path

# Two letters at least, because "C:" is a drive; perhaps a chain of fsspec, such as "zip::s3://…".
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+://")
LOCAL = ("file://", "local://")


def is_address(path: object) -> bool:
    """Return whether a text is an address, such as "s3://bucket/data.zarr", and not a path of this machine.

    Parameters
    ----------
    path : object
        What a user gave.

    Returns
    -------
    bool
        True for "scheme://…" and for chains of fsspec, such as "zip::s3://…". A `Path` is never an address.
    """
    return isinstance(path, str) and ADDRESS.match(path) is not None


def as_location(path: str | Path) -> str | Path:
    """Return an address as it is, and a path as `as_path` does.

    Parameters
    ----------
    path : str or Path
        What a user gave.

    Returns
    -------
    str or Path
        A text is an address.

    Raises
    ------
    UsageError
        If no file or folder can have this name.
    """
    return path if isinstance(path, str) and is_address(path) else as_path(path)


def exists(location: str | Path) -> bool:
    """Return whether there is anything at a location.

    Parameters
    ----------
    location : str or Path
        A path or an address.

    Returns
    -------
    bool
        True for a file or folder, and for an address below which there are objects.

    Raises
    ------
    UsageError
        If the storage cannot be reached.
    """
    return location.exists() if isinstance(location, Path) else Store(location).exists()


@final
class Store:
    """A folder that holds small files and Zarr arrays, on a file system or in an object store.

    It can be sent to other processes. Nothing is renamed in it, because object stores cannot rename.

    Parameters
    ----------
    location : str or Path
        A path, which must mean the same on all machines that use it, or an address. Credentials come from the
        environment or from the configuration of fsspec.

    Attributes
    ----------
    location : str
        The absolute path, or the address.
    """

    def __init__(self, location: str | Path) -> None:
        text = str(location).rstrip("/")
        self.location = text if is_address(text) else str(Path(location).absolute())

    def __getstate__(self) -> str:
        return self.location

    def __setstate__(self, location: str) -> None:
        self.location = location

    @property
    def _options(self) -> dict[str, Any]:
        """What fsspec needs to know: only file systems of a machine have folders that must be made."""
        return {"auto_mkdir": True} if not is_address(self.location) or self.location.startswith(LOCAL) else {}

    @cached_property
    def _files(self) -> tuple[Any, str]:
        """The file system of fsspec, and the root in it."""
        import fsspec  # imported late, as whatever takes its time

        with self._one_line():
            system, root = fsspec.core.url_to_fs(self.location, **self._options)
        return system, root.rstrip("/")

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        """Turn whatever a storage library raises into a UsageError of one line; what a file system raises stays."""
        try:
            yield
        except (UsageError, OSError):
            raise
        except Exception as error:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise UsageError(f"{self.location}: {reason[:200]}") from None

    def child(self, name: str) -> Store:
        """Return a folder in this one.

        Parameters
        ----------
        name : str
            Its name.

        Returns
        -------
        Store
            The folder, which need not exist.
        """
        return Store(f"{self.location}/{name}")

    def read(self, name: str) -> bytes | None:
        """Read a file.

        Parameters
        ----------
        name : str
            Its name in the folder.

        Returns
        -------
        bytes or None
            Its content; None if there is no such file.
        """
        system, root = self._files
        with self._one_line():
            try:
                return system.cat_file(f"{root}/{name}")
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file, with its folder if that is needed.

        Parameters
        ----------
        name : str
            Its name in the folder.
        content : bytes
            What it holds. An object store writes it whole or not at all; a file system may leave a part if the process
            is killed.
        """
        system, root = self._files
        with self._one_line():
            system.pipe_file(f"{root}/{name}", content)

    def read_json(self, name: str) -> Any:
        """Read a JSON file.

        Parameters
        ----------
        name : str
            Its name in the folder.

        Returns
        -------
        object
            Its content; None if there is no such file, or if a kill left only a part of it.
        """
        return _parse(self.read(name))

    def write_json(self, name: str, value: Any) -> None:
        """Write plain data as JSON.

        Parameters
        ----------
        name : str
            The name of the file in the folder.
        value : object
            Whatever JSON holds.
        """
        self.write(name, json.dumps(value).encode())

    def read_all_json(self) -> dict[str, Any]:
        """Read all JSON files in the folder, without those in folders below it.

        Returns
        -------
        dict
            Content by the name of the file. Files that are not valid JSON are left out.
        """
        system, root = self._files
        with self._one_line():
            system.invalidate_cache()
            try:
                paths = [path for path in system.ls(root, detail=False) if path.endswith(".json")]
            except (FileNotFoundError, NotADirectoryError):
                return {}
            found = system.cat(paths) if paths else {}
        read = {path.rpartition("/")[2]: _parse(content) for path, content in found.items()}
        return {name: value for name, value in read.items() if value is not None}

    def exists(self, name: str = "") -> bool:
        """Return whether there is a file or folder.

        Parameters
        ----------
        name : str, default ""
            Its name in the folder; by default the folder itself.

        Returns
        -------
        bool
            True if it is there.
        """
        system, root = self._files
        with self._one_line():
            system.invalidate_cache()
            return bool(system.exists(f"{root}/{name}" if name else root))

    def delete(self, first: str = "zarr.json") -> None:
        """Delete the folder, if it exists.

        Parameters
        ----------
        first : str
            The file that is deleted first: without it, what an interrupted deletion leaves is taken for nothing.
        """
        system, root = self._files
        with self._one_line():
            system.invalidate_cache()
            for path, is_folder in ((f"{root}/{first}", False), (root, True)):
                if system.exists(path):
                    system.rm(path, recursive=is_folder)

    def digest(self) -> str:
        """Return a digest of the names, sizes and versions of all files.

        Returns
        -------
        str
            16 hexadecimal digits, which change if a file does.
        """
        system, root = self._files
        with self._one_line():
            system.invalidate_cache()
            files = system.find(root, detail=True)
        keys = ("size", "ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")
        lines = [f"{path} {[str(about.get(key)) for key in keys]}" for path, about in sorted(files.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def zarr(self, read_only: bool = False) -> Any:
        """Return the folder as a store of Zarr.

        Parameters
        ----------
        read_only : bool, default False
            Whether nothing will be written.

        Returns
        -------
        zarr.abc.store.Store
            The store.
        """
        from zarr.storage import FsspecStore, LocalStore

        if not is_address(self.location):
            return LocalStore(self.location, read_only=read_only)
        with self._one_line():
            return FsspecStore.from_url(self.location, storage_options=self._options, read_only=read_only)


def _parse(content: bytes | None) -> Any:
    """Return JSON as plain data; None if there is none, or only a part of it."""
    try:
        return None if content is None else json.loads(content)
    except ValueError:
        return None
