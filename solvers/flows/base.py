"""The abstract flow: parameters, initial states, terms, symmetries and solver; and the registry of flows."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from solvers.array_types import State, Vector
from solvers.backends import AUTO
from solvers.docstrings import InheritDocstrings
from solvers.equation import TransportedScalar
from solvers.grid import Grid
from solvers.navier_stokes import NavierStokes
from solvers.navier_stokes_2d import NavierStokes2D
from solvers.point_groups import stabiliser
from solvers.solver_inputs import default_inputs
from solvers.stochastic_forcing import StochasticForcing
from solvers.symmetry import Group
from solvers.validation import require_finite, require_non_negative, require_positive

FLOWS: dict[int, dict[str, type[Flow]]] = {2: {}, 3: {}}  # by number of dimensions and kind


def flow(kind: str) -> Callable[[type[Flow]], type[Flow]]:
    """Register a flow under a name.

    Parameters
    ----------
    kind : str
        The name, as ``flow.kind`` in an experiment.

    Returns
    -------
    callable
        A class decorator.
    """

    def register(cls: type[Flow]) -> type[Flow]:
        cls.kind = kind
        FLOWS[cls.dimensions][kind] = cls
        return cls

    return register


@dataclass(frozen=True)
class FlowExample:
    """Good values of a flow for a small grid, on which the tests hold the flow to its contract.

    Parameters
    ----------
    parameters : mapping of str to object
        Parameters of the flow; those left out have their defaults.
    label : str
        What tells the example from others of the same flow.
    side : float
        Side of a square box, in m.
    n : int
        Even number of cells on a side that resolves the initial states.
    is_band_limited : bool
        Whether the initial states hold the same modes on all finer grids. False for closed forms, of which a finer grid
        holds more modes; in three dimensions always true.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    side: float = 2 * math.pi
    n: int = 32
    is_band_limited: bool = True


