"""Apply a trained model on another grid than it was trained on."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import torch
from torch import Tensor

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.grids import describe_grid, is_same_grid
from fluidsurrogate.models.normalisation import Normalisation
from fluidsurrogate.models.surrogate import Surrogate
from solvers import Grid, Group, StateSpec, Stepper, point_group

log = logging.getLogger("fluidsurrogate")
HINT = "; fs.move_to_grid(model, grid), or --other-grid on the command line, applies it there, untested"
TRAINED, APPLIED = "trained_on_grid", "applied_to_grid"  # in the attributes of what comes of it


def move_to_grid(model: Surrogate, grid: Grid) -> Surrogate:
    """Apply the weights of a trained model on another grid.

    Forecasts say so in the attributes `trained_on_grid` and `applied_to_grid`.

    A convolution counts in cells. Where the cells keep their size and the box grows, `cnn`, `gcnn`, `unet`, `gunet` and
    `steerable` do exactly what they did; only the flow feels the whole box, of which they now see less. Where the cells
    change in the same box, they meet eddies of another size in cells than they learnt, and go wrong: then a finer view
    of the coarse forecast, `Resampled(model, grid)`, is better. `fno` counts in waves across the box: finer
    cells in the same box are nearest to what it learnt. `gfno` counts in both. The change is cut off at the
    same physical wavenumber as before. Scores: `experiments/other_grid/results.md`.

    Parameters
    ----------
    model : Surrogate
        The trained model.
    grid : Grid
        The grid to apply it on.

    Returns
    -------
    Surrogate
        The same weights on the other grid, not calibrated; the model itself if the grid is its own.

    Raises
    ------
    UsageError
        If the architecture cannot (a U-Net needs sides that are multiples of 2^levels), the model's group is not a
        symmetry of the grid, or the model is a hybrid.
    """
    if not isinstance(grid, Grid):
        raise UsageError(f"give a grid, Grid.square(64) say, from solvers (got {type(grid).__name__})")
    if is_same_grid(model.spec.grid, grid):
        return model
    if model.base is not None:
        raise UsageError("a hybrid keeps to the grid that it was trained on: its solver is on that")
    check_group(model.network.group, grid, model.spec)
    trained, applied = str(model.about.get(TRAINED, describe_grid(model.spec.grid))), describe_grid(grid)
    normalisation = moved_normalisation(model.normalisation, model.spec.grid, grid)
    about = {**model.about, TRAINED: trained, APPLIED: applied}
    moved = Surrogate(
        model.network, replace(model.stored, grid=grid), normalisation, model.config, about, multiple=model.multiple,
        constants=model.constants,
    )  # fmt: skip
    check_applies(moved, model.step.scale)
    log.warning(f"{model.about.get('name', 'the model')}: trained on {trained}, applied to {applied}: untested there")
    return moved


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
