"""The calibration of a model: the error bounds of its forecasts and the perturbation of their members."""

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
from fluidsurrogate.models.model_files import MAX_CONFIG_BYTES, find_file
from fluidsurrogate.models.perturbations import Perturbation
from solvers import StateSpec
from solvers.spectra import shell_wavenumbers

CALIBRATION_FILE, CALIBRATION_FORMAT = "calibration.json", 2
DEFAULT_LEVEL = 0.5  # of the error bound, up to which a forecast counts as predictable

# JSON has no infinity: the infinite error of a forecast that turned non-finite is stored as null.
NonNegativeOrInfinite = Annotated[
    float,
    Field(ge=0, allow_inf_nan=True),
    BeforeValidator(lambda value: math.inf if value is None else value),
    PlainSerializer(lambda value: None if math.isinf(value) else value, when_used="json"),
]


class PerturbationConfig(Config):
    """The `Perturbation` of the members as it is stored in calibration.json.

    Parameters
    ----------
    spectra : tuple of tuple of float
        For each field, the variance in each shell of wavenumbers.
    memory : float
        Correlation of the perturbations from one step to the next.
    factor : float
        Size of the perturbations, relative to the one-step errors of the model.
    """

    spectra: tuple[tuple[Annotated[float, Field(ge=0)], ...], ...]
    memory: Annotated[float, Field(ge=0, lt=1)]
    factor: Annotated[float, Field(gt=0)]

    def build(self) -> Perturbation:
        """Return the perturbation that `perturbed_forecast` takes.

        Returns
        -------
        Perturbation
            With the same numbers.
        """
        return Perturbation(self.spectra, self.memory, self.factor)


