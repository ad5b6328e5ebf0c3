"""What escnn is asked for: groups beyond the lattice's, their representations, and bases of equivariant kernels.

Weiler & Cesa 2019 (arXiv:1911.08251) solve the constraint κ(gx) = ρ_out(g) κ(x) ρ_in(g)⁻¹ for every g of a group of
rotations and mirrors; escnn (Cesa, Lang & Weiler 2022, openreview WE4qe9xlnQw) samples the solutions on a lattice. All
that leaves this module is tensors: the layers that use them are in `steerable`, and are ours.
"""

from __future__ import annotations

import importlib
import math
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, final

import torch
from jaxtyping import Float64
from torch import Tensor

from solvers import C4, D4, Element, FieldSpec, Group
from solvers.symmetry import move

# By name: rotations in the group (-1: all), whether it has mirrors, and what of it the lattice keeps exactly.
_GROUPS: dict[str, tuple[int, bool, Group]] = {
    "C8": (8, False, C4),
    "C16": (16, False, C4),
    "D8": (8, True, D4),
    "SO2": (-1, False, C4),
    "O2": (-1, True, D4),
}
# escnn takes one function from lie_learn, for SO(3): a package with wheels for x86-64 Linux and numpy < 2 alone.
WIGNER = "lie_learn.representations.SO3.wigner_d"


def import_escnn() -> ModuleType:
    """escnn; ValueError where it is not installed.

    What escnn needs in space only is not asked for: py3nj, which it can do without, and lie_learn, for whose only
    function a placeholder stands while escnn is first imported.
    """
    if "escnn.nn" in sys.modules:
        return sys.modules["escnn"]
    placeholders = _placeholders()
    sys.modules.update(placeholders)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*py3nj")
            for part in ("escnn.gspaces", "escnn.nn"):
                importlib.import_module(part)
    except (ImportError, OSError) as error:
        how = "pip install joblib scipy, then pip install --no-deps escnn==1.0.11"
        raise ValueError(f"kind = 'steerable' needs escnn ({error}): {how}") from None
    finally:
        for name in placeholders:
            del sys.modules[name]
    return sys.modules["escnn"]


def _placeholders() -> dict[str, ModuleType]:
    """lie_learn's module and its parents where it is not installed or does not work with this numpy."""
    try:
        importlib.import_module(WIGNER)
    except (ImportError, ValueError):  # the latter where it was compiled for another numpy
        parts = WIGNER.split(".")
        made = {name: ModuleType(name) for name in (".".join(parts[: i + 1]) for i in range(len(parts)))}
        made[WIGNER].wigner_D_matrix = _wigner_matrix  # type: ignore[attr-defined]
        return made
    return {}


def _wigner_matrix(*args: Any, **options: Any) -> None:
    raise ImportError("rotations in space need lie_learn: install it, and import escnn before fluidsurrogate uses it")


def lattice_group(name: str) -> Group:
    """The largest point group of the square in a steerable group; ValueError where there is no such group."""
    return _group_named(name)[2]


def _group_named(name: str) -> tuple[int, bool, Group]:
    if name not in _GROUPS:
        raise ValueError(f"unknown group {name!r}; one of {', '.join(_GROUPS)}")
    return _GROUPS[name]


@final
@dataclass(frozen=True, eq=False)
class SteerableGroup:
    """A group, how features transform under it, and what a feature's numbers say about a function on the group.

    `feature` is a representation ρ of size d: for a finite group the regular one, for SO(2) and O(2) the functions of
    frequencies up to a limit. `to_samples` A, (samples, d), gives the function's values on a finite subgroup S:

        f(s) = ⟨ρ(s) e, v⟩,  so that (g·f)(s) = f(g⁻¹s) = ⟨ρ(s) e, ρ(g) v⟩;

    e holds orthogonal vectors, one for each copy of an irrep, so that AᵀA = |S| / d · 1 (Schur). `from_samples` is A⁺.
    A pointwise nonlinearity between A and A⁺ commutes with S exactly and with the rest as far as S resolves what the
    nonlinearity makes (Cesa, Lang & Weiler 2022, section 4). `lattice` pairs our elements with escnn's.
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

    def fields(self, fields: Sequence[FieldSpec]) -> Any:
        """The representation of a stack of fields: det(g)^[parity = −1] g^{⊗order}, one below the other.

        Rotated by a quarter turn, a pseudovector is a vector, det(g) g = R g R⁻¹: a change of basis."""
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
    """C8, C16, D8, SO2 or O2; `frequency` the largest and `samples` the rotations in S for SO2 and O2.

    ValueError for an unknown name, or where the samples do not resolve the frequencies or lack the lattice's turns.
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
            start = _evaluation(irreps) / math.sqrt(feature.size)
            to_samples = torch.stack([_matrix(feature, element) @ start for element in elements])
        pairs = tuple((ours, _same(ours, gspace.basespace_action, elements)) for ours in lattice)
        return SteerableGroup(gspace, rotations < 0, mirrors, pairs, feature, to_samples, torch.linalg.pinv(to_samples))


