"""Arrays in files, of which only what is asked for is read; each read opens the file anew, so nothing stays open."""

from __future__ import annotations

import functools
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import h5py
import numpy as np

from fluidsurrogate.core.errors import UsageError

BLOCK_BYTES = 2**24  # of a stored array that is read at a time


@contextmanager
def as_usage_error(prefix: str) -> Iterator[None]:
    """Turn whatever a reader and the libraries under it raise into a UsageError of one line.

    Parameters
    ----------
    prefix : str
        What the message begins with.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    UsageError
        In place of any exception.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UsageError(f"{prefix}: {reason[:200]}") from None


class StoredArray(ABC):
    """An array in a file.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        The name of the array in it, for messages.
    shape : sequence of int
        Its shape.
    dtype : dtype
        Its type.

    Attributes
    ----------
    path : Path
        The file.
    name : str
        The name of the array in it.
    shape : tuple of int
        Its shape.
    dtype : np.dtype
        Its type.
    ndim : int
        The number of its axes.
    """

    def __init__(self, path: Path, name: str, shape: Sequence[int], dtype: Any) -> None:
        self.path, self.name = path, name
        self.shape, self.dtype = tuple(map(int, shape)), np.dtype(dtype)
        self.ndim = len(self.shape)

    @abstractmethod
    def read(self, key: Any) -> np.ndarray:
        """Read a part.

        Parameters
        ----------
        key : tuple of slice or int
            The part, as in indexing.

        Returns
        -------
        ndarray
            Its values.
        """

    @final
    def __getitem__(self, key: Any) -> np.ndarray:
        with as_usage_error(f"{self.path}: variable {self.name!r} cannot be read"):
            return self.read(key)

    @final
    def __dask_tokenize__(self) -> tuple:
        return type(self).__name__, str(self.path), self.name, self.shape, str(self.dtype)


@final
class HDF5Array(StoredArray):
    """A dataset of an HDF5 file.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        The dataset with its groups, such as "t0_fields/vorticity".
    """

    def __init__(self, path: Path, name: str) -> None:
        with h5py.File(path, "r") as file:
            super().__init__(path, name, file[name].shape, file[name].dtype)

    def read(self, key: Any) -> np.ndarray:
        with h5py.File(self.path, "r") as file:
            return file[self.name][key]


@final
class NumpyArray(StoredArray):
    """The array of a `.npy` file, or one of a `.npz` file.

    Parameters
    ----------
    path : Path
        The file.
    name : str, default ""
        The name of the array in a `.npz` file; such an array is read whole when a part of it is used.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self._member = name
        array = self._load(path)
        super().__init__(path, name or path.stem, array.shape, array.dtype)

    def _load(self, path: Path) -> np.ndarray:
        loaded = np.load(path, mmap_mode=None if self._member else "r", allow_pickle=False)
        if not self._member:
            return loaded
        with loaded:
            return loaded[self._member]

    def read(self, key: Any) -> np.ndarray:
        return np.array(self._load(self.path)[key])


def block_shape(shape: Sequence[int], dtype: Any, dims: Sequence[str]) -> tuple[int, ...]:
    """Return the shape of the blocks in which an array is read: whole fields, of some times and trajectories.

    Parameters
    ----------
    shape : sequence of int
        The shape of the array.
    dtype : dtype
        Its type.
    dims : sequence of str
        The names of its axes.

    Returns
    -------
    tuple of int
        The shape of a block, of at most `BLOCK_BYTES` if a field is not larger.
    """
    blocks, left = list(shape), BLOCK_BYTES // max(1, np.dtype(dtype).itemsize)
    for dim in reversed([*("trajectory", "time"), *(d for d in dims if d not in ("trajectory", "time"))]):
        if dim not in dims:
            continue
        axis = list(dims).index(dim)
        if dim in ("trajectory", "time"):
            blocks[axis] = max(1, min(shape[axis], left))
        left //= max(1, blocks[axis])
    return tuple(blocks)


def lazy(array: Any, dims: Sequence[str]) -> Any:
    """Return an array as a dask array, in blocks of whole fields.

    Parameters
    ----------
    array : StoredArray or ndarray or dask array
        The array; a dask array is returned as it is.
    dims : sequence of str
        The names of its axes. Blocks hold some trajectories or, of large ones, some times.

    Returns
    -------
    dask.array.Array
        Its values are read when they are computed.
    """
    import dask.array  # imported late, because the import takes time

    _forget_threads_in_forks()
    if isinstance(array, dask.array.Array):
        return array
    chunks = block_shape(array.shape, array.dtype, dims)
    return dask.array.from_array(array, chunks=chunks, asarray=True)


@functools.cache
def _forget_threads_in_forks() -> None:
    """Make a forked process start threads of its own for dask: it would wait for ever for those of its parent."""
    import dask.threaded  # imported late, because the import takes time

    def forget() -> None:
        dask.threaded.default_pool = None
        dask.threaded.pools.clear()

    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(after_in_child=forget)
