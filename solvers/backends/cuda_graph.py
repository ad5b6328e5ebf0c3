"""Inner steps by PyTorch operations, recorded as a CUDA graph and replayed with a single launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from solvers.array_types import PerTrajectory, Spectrum
from solvers.backends.base import Backend, StepSetup, register_backend
from solvers.backends.torch_eager import StepLoop, TorchBackend
from solvers.equation import EquationTerms
from solvers.etdrk import Integrator


@register_backend("graph")
@final
class CudaGraphBackend(Backend):
    """Inner steps as a CUDA graph, for a fixed inner time step.

    On small grids the launches of the kernels take longer than the kernels; a replay needs one launch (CUDA C++
    Programming Guide, section 3.2.8.7).

    Parameters
    ----------
    setup : StepSetup
        Equation, scheme and options of the solver.
    """

    def __init__(self, setup: StepSetup) -> None:
        self._eager = TorchBackend(setup)
        self._recording: Recording | None = None

    @classmethod
    def why_unavailable(cls, device: torch.device, has_fixed_step: bool, dimensions: int) -> str | None:
        return None if device.type == "cuda" and has_fixed_step else "it needs a fixed dt on a CUDA device"

    def advance(
        self,
        spectrum: Spectrum,
        terms: EquationTerms,
        integrators: Sequence[Integrator],
        counts: Sequence[int],
        watch_rate: bool,
    ) -> tuple[Spectrum, PerTrajectory]:
        rate = self._eager.zero_rate(len(spectrum))
        recording = self._recording
        if recording is None or (recording.terms, recording.integrators) != (terms, tuple(integrators)):
            loop = StepLoop(self._eager, terms, integrators, counts, watch_rate=False)
            graph = CudaGraph(lambda w: loop(w, rate, 0, loop.longest)[0], spectrum)
            recording = self._recording = Recording(terms, tuple(integrators), loop, graph)
        return recording.graph(spectrum), rate


@dataclass(frozen=True, eq=False)
class Recording:
    """A graph and everything that it reads.

    A graph reads its tensors where they lay in memory when it was recorded: they are held here, and other terms or
    coefficients need another recording.

    Parameters
    ----------
    terms : EquationTerms
        The terms of the trajectories.
    integrators : tuple of Integrator
        The scheme with the coefficients of each trajectory.
    loop : StepLoop
        The steps that were recorded.
    graph : callable
        Maps a spectrum to the spectrum after all steps.
    """

    terms: EquationTerms
    integrators: tuple[Integrator, ...]
    loop: StepLoop
    graph: Callable[[Tensor], Tensor]


@final
class CudaGraph:
    """A function of one tensor, recorded once and replayed.

    Parameters
    ----------
    function : callable
        Maps a tensor to a tensor. Whatever else it reads must stay where it is in memory.
    example : Tensor
        An argument; all later ones have its shape.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> None:
        self._argument = example.clone()
        with torch.cuda.device(example.device):  # streams and recordings are of the current device
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # once before the recording, so that FFT plans and memory are there
                function(self._argument)
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._result = function(self._argument)

    def __call__(self, value: Tensor) -> Tensor:
        """Return the function of `value`, in memory of its own."""
        self._argument.copy_(value)
        with torch.cuda.device(value.device):
            self._graph.replay()
        return self._result.clone()
