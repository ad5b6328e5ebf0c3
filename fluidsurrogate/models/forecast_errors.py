"""Statistics of forecast errors over many initial states, as a calibration needs them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import xarray as xr

from fluidsurrogate.core.progress import Progress
from fluidsurrogate.evaluation.ensemble_members import control_or_mean, perturbed_members
from fluidsurrogate.evaluation.ensemble_metrics.spread import normalised_spread
from fluidsurrogate.evaluation.metrics.normalised_rmse import nrmse
from fluidsurrogate.models.forecasting import perturbed_forecast
from fluidsurrogate.models.perturbations import Perturbation
from fluidsurrogate.models.surrogate import Surrogate


@dataclass(frozen=True)
class ForecastErrors:
    """Errors and spreads of ensemble forecasts, by initial state and lead.

    Parameters
    ----------
    error : ndarray
        The nRMSE of the unperturbed member, shape (start, lead).
    spread : ndarray
        Spread of the perturbed members over the RMS of the unperturbed one, shape (start, lead). It is known without
        the truth.
    mean_error : ndarray
        The nRMSE of the mean of the perturbed members, shape (start, lead).
    spread_over_truth : ndarray
        Spread of the perturbed members over the RMS of the truth, shape (start, lead).
    """

    error: np.ndarray
    spread: np.ndarray
    mean_error: np.ndarray
    spread_over_truth: np.ndarray

    @classmethod
    def concatenate(cls, parts: list[ForecastErrors]) -> ForecastErrors:
        """Concatenate the errors of several batches of initial states.

        Parameters
        ----------
        parts : list of ForecastErrors
            With the same leads.

        Returns
        -------
        ForecastErrors
            Of all initial states, in order.
        """
        return cls(*(np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(cls)))

    def error_over_spread(self, exponent: np.ndarray) -> np.ndarray:
        """Compute the error over spread^exponent.

        Parameters
        ----------
        exponent : ndarray
            Exponent of the spread at each lead, shape (lead,).

        Returns
        -------
        ndarray
            Shape (start, lead); 0 if the spread is infinite, and with it the bound.
        """
        spread = self.spread**exponent
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(np.isinf(spread) | (self.error == 0), 0.0, self.error / spread)

    def fit_exponent(self) -> np.ndarray:
        """Fit the exponent with which the error grows with the spread from one initial state to another.

        It is the slope of the logarithm of the error on that of the spread, by least squares.

        Returns
        -------
        ndarray
            One number for each lead, between 0 and 1.
        """
        known = np.isfinite(self.error) & np.isfinite(self.spread) & (self.error > 0) & (self.spread > 0)
        y, x = (np.log(np.where(known, values, 1.0)) for values in (self.error, self.spread))
        count = np.maximum(known.sum(0), 1)
        y, x = (np.where(known, v - np.where(known, v, 0.0).sum(0) / count, 0.0) for v in (y, x))
        return np.clip((x * y).sum(0) / np.maximum((x**2).sum(0), 1e-300), 0.0, 1.0)

    def spread_skill(self) -> np.ndarray:
        """Compute the spread of the members over the error of their mean.

        It is the root of the ratio of the sums of squares over all initial states.

        Returns
        -------
        ndarray
            One number for each lead; infinite if neither is finite.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.sqrt((self.spread_over_truth**2).sum(0) / (self.mean_error**2).sum(0))
            return np.nan_to_num(ratio, nan=np.inf)


def forecast_errors(
    model: Surrogate,
    perturbation: Perturbation,
    truth: Iterable[xr.Dataset],
    members: int,
    seed: int,
    progress: Progress,
) -> ForecastErrors:
    """Forecast trajectories from their first time with perturbed members, and score the forecasts.

    Parameters
    ----------
    model : Surrogate
        A model of one network.
    perturbation : Perturbation
        The perturbation of the members.
    truth : iterable of Dataset
        Batches of true trajectories (trajectory, time, y, x).
    members : int
        Number of members, the unperturbed one included.
    seed : int
        Seed of the perturbations.
    progress : Progress
        Advanced by the number of trajectories of each batch.

    Returns
    -------
    ForecastErrors
        Errors and spreads of all trajectories, at all leads after the initial state.
    """
    parts = []
    for batch in truth:
        forecast = perturbed_forecast(model, batch, batch.sizes["time"] - 1, members, perturbation, seed=seed)
        unperturbed, others = control_or_mean(forecast), perturbed_members(forecast)
        mean = others.mean("member", skipna=False)
        scores = (
            nrmse(unperturbed, batch),
            normalised_spread(others, unperturbed),
            nrmse(mean, batch),
            normalised_spread(others, batch),
        )
        parts.append(ForecastErrors(*(s.transpose("trajectory", "time").values[:, 1:] for s in scores)))
        progress.update(batch.sizes["trajectory"])
    return ForecastErrors.concatenate(parts)


def conformal_quantiles(errors: np.ndarray, coverage: float) -> tuple[float, ...]:
    """Compute the conformal quantile of errors at each lead.

    It is the ⌈(n + 1) · coverage⌉-th smallest of n errors: another error that is exchangeable with them is no larger
    with probability `coverage` or more (Angelopoulos & Bates 2021, arXiv:2107.07511, section 1).

    Parameters
    ----------
    errors : ndarray
        Shape (start, lead).
    coverage : float
        Probability between 0 and n / (n + 1).

    Returns
    -------
    tuple of float
        One number for each lead.
    """
    rank = math.ceil((len(errors) + 1) * coverage)
    return tuple(map(float, np.sort(errors, axis=0)[rank - 1]))
