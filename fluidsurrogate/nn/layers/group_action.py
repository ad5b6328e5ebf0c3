"""How a group acts on kernels, features and the components of fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fluidsurrogate.nn.shapes import Feature
from solvers import Element, FieldSpec, Group
from solvers.symmetry import move


def signed_permutations(
    group: Group, shape: Sequence[int], act: Callable[[Tensor, Element], Tensor]
) -> tuple[Int[Tensor, "..."], Float[Tensor, "..."]]:
    """Find the signed permutation by which each group element moves the entries of a kernel.

    Every element permutes the entries up to signs, so its action on a kernel of distinct labels tells all about it.

    Parameters
    ----------
    group : Group
        Point group.
    shape : sequence of int
        Shape of the kernel.
    act : callable
        Function (kernel, element) → the kernel moved by the element.

    Returns
    -------
    index : Tensor
        For each element and each entry of the moved kernel, the flat index that the entry comes from, in shape
        (|G|, *shape).
    sign : Tensor
        Sign of each entry, of the same shape.
    """
    labels = torch.arange(1.0, math.prod(shape) + 1, dtype=torch.float64).reshape(tuple(shape))
    moved = torch.stack([act(labels, g) for g in group])
    return (moved.abs() - 1).long(), moved.sign()


def act_on_regular(group: Group, kernel: Float[Tensor, "..."], g: Element) -> Tensor:
    r"""Move a function on the group and the grid by a group element (the regular representation).

    .. math:: (g F)(h, x) = F(g^{-1} h, g^{-1} x)

    Parameters
    ----------
    group : Group
        Point group, whose elements the axis alpha counts.
    kernel : Tensor
        Shape (..., alpha, [z,] y, x).
    g : Element
        Element of the group.

    Returns
    -------
    Tensor
        Of the same shape.
    """
    inverse = group.inverse(g)
    order = [group.index(group.product(inverse, h)) for h in group]
    return move(kernel.index_select(-1 - group.dimensions, torch.tensor(order)), g)


def restrict(feature: Feature, group: Group, subgroup: Group) -> Float[Tensor, "batch channel_out alpha_out *space"]:
    """Restrict a feature of a group to a feature of a subgroup.

    Parameters
    ----------
    feature : Tensor
        Shape (batch, channel, |G|, [z,] y, x).
    group : Group
        Group G of the feature.
    subgroup : Group
        Subgroup H.

    Returns
    -------
    Tensor
        Shape (batch, channel · |G|/|H|, |H|, [z,] y, x): one channel for each coset, see `Group.restriction`.
    """
    rows = torch.tensor(group.restriction(subgroup), device=feature.device)
    return feature[:, :, rows].flatten(1, 2)


def field_representation(group: Group, fields: Sequence[FieldSpec]) -> Float[Tensor, "alpha component component"]:
    """Compute the matrix by which each group element mixes the components of a stack of fields.

    Parameters
    ----------
    group : Group
        Point group.
    fields : sequence of FieldSpec
        Fields, whose order and parity say how they transform.

    Returns
    -------
    Tensor
        Shape (|G|, component, component), float32.
    """
    return torch.stack([torch.block_diag(*(g.representation(field) for field in fields)) for g in group]).float()
