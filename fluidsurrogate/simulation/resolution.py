"""Whether generated data are resolved: the solver on n cells against the solver on 2n cells, and the spectrum's end.

A simulation on too few cells is a different flow: what it cannot hold, it distorts. `generate` therefore follows one
test trajectory for one stored interval on twice the cells along each axis, and says by how much the two differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.config.stage_configs import GridConfig
from fluidsurrogate.core.devices import fixed_threads
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import atomic_write
from fluidsurrogate.simulation.rollout import rollout
from solvers import NavierStokes2D, Resampled
from solvers.spectra import enstrophy_spectrum, palinstrophy

RESOLUTION = "data_resolution"  # what a model says of the data that it learnt from
RESOLVED = 0.01  # the resolution error up to which data count as resolved
SHARE = 0.05  # of the work of the generation that the measurement may take
SECOND = 1.5e7  # cells times inner steps times fields that one core does in about a second
TAIL = 0.9  # the last shells: wavenumbers from this share of the largest retained one


@final
@dataclass(frozen=True)
class ResolutionSample:
    """One trajectory at the solver's full resolution: where it starts, and how well its spectrum is resolved.

    Attributes
    ----------
    start : ndarray, (1, component, y, x)
        The state after the spin-up, on the solver's grid.
    kmax_eta : float
        The smallest k_max η over the stored times, η = (ν³/χ)^(1/6) with χ = 2νP the rate at which enstrophy
        dissipates, P = ½⟨|∇ω|²⟩. From about 1.5 on, the solver's grid holds the dissipation range.
    tail : float
        The largest share of the enstrophy, over the stored times, in the shells from 0.9 k_max.
    inner_steps : int
        Inner steps of the first stored interval.
    """

    start: np.ndarray
    kmax_eta: float
    tail: float
    inner_steps: int

    @classmethod
    def of(
        cls, states: Float[Tensor, "time component y x"], solver: NavierStokes2D, viscosity: float, inner_steps: int
    ) -> ResolutionSample:
        """From the states of a trajectory on the solver's grid, vorticity first."""
        grid = solver.grid
        vorticity = states[:, :1].cpu().double()
        modes = zip(grid.max_modes, grid.length, strict=True)
        kmax = min(2 * math.pi * most / side for most, side in modes)
        chi = float(2 * viscosity * palinstrophy(vorticity, grid.length).max())
        spectrum = enstrophy_spectrum(vorticity, grid.length)
        k = 2 * math.pi / max(grid.length) * torch.arange(1, spectrum.shape[-1] + 1, dtype=torch.float64)
        share = spectrum[:, k >= TAIL * kmax].sum(-1) / spectrum.sum(-1).clamp(min=torch.finfo(torch.float64).tiny)
        eta = math.sqrt(viscosity) / chi ** (1 / 6) if chi > 0 else math.inf
        return cls(states[:1].cpu().numpy(), kmax * eta, float(share.max()), inner_steps)

    def write(self, path: Path) -> None:
        """Keep it beside data that are being made, so that a run that was killed measures the same."""
        with atomic_write(path) as beside, open(beside, "wb") as file:
            np.savez(file, start=self.start, kmax_eta=self.kmax_eta, tail=self.tail, inner_steps=self.inner_steps)

    @classmethod
    def read(cls, path: Path) -> ResolutionSample:
        """What `write` kept; UsageError where that is damaged."""
        try:
            with np.load(path, allow_pickle=False) as kept:
                numbers = float(kept["kmax_eta"]), float(kept["tail"]), int(kept["inner_steps"])
                return cls(kept["start"], *numbers)
        except Exception as error:  # numpy and zipfile raise all kinds
            raise UsageError(
                f"{path} is damaged ({type(error).__name__}): delete {path.parent} to begin again"
            ) from None


@final
@dataclass(frozen=True)
class Resolution:
    """How well data are resolved.

    Attributes
    ----------
    errors : dict of str to float
        By field of the solver: the root mean square of the difference between n and 2n cells, seen on n, over the root
        mean square of the field. Empty where that was too expensive.
    over : float
        The time over which they were measured: one stored interval, or a part of it where that was too expensive.
    interval : float
        The stored interval.
    kmax_eta, tail : float
        See `ResolutionSample`.
    """

    errors: dict[str, float]
    over: float
    interval: float
    kmax_eta: float
    tail: float

    @property
    def error(self) -> float | None:
        """The largest of the errors; None where none was measured."""
        return max(self.errors.values(), default=None)

    @property
    def attributes(self) -> dict[str, Any]:
        """What the data say of it, as attributes of a Dataset."""
        said: dict[str, Any] = {"enstrophy_in_last_shells": self.tail}
        if math.isfinite(self.kmax_eta):  # a fluid at rest dissipates nothing
            said["kmax_eta"] = self.kmax_eta
        if self.error is None:
            return {"resolution_check": "spectrum alone", **said}
        each = (
            {f"resolution_error_{name}": error for name, error in self.errors.items()} if len(self.errors) > 1 else {}
        )
        check = "n against 2n cells over one stored interval"
        if self.over < self.interval:
            check = f"n against 2n cells over {self.over:g}, a part of the stored interval"
        return {"resolution_error": self.error, **each, "resolution_check": check, **said}


