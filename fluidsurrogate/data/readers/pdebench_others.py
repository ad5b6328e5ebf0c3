"""Files of PDEBench that hold no incompressible flow: compressible flow and other equations, refused by name.

Layout: github.com/pdebench/PDEBench, pdebench/data_gen/data_gen_NLE/Data_Merge.py (`merge`, `transform`): `density`,
`pressure`, `Vx`, `Vy`, `Vz` (batch, time, x, y, z) with `x-coordinate`, ..., the attributes `eta`, `zeta`, `M`; the
other equations are one array `tensor`. velocity2vorticity.py makes `omega_x`, ... of the same runs.
"""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.foreign_files import hdf5_if_any
from fluidsurrogate.data.readers.registry import Reader, register_reader

COMPRESSIBLE = ({"Vx", "density", "pressure"}, {"omega_x", "omega_y", "omega_z"})


def _recognises(path: Path) -> bool:
    with hdf5_if_any(path) as file:
        return "x-coordinate" in file and ("tensor" in file or any(names <= set(file) for names in COMPRESSIBLE))


def _open(path: Path, facts: Facts) -> xr.Dataset:
    with hdf5_if_any(path) as file:
        if "tensor" in file:
            raise UsageError(f"{path}: this file of PDEBench holds one scalar, 'tensor', of another "
                             "equation (advection, Burgers, reaction, Darcy): this package is for flow")  # fmt: skip
        mach = f", Mach number {float(file.attrs['M']):g}" if "M" in file.attrs else ""
    raise UsageError(f"{path}: PDEBench's compressible Navier–Stokes flow{mach}: density and divergence are part of "
                     "its state, and this package is for incompressible flow; PDEBench's files ns_incom_* are such "
                     "flow")  # fmt: skip


register_reader(Reader("file of PDEBench with another equation", _recognises, _open, priority=10))
