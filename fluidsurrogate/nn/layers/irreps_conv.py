"""Convolution between direct sums of irreps of the rotations of space."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import final

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional as F

from fluidsurrogate.nn.layers.equivariant_conv import EquivariantConv
from fluidsurrogate.nn.layers.irreps import Irreps, rotation_group
from fluidsurrogate.nn.layers.irreps_basis import lattice_kernels
from fluidsurrogate.nn.layers.irreps_matrix import MatrixFeature
from fluidsurrogate.nn.layers.periodic_conv import PlainConv, periodic_conv
from fluidsurrogate.nn.shapes import Field, FieldOut, Kernel


def split_precision(values: Float64[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Split numbers into sums of two of single precision, from which a cast to double precision takes nothing.

    Parameters
    ----------
    values : Tensor
        Float64.

    Returns
    -------
    high, low : Tensor
        Float32, of the same shape.
    """
    high = values.float()
    first, second = (
        torch.empty(half.shape, dtype=torch.float32).copy_(half) for half in (high, values - high.double())
    )
    return first, second


def join_precision(high: Tensor, low: Tensor, dtype: torch.dtype) -> Tensor:
    """Add what `split_precision` made, in a precision.

    Parameters
    ----------
    high, low : Tensor
        Halves.
    dtype : torch.dtype
        Precision.

    Returns
    -------
    Tensor
        The numbers.
    """
    return high.to(dtype) + low.to(dtype) if dtype is torch.float64 else high.to(dtype)


@final
class IrrepsBasis(nn.Module):
    """Bases of equivariant kernels between irreps of several orders, for the layers that share them.

    The bases are saved with the weights, which mean nothing without them: another machine's linear algebra may find
    other ones. A network is made in single precision and may be cast to double, in which its symmetry shall be as
    exact: each number is therefore kept in two halves, see `split_precision`.

    Parameters
    ----------
    orders_out, orders_in : sequence of int
        Orders of the irreps that come out and in.
    size : int
        Side of the kernels in cells, odd.
    anisotropy : float
        Largest anisotropy of a kernel, see `isotropic_profiles`.

    Attributes
    ----------
    pairs : list of tuple of int
        The pairs of orders (out, in).
    harmonics : list of tuple of int
        For each pair, the order of the spherical harmonics of each kernel.
    """

    def __init__(self, orders_out: Sequence[int], orders_in: Sequence[int], size: int, anisotropy: float) -> None:
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise ValueError(f"kernel size must be odd, so that it has a centre (got {size})")
        self.size, self.pairs, self.harmonics = size, list(product(orders_out, orders_in)), []
        for pair in self.pairs:
            kernels, orders = lattice_kernels(*pair, size, anisotropy)
            self.harmonics.append(orders)
            for name, half in zip(("high", "low"), split_precision(kernels.flatten(1)), strict=True):
                self.register_buffer(self._name(name, pair), half)

    @staticmethod
    def _name(half: str, pair: tuple[int, int]) -> str:
        return f"{half}_{pair[0]}_{pair[1]}"

    def between(self, pair: tuple[int, int], dtype: torch.dtype) -> Float[Tensor, "basis numbers"]:
        """Return the basis of one pair of orders.

        Parameters
        ----------
        pair : tuple of int
            Orders (out, in).
        dtype : torch.dtype
            Precision.

        Returns
        -------
        Tensor
            Shape (basis, (2 out + 1) (2 in + 1) size³).
        """
        high, low = (self.get_buffer(self._name(half, pair)) for half in ("high", "low"))
        return join_precision(high, low, dtype)


