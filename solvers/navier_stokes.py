"""What the solvers of the Navier–Stokes equations in two and three dimensions have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import Inputs, Kicks, State, Vector
from solvers.backends import StepSetup
from solvers.equation import Equation, TransportedScalar
from solvers.etdrk import INTEGRATORS
from solvers.fields import FieldSpec, StateSpec, field_in
from solvers.grid import Grid
from solvers.integrator_cache import IntegratorCache
from solvers.interval_solver import IntervalSolver
from solvers.solver_inputs import (
    COEFFICIENTS,
    check_coefficients,
    check_defaults,
    check_given,
    default_inputs,
    input_fields,
)
from solvers.spectral_carry import SpectralCarry
from solvers.step_size import StepSizeController
from solvers.stepper import Stepper
from solvers.stochastic_forcing import StochasticForcing
from solvers.validation import require_positive


class NavierStokes(Stepper[SpectralCarry]):
    """A pseudo-spectral solver of the Navier–Stokes equations on a periodic box, in two or three dimensions.

    `solvers.NavierStokes2D` and `solvers.NavierStokes3D` say which equation they solve, and explain the parameters that
    are common to both.

    Parameters
    ----------
    make_equation : callable
        Makes the equation from the grid, the retained modes, whether there is a scalar, the dtype and the device.
    flow : FieldSpec
        The field that the equation is for, as in two dimensions: vorticity or velocity.
    grid : Grid
        The periodic grid.
    viscosity : float
        Kinematic viscosity ν ≥ 0, in m²/s.
    interval : float
        Time between two stored states, in s.
    dt : float, optional
        The inner time step, which must divide `interval`; by default it follows from a CFL bound.
    drag : float
        Linear drag μ ≥ 0, in 1/s.
    forcing : Tensor, optional
        The curl of the body force, in three dimensions the body force, at the cell centres.
    scalar : TransportedScalar, optional
        A scalar beside the flow.
    mean_velocity : tuple of float, optional
        A uniform velocity that advects everything, in m/s.
    stochastic_forcing : StochasticForcing, optional
        Random forcing, white in time.
    plates : bool
        Whether the box is a layer between free-slip plates, in two dimensions.
    varying : sequence of str
        Which coefficients are inputs, one value a trajectory.
    modes : tuple of int, optional
        Largest retained mode number on each axis.
    order : int
        Order of the time integration, 4 or 2.
    checkpoint_every : int, optional
        With gradients, how many inner steps lie between two that are kept in memory.
    backend : str
        What computes the inner steps.
    dtype : torch.dtype
        Precision, `torch.float32` or `torch.float64`.
    device : torch.device or str, optional
        Where to compute; by default on the CPU.

    Attributes
    ----------
    spec : StateSpec
        Grid, fields, interval and inputs.
    scheme : type of Integrator
        The time integration scheme.
    step_control : StepSizeController
        How many inner steps each trajectory takes.

    Raises
    ------
    ValueError
        As in `solvers.NavierStokes2D`.
    """

    def __init__(
        self,
        make_equation: Callable[[Grid, tuple[int, ...], bool, torch.dtype, torch.device], Equation],
        flow: FieldSpec,
        grid: Grid,
        *,
        viscosity: float,
        interval: float,
        dt: float | None,
        drag: float,
        forcing: Float[Tensor, "*force"] | None,
        scalar: TransportedScalar | None,
        mean_velocity: Vector | None,
        stochastic_forcing: StochasticForcing | None,
        plates: bool,
        varying: Sequence[str],
        modes: tuple[int, ...] | None,
        order: int,
        checkpoint_every: int | None,
        backend: str,
        dtype: torch.dtype,
        device: torch.device | str | None,
    ) -> None:
        coefficients = {"viscosity": viscosity, "drag": drag} | ({"diffusivity": scalar.diffusivity} if scalar else {})
        check_coefficients(coefficients, varying)
        require_positive(interval=interval)
        if order not in INTEGRATORS:
            raise ValueError(f"order must be one of {sorted(INTEGRATORS)} (got {order})")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be float32 or float64 (got {dtype})")
        shape = grid.n if grid.dimensions == 2 else (grid.dimensions, *grid.n)
        if forcing is not None and tuple(forcing.shape) != shape:
            raise ValueError(f"forcing must be of shape {shape} (got {tuple(forcing.shape)})")
        if stochastic_forcing is not None and stochastic_forcing.amplitude.ndim != grid.dimensions:
            raise ValueError(f"stochastic_forcing must be one of {grid.dimensions} dimensions "
                             f"(got {stochastic_forcing.amplitude.ndim})")  # fmt: skip
        if modes is not None and not all(1 <= m <= most for m, most in zip(modes, grid.max_modes, strict=True)):
            raise ValueError(f"modes must be from 1 to {grid.max_modes} on this grid (got {modes})")
        if checkpoint_every is not None and checkpoint_every < 1:
            raise ValueError(f"checkpoint_every must be at least 1 (got {checkpoint_every})")
        self.grid, self.viscosity, self.drag, self.scalar = grid, float(viscosity), float(drag), scalar
        self.dt, self.dtype, self.device = dt, dtype, torch.device(device or "cpu")
        self.scheme, self.stochastic_forcing = INTEGRATORS[order], stochastic_forcing
        parts = stochastic_forcing.kicks_per_interval(interval) if stochastic_forcing else 1
        step_control = StepSizeController.from_step(interval, parts, self.scheme.cfl, dt)
        self._equation = make_equation(grid, modes or grid.max_modes, scalar is not None, dtype, self.device)
        setup = StepSetup(self._equation, self.scheme, plates, checkpoint_every)
        self.step_control, self._interval_solver = step_control, IntervalSolver(setup, step_control, backend)
        defaults = default_inputs(coefficients, forcing, scalar, mean_velocity, grid.dimensions)
        check_defaults(defaults)
        self._defaults = {
            name: default.to(self.device, dtype) if name == "forcing" else default.to(self._equation.double_device)
            for name, default in defaults.items()
        }
        state = (flow,) if scalar is None else (flow, scalar.field)
        fields = tuple(field_in(replace(f, wall=-1) if plates else f, grid.dimensions) for f in state)
        self.spec = StateSpec(grid, fields, float(interval), input_fields(defaults, varying, grid.dimensions))
        self._integrators = IntegratorCache()  # of the solver's own coefficients, for every rollout

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle or a copy holds: the solver with an empty cache."""
        return {**self.__dict__, "_integrators": IntegratorCache()}

    @property
    def backend(self) -> str:
        """Name of the back end that takes the inner steps where no gradients are wanted.

        Asked for the first time, a solver made with ``backend="auto"`` looks for a C++ compiler.
        """
        return self._interval_solver.backend

    @property
    @abstractmethod
    def equation(self) -> str:
        """The equation that is solved, as ASCII text."""

    def _sources_text(self, buoyancy: str) -> str:
        """Return the sources of an equation as text, and the equation of the scalar if there is one."""
        forcing = " + f" if "forcing" in self._defaults else ""
        noise = " + white noise" if self.stochastic_forcing else ""
        buoyancy = buoyancy if "gravity" in self._defaults else ""
        gradient = " - u.G" if "mean_gradient" in self._defaults else ""
        scalar = f"; d(theta)/dt + u.grad(theta) = kappa laplacian(theta){gradient}" if self.scalar else ""
        return f"{forcing}{noise}{buoyancy}{scalar}"

    @property
    def forcing(self) -> Float[Tensor, "*space"] | None:
        """The forcing f as it was given, shape (y, x) or (3, z, y, x); None if the flow is unforced."""
        if "forcing" not in self._defaults:
            return None
        forcing = self._defaults["forcing"][0]
        return forcing[0] if self.grid.dimensions == 2 else forcing

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> SpectralCarry:
        """Begin at a state.

        Parameters
        ----------
        state : Tensor
            Shape (batch, component, y, x): vorticity and then the scalar if there is one. In three dimensions
            (batch, component, z, y, x): velocity, whose divergence is removed, and then the scalar.
        inputs : mapping of str to Tensor, optional
            Values that replace the solver's own, one a trajectory: forcings (batch, 1, y, x), vectors (batch, 2, 1, 1),
            numbers (batch, 1, 1, 1); in three dimensions (batch, 3, z, y, x), (batch, 3, 1, 1, 1), (batch, 1, 1, 1, 1).
        seeds : sequence of int, optional
            Seed of each trajectory's stochastic forcing; 0, 1, 2, … by default.

        Returns
        -------
        SpectralCarry
            The state in Fourier space, ready to `advance`.

        Raises
        ------
        ValueError
            If a shape is wrong, an input is unknown or out of range, or the flow is too fast.
        """
        given, batch = dict(inputs or {}), len(state)
        own = {f.name: self._defaults[f.name].expand(batch, -1, *f.extent(self.grid)) for f in self.spec.inputs}
        self.spec.check(state, own | given)
        check_given({f.name: given[f.name] for f in self.spec.inputs if f.name in given})
        double = {
            name: v.to(self._equation.double_device).double() for name, v in given.items() if name != "forcing"
        }  # fmt: skip
        terms = self._equation.terms(**{**self._defaults, **given, **double})
        if seeds is not None and len(seeds) != batch:
            raise ValueError(f"seeds must be one for each trajectory, {batch} in all (got {len(seeds)})")
        spectrum = self._equation.project(self._equation.to_spectrum(state))
        spectrum = self._equation.odd_part(spectrum) if self._interval_solver.setup.plates else spectrum
        seeds = tuple(range(batch) if seeds is None else seeds) if self.stochastic_forcing else ()
        own_coefficients = not COEFFICIENTS.keys() & given.keys()
        integrators = self._integrators if own_coefficients else IntegratorCache()
        carry = SpectralCarry(spectrum, terms, (), seeds=seeds, integrators=integrators)
        return replace(carry, planned_steps=self._interval_solver.plan(carry, state))

    def advance(self, carry: SpectralCarry) -> SpectralCarry:
        """Advance by one stored interval; with ``dt=None`` the host waits for the device once.

        Parameters
        ----------
        carry : SpectralCarry
            What `start` or `advance` returned.

        Returns
        -------
        SpectralCarry
            The same trajectories one interval later.

        Raises
        ------
        ValueError
            If the flow outgrows its inner steps.
        """
        result, taken, planned = self._interval_solver.integrate(carry, self._kicks(carry))
        return replace(
            carry,
            spectrum=result.spectrum,
            planned_steps=planned,
            steps_taken=taken,
            intervals_done=carry.intervals_done + 1,
            injected=result.injected,
        )

    def correct(self, carry: SpectralCarry, correction: State) -> SpectralCarry:
        """Add a correction to the state of a carry; modes that are not retained are dropped.

        Parameters
        ----------
        carry : SpectralCarry
            What `start` or `advance` returned.
        correction : Tensor
            What to add to the state, shape (batch, component, y, x).

        Returns
        -------
        SpectralCarry
            The same trajectories at the same time, with steps planned for the corrected state.

        Raises
        ------
        ValueError
            If the corrected flow is too fast.
        """
        added = self._equation.project(self._equation.to_spectrum(correction))
        added = self._equation.odd_part(added) if self._interval_solver.setup.plates else added
        corrected = replace(carry, spectrum=carry.spectrum + added)
        return replace(corrected, planned_steps=self._interval_solver.plan(corrected, correction))

    def state(self, carry: SpectralCarry) -> State:
        """Return the state of a carry.

        Parameters
        ----------
        carry : SpectralCarry
            What `start` or `advance` returned.

        Returns
        -------
        Tensor
            Vorticity or velocity, and then the scalar if there is one, shape (batch, component, y, x) or
            (batch, component, z, y, x).
        """
        return self._equation.to_field(carry.spectrum)

    def _kicks(self, carry: SpectralCarry) -> Kicks | None:
        if self.stochastic_forcing is None:
            return None
        drawn = self.stochastic_forcing.coefficients(
            self.grid, carry.seeds, carry.intervals_done, self.spec.interval
        )  # fmt: skip
        return self._equation.place_kicks(drawn)
