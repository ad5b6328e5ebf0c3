"""From arrays as other programs lay them out to the layout of this package, lazily.

For a reader: `lay_out` names and orders the axes of an array, `shift_along` moves samples by a part of a cell exactly,
`package_dataset` makes the Dataset with coordinates, units and attributes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.layout import component_names, field_attributes, grid_coordinates
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.stored_arrays import lazy
from solvers import KNOWN_FIELDS, Grid, field_in
from solvers.grid import AXES

AXIS_NAMES = {"n": "trajectory", "t": "time", "c": "component", "z": "z", "y": "y", "x": "x", "1": "1"}
SPLIT_TIMES = "split_times"  # the attribute that says how many times the trajectories of each split have
ORDER = ("trajectory", "time", "component", "z", "y", "x")


def parse_axes(text: str) -> tuple[str, ...]:
    """Return the dims that a description of the axes of an array names.

    Parameters
    ----------
    text : str
        "n x y t": n stands for trajectories, t for times, c for components, z, y and x for space, and 1 for an axis of
        length 1 that is dropped.

    Returns
    -------
    tuple of str
        The dims, such as ("trajectory", "x", "y", "time").

    Raises
    ------
    UsageError
        If a letter is unknown or twice there, or x or y is missing.
    """
    letters = text.replace(",", " ").split() if " " in text.strip() or "," in text else list(text.strip())
    named = [letter for letter in letters if letter != "1"]
    unknown = [letter for letter in letters if letter not in AXIS_NAMES]
    if unknown or len(set(named)) != len(named) or not {"x", "y"} <= set(named):
        raise UsageError(f"--axes {text!r}: give one letter an axis, as in \"n t y x\": n trajectories, t times, "
                         "c components, z, y, x space, 1 an axis of length 1")  # fmt: skip
    return tuple(AXIS_NAMES[letter] for letter in letters)


def lay_out(array: Any, axes: str) -> xr.Variable:
    """Return an array with named axes in the order of this package, lazily.

    Parameters
    ----------
    array : StoredArray, ndarray or dask array
        The array as it is in the file.
    axes : str
        Its axes, as `parse_axes` takes them.

    Returns
    -------
    xr.Variable
        Dims in the order trajectory, time, component, z, y, x, as many of them as there are. Axes of length 1 that are
        called "1" are gone.

    Raises
    ------
    UsageError
        If the array has another number of axes, or an axis that is called "1" is longer.

    Examples
    --------
    >>> import numpy as np
    >>> from fluidsurrogate.data.readers.package_layout import lay_out
    >>> dict(lay_out(np.zeros((3, 16, 32, 5)), "n x y t").sizes)
    {'trajectory': 3, 'time': 5, 'y': 32, 'x': 16}
    """
    dims = parse_axes(axes)
    name = getattr(array, "name", "the array")
    if len(dims) != array.ndim:
        raise UsageError(f"--axes {axes!r}: names {len(dims)} axes, but {name!r} has {array.ndim}, {array.shape}")
    values = lazy(array, dims)
    for axis in reversed(range(len(dims))):
        if dims[axis] == "1":
            if values.shape[axis] != 1:
                raise UsageError(f"--axes {axes!r}: the axis called 1 of {name!r} has the length {values.shape[axis]}")
            values = values[(slice(None),) * axis + (0,)]
    variable = xr.Variable([dim for dim in dims if dim != "1"], values)
    return variable.transpose(*(dim for dim in ORDER if dim in variable.dims))


def add_time_before(first: xr.Variable, later: xr.Variable) -> xr.Variable:
    """Return states with one state put before them, lazily.

    Parameters
    ----------
    first : xr.Variable
        The states at the first time, without the dim `time`.
    later : xr.Variable
        The states at the later times, with the dim `time`.

    Returns
    -------
    xr.Variable
        All of them along `time`.
    """
    before = xr.Variable(("time", *first.dims), first.data[None]).transpose(*later.dims)
    return xr.Variable.concat([before, later], "time")


def shift_along(variable: xr.Variable, dim: str, cells: float) -> xr.Variable:
    r"""Return the values of periodic functions `cells` cells further on along an axis, spectrally exact and lazily.

    .. math:: f(x + s \Delta), \qquad \hat{f}_k \to \hat{f}_k e^{2 \pi i k s / n}

    Of the Nyquist mode, whose sine samples cannot show, the cosine is kept.

    Parameters
    ----------
    variable : xr.Variable
        Samples of the functions.
    dim : str
        The axis.
    cells : float
        How far on. Values at faces (i + 1) Δ get to the centres (i + 1/2) Δ with −0.5, values at nodes i Δ with 0.5.

    Returns
    -------
    xr.Variable
        In the dtype of `variable`.
    """
    axis, n = variable.dims.index(dim), variable.sizes[dim]
    k = np.fft.rfftfreq(n, 1 / n)
    phase = np.exp(2j * np.pi * k * cells / n)
    if n % 2 == 0:
        phase[-1] = np.cos(np.pi * cells)
    phase = phase.reshape([-1 if a == axis else 1 for a in range(variable.ndim)])

    def shift(block: np.ndarray) -> np.ndarray:
        moved = np.fft.irfft(np.fft.rfft(block.astype(np.float64), axis=axis) * phase, n, axis=axis)
        return moved.astype(block.dtype)

    values = lazy(variable._data, list(map(str, variable.dims))).rechunk({axis: -1})
    return variable.copy(data=values.map_blocks(shift, dtype=variable.dtype))


def stack_components(*components: xr.Variable) -> xr.Variable:
    """Return the components of a vector as one variable with the dim `component`, lazily.

    Parameters
    ----------
    *components : xr.Variable
        The components along x, y and, in three dimensions, z.

    Returns
    -------
    xr.Variable
        With the dim `component` in its place before the spatial ones.
    """
    stacked = xr.Variable.concat(components, "component")
    return stacked.transpose(*(dim for dim in ORDER if dim in stacked.dims))


def side_lengths(length: Any, dimensions: int) -> tuple[float, ...]:
    """Return the sides of the box in the order (y, x) or (z, y, x).

    Parameters
    ----------
    length : float or sequence of float
        One number for all sides, or one for each in this order.
    dimensions : int
        2 or 3.

    Returns
    -------
    tuple of float
        The sides, in m.

    Raises
    ------
    UsageError
        If there is another number of them, or one is not positive.
    """
    sides = [float(side) for side in np.atleast_1d(np.asarray(length, dtype=np.float64))]
    sides = sides * dimensions if len(sides) == 1 else sides
    if len(sides) != dimensions or not all(np.isfinite(sides)) or min(sides) <= 0:
        raise UsageError(f"--length: give one positive number, or one each for {', '.join(AXES[-dimensions:])} "
                         f"(got {length})")  # fmt: skip
    return tuple(sides)


def package_dataset(
    facts: Facts,
    fields: Mapping[str, xr.Variable],
    *,
    length: Any,
    times: np.ndarray,
    at_nodes: bool = False,
    origin: Sequence[float] | None = None,
    viscosity: float | np.ndarray | None = None,
    split: Sequence[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Return the Dataset of this package for fields that are laid out already.

    Parameters
    ----------
    facts : Facts
        The facts about the file, for messages.
    fields : mapping of str to xr.Variable
        States and inputs by the names of this package (`vorticity`, `velocity`, `tracer`, `forcing`, `mean_velocity`,
        ...), as `lay_out` returns them. States without the dim trajectory become one trajectory.
    length : float or sequence of float
        Sides of the box, one number or (y, x) or (z, y, x), in m.
    times : ndarray
        The times of the states, in s.
    at_nodes : bool, default False
        Whether the samples sit at i Δ. They stay as they are and count as cell centres, which is a translation;
        `origin` records it.
    origin : sequence of float, optional
        Where the coordinate 0 of this package lies in the coordinates of the file, (z,) y, x, in m, if not at 0.
    viscosity : float or ndarray, optional
        Kinematic viscosity, in m²/s: one number, which becomes an attribute, or one a trajectory.
    split : sequence of str, optional
        What each trajectory is for: "train", "valid" or "test".
    attributes : mapping, optional
        Further attributes.

    Returns
    -------
    xr.Dataset
        In the layout of this package; the values are those of `fields`, not read yet.

    Raises
    ------
    UsageError
        If the fields have sizes that no grid has.
    """
    state = next(variable for variable in fields.values() if "time" in variable.dims)
    space = tuple(dim for dim in AXES if dim in state.dims)
    sides = side_lengths(length, len(space))
    try:
        grid = Grid(tuple(state.sizes[dim] for dim in space), sides)
    except ValueError as error:
        raise UsageError(f"{facts.path}: {error}") from None
    variables = {}
    for name, variable in fields.items():
        is_state = "time" in variable.dims
        if is_state and "trajectory" not in variable.dims:
            variable = xr.Variable(("trajectory", *variable.dims), variable.data[None])
        about = field_attributes(field_in(KNOWN_FIELDS[name], len(space))) if name in KNOWN_FIELDS else {}
        variables[name] = variable.copy(deep=False)
        variables[name].attrs = {**about, **variable.attrs}
    count = next(v.sizes["trajectory"] for v in variables.values() if "time" in v.dims)
    about = {f"length_{axis}": side for axis, side in zip(space, sides, strict=True)}
    coords: dict[str, Any] = {
        "trajectory": ("trajectory", np.arange(count), {"long_name": "trajectory", "units": "1"}),
        "time": ("time", np.asarray(times, np.float64), {"long_name": "time", "units": "s", "axis": "T"}),
        **grid_coordinates(grid),
    }
    if any("component" in variable.dims for variable in variables.values()):
        coords["component"] = ("component", component_names(len(space)), {"long_name": "component of a vector"})
    if split is not None:
        coords["split"] = ("trajectory", np.array(split, dtype=object), {"long_name": "part of the dataset"})
    if viscosity is not None and np.ndim(viscosity):
        field = field_attributes(field_in(KNOWN_FIELDS["viscosity"], len(space)))
        variables["viscosity"] = xr.Variable("trajectory", np.asarray(viscosity, np.float64), field)
    elif viscosity is not None:
        about["viscosity"] = float(viscosity)
    origin = [-spacing / 2 for spacing in grid.spacing] if at_nodes else origin
    if origin is not None:
        about["origin"] = list(map(float, origin))
    return xr.Dataset(variables, coords, {"Conventions": "CF-1.11", **about, **(attributes or {})})


