"""The registry of training losses, and what a loss is given besides the states."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from fluidsurrogate.nn.shapes import Trajectories
from solvers import StateSpec


class LossContext(NamedTuple):
    """The scales that a loss measures errors by.

    Parameters
    ----------
    spec : StateSpec
        Grid and fields of the states.
    change : Tensor
        RMS change of each component over the forecast step, shape (component, [1,] 1, 1), in the component's units.
    band : tuple of int
        Largest mode numbers, (my, mx) or (mz, my, mx), that change in the training data.
    """

    spec: StateSpec
    change: Tensor
    band: tuple[int, ...]


Loss = Callable[[Trajectories, Trajectories, LossContext], Tensor]
LOSSES: dict[str, Loss] = {}


def loss(function: Loss) -> Loss:
    """Register a training loss under the function's name, as a value of `train.loss`.

    A loss must not depend on the orientation or position of the states: every group element and every shift of the
    box leaves it as it is. `tests/fluidsurrogate/test_losses.py` checks the group for each registered loss.

    Parameters
    ----------
    function : callable
        Function (predicted, truth, context) → Tensor. Both states have shape (batch, time, component, [z,] y, x) and
        physical units, `context` is a `LossContext`, and the result is a scalar.

    Returns
    -------
    callable
        The function itself.

    Examples
    --------
    >>> from fluidsurrogate.nn.losses import LOSSES, loss
    >>> @loss
    ... def mean_absolute(predicted, truth, context):
    ...     return ((predicted - truth) / context.change).abs().mean()
    >>> LOSSES.pop("mean_absolute") is mean_absolute  # registered; removed again, as this is an example
    True
    """
    LOSSES[function.__name__] = function
    return function
