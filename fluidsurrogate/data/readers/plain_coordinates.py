"""Times and places of a plain file as those of this package: seconds and metres, increasing and evenly spaced."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.coordinates import coordinate_tolerance
from fluidsurrogate.data.known_names import METRES, SECONDS, unit_factor
from fluidsurrogate.data.readers.facts import DEFAULT, Facts
from fluidsurrogate.data.units import units_compatible

SECOND = np.timedelta64(1, "s")


def read_times(coordinate: xr.Variable | None, count: int, facts: Facts) -> np.ndarray:
    """Return the times of the states in seconds.

    Parameters
    ----------
    coordinate : xr.Variable or None
        The times in the file, if it has any: numbers, dates, or time differences.
    count : int
        Number of times.
    facts : Facts
        What the user states, and where what was found is recorded.

    Returns
    -------
    ndarray
        Times in s, float64.

    Raises
    ------
    UsageError
        If neither the file nor the user states them, or they are uneven.
    """
    if coordinate is None or (_is_index(coordinate) and "interval" in facts.given):
        interval = facts.take("interval", is_needed=count > 1) or 1.0
        return float(interval) * np.arange(count)
    values, units = np.atleast_1d(coordinate.values).ravel(), str(coordinate.attrs.get("units", ""))
    if values.dtype.kind == "M":
        times = (values - values[0]) / SECOND
        facts.say(f"time was dates and is now in s since {np.datetime_as_string(values[0], unit='s')}")
    elif values.dtype.kind == "m":
        times = values / SECOND
        facts.say("time was time differences and is now in s")
    elif values.dtype.kind == "O":  # cftime
        try:
            times = np.array([(value - values[0]).total_seconds() for value in values])
        except (TypeError, AttributeError):
            raise UsageError(f"{facts.path}: the times are neither numbers nor dates") from None
        facts.say(f"time was dates of another calendar and is now in s since {values[0]}")
    else:
        times = values.astype(np.float64)
        if units and not units_compatible(units, "s"):
            factor = unit_factor(units.partition(" since ")[0], SECONDS)
            if factor is None:
                raise UsageError(f"{facts.path}: time has the units {units!r}; expected 's', or another unit of time")
            times = times * factor
            facts.say(f"time was in {units} and is now in s")
    check_even(times, np.asarray(values if values.dtype.kind in "fiu" else times), "time", facts)
    if len(times) > 1:
        facts.take(
            "interval",
            in_file=float(f"{(times[-1] - times[0]) / (len(times) - 1):.12g}"),
            reason="the times in the file",
        )
    return np.asarray(times, np.float64)


def check_even(values: np.ndarray, stored: np.ndarray, name: str, facts: Facts) -> None:
    """Check that values increase evenly.

    Parameters
    ----------
    values : ndarray
        The values, converted.
    stored : ndarray
        The values as they are stored, whose rounding is tolerated.
    name : str
        The name of the coordinate, for the message.
    facts : Facts
        Knows the path, for the message.

    Raises
    ------
    UsageError
        If they do not.
    """
    if not np.isfinite(values).all():
        raise UsageError(f"{facts.path}: {name} holds missing or infinite values")
    steps = np.diff(values)
    if not len(steps):
        return
    even = values[0] + np.arange(len(values)) * (values[-1] - values[0]) / len(steps)
    scale = float(np.abs(values[-1] - values[0])) / max(float(np.abs(stored[-1] - stored[0])), 1e-300)
    tolerance = coordinate_tolerance(stored, abs(float(stored[-1] - stored[0])) / len(steps)) * scale
    if steps.mean() == 0 or not (np.abs(values - even) <= tolerance).all():
        raise UsageError(f"{facts.path}: {name} is not evenly spaced, from {steps.min():g} to {steps.max():g}: select "
                         "an even part, or interpolate it first")  # fmt: skip


class Axis:
    """An axis of space of a plain file, as it becomes one of this package.

    Parameters
    ----------
    name : str
        "z", "y" or "x".
    count : int
        Number of samples.
    coordinate : xr.Variable or None
        The places in the file, if it has any.
    facts : Facts
        Where what is changed is recorded.

    Attributes
    ----------
    is_reversed : bool
        Whether the values must be reversed along the axis.
    spacing : float or None
        Distance of neighbouring samples, in m; None if the file does not state it.
    first : float
        Place of the first sample, in m.
    """

    def __init__(self, name: str, count: int, coordinate: xr.Variable | None, facts: Facts) -> None:
        self.name, self.count, self.is_reversed = name, count, False
        self.spacing: float | None = None
        self.first = 0.0
        if coordinate is not None and _is_index(coordinate) and "length" in facts.given:
            facts.say(f"{name} counts the samples and was replaced by places in m")
            coordinate = None
        if coordinate is None or count < 2:
            return
        stored = _one_dimensional(coordinate, name, facts)
        if stored.dtype.kind not in "fiu":
            raise UsageError(f"{facts.path}: {name} must be numbers (it is {stored.dtype})")
        values, units = stored.astype(np.float64), str(coordinate.attrs.get("units", ""))
        if units and not units_compatible(units, "m"):
            factor = unit_factor(units, METRES)
            if factor is None:
                raise UsageError(
                    f"{facts.path}: {name} has the units {units!r}; expected 'm', or another unit of length"
                )
            values = values * factor
            facts.say(f"{name} was in {units} and is now in m")
        check_even(values, stored, name, facts)
        if values[-1] < values[0]:
            self.is_reversed = True
            values = values[::-1]
            facts.say(f"{name} was descending and has been reversed")
        self.spacing = float((values[-1] - values[0]) / (count - 1))
        self.first = float(values[0])

    @property
    def origin(self) -> float:
        """Where the coordinate 0 of this package lies, half a cell before the first sample; 0 up to rounding."""
        if self.spacing is None:
            return 0.0
        start = self.first - self.spacing / 2
        return 0.0 if abs(start) <= 1e-3 * self.spacing else start


def side_of(axes: list[Axis], facts: Facts) -> tuple[float, ...]:
    """Return the sides of the box: those of the coordinates, else those that the user states.

    Parameters
    ----------
    axes : list of Axis
        The axes (z,) y, x.
    facts : Facts
        What the user states.

    Returns
    -------
    tuple of float
        The sides in the order of the axes, in m.

    Raises
    ------
    UsageError
        If nobody states them, or the user something else than the file.
    """
    from fluidsurrogate.data.readers.package_layout import side_lengths

    known = [None if axis.spacing is None else axis.spacing * axis.count for axis in axes]
    if all(side is not None for side in known):
        sides = [float(f"{side:.9g}") for side in known if side is not None]
        given: Any = facts.given.get("length")
        if given is not None and np.allclose(side_lengths(given, len(axes)), sides, rtol=1e-4):
            return side_lengths(given, len(axes))  # the same, with more digits than float32 has
        in_file: Any = sides[0] if len(set(sides)) == 1 else sides
        facts.take("length", in_file=in_file, reason="number of samples times the spacing of the coordinates")
        return tuple(side for side in known if side is not None)
    given = side_lengths(facts.take("length"), len(axes))
    if all(side is None for side in known):
        facts.note("samples", "at the cell centres", DEFAULT, "the file does not say where they are")
    return tuple(side if own is None else own for side, own in zip(given, known, strict=True))


def _is_index(coordinate: xr.Variable) -> bool:
    """Return whether a coordinate only counts its values."""
    values = np.asarray(coordinate.values).ravel()
    return (
        values.dtype.kind in "fiu" and "units" not in coordinate.attrs
        and bool((values == np.arange(len(values))).all())
    )  # fmt: skip


def _one_dimensional(coordinate: xr.Variable, name: str, facts: Facts) -> np.ndarray:
    """Return a coordinate along its own axis, if it is a mesh that depends on this axis only."""
    values = np.asarray(coordinate.values)
    for axis in range(values.ndim - 1, -1, -1):
        if values.ndim == 1 or coordinate.dims[axis] == name:
            continue
        first = np.take(values, [0], axis)
        if not np.array_equal(values, np.broadcast_to(first, values.shape)):
            raise UsageError(f"{facts.path}: {name} is no axis of a box: it varies along {coordinate.dims[axis]} too")
        values, coordinate = np.take(values, 0, axis), coordinate.isel({coordinate.dims[axis]: 0})
    return np.atleast_1d(values)
