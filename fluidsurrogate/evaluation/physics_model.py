"""One interval of the classical solver under an assumption about units, viscosity, mean flow and forcing; and fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from fluidsurrogate.evaluation.physics_sample import PhysicsSample, Reading
from solvers import Grid, NavierStokes2D, NavierStokes3D, resample
from solvers.velocity_form import with_velocity

STEP = 0.02  # of a factor, and of a cell per interval, for the derivatives of a fit
MAX_CHANGE = 3.0  # of a factor in one iteration of a fit
HIDDEN = 1e-8  # share of the variance beyond two thirds of the modes up to which the states' own cells are enough
# The inner steps of an interval: at most, always allowed, and by how many times they may exceed those as given.
MAX_STEPS, MIN_STEP_LIMIT, STEP_MARGIN = 1000, 100, 20
LEAST_ADVECTION = 1e-9  # of a guess: values in other units may be far too large
MAX_PUSH = 20.0  # by how much a forcing may change the state in an interval, over the state
SETTLED = 0.02  # a fit ends when an iteration makes the error smaller by less than this


@final
@dataclass(frozen=True)
class Assumption:
    """What a step of the solver assumes beside the numbers of the file.

    Parameters
    ----------
    viscosity : Tensor
        Shape (pair,), in m²/s, before the factor.
    factors : dict of str to float
        By what "viscosity", "interval", "values" and "box" of the file are multiplied; 1 by default.
    mean : tuple of float
        A mean velocity (x, y) or (x, y, z) beside the known one, in m/s.
    forcing : Tensor, optional
        A steady forcing beside the known one, the same for all pairs, shape (1, component, y, x).
    drag : float, default 0.0
        A linear drag beside the known one, in 1/s.
    """

    viscosity: Tensor
    factors: dict[str, float]
    mean: tuple[float, ...]
    forcing: Tensor | None = None
    drag: float = 0.0

    def factor(self, name: str) -> float:
        """Return a factor.

        Parameters
        ----------
        name : str
            "viscosity", "interval", "values" or "box".

        Returns
        -------
        float
            The factor.
        """
        return self.factors.get(name, 1.0)

    def changed(self, name: str, value: float) -> Assumption:
        """Return the assumption with another factor, or another component of the mean velocity.

        Parameters
        ----------
        name : str
            The name of a factor, "drag", or "mean_0", "mean_1", "mean_2".
        value : float
            Its value.

        Returns
        -------
        Assumption
            The changed one.
        """
        if name == "drag":
            return replace(self, drag=value)
        if not name.startswith("mean_"):
            return replace(self, factors={**self.factors, name: value})
        mean = list(self.mean)
        mean[int(name[-1])] = value
        return replace(self, mean=tuple(mean))

    def value(self, name: str) -> float:
        """Return a factor, the drag or a component of the mean velocity by its name.

        Parameters
        ----------
        name : str
            As for `changed`.

        Returns
        -------
        float
            Its value.
        """
        if name == "drag":
            return self.drag
        return self.mean[int(name[-1])] if name.startswith("mean_") else self.factor(name)


@final
class PhysicsModel:
    """The classical solver over one interval, applied to the pairs of a sample in one reading.

    Parameters
    ----------
    sample : PhysicsSample
        The pairs.
    reading : Reading
        How their numbers are read.

    Attributes
    ----------
    usual_steps : int or None
        The inner steps of an interval as given; None before the first step.
    change : float
        Root of the sum of squares of what the judged pairs change over an interval.
    """

    def __init__(self, sample: PhysicsSample, reading: Reading) -> None:
        self.sample, self.reading = sample, reading
        self.before, self.after, self.known_mean = sample.flow(reading)
        self.known_forcing = sample.forcing_in(reading)
        self.usual_steps: int | None = None
        self.grid, self.judged = sample.grid, sample.is_judged
        self.fitted = ~self.judged if bool((~self.judged).any()) else self.judged
        self.inner = self.grid if _hidden_share(self.after, self.grid) < HIDDEN else _with_all_modes(self.grid)
        dimensions = self.grid.dimensions
        kind, shape = (NavierStokes2D, self.inner.n) if dimensions == 2 else (NavierStokes3D, (3, *self.inner.n))
        options = {"varying": ("viscosity", "drag"), "mean_velocity": (0.0,) * dimensions, "dtype": torch.float64}
        zeros = torch.zeros(shape, dtype=torch.float64)
        self.solver = kind(self.inner, viscosity=1.0, interval=sample.interval, forcing=zeros, **options)  # type: ignore[arg-type]
        self.brief = kind(self.inner, viscosity=1.0, interval=1e-3 * sample.interval, forcing=zeros, **options)  # type: ignore[arg-type]
        first, *rest = (k.square() for k in self.grid.wavenumbers())
        self.k_squared = sum(rest, start=first)
        self.change = float(self.measure((self.after - self.before)[self.judged]).norm())

    def measure(self, difference: Tensor) -> Tensor:
        """Return differences of the solver's field as differences of the stored field.

        Parameters
        ----------
        difference : Tensor
            Shape (..., component, y, x).

        Returns
        -------
        Tensor
            The same, or its velocity if the dataset stores the velocity of a flow in two dimensions.
        """
        is_converted = self.sample.is_velocity and self.grid.dimensions == 2
        return with_velocity(difference, self.grid) if is_converted else difference

    def predict(self, assumptions: Sequence[Assumption], which: Tensor) -> Tensor:
        """Step the first states of some pairs under several assumptions at once.

        Parameters
        ----------
        assumptions : sequence of Assumption
            The assumptions.
        which : Tensor
            The pairs, as booleans.

        Returns
        -------
        Tensor
            Shape (assumption, pair, component, y, x); NaN if the solver cannot run.
        """
        parts = [self._solver_arguments(a, which) for a in assumptions]
        state, *inputs = (torch.cat([part[i] for part in parts]) for i in range(5))
        names = ("viscosity", "drag", "mean_velocity", "forcing")
        too_strong = inputs[-1].square().mean().sqrt() * self.sample.interval > MAX_PUSH * state.square().mean().sqrt()
        try:
            carry = self.solver.start(resample(state, self.grid, self.inner), dict(zip(names, inputs, strict=True)))
            if too_strong or max(carry.planned_steps) > self._step_limit(carry.planned_steps):
                raise ValueError("fits that run away would take minutes")
            made = self.solver.state(self.solver.advance(carry))
        except ValueError:  # the flow is too fast for the solver
            if len(assumptions) > 1:
                return torch.cat([self.predict([a], which) for a in assumptions])
            return torch.full_like(state, math.nan)[None]
        scale = torch.cat([self.before.new_full((int(which.sum()),), self._advection(a)) for a in assumptions])
        made = resample(made, self.inner, self.grid) / _column(scale, state)
        return made.unflatten(0, (len(assumptions), -1))

    def _step_limit(self, planned: Sequence[int]) -> int:
        """Return how many inner steps an interval may take; the file as given, stepped first, sets the scale."""
        if self.usual_steps is None:
            self.usual_steps = max(planned)
        return min(MAX_STEPS, max(MIN_STEP_LIMIT, STEP_MARGIN * self.usual_steps))

    def residual(self, assumption: Assumption) -> float:
        r"""Measure how far the step is from the stored states, on the judged pairs.

        .. math:: \|S(w_k) - w_{k+1}\| / \|w_{k+1} - w_k\|

        Parameters
        ----------
        assumption : Assumption
            What the step assumes.

        Returns
        -------
        float
            The residual; infinite if the solver cannot run.
        """
        error = self.measure(self.predict([assumption], self.judged)[0] - self.after[self.judged])
        residual = float(error.norm()) / max(self.change, torch.finfo(torch.float64).tiny)
        return residual if math.isfinite(residual) else math.inf

    def residual_by_trajectory(self, assumption: Assumption) -> dict[int, float]:
        """Measure the residual of each trajectory, the pairs that fits are made of included.

        Parameters
        ----------
        assumption : Assumption
            What the step assumes.

        Returns
        -------
        dict of int to float
            By the number of the trajectory.
        """
        error = self.measure(self.predict([assumption], torch.ones_like(self.judged))[0] - self.after)
        change = self.measure(self.after - self.before)
        squares = [one.square().flatten(1).sum(1) for one in (error, change)]
        found = {}
        for i in dict.fromkeys(self.sample.trajectories):
            own = torch.tensor([j == i for j in self.sample.trajectories])
            e, c = (float(s[own].sum()) for s in squares)
            found[i] = math.sqrt(e / c) if c > 0 and math.isfinite(e) else math.inf
        return found

    def guesses(self, start: Assumption) -> list[Assumption]:
        """Return where fits may start: the given numbers, and those that explain the mean rate of change best.

        Parameters
        ----------
        start : Assumption
            The given numbers.

        Returns
        -------
        list of Assumption
            Two or more.
        """
        which, interval = self.fitted, self.sample.interval
        middle = 0.5 * (self.before + self.after)[which]
        count = len(middle)
        nothing = middle.new_zeros(count, 1, *(1,) * self.grid.dimensions)
        inputs = {
            "viscosity": nothing,
            "drag": nothing,
            "mean_velocity": nothing.expand(-1, self.grid.dimensions, *nothing.shape[2:]),
            "forcing": middle.new_zeros(count, middle.shape[1], *self.inner.n),
        }
        # Advection is quadratic, so that it is computed of a state of a moderate size.
        unit = 1.0 if self.grid.dimensions == 2 else max(self.grid.length) / (2 * math.pi)
        size = max(1.0, float(middle.square().mean().sqrt()) * interval / unit)
        fine = resample(middle / size, self.grid, self.inner)
        try:
            moved = resample(self.brief(fine, inputs), self.inner, self.grid)
        except ValueError:
            return [start]
        base = resample(fine, self.inner, self.grid)
        spectrum = torch.fft.rfftn(middle, dim=self.grid.dims)
        columns = [(moved - base) * size**2 / (1e-3 * interval)]
        columns.append(torch.fft.irfftn(-self.k_squared * spectrum, s=self.grid.n, dim=self.grid.dims))
        columns += [-torch.fft.irfftn(1j * k * spectrum, s=self.grid.n, dim=self.grid.dims)
                    for k in reversed(self.grid.odd_wavenumbers())]  # fmt: skip
        rate = self.measure((self.after - self.before)[which]).flatten() / interval
        matrix = torch.stack([self.measure(column).flatten() for column in columns], dim=1)
        advection, viscosity, *_ = torch.linalg.lstsq(matrix, rate[:, None]).solution.flatten().tolist()
        own = float(start.viscosity.mean())
        found = [start]
        advection, viscosity = max(advection, LEAST_ADVECTION), max(viscosity, 1e-3 * own)
        if own > 0:
            found.append(replace(start, factors={**start.factors, "interval": advection,
                                                 "viscosity": viscosity / own / advection}))  # fmt: skip
            found.append(start.changed("viscosity", viscosity / own))
        return found

    def fit(
        self, start: Assumption, free: Sequence[str], with_forcing: bool = False, iterations: int = 4
    ) -> Assumption:  # fmt: skip
        """Fit factors, a mean velocity and a steady forcing to the pairs that are not judged.

        Gauss–Newton with differences for derivatives. A forcing is the mean error over the response to it; what the
        other parameters are fitted to is then the departure of each pair's error from the mean.

        Parameters
        ----------
        start : Assumption
            Where the fit starts.
        free : sequence of str
            What is fitted, as for `Assumption.changed`.
        with_forcing : bool, default False
            Whether a steady forcing is fitted too.
        iterations : int, default 4
            Number of iterations.

        Returns
        -------
        Assumption
            The best one.
        """
        best, least, current = start, math.inf, start
        for iteration in range(iterations + 1):
            steps = {name: self._difference_step(name) for name in free}
            variants = [_moved_by(current, name, h) for name, h in steps.items()]
            made = self.predict([current, *variants], self.fitted)
            error = self.after[self.fitted] - made[0]
            size = float(self.measure(error).norm())
            if not math.isfinite(size):
                break
            is_settled = size > (1 - SETTLED) * least
            if size < least or with_forcing:
                best, least = current, size
            if iteration == iterations or is_settled:
                break
            slopes = made[1:] - made[:1]
            e, j = error, slopes
            if with_forcing and len(error) > 1:
                e, j = error - error.mean(0), slopes - slopes.mean(1, keepdim=True)
            changes = torch.zeros(len(free), dtype=torch.float64)
            if free:
                flat = torch.stack([self.measure(one).flatten() for one in j])
                gram, right = flat @ flat.T, flat @ self.measure(e).flatten()
                changes = torch.linalg.lstsq(gram, right, driver="gelsd").solution
            for (name, h), change in zip(steps.items(), changes.tolist(), strict=True):
                current = _moved_by(current, name, change * h)
            if with_forcing:
                left = error - (changes.reshape(-1, *(1,) * error.ndim) * slopes).sum(0)
                current = replace(current, forcing=self._forcing_of(left, current))
        return best

    def coherence(self, assumption: Assumption) -> float:
        """Measure how much of the error is the same in all pairs.

        Parameters
        ----------
        assumption : Assumption
            The assumption.

        Returns
        -------
        float
            From 0 for errors that have nothing in common to 1; 0 for a single pair.
        """
        error = self.after - self.predict([assumption], torch.ones_like(self.judged))[0]
        count, share = len(error), float(error.mean(0).square().sum() / error.square().mean(0).sum())
        return (share - 1 / count) / (1 - 1 / count) if count > 1 and math.isfinite(share) else 0.0

    def moved(self, assumption: Assumption) -> Assumption:
        """Return an assumption with the mean velocity that carries the step nearest to the stored states.

        It is the shift with the largest correlation, in whole cells an interval.

        Parameters
        ----------
        assumption : Assumption
            The assumption.

        Returns
        -------
        Assumption
            With this mean velocity.
        """
        made = self.predict([assumption], self.fitted)[0]
        product = (
            torch.fft.rfftn(self.after[self.fitted], dim=self.grid.dims)
            * torch.fft.rfftn(made, dim=self.grid.dims).conj()
        )
        correlation = torch.fft.irfftn(product.sum((0, 1)), s=self.grid.n)
        if not bool(correlation.isfinite().all()):
            return assumption
        shift = torch.unravel_index(correlation.argmax(), self.grid.n)
        cells = [int(i) - n * (int(i) > n // 2) for i, n in zip(shift, self.grid.n, strict=True)]
        speeds = [c * d / self.sample.interval for c, d in zip(cells, self.grid.spacing, strict=True)]
        return replace(assumption, mean=tuple(a + b for a, b in zip(assumption.mean, speeds[::-1], strict=True)))

    def viscosity_scale(self) -> float:
        """Return a viscosity of the right order of magnitude, from the decay of the shorter half of the waves.

        Returns
        -------
        float
            In m²/s.
        """
        unit = 2 * math.pi / max(self.grid.length)
        rate = float(self.measure(self.after - self.before).norm() / self.measure(self.before).norm())
        return max(rate, 1e-6) / self.sample.interval / (4 * unit) ** 2

    def sensitivity(self, assumption: Assumption, name: str) -> float:
        """Measure how much the step changes with a factor, relative to what an interval changes.

        Parameters
        ----------
        assumption : Assumption
            The assumption.
        name : str
            The factor.

        Returns
        -------
        float
            The derivative with respect to the logarithm of the factor.
        """
        other = assumption.changed(name, assumption.value(name) * (1 + STEP))
        made = self.predict([assumption, other], self.judged)
        return float(self.measure(made[1] - made[0]).norm()) / STEP / self.change

    def shell_residuals(self, assumption: Assumption) -> list[tuple[float, float]]:
        """Return, for each shell of wavenumbers, the squared error and the squared change of the judged pairs.

        Parameters
        ----------
        assumption : Assumption
            The assumption.

        Returns
        -------
        list of tuple of float
            By the number of the shell, in units of the smallest wavenumber.
        """
        error = self.measure(self.predict([assumption], self.judged)[0] - self.after[self.judged])
        change = self.measure((self.after - self.before)[self.judged])
        unit = 2 * math.pi / max(self.grid.length)
        shells = (self.k_squared.sqrt() / unit).round().long().flatten()
        sums = []
        for one in (error, change):
            power = torch.fft.rfftn(one, dim=self.grid.dims).abs().square()
            power = power.reshape(-1, len(shells)).sum(0)
            sums.append(torch.zeros(int(shells.max()) + 1, dtype=power.dtype).index_add(0, shells, power))
        return list(zip(sums[0].tolist(), sums[1].tolist(), strict=True))

    def _advection(self, a: Assumption) -> float:
        """Return by what the solver's state is the file's: it makes advection faster or slower."""
        return a.factor("interval") * a.factor("values") / (a.factor("box") if self.sample.is_velocity else 1.0)

    def _solver_arguments(self, a: Assumption, which: Tensor) -> tuple[Tensor, ...]:
        """Return state, viscosity, drag, mean velocity and forcing of the solver for some pairs."""
        scale, interval, before = self._advection(a), a.factor("interval"), self.before[which]
        viscosity = a.viscosity[which] * a.factor("viscosity") * interval / a.factor("box") ** 2
        mean = self.known_mean[which] * (a.factor("values") if self.sample.is_velocity else 1.0)
        mean = (mean + torch.tensor(a.mean, dtype=mean.dtype)) * interval / a.factor("box")
        forcing = torch.zeros_like(before)
        if self.known_forcing is not None:
            forcing = forcing + self.known_forcing[which] / a.factor("values")
        forcing = forcing if a.forcing is None else forcing + a.forcing
        drag = (self.sample.drag[which] + a.drag).clamp(min=0.0) * interval
        forcing = resample(scale * interval * forcing, self.grid, self.inner)
        mean = mean.reshape(*mean.shape, *(1,) * self.grid.dimensions)
        return scale * before, _column(viscosity, before), _column(drag, before), mean, forcing

    def _difference_step(self, name: str) -> float:
        if name.startswith("mean_"):
            axis = self.grid.dimensions - 1 - int(name[-1])
            return STEP * 5 * self.grid.spacing[axis] / self.sample.interval
        return STEP / self.sample.interval if name == "drag" else STEP

    def _forcing_of(self, error: Tensor, a: Assumption) -> Tensor:
        """Return the forcing of an assumption, corrected by the mean error over the response to a steady forcing."""
        interval = self.sample.interval * a.factor("interval")
        rate = float((a.viscosity.mean() * a.factor("viscosity")) / a.factor("box") ** 2) * self.k_squared
        rate = rate + max(0.0, float(self.sample.drag.mean()) + a.drag)
        response = torch.where(
            rate * interval > 1e-9, -torch.expm1(-rate * interval) / rate.clamp(min=1e-300), interval
        )
        spectrum = torch.fft.rfftn(error.mean(0, keepdim=True), dim=self.grid.dims) / response
        correction = torch.fft.irfftn(spectrum, s=self.grid.n, dim=self.grid.dims)
        return correction if a.forcing is None else a.forcing + correction


def _moved_by(assumption: Assumption, name: str, step: float) -> Assumption:
    """Return an assumption with a component of the mean velocity moved by a step, or a factor by a share of itself."""
    old = assumption.value(name)
    if name == "drag" or name.startswith("mean_"):
        return assumption.changed(name, old + step)
    return assumption.changed(name, old * min(max(1 + step, 1 / MAX_CHANGE), MAX_CHANGE))


def _column(values: Tensor, like: Tensor) -> Tensor:
    """Return one number a pair in the shape of a uniform input."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def _with_all_modes(grid: Grid) -> Grid:
    """Return a grid on which the two-thirds rule retains every mode of another."""
    return Grid(tuple(m + m // 2 + (m + m // 2) % 2 for m in grid.n), grid.length)


def _hidden_share(states: Tensor, grid: Grid) -> float:
    """Return the share of the variance in modes that the two-thirds rule would drop."""
    power = torch.fft.rfftn(states, dim=grid.dims).abs().square()
    power = power.reshape(-1, *power.shape[-grid.dimensions :]).sum(0)
    return float((power * ~grid.retained()).sum() / power.sum().clamp(min=1e-300))
