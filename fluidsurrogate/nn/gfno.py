"""The group-equivariant Fourier neural operator; with `group = "C1"` a plain one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import nn

from fluidsurrogate.nn.layers import Feature, FeatureOut, GroupConv2d, Kernels, LiftingConv2d
from fluidsurrogate.nn.network import Field, FieldOut, Network, architecture
from fluidsurrogate.nn.pointwise import Conditions, activate, channels_before, channels_for
from fluidsurrogate.nn.readout import Readout
from fluidsurrogate.nn.residual import Residual
from fluidsurrogate.nn.spectral import SpectralGroupConv2d
from solvers import FieldSpec, Group, group_named


@architecture("gfno")
@final
class GFNO(Network):
    """Group FNO: lifting → residual Fourier layers → readout over α (Helwig et al. 2023,
    arXiv:2306.05697).

    h_{i+1} = h_i + GELU(spectral_i(h_i) + conv_i(h_i)): the spectral convolution sees the whole box in its lowest
    `modes`, the local one, `size` × `size`, whatever is finer. `norm` and `modulate` as in `gcnn`.
    """

    def __init__(
        self,
        fields_in: Sequence[FieldSpec],
        fields_out: Sequence[FieldSpec],
        *,
        group: str = "D4",
        width: int = 32,
        modes: int = 6,
        layers: int = 4,
        lifting_size: int = 5,
        size: int = 3,
        activation: str = "gelu",
        norm: bool = False,
        modulate: bool = False,
        pool: str = "mean",
    ) -> None:
        super().__init__()
        point = group_named(group)
        if not 1 <= layers <= 100:
            raise ValueError(f"layers must be 1 to 100 (got {layers})")
        channels = channels_for(width, len(point), point.name)
        wide = channels_before(channels, activation)
        self.group, self.activation = point, activation
        self.conditions = Conditions(fields_in, modulate)
        self.lift = LiftingConv2d(point, self.conditions.fields, wide, lifting_size)
        self.blocks = nn.ModuleList(
            Residual(FourierLayer(point, channels, wide, modes, size), channels, activation, norm, self.conditions)
            for _ in range(layers)
        )
        self.out = Readout(point, channels, fields_out, pool)

    def forward(self, x: Field, kernels: Kernels | None = None) -> FieldOut:
        x, numbers = self.conditions(x)
        h = activate(self.lift(x, kernels), self.activation)
        for block in self.blocks:
            h = block(h, numbers, kernels)
        return self.out(h, kernels)


@final
class FourierLayer(nn.Module):
    """spectral(h) + local(h)."""

    def __init__(self, group: Group, channels_in: int, channels: int, modes: int, size: int) -> None:
        super().__init__()
        self.spectral = SpectralGroupConv2d(group, channels_in, channels, modes)
        self.local = GroupConv2d(group, channels_in, channels, size)

    def forward(self, h: Feature, kernels: Kernels | None) -> FeatureOut:
        return self.spectral(h, kernels) + self.local(h, kernels)
