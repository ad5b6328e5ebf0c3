"""Irreducible representations of the rotations of space, and features and fields as direct sums of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple, final

import torch
from jaxtyping import Float64
from torch import Tensor

from solvers import FieldSpec, Group, group_named

# By name: whether the group has mirrors, and the point group of the cubic lattice in it.
_GROUPS: dict[str, tuple[bool, Group]] = {
    "SO3": (False, group_named("O", 3)),
    "O3": (True, group_named("Oh", 3)),
}


def rotation_group(name: str) -> tuple[bool, Group]:
    """Return what a group of rotations of space has of mirrors and of the cubic lattice.

    Parameters
    ----------
    name : str
        SO3 or O3.

    Returns
    -------
    has_mirrors : bool
        Whether the group has mirrors.
    lattice : Group
        The point group of the cube in it, O or Oh, which networks keep exactly.

    Raises
    ------
    ValueError
        If there is no such group.
    """
    if name not in _GROUPS:
        raise ValueError(f"unknown group {name!r}; one of {', '.join(_GROUPS)}")
    return _GROUPS[name]


def lattice_group_in_space(name: str, dimensions: int = 3) -> Group:
    """Return the largest point group of the cube in a group of rotations of space.

    Parameters
    ----------
    name : str
        SO3 or O3.
    dimensions : int
        Always 3.

    Returns
    -------
    Group
        O or Oh.
    """
    return rotation_group(name)[1]


class Irrep(NamedTuple):
    r"""Irreducible representation of O(3).

    A rotation R acts on its 2 l + 1 numbers by the Wigner matrix D(R) of the order l, the inversion by the parity p. In
    the usual notation the letters e (even) and o (odd) stand for p = +1 and p = −1: a velocity is 1o, a vorticity 1e, a
    helicity 0o.

    Parameters
    ----------
    order : int
        The order l: 0 for scalars, 1 for vectors, 2 for symmetric traceless matrices.
    parity : int
        The sign under the inversion x → −x: +1 or −1. This is not the parity of a `FieldSpec`, which is the sign beyond
        what the tensor order says. Always +1 under SO(3), which has no inversion.
    """

    order: int
    parity: int

    @property
    def dimension(self) -> int:
        """Numbers at one point, 2 l + 1."""
        return 2 * self.order + 1

    def __str__(self) -> str:
        return f"{self.order}{'e' if self.parity > 0 else 'o'}"


@final
@dataclass(frozen=True)
class Irreps:
    """Direct sum of irreps: what the channels of a feature or of a stack of fields are.

    Parameters
    ----------
    copies : tuple of Irrep
        The irreps, in the order of the channels; each has as many channels as its dimension.

    Examples
    --------
    >>> from fluidsurrogate.nn.layers.irreps import Irreps
    >>> feature = Irreps.of_multiplicities({"0e": 8, "1o": 4})
    >>> feature.dimension, str(feature)
    (20, '8x0e + 4x1o')
    """

    copies: tuple[Irrep, ...]

    @classmethod
    def of_multiplicities(cls, multiplicities: dict[str, int], mirrors: bool = True) -> Irreps:
        """Build a direct sum from the number of copies of each irrep.

        Parameters
        ----------
        multiplicities : dict of str to int
            Number of copies by name, such as ``"1o"``.
        mirrors : bool
            Whether the group has mirrors. Without them the parities are forgotten.

        Returns
        -------
        Irreps
            Copies of the lowest order come first; of one order, those of true tensors: 0e, 1o, 2e.
        """
        copies = [
            Irrep(int(name[:-1]), -1 if mirrors and name[-1] == "o" else 1)
            for name, count in multiplicities.items() for _ in range(count)
        ]  # fmt: skip
        return cls(tuple(sorted(copies, key=lambda irrep: (irrep.order, -irrep.parity * (-1) ** irrep.order))))

    @classmethod
    def of_fields(cls, fields: Sequence[FieldSpec], mirrors: bool = True) -> Irreps:
        r"""Build the direct sum that a stack of fields is.

        .. math:: p = \mathrm{parity} \cdot (-1)^{\mathrm{order}}

        Parameters
        ----------
        fields : sequence of FieldSpec
            Fields in space, one below the other.
        mirrors : bool
            Whether the group has mirrors. Without them the parities are forgotten.

        Returns
        -------
        Irreps
            One irrep for each field.
        """
        return cls(tuple(Irrep(f.order, f.parity * (-1) ** f.order if mirrors else 1) for f in fields))

    @property
    def dimension(self) -> int:
        """Number of channels."""
        return sum(irrep.dimension for irrep in self.copies)

    @cached_property
    def is_invariant(self) -> tuple[bool, ...]:
        """Whether each copy is unchanged by all of the group."""
        return tuple(irrep == Irrep(0, 1) for irrep in self.copies)

    @property
    def irreps(self) -> Irreps:
        """The direct sum itself."""
        return self

    @cached_property
    def copies_by_order(self) -> tuple[int, ...]:
        """Positions in `copies`, sorted by the order of the irreps; within one order they stay in order."""
        return tuple(sorted(range(len(self.copies)), key=lambda i: self.copies[i].order))

    def channels(self) -> Float64[Tensor, "channel component"]:
        """Return the permutation matrix that takes components sorted by order to the channels.

        Returns
        -------
        Tensor
            Shape (channel, channel), float64, on the CPU.
        """
        starts = list(accumulate((irrep.dimension for irrep in self.copies), initial=0))
        places = [starts[i] + m for i in self.copies_by_order for m in range(self.copies[i].dimension)]
        return torch.eye(len(places), dtype=torch.float64, device="cpu")[:, places]

    def copies_of_order(self, order: int) -> list[int]:
        """Return the positions of the copies of one order.

        Parameters
        ----------
        order : int
            The order l.

        Returns
        -------
        list of int
            Positions in `copies`.
        """
        return [i for i, irrep in enumerate(self.copies) if irrep.order == order]

    @property
    def orders(self) -> list[int]:
        """The orders that occur, from low to high."""
        return sorted({irrep.order for irrep in self.copies})

    def __str__(self) -> str:
        counts = {irrep: self.copies.count(irrep) for irrep in dict.fromkeys(self.copies)}
        return " + ".join(f"{count}x{irrep}" for irrep, count in counts.items())
