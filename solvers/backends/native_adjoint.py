"""Inner steps in C++ with gradients in C++ too, in two dimensions."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from solvers.array_types import PerTrajectory, Spectrum
from solvers.backends.base import Backend, StepSetup
from solvers.backends.cpp_library import load_library
from solvers.backends.native import CALL_CELLS, NativeBackend, pointer, pointers
from solvers.backends.native_arguments import VorticityArguments
from solvers.backends.selection import wants_operations
from solvers.backends.torch_eager import TorchBackend
from solvers.equation import EquationTerms
from solvers.etdrk import Integrator

KEPT_BYTES = 2**25  # fields that a thread keeps while it goes back over the steps of one call

Gradients = Sequence[Tensor | None]


@final
@dataclass(frozen=True)
class NativeCall:
    """Steps that one call into C++ takes.

    Parameters
    ----------
    terms : EquationTerms
        The terms of the trajectories.
    schemes : sequence of Integrator
        The schemes of the trajectories, each once.
    of_trajectory : sequence of int
        Which of the schemes each trajectory uses.
    counts : sequence of int
        How many steps each trajectory takes.
    watch_rate : bool
        Whether to record the advection rate at the beginning of every step.
    """

    terms: EquationTerms
    schemes: Sequence[Integrator]
    of_trajectory: Sequence[int]
    counts: Sequence[int]
    watch_rate: bool


@final
class NativeAdjoint(Backend):
    """Inner steps in C++ (`native_2d.cpp`) whose gradients are computed in C++ (`native_2d_adjoint.cpp`).

    Autograd keeps the spectra at the beginning of every call into C++, of at most `StepSetup.checkpoint_every` steps:
    the way back computes the steps between again. Gradients that are themselves to be differentiated are computed by
    PyTorch operations. This back end is not registered: the solver takes it by itself for gradients in reverse mode.

    Parameters
    ----------
    setup : StepSetup
        Equation, scheme and options of the solver.

    Raises
    ------
    ValueError
        If there is no C++ compiler.
    """

    is_differentiable = True

    def __init__(self, setup: StepSetup) -> None:
        equation = setup.equation
        self.setup, self.steps, self._operations = setup, NativeBackend(setup), TorchBackend(setup)
        library = load_library(equation.grid.dimensions, adjoint=True)
        if isinstance(library, str):
            raise ValueError(f"gradients of the backend 'native' are not available: {library}")
        name = "float" if equation.dtype == torch.float32 else "double"
        self._function = getattr(library, f"backpropagate_{name}")
        fields = setup.scheme.order * (equation.components + 1)  # a step's
        self._bytes_per_step = 2 * fields * math.prod(equation.grid.n) * equation.dtype.itemsize

    @classmethod
    def why_unavailable(cls, device: torch.device, has_fixed_step: bool, dimensions: int) -> str | None:
        if dimensions != 2:
            return "it is for two dimensions"
        if device.type != "cpu":
            return f"it runs on a CPU, not on {device.type}"
        found = load_library(dimensions, adjoint=True)
        return found if isinstance(found, str) else None

    def advance(
        self,
        spectrum: Spectrum,
        terms: EquationTerms,
        integrators: Sequence[Integrator],
        counts: Sequence[int],
        watch_rate: bool,
    ) -> tuple[Spectrum, PerTrajectory]:
        schemes = list(dict.fromkeys(integrators))
        of_trajectory = [schemes.index(integrator) for integrator in integrators]
        coefficients = [c for scheme in schemes for c in scheme.coefficients]
        cells = math.prod(self.setup.equation.grid.n) * len(spectrum)
        most = max(1, min(CALL_CELLS // cells, KEPT_BYTES // self._bytes_per_step))
        most = min(most, self.setup.checkpoint_every or most)
        rate = self._operations.zero_rate(len(spectrum))
        for done in range(0, max(counts), most):
            taken = [min(max(count - done, 0), most) for count in counts]
            call = NativeCall(terms, schemes, of_trajectory, taken, watch_rate)
            spectrum, largest = StepsWithAdjoint.apply(
                self, call, spectrum, terms.forcing, terms.coupling, terms.mean_velocity, *coefficients
            )
            rate = torch.maximum(rate, largest)
        return spectrum, rate

    def rate(self, spectrum: Spectrum, terms: EquationTerms) -> PerTrajectory | None:
        return self.steps.rate(spectrum, terms)

    def gradients(self, call: NativeCall, spectrum: Spectrum, wanted: Sequence[bool], after: Spectrum) -> Gradients:
        """Compute the gradients of one call in C++.

        Parameters
        ----------
        call : NativeCall
            The steps.
        spectrum : Tensor
            The spectra at the beginning.
        wanted : sequence of bool
            The gradients for which inputs are wanted: spectrum, forcing, coupling, mean velocity, and all coefficients
            of the schemes.
        after : Tensor
            The gradient for the spectra afterwards.

        Returns
        -------
        sequence of Tensor or None
            The gradient for each input; None if it is not wanted.

        Raises
        ------
        MemoryError
            If there is no memory for the fields.
        """
        batch, terms = len(spectrum), (call.terms.forcing, call.terms.coupling, call.terms.mean_velocity)
        # Everything that C++ reads is kept by name until the call is over: pointers do not keep tensors alive.
        start, to_state = spectrum.resolve_conj().contiguous(), after.clone().resolve_conj().contiguous()
        given = [None if t is None else t.contiguous() for t in terms]
        own = [None if t is None else pointers([t[b if len(t) > 1 else 0] for b in range(batch)]) for t in given]
        packed = [self.steps.packed_coefficients(call.schemes[i]) for i in call.of_trajectory]
        to_terms = [
            t.new_zeros(batch, *t.shape[1:]) if t is not None and is_wanted else None
            for t, is_wanted in zip(terms, wanted[1:4], strict=True)
        ]
        to_packed = packed[0].new_zeros(batch, *packed[0].shape) if any(wanted[4:]) else None
        failed = self._function(
            self.steps.sizes, self.steps.table_pointers, batch, pointer(start), pointers(packed), *own,
            (ctypes.c_int * batch)(*call.counts), pointer(to_state),
            *(None if t is None else pointer(t) for t in (to_packed, *to_terms)), torch.get_num_threads(),
        )  # fmt: skip
        if failed:
            cells = " x ".join(map(str, self.setup.equation.grid.n))
            raise MemoryError(f"no memory for the gradients of the solver's steps on {cells} cells")
        shared = [t is not None and len(t) < batch for t in terms]
        summed = [t.sum(0, keepdim=True) if t is not None and s else t for t, s in zip(to_terms, shared, strict=True)]
        if to_packed is None:
            return [to_state, *summed, *(None for _ in wanted[4:])]
        return [to_state, *summed, *self._of_coefficients(call, to_packed)]

    def _of_coefficients(self, call: NativeCall, packed: Tensor) -> list[Tensor]:
        """Return the gradients for all coefficients of the schemes, from those of each trajectory."""
        arguments, like = self.steps.arguments, call.schemes[0].coefficients[0]
        assert isinstance(arguments, VorticityArguments)
        index = torch.tensor(call.of_trajectory)
        of_scheme = packed.new_zeros(len(call.schemes), *packed.shape[1:]).index_add_(0, index, packed)
        unpacked = arguments.unpack(of_scheme, like.shape[-2:]).to(like.dtype)
        return [gradient[None] for scheme in unpacked for gradient in scheme]

    def gradients_by_operations(
        self, call: NativeCall, inputs: Gradients, wanted: Sequence[bool], after: Spectrum
    ) -> Gradients:
        """Compute the gradients of one call by PyTorch operations, which can be differentiated in turn.

        Parameters
        ----------
        call : NativeCall
            The steps.
        inputs : sequence of Tensor or None
            Spectrum, forcing, coupling, mean velocity, and all coefficients of the schemes.
        wanted : sequence of bool
            The gradients for which inputs are wanted.
        after : Tensor
            The gradient for the spectra afterwards.

        Returns
        -------
        sequence of Tensor or None
            The gradient for each input; None if it is not wanted.
        """
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            # Views: of an input that depends on another one, the gradient is to pass through these steps alone.
            own = [t.view_as(t) if t is not None and t.requires_grad else t for t in inputs]
            forcing, coupling, mean_velocity = own[1:4]
            coefficients = [c for c in own[4:] if c is not None]  # none is
            each = len(coefficients) // len(call.schemes)
            schemes = [self.setup.scheme(coefficients[i : i + each]) for i in range(0, len(coefficients), each)]
            spectrum, _ = self._operations.advance(
                own[0],  # type: ignore[arg-type]
                replace(call.terms, forcing=forcing, coupling=coupling, mean_velocity=mean_velocity),
                [schemes[i] for i in call.of_trajectory],
                call.counts,
                watch_rate=False,
            )
            followed = [t for t, is_wanted in zip(own, wanted, strict=True) if t is not None and is_wanted]
            found = iter(torch.autograd.grad(spectrum, followed, after, create_graph=again, allow_unused=True))
        return [next(found) if is_wanted else None for is_wanted in wanted]


@final
class StepsWithAdjoint(torch.autograd.Function):
    """The steps of one call into C++ as an operation that autograd knows."""

    @staticmethod
    def forward(
        ctx: Any, adjoint: NativeAdjoint, call: NativeCall, spectrum: Tensor, *others: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Take the steps.

        Parameters
        ----------
        ctx : object
            What autograd keeps for the way back.
        adjoint : NativeAdjoint
            Takes the steps, and computes the gradients.
        call : NativeCall
            The steps.
        spectrum : Tensor
            The spectra at the beginning.
        *others : Tensor or None
            Forcing, coupling, mean velocity, and all coefficients of the schemes: they are those of `call`, named so
            that autograd sees them.

        Returns
        -------
        spectrum : Tensor
            The spectra afterwards.
        rate : Tensor
            The advection rates, without gradients.
        """
        integrators = [call.schemes[i] for i in call.of_trajectory]
        after, rate = adjoint.steps.advance(spectrum, call.terms, integrators, call.counts, call.watch_rate)
        ctx.adjoint, ctx.call = adjoint, call
        ctx.save_for_backward(spectrum, *others)
        ctx.mark_non_differentiable(rate)
        return after, rate

    @staticmethod
    def backward(ctx: Any, after: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        """Return the gradients for all arguments of `forward`.

        Parameters
        ----------
        ctx : object
            What `forward` kept.
        after : Tensor
            The gradient for the spectra afterwards.
        _ : object
            Nothing: the rates have no gradients.

        Returns
        -------
        tuple of Tensor or None
            None for the first two.
        """
        adjoint, call, inputs, wanted = ctx.adjoint, ctx.call, ctx.saved_tensors, ctx.needs_input_grad[2:]
        # A tensor of several gradients at once, of `is_grads_batched`, has no storage.
        if torch.is_grad_enabled() or wants_operations() or not torch._C._has_storage(after):
            return None, None, *adjoint.gradients_by_operations(call, inputs, wanted, after)
        return None, None, *adjoint.gradients(call, inputs[0], wanted, after)
