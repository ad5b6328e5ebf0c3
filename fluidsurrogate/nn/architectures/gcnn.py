"""The residual group CNN, and the plain CNN as the same network without a group."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import final

from fluidsurrogate.nn.layers import GroupConv, SeparableGroupConv
from fluidsurrogate.nn.registry import architecture, register_without_group
from fluidsurrogate.nn.residual_network import ResidualGroupNetwork
from solvers import FieldSpec

# Gates and few, small kernels were tried in the plane only, where the velocity is a further input.
IN_SPACE = {"width": 48, "lifting_size": 5, "dilations": (1, 2, 4, 2, 1), "activation": "gelu"}


@architecture("gcnn", in_space={"group": "Oh", **IN_SPACE})
@final
class GCNN(ResidualGroupNetwork):
    r"""Group CNN: lifting → residual, dilated group convolutions → readout over the group.

    .. math:: h_0 = \sigma(\mathrm{lift}(x)), \quad h_{i+1} = h_i + \sigma(\mathrm{conv}_i(h_i)), \quad
        y = \sum_g \rho(g) \, w \, h(g)

    The network sees as far as its kernels reach: with dilations 1, 2, 1 and kernels of side 3 five cells to each side,
    in space with dilations 1, 2, 4, 2, 1 and a lifting of side 5 twelve. That is enough if the flow carries things less
    far in an interval, because the velocity, which depends on the vorticity of the whole box, is an input.

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
        Side of the lifting kernel in cells, odd; in space 5 by default.
    size : int
        Side of the kernels of the residual blocks, odd.
    dilations : tuple of int
        For each residual block, cells between neighbouring points of its kernel; in space (1, 2, 4, 2, 1) by default.
    separable : bool
        Whether the blocks' convolutions are `SeparableGroupConv`: fewer weights and operations.
    activation : str
        Activation σ, "gelu" or "gated"; in space "gelu" by default.
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
        width: int = 16,
        lifting_size: int = 3,
        size: int = 3,
        dilations: tuple[int, ...] = (1, 2, 1),
        separable: bool = False,
        activation: str = "gated",
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


register_without_group("cnn", GCNN, "Plain CNN: `gcnn` over the trivial group.", in_space=IN_SPACE)
