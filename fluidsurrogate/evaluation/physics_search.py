"""The search for the reading of a file, and the numbers, with which the solver steps its states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch

from fluidsurrogate.evaluation.physics_model import Assumption, PhysicsModel
from fluidsurrogate.evaluation.physics_report import ANOTHER, CONSISTENT, FOREIGN, UNDECIDED, PhysicsReport, Trial
from fluidsurrogate.evaluation.physics_sample import PhysicsSample, Reading
from fluidsurrogate.evaluation.physics_shells import noisy_band, share_of_last_third

GOOD = 1e-2  # residual up to which the solver steps the data
PERFECT = 2e-3  # residual from which on other numbers are tried too
BETTER = 10.0  # how many times smaller the residual of another reading must be for a refusal
TELLING = 0.1  # residual up to which the numbers of a fit are worth saying
MATERIAL = 0.03  # a factor that differs from 1 by less is not another reading
NEAR = 0.2  # residual up to which the file's own reading, if it is the best, may be right
MUCH_DIVERGENCE, FAR_LESS = 0.1, 0.2  # of the gradient; and the share of it that the divergence of a better order is
JUMP = 3.0  # of the difference between neighbours, across the edge of the box, from which on a field is not periodic
UNRESOLVED = 1e-3  # share of the change in the last third of the modes from which on a flow counts as not resolved
COHERENT = 0.8  # share of the error that is the same in all pairs, from which on a forcing is fitted first
VISCOSITY_SCAN = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
SYMMETRY_NOTE = (
    "exchanged axes, a changed sign and one reversed axis are mirror images of each other, and two of them together "
    "are a symmetry of the flow: which of them it is, nothing in the states can tell"
)
BOTH = ("interval", "viscosity")
VISCOSITY, INTERVAL, VALUES, BOX = "another viscosity", "another interval", "another scale of the values", "another box"
DRAG = "another drag"
NUMBERS, MOVING = "another viscosity, interval, drag and mean velocity", "a mean velocity"
FORCED, FORCED_AND_MORE = "a steady forcing", "a steady forcing, a mean velocity and other numbers"


@final
class ReadingSearch:
    """One check: the trials so far, and the best of each reading."""

    def __init__(
        self, sample: PhysicsSample, free: frozenset[str], is_random: bool, of_stepper: Sequence[Trial] = ()
    ) -> None:
        self.sample, self.free, self.is_random = sample, free, is_random
        self.of_stepper = next(iter(of_stepper), None)
        self.models: dict[Reading, PhysicsModel] = {}
        for reading in sample.readings():
            forcing = sample.forcing_in(reading)
            same = [
                r
                for r in self.models
                if (r.sign, r.components, r.signs) == (reading.sign, reading.components, reading.signs)
            ]
            if forcing is None or not any(torch.allclose(forcing, sample.forcing_in(r), atol=1e-12) for r in same):  # type: ignore[arg-type]
                self.models[reading] = PhysicsModel(sample, reading)
        self.own = next(iter(self.models))
        self.jump, self.axis = sample.edge_jump()
        self.mean = tuple(f"mean_{i}" for i in range(sample.grid.dimensions))
        self.trials: list[Trial] = []
        self.best: dict[Reading, tuple[float, Assumption, str]] = {}

    def run(self) -> PhysicsReport:
        """Try readings and numbers, the likely ones first, until the solver steps the states."""
        for reading in self.models:
            self._try_given(reading)
        fits_already = self.of_stepper is not None and self.of_stepper.residual <= GOOD
        if not self.is_random and not fits_already and self.jump < JUMP:
            leading = sorted(self.best, key=lambda r: self.best[r][0])[:2]
            trials = [self._try_numbers, self._try_forcing]
            coherence = max(self.models[r].coherence(self.best[r][1]) for r in leading)
            if self.sample.forcing is None and coherence > COHERENT:
                trials.reverse()  # the error is much the same in all pairs, as of a forcing that is left out
            for trial in trials:
                if self._least() > GOOD:
                    trial(leading)
            if self._least() > PERFECT and PERFECT < self.best[self.own][0] <= GOOD:
                self._try_numbers([self.own])
        return self._report()

    # -- trials

    def _try_given(self, reading: Reading) -> None:
        """Step with the numbers as given; those that nobody states are fitted."""
        model = self.models[reading]
        start = self._start(model)
        if self.free:
            starts = [start]
            if "viscosity" in self.free:
                starts = [start.changed("viscosity", factor) for factor in VISCOSITY_SCAN]
            start = model.fit(self._nearest(model, starts), sorted(self.free))
        self._note(reading, start)

    def _try_numbers(self, readings: Sequence[Reading]) -> None:
        """Step with another viscosity, interval, scale, box and mean velocity, until one reading fits."""
        for reading in readings:
            model, (before, given, _) = self.models[reading], self.best[reading]
            found = model.fit(self._nearest(model, model.guesses(given)), BOTH)
            residual = model.residual(found)
            if residual > GOOD and not self.sample.is_velocity:
                start = self._nearest(model, [found, model.moved(given)])
                moving = model.fit(start, (*BOTH, *self.mean, "drag"))
                if model.residual(moving) < 0.7 * residual:
                    found, residual = moving, model.residual(moving)
            simple = self._simplest(model, given, found, max(3 * residual, PERFECT)) if residual < before / 2 else None
            self._note(reading, *(simple or (found, NUMBERS)))
            if self._least() <= GOOD:
                return

    def _simplest(
        self, model: PhysicsModel, given: Assumption, found: Assumption, limit: float
    ) -> tuple[Assumption, str] | None:
        """Return a fit of a single number, or of the mean velocity, that is as good as one of all of them."""
        r, f, free = found.factor("interval"), found.factor("viscosity"), sorted(self.free)
        starts: list[tuple[str, Sequence[str], Assumption]] = [
            (VISCOSITY, ("viscosity",), given.changed("viscosity", r * f)),
            (INTERVAL, ("interval",), given.changed("interval", r)),
            (VALUES, ("values",), given.changed("values", r)),
        ]
        if self.sample.is_velocity:
            starts.append((BOX, ("box",), given.changed("box", 1 / r)))
        if any(found.mean):
            starts = [
                (DRAG, (*free, "drag"), given.changed("drag", found.drag)),
                (MOVING, (*free, *self.mean), replace(given, mean=found.mean)),
            ]
        for name, names, start in starts:
            one = model.fit(start, names, iterations=2)
            if model.residual(one) <= limit:
                return one, name
        return None

    def _try_forcing(self, readings: Sequence[Reading]) -> None:
        """Step with a steady forcing that is fitted, and perhaps a mean velocity and other numbers."""
        free, mean = sorted(self.free), [] if self.sample.is_velocity else self.mean
        for names in (free, [*free, *mean, "drag"], [*BOTH, *mean]):
            # What is left of a reading when its forcing is free is how it takes the states.
            distinct = {(r.sign, r.components, r.signs): r for r in [*readings[::-1], self.own]}
            for reading in sorted(distinct.values(), key=lambda r: self.best[r][0]):
                model = self.models[reading]
                start = self._start(model)
                starts = [start.changed("viscosity", v) for v in VISCOSITY_SCAN] if free and names == free else [start]
                found = min(
                    (model.fit(one, names, with_forcing=True, iterations=6) for one in starts), key=model.residual
                )
                self._note(reading, found, FORCED if names == free else FORCED_AND_MORE)
            if self._least() <= GOOD:
                return

    def _start(self, model: PhysicsModel) -> Assumption:
        """Return what the file says; a viscosity that nobody states is the one that explains the rate of change."""
        none = (0.0,) * self.sample.grid.dimensions
        if self.sample.viscosity is not None:
            return Assumption(self.sample.viscosity, {}, none)
        scale = model.viscosity_scale()
        return Assumption(torch.full((len(self.sample.states),), scale, dtype=torch.float64), {}, none)

    def _nearest(self, model: PhysicsModel, starts: Sequence[Assumption]) -> Assumption:
        """Return where a fit starts: the assumption with the smallest error on the pairs of the fit."""
        made = model.predict(starts, model.fitted)
        errors = [float(model.measure(one - model.after[model.fitted]).norm()) for one in made]
        errors = [error if math.isfinite(error) else math.inf for error in errors]
        return starts[errors.index(min(errors))]

    def _note(self, reading: Reading, assumption: Assumption, what: str = "") -> None:
        """Record a trial."""
        residual = self.models[reading].residual(assumption)
        name = self._name(reading, assumption, what, residual) if what else reading.name
        self.trials.append(Trial(name, residual, not what and reading == self.own))
        # Something further must pay: a smaller residual by rounding is none.
        if reading not in self.best or residual < 0.7 * self.best[reading][0]:
            self.best[reading] = (residual, assumption, name)

    def _name(self, reading: Reading, a: Assumption, what: str, residual: float) -> str:
        """Return a trial in words; the numbers that it takes are of interest only if they fit."""
        words = [] if reading == self.own else [reading.name]
        if residual > TELLING:
            return ", ".join([*words, what])
        if what == VALUES:
            words.append(f"values multiplied by {a.factor('values'):.4g}, as if normalised or in other units")
        elif what == BOX:
            words.append(f"a box {a.factor('box'):.4g} times as large")
        elif abs(a.factor("interval") - 1) > 1e-3:
            words.append(
                f"interval {self.sample.interval * a.factor('interval'):.4g} (times {a.factor('interval'):.4g})"
            )
        if abs(a.factor("viscosity") - 1) > 1e-3:
            words.append(self._viscosity_in_words(a))
        if abs(a.drag) > 1e-3 / self.sample.interval:
            words.append(f"drag {max(0.0, float(self.sample.drag.mean()) + a.drag):.4g}")
        if self._is_moving(a):
            words.append(f"mean velocity ({', '.join(f'{v:.4g}' for v in a.mean)})")
        if a.forcing is not None:
            other = "another" if self.sample.forcing is not None else "a"
            words.append(f"{other} steady forcing of rms {float(a.forcing.square().mean().sqrt()):.3g}")
        return ", ".join(words) or self.own.name

    def _viscosity_in_words(self, a: Assumption) -> str:
        value, factor = float(a.viscosity.mean()) * a.factor("viscosity"), a.factor("viscosity")
        if "viscosity" in self.free:
            return f"viscosity {value:.4g}"
        if self.sample.is_velocity:
            return f"viscosity {value:.4g} (times {factor:.4g})"
        return f"viscosity {value:.4g} (times {factor:.4g}; or a box {factor**-0.5:.4g} times as large)"

    def _least(self) -> float:
        return min(residual for residual, _, _ in self.best.values())

    # -- the verdict

    def _report(self) -> PhysicsReport:
        given = next(trial.residual for trial in self.trials if trial.is_given)
        own_residual, own_assumption, own_name = self.best[self.own]
        reading = min(self.best, key=lambda r: self.best[r][0])
        least, _, name = self.best[reading]
        own_is_free = self._is_free(own_assumption)
        own = own_residual if own_is_free else given
        notes = list(self.sample.notes)
        if not self.sample.is_velocity and self.sample.forcing is None:
            notes.append(SYMMETRY_NOTE)
        trials = [*([self.of_stepper] if self.of_stepper else []), *self.trials]
        report = PhysicsReport(UNDECIDED, "", trials, notes=notes, pairs=len(self.sample.states),
                               divergence=self.sample.divergence(self.own))  # fmt: skip
        if (of_flow := self.of_stepper) is not None:
            if of_flow.residual <= GOOD:
                if own <= GOOD:
                    report = self._consistent(report, own, own_assumption if own_is_free else self._given())
                return replace(report, verdict=CONSISTENT, reason=(
                    f"{of_flow.name} steps the states with a residual of {of_flow.residual:.4f}"))  # fmt: skip
            if own <= GOOD and own * BETTER <= of_flow.residual:
                return replace(report, verdict=ANOTHER, better_reading=own_name, reason=(
                    f"{of_flow.name} is not that of the data: its step has a residual of {of_flow.residual:.4f}, and "
                    f"without [flow] the states are stepped with {own:.4f} ({own_name})"))  # fmt: skip
        is_other = reading != self.own or not own_is_free
        if is_other and least <= GOOD and own > PERFECT and least * BETTER <= own:
            return replace(report, verdict=ANOTHER, better_reading=name, reason=(
                f"the solver steps the states {_times(own, least)} better with another reading: {name} "
                f"(residual {least:.4f}, as given {own:.4f})"))  # fmt: skip
        if (order := self._better_order()) is not None:
            before, after = (self.sample.divergence(r) for r in (self.own, order))
            return replace(report, verdict=ANOTHER, better_reading=order.name, reason=(
                f"the velocity has a divergence of {before:.1%} of its gradient, with another reading {after:.1%}: "
                f"{order.name}"))  # fmt: skip
        if own <= GOOD:
            return self._consistent(report, own, own_assumption if own_is_free else self._given())
        if self.is_random:
            return replace(report, reason="the flow is forced at random, so that no step can be foreseen")
        return self._undecided(report, own)

    def _better_order(self) -> Reading | None:
        """Return an order of the components, or signs, with which a velocity has far less divergence."""
        own = self.sample.divergence(self.own)
        if own < MUCH_DIVERGENCE:
            return None
        others = [reading for reading in self.models if reading.components and reading.sign > 0 and reading != self.own]
        return next((reading for reading in others if self.sample.divergence(reading) < FAR_LESS * own), None)

    def _given(self) -> Assumption:
        """Return the numbers of the file in its own reading."""
        return self._start(self.models[self.own])

    def _is_moving(self, a: Assumption) -> bool:
        """Return whether a fitted mean velocity moves the states by more than a hundredth of a cell an interval."""
        cells = zip(a.mean, self.sample.grid.spacing[::-1], strict=True)
        return any(abs(v) * self.sample.interval > 0.01 * side for v, side in cells)

    def _is_free(self, a: Assumption) -> bool:
        """Return whether an assumption changes only what nobody has stated."""
        changed = {name for name, factor in a.factors.items() if abs(factor - 1) > MATERIAL}
        is_still = not self._is_moving(a) or not bool(self.sample.mean_velocity.any())
        is_known = not bool(self.sample.drag.any()) or abs(a.drag) < MATERIAL * float(self.sample.drag.mean())
        return changed <= self.free and is_still and is_known and (a.forcing is None or self.sample.forcing is None)

    def _consistent(self, report: PhysicsReport, residual: float, a: Assumption) -> PhysicsReport:
        """Return the verdict of data that the solver steps, with estimates of what was free, and of the viscosity."""
        model, estimates, notes = self.models[self.own], {}, list(report.notes)
        astray = {i: r for i, r in model.residual_by_trajectory(a).items() if r > BETTER * max(GOOD, residual)}
        if astray:
            i, worst = max(astray.items(), key=lambda item: item[1])
            notes.append(f"{len(astray)} of the trajectories that were looked at are not stepped: trajectory {i} has a "
                         f"residual of {worst:.4f}; is it of another flow?")  # fmt: skip
        if not self.is_random and a.forcing is None and not astray:
            a = model.fit(a, ("viscosity",) if "interval" not in self.free else BOTH, iterations=1)
        felt = model.sensitivity(a, "viscosity")
        if felt > 3 * residual:
            estimates["viscosity"] = float(a.viscosity.mean()) * a.factor("viscosity")
        else:
            notes.append("the states do not tell the viscosity: they hardly change with it over an interval")
        if "interval" in self.free:
            estimates["interval"] = self.sample.interval * a.factor("interval")
        if self._is_moving(a):
            estimates |= {f"mean_velocity_{axis}": v for axis, v in zip("xyz", a.mean, strict=False)}
            notes.append("the flow has a mean velocity that the file does not state: add it as mean_velocity")
        if a.drag > 1e-3 / self.sample.interval:
            estimates["drag"] = a.drag
            notes.append("the flow has a linear drag that the file does not state: add it as drag")
        if a.forcing is not None:
            estimates["forcing_rms"] = float(a.forcing.square().mean().sqrt())
            notes.append("the flow has a steady forcing that the file does not state: add it as forcing")
        return replace(report, verdict=CONSISTENT, estimates=estimates, notes=notes,
                       forcing=None if a.forcing is None else a.forcing[0],
                       reason=f"the classical solver steps the states with a residual of {residual:.4f}")  # fmt: skip

    def _undecided(self, report: PhysicsReport, own: float) -> PhysicsReport:
        """Return why there is no verdict, or that the data are of another equation."""
        if self.jump >= JUMP:
            return replace(report, verdict=FOREIGN, reason=(
                f"the states are not periodic: across the edge of the box along {self.axis} they jump {self.jump:.1f} "
                f"times as much as from cell to cell (residual {own:.4f})"))  # fmt: skip
        model = self.models[self.own]
        shells = model.shell_residuals(self.best[self.own][1])
        tail = share_of_last_third(shells)
        if tail > UNRESOLVED:
            reason = f"not resolved: {tail:.1%} of what changes is in the shortest third of the waves"
            return replace(report, reason=f"{reason} (residual {own:.4f})")
        if own <= NEAR:
            return replace(report, reason=(
                f"as given is the best reading that was tried, but its residual of {own:.4f} is not small: another "
                "numerical scheme, or a flow that is not resolved"))  # fmt: skip
        if (band := noisy_band(shells)) is not None:
            waves = str(band[0]) if band[0] == band[1] else f"{band[0]} to {band[1]}"
            return replace(report, reason=(
                f"the error is in the waves {waves} of the box only, as of a flow that is forced at "
                f"random (residual {own:.4f})"))  # fmt: skip
        return replace(report, verdict=FOREIGN, reason=(
            f"no reading that was tried makes these data a solution of the periodic Navier-Stokes equations (residual "
            f"{self._least():.4f}); they may obey an equation of their own"))  # fmt: skip


def _times(own: float, least: float) -> str:
    ratio = own / max(least, 1e-12)
    return f"{ratio:.0f} times" if ratio < 1e4 else "more than 10,000 times"
