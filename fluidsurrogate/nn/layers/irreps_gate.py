"""Pointwise layers on direct sums of irreps: gates, normalisation, and modulation by numbers of the flow."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluidsurrogate.nn.layers.equivariant_conv import EquivariantConv
from fluidsurrogate.nn.layers.irreps import Irreps
from fluidsurrogate.nn.layers.periodic_conv import PlainConv, periodic_conv
from fluidsurrogate.nn.shapes import ConditioningNumbers, Field, Kernel
from solvers import Group


@final
class GateConv(EquivariantConv):
    r"""Linear map from the invariants of a feature to one number for each irrep, spread over its channels.

    .. math:: z_c = b_c + \sum_{d \text{ invariant}} w_{cd} h_d + \sum_{d \text{ other}} w_{cd} |h_d|^2

    Parameters
    ----------
    group : Group
        Point group that the layer keeps exactly.
    irreps : Irreps
        What comes in and out, invariants first.
    """

    copy: Tensor

    def __init__(self, group: Group, irreps: Irreps) -> None:
        super().__init__()
        self.group = group
        copies = len(irreps.copies)
        dimensions = torch.tensor([float(irrep.dimension) for irrep in irreps.copies])
        self.weight = nn.Parameter(torch.randn(copies, copies) / (math.sqrt(copies) * dimensions))  # means of squares
        self.bias = nn.Parameter(torch.zeros(copies))
        self.register_buffer("copy", torch.tensor(irreps.copy_of_channel), persistent=False)

    def expand_kernel(self) -> Kernel:
        """Expand the free weights to the kernel of an ordinary convolution.

        Returns
        -------
        tuple of Tensor
            Weight of shape (channels, channels, 1, 1, 1), and bias of shape (channels,).
        """
        weight = self.weight.index_select(0, self.copy).index_select(1, self.copy)
        return weight[..., None, None, None], self.bias.index_select(0, self.copy)

    def convolve(self, x: Field, kernel: Kernel) -> Field:
        """Convolve with an expanded kernel.

        Parameters
        ----------
        x : Tensor
            Invariants and squares, of shape (batch, channel, z, y, x).
        kernel : tuple of Tensor
            What `expand_kernel` returns.

        Returns
        -------
        Tensor
            Gates before their sigmoid, of the same shape.
        """
        return periodic_conv(x, kernel)

    def to_plain(self) -> PlainConv:
        """Convert the layer to an ordinary convolution.

        Returns
        -------
        PlainConv
            Holds the kernel expanded from the present weights, detached from them.
        """
        return PlainConv(self.expand_kernel())


@final
class IrrepsGate(nn.Module):
    r"""Gated activation: each irrep is multiplied by a number between 0 and 1 (Weiler et al. 2018, section 4.3).

    .. math:: h_c \mapsto h_c \, \sigma(z_c)

    z is a linear function of the invariants of the feature, its scalars and the squares of all others (`GateConv`): no
    rotation changes them, and no rotation changes the direction of h. On scalars it is a SiLU with another argument.

    Parameters
    ----------
    group : Group
        Point group that the layer keeps exactly.
    irreps : Irreps
        What comes in and out, invariants first.
    """

    def __init__(self, group: Group, irreps: Irreps) -> None:
        super().__init__()
        self.invariants = sum(irreps.is_invariant)
        self.gates = GateConv(group, irreps)

    def forward(self, h: Field) -> Field:
        """Apply the activation.

        Parameters
        ----------
        h : Tensor
            Feature, of shape (batch, channel, z, y, x).

        Returns
        -------
        Tensor
            Feature of the same shape.
        """
        scalars, others = h[:, : self.invariants], h[:, self.invariants :]
        return h * self.gates(torch.cat([scalars, others.square()], dim=1)).sigmoid()


@final
class IrrepsNorm(nn.Module):
    r"""Normalisation of a feature by its root mean square over all channels and cells (arXiv:1910.07467).

    .. math:: h_c \mapsto a_c \, h_c \, / \sqrt{\langle h^2 \rangle + \epsilon}

    The mean square is one number for each sample, that no rotation changes, and each irrep c has one weight.

    Parameters
    ----------
    irreps : Irreps
        What comes in and out.
    """

    copy: Tensor

    def __init__(self, irreps: Irreps) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(len(irreps.copies)))
        self.register_buffer("copy", torch.tensor(irreps.copy_of_channel), persistent=False)

    def forward(self, h: Field) -> Field:
        """Normalise a feature.

        Parameters
        ----------
        h : Tensor
            Feature, of shape (batch, channel, z, y, x).

        Returns
        -------
        Tensor
            Feature of the same shape.
        """
        scale = (h.square().mean((1, 2, 3, 4), keepdim=True) + 1e-5).rsqrt()
        return h * (scale * self.weight.index_select(0, self.copy)[:, None, None, None])


@final
class IrrepsFiLM(nn.Module):
    r"""Modulation of a feature by numbers of the flow, such as its viscosity (Perez et al. 2018, arXiv:1709.07871).

    .. math:: h_c \mapsto (1 + a_c(n)) \, h_c + b_c(n)

    A small network gives a, one number for each irrep, and b, one for each invariant, from the conditioning numbers n.
    No rotation changes these. A fresh layer is the identity.

    Parameters
    ----------
    conditions : int
        Number of conditioning numbers.
    irreps : Irreps
        What comes in and out, invariants first.
    hidden : int
        Hidden units of the small network.
    """

    copy: Tensor

    def __init__(self, conditions: int, irreps: Irreps, hidden: int = 32) -> None:
        super().__init__()
        self.copies, self.others = len(irreps.copies), irreps.dimension - sum(irreps.is_invariant)
        self.inner = nn.Linear(conditions, hidden)
        self.outer = nn.Linear(hidden, self.copies + sum(irreps.is_invariant))
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)
        self.register_buffer("copy", torch.tensor(irreps.copy_of_channel), persistent=False)

    def forward(self, h: Field, conditions: ConditioningNumbers) -> Field:
        """Modulate a feature.

        Parameters
        ----------
        h : Tensor
            Feature, of shape (batch, channel, z, y, x).
        conditions : Tensor
            Conditioning numbers, of shape (batch, condition).

        Returns
        -------
        Tensor
            Feature of the same shape.
        """
        numbers = self.outer(F.silu(self.inner(conditions)))
        factor, shift = numbers[:, : self.copies].index_select(1, self.copy), numbers[:, self.copies :]
        factor, shift = (n[..., None, None, None] for n in (factor, F.pad(shift, (0, self.others))))
        return (1 + factor) * h + shift
