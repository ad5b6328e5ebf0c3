"""The inner steps in C++ (`native.cpp`, compiled by `solvers.compiled`): what a CPU without gradients runs on."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from solvers.compiled import library
from solvers.equation import Equation, Spectrum, Terms
from solvers.etdrk import Integrator

CALL_CELLS = 2**24  # times steps, that one call does: some seconds at most, so that Ctrl-C comes through


def differentiated(*tensors: Tensor | None) -> bool:
    """Whether autograd, a function transform or a compiler wants to see what happens to one of these."""
    if torch.autograd.forward_ad._current_level >= 0 or torch.compiler.is_compiling():
        return True
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


@final
class Native:
    """`steps` of an equation by a scheme of the given order, on as many threads as torch has: each trajectory on one of
    them, whatever its neighbours, so that its bits depend on neither."""

    def __init__(self, equation: Equation, order: int, plates: bool) -> None:
        grid, modes = equation.grid, equation.modes
        (ny, nx), columns = grid.n, equation.columns
        self._cells = grid.n
        self.dtype, self.components = equation.dtype, equation.components
        self.rows = torch.cat([torch.arange(modes[0] + 1), torch.arange(ny - modes[0], ny)])  # the retained ky
        ky, kx = torch.broadcast_tensors(*grid.wavenumbers())
        z = torch.complex(kx, -ky)[self.rows, :columns]
        velocity = torch.where(z == 0, 0, 1 / torch.where(z == 0, 1, z)) / (ny * nx)
        parts = [torch.stack([t.real, t.imag]) for t in (velocity, -0.25j * z**2, -0.5j * z)]
        self._tables = [t.to(self.dtype).contiguous() for t in (_roots(ny), _roots(nx), *parts)]
        real, name = (ctypes.c_float, "float") if self.dtype == torch.float32 else (ctypes.c_double, "double")
        sizes = (ny, nx, len(self.rows), columns, self.components, order, int(plates))
        self._sizes = (ctypes.c_int * len(sizes))(*sizes)
        self._per_spacing = (real * 2)(*(1 / h for h in grid.spacing))
        found = library()
        if isinstance(found, str):  # a solver may have been pickled where there is a compiler
            raise ValueError(f"kernel 'native' is not to be had: {found}")
        self._function = getattr(found, f"integrate_{name}")
        self._packed: WeakKeyDictionary[Integrator, Tensor] = WeakKeyDictionary()

    def steps(
        self, w: Spectrum, terms: Terms, schemes: Sequence[Integrator], counts: Sequence[int], watch: bool
    ) -> tuple[Spectrum, Tensor]:
        """w after counts[b] steps of schemes[b], and with `watch` the largest |u|/Δx + |v|/Δy met at the beginning of
        one."""
        w, rate = w.clone(memory_format=torch.contiguous_format), torch.zeros(len(w), dtype=self.dtype)
        # Kept by name until the call is over: the pointers do not keep them alive.
        coefficients = [self._coefficients(scheme) for scheme in schemes]
        given = [None if t is None else t.contiguous() for t in (terms.forcing, terms.coupling, terms.mean_velocity)]
        own = [None if t is None else _pointers([t[b if len(t) > 1 else 0] for b in range(len(w))]) for t in given]
        longest, most = max(counts), max(1, CALL_CELLS // (math.prod(self._cells) * len(w)))
        for done in range(0, longest, most):
            some = counts if longest <= most else [min(max(count - done, 0), most) for count in counts]
            fastest = torch.zeros_like(rate) if done else rate
            failed = self._function(
                self._sizes, self._per_spacing, _pointers(self._tables), len(w), _pointer(w), _pointers(coefficients),
                *own, (ctypes.c_int * len(w))(*some), int(watch), _pointer(fastest), torch.get_num_threads(),
            )  # fmt: skip
            if failed:
                raise MemoryError(f"no memory for the solver's steps on {self._cells[0]} x {self._cells[1]} cells")
            rate = torch.maximum(rate, fastest) if done else rate
        return w, rate if terms.frequency is None else torch.maximum(rate, 2 * terms.frequency.flatten())

    def _coefficients(self, scheme: Integrator) -> Tensor:
        if scheme not in self._packed:
            kept = [c.real[0, :, self.rows] for c in scheme.coefficients]
            self._packed[scheme] = torch.stack(kept).to(self.dtype).contiguous()
        return self._packed[scheme]


def _roots(n: int) -> Tensor:
    return torch.view_as_real(torch.exp(-2j * math.pi * torch.arange(n, dtype=torch.float64) / n))


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _pointers(tensors: Sequence[Tensor]) -> ctypes.Array:
    return (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))
