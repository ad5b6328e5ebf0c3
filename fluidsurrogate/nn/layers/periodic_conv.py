"""Convolution with circular padding on a periodic grid."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fluidsurrogate.nn.shapes import Kernel


def periodic_conv2d(x: Tensor, kernel: Kernel, dilation: int = 1) -> Tensor:
    """Convolve on a periodic grid and keep its size.

    Parameters
    ----------
    x : Tensor
        Shape (batch, channel, y, x).
    kernel : tuple of Tensor
        Weight of shape (channel_out, channel, size, size), with an odd size, and bias of shape (channel_out,).
    dilation : int
        Cells between neighbouring points of the kernel.

    Returns
    -------
    Tensor
        Shape (batch, channel_out, y, x).

    Raises
    ------
    ValueError
        If the kernel reaches across the whole grid.
    """
    weight, bias = kernel
    pad = dilation * (weight.shape[-1] // 2)
    if pad > min(x.shape[-2:]):
        raise ValueError(f"a kernel that reaches {pad} cells does not fit a grid of {tuple(x.shape[-2:])}")
    if pad:
        x = CircularPad.apply(x, pad) if x.requires_grad else circular_pad(x, pad)
    return F.conv2d(x, weight, bias, dilation=dilation)


def circular_pad(x: Float[Tensor, "batch channel y x"], pad: int) -> Float[Tensor, "batch channel y2 x2"]:
    """Extend a periodic array on every side.

    Parameters
    ----------
    x : Tensor
        Shape (batch, channel, y, x).
    pad : int
        Cells to add on each side.

    Returns
    -------
    Tensor
        Shape (batch, channel, y + 2 pad, x + 2 pad).
    """
    return F.pad(x, (pad, pad, pad, pad), mode="circular")


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
            Shape (batch, channel, y, x).
        pad : int
            Cells to add on each side, at least 1.

        Returns
        -------
        Tensor
            Shape (batch, channel, y + 2 pad, x + 2 pad).
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
        rows = gradient[..., p:-p, :].clone()
        rows[..., -p:, :] += gradient[..., :p, :]
        rows[..., :p, :] += gradient[..., -p:, :]
        inner = rows[..., p:-p].clone()
        inner[..., -p:] += rows[..., :p]
        inner[..., :p] += rows[..., -p:]
        return inner, None


@final
class PlainConv2d(nn.Module):
    """Periodic convolution with a fixed kernel, on fields or on features.

    A feature's channels and group elements are taken as the channels of one ordinary convolution.

    Parameters
    ----------
    kernel : tuple of Tensor
        Expanded weight and bias. The layer holds a copy, detached from the free weights.
    alpha : int
        Number of group elements of the feature that comes out; 0 if a field comes out.
    dilation : int
        Cells between neighbouring points of the kernel.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, kernel: Kernel, alpha: int = 0, dilation: int = 1) -> None:
        super().__init__()
        self.alpha, self.dilation = alpha, dilation
        self.register_buffer("weight", kernel[0].detach().clone())
        self.register_buffer("bias", kernel[1].detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Apply the convolution.

        Parameters
        ----------
        x : Tensor
            Field of shape (batch, component, y, x), or feature of shape (batch, channel, alpha, y, x).

        Returns
        -------
        Tensor
            Field or feature.
        """
        y = periodic_conv2d(x.flatten(1, -3), (self.weight, self.bias), self.dilation)
        return y.unflatten(1, (-1, self.alpha)) if self.alpha else y
