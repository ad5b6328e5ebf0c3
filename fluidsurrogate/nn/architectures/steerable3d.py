"""The residual network of irreps in space: close to equivariant under all rotations, exactly under the lattice's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import nn

from fluidsurrogate.nn.layers.irreps import Irreps, lattice_group_in_space, rotation_group
from fluidsurrogate.nn.layers.irreps_conv import IrrepsBasis, IrrepsConv
from fluidsurrogate.nn.layers.irreps_matrix import MatrixActivation, MatrixFeature, MatrixFiLM, MatrixNorm
from fluidsurrogate.nn.layers.modulation import ConditioningSplit
from fluidsurrogate.nn.network import Network
from fluidsurrogate.nn.registry import architecture
from fluidsurrogate.nn.shapes import ConditioningNumbers, Field, FieldOut
from solvers import FieldSpec


@architecture("steerable3d", exact_group=lattice_group_in_space, dimensions=(3,))
@final
class SteerableCNN3d(Network):
    r"""Residual steerable CNN in space, over SO3 or O3 (SE(3)- or E(3)-equivariant); needs e3nn.

    .. math:: h_0 = \sigma(\mathrm{lift}(x)), \quad h_{i+1} = h_i + \sigma(\mathrm{conv}_i(h_i)), \quad
        y = \mathrm{head}(h)

    Features are direct sums of the irreps up to l = 2, of both parities, arranged as scalars and 3 × 3 matrices. The
    activation σ multiplies the matrices by each other. Lifting, convolutions and head are equivariant kernels of
    radial profiles times spherical harmonics; the head is as large as the others, to pass matrices to vectors. The
    attribute `group` is the part of the group that the lattice has, O or Oh, which the network keeps exactly. Dilations
    are smaller than those of `gcnn`, because few points far apart do not turn well.

    Parameters
    ----------
    fields_in : sequence of FieldSpec
        Fields in space that the network takes.
    fields_out : sequence of FieldSpec
        Fields in space that the network returns.
    group : str
        SO3, or O3 with mirrors.
    width : int
        Channels of a feature: 48 are 12 scalars and, with mirrors, 2 pairs of matrices, without them 4 matrices.
    lifting_size : int
        Side of the lifting kernel in cells, odd and at least 3.
    size : int
        Side of the kernels of the residual blocks and the head, odd and at least 3.
    dilations : tuple of int
        For each residual block, cells between neighbouring points of its kernel.
    anisotropy : float
        Largest anisotropy of a kernel, see `fluidsurrogate.nn.layers.irreps_basis.isotropic_profiles`: the smaller, the
        closer to equivariant under rotations off the lattice, and the fewer kernels.
    norm : bool
        Whether what each convolution takes in is normalised.
    modulate : bool
        Whether uniform scalars of the flow (a viscosity, a drag) modulate the features instead of being convolved.

    Raises
    ------
    ValueError
        If an option is out of its range, or e3nn is not installed.
    """

    def __init__(
        self,
        fields_in: Sequence[FieldSpec],
        fields_out: Sequence[FieldSpec],
        *,
        group: str = "O3",
        width: int = 48,
        lifting_size: int = 5,
        size: int = 3,
        dilations: tuple[int, ...] = (1, 1, 2, 1),
        anisotropy: float = 0.03,
        norm: bool = False,
        modulate: bool = False,
    ) -> None:
        super().__init__()
        mirrors, self.group = rotation_group(group)
        for number in (lifting_size, size):
            if number < 3 or number % 2 == 0:
                raise ValueError(f"kernel size must be odd and at least 3, to have directions (got {number})")
        feature = MatrixFeature.of_width(width, mirrors)
        self.conditions = ConditioningSplit(fields_in, modulate)
        taken = self.conditions.convolved_fields
        numbers = len(fields_in) - len(taken)
        first, last = Irreps.of_fields(taken, mirrors), Irreps.of_fields(fields_out, mirrors)
        self.lift_basis = IrrepsBasis(feature.irreps.orders, first.orders, lifting_size, anisotropy)
        self.basis = IrrepsBasis(feature.irreps.orders, feature.irreps.orders, size, anisotropy)
        self.head_basis = IrrepsBasis(last.orders, feature.irreps.orders, size, anisotropy)
        self.lift = IrrepsConv(group, first, feature, self.lift_basis)
        self.activation = MatrixActivation(feature)
        self.blocks = nn.ModuleList(
            MatrixBlock(
                IrrepsConv(group, feature, feature, self.basis, dilation), self.activation,
                MatrixNorm(feature) if norm else nn.Identity(), MatrixFiLM(numbers, feature) if numbers else None,
            )
            for dilation in dilations
        )  # fmt: skip
        self.head = IrrepsConv(group, feature, last, self.head_basis)
        with torch.no_grad():  # a first forecast close to persistence
            self.head.weight.mul_(0.2)

    def forward(self, x: Field) -> FieldOut:
        """Apply the network.

        Parameters
        ----------
        x : Tensor
            Normalised fields, of shape (batch, component, z, y, x).

        Returns
        -------
        Tensor
            Normalised fields, of shape (batch, component_out, z, y, x).
        """
        fields, numbers = self.conditions(x)
        h = self.activation(self.lift(fields))
        for block in self.blocks:
            h = block(h, numbers)
        return self.head(h)


@final
class MatrixBlock(nn.Module):
    r"""Residual block on a feature of scalars and matrices.

    .. math:: h \mapsto h + \sigma(m(\mathrm{conv}(\mathrm{norm}(h))))

    Parameters
    ----------
    conv : IrrepsConv
        Convolution from a feature to a feature of the same type.
    activation : MatrixActivation
        Activation σ.
    norm : Module
        Normalisation of what the convolution takes in.
    modulation : MatrixFiLM or None
        Modulation m by numbers of the flow.
    """

    def __init__(
        self, conv: IrrepsConv, activation: MatrixActivation, norm: nn.Module, modulation: MatrixFiLM | None
    ) -> None:
        super().__init__()
        self.conv, self.activation, self.norm, self.modulation = conv, activation, norm, modulation

    def forward(self, h: Field, numbers: ConditioningNumbers | None) -> Field:
        """Apply the block.

        Parameters
        ----------
        h : Tensor
            Feature, of shape (batch, channel, z, y, x).
        numbers : Tensor or None
            Conditioning numbers, of shape (batch, condition).

        Returns
        -------
        Tensor
            Feature of the same shape.
        """
        update = self.conv(self.norm(h))
        if self.modulation is not None:
            update = self.modulation(update, numbers)
        return h + self.activation(update)
