"""Convolution with circular padding on a periodic grid, in the plane and in space."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fluidsurrogate.nn.shapes import Kernel


def periodic_conv(x: Tensor, kernel: Kernel, dilation: int = 1, groups: int = 1) -> Tensor:
    """Convolve on a periodic grid and keep its size.

    Parameters
    ----------
    x : Tensor
        Shape (batch, channel, [z,] y, x).
    kernel : tuple of Tensor
        Weight of shape (channel_out, channel / groups, size, size), with one more size in space, odd, and bias of shape
        (channel_out,).
    dilation : int
        Cells between neighbouring points of the kernel.
    groups : int
        Parts that the channels are split into, each convolved by itself.

    Returns
    -------
    Tensor
        Shape (batch, channel_out, [z,] y, x).

    Raises
    ------
    ValueError
        If the kernel reaches across the whole grid.
    """
    weight, bias = kernel
    pad = dilation * (weight.shape[-1] // 2)
    if pad > min(x.shape[2:]):
        raise ValueError(f"a kernel that reaches {pad} cells does not fit a grid of {tuple(x.shape[2:])}")
    if pad:
        x = CircularPad.apply(x, pad) if x.requires_grad else circular_pad(x, pad)
    if weight.ndim == 4:
        return F.conv2d(x, weight, bias, dilation=dilation, groups=groups)
    if _is_faster_in_halves(x, weight, dilation, groups):
        half = x.shape[2] // 2
        halves = torch.cat([x[:, :, : half + pad], x[:, :, half - pad :]])
        return torch.cat(F.conv3d(halves, weight, bias).chunk(2), dim=2)
    return F.conv3d(x, weight, bias, dilation=dilation, groups=groups)


def _is_faster_in_halves(x: Tensor, weight: Tensor, dilation: int, groups: int) -> bool:
    """Return True if torch would convolve a padded batch of one by its slow code, which takes three times as long.

    On a CPU torch leaves a small batch of one to its own code instead of oneDNN's (`use_mkldnn` in its
    Convolution.cpp). Halves along z are a batch of two, and the result is the same.
    """
    return (
        len(x) == 1 and x.device.type == "cpu" and x.dtype == torch.float32 and dilation == groups == 1
        and weight.shape[-1] == 3 and x.shape[2] % 2 == 0 and x.shape[1:4].numel() <= 20480
    )  # fmt: skip


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
    return F.pad(x, (pad, pad) * (x.ndim - 2), mode="circular")


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


@final
class PlainConv(nn.Module):
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
    groups : int
        Parts that the channels are split into, each convolved by itself.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, kernel: Kernel, alpha: int = 0, dilation: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.alpha, self.dilation, self.groups = alpha, dilation, groups
        self.register_buffer("weight", kernel[0].detach().clone())
        self.register_buffer("bias", kernel[1].detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Apply the convolution.

        Parameters
        ----------
        x : Tensor
            Field of shape (batch, component, [z,] y, x), or feature of shape (batch, channel, alpha, [z,] y, x).

        Returns
        -------
        Tensor
            Field or feature.
        """
        x = x.flatten(1, 1 - self.weight.ndim)
        y = periodic_conv(x, (self.weight, self.bias), self.dilation, self.groups)
        return y.unflatten(1, (-1, self.alpha)) if self.alpha else y
