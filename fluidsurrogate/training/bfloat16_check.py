"""How much the error of a trained model grows if its network computes in bfloat16."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import xarray as xr

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.conversion import to_inputs, to_states
from fluidsurrogate.models.bfloat16 import BFLOAT16_CHECK, BFLOAT16_ERROR_RATIO
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.simulation.splits import split_of
from fluidsurrogate.training.validation import validation_error
from fluidsurrogate.training.windows import InMemoryTrajectories

MAX_TRAJECTORIES, MAX_LEADS = 8, 10  # of the test data: less than a second for the networks of the demo


def check_bfloat16(
    surrogate: Surrogate, dataset: xr.Dataset, valid: InMemoryTrajectories, experiment: Experiment, batch: int
) -> dict[str, str | float]:
    """Compare the errors of forecasts in bfloat16 and in full precision, on at most 8 trajectories and 10 intervals.

    Parameters
    ----------
    surrogate : Surrogate
        The trained model.
    dataset : Dataset
        The data of the experiment. The trajectories of its split "test" are forecast.
    valid : InMemoryTrajectories
        The validation data, which are forecast if there are no test data.
    experiment : Experiment
        The experiment, which describes the data.
    batch : int
        How many trajectories to forecast at a time.

    Returns
    -------
    dict of str to object
        What the model records, under the keys of `fluidsurrogate.models.bfloat16`; empty for a model in double
        precision or of several networks.
    """
    if surrogate.dtype != torch.float32 or surrogate.config.networks > 1:
        return {}
    spec = experiment.spec
    try:
        chosen = split_of(dataset, "test", experiment)
        chosen = chosen.isel(trajectory=slice(MAX_TRAJECTORIES), time=slice(MAX_LEADS + 1))
        source, data = "test", InMemoryTrajectories(to_states(chosen, spec), to_inputs(chosen, spec))
    except UsageError:  # there are none, or not such that they can be forecast
        inputs = {name: value[:MAX_TRAJECTORIES] for name, value in valid.inputs.items()}
        states = valid.states[:MAX_TRAJECTORIES, : MAX_LEADS + 1]
        source, data = "validation", InMemoryTrajectories(states, inputs)
    count, device = len(data.states), surrogate.device
    # To compile the network once more, for another precision, would take longer than all forecasts.
    with torch.compiler.set_stance("force_eager") if experiment.train.compile else nullcontext():
        try:
            full, half = (
                validation_error(surrogate.in_precision(precision), data, min(batch, count), device)
                for precision in ("full", "bfloat16")
            )
        except Exception as error:  # whatever a module of the user's raises: the training that ended must not be lost
            return {BFLOAT16_CHECK: f"the network cannot compute in bfloat16 ({type(error).__name__})"}
    first_last = (f"{errors[0]:.4g} and {errors[-1]:.4g}" for errors in (full, half))
    said = "nRMSE after 1 and {} intervals {} in full precision, {} in bfloat16, on {} {} trajectories"
    ratio = float((half / full).max())
    checked: dict[str, str | float] = {BFLOAT16_CHECK: said.format(len(full), *first_last, count, source)}
    return checked | ({BFLOAT16_ERROR_RATIO: round(ratio, 4)} if ratio < float("inf") else {})
