"""The residual group CNN, and the plain CNN as the same network without a group."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import final

from fluidsurrogate.nn.layers import GroupConv, SeparableGroupConv
from fluidsurrogate.nn.registry import architecture, register_without_group
from fluidsurrogate.nn.residual_network import ResidualGroupNetwork
from solvers import FieldSpec


@architecture("gcnn", in_space={"group": "Oh", "width": 48})
@final
class GCNN(ResidualGroupNetwork):
    r"""Group CNN: lifting → residual, dilated group convolutions → readout over the group.

    .. math:: h_0 = \sigma(\mathrm{lift}(x)), \quad h_{i+1} = h_i + \sigma(\mathrm{conv}_i(h_i)), \quad
        y = \sum_g \rho(g) \, w \, h(g)

    With dilations 1, 2, 4, 2, 1 and kernels of side 3 after a lifting of side 5 the receptive field is 25 cells.

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
        Activations per cell: channels times elements of the group; in space 48 by default.
    lifting_size : int
        Side of the lifting kernel in cells, odd.
    size : int
        Side of the kernels of the residual blocks, odd.
    dilations : tuple of int
        For each residual block, cells between neighbouring points of its kernel.
    separable : bool
        Whether the blocks' convolutions are `SeparableGroupConv`: fewer weights and operations.
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
        *,
        group: str = "D4",
        width: int = 32,
        lifting_size: int = 5,
        size: int = 3,
        dilations: tuple[int, ...] = (1, 2, 4, 2, 1),
        separable: bool = False,
        activation: str = "gelu",
        norm: bool = False,
        modulate: bool = False,
        pool: str = "mean",
    ) -> None:
        layer = SeparableGroupConv if separable else GroupConv
        super().__init__(
            fields_in, fields_out, [partial(layer, size=size, dilation=dilation) for dilation in dilations],
            group=group, width=width, lifting_size=lifting_size, activation=activation, norm=norm, modulate=modulate,
            pool=pool,
        )  # fmt: skip


register_without_group("cnn", GCNN, "Plain CNN: `gcnn` over the trivial group.", in_space={"width": 48})
