"""Turbulence in three dimensions that a stochastic forcing sustains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from solvers.array_types import VectorField
from solvers.flows.base import FlowExample, flow
from solvers.flows.flow_3d import Flow3D
from solvers.flows.initial_conditions import require_resolution
from solvers.flows.random_velocity import random_velocity
from solvers.flows.tracer import FlowWithTracer
from solvers.grid import Grid
from solvers.point_groups import GROUPS
from solvers.stochastic_forcing import StochasticForcing, ring_amplitude
from solvers.symmetry import Group
from solvers.validation import require_positive


@flow("stirred")
@final
@dataclass(frozen=True, kw_only=True)
class Stirred3D(Flow3D, FlowWithTracer):
    r"""Statistically steady turbulence in space that a stochastic forcing on a shell of wavenumbers sustains.

    .. math:: \partial_t u + u \cdot \nabla u = -\nabla p + \nu \nabla^2 u - \mu u + \eta

    The noise η is white in time and free of divergence (Eswaran & Pope 1988, doi:10.1016/0045-7930(88)90013-8; Alvelius
    1999, doi:10.1063/1.870050). Energy is fed at the rate ε in the mean and moves to small scales, where viscosity
    takes it. Point group Oh and all translations, in the mean over the noise. Good values: box 2π, ``wavenumber`` 2, ε
    = 0.1, ν = 1e-2 on 64³.

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
    rate : float
        Rate ε at which energy is fed, in m²/s³.
    wavenumber : float
        Radius of the shell, in waves across the shortest side of the box.
    bandwidth : float
        Half the width of the shell, in the same units.
    renewal : float
        The longest time between two kicks, in s: much shorter than an eddy's turnover.
    rms : float
        Root mean square of a component of the initial velocity, a random field in the shell, in m/s.
    """

    rate: float = 0.1
    wavenumber: float = 2.0
    bandwidth: float = 0.5
    renewal: float = 0.05
    rms: float = 0.4
    spin_up: float = 10.0

    examples: ClassVar[tuple[FlowExample, ...]] = (FlowExample({"viscosity": 2e-2, "spin_up": 1.0}, n=16),)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(
            rate=self.rate, wavenumber=self.wavenumber, bandwidth=self.bandwidth, renewal=self.renewal, rms=self.rms
        )

    @property
    def group_without_vectors(self) -> Group:
        return GROUPS[3]["Oh"]

    def initial_flow(self, grid: Grid, seeds: Sequence[int]) -> VectorField:
        return random_velocity(grid, seeds, self.wavenumber, self.bandwidth / 2, self.rms)

    def stochastic_forcing(self, grid: Grid) -> StochasticForcing:
        require_resolution(grid, self.wavenumber + self.bandwidth)
        return StochasticForcing(ring_amplitude(self.wavenumber, self.bandwidth, self.rate, grid.length), self.renewal)
