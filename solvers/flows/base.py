"""What every flow says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from solvers.array_types import Vector2D
from solvers.equation import TransportedScalar
from solvers.grid import Grid
from solvers.navier_stokes import NavierStokes2D
from solvers.solver_inputs import default_inputs
from solvers.stochastic_forcing import StochasticForcing
from solvers.symmetry import Group, stabiliser
from solvers.validation import require_finite, require_non_negative, require_positive

FLOWS: dict[str, type[Flow]] = {}


def flow(kind: str) -> Callable[[type[Flow]], type[Flow]]:
    """Register a flow under the name that an experiment gives in `flow.kind`."""

    def register(cls: type[Flow]) -> type[Flow]:
        cls.kind = kind
        FLOWS[kind] = cls
        return cls

    return register


@dataclass(frozen=True, kw_only=True)
class Flow(ABC):
    """Parameters, starts, terms and symmetries of a flow.

    Attributes:
        viscosity: ν > 0 [length²/time].
        drag: μ ≥ 0 [1/time].
        mean_velocity: U, a uniform velocity (x, y) that carries everything along.
        spin_up: time that the solver runs before the first stored state, so that the start is a real flow.
    """

    viscosity: float
    drag: float = 0.0
    mean_velocity: Vector2D = (0.0, 0.0)
    spin_up: float = 0.0

    kind: ClassVar[str]
    plates: ClassVar[bool] = False  # a layer between two plates and its mirror image: see `FieldSpec.wall`

    def __post_init__(self) -> None:
        require_positive(viscosity=self.viscosity)
        require_non_negative(drag=self.drag, spin_up=self.spin_up)
        require_finite(mean_velocity=self.mean_velocity)

    @abstractmethod
    def starts(self, grid: Grid, seeds: Sequence[int]) -> Float[Tensor, "batch component y x"]:
        """One start a seed, float64, the same function of space on every grid that resolves it."""

    @property
    def group(self) -> Group:
        """The point group about the centre of a square box that the flow keeps, its forcing, gravity and whatever else
        is an input staying as they are: `symmetry`, less what moves one of the flow's vectors."""
        return stabiliser(self.symmetry, self.vectors)

    @property
    def vectors(self) -> list[Vector2D]:
        """The uniform vectors that turn with the state where the flow is to look the same."""
        scalar = self.scalar
        vectors = [self._mean_velocity, *((scalar.mean_gradient, scalar.gravity) if scalar else ())]
        return [v for v in vectors if v is not None]

    @property
    @abstractmethod
    def symmetry(self) -> Group:
        """The point group of the equation's other terms: the forcing, the plates; of a stirred flow, in the mean."""

    def translations(self, grid: Grid) -> Bool[Tensor, "y x"]:
        """Which shifts by (i, j) whole cells along (y, x) the flow keeps: all, unless overridden."""
        return torch.ones(grid.n, dtype=torch.bool)

    def galilean(self, grid: Grid) -> tuple[bool, bool]:
        """Whether a uniform velocity along x, along y, only carries the solution along: where all shifts are kept."""
        kept = self.translations(grid)
        return bool(kept[0].all()), bool(kept[:, 0].all())

    def forcing(self, grid: Grid) -> Float[Tensor, "y x"] | None:
        """The curl of the body force at the cell centres, float64; None: unforced."""
        return None

    def stochastic_forcing(self, grid: Grid) -> StochasticForcing | None:
        """Random forcing; None: none."""
        return None

    @property
    def scalar(self) -> TransportedScalar | None:
        """What the flow carries beside its vorticity; None: nothing."""
        return None

    @property
    def numbers(self) -> dict[str, float]:
        """The solver's numbers by name, any of which may differ from trajectory to trajectory."""
        scalar = self.scalar
        own = {"viscosity": self.viscosity, "drag": self.drag}
        return own if scalar is None else own | {"diffusivity": scalar.diffusivity}

    def inputs(self, grid: Grid) -> dict[str, Tensor]:
        """Every term as the solver's input for one trajectory, float64: see `solvers.solver_inputs.default_inputs`."""
        return default_inputs(self.numbers, self.forcing(grid), self.scalar, self._mean_velocity)

    @property
    def _mean_velocity(self) -> Vector2D | None:
        return self.mean_velocity if any(self.mean_velocity) else None

    def solver(
        self,
        grid: Grid,
        *,
        interval: float,
        dt: float | None = None,
        order: int = 4,
        varying: Sequence[str] = (),
        backend: str = "auto",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> NavierStokes2D:
        """The classical solver of this flow."""
        return NavierStokes2D(
            grid,
            viscosity=self.viscosity,
            interval=interval,
            dt=dt,
            drag=self.drag,
            forcing=self.forcing(grid),
            scalar=self.scalar,
            mean_velocity=self._mean_velocity,
            stochastic_forcing=self.stochastic_forcing(grid),
            plates=self.plates,
            varying=varying,
            order=order,
            backend=backend,
            dtype=dtype,
            device=device,
        )


def shifts(grid: Grid) -> tuple[Float[Tensor, "y 1"], Float[Tensor, "1 x"]]:
    """Shifts by whole cells along y and x, as fractions of the box."""
    rows, columns = (torch.arange(n, dtype=torch.float64) / n for n in grid.n)
    return rows[:, None], columns[None, :]


def is_whole(values: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Whole numbers, up to rounding."""
    return (values - values.round()).abs() < 1e-9
