"""The group-equivariant Fourier neural operator; with `group = "C1"` a plain one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import nn

from fluidsurrogate.nn.layers import GroupConv2d, Kernels, LiftingConv2d
from fluidsurrogate.nn.network import Field, FieldOut, Network, architecture
from fluidsurrogate.nn.pointwise import Conditions, FeatureNorm, activate, channels_before, channels_for
from fluidsurrogate.nn.readout import WayOut
from fluidsurrogate.nn.spectral import SpectralGroupConv2d
from solvers import FieldSpec, group_named


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
        if layers < 1:
            raise ValueError(f"layers must be at least 1 (got {layers})")
        channels = channels_for(width, len(point), point.name)
        wide = channels_before(channels, activation)
        self.group, self.activation = point, activation
        self.conditions = Conditions(fields_in, modulate)
        self.lift = LiftingConv2d(point, self.conditions.fields, wide, lifting_size)
        self.spectral = nn.ModuleList(SpectralGroupConv2d(point, channels, wide, modes) for _ in range(layers))
        self.local = nn.ModuleList(GroupConv2d(point, channels, wide, size) for _ in range(layers))
        self.norms = nn.ModuleList(FeatureNorm(channels) if norm else nn.Identity() for _ in range(layers))
        self.modulations = nn.ModuleList(self.conditions.modulation(wide) or nn.Identity() for _ in range(layers))
        self.out = WayOut(point, channels, fields_out, pool)

    def forward(self, x: Field, kernels: Kernels | None = None) -> FieldOut:
        x, numbers = self.conditions(x)
        h = activate(self.lift(x, kernels), self.activation)
        layers = zip(self.spectral, self.local, self.norms, self.modulations, strict=True)
        for spectral, local, norm, modulation in layers:
            z = norm(h)
            update = spectral(z, kernels) + local(z, kernels)
            update = update if numbers is None else modulation(update, numbers)
            h = h + activate(update, self.activation)
        return self.out(h, kernels)
