"""The validation error: how far forecasts of the validation trajectories are off. It decides which weights are kept."""

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
    surrogate: Surrogate, valid: InMemoryTrajectories, batch: int, device: torch.device
) -> Float[Tensor, " time"]:
    """Compute the nRMSE of forecasts of the validation trajectories, in the mean over trajectories.

    Parameters
    ----------
    surrogate : Surrogate
        The model.
    valid : InMemoryTrajectories
        The validation data.
    batch : int
        Number of trajectories that are forecast at once.
    device : torch.device
        Device of the model.

    Returns
    -------
    Tensor
        The nRMSE at every time after the first, shape (time,), in float64; infinite if a forecast is not finite.
    """
    batches = (slice(first, first + batch) for first in range(0, len(valid.states), batch))
    error = torch.cat([nrmse(surrogate.spec, _forecast(surrogate, valid, b, device), valid.states[b]) for b in batches])
    return error[:, 1:].nan_to_num(nan=math.inf, posinf=math.inf).mean(0)


def nrmse(spec: StateSpec, forecast: States, truth: States) -> Float[Tensor, "trajectory time"]:
    """Compute the nRMSE of forecasts, as `fluidsurrogate.evaluation.metrics.nrmse` does for a Dataset.

    It is the mean over the fields, because their units differ. If a field of the truth is zero, its error is not
    normalised.

    Parameters
    ----------
    spec : StateSpec
        Fields of the states.
    forecast, truth : Tensor
        Shape (trajectory, time, component, y, x) or (trajectory, time, component, z, y, x).

    Returns
    -------
    Tensor
        Shape (trajectory, time), in float64.
    """
    parts, values = [field.components for field in spec.fields], []
    space = tuple(range(3, truth.ndim))
    powers = (x.double().square().mean(space).split(parts, dim=2) for x in (forecast - truth, truth))
    for error, size in zip(*powers, strict=True):
        error, size = error.sum(2), size.sum(2)
        values.append((error / size.where(size > 0, 1.0)).sqrt())
    return torch.stack(values).mean(0)


@torch.no_grad()
def _forecast(surrogate: Surrogate, valid: InMemoryTrajectories, which: slice, device: torch.device) -> States:
    """Forecast some of the validation trajectories from their first time; NaN if a hybrid's solver fails."""
    truth = valid.states[which]
    inputs = {name: value[which].to(device) for name, value in valid.inputs.items()}
    try:
        return rollout(surrogate, truth[:, 0].to(device), truth.shape[1] - 1, inputs).cpu()
    except ValueError:
        if surrogate.base is None:
            raise
        return torch.full_like(truth, math.nan)  # a hybrid's solver fails for a state that has blown up
