"""Convection between two plates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from solvers.equation import TransportedScalar
from solvers.fields import TEMPERATURE
from solvers.flows.base import Flow, flow, is_whole, shifts
from solvers.flows.initial_conditions import banded_field
from solvers.grid import Grid
from solvers.symmetry import D2, Group
from solvers.validation import require_positive


@flow("rayleigh_benard")
@final
@dataclass(frozen=True, kw_only=True)
class RayleighBenard(Flow):
    """∂ω/∂t + u·∇ω = ν∇²ω + ∂θ/∂x, ∂θ/∂t + u·∇θ = κ∇²θ + v between free-slip plates at y = 0, T = 1 and y = 1, T = 0
    (Rayleigh 1916, doi:10.1080/14786441608635602), in units of the height, the difference of temperature and the free
    fall: ν = √(Pr/Ra), κ = 1/√(Pr Ra).

    θ = T − (1 − y), the departure from conduction, vanishes at the plates like ω, v and ∂u/∂y: both are odd about them.
    The box, twice the height, holds the layer and its mirror image, so that the periodic transforms serve: read the
    layer off y < 1. Disturbances of wavenumber k grow where Ra > (π² + k²)³/k², at the earliest 27π⁴/4 = 657.5.

    Point group about the centre of the box, which is the upper plate: the mirror in x. Translations: every one in x,
    half boxes in y. Good values: a box 2 high and 2 to 8 wide, Ra = 1e5 to 1e7, Pr = 1, stored every 0.5.

    Attributes:
        rayleigh: Ra.
        prandtl: Pr = ν/κ.
        noise: root mean square of the temperature at the start.
        wavenumber, bandwidth: of the noise, in waves across the shorter side of the box.
    """

    viscosity: float = field(init=False)
    rayleigh: float = 1e6
    prandtl: float = 1.0
    noise: float = 0.01
    wavenumber: float = 3.0
    bandwidth: float = 1.0

    plates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_positive(rayleigh=self.rayleigh, prandtl=self.prandtl, noise=self.noise, wavenumber=self.wavenumber,
                         bandwidth=self.bandwidth)  # fmt: skip
        object.__setattr__(self, "viscosity", math.sqrt(self.prandtl / self.rayleigh))
        super().__post_init__()
        if self.mean_velocity[1]:
            raise ValueError(f"mean_velocity must be along the plates, [x, 0] (got {list(self.mean_velocity)})")

    @property
    def symmetry(self) -> Group:
        return D2

    def translations(self, grid: Grid) -> Bool[Tensor, "y x"]:
        rows, _ = shifts(grid)
        return is_whole(2 * rows).expand(grid.n)

    @property
    def scalar(self) -> TransportedScalar:
        return TransportedScalar(
            TEMPERATURE, self.viscosity / self.prandtl, mean_gradient=(0.0, -1.0), gravity=(0.0, -1.0)
        )

    def starts(self, grid: Grid, seeds: Sequence[int]) -> Float[Tensor, "batch 2 y x"]:
        if not math.isclose(grid.length[0], 2.0, rel_tol=1e-9):
            raise ValueError(f"grid.length must be [2, ...]: the layer and its mirror image (got {grid.length[0]:g})")
        random = banded_field(grid, seeds, self.wavenumber, self.bandwidth, 1.0)
        theta = random - random.flip(-2)
        theta = self.noise * theta / theta.square().mean((-2, -1), keepdim=True).sqrt()
        return torch.cat([torch.zeros_like(theta), theta], dim=1)
