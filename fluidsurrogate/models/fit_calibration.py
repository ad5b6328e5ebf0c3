"""Calibrate a model: fit the size of its perturbations and measure its forecast errors on new initial states."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import xarray as xr

from fluidsurrogate.config.stage_configs import MIN_CALIBRATION_STARTS, MIN_MEMBERS
from fluidsurrogate.core.errors import UsageError, check_integer
from fluidsurrogate.core.files import check_writable, read_json
from fluidsurrogate.core.memory import check_free_memory
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.progress import Progress
from fluidsurrogate.data.conversion import to_inputs, to_states
from fluidsurrogate.data.readers import as_dataset
from fluidsurrogate.models.calibration import Calibration, PerturbationConfig
from fluidsurrogate.models.forecast_errors import conformal_quantiles, forecast_errors
from fluidsurrogate.models.model_files import CONFIG_FILE, WEIGHTS_FILE
from fluidsurrogate.models.perturbations import Perturbation, one_step_error_statistics
from fluidsurrogate.models.provenance import experiment_of
from fluidsurrogate.models.saving import hash_weights, save
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.models.true_trajectories import (
    BLOCK_SIZE,
    CALIBRATION_SPLIT,
    trajectories_from_dataset,
    trajectories_from_solver,
)

FIT_ITERATIONS = 2  # of scaling the perturbation until spread and error agree


def calibrate(
    model: Surrogate,
    starts: int = 1000,
    steps: int | None = None,
    members: int = 8,
    coverage: float = 0.9,
    data: xr.Dataset | str | Path | None = None,
    seed: int = 0,
    to: str | Path | None = None,
) -> Surrogate:
    """Calibrate the forecasts of a model, so that they have perturbed members and an error bound.

    The model forecasts true trajectories that it has not seen. First, on an eighth as many as `starts` (8 to 128), the
    perturbation of the members is fitted such that spread and error of the members' mean agree in the geometric mean
    over the leads. Then the bounds are taken from the errors of `starts` other forecasts, to which nothing was fitted:
    see `Calibration`.

    Parameters
    ----------
    model : Surrogate
        The trained model; it stays as it is.
    starts : int
        Number of initial states that the bounds are measured on; at least 20.
    steps : int, optional
        Number of intervals to forecast; by default those of the experiment's test trajectories, or of `data`.
    members : int
        Number of members, the unperturbed one included; at least 3.
    coverage : float
        Probability with which the bound holds, above 0 and at most starts / (starts + 1).
    data : Dataset, str or Path, optional
        True trajectories, or the file or folder that holds them. Those marked "train" or "valid" by the coordinate
        `split` are left out, and each is forecast from its first time. By default the classical solver of the model's
        experiment makes new trajectories.
    seed : int
        Seed of the perturbations.
    to : str or Path, optional
        A folder to write to: calibration.json if the folder holds this model, else a copy of the model with it.

    Returns
    -------
    Surrogate
        The model with a calibration, which `save` writes beside the weights.

    Raises
    ------
    UsageError
        If a number is out of range, the data do not fit, or neither `data` nor the model's experiment gives
        trajectories; and, before any work, if `to` cannot be written or holds something else.
    """
    if not isinstance(model, Surrogate):
        raise UsageError(f"give a model, as fs.load and fs.train do (got {type(model).__name__})")
    starts = check_integer("starts", starts, MIN_CALIBRATION_STARTS)
    members = check_integer("members", members, MIN_MEMBERS)
    steps = None if steps is None else check_integer("steps", steps, 1)
    if not 0 < coverage < 1 or math.ceil((starts + 1) * coverage) > starts:
        raise UsageError(f"coverage must be between 0 and {starts / (starts + 1):.3g}, as {starts} starts allow "
                         f"(got {coverage:g})")  # fmt: skip
    to = None if to is None else as_path(to)
    if to is not None:
        check_destination(to, model)
    fitted_on = min(max(starts // 8, 8), 128)
    if data is None:
        experiment = experiment_of(model)
        _check_memory(model, fitted_on, members, steps or experiment.data.intervals_in(CALIBRATION_SPLIT))
        trajectories = trajectories_from_solver(experiment, steps)
        source = f"the classical solver, split {CALIBRATION_SPLIT!r}"
    else:
        trajectories = trajectories_from_dataset(as_dataset(data), model, starts + fitted_on, steps)
        source = "a dataset of the user's"
    with Progress((1 + FIT_ITERATIONS) * fitted_on + starts, "calibrate", "starts") as progress:
        truth = list(trajectories(0, fitted_on))
        perturbation, exponent = fit_perturbation(model, truth, members, seed, progress)
        truth_of_bounds = trajectories(fitted_on, fitted_on + starts)
        errors = forecast_errors(model, perturbation, truth_of_bounds, members, seed, progress)
    calibrated = copy.copy(model)
    calibrated.calibration = Calibration(
        perturbation=PerturbationConfig(**asdict(perturbation)),
        members=members,
        coverage=coverage,
        starts=starts,
        factor_starts=fitted_on,
        nrmse=conformal_quantiles(errors.error, coverage),
        ratio=conformal_quantiles(errors.error_over_spread(exponent), coverage),
        exponent=tuple(map(float, exponent)),
        spread_skill=tuple(map(float, errors.spread_skill())),
        source=source,
        weights=hash_weights(model),
    )
    if to is not None and _contains_model(to, model):
        calibrated.calibration.write(to)
    elif to is not None:
        save(calibrated, to)
    return calibrated


def check_destination(to: Path, model: Surrogate) -> None:
    """Check that a calibrated model can be written to a folder.

    Parameters
    ----------
    to : Path
        The folder; it need not exist.
    model : Surrogate
        The model to calibrate.

    Raises
    ------
    UsageError
        If the folder cannot be written, or holds something else than this model.
    """
    if not _contains_model(to, model) and to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"{to} exists already and is not a folder of this model: name a new one")
    check_writable(to)


def fit_perturbation(
    model: Surrogate, truth: list[xr.Dataset], members: int, seed: int, progress: Progress
) -> tuple[Perturbation, np.ndarray]:
    """Fit the perturbation of the members, and the exponents of their spread.

    Spectrum and memory are those of the model's one-step errors. The size is then multiplied `FIT_ITERATIONS` times by
    the error over the spread, in the geometric mean over the leads: the spread is nearly in proportion to it.

    Parameters
    ----------
    model : Surrogate
        The model to calibrate.
    truth : list of Dataset
        Blocks of true trajectories (trajectory, time, y, x).
    members : int
        Number of members, the unperturbed one included.
    seed : int
        Seed of the perturbations.
    progress : Progress
        Advanced by the number of trajectories, once and once for each iteration.

    Returns
    -------
    perturbation : Perturbation
        The fitted perturbation.
    exponent : ndarray
        Exponent of the spread at each lead, between 0 and 1.
    """
    dtype = model.dtype
    states = [to_states(block, model.spec, dtype) for block in truth]
    inputs = [to_inputs(block, model.spec, dtype) for block in truth]
    spectra, memory = one_step_error_statistics(model, states, inputs)
    progress.update(sum(map(len, states)))
    perturbation = Perturbation(spectra, memory)
    for _ in range(FIT_ITERATIONS):
        errors = forecast_errors(model, perturbation, truth, members, seed, progress)
        ratio = errors.spread_skill()
        ratio = ratio[np.isfinite(ratio) & (ratio > 0)]
        if len(ratio):
            perturbation = replace(perturbation, factor=perturbation.factor / float(np.exp(np.log(ratio).mean())))
    return perturbation, errors.fit_exponent()


def _contains_model(folder: Path, model: Surrogate) -> bool:
    """Return whether a folder holds a model with these weights."""
    config = read_json(folder / CONFIG_FILE)
    hashes = config.get("sha256") if isinstance(config, dict) else None
    return isinstance(hashes, dict) and hashes.get(WEIGHTS_FILE) == hash_weights(model)


def _check_memory(model: Surrogate, fitted_on: int, members: int, steps: int) -> None:
    """Raise UsageError if the trajectories of the fit and the members of a block do not fit in memory."""
    state = 8 * model.spec.components * math.prod(model.spec.grid.n)
    needed = state * (steps + 1) * (fitted_on + BLOCK_SIZE * members)
    check_free_memory(needed, f"{steps} steps and {members} members", "give fewer")
