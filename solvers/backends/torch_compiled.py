"""Inner steps by PyTorch operations, fused by `torch.compile`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from solvers.array_types import PerTrajectory, Spectrum
from solvers.backends.base import Backend, StepSetup, register_backend
from solvers.backends.cpp_library import why_not_compiled
from solvers.backends.torch_eager import TorchBackend
from solvers.equation import EquationTerms
from solvers.etdrk import Integrator


@register_backend("compile")
@final
class TorchCompileBackend(Backend):
    """Inner steps by PyTorch operations, fused by `torch.compile`.

    Parameters
    ----------
    setup : StepSetup
        Equation, scheme and options of the solver.
    """

    is_differentiable = True

    def __init__(self, setup: StepSetup) -> None:
        self._eager = TorchBackend(setup, transform=torch.compile)

    @classmethod
    def why_unavailable(cls, device: torch.device, has_fixed_step: bool, dimensions: int) -> str | None:
        # On a CPU `torch.compile` needs a C++ compiler, as the native steps do.
        return why_not_compiled() if device.type == "cpu" else None

    def advance(
        self,
        spectrum: Spectrum,
        terms: EquationTerms,
        integrators: Sequence[Integrator],
        counts: Sequence[int],
        watch_rate: bool,
    ) -> tuple[Spectrum, PerTrajectory]:
        return self._eager.advance(spectrum, terms, integrators, counts, watch_rate)

    def group_size(self, batch: int) -> int:
        return self._eager.group_size(batch)
