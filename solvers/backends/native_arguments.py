"""What the C++ of the inner steps reads: sizes, tables and coefficients, in the layout that it wants."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from solvers.backends.base import StepSetup
from solvers.docstrings import InheritDocstrings
from solvers.equation import EquationTerms
from solvers.velocity_equation import VelocityEquation
from solvers.vorticity_equation import VorticityEquation


class NativeArguments(InheritDocstrings, ABC):
    """The arguments of the C++ function of one equation.

    Parameters
    ----------
    setup : StepSetup
        Equation, scheme and options of the solver.
    lanes : int
        How many numbers a vector of the processor holds.

    Attributes
    ----------
    sizes : sequence of int
        Whole numbers.
    numbers : sequence of float
        Real numbers.
    tables : sequence of Tensor
        Arrays, in double precision.
    """

    sizes: Sequence[int]
    numbers: Sequence[float]
    tables: Sequence[Tensor]

    @abstractmethod
    def __init__(self, setup: StepSetup, lanes: int) -> None: ...

    @abstractmethod
    def of_terms(self, terms: EquationTerms) -> Sequence[Tensor | None]:
        """Return the arrays of the terms that differ from trajectory to trajectory.

        Parameters
        ----------
        terms : EquationTerms
            The terms of the equation.

        Returns
        -------
        sequence of Tensor or None
            Each with a first axis of length 1 or batch; None for a term that is absent.
        """

    @abstractmethod
    def pack(self, coefficients: Sequence[Tensor]) -> Tensor:
        """Return the coefficients of a scheme in one array.

        Parameters
        ----------
        coefficients : sequence of Tensor
            Real, each of shape (1, component, …) as spectra are.

        Returns
        -------
        Tensor
            The array that C++ reads.
        """


@final
class VorticityArguments(NativeArguments):
    """The arguments of `native_2d.cpp`.

    Parameters
    ----------
    setup : StepSetup
        Equation, scheme and options of the solver.
    lanes : int
        How many numbers a vector of the processor holds.
    """

    def __init__(self, setup: StepSetup, lanes: int) -> None:
        equation = setup.equation
        assert isinstance(equation, VorticityEquation)
        grid, modes = equation.grid, equation.modes
        (ny, nx), columns = grid.n, equation.columns
        self.rows = torch.cat([torch.arange(modes[0] + 1), torch.arange(ny - modes[0], ny)])  # the retained ky
        ky, kx = torch.broadcast_tensors(*grid.wavenumbers())
        z = torch.complex(kx, -ky)[self.rows, :columns]
        velocity = torch.where(z == 0, 0, 1 / torch.where(z == 0, 1, z)) / (ny * nx)
        parts = [torch.stack([t.real, t.imag]) for t in (velocity, -0.25j * z**2, -0.5j * z)]
        self.tables = [_roots_of_unity(ny), _roots_of_unity(nx), *parts]
        self.sizes = (
            ny, nx, len(self.rows), columns, equation.components, setup.scheme.order, int(setup.plates)
        )  # fmt: skip
        self.numbers = [1 / h for h in grid.spacing]

    def of_terms(self, terms: EquationTerms) -> Sequence[Tensor | None]:
        return terms.forcing, terms.coupling, terms.mean_velocity

    def pack(self, coefficients: Sequence[Tensor]) -> Tensor:
        return torch.stack([c[0, :, self.rows] for c in coefficients])


@final
class VelocityArguments(NativeArguments):
    """The arguments of `native_3d.cpp`.

    Parameters
    ----------
    setup : StepSetup
        Equation, scheme and options of the solver.
    lanes : int
        How many numbers a vector of the processor holds.
    """

    def __init__(self, setup: StepSetup, lanes: int) -> None:
        equation = setup.equation
        assert isinstance(equation, VelocityEquation)
        grid, power, self.lanes, self.components = equation.grid, equation.power_forcing, lanes, equation.components
        forced = equation.forced_modes.tolist() if power else []
        has_scalar = int(equation.components == 4)
        self.sizes = (*grid.n, *equation.modes, has_scalar, setup.scheme.order, len(forced), *forced)
        unit = 2 * math.pi / max(grid.length)  # so that squares of wavenumbers do not overflow
        self.numbers = [*(1 / h for h in grid.spacing), unit, power.power if power else 0.0]
        wavenumbers = [(k / unit).flatten() for k in equation.wavenumbers]
        weights = equation.forced_weights.double() * float(math.prod(grid.n)) ** 2
        self.tables = [*map(_roots_of_unity, grid.n), *wavenumbers, weights]

    def of_terms(self, terms: EquationTerms) -> Sequence[Tensor | None]:
        gravity = gradient = None
        if terms.coupling is not None:
            buoyancy, production = terms.coupling.real.split(3, dim=1)
            # Of −P g the components across k: all three of g, from a mode along x and one along y.
            across_x, across_y = buoyancy[..., 0, 0, 1], buoyancy[..., 0, 1, 0]
            gravity = -torch.cat([across_y[:, :1], across_x[:, 1:]], dim=1)
            gradient = -production[..., 0, 0, 1]
        return terms.forcing, gravity, gradient, terms.mean_velocity

    def pack(self, coefficients: Sequence[Tensor]) -> Tensor:
        # (block, kz, component and coefficient, lane), lanes being neighbouring (ky, kx); the velocities share theirs.
        rows = [c[0, component].flatten(1) for component in (0, 3)[: self.components - 2] for c in coefficients]
        padded = torch.nn.functional.pad(torch.stack(rows), (0, -rows[0].shape[1] % self.lanes))
        return padded.unflatten(2, (-1, self.lanes)).permute(2, 1, 0, 3)


def _roots_of_unity(n: int) -> Tensor:
    return torch.view_as_real(torch.exp(-2j * math.pi * torch.arange(n, dtype=torch.float64) / n))
