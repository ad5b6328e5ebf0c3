"""The abstract flow in three dimensions: a state of velocity, and perhaps a scalar."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import Any, ClassVar

from solvers.array_types import Vector
from solvers.fixed_power_forcing import FixedPowerForcing
from solvers.flows.base import Flow
from solvers.grid import Grid
from solvers.navier_stokes_3d import NavierStokes3D


@dataclass(frozen=True, kw_only=True)
class Flow3D(Flow, ABC):
    """A flow in three dimensions: its state is the velocity, and then a scalar if there is one.

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
    """

    mean_velocity: Vector = (0.0, 0.0, 0.0)

    dimensions: ClassVar[int] = 3
    solver_class: ClassVar[type[Any]] = NavierStokes3D

    @property
    def power_forcing(self) -> FixedPowerForcing | None:
        """The forcing of the large scales that feeds energy at a fixed rate; None: none."""
        return None

    def solver_terms(self, grid: Grid) -> dict[str, Any]:
        return {**super().solver_terms(grid), "power_forcing": self.power_forcing}
