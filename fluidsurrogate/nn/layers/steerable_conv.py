"""Steerable convolutions and their activation (Weiler & Cesa 2019, arXiv:1911.08251)."""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fluidsurrogate.nn.layers.equivariant_conv import EquivariantConv
from fluidsurrogate.nn.layers.periodic_conv import PlainConv, periodic_conv
from fluidsurrogate.nn.layers.steerable_group import SteerableGroup
from fluidsurrogate.nn.shapes import Kernel, SteerableFeature, SteerableFeatureOut
from solvers import Group


@final
class SharedBasis(nn.Module):
    """Basis of equivariant kernels, for the layers that share it.

    The basis is saved with the weights, which mean nothing without it: another machine's linear algebra may find
    another one.

    Parameters
    ----------
    values : Tensor
        Shape (basis, out, in, size, size).
    """

    values: Tensor

    def __init__(self, values: Float[Tensor, "k out components size size"]) -> None:
        super().__init__()
        self.register_buffer("values", _as_default(values))


@final
class SteerableConv2d(EquivariantConv):
    r"""Steerable convolution from channels of one representation to channels of another (arXiv:1911.08251, section 2).

    .. math:: \kappa_{oi}(x) = \sum_k w_{oik} \, \kappa_k(x)

    Parameters
    ----------
    group : Group
        Point group that the layer keeps exactly.
    basis : SharedBasis
        Basis of the equivariant kernels κ_k between the two representations.
    constant : Tensor
        Vectors that the group leaves unchanged, the only ones that a bias may have. Shape (out, n).
    channels_in : int
        Channels that come in.
    channels : int
        Channels that come out.
    dilation : int
        Cells between neighbouring points of the kernel.

    Raises
    ------
    ValueError
        If `dilation` is less than 1.
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
        self._basis = (basis,)  # in a tuple, so that it is the network's submodule and not each layer's
        elements = len(basis.values)
        self.weight = nn.Parameter(torch.empty(channels, channels_in, elements))
        nn.init.normal_(self.weight, std=1 / math.sqrt(channels_in * elements))
        self.register_buffer("constant", _as_default(constant), persistent=False)
        self.bias = nn.Parameter(torch.zeros(channels, constant.shape[1])) if constant.shape[1] else None

    def expand_kernel(self) -> Kernel:
        """Expand the free weights to the kernel of an ordinary convolution.

        Returns
        -------
        tuple of Tensor
            Weight of shape (channels · out, channels_in · in, size, size), and bias of shape (channels · out,).
        """
        weight = torch.einsum("oik,kabyx->oaibyx", self.weight, self._basis[0].values).flatten(2, 3).flatten(0, 1)
        if self.bias is None:
            return weight, weight.new_zeros(len(weight))
        return weight, (self.bias @ self.constant.T).flatten()

    def convolve(self, x: SteerableFeature, kernel: Kernel) -> SteerableFeatureOut:
        """Convolve with an expanded kernel.

        Parameters
        ----------
        x : Tensor
            Feature, of shape (batch, channels_in, in, y, x).
        kernel : tuple of Tensor
            What `expand_kernel` returns.

        Returns
        -------
        Tensor
            Feature, of shape (batch, channels, out, y, x).
        """
        return periodic_conv(x.flatten(1, 2), kernel, self.dilation).unflatten(1, (-1, len(self.constant)))

    def to_plain(self) -> PlainConv:
        """Convert the layer to an ordinary convolution.

        Returns
        -------
        PlainConv
            Holds the kernel expanded from the present weights, detached from them.
        """
        return PlainConv(self.expand_kernel(), len(self.constant), self.dilation)


@final
class FourierGELU(nn.Module):
    r"""GELU applied to samples of the functions on the group that a feature stands for.

    .. math:: h \mapsto A^+ \, \mathrm{GELU}(A h)

    A takes a feature to its samples, see `SteerableGroup`. For a finite group's features A is the identity.

    Parameters
    ----------
    group : SteerableGroup
        Group of the feature.
    """

    to_samples: Tensor
    from_samples: Tensor

    def __init__(self, group: SteerableGroup) -> None:
        super().__init__()
        self.is_identity = not group.is_continuous
        self.register_buffer("to_samples", _as_default(group.to_samples), persistent=False)
        self.register_buffer("from_samples", _as_default(group.from_samples), persistent=False)

    def forward(self, h: SteerableFeature) -> SteerableFeature:
        """Apply the activation.

        Parameters
        ----------
        h : Tensor
            Feature, of shape (batch, channel, number, y, x).

        Returns
        -------
        Tensor
            Feature of the same shape.
        """
        if self.is_identity:
            return F.gelu(h)
        values = F.gelu(torch.einsum("sd,bcdyx->bcsyx", self.to_samples, h))
        return torch.einsum("ds,bcsyx->bcdyx", self.from_samples, values)


def _as_default(values: Tensor) -> Tensor:
    """Copy a tensor to the default precision and the device where tensors are being made."""
    return torch.empty(values.shape).copy_(values)
