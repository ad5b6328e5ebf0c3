"""What the C++ of the inner steps reads: sizes, tables and coefficients, in the layout that it wants."""

from __future__ import annotations

import ctypes
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
    library : ctypes.CDLL
        The compiled C++, whose transforms decide in which order it reads modes.

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
    def __init__(self, setup: StepSetup, lanes: int, library: ctypes.CDLL) -> None: ...

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
    """The arguments of `native_2d.cpp` and `native_2d_adjoint.cpp`.

    Retained modes are laid out as (chunk of columns, ky, value, column of the chunk), ky in the order of the library's
    transforms.

    Parameters
    ----------
    setup : StepSetup
        Equation, scheme and options of the solver.
    lanes : int
        How many numbers a vector of the processor holds.
    library : ctypes.CDLL
        The compiled C++, whose transforms decide in which order it reads modes.
    """

    def __init__(self, setup: StepSetup, lanes: int, library: ctypes.CDLL) -> None:
        equation = setup.equation
        assert isinstance(equation, VorticityEquation)
        grid, modes = equation.grid, equation.modes
        (ny, nx), columns = grid.n, equation.columns
        order = (ctypes.c_int * (2 * modes[0] + 1))()
        library.row_order(ny, modes[0], order)
        self._rows, self._chunk = torch.tensor(order), lanes // 2  # the retained ky; the columns that C++ takes at once
        ky, kx = torch.broadcast_tensors(*grid.wavenumbers())
        z = torch.complex(kx, -ky)[:, :columns]
        velocity = torch.where(z == 0, 0, 1 / torch.where(z == 0, 1, z)) / (ny * nx)
        parts = [self._laid_out(torch.stack([t.real, t.imag])) for t in (velocity, -0.25j * z**2, -0.5j * z)]
        self.tables = [_roots_of_unity(ny), _roots_of_unity(nx), *parts]
        self.sizes = (
            ny, nx, len(order), columns, equation.components, setup.scheme.order, int(setup.plates)
        )  # fmt: skip
        self.numbers = [1 / h for h in grid.spacing]

    def of_terms(self, terms: EquationTerms) -> Sequence[Tensor | None]:
        return terms.forcing, terms.coupling, terms.mean_velocity

    def pack(self, coefficients: Sequence[Tensor]) -> Tensor:
        return self._laid_out(torch.stack([c[0] for c in coefficients], dim=1))

    def unpack(self, packed: Tensor, modes: Sequence[int]) -> Tensor:
        """Return gradients of the coefficients of several schemes as tensors, by the transpose of `pack`.

        Parameters
        ----------
        packed : Tensor
            For each scheme a gradient in the layout of `pack`.
        modes : sequence of int
            Sizes of the axes ky and kx of a coefficient.

        Returns
        -------
        Tensor
            Shape (scheme, coefficient, component, ky, kx), zero for modes that are not retained.
        """
        kept = packed.movedim(1, -2).flatten(-2)[..., : modes[1]]  # (scheme, component, row, coefficient, kx)
        whole = packed.new_zeros(*kept.shape[:2], kept.shape[3], *modes)
        whole[..., self._rows, :] = kept.transpose(-3, -2)
        return whole.transpose(1, 2)

    def _laid_out(self, values: Tensor) -> Tensor:
        """Lay out values of shape (…, value, ky, kx) as C++ reads them."""
        kept = values[..., self._rows, :]
        padded = torch.nn.functional.pad(kept, (0, -kept.shape[-1] % self._chunk))
        return padded.unflatten(-1, (-1, self._chunk)).movedim(-2, 0).transpose(-3, -2)


@final
class VelocityArguments(NativeArguments):
    """The arguments of `native_3d.cpp`.

    Parameters
    ----------
    setup : StepSetup
        Equation, scheme and options of the solver.
    lanes : int
        How many numbers a vector of the processor holds.
    library : ctypes.CDLL
        The compiled C++, whose transforms decide in which order it reads modes.
    """

    def __init__(self, setup: StepSetup, lanes: int, library: ctypes.CDLL) -> None:
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
