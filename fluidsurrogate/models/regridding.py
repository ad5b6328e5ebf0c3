"""A trained step on another grid than it was trained on: what changes, what may, and what is said of it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.schema import describe_grid
from fluidsurrogate.models.normalisation import Normalisation
from solvers import Grid, Group, StateSpec, Stepper, point_group

HINT = "; model.on(grid), or --other-grid on the command line, applies it there, untested"
TRAINED, APPLIED = "trained_on_grid", "applied_to_grid"  # in the attributes of what comes of it


def moved_normalisation(normalisation: Normalisation, old: Grid, new: Grid) -> Normalisation:
    """The scaling with the band of the same physical wavenumbers: mode numbers in proportion to the sides of the box,
    as far as the new grid has them. What was no band on the old grid, all its modes, is one on finer cells."""
    sides = zip(normalisation.band, old.n, old.length, new.n, new.length, strict=True)
    my, mx = (_most(min(most, n // 2) * to / side, cells) for most, n, side, cells, to in sides)
    return replace(normalisation, band=(my, mx))


def _most(modes: float, cells: int) -> int:
    return min(cells // 2, math.floor(modes * (1 + 1e-6) + 1e-6))  # sides read off coordinates are not exact


def check_group(group: Group, grid: Grid, spec: StateSpec) -> None:
    """UsageError where a model's group is no symmetry of the grid and of the fields of `spec` on it."""
    largest = point_group(grid, spec.fields)
    if not largest.contains(group):
        raise UsageError(f"the model's group {group.name} is no symmetry of {describe_grid(grid)} ({largest.name})")


def check_applies(stepper: Stepper, like: Tensor) -> None:
    """UsageError where a step cannot be taken on its grid: one is, in the dtype and on the device of `like`."""
    spec = stepper.spec
    state = like.new_zeros(1, spec.components, *spec.grid.n)
    inputs = {field.name: like.new_zeros(1, field.components, *field.extent(spec.grid)) for field in spec.inputs}
    try:
        with torch.no_grad():
            shape = stepper(state, inputs).shape
    except Exception as error:  # a module of the user's raises whatever it likes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"the model cannot be applied to {describe_grid(spec.grid)}: {reason}") from None
    if shape != state.shape:
        raise UsageError(f"the model gives {tuple(shape)} on {describe_grid(spec.grid)}, not a state of it")
