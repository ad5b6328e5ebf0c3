"""Output of pyqg, refused by name: quasi-geostrophic potential vorticity in layers is another equation.

Layout: github.com/pyqg/pyqg, pyqg/xarray_output.py: `q`, `u`, `v`, `psi` or `p` with the dims ([run,] time, lev, y, x)
and attributes `pyqg:beta`, `pyqg:rd`, ....
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.readers.dataset_header import header_of
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.registry import Reader, register_reader


def _recognises(path: Path) -> bool:
    header = header_of(path)
    dims = header.variables.get("q", ((), {}))[0]
    return any(name.startswith("pyqg:") for name in header.attributes) or {"lev", "y", "x"} <= set(dims)


def _open(path: Path, facts: Facts) -> xr.Dataset:
    header = header_of(path)
    beta = header.attributes.get("pyqg:beta")
    effects = "layers" + (f" on a β plane (β = {float(np.ravel(beta)[0]):g})" if beta is not None else "")
    raise UsageError(f"{path}: pyqg's q is quasi-geostrophic potential vorticity in {effects}: the vorticity that this "
                     "package steps obeys another equation, and no one layer obeys it alone")  # fmt: skip


register_reader(Reader("pyqg output", _recognises, _open, priority=11))
