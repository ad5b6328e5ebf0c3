"""A mean flow in stored velocities, which is an input of this package and no part of the state."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.data.layout import field_attributes
from fluidsurrogate.data.readers.facts import Facts
from solvers import MEAN_VELOCITY, field_in
from solvers.grid import AXES

ROUNDING = 1e-3  # a mean velocity of this share of the root mean square counts as rounding (`solvers.velocity_form`)
STEADY = 1e-3  # of the mean flow: a change in time by less is rounding


def split_mean_flow(velocity: xr.Variable, facts: Facts) -> tuple[xr.Variable, xr.Variable | None]:
    """Return a velocity without its mean over the box, and the mean flow of each trajectory.

    Parameters
    ----------
    velocity : xr.Variable
        With the dims time, component, (z,) y and x, and trajectory if there are several.
    facts : Facts
        Where a change is recorded.

    Returns
    -------
    velocity : xr.Variable
        As it was if there is no mean flow, else without it; not read yet.
    mean : xr.Variable or None
        With the dims (trajectory,) component; None if there is no mean flow, or it changes in time.
    """
    space = [dim for dim in AXES if dim in velocity.dims]
    ends = velocity.isel(time=[0, -1])
    means, size = [], 0.0
    for i in range(velocity.sizes.get("trajectory", 1)):
        state = np.asarray((ends.isel(trajectory=i) if "trajectory" in ends.dims else ends).values, np.float64)
        means.append(state.mean(axis=tuple(range(-len(space), 0))))
        size = max(size, float(np.sqrt(np.mean(state**2))))
    mean = np.stack(means)  # trajectory, time, component
    largest = float(np.abs(mean).max())
    if not np.isfinite(largest) or largest <= ROUNDING * size:
        return velocity, None
    if np.abs(mean[:, 1] - mean[:, 0]).max() > STEADY * largest + ROUNDING * ROUNDING * size:
        facts.say(f"the mean velocity over the box changes in time, from {mean[0, 0]} to {mean[0, 1]} m/s in "
                  "trajectory 0; it was left in the velocity")  # fmt: skip
        return velocity, None
    dims = ("trajectory", "component") if "trajectory" in velocity.dims else ("component",)
    steady = xr.Variable(dims, mean[:, 0] if len(dims) == 2 else mean[0, 0],
                         field_attributes(field_in(MEAN_VELOCITY, len(space))))  # fmt: skip
    facts.say("the mean flow, " + ", ".join(f"{v:.6g}" for v in mean[0, 0]) + " m/s in trajectory 0, became the input "
              "mean_velocity and was taken out of the velocity")  # fmt: skip
    return (velocity - velocity.mean(space)).astype(velocity.dtype).transpose(*velocity.dims), steady
