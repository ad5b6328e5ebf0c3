"""The incompressible Navier–Stokes equations in two dimensions, pseudo-spectral, in vorticity form: a Stepper."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from solvers import fields as known
from solvers.compiled import say_slow, unavailable
from solvers.equation import Equation, Pair, Scalar, Spectrum, Terms
from solvers.etdrk import INTEGRATORS, Integrator
from solvers.fields import VORTICITY, StateSpec
from solvers.graphs import Graphed
from solvers.grid import Grid
from solvers.native import Native, differentiated
from solvers.stepper import Inputs, State, Stepper
from solvers.stirring import Stirring

KERNELS = ("auto", "torch", "native", "compile", "graph")
MAX_SUBSTEPS = 100_000
MAX_HALVINGS = 12
CACHE_CELLS = 2**17
SCHEME_BYTES = 2**24  # of coefficients that a cache of schemes holds: to make one again costs less than a step or two
PARAMETERS = {f.name: f for f in (known.VISCOSITY, known.DRAG, known.DIFFUSIVITY)}
MADE_ON_DEMAND = ("kernel", "_native", "_fields", "_explicit")
TERMS = {f.name: f for f in (known.FORCING, known.GRAVITY, known.MEAN_GRADIENT, known.MEAN_VELOCITY)}


@dataclass(frozen=True)
class SpectralCarry:
    """Between two intervals: the spectrum of the state in the columns that hold retained modes, what each trajectory's
    equation is made of, the intervals done, the seeds of its noise; the inner steps that each trajectory takes between
    two kicks in the interval to come, and took in the one behind it, where `injected` (batch, 2) is the energy and
    enstrophy that the kicks fed. `coefficients` caches the schemes that were used last, by trajectory (0 where all
    share them) and number of inner steps; a pickle or a copy of the carry leaves them out, to be made again."""

    spectrum: Spectrum
    terms: Terms
    substeps: tuple[int, ...]
    taken: tuple[int, ...] = ()
    clock: int = 0
    seeds: tuple[int, ...] = ()
    injected: Tensor | None = None
    coefficients: dict[tuple[int, int], Integrator] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "coefficients": {}}


@dataclass(frozen=True, eq=False)
class Recording:
    """A CUDA graph of an interval's inner steps; it reads the terms and the coefficients where they lie in memory, so
    it is recorded again for others."""

    terms: Terms
    schemes: tuple[Integrator, ...]
    integrator: Integrator
    graph: Callable[[Tensor], Tensor]


@final
class NavierStokes2D(Stepper[SpectralCarry]):
    """∂ω/∂t + u·∇ω = ν∇²ω − μω + f on a periodic rectangle, and what `solvers.equation` adds to it.

    Linear decay is exact through ETDRK (see `solvers.etdrk`). Called on a state (batch, component, y, x), vorticity
    and then the scalar if there is one, it gives the state one `interval` later. Modes beyond the retained ones are
    dropped. Differentiable with respect to state and inputs.

    Args:
        viscosity: ν ≥ 0 [length²/time].
        interval: time between two stored states.
        dt: the inner time step, which must divide `interval` (or the time between two kicks); None: for each trajectory
            the longest that divides it and keeps Δt · max(|u|/Δx + |v|/Δy) below the scheme's bound, looked at once an
            interval. The trajectories that outgrow their bound within the interval, and only they, are done again from
            the interval's start with halved steps, so none depends on its neighbours in the batch.
        drag: μ ≥ 0 [1/time].
        forcing: f, a pseudoscalar (y, x), the default of the input `forcing`; None: unforced.
        scalar: what is carried beside the vorticity, with its diffusivity, mean gradient and gravity.
        mean_velocity: U as (x, y); None: 0.
        stirring: random forcing; the seeds come with `start`.
        plates: the box is a layer between free-slip plates at y = 0 and half its height, and its mirror image: all
            fields are kept odd about the plates.
        varying: which of viscosity, drag and diffusivity are inputs, one value a trajectory, the given ones their
            defaults. Forcing, gravity, mean gradient and mean velocity are inputs wherever they are given.
        modes: retained mode numbers (my, mx); None: all that the two-thirds rule allows.
        order: 4 (ETDRK4) or 2 (ETDRK2).
        checkpoint_every: with gradients, keep only every so many inner steps in memory and compute the others again.
        kernel: what does the inner steps, all to the same numbers: `torch`, its operations one by one; `native`, C++
            for a CPU, compiled when it is first needed (`solvers.compiled`), some 3 to 8 times as fast, and left aside
            where gradients are wanted; `compile`, through `torch.compile`; `graph`, CUDA graphs, with a fixed `dt`;
            `auto`, native where that can be had and torch elsewhere.

    Raises:
        ValueError: for values out of range, a `dt` that does not divide `interval`, or a flow that would need more
            than 100,000 inner steps an interval, or outgrows them. A state that is not finite stays as it is.
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
        scalar: Scalar | None = None,
        mean_velocity: Pair | None = None,
        stirring: Stirring | None = None,
        plates: bool = False,
        varying: Sequence[str] = (),
        modes: tuple[int, int] | None = None,
        order: int = 4,
        checkpoint_every: int | None = None,
        kernel: str = "auto",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        numbers = {"viscosity": viscosity, "drag": drag} | ({"diffusivity": scalar.diffusivity} if scalar else {})
        for name, value in numbers.items():
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} must be finite and at least 0 (got {value})")
        if not math.isfinite(interval) or interval <= 0:
            raise ValueError(f"interval must be positive and finite (got {interval})")
        if order not in INTEGRATORS:
            raise ValueError(f"order must be one of {sorted(INTEGRATORS)} (got {order})")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be float32 or float64 (got {dtype})")
        if forcing is not None and tuple(forcing.shape) != grid.n:
            raise ValueError(f"forcing must be {grid.n}; got {tuple(forcing.shape)}")
        if modes is not None and not all(1 <= m <= most for m, most in zip(modes, grid.most_modes, strict=True)):
            raise ValueError(f"modes must be from 1 to {grid.most_modes} on this grid (got {modes})")
        if unknown := [name for name in varying if name not in numbers]:
            raise ValueError(f"varying: {unknown[0]!r} is none of {', '.join(numbers)}")
        if checkpoint_every is not None and checkpoint_every < 1:
            raise ValueError(f"checkpoint_every must be at least 1 (got {checkpoint_every})")
        self.grid, self.viscosity, self.drag, self.scalar = grid, float(viscosity), float(drag), scalar
        self.dt, self.dtype, self.device = dt, dtype, torch.device(device or "cpu")
        self.scheme, self.stirring, self.checkpoint_every = INTEGRATORS[order], stirring, checkpoint_every
        self.slots = stirring.slots(interval) if stirring else 1
        self.fixed_substeps = None if dt is None else _divisions(interval, self.slots, dt)
        self._kernel = _checked_kernel(kernel, self.device, dt)
        self._equation = Equation(grid, modes or grid.most_modes, scalar is not None, dtype, self.device)
        self._graph: Recording | None = None
        defaults = inputs_for_one(numbers, forcing, scalar, mean_velocity)
        for name, default in defaults.items():
            if name != "forcing" and not bool(default.isfinite().all()):
                raise ValueError(f"{name} must be finite (got {default.flatten().tolist()})")
        self._defaults = {
            name: default.to(self.device, dtype) if name == "forcing" else default.to(self._equation.exact)
            for name, default in defaults.items()
        }
        state = (VORTICITY,) if scalar is None else (VORTICITY, scalar.field)
        inputs = [f for name, f in TERMS.items() if name in self._defaults]
        inputs += [f for name, f in PARAMETERS.items() if name in varying]
        fields = tuple(replace(f, wall=-1) if plates else f for f in state)
        self.spec = StateSpec(grid, fields, float(interval), tuple(inputs))
        self._coefficients: dict[tuple[int, int], Integrator] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle or a copy holds: the solver without what it makes again when that is needed."""
        kept = {name: value for name, value in self.__dict__.items() if name not in MADE_ON_DEMAND}
        return kept | {"_coefficients": {}, "_graph": None}

    @cached_property
    def kernel(self) -> str:
        """What does the inner steps where no gradients are wanted; `auto` looks for a compiler when first asked."""
        if self._kernel != "auto":
            return self._kernel
        reason = unavailable(self.device)
        if reason and self.device.type == "cpu":
            say_slow(reason)
        return "torch" if reason else "native"

    @cached_property
    def _native(self) -> Native:
        return Native(self._equation, self.scheme.order, bool(self.spec.fields[0].wall))

    @cached_property
    def _fields(self) -> Callable[[Spectrum, Terms], Tensor]:
        return torch.compile(self._equation.fields) if self._kernel == "compile" else self._equation.fields

    @cached_property
    def _explicit(self) -> Callable[[Spectrum, Tensor, Terms], Spectrum]:
        return torch.compile(self._equation.explicit) if self._kernel == "compile" else self._equation.explicit

    @property
    def equation(self) -> str:
        """What is solved, in ASCII."""
        forcing = " + f" if "forcing" in self._defaults else ""
        stirring = " + white noise" if self.stirring else ""
        buoyancy = " - curl(g theta)" if "gravity" in self._defaults else ""
        gradient = " - u.G" if "mean_gradient" in self._defaults else ""
        scalar = f"; d(theta)/dt + u.grad(theta) = kappa laplacian(theta){gradient}" if self.scalar else ""
        return f"d(omega)/dt + u.grad(omega) = nu laplacian(omega) - mu omega{forcing}{stirring}{buoyancy}{scalar}"

    @property
    def forcing(self) -> Float[Tensor, "y x"] | None:
        """f as given; None where unforced."""
        return self._defaults["forcing"][0, 0] if "forcing" in self._defaults else None

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> SpectralCarry:
        """Transform `state` once. `inputs` replace the solver's own values by one a trajectory; `seeds` are those of
        the stirring, 0, 1, 2, … where none are given."""
        given, batch = dict(inputs or {}), len(state)
        own = {f.name: self._defaults[f.name].expand(batch, -1, *f.extent(self.grid)) for f in self.spec.inputs}
        self.spec.check(state, own | given)
        for name in (f.name for f in self.spec.inputs if f.uniform and f.name in given):
            if not bool(given[name].isfinite().all()):
                raise ValueError(f"input {name!r} must be finite for every trajectory")
            if name in PARAMETERS and not bool((given[name] >= 0).all()):
                raise ValueError(f"input {name!r} must be at least 0 for every trajectory")
        double = {name: v.to(self._equation.exact).double() for name, v in given.items() if name != "forcing"}
        terms = self._equation.terms(**{**self._defaults, **given, **double})
        if seeds is not None and len(seeds) != batch:
            raise ValueError(f"seeds must be one a trajectory, {batch} (got {len(seeds)})")
        spectrum = self._bounded_by_plates(self._equation.spectrum(state))
        seeds = tuple(range(batch) if seeds is None else seeds) if self.stirring else ()
        carry = SpectralCarry(spectrum, terms, (), seeds=seeds)
        if not PARAMETERS.keys() & given.keys():
            carry = replace(carry, coefficients=self._coefficients)  # of the solver's own numbers, for every rollout
        substeps = self._plan(carry)
        if 0 in substeps and bool(state[[m == 0 for m in substeps]].isfinite().all((1, 2, 3)).any()):
            raise ValueError(
                f"the flow is too fast for numbers in {str(self.dtype).removeprefix('torch.')}: choose units of length "
                "and time in which its numbers are closer to 1"
            )
        return replace(carry, substeps=substeps)

    def advance(self, carry: SpectralCarry) -> SpectralCarry:
        """One stored interval; with `dt=None` the host reads the device once."""
        batch = len(carry.spectrum)
        kicks = self._kicks(carry)
        if self.fixed_substeps:
            spectrum, _, injected = self._integrate(carry, range(batch), carry.substeps, kicks, watch=False)
            return replace(carry, spectrum=spectrum, taken=carry.substeps, clock=carry.clock + 1, injected=injected)
        spectrum, substeps = carry.spectrum, carry.substeps
        injected = torch.zeros(batch, 2, dtype=torch.float64, device=self._equation.exact)
        pending, rates = list(range(batch)), [0.0] * batch
        for halvings in range(MAX_HALVINGS + 1):
            attempt, met, fed = self._integrate(carry, pending, substeps, kicks, watch=True)
            which = torch.tensor(pending, device=self.device)
            spectrum = attempt if len(pending) == batch else spectrum.index_copy(0, which, attempt)
            injected = fed if len(pending) == batch else injected.index_copy(0, which.to(fed.device), fed)
            seen, final = torch.stack([met, self._rate(attempt, carry.terms.of(which))]).tolist()
            for trajectory, rate in zip(pending, final, strict=True):
                rates[trajectory] = rate
            kept = [self._kept_bound(substeps[i], both) for i, *both in zip(pending, seen, final, strict=True)]
            pending = [i for i, good in zip(pending, kept, strict=True) if not good]
            if not pending:
                break
            if halvings == MAX_HALVINGS:
                raise ValueError(
                    f"the flow outgrows its inner steps even after {halvings} halvings, to {max(substeps)} an "
                    "interval: shorten the interval, lower the speeds or the forcing, or choose units of length and "
                    "time in which its numbers are closer to 1"
                )
            substeps = tuple(_bounded(2 * m if i in pending else m) for i, m in enumerate(substeps))
        return replace(carry, spectrum=spectrum, substeps=self._substeps(rates), taken=substeps,
                       clock=carry.clock + 1, injected=injected)  # fmt: skip

    def state(self, carry: SpectralCarry) -> State:
        """ω, and θ where there is one: (batch, component, y, x)."""
        return self._equation.field(carry.spectrum)

    def _bounded_by_plates(self, spectrum: Spectrum) -> Spectrum:
        return self._equation.odd(spectrum) if self.spec.fields[0].wall else spectrum

    def _kicks(self, carry: SpectralCarry) -> Tensor | None:
        if self.stirring is None:
            return None
        kicks = self.stirring.kicks(self.grid, carry.seeds, carry.clock, self.spec.interval)
        return kicks[..., : self._equation.columns].to(self._equation.complex).to(self.device, non_blocking=True)

    # -- the inner steps

    def _integrate(
        self, carry: SpectralCarry, which: Sequence[int], substeps: Sequence[int], kicks: Tensor | None, watch: bool
    ) -> tuple[Spectrum, Tensor, Tensor]:
        """The interval of the trajectories `which`, substeps[b] inner steps between two kicks; with `watch` also the
        largest |u|/Δx + |v|/Δy that was met; and what the kicks fed.

        On a CPU torch takes a few trajectories at a time, so many that their fields stay in the cache.
        """
        terms, size = carry.terms, len(which)
        native = self.kernel == "native" and not differentiated(
            carry.spectrum, terms.linear, terms.forcing, terms.coupling, terms.mean_velocity
        )
        if self.device.type == "cpu" and not native:
            size = max(1, CACHE_CELLS // math.prod(self.grid.n))
        parts = []
        for first in range(0, len(which), size):
            some = list(which[first : first + size])
            index = torch.tensor(some, device=self.device) if len(some) < len(carry.spectrum) else slice(None)
            counts = [substeps[i] for i in some]
            schemes = [self._scheme_of(carry, i, m) for i, m in zip(some, counts, strict=True)]
            own, kicked = terms.of(index), None if kicks is None else kicks[index]
            steps = partial(self._native.steps, terms=own, schemes=schemes, counts=counts, watch=watch) if native else (
                partial(self._steps, terms=own, schemes=schemes, counts=counts, watch=watch)
            )  # fmt: skip
            parts.append(self._between_kicks(carry.spectrum[index], steps, kicked))
        if len(parts) == 1:
            return parts[0]
        spectrum, rate, injected = (torch.cat(column) for column in zip(*parts, strict=True))
        return spectrum, rate, injected

    def _between_kicks(
        self, w: Spectrum, steps: Callable[[Spectrum], tuple[Spectrum, Tensor]], kicks: Tensor | None
    ) -> tuple[Spectrum, Tensor, Tensor]:
        """One `steps` a slot, and a kick at its end where there are kicks."""
        rates, injected = [], torch.zeros(len(w), 2, dtype=torch.float64, device=self._equation.exact)
        for slot in range(self.slots):
            w, rate = steps(w)
            rates.append(rate)
            if kicks is not None:
                kicked = torch.cat([w[:, :1] + kicks[:, slot, None], w[:, 1:]], dim=1)
                injected = injected + self._equation.quadratic(kicked + w, kicked - w)
                w = kicked
        return w, rates[0] if len(rates) == 1 else torch.stack(rates).amax(0), injected

    def _steps(
        self, w: Spectrum, terms: Terms, schemes: Sequence[Integrator], counts: Sequence[int], watch: bool
    ) -> tuple[Spectrum, Tensor]:
        """w after counts[b] steps of schemes[b], and with `watch` the largest |u|/Δx + |v|/Δy met at the beginning of
        one: by torch's operations."""
        integrator = schemes[0] if len(set(schemes)) == 1 else self.scheme.stack(schemes)
        most, uneven = max(counts), min(counts) < max(counts)
        left = torch.tensor(counts, device=self.device)[:, None, None, None] if uneven else None
        rate = torch.zeros(len(w), dtype=self.dtype, device=self.device)

        def steps(w: Spectrum, rate: Tensor, first: int, last: int) -> tuple[Spectrum, Tensor]:
            for i in range(first, last):
                uvs = self._fields(w, terms)
                if watch:
                    rate = torch.maximum(rate, self._equation.rate(uvs, terms))
                after = integrator.step(
                    w, self._explicit(w, uvs, terms), lambda a: self._explicit(a, self._fields(a, terms), terms)
                )
                after = self._bounded_by_plates(after)  # at once: what is even may grow faster than the flow
                w = after if left is None else torch.where(left > i, after, w)
            return w, rate

        if self._kernel == "graph" and not differentiated(w, terms.linear, terms.forcing):
            if self._graph is None or (self._graph.terms, self._graph.schemes) != (terms, tuple(schemes)):
                graph = Graphed(lambda w: steps(w, rate, 0, most)[0], w)
                self._graph = Recording(terms, tuple(schemes), integrator, graph)
            return self._graph.graph(w), rate
        if not self.checkpoint_every or not torch.is_grad_enabled():
            return steps(w, rate, 0, most)
        for first in range(0, most, self.checkpoint_every):
            last = min(first + self.checkpoint_every, most)
            w, rate = checkpoint(steps, w, rate, first, last, use_reentrant=False)
        return w, rate

    # -- how many of them

    def _rate(self, w: Spectrum, terms: Terms) -> Float[Tensor, " batch"]:
        w = w.detach()
        return self._equation.rate(self._equation.fields(w, terms), terms)

    def _plan(self, carry: SpectralCarry) -> tuple[int, ...]:
        batch = len(carry.spectrum)
        if self.fixed_substeps:
            return (self.fixed_substeps,) * batch
        return self._substeps(self._rate(carry.spectrum, carry.terms).tolist())

    def _substeps(self, rates: Sequence[float]) -> tuple[int, ...]:
        """Inner steps between two kicks at the given advection rates; none where a rate is not finite, nor the
        state."""
        wanted = (r * self.spec.interval / self.slots / self.scheme.cfl if math.isfinite(r) else None for r in rates)
        return tuple(0 if w is None else _bounded(max(1, math.ceil(w))) for w in wanted)

    def _kept_bound(self, substeps: int, rates: Sequence[float]) -> bool:
        """Whether the advection rates that were met allow the steps that were taken: planned for the rate at the start,
        a growth of a tenth within the interval is harmless. A step so long that it overflowed is too long as well."""
        limit = 1.1 * self.scheme.cfl * substeps * self.slots / self.spec.interval
        return substeps == 0 or all(rate <= limit for rate in rates)

    def _scheme_of(self, carry: SpectralCarry, trajectory: int, substeps: int) -> Integrator:
        """The scheme of one trajectory; all share it where they share decay rates and steps."""
        key = (trajectory if len(carry.terms.linear) > 1 else 0, substeps)
        held = carry.coefficients
        scheme = held.pop(key, None)
        if scheme is None:
            linear = carry.terms.linear[key[0] : key[0] + 1]
            step = self.spec.interval / self.slots / max(substeps, 1)
            scheme = self.scheme.from_linear(linear, step).to(self.device, self._equation.complex)
            if linear.requires_grad:
                return scheme
            # Room for twice as many as one interval takes: planned steps, and halved ones.
            most = max(2 * len(carry.spectrum), SCHEME_BYTES // scheme.nbytes)
            for oldest in list(held)[: max(0, len(held) + 1 - most)]:
                held.pop(oldest, None)
        held[key] = scheme  # at the end: the first in the cache is what was used longest ago
        return scheme


def inputs_for_one(
    numbers: Mapping[str, float],
    forcing: Float[Tensor, "y x"] | None = None,
    scalar: Scalar | None = None,
    mean_velocity: Pair | None = None,
) -> dict[str, Tensor]:
    """Every term that there is as a solver's input for one trajectory: (1, component, 1, 1), the forcing (1, 1, y, x);
    float64 on the CPU."""
    vectors = {"mean_velocity": mean_velocity}
    if scalar is not None:
        vectors |= {"mean_gradient": scalar.mean_gradient, "gravity": scalar.gravity}
    values = {name: [value] for name, value in numbers.items()}
    values |= {name: list(vector) for name, vector in vectors.items() if vector is not None}
    tensors = {name: torch.tensor(v, dtype=torch.float64)[None, :, None, None] for name, v in values.items()}
    if forcing is None:
        return tensors
    return tensors | {"forcing": forcing.to(torch.float64, copy=True)[None, None]}  # the caller may change its own


def _checked_kernel(kernel: str, device: torch.device, dt: float | None) -> str:
    """The name; ValueError where it is unknown or cannot be had, with the reason."""
    reason = None
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(KERNELS)} (got {kernel!r})")
    if kernel == "native" or (kernel == "compile" and device.type == "cpu"):
        reason = unavailable(device)
    elif kernel == "graph" and (device.type != "cuda" or dt is None):
        reason = "it needs a fixed dt on a CUDA device"
    if reason:
        raise ValueError(f"kernel {kernel!r} is not to be had: {reason}")
    return kernel


def _divisions(interval: float, slots: int, dt: float) -> int:
    """How many `dt` make up the interval, or the time between two kicks where there are several."""
    if not math.isfinite(dt) or dt <= 0:
        raise ValueError(f"dt must be positive and finite (got {dt})")
    whole = interval / slots
    count = round(whole / dt) if whole / dt <= MAX_SUBSTEPS + 0.5 else 0
    if count < 1 or not math.isclose(count * dt, whole, rel_tol=1e-9):
        what = f"the interval {whole}" if slots == 1 else f"{whole:.6g}, the time between two kicks,"
        raise ValueError(f"dt must divide {what} into at most {MAX_SUBSTEPS} steps (got {dt})")
    return count


def _bounded(substeps: int) -> int:
    if substeps > MAX_SUBSTEPS:
        raise ValueError(
            f"the flow would need {substeps:.6g} inner steps an interval, more than {MAX_SUBSTEPS}: "
            "shorten the interval, lower the speeds or coarsen the grid"
        )
    return substeps
