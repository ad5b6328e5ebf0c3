"""The tables of an experiment that are the same whatever its flow and models: grid, data, training, comparison."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from fluidsurrogate.config.base import Config
from fluidsurrogate.config.solver_configs import ComparedSolverConfig
from fluidsurrogate.evaluation.ensemble_metrics import ENSEMBLE_METRICS
from fluidsurrogate.evaluation.metrics import METRICS
from fluidsurrogate.nn.losses import LOSSES
from solvers import Grid

FEWEST_MEMBERS = 3  # the unperturbed one and two others, which have a spread
FEWEST_STARTS = 20  # of which a quantile is taken
Count = Annotated[int, Field(ge=1)]
Trajectories = Annotated[int, Field(ge=1, le=10**7)]  # a plan of more would not fit in memory
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Stages = Annotated[tuple[Count, ...], BeforeValidator(lambda value: _stages(value))]


class GridConfig(Config):
    """`n` cells and side `length`, one number or [y, x]; `store` cells in what is stored and learnt, if not `n`."""

    n: int | tuple[int, int]
    length: float | tuple[float, float] = 2 * math.pi
    store: int | tuple[int, int] | None = None

    @model_validator(mode="after")
    def _check(self):
        fine, stored = self.build(), self.build_stored()
        if any(a > b for a, b in zip(stored.n, fine.n, strict=True)) or stored.is_square != fine.is_square:
            raise ValueError(f"store must be no finer than n and of its shape (got {self.store})")
        return self

    def build(self) -> Grid:
        """The solver's grid."""
        return Grid.rectangle(self.n, self.length)

    def build_stored(self) -> Grid:
        """The grid of the stored states."""
        return Grid.rectangle(self.store or self.n, self.length)


class DataConfig(Config):
    """Numbers of trajectories by split, of stored intervals, and the time between them; `test_steps` intervals of the
    test trajectories, if not `steps`; `state`, what is stored and learnt of the flow; or a dataset of the user's."""

    train: Trajectories
    valid: Trajectories
    test: Trajectories
    steps: Count
    test_steps: Count | None = None
    interval: Positive
    state: Literal["vorticity", "velocity"] = "vorticity"
    block: Count = 8  # trajectories computed together, padded to this size: part of what fixes the last bits
    threads: Count = 1  # likewise; more than one pays on grids from some 256 x 256 up
    max_resolution_error: Positive | None = None  # `generate` refuses data that are less well resolved
    path: str | None = None

    def steps_of(self, split: str) -> int:
        """Intervals of the trajectories of a split."""
        return self.steps if split in ("train", "valid") else self.test_steps or self.steps

    @property
    def stored_steps(self) -> int:
        """Intervals of all trajectories as they are stored: a dataset has one time axis, `split_of` cuts it."""
        return max(self.steps, self.test_steps or 0)


class TrainConfig(Config):
    """Optimisation: AdamW with warm-up and cosine decay, on a loss of `fluidsurrogate.nn.losses` over what
    `fluidsurrogate.training.curriculum` asks: `unroll`, `unroll_fraction`, `push_forward`, `noise`."""

    steps: Count = 1000
    batch: Count = 16
    learning_rate: Positive = 3e-3
    warmup: Annotated[int, Field(ge=0)] = 50
    weight_decay: NonNegative = 1e-2
    clip: Positive = 1.0
    loss: str = "change"
    unroll: Stages = (1, 3)  # intervals of the loss by stages; k alone: 1, then k
    unroll_fraction: Annotated[float, Field(ge=0, le=1)] = 0.2  # of the steps, for the stages after the first
    push_forward: Annotated[int, Field(ge=0)] = 0
    noise: NonNegative = 0.0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0  # decay of the moving average of the weights; 0: none
    precision: Literal["full", "bfloat16"] = "full"  # of the network's convolutions
    accumulate: Count = 1  # parts of a batch in memory one after the other
    compile: bool = False
    patience: Annotated[int, Field(ge=0)] = 0  # validations without a better one until training stops; 0: never
    valid_every: Count = 100
    checkpoint_every: Count = 100
    loaders: Annotated[int, Field(ge=0)] = 0  # processes that read ahead from disk; 0: the data are held in memory
    tensorboard: bool = False
    workers: Count = 2  # models trained at a time
    threads: Count = 1  # threads each

    @model_validator(mode="after")
    def _check(self):
        if self.loss not in LOSSES:
            raise ValueError(f"unknown loss {self.loss!r}; one of {', '.join(LOSSES)}")
        if self.unroll == ():
            raise ValueError("unroll must name at least one number of intervals")
        if self.push_forward and not self.unroll_fraction:
            raise ValueError("push_forward is for the last unroll_fraction of the steps, which is 0")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate must divide batch = {self.batch} (got {self.accumulate})")
        return self

    @property
    def stages(self) -> tuple[int, tuple[int, ...]]:
        """Intervals unrolled at first, and in each later stage."""
        return self.unroll[0], self.unroll[1:] or self.unroll

    @property
    def reach(self) -> int:
        """Intervals from the start to the end of the longest rollout in training."""
        first, later = self.stages
        return max(self.push_forward + max(later), first) if self.unroll_fraction else first


class CompareConfig(Config):
    """How forecasts are scored: `metrics` beside those that always are (absent: all there are); `members` of each
    model's forecasts (absent: none), of a model that is not calibrated yet by `calibration_starts` fresh starts;
    `solvers` that forecast too, beside the one on the stored grid, which always does."""

    correlation_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.8
    metrics: tuple[str, ...] | None = None
    members: Annotated[int, Field(ge=FEWEST_MEMBERS)] | None = None
    calibration_starts: Annotated[int, Field(ge=FEWEST_STARTS)] = 32
    solvers: tuple[ComparedSolverConfig, ...] = ()

    @model_validator(mode="after")
    def _check(self):
        known = [*METRICS, *ENSEMBLE_METRICS]
        if unknown := sorted(set(self.metrics or ()) - set(known)):
            raise ValueError(f"unknown metric {unknown[0]!r}; one of {', '.join(known)}")
        return self


def _stages(value: Any) -> Any:
    """One number of intervals stands for 1, then that many; a list becomes what a frozen tree holds."""
    if isinstance(value, list):
        return tuple(value)
    return (1, value) if type(value) is int else value
