"""Turbulence that a stochastic forcing sustains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from solvers.array_types import ScalarField
from solvers.flows.base import FlowExample, flow
from solvers.flows.initial_conditions import random_band_field, require_resolution
from solvers.flows.tracer import FlowWithTracer
from solvers.grid import Grid
from solvers.point_groups import D4
from solvers.stochastic_forcing import StochasticForcing, ring_amplitude
from solvers.symmetry import Group
from solvers.validation import require_positive


@flow("stirred")
@final
@dataclass(frozen=True, kw_only=True)
class Stirred(FlowWithTracer):
    r"""Statistically steady turbulence that a stochastic forcing on a ring of wavenumbers sustains.

    .. math:: \partial_t \omega + u \cdot \nabla \omega = \nu \nabla^2 \omega - \mu \omega + \eta

    The noise η is white in time (Lilly 1969, doi:10.1063/1.1692444; Boffetta & Ecke 2012,
    doi:10.1146/annurev-fluid-120710-101240). Energy moves to larger scales, where drag removes it, and enstrophy to
    smaller ones, where viscosity does, until both are steady. Energy is fed at the rate ε and enstrophy at k_f² ε; the
    energy settles near ε / 2μ. Point group D4 and all translations, in the mean over the noise. Good values: box 2π,
    ``wavenumber`` 4, ε = 0.1, μ = 0.05, ν = 1e-3 on 128².

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
    rate : float
        Rate ε at which energy is fed, in m²/s³.
    wavenumber : float
        Radius of the ring, in waves across the shorter side of the box.
    bandwidth : float
        Half the width of the ring, in the same units.
    renewal : float
        The longest time between two kicks, in s: much shorter than an eddy's turnover.
    rms : float
        Root mean square of the initial vorticity, a random field in the ring, in 1/s.
    """

    rate: float = 0.1
    wavenumber: float = 4.0
    bandwidth: float = 0.5
    renewal: float = 0.05
    rms: float = 1.0
    drag: float = 0.05
    spin_up: float = 20.0

    examples: ClassVar[tuple[FlowExample, ...]] = (FlowExample({"viscosity": 1e-2}),)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(
            rate=self.rate, wavenumber=self.wavenumber, bandwidth=self.bandwidth, renewal=self.renewal, rms=self.rms
        )

    @property
    def group_without_vectors(self) -> Group:
        return D4

    def initial_flow(self, grid: Grid, seeds: Sequence[int]) -> ScalarField:
        return random_band_field(grid, seeds, self.wavenumber, self.bandwidth / 2, self.rms)

    def stochastic_forcing(self, grid: Grid) -> StochasticForcing:
        require_resolution(grid, self.wavenumber + self.bandwidth)
        return StochasticForcing(ring_amplitude(self.wavenumber, self.bandwidth, self.rate, grid.length), self.renewal)
