"""A passive scalar, and the flows that may carry one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import Vector2D
from solvers.equation import TransportedScalar
from solvers.fields import TRACER
from solvers.flows.base import Flow
from solvers.flows.initial_conditions import banded_field
from solvers.grid import Grid
from solvers.validation import require_finite, require_non_negative, require_positive


@final
@dataclass(frozen=True, kw_only=True)
class Tracer:
    """∂θ/∂t + u·∇θ = κ∇²θ − (u − U)·G: carried along, mixed, and fed where there is a mean gradient (Holzer & Siggia
    1994, doi:10.1063/1.868243). Starts from a random field in a band, as vorticity does in the flow `decaying`.

    Attributes:
        diffusivity: κ ≥ 0 [length²/time]; the Schmidt number is ν/κ.
        mean_gradient: G as (x, y) [1/length], which breaks the flow's point group and is a vector input of networks.
        wavenumber, bandwidth, rms: of the start, as in `decaying`; rms 0: none.
    """

    diffusivity: float
    mean_gradient: Vector2D = (0.0, 0.0)
    wavenumber: float = 3.0
    bandwidth: float = 1.0
    rms: float = 1.0

    def __post_init__(self) -> None:
        require_non_negative(diffusivity=self.diffusivity, rms=self.rms)
        require_positive(wavenumber=self.wavenumber, bandwidth=self.bandwidth)
        require_finite(mean_gradient=self.mean_gradient)
        if not self.rms and not any(self.mean_gradient):
            raise ValueError("rms must be positive where there is no mean_gradient to feed the tracer")

    @property
    def scalar(self) -> TransportedScalar:
        """What the solver carries."""
        return TransportedScalar(TRACER, self.diffusivity, self.mean_gradient if any(self.mean_gradient) else None)

    def starts(self, grid: Grid, seeds: Sequence[int]) -> Float[Tensor, "batch 1 y x"]:
        """One start a seed, drawn apart from the vorticity's."""
        if not self.rms:
            return torch.zeros(len(seeds), 1, *grid.n, dtype=torch.float64)
        return banded_field(grid, [(seed, 1) for seed in seeds], self.wavenumber, self.bandwidth, self.rms)


@dataclass(frozen=True, kw_only=True)
class FlowWithTracer(Flow, ABC):
    """A flow of vorticity alone, which may carry a tracer.

    Attributes:
        tracer: its numbers; None: no tracer.
    """

    tracer: Tracer | None = None

    @abstractmethod
    def vorticity(self, grid: Grid, seeds: Sequence[int]) -> Float[Tensor, "batch 1 y x"]:
        """The starts of the vorticity."""

    def starts(self, grid: Grid, seeds: Sequence[int]) -> Float[Tensor, "batch component y x"]:
        vorticity = self.vorticity(grid, seeds)
        return vorticity if self.tracer is None else torch.cat([vorticity, self.tracer.starts(grid, seeds)], dim=1)

    @property
    def scalar(self) -> TransportedScalar | None:
        return None if self.tracer is None else self.tracer.scalar
