"""The residual steerable CNN: near equivariance under rotations off the lattice, exact under those that it has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fluidsurrogate.nn.layers import Kernel, periodic_conv2d
from fluidsurrogate.nn.network import Field, FieldOut, Network, architecture
from fluidsurrogate.nn.steerable_basis import STEERABLE_GROUPS, SteerableGroup, kernel_basis, steerable_group
from solvers import FieldSpec

Basis = Float[Tensor, "basis out components size size"]


@final
class SteerableConv2d(nn.Module):
    """Channels of one representation to channels of another: κ_oi(x) = Σ_k w_oik κ_k(x), plus what is invariant.

    In (batch, channels_in · d_in, y, x), out (batch, channels · d_out, y, x). The basis κ_k, (k, d_out, d_in, size,
    size), is given to `kernel`, since layers share it; `constant`, (d_out, n), spans the vectors that the group leaves
    alone, the only ones that a bias may have.
    """

    constant: Tensor

    def __init__(self, basis: Basis, constant: Float[Tensor, "out n"], channels_in: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, channels_in, len(basis)))
        nn.init.normal_(self.weight, std=1 / math.sqrt(channels_in * len(basis)))
        self.register_buffer("constant", _fresh(constant), persistent=False)
        self.bias = nn.Parameter(torch.zeros(channels, constant.shape[1])) if constant.shape[1] else None

    def kernel(self, basis: Basis) -> Kernel:
        """Expanded weight (channels · d_out, channels_in · d_in, size, size) and bias."""
        weight = torch.einsum("oik,kabyx->oaibyx", self.weight, basis).flatten(2, 3).flatten(0, 1)
        if self.bias is None:
            return weight, weight.new_zeros(len(weight))
        return weight, (self.bias @ self.constant.T).flatten()


@final
class SteerableCNN(Network):
    """Lifting → residual steerable convolutions → 1 × 1 steerable convolution onto the fields' representations.

    h₀ = σ(lift(x)),  h_{i+1} = h_i + σ(conv_i(h_i)),  y = head(h);  σ(h) = A⁺ GELU(A h), pointwise on samples of the
    functions on the group that h stands for. `group` is the lattice's part of the group, which it keeps exactly.

    The bases belong to the weights, and are saved with them: another machine's linear algebra may find others.
    """

    to_samples: Tensor
    from_samples: Tensor
    lift_basis: Tensor
    basis: Tensor
    head_basis: Tensor

    def __init__(
        self,
        fields_in: Sequence[FieldSpec],
        fields_out: Sequence[FieldSpec],
        group: SteerableGroup,
        width: int,
        lifting_size: int,
        size: int,
        dilations: Sequence[int],
    ) -> None:
        super().__init__()
        channels = width // group.dimension
        if not channels:
            raise ValueError(f"width must be at least {group.dimension}, one feature of {group.name} (got {width})")
        _check(lifting_size, size, dilations)
        _, mirrors, self.group = STEERABLE_GROUPS[group.name]
        self.dilations = tuple(dilations)
        typed_in, typed_out = (tuple((f.order, f.parity) for f in fields) for fields in (fields_in, fields_out))
        lift = _basis(group, typed_in, None, lifting_size)
        blocks = _basis(group, None, None, size)
        head = _basis(group, None, typed_out, 1)
        for name, values in (("lift_basis", lift), ("basis", blocks), ("head_basis", head)):
            self.register_buffer(name, _fresh(values))
        for name, values in (("to_samples", group.to_samples), ("from_samples", group.from_samples)):
            self.register_buffer(name, _fresh(values), persistent=False)
        even = group.from_samples.sum(1, keepdim=True)  # A⁺ 1: the constant function
        self.lift = SteerableConv2d(lift, even, 1, channels)
        self.blocks = nn.ModuleList(SteerableConv2d(blocks, even, channels, channels) for _ in dilations)
        self.head = SteerableConv2d(head, _invariant(fields_out, mirrors), channels, 1)

    def fold(self) -> Callable[[Field], FieldOut]:
        layers = (self.lift, *self.blocks, self.head)
        bases = (self.lift_basis, *(self.basis for _ in self.blocks), self.head_basis)
        kernels = [layer.kernel(basis) for layer, basis in zip(layers, bases, strict=True)]
        return partial(self._apply_kernels, kernels)

    def _apply_kernels(self, kernels: list[Kernel], x: Field) -> FieldOut:
        lift, *blocks, head = kernels
        h = self._pointwise(periodic_conv2d(x, lift))
        for dilation, kernel in zip(self.dilations, blocks, strict=True):
            h = h + self._pointwise(periodic_conv2d(h, kernel, dilation))
        return periodic_conv2d(h, head)

    def _pointwise(self, h: Tensor) -> Tensor:
        if self.to_samples.shape[0] == self.to_samples.shape[1]:  # a regular representation: h are the samples
            return F.gelu(h)
        functions = h.unflatten(1, (-1, self.to_samples.shape[1]))
        values = F.gelu(torch.einsum("sd,bcdyx->bcsyx", self.to_samples, functions))
        return torch.einsum("ds,bcsyx->bcdyx", self.from_samples, values).flatten(1, 2)


@lru_cache
def _basis(group: SteerableGroup, typed_in: tuple | None, typed_out: tuple | None, size: int) -> Tensor:
    """`kernel_basis` between stacks of fields, given by order and parity, or features where None."""
    into, out_of = (
        group.feature if typed is None else group.fields([FieldSpec("", *one) for one in typed])
        for typed in (typed_in, typed_out)
    )
    return kernel_basis(group, into, out_of, size)


def _fresh(values: Tensor) -> Tensor:
    """A copy in the default precision and on the device where tensors are being made."""
    return torch.empty(values.shape).copy_(values)


def _invariant(fields: Sequence[FieldSpec], mirrors: bool) -> Tensor:
    """(components, n): the unit vectors of the scalars; without mirrors a pseudoscalar is one."""
    flags = [f.order == 0 and (f.parity > 0 or not mirrors) for f in fields for _ in range(f.components)]
    with torch.device("cpu"):
        return torch.eye(len(flags))[:, torch.tensor(flags)]


def _check(lifting_size: int, size: int, dilations: Sequence[int]) -> None:
    for number in (lifting_size, size):
        if number < 3 or number % 2 == 0:
            raise ValueError(f"kernel size must be odd and at least 3, so that it has a direction (got {number})")
    if any(dilation < 1 for dilation in dilations):
        raise ValueError(f"dilations must be at least 1 (got {tuple(dilations)})")


@architecture("steerable", groups={name: lattice for name, (_, _, lattice) in STEERABLE_GROUPS.items()})
def steerable(
    fields_in: Sequence[FieldSpec],
    fields_out: Sequence[FieldSpec],
    *,
    group: str = "O2",
    width: int = 32,
    lifting_size: int = 5,
    size: int = 5,
    dilations: tuple[int, ...] = (1, 1, 2, 1),
    frequency: int = 2,
    samples: int = 8,
) -> SteerableCNN:
    """Steerable CNN; `width` counts activations: channels × numbers in a feature, as many channels as fit.

    It reaches as far as `gcnn`, 12 cells, with larger kernels and smaller dilations: few points far apart do not turn.
    `frequency` and `samples` are for SO2 and O2: the largest frequency in a feature (2f + 1 numbers, twice as many
    with mirrors) and the rotations at which the nonlinearity is applied.
    """
    return SteerableCNN(
        fields_in, fields_out, steerable_group(group, frequency, samples), width, lifting_size, size, dilations
    )
