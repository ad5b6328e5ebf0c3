r"""Does the classical solver step the stored states of a dataset onto the next ones, and is another reading better?

Labels cannot say that axes were exchanged, that a sign was changed, or that a unit or a viscosity is wrong. The solver
S can: with the right reading its residual

.. math:: \|S(w_k) - w_{k+1}\| / \|w_{k+1} - w_k\|

is small, measured 0.0000 to 0.002 on data of other programs, and with a wrong one it is not: exchanged axes 0.5 to 1.8,
twice the viscosity 0.2, an interval that is wrong by a tenth 0.1, normalised values 0.6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from fluidsurrogate.core.devices import fixed_threads
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.conversion import read_states, to_inputs
from fluidsurrogate.data.readers import as_dataset
from fluidsurrogate.evaluation.data_faults import Fault, find_faults
from fluidsurrogate.evaluation.physics_model import MAX_STEPS
from fluidsurrogate.evaluation.physics_report import ANOTHER, CONSISTENT, FOREIGN, UNDECIDED, PhysicsReport, Trial
from fluidsurrogate.evaluation.physics_sample import CannotCheck, choose_pairs, judged_pairs, read_sample
from fluidsurrogate.evaluation.physics_search import GOOD, ReadingSearch
from solvers import Stepper
from solvers.spectral_carry import SpectralCarry

SOME_DIVERGENCE, MUCH_DIVERGENCE = 0.01, 0.1  # of the gradient: a warning, an error
UNKNOWN_FORCES = ("white noise", "E_low")  # in the equation that a dataset of the package states


def check(
    data: xr.Dataset | str | Path,
    viscosity: float | None = None,
    free: Sequence[str] = (),
    *,
    splits: Sequence[str] | None = None,
    **options: Any,
) -> PhysicsReport:
    """Check a dataset before it is used: step its states with the classical solver, and look for faults.

    See `check_physics` for the first part and `find_faults` for the second.

    Parameters
    ----------
    data : xr.Dataset, str or Path
        A dataset, or where it is on disk.
    viscosity : float, optional
        The viscosity in m²/s, if the dataset does not state it; without either it is fitted.
    free : sequence of str, default ()
        What is fitted although the dataset states it: "viscosity" or "interval".
    splits : sequence of str, optional
        What each trajectory is for, to find the same states in two splits; by default the coordinate `split`.
    **options : object
        Further arguments of `check_physics`.

    Returns
    -------
    PhysicsReport
        `verdict`, `reason`, `trials`, `estimates`, `better_reading`, `faults`; `lines()` is the table.

    Raises
    ------
    UsageError
        If there is no dataset at the path (see `open_data`).

    Examples
    --------
    >>> import fluidsurrogate as fs
    >>> experiment = fs.Experiment.from_tree({
    ...     "name": "tiny",
    ...     "grid": {"n": 16},
    ...     "flow": {"kind": "decaying", "viscosity": 0.02, "wavenumber": 2},
    ...     "data": {"train": 2, "valid": 1, "test": 1, "steps": 4, "interval": 0.25},
    ... })
    >>> data = fs.generate(experiment)
    >>> fs.check(data).verdict
    'consistent'
    >>> fs.check(data.assign(vorticity=-data["vorticity"])).better_reading
    'axes exchanged, or the sign changed'
    """
    if viscosity is not None and not (
        isinstance(viscosity, int | float) and math.isfinite(viscosity) and viscosity >= 0
    ):
        raise UsageError(f"viscosity must be a number of at least 0 (got {viscosity!r})")
    if unknown := set(free) - {"viscosity", "interval"}:
        raise UsageError(f"free must name viscosity or interval (got {sorted(unknown)[0]!r})")
    dataset = as_dataset(data)
    if not isinstance(dataset, xr.Dataset):
        raise UsageError(f"an xarray Dataset or the path of one is needed (got {type(data).__name__})")
    report = check_physics(dataset, viscosity, free, **options)
    faults = [*_divergence(report), *find_faults(dataset, splits)]
    return replace(report, faults=sorted(faults, key=lambda fault: not fault.is_error))


def _divergence(report: PhysicsReport) -> list[Fault]:
    """Return that a velocity has divergence, unless another order of its components has none."""
    if report.divergence <= SOME_DIVERGENCE or report.verdict == ANOTHER:
        return []
    return [Fault("divergence", f"the divergence of the velocity is {report.divergence:.1%} of its gradient, but an "
                  "incompressible flow has none: are the components stored on the faces of the cells, in another order "
                  "or sampled too coarsely?", report.divergence > MUCH_DIVERGENCE)]  # fmt: skip


def check_physics(
    dataset: xr.Dataset,
    viscosity: float | None = None,
    free: Sequence[str] = (),
    constants: Mapping[str, float] | None = None,
    steppers: Sequence[Stepper] = (),
    stepper_name: str = "the experiment's flow",
    is_random: bool = False,
) -> PhysicsReport:
    """Step stored states with the classical solver, as they are read and as they might have been meant.

    A few pairs of neighbouring states are stepped: as given; with axes exchanged, the sign changed, or components in
    another order; and, if none of these fits, with another viscosity, interval, scale of the values, size of the box,
    mean flow and steady forcing. What the dataset does not state is free and is fitted: half of the pairs serve for
    fits, the residual is that of the other half.

    Parameters
    ----------
    dataset : xr.Dataset
        States in the layout of the package, opened lazily or not.
    viscosity : float, optional
        The viscosity in m²/s, if the dataset does not state it; without either it is fitted.
    free : sequence of str, default ()
        What is fitted although the dataset states it: "viscosity" or "interval".
    constants : mapping of str to float, optional
        Further constants of the flow that the dataset does not state, such as the drag.
    steppers : sequence of Stepper, default ()
        Solvers on the grid of the dataset, those of an experiment, one of which should step the states.
    stepper_name : str, default "the experiment's flow"
        What the table calls it.
    is_random : bool, default False
        Whether the flow is known to be forced at random, so that no step can be foreseen.

    Returns
    -------
    PhysicsReport
        What was tried, the verdict and the estimates.
    """
    trials = []
    text = str(dataset.attrs.get("equation", ""))
    is_random = is_random or any(words in text for words in UNKNOWN_FORCES)
    try:
        sample = read_sample(dataset, viscosity, constants)
        if steppers:
            trials.append(Trial(stepper_name, min(residual_of_stepper(dataset, one) for one in steppers), True))
    except CannotCheck as error:
        if not steppers:
            return PhysicsReport(UNDECIDED, str(error))
        return _by_steppers_alone(dataset, steppers, stepper_name, is_random, str(error))
    unknown = {"viscosity"} if sample.viscosity is None else set()
    with torch.no_grad(), fixed_threads(1):
        return ReadingSearch(sample, frozenset(free) | unknown, is_random, trials).run()


@torch.no_grad()
def residual_of_stepper(dataset: xr.Dataset, stepper: Stepper) -> float:
    """Measure how far a solver's step is from the stored states of a dataset, in the field where it is farthest.

    Parameters
    ----------
    dataset : xr.Dataset
        States that match the specification of the solver.
    stepper : Stepper
        The solver.

    Returns
    -------
    float
        The residual as in `check_physics`; infinite if the solver cannot run.

    Raises
    ------
    CannotCheck
        If the dataset holds no two neighbouring states that are finite and differ.
    """
    spec = stepper.spec
    dataset = dataset if "trajectory" in dataset.dims else dataset.expand_dims("trajectory")
    if dataset.sizes.get("time", 1) < 2:
        raise CannotCheck("it holds a single time")
    times = dataset["time"].values.astype(np.float64)
    chosen = choose_pairs(dataset[spec.fields[0].name], spec.grid, times, spec.interval)
    chosen = [pair for pair, is_judged in zip(chosen, judged_pairs(chosen).tolist(), strict=True) if is_judged]
    parts = [dataset.isel(trajectory=[i], time=[t, t + 1]) for i, t in chosen]
    states = torch.cat([read_states(part, spec, torch.float32) for part in parts])
    inputs = [to_inputs(part, spec, torch.float32) for part in parts]
    try:
        carry = stepper.start(states[:, 0], {f.name: torch.cat([one[f.name] for one in inputs]) for f in spec.inputs})
        if isinstance(carry, SpectralCarry) and max(carry.planned_steps) > MAX_STEPS:
            return math.inf
        made = stepper.state(stepper.advance(carry))
    except ValueError:  # the flow is too fast for the solver
        return math.inf
    error, change = made - states[:, 1], states[:, 1] - states[:, 0]
    sizes = [f.components for f in spec.fields]
    pairs = zip(error.split(sizes, 1), change.split(sizes, 1), strict=True)
    residual = max(float(e.norm() / c.norm().clamp(min=1e-30)) for e, c in pairs)
    return residual if math.isfinite(residual) else math.inf


def _by_steppers_alone(
    dataset: xr.Dataset, steppers: Sequence[Stepper], name: str, is_random: bool, reason: str
) -> PhysicsReport:  # fmt: skip
    """Return the verdict on data of which only the experiment's own solver knows the equation."""
    try:
        residual = min(residual_of_stepper(dataset, one) for one in steppers)
    except CannotCheck as error:
        return PhysicsReport(UNDECIDED, str(error))
    trials = [Trial(name, residual, True)]
    if residual <= GOOD:
        return PhysicsReport(CONSISTENT, f"{name} steps the states with a residual of {residual:.4f}", trials)
    if is_random:
        return PhysicsReport(UNDECIDED, "the flow is forced at random, so that no step can be foreseen", trials)
    return PhysicsReport(FOREIGN, f"{name} does not step the states (residual {residual:.4f}); {reason}", trials)
