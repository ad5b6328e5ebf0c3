"""Point groups of the square, and their action on typed fields: the one place where fields are rotated and mirrored.

An element is a signed permutation matrix on (x, y) about the centre of the box. On a cell-centred grid its action on
an array (..., y, x), y growing with its index, is an exact transposition and flip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import Inputs
from solvers.fields import FieldSpec, StateSpec
from solvers.grid import Grid


@dataclass(frozen=True)
class Element:
    """A rotation or mirror of the plane that maps the square lattice onto itself.

    Parameters
    ----------
    name : str
        The name, such as ``"rotation 90"``.
    matrix : tuple of tuple of int
        The orthogonal matrix that acts on column vectors (x, y).

    Examples
    --------
    >>> from solvers import D4
    >>> [element.name for element in D4 if element.determinant < 0]
    ['mirror x', 'mirror y', 'mirror diagonal', 'mirror antidiagonal']
    """

    name: str
    matrix: tuple[tuple[int, int], tuple[int, int]]

    @property
    def determinant(self) -> int:
        """Determinant of the matrix: +1 for rotations, −1 for mirrors."""
        (a, b), (c, d) = self.matrix
        return a * d - b * c

    @property
    def swaps_axes(self) -> bool:
        """Whether x and y change places, as under quarter turns and diagonal mirrors, which need a square grid."""
        return self.matrix[0][0] == 0

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
        base = [[1]] if field.order == 0 else self.matrix
        return sign * torch.tensor(base, dtype=torch.float64)


@dataclass(frozen=True)
class Group:
    """A finite point group.

    Parameters
    ----------
    name : str
        The name, in Schoenflies notation for the plane.
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
        return self.elements[self._index[_matmul(g.matrix, h.matrix)]]

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
        (a, b), (c, d) = g.matrix
        return self.elements[self._index[((a, c), (b, d))]]

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

    @property
    def subgroups(self) -> list[Group]:
        """All subgroups in `GROUPS`, the group itself among them."""
        return [group for group in GROUPS.values() if self.contains(group)]

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


def _matmul(a, b):
    return tuple(tuple(sum(a[i][k] * b[k][j] for k in range(2)) for j in range(2)) for i in range(2))


IDENTITY = Element("identity", ((1, 0), (0, 1)))
ROTATION_90 = Element("rotation 90", ((0, -1), (1, 0)))
ROTATION_180 = Element("rotation 180", ((-1, 0), (0, -1)))
ROTATION_270 = Element("rotation 270", ((0, 1), (-1, 0)))
MIRROR_X = Element("mirror x", ((-1, 0), (0, 1)))
MIRROR_Y = Element("mirror y", ((1, 0), (0, -1)))
MIRROR_DIAGONAL = Element("mirror diagonal", ((0, 1), (1, 0)))
MIRROR_ANTIDIAGONAL = Element("mirror antidiagonal", ((0, -1), (-1, 0)))

_ROTATIONS = (IDENTITY, ROTATION_90, ROTATION_180, ROTATION_270)
C1 = Group("C1", (IDENTITY,))
C2 = Group("C2", (IDENTITY, ROTATION_180))
C4 = Group("C4", _ROTATIONS)
D1 = Group("D1", (IDENTITY, MIRROR_X))
D1Y = Group("D1y", (IDENTITY, MIRROR_Y))
D1D = Group("D1d", (IDENTITY, MIRROR_DIAGONAL))
D1A = Group("D1a", (IDENTITY, MIRROR_ANTIDIAGONAL))
D2 = Group("D2", (IDENTITY, ROTATION_180, MIRROR_X, MIRROR_Y))
D2D = Group("D2d", (IDENTITY, ROTATION_180, MIRROR_DIAGONAL, MIRROR_ANTIDIAGONAL))
D4 = Group("D4", (*_ROTATIONS, MIRROR_X, MIRROR_Y, MIRROR_DIAGONAL, MIRROR_ANTIDIAGONAL))
GROUPS = {group.name: group for group in (C1, C2, C4, D1, D1Y, D1D, D1A, D2, D2D, D4)}
# The plane group of a periodic pattern with this point group and no glides (International Tables A).
WALLPAPER = {"p1": C1, "p2": C2, "p4": C4, "pm": D1, "cm": D1D, "pmm": D2, "cmm": D2D, "p4m": D4}


