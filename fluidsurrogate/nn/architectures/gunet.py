"""The group U-Net, and the plain U-Net as the same network without a group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import final

import torch
from torch import nn

from fluidsurrogate.nn.layers import (
    ConditioningSplit,
    GroupConv,
    LiftingConv,
    Readout,
    ResidualBlock,
    SeparableGroupConv,
    channels_before_activation,
    channels_for_width,
    conv_and_activation,
    downsample,
    upsample,
)
from fluidsurrogate.nn.network import Network
from fluidsurrogate.nn.registry import architecture, register_without_group
from fluidsurrogate.nn.shapes import ConditioningNumbers, Feature, FeatureOut, Field, FieldOut
from solvers import FieldSpec, Group, group_named


@architecture("gunet", in_space={"group": "Oh", "width": 48})
@final
class GUNet(Network):
    r"""Group U-Net: down to coarser grids and up again, with group convolutions throughout.

    .. math:: \text{down:} \; h_{l+1} = \mathrm{block}(\mathrm{downsample}(h_l)), \quad
        \text{up:} \; h_l \leftarrow \mathrm{block}([h_l, \mathrm{upsample}(h_{l+1})])

    Each level of the U-Net (Ronneberger et al. 2015, arXiv:1505.04597) has a grid half as fine and twice the channels.
    A block is a convolution that changes the channels and a residual one, with an activation after each. Downsampling
    takes means of 2 × 2 cells (in space 2 × 2 × 2) and upsampling interpolates between cell centres, both exact under
    the group. Each side of the grid must be a multiple of 2^levels.

    Parameters
    ----------
    fields_in : sequence of FieldSpec
        Fields that the network takes.
    fields_out : sequence of FieldSpec
        Fields that the network returns.
    group : str
        Name of the point group: one of the square's, such as "D4", or in space one of the cube's; there "Oh" by
        default.
    width : int
        Activations per cell of the finest grid: channels times elements of the group; in space 48 by default.
    levels : int
        Number of coarser grids, 1 to 10.
    lifting_size : int
        Side of the lifting kernel in cells, odd.
    size : int
        Side of the kernels of the blocks, odd.
    separable : bool
        Whether the blocks' convolutions are `SeparableGroupConv`: fewer weights and operations.
    activation : str
        Activation, "gelu" or "gated".
    norm : bool
        Whether what each residual convolution takes in is normalised.
    modulate : bool
        Whether uniform scalars of the flow (a viscosity, a drag) modulate the features instead of being convolved.
    pool : str
        Pooling of the readout: "mean", "gated" or "max".

    Raises
    ------
    ValueError
        If `levels` is out of its range; when called, if a side of the grid is no multiple of 2^levels.
    """

    def __init__(
        self,
        fields_in: Sequence[FieldSpec],
        fields_out: Sequence[FieldSpec],
        *,
        group: str = "D4",
        width: int = 16,
        levels: int = 2,
        lifting_size: int = 5,
        size: int = 3,
        separable: bool = False,
        activation: str = "gelu",
        norm: bool = False,
        modulate: bool = False,
        pool: str = "mean",
    ) -> None:
        super().__init__()
        self.group, self.activation = group_named(group, fields_in[0].dimensions), activation
        if not 1 <= levels <= 10:
            raise ValueError(f"levels must be 1 to 10 (got {levels})")
        self.levels, self.stride = levels, 2**levels
        channels = [channels_for_width(width, self.group) * 2**level for level in range(levels + 1)]
        self.conditions = ConditioningSplit(fields_in, modulate)
        before = channels_before_activation(channels[0], activation)
        self.lift = LiftingConv(self.group, self.conditions.convolved_fields, before, lifting_size)
        convolution = partial(SeparableGroupConv if separable else GroupConv, size=size)
        options = (convolution, activation, norm, self.conditions)
        self.first = UNetBlock(self.group, channels[0], channels[0], *options)
        self.down = nn.ModuleList(UNetBlock(self.group, a, b, *options) for a, b in pairwise(channels))
        self.up = nn.ModuleList(UNetBlock(self.group, a + b, a, *options) for a, b in pairwise(channels))
        self.out = Readout(self.group, channels[0], fields_out, pool)

    def forward(self, x: Field) -> FieldOut:
        """Apply the network.

        Parameters
        ----------
        x : Tensor
            Normalised fields, of shape (batch, component, [z,] y, x).

        Returns
        -------
        Tensor
            Normalised fields, of shape (batch, component_out, [z,] y, x).
        """
        sides, multiple = x.shape[2:], 2**self.levels
        if any(cells % multiple for cells in sides):
            grid = " x ".join(map(str, sides))
            raise ValueError(f"levels need sides that are multiples of {multiple} cells (got {grid})")
        fields, numbers = self.conditions(x)
        h = self.first(conv_and_activation(self.lift, fields, self.activation), numbers)
        skips = [h]
        for block in self.down:
            h = block(downsample(h), numbers)
            skips.append(h)
        h = skips.pop()
        for block in reversed(self.up):
            h = block(torch.cat([skips.pop(), upsample(h)], dim=1), numbers)
        return self.out(h)


@final
class UNetBlock(nn.Module):
    """Convolution that changes the channels, then a residual block.

    Parameters
    ----------
    group : Group
        Point group.
    channels_in : int
        Channels that come in.
    channels : int
        Channels that come out.
    convolution : callable
        Function (group, channels_in, channels_out) → layer from features to features.
    activation : str
        Activation after each convolution.
    norm : bool
        Whether what the residual convolution takes in is normalised.
    conditions : ConditioningSplit
        Says whether there are numbers of the flow to modulate by.
    """

    def __init__(
        self,
        group: Group,
        channels_in: int,
        channels: int,
        convolution: Callable[[Group, int, int], nn.Module],
        activation: str,
        norm: bool,
        conditions: ConditioningSplit,
    ) -> None:
        super().__init__()
        before = channels_before_activation(channels, activation)
        self.activation = activation
        self.mix = convolution(group, channels_in, before)
        self.residual = ResidualBlock(convolution(group, channels, before), channels, activation, norm, conditions)

    def forward(self, x: Feature, numbers: ConditioningNumbers | None) -> FeatureOut:
        """Apply the block.

        Parameters
        ----------
        x : Tensor
            Feature, of shape (batch, channels_in, |G|, [z,] y, x).
        numbers : Tensor or None
            Conditioning numbers, of shape (batch, condition).

        Returns
        -------
        Tensor
            Feature, of shape (batch, channels, |G|, [z,] y, x).
        """
        return self.residual(conv_and_activation(self.mix, x, self.activation), numbers)


register_without_group("unet", GUNet, "Plain U-Net: `gunet` over the trivial group.", in_space={"width": 48})
