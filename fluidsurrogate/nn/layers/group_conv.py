"""Group convolutions on periodic, cell-centred grids (Cohen & Welling 2016, arXiv:1602.07576).

A feature is a function on the group and the grid, of shape (batch, channel, α, y, x), in space (batch, channel, α, z,
y, x), where α counts `group.elements`. An element a moves it by (a·F)(g, x) = F(a⁻¹g, a⁻¹x). Lifting turns a field of
the flow, (batch, component, [z,] y, x), into a feature, and pooling over α turns a feature into a field. The free
weights of each layer live on one orientation. One gather expands them to all orientations, after which the layer is one
`conv2d` or `conv3d` on channel × α channels. The group's number of dimensions decides which.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fluidsurrogate.nn.layers.equivariant_conv import EquivariantConv
from fluidsurrogate.nn.layers.group_action import act_on_regular, signed_permutations
from fluidsurrogate.nn.layers.periodic_conv import PlainConv, periodic_conv
from fluidsurrogate.nn.shapes import Feature, FeatureOut, Field, Kernel
from solvers import FieldSpec, Group, act_on_fields


class LiftingConv(EquivariantConv):
    r"""Lifting convolution, from a stack of fields to a feature (Cohen & Welling 2016, eq. 10).

    .. math:: [f \star \psi](g, x) = \sum_y \sum_j [g \psi]_j(y) \, f_j(x + y)

    The kernel ψ turns like the fields do: that of a pseudoscalar changes its sign under a mirror. The layer serves the
    plane and space (as LiftingConv2d and LiftingConv3d would): its group says how many dimensions there are.

    Parameters
    ----------
    group : Group
        Point group of the square, for example `solvers.D4`, or of the cube, for example ``group_named("Oh", 3)``.
    fields : sequence of FieldSpec
        Fields that come in. Their order and parity say how they transform.
    channels : int
        Channels that come out.
    size : int
        Side of the kernel in cells, odd.

    Raises
    ------
    ValueError
        If `size` is even or less than 1, or a field has another number of dimensions than the group.

    Examples
    --------
    >>> import torch
    >>> from fluidsurrogate.nn import LiftingConv
    >>> from solvers import C4, VORTICITY
    >>> lift = LiftingConv(C4, [VORTICITY], channels=8, size=5)
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
        check_size(size)
        if any(field.dimensions != group.dimensions for field in fields):
            raise ValueError(f"{group.name} acts on {group.dimensions} dimensions, and one of the fields has others")
        self.group, self.fields = group, tuple(fields)
        components, kernel = sum(field.components for field in fields), (size,) * group.dimensions
        self.weight = nn.Parameter(torch.empty(channels, components, *kernel))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.normal_(self.weight, std=1 / math.sqrt(max(components, 1) * math.prod(kernel)))
        index, sign = signed_permutations(group, (components, *kernel), lambda k, g: act_on_fields(fields, k, g))
        self.register_buffer("index", index.flatten(), persistent=False)
        self.register_buffer("sign", sign.float(), persistent=False)

    def expand_kernel(self) -> Kernel:
        """Expand the free weights to the kernel of an ordinary convolution.

        Returns
        -------
        tuple of Tensor
            Weight of shape (channels · |G|, components, size, size), with one more size in space, and bias of shape
            (channels · |G|,).
        """
        weight = self.weight.flatten(1).index_select(1, self.index).unflatten(1, self.sign.shape)
        return (weight * self.sign).flatten(0, 1), self.bias.repeat_interleave(len(self.group))

    def convolve(self, x: Field, kernel: Kernel) -> Feature:
        """Convolve with an expanded kernel.

        Parameters
        ----------
        x : Tensor
            Fields, of shape (batch, component, [z,] y, x).
        kernel : tuple of Tensor
            What `expand_kernel` returns.

        Returns
        -------
        Tensor
            Feature, of shape (batch, channels, |G|, [z,] y, x).
        """
        return periodic_conv(x, kernel).unflatten(1, (-1, len(self.group)))

    def to_plain(self) -> PlainConv:
        """Convert the layer to an ordinary convolution.

        Returns
        -------
        PlainConv
            Holds the kernel expanded from the present weights, detached from them.
        """
        return PlainConv(self.expand_kernel(), len(self.group))