@dataclass(frozen=True, kw_only=True)
class Flow(InheritDocstrings, ABC):
    """A flow: its parameters, initial states, terms and symmetries.

    A new flow is one file in `solvers.flows`, in three dimensions in `solvers.flows.space`: a frozen dataclass derived
    from this class under ``@flow("name")``, with `starts`, `group_without_vectors` and `examples`, and whatever terms
    it has. The tests find it by themselves.

    Parameters
    ----------
    viscosity : float
        Kinematic viscosity ν > 0, in m²/s.
    drag : float
        Linear drag μ ≥ 0, in 1/s.
    mean_velocity : tuple of float
        A uniform velocity (x, y) that advects everything, in m/s.
    spin_up : float
        Time that the solver runs before the first stored state, so that this is a developed flow, in s.

    Attributes
    ----------
    kind : str
        The name of the flow; set by the decorator `flow`.
    dimensions : int
        2 or 3.
    solver_class : type of NavierStokes
        The solver of the flow.
    plates : bool
        Whether the box is a layer between two plates and its mirror image: see `solvers.FieldSpec.wall`.
    examples : tuple of FlowExample
        Good values for a small grid, at least one.
    """

    viscosity: float
    drag: float = 0.0
    mean_velocity: Vector = (0.0, 0.0)
    spin_up: float = 0.0

    kind: ClassVar[str]
    dimensions: ClassVar[int] = 2
    solver_class: ClassVar[type[Any]] = NavierStokes2D
    plates: ClassVar[bool] = False
    examples: ClassVar[tuple[FlowExample, ...]] = ()

    def __post_init__(self) -> None:
        require_positive(viscosity=self.viscosity)
        require_non_negative(drag=self.drag, spin_up=self.spin_up)
        require_finite(mean_velocity=self.mean_velocity)

    @abstractmethod
    def starts(self, grid: Grid, seeds: Sequence[int]) -> State:
        """Return initial states: the same functions of space on every grid that resolves them.

        Parameters
        ----------
        grid : Grid
            The grid.
        seeds : sequence of int
            One state is drawn for each seed, whatever the others are.

        Returns
        -------
        Tensor
            Shape (batch, component, y, x), float64: vorticity and then the scalar if there is one.

        Raises
        ------
        ValueError
            If the grid does not resolve them.
        """

    # -- symmetries

    @property
    def group(self) -> Group:
        """The point group of the flow about the centre of a square box, all terms and inputs staying as they are."""
        return stabiliser(self.group_without_vectors, self.uniform_vectors)

    @property
    def uniform_vectors(self) -> list[Vector]:
        """The uniform vectors of the equation: mean velocity, mean gradient and gravity, those that it has."""
        scalar = self.scalar
        vectors = [self._mean_velocity, *((scalar.mean_gradient, scalar.gravity) if scalar else ())]
        return [v for v in vectors if v is not None]

    @property
    @abstractmethod
    def group_without_vectors(self) -> Group:
        """The point group that forcing and plates leave, or with a stochastic forcing its statistics."""

    def translations(self, grid: Grid) -> Bool[Tensor, "*space"]:
        """Return which shifts by whole cells the flow is invariant to; all, unless overridden.

        Parameters
        ----------
        grid : Grid
            The grid.

        Returns
        -------
        Tensor
            Boolean, shape (y, x): element (i, j) stands for a shift by i cells along y and j cells along x. In three
            dimensions (z, y, x) likewise.
        """
        return torch.ones(grid.n, dtype=torch.bool)

    def galilean_invariance(self, grid: Grid) -> tuple[bool, ...]:
        """Return whether a uniform velocity only carries the solution along.

        Parameters
        ----------
        grid : Grid
            The grid.

        Returns
        -------
        tuple of bool
            For a velocity along x, along y and, in three dimensions, along z: true if the flow is invariant to all
            shifts along that axis.
        """
        kept = self.translations(grid)
        lines = [[slice(None) if axis == own else 0 for axis in range(kept.ndim)] for own in range(kept.ndim)]
        return tuple(bool(kept[tuple(line)].all()) for line in reversed(lines))

    # -- terms

    def forcing(self, grid: Grid) -> Float[Tensor, "..."] | None:
        """Return the curl of the body force at the cell centres; in three dimensions the body force itself.

        Parameters
        ----------
        grid : Grid
            The grid.

        Returns
        -------
        Tensor or None
            Shape (y, x), float64, in 1/s²; in three dimensions (3, z, y, x), in m/s². None: unforced.
        """
        return None

    def stochastic_forcing(self, grid: Grid) -> StochasticForcing | None:
        """Return the random forcing.

        Parameters
        ----------
        grid : Grid
            The grid.

        Returns
        -------
        StochasticForcing or None
            Noise that is white in time; None: none.
        """
        return None

    @property
    def scalar(self) -> TransportedScalar | None:
        """The scalar that the flow transports beside its vorticity; None: none."""
        return None

    @property
    def coefficients(self) -> dict[str, float]:
        """The coefficients of the equation by name, each of which may differ from trajectory to trajectory."""
        scalar = self.scalar
        own = {"viscosity": self.viscosity, "drag": self.drag}
        return own if scalar is None else own | {"diffusivity": scalar.diffusivity}

    def inputs(self, grid: Grid) -> dict[str, Tensor]:
        """Return every term as the solver's input for one trajectory.

        Parameters
        ----------
        grid : Grid
            The grid.

        Returns
        -------
        dict of str to Tensor
            As from `solvers.solver_inputs.default_inputs`, float64.
        """
        return default_inputs(self.coefficients, self.forcing(grid), self.scalar, self._mean_velocity, self.dimensions)

    @property
    def _mean_velocity(self) -> Vector | None:
        return self.mean_velocity if any(self.mean_velocity) else None

    def solver(
        self,
        grid: Grid,
        *,
        interval: float,
        dt: float | None = None,
        order: int = 4,
        varying: Sequence[str] = (),
        backend: str = AUTO,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> NavierStokes:
        """Return the classical solver of this flow.

        Parameters
        ----------
        grid : Grid
            The grid.
        interval : float
            Time between two stored states, in s.
        dt : float, optional
            The inner time step; by default it follows from a CFL bound.
        order : int
            Order of the time integration, 4 or 2.
        varying : sequence of str
            Which of the `coefficients` are inputs, one value a trajectory.
        backend : str
            What computes the inner steps.
        dtype : torch.dtype
            Precision, `torch.float32` or `torch.float64`.
        device : torch.device or str, optional
            Where to compute; by default on the CPU.

        Returns
        -------
        NavierStokes
            A `solver_class`: `NavierStokes2D` or `NavierStokes3D`; see there for details of the parameters.
        """
        return self.solver_class(
            grid,
            viscosity=self.viscosity,
            interval=interval,
            dt=dt,
            drag=self.drag,
            varying=varying,
            order=order,
            backend=backend,
            dtype=dtype,
            device=device,
            **self.solver_terms(grid),
        )

    def solver_terms(self, grid: Grid) -> dict[str, Any]:
        """Return the terms of the equation as arguments of the solver, without viscosity and drag.

        Parameters
        ----------
        grid : Grid
            The grid.

        Returns
        -------
        dict of str to object
            Forcings, scalar, mean velocity and, in the plane, plates.
        """
        plates = {"plates": self.plates} if self.dimensions == 2 else {}
        return {
            "forcing": self.forcing(grid),
            "scalar": self.scalar,
            "mean_velocity": self._mean_velocity,
            "stochastic_forcing": self.stochastic_forcing(grid),
            **plates,
        }


def shifts(grid: Grid) -> tuple[Float[Tensor, "..."], ...]:
    """Return all shifts by whole cells as fractions of the box.

    Parameters
    ----------
    grid : Grid
        The grid.

    Returns
    -------
    tuple of Tensor
        Shifts along each axis, (y, x) or (z, y, x), shaped to broadcast against each other; float64.
    """
    fractions = [torch.arange(n, dtype=torch.float64) / n for n in grid.n]
    return tuple(
        f.reshape([-1 if axis == own else 1 for axis in range(len(fractions))]) for own, f in enumerate(fractions)
    )


def is_whole(values: Float[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Return which numbers are whole, up to rounding.

    Parameters
    ----------
    values : Tensor
        Numbers.

    Returns
    -------
    Tensor
        Boolean, of the same shape.
    """
    return (values - values.round()).abs() < 1e-9
