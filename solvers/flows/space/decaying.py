"""Decaying turbulence in three dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from solvers.array_types import Vector, VectorField
from solvers.flows.base import FlowExample, flow
from solvers.flows.flow_3d import Flow3D
from solvers.flows.random_velocity import random_velocity
from solvers.flows.tracer import FlowWithTracer, Tracer
from solvers.grid import Grid
from solvers.point_groups import GROUPS
from solvers.symmetry import Group
from solvers.validation import require_finite, require_non_negative, require_positive


@flow("decaying")
@final
@dataclass(frozen=True, kw_only=True)
class Decaying3D(Flow3D, FlowWithTracer):
    r"""Decaying turbulence in space from a random initial velocity.

    .. math:: \partial_t u + u \cdot \nabla u = -\nabla p + \nu \nabla^2 u - \mu u

    Vortices are stretched, energy moves to small scales and is dissipated there (Batchelor 1953; Comte-Bellot & Corrsin
    1971, doi:10.1017/S0022112071001599). The start is isotropic, helical, or layered across an axis. Point group Oh
    (the full group of the cube; velocity is a true vector), and all translations. Good values: box 2π, ``wavenumber``
    3, ``rms`` 1, ν = 1e-2 on 64³.

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
    wavenumber : float
        Centre of the band, in waves across the shortest side of the box.
    bandwidth : float
        Standard deviation of the band; modes further than two of them from the centre are zero.
    rms : float
        Root mean square of a component of the initial velocity, in m/s.
    helicity : float
        Relative helicity of the initial velocity, from −1 to 1.
    layering : float
        0 for an isotropic start; larger values leave layers across `axis`.
    axis : tuple of float
        The axis (x, y, z) of the layers, of any length.

    Examples
    --------
    >>> from solvers import FLOWS, Grid
    >>> flow, grid = FLOWS[3]["decaying"](viscosity=1e-2), Grid.cube(32)
    >>> flow.starts(grid, seeds=[0, 1]).shape
    torch.Size([2, 3, 32, 32, 32])
    >>> flow.group.name
    'Oh'
    """

    wavenumber: float = 3.0
    bandwidth: float = 1.0
    rms: float = 1.0
    helicity: float = 0.0
    layering: float = 0.0
    axis: Vector = (0.0, 0.0, 1.0)
    spin_up: float = 0.5

    examples: ClassVar[tuple[FlowExample, ...]] = (
        FlowExample({"viscosity": 2e-2, "wavenumber": 2.0}, n=16),
        FlowExample({"viscosity": 2e-2, "wavenumber": 2.0, "helicity": 0.8}, label="helical", n=16),
        FlowExample(
            {"viscosity": 2e-2, "wavenumber": 2.0, "layering": 3.0, "axis": (1.0, 1.0, 0.0),
             "mean_velocity": (0.7, 0.0, 0.0)}, label="layered, carried along", n=16,
        ),
        FlowExample(
            {"viscosity": 2e-2, "wavenumber": 2.0,
             "tracer": Tracer(diffusivity=1e-2, wavenumber=2.0, mean_gradient=(0.0, 0.0, 1.5))},
            label="with a tracer", n=16,
        ),
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(wavenumber=self.wavenumber, bandwidth=self.bandwidth, rms=self.rms)
        require_non_negative(layering=self.layering)
        require_finite(axis=self.axis)
        if not any(self.axis):
            raise ValueError(f"axis must have a direction (got {self.axis})")
        if not -1 <= self.helicity <= 1:
            raise ValueError(f"helicity must be from -1 to 1 (got {self.helicity})")

    @property
    def group_without_vectors(self) -> Group:
        return GROUPS[3]["Oh"]

    def initial_flow(self, grid: Grid, seeds: Sequence[int]) -> VectorField:
        return random_velocity(
            grid, seeds, self.wavenumber, self.bandwidth, self.rms, self.helicity, self.layering, self.axis
        )
