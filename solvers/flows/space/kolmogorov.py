"""Kolmogorov flow in three dimensions: a shear flow driven by a sinusoidal force."""

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
from solvers.validation import require_positive


@flow("kolmogorov")
@final
@dataclass(frozen=True, kw_only=True)
class Kolmogorov3D(Flow3D, FlowWithTracer):
    r"""Kolmogorov flow in space: a turbulent shear flow without walls, driven by a sinusoidal force.

    .. math:: \partial_t u + u \cdot \nabla u = -\nabla p + \nu \nabla^2 u - \mu u + A \sin(k y) \, e_x

    Source: Borue & Orszag 1996, doi:10.1017/S0022112096001310. Of Oh the force keeps C2h: the half turn about z, the
    mirror across z and the inversion. Translations: all along x and z, whole wavelengths along y. Good values: box 2π,
    ``waves`` 1, A = 0.2, ν = 1e-2 on 64³.

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
    amplitude : float
        Amplitude A of the force, in m/s².
    waves : int
        Waves of the force across the box in y: k = 2π waves / length.
    wavenumber : float
        Centre of the band of the random initial velocity, in waves across the shortest side of the box.
    rms : float
        Root mean square of a component of the initial velocity, in m/s.
    """

    amplitude: float = 0.2
    waves: int = 1
    wavenumber: float = 2.0
    rms: float = 0.5
    spin_up: float = 10.0

    examples: ClassVar[tuple[FlowExample, ...]] = (
        FlowExample({"viscosity": 2e-2, "amplitude": 2.0, "waves": 2, "spin_up": 1.0}, n=16),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(amplitude=self.amplitude, waves=self.waves, wavenumber=self.wavenumber, rms=self.rms)

    @property
    def group_without_vectors(self) -> Group:
        return GROUPS[3]["C2h"]

    def translations(self, grid: Grid) -> Bool[Tensor, "*space"]:
        _, rows, _ = shifts(grid)
        return is_whole(rows * self.waves).expand(grid.n)

    def forcing(self, grid: Grid) -> Float[Tensor, "3 z y x"]:
        if self.waves > grid.max_modes[1]:
            raise ValueError(f"grid.n = {grid.n[1]} is too coarse for {self.waves} waves of forcing; take a larger n")
        _, y, _ = grid.mesh()
        force = torch.zeros(3, *grid.n, dtype=torch.float64)
        force[0] = self.amplitude * torch.sin(2 * math.pi * self.waves / grid.length[1] * y)
        return force

    def initial_flow(self, grid: Grid, seeds: Sequence[int]) -> VectorField:
        return random_velocity(grid, seeds, self.wavenumber, 1.0, self.rms)
