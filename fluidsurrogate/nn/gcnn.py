"""The residual group CNN with dilated convolutions, and the plain CNN as the same network with the trivial group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import nn

from fluidsurrogate.nn.layers import GroupConv2d, Kernels, LiftingConv2d
from fluidsurrogate.nn.network import Field, FieldOut, Network, architecture, register_plain
from fluidsurrogate.nn.pointwise import Conditions, activate, channels_before, channels_for
from fluidsurrogate.nn.readout import Readout
from fluidsurrogate.nn.residual import Residual
from solvers import FieldSpec, group_named


@architecture("gcnn")
@final
class GCNN(Network):
    """Group CNN: lifting → residual, dilated group convolutions → readout over α.

    h₀ = GELU(lift(x)),  h_{i+1} = h_i + GELU(conv_i(h_i)),  y = Σ_g ρ(g) w h(g); with dilations 1, 2, 4, 2, 1 and 3 × 3
    kernels after a 5 × 5 lifting the receptive field is 25 cells. `norm` normalises what each convolution takes in;
    `modulate` gives the uniform scalars in (a viscosity, a drag) to a modulation after each convolution, instead of
    convolving them.
    """

    def __init__(
        self,
        fields_in: Sequence[FieldSpec],
        fields_out: Sequence[FieldSpec],
        *,
        group: str = "D4",
        width: int = 32,
        lifting_size: int = 5,
        size: int = 3,
        dilations: tuple[int, ...] = (1, 2, 4, 2, 1),
        activation: str = "gelu",
        norm: bool = False,
        modulate: bool = False,
        pool: str = "mean",
    ) -> None:
        super().__init__()
        point = group_named(group)
        channels = channels_for(width, len(point), point.name)
        wide = channels_before(channels, activation)
        self.group, self.activation = point, activation
        self.conditions = Conditions(fields_in, modulate)
        self.lift = LiftingConv2d(point, self.conditions.fields, wide, lifting_size)
        self.blocks = nn.ModuleList(
            Residual(GroupConv2d(point, channels, wide, size, d), channels, activation, norm, self.conditions)
            for d in dilations
        )
        self.out = Readout(point, channels, fields_out, pool)

    def forward(self, x: Field, kernels: Kernels | None = None) -> FieldOut:
        x, numbers = self.conditions(x)
        h = activate(self.lift(x, kernels), self.activation)
        for block in self.blocks:
            h = block(h, numbers, kernels)
        return self.out(h, kernels)


register_plain("cnn", GCNN, "Plain CNN: `gcnn` over the trivial group.")
