"""Scoring several forecasts against the truth: one Dataset of scores."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.alignment import align_to_truth
from fluidsurrogate.data.coordinates import AXES, box_sides, spatial_dims
from fluidsurrogate.data.layout import field_names
from fluidsurrogate.evaluation.correlation_time import correlation_time
from fluidsurrogate.evaluation.ensemble_members import control_or_mean
from fluidsurrogate.evaluation.ensemble_metrics import ENSEMBLE_METRICS
from fluidsurrogate.evaluation.metrics import METRICS
from fluidsurrogate.evaluation.metrics.finiteness import finite

log = logging.getLogger("fluidsurrogate")
TRUTH, PERSISTENCE = "truth", "persistence"  # sources that every comparison of an experiment has
# Metrics that are scored in every comparison, because tables and figures are made of them.
ALWAYS_SCORED = ("nrmse", "correlation", "energy", "enstrophy", "energy_spectrum", "enstrophy_spectrum", "finite")
DIMS = ("trajectory", "time", "component", *AXES)
ENSEMBLE_COORDINATES = ("member", "perturbed")
START_TOLERANCE = 1e-3  # nRMSE up to which a forecast is at the truth's own state: that of half precision is 5e-4


def compare(
    forecasts: Mapping[str, xr.Dataset],
    truth: xr.Dataset,
    correlation_threshold: float = 0.8,
    metrics: Sequence[str] | None = None,
) -> xr.Dataset:
    """Score forecasts of the same trajectories and times against the truth.

    The first time counts as the start and enters no mean over times; a warning says so if no forecast is at the truth
    there. A forecast that turns non-finite scores nRMSE = inf and correlation 0 from there on, with a warning. Where
    the truth is not finite, scores are NaN, with a warning.

    Parameters
    ----------
    forecasts : mapping of str to xr.Dataset
        Forecasts by name. A forecast with the dim `member` is an ensemble: ensemble metrics score its perturbed
        members, the other metrics its unperturbed member if a boolean coordinate `perturbed` says which that is, or
        else the mean over the members.
    truth : xr.Dataset
        The truth, with the vorticity or the velocity and the dims time, y and x, and z in three
        dimensions. Times and places of a forecast are the
        same if they are no further apart than a thousandth of the interval and of the cell; labels of trajectories are
        the same or not.
    correlation_threshold : float, default 0.8
        The correlation below which a forecast counts as lost, for the correlation time.
    metrics : sequence of str, optional
        Names from `METRICS` and `ENSEMBLE_METRICS` to score besides `ALWAYS_SCORED`; by default all.

    Returns
    -------
    xr.Dataset
        By source, time and perhaps wavenumber: each metric under its name, the mean over trajectories, and
        `NAME_spread`, the standard deviation over trajectories. Ensemble metrics are NaN for a forecast without members
        and missing if no forecast has members.

        By source: `nrmse_first_step`, the nRMSE at the first time after the start; `nrmse_mean`, its mean over the
        times after the start; `nrmse_geometric_mean`, exp(mean of ln nRMSE) over the same times, in which a factor at
        early times counts as much as at late ones (Koehler et al. 2024, APEBench, arXiv:2411.00180, "GMean"); training
        chooses the best weights by it too.

        By source and trajectory: `correlation_time`, the first time after the start at which the correlation is below
        the threshold, and `correlation_time_censored`, True where it never was, so that the time is a lower bound. By
        source: their medians `correlation_time_median` and `correlation_time_median_censored`, a lower bound for at
        least half of the trajectories.

    Raises
    ------
    UsageError
        If a forecast does not have the truth's trajectories, times, grid, fields or units, or an argument is not valid.

    Examples
    --------
    >>> import fluidsurrogate as fs
    >>> import numpy as np
    >>> import xarray as xr
    >>> cells = (np.arange(16) + 0.5) / 16
    >>> noise = np.random.default_rng(0).standard_normal((2, 3, 16, 16))
    >>> truth = xr.Dataset(
    ...     {"vorticity": (("trajectory", "time", "y", "x"), noise)},
    ...     {"time": [0.0, 0.5, 1.0], "y": cells, "x": cells},
    ... )
    >>> forecast = truth.where(truth["time"] == 0, 1.1 * truth)  # right at the start, then 10 % too strong
    >>> scores = fs.compare({"too strong": forecast}, truth)
    >>> scores["nrmse"].sel(source="too strong").values.round(3).tolist()
    [0.0, 0.1, 0.1]
    >>> float(scores["nrmse_mean"].round(3).item()), float(scores["correlation_time_median"].item())
    (0.1, 1.0)
    """
    _check_arguments(forecasts, correlation_threshold, metrics)
    truth = _with_dims(truth, "the truth")
    if not {"vorticity", "velocity"} & set(field_names(truth)):
        raise UsageError("cannot compare: the truth has no variable 'vorticity' or 'velocity'")
    box_sides(truth)
    optional = [key for key in METRICS if key not in ALWAYS_SCORED]
    wanted = [*ALWAYS_SCORED, *(key for key in optional if metrics is None or key in metrics)]
    checked = {
        name: align_to_truth(_with_dims(forecast, repr(name), ("member",)), truth, repr(name))
        for name, forecast in forecasts.items()
    }
    if broken := int((finite(truth, truth) < 1).any("time").sum()):
        log.warning(f"the truth: {broken} of {truth.sizes['trajectory']} trajectories hold NaN or infinite values; "
                    "scores there, and means over them, are NaN: leave these trajectories or times out")  # fmt: skip
    scored = [_score(name, control_or_mean(forecast), truth, correlation_threshold, wanted)
              for name, forecast in checked.items()]  # fmt: skip
    names = np.array(list(forecasts), dtype=object)  # Zarr has no settled form for strings of fixed length
    source = xr.Variable("source", names, {"long_name": "source of the forecast"})
    scores = xr.concat(scored, source)
    if (scores["nrmse"].isel(time=0) > START_TOLERANCE).all():
        log.warning(
            f"no forecast is at the truth's state at the first time, {scores['time'].values[0]}, which counts as the "
            "start and enters no mean: if the start is missing, include it in forecasts and truth"
        )
    ensembles = {name: forecast for name, forecast in checked.items() if "member" in forecast.dims}
    wanted = [key for key in ENSEMBLE_METRICS if metrics is None or key in metrics]
    if ensembles and wanted:
        parts = [_score_ensemble(forecast, truth, wanted) for forecast in ensembles.values()]
        together = xr.concat(parts, source[[list(forecasts).index(name) for name in ensembles]], join="outer")
        scores = scores.assign(together.reindex(source=scores["source"]).drop_vars("source").data_vars)
    scores.attrs = {"Conventions": "CF-1.11", "correlation_threshold": correlation_threshold}
    viscosity = truth.attrs.get("viscosity")
    if "z" in truth.dims and isinstance(viscosity, int | float | np.number):
        scores.attrs["viscosity"] = float(viscosity)  # the figure of scores draws the dissipation
    return scores


def _check_arguments(forecasts: object, correlation_threshold: object, metrics: object) -> None:
    # A Dataset is a mapping too, of variables, and a string a sequence of names of one letter.
    if not isinstance(forecasts, Mapping) or isinstance(forecasts, xr.Dataset):
        raise UsageError(f"forecasts must be Datasets by name, {{'model': forecast}} (got {type(forecasts).__name__})")
    if not forecasts:
        raise UsageError("nothing to compare: no forecasts were given")
    if metrics is not None and (isinstance(metrics, str) or not isinstance(metrics, Sequence)):
        raise UsageError(f"metrics must be a list of names, ['nrmse'] (got {metrics!r})")
    if unknown := sorted(set(metrics or ()) - {*METRICS, *ENSEMBLE_METRICS}):
        known = ", ".join([*sorted(METRICS), *sorted(ENSEMBLE_METRICS)])
        raise UsageError(f"unknown metric {unknown[0]!r}; one of {known}")
    if not isinstance(correlation_threshold, int | float | np.floating) or not -1 <= correlation_threshold <= 1:
        raise UsageError(f"correlation_threshold must be a number between -1 and 1 (got {correlation_threshold!r})")


@np.errstate(divide="ignore", invalid="ignore")  # infinite errors, and the logarithm of no error
def _score(name: str, forecast: xr.Dataset, truth: xr.Dataset, threshold: float, wanted: Sequence[str]) -> xr.Dataset:
    """Return the scores of one forecast."""
    variables: dict[str, xr.DataArray] = {}
    by_trajectory = {key: METRICS[key](forecast, truth).load() for key in wanted}  # lazy ones: one after the other
    for key, values in by_trajectory.items():
        variables[key] = values.mean("trajectory", skipna=False, keep_attrs=True)
        variables[f"{key}_spread"] = values.std("trajectory", skipna=False, keep_attrs=True)
    if float(variables["finite"].min()) < 1:
        broken = int((by_trajectory["finite"].min("time") < 1).sum())
        log.warning(f"{name}: {broken} of {truth.sizes['trajectory']} forecasts turned non-finite; scored as infinite")
    error = variables["nrmse"].isel(time=slice(1, None))
    variables["nrmse_first_step"] = error.isel(time=0, drop=True)
    variables["nrmse_mean"] = error.mean("time", skipna=False, keep_attrs=True)
    logarithm = xr.ufuncs.log(error).mean("time", skipna=False)
    variables["nrmse_geometric_mean"] = xr.ufuncs.exp(logarithm).assign_attrs(error.attrs)
    times, censored = correlation_time(by_trajectory["correlation"], threshold)
    variables["correlation_time"], variables["correlation_time_censored"] = times, censored
    variables["correlation_time_median"] = times.median("trajectory", keep_attrs=True)
    variables["correlation_time_median_censored"] = censored.mean("trajectory", keep_attrs=True) >= 0.5
    return xr.Dataset(variables)


@np.errstate(invalid="ignore")
def _score_ensemble(forecast: xr.Dataset, truth: xr.Dataset, wanted: Sequence[str]) -> xr.Dataset:
    """Return the ensemble scores of one forecast with members."""
    variables: dict[str, xr.DataArray] = {}
    for key in wanted:
        values = ENSEMBLE_METRICS[key](forecast, truth).load()
        if "trajectory" in values.dims:
            variables[f"{key}_spread"] = values.std("trajectory", skipna=False, keep_attrs=True)
            values = values.mean("trajectory", skipna=False, keep_attrs=True)
        variables[key] = values
    return xr.Dataset(variables).drop_vars("perturbed", errors="ignore")


def _with_dims(dataset: object, name: str, more: Sequence[str] = ()) -> xr.Dataset:
    """Return the dataset with a dim `trajectory`, without coordinates that scores do not need, and with labels that
    Zarr can store. Its fields may have the dims in `more` besides `DIMS`."""
    if not isinstance(dataset, xr.Dataset):
        raise UsageError(f"cannot compare: {name} must be an xarray Dataset (got {type(dataset).__name__})")
    for dim in ("time", *spatial_dims(dataset)):
        if dim not in dataset.dims or dim not in dataset.coords:
            raise UsageError(f"cannot compare: {name} has no dimension {dim!r} with a coordinate")
    if dataset.sizes["time"] < 2:
        raise UsageError(f"cannot compare: {name} has one time only, the start")
    if "trajectory" not in dataset.dims:
        dataset = dataset.expand_dims("trajectory")
    for field in field_names(dataset):
        if extra := [dim for dim in dataset[field].dims if dim not in (*DIMS, *more)]:
            raise UsageError(f"cannot compare: {field!r} of {name} has the dimension {extra[0]!r}: select one of it")
        if "trajectory" not in dataset[field].dims:
            raise UsageError(f"cannot compare: {field!r} of {name} has no dimension 'trajectory', but {name} does")
    dataset = dataset.drop_vars([key for key in dataset.coords if key not in (*DIMS, *ENSEMBLE_COORDINATES)])
    return dataset.assign_coords({key: c.astype(object) for key, c in dataset.coords.items() if c.dtype.kind == "U"})
