"""The tables that describe a classical solver: the one that makes the data, a hybrid's, and those of a comparison."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from fluidsurrogate.config.base import Config
from solvers import Grid
from solvers.backends import AUTO, check_backend_name

Positive = Annotated[float, Field(gt=0)]


class SolverConfig(Config):
    """How the classical solver steps: `order` 2 or 4, `dt` the inner step (absent: by a CFL bound), `kernel` what does
    the steps (see `solvers.NavierStokes2D`)."""

    order: Literal[2, 4] = 4
    dt: Positive | None = None
    kernel: Annotated[str, AfterValidator(check_backend_name)] = AUTO


class CoarseSolverConfig(SolverConfig):
    """The solver of a hybrid, on `n` cells, one number or [y, x]; absent: 3/2 of the stored ones, with which it holds
    every mode of the stored states. On the stored ones themselves the two-thirds rule would drop a third of them."""

    n: int | tuple[int, int] | None = None


class ComparedSolverConfig(SolverConfig):
    """A classical solver that forecasts beside the networks: on `n` cells, one number or [y, x]; absent: those of the
    stored grid."""

    n: int | tuple[int, int] | None = None

    def name(self, stored: Grid) -> str:
        """What its rows are called: solver-48, solver-48-etdrk2, solver-48-dt0.05."""
        ny, nx = Grid.rectangle(self.n or stored.n, stored.length).n
        order = "" if self.order == 4 else f"-etdrk{self.order}"
        step = "" if self.dt is None else f"-dt{self.dt:g}"
        return f"solver-{ny if ny == nx else f'{ny}x{nx}'}{order}{step}"
