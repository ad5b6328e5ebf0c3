"""Groups of rotations and mirrors beyond those of the lattice, and their representations (by escnn)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

import torch
from jaxtyping import Float64
from torch import Tensor

from fluidsurrogate.nn.layers.escnn_import import import_escnn
from solvers import C4, D4, Element, FieldSpec, Group

# By name: number of rotations (-1: all), whether the group has mirrors, and what of it the lattice keeps exactly.
_GROUPS: dict[str, tuple[int, bool, Group]] = {
    "C8": (8, False, C4),
    "C16": (16, False, C4),
    "D8": (8, True, D4),
    "SO2": (-1, False, C4),
    "O2": (-1, True, D4),
}


def lattice_group(name: str) -> Group:
    """Return the largest point group of the square in a steerable group.

    Parameters
    ----------
    name : str
        C8, C16, D8, SO2 or O2.

    Returns
    -------
    Group
        C4 or D4.

    Raises
    ------
    ValueError
        If there is no such steerable group.
    """
    return _group_named(name)[2]


def _group_named(name: str) -> tuple[int, bool, Group]:
    if name not in _GROUPS:
        raise ValueError(f"unknown group {name!r}; one of {', '.join(_GROUPS)}")
    return _GROUPS[name]


@final
@dataclass(frozen=True, eq=False)
class SteerableGroup:
    r"""Group of rotations and mirrors, how features transform under it, and how they are sampled on it.

    The values v of a feature at a point stand for a function f on the group:

    .. math:: f(s) = \langle \rho(s) e, v \rangle, \quad (g f)(s) = f(g^{-1} s) = \langle \rho(s) e, \rho(g) v \rangle

    e holds orthogonal vectors, one for each copy of an irrep, so that AᵀA = |S| / d · 1 (Schur), where A takes v to the
    values of f on a finite subgroup S. A pointwise nonlinearity between A and its inverse A⁺ commutes with S exactly,
    and with the rest of the group as far as S resolves what the nonlinearity makes (Cesa, Lang & Weiler 2022, section
    4).

    Parameters
    ----------
    gspace : escnn.gspaces.GSpace
        The group acting on the plane.
    is_continuous : bool
        Whether the group has all rotations.
    has_mirrors : bool
        Whether the group has mirrors.
    lattice : tuple of (Element, escnn element)
        The elements that the lattice has, as ours and as escnn's.
    feature : escnn.group.Representation
        Representation ρ of a feature, of size d: the regular one of a finite group; for SO(2) and O(2) the functions of
        frequencies up to a limit.
    to_samples : Tensor
        A, of shape (samples, d), float64.
    from_samples : Tensor
        A⁺, of shape (d, samples), float64.
    """

    gspace: Any
    is_continuous: bool
    has_mirrors: bool
    lattice: tuple[tuple[Element, Any], ...]
    feature: Any
    to_samples: Float64[Tensor, "samples dimension"]
    from_samples: Float64[Tensor, "dimension samples"]

    @property
    def dimension(self) -> int:
        """Numbers in one feature at one point."""
        return self.feature.size

    def represent_fields(self, fields: Sequence[FieldSpec]) -> Any:
        r"""Build the representation of a stack of fields.

        .. math:: \rho(g) = \bigoplus_{\mathrm{fields}} \det(g)^{[\mathrm{parity} = -1]} \, g^{\otimes \mathrm{order}}

        Rotated by a quarter turn R, a pseudovector is a vector, det(g) g = R g R⁻¹: a change of basis.

        Parameters
        ----------
        fields : sequence of FieldSpec
            Fields, one below the other.

        Returns
        -------
        escnn.group.Representation
            Of as many dimensions as the fields have components.
        """
        escnn = import_escnn()
        group, vector = self.gspace.fibergroup, self.gspace.basespace_action
        quarter_turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64, device="cpu").numpy()
        parts = []
        for field in fields:
            if field.order == 0:
                parts.append(
                    group.irrep(1, 0) if self.has_mirrors and field.parity < 0 else group.trivial_representation
                )
            elif field.parity > 0:
                parts.append(vector)
            else:
                parts.append(escnn.group.change_basis(vector, quarter_turn, f"pseudo {vector.name}"))
        # The name matters: escnn keeps the kernels that it has solved for under the names of the representations.
        return escnn.group.directsum(parts, name=f"fields {', '.join(part.name for part in parts)}")


@lru_cache
def steerable_group(name: str, frequency: int, samples: int) -> SteerableGroup:
    """Build a steerable group.

    Parameters
    ----------
    name : str
        C8, C16, D8, SO2 or O2.
    frequency : int
        Largest frequency in a feature, for SO2 and O2.
    samples : int
        Number of rotations in the finite subgroup that features are sampled on, for SO2 and O2.

    Returns
    -------
    SteerableGroup
        The group.

    Raises
    ------
    ValueError
        If the name is unknown, or the samples do not resolve the frequencies or lack the lattice's turns.
    """
    rotations, mirrors, lattice = _group_named(name)
    if frequency < 1:
        raise ValueError(f"frequency must be at least 1 (got {frequency})")
    if samples % 4 or samples <= 2 * frequency:
        raise ValueError(f"samples must be a multiple of 4 above 2 x frequency = {2 * frequency} (got {samples})")
    escnn = import_escnn()
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):  # whatever escnn draws is not from the user's seed
        make = escnn.gspaces.flipRot2dOnR2 if mirrors else escnn.gspaces.rot2dOnR2
        gspace = make(rotations, maximum_frequency=max(2 * frequency, 2))
        group = gspace.fibergroup
        if rotations > 0:
            elements, feature = group.elements, group.regular_representation
            to_samples = torch.eye(len(elements), dtype=torch.float64)
        else:
            elements = group.grid(type="regular", N=samples)
            numbers = range(1, frequency + 1)
            if mirrors:  # functions on the group hold each frequency twice, once for each sense of turning
                irreps = [group.irrep(0, 0), group.irrep(1, 0), *(group.irrep(1, k) for k in numbers for _ in range(2))]
            else:
                irreps = [group.irrep(0), *(group.irrep(k) for k in numbers)]
            feature = escnn.group.directsum(irreps, name=f"functions up to frequency {frequency}")
            start = _evaluation_vector(irreps) / math.sqrt(feature.size)
            to_samples = torch.stack([matrix_of(feature, element) @ start for element in elements])
        pairs = tuple((ours, _matching_element(ours, gspace.basespace_action, elements)) for ours in lattice)
        return SteerableGroup(gspace, rotations < 0, mirrors, pairs, feature, to_samples, torch.linalg.pinv(to_samples))


def matrix_of(representation: Any, element: Any) -> Float64[Tensor, "size size"]:
    """Return the matrix of a group element in one of escnn's representations.

    Parameters
    ----------
    representation : escnn.group.Representation
        Representation.
    element : escnn.group.GroupElement
        Element of its group.

    Returns
    -------
    Tensor
        Shape (size, size), float64, on the CPU.
    """
    return torch.tensor(representation(element).tolist(), dtype=torch.float64, device="cpu")


def _matching_element(ours: Element, action: Any, elements: Sequence[Any]) -> Any:
    """Find the element of escnn's that moves the plane as ours does."""
    matrix = torch.tensor(ours.matrix, dtype=torch.float64)
    return min(elements, key=lambda element: float((matrix_of(action, element) - matrix).norm()))


def _evaluation_vector(irreps: Sequence[Any]) -> Float64[Tensor, " dimension"]:
    """Return e: √d times a unit vector for each irrep of size d, another unit vector for each of its copies."""
    parts, copies = [], dict.fromkeys((irrep.id for irrep in irreps), 0)
    for irrep in irreps:
        parts.append(math.sqrt(irrep.size) * torch.eye(irrep.size, dtype=torch.float64)[copies[irrep.id]])
        copies[irrep.id] += 1
    return torch.cat(parts)
