"""Measure whether generated data are resolved: compare n with more cells, and look at the end of the spectrum.

A simulation on too few cells is a different flow: scales that the grid cannot hold distort those that it can.
`generate` therefore runs one test trajectory, of the first block the one with the least viscosity, for one stored
interval on a finer grid, and reports how much the two differ. In two dimensions the finer grid has 2n cells along each
axis, which costs 8 times as much. In three dimensions that would cost 16 times as much; the finer grid has 3n/2 cells
(5 times), which already holds the scales right below those of n, where most of the error arises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.config.experiment import Experiment, cells_for_all_modes
from fluidsurrogate.config.stage_configs import GridConfig
from fluidsurrogate.core.devices import fixed_threads
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import atomic_write
from fluidsurrogate.simulation.rollout import rollout
from solvers import Grid, NavierStokes, Resampled
from solvers.spectra import enstrophy_spectrum, palinstrophy

RESOLUTION = "data_resolution"  # the key of a model's metadata that describes the resolution of its training data
RESOLVED = 0.01  # the resolution error up to which data count as resolved
WORK_FRACTION = 0.05  # of the work of the generation that the measurement may take
WORK_PER_SECOND = 1.5e7  # cells times inner steps times fields that one core does in about a second
TAIL_START = 0.9  # the last shells: wavenumbers from this share of the largest retained one


@final
@dataclass(frozen=True)
class ResolutionSample:
    """One trajectory at the solver's full resolution: its initial state, and how well its spectrum is resolved.

    Parameters
    ----------
    start : ndarray
        The state after the spin-up on the solver's grid, shape (1, component, y, x) or (1, component, z, y, x).
    kmax_eta : float
        The smallest k_max η over the stored times. In two dimensions η = (ν³/χ)^(1/6), where χ = 2νP is the dissipation
        rate of enstrophy and P = ½⟨|∇ω|²⟩ the palinstrophy. In three dimensions η = (ν³/ε)^(1/4), Kolmogorov's length,
        where ε = 2νZ is the dissipation rate of energy and Z = ½⟨|ω|²⟩ the enstrophy. From about 1.5 on, the grid holds
        the dissipation range.
    tail : float
        The largest share of the enstrophy, over the stored times, in the shells from 0.9 k_max.
    inner_steps : int
        Number of inner steps of the first stored interval.
    number : int
        The number of the trajectory among those for testing.
    """

    start: np.ndarray
    kmax_eta: float
    tail: float
    inner_steps: int
    number: int = 0

    @classmethod
    def from_states(
        cls,
        states: Float[Tensor, "time component *space"],
        solver: NavierStokes,
        viscosity: float,
        inner_steps: int,
        number: int = 0,
    ) -> ResolutionSample:
        """Make a sample from the states of a trajectory.

        Parameters
        ----------
        states : Tensor
            States on the solver's grid: (time, component, y, x) with the vorticity as the first component, or
            (time, component, z, y, x) with the velocity as the first three.
        solver : NavierStokes
            The solver that made them.
        viscosity : float
            The kinematic viscosity ν, in m²/s.
        inner_steps : int
            Number of inner steps of the first stored interval.
        number : int
            The number of the trajectory among those for testing.

        Returns
        -------
        ResolutionSample
            The sample.
        """
        grid = solver.grid
        flow = states[:, : solver.spec.fields[0].components].cpu().double()
        modes = zip(grid.max_modes, grid.length, strict=True)
        kmax = min(2 * math.pi * most / side for most, side in modes)
        spectrum = enstrophy_spectrum(flow, grid.length)
        k = 2 * math.pi / max(grid.length) * torch.arange(1, spectrum.shape[-1] + 1, dtype=torch.float64)
        share = spectrum[:, k >= TAIL_START * kmax].sum(-1) / spectrum.sum(-1).clamp(
            min=torch.finfo(torch.float64).tiny
        )
        if grid.dimensions == 2:
            chi = float(2 * viscosity * palinstrophy(flow, grid.length).max())
            eta = math.sqrt(viscosity) / chi ** (1 / 6) if chi > 0 else math.inf
        else:
            epsilon = float(2 * viscosity * spectrum.sum(-1).max())
            eta = (viscosity**3 / epsilon) ** (1 / 4) if epsilon > 0 else math.inf
        return cls(states[:1].cpu().numpy(), kmax * eta, float(share.max()), inner_steps, number)

    def write(self, path: Path) -> None:
        """Write the sample to a file, so that an interrupted generation measures the same when it continues.

        Parameters
        ----------
        path : Path
            The file.
        """
        with atomic_write(path) as beside, open(beside, "wb") as file:
            np.savez(file, **asdict(self))

    @classmethod
    def read(cls, path: Path) -> ResolutionSample:
        """Read a sample that `write` has written.

        Parameters
        ----------
        path : Path
            The file.

        Returns
        -------
        ResolutionSample
            The sample.

        Raises
        ------
        UsageError
            If the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as kept:
                counts = int(kept["inner_steps"]), int(kept["number"])
                return cls(kept["start"], float(kept["kmax_eta"]), float(kept["tail"]), *counts)
        except Exception as error:  # numpy and zipfile raise all kinds
            raise UsageError(
                f"{path} is damaged ({type(error).__name__}): delete {path.parent} to start again"
            ) from None


