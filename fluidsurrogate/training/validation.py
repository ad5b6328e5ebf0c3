"""How far a model's forecasts of the validation trajectories are off: what chooses the weights that are kept."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.data.array_types import States
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.simulation.rollout import rollout
from fluidsurrogate.training.windows import InMemoryTrajectories
from solvers import StateSpec


def validation_error(
    surrogate: Surrogate, valid: InMemoryTrajectories, part: int, device: torch.device
) -> Float[Tensor, " time"]:
    """nRMSE at every later time, the mean over trajectories, of which `part` are forecast at once; infinite where a
    forecast is not finite."""
    rows = (slice(first, first + part) for first in range(0, len(valid.states), part))
    error = torch.cat([nrmse(surrogate.spec, _forecast(surrogate, valid, r, device), valid.states[r]) for r in rows])
    return error[:, 1:].nan_to_num(nan=math.inf, posinf=math.inf).mean(0)


def nrmse(spec: StateSpec, forecast: States, truth: States) -> Float[Tensor, "trajectory time"]:
    """As `metrics.nrmse`: the mean over the fields, whose units differ; the error as it is where a field is zero."""
    parts, values = [field.components for field in spec.fields], []
    powers = (x.double().square().mean((3, 4)).split(parts, dim=2) for x in (forecast - truth, truth))
    for error, size in zip(*powers, strict=True):
        error, size = error.sum(2), size.sum(2)
        values.append((error / size.where(size > 0, 1.0)).sqrt())
    return torch.stack(values).mean(0)


@torch.no_grad()
def _forecast(surrogate: Surrogate, valid: InMemoryTrajectories, rows: slice, device: torch.device) -> States:
    truth = valid.states[rows]
    inputs = {name: value[rows].to(device) for name, value in valid.inputs.items()}
    try:
        return rollout(surrogate, truth[:, 0].to(device), truth.shape[1] - 1, inputs).cpu()
    except ValueError:
        if surrogate.base is None:
            raise
        return torch.full_like(truth, math.nan)  # a hybrid's solver, on a state that has blown up
