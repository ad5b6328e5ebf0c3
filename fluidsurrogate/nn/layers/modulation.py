"""Modulation of features by numbers of the flow, such as its viscosity."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
from torch import nn
from torch.nn import functional as F

from fluidsurrogate.nn.layers.activation import channels_before_activation
from fluidsurrogate.nn.shapes import ConditioningNumbers, Feature, Field, FieldOut
from solvers import FieldSpec


@final
class FiLM(nn.Module):
    r"""Feature-wise linear modulation by numbers of the flow (Perez et al. 2018, arXiv:1709.07871).

    .. math:: F \mapsto (1 + a(c)) F + b(c)

    A small network gives a and b, one number for each channel, from the conditioning numbers c. These are scalars that
    no group element changes, so the modulation commutes with the group. A fresh layer is the identity.

    Parameters
    ----------
    conditions : int
        Number of conditioning numbers.
    channels : int
        Channels of the feature.
    hidden : int
        Hidden units of the small network.
    """

    def __init__(self, conditions: int, channels: int, hidden: int = 32) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(conditions, hidden), nn.Linear(hidden, 2 * channels)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Feature, conditions: ConditioningNumbers) -> Feature:
        """Modulate a feature.

        Parameters
        ----------
        x : Tensor
            Feature, of shape (batch, channel, |G|, [z,] y, x).
        conditions : Tensor
            Conditioning numbers, of shape (batch, condition).

        Returns
        -------
        Tensor
            Feature of the same shape.
        """
        factor, shift = self.outer(F.silu(self.inner(conditions)))[(..., *[None] * (x.ndim - 2))].chunk(2, dim=1)
        return (1 + factor) * x + shift


@final
class ConditioningSplit(nn.Module):
    """Split of a network's input into fields to convolve and numbers to modulate features by.

    Parameters
    ----------
    fields : sequence of FieldSpec
        Fields that the network takes.
    modulate : bool
        Whether uniform scalars modulate features. Otherwise they are convolved like all other fields.

    Attributes
    ----------
    convolved_fields : list of FieldSpec
        Fields that are convolved.
    """

    def __init__(self, fields: Sequence[FieldSpec], modulate: bool) -> None:
        super().__init__()
        field_of_component = [field for field in fields for _ in range(field.components)]
        self._numbers = [i for i, f in enumerate(field_of_component) if modulate and is_conditioning_number(f)]
        self._convolved = [i for i in range(len(field_of_component)) if i not in self._numbers]
        self.convolved_fields = [f for f in fields if not (modulate and is_conditioning_number(f))]

    def build_modulation(self, channels: int, activation: str) -> FiLM | None:
        """Build the modulation of the feature before an activation.

        Parameters
        ----------
        channels : int
            Channels after the activation.
        activation : str
            Name of the activation.

        Returns
        -------
        FiLM or None
            None if there are no conditioning numbers.
        """
        if not self._numbers:
            return None
        return FiLM(len(self._numbers), channels_before_activation(channels, activation))

    def forward(self, x: Field) -> tuple[FieldOut, ConditioningNumbers | None]:
        """Split the input.

        Parameters
        ----------
        x : Tensor
            Fields, of shape (batch, component, [z,] y, x).

        Returns
        -------
        fields : Tensor
            Components to convolve, of shape (batch, component, [z,] y, x).
        numbers : Tensor or None
            Conditioning numbers, of shape (batch, condition); None if there are none.
        """
        if not self._numbers:
            return x, None
        return _channels(x, self._convolved), _channels(x, self._numbers).flatten(2)[..., 0]


def _channels(x: Field, indices: list[int]) -> FieldOut:
    """Return channels by slices: a list as an index would be copied to a GPU, which waits for it, at every call."""
    if not indices:
        return x[:, :0]
    breaks = [0, *(i for i in range(1, len(indices)) if indices[i] != indices[i - 1] + 1), len(indices)]
    return torch.cat([x[:, indices[a] : indices[b - 1] + 1] for a, b in pairwise(breaks)], dim=1)


def is_conditioning_number(field: FieldSpec) -> bool:
    """Return True for a number of the flow that no group element changes: a uniform scalar.

    Parameters
    ----------
    field : FieldSpec
        Field or input of the flow.

    Returns
    -------
    bool
        Whether it is a uniform scalar.
    """
    return field.uniform and field.order == 0 and field.parity > 0