@final
class Calibration(Config):
    r"""Conformal bounds of a model's errors, measured on forecasts from initial states that nothing was fitted to.

    Split conformal prediction (Vovk et al. 2005; Angelopoulos & Bates 2021, arXiv:2107.07511): of the errors of
    `starts` forecasts, the ⌈(starts + 1) · coverage⌉-th smallest is taken at each lead 1, 2, … The error of another
    forecast, from an initial state that is drawn as those were, is no larger with probability `coverage`, at each lead
    by itself.

    A forecast without members is bounded by `nrmse`. A forecast with members is bounded by its own spread:

    .. math:: \mathrm{bound} = \mathrm{ratio} \cdot \mathrm{spread}^{\mathrm{exponent}}

    The exponent says how the error grows with the spread from one initial state to another: 1 if the spread predicts
    the error, 0 if the spread says nothing about it. With the exponent 1 at all leads, forecasts of little spread would
    be bounded too closely at late leads; with 0, those of much spread at early leads.

    Parameters
    ----------
    perturbation : PerturbationConfig
        The perturbation of the members.
    members : int
        Number of members of the calibration forecasts, the unperturbed one included.
    coverage : float
        Probability with which the bound holds, between 0 and 1.
    starts : int
        Number of initial states that the bounds were measured on.
    factor_starts : int
        Number of other initial states that perturbation and exponents were fitted to.
    nrmse : tuple of float
        Quantile of the unperturbed forecast's nRMSE at each lead.
    ratio : tuple of float
        Quantile of the nRMSE over spread^exponent at each lead.
    exponent : tuple of float
        Exponent of the spread at each lead, between 0 and 1.
    spread_skill : tuple of float
        Spread of the members over the error of their mean at each lead, on the same initial states.
    source : str
        Where the initial states came from.
    weights : str
        SHA-256 hash of the weights of the calibrated model.
    """

    perturbation: PerturbationConfig
    members: Annotated[int, Field(ge=MIN_MEMBERS)]
    coverage: Annotated[float, Field(gt=0, lt=1)]
    starts: Annotated[int, Field(ge=1, lt=2**31)]  # as the attributes of files take it
    factor_starts: Annotated[int, Field(ge=1)]
    nrmse: tuple[NonNegativeOrInfinite, ...]
    ratio: tuple[NonNegativeOrInfinite, ...]
    exponent: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    spread_skill: tuple[NonNegativeOrInfinite, ...]
    source: str
    weights: str

    @model_validator(mode="after")
    def _check(self):
        if not len(self.nrmse) == len(self.ratio) == len(self.exponent) == len(self.spread_skill) > 0:
            raise ValueError("nrmse, ratio, exponent and spread_skill must each have one number for every lead")
        return self

    def check(self, spec: StateSpec, weights: str) -> None:
        """Check that the calibration belongs to a model.

        Parameters
        ----------
        spec : StateSpec
            Grid and fields of the model's states.
        weights : str
            SHA-256 hash of the model's weights.

        Raises
        ------
        UsageError
            If the calibration was made with other states or other weights.
        """
        shells = len(shell_wavenumbers(spec.grid.n, spec.grid.length))
        if [len(spectrum) for spectrum in self.perturbation.spectra] != [shells] * len(spec.fields):
            raise UsageError(f"perturbation.spectra must be {len(spec.fields)} spectra of {shells} shells, "
                             "as the model's states have")  # fmt: skip
        if weights != self.weights:
            raise UsageError("it was made for other weights")

    def add_error_bound(self, forecast: xr.Dataset, level: float = DEFAULT_LEVEL) -> xr.Dataset:
        """Add the error bound and the horizon to a forecast.

        The bound follows from the spread of the members if the forecast has at least as many as the calibration (of
        more, the first ones count); otherwise it depends on the lead alone. The bound of the initial state is 0. It is
        NaN at leads that were not calibrated, and infinite if the forecast is not finite.

        Parameters
        ----------
        forecast : Dataset
            Fields (trajectory, time, y, x), or (trajectory, member, time, y, x) with the unperturbed member first.
        level : float
            Value of the error bound up to which the forecast counts as predictable.

        Returns
        -------
        Dataset
            The forecast with three more variables: `error_bound` (trajectory, time); `horizon` (trajectory), the last
            time up to which the bound is at most `level`; `horizon_censored` (trajectory), true if the bound still is
            at most `level` at the last calibrated time. The attribute `predictability` describes the horizon.
        """
        count = len(self.nrmse)
        from_spread = "member" in forecast.dims and forecast.sizes["member"] >= self.members
        quantile = np.full(forecast.sizes["time"], math.nan)
        quantile[: count + 1] = [0.0, *(self.ratio if from_spread else self.nrmse)][: len(quantile)]
        leads = xr.DataArray(quantile, {"time": forecast["time"]}, ("time",))
        if from_spread:
            members = perturbed_members(forecast.isel(member=slice(0, self.members)))
            spread = normalised_spread(members, control_or_mean(forecast))
            power = np.ones(forecast.sizes["time"])
            power[1 : count + 1] = self.exponent[: len(power) - 1]
            spread = spread ** xr.DataArray(power, {"time": forecast["time"]}, ("time",))
            spread = spread.where(leads != 0, 0.0)  # 0 times an infinite spread would be NaN
        else:
            spread = xr.ones_like(forecast["trajectory"], dtype=np.float64)
        error_bound = (spread * leads).transpose("trajectory", "time")
        bounded = leads.notnull() & (forecast["time"] > forecast["time"][0])
        error_bound = error_bound.where(all_finite(control_or_mean(forecast)) | ~bounded, math.inf)
        basis = f"the spread of {self.members - 1} perturbed members" if from_spread else "the lead alone"
        error_bound.attrs = {
            "long_name": f"nRMSE is at most this with probability {self.coverage:g}, at each time by itself",
            "units": "1", "coverage": self.coverage, "calibration_starts": self.starts,
            "calibration": f"{count} leads calibrated on {self.starts} starts ({self.source}); from {basis}",
        }  # fmt: skip
        return self._add_horizon(forecast.assign(error_bound=error_bound), level)

    def _add_horizon(self, forecast: xr.Dataset, level: float) -> xr.Dataset:
        """Add the last time up to which the error bound of a forecast is at most `level`."""
        within = (forecast["error_bound"] <= level).cumprod("time").astype(bool)
        last = within.sum("time") - 1
        calibrated = min(len(self.nrmse), forecast.sizes["time"] - 1)
        horizon = forecast["time"].isel(time=last.clip(min=0)).drop_vars("time")
        about = f"last time up to which error_bound is at most {level:g}"
        attrs = {"level": level, "coverage": self.coverage, "calibration_starts": self.starts}
        horizon.attrs = {"long_name": about, "units": "s", **attrs}
        censored = last >= calibrated
        censored.attrs = {"long_name": f"{about}: it still was at the last calibrated time", "units": "1"}
        bounded = forecast.assign(horizon=horizon, horizon_censored=censored)
        return bounded.assign_attrs(predictability=describe_horizon(bounded))

    def write(self, folder: Path) -> None:
        """Write calibration.json to a folder, in one piece.

        Parameters
        ----------
        folder : Path
            The folder of the model.
        """
        write_json(folder / CALIBRATION_FILE, {"format": CALIBRATION_FORMAT, **self.model_dump(mode="json")})


