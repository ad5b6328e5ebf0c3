"""The mean relative error over bands of wavenumbers."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from fluidsurrogate.nn.losses.norms import mean_relative_error, squared_norms, wavenumber_magnitude
from fluidsurrogate.nn.losses.registry import LossContext, loss
from fluidsurrogate.nn.shapes import Trajectories
from solvers import Grid

BANDS = 3


@loss
def bands(predicted: Trajectories, truth: Trajectories, context: LossContext) -> Tensor:
    r"""Compute the mean relative error over three bands of wavenumbers.

    .. math:: \frac{1}{3} \sum_{b=1}^{3} \left\langle
        \sqrt{\frac{\sum_{k \in b} |\hat e_k|^2}{\sum_{k \in b} |\hat x_k|^2}} \right\rangle

    The bands are thirds of log k up to the largest wavenumber that changes, so that the smallest scales count like the
    largest.

    Parameters
    ----------
    predicted : Tensor
        Predicted states, shape (batch, time, component, [z,] y, x).
    truth : Tensor
        True states, of the same shape.
    context : LossContext
        Grid and fields of the states, and the largest modes that change.

    Returns
    -------
    Tensor
        Scalar.
    """
    fields, errors = context.spec.fields, []
    for inside in _masks(context.spec.grid, context.band, predicted.device, predicted.dtype):
        errors.append(
            mean_relative_error(squared_norms(predicted - truth, fields, inside), squared_norms(truth, fields, inside))
        )
    return torch.stack(errors).mean()


@lru_cache(maxsize=8)  # computed at every step, they would have to be copied to a GPU, which waits for them
def _masks(grid: Grid, largest: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Return one for each mode in a band and zero for the others, band by band."""
    with torch.inference_mode(False):
        k = wavenumber_magnitude(grid)
        highest = max(m * max(grid.length) / side for m, side in zip(largest, grid.length, strict=True))
        band = (BANDS * k.clamp(min=1).log() / math.log(max(highest, 2.0))).floor().clamp(max=BANDS - 1)
        return tuple(((band == number) & (k > 0)).to(device, dtype) for number in range(BANDS))
