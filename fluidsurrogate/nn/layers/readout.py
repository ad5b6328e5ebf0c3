"""The last layer of a network: from a feature to fields of any type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from fluidsurrogate.nn.layers.equivariant_conv import EquivariantConv
from fluidsurrogate.nn.layers.group_action import field_representation
from fluidsurrogate.nn.layers.group_conv import GroupConv
from fluidsurrogate.nn.layers.group_pool import GroupPool
from fluidsurrogate.nn.layers.periodic_conv import PlainConv, periodic_conv
from fluidsurrogate.nn.shapes import Feature, Field, Kernel
from solvers import TRACER, FieldSpec, Group


@final
class ReadoutConv(EquivariantConv):
    r"""Linear pointwise convolution from a feature to a stack of fields.

    .. math:: f(x) = \sum_c \sum_g \rho(g) \, w_c \, F_c(g, x) + P b, \quad P = \frac{1}{|G|} \sum_g \rho(g)

    It is the most general equivariant 1 × 1 map onto the representation ρ of the fields: a 1 × 1 group convolution and
    the projection of `GroupPool` in one. w and b have a value for each component. P keeps of b what no element
    changes, which is nothing for a pseudoscalar and a group with mirrors.

    Parameters
    ----------
    group : Group
        Point group of the feature.
    channels : int
        Channels of the feature.
    fields : sequence of FieldSpec
        Fields that come out.
    """

    representation: Tensor

    def __init__(self, group: Group, channels: int, fields: Sequence[FieldSpec]) -> None:
        super().__init__()
        self.group = group
        self.register_buffer("representation", field_representation(group, fields), persistent=False)
        self.weight = nn.Parameter(torch.empty(self.representation.shape[1], channels))
        self.bias = nn.Parameter(torch.zeros(self.representation.shape[1]))
        # No more than what comes in, even where all orientations agree; a first forecast close to persistence.
        nn.init.normal_(self.weight, std=1 / (math.sqrt(channels) * len(group)))

    def expand_kernel(self) -> Kernel:
        """Expand the free weights to the kernel of an ordinary convolution.

        Returns
        -------
        tuple of Tensor
            Weight of shape (components, channels · |G|, 1, 1), with another 1 in space, and bias of shape
            (components,).
        """
        weight = torch.einsum("gij,jc->icg", self.representation, self.weight).flatten(1)
        return weight.reshape(*weight.shape, *[1] * self.group.dimensions), self.representation.mean(0) @ self.bias

    def convolve(self, x: Feature, kernel: Kernel) -> Field:
        """Convolve with an expanded kernel.

        Parameters
        ----------
        x : Tensor
            Feature, of shape (batch, channel, |G|, [z,] y, x).
        kernel : tuple of Tensor
            What `expand_kernel` returns.

        Returns
        -------
        Tensor
            Fields, of shape (batch, component, [z,] y, x).
        """
        return periodic_conv(x.flatten(1, 2), kernel)

    def to_plain(self) -> PlainConv:
        """Convert the layer to an ordinary convolution.

        Returns
        -------
        PlainConv
            Holds the kernel expanded from the present weights, detached from them.
        """
        return PlainConv(self.expand_kernel())


@final
class Readout(nn.Module):
    r"""Readout of fields from a feature, by one of three kinds of pooling.

    "mean" is `ReadoutConv`: linear, for every type of field. "gated" multiplies each field of it by a gate, from a
    scalar s that is read out beside the field:

    .. math:: 2 \sigma(s), \quad \text{which is 1 at } s = 0

    "max" is a 1 × 1 group convolution and `GroupPool` by the maximum, for scalars and pseudoscalars.

    Parameters
    ----------
    group : Group
        Point group of the feature.
    channels : int
        Channels of the feature.
    fields : sequence of FieldSpec
        Fields that come out.
    pool : str
        "mean", "gated" or "max".

    Raises
    ------
    ValueError
        If `pool` is none of these, or is "max" and one of the fields is a vector.
    """

    def __init__(self, group: Group, channels: int, fields: Sequence[FieldSpec], pool: str) -> None:
        super().__init__()
        if pool not in ("mean", "gated", "max"):
            raise ValueError(f"pool must be 'mean', 'gated' or 'max' (got {pool!r})")
        self.components = sum(field.components for field in fields)
        self.gated_components = [field.components for field in fields] if pool == "gated" else []
        gates = [replace(TRACER, name=f"gate of {field.name}") for field in fields] if pool == "gated" else []
        self.head: EquivariantConv
        if pool == "max":
            self.head = GroupConv(group, channels, self.components, 1)
            self.pool: nn.Module = GroupPool(group, fields, "max")
        else:
            self.head, self.pool = ReadoutConv(group, channels, [*fields, *gates]), nn.Identity()

    def forward(self, x: Feature) -> Field:
        """Read out the fields.

        Parameters
        ----------
        x : Tensor
            Feature, of shape (batch, channel, |G|, [z,] y, x).

        Returns
        -------
        Tensor
            Fields, of shape (batch, component, [z,] y, x).
        """
        y = self.pool(self.head(x))
        if not self.gated_components:
            return y
        gates = (2 * y[:, self.components :].sigmoid()).split(1, dim=1)
        # A list as an index would be copied to a GPU at every call, which waits for it.
        repeated = [gate.expand(-1, n, *gate.shape[2:]) for gate, n in zip(gates, self.gated_components, strict=True)]
        return y[:, : self.components] * torch.cat(repeated, dim=1)
