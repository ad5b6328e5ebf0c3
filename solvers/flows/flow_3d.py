"""The abstract flows in three dimensions: a state of velocity, and perhaps a scalar."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from solvers.array_types import State, Vector, VectorField
from solvers.equation import TransportedScalar
from solvers.fixed_power_forcing import FixedPowerForcing
from solvers.flows.base import Flow
from solvers.flows.tracer import Tracer
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


@dataclass(frozen=True, kw_only=True)
class Flow3DWithTracer(Flow3D, ABC):
    """A flow of velocity alone in three dimensions, which may transport a passive tracer.

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
        The tracer; None: none.
    """

    tracer: Tracer | None = None

    @abstractmethod
    def velocity(self, grid: Grid, seeds: Sequence[int]) -> VectorField:
        """Return the initial velocity.

        Parameters
        ----------
        grid : Grid
            The grid, in three dimensions.
        seeds : sequence of int
            One field is drawn for each seed.

        Returns
        -------
        Tensor
            Components x, y and z, shape (batch, 3, z, y, x), float64, in m/s; without divergence.
        """

    def starts(self, grid: Grid, seeds: Sequence[int]) -> State:
        velocity = self.velocity(grid, seeds)
        return velocity if self.tracer is None else torch.cat([velocity, self.tracer.starts(grid, seeds)], dim=1)

    @property
    def scalar(self) -> TransportedScalar | None:
        return None if self.tracer is None else self.tracer.scalar
