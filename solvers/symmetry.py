"""Point groups of the square as data, and their action on typed fields: the one place where anything turns.

An element is a signed permutation matrix on (x, y) about the centre of the box. On a cell-centred grid its action on
an array (..., y, x), y growing with its index, is an exact transposition and flip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.fields import FieldSpec, StateSpec
from solvers.grid import Grid


@dataclass(frozen=True)
class Element:
    """An orthogonal map of the plane that keeps the square lattice: `matrix` acts on column vectors (x, y)."""

    name: str
    matrix: tuple[tuple[int, int], tuple[int, int]]

    @property
    def determinant(self) -> int:
        """+1 for rotations, −1 for mirrors."""
        (a, b), (c, d) = self.matrix
        return a * d - b * c

    @property
    def swaps_axes(self) -> bool:
        """True for quarter turns and diagonal mirrors, which need a square grid."""
        return self.matrix[0][0] == 0

    def representation(self, field: FieldSpec) -> Float[Tensor, "component component"]:
        """ρ(g) on the components of a field: det(g)^[parity = −1] g^{⊗order}."""
        sign = self.determinant if field.parity < 0 else 1
        base = [[1]] if field.order == 0 else self.matrix
        return sign * torch.tensor(base, dtype=torch.float64)


@dataclass(frozen=True)
class Group:
    """A finite point group: its elements, the identity first; the position in the tuple is the index along α."""

    name: str
    elements: tuple[Element, ...]

    def __len__(self) -> int:
        return len(self.elements)

    def __iter__(self):
        return iter(self.elements)

    @cached_property
    def _index(self) -> dict:
        return {element.matrix: i for i, element in enumerate(self.elements)}

    def index(self, element: Element) -> int:
        """Position of an element; KeyError where the group lacks it."""
        return self._index[element.matrix]

    def product(self, g: Element, h: Element) -> Element:
        """g h: first h, then g."""
        return self.elements[self._index[_matmul(g.matrix, h.matrix)]]

    def inverse(self, g: Element) -> Element:
        """g⁻¹, the transpose."""
        (a, b), (c, d) = g.matrix
        return self.elements[self._index[((a, c), (b, d))]]

    def contains(self, other: Group) -> bool:
        """True where `other` is a subgroup of this group."""
        return all(element.matrix in self._index for element in other)

    @property
    def subgroups(self) -> list[Group]:
        """Every subgroup, itself among them, as in `GROUPS`."""
        return [group for group in GROUPS.values() if self.contains(group)]

    def restriction(self, subgroup: Group) -> tuple[tuple[int, ...], ...]:
        """Positions of the elements, a row for each right coset H r, a column for each h r in the order of H.

        A function F on this group is one function h → F(h r) on the subgroup for each row, and both move alike: the
        regular representation of G, restricted to H, is |G|/|H| times that of H. ValueError where H is no subgroup.
        """
        if not self.contains(subgroup):
            raise ValueError(f"{subgroup.name} is no subgroup of {self.name}")
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
    """A group by its own name or its wallpaper group's; ValueError with all the names where there is none."""
    if name not in GROUPS | WALLPAPER:
        raise ValueError(f"unknown group {name!r}; one of {', '.join(GROUPS)}, or as wallpaper {', '.join(WALLPAPER)}")
    return (GROUPS | WALLPAPER)[name]


def point_group(grid: Grid, fields: Sequence[FieldSpec] = ()) -> Group:
    """The largest point group about the centre that maps the grid, and the plates that bound the fields, onto itself:
    D4 on a square, D2 on a rectangle or where there are plates."""
    return D4 if grid.is_square and not any(field.wall for field in fields) else D2


def stabiliser(group: Group, vectors: Sequence[tuple[float, float]]) -> Group:
    """The subgroup whose elements leave these vectors (x, y) as they are, up to rounding; named as in `GROUPS` where it
    is one."""
    kept = tuple(
        g for g in group if all(math.hypot(a * x + b * y - x, c * x + d * y - y) <= 1e-12 * math.hypot(x, y)
                                for (a, b), (c, d) in [g.matrix] for x, y in vectors)
    )  # fmt: skip
    found = [known for known in GROUPS.values() if set(known.elements) == set(kept)]
    return found[0] if found else Group(" and ".join(g.name for g in kept), kept)


def move(array: Float[Tensor, "*batch y x"], g: Element) -> Float[Tensor, "*batch y2 x2"]:
    """f(x) → f(g⁻¹ x), positions only, about the middle of the last two axes."""
    (a, b), (c, d) = g.matrix
    moved = array.transpose(-2, -1) if g.swaps_axes else array
    # The output at x' reads the input at gᵀx': a row of g with −1 reverses that output axis.
    flips = [dim for dim, sign in ((-1, a + b), (-2, c + d)) if sign < 0]
    return moved.flip(flips) if flips else moved


def act(field: FieldSpec, values: Float[Tensor, "*batch component y x"], g: Element) -> Tensor:
    """(g f)(x) = ρ(g) f(g⁻¹ x) for one typed field (..., component, y, x)."""
    moved = move(values, g)
    if field.order == 0:
        return -moved if field.parity < 0 and g.determinant < 0 else moved
    return torch.einsum("ij,...jyx->...iyx", g.representation(field).to(moved), moved)


def act_on_fields(fields: Sequence[FieldSpec], state: Float[Tensor, "*batch component y x"], g: Element) -> Tensor:
    """The action on a stack of fields along the component axis (dim −3)."""
    parts = state.split([field.components for field in fields], dim=-3)
    return torch.cat([act(field, part, g) for field, part in zip(fields, parts, strict=True)], dim=-3)


def act_on_inputs(spec: StateSpec, inputs: Mapping[str, Tensor] | None, g: Element) -> dict[str, Tensor] | None:
    """The action on a mapping of named inputs."""
    if inputs is None:
        return None
    return {field.name: act(field, inputs[field.name], g) for field in spec.inputs if field.name in inputs}
