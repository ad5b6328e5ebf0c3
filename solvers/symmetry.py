"""Point groups of the square and the cube, and their action on typed fields: where fields are rotated and mirrored.

An element is a signed permutation matrix on (x, y) or (x, y, z) about the centre of the box. On a cell-centred grid its
action on an array (..., y, x) or (..., z, y, x), coordinates growing with their index, is an exact transposition and
flip. The named groups are in `solvers.point_groups`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import Inputs
from solvers.fields import FieldSpec, StateSpec

Matrix = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Element:
    """A rotation or mirror that maps the square lattice of the plane, or the cubic one of space, onto itself.

    Parameters
    ----------
    name : str
        The name, such as ``"rotation 90"``.
    matrix : tuple of tuple of int
        The orthogonal matrix that acts on column vectors (x, y) or (x, y, z): a signed permutation.

    Examples
    --------
    >>> from solvers import D4
    >>> [element.name for element in D4 if element.determinant < 0]
    ['mirror x', 'mirror y', 'mirror diagonal', 'mirror antidiagonal']
    """

    name: str
    matrix: Matrix

    @property
    def dimensions(self) -> int:
        """Number of dimensions, 2 or 3."""
        return len(self.matrix)

    @cached_property
    def sources(self) -> tuple[int, ...]:
        """Which old coordinate each new coordinate is, up to its sign."""
        return tuple([value != 0 for value in row].index(True) for row in self.matrix)

    @cached_property
    def signs(self) -> tuple[int, ...]:
        """The sign, +1 or −1, with which each new coordinate is an old one."""
        return tuple(sum(row) for row in self.matrix)

    @property
    def determinant(self) -> int:
        """Determinant of the matrix: +1 for rotations, −1 for mirrors and inversions."""
        order = self.sources
        inversions = sum(a > b for a, b in itertools.combinations(order, 2))
        return math.prod(self.signs) * (-1) ** inversions

    @property
    def swaps_axes(self) -> bool:
        """Whether axes change places, as under quarter turns and diagonal mirrors, which need sides of equal length."""
        return self.sources != tuple(range(self.dimensions))

    def representation(self, field: FieldSpec) -> Float[Tensor, "component component"]:
        r"""Return the matrix by which the components of a field transform.

        .. math:: \rho(g) = \det(g)^{[\text{parity} = -1]} \, g^{\otimes \text{order}}

        Parameters
        ----------
        field : FieldSpec
            The type of the field.

        Returns
        -------
        Tensor
            Shape (component, component), float64.
        """
        sign = self.determinant if field.parity < 0 else 1
        base: Sequence[Sequence[int]] = [[1]] if field.order == 0 else self.matrix
        return sign * torch.tensor(base, dtype=torch.float64)


@dataclass(frozen=True)
class Group:
    """A finite point group.

    Parameters
    ----------
    name : str
        The name, in Schoenflies notation.
    elements : tuple of Element
        The elements, the identity first. An element's position is its index along the group axis of features.

    Examples
    --------
    >>> from solvers import C4, D4
    >>> len(D4), D4.contains(C4)
    (8, True)
    """

    name: str
    elements: tuple[Element, ...]

    @property
    def dimensions(self) -> int:
        """Number of dimensions, 2 or 3."""
        return self.elements[0].dimensions

    def __len__(self) -> int:
        return len(self.elements)

    def __iter__(self) -> Iterator[Element]:
        return iter(self.elements)

    @cached_property
    def _index(self) -> dict:
        return {element.matrix: i for i, element in enumerate(self.elements)}

    def index(self, element: Element) -> int:
        """Return the position of an element.

        Parameters
        ----------
        element : Element
            An element.

        Returns
        -------
        int
            Its index along the group axis.

        Raises
        ------
        KeyError
            If the group does not contain it.
        """
        return self._index[element.matrix]

    def product(self, g: Element, h: Element) -> Element:
        """Return the product of two elements.

        Parameters
        ----------
        g : Element
            The element that acts second.
        h : Element
            The element that acts first.

        Returns
        -------
        Element
            The product g h.
        """
        return self.elements[self._index[multiply(g.matrix, h.matrix)]]

    def inverse(self, g: Element) -> Element:
        """Return the inverse of an element, whose matrix is the transpose.

        Parameters
        ----------
        g : Element
            An element.

        Returns
        -------
        Element
            The element g⁻¹.
        """
        return self.elements[self._index[tuple(zip(*g.matrix, strict=True))]]

    def contains(self, other: Group) -> bool:
        """Return whether another group is a subgroup of this group.

        Parameters
        ----------
        other : Group
            The other group.

        Returns
        -------
        bool
            True if all its elements are elements of this group.
        """
        return all(element.matrix in self._index for element in other)

    def restriction(self, subgroup: Group) -> tuple[tuple[int, ...], ...]:
        """Return the positions of the elements, sorted by the right cosets of a subgroup.

        A function F on this group G is one function h → F(h r) on the subgroup H for each right coset H r, and both
        transform alike: the regular representation of G, restricted to H, is ``|G|/|H|`` copies of that of H.

        Parameters
        ----------
        subgroup : Group
            The subgroup H.

        Returns
        -------
        tuple of tuple of int
            A row for each right coset H r, with a column for each h r in the order of H.

        Raises
        ------
        ValueError
            If it is no subgroup.
        """
        if not self.contains(subgroup):
            raise ValueError(f"{subgroup.name} is not a subgroup of {self.name}")
        rows: list[tuple[int, ...]] = []
        for r in self:
            if not any(self.index(r) in row for row in rows):
                rows.append(tuple(self.index(self.product(h, r)) for h in subgroup))
        return tuple(rows)


def multiply(a: Matrix, b: Matrix) -> Matrix:
    """Return the product of two matrices.

    Parameters
    ----------
    a, b : tuple of tuple of int
        Square matrices.

    Returns
    -------
    tuple of tuple of int
        The matrix a b.
    """
    return tuple(
        tuple(sum(x * y for x, y in zip(row, column, strict=True)) for column in zip(*b, strict=True)) for row in a
    )


def move(array: Float[Tensor, "..."], g: Element) -> Float[Tensor, "..."]:
    """Move the values of a scalar field to other positions: f(x) becomes f(g⁻¹ x).

    Parameters
    ----------
    array : Tensor
        Shape (..., y, x), or (..., z, y, x) for an element in three dimensions.
    g : Element
        A rotation or mirror about the middle of the last axes.

    Returns
    -------
    Tensor
        The last axes are permuted if the element swaps axes.
    """
    # The output at x' reads the input at gᵀx': coordinate i of the output runs along coordinate sources[i] of the
    # input, backwards if the sign is −1. Coordinate i of (x, y, z) is axis −1 − i of the array.
    if g.swaps_axes:
        leading = array.ndim - g.dimensions
        axes = [array.ndim - 1 - source for source in reversed(g.sources)]
        array = array.permute(*range(leading), *axes)
    flips = [-1 - i for i, sign in enumerate(g.signs) if sign < 0]
    return array.flip(flips) if flips else array


def act(field: FieldSpec, values: Float[Tensor, "..."], g: Element) -> Tensor:
    r"""Rotate or mirror one field.

    .. math:: (g f)(x) = \rho(g) f(g^{-1} x)

    Parameters
    ----------
    field : FieldSpec
        The type of the field.
    values : Tensor
        Shape (..., component, y, x) or (..., component, z, y, x).
    g : Element
        The rotation or mirror.

    Returns
    -------
    Tensor
        The transformed field.

    Examples
    --------
    Vorticity is a pseudoscalar: a mirror changes its sign.

    >>> import torch
    >>> from solvers import MIRROR_X, VORTICITY, act
    >>> mirror = MIRROR_X
    >>> act(VORTICITY, torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), mirror)
    tensor([[[-2., -1.],
             [-4., -3.]]])
    """
    moved = move(values, g)
    sign = g.determinant if field.parity < 0 else 1
    if field.order == 0:
        return -moved if sign < 0 else moved
    along = -1 - g.dimensions
    components = [moved.select(along, source) for source in g.sources]
    return torch.stack([c if sign * s > 0 else -c for c, s in zip(components, g.signs, strict=True)], dim=along)


def act_on_fields(fields: Sequence[FieldSpec], state: Float[Tensor, "..."], g: Element) -> Tensor:
    """Rotate or mirror a stack of fields.

    Parameters
    ----------
    fields : sequence of FieldSpec
        The types of the fields, in order along the component axis.
    state : Tensor
        Shape (..., component, y, x) or (..., component, z, y, x).
    g : Element
        The rotation or mirror.

    Returns
    -------
    Tensor
        The transformed fields.
    """
    along = -1 - g.dimensions
    parts = state.split([field.components for field in fields], dim=along)
    return torch.cat([act(field, part, g) for field, part in zip(fields, parts, strict=True)], dim=along)


def act_on_inputs(spec: StateSpec, inputs: Inputs, g: Element) -> dict[str, Tensor] | None:
    """Rotate or mirror the inputs of a stepper.

    Parameters
    ----------
    spec : StateSpec
        Says which type each input has.
    inputs : mapping of str to Tensor, optional
        Inputs by name.
    g : Element
        The rotation or mirror.

    Returns
    -------
    dict of str to Tensor or None
        The transformed inputs; None if there are none.
    """
    if inputs is None:
        return None
    return {field.name: act(field, inputs[field.name], g) for field in spec.inputs if field.name in inputs}
