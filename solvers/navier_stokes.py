"""The incompressible Navier–Stokes equations in two dimensions, pseudo-spectral, in vorticity form: a Stepper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import Inputs, Kicks, State, Vector
from solvers.backends import AUTO, StepSetup
from solvers.equation import TransportedScalar, VorticityEquation
from solvers.etdrk import INTEGRATORS
from solvers.fields import VORTICITY, StateSpec
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


@final
class NavierStokes2D(Stepper[SpectralCarry]):
    r"""A pseudo-spectral solver of the two-dimensional Navier–Stokes equations on a periodic rectangle.

    .. math:: \partial_t \omega + u \cdot \nabla \omega = \nu \nabla^2 \omega - \mu \omega + f

    for the vorticity :math:`\omega = \partial_x v - \partial_y u`, and the terms that `solvers.equation` adds for a
    transported scalar. The linear terms are integrated exactly, by exponential time differencing (see
    `solvers.etdrk`). Called on a state of shape (batch, component, y, x), vorticity and then the scalar if there is
    one, the solver returns the state one `interval` later. Modes beyond the retained ones are dropped. The solution is
    differentiable with respect to state and inputs. A state that is not finite stays as it is.

    Parameters
    ----------
    grid : Grid
        The periodic grid.
    viscosity : float
        Kinematic viscosity ν ≥ 0, in m²/s; as all numbers here, in any consistent units.
    interval : float
        Time between two stored states, in s.
    dt : float, optional
        The inner time step, which must divide `interval`, or the time between two kicks. By default each trajectory
        has the longest step that divides it and keeps ``Δt · max(|u|/Δx + |v|/Δy)`` below the bound of the scheme,
        planned once an interval. A trajectory that outgrows the bound within the interval is computed again from the
        interval's beginning with halved steps, the others are not: none depends on its neighbours in the batch.
    drag : float
        Linear drag μ ≥ 0, in 1/s.
    forcing : Tensor, optional
        The curl f of the body force at the cell centres, shape (y, x), in 1/s²: the default of the input ``forcing``.
    scalar : TransportedScalar, optional
        A scalar beside the vorticity, with its diffusivity, mean gradient and gravity.
    mean_velocity : tuple of float, optional
        A uniform velocity (x, y) that advects everything, in m/s.
    stochastic_forcing : StochasticForcing, optional
        Random forcing, white in time; its seeds are given to `start`.
    plates : bool
        Whether the box is a layer between free-slip plates at y = 0 and half its height, together with its mirror
        image: all fields are kept odd about the plates.
    varying : sequence of str
        Which of ``viscosity``, ``drag`` and ``diffusivity`` are inputs, one value a trajectory; the numbers given here
        are then defaults. Forcing, gravity, mean gradient and mean velocity are inputs wherever they are given.
    modes : tuple of int, optional
        Largest retained mode numbers (my, mx); by default all that the two-thirds rule allows.
    order : int
        Order of the time integration: 4 (ETDRK4) or 2 (ETDRK2).
    checkpoint_every : int, optional
        With gradients, keep only every so many inner steps in memory and compute the others again.
    backend : str
        What computes the inner steps, all to the same numbers up to rounding: ``"torch"``, PyTorch operations one by
        one; ``"native"``, C++ for a CPU, compiled when it is first needed, about 3 to 8 times as fast, and replaced by
        PyTorch operations where gradients are wanted; ``"compile"``, `torch.compile`; ``"graph"``, CUDA graphs, with a
        fixed `dt`; ``"auto"``, native on a CPU with a C++ compiler and PyTorch operations elsewhere.
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
        If a number is out of range, `dt` does not divide `interval`, a back end is not available, or (at `start` and
        `advance`) if the flow needs more than 100,000 inner steps an interval, or outgrows them.

    Examples
    --------
    Taylor–Green vortices decay as exp(−2νt) and do not move.

    >>> import torch
    >>> from solvers import Grid, NavierStokes2D
    >>> grid = Grid.square(16)
    >>> y, x = grid.coordinates()
    >>> vorticity = (2 * torch.cos(x)[None, :] * torch.cos(y)[:, None])[None, None]
    >>> solver = NavierStokes2D(grid, viscosity=0.1, interval=1.0, dtype=torch.float64, backend="torch")
    >>> torch.allclose(solver(vorticity), vorticity * torch.exp(torch.tensor(-0.2)), rtol=1e-6)
    True
    """

    def __init__(
        self,
        grid: Grid,
        *,
        viscosity: float,
        interval: float,
        dt: float | None = None,
        drag: float = 0.0,
        forcing: Float[Tensor, "y x"] | None = None,
        scalar: TransportedScalar | None = None,
        mean_velocity: Vector | None = None,
        stochastic_forcing: StochasticForcing | None = None,
        plates: bool = False,
        varying: Sequence[str] = (),
        modes: tuple[int, ...] | None = None,
        order: int = 4,
        checkpoint_every: int | None = None,
        backend: str = AUTO,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        coefficients = {"viscosity": viscosity, "drag": drag} | ({"diffusivity": scalar.diffusivity} if scalar else {})
        check_coefficients(coefficients, varying)
        require_positive(interval=interval)
        if order not in INTEGRATORS:
            raise ValueError(f"order must be one of {sorted(INTEGRATORS)} (got {order})")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be float32 or float64 (got {dtype})")
        if forcing is not None and tuple(forcing.shape) != grid.n:
            raise ValueError(f"forcing must be of shape {grid.n} (got {tuple(forcing.shape)})")
        if modes is not None and not all(1 <= m <= most for m, most in zip(modes, grid.max_modes, strict=True)):
            raise ValueError(f"modes must be from 1 to {grid.max_modes} on this grid (got {modes})")
        if checkpoint_every is not None and checkpoint_every < 1:
            raise ValueError(f"checkpoint_every must be at least 1 (got {checkpoint_every})")
        self.grid, self.viscosity, self.drag, self.scalar = grid, float(viscosity), float(drag), scalar
        self.dt, self.dtype, self.device = dt, dtype, torch.device(device or "cpu")
        self.scheme, self.stochastic_forcing = INTEGRATORS[order], stochastic_forcing
        parts = stochastic_forcing.kicks_per_interval(interval) if stochastic_forcing else 1
        step_control = StepSizeController.from_step(interval, parts, self.scheme.cfl, dt)
        self._equation = VorticityEquation(grid, modes or grid.max_modes, scalar is not None, dtype, self.device)
        setup = StepSetup(self._equation, self.scheme, plates, checkpoint_every)
        self.step_control, self._interval_solver = step_control, IntervalSolver(setup, step_control, backend)
        defaults = default_inputs(coefficients, forcing, scalar, mean_velocity)
        check_defaults(defaults)
        self._defaults = {
            name: default.to(self.device, dtype) if name == "forcing" else default.to(self._equation.double_device)
            for name, default in defaults.items()
        }
        state = (VORTICITY,) if scalar is None else (VORTICITY, scalar.field)
        fields = tuple(replace(f, wall=-1) if plates else f for f in state)
        self.spec = StateSpec(grid, fields, float(interval), input_fields(defaults, varying))
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
    def equation(self) -> str:
        """The equation that is solved, as ASCII text."""
        forcing = " + f" if "forcing" in self._defaults else ""
        noise = " + white noise" if self.stochastic_forcing else ""
        buoyancy = " - curl(g theta)" if "gravity" in self._defaults else ""
        gradient = " - u.G" if "mean_gradient" in self._defaults else ""
        scalar = f"; d(theta)/dt + u.grad(theta) = kappa laplacian(theta){gradient}" if self.scalar else ""
        return f"d(omega)/dt + u.grad(omega) = nu laplacian(omega) - mu omega{forcing}{noise}{buoyancy}{scalar}"

    @property
    def forcing(self) -> Float[Tensor, "y x"] | None:
        """The forcing f as it was given, shape (y, x); None if the flow is unforced."""
        return self._defaults["forcing"][0, 0] if "forcing" in self._defaults else None

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> SpectralCarry:
        """Begin at a state.

        Parameters
        ----------
        state : Tensor
            Shape (batch, component, y, x): vorticity and then the scalar if there is one.
        inputs : mapping of str to Tensor, optional
            Values that replace the solver's own, one a trajectory: forcings (batch, 1, y, x), vectors (batch, 2, 1, 1),
            numbers (batch, 1, 1, 1).
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
        spectrum = self._equation.to_spectrum(state)
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
        added = self._equation.to_spectrum(correction)
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
            Vorticity, and then the scalar if there is one, shape (batch, component, y, x).
        """
        return self._equation.to_field(carry.spectrum)

    def _kicks(self, carry: SpectralCarry) -> Kicks | None:
        if self.stochastic_forcing is None:
            return None
        kicks = self.stochastic_forcing.kicks(self.grid, carry.seeds, carry.intervals_done, self.spec.interval)
        kept = kicks[..., : self._equation.columns].to(self._equation.complex_dtype)
        return kept.to(self.device, non_blocking=True)
