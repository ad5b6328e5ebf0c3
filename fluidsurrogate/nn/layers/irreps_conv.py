"""Convolution between direct sums of irreps of the rotations of space."""

from __future__ import annotations

import math
from itertools import product
from typing import final

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.nn import functional as F

from fluidsurrogate.nn.layers.equivariant_conv import EquivariantConv
from fluidsurrogate.nn.layers.irreps import Irreps, rotation_group
from fluidsurrogate.nn.layers.irreps_basis import lattice_kernels
from fluidsurrogate.nn.layers.periodic_conv import PlainConv, periodic_conv
from fluidsurrogate.nn.shapes import Field, FieldOut, Kernel


@final
class IrrepsConv(EquivariantConv):
    r"""Convolution from one direct sum of irreps to another (Weiler et al. 2018, arXiv:1807.02547).

    .. math:: \kappa_{ji}(x) = \sum_{l, k} w_{jilk} \, \varphi_k(|x|) \, \sum_m C^{jil}_{\cdot \cdot m} Y^l_m(x / |x|)

    The self-connection is the tap at the centre. An invariant that comes out has a bias.

    Parameters
    ----------
    group : str
        SO3 or O3.
    irreps_in : Irreps
        What comes in.
    irreps_out : Irreps
        What comes out.
    size : int
        Side of the kernel in cells, odd.
    dilation : int
        Cells between neighbouring points of the kernel.

    Raises
    ------
    ValueError
        If `size` is even or less than 1, or `dilation` is less than 1.
    """

    index: Tensor

    def __init__(self, group: str, irreps_in: Irreps, irreps_out: Irreps, size: int = 3, dilation: int = 1) -> None:
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise ValueError(f"kernel size must be odd, so that it has a centre (got {size})")
        if dilation < 1:
            raise ValueError(f"dilation must be at least 1 (got {dilation})")
        mirrors, self.group = rotation_group(group)
        self.irreps_in, self.irreps_out, self.size, self.dilation = irreps_in, irreps_out, size, dilation
        self._orders = (irreps_out.orders, irreps_in.orders)
        self._shapes: list[tuple[int, int, int]] = []  # of the weights of each pair of orders: copies out, in, basis
        indices, fans, count = [], torch.zeros(len(irreps_out.copies)), 0
        for number, (first, second) in enumerate(product(*self._orders)):
            basis, orders = lattice_kernels(first, second, size, size)
            for name, half in zip(("high", "low"), _halves(basis.flatten(1)), strict=True):
                self.register_buffer(f"basis_{name}_{number}", half, persistent=False)
            rows, columns = irreps_out.copies_of_order(first), irreps_in.copies_of_order(second)
            signs = torch.tensor([(-1) ** order for order in orders], dtype=torch.long)
            parities = [[irreps_out.copies[j].parity * irreps_in.copies[i].parity for i in columns] for j in rows]
            allowed = torch.tensor(parities)[..., None] == signs
            if not mirrors:
                allowed = torch.ones_like(allowed)
            index = torch.full(allowed.shape, -1)
            index[allowed] = torch.arange(count, count + int(allowed.sum()))
            count += int(allowed.sum())
            fans[rows] += allowed.sum((1, 2))
            self._shapes.append((len(rows), len(columns), len(orders)))
            indices.append(index)
        self.register_buffer("index", torch.cat([i.where(i >= 0, count).flatten() for i in indices]), persistent=False)
        self.weight = nn.Parameter(torch.empty(count))
        self._initialise(indices, fans)
        invariant = torch.tensor(irreps_out.is_invariant)[list(irreps_out.copy_of_channel)]
        self.register_buffer("bias_index", (invariant.cumsum(0) - 1).where(invariant, invariant.sum()), persistent=False)
        self.bias = nn.Parameter(torch.zeros(int(invariant.sum())))
        channels = [irreps.channels_by_order for irreps in (irreps_out, irreps_in)]
        places = [torch.tensor(order).argsort() for order in channels]
        self._is_sorted = all(list(order) == sorted(order) for order in channels)
        self.register_buffer("places_out", places[0], persistent=False)
        self.register_buffer("places_in", places[1], persistent=False)

    @torch.no_grad()
    def _initialise(self, indices: list[Tensor], fans: Tensor) -> None:
        """Draw weights so that each copy out has a variance of 1 if all channels in are white noise."""
        deviations = torch.zeros(len(self.weight))
        for index, first in zip(indices, (first for first, _ in product(*self._orders)), strict=True):
            fan = fans[self.irreps_out.copies_of_order(first)][:, None, None].expand_as(index)
            deviations[index[index >= 0]] = fan[index >= 0].rsqrt()
        self.weight.copy_(torch.randn(len(self.weight)) * deviations)

    def expand_kernel(self) -> Kernel:
        """Expand the free weights to the kernel of an ordinary convolution.

        Returns
        -------
        tuple of Tensor
            Weight of shape (channels out, channels in, size, size, size), and bias of shape (channels out,).
        """
        with torch.autocast(self.weight.device.type, enabled=False):  # half a precision would break the symmetry
            shapes, points = self._shapes, self.size**3
            weights = F.pad(self.weight, (0, 1)).index_select(0, self.index).split([math.prod(s) for s in shapes])
            blocks = []
            for number, (j, i) in enumerate(product(*self._orders)):
                rows, columns, _ = shapes[number]
                block = weights[number].view(rows * columns, -1) @ self._basis(number)
                block = block.view(rows, columns, 2 * j + 1, 2 * i + 1, points).transpose(1, 2)
                blocks.append(block.reshape(rows * (2 * j + 1), columns * (2 * i + 1), points))
            width = len(self._orders[1])
            lines = [torch.cat(blocks[k : k + width], dim=1) for k in range(0, len(blocks), width)]
            weight = torch.cat(lines).unflatten(2, (self.size,) * 3)
            if not self._is_sorted:
                weight = weight.index_select(0, self.places_out).index_select(1, self.places_in)
            return weight, F.pad(self.bias, (0, 1)).index_select(0, self.bias_index)

    def _basis(self, number: int) -> Tensor:
        """Return the basis of one pair of orders in the precision of the weights."""
        high, low = (self.get_buffer(f"basis_{name}_{number}").to(self.weight.dtype) for name in ("high", "low"))
        return high + low if high.dtype is torch.float64 else high

    def convolve(self, x: Field, kernel: Kernel) -> FieldOut:
        """Convolve with an expanded kernel.

        Parameters
        ----------
        x : Tensor
            Channels of `irreps_in`, of shape (batch, channel, z, y, x).
        kernel : tuple of Tensor
            What `expand_kernel` returns.

        Returns
        -------
        Tensor
            Channels of `irreps_out`, of shape (batch, channel, z, y, x).
        """
        return periodic_conv(x, kernel, self.dilation)

    def to_plain(self) -> PlainConv:
        """Convert the layer to an ordinary convolution.

        Returns
        -------
        PlainConv
            Holds the kernel expanded from the present weights, detached from them.
        """
        return PlainConv(self.expand_kernel(), 0, self.dilation)


def _halves(values: Float64[Tensor, "..."]) -> tuple[Tensor, Tensor]:
    """Split numbers into two of single precision whose sum has double precision.

    A network is made in single precision and may be cast to double, in which its symmetry shall be as exact.
    """
    high = values.float()
    halves = high, (values - high.double()).float()
    return tuple(torch.empty(half.shape, dtype=torch.float32).copy_(half) for half in halves)  # type: ignore[return-value]
