"""Decaying isotropic turbulence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from solvers.array_types import ScalarField, Vector
from solvers.flows.base import FlowExample, flow
from solvers.flows.initial_conditions import CLOSED_FORMS, closed_form_field, random_band_field
from solvers.flows.tracer import FlowWithTracer, Tracer
from solvers.grid import Grid
from solvers.point_groups import D4
from solvers.symmetry import Group
from solvers.validation import require_finite, require_non_negative, require_one_of, require_positive


@flow("decaying")
@final
@dataclass(frozen=True, kw_only=True)
class Decaying(FlowWithTracer):
    r"""Decaying isotropic turbulence from a random initial vorticity.

    .. math:: \partial_t \omega + u \cdot \nabla \omega = \nu \nabla^2 \omega - \mu \omega

    Like-signed vortices merge, energy moves to large scales, enstrophy decays (McWilliams 1984,
    doi:10.1017/S0022112084001750). Point group D4 (vorticity changes its sign under a mirror), and all translations.
    Good values: box 2π, ``wavenumber`` 4, ``rms`` 3, ν = 6e-3 on 32², 1e-3 on 128².

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
    start : str
        ``"random"``, a Gaussian random field in a band of wavenumbers, or a closed form of
        `solvers.flows.initial_conditions` at a random place: ``"taylor_green"``, ``"double_shear_layer"``,
        ``"vortex_merger"`` or ``"lamb_chaplygin"``.
    wavenumber : float
        Centre of the band, in waves across the shorter side of the box.
    bandwidth : float
        Standard deviation of the band; modes further than two of them from the centre are zero.
    rms : float
        Root mean square of the initial vorticity, in 1/s.
    layering : float
        0 for an isotropic random start; larger values leave jets across `axis`.
    axis : tuple of float
        The axis (x, y) of the layers, of any length.

    Examples
    --------
    >>> from solvers import FLOWS, Grid
    >>> flow, grid = FLOWS[2]["decaying"](viscosity=6e-3), Grid.square(32)
    >>> flow.starts(grid, seeds=[0, 1]).shape
    torch.Size([2, 1, 32, 32])
    >>> flow.group.name
    'D4'
    """

    start: str = "random"
    wavenumber: float = 4.0
    bandwidth: float = 1.0
    rms: float = 3.0
    layering: float = 0.0
    axis: Vector = (0.0, 1.0)
    spin_up: float = 1.0

    examples: ClassVar[tuple[FlowExample, ...]] = (
        FlowExample({"viscosity": 1e-2}),
        FlowExample({"viscosity": 1e-2, "mean_velocity": (0.7, 0.0)}, label="carried along"),
        FlowExample({"viscosity": 1e-2, "layering": 4.0, "axis": (1.0, 1.0)}, label="layered"),
        FlowExample(
            {"viscosity": 1e-2, "tracer": Tracer(diffusivity=5e-3, mean_gradient=(0.0, 1.5))}, label="with a tracer"
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(wavenumber=self.wavenumber, bandwidth=self.bandwidth, rms=self.rms)
        require_non_negative(layering=self.layering)
        require_finite(axis=self.axis)
        if not any(self.axis):
            raise ValueError(f"axis must have a direction (got {self.axis})")
        require_one_of("start", self.start, ("random", *CLOSED_FORMS))

    @property
    def group_without_vectors(self) -> Group:
        return D4

    def initial_flow(self, grid: Grid, seeds: Sequence[int]) -> ScalarField:
        if self.start in CLOSED_FORMS:
            return closed_form_field(CLOSED_FORMS[self.start], grid, seeds, self.rms)
        return random_band_field(grid, seeds, self.wavenumber, self.bandwidth, self.rms, self.layering, self.axis)
