"""Inner steps in C++ (`native.cpp`): the fastest way on a CPU where no gradients are wanted."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from solvers.array_types import PerTrajectory, Spectrum
from solvers.backends.base import Backend, StepSetup, register_backend
from solvers.backends.cpp_library import load_library, why_not_compiled
from solvers.equation import EquationTerms
from solvers.etdrk import Integrator
from solvers.vorticity_equation import VorticityEquation

CALL_CELLS = 2**24  # cells times steps of one call into C++: some seconds at most, so that Ctrl-C is answered


@register_backend("native")
@final
class NativeBackend(Backend):
    """Inner steps in C++, on as many threads as PyTorch has.

    Each trajectory is computed by one thread, so that its bits depend neither on the number of threads nor on the
    other trajectories of the batch.

    Parameters
    ----------
    setup : StepSetup
        Equation, scheme and options of the solver.

    Raises
    ------
    ValueError
        If there is no C++ compiler; a solver may have been pickled on a machine that has one.
    """

    dimensions = (2,)

    def __init__(self, setup: StepSetup) -> None:
        equation = setup.equation
        assert isinstance(equation, VorticityEquation)
        grid, modes = equation.grid, equation.modes
        (ny, nx), columns = grid.n, equation.columns
        self._cells = grid.n
        self.dtype, self.components = equation.dtype, equation.components
        self.rows = torch.cat([torch.arange(modes[0] + 1), torch.arange(ny - modes[0], ny)])  # the retained ky
        ky, kx = torch.broadcast_tensors(*grid.wavenumbers())
        z = torch.complex(kx, -ky)[self.rows, :columns]
        velocity = torch.where(z == 0, 0, 1 / torch.where(z == 0, 1, z)) / (ny * nx)
        parts = [torch.stack([t.real, t.imag]) for t in (velocity, -0.25j * z**2, -0.5j * z)]
        self._tables = [t.to(self.dtype).contiguous() for t in (_roots_of_unity(ny), _roots_of_unity(nx), *parts)]
        real, name = (ctypes.c_float, "float") if self.dtype == torch.float32 else (ctypes.c_double, "double")
        sizes = (ny, nx, len(self.rows), columns, self.components, setup.scheme.order, int(setup.plates))
        self._sizes = (ctypes.c_int * len(sizes))(*sizes)
        self._per_spacing = (real * 2)(*(1 / h for h in grid.spacing))
        library = load_library()
        if isinstance(library, str):
            raise ValueError(f"backend 'native' is not available: {library}")
        self._function = getattr(library, f"integrate_{name}")
        self._packed: WeakKeyDictionary[Integrator, Tensor] = WeakKeyDictionary()

    @classmethod
    def why_unavailable(cls, device: torch.device, has_fixed_step: bool) -> str | None:
        return why_not_compiled() if device.type == "cpu" else f"it runs on a CPU, not on {device.type}"

    def advance(
        self,
        spectrum: Spectrum,
        terms: EquationTerms,
        integrators: Sequence[Integrator],
        counts: Sequence[int],
        watch_rate: bool,
    ) -> tuple[Spectrum, PerTrajectory]:
        w = spectrum.clone(memory_format=torch.contiguous_format)
        rate = torch.zeros(len(w), dtype=self.dtype)
        # Everything that C++ reads is kept by name until the call is over: pointers do not keep tensors alive.
        coefficients = [self._packed_coefficients(integrator) for integrator in integrators]
        given = [None if t is None else t.contiguous() for t in (terms.forcing, terms.coupling, terms.mean_velocity)]
        own = [None if t is None else _pointers([t[b if len(t) > 1 else 0] for b in range(len(w))]) for t in given]
        longest, most = max(counts), max(1, CALL_CELLS // (math.prod(self._cells) * len(w)))
        for done in range(0, longest, most):
            steps = counts if longest <= most else [min(max(count - done, 0), most) for count in counts]
            largest = torch.zeros_like(rate) if done else rate
            failed = self._function(
                self._sizes, self._per_spacing, _pointers(self._tables), len(w), _pointer(w), _pointers(coefficients),
                *own, (ctypes.c_int * len(w))(*steps), int(watch_rate), _pointer(largest), torch.get_num_threads(),
            )  # fmt: skip
            if failed:
                raise MemoryError(f"no memory for the solver's steps on {self._cells[0]} x {self._cells[1]} cells")
            rate = torch.maximum(rate, largest) if done else rate
        return w, rate if terms.buoyancy_rate is None else torch.maximum(rate, 2 * terms.buoyancy_rate.flatten())

    def _packed_coefficients(self, integrator: Integrator) -> Tensor:
        """Return the coefficients of a scheme as C++ reads them: real, the retained modes only."""
        if integrator not in self._packed:
            kept = [c.real[0, :, self.rows] for c in integrator.coefficients]
            self._packed[integrator] = torch.stack(kept).to(self.dtype).contiguous()
        return self._packed[integrator]


def _roots_of_unity(n: int) -> Tensor:
    return torch.view_as_real(torch.exp(-2j * math.pi * torch.arange(n, dtype=torch.float64) / n))


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _pointers(tensors: Sequence[Tensor]) -> ctypes.Array:
    return (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))
