"""The Taylor–Green vortex, which breaks up into turbulence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch

from solvers.array_types import VectorField
from solvers.flows.base import FlowExample, flow
from solvers.flows.flow_3d import Flow3D
from solvers.flows.random_velocity import random_velocity
from solvers.flows.tracer import FlowWithTracer
from solvers.grid import Grid
from solvers.point_groups import GROUPS
from solvers.random_modes import random_generator
from solvers.symmetry import Group
from solvers.validation import require_non_negative, require_positive


@flow("taylor_green")
@final
@dataclass(frozen=True, kw_only=True)
class TaylorGreen3D(Flow3D, FlowWithTracer):
    r"""The Taylor–Green vortex in space, at a random place, with a random perturbation.

    .. math:: u = U \, (\sin x \cos y \cos z, \; -\cos x \sin y \cos z, \; 0)

    A smooth flow of one wavelength that becomes turbulent: the standard test of transition and of the dissipation of a
    scheme (Taylor & Green 1937, doi:10.1098/rspa.1937.0036; Brachet et al. 1983, doi:10.1017/S0022112083001159). The
    Reynolds number is U / (k ν). The initial velocity has the point group D2h about its own centre; the equation, which
    is unforced, has Oh and all translations. Good values: box 2π, U = 1, ν = 1/400 on 96³.

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
    amplitude : float
        Amplitude U, in m/s.
    waves : int
        Waves across each side of the box.
    noise : float
        Root mean square of a component of the random perturbation over U.
    is_moved : bool
        Whether each seed's vortex is at a random place. False: at the origin, as in the literature.
    """

    amplitude: float = 1.0
    waves: int = 1
    noise: float = 0.05
    is_moved: bool = True

    examples: ClassVar[tuple[FlowExample, ...]] = (FlowExample({"viscosity": 1e-2}, n=16),)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(amplitude=self.amplitude, waves=self.waves)
        require_non_negative(noise=self.noise)

    @property
    def group_without_vectors(self) -> Group:
        return GROUPS[3]["Oh"]

    def initial_flow(self, grid: Grid, seeds: Sequence[int]) -> VectorField:
        if self.waves > min(grid.max_modes):
            raise ValueError(f"the grid is too coarse for {self.waves} waves; take a larger n")
        fields = []
        for seed in seeds:
            place = random_generator(seed).random(3) if self.is_moved else (0.0, 0.0, 0.0)
            z, y, x = (2 * math.pi * self.waves * (c / side - shift)
                       for c, side, shift in zip(grid.mesh(), grid.length, place, strict=True))  # fmt: skip
            u = torch.sin(x) * torch.cos(y) * torch.cos(z)
            # The ratio of the sides makes the flow free of divergence in any box.
            v = -torch.cos(x) * torch.sin(y) * torch.cos(z) * (grid.length[1] / grid.length[2])
            fields.append(self.amplitude * torch.stack([u, v, torch.zeros_like(u)]))
        velocity = torch.stack(fields)
        if not self.noise:
            return velocity
        keyed = [(seed, 2) for seed in seeds]
        return velocity + random_velocity(grid, keyed, 2.0 * self.waves, 0.5, self.noise * self.amplitude)
