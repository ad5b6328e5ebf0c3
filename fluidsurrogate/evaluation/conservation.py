"""What a rollout does to what the flow conserves: tensors only."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from solvers import VELOCITY, VORTICITY, StateSpec
from solvers.spectra import kinetic_energy

Rolled = Float[Tensor, "batch time component y x"]


def component_names(spec: StateSpec) -> list[str]:
    """One name a component of the state: a scalar's own, a vector's with its axis."""
    return [f"{f.name} {axis}" if f.order else f.name for f in spec.fields for axis in ("xy" if f.order else "x")]


def mean_drift(spec: StateSpec, states: Rolled) -> Float[Tensor, "batch time component"]:
    """(⟨f⟩(t) − ⟨f⟩(0)) / rms f(0) for each component: its mean over the box, by the root mean square of its field at
    the start. Advection and diffusion in a periodic box conserve it. NaN where the field starts as zero."""
    means, parts = states.double().mean((-2, -1)), []
    for part in states[:, 0].double().split([field.components for field in spec.fields], dim=1):
        rms = part.square().sum(1).mean((-2, -1)).sqrt()
        rms = rms.where(rms > 0, torch.nan)
        parts.append(rms[:, None].expand(-1, part.shape[1]))
    return (means - means[:, :1]) / torch.cat(parts, dim=1)[:, None]


def energy(spec: StateSpec, states: Rolled) -> Float[Tensor, "batch time"] | None:
    """½⟨|u|²⟩, of the velocity field or of what the vorticity induces; None where the state holds neither."""
    first = 0
    for field in spec.fields:
        part = states[:, :, first : first + field.components].double()
        if field.name == VELOCITY.name:
            return 0.5 * part.square().sum(2).mean((-2, -1))
        if field.name == VORTICITY.name:
            flat = part.flatten(0, 1)
            return kinetic_energy(flat, spec.grid.length).unflatten(0, part.shape[:2])
        first += field.components
    return None
