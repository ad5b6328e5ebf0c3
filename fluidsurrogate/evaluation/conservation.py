"""What a rollout does to quantities that the flow conserves; tensors only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.data.array_types import States
from solvers import VELOCITY, VORTICITY, FieldSpec, StateSpec, velocity
from solvers.spectra import kinetic_energy


def component_names(fields: Sequence[FieldSpec]) -> list[str]:
    """Return a name for each component of a stack of fields.

    Parameters
    ----------
    fields : sequence of FieldSpec
        The fields.

    Returns
    -------
    list of str
        The name of a scalar field, and of a vector field its name with the axis: "velocity x".
    """
    return [f"{f.name} {axis}" if f.order else f.name for f in fields for axis in "xyz"[: f.components]]


def mean_drift(spec: StateSpec, states: States) -> Float[Tensor, "trajectory time component"]:
    r"""Compute the drift of each component's mean over the box since the start.

    .. math:: (\langle f \rangle(t) - \langle f \rangle(0)) / \sqrt{\langle |f(0)|^2 \rangle}

    Advection and diffusion in a periodic box conserve the mean.

    Parameters
    ----------
    spec : StateSpec
        Fields of the state.
    states : Tensor
        Shape (trajectory, time, component, y, x), in three dimensions (trajectory, time, component, z, y, x).

    Returns
    -------
    Tensor
        Shape (trajectory, time, component), in double precision; relative to the root mean square of the field, which
        the components of a vector share, at the start. NaN for a field that starts as zero.
    """
    means, parts = states.double().mean(spec.grid.dims), []
    for part in states[:, 0].double().split([field.components for field in spec.fields], dim=1):
        rms = part.square().sum(1).mean(spec.grid.dims).sqrt()
        rms = rms.where(rms > 0, torch.nan)
        parts.append(rms[:, None].expand(-1, part.shape[1]))
    return (means - means[:, :1]) / torch.cat(parts, dim=1)[:, None]


def energy(spec: StateSpec, states: States) -> Float[Tensor, "trajectory time"] | None:
    r"""Compute the kinetic energy of each state.

    .. math:: E = \tfrac{1}{2} \langle |u|^2 \rangle

    Parameters
    ----------
    spec : StateSpec
        Fields of the state.
    states : Tensor
        Shape (trajectory, time, component, y, x), in three dimensions (trajectory, time, component, z, y, x).

    Returns
    -------
    Tensor or None
        Shape (trajectory, time), in m²/s² and double precision; of the velocity field or of the velocity that the
        vorticity induces. None for a state that holds neither.
    """
    first = 0
    for field in spec.fields:
        part = states[:, :, first : first + field.components].double()
        if field.name == VELOCITY.name:
            return 0.5 * part.square().sum(2).mean(spec.grid.dims)
        if field.name == VORTICITY.name:
            flat = part.flatten(0, 1)
            flow = flat if spec.grid.dimensions == 2 else velocity(flat, spec.grid)  # as `solvers.spectra` takes it
            return kinetic_energy(flow, spec.grid.length).unflatten(0, part.shape[:2])
        first += field.components
    return None