def all_finite(forecast: xr.Dataset) -> xr.DataArray:
    """Return where all values of a forecast are finite.

    Parameters
    ----------
    forecast : Dataset
        Fields (trajectory, time, y, x).

    Returns
    -------
    DataArray
        True or false, with the dimensions trajectory and time.
    """
    finite = xr.ones_like(forecast["time"], dtype=bool)
    for name in field_names(forecast):
        values = forecast[name]
        found = xr.apply_ufunc(np.isfinite, values)
        finite = finite & found.all([dim for dim in values.dims if dim not in ("trajectory", "time")])
    return finite


def describe_horizon(forecast: xr.Dataset) -> str:
    """Describe the horizon of a forecast in one line; of several trajectories, by median and range.

    Parameters
    ----------
    forecast : Dataset
        A forecast with the variables `horizon` and `horizon_censored`.

    Returns
    -------
    str
        One line, without a line break.
    """
    horizon, censored = forecast["horizon"], forecast["horizon_censored"].values
    values, at_least = horizon.values, ["at least " if c else "" for c in censored]
    if len(values) == 1:
        times = f"{at_least[0]}{values[0]:.12g}"
    else:
        least, most = int(values.argmin()), int(values.argmax())
        half = "at least " if censored.mean() >= 0.5 else ""
        times = (f"median {half}{np.median(values):.12g}, {values[least]:.12g} to {at_least[most]}{values[most]:.12g} "
                 f"of {len(values)} trajectories")  # fmt: skip
    return (f"horizon: time {times} (nRMSE at most {horizon.attrs['level']:g} with probability "
            f"{horizon.attrs['coverage']:g}, calibrated on {horizon.attrs['calibration_starts']} starts)")  # fmt: skip


def read_calibration(folder: Path, spec: StateSpec, weights: str) -> Calibration | None:
    """Read the calibration in the folder of a model.

    Parameters
    ----------
    folder : Path
        The folder of the model.
    spec : StateSpec
        Grid and fields of the model's states.
    weights : str
        SHA-256 hash of the model's weights.

    Returns
    -------
    Calibration or None
        None if the folder has no calibration.json.

    Raises
    ------
    UsageError
        If the file is not a calibration, or one of another model.
    """
    if not os.path.lexists(folder / CALIBRATION_FILE):
        return None
    path, advice = find_file(folder, CALIBRATION_FILE), f"make it again: fluidsurrogate calibrate {folder} --force"
    if (size := path.stat().st_size) > MAX_CONFIG_BYTES:
        raise UsageError(f"{path} is not a calibration: it has {size} bytes, at most {MAX_CONFIG_BYTES} are read; "
                         f"{advice}")  # fmt: skip
    tree: Any = read_json(path)
    if not isinstance(tree, dict) or tree.get("format") is True or tree.get("format") != CALIBRATION_FORMAT:
        raise UsageError(f"{path} is not a calibration of format {CALIBRATION_FORMAT}; {advice}")
    try:
        values = {key: value for key, value in tree.items() if key != "format"}
        calibration = Calibration.model_validate_json(json.dumps(values))  # as JSON a list may stand for a tuple
        calibration.check(spec, weights)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise UsageError(f"{path} is not a calibration: {where}: {first['msg']}; {advice}") from None
    except UsageError as error:
        raise UsageError(f"{path} is not a calibration of this model: {error}; {advice}") from None
    return calibration
