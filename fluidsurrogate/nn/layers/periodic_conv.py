"""Convolution with circular padding on a periodic grid, in the plane and in space."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluidsurrogate.nn.layers.periodic_padding import pad_periodically
from fluidsurrogate.nn.shapes import Kernel


def periodic_conv(x: Tensor, kernel: Kernel, dilation: int = 1) -> Tensor:
    """Convolve on a periodic grid and keep its size.

    Parameters
    ----------
    x : Tensor
        Shape (batch, channel, [z,] y, x).
    kernel : tuple of Tensor
        Weight of shape (channel_out, channel, size, size), with one more size in space, odd, and bias of shape
        (channel_out,).
    dilation : int
        Cells between neighbouring points of the kernel.

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
    x = pad_periodically(x, pad)
    if weight.ndim == 4:
        return F.conv2d(x, weight, bias, dilation=dilation)
    if _is_faster_in_halves(x, weight):
        half = x.shape[2] // 2
        halves = torch.cat([x[:, :, : half + pad], x[:, :, half - pad :]])
        return torch.cat(F.conv3d(halves, weight, bias, dilation=dilation).chunk(2), dim=2)
    return F.conv3d(x, weight, bias, dilation=dilation)


def _is_faster_in_halves(x: Tensor, weight: Tensor) -> bool:
    """Return True if torch would convolve a padded batch of one by its slow code, which takes three times as long.

    On a CPU torch leaves a small batch of one to its own code instead of oneDNN's (`use_mkldnn` in its
    Convolution.cpp). Halves along z are a batch of two, and the result is the same.
    """
    return (
        len(x) == 1
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and weight.shape[-1] == 3
        and x.shape[2] % 2 == 0
        and x.shape[1:4].numel() <= 20480
    )  # fmt: skip


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
            Field of shape (batch, component, [z,] y, x), or feature of shape (batch, channel, alpha, [z,] y, x).

        Returns
        -------
        Tensor
            Field or feature.
        """
        y = periodic_conv(x.flatten(1, 1 - self.weight.ndim), (self.weight, self.bias), self.dilation)
        return y.unflatten(1, (-1, self.alpha)) if self.alpha else y