@final
class IrrepsConv(EquivariantConv):
    r"""Convolution between direct sums of irreps, or features made of them (Weiler et al. 2018, arXiv:1807.02547).

    .. math:: \kappa_{ji}(x) = \sum_{l, k} w_{jilk} \, \varphi_k(|x|) \, \sum_m C^{jil}_{\cdot \cdot m} Y^l_m(x / |x|)

    The self-connection is the tap at the centre. An invariant that comes out has a bias.

    Parameters
    ----------
    group : str
        SO3 or O3.
    taken : Irreps or MatrixFeature
        What comes in.
    given : Irreps or MatrixFeature
        What comes out.
    basis : IrrepsBasis
        Kernels between the orders of the two.
    dilation : int
        Cells between neighbouring points of the kernel.

    Raises
    ------
    ValueError
        If `dilation` is less than 1.
    """

    index: Tensor
    invariant: Tensor

    def __init__(
        self, group: str, taken: Irreps | MatrixFeature, given: Irreps | MatrixFeature, basis: IrrepsBasis,
        dilation: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        if dilation < 1:
            raise ValueError(f"dilation must be at least 1 (got {dilation})")
        device = torch.get_default_device()
        with torch.device("cpu"):  # the sizes of the parameters depend on values, which the meta device has not
            mirrors, self.group = rotation_group(group)
            irreps_in, irreps_out = taken.irreps, given.irreps
            self.irreps_in, self.irreps_out, self.dilation = irreps_in, irreps_out, dilation
            self._basis = (basis,)  # in a tuple, so that it is the network's submodule and not each layer's
            # Of the weights of each pair of orders: copies out, copies in, kernels in the basis.
            self._shapes: list[tuple[int, int, int]] = []
            indices, fans, count = [], torch.zeros(len(irreps_out.copies)), 0
            for (first, second), orders in zip(basis.pairs, basis.harmonics, strict=True):
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
            self.register_buffer(
                "index", torch.cat([i.where(i >= 0, count).flatten() for i in indices]), persistent=False
            )
            self.weight = nn.Parameter(torch.empty(count))
            self._initialise(indices, fans)
            changes = {"out": given.channels(), "in": taken.channels()}
            self._is_trivial = {side: torch.equal(m, torch.eye(len(m)).to(m)) for side, m in changes.items()}
            for side, change in changes.items():
                for name, half in zip(("high", "low"), split_precision(change), strict=True):
                    self.register_buffer(f"{side}_{name}", half, persistent=False)
            ranked = irreps_out.copies_by_order
            invariant = torch.tensor(
                [irreps_out.is_invariant[i] for i in ranked for _ in range(irreps_out.copies[i].dimension)]
            )
            self.register_buffer("invariant", invariant.nonzero()[:, 0], persistent=False)
            self.bias = nn.Parameter(torch.zeros(int(invariant.sum())))
        self.to(device)

    @torch.no_grad()
    def _initialise(self, indices: list[Tensor], fans: Tensor) -> None:
        """Draw weights so that each copy out has a variance of 1 if all channels in are white noise."""
        deviations = torch.zeros(len(self.weight))
        for index, first in zip(indices, (first for first, _ in self._basis[0].pairs), strict=True):
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
        device = "cpu" if self.weight.is_meta else self.weight.device.type  # autocast knows no meta device
        with torch.autocast(device, enabled=False):  # half a precision would break the symmetry
            basis, shapes = self._basis[0], self._shapes
            weights = F.pad(self.weight, (0, 1)).index_select(0, self.index).split([math.prod(s) for s in shapes])
            blocks = []
            for pair, (rows, columns, _), own in zip(basis.pairs, shapes, weights, strict=True):
                block = own.view(rows * columns, -1) @ basis.between(pair, own.dtype)
                j, i = (2 * order + 1 for order in pair)
                blocks.append(block.view(rows, columns, j, i, -1).transpose(1, 2).reshape(rows * j, columns * i, -1))
            width = len(self.irreps_in.orders)
            lines = [torch.cat(blocks[k : k + width], dim=1) for k in range(0, len(blocks), width)]
            weight, change = torch.cat(lines), self._change("out")
            bias = change.index_select(1, self.invariant) @ self.bias
            if not self._is_trivial["out"]:
                weight = (change @ weight.flatten(1)).view_as(weight)
            if not self._is_trivial["in"]:
                weight = self._change("in") @ weight
            return weight.unflatten(2, (basis.size,) * 3), bias

    def _change(self, side: str) -> Tensor:
        """Return the matrix that takes components of irreps to channels."""
        return join_precision(self.get_buffer(f"{side}_high"), self.get_buffer(f"{side}_low"), self.weight.dtype)

    def convolve(self, x: Field, kernel: Kernel) -> FieldOut:
        """Convolve with an expanded kernel.

        Parameters
        ----------
        x : Tensor
            What comes in, of shape (batch, channel, z, y, x).
        kernel : tuple of Tensor
            What `expand_kernel` returns.

        Returns
        -------
        Tensor
            What comes out, of shape (batch, channel, z, y, x).
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
