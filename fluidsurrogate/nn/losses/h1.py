"""The relative H1 error."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from fluidsurrogate.nn.losses.norms import mean_relative_error, squared_norms, wavenumber_magnitude
from fluidsurrogate.nn.losses.registry import LossContext, loss
from fluidsurrogate.nn.shapes import Trajectories
from solvers import Grid


@loss
def h1(predicted: Trajectories, truth: Trajectories, context: LossContext) -> Tensor:
    r"""Compute the relative error in the Sobolev norm H1 (Li et al. 2022, arXiv:2106.06898).

    .. math:: \lVert f \rVert^2 = \sum_k (1 + |k|^2) |\hat f_k|^2

    k counts waves across the longer side of the box. Gradients count too, and so the small scales.

    Parameters
    ----------
    predicted : Tensor
        Predicted states, shape (batch, time, component, [z,] y, x).
    truth : Tensor
        True states, of the same shape.
    context : LossContext
        Grid and fields of the states.

    Returns
    -------
    Tensor
        Scalar.
    """
    fields, weight = context.spec.fields, _weight(context.spec.grid, predicted.device, predicted.dtype)
    return mean_relative_error(squared_norms(predicted - truth, fields, weight), squared_norms(truth, fields, weight))


@lru_cache(maxsize=8)  # computed at every step, it would have to be copied to a GPU, which waits for it
def _weight(grid: Grid, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the weight of each mode."""
    with torch.inference_mode(False):
        return 1 + wavenumber_magnitude(grid).square().to(device, dtype)
