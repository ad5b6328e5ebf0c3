"""What the check by physics found: what was tried, the verdict, and the estimates."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, final

import xarray as xr
from torch import Tensor

from fluidsurrogate.core.provenance import parse_json_attribute
from fluidsurrogate.evaluation.data_faults import Fault

CONSISTENT, ANOTHER, UNDECIDED, FOREIGN = (
    "consistent", "another reading is better", "no verdict", "not this equation",
)  # fmt: skip
PHYSICS_CHECK = "physics_check"  # the attribute of a dataset that records its check
ACCEPT_ADVICE = "--accept (in an experiment: data.accept = true) takes the data as they are all the same"


@final
@dataclass(frozen=True)
class Trial:
    """One way to read the file, and how well the solver then steps its states.

    Parameters
    ----------
    name : str
        What is assumed, in words.
    residual : float
        The residual, dimensionless.
    is_given : bool
        Whether this is what the file and the user say.
    """

    name: str
    residual: float
    is_given: bool = False


@final
@dataclass(frozen=True)
class PhysicsReport:
    """What the check by physics found.

    Parameters
    ----------
    verdict : str
        "consistent", "another reading is better", "no verdict" or "not this equation".
    reason : str
        Why, in one sentence.
    trials : list of Trial
        What was tried.
    estimates : dict of str to float
        Estimates by name: viscosity, interval, mean_velocity_x, forcing_rms and so on.
    better_reading : str or None
        The reading that is better by a factor of ten, if there is one.
    notes : list of str
        What else to know.
    forcing : Tensor or None
        A steady forcing that was fitted, at the points of the states, shape (component, y, x).
    pairs : int
        Number of pairs of states.
    divergence : float
        Of a velocity as it is given: the divergence over the gradient, both as root mean squares.
    faults : list of Fault
        What else is wrong with the dataset, if it was looked through.
    """

    verdict: str
    reason: str
    trials: list[Trial] = field(default_factory=list)
    estimates: dict[str, float] = field(default_factory=dict)
    better_reading: str | None = None
    notes: list[str] = field(default_factory=list)
    forcing: Tensor | None = None
    pairs: int = 0
    divergence: float = 0.0
    faults: list[Fault] = field(default_factory=list)

    @property
    def is_refused(self) -> bool:
        """Whether the data should not be used as they are."""
        return self.verdict == ANOTHER or bool(self.errors)

    @property
    def errors(self) -> list[Fault]:
        """The faults that make the data unfit for training."""
        return [fault for fault in self.faults if fault.is_error]

    @property
    def residual(self) -> float | None:
        """The residual of the file as it is given; None if nothing was stepped."""
        return next((trial.residual for trial in self.trials if trial.is_given), None)

    @property
    def solver_applies(self) -> bool:
        """Whether the classical solver steps the data, so that it may be compared with forecasts."""
        return self.verdict == CONSISTENT

    def summary(self) -> str:
        """Return the verdict and its reason.

        Returns
        -------
        str
            One line.
        """
        return f"{self.verdict}: {self.reason}"

    def lines(self) -> list[str]:
        """Return the table of what was tried, the verdict, the estimates and the notes.

        Returns
        -------
        list of str
            Lines of text.
        """
        lines = []
        if self.trials:
            width = max(len(trial.name) for trial in self.trials)
            lines.append(f"{'what was tried':<{width}}  residual")
            lines += [f"{trial.name:<{width}}  {format_residual(trial.residual)}" for trial in self.trials]
        lines.append(f"verdict: {self.summary()}")
        if self.estimates:
            lines.append("estimates: " + ", ".join(f"{n.replace('_', ' ')} {v:.4g}" for n, v in self.estimates.items()))
        lines += [f"note: {note}" for note in self.notes]
        return lines + [f"{'fault' if fault.is_error else 'warning'}: {fault.message}" for fault in self.faults]

    def refusal(self) -> str:
        """Return the error of data that should not be used as they are.

        Returns
        -------
        str
            One line that names the reading and what to do.
        """
        reasons = [*([self.reason] if self.verdict == ANOTHER else []), *(fault.message for fault in self.errors)]
        return f"{'; '.join(reasons)}; {ACCEPT_ADVICE}"


def format_residual(residual: float) -> str:
    """Return a residual with the digits that count.

    Parameters
    ----------
    residual : float
        The residual.

    Returns
    -------
    str
        Four decimals, or fewer for large ones.
    """
    if not math.isfinite(residual):
        return "cannot be stepped"
    return f"{residual:.4f}" if residual < 10 else f"{residual:.3g}"


def record_check(dataset: xr.Dataset, report: PhysicsReport, accepted: bool = False) -> xr.Dataset:
    """Return a dataset that says, for ever, what the check by physics found and whether it was accepted all the same.

    Parameters
    ----------
    dataset : xr.Dataset
        The dataset.
    report : PhysicsReport
        What was found.
    accepted : bool, default False
        Whether the user takes the data although another reading is better.

    Returns
    -------
    xr.Dataset
        The dataset with the attribute `physics_check`, JSON.
    """
    residual = report.residual
    record: dict[str, Any] = {
        "verdict": report.verdict,
        "reason": report.reason,
        "residual": None if residual is None or not math.isfinite(residual) else float(f"{residual:.4g}"),
        "better_reading": report.better_reading,
        "accepted": bool(accepted and report.is_refused),
    }
    if report.errors:
        record["faults"] = [fault.message for fault in report.errors]
    return dataset.assign_attrs({PHYSICS_CHECK: json.dumps(record)})


def recorded_check(dataset: xr.Dataset) -> dict | None:
    """Return what a dataset records of its check by physics.

    Parameters
    ----------
    dataset : xr.Dataset
        The dataset.

    Returns
    -------
    dict or None
        `verdict`, `reason`, `residual`, `better_reading` and `accepted`; None if there is no record.
    """
    record = parse_json_attribute(dataset.attrs.get(PHYSICS_CHECK))
    return record if isinstance(record, dict) and "verdict" in record else None


def is_accepted(dataset: xr.Dataset) -> bool:
    """Return whether a dataset says that its user took it although another reading is better.

    Parameters
    ----------
    dataset : xr.Dataset
        The dataset.

    Returns
    -------
    bool
        True if it says so.
    """
    return bool((recorded_check(dataset) or {}).get("accepted"))
