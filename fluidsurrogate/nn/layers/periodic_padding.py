"""Circular padding: how a periodic array is extended past its sides."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

# Where planes are padded into memory with the channels last, which every layer up to the next padding then keeps:
# oneDNN convolves rows of channels faster. On one core a training step takes 0.8 to 0.95 times as long, a forecast 0.7
# to 0.9 times; single flows of 32 x 32 cells gain nothing (`experiments/training_speed`).
CHANNELS_LAST_DEVICES = {"cpu"}


def pad_periodically(x: Tensor, pad: int) -> Tensor:
    """Extend a periodic array on every side, for a kernel that reaches as many cells.

    Parameters
    ----------
    x : Tensor
        Shape (batch, channel, [z,] y, x).
    pad : int
        Cells to add on each side.

    Returns
    -------
    Tensor
        Shape (batch, channel, [z + 2 pad,] y + 2 pad, x + 2 pad).

    Raises
    ------
    ValueError
        If the kernel reaches across the whole grid.
    """
    if pad > min(x.shape[2:]):
        raise ValueError(f"a kernel that reaches {pad} cells does not fit a grid of {tuple(x.shape[2:])}")
    if not pad:
        return x
    return CircularPad.apply(x, pad) if x.requires_grad else circular_pad(x, pad)


def circular_pad(x: Float[Tensor, "batch channel *space"], pad: int) -> Float[Tensor, "batch channel *padded"]:
    """Extend a periodic array on every side.

    Parameters
    ----------
    x : Tensor
        Shape (batch, channel, [z,] y, x).
    pad : int
        Cells to add on each side.

    Returns
    -------
    Tensor
        Shape (batch, channel, [z + 2 pad,] y + 2 pad, x + 2 pad).
    """
    if x.ndim != 4 or x.device.type not in CHANNELS_LAST_DEVICES or torch.compiler.is_compiling():
        return F.pad(x, (pad, pad) * (x.ndim - 2), mode="circular")
    batch, channels, height, width = x.shape
    out = x.new_empty(batch, height + 2 * pad, width + 2 * pad, channels).permute(0, 3, 1, 2)
    rows = out.narrow(3, pad, width)
    rows.narrow(2, pad, height).copy_(x)
    rows.narrow(2, 0, pad).copy_(x.narrow(2, height - pad, pad))
    rows.narrow(2, pad + height, pad).copy_(x.narrow(2, 0, pad))
    out.narrow(3, 0, pad).copy_(out.narrow(3, width, pad))
    out.narrow(3, pad + width, pad).copy_(out.narrow(3, pad, pad))
    return out


class CircularPad(torch.autograd.Function):
    """`circular_pad` with a faster gradient.

    The gradient adds the padded strips back where they came from. torch's own copies and clears the whole gradient for
    each strip, which takes a tenth of a training step.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, pad: int) -> Tensor:
        """Extend a periodic array on every side.

        Parameters
        ----------
        x : Tensor
            Shape (batch, channel, [z,] y, x).
        pad : int
            Cells to add on each side, at least 1.

        Returns
        -------
        Tensor
            Shape (batch, channel, [z + 2 pad,] y + 2 pad, x + 2 pad).
        """
        return circular_pad(x, pad)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        """Keep the number of added cells for the backward pass.

        Parameters
        ----------
        ctx : FunctionCtx
            Context of the call.
        inputs : tuple
            Arguments of `forward`.
        output : Tensor
            Result of `forward`.
        """
        ctx.pad = inputs[1]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        """Add the gradient of the padded strips to the gradient of the cells that they are copies of.

        Parameters
        ----------
        ctx : FunctionCtx
            Context of the call.
        gradient : Tensor
            Gradient with respect to the extended array.

        Returns
        -------
        tuple of (Tensor, None)
            Gradient with respect to the array; the number of cells has none.
        """
        p = ctx.pad
        for axis in range(2 - gradient.ndim, 0):
            cells = gradient.shape[axis] - 2 * p
            inner = gradient.narrow(axis, p, cells).clone()
            inner.narrow(axis, cells - p, p).add_(gradient.narrow(axis, 0, p))
            inner.narrow(axis, 0, p).add_(gradient.narrow(axis, p + cells, p))
            gradient = inner
        return gradient, None