class GroupConv(EquivariantConv):
    r"""Group convolution, from a feature to a feature (Cohen & Welling 2016, eq. 11).

    .. math:: [F \star \psi](g, x) = \sum_h \sum_y \psi(g^{-1} h, g^{-1} y) \, F(h, x + y)

    The layer serves the plane and space: it is what other packages call GroupConv2d and GroupConv3d. Its group says how
    many dimensions there are.

    Parameters
    ----------
    group : Group
        Point group of the square, for example `solvers.D4`, or of the cube, for example ``group_named("Oh", 3)``.
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
    >>> from fluidsurrogate.nn import GroupConv
    >>> from solvers import D4
    >>> layer = GroupConv(D4, channels_in=4, channels=6, size=3, dilation=2)
    >>> layer(torch.randn(2, 4, 8, 32, 32)).shape
    torch.Size([2, 6, 8, 32, 32])

    It has an eighth of the weights of the ordinary convolution that it is expanded to:

    >>> weight, bias = layer.expand_kernel()
    >>> weight.shape, weight.numel() // layer.weight.numel()
    (torch.Size([48, 32, 3, 3]), 8)

    In space, over the 24 rotations of the cube:

    >>> from solvers import group_named
    >>> layer = GroupConv(group_named("O", dimensions=3), channels_in=1, channels=2)
    >>> layer(torch.randn(1, 1, 24, 8, 8, 8)).shape
    torch.Size([1, 2, 24, 8, 8, 8])
    """

    index: Tensor

    def __init__(self, group: Group, channels_in: int, channels: int, size: int = 3, dilation: int = 1) -> None:
        super().__init__()
        check_size(size)
        check_dilation(dilation)
        self.group, self.dilation = group, dilation
        order, kernel = len(group), (size,) * group.dimensions
        self.weight = nn.Parameter(torch.empty(channels, channels_in, order, *kernel))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.normal_(self.weight, std=1 / math.sqrt(channels_in * order * math.prod(kernel)))
        index, _ = signed_permutations(group, (order, *kernel), lambda k, g: act_on_regular(group, k, g))
        # From the free weights of one channel out, (in, h, *kernel), to where conv2d wants them, (g, in, h, *kernel).
        channel = torch.arange(channels_in).view(-1, *[1] * (1 + group.dimensions))
        index = index[:, None] + index[0].numel() * channel
        self.register_buffer("index", index.flatten(), persistent=False)

    def expand_kernel(self) -> Kernel:
        """Expand the free weights to the kernel of an ordinary convolution.

        Returns
        -------
        tuple of Tensor
            Weight of shape (channels · |G|, channels_in · |G|, size, size), with one more size in space, and bias of
            shape (channels · |G|,).
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
            Feature, of shape (batch, channels_in, |G|, [z,] y, x).
        kernel : tuple of Tensor
            What `expand_kernel` returns.

        Returns
        -------
        Tensor
            Feature, of shape (batch, channels, |G|, [z,] y, x).
        """
        return periodic_conv(x.flatten(1, 2), kernel, self.dilation).unflatten(1, (-1, len(self.group)))

    def to_plain(self) -> PlainConv:
        """Convert the layer to an ordinary convolution.

        Returns
        -------
        PlainConv
            Holds the kernel expanded from the present weights, detached from them.
        """
        return PlainConv(self.expand_kernel(), len(self.group), self.dilation)


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


def check_size(size: int) -> None:
    """Raise ValueError unless a kernel has a centre.

    Parameters
    ----------
    size : int
        Side of the kernel in cells.

    Raises
    ------
    ValueError
        If it is even or less than 1.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"kernel size must be odd, so that it has a centre (got {size})")


def check_dilation(dilation: int) -> None:
    """Raise ValueError unless neighbouring points of a kernel are at least a cell apart.

    Parameters
    ----------
    dilation : int
        Cells between neighbouring points of the kernel.

    Raises
    ------
    ValueError
        If it is less than 1.
    """
    if dilation < 1:
        raise ValueError(f"dilation must be at least 1 (got {dilation})")
