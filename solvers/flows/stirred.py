"""Turbulence that a random forcing keeps going."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from solvers.flows.base import flow
from solvers.flows.initial_conditions import banded_field, require_room
from solvers.flows.tracer import FlowWithTracer
from solvers.grid import Grid
from solvers.stochastic_forcing import StochasticForcing, ring
from solvers.symmetry import D4, Group
from solvers.validation import require_positive


@flow("stirred")
@final
@dataclass(frozen=True, kw_only=True)
class Stirred(FlowWithTracer):
    """∂ω/∂t + u·∇ω = ν∇²ω − μω + η, η white in time on a ring of wavenumbers (Lilly 1969, doi:10.1063/1.1692444;
    Boffetta & Ecke 2012, doi:10.1146/annurev-fluid-120710-101240): energy goes to larger scales, where drag takes it,
    enstrophy to smaller ones, where viscosity does, until both are steady.

    Energy is fed at the rate ε, enstrophy at k_f² ε; the energy settles near ε / 2μ. Point group D4 and every
    translation, in the mean over the noise. Good values: box 2π, `wavenumber` 4, ε = 0.1, μ = 0.05, ν = 1e-3 on 128².

    Attributes:
        rate: ε [length²/time³].
        wavenumber, bandwidth: the ring, in waves across the shorter side of the box: |k| within wavenumber ± bandwidth.
        renewal: the longest time between two kicks, much shorter than an eddy's turnover.
        rms: of the random start in the ring.
    """

    rate: float = 0.1
    wavenumber: float = 4.0
    bandwidth: float = 0.5
    renewal: float = 0.05
    rms: float = 1.0
    drag: float = 0.05
    spin_up: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(
            rate=self.rate, wavenumber=self.wavenumber, bandwidth=self.bandwidth, renewal=self.renewal, rms=self.rms
        )

    @property
    def symmetry(self) -> Group:
        return D4

    def vorticity(self, grid: Grid, seeds: Sequence[int]) -> Float[Tensor, "batch 1 y x"]:
        return banded_field(grid, seeds, self.wavenumber, self.bandwidth / 2, self.rms)

    def stochastic_forcing(self, grid: Grid) -> StochasticForcing:
        require_room(grid, self.wavenumber + self.bandwidth)
        return StochasticForcing(ring(self.wavenumber, self.bandwidth, self.rate, grid.length), self.renewal)
