"""Rayleigh–Bénard convection between two plates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Bool
from torch import Tensor

from solvers.array_types import State
from solvers.equation import TransportedScalar
from solvers.fields import TEMPERATURE
from solvers.flows.base import Flow, FlowExample, flow, is_whole, shifts
from solvers.flows.initial_conditions import random_band_field
from solvers.grid import Grid
from solvers.point_groups import D2
from solvers.symmetry import Group
from solvers.validation import require_positive


@flow("rayleigh_benard")
@final
@dataclass(frozen=True, kw_only=True)
class RayleighBenard(Flow):
    r"""Rayleigh–Bénard convection between two free-slip plates, the lower one warmer.

    .. math::

        \partial_t \omega + u \cdot \nabla \omega &= \nu \nabla^2 \omega + \partial_x \theta \\
        \partial_t \theta + u \cdot \nabla \theta &= \kappa \nabla^2 \theta + v

    The plates are at y = 0, with T = 1, and y = 1, with T = 0 (Rayleigh 1916, doi:10.1080/14786441608635602), in units
    of the height, the temperature difference and the free-fall time: ν = √(Pr/Ra), κ = 1/√(Pr Ra).

    θ = T − (1 − y), the departure from conduction, vanishes at the plates like ω, v and ∂u/∂y: ω and θ are odd about
    them. The box, twice the height, holds the layer and its mirror image, so that periodic transforms serve: read the
    layer off y < 1. Disturbances of wavenumber k grow for Ra > (π² + k²)³/k², at the earliest 27π⁴/4 = 657.5.

    Point group about the centre of the box, which is the upper plate: the mirror in x. Translations: all along x, half
    boxes along y. Good values: a box 2 high and 2 to 8 wide, Ra = 1e5 to 1e7, Pr = 1, stored every 0.5.

    Parameters
    ----------
    drag : float
        Linear drag μ ≥ 0, in 1/s.
    mean_velocity : tuple of float
        A uniform velocity (x, y) that advects everything, in m/s.
    spin_up : float
        Time that the solver runs before the first stored state, in s.
    rayleigh : float
        Rayleigh number Ra.
    prandtl : float
        Prandtl number Pr = ν/κ.
    noise : float
        Root mean square of the initial θ.
    wavenumber : float
        Centre of the band of the initial θ, in waves across the shorter side of the box.
    bandwidth : float
        Standard deviation of the band.

    Attributes
    ----------
    viscosity : float
        Kinematic viscosity ν = √(Pr/Ra), in units of the height and the free-fall time.
    """

    viscosity: float = field(init=False)
    rayleigh: float = 1e6
    prandtl: float = 1.0
    noise: float = 0.01
    wavenumber: float = 3.0
    bandwidth: float = 1.0

    plates: ClassVar[bool] = True
    examples: ClassVar[tuple[FlowExample, ...]] = (FlowExample({"rayleigh": 1e4, "prandtl": 0.5}, side=2.0),)

    def __post_init__(self) -> None:
        require_positive(rayleigh=self.rayleigh, prandtl=self.prandtl, noise=self.noise, wavenumber=self.wavenumber,
                         bandwidth=self.bandwidth)  # fmt: skip
        object.__setattr__(self, "viscosity", math.sqrt(self.prandtl / self.rayleigh))
        super().__post_init__()
        if self.mean_velocity[1]:
            raise ValueError(f"mean_velocity must be along the plates, [x, 0] (got {list(self.mean_velocity)})")

    @property
    def group_without_vectors(self) -> Group:
        return D2

    def translations(self, grid: Grid) -> Bool[Tensor, "y x"]:
        rows, _ = shifts(grid)
        return is_whole(2 * rows).expand(grid.n)

    @property
    def scalar(self) -> TransportedScalar:
        return TransportedScalar(
            TEMPERATURE, self.viscosity / self.prandtl, mean_gradient=(0.0, -1.0), gravity=(0.0, -1.0)
        )

    def starts(self, grid: Grid, seeds: Sequence[int]) -> State:
        if not math.isclose(grid.length[0], 2.0, rel_tol=1e-9):
            raise ValueError(f"grid.length must be [2, ...]: the layer and its mirror image (got {grid.length[0]:g})")
        random = random_band_field(grid, seeds, self.wavenumber, self.bandwidth, 1.0)
        theta = random - random.flip(-2)
        theta = self.noise * theta / theta.square().mean((-2, -1), keepdim=True).sqrt()
        return torch.cat([torch.zeros_like(theta), theta], dim=1)
