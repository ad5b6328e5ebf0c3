"""What is known of a model's errors: how its members are perturbed, and how far off it was. calibration.json."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Annotated, Any, final

import numpy as np
import xarray as xr
from pydantic import BeforeValidator, Field, PlainSerializer, ValidationError, model_validator

from fluidsurrogate.config.base import Config
from fluidsurrogate.config.stage_configs import MIN_MEMBERS
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json, write_json
from fluidsurrogate.data.layout import field_names
from fluidsurrogate.evaluation.ensemble_members import control_or_mean, perturbed_members
from fluidsurrogate.evaluation.ensemble_metrics.spread import normalised_spread
from fluidsurrogate.models.model_files import CONFIG_BYTES, file_of
from fluidsurrogate.models.perturbations import Perturbation
from solvers import StateSpec
from solvers.spectra import shell_wavenumbers

CALIBRATION, CALIBRATION_FORMAT = "calibration.json", 2
LEVEL = 0.5  # of the error bound, up to which a forecast counts as predictable

# JSON has no infinity; of a model that turned non-finite it is null.
Quantile = Annotated[
    float,
    Field(ge=0, allow_inf_nan=True),
    BeforeValidator(lambda value: math.inf if value is None else value),
    PlainSerializer(lambda value: None if math.isinf(value) else value, when_used="json"),
]


class PerturbationConfig(Config):
    """The `Perturbation` of the members, as it is stored."""

    spectra: tuple[tuple[Annotated[float, Field(ge=0)], ...], ...]
    memory: Annotated[float, Field(ge=0, lt=1)]
    factor: Annotated[float, Field(gt=0)]

    def build(self) -> Perturbation:
        """What `ensembles` takes."""
        return Perturbation(self.spectra, self.memory, self.factor)


@final
class Calibration(Config):
    """Split conformal prediction (Vovk et al. 2005; Angelopoulos & Bates 2021, arXiv:2107.07511): of `starts` forecasts
    from starts that nothing was fitted to, the ⌈(starts + 1) coverage⌉-th smallest error at each lead 1, 2, … The error
    of another forecast, from a start drawn as those were, is no larger with probability `coverage`, at each lead by
    itself.

    `nrmse`: of the unperturbed forecast's nRMSE; `ratio`: of that over spread^`exponent`, the spread that of
    `members` − 1 perturbed members: so a forecast has a bound of its own. The exponent is how the error goes with the
    spread from start to start, from 1 where the spread knows it to 0 where it knows nothing of it; with 1 throughout,
    forecasts of little spread would be bounded too closely at late leads, by lead alone those of much spread at early
    ones. `spread_skill`: the spread over the error of the members' mean, on the same starts. `factor_starts` other
    starts fixed perturbation and exponents. `source`: where the starts came from. `weights`: the hash of the weights
    of the model whose errors these are.
    """

    perturbation: PerturbationConfig
    members: Annotated[int, Field(ge=MIN_MEMBERS)]
    coverage: Annotated[float, Field(gt=0, lt=1)]
    starts: Annotated[int, Field(ge=1, lt=2**31)]  # as the attributes of files take it
    factor_starts: Annotated[int, Field(ge=1)]
    nrmse: tuple[Quantile, ...]
    ratio: tuple[Quantile, ...]
    exponent: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    spread_skill: tuple[Quantile, ...]
    source: str
    weights: str

    @model_validator(mode="after")
    def _check(self):
        if not len(self.nrmse) == len(self.ratio) == len(self.exponent) == len(self.spread_skill) > 0:
            raise ValueError("nrmse, ratio, exponent and spread_skill must be as many numbers, one a lead")
        return self

    def check(self, spec: StateSpec, weights: str) -> None:
        """UsageError where it belongs to a model of other states, or of other weights."""
        shells = len(shell_wavenumbers(spec.grid.n, spec.grid.length))
        if [len(spectrum) for spectrum in self.perturbation.spectra] != [shells] * len(spec.fields):
            raise UsageError(f"spectra must be {len(spec.fields)} of {shells} shells")
        if weights != self.weights:
            raise UsageError("it is of other weights")

    def bound(self, forecast: xr.Dataset, level: float = LEVEL) -> xr.Dataset:
        """The forecast with `error_bound` (trajectory, time), `horizon` (trajectory), the last time up to which the
        bound is at most `level`, and `horizon_censored`, true where it still is at the last calibrated time; the
        attribute `predictability` says it in a line.

        From the spread where the forecast has as many members as the calibration (of more, the first ones), else by
        lead alone. The start itself has the bound 0; leads beyond the calibrated ones have none: NaN.
        """
        count = len(self.nrmse)
        own = "member" in forecast.dims and forecast.sizes["member"] >= self.members
        quantile = np.full(forecast.sizes["time"], math.nan)
        quantile[: count + 1] = [0.0, *(self.ratio if own else self.nrmse)][: len(quantile)]
        leads = xr.DataArray(quantile, {"time": forecast["time"]}, ("time",))
        if own:
            members = perturbed_members(forecast.isel(member=slice(0, self.members)))
            spread = normalised_spread(members, control_or_mean(forecast))
            power = np.ones(forecast.sizes["time"])
            power[1 : count + 1] = self.exponent[: len(power) - 1]
            spread = spread ** xr.DataArray(power, {"time": forecast["time"]}, ("time",))
            spread = spread.where(leads != 0, 0.0)  # of no error there is no infinite part
        else:
            spread = xr.ones_like(forecast["trajectory"], dtype=np.float64)
        error_bound = (spread * leads).transpose("trajectory", "time")
        bounded = leads.notnull() & (forecast["time"] > forecast["time"][0])
        unbroken = is_finite(control_or_mean(forecast)) | ~bounded
        error_bound = error_bound.where(unbroken, math.inf)  # no number, no skill
        how = f"{count} leads calibrated on {self.starts} starts ({self.source}); " + (
            f"from the spread of {self.members - 1} perturbed members" if own else "by lead alone"
        )
        error_bound.attrs = {
            "long_name": f"nRMSE is at most this with probability {self.coverage:g}, at each time by itself",
            "units": "1", "coverage": self.coverage, "calibration_starts": self.starts, "calibration": how,
        }  # fmt: skip
        reached = (error_bound <= level).cumprod("time").astype(bool)
        last = reached.sum("time") - 1
        known = min(count, forecast.sizes["time"] - 1)
        times = forecast["time"].isel(time=last.clip(min=0)).drop_vars("time")
        about = f"last time up to which error_bound is at most {level:g}"
        attrs = {"level": level, "coverage": self.coverage, "calibration_starts": self.starts}
        times.attrs = {"long_name": about, "units": "s", **attrs}
        censored = last >= known
        censored.attrs = {"long_name": f"{about}: it still was at the last calibrated time", "units": "1"}
        made = forecast.assign(error_bound=error_bound, horizon=times, horizon_censored=censored)
        return made.assign_attrs(predictability=horizon_line(made))

    def write(self, folder: Path) -> None:
        """calibration.json, in one piece."""
        write_json(folder / CALIBRATION, {"format": CALIBRATION_FORMAT, **self.model_dump(mode="json")})


def is_finite(forecast: xr.Dataset) -> xr.DataArray:
    """Where all values of a forecast are finite, by trajectory and time."""
    known = xr.ones_like(forecast["time"], dtype=bool)
    for name in field_names(forecast):
        values = forecast[name]
        found = xr.apply_ufunc(np.isfinite, values)
        known = known & found.all([dim for dim in values.dims if dim not in ("trajectory", "time")])
    return known


def horizon_line(forecast: xr.Dataset) -> str:
    """What the horizon of a forecast is, in a line; of several trajectories the median and the range."""
    horizon, censored = forecast["horizon"], forecast["horizon_censored"].values
    values, at_least = horizon.values, ["at least " if c else "" for c in censored]
    if len(values) == 1:
        said = f"{at_least[0]}{values[0]:.12g}"
    else:
        least, most = int(values.argmin()), int(values.argmax())
        half = "at least " if censored.mean() >= 0.5 else ""
        said = (f"median {half}{np.median(values):.12g}, {values[least]:.12g} to {at_least[most]}{values[most]:.12g} "
                f"of {len(values)} trajectories")  # fmt: skip
    return (f"horizon: time {said} (nRMSE at most {horizon.attrs['level']:g} with probability "
            f"{horizon.attrs['coverage']:g}, calibrated on {horizon.attrs['calibration_starts']} starts)")  # fmt: skip


def read_calibration(folder: Path, spec: StateSpec, weights: str) -> Calibration | None:
    """The calibration in a model's folder, None where there is none; UsageError where it is not one of this model, of
    these states and with weights of this hash."""
    if not os.path.lexists(folder / CALIBRATION):
        return None
    path, again = file_of(folder, CALIBRATION), f"fluidsurrogate calibrate {folder} --force makes it again"
    if (size := path.stat().st_size) > CONFIG_BYTES:
        raise UsageError(f"{path} is no calibration: it has {size} bytes, at most {CONFIG_BYTES} are read; {again}")
    tree: Any = read_json(path)
    if not isinstance(tree, dict) or tree.get("format") is True or tree.get("format") != CALIBRATION_FORMAT:
        raise UsageError(f"{path} is no calibration of format {CALIBRATION_FORMAT}; {again}")
    try:
        numbers = {key: value for key, value in tree.items() if key != "format"}
        calibration = Calibration.model_validate_json(json.dumps(numbers))  # as JSON a list may stand for a tuple
        calibration.check(spec, weights)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise UsageError(f"{path} is no calibration: {where}: {first['msg']}; {again}") from None
    except UsageError as error:
        raise UsageError(f"{path} is no calibration of this model: {error}; {again}") from None
    return calibration
