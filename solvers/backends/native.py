"""Inner steps in C++: the fastest way on a CPU where no gradients are wanted."""

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
from solvers.backends.native_arguments import NativeArguments, VelocityArguments, VorticityArguments
from solvers.equation import EquationTerms
from solvers.etdrk import Integrator

CALL_CELLS = 2**24  # cells times steps of one call into C++: some seconds at most, so that Ctrl-C is answered
ARGUMENTS: dict[int, type[NativeArguments]] = {2: VorticityArguments, 3: VelocityArguments}


@register_backend("native")
@final
class NativeBackend(Backend):
    """Inner steps in C++ (`native_2d.cpp`, `native_3d.cpp`), on as many threads as PyTorch has.

    In two dimensions each trajectory is computed by one thread. In three, threads share a trajectory if there are more
    threads than trajectories. A trajectory's bits depend neither on the number of threads nor on the other
    trajectories of the batch.

    Parameters
    ----------
    setup : StepSetup
        Equation, scheme and options of the solver.

    Raises
    ------
    ValueError
        If there is no C++ compiler; a solver may have been pickled on a machine that has one.
    """

    def __init__(self, setup: StepSetup) -> None:
        equation = setup.equation
        self._cells, self.dtype = equation.grid.n, equation.dtype
        library = load_library(equation.grid.dimensions)
        if isinstance(library, str):
            raise ValueError(f"backend 'native' is not available: {library}")
        real, name = (ctypes.c_float, "float") if self.dtype == torch.float32 else (ctypes.c_double, "double")
        self._function = getattr(library, f"integrate_{name}")
        self._arguments = ARGUMENTS[equation.grid.dimensions](setup, lanes=getattr(library, f"lanes_{name}")())
        self._sizes = (ctypes.c_int * len(self._arguments.sizes))(*self._arguments.sizes)
        self._numbers = (real * len(self._arguments.numbers))(*self._arguments.numbers)
        self._tables = [t.to(self.dtype).contiguous() for t in self._arguments.tables]
        self._packed: WeakKeyDictionary[Integrator, Tensor] = WeakKeyDictionary()

    @classmethod
    def why_unavailable(cls, device: torch.device, has_fixed_step: bool, dimensions: int) -> str | None:
        return why_not_compiled(dimensions) if device.type == "cpu" else f"it runs on a CPU, not on {device.type}"

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
        given = [None if t is None else t.contiguous() for t in self._arguments.of_terms(terms)]
        own = [None if t is None else _pointers([t[b if len(t) > 1 else 0] for b in range(len(w))]) for t in given]
        longest, most = max(counts), max(1, CALL_CELLS // (math.prod(self._cells) * len(w)))
        for done in range(0, longest, most):
            steps = counts if longest <= most else [min(max(count - done, 0), most) for count in counts]
            largest = torch.zeros_like(rate) if done else rate
            failed = self._function(
                self._sizes, self._numbers, _pointers(self._tables), len(w), _pointer(w), _pointers(coefficients),
                *own, (ctypes.c_int * len(w))(*steps), int(watch_rate), _pointer(largest), torch.get_num_threads(),
            )  # fmt: skip
            if failed:
                raise MemoryError(f"no memory for the solver's steps on {' x '.join(map(str, self._cells))} cells")
            rate = torch.maximum(rate, largest) if done else rate
        return w, rate if terms.buoyancy_rate is None else torch.maximum(rate, 2 * terms.buoyancy_rate.flatten())

    def _packed_coefficients(self, integrator: Integrator) -> Tensor:
        """Return the coefficients of a scheme as C++ reads them, computed once."""
        if integrator not in self._packed:
            packed = self._arguments.pack([c.real for c in integrator.coefficients])
            self._packed[integrator] = packed.to(self.dtype).contiguous()
        return self._packed[integrator]


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _pointers(tensors: Sequence[Tensor]) -> ctypes.Array:
    return (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))
