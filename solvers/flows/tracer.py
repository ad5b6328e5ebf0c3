"""A passive tracer, and the base of flows that may transport one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from solvers.array_types import State, Vector
from solvers.equation import TransportedScalar
from solvers.fields import TRACER
from solvers.flows.base import Flow
from solvers.flows.initial_conditions import random_band_field
from solvers.grid import Grid
from solvers.validation import require_finite, require_non_negative, require_positive


@final
@dataclass(frozen=True, kw_only=True)
class Tracer:
    r"""A passive tracer, which the flow advects and mixes and which a mean gradient can feed.

    .. math:: \partial_t \theta + u \cdot \nabla \theta = \kappa \nabla^2 \theta - (u - U) \cdot G

    It starts from a Gaussian random field in a band of wavenumbers. Source: Holzer & Siggia 1994, doi:10.1063/1.868243.

    Parameters
    ----------
    diffusivity : float
        Diffusivity κ ≥ 0, in m²/s; the Schmidt number is ν/κ.
    mean_gradient : tuple of float
        Uniform mean gradient G as (x, y) or (x, y, z), in 1/m. It reduces the point group of the flow, and is an input
        of networks.
    wavenumber : float
        Centre of the band of the initial field, in waves across the shorter side of the box.
    bandwidth : float
        Standard deviation of the band.
    rms : float
        Root mean square of the initial field; 0: the tracer starts uniform.

    Raises
    ------
    ValueError
        If a number is out of range, or nothing feeds a tracer that starts uniform.
    """

    diffusivity: float
    mean_gradient: Vector = (0.0, 0.0)
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
        """The tracer as a solver takes it."""
        return TransportedScalar(TRACER, self.diffusivity, self.mean_gradient if any(self.mean_gradient) else None)

    def starts(self, grid: Grid, seeds: Sequence[int]) -> State:
        """Return initial fields, drawn independently of the vorticity's.

        Parameters
        ----------
        grid : Grid
            The grid.
        seeds : sequence of int
            One field is drawn for each seed.

        Returns
        -------
        Tensor
            Shape (batch, 1, y, x) or (batch, 1, z, y, x), float64.
        """
        if not self.rms:
            return torch.zeros(len(seeds), 1, *grid.n, dtype=torch.float64)
        return random_band_field(grid, [(seed, 1) for seed in seeds], self.wavenumber, self.bandwidth, self.rms)


@dataclass(frozen=True, kw_only=True)
class FlowWithTracer(Flow, ABC):
    """A flow of vorticity, in three dimensions of velocity, which may transport a passive tracer.

    Parameters
    ----------
    viscosity : float
        Kinematic viscosity ν > 0, in m²/s.
    drag : float
        Linear drag μ ≥ 0, in 1/s.
    mean_velocity : tuple of float
        A uniform velocity (x, y) or (x, y, z) that advects everything, in m/s.
    spin_up : float
        Time that the solver runs before the first stored state, in s.
    tracer : Tracer, optional
        The tracer; None: none.
    """

    tracer: Tracer | None = None

    @abstractmethod
    def initial_flow(self, grid: Grid, seeds: Sequence[int]) -> State:
        """Return the initial vorticity, in three dimensions the initial velocity.

        Parameters
        ----------
        grid : Grid
            The grid.
        seeds : sequence of int
            One field is drawn for each seed.

        Returns
        -------
        Tensor
            The vorticity in 1/s, shape (batch, 1, y, x); or the components x, y and z of a velocity without divergence
            in m/s, shape (batch, 3, z, y, x). float64.
        """

    def starts(self, grid: Grid, seeds: Sequence[int]) -> State:
        flow = self.initial_flow(grid, seeds)
        return flow if self.tracer is None else torch.cat([flow, self.tracer.starts(grid, seeds)], dim=1)

    @property
    def scalar(self) -> TransportedScalar | None:
        return None if self.tracer is None else self.tracer.scalar
