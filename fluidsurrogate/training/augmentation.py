"""Data augmentation: each batch is moved by one element of a point group, drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from torch import Tensor

from fluidsurrogate.core.seeding import derive_seed
from solvers import StateSpec, act, act_on_fields, group_named


@final
@dataclass(frozen=True)
class Augmentation:
    """Random rotations and mirrors of batches, state and inputs together.

    Parameters
    ----------
    spec : StateSpec
        Types of the fields and inputs.
    group : str or None
        Name of the point group; None for no augmentation.
    seed : int
        Seed of the training.
    """

    spec: StateSpec
    group: str | None
    seed: int

    def __call__(self, states: Tensor, inputs: dict[str, Tensor], step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Move a batch by the group element that belongs to a training step.

        Parameters
        ----------
        states : Tensor
            Shape (batch, time, component, y, x) or (batch, time, component, z, y, x).
        inputs : dict of str to Tensor
            The inputs by name, each (batch, component, y, x) or (batch, component, z, y, x).
        step : int
            Number of the training step.

        Returns
        -------
        states : Tensor
            The moved states, of the same shape.
        inputs : dict of str to Tensor
            The moved inputs.
        """
        if self.group is None:
            return states, inputs
        elements = group_named(self.group, self.spec.grid.dimensions).elements
        g = elements[np.random.default_rng(derive_seed(self.seed, "augment", step)).integers(len(elements))]
        typed = {field.name: field for field in self.spec.inputs}
        return act_on_fields(self.spec.fields, states, g), {k: act(typed[k], v, g) for k, v in inputs.items()}
