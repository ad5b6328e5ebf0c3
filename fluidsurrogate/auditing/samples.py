"""The states that an audit looks at: from a dataset, from tensors, or from the classical solver."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import xarray as xr
from torch import Tensor

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.provenance import parse_json_attribute
from fluidsurrogate.data.conversion import to_inputs, to_states
from fluidsurrogate.data.readers import open_data
from fluidsurrogate.data.schema import check_matches
from fluidsurrogate.models.provenance import experiment_of
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.simulation.splits import split_of
from fluidsurrogate.simulation.stored_fields import simulate_dataset
from fluidsurrogate.simulation.trajectory_blocks import Block
from solvers import Resampled, StateSpec
from solvers.stepper import State

log = logging.getLogger("fluidsurrogate")
MOST = 8  # trajectories of a dataset
MADE, MADE_STEPS = 4, 4  # trajectories made here, and how many intervals long


@dataclass(frozen=True)
class AuditSample:
    """States (batch, component, y, x), double precision, with the inputs of each; the first `starts` begin rollouts."""

    states: State
    inputs: dict[str, Tensor] | None
    starts: int

    def first(self) -> AuditSample:
        """Where rollouts begin."""
        return self._cut(slice(0, self.starts))

    def last(self, count: int) -> AuditSample:
        """The last few: of a dataset, developed flow."""
        return self._cut(slice(-count, None))

    def to(self, like: Tensor) -> AuditSample:
        """States as `like` in precision and device, inputs on its device in the precision that they have."""
        moved = None if self.inputs is None else {name: v.to(like.device) for name, v in self.inputs.items()}
        return replace(self, states=self.states.to(like), inputs=moved)

    def _cut(self, which: slice) -> AuditSample:
        inputs = None if self.inputs is None else {name: value[which] for name, value in self.inputs.items()}
        return AuditSample(self.states[which], inputs, min(self.starts, len(self.states[which])))


def sample(spec: StateSpec, states: xr.Dataset | Tensor, inputs: Mapping[str, Tensor] | None = None) -> AuditSample:
    """From a Dataset the first and the last stored state of its test trajectories (those that its coordinate `split`
    calls "test"; without one, of all), eight at most, with their inputs; a tensor as it is, with its `inputs`.

    UsageError where grid, fields, interval or shapes are not those of `spec`.
    """
    if isinstance(states, Tensor):
        given = None if inputs is None else dict(inputs)
        try:
            (replace(spec, inputs=()) if given is None else spec).check(states, given)
        except ValueError as error:
            raise UsageError(str(error)) from None
        if not len(states) or not all(v.isfinite().all() for v in (states, *(given or {}).values())):
            raise UsageError("the states are empty, or hold NaN or infinite values")
        return AuditSample(states.double(), given, len(states))
    if inputs is not None:
        raise UsageError("inputs go with states as tensors; those of a dataset are its variables")
    if "split" in states.coords and states["split"].dims == ("trajectory",):
        states = states.isel(trajectory=(states["split"] == "test").values)
        if not states.sizes["trajectory"]:
            raise UsageError("the dataset has no trajectories for the split 'test'")
    if "trajectory" in states.dims:
        states = states.isel(trajectory=slice(0, MOST))
    check_matches(states, spec)
    count = states.sizes.get("time", 0)
    times = [states.isel(time=[i]) for i in sorted({0, count - 1})] if count else [states]
    values = to_inputs(states, spec, torch.float64)
    repeated = {name: torch.cat([value] * len(times)) for name, value in values.items()}
    parts = [to_states(part, spec, torch.float64)[:, 0] for part in times]
    return AuditSample(torch.cat(parts), repeated or None, len(parts[0]))


def states_of(model: Surrogate) -> xr.Dataset:
    """States like those that a surrogate was trained on: the dataset that its experiment names, or a few test
    trajectories of it, made again by the classical solver: seconds on the grids of the examples."""
    experiment = experiment_of(model)
    if experiment.data.path:
        path = as_path(experiment.data.path)
        if not path.exists():
            raise UsageError(f"{path}, which the model was trained on, is not there; give --data a dataset")
        return split_of(open_data(path), "test", experiment)
    count = min(MADE, experiment.data.test)
    log.info(f"audit: {count} trajectories of {MADE_STEPS} intervals from the classical solver")
    tree = experiment.tree()
    tree["data"] |= {"test": count, "steps": MADE_STEPS, "block": count}
    tree["data"].pop("test_steps", None)
    few = Experiment.from_tree({**tree, "train": {"unroll_fraction": 0.0}}, "the model's experiment")
    return simulate_dataset(few, few.build_solver(), Block("test", 0, count, 0))


def _is_of_own_data(model: Surrogate) -> bool:
    """True of a model that was given, from Python, a dataset that says of no experiment that it made it."""
    provenance = parse_json_attribute(model.about.get("provenance")) or {}
    return provenance.get("data") == {"fingerprint": "unknown"}


def solver_of(model: Surrogate, spec: StateSpec) -> Resampled | None:
    """The classical solver behind a surrogate's data, on the surrogate's grid; None where the model does not say, where
    the flow is stirred at random, or where its data were of another kind, or a user's own: no one knows their flow."""
    try:
        experiment = experiment_of(model)
    except UsageError:
        return None
    if experiment.data.path or _is_of_own_data(model):
        log.info("audit: no angles of a classical solver: the model was trained on data of your own, not of a solver")
        return None
    if experiment.spec != spec:
        return None
    stirred = experiment.build_solver().stirring is not None
    return None if stirred else Resampled(experiment.build_stepper(), spec.grid)
