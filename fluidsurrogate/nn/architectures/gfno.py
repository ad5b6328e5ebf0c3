"""The group-equivariant Fourier neural operator; with `group = "C1"` a plain one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import final

from torch import nn

from fluidsurrogate.nn.layers import GroupConv, SpectralGroupConv2d
from fluidsurrogate.nn.registry import architecture
from fluidsurrogate.nn.residual_network import ResidualGroupNetwork
from fluidsurrogate.nn.shapes import Feature, FeatureOut
from solvers import FieldSpec, Group


@architecture("gfno", dimensions=(2,))
@final
class GFNO(ResidualGroupNetwork):
    r"""Group-equivariant Fourier neural operator: lifting → residual Fourier layers → readout over the group.

    .. math:: h_{i+1} = h_i + \sigma(\mathrm{spectral}_i(h_i) + \mathrm{conv}_i(h_i))

    The spectral convolution sees the whole box in its lowest modes, and the local convolution whatever is finer (Helwig
    et al. 2023, arXiv:2306.05697). Lifting and readout are those of `gcnn`.

    Parameters
    ----------
    fields_in : sequence of FieldSpec
        Fields that the network takes.
    fields_out : sequence of FieldSpec
        Fields that the network returns.
    group : str
        Name of the point group, "D4" for example.
    width : int
        Activations per cell: channels times elements of the group.
    modes : int
        Largest mode number of the spectral convolutions on each axis.
    layers : int
        Number of residual blocks, 1 to 100.
    lifting_size : int
        Side of the lifting kernel in cells, odd.
    size : int
        Side of the local kernels of the residual blocks, odd.
    activation : str
        Activation σ, "gelu" or "gated".
    norm : bool
        Whether what each Fourier layer takes in is normalised.
    modulate : bool
        Whether uniform scalars of the flow (a viscosity, a drag) modulate the features instead of being convolved.
    pool : str
        Pooling of the readout: "mean", "gated" or "max".

    Raises
    ------
    ValueError
        If `layers` is out of its range.
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
        if not 1 <= layers <= 100:
            raise ValueError(f"layers must be 1 to 100 (got {layers})")
        super().__init__(
            fields_in, fields_out, [partial(FourierLayer, modes=modes, size=size)] * layers,
            group=group, width=width, lifting_size=lifting_size, activation=activation, norm=norm, modulate=modulate,
            pool=pool,
        )  # fmt: skip


@final
class FourierLayer(nn.Module):
    """Sum of a spectral and a local group convolution.

    Parameters
    ----------
    group : Group
        Point group.
    channels_in : int
        Channels that come in.
    channels : int
        Channels that come out.
    modes : int
        Largest mode number of the spectral convolution on each axis.
    size : int
        Side of the local kernel in cells, odd.
    """

    def __init__(self, group: Group, channels_in: int, channels: int, modes: int, size: int) -> None:
        super().__init__()
        self.spectral = SpectralGroupConv2d(group, channels_in, channels, modes)
        self.local = GroupConv(group, channels_in, channels, size)

    def forward(self, h: Feature) -> FeatureOut:
        """Apply both convolutions.

        Parameters
        ----------
        h : Tensor
            Feature, of shape (batch, channels_in, |G|, y, x).

        Returns
        -------
        Tensor
            Feature, of shape (batch, channels, |G|, y, x).
        """
        return self.spectral(h) + self.local(h)
