"""A few pairs of neighbouring states of a dataset, read for the check by physics, and the ways to read them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.conversion import read_states, to_inputs
from fluidsurrogate.data.coordinates import box_sides, spatial_dims
from fluidsurrogate.data.flow_constants import read_constants
from solvers import FORCING, MEAN_VELOCITY, VELOCITY, VORTICITY, Grid, StateSpec, field_in, resample
from solvers.diagnostics import vorticity

MAX_PAIRS = 8  # half of them for fits, the other half to judge by
MAX_CELLS = 2**17  # of all pairs together
MOST_CELLS = {2: 256, 3: 48}  # along an axis: a finer field is truncated
TURNS = tuple(itertools.product((1, -1), repeat=3))


class CannotCheck(Exception):
    """The dataset holds nothing that the solver can step; the message says why."""


@final
@dataclass(frozen=True)
class Reading:
    """One way to read the numbers of a file: as they are, or with axes, components or signs changed.

    Parameters
    ----------
    name : str
        What is changed, in words.
    sign : int
        What a vorticity, or a velocity after its components are put in order, is multiplied by.
    components : tuple of int
        Which stored component is which component of the velocity.
    signs : tuple of int
        What each component is then multiplied by.
    forcing_is_exchanged : bool
        Whether the axes of the forcing are exchanged.
    forcing_sign : int
        What the forcing is multiplied by.
    """

    name: str
    sign: int = 1
    components: tuple[int, ...] = ()
    signs: tuple[int, ...] = ()
    forcing_is_exchanged: bool = False
    forcing_sign: int = 1


AS_GIVEN = Reading("as given")
MIRROR = "axes exchanged, or the sign changed"  # or one axis reversed: each is the mirror image of the other
# Of vorticity alone, to exchange the axes and to change the sign together is a symmetry: two readings are left.
UNFORCED_READINGS = (AS_GIVEN, Reading(MIRROR, -1, forcing_sign=-1))
# Beside a forcing that is given, state and forcing may have been changed separately.
FORCED_READINGS = (
    *UNFORCED_READINGS,
    Reading("sign of the vorticity changed", -1),
    Reading("sign of the forcing changed", forcing_sign=-1),
    Reading("axes of the vorticity exchanged, those of the forcing kept", -1, (), (), True, -1),
    Reading("axes of the forcing exchanged, those of the vorticity kept", 1, (), (), True),
    Reading("axes of the forcing exchanged and its sign changed", 1, (), (), True, -1),
    Reading("axes of the vorticity exchanged, the sign of the forcing changed", -1, (), (), True),
)


@final
@dataclass(frozen=True)
class PhysicsSample:
    """Pairs of states that lie one interval apart.

    Parameters
    ----------
    grid : Grid
        The grid of the states.
    interval : float
        The time between the two states of a pair, in s.
    states : Tensor
        Shape (pair, 2, component, y, x) or with z, y, x, float64: vorticity in two dimensions, or velocity.
    is_velocity : bool
        Whether the states hold the velocity.
    is_judged : Tensor
        Shape (pair,): which pairs a fit is judged by; the other pairs are for the fit.
    viscosity : Tensor or None
        Shape (pair,), in m²/s; None if nobody states it.
    drag : Tensor
        Shape (pair,), in 1/s.
    forcing : Tensor or None
        Shape (pair, component, y, x), as the solver takes it; None if nobody states it.
    mean_velocity : Tensor
        Shape (pair, component): what the dataset states, and the mean of a velocity, in m/s.
    notes : list of str
        What is left out, in words.
    trajectories : tuple of int
        The trajectory of each pair.
    """

    grid: Grid
    interval: float
    states: Tensor
    is_velocity: bool
    is_judged: Tensor
    viscosity: Tensor | None
    drag: Tensor
    forcing: Tensor | None
    mean_velocity: Tensor
    notes: list[str] = field(default_factory=list)
    trajectories: tuple[int, ...] = ()

    def readings(self) -> list[Reading]:
        """Return the readings that differ in their physics.

        Returns
        -------
        list of Reading
            The first is the file's own.
        """
        if not self.is_velocity:
            return list(FORCED_READINGS if self.forcing is not None and self.grid.is_square else UNFORCED_READINGS)
        own = tuple(range(self.grid.dimensions))
        own_reading = Reading("as given", 1, own, (1,) * len(own))
        found = [own_reading, Reading("sign of the velocity changed", -1, own, (1,) * len(own))]
        best = min(self._component_readings(), key=self.divergence)
        if self.divergence(best) < 0.5 * self.divergence(own_reading):
            found += [best, Reading(f"{best.name}, and the sign changed", -1, best.components, best.signs)]
        return found

    def edge_jump(self) -> tuple[float, str]:
        """Measure how much the states jump from the last cell to the first, where a periodic field does not.

        Returns
        -------
        ratio : float
            The root mean square of that difference over that of the difference between other neighbours, the largest
            of all axes.
        axis : str
            The axis.
        """
        found = []
        for dim, axis in zip(self.grid.dims, self.grid.axes, strict=True):
            step = (self.states.roll(-1, dim) - self.states).square()
            inside, last = step.narrow(dim, 0, step.shape[dim] - 1).mean(), step.select(dim, -1).mean()
            found.append((float((last / inside.clamp(min=1e-300)).sqrt()), axis))
        return max(found)

    def _component_readings(self) -> list[Reading]:
        """Return every order of the components and the axes, with all signs but that of the whole vector."""
        axes, found = "xyz"[: self.grid.dimensions], []
        for order in itertools.permutations(range(len(axes))):
            for turn in itertools.product((1, -1), repeat=len(axes) - 1):
                signs = (1, *turn)
                what = [] if order == tuple(range(len(axes))) else [
                    f"components in the order ({', '.join('uvw'[order.index(i)] for i in range(len(axes)))}), "
                    "or the axes exchanged"]  # fmt: skip
                turned = [axes[i] for i in range(len(axes)) if signs[i] < 0]
                what += [f"the sign of the component {' and '.join(turned)} changed, or that axis reversed"] * bool(
                    turned
                )
                found.append(Reading(" and ".join(what) or "as given", 1, order, signs))
        return found

    def velocity(self, reading: Reading) -> Tensor:
        """Return the velocity in a reading.

        Parameters
        ----------
        reading : Reading
            The reading.

        Returns
        -------
        Tensor
            Shape (pair, 2, component, y, x), its mean included.
        """
        signs = torch.tensor(reading.signs, dtype=self.states.dtype) * reading.sign
        return self.states[:, :, list(reading.components)] * signs[(..., *(None,) * self.grid.dimensions)]

    def divergence(self, reading: Reading) -> float:
        """Measure the divergence of a velocity.

        Parameters
        ----------
        reading : Reading
            The reading.

        Returns
        -------
        float
            The root mean square of the divergence over that of the gradient; 0 for vorticity.
        """
        if not self.is_velocity:
            return 0.0
        spectrum = torch.fft.rfftn(self.velocity(reading)[:, 0], dim=self.grid.dims)
        gradients = torch.stack(torch.broadcast_tensors(*self.grid.odd_wavenumbers()[::-1]))
        divergence = (gradients * spectrum).sum(1)
        size = (gradients.square().sum(0) * spectrum.abs().square().sum(1)).sum()
        return float((divergence.abs().square().sum() / size.clamp(min=torch.finfo(size.dtype).tiny)).sqrt())

    def flow(self, reading: Reading) -> tuple[Tensor, Tensor, Tensor]:
        """Return the states of the pairs as the solver takes them.

        Parameters
        ----------
        reading : Reading
            The reading.

        Returns
        -------
        before, after : Tensor
            Vorticity, shape (pair, 1, y, x), or the velocity without its mean, shape (pair, 3, z, y, x).
        mean : Tensor
            The mean velocity, shape (pair, component).
        """
        if not self.is_velocity:
            return reading.sign * self.states[:, 0], reading.sign * self.states[:, 1], self.mean_velocity
        velocity = self.velocity(reading)
        mean = velocity.mean(self.grid.dims, keepdim=True)
        fluctuation = velocity - mean
        if self.grid.dimensions == 2:
            fluctuation = vorticity(fluctuation.flatten(0, 1), self.grid).unflatten(0, fluctuation.shape[:2])
        return fluctuation[:, 0], fluctuation[:, 1], mean[:, 0].flatten(1) + self.mean_velocity

    def forcing_in(self, reading: Reading) -> Tensor | None:
        """Return the forcing in a reading.

        Parameters
        ----------
        reading : Reading
            The reading.

        Returns
        -------
        Tensor or None
            Shape (pair, component, y, x); None if there is none.
        """
        if self.forcing is None:
            return None
        forcing = self.forcing.transpose(-1, -2) if reading.forcing_is_exchanged else self.forcing
        return reading.forcing_sign * forcing


def read_sample(
    dataset: xr.Dataset, viscosity: float | None = None, constants: Mapping[str, float] | None = None
) -> PhysicsSample:
    """Read a few pairs of states.

    Parameters
    ----------
    dataset : xr.Dataset
        States in the layout of the package, opened lazily or not.
    viscosity : float, optional
        The viscosity in m²/s, if the dataset does not state it.
    constants : mapping of str to float, optional
        Further constants of the flow, such as the drag.

    Returns
    -------
    PhysicsSample
        The pairs, spread over trajectories and times.

    Raises
    ------
    CannotCheck
        If the dataset holds nothing that the solver can step.
    """
    name = next((n for n in (VELOCITY.name, VORTICITY.name) if n in dataset), None)
    if name is None:
        raise CannotCheck("it holds neither vorticity nor velocity, so that nothing says how the flow moves")
    if "gravity" in dataset and bool((dataset["gravity"] != 0).any()):
        raise CannotCheck("the flow is buoyant: a temperature drives it, which is checked only with the experiment")
    dimensions = len(spatial_dims(dataset))
    if name == VORTICITY.name and dimensions == 3:
        raise CannotCheck("in three dimensions the check needs the velocity")
    if "time" not in dataset[name].dims or dataset.sizes["time"] < 2:
        raise CannotCheck("it holds a single time")
    if "time" not in dataset.coords or dataset["time"].dtype.kind not in "fiu":
        raise CannotCheck("its times are not known as numbers")
    if "trajectory" not in dataset[name].dims:
        dataset = dataset.expand_dims("trajectory")
    try:
        length = box_sides(dataset)
        grid = Grid(tuple(dataset.sizes[axis] for axis in spatial_dims(dataset)), length)
    except (UsageError, ValueError) as error:
        raise CannotCheck(str(error)) from None
    times = dataset["time"].values.astype(np.float64)
    interval = float(np.median(np.diff(times)))
    if not interval > 0:
        raise CannotCheck("its times do not increase")
    chosen = choose_pairs(dataset[name], grid, times, interval)
    spec_fields = (field_in(VELOCITY if name == VELOCITY.name else VORTICITY, dimensions),)
    spec = StateSpec(grid, spec_fields, interval)
    states = torch.cat([
        read_states(dataset[[name]].isel(trajectory=[i], time=[t, t + 1]), spec, torch.float64, finite=False)
        for i, t in chosen
    ])  # fmt: skip
    trajectories = [i for i, _ in chosen]
    known = _constants(dataset, trajectories, {**({} if viscosity is None else {"viscosity": viscosity}),
                                               **(constants or {})})  # fmt: skip
    forcing, mean = _forcing_and_mean(dataset, trajectories, spec)
    notes = []
    most = MOST_CELLS[dimensions]
    if max(grid.n) > most:
        coarse = Grid(tuple(min(n, most) for n in grid.n), grid.length)
        states = resample(states, grid, coarse)
        forcing = None if forcing is None else resample(forcing, grid, coarse)
        notes.append(f"checked on {' x '.join(map(str, coarse.n))} cells, to which the states were truncated")
        grid = coarse
    return PhysicsSample(
        grid, interval, states, name == VELOCITY.name, judged_pairs(chosen), known.get("viscosity"),
        known.get("drag", torch.zeros(len(chosen), dtype=torch.float64)), forcing, mean, notes,
        tuple(trajectories),
    )  # fmt: skip


def choose_pairs(variable: xr.DataArray, grid: Grid, times: np.ndarray, interval: float) -> list[tuple[int, int]]:
    """Choose a few pairs of states that lie an interval apart, are finite and differ.

    Parameters
    ----------
    variable : xr.DataArray
        The field of the flow, with the dims trajectory and time.
    grid : Grid
        Its grid.
    times : ndarray
        The stored times, in s.
    interval : float
        The interval, in s.

    Returns
    -------
    list of tuple of int
        Trajectory and time of the first state of each pair, spread over both.

    Raises
    ------
    CannotCheck
        If there is no such pair.
    """
    cells = math.prod(min(n, MOST_CELLS[grid.dimensions]) for n in grid.n) * (1 if grid.dimensions == 2 else 3)
    count = max(2, min(MAX_PAIRS, MAX_CELLS // cells))
    even = np.flatnonzero(np.abs(np.diff(times) - interval) <= 0.01 * interval)
    trajectories = variable.sizes["trajectory"]
    rows = _spread(trajectories, min(trajectories, 4, count))
    columns = even[_spread(len(even), min(len(even), max(1, math.ceil(count / len(rows)))))]
    chosen = []
    for i in rows:
        for t in columns:
            pair = variable.isel(trajectory=int(i), time=[int(t), int(t) + 1]).transpose("time", ...).values
            if np.isfinite(pair).all() and (pair[0] != pair[1]).any():
                chosen.append((int(i), int(t)))
    if not chosen:
        raise CannotCheck("no two neighbouring states are finite and differ")
    return chosen


def _spread(size: int, count: int) -> np.ndarray:
    """Return `count` of the numbers below `size`, evenly spread with both ends."""
    return np.unique(np.linspace(0, size - 1, count).round().astype(int))


def judged_pairs(chosen: list[tuple[int, int]]) -> Tensor:
    """Return which pairs to judge by: other trajectories than those of the fit, or else later times.

    Parameters
    ----------
    chosen : list of tuple of int
        Trajectory and time of each pair.

    Returns
    -------
    Tensor
        Booleans, shape (pair,).
    """
    trajectories = sorted({i for i, _ in chosen})
    if len(trajectories) > 1:
        held = set(trajectories[len(trajectories) // 2 :])
        return torch.tensor([i in held for i, _ in chosen])
    judged = torch.arange(len(chosen)) >= (len(chosen) + 1) // 2
    return judged if len(chosen) > 1 else torch.tensor([True])


def _constants(dataset: xr.Dataset, trajectories: list[int], given: Mapping[str, float]) -> dict[str, Tensor]:
    """Return viscosity and drag of each pair, as far as the dataset or the user states them."""
    found = {}
    for name, value in {**given, **read_constants(dataset)}.items():
        numbers = np.asarray(value, dtype=np.float64).ravel()
        if len(numbers) in (1, dataset.sizes["trajectory"]):
            each = numbers[trajectories] if len(numbers) > 1 else np.full(len(trajectories), numbers[0])
            found[name] = torch.tensor(each, dtype=torch.float64)
    return found


def _forcing_and_mean(
    dataset: xr.Dataset, trajectories: list[int], spec: StateSpec
) -> tuple[Tensor | None, Tensor]:  # fmt: skip
    """Return the forcing and the mean velocity of each pair that a dataset states; None and zero if it does not."""
    fields = {f.name: field_in(f, spec.grid.dimensions) for f in (FORCING, MEAN_VELOCITY) if f.name in dataset}
    parts = dataset[list(fields)]
    parts = parts.isel(trajectory=trajectories) if "trajectory" in parts.dims else parts
    values = {}
    for name, one in fields.items():
        own = StateSpec(spec.grid, spec.fields, spec.interval, (one,))
        value = to_inputs(parts, own, torch.float64)[name]
        values[name] = value.expand(len(trajectories), *value.shape[1:])
    mean = values.get("mean_velocity")
    none = torch.zeros(len(trajectories), spec.grid.dimensions, dtype=torch.float64)
    return values.get("forcing"), none if mean is None else mean.flatten(1)
