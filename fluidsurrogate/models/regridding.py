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
OTHER_GRID_HINT = "; fs.move_to_grid(model, grid), or --other-grid on the command line, applies it there, untested"
TRAINED_ON_GRID, APPLIED_TO_GRID = "trained_on_grid", "applied_to_grid"  # attributes of forecasts on another grid


def move_to_grid(model: Surrogate, grid: Grid) -> Surrogate:
    """Apply the weights of a trained model on another grid.

    Forecasts say so in the attributes `trained_on_grid` and `applied_to_grid`.

    A convolution counts in cells. If the cells keep their size and the box grows, `cnn`, `gcnn`, `unet`, `gunet` and
    `steerable` do exactly what they did; only the flow feels the whole box, of which the networks now see a smaller
    part. If the cells change in the same box, these networks meet eddies of another size in cells than they learnt, and
    their forecasts go wrong: then a finer view of the coarse forecast, `Resampled(model, grid)`, is better. `fno`
    counts in waves across the box: finer cells in the same box are nearest to what it learnt. `gfno` counts in both.
    The change is cut off at the same physical wavenumber as before. Scores: `experiments/other_grid/results.md`.

    Parameters
    ----------
    model : Surrogate
        The trained model; it stays as it is.
    grid : Grid
        The grid to apply it on.

    Returns
    -------
    Surrogate
        The same weights on the other grid, not calibrated; the model itself if the grid is its own.

    Raises
    ------
    UsageError
        If the architecture cannot be applied to the grid (a U-Net needs sides that are multiples of 2^levels), the
        model's group is not a symmetry of the grid, the grid has another number of dimensions, or the model is a
        hybrid.
    """
    if not isinstance(grid, Grid):
        raise UsageError(f"give a grid, Grid.square(64) say, from solvers (got {type(grid).__name__})")
    if grid.dimensions != model.spec.grid.dimensions:
        raise UsageError(f"a model of {model.spec.grid.dimensions} dimensions cannot be applied to a grid of "
                         f"{grid.dimensions}: give one with axes ({', '.join(model.spec.grid.axes)})")  # fmt: skip
    if is_same_grid(model.spec.grid, grid):
        return model
    if model.base is not None:
        raise UsageError(
            "a hybrid cannot be moved to another grid, because its solver runs on the one it was trained on"
        )
    check_group(model.network.group, grid, model.spec)
    trained = str(model.about.get(TRAINED_ON_GRID, describe_grid(model.spec.grid)))
    applied = describe_grid(grid)
    normalisation = move_normalisation(model.normalisation, model.spec.grid, grid)
    about = {**model.about, TRAINED_ON_GRID: trained, APPLIED_TO_GRID: applied}
    moved = Surrogate(
        model.network, replace(model.stored, grid=grid), normalisation, model.config, about, multiple=model.multiple,
        constants=model.constants,
    )  # fmt: skip
    moved = moved.in_precision(model.precision)
    check_applicable(moved, model.step.scale)
    log.warning(f"{model.about.get('name', 'the model')}: trained on {trained}, applied to {applied}: untested there")
    return moved


def move_normalisation(normalisation: Normalisation, old: Grid, new: Grid) -> Normalisation:
    """Return the normalisation for another grid, with the band of the same physical wavenumbers.

    Mode numbers grow with the sides of the box, as far as the new grid has them. If the band held all modes of the old
    grid, it cuts off on finer cells.

    Parameters
    ----------
    normalisation : Normalisation
        That of the old grid.
    old, new : Grid
        The grids.

    Returns
    -------
    Normalisation
        With another band.
    """
    sides = zip(normalisation.band, old.n, old.length, new.n, new.length, strict=True)
    band = tuple(_largest_mode(min(most, n // 2) * to / side, cells) for most, n, side, cells, to in sides)
    return replace(normalisation, band=band)


def _largest_mode(mode: float, cells: int) -> int:
    """Return the largest whole mode number up to `mode` that so many cells resolve."""
    return min(cells // 2, math.floor(mode * (1 + 1e-6) + 1e-6))  # sides read off coordinates are not exact


def check_group(group: Group, grid: Grid, spec: StateSpec) -> None:
    """Check that the group of a model is a symmetry of a grid and of the fields on it.

    Parameters
    ----------
    group : Group
        The group of the model's network.
    grid : Grid
        The grid to apply it on.
    spec : StateSpec
        The fields.

    Raises
    ------
    UsageError
        If the group is not a subgroup of the grid's point group.
    """
    largest = point_group(grid, spec.fields)
    if not largest.contains(group):
        raise UsageError(
            f"the model's group {group.name} is not a symmetry of {describe_grid(grid)}, which has {largest.name}"
        )


def check_applicable(stepper: Stepper, like: Tensor) -> None:
    """Check that a stepper can take a step on its grid, by taking one.

    Parameters
    ----------
    stepper : Stepper
        The stepper.
    like : Tensor
        A tensor with the dtype and the device of the states.

    Raises
    ------
    UsageError
        If the step fails, or gives something of another shape.
    """
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
        raise UsageError(f"the model gives {tuple(shape)} on {describe_grid(spec.grid)}; expected {tuple(state.shape)}")
