"""The continuous ranked probability score."""

from __future__ import annotations

import math

import numpy as np
import xarray as xr

from fluidsurrogate.evaluation.ensemble_members import perturbed_members
from fluidsurrogate.evaluation.ensemble_metrics.registry import ensemble_metric
from fluidsurrogate.evaluation.fieldwise import map_fields, mean_over_fields, relative_to_rms, with_attributes
from fluidsurrogate.evaluation.metrics.finiteness import finite


@ensemble_metric()
def crps(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    r"""Compute the fair continuous ranked probability score over the rms of the truth.

    .. math:: \Big\langle \frac{1}{M} \sum_m |f_m - t| - \frac{1}{2 M (M - 1)} \sum_{m, n} |f_m - f_n| \Big\rangle
              / \sqrt{\langle t^2 \rangle}

    The fair estimate is unbiased for the score of infinitely many members. 0 is certain and right, smaller is better;
    infinite for members that are not finite. For a single forecast the score would be ⟨\|f − t\|⟩ over the rms.

    Parameters
    ----------
    forecast : xr.Dataset
        Forecast with the dim `member`, at least two of which are perturbed.
    truth : xr.Dataset
        The same trajectories, times, places and units.

    Returns
    -------
    xr.DataArray
        Dims trajectory and time; units 1.

    References
    ----------
    Ferro 2014, doi:10.1002/qj.2270; Zamo & Naveau 2018, doi:10.1007/s11004-017-9709-7. Computed by scoringrules,
    https://github.com/frazane/scoringrules.
    """
    from scoringrules import crps_ensemble  # with scipy a second to import, which a command line should not wait for

    def score(f, t, within):
        # "pwm" equals "fair" without its memory, quadratic in the members.
        values = xr.apply_ufunc(
            lambda obs, fct: crps_ensemble(obs, fct, m_axis=-1, estimator="pwm", backend="numpy"),
            t, f.chunk(member=-1) if f.chunks else f, input_core_dims=[[], ["member"]],
            dask="parallelized", output_dtypes=[np.float64],
        )  # fmt: skip
        return relative_to_rms(values.mean(within, skipna=False), t, within)

    mean = mean_over_fields(map_fields(score, perturbed_members(forecast), truth))
    mean = mean.where(np.isfinite(mean), math.inf).where(finite(truth, truth) > 0)
    return with_attributes(mean, "continuous ranked probability score over rms", "1")
