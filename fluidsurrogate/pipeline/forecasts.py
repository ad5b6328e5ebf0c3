"""What a comparison is made of: forecasts of the test trajectories by every source, and their scores."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import torch
import xarray as xr
from torch import Tensor

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.seeding import derive_seed
from fluidsurrogate.data.array_types import States
from fluidsurrogate.data.conversion import to_dataset, to_inputs, to_states
from fluidsurrogate.data.layout import trajectory_coordinates
from fluidsurrogate.evaluation.comparison import PERSISTENCE, TRUTH, compare
from fluidsurrogate.evaluation.equivariance import equivariance_error
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.simulation.rollout import Persistence, rollout, seconds_per_step
from solvers import Stepper, point_group

log = logging.getLogger("fluidsurrogate")


def forecast_all(experiment: Experiment, models: Mapping[str, Surrogate], truth: xr.Dataset) -> xr.Dataset:
    """Roll every stepper out from the truth's starts, beside the truth itself.

    Parameters
    ----------
    experiment : Experiment
        Says which classical solvers forecast beside the models: see `Experiment.build_compared_solvers`.
    models : mapping of str to Surrogate
        The trained models by name.
    truth : Dataset
        The test trajectories.

    Returns
    -------
    Dataset
        Fields by (source, trajectory, time, y, x), the truth first; and by source the equivariance error of each
        element of the grid's point group, the number of parameters and the seconds a step. The truth, which may be
        anybody's, has none of these: NaN.
    """
    spec, dtype, device = experiment.spec, experiment.torch_dtype, torch.device(experiment.device)
    states = to_states(truth, spec, dtype).to(device)
    experiment.check_constants(truth)
    inputs = {name: value.to(device) for name, value in to_inputs(truth, spec, dtype).items()}
    steppers = {PERSISTENCE: Persistence(spec), **experiment.build_compared_solvers(), **models}
    # What kicks the truth nobody knows in advance: a solver of a stirred flow draws kicks of its own.
    seeds = [derive_seed(experiment.seed, "compared solver", i) for i in range(len(states))]
    rolled, errors = {TRUTH: states}, {}
    group = point_group(spec.grid, spec.fields)
    for name, stepper in steppers.items():
        rolled[name] = _rolled(name, stepper, states, inputs, seeds)
        errors[name] = equivariance_error(stepper, states[:, 0], group, inputs)
    seconds = seconds_per_step(steppers, states[:, 0], inputs)
    start_time, coordinates = float(truth["time"].values[0]), trajectory_coordinates(truth)
    parts = [to_dataset(spec, values, start_time=start_time, coordinates=coordinates) for values in rolled.values()]
    source = xr.Variable("source", list(rolled), {"long_name": "source of the forecast"})
    forecasts = xr.concat(parts, source, coords="minimal", compat="override", combine_attrs="override")
    elements = list(next(iter(errors.values())))
    forecasts = forecasts.assign_coords(
        element=("element", elements, {"long_name": "element of the point group", "units": "1"})
    )
    table = [[errors[name][e] if name in errors else math.nan for e in elements] for name in rolled]
    forecasts["equivariance_error"] = (("source", "element"), table, {
        "long_name": "|f(gx) - g f(x)| / |f(x) - x|, not defined for persistence", "units": "1"})  # fmt: skip
    weights = {name: stepper.parameters if isinstance(stepper, Surrogate) else 0 for name, stepper in steppers.items()}
    forecasts["parameters"] = ("source", [weights.get(name, math.nan) for name in rolled], {"units": "1"})
    about = {"long_name": f"wall-clock time of one interval of {len(states)} trajectories", "units": "s"}
    forecasts["seconds_per_step"] = ("source", [seconds.get(name, math.nan) for name in rolled], about)
    return forecasts


@torch.no_grad()
def _rolled(name: str, stepper: Stepper, states: States, inputs: Mapping[str, Tensor], seeds: Sequence[int]) -> States:
    """The forecast of every state in `states` from the first; NaN where a solver cannot go on."""
    try:
        return rollout(stepper, states[:, 0], states.shape[1] - 1, inputs, seeds)
    except UsageError:
        raise
    except ValueError as error:  # on a grid that is too coarse for it, the flow may blow up
        log.warning(f"{name}: {error}")
        return torch.cat([states[:, :1], torch.full_like(states[:, 1:], math.nan)], dim=1)


def score_all(
    forecasts: xr.Dataset,
    threshold: float,
    metrics: Sequence[str] | None = None,
    ensembles: xr.Dataset | None = None,
) -> xr.Dataset:
    """The scores of every source against the truth, with what was measured of each while rolling out; of those with
    members also what these say: their mean error bound, and their horizon by trajectory."""
    truth = forecasts.sel(source=TRUTH, drop=True)
    by_source = {str(name): forecasts.sel(source=name, drop=True) for name in forecasts["source"].values}
    if ensembles is not None:
        by_source |= {str(name): ensembles.sel(source=name, drop=True).load() for name in ensembles["source"].values}
    scores = compare(by_source, truth, threshold, metrics)
    scores["equivariance_error_by_element"] = forecasts["equivariance_error"]
    scores["equivariance_error"] = forecasts["equivariance_error"].max("element", keep_attrs=True)
    for name in ("parameters", "seconds_per_step"):
        scores[name] = forecasts[name]
    if ensembles is not None:
        said = ensembles[["error_bound", "horizon", "horizon_censored"]].load()
        said["error_bound"] = said["error_bound"].mean("trajectory", skipna=False, keep_attrs=True)
        said["horizon_median"] = said["horizon"].median("trajectory", keep_attrs=True)
        said["horizon_median_censored"] = said["horizon_censored"].astype(float).mean("trajectory") >= 0.5
        said = said.drop_vars(["split", "seed"], errors="ignore").reindex(source=scores["source"])
        scores = scores.assign(said.drop_vars("source").data_vars)  # its names would be cut to the longest model's
    return scores
