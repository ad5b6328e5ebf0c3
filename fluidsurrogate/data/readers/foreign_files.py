"""What the readers of other programs' files share: a look into HDF5 files, even axes and times, and walls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import h5py
import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.coordinates import coordinate_tolerance
from fluidsurrogate.data.readers.facts import FLAG, Facts
from fluidsurrogate.data.readers.mean_flow import split_mean_flow
from fluidsurrogate.data.readers.package_layout import package_dataset
from solvers.grid import AXES


@contextmanager
def hdf5_if_any(path: Path) -> Iterator[Any]:
    """Open an HDF5 file to look at what it holds, as a context.

    Parameters
    ----------
    path : Path
        Any path.

    Yields
    ------
    h5py.File or dict
        The file; an empty dict if the path is no HDF5 file or a damaged one.
    """
    try:
        file = h5py.File(path, "r") if path.is_file() and h5py.is_hdf5(path) else None
    except OSError:
        file = None
    if file is None:
        yield {}
    else:
        with file:
            yield file


def text(value: Any) -> str:
    """Return an attribute of an HDF5 file as text.

    Parameters
    ----------
    value : object
        Text, or its bytes.

    Returns
    -------
    str
        The text.
    """
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def as_written(values: Any) -> np.ndarray:
    """Return numbers in double precision as a person would write them: 0.006, not 0.006000000052154064.

    Parameters
    ----------
    values : array_like
        Numbers of any precision.

    Returns
    -------
    ndarray
        Each is the shortest decimal number that its own precision does not tell from it.
    """
    stored = np.asarray(values)
    return np.array([float(str(value)) for value in stored.ravel()]).reshape(stored.shape)


@final
@dataclass(frozen=True)
class Axis:
    """The points of a file along one direction of the box.

    Parameters
    ----------
    count : int
        How many there are.
    spacing : float
        Their distance, in m.
    first : float
        Position of the first one in the file's own coordinates, in m.
    """

    count: int
    spacing: float
    first: float

    @property
    def length(self) -> float:
        """Side of the periodic box, in m."""
        return self.count * self.spacing


def even_axis(values: Any, name: str, facts: Facts) -> Axis:
    """Return the axis that stored coordinates describe.

    Parameters
    ----------
    values : array_like
        The coordinates, increasing.
    name : str
        Their name in the file, for the message.
    facts : Facts
        The facts about the file.

    Returns
    -------
    Axis
        The axis.

    Raises
    ------
    UsageError
        If the points are not evenly spaced, as those between walls often are.
    """
    stored = np.asarray(values).ravel()
    if len(stored) < 2 or stored.dtype.kind not in "fiu" or not np.isfinite(stored).all():
        raise UsageError(f"{facts.path}: the coordinate {name!r} is not two or more finite numbers")
    positions = stored.astype(np.float64)
    spacing = float(positions[-1] - positions[0]) / (len(positions) - 1)
    even = positions[0] + spacing * np.arange(len(positions))
    if spacing <= 0 or not (np.abs(positions - even) <= coordinate_tolerance(stored, abs(spacing))).all():
        steps = np.diff(positions)
        raise UsageError(f"{facts.path}: {name} is spaced unevenly, by {steps.min():g} to {steps.max():g}, as between "
                         "walls: this package is for periodic boxes with even spacing")  # fmt: skip
    return Axis(len(positions), spacing, float(positions[0]))


def even_times(values: Any, facts: Facts, reason: str) -> np.ndarray:
    """Return the times of a file in double precision, and settle the interval.

    Parameters
    ----------
    values : array_like
        The stored times, in s.
    facts : Facts
        The facts about the file, which take the interval.
    reason : str
        Where in the file the times stand.

    Returns
    -------
    ndarray
        The times, freed of rounding if they are evenly spaced; else as they are, which `facts` then says.
    """
    stored = np.asarray(values).ravel()
    times = stored.astype(np.float64)
    if len(times) < 2:
        return times
    interval = float(times[-1] - times[0]) / (len(times) - 1)
    interval = float(f"{interval:.7g}") if stored.dtype.itemsize < 8 else interval
    even = times[0] + interval * np.arange(len(times))
    if interval > 0 and (np.abs(times - even) <= coordinate_tolerance(stored, interval)).all():
        facts.take("interval", interval, reason=reason)
        return even
    steps = np.diff(times)
    facts.say(f"the stored times are uneven, {steps.min():g} to {steps.max():g} apart: training needs one interval")
    return times


def check_periodic(facts: Facts, walls: str) -> None:
    """Refuse data of a format whose data usually have walls, unless the user states that these are periodic.

    Parameters
    ----------
    facts : Facts
        The facts about the file.
    walls : str
        What the usual boundaries are and where that stands, for the message.

    Raises
    ------
    UsageError
        If the user has not stated that the data are periodic.
    """
    if not facts.given.get("periodic"):
        raise UsageError(f"{facts.path}: {walls}: this package is for periodic boxes only; --periodic reads data that "
                         "are periodic all the same")  # fmt: skip
    facts.note("periodic", True, FLAG, f"although {walls}")


def on_axes(
    facts: Facts,
    fields: Mapping[str, xr.Variable],
    axes: Mapping[str, Axis],
    times: np.ndarray,
    viscosity: float | np.ndarray | None = None,
    split: str | Sequence[str] = "",
) -> xr.Dataset:
    """Return the Dataset of this package for fields on the axes of a file.

    Parameters
    ----------
    facts : Facts
        The facts about the file: its sides are settled here.
    fields : mapping of str to xr.Variable
        States and inputs, as `package_dataset` takes them.
    axes : mapping of str to Axis
        The points along x and y, and z in space.
    times : ndarray
        Times of the states, in s.
    viscosity : float or ndarray, optional
        Kinematic viscosity, in m²/s, one number or one a trajectory.
    split : str or sequence of str, default ""
        What all trajectories or each of them are for, if the file says it: "train", "valid" or "test".

    Returns
    -------
    xr.Dataset
        The dataset. A steady mean flow is the input `mean_velocity` and no part of the velocity. The attribute
        `origin` says where the coordinates 0 lie in those of the file, if it is not at 0.
    """
    space = AXES[-len(axes) :]
    sides = tuple(axes[name].length for name in space)
    facts.take("length", sides[0] if len(set(sides)) == 1 else sides, reason="the coordinates")
    origin = [axes[name].first - axes[name].spacing / 2 for name in space]
    lies_elsewhere = any(abs(o) > 1e-3 * axes[name].spacing for o, name in zip(origin, space, strict=True))
    floating = {name: as_floating(variable) for name, variable in fields.items()}
    state = next(iter(floating.values()))
    if "velocity" in floating:
        floating["velocity"], mean = split_mean_flow(floating["velocity"], facts)
        floating |= {} if mean is None else {"mean_velocity": mean}
    return package_dataset(
        facts,
        floating,
        length=sides,
        times=times,
        viscosity=viscosity,
        split=[split] * state.sizes.get("trajectory", 1) if isinstance(split, str) and split else split or None,
        attributes={"origin": origin} if lies_elsewhere else None,
    )


def as_floating(variable: xr.Variable) -> xr.Variable:
    """Return a variable in single or double precision, whichever holds its values, lazily.

    Parameters
    ----------
    variable : xr.Variable
        Numbers.

    Returns
    -------
    xr.Variable
        As it is if it is of such a type already.
    """
    dtype = np.float64 if variable.dtype.kind == "f" and variable.dtype.itemsize == 8 else np.float32
    return variable if variable.dtype == dtype else variable.astype(dtype)
