"""The integration of a batch over one stored interval: each trajectory with its own steps, by the chosen back end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, final

import torch
from torch import Tensor

from solvers.array_types import Kicks, PerTrajectory, Spectrum, State
from solvers.backends import (
    BACKENDS,
    Backend,
    NativeAdjoint,
    StepSetup,
    TorchBackend,
    check_backend,
    resolve_backend,
    wants_gradients,
    wants_operations,
)
from solvers.equation import EquationTerms
from solvers.etdrk import Integrator
from solvers.integrator_cache import Key
from solvers.interval import IntervalResult, run_interval
from solvers.spectral_carry import SpectralCarry
from solvers.step_size import StepSizeController

MADE_ON_DEMAND = ("backend", "chosen_backend", "torch_backend", "adjoint_backend")  # what a pickle or a copy leaves out


@final
class IntervalSolver:
    """Integrates the trajectories of a carry over a stored interval.

    Parameters
    ----------
    setup : StepSetup
        Equation, scheme and options of the solver.
    control : StepSizeController
        How many inner steps each trajectory takes.
    backend_name : str
        The name of a back end, or ``"auto"``.

    Raises
    ------
    ValueError
        If the back end is unknown or not available.
    """

    def __init__(self, setup: StepSetup, control: StepSizeController, backend_name: str) -> None:
        equation = setup.equation
        check_backend(backend_name, equation.device, control.fixed_steps is not None, equation.grid.dimensions)
        self.setup, self.control, self.backend_name = setup, control, backend_name

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle or a copy holds: neither compiled code nor recordings, which are made again."""
        return {name: value for name, value in self.__dict__.items() if name not in MADE_ON_DEMAND}

    @cached_property
    def backend(self) -> str:
        """Name of the back end; asked for the first time, ``"auto"`` looks for a C++ compiler."""
        return resolve_backend(self.backend_name, self.setup.equation.device, self.setup.equation.grid.dimensions)

    @cached_property
    def chosen_backend(self) -> Backend:
        """The back end that takes the inner steps where no gradients are wanted."""
        return BACKENDS[self.backend](self.setup)

    @cached_property
    def torch_backend(self) -> Backend:
        """The back end for what neither the chosen one nor its adjoint can differentiate."""
        return TorchBackend(self.setup)

    @cached_property
    def adjoint_backend(self) -> Backend:
        """The back end for gradients in reverse mode: in C++ if the chosen one is and its adjoint is there."""
        equation = self.setup.equation
        has_adjoint = not NativeAdjoint.why_unavailable(equation.device, False, equation.grid.dimensions)
        return NativeAdjoint(self.setup) if self.backend == "native" and has_adjoint else self.torch_backend

    def plan(self, carry: SpectralCarry, state: State) -> tuple[int, ...]:
        """Return the inner steps of the first interval.

        Parameters
        ----------
        carry : SpectralCarry
            The trajectories at their start.
        state : Tensor
            The state that they start from, shape (batch, component, y, x) or (batch, component, z, y, x).

        Returns
        -------
        tuple of int
            Inner steps of each trajectory between two kicks.

        Raises
        ------
        ValueError
            If a state is finite but its speeds overflow, or it needs too many steps.
        """
        if self.control.fixed_steps:
            return (self.control.fixed_steps,) * len(state)
        steps = self.control.plan(self._rate(carry, carry.spectrum, carry.terms).tolist())
        if 0 in steps and bool(state[[m == 0 for m in steps]].isfinite().flatten(1).all(1).any()):
            precision = str(self.setup.equation.dtype).removeprefix("torch.")
            raise ValueError(
                f"the flow is too fast for numbers in {precision}: choose units of length and time in which its "
                "numbers are closer to 1"
            )
        return steps

    def integrate(
        self, carry: SpectralCarry, kicks: Kicks | None
    ) -> tuple[IntervalResult, tuple[int, ...], tuple[int, ...]]:
        """Integrate all trajectories over an interval.

        Trajectories that outgrow their CFL bound, and only they, are integrated again with halved steps.

        Parameters
        ----------
        carry : SpectralCarry
            The trajectories at the beginning.
        kicks : Tensor, optional
            The kicks of the interval, from `Equation.place_kicks`.

        Returns
        -------
        result : IntervalResult
            The trajectories at the end.
        taken : tuple of int
            Inner steps of each trajectory between two kicks.
        planned : tuple of int
            Those for the next interval.

        Raises
        ------
        ValueError
            If a trajectory outgrows its steps after all halvings.
        """
        steps, pending = carry.planned_steps, list(range(len(carry.spectrum)))
        if self.control.fixed_steps:
            return self._integrate_some(carry, pending, steps, kicks, watch_rate=False), steps, steps
        rates, result, halvings = [0.0] * len(pending), None, 0
        while True:
            attempt = self._integrate_some(carry, pending, steps, kicks, watch_rate=True)
            result = attempt if result is None else attempt.put_into(result, pending)
            terms = carry.terms.select(self._index(pending, carry))
            met, final = torch.stack([attempt.rate, self._rate(carry, attempt.spectrum, terms)]).tolist()
            for trajectory, rate in zip(pending, final, strict=True):
                rates[trajectory] = rate
            seen = zip(pending, zip(met, final, strict=True), strict=True)
            pending = [i for i, both in seen if not self.control.accepts(steps[i], both)]
            if not pending:
                return result, steps, self.control.plan(rates)
            steps, halvings = self.control.halve(steps, pending, halvings), halvings + 1

    def integrator(self, carry: SpectralCarry, trajectory: int, steps: int) -> Integrator:
        """Return the time integrator of one trajectory; those with the same decay rates and steps share it.

        Parameters
        ----------
        carry : SpectralCarry
            The trajectories.
        trajectory : int
            The position of one.
        steps : int
            Its inner steps between two kicks.

        Returns
        -------
        Integrator
            The scheme with its coefficients, from the carry's cache if it is there.
        """
        row = trajectory if carry.terms.linear.shape[0] > 1 else 0
        make = partial(self._make_integrator, carry.terms.linear[row : row + 1], steps)
        return carry.integrators.get((row, steps), make, room=2 * len(carry.spectrum))

    def _make_integrator(self, linear: Tensor, steps: int) -> Integrator:
        integrator = self.setup.scheme.from_linear(linear, self.control.step_length(steps))
        return integrator.to(self.setup.equation.device, self.setup.equation.complex_dtype)

    def _integrators(self, carry: SpectralCarry, keys: Sequence[Key]) -> dict[Key, Integrator]:
        """Return integrators by row and steps; those through which gradients pass are made anew, many at once."""
        linear = carry.terms.linear
        if not linear.requires_grad:
            return {key: self.integrator(carry, *key) for key in keys}
        made: dict[Key, Integrator] = {}
        for count in dict.fromkeys(steps for _, steps in keys):
            same = [key for key in keys if key[1] == count]
            rows = linear[self._index([row for row, _ in same], carry)]
            made |= zip(same, self._make_integrator(rows, count).split(), strict=True)
        return made

    def _integrate_some(
        self, carry: SpectralCarry, which: Sequence[int], steps: Sequence[int], kicks: Kicks | None, watch_rate: bool
    ) -> IntervalResult:
        """Integrate the trajectories `which` over the interval, in groups as large as the back end wants."""
        backend, separate = self._backend_for(carry), carry.terms.linear.shape[0] > 1
        size, results = backend.group_size(len(which)), []
        for first in range(0, len(which), size):
            group = list(which[first : first + size])
            index = self._index(group, carry)
            keys = [(i if separate else 0, steps[i]) for i in group]
            integrators = self._integrators(carry, list(dict.fromkeys(keys)))
            advance = partial(
                backend.advance,
                terms=carry.terms.select(index),
                integrators=[integrators[key] for key in keys],
                counts=[steps[i] for i in group],
                watch_rate=watch_rate,
            )
            own = None if kicks is None else kicks[index]
            results.append(run_interval(self.setup.equation, carry.spectrum[index], advance, self.control.parts, own))
        return IntervalResult.concatenate(results)

    def _index(self, which: Sequence[int], carry: SpectralCarry) -> Tensor | slice:
        """Return trajectories as an index along the batch; for all of them one that copies nothing to the device."""
        if len(which) == carry.spectrum.shape[0]:
            return slice(None)
        return torch.tensor(which, device=self.setup.equation.device)

    def _backend_for(self, carry: SpectralCarry) -> Backend:
        """Return the back end that was chosen, or one that gives the gradients wanted."""
        if BACKENDS[self.backend].is_differentiable:
            return self.chosen_backend
        terms = carry.terms
        followed = (carry.spectrum, terms.linear, terms.forcing, terms.coupling, terms.mean_velocity)
        if wants_operations():
            return self.torch_backend
        return self.adjoint_backend if wants_gradients(*followed) else self.chosen_backend

    def _rate(self, carry: SpectralCarry, w: Spectrum, terms: EquationTerms) -> PerTrajectory:
        """Return the advection rate of spectra of trajectories of a carry, without gradients."""
        w = w.detach()
        rate = self._backend_for(carry).rate(w, terms)
        return (
            rate
            if rate is not None
            else self.setup.equation.advection_rate(self.setup.equation.velocity_and_scalar(w, terms), terms)
        )