@final
@dataclass(frozen=True)
class Resolution:
    """How well data are resolved.

    Parameters
    ----------
    errors : dict of str to float
        By field of the solver: the root mean square of the difference between n and the finer grid's cells, compared on
        n cells, over the root mean square of the field. Empty if the measurement was too expensive.
    duration : float
        The time over which the errors were measured, in s: one stored interval, or a part of it if a whole one was too
        expensive.
    interval : float
        The stored interval, in s.
    kmax_eta : float
        See `ResolutionSample`.
    tail : float
        See `ResolutionSample`.
    refinement : {"2n", "3n/2"}
        Number of cells of the finer grid along each axis.
    """

    errors: dict[str, float]
    duration: float
    interval: float
    kmax_eta: float
    tail: float
    refinement: str = "2n"

    @property
    def error(self) -> float | None:
        """The largest of the errors; None if none was measured."""
        return max(self.errors.values(), default=None)

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of a dataset that describe its resolution."""
        spectral: dict[str, Any] = {"enstrophy_in_last_shells": self.tail}
        if math.isfinite(self.kmax_eta):  # a fluid at rest dissipates nothing
            spectral["kmax_eta"] = self.kmax_eta
        if self.error is None:
            return {"resolution_check": "spectrum alone", **spectral}
        each = (
            {f"resolution_error_{name}": error for name, error in self.errors.items()} if len(self.errors) > 1 else {}
        )
        check = f"n against {self.refinement} cells over one stored interval"
        if self.duration < self.interval:
            check = f"n against {self.refinement} cells over {self.duration:g}, a part of the stored interval"
        return {"resolution_error": self.error, **each, "resolution_check": check, **spectral}


def describe_resolution(attributes: Mapping[Any, Any]) -> str | None:
    """Describe the resolution of a dataset in one line.

    Parameters
    ----------
    attributes : mapping
        The attributes of the dataset, which may come from anywhere.

    Returns
    -------
    str or None
        The line; None if the attributes do not describe the resolution.
    """
    if "resolution_check" not in attributes:
        return None
    parts = [str(attributes["resolution_check"])]
    if "resolution_error" in attributes:
        parts[0] = f"error {_percent(attributes['resolution_error'])} ({parts[0]})"
    if "kmax_eta" in attributes:
        parts.append(f"k_max eta {_number(attributes['kmax_eta'], '.3g')}")
    tail = _number(attributes.get("enstrophy_in_last_shells"), ".1e")
    return ", ".join([*parts, f"{tail} of the enstrophy in the last shells"])


def _percent(value: Any) -> str:
    """Format a fraction in percent, to three digits however small it is."""
    return f"{100 * value:.3g}%" if isinstance(value, int | float | np.number) else str(value)


def _number(value: Any, form: str) -> str:
    """Format a value of somebody's file as a number, or as it is if it is not a number."""
    return format(float(value), form) if isinstance(value, int | float | np.number) else str(value)


