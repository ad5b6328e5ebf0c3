"""Scores as tables: one row a source, or one row a source and time."""

from __future__ import annotations

import math

import pandas as pd
import xarray as xr


def summary(scores: xr.Dataset) -> pd.DataFrame:
    """Return a table of scores with one row a source.

    Parameters
    ----------
    scores : xr.Dataset
        Scores from `compare`.

    Returns
    -------
    pd.DataFrame
        Text: the errors at the first step, on average and at the last time, and the correlation time (median over
        trajectories, with ">" for a lower bound). If they were measured also the horizon that calibrated members state
        (likewise), the symmetry error, the number of parameters and the cost of a step.
    """
    rows = {}
    for source in scores["source"].values:
        one = scores.sel(source=source)
        median, censored = float(one["correlation_time_median"]), bool(one["correlation_time_median_censored"])
        row = {
            "nRMSE step 1": f"{float(one['nrmse_first_step']):.4f}",
            "mean": f"{float(one['nrmse_mean']):.4f}",
            "last": f"{float(one['nrmse'][-1]):.4f} ± {float(one['nrmse_spread'][-1]):.4f}",
            "correlation time": f"{'> ' if censored else ''}{median:g}",
        }
        if "horizon_median" in one:
            template = "> {:.12g}" if float(one["horizon_median_censored"]) == 1 else "{:.12g}"
            row["horizon"] = _number(float(one["horizon_median"]), template)
        if "equivariance_error" in one:
            row |= {
                "equivariance error": _number(float(one["equivariance_error"]), "{:.1e}"),
                "parameters": _number(float(one["parameters"]), "{:.0f}"),
                "ms a step": _number(1e3 * float(one["seconds_per_step"]), "{:.2f}"),
            }
        rows[str(source)] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def to_csv(scores: xr.Dataset) -> str:
    """Return scores as CSV with one row a source and time.

    Parameters
    ----------
    scores : xr.Dataset
        Scores from `compare`.

    Returns
    -------
    str
        Columns of everything that depends on source and time or on the source alone; a spectrum has a column a
        wavenumber.
    """
    left_out = {"trajectory", "element", "rank"}
    flat = scores.drop_vars([name for name, v in scores.data_vars.items() if left_out & set(v.dims)])
    spectra = {str(name): v for name, v in flat.data_vars.items() if "wavenumber" in v.dims}
    columns = {
        f"{name}_{k:g}": values.sel(wavenumber=k, drop=True)
        for name, values in spectra.items()
        for k in values["wavenumber"].values
        if not name.endswith("_spread")
    }
    flat = flat.drop_dims(["wavenumber", *left_out], errors="ignore").assign(columns)
    table = flat.to_dataframe(dim_order=["source", "time"]).reset_index()
    if table["time"].dtype.kind == "f":  # which may be a late clock: 8 digits would not tell its times apart
        table["time"] = [f"{time:.15g}" for time in table["time"]]
    return table.to_csv(index=False, float_format="%.8g")


def _number(value: float, template: str) -> str:
    return "-" if math.isnan(value) else template.format(value)
