"""Warm blobs that rise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch

from solvers.array_types import State
from solvers.equation import TransportedScalar
from solvers.fields import TEMPERATURE
from solvers.flows.base import Flow, FlowExample, flow
from solvers.flows.initial_conditions import require_resolution
from solvers.grid import Grid, sample_modes
from solvers.point_groups import D4
from solvers.random_modes import mode_numbers, random_generator
from solvers.symmetry import Group
from solvers.validation import require_finite, require_non_negative, require_positive

MAX_BLOBS = 10_000
SMALLEST_MODE = 1e-6  # of a blob, over its largest Fourier mode: smaller ones are left out


@flow("convection")
@final
@dataclass(frozen=True, kw_only=True)
class Convection(Flow):
    r"""Warm blobs that rise, by the Boussinesq equations in a periodic box.

    .. math::

        \partial_t \omega + u \cdot \nabla \omega
            &= \nu \nabla^2 \omega - (g_y \partial_x \theta - g_x \partial_y \theta) \\
        \partial_t \theta + u \cdot \nabla \theta &= \kappa \nabla^2 \theta - u \cdot G

    The fluid starts at rest, as the "smoke" of PDEArena (Gupta & Brandstetter 2022, arXiv:2209.15616). θ, without its
    mean, is a scalar. Gravity leaves of D4 the mirror across it, and all translations. It is a vector input, which
    turns with the state and restores D4. A vertical gradient G = N²/g stratifies the box: its internal waves have the
    frequency N ``|cos(angle of k to the horizontal)|``. Good values: box 2π, ν = κ = 1e-3 on 128².

    Parameters
    ----------
    viscosity : float
        Kinematic viscosity ν > 0, in m²/s.
    drag : float
        Linear drag μ ≥ 0, in 1/s.
    mean_velocity : tuple of float
        A uniform velocity (x, y) that advects everything, in m/s.
    spin_up : float
        Time that the solver runs before the first stored state, in s.
    diffusivity : float
        Scalar diffusivity κ ≥ 0, in m²/s.
    gravity : float
        Magnitude of g > 0: gravity times thermal expansion, in m/(s² K).
    tilt : float
        Angle of g from −y, counter-clockwise, in radians.
    stratification : float
        Mean gradient of the temperature against g, so that warmer fluid lies higher: stable if positive, in K/m.
    blobs : int
        Number of blobs.
    radius : float
        Radius of each, as a fraction of the shorter side.
    warmth : float
        Largest θ of a blob, in K.
    """

    diffusivity: float
    gravity: float = 1.0
    tilt: float = 0.0
    stratification: float = 0.0
    blobs: int = 4
    radius: float = 0.1
    warmth: float = 1.0

    examples: ClassVar[tuple[FlowExample, ...]] = (
        FlowExample({"viscosity": 1e-2, "diffusivity": 5e-3}, n=40),
        FlowExample(
            {"viscosity": 1e-2, "diffusivity": 5e-3, "gravity": 1.5, "tilt": math.pi / 4, "stratification": 0.8},
            label="tilted",
            n=40,
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(gravity=self.gravity, blobs=self.blobs, radius=self.radius, warmth=self.warmth)
        require_non_negative(diffusivity=self.diffusivity)
        if self.blobs > MAX_BLOBS:
            raise ValueError(f"blobs must be at most {MAX_BLOBS} (got {self.blobs})")
        require_finite(tilt=self.tilt, stratification=self.stratification)

    @property
    def group_without_vectors(self) -> Group:
        return D4

    @property
    def scalar(self) -> TransportedScalar:
        down = tuple(round(c, 15) + 0.0 for c in (math.sin(self.tilt), -math.cos(self.tilt)))
        gravity = (self.gravity * down[0], self.gravity * down[1])
        gradient = (-self.stratification * down[0], -self.stratification * down[1])
        return TransportedScalar(TEMPERATURE, self.diffusivity, gradient if self.stratification else None, gravity)

    def starts(self, grid: Grid, seeds: Sequence[int]) -> State:
        radius = self.radius * min(grid.length)
        reach = 2 * math.sqrt(-math.log(SMALLEST_MODE)) / radius
        require_resolution(grid, reach * min(grid.length) / (2 * math.pi))
        rows, columns = mode_numbers(*(math.floor(reach * side / (2 * math.pi)) for side in grid.length))
        ky, kx = (2 * math.pi * m / side for m, side in zip((rows, columns), grid.length, strict=True))
        blob = self.warmth * math.pi * radius**2 / math.prod(grid.length) * np.exp(-(ky**2 + kx**2) * radius**2 / 4)
        blob[len(rows) // 2, 0] = 0.0
        fields = []
        for seed in seeds:
            y, x = random_generator(seed).random((2, self.blobs))[..., None, None]
            fields.append((blob * np.exp(-2j * math.pi * (rows * y + columns * x))).sum(0))
        theta = sample_modes(torch.from_numpy(np.stack(fields)), grid)[:, None]
        return torch.cat([torch.zeros_like(theta), theta], dim=1)