def measure_resolution(experiment: Experiment, sample: ResolutionSample, inputs: Mapping[str, Tensor]) -> Resolution:
    """Run a test trajectory on n cells and on a finer grid for one stored interval, and compare the two.

    Both start from the same state, with the same inputs and, if the flow has a stochastic forcing, the same kicks. The
    inner steps of the finer run shrink with its cells, so that the error of the time step counts too. If this would
    cost more than 5 % of the generation and more than about a second, both run over a part of the interval only. If not
    even one inner step is affordable, only the spectrum is used. This choice counts work, not seconds, so it is the
    same on every machine.

    Parameters
    ----------
    experiment : Experiment
        What the data are generated from.
    sample : ResolutionSample
        The trajectory at full resolution.
    inputs : mapping of str to Tensor
        The inputs of its step on the solver's grid, shape (1, component, y, x) or (1, component, 1, 1); in three
        dimensions with one axis more.

    Returns
    -------
    Resolution
        The errors and the spectral measures.
    """
    interval, solver = experiment.data.interval, experiment.build_solver()
    parts = _affordable_parts(experiment, solver, sample.inner_steps)
    errors: dict[str, float] = {}
    if parts is not None:
        try:
            errors = _relative_errors(experiment, solver, sample, inputs, interval / parts)
        except ValueError:
            parts = None  # the finer solver cannot run this flow at all
    duration, refinement = interval / parts if parts else 0.0, "2n" if solver.grid.dimensions == 2 else "3n/2"
    return Resolution(errors, duration, interval, sample.kmax_eta, sample.tail, refinement)


def _finer_cells(grid: Grid) -> tuple[int, ...]:
    """Return the number of cells of the finer grid along each axis."""
    return tuple(2 * n for n in grid.n) if grid.dimensions == 2 else cells_for_all_modes(grid.n)


def _affordable_parts(experiment: Experiment, solver: NavierStokes, inner_steps: int) -> int | None:
    """Return into how many parts the interval must be divided to afford one of them; None if no part is affordable."""
    data, cells = experiment.data, math.prod(solver.grid.n) * solver.spec.components
    finer = _finer_cells(solver.grid)
    cost = math.prod(finer) / math.prod(solver.grid.n) * finer[0] / solver.grid.n[0]  # of more cells, in shorter steps
    steps = max(inner_steps, 1)
    intervals = data.stored_intervals + (experiment.build_spin_up()[1] if experiment.build_flow().spin_up else 0)
    trajectories = sum(math.ceil(size / data.block) for size in (data.train, data.valid, data.test)) * data.block
    affordable = max(WORK_PER_SECOND, WORK_FRACTION * trajectories * intervals * steps * cells)
    parts = math.ceil(cost * steps * cells / affordable)
    return parts if parts <= steps and max(finer) <= 65536 else None


@torch.no_grad()
def _relative_errors(
    experiment: Experiment,
    solver: NavierStokes,
    sample: ResolutionSample,
    inputs: Mapping[str, Tensor],
    duration: float,
) -> dict[str, float]:
    """Return the relative difference between n and the finer grid's cells after some time, by field of the solver."""
    grid = solver.grid
    more = GridConfig(n=_finer_cells(grid), length=grid.length)
    stepping = experiment.solver.model_copy(update={"dt": None})
    finer = experiment.model_copy(update={"grid": more, "solver": stepping}).build_solver(duration)
    coarse = solver if duration == experiment.data.interval else (
        experiment.model_copy(update={"solver": stepping}).build_solver(duration)
    )  # fmt: skip
    state = torch.from_numpy(sample.start).to(solver.device)
    seeds = [experiment.trajectory_seed("test", sample.number)]
    with fixed_threads(experiment.data.threads):
        here, there = (
            rollout(stepper, state, 1, inputs, seeds)[:, 1].double() for stepper in (coarse, Resampled(finer, grid))
        )
    axes, names = (0, *range(2, here.ndim)), [field.name for field in solver.spec.fields]
    components = [field.components for field in solver.spec.fields]
    powers = (x.square().mean(axes).split(components) for x in (here - there, there))
    off, size = ([float(p.sum().sqrt()) for p in parts] for parts in powers)
    return {name: o / s if s > 0 else o for name, o, s in zip(names, off, size, strict=True)}
