"""The incompressible Navier–Stokes equations in two dimensions, pseudo-spectral, in vorticity form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from solvers.diagnostics import velocity_symbol
from solvers.etdrk import INTEGRATORS, Integrator
from solvers.fields import FORCING, VORTICITY, StateSpec
from solvers.grid import Grid
from solvers.stepper import Inputs, State, Stepper

Spectrum = Complex[Tensor, "batch 1 ky kx"]  # the columns kx ≥ 0 that hold retained modes
Beyond = Complex[Tensor, "batch 1 ky beyond"]
MAX_SUBSTEPS = 100_000
MAX_HALVINGS = 12
CACHE_CELLS = 2**17


@dataclass(frozen=True)
class SpectralCarry:
    """Between two intervals: ω̂ and f̂ (None where unforced) in the columns of the half spectrum that hold retained
    modes; the columns beyond them, which only decay and are driven; and the numbers of inner steps that each trajectory
    takes in the interval to come and took in the one behind it."""

    vorticity: Spectrum
    forcing: Tensor | None
    beyond: Beyond
    drive: Tensor | None
    substeps: tuple[int, ...]
    taken: tuple[int, ...] = ()


@final
class NavierStokes2D(Stepper[SpectralCarry]):
    """∂ω/∂t + u·∇ω = ν∇²ω − μω + f on a periodic rectangle, with ω = ∂v/∂x − ∂u/∂y, ∇²ψ = −ω, u = (∂ψ/∂y, −∂ψ/∂x).

    Advection is the four-transform flux form −u·∇ω = ∂x∂y(u² − v²) − (∂xx − ∂yy)(uv), dealiased by the two-thirds
    rule; ν and μ are exact through ETDRK (see `solvers.etdrk`). Called on a state (batch, 1, y, x) it gives the state
    one `interval` later. Differentiable with respect to state and forcing.

    Args:
        viscosity: ν ≥ 0 [length²/time].
        interval: time between two stored states.
        dt: the inner time step, which must divide `interval`; None: for each trajectory the longest that divides it
            and keeps Δt · max(|u|/Δx + |v|/Δy) below the scheme's bound, looked at once an interval. A trajectory
            that outgrows its bound within the interval is done again from the interval's start with halved steps, so
            none depends on its neighbours in the batch.
        drag: μ ≥ 0 [1/time].
        forcing: f, a pseudoscalar (y, x), the default of the input `forcing`; None: unforced.
        order: 4 (ETDRK4) or 2 (ETDRK2).

    Raises:
        ValueError: for values out of range, a `dt` that does not divide `interval`, or a flow that would need more
            than 100,000 inner steps an interval, or outgrows them. A state that is not finite stays as it is.
    """

    equation = "d(omega)/dt + u.grad(omega) = nu laplacian(omega) - mu omega + f"

    def __init__(
        self,
        grid: Grid,
        *,
        viscosity: float,
        interval: float,
        dt: float | None = None,
        drag: float = 0.0,
        forcing: Float[Tensor, "y x"] | None = None,
        order: int = 4,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        for name, value in (("viscosity", viscosity), ("drag", drag)):
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} must be finite and at least 0 (got {value})")
        if not math.isfinite(interval) or interval <= 0:
            raise ValueError(f"interval must be positive and finite (got {interval})")
        if order not in INTEGRATORS:
            raise ValueError(f"order must be one of {sorted(INTEGRATORS)} (got {order})")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be float32 or float64 (got {dtype})")
        self.fixed_substeps = None if dt is None else _divisions(interval, dt)
        self.grid, self.viscosity, self.drag = grid, float(viscosity), float(drag)
        self.dt, self.dtype, self.device = dt, dtype, torch.device(device or "cpu")
        self.scheme = INTEGRATORS[order]
        self.spec = StateSpec(grid, (VORTICITY,), float(interval), (FORCING,) if forcing is not None else ())
        self.forcing = None if forcing is None else forcing.to(self.device, dtype)
        if self.forcing is not None and tuple(self.forcing.shape) != grid.n:
            raise ValueError(f"forcing must be {grid.n}; got {tuple(self.forcing.shape)}")

        ky, kx = grid.wavenumbers()
        linear = -self.viscosity * (ky**2 + kx**2) - self.drag
        # A third of the columns hold no retained mode: nothing is transformed or multiplied there within an interval.
        self._columns = (grid.n[1] - 1) // 3 + 1
        low, beyond, keep = slice(self._columns), slice(self._columns, None), grid.retained()
        self._complex = torch.complex128 if dtype == torch.float64 else torch.complex64
        self._linear = linear[:, low]
        advection = torch.stack([-kx * ky, kx**2 - ky**2]) * keep
        self._advection = advection[..., low].to(self.device, self._complex)
        self._velocity = (velocity_symbol(grid) * keep)[..., low].to(self.device, self._complex)
        rate = linear[:, beyond]
        self._decay_beyond = torch.exp(rate * interval).to(self.device, self._complex)
        driven = torch.where(rate == 0, interval, torch.expm1(rate * interval) / rate.where(rate != 0, 1.0))
        self._drive_beyond = driven.to(self.device, self._complex)
        self._integrators: dict[tuple[int, ...], Integrator] = {}

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> SpectralCarry:
        """Transform `state` once; `inputs["forcing"]` (batch, 1, y, x) replaces the solver's own forcing."""
        given = dict(inputs or {})
        if self.forcing is not None and "forcing" not in given:
            given["forcing"] = self.forcing.expand(len(state), 1, *self.grid.n)
        self.spec.check(state, given)
        vorticity, beyond = self._split(torch.fft.rfft2(state.to(self.device, self.dtype)))
        forcing = drive = None
        if self.spec.inputs:
            forcing, drive = self._split(torch.fft.rfft2(given["forcing"].to(self.device, self.dtype)))
            drive = self._drive_beyond * drive
        return SpectralCarry(vorticity, forcing, beyond, drive, self._plan(vorticity))

    def advance(self, carry: SpectralCarry) -> SpectralCarry:
        """One stored interval; with `dt=None` the host reads the device once."""
        beyond = self._decay_beyond * carry.beyond
        beyond = beyond if carry.drive is None else beyond + carry.drive
        if self.fixed_substeps:
            vorticity, _ = self._integrate(carry.vorticity, carry.forcing, carry.substeps, watch=False)
            return SpectralCarry(vorticity, carry.forcing, beyond, carry.drive, carry.substeps, carry.substeps)
        vorticity, substeps = carry.vorticity, carry.substeps
        pending = [True] * len(substeps)
        for halvings in range(MAX_HALVINGS + 1):
            taken = substeps
            attempt, rate = self._integrate(carry.vorticity, carry.forcing, taken, watch=True)
            if all(pending):
                vorticity = attempt
            else:
                again = torch.tensor(pending, device=self.device)[:, None, None, None]
                vorticity = torch.where(again, attempt, vorticity)
            seen, final = torch.stack([rate, self._rate(vorticity)]).tolist()
            pending = [not self._kept_bound(m, rates) for m, *rates in zip(taken, seen, final, strict=True)]
            if not any(pending):
                break
            if halvings == MAX_HALVINGS:
                raise ValueError(
                    f"the flow outgrows its inner steps even after {halvings} halvings, to {max(taken)} an interval: "
                    "shorten the interval, lower the speeds or the forcing"
                )
            substeps = tuple(_bounded(2 * m if p else m) for m, p in zip(taken, pending, strict=True))
        return SpectralCarry(vorticity, carry.forcing, beyond, carry.drive, self._substeps(final), taken)

    def state(self, carry: SpectralCarry) -> State:
        """ω (batch, 1, y, x)."""
        return torch.fft.irfft2(torch.cat([carry.vorticity, carry.beyond], dim=-1), s=self.grid.n)

    def _split(self, spectrum: Complex[Tensor, "batch 1 ky half"]) -> tuple[Spectrum, Beyond]:
        return spectrum[..., : self._columns], spectrum[..., self._columns :]

    def _integrate(self, w: Spectrum, forcing: Tensor | None, substeps: tuple[int, ...], watch: bool):
        """The interval in substeps[b] inner steps; with `watch` also the largest |u|/Δx + |v|/Δy that was met.

        On a CPU a few trajectories at a time, so many that their fields stay in the cache.
        """
        size = max(1, CACHE_CELLS // math.prod(self.grid.n)) if self.device.type == "cpu" else len(w)
        if len(w) <= size:
            return self._integrate_together(w, forcing, substeps, watch)
        cuts = [slice(i, i + size) for i in range(0, len(w), size)]
        parts = [
            self._integrate_together(w[cut], None if forcing is None else forcing[cut], substeps[cut], watch)
            for cut in cuts
        ]
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    def _integrate_together(self, w: Spectrum, forcing: Tensor | None, substeps: tuple[int, ...], watch: bool):
        integrator = self._integrator(substeps)
        uneven = min(substeps) < max(substeps)
        rate = torch.zeros(len(substeps), dtype=self.dtype, device=self.device)

        def tendency(w: Tensor) -> Tensor:
            return self._tendency(self._velocities(w), forcing)

        for i in range(max(substeps)):
            uv = self._velocities(w)
            if watch:
                rate = torch.maximum(rate, self._rate_of(uv))
            following = integrator.step(w, self._tendency(uv, forcing), tendency)
            if uneven:
                active = torch.tensor([i < m for m in substeps], device=self.device)[:, None, None, None]
                following = torch.where(active, following, w)
            w = following
        return w, rate

    def _velocities(self, w: Spectrum) -> Float[Tensor, "batch 2 y x"]:
        # Along y only where there is something; along x `irfft` fills the missing columns with zeros.
        return torch.fft.irfft(torch.fft.ifft(self._velocity * w, dim=-2), n=self.grid.n[1])

    def _tendency(self, uv: Float[Tensor, "batch 2 y x"], forcing: Tensor | None) -> Spectrum:
        u, v = uv.unbind(1)
        products = torch.stack([(u + v) * (u - v), u * v], dim=1)
        products = torch.fft.fft(torch.fft.rfft(products)[..., : self._columns], dim=-2)
        first, second = self._advection
        advection = torch.addcmul(first * products[:, :1], second, products[:, 1:])
        return advection if forcing is None else advection + forcing

    def _rate_of(self, uv: Float[Tensor, "batch 2 y x"]) -> Float[Tensor, " batch"]:
        dy, dx = self.grid.spacing
        speed = uv.detach().abs()
        return (speed[:, 0] / dx + speed[:, 1] / dy).amax((-2, -1))

    def _rate(self, w: Spectrum) -> Float[Tensor, " batch"]:
        return self._rate_of(self._velocities(w.detach()))

    def _plan(self, w: Spectrum) -> tuple[int, ...]:
        return (self.fixed_substeps,) * len(w) if self.fixed_substeps else self._substeps(self._rate(w).tolist())

    def _substeps(self, rates: Sequence[float]) -> tuple[int, ...]:
        """Inner steps for one interval at the given advection rates; none where a rate is not finite, nor the state."""
        wanted = (r * self.spec.interval / self.scheme.cfl if math.isfinite(r) else None for r in rates)
        return tuple(0 if w is None else _bounded(max(1, math.ceil(w))) for w in wanted)

    def _kept_bound(self, substeps: int, rates: Sequence[float]) -> bool:
        """Whether the advection rates that were met allow the steps that were taken: planned for the rate at the start,
        a growth of a tenth within the interval is harmless. A step so long that it overflowed is too long as well."""
        limit = 1.1 * self.scheme.cfl * substeps / self.spec.interval
        return substeps == 0 or all(rate <= limit for rate in rates)

    def _integrator(self, substeps: tuple[int, ...]) -> Integrator:
        """The scheme for one number of inner steps a trajectory; equal numbers share one set of coefficients."""
        key = (substeps[0],) if min(substeps) == max(substeps) else substeps
        if key not in self._integrators:
            if len(key) == 1:
                # Kept for good: an interval has few numbers of steps, and each costs a contour integral.
                linear = self._linear[None, None]
                scheme = self.scheme.from_linear(linear, self.spec.interval / max(key[0], 1))
                scheme = scheme.to(self.device, self._complex)
            else:
                for old in [k for k in self._integrators if len(k) > 1]:
                    del self._integrators[old]
                scheme = self.scheme.stack([self._integrator((m,)) for m in key])
            self._integrators[key] = scheme
        return self._integrators[key]


def _divisions(interval: float, dt: float) -> int:
    if not math.isfinite(dt) or dt <= 0:
        raise ValueError(f"dt must be positive and finite (got {dt})")
    count = round(interval / dt) if interval / dt <= MAX_SUBSTEPS else 0
    if count < 1 or not math.isclose(count * dt, interval, rel_tol=1e-9):
        raise ValueError(f"dt must divide the interval {interval} into at most {MAX_SUBSTEPS} steps (got {dt})")
    return count


def _bounded(substeps: int) -> int:
    if substeps > MAX_SUBSTEPS:
        raise ValueError(
            f"the flow would need {substeps} inner steps an interval, more than {MAX_SUBSTEPS}: "
            "shorten the interval, lower the speeds or coarsen the grid"
        )
    return substeps
