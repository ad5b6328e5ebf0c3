"""The base class of the residual networks over a point group, `gcnn` and `gfno`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from fluidsurrogate.nn.layers import (
    ConditioningSplit,
    LiftingConv,
    Readout,
    ResidualBlock,
    channels_before_activation,
    channels_for_width,
    conv_and_activation,
)
from fluidsurrogate.nn.network import Network
from fluidsurrogate.nn.shapes import Field, FieldOut
from solvers import FieldSpec, Group, group_named


class ResidualGroupNetwork(Network):
    r"""Base class of residual networks over a point group: lifting, residual blocks, readout.

    .. math:: h_0 = \sigma(\mathrm{lift}(x)), \quad h_{i+1} = h_i + \sigma(\mathrm{conv}_i(h_i)), \quad
        y = \mathrm{readout}(h)

    Parameters
    ----------
    fields_in : sequence of FieldSpec
        Fields that the network takes.
    fields_out : sequence of FieldSpec
        Fields that the network returns.
    convolutions : sequence of callable
        For each block, a function (group, channels_in, channels_out) → layer from features to features.
    group : str
        Name of the point group.
    width : int
        Activations per cell: channels times elements of the group.
    lifting_size : int
        Side of the lifting kernel in cells, odd.
    activation : str
        Activation σ, "gelu" or "gated".
    norm : bool
        Whether what each convolution takes in is normalised.
    modulate : bool
        Whether uniform scalars of the flow (a viscosity, a drag) modulate the features instead of being convolved.
    pool : str
        Pooling of the readout: "mean", "gated" or "max".
    """

    def __init__(
        self,
        fields_in: Sequence[FieldSpec],
        fields_out: Sequence[FieldSpec],
        convolutions: Sequence[Callable[[Group, int, int], nn.Module]],
        *,
        group: str,
        width: int,
        lifting_size: int,
        activation: str,
        norm: bool,
        modulate: bool,
        pool: str,
    ) -> None:
        super().__init__()
        self.group, self.activation = group_named(group, fields_in[0].dimensions), activation
        channels = channels_for_width(width, self.group)
        before = channels_before_activation(channels, activation)
        self.conditions = ConditioningSplit(fields_in, modulate)
        self.lift = LiftingConv(self.group, self.conditions.convolved_fields, before, lifting_size)
        self.blocks = nn.ModuleList(
            ResidualBlock(convolution(self.group, channels, before), channels, activation, norm, self.conditions)
            for convolution in convolutions
        )
        self.out = Readout(self.group, channels, fields_out, pool)

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
        fields, numbers = self.conditions(x)
        h = conv_and_activation(self.lift, fields, self.activation)
        for block in self.blocks:
            h = block(h, numbers)
        return self.out(h)
