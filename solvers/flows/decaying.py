"""Decaying isotropic turbulence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from jaxtyping import Float
from torch import Tensor

from solvers.flows.base import flow
from solvers.flows.initial_conditions import SHAPES, banded_field, shaped_field
from solvers.flows.tracer import FlowWithTracer
from solvers.grid import Grid
from solvers.symmetry import D4, Group
from solvers.validation import require_one_of, require_positive


@flow("decaying")
@final
@dataclass(frozen=True, kw_only=True)
class Decaying(FlowWithTracer):
    """∂ω/∂t + u·∇ω = ν∇²ω − μω from a random start in a band of wavenumbers (McWilliams 1984,
    doi:10.1017/S0022112084001750): like-signed vortices merge, energy moves to large scales, enstrophy decays.

    Point group D4 (vorticity changes sign under a mirror) and every translation. Good values: box 2π, `wavenumber` 4,
    `rms` 3, ν = 6e-3 on 32², 1e-3 on 128².

    Attributes:
        start: `random`, or a closed form of `solvers.flows.initial_conditions`, shifted at random by the seed:
            `taylor_green`, `double_shear_layer`, `vortex_merger`, `lamb_chaplygin` (then `wavenumber` and
            `bandwidth` do not matter).
        wavenumber: centre of the band, in waves across the shorter side of the box.
        bandwidth: standard deviation of the band; modes beyond two of them are zero.
        rms: root mean square of the start's vorticity [1/time].
    """

    start: str = "random"
    wavenumber: float = 4.0
    bandwidth: float = 1.0
    rms: float = 3.0
    spin_up: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(wavenumber=self.wavenumber, bandwidth=self.bandwidth, rms=self.rms)
        require_one_of("start", self.start, ("random", *SHAPES))

    @property
    def symmetry(self) -> Group:
        return D4

    def vorticity(self, grid: Grid, seeds: Sequence[int]) -> Float[Tensor, "batch 1 y x"]:
        if self.start in SHAPES:
            return shaped_field(SHAPES[self.start], grid, seeds, self.rms)
        return banded_field(grid, seeds, self.wavenumber, self.bandwidth, self.rms)
