"""Group convolutions on periodic, cell-centred grids (Cohen & Welling 2016, arXiv:1602.07576).

A feature is a function on the group and the plane, of shape (batch, channel, α, y, x), where α counts `group.elements`.
An element a moves it by (a·F)(g, x) = F(a⁻¹g, a⁻¹x). Lifting turns a field of the flow, (batch, component, y, x), into
a feature, and pooling over α turns a feature into a field. The free weights of each layer live on one orientation. One
gather expands them to all orientations, after which the layer is one `conv2d` on channel × α channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from fluidsurrogate.nn.layers.equivariant_conv import EquivariantConv2d
from fluidsurrogate.nn.layers.group_action import act_on_regular, signed_permutations
from fluidsurrogate.nn.layers.periodic_conv import PlainConv2d, periodic_conv2d
from fluidsurrogate.nn.shapes import Feature, FeatureOut, Field, Kernel
from solvers import FieldSpec, Group, act_on_fields


@final
class LiftingConv2d(EquivariantConv2d):
    r"""Lifting convolution, from a stack of fields to a feature (Cohen & Welling 2016, eq. 10).

    .. math:: [f \star \psi](g, x) = \sum_y \sum_j [g \psi]_j(y) \, f_j(x + y)

    The kernel ψ turns like the fields do: that of a pseudoscalar changes its sign under a mirror.

    Parameters
    ----------
    group : Group
        Point group, for example `solvers.D4`.
    fields : sequence of FieldSpec
        Fields that come in. Their order and parity say how they transform.
    channels : int
        Channels that come out.
    size : int
        Side of the kernel in cells, odd.

    Raises
    ------
    ValueError
        If `size` is even or less than 1.

    Examples
    --------
    >>> import torch
    >>> from fluidsurrogate.nn import LiftingConv2d
    >>> from solvers import C4, VORTICITY
    >>> lift = LiftingConv2d(C4, [VORTICITY], channels=8, size=5)
    >>> vorticity = torch.randn(2, 1, 32, 32)
    >>> lift(vorticity).shape
    torch.Size([2, 8, 4, 32, 32])

    A quarter turn of the vorticity turns the feature, and moves on by one element of the group:

    >>> turned = lift(torch.rot90(vorticity, dims=(-2, -1)))
    >>> expected = torch.rot90(lift(vorticity), dims=(-2, -1)).roll(-1, dims=2)
    >>> torch.allclose(turned, expected, atol=1e-5)
    True
    """

    index: Tensor
    sign: Tensor

    def __init__(self, group: Group, fields: Sequence[FieldSpec], channels: int, size: int = 3) -> None:
        super().__init__()
        _check_size(size)
        self.group, self.fields = group, tuple(fields)
        components = sum(field.components for field in fields)
        self.weight = nn.Parameter(torch.empty(channels, components, size, size))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.normal_(self.weight, std=1 / math.sqrt(max(components, 1) * size**2))
        index, sign = signed_permutations(group, (components, size, size), lambda k, g: act_on_fields(fields, k, g))
        self.register_buffer("index", index.flatten(), persistent=False)
        self.register_buffer("sign", sign.float(), persistent=False)

    def expand_kernel(self) -> Kernel:
        """Expand the free weights to the kernel of an ordinary convolution.

        Returns
        -------
        tuple of Tensor
            Weight of shape (channels · |G|, components, size, size), and bias of shape (channels · |G|,).
        """
        weight = self.weight.flatten(1).index_select(1, self.index).unflatten(1, self.sign.shape)
        return (weight * self.sign).flatten(0, 1), self.bias.repeat_interleave(len(self.group))

    def convolve(self, x: Field, kernel: Kernel) -> Feature:
        """Convolve with an expanded kernel.

        Parameters
        ----------
        x : Tensor
            Fields, of shape (batch, component, y, x).
        kernel : tuple of Tensor
            What `expand_kernel` returns.

        Returns
        -------
        Tensor
            Feature, of shape (batch, channels, |G|, y, x).
        """
        return periodic_conv2d(x, kernel).unflatten(1, (-1, len(self.group)))

    def to_plain(self) -> PlainConv2d:
        """Convert the layer to an ordinary convolution.

        Returns
        -------
        PlainConv2d
            Holds the kernel expanded from the present weights, detached from them.
        """
        return PlainConv2d(self.expand_kernel(), len(self.group))


@final
class GroupConv2d(EquivariantConv2d):
    r"""Group convolution, from a feature to a feature (Cohen & Welling 2016, eq. 11).

    .. math:: [F \star \psi](g, x) = \sum_h \sum_y \psi(g^{-1} h, g^{-1} y) \, F(h, x + y)

    Parameters
    ----------
    group : Group
        Point group, for example `solvers.D4`.
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
    >>> from fluidsurrogate.nn import GroupConv2d
    >>> from solvers import D4
    >>> layer = GroupConv2d(D4, channels_in=4, channels=6, size=3, dilation=2)
    >>> layer(torch.randn(2, 4, 8, 32, 32)).shape
    torch.Size([2, 6, 8, 32, 32])

    It has an eighth of the weights of the ordinary convolution that it is expanded to:

    >>> weight, bias = layer.expand_kernel()
    >>> weight.shape, weight.numel() // layer.weight.numel()
    (torch.Size([48, 32, 3, 3]), 8)
    """

    index: Tensor

    def __init__(self, group: Group, channels_in: int, channels: int, size: int = 3, dilation: int = 1) -> None:
        super().__init__()
        _check_size(size)
        if dilation < 1:
            raise ValueError(f"dilation must be at least 1 (got {dilation})")
        self.group, self.dilation = group, dilation
        order = len(group)
        self.weight = nn.Parameter(torch.empty(channels, channels_in, order, size, size))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.normal_(self.weight, std=1 / math.sqrt(channels_in * order * size**2))
        index, _ = signed_permutations(group, (order, size, size), lambda k, g: act_on_regular(group, k, g))
        # From the free weights of one channel out, (in, h, y, x), to where conv2d wants them, (g, in, h, y, x).
        index = index[:, None] + index[0].numel() * torch.arange(channels_in)[:, None, None, None]
        self.register_buffer("index", index.flatten(), persistent=False)

    def expand_kernel(self) -> Kernel:
        """Expand the free weights to the kernel of an ordinary convolution.

        Returns
        -------
        tuple of Tensor
            Weight of shape (channels · |G|, channels_in · |G|, size, size), and bias of shape (channels · |G|,).
        """
        channels, channels_in, order, *size = self.weight.shape
        weight = self.weight.flatten(1).index_select(1, self.index)
        weight = weight.view(channels * order, channels_in * order, *size)
        return weight, self.bias.repeat_interleave(order)

    def convolve(self, x: Feature, kernel: Kernel) -> FeatureOut:
        """Convolve with an expanded kernel.

        Parameters
        ----------
        x : Tensor
            Feature, of shape (batch, channels_in, |G|, y, x).
        kernel : tuple of Tensor
            What `expand_kernel` returns.

        Returns
        -------
        Tensor
            Feature, of shape (batch, channels, |G|, y, x).
        """
        return periodic_conv2d(x.flatten(1, 2), kernel, self.dilation).unflatten(1, (-1, len(self.group)))

    def to_plain(self) -> PlainConv2d:
        """Convert the layer to an ordinary convolution.

        Returns
        -------
        PlainConv2d
            Holds the kernel expanded from the present weights, detached from them.
        """
        return PlainConv2d(self.expand_kernel(), len(self.group), self.dilation)


def channels_for_width(width: int, group: Group) -> int:
    """Compute how many channels of a feature make up a number of activations per cell.

    Parameters
    ----------
    width : int
        Activations per cell: channels times elements of the group.
    group : Group
        Point group of the feature.

    Returns
    -------
    int
        The width divided by the number of elements.

    Raises
    ------
    ValueError
        If the width is no positive multiple of the number of elements.
    """
    channels, rest = divmod(width, len(group))
    if rest or channels < 1:
        raise ValueError(f"width must be a multiple of the {len(group)} elements of {group.name} (got {width})")
    return channels


def _check_size(size: int) -> None:
    if size < 1 or size % 2 == 0:
        raise ValueError(f"kernel size must be odd, so that it has a centre (got {size})")
