"""Kolmogorov flow: a shear flow driven by a sinusoidal force."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from solvers.array_types import ScalarField
from solvers.flows.base import FlowExample, flow, is_whole, shifts
from solvers.flows.initial_conditions import random_band_field
from solvers.flows.tracer import FlowWithTracer
from solvers.grid import Grid
from solvers.point_groups import C2
from solvers.symmetry import Group
from solvers.validation import require_positive


@flow("kolmogorov")
@final
@dataclass(frozen=True, kw_only=True)
class Kolmogorov(FlowWithTracer):
    r"""Kolmogorov flow: a shear flow driven by a sinusoidal force, which its own instability breaks up.

    .. math:: \partial_t \omega + u \cdot \nabla \omega
              = \nu \nabla^2 \omega - \mu \omega - A k \cos(k y)

    The body force is A sin(k y) along x (Meshalkin & Sinai 1961, doi:10.1016/0021-8928(62)90149-1). Point group C2:
    the half turn leaves forcing and flow unchanged; under a mirror the forcing, a pseudoscalar, would have to change
    its sign, which it does only together with a shift by half a wavelength. Translations: all along x, whole
    wavelengths along y. Good values: box 2π, ``waves`` 4, A = 1, ν = 1e-2, drag 0.1.

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
    tracer : Tracer, optional
        A passive tracer; None: none.
    amplitude : float
        Amplitude A of the force, in m/s².
    waves : int
        Waves of the force across the box in y: k = 2π waves / length.
    wavenumber : float
        Centre of the band of the random initial vorticity, in waves across the shorter side of the box.
    rms : float
        Root mean square of the initial vorticity, in 1/s.
    """

    amplitude: float = 1.0
    waves: int = 4
    wavenumber: float = 4.0
    rms: float = 1.0
    drag: float = 0.1
    spin_up: float = 5.0

    examples: ClassVar[tuple[FlowExample, ...]] = (FlowExample({"viscosity": 1e-2}),)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(amplitude=self.amplitude, waves=self.waves, wavenumber=self.wavenumber, rms=self.rms)

    def initial_flow(self, grid: Grid, seeds: Sequence[int]) -> ScalarField:
        return random_band_field(grid, seeds, self.wavenumber, 1.0, self.rms)

    @property
    def group_without_vectors(self) -> Group:
        return C2

    def translations(self, grid: Grid) -> Bool[Tensor, "y x"]:
        rows, _ = shifts(grid)
        return is_whole(rows * self.waves).expand(grid.n)

    def forcing(self, grid: Grid) -> Float[Tensor, "y x"]:
        if self.waves > grid.max_modes[0]:
            raise ValueError(f"grid.n = {grid.n[0]} is too coarse for {self.waves} waves of forcing; take a larger n")
        y, x = grid.coordinates()
        k = 2 * math.pi * self.waves / grid.length[0]
        return (-self.amplitude * k * torch.cos(k * y))[:, None].expand(len(y), len(x)).contiguous()
