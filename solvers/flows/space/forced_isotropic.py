"""Forced isotropic turbulence in a statistically steady state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from solvers.array_types import VectorField
from solvers.fixed_power_forcing import FixedPowerForcing
from solvers.flows.base import FlowExample, flow
from solvers.flows.flow_3d import Flow3D
from solvers.flows.random_velocity import random_velocity
from solvers.flows.tracer import FlowWithTracer
from solvers.grid import Grid
from solvers.point_groups import GROUPS
from solvers.symmetry import Group
from solvers.validation import require_positive


@flow("forced_isotropic")
@final
@dataclass(frozen=True, kw_only=True)
class ForcedIsotropic(Flow3D, FlowWithTracer):
    r"""Isotropic turbulence in space that a force along the large scales feeds at a fixed rate.

    .. math:: \partial_t u + u \cdot \nabla u
              = -\nabla p + \nu \nabla^2 u - \mu u + \frac{\varepsilon}{2 E_<} \, u_<

    u_< holds the wavenumbers up to `force_wavenumber`, and E_< is its energy. The dissipation settles at ε less what
    the drag takes; the Kolmogorov length is (ν³/ε)^¼. Point group Oh and all translations. Sources: see
    `solvers.fixed_power_forcing`. Good values: box 2π, ε = 0.1, ν = 1e-2 on 64³.

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
    power : float
        Rate ε at which energy is fed, in m²/s³.
    force_wavenumber : float
        The largest forced wavenumber, in waves across the shortest side of the box.
    wavenumber : float
        Centre of the band of the random initial velocity, in the same units.
    rms : float
        Root mean square of a component of the initial velocity, in m/s.
    """

    power: float = 0.1
    force_wavenumber: float = 2.5
    wavenumber: float = 2.0
    rms: float = 0.4
    spin_up: float = 10.0

    examples: ClassVar[tuple[FlowExample, ...]] = (FlowExample({"viscosity": 2e-2, "spin_up": 1.0}, n=16),)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(power=self.power, force_wavenumber=self.force_wavenumber, wavenumber=self.wavenumber,
                         rms=self.rms)  # fmt: skip

    @property
    def group_without_vectors(self) -> Group:
        return GROUPS[3]["Oh"]

    @property
    def power_forcing(self) -> FixedPowerForcing:
        return FixedPowerForcing(self.power, self.force_wavenumber)

    def initial_flow(self, grid: Grid, seeds: Sequence[int]) -> VectorField:
        return random_velocity(grid, seeds, self.wavenumber, 1.0, self.rms)
