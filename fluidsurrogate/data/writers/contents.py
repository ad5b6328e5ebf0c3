"""What a dataset holds, for formats with a layout of their own: trajectories of fields, inputs, numbers, splits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.coordinates import check_coordinate_precision, coordinate_tolerance, evenly_spaced_axis
from fluidsurrogate.data.flow_constants import read_constants
from fluidsurrogate.data.schema import field_of
from fluidsurrogate.data.writers.source import Source
from solvers import FieldSpec

KNOWN_DIMS = ("trajectory", "time", "component", "z", "y", "x")
ORIGIN = "origin"  # attribute: where the coordinate 0 lies in the coordinates of the file that was imported


@final
@dataclass(frozen=True)
class Contents:
    """The parts of a dataset of trajectories.

    Parameters
    ----------
    fields : dict of str to FieldSpec
        The fields of the state: those along time and space.
    inputs : dict of str to FieldSpec
        Fields that do not change with time, such as a forcing or, uniform in space, a mean velocity.
    constants : dict of str to ndarray
        Viscosity, drag and diffusivity, and other scalars that are uniform in space and time: one number, or one for
        each trajectory.
    coordinates : dict of str to ndarray
        By axis, x first: the places of the samples in the coordinates of the file that the data came from.
    spacing : dict of str to float
        By axis, x first, in m.
    time : ndarray
        The stored times, in s.
    parts : dict of str to list of int
        Positions of the trajectories of "train", "valid" and "test"; those of data without a split are "train".
    """

    fields: dict[str, FieldSpec]
    inputs: dict[str, FieldSpec]
    constants: dict[str, np.ndarray]
    coordinates: dict[str, np.ndarray]
    spacing: dict[str, float]
    time: np.ndarray
    parts: dict[str, list[int]]

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes, x first."""
        return tuple(self.coordinates)

    @property
    def n(self) -> tuple[int, ...]:
        """The numbers of cells along the axes, x first."""
        return tuple(map(len, self.coordinates.values()))

    @property
    def interval(self) -> float:
        """Time between two stored states, in s."""
        return float(self.time[-1] - self.time[0]) / max(1, len(self.time) - 1)


def contents_of(source: Source, format: str) -> Contents:
    """Return what a dataset holds, if a format of trajectories can hold it.

    Parameters
    ----------
    source : Source
        The dataset.
    format : str
        The format, for messages.

    Returns
    -------
    Contents
        Its parts.

    Raises
    ------
    UsageError
        If there are dims, fields or times that such a format has no place for.
    """
    dataset, first = source.dataset, source.first
    if extra := [str(dim) for v in first.data_vars.values() for dim in v.dims if dim not in KNOWN_DIMS]:
        raise UsageError(f"{format} files hold trajectories, and the data have the dimension {extra[0]!r}: select one "
                         f"of its entries, isel({extra[0]}=0), or export to netcdf")  # fmt: skip
    axes = tuple(reversed(source.space))
    fields: dict[str, FieldSpec] = {}
    inputs: dict[str, FieldSpec] = {}
    constants = dict(read_constants(dataset))
    for name, variable in first.data_vars.items():
        if variable.dtype.kind not in "fiu":
            raise UsageError(f"{format} files hold numbers, and {name!r} is {variable.dtype}: export to netcdf")
        dims = set(variable.dims)
        if not dims & {"component", "time", *axes}:
            constants[str(name)] = np.asarray(dataset[name].values)
            continue
        spec = field_of(str(name), variable, len(axes))
        if variable.sizes.get("component", 1) != spec.components:
            raise UsageError(f"variable {name!r} has {variable.sizes.get('component', 1)} components; "
                             f"expected {spec.components}")  # fmt: skip
        if set(axes) <= dims:
            (fields if "time" in dims or "time" not in dataset.dims else inputs)[str(name)] = spec
        elif dims & {"time", *axes}:
            shown = ", ".join(map(str, variable.dims))
            raise UsageError(f"{format} files hold fields, and {name!r} has the dimensions {shown}: export to netcdf")
        else:
            inputs[str(name)] = spec
    if not fields:
        raise UsageError(f"nothing to export: no variable has the dimensions time, {', '.join(source.space)}")
    origin = dict(zip(source.space, np.atleast_1d(dataset.attrs.get(ORIGIN, 0.0 * np.ones(len(axes)))), strict=True))
    even = {axis: evenly_spaced_axis(dataset, axis) for axis in axes}
    return Contents(
        fields,
        inputs,
        constants,
        {axis: values + origin[axis] for axis, (values, _) in even.items()},
        {axis: step for axis, (_, step) in even.items()},
        _times(dataset, format),
        _parts(dataset),
    )


def _times(dataset: xr.Dataset, format: str) -> np.ndarray:
    """Return the stored times, which must be evenly spaced numbers."""
    if "time" not in dataset.coords:
        raise UsageError(f"{format} files state the times, and the data have no coordinate 'time'")
    time = np.atleast_1d(dataset["time"].values)
    if time.dtype.kind not in "fiu" or dataset["time"].ndim > 1:
        raise UsageError(f"{format} files hold times in seconds, the same for all trajectories; {time.dtype} was found")
    if len(time) > 1:
        times, step = time.astype(np.float64), float(time[-1] - time[0]) / (len(time) - 1)
        if step > 0:
            check_coordinate_precision(time, step, "time")
        even = times[0] + step * np.arange(len(times))
        if step <= 0 or not (np.abs(times - even) <= coordinate_tolerance(time, step)).all():
            raise UsageError(f"{format} files hold times at one interval; those of the data are uneven")
    return time


def _parts(dataset: xr.Dataset) -> dict[str, list[int]]:
    """Return the positions of the trajectories of each part of the dataset."""
    if "split" not in dataset.coords:
        return {"train": list(range(dataset.sizes.get("trajectory", 1)))}
    labels = np.atleast_1d(dataset["split"].values).tolist()
    if unknown := [label for label in labels if label not in ("train", "valid", "test")]:
        raise UsageError(f"the coordinate split must say train, valid or test (it says {unknown[0]!r})")
    parts = {part: [i for i, label in enumerate(labels) if label == part] for part in ("train", "valid", "test")}
    return {part: found for part, found in parts.items() if found}


def attributes_as_json(attributes: Mapping[Any, Any]) -> str:
    """Return the attributes of a dataset as JSON, so that a file of another program keeps where its data come from.

    Parameters
    ----------
    attributes : mapping
        The attributes.

    Returns
    -------
    str
        JSON; what it has no form for, as text.
    """
    plain = {str(name): value.tolist() if isinstance(value, np.ndarray | np.generic) else value
             for name, value in attributes.items()}  # fmt: skip
    return json.dumps(plain, ensure_ascii=False, default=str)
