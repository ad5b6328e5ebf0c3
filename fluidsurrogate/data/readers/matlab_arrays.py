"""The variables of MATLAB files: those of version 5 by SciPy, those of version 7.3, which are HDF5 files, by h5py."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, final

import h5py
import numpy as np

from fluidsurrogate.data.readers.registry import is_hdf5, starts_with
from fluidsurrogate.data.readers.stored_arrays import HDF5Array, StoredArray

# https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
VERSION_5, VERSION_7 = b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"


def is_matlab_file(path: Path) -> bool:
    """Return whether a file was written by MATLAB, or in its format by another program.

    Parameters
    ----------
    path : Path
        Any path.

    Returns
    -------
    bool
        True for version 5 (which MATLAB calls v6 and v7, too) and 7.3.
    """
    if starts_with(path, VERSION_5, VERSION_7):
        return True
    if not is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            return any(isinstance(v, h5py.Dataset) and "MATLAB_class" in v.attrs for v in file.values())
    except (OSError, RuntimeError, KeyError):
        return False


def open_matlab_arrays(path: Path) -> tuple[dict[str, StoredArray], bool]:
    """Return the numeric arrays of a MATLAB file, and whether their axes are reversed.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    arrays : dict of str to StoredArray
        By name. Those of version 5 are read whole when they are used.
    is_reversed : bool
        True for version 7.3: MATLAB's first axis is then the last of the array.
    """
    if starts_with(path, VERSION_5):
        from scipy.io import whosmat  # imported late, because the import takes time

        return {name: _MatlabArray(path, name, shape, kind) for name, shape, kind in whosmat(path)
                if kind in _DTYPES}, False  # fmt: skip
    with h5py.File(path, "r") as file:
        names = [name for name, v in file.items() if isinstance(v, h5py.Dataset) and v.dtype.kind in "fiu"]
    return {name: HDF5Array(path, name) for name in names}, True


_DTYPES = {"single": "f4", "double": "f8", "logical": "u1"} | {f"{s}int{8 * n}": f"{s or 'i'}{n}" for s in ("u", "")
                                                              for n in (1, 2, 4, 8)}  # fmt: skip


@final
class _MatlabArray(StoredArray):
    """A variable of a MATLAB file of version 5, whose parts are compressed together."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], kind: str) -> None:
        super().__init__(path, name, shape, _DTYPES[kind])

    def read(self, key: Any) -> np.ndarray:
        return _load_variable(self.path, self.name, self.path.stat().st_mtime_ns)[key]


@lru_cache(maxsize=1)
def _load_variable(path: Path, name: str, modified: int) -> np.ndarray:
    """Read a variable whole; the last one is kept, for its other parts."""
    from scipy.io import loadmat

    return np.asarray(loadmat(path, variable_names=[name])[name])
