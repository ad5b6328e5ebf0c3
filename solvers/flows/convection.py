"""Warm blobs that rise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from solvers.equation import TransportedScalar
from solvers.fields import TEMPERATURE
from solvers.flows.base import Flow, flow
from solvers.flows.initial_conditions import require_room
from solvers.grid import Grid, sample_modes
from solvers.random_modes import generator, mode_numbers
from solvers.symmetry import D4, Group
from solvers.validation import require_finite, require_non_negative, require_positive

MOST_BLOBS = 10_000
SMALLEST = 1e-6  # Fourier modes of a blob below this share of its largest are left out


@flow("convection")
@final
@dataclass(frozen=True, kw_only=True)
class Convection(Flow):
    """∂ω/∂t + u·∇ω = ν∇²ω − (g_y ∂θ/∂x − g_x ∂θ/∂y), ∂θ/∂t + u·∇θ = κ∇²θ − u·G: the Boussinesq equations in a periodic
    box, from warm blobs at rest (as the "smoke" of PDEArena, Gupta & Brandstetter 2022, arXiv:2209.15616).

    θ, less its mean, is a scalar; gravity keeps of D4 the mirror across it, and every translation. It is a vector
    input, which turns with the state and gives D4 back. A vertical gradient G = N²/g stratifies the box: its internal
    waves have the frequency N |cos(angle of k to the horizontal)|. Good values: box 2π, ν = κ = 1e-3 on 128².

    Attributes:
        diffusivity: κ ≥ 0 [length²/time].
        gravity: |g| > 0, gravity times thermal expansion [length/time²/temperature].
        tilt: angle of g from −y, counter-clockwise [radian].
        stratification: |G|, along −g, so that warmer lies higher: stable where positive [temperature/length].
        blobs: how many; `radius`: of each, as a share of the shorter side; `warmth`: the largest θ of one.
    """

    diffusivity: float
    gravity: float = 1.0
    tilt: float = 0.0
    stratification: float = 0.0
    blobs: int = 4
    radius: float = 0.1
    warmth: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(gravity=self.gravity, blobs=self.blobs, radius=self.radius, warmth=self.warmth)
        require_non_negative(diffusivity=self.diffusivity)
        if self.blobs > MOST_BLOBS:
            raise ValueError(f"blobs must be at most {MOST_BLOBS} (got {self.blobs})")
        require_finite(tilt=self.tilt, stratification=self.stratification)

    @property
    def symmetry(self) -> Group:
        return D4

    @property
    def scalar(self) -> TransportedScalar:
        down = tuple(round(c, 15) + 0.0 for c in (math.sin(self.tilt), -math.cos(self.tilt)))
        gravity = (self.gravity * down[0], self.gravity * down[1])
        gradient = (-self.stratification * down[0], -self.stratification * down[1])
        return TransportedScalar(TEMPERATURE, self.diffusivity, gradient if self.stratification else None, gravity)

    def starts(self, grid: Grid, seeds: Sequence[int]) -> Float[Tensor, "batch 2 y x"]:
        radius = self.radius * min(grid.length)
        reach = 2 * math.sqrt(-math.log(SMALLEST)) / radius
        require_room(grid, reach * min(grid.length) / (2 * math.pi))
        rows, columns = mode_numbers(*(math.floor(reach * side / (2 * math.pi)) for side in grid.length))
        ky, kx = (2 * math.pi * m / side for m, side in zip((rows, columns), grid.length, strict=True))
        blob = self.warmth * math.pi * radius**2 / math.prod(grid.length) * np.exp(-(ky**2 + kx**2) * radius**2 / 4)
        blob[len(rows) // 2, 0] = 0.0
        fields = []
        for seed in seeds:
            y, x = generator(seed).random((2, self.blobs))[..., None, None]
            fields.append((blob * np.exp(-2j * math.pi * (rows * y + columns * x))).sum(0))
        theta = sample_modes(torch.from_numpy(np.stack(fields)), grid)[:, None]
        return torch.cat([torch.zeros_like(theta), theta], dim=1)
