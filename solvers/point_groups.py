"""The named point groups of the square and of the cube, and the largest one that a grid or a set of vectors allows.

Groups are subgroups of D4, the square's group, or of Oh, the cube's, named in Schoenflies notation. In space their axes
are along z; C4v, for example, is the plane's D4 extended along z.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from solvers.fields import FieldSpec
from solvers.grid import Grid
from solvers.symmetry import Element, Group, Matrix, multiply

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

# The plane group of a periodic pattern with this point group and no glides (International Tables A).
WALLPAPER = {"p1": C1, "p2": C2, "p4": C4, "pm": D1, "cm": D1D, "pmm": D2, "cmm": D2D, "p4m": D4}


def element_in_space(matrix: Matrix) -> Element:
    """Return an element of the cube's group, named after its matrix.

    Parameters
    ----------
    matrix : tuple of tuple of int
        A signed permutation matrix on (x, y, z).

    Returns
    -------
    Element
        For example ``rotation 120 about x+y+z``, ``mirror x``, ``inversion`` or ``rotoinversion 90 about z``.
    """
    element = Element("", matrix)
    sign = element.determinant
    proper = [[sign * value for value in row] for row in matrix]
    angle = round(math.degrees(math.acos((sum(proper[i][i] for i in range(3)) - 1) / 2)))
    if angle in (0, 180):  # the axis is the row sum of (1 + R) / 2, or there is none
        axis = [proper[i][i] + 1 for i in range(3)]
        first = next((i for i in range(3) if axis[i]), 0)
        axis = [proper[first][i] + (i == first) for i in range(3)]
    else:
        axis = [proper[2][1] - proper[1][2], proper[0][2] - proper[2][0], proper[1][0] - proper[0][1]]
    largest = max(map(abs, axis)) or 1
    terms = [("-" if value < 0 else "+") + name for name, value in zip("xyz", axis, strict=True) if value / largest]
    where = "".join(terms).removeprefix("+")
    if angle == 0:
        return Element("identity" if sign > 0 else "inversion", matrix)
    if sign < 0 and angle == 180:
        return Element(f"mirror {where}", matrix)
    return Element(f"{'rotation' if sign > 0 else 'rotoinversion'} {angle} about {where}", matrix)


def generate_group(name: str, *generators: Matrix) -> Group:
    """Return the group of all products of some elements of the cube's group.

    Parameters
    ----------
    name : str
        The name.
    *generators : tuple of tuple of int
        Signed permutation matrices on (x, y, z).

    Returns
    -------
    Group
        The identity first, then the other rotations, then the mirrors.

    Examples
    --------
    >>> from solvers import generate_group
    >>> len(generate_group("C4 about x", ((1, 0, 0), (0, 0, -1), (0, 1, 0))))
    4
    """
    found: list[Matrix] = [((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    for known in found:  # the list grows while it is read
        found += [made for made in dict.fromkeys(multiply(g, known) for g in generators) if made not in found]
    elements = [element_in_space(matrix) for matrix in found]
    return Group(name, tuple(sorted(elements, key=lambda g: -g.determinant)))


_INVERSION = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
_TURN_180_X = ((1, 0, 0), (0, -1, 0), (0, 0, -1))
_TURN_180_Z = ((-1, 0, 0), (0, -1, 0), (0, 0, 1))
_TURN_90_Z = ((0, -1, 0), (1, 0, 0), (0, 0, 1))
_TURN_120 = ((0, 0, 1), (1, 0, 0), (0, 1, 0))  # x → y → z → x
_MIRROR_X = ((-1, 0, 0), (0, 1, 0), (0, 0, 1))
_GENERATORS: dict[str, tuple[Matrix, ...]] = {
    "C1": (),
    "Ci": (_INVERSION,),
    "C2": (_TURN_180_Z,),
    "C3": (_TURN_120,),
    "C4": (_TURN_90_Z,),
    "D2": (_TURN_180_Z, _TURN_180_X),
    "D4": (_TURN_90_Z, _TURN_180_X),
    "C2h": (_TURN_180_Z, _INVERSION),
    "C4v": (_TURN_90_Z, _MIRROR_X),
    "D2h": (_TURN_180_Z, _TURN_180_X, _INVERSION),
    "D4h": (_TURN_90_Z, _TURN_180_X, _INVERSION),
    "T": (_TURN_180_Z, _TURN_120),
    "Th": (_TURN_180_Z, _TURN_120, _INVERSION),
    "O": (_TURN_90_Z, _TURN_120),
    "Oh": (_TURN_90_Z, _TURN_120, _INVERSION),
}
# The named groups by number of dimensions and name.
GROUPS: dict[int, dict[str, Group]] = {
    2: {group.name: group for group in (C1, C2, C4, D1, D1Y, D1D, D1A, D2, D2D, D4)},
    3: {name: generate_group(name, *generators) for name, generators in _GENERATORS.items()},
}


def group_named(name: str, dimensions: int = 2) -> Group:
    """Return a group by its name.

    Parameters
    ----------
    name : str
        The name of the point group, such as ``"D4"`` in the plane and ``"Oh"`` in space, or, in the plane, of a
        wallpaper group with this point group, such as ``"p4m"``.
    dimensions : int
        2 or 3.

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
    >>> group_named("p4m").name, len(group_named("Oh", dimensions=3))
    ('D4', 48)
    """
    known = GROUPS[dimensions] | (WALLPAPER if dimensions == 2 else {})
    if name not in known:
        wallpaper = f", or a wallpaper group: {', '.join(WALLPAPER)}" if dimensions == 2 else ""
        where = "" if dimensions == 2 else " in three dimensions"
        raise ValueError(f"unknown group {name!r}{where}; one of {', '.join(GROUPS[dimensions])}{wallpaper}")
    return known[name]


def subgroups(group: Group) -> list[Group]:
    """Return the named subgroups of a group.

    Parameters
    ----------
    group : Group
        The group.

    Returns
    -------
    list of Group
        Those in `GROUPS`, the group itself among them if it is there.
    """
    return [other for other in GROUPS[group.dimensions].values() if group.contains(other)]


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
        D4 on a square, D2 on a rectangle or between plates; Oh on a cube, D4h or D2h on other boxes.

    Examples
    --------
    >>> from solvers import Grid, point_group
    >>> point_group(Grid((32, 64))).name
    'D2'
    >>> point_group(Grid((16, 32, 32))).name
    'D4h'
    """
    if any(field.wall for field in fields):
        return D2
    sides = list(zip(reversed(grid.n), reversed(grid.length), strict=True))  # (x, y) or (x, y, z)

    def fits(g: Element) -> bool:
        pairs = zip(sides, (sides[source] for source in g.sources), strict=True)
        return all(n == m and math.isclose(a, b, rel_tol=1e-12) for (n, a), (m, b) in pairs)

    return _subgroup(D4 if grid.dimensions == 2 else GROUPS[3]["Oh"], fits)


