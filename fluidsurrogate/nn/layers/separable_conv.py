"""Separable group convolutions: in space alone, then at each point alone (Knigge et al. 2022, arXiv:2110.13059)."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from fluidsurrogate.nn.layers.depthwise_conv import PlainDepthwiseConv, periodic_depthwise_conv
from fluidsurrogate.nn.layers.equivariant_conv import EquivariantConv
from fluidsurrogate.nn.layers.group_action import signed_permutations
from fluidsurrogate.nn.layers.group_conv import GroupConv, check_dilation, check_size
from fluidsurrogate.nn.shapes import Feature, FeatureOut, Kernel
from solvers import Group
from solvers.symmetry import move


@final
class DepthwiseGroupConv(EquivariantConv):
    r"""Depthwise group convolution: each channel by a kernel of its own, which turns along the group.

    .. math:: [F \star k]_c(h, x) = \sum_y k_c(h^{-1} y) \, F_c(h, x + y)

    Neither channels nor group elements are mixed.

    Parameters
    ----------
    group : Group
        Point group of the square or of the cube.
    channels : int
        Channels that come in and go out.
    size : int
        Side of the kernel in cells, odd.
    dilation : int
        Cells between neighbouring points of the kernel.

    Raises
    ------
    ValueError
        If `size` is even or less than 1, or `dilation` is less than 1.
    """

    index: Tensor

    def __init__(self, group: Group, channels: int, size: int = 3, dilation: int = 1) -> None:
        super().__init__()
        check_size(size)
        check_dilation(dilation)
        self.group, self.dilation = group, dilation
        kernel = (size,) * group.dimensions
        self.weight = nn.Parameter(torch.empty(channels, *kernel))
        nn.init.normal_(self.weight, std=1 / math.sqrt(math.prod(kernel)))
        index, _ = signed_permutations(group, kernel, move)
        self.register_buffer("index", index.flatten(), persistent=False)

    def expand_kernel(self) -> Kernel:
        """Expand the free weights to the kernel of an ordinary depthwise convolution.

        Returns
        -------
        tuple of Tensor
            Weight of shape (channels · |G|, 1, size, size), with one more size in space, and a bias of zeros.
        """
        channels, *size = self.weight.shape
        weight = self.weight.flatten(1).index_select(1, self.index).view(channels * len(self.group), 1, *size)
        return weight, weight.new_zeros(len(weight))

    def convolve(self, x: Feature, kernel: Kernel) -> Feature:
        """Convolve with an expanded kernel.

        Parameters
        ----------
        x : Tensor
            Feature, of shape (batch, channels, |G|, [z,] y, x).
        kernel : tuple of Tensor
            What `expand_kernel` returns.

        Returns
        -------
        Tensor
            Feature of the same shape.
        """
        made = periodic_depthwise_conv(x.flatten(1, 2), kernel[0], self.dilation)
        return made.unflatten(1, (-1, len(self.group)))

    def to_plain(self) -> PlainDepthwiseConv:
        """Convert the layer to an ordinary depthwise convolution.

        Returns
        -------
        PlainDepthwiseConv
            Holds the kernel expanded from the present weights, detached from them.
        """
        return PlainDepthwiseConv(self.expand_kernel()[0], len(self.group), self.dilation)


@final
class SeparableGroupConv(nn.Module):
    r"""Separable group convolution, from a feature to a feature (Knigge et al. 2022, arXiv:2110.13059).

    .. math:: F'_c(g, x) = b_c + \sum_{c'} \sum_h w_{c c'}(g^{-1} h) \sum_y k_{c'}(h^{-1} y) \, F_{c'}(h, x + y)

    A depthwise convolution whose kernels turn along the group, then a group convolution of size 1 that mixes channels
    and group elements. It is a `GroupConv` whose kernel is a product, with fewer weights and operations: for `C`
    channels in and out, C s^d + C² |G| weights in place of C² |G| s^d, for a kernel of side s in d dimensions.

    Parameters
    ----------
    group : Group
        Point group of the square or of the cube.
    channels_in : int
        Channels that come in.
    channels : int
        Channels that come out.
    size : int
        Side of the kernel in cells, odd.
    dilation : int
        Cells between neighbouring points of the kernel.

    Raises
    ------
    ValueError
        If `size` is even or less than 1, or `dilation` is less than 1.

    Examples
    --------
    >>> import torch
    >>> from fluidsurrogate.nn import GroupConv, SeparableGroupConv
    >>> from solvers import group_named
    >>> group = group_named("O", dimensions=3)
    >>> separable, dense = SeparableGroupConv(group, 2, 2), GroupConv(group, 2, 2)
    >>> separable(torch.randn(1, 2, 24, 8, 8, 8)).shape
    torch.Size([1, 2, 24, 8, 8, 8])
    >>> [sum(p.numel() for p in layer.parameters()) for layer in (separable, dense)]
    [152, 2594]
    """

    def __init__(self, group: Group, channels_in: int, channels: int, size: int = 3, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise = DepthwiseGroupConv(group, channels_in, size, dilation)
        self.pointwise = GroupConv(group, channels_in, channels, 1)

    def forward(self, x: Feature) -> FeatureOut:
        """Apply both convolutions.

        Parameters
        ----------
        x : Tensor
            Feature, of shape (batch, channels_in, |G|, [z,] y, x).

        Returns
        -------
        Tensor
            Feature, of shape (batch, channels, |G|, [z,] y, x).
        """
        return self.pointwise(self.depthwise(x))
