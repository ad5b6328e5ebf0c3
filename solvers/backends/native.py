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

    Threads share a trajectory if there are more threads than trajectories and enough work for them. A trajectory's bits
    depend neither on the number of threads nor on the other trajectories of the batch.

    Parameters
    ----------
    setup : StepSetup
        Equation, scheme and options of the solver.

    Attributes
    ----------
    arguments : NativeArguments
        What C++ reads, in its layout.
    sizes, table_pointers : ctypes.Array
        The whole numbers of `arguments`, and the addresses of its arrays.

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
        self.arguments = ARGUMENTS[equation.grid.dimensions](setup, getattr(library, f"lanes_{name}")(), library)
        self.sizes = (ctypes.c_int * len(self.arguments.sizes))(*self.arguments.sizes)
        self._numbers = (real * len(self.arguments.numbers))(*self.arguments.numbers)
        self._tables = [t.to(self.dtype).contiguous() for t in self.arguments.tables]
        self.table_pointers = pointers(self._tables)
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
        batch = w.shape[0]
        rate = torch.zeros(batch, dtype=self.dtype)
        packed = {integrator: self.packed_coefficients(integrator) for integrator in integrators}
        coefficients = pointers([packed[integrator] for integrator in integrators])
        longest, most = max(counts), max(1, CALL_CELLS // (math.prod(self._cells) * batch))
        for done in range(0, longest, most):
            steps = counts if longest <= most else [min(max(count - done, 0), most) for count in counts]
            largest = torch.zeros_like(rate) if done else rate
            self._call(w, terms, coefficients, steps, int(watch_rate), largest)
            rate = torch.maximum(rate, largest) if done else rate
        return w, self._limited(rate, terms)

    def rate(self, spectrum: Spectrum, terms: EquationTerms) -> PerTrajectory | None:
        if len(self._cells) == 3:
            return None
        w, batch = spectrum.contiguous(), spectrum.shape[0]
        rate = torch.empty(batch, dtype=self.dtype)
        self._call(w, terms, (ctypes.c_void_p * batch)(), [0] * batch, 2, rate)
        return self._limited(rate, terms)

    def _call(
        self,
        w: Tensor,
        terms: EquationTerms,
        coefficients: ctypes.Array,
        steps: Sequence[int],
        watch: int,
        rate: Tensor,
    ) -> None:
        """Call C++, which changes `w` and `rate`; MemoryError if it has no memory."""
        batch = w.shape[0]
        # Everything that C++ reads is kept by name until the call is over: pointers do not keep tensors alive.
        given = [None if t is None else t.contiguous() for t in self.arguments.of_terms(terms)]
        own = [None if t is None else pointers([t[b if len(t) > 1 else 0] for b in range(batch)]) for t in given]
        failed = self._function(
            self.sizes, self._numbers, self.table_pointers, batch, pointer(w), coefficients,
            *own, (ctypes.c_int * batch)(*steps), watch, pointer(rate), torch.get_num_threads(),
        )  # fmt: skip
        if failed:
            raise MemoryError(f"no memory for the solver's steps on {' x '.join(map(str, self._cells))} cells")

    @staticmethod
    def _limited(rate: PerTrajectory, terms: EquationTerms) -> PerTrajectory:
        """Return the rates, no less than twice those at which buoyancy acts."""
        return rate if terms.buoyancy_rate is None else torch.maximum(rate, 2 * terms.buoyancy_rate.flatten())

    def packed_coefficients(self, integrator: Integrator) -> Tensor:
        """Return the coefficients of a scheme as C++ reads them, computed once.

        Parameters
        ----------
        integrator : Integrator
            The scheme.

        Returns
        -------
        Tensor
            The result of `NativeArguments.pack`.
        """
        packed = self._packed.get(integrator)
        if packed is None:
            made = self.arguments.pack([c.real for c in integrator.coefficients])
            packed = self._packed[integrator] = made.to(self.dtype).contiguous()
        return packed


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    """Return the address of a tensor's first number for C++.

    Parameters
    ----------
    tensor : Tensor
        A contiguous tensor, which the caller keeps alive.

    Returns
    -------
    ctypes.c_void_p
        The address.
    """
    return ctypes.c_void_p(tensor.data_ptr())


def pointers(tensors: Sequence[Tensor]) -> ctypes.Array:
    """Return the addresses of several tensors for C++.

    Parameters
    ----------
    tensors : sequence of Tensor
        Contiguous tensors, which the caller keeps alive.

    Returns
    -------
    ctypes.Array
        One address for each.
    """
    return (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))
