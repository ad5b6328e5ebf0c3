"""The forced Arnold–Beltrami–Childress flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from solvers.array_types import VectorField
from solvers.flows.base import FlowExample, flow, is_whole, shifts
from solvers.flows.flow_3d import Flow3D
from solvers.flows.random_velocity import random_velocity
from solvers.flows.tracer import FlowWithTracer
from solvers.grid import Grid
from solvers.point_groups import GROUPS
from solvers.symmetry import Group
from solvers.validation import require_finite, require_positive


@flow("abc")
@final
@dataclass(frozen=True, kw_only=True)
class ArnoldBeltramiChildress(Flow3D, FlowWithTracer):
    r"""The Arnold–Beltrami–Childress flow, sustained by a force against viscosity and drag, and perturbed.

    .. math::

        u_{ABC} = (A \sin kz + C \cos ky, \; B \sin kx + A \cos kz, \; C \sin ky + B \cos kx), \qquad
        f = (\nu k^2 + \mu) \, u_{ABC}

    Its vorticity is k times its velocity (a Beltrami flow), so that it solves the equations exactly and has the largest
    helicity; its streamlines are chaotic. Above a Reynolds number of about 13 a perturbation grows and the flow becomes
    turbulent (Dombre et al. 1986, doi:10.1017/S0022112086002859; Podvigina & Pouquet 1994,
    doi:10.1016/0167-2789(94)00031-X). The force keeps of Oh the turns by 120° about the diagonal if A = B = C (C3),
    else nothing, and shifts by whole wavelengths. A cube is needed. Good values: box 2π, A = B = C = 1, k = 1, ν = 1/20
    on 32³.

    Parameters
    ----------
    viscosity : float
        Kinematic viscosity ν > 0, in m²/s.
    drag : float
        Linear drag μ ≥ 0, in 1/s.
    mean_velocity : tuple of float
        A uniform velocity (x, y, z) that advects everything, in m/s.
    spin_up : float
        Time that the solver runs before the first stored state, in s.
    tracer : Tracer, optional
        A passive tracer; None: none.
    a, b, c : float
        The amplitudes A, B and C, in m/s.
    waves : int
        Waves across each side of the box.
    noise : float
        Root mean square of a component of the initial perturbation, in m/s.
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 1.0
    waves: int = 1
    noise: float = 0.5

    examples: ClassVar[tuple[FlowExample, ...]] = (
        FlowExample({"viscosity": 5e-2, "noise": 1.0}, n=16),
        FlowExample({"viscosity": 5e-2, "noise": 1.0, "b": 0.5, "c": 0.8}, label="of unequal amplitudes", n=16),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_finite(a=self.a, b=self.b, c=self.c)
        require_positive(waves=self.waves, noise=self.noise)

    @property
    def group_without_vectors(self) -> Group:
        return GROUPS[3]["C3" if self.a == self.b == self.c else "C1"]

    def translations(self, grid: Grid) -> Bool[Tensor, "*space"]:
        # Which coordinates each amplitude's part depends on: A on z, B on x, C on y.
        kept = torch.ones(grid.n, dtype=torch.bool)
        for shift, amplitude in zip(shifts(grid), (self.a, self.c, self.b), strict=True):
            if amplitude:
                kept = kept & is_whole(shift * self.waves)
        return kept

    def beltrami_flow(self, grid: Grid) -> Float[Tensor, "3 z y x"]:
        """Return the flow u_ABC.

        Parameters
        ----------
        grid : Grid
            A cube that resolves it.

        Returns
        -------
        Tensor
            Components x, y and z, shape (3, z, y, x), float64, in m/s.

        Raises
        ------
        ValueError
            If the box is no cube or the grid too coarse.
        """
        if not all(math.isclose(side, grid.length[0], rel_tol=1e-12) for side in grid.length):
            raise ValueError(f"the flow abc needs a cube (got sides {grid.length})")
        if self.waves > min(grid.max_modes):
            raise ValueError(f"the grid is too coarse for {self.waves} waves; take a larger n")
        z, y, x = torch.broadcast_tensors(*(2 * math.pi * self.waves / grid.length[0] * c for c in grid.mesh()))
        return torch.stack([
            self.a * torch.sin(z) + self.c * torch.cos(y),
            self.b * torch.sin(x) + self.a * torch.cos(z),
            self.c * torch.sin(y) + self.b * torch.cos(x),
        ])  # fmt: skip

    def forcing(self, grid: Grid) -> Float[Tensor, "3 z y x"]:
        k = 2 * math.pi * self.waves / grid.length[0]
        return (self.viscosity * k**2 + self.drag) * self.beltrami_flow(grid)

    def initial_flow(self, grid: Grid, seeds: Sequence[int]) -> VectorField:
        return self.beltrami_flow(grid) + random_velocity(grid, seeds, 2.0 * self.waves, 0.5, self.noise)
