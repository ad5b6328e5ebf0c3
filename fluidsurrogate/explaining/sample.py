"""The pairs of states, an interval apart, that a model is explained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import xarray as xr
from torch import Tensor

from fluidsurrogate.auditing.samples import select_test_trajectories
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.conversion import to_inputs, to_states
from solvers import StateSpec
from solvers.array_types import State

MAX_PAIRS = 64


class LeftOutError(Exception):
    """A measurement that a model or its data cannot have; the message is the reason."""


@dataclass(frozen=True)
class Sample:
    """States of a flow, and the states one interval later.

    Parameters
    ----------
    before : Tensor
        Shape (batch, component, y, x), in physical units and double precision.
    after : Tensor
        The true states one interval later, of the same shape; empty if the data hold no two times.
    inputs : dict of str to Tensor, or None
        The inputs of each state by name, each (batch, component, y, x).
    """

    before: State
    after: Tensor
    inputs: dict[str, Tensor] | None

    def first(self, count: int) -> Sample:
        """Return the first states.

        Parameters
        ----------
        count : int
            How many.

        Returns
        -------
        Sample
            The first `count` states, or all if there are fewer.
        """
        inputs = None if self.inputs is None else {name: value[:count] for name, value in self.inputs.items()}
        return Sample(self.before[:count], self.after[:count], inputs)

    def require_after(self) -> Tensor:
        """Return the true next states.

        Returns
        -------
        Tensor
            Shape (batch, component, y, x).

        Raises
        ------
        LeftOutError
            If there are none.
        """
        if not len(self.after):
            raise LeftOutError("the data hold no two states one interval apart")
        return self.after


def select_pairs(spec: StateSpec, data: xr.Dataset) -> Sample:
    """Select pairs of states one interval apart from the test trajectories of a dataset.

    Parameters
    ----------
    spec : StateSpec
        What the states must be.
    data : Dataset
        Trajectories. Of up to eight test trajectories the same times are taken, spread over the whole duration.

    Returns
    -------
    Sample
        Up to 64 pairs.

    Raises
    ------
    UsageError
        If grid, fields, inputs or interval are not those of `spec`, or the dataset is empty.
    """
    data = select_test_trajectories(data)
    states = to_states(data, spec, torch.float64)
    if not states.numel():
        raise UsageError("the dataset holds no states")
    inputs = to_inputs(data, spec, torch.float64)
    trajectories, times = states.shape[:2]
    count = min(max(times - 1, 1), max(MAX_PAIRS // trajectories, 1))
    chosen = torch.linspace(0, max(times - 2, 0), count).round().long()
    after = states[:, chosen + 1] if times > 1 else states[:, :0]
    repeated = {name: value.repeat_interleave(count, 0) for name, value in inputs.items()}
    return Sample(states[:, chosen].flatten(0, 1), after.flatten(0, 1), repeated or None)
