"""The residual steerable CNN: close to equivariant under all rotations, and exactly under those of the lattice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import nn

from fluidsurrogate.nn.layers.steerable_basis import invariant_components, kernel_basis
from fluidsurrogate.nn.layers.steerable_conv import FourierGELU, SharedBasis, SteerableConv2d
from fluidsurrogate.nn.layers.steerable_group import lattice_group, steerable_group
from fluidsurrogate.nn.network import Network
from fluidsurrogate.nn.registry import architecture
from fluidsurrogate.nn.shapes import Field, FieldOut
from solvers import FieldSpec


@architecture("steerable", exact_group=lambda name, dimensions: lattice_group(name), dimensions=(2,))
@final
class SteerableCNN(Network):
    r"""Residual steerable CNN over C8, C16, D8, SO2 or O2; needs escnn.

    .. math:: h_0 = \sigma(\mathrm{lift}(x)), \quad h_{i+1} = h_i + \sigma(\mathrm{conv}_i(h_i)), \quad
        y = \mathrm{head}(h), \quad \sigma(h) = A^+ \mathrm{GELU}(A h)

    The attribute `group` is the part of the steerable group that the lattice has, which the network keeps exactly. It
    reaches 12 cells with larger kernels and smaller dilations than other networks, because few points far apart do not
    turn well.

    Parameters
    ----------
    fields_in : sequence of FieldSpec
        Fields that the network takes.
    fields_out : sequence of FieldSpec
        Fields that the network returns.
    group : str
        C8, C16, D8, SO2 or O2.
    width : int
        Activations per cell: channels times numbers in a feature. There are as many channels as fit.
    lifting_size : int
        Side of the lifting kernel in cells, odd and at least 3.
    size : int
        Side of the kernels of the residual blocks, odd and at least 3.
    dilations : tuple of int
        For each residual block, cells between neighbouring points of its kernel.
    frequency : int
        For SO2 and O2, the largest frequency f in a feature, which has 2f + 1 numbers, twice as many with mirrors.
    samples : int
        For SO2 and O2, the number of rotations at which the activation is applied: a multiple of 4 above 2f.

    Raises
    ------
    ValueError
        If an option is out of its range, or escnn is not installed.
    """

    def __init__(
        self,
        fields_in: Sequence[FieldSpec],
        fields_out: Sequence[FieldSpec],
        *,
        group: str = "O2",
        width: int = 32,
        lifting_size: int = 5,
        size: int = 5,
        dilations: tuple[int, ...] = (1, 1, 2, 1),
        frequency: int = 2,
        samples: int = 16,
    ) -> None:
        super().__init__()
        steered = steerable_group(group, frequency, samples)
        channels = width // steered.dimension
        if channels < 1:
            raise ValueError(f"width must be at least {steered.dimension}, one feature of {group} (got {width})")
        for number in (lifting_size, size):
            if number < 3 or number % 2 == 0:
                raise ValueError(f"kernel size must be odd and at least 3, to have directions (got {number})")
        self.group = lattice_group(group)
        even = steered.from_samples.sum(1, keepdim=True)  # A⁺ 1: the constant function
        self.lift_basis = SharedBasis(kernel_basis(steered, fields_in, None, lifting_size))
        self.basis = SharedBasis(kernel_basis(steered, None, None, size))
        self.head_basis = SharedBasis(kernel_basis(steered, None, fields_out, 1))
        self.lift = SteerableConv2d(self.group, self.lift_basis, even, 1, channels)
        self.blocks = nn.ModuleList(
            SteerableConv2d(self.group, self.basis, even, channels, channels, dilation) for dilation in dilations
        )
        self.head = SteerableConv2d(self.group, self.head_basis, invariant_components(steered, fields_out), channels, 1)
        self.activation = FourierGELU(steered)

    def forward(self, x: Field) -> FieldOut:
        """Apply the network.

        Parameters
        ----------
        x : Tensor
            Normalised fields, of shape (batch, component, y, x).

        Returns
        -------
        Tensor
            Normalised fields, of shape (batch, component_out, y, x).
        """
        h = self.activation(self.lift(x[:, None]))
        for block in self.blocks:
            h = h + self.activation(block(h))
        return self.head(h)[:, 0]