def join_trajectories(
    facts: Facts, parts: Sequence[xr.Variable], splits: Sequence[str]
) -> tuple[xr.Variable, dict[str, str]]:
    """Return the trajectories of several parts as one variable, lazily, where parts differ in the number of times.

    Parameters
    ----------
    facts : Facts
        The facts about the file, to which a remark is added if the parts differ.
    parts : sequence of xr.Variable
        States with the dims trajectory and time.
    splits : sequence of str
        What each part is for: "train", "valid" or "test".

    Returns
    -------
    joined : xr.Variable
        All trajectories; after the end of shorter ones it is NaN.
    attributes : dict
        The attribute `split_times`, which says how many times each split has, if they differ.
    """
    import dask.array  # imported late, because the import takes time

    counts = [part.sizes["time"] for part in parts]
    if len(set(counts)) == 1:
        return xr.Variable.concat(parts, "trajectory"), {}
    padded = []
    for part in parts:
        width = [(0, max(counts) - part.sizes["time"] if dim == "time" else 0) for dim in part.dims]
        values = (
            dask.array.pad(part.data, width, mode="constant", constant_values=np.nan)
            if any(map(any, width))
            else part.data
        )
        padded.append(xr.Variable(part.dims, values))
    by_split = dict(zip(splits, counts, strict=True))
    facts.say("trajectories differ in length, " + ", ".join(f"{split} {n} times" for split, n in by_split.items())
              + ": the shorter ones end in NaN, which is not used")  # fmt: skip
    return xr.Variable.concat(padded, "trajectory"), {SPLIT_TIMES: json.dumps(by_split)}