def group_named(name: str) -> Group:
    """Return a group by its name.

    Parameters
    ----------
    name : str
        The name of the point group, such as ``"D4"``, or of a wallpaper group with this point group, such as ``"p4m"``.

    Returns
    -------
    Group
        The group.

    Raises
    ------
    ValueError
        If there is no group of that name; the message lists all names.

    Examples
    --------
    >>> from solvers import group_named
    >>> group_named("p4m").name
    'D4'
    """
    if name not in GROUPS | WALLPAPER:
        raise ValueError(
            f"unknown group {name!r}; one of {', '.join(GROUPS)}, or a wallpaper group: {', '.join(WALLPAPER)}"
        )
    return (GROUPS | WALLPAPER)[name]


def point_group(grid: Grid, fields: Sequence[FieldSpec] = ()) -> Group:
    """Return the largest point group about the centre of the box that maps the grid and the plates onto themselves.

    Parameters
    ----------
    grid : Grid
        The grid.
    fields : sequence of FieldSpec
        Fields that may be bounded by plates.

    Returns
    -------
    Group
        D4 on a square, D2 on a rectangle or between plates.

    Examples
    --------
    >>> from solvers import Grid, point_group
    >>> point_group(Grid((32, 64))).name
    'D2'
    """
    return D4 if grid.is_square and not any(field.wall for field in fields) else D2


def stabiliser(group: Group, vectors: Sequence[tuple[float, float]]) -> Group:
    """Return the subgroup whose elements leave some vectors unchanged, up to rounding.

    Parameters
    ----------
    group : Group
        The group.
    vectors : sequence of tuple of float
        Vectors (x, y).

    Returns
    -------
    Group
        The subgroup, as in `GROUPS` if it is there.
    """
    kept = tuple(
        g for g in group if all(math.hypot(a * x + b * y - x, c * x + d * y - y) <= 1e-12 * math.hypot(x, y)
                                for (a, b), (c, d) in [g.matrix] for x, y in vectors)
    )  # fmt: skip
    found = [known for known in GROUPS.values() if set(known.elements) == set(kept)]
    return found[0] if found else Group(" and ".join(g.name for g in kept), kept)


def move(array: Float[Tensor, "*batch y x"], g: Element) -> Float[Tensor, "*batch y2 x2"]:
    """Move the values of a scalar field to other positions: f(x) becomes f(g⁻¹ x).

    Parameters
    ----------
    array : Tensor
        Shape (..., y, x).
    g : Element
        A rotation or mirror about the middle of the last two axes.

    Returns
    -------
    Tensor
        The last two axes are exchanged if the element swaps axes.
    """
    (a, b), (c, d) = g.matrix
    moved = array.transpose(-2, -1) if g.swaps_axes else array
    # The output at x' reads the input at gᵀx': a row of g with −1 reverses that output axis.
    flips = [dim for dim, sign in ((-1, a + b), (-2, c + d)) if sign < 0]
    return moved.flip(flips) if flips else moved


def act(field: FieldSpec, values: Float[Tensor, "*batch component y x"], g: Element) -> Tensor:
    r"""Rotate or mirror one field.

    .. math:: (g f)(x) = \rho(g) f(g^{-1} x)

    Parameters
    ----------
    field : FieldSpec
        The type of the field.
    values : Tensor
        Shape (..., component, y, x).
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
    >>> from solvers import D4, VORTICITY, act
    >>> mirror = D4.elements[4]
    >>> act(VORTICITY, torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), mirror)
    tensor([[[-2., -1.],
             [-4., -3.]]])
    """
    moved = move(values, g)
    if field.order == 0:
        return -moved if field.parity < 0 and g.determinant < 0 else moved
    return torch.einsum("ij,...jyx->...iyx", g.representation(field).to(moved), moved)


def act_on_fields(fields: Sequence[FieldSpec], state: Float[Tensor, "*batch component y x"], g: Element) -> Tensor:
    """Rotate or mirror a stack of fields.

    Parameters
    ----------
    fields : sequence of FieldSpec
        The types of the fields, in order along the component axis.
    state : Tensor
        Shape (..., component, y, x).
    g : Element
        The rotation or mirror.

    Returns
    -------
    Tensor
        The transformed fields.
    """
    parts = state.split([field.components for field in fields], dim=-3)
    return torch.cat([act(field, part, g) for field, part in zip(fields, parts, strict=True)], dim=-3)


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
