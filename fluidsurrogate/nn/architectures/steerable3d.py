"""The residual network of irreps in space: close to equivariant under all rotations, exactly under the lattice's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import nn

from fluidsurrogate.nn.layers.irreps import Irreps, lattice_group_in_space, rotation_group
from fluidsurrogate.nn.layers.irreps_conv import IrrepsBasis, IrrepsConv
from fluidsurrogate.nn.layers.irreps_gate import IrrepsFiLM, IrrepsGate, IrrepsNorm
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

    Features are direct sums of irreps: scalars, vectors and symmetric traceless matrices, of both parities. The
    activation σ multiplies each irrep by a gate. The head is a 3³ convolution, which the matrices pass to vectors. The
    attribute `group` is the part of the group that the lattice has, O or Oh, which the network keeps exactly. It has as
    many layers as `gcnn`, with smaller dilations, because few points far apart do not turn well.

    Parameters
    ----------
    fields_in : sequence of FieldSpec
        Fields in space that the network takes.
    fields_out : sequence of FieldSpec
        Fields in space that the network returns.
    group : str
        SO3, or O3 with mirrors.
    width : int
        Channels of a feature, each a component of an irrep. Each order l gets an equal share.
    order : int
        Largest order l of the irreps in a feature.
    lifting_size : int
        Side of the lifting kernel in cells, odd and at least 3.
    size : int
        Side of the kernels of the residual blocks, odd and at least 3.
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
        order: int = 2,
        lifting_size: int = 5,
        size: int = 3,
        dilations: tuple[int, ...] = (1, 1, 2, 1, 1),
        anisotropy: float = 0.03,
        norm: bool = False,
        modulate: bool = False,
    ) -> None:
        super().__init__()
        mirrors, self.group = rotation_group(group)
        for number in (lifting_size, size):
            if number < 3 or number % 2 == 0:
                raise ValueError(f"kernel size must be odd and at least 3, to have directions (got {number})")
        irreps = hidden_irreps(width, order, mirrors)
        self.conditions = ConditioningSplit(fields_in, modulate)
        taken = self.conditions.convolved_fields
        numbers = len(fields_in) - len(taken)
        first, last = Irreps.of_fields(taken, mirrors), Irreps.of_fields(fields_out, mirrors)
        self.lift_basis = IrrepsBasis(irreps.orders, first.orders, lifting_size, anisotropy)
        self.basis = IrrepsBasis(irreps.orders, irreps.orders, size, anisotropy)
        self.head_basis = IrrepsBasis(last.orders, irreps.orders, 3, anisotropy)  # 1³ would not see the matrices
        self.lift = IrrepsConv(group, first, irreps, self.lift_basis)
        self.gate = IrrepsGate(self.group, irreps)
        self.blocks = nn.ModuleList(
            IrrepsBlock(
                IrrepsConv(group, irreps, irreps, self.basis, dilation), IrrepsGate(self.group, irreps),
                IrrepsNorm(irreps) if norm else nn.Identity(), IrrepsFiLM(numbers, irreps) if numbers else None,
            )
            for dilation in dilations
        )  # fmt: skip
        self.head = IrrepsConv(group, irreps, last, self.head_basis)

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
        h = self.gate(self.lift(fields))
        for block in self.blocks:
            h = block(h, numbers)
        return self.head(h)


@final
class IrrepsBlock(nn.Module):
    r"""Residual block on a direct sum of irreps.

    .. math:: h \mapsto h + \sigma(m(\mathrm{conv}(\mathrm{norm}(h))))

    Parameters
    ----------
    conv : IrrepsConv
        Convolution from a feature to a feature of the same type.
    gate : IrrepsGate
        Activation σ.
    norm : Module
        Normalisation of what the convolution takes in.
    modulation : IrrepsFiLM or None
        Modulation m by numbers of the flow.
    """

    def __init__(self, conv: IrrepsConv, gate: IrrepsGate, norm: nn.Module, modulation: IrrepsFiLM | None) -> None:
        super().__init__()
        self.conv, self.gate, self.norm, self.modulation = conv, gate, norm, modulation

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
        return h + self.gate(update)


def hidden_irreps(width: int, order: int, mirrors: bool) -> Irreps:
    """Return the irreps of a feature: an equal share of the channels for each order, the rest for scalars.

    Parameters
    ----------
    width : int
        Number of channels.
    order : int
        Largest order l.
    mirrors : bool
        Whether the group has mirrors: half of the copies of each order are then true tensors and half pseudotensors, of
        the scalars two thirds and one third.

    Returns
    -------
    Irreps
        For 48 channels up to l = 2: 12 scalars, 6 pseudoscalars, 3 vectors, 2 pseudovectors, 2 matrices and 1
        pseudomatrix.

    Raises
    ------
    ValueError
        If the order is negative, or there are too few channels for one irrep of each order.
    """
    if order < 0:
        raise ValueError(f"order must be at least 0 (got {order})")
    share = width // (order + 1)
    if share < 2 * order + 1:
        least = (2 * order + 1) * (order + 1)
        raise ValueError(f"width must be at least {least}, for irreps up to order {order} (got {width})")
    copies = {k: share // (2 * k + 1) for k in range(1, order + 1)}
    copies[0] = width - sum((2 * k + 1) * count for k, count in copies.items())
    counts = {}
    for k, count in copies.items():
        pseudo = count // (2 if k else 3)
        counts[f"{k}{'eo'[k % 2]}"], counts[f"{k}{'oe'[k % 2]}"] = count - pseudo, pseudo
    return Irreps.of_multiplicities(counts, mirrors)
