"""Pooling over the group, from a feature to fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from fluidsurrogate.nn.layers.group_action import field_representation
from fluidsurrogate.nn.shapes import Feature, Field
from solvers import FieldSpec, Group


@final
class GroupPool(nn.Module):
    r"""Pooling over the group, from a feature to a stack of fields, with one channel for each component.

    The mean projects onto the representation ρ of the fields, and is right for every type:

    .. math:: f(x) = \frac{1}{|G|} \sum_g \rho(g) F(g, x)

    The maximum is the largest F over the group for a scalar. For a pseudoscalar it is the maximum plus the minimum of
    det(g) F(g, x), which changes its sign under mirrors. The plain maximum is right for scalars only: it gives the same
    number before and after a mirror (`tests/fluidsurrogate/nn/test_layers.py` shows it fail).

    Parameters
    ----------
    group : Group
        Point group of the feature.
    fields : sequence of FieldSpec
        Fields that come out.
    reduce : str
        "mean" or "max".

    Raises
    ------
    ValueError
        If `reduce` is neither, or is "max" and one of the fields is a vector.

    Examples
    --------
    >>> import torch
    >>> from fluidsurrogate.nn import GroupPool
    >>> from solvers import D4, VELOCITY, VORTICITY
    >>> pool = GroupPool(D4, [VORTICITY, VELOCITY])
    >>> pool(torch.randn(2, 3, 8, 32, 32)).shape
    torch.Size([2, 3, 32, 32])
    """

    representation: Tensor
    twisted: Tensor

    def __init__(self, group: Group, fields: Sequence[FieldSpec], reduce: str = "mean") -> None:
        super().__init__()
        if reduce not in ("mean", "max"):
            raise ValueError(f"reduce must be 'mean' or 'max' (got {reduce!r})")
        if reduce == "max" and any(field.order for field in fields):
            raise ValueError("the maximum is for scalars and pseudoscalars; a vector leaves by 'mean' or 'gated'")
        self.reduce, self.fields = reduce, tuple(fields)
        self.register_buffer("representation", field_representation(group, fields), persistent=False)
        twisted = [field.parity < 0 for field in fields]
        self._ones = (1,) * group.dimensions
        self.register_buffer("twisted", torch.tensor(twisted).view(-1, *self._ones), persistent=False)

    def forward(self, x: Feature) -> Field:
        """Pool over the group.

        Parameters
        ----------
        x : Tensor
            Feature, of shape (batch, component, |G|, [z,] y, x).

        Returns
        -------
        Tensor
            Fields, of shape (batch, component, [z,] y, x).
        """
        representation = self.representation.to(x.dtype)
        if self.reduce == "mean":
            return torch.einsum("gij,bjg...->bi...", representation, x) / len(representation)
        signs = representation.diagonal(dim1=1, dim2=2).T  # det(g) or 1: (component, |G|)
        untwisted = x * signs.reshape(*signs.shape, *self._ones)
        largest = untwisted.amax(2)
        return torch.where(self.twisted, largest + untwisted.amin(2), largest)
