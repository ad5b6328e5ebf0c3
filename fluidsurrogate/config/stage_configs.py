"""The tables that do not depend on the kind of flow or model: `[grid]`, `[data]`, `[train]` and `[compare]`."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from fluidsurrogate.config.base import Config
from fluidsurrogate.config.solver_configs import BaselineSolverConfig
from fluidsurrogate.evaluation.ensemble_metrics import ENSEMBLE_METRICS
from fluidsurrogate.evaluation.metrics import METRICS
from fluidsurrogate.nn.losses import LOSSES
from solvers import Grid, point_group

MIN_MEMBERS = 3  # the unperturbed one and two others, which have a spread
MIN_CALIBRATION_STARTS = 20  # of which a quantile is taken
Count = Annotated[int, Field(ge=1)]
Trajectories = Annotated[int, Field(ge=1, le=10**7)]  # the list of more blocks would not fit in memory
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
UnrollStages = Annotated[tuple[Count, ...], BeforeValidator(lambda value: _parse_unroll(value))]


class GridConfig(Config):
    """The table `[grid]`: the cells of the solver and those of the stored states.

    Parameters
    ----------
    n : int or tuple of int
        Number of cells of the solver, one number, (y, x) or (z, y, x).
    length : float or tuple of float
        Sides of the box in m, one number, (y, x) or (z, y, x).
    store : int or tuple of int, optional
        Number of cells of what is stored and learnt, one number, (y, x) or (z, y, x). By default `n`.
    dimensions : {2, 3}, optional
        Number of dimensions. By default as many as `n`, `length` or `store` have entries, and 2 if they are numbers.
    """

    n: int | tuple[int, ...]
    length: float | tuple[float, ...] = 2 * math.pi
    store: int | tuple[int, ...] | None = None
    dimensions: Literal[2, 3] | None = None

    @model_validator(mode="after")
    def _check(self):
        """Refuse a stored grid that is finer than the solver's, or of another shape."""
        for name, value in (("n", self.n), ("length", self.length), ("store", self.store)):
            if isinstance(value, tuple) and len(value) not in (2, 3):
                raise ValueError(f"{name} must be one number, [y, x] or [z, y, x] (got {list(value)})")
        fine, stored = self.build(), self.build_stored()
        if any(a > b for a, b in zip(stored.n, fine.n, strict=True)) or not have_same_symmetry(stored, fine):
            what = "square" if fine.dimensions == 2 else "equal on two axes"
            raise ValueError(
                f"store must be at most n along each axis, and {what} if and only if n is (got {self.store})"
            )
        return self

    def build(self) -> Grid:
        """Build the solver's grid.

        Returns
        -------
        Grid
            The grid.
        """
        return Grid.box(self.n, self.length, self._dimensions)

    def build_stored(self) -> Grid:
        """Build the grid of the stored states.

        Returns
        -------
        Grid
            The grid.
        """
        return Grid.box(self.store or self.n, self.length, self._dimensions)

    @property
    def _dimensions(self) -> int:
        """Number of dimensions, given or that of the first key that is no single number."""
        counts = [len(value) for value in (self.n, self.length, self.store) if isinstance(value, tuple)]
        return self.dimensions or (counts[0] if counts else 2)


def have_same_symmetry(grid: Grid, other: Grid) -> bool:
    """Return whether the same rotations and mirrors map two grids of one box onto themselves.

    Parameters
    ----------
    grid, other : Grid
        The grids.

    Returns
    -------
    bool
        In two dimensions true if both are square or neither is.
    """
    return {g.matrix for g in point_group(grid)} == {g.matrix for g in point_group(other)}


class DataConfig(Config):
    """The table `[data]`: how many trajectories of which length are generated, or the user's own dataset.

    Parameters
    ----------
    train : int
        Number of training trajectories.
    valid : int
        Number of validation trajectories.
    test : int
        Number of test trajectories.
    steps : int
        Number of stored intervals of a trajectory.
    test_steps : int, optional
        Number of stored intervals of a test trajectory. By default `steps`.
    interval : float
        Time between two stored states, in s.
    state : {"vorticity", "velocity"}
        The field that is stored and learnt. In three dimensions it is the velocity.
    block : int
        Number of trajectories that are computed together. Blocks are padded to this size, which is one of the things
        that fix the last bits of the data.
    threads : int
        Number of threads of the generation, which fixes the last bits too. More than one pays on grids from about
        256 x 256 up.
    max_resolution_error : float, optional
        Data with a larger resolution error are refused.
    path : str, optional
        The user's own dataset, which is used in place of generated data.
    accept : bool, optional
        Whether that dataset is used although its check finds faults, or another reading of it that is better.
    """

    train: Trajectories
    valid: Trajectories
    test: Trajectories
    steps: Count
    test_steps: Count | None = None
    interval: Positive
    state: Literal["vorticity", "velocity"] = "vorticity"
    block: Count = 8
    threads: Count = 1
    max_resolution_error: Positive | None = None
    path: str | None = None
    accept: bool | None = None

    def intervals_in(self, split: str) -> int:
        """Return the number of stored intervals of the trajectories of a split.

        Parameters
        ----------
        split : {"train", "valid", "test"}
            The split.

        Returns
        -------
        int
            The number of intervals.
        """
        return self.steps if split in ("train", "valid") else self.test_steps or self.steps

    @property
    def stored_intervals(self) -> int:
        """Number of intervals on the time axis of the dataset: the most that any split has."""
        return max(self.steps, self.test_steps or 0)  # a dataset has one time axis, which `split_of` cuts


