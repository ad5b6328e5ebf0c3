"""The mean square error in units of the change."""

from __future__ import annotations

from torch import Tensor

from fluidsurrogate.nn.losses.registry import LossContext, loss
from fluidsurrogate.nn.shapes import Trajectories


@loss
def change(predicted: Trajectories, truth: Trajectories, context: LossContext) -> Tensor:
    r"""Compute the mean square error in units of the RMS change c of a step.

    .. math:: \left\langle \frac{|\hat x - x|^2}{c^2} \right\rangle

    Parameters
    ----------
    predicted : Tensor
        Predicted states, shape (batch, time, component, [z,] y, x).
    truth : Tensor
        True states, of the same shape.
    context : LossContext
        Scales of the errors.

    Returns
    -------
    Tensor
        Scalar.
    """
    return ((predicted - truth) / context.change).square().mean()
