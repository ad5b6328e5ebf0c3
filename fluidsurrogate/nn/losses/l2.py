"""The relative L2 error."""

from __future__ import annotations

from torch import Tensor

from fluidsurrogate.nn.losses.norms import mean_relative_error, squared_norms
from fluidsurrogate.nn.losses.registry import LossContext, loss
from fluidsurrogate.nn.shapes import Trajectories


@loss
def l2(predicted: Trajectories, truth: Trajectories, context: LossContext) -> Tensor:
    r"""Compute the relative L2 error (Li et al. 2021, arXiv:2010.08895).

    .. math:: \left\langle \frac{\lVert \hat x - x \rVert}{\lVert x \rVert} \right\rangle

    The mean is over batch, times and fields, so that a weak state counts like a strong one.

    Parameters
    ----------
    predicted : Tensor
        Predicted states, shape (batch, time, component, [z,] y, x).
    truth : Tensor
        True states, of the same shape.
    context : LossContext
        Fields of the states.

    Returns
    -------
    Tensor
        Scalar.
    """
    fields = context.spec.fields
    return mean_relative_error(squared_norms(predicted - truth, fields), squared_norms(truth, fields))
