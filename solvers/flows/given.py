"""A flow that is known by data only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import ScalarField
from solvers.flows.base import FlowExample, flow
from solvers.flows.initial_conditions import random_band_field
from solvers.flows.tracer import FlowWithTracer
from solvers.grid import Grid
from solvers.point_groups import D4
from solvers.symmetry import Group


@flow("given")
@final
@dataclass(frozen=True, kw_only=True)
class Given(FlowWithTracer):
    r"""A flow that is known by data only: whose equation is known, but not how its states and its forcing were made.

    .. math:: \partial_t \omega + u \cdot \nabla \omega = \nu \nabla^2 \omega - \mu \omega + f

    An experiment on a dataset of the user's that has no table ``[flow]`` takes this one. The forcing f is an input of
    which the data hold the values; here it is zero. Point group D4: an input is rotated with the state. The initial
    states are those of decaying turbulence.

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
    has_forcing : bool
        Whether the curl of a body force is an input.
    """

    has_forcing: bool = False

    examples: ClassVar[tuple[FlowExample, ...]] = (
        FlowExample({"viscosity": 1e-2}),
        FlowExample({"viscosity": 1e-2, "has_forcing": True}, label="with a forcing"),
    )

    @property
    def group_without_vectors(self) -> Group:
        return D4

    def initial_flow(self, grid: Grid, seeds: Sequence[int]) -> ScalarField:
        return random_band_field(grid, seeds, 2.0, 0.5, 1.0)

    def forcing(self, grid: Grid) -> Float[Tensor, "y x"] | None:
        return torch.zeros(grid.n, dtype=torch.float64) if self.has_forcing else None
