"""True trajectories of a model's flow, for a start or a calibration: from the solver, or a dataset of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError, check_integer
from fluidsurrogate.models.forecasting import check_dataset
from fluidsurrogate.models.provenance import experiment_of
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.simulation.stored_fields import simulate_dataset
from fluidsurrogate.simulation.trajectory_blocks import Block

SIMULATION_SPLIT = "simulation"
CALIBRATION_SPLIT = "calibration"  # seeds of its own: no initial state is one of training, validation or test
BLOCK_SIZE = 32  # trajectories simulated and forecast together
# Yields the trajectories from a first number to a last one (excluded), in blocks.
TrajectorySource = Callable[[int, int], Iterator[xr.Dataset]]


def trajectories_from_solver(
    experiment: Experiment, steps: int | None, split: str = CALIBRATION_SPLIT
) -> TrajectorySource:
    """Return a source of new trajectories of an experiment's flow, made by its classical solver.

    Parameters
    ----------
    experiment : Experiment
        The experiment that a model was trained in.
    steps : int or None
        Number of intervals of each trajectory; by default that of the experiment's test trajectories.
    split : str
        The initial states are drawn with seeds derived from this name.

    Returns
    -------
    callable
        Yields the trajectories from a first number to a last one (excluded), in blocks (trajectory, time, y, x).

    Raises
    ------
    UsageError
        If the experiment takes its data from a file, so that its solver did not make them.
    """
    longer = _with_length(experiment, steps or experiment.data.intervals_in(split), BLOCK_SIZE)
    solver = longer.build_solver()

    def trajectories(first: int, last: int) -> Iterator[xr.Dataset]:
        for begin in range(first, last, BLOCK_SIZE):
            yield simulate_dataset(longer, solver, Block(split, begin, min(BLOCK_SIZE, last - begin), begin))

    return trajectories


def _with_length(experiment: Experiment, steps: int, block: int) -> Experiment:
    """Return the experiment with trajectories of another length, computed so many at a time."""
    if experiment.data.path:
        raise UsageError(
            "the model was trained on a dataset of the user's, which no solver makes again: give trajectories that it "
            "has not seen (--data), or a start of your own (--start)"
        )
    tree: dict[str, Any] = experiment.tree()
    tree["data"] |= {"steps": steps, "block": block}
    tree["data"].pop("test_steps", None)
    return Experiment.from_tree({**tree, "train": {"unroll_fraction": 0.0}}, "the model's experiment")


def simulate(model: Surrogate, steps: int = 20, count: int = 1, seed: int = 0) -> xr.Dataset:
    """Simulate new trajectories of the flow that a model was trained on, with the classical solver.

    Forecasts can start from their first states, and be compared with the others.

    Parameters
    ----------
    model : Surrogate
        The trained model. Flow, grid and spin-up are those of the experiment that it records.
    steps : int
        Number of stored intervals of each trajectory.
    count : int
        Number of trajectories. Parameters of the flow that varied in training vary among them.
    seed : int
        Another seed gives other trajectories; none of them is in the data of the experiment.

    Returns
    -------
    Dataset
        The true states (trajectory, time, y, x), with the inputs of the model.

    Raises
    ------
    UsageError
        If a number is out of range, or the model records no experiment or one on a dataset of the user's.

    Examples
    --------
    >>> import fluidsurrogate as fs
    >>> truth = fs.simulate(fs.pretrained("decaying-2d"), steps=2, count=3)
    >>> dict(truth["vorticity"].sizes)
    {'trajectory': 3, 'time': 3, 'y': 32, 'x': 32}
    """
    steps, count = check_integer("steps", steps, 1), check_integer("count", count, 1)
    experiment = _with_length(experiment_of(model), steps, min(count, BLOCK_SIZE))
    # Compiling the C++ takes seconds the first time, longer than PyTorch's operations take for a few trajectories.
    experiment = experiment.model_copy(update={"solver": experiment.solver.model_copy(update={"kernel": "torch"})})
    solver, split = experiment.build_solver(), f"{SIMULATION_SPLIT} {check_integer('seed', seed, 0)}"
    parts = [  # `split` would name one that nobody asked for
        simulate_dataset(experiment, solver, Block(split, begin, min(BLOCK_SIZE, count - begin), begin)).drop_vars(
            "split", errors="ignore"
        )
        for begin in range(0, count, BLOCK_SIZE)
    ]
    return xr.concat(parts, "trajectory", data_vars="minimal", coords="minimal", compat="override", join="override")


def trajectories_from_dataset(data: xr.Dataset, model: Surrogate, count: int, steps: int | None) -> TrajectorySource:
    """Return a source of the trajectories of a dataset that are marked neither "train" nor "valid".

    Parameters
    ----------
    data : Dataset
        Trajectories (trajectory, time, y, x), perhaps with a coordinate `split`.
    model : Surrogate
        The model to calibrate.
    count : int
        Number of trajectories that are needed.
    steps : int or None
        Number of intervals that are needed; by default all that the dataset has.

    Returns
    -------
    callable
        Yields the trajectories from a first number to a last one (excluded), in blocks (trajectory, time, y, x).

    Raises
    ------
    UsageError
        If the dataset does not fit the model, or its trajectories are too few or too short.
    """
    check_dataset(model, data)
    if "trajectory" not in data.dims or "time" not in data.dims:
        raise UsageError(
            f"data to calibrate on need the dimensions trajectory and time (got {', '.join(map(str, data.dims))})"
        )
    if "split" in data.coords:
        data = data.isel(trajectory=np.flatnonzero(~np.isin(data["split"].values.astype(str), ("train", "valid"))))
    length = steps or data.sizes["time"] - 1
    if data.sizes["trajectory"] < count or data.sizes["time"] <= max(length, 1):
        raise UsageError(
            f"the calibration needs {count} trajectories of {max(length, 1)} intervals that were not used for training "
            f"or validation, and the data have {data.sizes['trajectory']} of {data.sizes['time'] - 1}: "
            "lower --starts or --steps"
        )
    data = data.isel(time=slice(0, length + 1))

    def trajectories(first: int, last: int) -> Iterator[xr.Dataset]:
        for begin in range(first, last, BLOCK_SIZE):
            yield data.isel(trajectory=slice(begin, min(begin + BLOCK_SIZE, last))).load()

    return trajectories
