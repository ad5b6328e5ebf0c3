"""Fields of plain files: a body force as its curl, and samples that repeat the first."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.data.readers.facts import Facts


def with_curl(
    inputs: dict[str, xr.Variable], space: tuple[str, ...], sides: tuple[float, ...], facts: Facts
) -> dict[str, xr.Variable]:
    """Return inputs with the curl of a body force in the plane in place of the force itself.

    Parameters
    ----------
    inputs : dict of str to xr.Variable
        The inputs by the names of this package.
    space : tuple of str
        The spatial dims.
    sides : tuple of float
        The sides of the box in the order of `space`, in m.
    facts : Facts
        Where the change is recorded.

    Returns
    -------
    dict of str to xr.Variable
        The inputs; the same object if there is no force with components.
    """
    forcing = inputs.get("forcing")
    if forcing is None or len(space) == 3 or "component" not in forcing.dims:
        return inputs
    force = forcing.transpose(..., "component", *space).astype(np.float64)
    dims = [dim for dim in force.dims if dim != "component"]
    along_x, along_y = force.isel(component=0), force.isel(component=1)
    ky, kx = (2j * np.pi * np.fft.fftfreq(n, side / n) for n, side in zip(force.shape[-2:], sides, strict=True))
    curl = np.fft.ifft2(kx * np.fft.fft2(along_y.values) - ky[:, None] * np.fft.fft2(along_x.values)).real
    facts.say("forcing was a body force with two components, and its curl was taken")
    return {**inputs, "forcing": xr.Variable(dims, curl)}


def ends_are_equal(variable: xr.Variable, dim: str) -> bool:
    """Return whether the first and the last sample along an axis are equal, in the first and last states.

    Parameters
    ----------
    variable : xr.Variable
        States.
    dim : str
        The axis.

    Returns
    -------
    bool
        False if the samples at the ends are all the same number, which says nothing.
    """
    for trajectory in {0, variable.sizes.get("trajectory", 1) - 1}:
        for time in {0, variable.sizes["time"] - 1}:
            at = {"trajectory": trajectory, "time": time}
            state = variable.isel({d: i for d, i in at.items() if d in variable.dims})
            ends = np.asarray(state.isel({dim: [0, -1]}).values)
            first, last = np.take(ends, 0, state.dims.index(dim)), np.take(ends, 1, state.dims.index(dim))
            if not np.array_equal(first, last) or np.ptp(first) == 0:
                return False
    return True
