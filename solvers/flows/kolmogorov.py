"""Kolmogorov flow: a shear that the forcing feeds and that its own instability breaks up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from solvers.flows.base import flow, is_whole, shifts
from solvers.flows.initial_conditions import banded_field
from solvers.flows.tracer import FlowWithTracer
from solvers.grid import Grid
from solvers.symmetry import C2, Group
from solvers.validation import require_positive


@flow("kolmogorov")
@final
@dataclass(frozen=True, kw_only=True)
class Kolmogorov(FlowWithTracer):
    """∂ω/∂t + u·∇ω = ν∇²ω − μω − A k cos(k y), the body force being A sin(k y) in x (Meshalkin & Sinai 1961,
    doi:10.1016/0021-8928(62)90149-1).

    Point group C2: the half turn keeps forcing and flow; a mirror would need the forcing, a pseudoscalar, to change
    sign, which it does only together with a shift by half a wavelength. Translations: every one in x, whole
    wavelengths in y. Good values: box 2π, `waves` 4, A = 1, ν = 1e-2, drag 0.1.

    Attributes:
        amplitude: A [length/time²].
        waves: waves of the forcing across the box in y; k = 2π waves / length.
        rms, wavenumber: of the random start, as in `decaying`.
    """

    amplitude: float = 1.0
    waves: int = 4
    wavenumber: float = 4.0
    rms: float = 1.0
    drag: float = 0.1
    spin_up: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(amplitude=self.amplitude, waves=self.waves, wavenumber=self.wavenumber, rms=self.rms)

    def vorticity(self, grid: Grid, seeds: Sequence[int]) -> Float[Tensor, "batch 1 y x"]:
        return banded_field(grid, seeds, self.wavenumber, 1.0, self.rms)

    @property
    def symmetry(self) -> Group:
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
