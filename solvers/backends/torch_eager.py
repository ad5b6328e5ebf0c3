"""Inner steps by PyTorch operations, one by one: on every device, and differentiable."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from solvers.array_types import PerTrajectory, Spectrum
from solvers.backends.base import Backend, StepSetup, register_backend
from solvers.equation import EquationTerms
from solvers.etdrk import Integrator

CACHE_CELLS = 2**17  # cells of the trajectories that are advanced at once on a CPU, so that their fields stay in cache


@register_backend("torch")
@final
class TorchBackend(Backend):
    """Inner steps by PyTorch operations.

    Parameters
    ----------
    setup : StepSetup
        Equation, scheme and options of the solver.
    transform : callable, optional
        Applied once to the two functions that every stage evaluates, as `torch.compile` is; None: no change.
    """

    is_differentiable = True

    def __init__(self, setup: StepSetup, transform: Callable[[Any], Any] | None = None) -> None:
        self.setup = setup
        velocity, tendency = setup.equation.velocity_and_scalar, setup.equation.explicit_tendency
        self.velocity_and_scalar = transform(velocity) if transform else velocity
        self.explicit_tendency = transform(tendency) if transform else tendency

    def advance(
        self,
        spectrum: Spectrum,
        terms: EquationTerms,
        integrators: Sequence[Integrator],
        counts: Sequence[int],
        watch_rate: bool,
    ) -> tuple[Spectrum, PerTrajectory]:
        loop = StepLoop(self, terms, integrators, counts, watch_rate)
        rate = self.zero_rate(len(spectrum))
        every = self.setup.checkpoint_every
        if not every or not torch.is_grad_enabled():
            return loop(spectrum, rate, 0, loop.longest)
        for first in range(0, loop.longest, every):
            last = min(first + every, loop.longest)
            spectrum, rate = checkpoint(loop, spectrum, rate, first, last, use_reentrant=False)
        return spectrum, rate

    def group_size(self, batch: int) -> int:
        if self.setup.equation.device.type != "cpu":
            return batch
        return max(1, CACHE_CELLS // math.prod(self.setup.equation.grid.n))

    def zero_rate(self, batch: int) -> PerTrajectory:
        """Return the advection rates before any step.

        Parameters
        ----------
        batch : int
            How many trajectories there are.

        Returns
        -------
        Tensor
            Zeros, shape (batch,).
        """
        return torch.zeros(batch, dtype=self.setup.equation.dtype, device=self.setup.equation.device)


@final
class StepLoop:
    """The loop over the inner steps of one batch.

    Parameters
    ----------
    backend : TorchBackend
        Evaluates the terms of the equation.
    terms : EquationTerms
        The terms of these trajectories.
    integrators : sequence of Integrator
        The scheme with the coefficients of each trajectory.
    counts : sequence of int
        How many inner steps each trajectory takes; one that has taken its own waits for the others.
    watch_rate : bool
        Whether to record the advection rate at the beginning of every step.

    Attributes
    ----------
    longest : int
        The largest of `counts`.
    """

    def __init__(
        self,
        backend: TorchBackend,
        terms: EquationTerms,
        integrators: Sequence[Integrator],
        counts: Sequence[int],
        watch_rate: bool,
    ) -> None:
        self._backend, self._terms, self._watch_rate = backend, terms, watch_rate
        shared = len(set(integrators)) == 1
        self._integrator = integrators[0] if shared else backend.setup.scheme.stack(integrators)
        self.longest = max(counts)
        device = backend.setup.equation.device
        is_uneven = min(counts) < self.longest
        ones = [1] * (1 + backend.setup.equation.grid.dimensions)
        self._counts = torch.tensor(counts, device=device).reshape(-1, *ones) if is_uneven else None

    def __call__(self, w: Spectrum, rate: Tensor, first: int, last: int) -> tuple[Spectrum, Tensor]:
        """Take the steps from number `first` up to, and without, number `last`."""
        velocity, tendency = self._backend.velocity_and_scalar, self._backend.explicit_tendency
        setup, terms = self._backend.setup, self._terms
        for i in range(first, last):
            fields = velocity(w, terms)
            if self._watch_rate:
                rate = torch.maximum(rate, setup.equation.advection_rate(fields, terms))
            after = self._integrator.step(
                w, tendency(w, fields, terms), lambda a: tendency(a, velocity(a, terms), terms)
            )  # fmt: skip
            if setup.plates:  # after every step: the part that is even may grow faster than the flow
                after = setup.equation.odd_part(after)
            w = after if self._counts is None else torch.where(self._counts > i, after, w)
        return w, rate
