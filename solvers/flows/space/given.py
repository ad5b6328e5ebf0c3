"""A flow in three dimensions that is known by data only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import VectorField
from solvers.flows.base import FlowExample, flow
from solvers.flows.flow_3d import Flow3D
from solvers.flows.random_velocity import random_velocity
from solvers.flows.tracer import FlowWithTracer
from solvers.grid import Grid
from solvers.point_groups import GROUPS
from solvers.symmetry import Group


@flow("given")
@final
@dataclass(frozen=True, kw_only=True)
class Given3D(Flow3D, FlowWithTracer):
    r"""A flow in space that is known by data only: whose equation is known, but not how its states were made.

    .. math:: \partial_t u + u \cdot \nabla u = -\nabla p + \nu \nabla^2 u - \mu u + f

    An experiment on a dataset of the user's that has no table ``[flow]`` takes this one. The body force f is an input
    of which the data hold the values; here it is zero. Point group Oh: an input is rotated with the state.

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
    has_forcing : bool
        Whether a body force is an input.
    """

    has_forcing: bool = False

    examples: ClassVar[tuple[FlowExample, ...]] = (
        FlowExample({"viscosity": 2e-2}, n=16),
        FlowExample({"viscosity": 2e-2, "has_forcing": True}, label="with a forcing", n=16),
    )

    @property
    def group_without_vectors(self) -> Group:
        return GROUPS[3]["Oh"]

    def initial_flow(self, grid: Grid, seeds: Sequence[int]) -> VectorField:
        return random_velocity(grid, seeds, 2.0, 0.5, 1.0)

    def forcing(self, grid: Grid) -> Float[Tensor, "3 z y x"] | None:
        return torch.zeros(3, *grid.n, dtype=torch.float64) if self.has_forcing else None
