"""Calibrate a model: how large its perturbations must be, and how far its forecasts are off, on fresh starts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.config.stage_configs import MIN_CALIBRATION_STARTS, MIN_MEMBERS
from fluidsurrogate.core.errors import UsageError, check_integer
from fluidsurrogate.core.files import check_writable, read_json
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.progress import Progress
from fluidsurrogate.data.conversion import to_inputs, to_states
from fluidsurrogate.data.readers import as_dataset
from fluidsurrogate.evaluation.ensemble_members import control_or_mean, perturbed_members
from fluidsurrogate.evaluation.ensemble_metrics.spread import normalised_spread
from fluidsurrogate.evaluation.metrics.normalised_rmse import nrmse
from fluidsurrogate.models.calibration import Calibration, PerturbationConfig
from fluidsurrogate.models.forecasting import check_dataset, perturbed_forecast
from fluidsurrogate.models.model_files import CONFIG, WEIGHTS
from fluidsurrogate.models.perturbations import Perturbation, one_step_errors
from fluidsurrogate.models.provenance import experiment_of
from fluidsurrogate.models.saving import hash_weights, save
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.simulation.batch_sizes import check_free_memory
from fluidsurrogate.simulation.stored_fields import simulate_dataset
from fluidsurrogate.simulation.trajectory_blocks import Block

SPLIT = "calibration"  # of the seeds: no start is one of training, validation or test
BLOCK = 32  # starts forecast together
ROUNDS = 2  # of fitting the size of the perturbation
Parts = Callable[[int, int], Iterator[xr.Dataset]]  # trajectories from a number to another, some at a time


@dataclass(frozen=True)
class ForecastErrors:
    """Of forecasts, each (start, lead), all relative: of the unperturbed member and its members' spread over its own
    rms, which is what is known at the time of a forecast; of the members' mean and their spread over the truth's."""

    single: np.ndarray
    spread: np.ndarray
    mean: np.ndarray
    spread_of_truth: np.ndarray

    @classmethod
    def together(cls, parts: list[ForecastErrors]) -> ForecastErrors:
        """Those of several blocks."""
        return cls(*(np.concatenate([getattr(p, key) for p in parts]) for key in cls.__dataclass_fields__))

    def ratio(self, exponent: np.ndarray) -> np.ndarray:
        """Error over spread^exponent: 0 where that is infinite, and with it the bound."""
        spread = self.spread**exponent
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(np.isinf(spread) | (self.single == 0), 0.0, self.single / spread)

    def exponent(self) -> np.ndarray:
        """How the error goes with the spread from start to start, by lead: the slope of its logarithm on the
        spread's, by least squares, between 0 and 1."""
        known = np.isfinite(self.single) & np.isfinite(self.spread) & (self.single > 0) & (self.spread > 0)
        y, x = (np.log(np.where(known, values, 1.0)) for values in (self.single, self.spread))
        count = np.maximum(known.sum(0), 1)
        y, x = (np.where(known, v - np.where(known, v, 0.0).sum(0) / count, 0.0) for v in (y, x))
        return np.clip((x * y).sum(0) / np.maximum((x**2).sum(0), 1e-300), 0.0, 1.0)

    def spread_skill(self) -> np.ndarray:
        """Spread over the error of the mean by lead, the root of the ratio of the sums of squares; inf where neither
        is finite."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.nan_to_num(np.sqrt((self.spread_of_truth**2).sum(0) / (self.mean**2).sum(0)), nan=np.inf)


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
    """The model with a `Calibration`, which `save` writes beside it.

    The truth is made by the classical solver of the model's experiment, from starts of its flow that are none of
    training, validation or test; or it is `data`: the trajectories that its coordinate `split` does not call "train" or
    "valid", each from its first time. `starts` of them fix the quantiles; before these an eighth as many, from 8 to
    128, fix the perturbation and the exponents, so that the quantiles are of forecasts that nothing was
    fitted to. `steps` intervals (default: those of the experiment's test trajectories, or of the data); `members`
    with the unperturbed one, perturbed by `seed`.

    `to` is the folder to write to: one that holds the model gets the calibration.json, a new one a copy of the model
    with it.

    The size makes spread and error of the members' mean agree in the geometric mean over the leads.
    UsageError for numbers out of range, a model that does not say where it comes from, data that do not fit; and,
    before any work, for a folder `to` that cannot be written or holds something else.
    """
    if not isinstance(model, Surrogate):
        raise UsageError(f"give a model, as fs.load and fs.train do (got {type(model).__name__})")
    starts, members = (
        check_integer("starts", starts, MIN_CALIBRATION_STARTS),
        check_integer("members", members, MIN_MEMBERS),
    )
    steps = None if steps is None else check_integer("steps", steps, 1)
    if not 0 < coverage < 1 or math.ceil((starts + 1) * coverage) > starts:
        raise UsageError(f"coverage must be between 0 and {starts / (starts + 1):.3g}, as {starts} starts allow "
                         f"(got {coverage:g})")  # fmt: skip
    to = None if to is None else as_path(to)
    if to is not None:
        check_place(to, model)
    fitted_on = min(max(starts // 8, 8), 128)
    if data is None:
        experiment = experiment_of(model)
        check_memory(model, fitted_on, members, steps or experiment.data.intervals_in(SPLIT))
        parts, source = from_solver(experiment, steps), f"the classical solver, split {SPLIT!r}"
    else:
        parts, source = from_data(as_dataset(data), model, starts + fitted_on, steps), "a dataset of the user's"
    with Progress((1 + ROUNDS) * fitted_on + starts, "calibrate", "starts") as progress:
        truth = list(parts(0, fitted_on))
        perturbation, exponent = fit(model, truth, members, seed, progress)
        errors = forecast_errors(model, perturbation, parts(fitted_on, fitted_on + starts), members, seed, progress)
    calibrated = copy.copy(model)
    calibrated.calibration = Calibration(
        perturbation=PerturbationConfig(**asdict(perturbation)),
        members=members,
        coverage=coverage,
        starts=starts,
        factor_starts=fitted_on,
        nrmse=quantiles(errors.single, coverage),
        ratio=quantiles(errors.ratio(exponent), coverage),
        exponent=tuple(map(float, exponent)),
        spread_skill=tuple(map(float, errors.spread_skill())),
        source=source,
        weights=hash_weights(model),
    )
    if to is not None and _holds(to, model):
        calibrated.calibration.write(to)
    elif to is not None:
        save(calibrated, to)
    return calibrated


def check_place(to: Path, model: Surrogate) -> None:
    """UsageError where a calibrated model cannot be written to the folder `to`, which is read-only or holds something
    else than this model."""
    if not _holds(to, model) and to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"{to} exists already and is no folder of this model: name a new one")
    check_writable(to)


def _holds(folder: Path, model: Surrogate) -> bool:
    """True for a folder of a model with these weights."""
    config = read_json(folder / CONFIG)
    hashes = config.get("sha256") if isinstance(config, dict) else None
    return isinstance(hashes, dict) and hashes.get(WEIGHTS) == hash_weights(model)


def fit(
    model: Surrogate, truth: list[xr.Dataset], members: int, seed: int, progress: Progress
) -> tuple[Perturbation, np.ndarray]:
    """Spectrum and memory as the one-step errors have them; then the factor by `ROUNDS` of scaling it by the error over
    the spread, in the geometric mean over the leads: the spread is nearly in proportion to it. And the exponents."""
    dtype = model.dtype
    states = [to_states(part, model.spec, dtype) for part in truth]
    inputs = [to_inputs(part, model.spec, dtype) for part in truth]
    spectra, memory = one_step_errors(model, states, inputs)
    progress.update(sum(map(len, states)))
    perturbation = Perturbation(spectra, memory)
    for _ in range(ROUNDS):
        errors = forecast_errors(model, perturbation, iter(truth), members, seed, progress)
        found = errors.spread_skill()
        found = found[np.isfinite(found) & (found > 0)]
        if len(found):
            perturbation = replace(perturbation, factor=perturbation.factor / float(np.exp(np.log(found).mean())))
    return perturbation, errors.exponent()


def forecast_errors(
    model: Surrogate,
    perturbation: Perturbation,
    truth: Iterator[xr.Dataset],
    members: int,
    seed: int,
    progress: Progress,
) -> ForecastErrors:
    """Forecast every trajectory from its first time, and score it."""
    parts = []
    for part in truth:
        forecast = perturbed_forecast(model, part, part.sizes["time"] - 1, members, perturbation, seed=seed)
        alone, others = control_or_mean(forecast), perturbed_members(forecast)
        mean = others.mean("member", skipna=False)
        found = nrmse(alone, part), normalised_spread(others, alone), nrmse(mean, part), normalised_spread(others, part)
        parts.append(ForecastErrors(*(f.transpose("trajectory", "time").values[:, 1:] for f in found)))
        progress.update(part.sizes["trajectory"])
    return ForecastErrors.together(parts)


def check_memory(model: Surrogate, fitted_on: int, members: int, steps: int) -> None:
    """UsageError where the trajectories that the fit is on and the members of a block have no room in memory."""
    state = 8 * model.spec.components * math.prod(model.spec.grid.n)
    needed = state * (steps + 1) * (fitted_on + BLOCK * members)
    check_free_memory(needed, f"{steps} steps and {members} members", "give fewer")


def quantiles(errors: np.ndarray, coverage: float) -> tuple[float, ...]:
    """The ⌈(n + 1) coverage⌉-th smallest of n errors at each lead: with probability `coverage` or more, another that is
    exchangeable with them is no larger (Angelopoulos & Bates 2021, arXiv:2107.07511, section 1)."""
    rank = math.ceil((len(errors) + 1) * coverage)
    return tuple(map(float, np.sort(errors, axis=0)[rank - 1]))


def from_solver(experiment: Experiment, steps: int | None, split: str = SPLIT) -> Parts:
    """Trajectories of the experiment's flow, by their numbers in a split of their own."""
    if experiment.data.path:
        raise UsageError(
            "the model was trained on a dataset of the user's; give --data trajectories that it has not seen"
        )
    tree: dict[str, Any] = experiment.tree()
    tree["data"] |= {"steps": steps or experiment.data.intervals_in(split), "block": BLOCK}
    tree["data"].pop("test_steps", None)
    longer = Experiment.from_tree({**tree, "train": {"unroll_fraction": 0.0}}, "the model's experiment")
    solver = longer.build_solver()

    def parts(first: int, last: int) -> Iterator[xr.Dataset]:
        for start_or_resume in range(first, last, BLOCK):
            yield simulate_dataset(
                longer, solver, Block(split, start_or_resume, min(BLOCK, last - start_or_resume), start_or_resume)
            )

    return parts


def from_data(data: xr.Dataset, model: Surrogate, count: int, steps: int | None) -> Parts:
    """Trajectories of a dataset that the model was not trained on; UsageError where they are too few or too short."""
    check_dataset(model, data)
    if "trajectory" not in data.dims or "time" not in data.dims:
        raise UsageError("data to calibrate on need the dimensions trajectory and time")
    if "split" in data.coords:
        data = data.isel(trajectory=np.flatnonzero(~np.isin(data["split"].values.astype(str), ("train", "valid"))))
    length = steps or data.sizes["time"] - 1
    if data.sizes["trajectory"] < count or data.sizes["time"] <= max(length, 1):
        raise UsageError(
            f"{count} trajectories of {max(length, 1)} intervals, not of training or validation, are needed; the data "
            f"have {data.sizes['trajectory']} of {data.sizes['time'] - 1}: give --starts and --steps"
        )
    data = data.isel(time=slice(0, length + 1))

    def parts(first: int, last: int) -> Iterator[xr.Dataset]:
        for start_or_resume in range(first, last, BLOCK):
            yield data.isel(trajectory=slice(start_or_resume, min(start_or_resume + BLOCK, last))).load()

    return parts
