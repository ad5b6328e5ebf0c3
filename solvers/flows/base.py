"""What every flow says of itself."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from solvers.grid import Grid
from solvers.navier_stokes import NavierStokes2D
from solvers.symmetry import Group

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
    """Parameters, starts, forcing and symmetries of a flow.

    Attributes:
        viscosity: ν > 0 [length²/time].
        drag: μ ≥ 0 [1/time].
        spin_up: time that the solver runs before the first stored state, so that the start is a real flow.
    """

    viscosity: float
    drag: float = 0.0
    spin_up: float = 0.0

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        require_positive(viscosity=self.viscosity)
        require_non_negative(drag=self.drag, spin_up=self.spin_up)

    @abstractmethod
    def starts(self, grid: Grid, seeds: Sequence[int]) -> Float[Tensor, "batch 1 y x"]:
        """One start a seed, float64, the same function of space on every grid that resolves it."""

    @property
    @abstractmethod
    def group(self) -> Group:
        """The point group about the centre of a square box that flow and forcing keep."""

    def translations(self, grid: Grid) -> Bool[Tensor, "y x"]:
        """Which shifts by (i, j) whole cells along (y, x) flow and forcing keep: all, unless overridden."""
        return torch.ones(grid.n, dtype=torch.bool)

    def forcing(self, grid: Grid) -> Float[Tensor, "y x"] | None:
        """The curl of the body force at the cell centres, float64; None: unforced."""
        return None

    def solver(
        self,
        grid: Grid,
        *,
        interval: float,
        dt: float | None = None,
        order: int = 4,
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
            order=order,
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


def require_positive(**values: float) -> None:
    """Raise ValueError for the first value that is not finite and > 0."""
    for name, value in values.items():
        if not math.isfinite(value) or value <= 0:
            raise ValueError(f"{name} must be positive and finite (got {value})")


def require_non_negative(**values: float) -> None:
    """Raise ValueError for the first value that is not finite and ≥ 0."""
    for name, value in values.items():
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{name} must be finite and at least 0 (got {value})")


def require_one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ValueError for a name that is not known."""
    if value not in allowed:
        raise ValueError(f"unknown {name} {value!r}; one of {', '.join(allowed)}")
