"""The relative H1 error."""

from __future__ import annotations

from torch import Tensor

from fluidsurrogate.nn.losses.norms import mean_relative_error, squared_norms, wavenumber_magnitude
from fluidsurrogate.nn.losses.registry import LossContext, loss
from fluidsurrogate.nn.shapes import Trajectories


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
    fields, weight = context.spec.fields, 1 + wavenumber_magnitude(context.spec.grid).square().to(predicted)
    return mean_relative_error(squared_norms(predicted - truth, fields, weight), squared_norms(truth, fields, weight))
