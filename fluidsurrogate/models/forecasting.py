"""Forecasts of a trained model from the states in a Dataset: in memory, as an ensemble, or written to a Zarr folder."""

from __future__ import annotations

import hashlib
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr
from torch import Tensor

from fluidsurrogate.config.stage_configs import MIN_MEMBERS
from fluidsurrogate.core.errors import UsageError, check_integer
from fluidsurrogate.core.memory import check_free_memory
from fluidsurrogate.data.conversion import read_states, stack_members, to_dataset, to_inputs
from fluidsurrogate.data.coordinates import select_time
from fluidsurrogate.data.flow_constants import check_constants
from fluidsurrogate.data.layout import trajectory_coordinates, trajectory_labels
from fluidsurrogate.data.schema import check_matches
from fluidsurrogate.models.bfloat16 import bfloat16_warning
from fluidsurrogate.models.calibration import DEFAULT_LEVEL
from fluidsurrogate.models.perturbations import (
    GaussianRandomField,
    Perturbation,
    PerturbedStepper,
    member_seeds,
    perturbed_rollout,
)
from fluidsurrogate.models.regridding import APPLIED_TO_GRID, OTHER_GRID_HINT, TRAINED_ON_GRID
from fluidsurrogate.models.saving import hash_weights, metadata_of
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.simulation.initial_states import InitialStates
from fluidsurrogate.simulation.rollout import rollout_in_batches
from fluidsurrogate.simulation.zarr_rollout import write_rollout
from solvers.array_types import State

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("fluidsurrogate")


def forecast(
    model: Surrogate,
    dataset: xr.Dataset,
    steps: int,
    start_time: float | None = None,
    members: int = 1,
    seed: int = 0,
    level: float = DEFAULT_LEVEL,
    precision: str | None = None,
) -> xr.Dataset:
    """Forecast every trajectory of a Dataset with a trained model.

    Parameters
    ----------
    model : Surrogate
        The trained model.
    dataset : Dataset
        Initial states (trajectory, time, y, x): the fields and inputs of `model.spec` on its grid.
    steps : int
        Number of intervals to forecast.
    start_time : float, optional
        The stored time to start from; by default the first one.
    members : int
        1 for a single forecast; at least 3 for an ensemble of perturbed members of a calibrated model, as in
        `perturbed_forecast`. A model of k networks (`models.NAME.networks`) takes 1, which gives the mean of its
        networks, or k: then member 0 is that mean, and members 1 to k are the forecasts of the networks.
    seed : int
        Seed of the perturbations of the members.
    level : float
        Value of the error bound up to which the forecast counts as predictable.
    precision : {"full", "bfloat16"}, optional
        Precision of the network, by default that of the model, which is full. In bfloat16 a `gunet` takes 0.6 of the
        time on a CPU with AMX (`lscpu` names amx_bf16), and as long or longer on other CPUs; `gcnn` and `cnn`, whose
        gates are computed in C++ in full precision, take longer everywhere. Everything but the network stays in single
        precision; symmetries hold to the rounding of bfloat16. If training has recorded that the error grows by more
        than 5 %, or nothing, there is a warning in the log.

    Returns
    -------
    Dataset
        The forecast (trajectory, time, y, x) with steps + 1 times, the initial state first; trajectories keep their
        coordinates. With members: (trajectory, member, time, y, x) and, for a calibrated model, the `error_bound` of
        member 0 and the `horizon`, the last time up to which the bound is at most `level`: see
        `Calibration.add_error_bound`.

    Raises
    ------
    UsageError
        If grid, fields, inputs, interval or constants are not the model's, `start_time` is not a stored time, members
        are asked of a model that is not calibrated, or bfloat16 of a model in double precision or of several networks.

    Examples
    --------
    >>> import fluidsurrogate as fs
    >>> experiment = fs.Experiment.from_tree({
    ...     "name": "example",
    ...     "grid": {"n": 16},
    ...     "flow": {"kind": "decaying", "viscosity": 0.02, "wavenumber": 2},
    ...     "data": {"train": 2, "valid": 1, "test": 1, "steps": 4, "interval": 0.25},
    ...     "models": {"small": {"kind": "cnn", "width": 4, "dilations": [1]}},
    ...     "train": {"steps": 2, "batch": 2, "unroll": 1},
    ... })
    >>> data = fs.generate(experiment)
    >>> model = fs.train(experiment, data)["small"]
    >>> forecast = fs.forecast(model, data, steps=3)
    >>> forecast["vorticity"].sizes["time"]
    4
    >>> forecast["time"].values.tolist()
    [0.0, 0.25, 0.5, 0.75]
    """
    model = _in_precision(model, precision)
    if check_integer("members", members) == 1:
        return _single_forecast(model, dataset, steps, start_time)
    if (networks := model.config.networks) > 1:
        if members != networks:
            raise UsageError(f"this model has {networks} networks: members must be 1 or {networks} (got {members})")
        return _forecast_of_each_network(model, dataset, steps, start_time)
    if model.calibration is None:
        raise UsageError("members need a calibrated model, whose errors are known: run fluidsurrogate calibrate FOLDER")
    if not level > 0:
        raise UsageError(f"level must be positive (got {level:g})")
    perturbation = model.calibration.perturbation.build()
    ensemble = perturbed_forecast(model, dataset, steps, members, perturbation, start_time, seed)
    return model.calibration.add_error_bound(ensemble, level)


