"""Buoyant convection in three dimensions from random temperatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch

from solvers.array_types import State, Vector
from solvers.equation import TransportedScalar
from solvers.fields import TEMPERATURE
from solvers.flows.base import FlowExample, flow
from solvers.flows.flow_3d import Flow3D
from solvers.flows.initial_conditions import random_band_field
from solvers.grid import Grid
from solvers.point_groups import GROUPS
from solvers.symmetry import Group
from solvers.validation import require_finite, require_non_negative, require_positive


@flow("convection")
@final
@dataclass(frozen=True, kw_only=True)
class Convection3D(Flow3D):
    r"""Convection in a periodic box by the Boussinesq equations: warm fluid rises, cold fluid sinks.

    .. math::

        \partial_t u + u \cdot \nabla u &= -\nabla p + \nu \nabla^2 u - \mu u - g \theta \\
        \partial_t \theta + u \cdot \nabla \theta &= \kappa \nabla^2 \theta - u \cdot G

    The fluid starts at rest with a random temperature θ without mean. A mean gradient G against gravity that is
    unstable (negative `stratification`) feeds the flow for ever, "homogeneous Rayleigh–Bénard convection" (Lohse &
    Toschi 2003, doi:10.1103/PhysRevLett.90.034502); a stable one makes internal waves of the frequency N = √(|g||G|).
    Gravity leaves of Oh the group C4v about its axis if that is z, and all translations. It is a vector input, which
    turns with the state and restores Oh. Good values: box 2π, ν = κ = 1e-2 on 64³.

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
    diffusivity : float
        Diffusivity κ ≥ 0 of the temperature, in m²/s.
    gravity : tuple of float
        The vector g as (x, y, z): gravity times thermal expansion, in m/(s² K).
    stratification : float
        Mean gradient of the temperature against g, so that warmer fluid lies higher: stable if positive, in K/m.
    wavenumber : float
        Centre of the band of the initial temperature, in waves across the shortest side of the box.
    bandwidth : float
        Standard deviation of the band.
    warmth : float
        Root mean square of the initial temperature, in K.
    """

    diffusivity: float
    gravity: Vector = (0.0, 0.0, -1.0)
    stratification: float = 0.0
    wavenumber: float = 2.0
    bandwidth: float = 0.5
    warmth: float = 1.0

    examples: ClassVar[tuple[FlowExample, ...]] = (
        FlowExample({"viscosity": 2e-2, "diffusivity": 1e-2}, n=16),
        FlowExample(
            {"viscosity": 2e-2, "diffusivity": 1e-2, "gravity": (1.0, 0.0, 1.0), "stratification": 0.8},
            label="tilted", n=16,
        ),
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(wavenumber=self.wavenumber, bandwidth=self.bandwidth, warmth=self.warmth)
        require_non_negative(diffusivity=self.diffusivity)
        require_finite(gravity=self.gravity, stratification=self.stratification)
        if not any(self.gravity):
            raise ValueError("gravity must not be zero; take the flow decaying with a tracer")

    @property
    def group_without_vectors(self) -> Group:
        return GROUPS[3]["Oh"]

    @property
    def scalar(self) -> TransportedScalar:
        size = sum(g**2 for g in self.gravity) ** 0.5
        gradient = tuple(-self.stratification * g / size for g in self.gravity)
        return TransportedScalar(TEMPERATURE, self.diffusivity, gradient if self.stratification else None, self.gravity)

    def starts(self, grid: Grid, seeds: Sequence[int]) -> State:
        theta = random_band_field(grid, seeds, self.wavenumber, self.bandwidth, self.warmth)
        return torch.cat([torch.zeros(len(seeds), 3, *grid.n, dtype=torch.float64), theta], dim=1)
