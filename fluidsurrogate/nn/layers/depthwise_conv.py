"""Depthwise convolution on a periodic grid: each channel by a kernel of its own."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluidsurrogate.nn.layers.periodic_padding import pad_periodically
from fluidsurrogate.nn.shapes import Feature


def periodic_depthwise_conv(x: Tensor, weight: Tensor, dilation: int = 1) -> Tensor:
    """Convolve each channel with a kernel of its own on a periodic grid.

    Parameters
    ----------
    x : Tensor
        Shape (batch, channel, [z,] y, x).
    weight : Tensor
        Shape (channel, 1, size, size), with one more size in space, odd.
    dilation : int
        Cells between neighbouring points of the kernel.

    Returns
    -------
    Tensor
        Of the same shape as `x`.

    Raises
    ------
    ValueError
        If the kernel reaches across the whole grid.
    """
    if x.device.type == "cpu" and (x.requires_grad or weight.requires_grad):
        return PeriodicDepthwiseConv.apply(x, weight, dilation)
    return _convolved(x, weight, dilation)


class PeriodicDepthwiseConv(torch.autograd.Function):
    """`periodic_depthwise_conv` with a faster gradient on a CPU.

    The gradient for the array is the same convolution with the kernel turned around, and the gradient for a kernel in
    space is one in the plane for each of its layers. torch's own takes fifteen times as long in space.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        """Convolve each channel with a kernel of its own.

        Parameters
        ----------
        x : Tensor
            Shape (batch, channel, [z,] y, x).
        weight : Tensor
            Shape (channel, 1, size, size), with one more size in space.
        dilation : int
            Cells between neighbouring points of the kernel.

        Returns
        -------
        Tensor
            Of the same shape as `x`.
        """
        return _convolved(x, weight, dilation)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        """Keep the arguments for the backward pass.

        Parameters
        ----------
        ctx : FunctionCtx
            Context of the call.
        inputs : tuple
            Arguments of `forward`.
        output : Tensor
            Result of `forward`.
        """
        x, weight, ctx.dilation = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Compute the gradients for the array and the kernel.

        Parameters
        ----------
        ctx : FunctionCtx
            Context of the call.
        gradient : Tensor
            Gradient with respect to the result.

        Returns
        -------
        tuple of (Tensor, Tensor, None)
            Gradients with respect to the array and the kernel, where they are needed.
        """
        x, weight = ctx.saved_tensors
        for_x = for_weight = None
        if ctx.needs_input_grad[0]:
            turned = weight.flip(tuple(range(2, weight.ndim)))
            for_x = periodic_depthwise_conv(gradient, turned, ctx.dilation)
        if ctx.needs_input_grad[1]:
            for_weight = _kernel_gradient(x, gradient, weight, ctx.dilation)
        return for_x, for_weight, None


def _convolved(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """Convolve by torch; in space on the sublattices that a dilated kernel sees, where torch is faster on a CPU."""
    if weight.ndim == 4:
        padded = pad_periodically(x, dilation * (weight.shape[-1] // 2))
        return F.conv2d(padded, weight, dilation=dilation, groups=len(weight))
    by_parts = dilation > 1 and x.device.type == "cpu" and _has_sublattices(x, dilation)
    parts, dilation_left = (_sublattices(x, dilation), 1) if by_parts else (x, dilation)
    padded = pad_periodically(parts, dilation_left * (weight.shape[-1] // 2))
    made = F.conv3d(padded, weight, dilation=dilation_left, groups=len(weight))
    return _from_sublattices(made, dilation) if by_parts else made


def _kernel_gradient(x: Tensor, gradient: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """Return Σ x(· + offset) gradient(·) for each offset of the kernel."""
    if dilation > 1 and _has_sublattices(x, dilation):
        x, gradient, dilation = _sublattices(x, dilation), _sublattices(gradient, dilation), 1
    size = weight.shape[-1]
    padded = pad_periodically(x, dilation * (size // 2))
    if weight.ndim == 4:
        return _plane_kernel_gradient(padded, gradient, weight, dilation)
    layers, gradient = padded.transpose(1, 2), gradient.transpose(1, 2)
    depth, flat = gradient.shape[1], gradient.flatten(0, 1)
    found = [
        _plane_kernel_gradient(layers[:, first : first + depth].flatten(0, 1), flat, weight[:, :, 0], dilation)
        for first in range(0, dilation * size, dilation)
    ]
    return torch.stack(found, dim=2)


def _plane_kernel_gradient(padded: Tensor, gradient: Tensor, weight: Tensor, dilation: int) -> Tensor:
    settings = ([1, 1], [0, 0], [dilation, dilation], False, [0, 0], len(weight), [False, True, False])
    return torch.ops.aten.convolution_backward(gradient, padded, weight, None, *settings)[1]


def _has_sublattices(x: Tensor, step: int) -> bool:
    """Return True if every side of the grid is a multiple of the step."""
    return all(cells % step == 0 for cells in x.shape[2:])


def _sublattices(x: Tensor, step: int) -> Tensor:
    """Split a grid into those of every `step`-th cell, along the batch axis; each is periodic by itself."""
    dimensions = x.ndim - 2
    for axis in range(dimensions):
        x = x.unflatten(2 + 2 * axis, (-1, step))
    first, cells = range(3, 3 + 2 * dimensions, 2), range(2, 2 + 2 * dimensions, 2)
    return x.permute(*first, 0, 1, *cells).flatten(0, dimensions)


def _from_sublattices(x: Tensor, step: int) -> Tensor:
    """Undo `_sublattices`."""
    dimensions = x.ndim - 2
    x = x.unflatten(0, (*[step] * dimensions, -1))
    pairs = [axis for own in range(dimensions) for axis in (dimensions + 2 + own, own)]
    x = x.permute(dimensions, dimensions + 1, *pairs)
    for axis in range(dimensions):
        x = x.flatten(2 + axis, 3 + axis)
    return x


@final
class PlainDepthwiseConv(nn.Module):
    """Periodic depthwise convolution of features with a fixed kernel.

    Parameters
    ----------
    weight : Tensor
        Expanded weight. The layer holds a copy, detached from the free weights.
    alpha : int
        Number of group elements of the features.
    dilation : int
        Cells between neighbouring points of the kernel.
    """

    weight: Tensor

    def __init__(self, weight: Tensor, alpha: int, dilation: int = 1) -> None:
        super().__init__()
        self.alpha, self.dilation = alpha, dilation
        self.register_buffer("weight", weight.detach().clone())

    def forward(self, x: Feature) -> Feature:
        """Apply the convolution.

        Parameters
        ----------
        x : Tensor
            Feature, of shape (batch, channel, alpha, [z,] y, x).

        Returns
        -------
        Tensor
            Feature of the same shape.
        """
        return periodic_depthwise_conv(x.flatten(1, 2), self.weight, self.dilation).unflatten(1, (-1, self.alpha))