def perturbed_forecast(
    model: Surrogate,
    dataset: xr.Dataset,
    steps: int,
    members: int,
    perturbation: Perturbation,
    start_time: float | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Forecast an ensemble: an unperturbed member, and others that are perturbed at the start and before every step.

    The random numbers depend on `seed`, the member and the trajectory's label only, not on what else is forecast.

    Parameters
    ----------
    model : Surrogate
        A model of one network.
    dataset : Dataset
        Initial states, as for `forecast`.
    steps : int
        Number of intervals to forecast.
    members : int
        Number of members, the unperturbed one included; at least 3.
    perturbation : Perturbation
        Spectra, memory and size of the perturbations.
    start_time : float, optional
        The stored time to start from; by default the first one.
    seed : int
        Seed of the perturbations.

    Returns
    -------
    Dataset
        Fields (trajectory, member, time, y, x); member 0 is unperturbed, as the coordinate `perturbed` says.

    Raises
    ------
    UsageError
        If there are fewer than 3 members, or the model has several networks, whose members are its networks.
    """
    if check_integer("members", members) < MIN_MEMBERS:
        raise UsageError(f"members must be 1, or at least {MIN_MEMBERS}: a spread needs two perturbed members "
                         f"(got {members})")  # fmt: skip
    if model.config.networks > 1:  # each network goes its own way from a state that none of them is in
        raise UsageError(
            "a model of several networks has no perturbed members: give fs.forecast the number of networks as members"
        )
    _check_memory(model, dataset, steps, members)
    unperturbed = _single_forecast(model, dataset, steps, start_time)
    states, inputs = _read_start(model, select_time(dataset, start_time, model.spec.interval))
    seeds = member_seeds(seed, trajectory_labels(unperturbed), members)
    random_field = GaussianRandomField(model.spec, model.step.project, model.normalisation.band, perturbation.spectra)
    others = perturbed_rollout(PerturbedStepper(model, random_field, perturbation), states, steps, seeds, inputs)
    about = {"member_seed": seed, "perturbation_factor": perturbation.factor}
    return stack_members(model.spec, unperturbed, others).assign_attrs(about)


def forecast_to_zarr(
    model: Surrogate,
    dataset: xr.Dataset,
    steps: int,
    path: str | Path,
    *,
    start_time: float | None = None,
    keep_every: int = 1,
    batch: int | None = None,
    force: bool = False,
    dask: str | Client | None = None,
    precision: str | None = None,
) -> xr.Dataset:
    """Forecast any number of trajectories and steps into a Zarr folder, in bounded memory.

    The forecast is that of `forecast`, written while it runs. If the run is killed, the same call continues it, and the
    result has the same bits.

    Parameters
    ----------
    model : Surrogate
        The trained model.
    dataset : Dataset
        Initial states, as for `forecast`; it may be opened lazily and larger than memory.
    steps : int
        Number of intervals to forecast.
    path : str or Path
        The Zarr folder to write; its name ends in .zarr. With `dask` also an address, such as "s3://bucket/name.zarr".
    start_time : float, optional
        The stored time to start from; by default the first one.
    keep_every : int
        Store every `keep_every`-th interval only.
    batch : int, optional
        Number of trajectories at a time; by default what fits in memory.
    force : bool
        Replace a forecast of something else at `path`.
    dask : str or distributed.Client, optional
        A Dask cluster that computes the batches: the address of its scheduler, "local:N" for N workers on this machine,
        or a client. By default they are computed here.
    precision : {"full", "bfloat16"}, optional
        Precision of the network, as for `forecast`.

    Returns
    -------
    Dataset
        The forecast, opened lazily.

    Raises
    ------
    UsageError
        If the dataset does not fit the model, or `path` holds something else.
    """
    check_dataset(model, dataset)
    model = _in_precision(model, precision)
    starts = InitialStates(dataset, model.spec, start_time)
    return write_rollout(
        model, starts, steps, path, provenance=identity_of(model), keep_every=keep_every, batch=batch,
        attributes=forecast_attributes(model), force=force, dask=dask,
    )  # fmt: skip


def check_dataset(model: Surrogate, dataset: xr.Dataset) -> None:
    """Check that a dataset holds states that a model can advance.

    Parameters
    ----------
    model : Surrogate
        The trained model.
    dataset : Dataset
        States of a flow.

    Raises
    ------
    UsageError
        If grid, fields, inputs, interval, viscosity, drag or diffusivity are not the model's.
    """
    check_matches(dataset, model.spec, "" if model.base is not None else OTHER_GRID_HINT)  # a hybrid keeps to its grid
    check_flow_constants(model, dataset)


def check_flow_constants(model: Surrogate, dataset: xr.Dataset) -> None:
    """Check that a dataset does not state another viscosity, drag or diffusivity than a model was trained with.

    Parameters
    ----------
    model : Surrogate
        The trained model.
    dataset : Dataset
        States of a flow; what it does not state is taken on trust.

    Raises
    ------
    UsageError
        If a constant differs by more than single precision can tell.
    """
    check_constants(dataset, model.constants, "the model's flow", "train a model that takes {} as an input")


def forecast_attributes(model: Surrogate) -> dict[str, Any]:
    """Return the attributes with which every forecast of a model records its origin.

    Parameters
    ----------
    model : Surrogate
        The trained model.

    Returns
    -------
    dict of str to object
        Attributes of a Dataset.
    """
    flags = {key: model.about[key] for key in (TRAINED_ON_GRID, APPLIED_TO_GRID) if key in model.about}
    about = {f"model_{key}": value for key, value in model.about.items() if key not in flags}
    flags |= {} if model.precision == "full" else {"precision": model.precision}
    return {"source": "fluidsurrogate surrogate", **model.constants, **about, **flags}


def identity_of(model: Surrogate) -> dict[str, Any]:
    """Return everything but the initial states that the bits of a forecast depend on.

    Parameters
    ----------
    model : Surrogate
        The trained model.

    Returns
    -------
    dict of str to object
        Plain data; the weights as a hash.
    """
    identity = metadata_of(model) | {"multiple": model.multiple}
    if model.precision != "full":
        identity["precision"] = model.precision
    if model.base is not None:  # the solver follows from the experiment
        identity["base"] = hashlib.sha256(str(model.about["experiment"]).encode()).hexdigest()[:16]
    return identity | {"weights": hash_weights(model)[:16], "device": str(model.device)}


def _in_precision(model: Surrogate, precision: str | None) -> Surrogate:
    """Return the model in the precision that is asked for, with a warning if its error grows by it."""
    model = model if precision is None else model.in_precision(precision)
    if model.precision == "bfloat16" and (warning := bfloat16_warning(model)) is not None:
        log.warning(warning)
    return model


def _single_forecast(model: Surrogate, dataset: xr.Dataset, steps: int, start_time: float | None) -> xr.Dataset:
    """Forecast without members; of a deep ensemble, the mean of its networks."""
    steps = check_integer("steps", steps, 1)
    check_dataset(model, dataset)
    _check_memory(model, dataset, steps, model.config.networks)
    first = select_time(dataset, start_time, model.spec.interval)
    states, inputs = _read_start(model, first)
    rolled = rollout_in_batches(model, states, steps, inputs)
    if not rolled.isfinite().all():
        log.warning(f"{model.about.get('name', 'the model')}: the forecast holds values that are not finite")
    begin = float(first["time"].values.item()) if "time" in first.coords else 0.0
    return to_dataset(
        model.spec, rolled, start_time=begin, coordinates=trajectory_coordinates(dataset), inputs=inputs,
        attributes=forecast_attributes(model),
    )  # fmt: skip


def _forecast_of_each_network(
    model: Surrogate, dataset: xr.Dataset, steps: int, start_time: float | None
) -> xr.Dataset:
    """Forecast with the mean of a deep ensemble as member 0, and each of its networks as a further member."""
    mean = _single_forecast(model, dataset, steps, start_time)
    states, inputs = _read_start(model, select_time(dataset, start_time, model.spec.interval))
    rolled = rollout_in_batches(model.each_network(), states, steps, inputs, first_from_stepper=True)
    return stack_members(model.spec, mean, rolled.unflatten(0, (model.config.networks, -1)).transpose(0, 1))


def _check_memory(model: Surrogate, dataset: xr.Dataset, steps: int, members: int) -> None:
    """Raise UsageError if forecasts of so many steps and members do not fit in memory."""
    starts = dataset.sizes.get("trajectory", 1)
    state = model.dtype.itemsize * model.spec.components * math.prod(model.spec.grid.n)
    needed = 2 * state * starts * members * (steps + 1)
    advice = "give fewer, or write them while they run (fs.forecast_to_zarr)"
    check_free_memory(needed, f"{starts} starts, {members} members and {steps} steps", advice)


def _read_start(model: Surrogate, first: xr.Dataset) -> tuple[State, dict[str, Tensor]]:
    """Read states (on the model's device) and inputs from the one time of a checked dataset."""
    states = read_states(first, model.spec, model.dtype)[:, 0].to(model.device)
    return states, to_inputs(first, model.spec, model.dtype)
