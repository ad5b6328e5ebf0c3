"""Forecasts of the test trajectories by every source of a comparison, and their scores."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import torch
import xarray as xr
from torch import Tensor

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.devices import describe_machine
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


def forecast_all(
    experiment: Experiment, models: Mapping[str, Surrogate], truth: xr.Dataset, solver_applies: bool | None = None
) -> xr.Dataset:
    """Forecast the test trajectories from their initial states by persistence, baseline solvers and models.

    Parameters
    ----------
    experiment : Experiment
        Says which baseline solvers there are: see `Experiment.build_baseline_solvers`.
    models : mapping of str to Surrogate
        The trained models by name.
    truth : xr.Dataset
        The test trajectories.
    solver_applies : bool, optional
        Whether the experiment's solver steps the truth, so that it is compared. By default it does, unless the data are
        the user's own.

    Returns
    -------
    xr.Dataset
        Fields with the dims source, trajectory, time, y and x; the first source is the truth. For each source the
        equivariance error of each element of the grid's point group, the number of parameters, and the wall-clock time
        of an interval in s; these are NaN for the truth, because nothing says what made it.

    Raises
    ------
    UsageError
        If the dataset contradicts the viscosity, drag or diffusivity of the experiment's flow.
    """
    spec, dtype, device = experiment.spec, experiment.torch_dtype, torch.device(experiment.device)
    states = to_states(truth, spec, dtype).to(device)
    experiment.check_constants(truth)
    inputs = {name: value.to(device) for name, value in to_inputs(truth, spec, dtype).items()}
    steppers = {PERSISTENCE: Persistence(spec), **experiment.build_baseline_solvers(applies=solver_applies), **models}
    # No forecast can know the stochastic forcing of the truth: a baseline solver draws a forcing of its own.
    seeds = [derive_seed(experiment.seed, "compared solver", i) for i in range(len(states))]
    rolled, errors = {TRUTH: states}, {}
    group = point_group(spec.grid, spec.fields)
    for name, stepper in steppers.items():
        rolled[name] = _rollout_or_nan(name, stepper, states, inputs, seeds)
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
    about = {
        "long_name": f"wall-clock time of one interval of {len(states)} trajectories",
        "units": "s",
        "machine": describe_machine(device),
    }
    forecasts["seconds_per_step"] = ("source", [seconds.get(name, math.nan) for name in rolled], about)
    return forecasts


@torch.no_grad()
def _rollout_or_nan(
    name: str, stepper: Stepper, states: States, inputs: Mapping[str, Tensor], seeds: Sequence[int]
) -> States:
    """Forecast all times in `states` from the first one; NaN, with a warning, if a solver cannot run the flow."""
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
    """Score every source against the truth.

    Parameters
    ----------
    forecasts : xr.Dataset
        The result of `forecast_all`.
    threshold : float
        The correlation below which a forecast counts as lost, for the correlation time.
    metrics : sequence of str, optional
        Metrics beside those that are always scored; by default all.
    ensembles : xr.Dataset, optional
        The result of `forecast_ensembles`; its sources are scored as ensembles.

    Returns
    -------
    xr.Dataset
        The scores of `fluidsurrogate.compare`, with equivariance errors, numbers of parameters and times. For
        ensembles also the mean error bound, the horizon of each trajectory, and its median.
    """
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
        bounds = ensembles[["error_bound", "horizon", "horizon_censored"]].load()
        bounds["error_bound"] = bounds["error_bound"].mean("trajectory", skipna=False, keep_attrs=True)
        bounds["horizon_median"] = bounds["horizon"].median("trajectory", keep_attrs=True)
        bounds["horizon_median_censored"] = bounds["horizon_censored"].astype(float).mean("trajectory") >= 0.5
        bounds = bounds.drop_vars(["split", "seed"], errors="ignore").reindex(source=scores["source"])
        scores = scores.assign(
            bounds.drop_vars("source").data_vars
        )  # the names of all sources would be cut to the length of the longest model's
    return scores
