"""Bases of the kernels that commute with a steerable group.

Weiler & Cesa 2019 (arXiv:1911.08251) solve the constraint κ(gx) = ρ_out(g) κ(x) ρ_in(g)⁻¹ for every g of a group of
rotations and mirrors; escnn (Cesa, Lang & Weiler 2022, openreview WE4qe9xlnQw) samples the solutions on a lattice. Only
tensors leave this module: the layers that use them are our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from fluidsurrogate.nn.layers.escnn_import import import_escnn
from fluidsurrogate.nn.layers.steerable_group import SteerableGroup, matrix_of
from solvers import FieldSpec
from solvers.symmetry import move


def kernel_basis(
    group: SteerableGroup, fields_in: Sequence[FieldSpec] | None, fields_out: Sequence[FieldSpec] | None, size: int
) -> Tensor:
    """Compute a basis of the equivariant kernels between fields or features, once a process.

    Parameters
    ----------
    group : SteerableGroup
        Group.
    fields_in : sequence of FieldSpec or None
        Fields that come in; None for a feature of the group.
    fields_out : sequence of FieldSpec or None
        Fields that come out; None for a feature of the group.
    size : int
        Side of the kernels in cells.

    Returns
    -------
    Tensor
        Shape (basis, out, in, size, size), float64: see `solve_kernel_basis`.
    """
    typed = (
        None if fields is None else tuple((f.order, f.parity) for f in fields) for fields in (fields_in, fields_out)
    )
    return _kernel_basis(group, *typed, size)


@lru_cache
def _kernel_basis(group: SteerableGroup, types_in: tuple | None, types_out: tuple | None, size: int) -> Tensor:
    first, second = (
        group.feature if types is None else group.represent_fields([FieldSpec("", *one) for one in types])
        for types in (types_in, types_out)
    )
    return solve_kernel_basis(group, first, second, size)


def solve_kernel_basis(
    group: SteerableGroup, representation_in: Any, representation_out: Any, size: int
) -> Float64[Tensor, "basis out components {size} {size}"]:
    r"""Solve for a basis of the equivariant kernels between two representations.

    .. math:: \kappa(x) \leftarrow \langle \rho_{out}(g) \, \kappa(g^{-1} x) \, \rho_{in}(g)^{-1} \rangle

    escnn gives the solutions, with its default rings and band limit, which keep angular aliasing small. They are
    averaged over the lattice's part of the group as in the equation, because escnn computes in single precision and the
    lattice's symmetries are to be exact. Each kernel is scaled to a sum of squares of 1, the mean over the components
    out.

    Parameters
    ----------
    group : SteerableGroup
        Group.
    representation_in : escnn.group.Representation
        Representation of what comes in.
    representation_out : escnn.group.Representation
        Representation of what comes out.
    size : int
        Side of the kernels in cells.

    Returns
    -------
    Tensor
        Shape (basis, out, in, size, size), float64, rows growing with y.
    """
    escnn = import_escnn()
    with torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.no_grad():
        representations = (representation_in, representation_out)
        types = [escnn.nn.FieldType(group.gspace, [representation]) for representation in representations]
        # recompute: the tables that escnn would share between layers change their precision and device with any of them
        layer = escnn.nn.R2Conv(*types, size, bias=False, initialize=False, recompute=True).double()
        filters = []
        for coefficients in torch.eye(len(layer.weights), dtype=torch.float64):
            layer.weights.copy_(coefficients)
            filters.append(layer.expand_parameters()[0])
        basis = torch.stack(filters).flip(-2)  # escnn's rows grow downwards
        moved = []
        for ours, theirs in group.lattice:
            left, right = matrix_of(representation_out, theirs), matrix_of(representation_in, theirs)
            moved.append(torch.einsum("oa,kabyx,ib->koiyx", left, move(basis, ours), right))
        basis = torch.stack(moved).mean(0)
        norms = basis.square().sum((2, 3, 4), keepdim=True).mean(1, keepdim=True).sqrt()
        return basis / norms


def invariant_components(group: SteerableGroup, fields: Sequence[FieldSpec]) -> Float64[Tensor, "components n"]:
    """Return the unit vectors of the components that the group leaves unchanged.

    These are scalars, and pseudoscalars if the group has no mirrors.

    Parameters
    ----------
    group : SteerableGroup
        Group.
    fields : sequence of FieldSpec
        Fields, one below the other.

    Returns
    -------
    Tensor
        Shape (component, n), one column for each of the n unchanged components, float64.
    """
    unchanged = [f.order == 0 and (f.parity > 0 or not group.has_mirrors) for f in fields for _ in range(f.components)]
    with torch.device("cpu"):
        return torch.eye(len(unchanged), dtype=torch.float64)[:, torch.tensor(unchanged)]
