"""Shear layers that roll up and mix a tracer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Tensor

from solvers.array_types import State
from solvers.equation import TransportedScalar
from solvers.fields import TRACER
from solvers.flows.base import Flow, FlowExample, flow
from solvers.flows.initial_conditions import closed_form_field
from solvers.grid import Grid
from solvers.point_groups import D4
from solvers.symmetry import Group
from solvers.validation import require_positive


@flow("shear")
@final
@dataclass(frozen=True, kw_only=True)
class Shear(Flow):
    r"""Shear layers that roll up and mix a tracer.

    .. math::

        \partial_t \omega + u \cdot \nabla \omega &= \nu \nabla^2 \omega \\
        \partial_t \theta + u \cdot \nabla \theta &= \kappa \nabla^2 \theta

    Neighbouring layers flow against each other at unit relative speed, and every other one holds the tracer, as in
    ``shear_flow`` of The Well (Ohana et al. 2024, arXiv:2412.00568), after Dedalus (Burns et al. 2020,
    doi:10.1103/PhysRevResearch.2.023068). Point group D4 and all translations: the layers are in the initial state
    alone. Good values: a box 1 wide and 2 high on 256 × 512 cells, Re from 1e4 to 5e5, Sc from 0.1 to 10, stored every
    0.1.

    Parameters
    ----------
    drag : float
        Linear drag μ ≥ 0, in 1/s.
    mean_velocity : tuple of float
        A uniform velocity (x, y) that advects everything, in m/s.
    spin_up : float
        Time that the solver runs before the first stored state, in s.
    reynolds : float
        Reynolds number Re of unit speed and length.
    schmidt : float
        Schmidt number Sc = ν/κ.
    layers : int
        Interfaces across the height of the box; even, since every other one turns back.
    waves : int
        Waves of the disturbance along each interface, on which it rolls up.
    width : float
        Thickness of an interface, in m.
    nudge : float
        Largest cross-flow speed A of the disturbance v = A sin(kx) exp(−s²), whose curl the initial vorticity has. This
        v alone is not free of divergence: the speed of the flow itself is smaller, 0.62 A by default.

    Attributes
    ----------
    viscosity : float
        Kinematic viscosity ν = 1/Re, in m²/s.
    """

    viscosity: float = field(init=False)
    reynolds: float = 1e4
    schmidt: float = 1.0
    layers: int = 2
    waves: int = 2
    width: float = 0.1
    nudge: float = 0.1

    examples: ClassVar[tuple[FlowExample, ...]] = (
        FlowExample({"reynolds": 200.0, "schmidt": 0.5, "width": 0.4, "nudge": 0.2}, is_band_limited=False),
    )

    def __post_init__(self) -> None:
        require_positive(reynolds=self.reynolds, schmidt=self.schmidt, layers=self.layers, waves=self.waves,
                         width=self.width, nudge=self.nudge)  # fmt: skip
        if self.layers % 2:
            raise ValueError(f"layers must be even (got {self.layers})")
        object.__setattr__(self, "viscosity", 1 / self.reynolds)
        super().__post_init__()

    @property
    def group_without_vectors(self) -> Group:
        return D4

    @property
    def scalar(self) -> TransportedScalar:
        return TransportedScalar(TRACER, self.viscosity / self.schmidt)

    def starts(self, grid: Grid, seeds: Sequence[int]) -> State:
        return torch.cat([closed_form_field(shape, grid, seeds) for shape in (self._vorticity, self._tracer)], dim=1)

    def _profile(self, grid: Grid, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return a periodic s that passes zero at each interface with slope ± 1 / width, and its derivative."""
        k = math.pi * self.layers / grid.length[0]
        phase = k * y - 0.5 * math.pi
        return torch.sin(phase) / (k * self.width), torch.cos(phase) / self.width

    def _vorticity(self, grid: Grid, y: Tensor, x: Tensor) -> Tensor:
        """Return ω = ∂v/∂x − ∂u/∂y of u = ½ tanh s and v = nudge · sin(kx) exp(−s²)."""
        s, slope = self._profile(grid, y)
        k = 2 * math.pi * self.waves / grid.length[1]
        return self.nudge * k * torch.cos(k * x) * torch.exp(-(s**2)) - 0.5 * slope / torch.cosh(s) ** 2

    def _tracer(self, grid: Grid, y: Tensor, x: Tensor) -> Tensor:
        """Return θ = ½ tanh s, as u: 1 higher inside every other layer."""
        return 0.5 * torch.tanh(self._profile(grid, y)[0]) + torch.zeros_like(x)
