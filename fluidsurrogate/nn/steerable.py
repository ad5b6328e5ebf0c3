"""The residual steerable CNN: near equivariance under rotations off the lattice, exact under those that it has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fluidsurrogate.nn.layers import Expanding, Kernel, Kernels, PlainConv2d, periodic_conv2d
from fluidsurrogate.nn.network import Field, FieldOut, Network, architecture
from fluidsurrogate.nn.steerable_basis import (
    SteerableGroup,
    field_kernels,
    invariant_components,
    lattice_group,
    steerable_group,
)
from solvers import FieldSpec, Group

Steered = Float[Tensor, "batch channel number y x"]
SteeredOut = Float[Tensor, "batch channel_out number_out y x"]


@final
class SharedBasis(nn.Module):
    """A basis of kernels, (k, d_out, d_in, size, size), for the layers that share it.

    Saved with the weights, which mean nothing without it: another machine's linear algebra may find another one.
    """

    values: Tensor

    def __init__(self, values: Float[Tensor, "k out components size size"]) -> None:
        super().__init__()
        self.register_buffer("values", _fresh(values))


@final
class SteerableConv2d(Expanding):
    """Channels of one representation to channels of another: κ_oi(x) = Σ_k w_oik κ_k(x), plus what is invariant.

    In (batch, channels_in, d_in, y, x), out (batch, channels, d_out, y, x). `constant`, (d_out, n), spans the vectors
    that the group leaves alone, the only ones that a bias may have. Weiler & Cesa 2019 (arXiv:1911.08251), section 2.
    """

    constant: Tensor

    def __init__(
        self, group: Group, basis: SharedBasis, constant: Float[Tensor, "out n"], channels_in: int, channels: int,
        dilation: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        if dilation < 1:
            raise ValueError(f"dilation must be at least 1 (got {dilation})")
        self.group, self.dilation = group, dilation
        self.shared = (basis,)  # in a tuple, so that it is the network's submodule and not each layer's
        elements = len(basis.values)
        self.weight = nn.Parameter(torch.empty(channels, channels_in, elements))
        nn.init.normal_(self.weight, std=1 / math.sqrt(channels_in * elements))
        self.register_buffer("constant", _fresh(constant), persistent=False)
        self.bias = nn.Parameter(torch.zeros(channels, constant.shape[1])) if constant.shape[1] else None

    def kernel(self) -> Kernel:
        """Expanded weight (channels · d_out, channels_in · d_in, size, size) and bias."""
        weight = torch.einsum("oik,kabyx->oaibyx", self.weight, self.shared[0].values).flatten(2, 3).flatten(0, 1)
        if self.bias is None:
            return weight, weight.new_zeros(len(weight))
        return weight, (self.bias @ self.constant.T).flatten()

    def plain(self) -> nn.Module:
        return PlainConv2d(self.kernel(), len(self.constant), self.dilation)

    def forward(self, x: Steered, kernels: Kernels | None = None) -> SteeredOut:
        y = periodic_conv2d(x.flatten(1, 2), self._kernel(kernels), self.dilation)
        return y.unflatten(1, (-1, len(self.constant)))


@final
class FunctionGELU(nn.Module):
    """h → A⁺ GELU(A h): pointwise on samples of the functions on the group that features stand for; see
    `SteerableGroup`. Of a finite group's features A is the identity."""

    to_samples: Tensor
    from_samples: Tensor

    def __init__(self, group: SteerableGroup) -> None:
        super().__init__()
        self.is_identity = not group.is_continuous
        self.register_buffer("to_samples", _fresh(group.to_samples), persistent=False)
        self.register_buffer("from_samples", _fresh(group.from_samples), persistent=False)

    def forward(self, h: Steered) -> Steered:
        if self.is_identity:
            return F.gelu(h)
        values = F.gelu(torch.einsum("sd,bcdyx->bcsyx", self.to_samples, h))
        return torch.einsum("ds,bcsyx->bcdyx", self.from_samples, values)


@architecture("steerable", claims=lattice_group)
@final
class SteerableCNN(Network):
    """Lifting → residual steerable convolutions → 1 × 1 steerable convolution onto the fields' representations.

    h₀ = σ(lift(x)),  h_{i+1} = h_i + σ(conv_i(h_i)),  y = head(h);  σ(h) = A⁺ GELU(A h). Over C8, C16, D8, SO2 or O2;
    `group` is the part of it that the lattice has, which the network keeps exactly. It reaches as far as `gcnn`, 12
    cells, with larger kernels and smaller dilations: few points far apart do not turn well.

    `width` counts activations: channels × numbers in a feature, as many channels as fit. For SO2 and O2, `frequency` is
    the largest in a feature (2f + 1 numbers, twice as many with mirrors) and `samples` the rotations at which the
    nonlinearity is applied.
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
        self.lift_basis = SharedBasis(field_kernels(steered, fields_in, None, lifting_size))
        self.basis = SharedBasis(field_kernels(steered, None, None, size))
        self.head_basis = SharedBasis(field_kernels(steered, None, fields_out, 1))
        self.lift = SteerableConv2d(self.group, self.lift_basis, even, 1, channels)
        self.blocks = nn.ModuleList(
            SteerableConv2d(self.group, self.basis, even, channels, channels, dilation) for dilation in dilations
        )
        self.head = SteerableConv2d(self.group, self.head_basis, invariant_components(steered, fields_out), channels, 1)
        self.activation = FunctionGELU(steered)

    def forward(self, x: Field, kernels: Kernels | None = None) -> FieldOut:
        h = self.activation(self.lift(x[:, None], kernels))
        for block in self.blocks:
            h = h + self.activation(block(h, kernels))
        return self.head(h, kernels)[:, 0]


def _fresh(values: Tensor) -> Tensor:
    """A copy in the default precision and on the device where tensors are being made."""
    return torch.empty(values.shape).copy_(values)
