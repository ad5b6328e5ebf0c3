"""The group U-Net, and the plain U-Net as the same network with the trivial group."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
from torch import nn

from fluidsurrogate.nn.layers import Feature, FeatureOut, GroupConv2d, Kernels, LiftingConv2d
from fluidsurrogate.nn.network import Field, FieldOut, Network, architecture, register_plain
from fluidsurrogate.nn.pointwise import Conditions, activate, channels_before, channels_for, double, halve
from fluidsurrogate.nn.readout import Readout
from fluidsurrogate.nn.residual import Numbers, Residual
from solvers import FieldSpec, Group, group_named


@architecture("gunet")
@final
class GUNet(Network):
    """Group U-Net: lifting, then down and up again over grids each half as fine with twice the channels (Ronneberger et
    al. 2015, arXiv:1505.04597; group convolutions throughout).

    Down: h_{l+1} = block(halve(h_l)); up: h_l = block([h_l, double(h_{l+1})]); block: a convolution that changes the
    channels and a residual one, GELU after each. Halving takes means of 2 × 2 cells and doubling interpolates between
    cell centres, both exact under the group; each side of the grid must be a multiple of 2^levels.
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
        activation: str = "gelu",
        norm: bool = False,
        modulate: bool = False,
        pool: str = "mean",
    ) -> None:
        super().__init__()
        point = group_named(group)
        if not 1 <= levels <= 10:
            raise ValueError(f"levels must be 1 to 10 (got {levels})")
        channels = [channels_for(width, len(point), point.name) * 2**level for level in range(levels + 1)]
        self.group, self.activation, self.multiple = point, activation, 2**levels
        self.stride = self.multiple
        self.conditions = conditions = Conditions(fields_in, modulate)
        self.lift = LiftingConv2d(point, conditions.fields, channels_before(channels[0], activation), lifting_size)
        options = (size, activation, norm, conditions)
        self.first = Block(point, channels[0], channels[0], *options)
        self.down = nn.ModuleList(Block(point, a, b, *options) for a, b in pairwise(channels))
        self.up = nn.ModuleList(Block(point, a + b, a, *options) for a, b in pairwise(channels))
        self.out = Readout(point, channels[0], fields_out, pool)

    def forward(self, x: Field, kernels: Kernels | None = None) -> FieldOut:
        if any(n % self.multiple for n in x.shape[-2:]):
            ny, nx = x.shape[-2:]
            raise ValueError(f"levels need sides that are multiples of {self.multiple} cells (got {ny} x {nx})")
        x, numbers = self.conditions(x)
        h = self.first(activate(self.lift(x, kernels), self.activation), numbers, kernels)
        skips = [h]
        for block in self.down:
            h = block(halve(h), numbers, kernels)
            skips.append(h)
        h = skips.pop()
        for block in reversed(self.up):
            h = block(torch.cat([skips.pop(), double(h)], dim=1), numbers, kernels)
        return self.out(h, kernels)


@final
class Block(nn.Module):
    """a(mix(x)), which changes the channels, then a residual convolution."""

    def __init__(
        self,
        group: Group,
        channels_in: int,
        channels: int,
        size: int,
        activation: str,
        norm: bool,
        conditions: Conditions,
    ) -> None:
        super().__init__()
        self.activation, wide = activation, channels_before(channels, activation)
        self.mix = GroupConv2d(group, channels_in, wide, size)
        self.residual = Residual(GroupConv2d(group, channels, wide, size), channels, activation, norm, conditions)

    def forward(self, x: Feature, numbers: Numbers, kernels: Kernels | None) -> FeatureOut:
        return self.residual(activate(self.mix(x, kernels), self.activation), numbers, kernels)


register_plain("unet", GUNet, "Plain U-Net: `gunet` over the trivial group.")
