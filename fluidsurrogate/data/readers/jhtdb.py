"""Cutouts of the Johns Hopkins Turbulence Databases: HDF5, arrays (z, y, x, component), one a time.

Layout: github.com/idies/pyJHTDB, pyJHTDB/libJHTDB.py (`getbigCutout`, `hdf5_init`, `hdf5_writing`): `Velocity_0001`,
... (z, y, x, 3), the number counting times from 1; `xcoor`, `ycoor`, `zcoor`; the attributes `dataset`, `x_step`, ....
What could not be fetched is -999.9. Viscosity, interval and box of each database: pyJHTDB/dbinfo.py and
https://turbulence.idies.jhu.edu/datasets.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, final

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.readers.facts import DEFAULT, Facts
from fluidsurrogate.data.readers.foreign_files import as_written, check_periodic, even_axis, hdf5_if_any, on_axes, text
from fluidsurrogate.data.readers.package_layout import lay_out
from fluidsurrogate.data.readers.registry import Reader, register_reader
from fluidsurrogate.data.readers.stored_arrays import HDF5Array, StoredArray

VELOCITY = re.compile(r"^(?:Velocity|u)_?(\d*)$")
MISSING = np.float32(-999.9)
READ_AT_ONCE = 2**28  # bytes
SIDE = 2 * np.pi  # of the periodic databases
# Viscosity and time between two stored states.
DATABASES = {
    "isotropic1024coarse": (0.000185, 0.002),
    "isotropic1024fine": (0.000185, 0.0002),
    "isotropic4096": (1.732e-4, None),
    "isotropic8192": (None, None),
    "mhd1024": (1.1e-4, 0.0025),
    "mixing": (None, None),
    "rotstrat4096": (4e-5, None),
}
WALLS = ("channel", "channel5200", "transition_bl")
OTHER_FORCES = {"mhd1024": "a magnetic field", "mixing": "density", "rotstrat4096": "rotation and stratification"}


def _recognises(path: Path) -> bool:
    with hdf5_if_any(path) as file:
        return {"xcoor", "ycoor", "zcoor"} <= set(file) and "dataset" in file.attrs


def _open(path: Path, facts: Facts) -> xr.Dataset:
    with hdf5_if_any(path) as file:
        name = text(file.attrs["dataset"])
        stored = {int(found[1] or 1): key for key in file if (found := VELOCITY.match(key))}
        points = {axis: as_written(file[f"{axis}coor"][()]) for axis in "xyz"}
        steps = {axis: int(np.ravel(file.attrs.get(f"{axis}_step", 1))[0]) for axis in "xyz"}
        width = int(np.ravel(file.attrs.get("filterWidth", 1))[0])
        others = ", ".join(sorted(set(file) - {"xcoor", "ycoor", "zcoor"}))
    if not stored:
        raise UsageError(f"{path}: the cutout of JHTDB holds no velocity; it has {others}: ask for the field 'u'")
    if name in WALLS:
        raise UsageError(
            f"{path}: the database {name} of JHTDB is a flow along walls: this package is for periodic boxes"
        )
    if flat := [axis for axis in "xyz" if len(points[axis]) < 2]:
        raise UsageError(f"{path}: the cutout of JHTDB is one plane ({flat[0]}) of a flow in space, which does not "
                         "obey the equations of the plane: cut out a box")  # fmt: skip
    axes = {axis: even_axis(points[axis], f"{axis}coor", facts) for axis in "xyz"}
    sides = ", ".join(f"{axes[axis].length:.4g}" for axis in "xyz")
    if all(abs(axis.length - SIDE) < 1e-3 * axis.spacing for axis in axes.values()):
        facts.note("periodic", True, reason="the cutout is the whole box of 2π")
    else:
        check_periodic(facts, f"the cutout of JHTDB is a part, {sides}, of the periodic box {name} of 2π")
    if max(steps.values()) > 1 and width == 1:
        facts.say(f"every {max(steps.values())}th point was stored without a filter: what is finer than the points is "
                  "folded into them")  # fmt: skip
    if name in OTHER_FORCES:
        facts.say(f"{OTHER_FORCES[name]} acts on the flow of {name}, which no flow of this package has")
    viscosity, interval = DATABASES.get(name, (None, None))
    reason = f"of the database {name}"
    numbers = sorted(stored)
    times = np.zeros(1)
    if len(numbers) > 1:
        if len(set(np.diff(numbers))) > 1:
            raise UsageError(f"{path}: the times {numbers} are not evenly spaced: take cutouts with one t_step")
        step = numbers[1] - numbers[0]
        interval = facts.take("interval", default=None if interval is None else step * interval, reason=reason)
        times = interval * np.arange(len(numbers)) + (numbers[0] - 1) / step * interval
    viscosity = facts.take("viscosity", default=viscosity, reason=reason, is_needed=False)
    facts.note("axes", "z y x c", DEFAULT, "the layout of JHTDB")
    parts = [lay_out(_WholeArray(HDF5Array(path, stored[number])), "z y x c") for number in numbers]
    if (
        sum(part.size * part.dtype.itemsize for part in parts) <= READ_AT_ONCE
    ):  # larger ones are checked as they are read
        for part in parts:
            part.compute()
    return on_axes(facts, {"velocity": xr.Variable.concat(parts, "time")}, axes, times, viscosity)


@final
class _WholeArray(StoredArray):
    """An array of which no value may be missing."""

    def __init__(self, stored: HDF5Array) -> None:
        super().__init__(stored.path, stored.name, stored.shape, stored.dtype)
        self._stored = stored

    def read(self, key: Any) -> np.ndarray:
        values = self._stored.read(key)
        if (values == MISSING).any():
            raise UsageError(f"{self.path}: {self.name} holds {(values == MISSING).sum()} values of -999.9, which "
                             "JHTDB could not deliver: fetch this cutout again")  # fmt: skip
        return values


register_reader(Reader("cutout of JHTDB", _recognises, _open, priority=10))