class TrainConfig(Config):
    """The table `[train]`: optimisation by AdamW with warm-up and cosine decay, loss and curriculum.

    Parameters
    ----------
    steps : int
        Number of training steps.
    batch : int
        Number of windows of a trajectory in a batch.
    learning_rate : float
        The largest learning rate.
    warmup : int
        Number of steps over which the learning rate grows from zero.
    weight_decay : float
        Weight decay of AdamW.
    clip : float
        The norm that gradients are clipped to.
    loss : str
        The name of a loss in `fluidsurrogate.nn.losses`.
    unroll : tuple of int
        Number of intervals in the loss, stage by stage: see `fluidsurrogate.training.curriculum`. One number k stands
        for (1, k).
    unroll_fraction : float
        Share of the steps for the stages after the first.
    push_forward : int
        Number of intervals that are forecast without gradients before those in the loss, after the first stage.
    noise : float
        White noise on the initial states, as a multiple of the RMS change over an interval.
    average : float
        Decay of the moving average of the weights; 0 for no average.
    precision : {"full", "bfloat16"}
        Precision of the network's convolutions.
    accumulate : int
        Number of parts of a batch that are in memory one after the other.
    compile : bool
        Whether the network is compiled by torch. On a CPU this gains nothing, and compiling takes ten to fifty
        seconds (experiments/training_speed/compiled.md).
    patience : int
        Number of validations without improvement after which training stops; 0 for never.
    valid_every : int
        Number of steps between two validations.
    checkpoint_every : int
        Number of steps between two checkpoints.
    loaders : int
        Number of processes that read ahead from disk; 0 to hold the data in memory.
    tensorboard : bool
        Whether a log for TensorBoard is written.
    workers : int
        Number of models that are trained at the same time.
    threads : int
        Number of threads of each worker.
    """

    steps: Count = 1000
    batch: Count = 16
    learning_rate: Positive = 3e-3
    warmup: Annotated[int, Field(ge=0)] = 50
    weight_decay: NonNegative = 1e-2
    clip: Positive = 1.0
    loss: str = "change"
    unroll: UnrollStages = (1, 3)
    unroll_fraction: Annotated[float, Field(ge=0, le=1)] = 0.2
    push_forward: Annotated[int, Field(ge=0)] = 0
    noise: NonNegative = 0.0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Literal["full", "bfloat16"] = "full"
    accumulate: Count = 1
    compile: bool = False
    patience: Annotated[int, Field(ge=0)] = 0
    valid_every: Count = 100
    checkpoint_every: Count = 100
    loaders: Annotated[int, Field(ge=0)] = 0
    tensorboard: bool = False
    workers: Count = 2
    threads: Count = 1

    @model_validator(mode="after")
    def _check(self):
        """Refuse an unknown loss, and keys that do not fit together."""
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; one of {', '.join(LOSSES)}")
        if self.unroll == ():
            raise ValueError("unroll must name at least one number of intervals")
        if self.push_forward and not self.unroll_fraction:
            raise ValueError(
                "push_forward needs unroll_fraction > 0: it applies to the last unroll_fraction of the steps"
            )
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate must divide batch = {self.batch} (got {self.accumulate})")
        return self

    @property
    def unroll_stages(self) -> tuple[int, tuple[int, ...]]:
        """Number of intervals in the loss at first, and in each later stage."""
        return self.unroll[0], self.unroll[1:] or self.unroll

    @property
    def longest_span(self) -> int:
        """Number of intervals from the first to the last state of the longest rollout in training."""
        first, later = self.unroll_stages
        return max(self.push_forward + max(later), first) if self.unroll_fraction else first


class CompareConfig(Config):
    """The table `[compare]`: how forecasts are scored, and what is compared beside the models.

    Parameters
    ----------
    correlation_threshold : float
        The correlation below which a forecast counts as lost, for the correlation time.
    metrics : tuple of str, optional
        Metrics beside those that are always scored. By default all.
    members : int, optional
        Number of members of each model's ensemble forecast. By default there are no ensembles.
    calibration_starts : int
        Number of fresh initial states on which a model without calibration is calibrated.
    solvers : tuple of BaselineSolverConfig
        Baseline solvers beside the one on the stored grid, which is always compared.
    """

    correlation_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.8
    metrics: tuple[str, ...] | None = None
    members: Annotated[int, Field(ge=MIN_MEMBERS)] | None = None
    calibration_starts: Annotated[int, Field(ge=MIN_CALIBRATION_STARTS)] = 32
    solvers: tuple[BaselineSolverConfig, ...] = ()

    @model_validator(mode="after")
    def _check(self):
        """Refuse an unknown metric."""
        known = [*METRICS, *ENSEMBLE_METRICS]
        if unknown := sorted(set(self.metrics or ()) - set(known)):
            raise ValueError(f"unknown metric {unknown[0]!r}; one of {', '.join(known)}")
        return self


def _parse_unroll(value: Any) -> Any:
    """Return (1, k) for one number k, and a tuple for a list, because a frozen tree holds no lists."""
    if isinstance(value, list):
        return tuple(value)
    return (1, value) if type(value) is int else value