def _matrix(representation: Any, element: Any) -> Float64[Tensor, "size size"]:
    """ρ(g) as a tensor."""
    return torch.tensor(representation(element).tolist(), dtype=torch.float64, device="cpu")


def _same(ours: Element, action: Any, elements: Sequence[Any]) -> Any:
    """The element of escnn's that moves the plane as ours does."""
    matrix = torch.tensor(ours.matrix, dtype=torch.float64)
    return min(elements, key=lambda element: float((_matrix(action, element) - matrix).norm()))


def _evaluation(irreps: Sequence[Any]) -> Float64[Tensor, " dimension"]:
    """e: √d times a unit vector for each irrep of size d, another one for each of its copies."""
    parts, copies = [], dict.fromkeys((irrep.id for irrep in irreps), 0)
    for irrep in irreps:
        parts.append(math.sqrt(irrep.size) * torch.eye(irrep.size, dtype=torch.float64)[copies[irrep.id]])
        copies[irrep.id] += 1
    return torch.cat(parts)


def kernel_basis(
    group: SteerableGroup, into: Any, out_of: Any, size: int
) -> Float64[Tensor, "basis out components {size} {size}"]:
    """A basis of the kernels from representation `into` to `out_of`, on size × size cells, rows growing with y.

    escnn's rings and band limit (its defaults, which keep angular aliasing small); each element scaled to
    Σ κ² = 1, the mean over `out`. Averaged over the lattice's part of the group, κ(x) ← ⟨ρ_out(g) κ(g⁻¹x) ρ_in(g)⁻¹⟩,
    since escnn computes in single precision and the lattice's symmetries shall be exact.
    """
    escnn = import_escnn()
    with torch.device("cpu"), torch.random.fork_rng(devices=[]), torch.no_grad():
        types = [escnn.nn.FieldType(group.gspace, [representation]) for representation in (into, out_of)]
        # recompute: the tables that escnn would share between layers change their precision and device with any of them
        layer = escnn.nn.R2Conv(*types, size, bias=False, initialize=False, recompute=True).double()
        filters = []
        for coefficients in torch.eye(len(layer.weights), dtype=torch.float64):
            layer.weights.copy_(coefficients)
            filters.append(layer.expand_parameters()[0])
        basis = torch.stack(filters).flip(-2)  # escnn's rows grow downwards
        moved = []
        for ours, theirs in group.lattice:
            left, right = _matrix(out_of, theirs), _matrix(into, theirs)
            moved.append(torch.einsum("oa,kabyx,ib->koiyx", left, move(basis, ours), right))
        basis = torch.stack(moved).mean(0)
        norms = basis.square().sum((2, 3, 4), keepdim=True).mean(1, keepdim=True).sqrt()
        return basis / norms


def field_kernels(
    group: SteerableGroup, into: Sequence[FieldSpec] | None, out_of: Sequence[FieldSpec] | None, size: int
) -> Tensor:
    """`kernel_basis` between stacks of fields, or features where None; computed once a process."""
    typed = (None if fields is None else tuple((f.order, f.parity) for f in fields) for fields in (into, out_of))
    return _field_kernels(group, *typed, size)


@lru_cache
def _field_kernels(group: SteerableGroup, into: tuple | None, out_of: tuple | None, size: int) -> Tensor:
    first, second = (
        group.feature if typed is None else group.fields([FieldSpec("", *one) for one in typed])
        for typed in (into, out_of)
    )
    return kernel_basis(group, first, second, size)


def invariant_components(group: SteerableGroup, fields: Sequence[FieldSpec]) -> Float64[Tensor, "components n"]:
    """Unit vectors of the components that the group leaves alone: scalars, and without mirrors pseudoscalars."""
    alone = [f.order == 0 and (f.parity > 0 or not group.has_mirrors) for f in fields for _ in range(f.components)]
    with torch.device("cpu"):
        return torch.eye(len(alone), dtype=torch.float64)[:, torch.tensor(alone)]