def stabiliser(group: Group, vectors: Sequence[Sequence[float]]) -> Group:
    """Return the subgroup whose elements leave some vectors unchanged, up to rounding.

    Parameters
    ----------
    group : Group
        The group.
    vectors : sequence of sequence of float
        Vectors (x, y) or (x, y, z).

    Returns
    -------
    Group
        The subgroup, as in `GROUPS` if it is there.
    """

    def fixes(g: Element) -> bool:
        return all(
            math.dist([s * v[i] for i, s in zip(g.sources, g.signs, strict=True)], v) <= 1e-12 * math.hypot(*v)
            for v in vectors
        )

    return _subgroup(group, fixes)


def _subgroup(group: Group, belongs: Callable[[Element], bool]) -> Group:
    """Return the elements that belong, as a named group if they are one."""
    kept = tuple(g for g in group if belongs(g))
    matrices = {g.matrix for g in kept}
    for known in GROUPS[group.dimensions].values():
        if {g.matrix for g in known} == matrices:
            return known
    return Group(_name_turned(matrices) if group.dimensions == 3 else " and ".join(g.name for g in kept), kept)


def _name_turned(matrices: set[Matrix]) -> str:
    """Return the name of a group of the cube that is a named one about another axis."""
    for name, known in GROUPS[3].items():
        for g in GROUPS[3]["O"] if len(known) == len(matrices) else ():
            back = tuple(zip(*g.matrix, strict=True))
            if {multiply(multiply(g.matrix, h.matrix), back) for h in known} == matrices:
                axis = [sum(row) if name == "C3" else row[2] for row in g.matrix]
                terms = [
                    ("-" if value < 0 else "+") + letter for letter, value in zip("xyz", axis, strict=True) if value
                ]
                return f"{name} about {''.join(terms).removeprefix('+')}"
    return f"a group of {len(matrices)} elements"