def describe_resolution(attributes: Mapping[Any, Any]) -> str | None:
    """One line on what the attributes of a dataset say of its resolution; None where they say nothing."""
    if "resolution_check" not in attributes:
        return None
    said = [str(attributes["resolution_check"])]
    if "resolution_error" in attributes:
        said[0] = f"error {_percent(attributes['resolution_error'])} ({said[0]})"
    if "kmax_eta" in attributes:
        said.append(f"k_max eta {_number(attributes['kmax_eta'], '.3g')}")
    tail = _number(attributes.get("enstrophy_in_last_shells"), ".1e")
    return ", ".join([*said, f"{tail} of the enstrophy in the last shells"])


def _percent(value: Any) -> str:
    """A share of one in percent, however small."""
    return f"{100 * value:.3g}%" if isinstance(value, int | float | np.number) else str(value)


def _number(value: Any, form: str) -> str:
    """A number of a file that may be anybody's; as it is where it is none."""
    return format(float(value), form) if isinstance(value, int | float | np.number) else str(value)


def measure(experiment: Experiment, sample: ResolutionSample, inputs: Mapping[str, Tensor]) -> Resolution:
    """Follow a sample of test trajectory 0 on n and on 2n cells for one stored interval, and compare.

    Both begin at the same state, with the same inputs and, where the flow is stirred, the same kicks. The inner steps
    of the finer one are halved with its cells, so that the error of the time step counts too. Where this would cost
    more than 5 % of the generation and more than about a second, both go on for a part of the interval; where not even
    one inner step is affordable, only the spectrum is looked at. This choice counts work, not seconds: it is the same
    on every machine.

    Parameters
    ----------
    experiment : Experiment
        What the data are generated from.
    sample : Sample
        Test trajectory 0 at full resolution.
    inputs : mapping of str to Tensor, (1, component, y, x) or (1, component, 1, 1)
        What its step depends on, on the solver's grid.

    Returns
    -------
    Resolution
        The errors and the spectral measures.
    """
    interval, solver = experiment.data.interval, experiment.build_solver()
    parts = _parts(experiment, solver, sample.inner_steps)
    errors: dict[str, float] = {}
    if parts is not None:
        try:
            errors = _errors(experiment, solver, sample, inputs, interval / parts)
        except ValueError:
            parts = None  # the finer solver cannot run this flow at all
    return Resolution(errors, interval / parts if parts else 0.0, interval, sample.kmax_eta, sample.tail)


def _parts(experiment: Experiment, solver: NavierStokes2D, inner_steps: int) -> int | None:
    """Into how many parts to divide the interval so that following one is affordable; None where no part is."""
    data, cells = experiment.data, math.prod(solver.grid.n) * len(solver.spec.fields)
    steps = max(inner_steps, 1)
    intervals = data.stored_steps + (experiment.build_spin_up()[1] if experiment.build_flow().spin_up else 0)
    trajectories = sum(math.ceil(size / data.block) for size in (data.train, data.valid, data.test)) * data.block
    affordable = max(SECOND, SHARE * trajectories * intervals * steps * cells)
    parts = math.ceil(8 * steps * cells / affordable)
    return parts if parts <= steps and max(solver.grid.n) <= 32768 else None


@torch.no_grad()
def _errors(
    experiment: Experiment, solver: NavierStokes2D, sample: ResolutionSample, inputs: Mapping[str, Tensor], over: float
) -> dict[str, float]:
    grid = solver.grid
    twice = GridConfig(n=(2 * grid.n[0], 2 * grid.n[1]), length=grid.length)
    stepping = experiment.solver.model_copy(update={"dt": None})
    finer = experiment.model_copy(update={"grid": twice, "solver": stepping}).build_solver(over)
    coarse = solver if over == experiment.data.interval else (
        experiment.model_copy(update={"solver": stepping}).build_solver(over)
    )  # fmt: skip
    state = torch.from_numpy(sample.start).to(solver.device)
    seeds = [experiment.trajectory_seed("test", 0)]
    with fixed_threads(experiment.data.threads):
        here, there = (
            rollout(stepper, state, 1, inputs, seeds)[:, 1].double() for stepper in (coarse, Resampled(finer, grid))
        )
    off, size = ((x.square().mean((0, 2, 3))).sqrt().tolist() for x in (here - there, there))
    names = [field.name for field in solver.spec.fields]
    return {name: o / s if s > 0 else o for name, o, s in zip(names, off, size, strict=True)}
