"""Scores of forecasts: functions of xarray Datasets, by trajectory and time.

A metric is a function under `@metric`: of a forecast and the truth if it compares, of a forecast alone if it describes.
It returns a DataArray with `units` and `long_name` and at least the dims trajectory and time, and changes neither of
its arguments; of Datasets in dask chunks it is lazy. It raises UsageError where the forecast is not of the truth's
trajectories, times and places. Equations, sources and units: docs/metrics.md. Those in `ALWAYS` are scored in every
comparison, since tables and figures are made of them; an experiment names the others it wants.

A score against the truth is NaN where the truth is not finite: there is nothing to compare with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.coordinates import SPACE, aligned, fields
from fluidsurrogate.evaluation import diagnostics

Metric = Callable[[xr.Dataset, xr.Dataset], xr.DataArray]
METRICS: dict[str, Metric] = {}
ALWAYS = ("nrmse", "correlation", "energy", "enstrophy", "energy_spectrum", "enstrophy_spectrum", "finite")
BANDS = ("low", "middle", "high")
NOTHING = 1e-12  # of a field: fluctuations no larger than this are what rounding leaves of a constant


def metric(function: Metric) -> Metric:
    """Register a metric under its own name, with the forecast aligned with the truth before it sees them."""

    @wraps(function)
    def checked(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
        return function(aligned(forecast, truth), truth)

    METRICS[function.__name__] = checked
    return checked


@metric
def nrmse(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """‖f − t‖ / ‖t‖ over the box, for each trajectory and time; the mean over the fields. Infinite where not finite."""
    errors, sizes = [], []
    for name in fields(truth):
        f, t = forecast[name].astype(np.float64), truth[name].astype(np.float64)
        over = [dim for dim in t.dims if dim not in ("trajectory", "time")]
        error, size = (((v**2).mean(over, skipna=False)) for v in (f - t, t))
        errors.append(_relative(error, size) ** 0.5)
        sizes.append(size)
    return _error(errors, sizes, "normalised root mean square error")


@metric
def correlation(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """Pearson correlation over the box, for each trajectory and time; the mean over the fields. Of fields without
    fluctuations 1 where both have none, 0 where one has. 0 where not finite."""
    values = []
    for name in fields(truth):
        f, t = forecast[name].astype(np.float64), truth[name].astype(np.float64)
        values.append(_correlation(f, t))
    return _named(_mean(values), "pattern correlation", "1")


@metric
def energy(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """Kinetic energy ½⟨|u|²⟩ of the flow that the vorticity induces."""
    return _compute(forecast, "kinetic_energy")


@metric
def enstrophy(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """½⟨ω²⟩."""
    return _compute(forecast, "enstrophy")


@metric
def energy_spectrum(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """E(k): kinetic energy in the shell |k| ± ½, k counting waves across the longer side of the box; Σ_k E = energy."""
    return _compute(forecast, "energy_spectrum")


@metric
def enstrophy_spectrum(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """Z(k): enstrophy in the same shells; Σ_k Z = enstrophy where the mean vorticity is zero."""
    return _compute(forecast, "enstrophy_spectrum")


@metric
def finite(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """1 where every value of the state is finite, else 0."""
    all_finite = xr.ones_like(forecast["time"], dtype=bool)
    for name in fields(truth):
        over = [dim for dim in forecast[name].dims if dim not in ("trajectory", "time")]
        all_finite = all_finite & _is_finite(forecast[name]).all(over)
    return _named(all_finite.astype(np.float64), "finite", "1")


@metric
def vrmse(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """√(⟨(f − t)²⟩ / (⟨(t − ⟨t⟩)²⟩ + 1e-7)), ⟨·⟩ the mean over the box, for each trajectory and time; the mean over the
    fields (Ohana et al. 2024, The Well, arXiv:2412.00568). Forecasting the mean scores 1. Infinite where not finite."""
    errors, variances = [], []
    for name in fields(truth):
        f, t = forecast[name].astype(np.float64), truth[name].astype(np.float64)
        over = [dim for dim in t.dims if dim not in ("trajectory", "time")]
        error, variance = (((v**2).mean(over, skipna=False)) for v in (f - t, t - t.mean(SPACE, skipna=False)))
        errors.append((error / (variance + 1e-7)) ** 0.5)
        variances.append(variance)
    return _error(errors, variances, "root mean square error over the standard deviation")


def _spectral_error(forecast: xr.Dataset, truth: xr.Dataset, band: str) -> xr.DataArray:
    """√(Σ Z(f − t) / Σ Z(t)) over the shells of a band, Z the enstrophy spectrum: the relative error of those scales.

    The bands are thirds of the logarithm of the wavenumber, from the longest wave to the largest wavenumber whose
    shell holds a millionth of the truth's enstrophy, of a truth at rest the largest of all (after Ohana et al. 2024,
    arXiv:2412.00568).
    """
    name = "vorticity" if "vorticity" in forecast and "vorticity" in truth else "velocity"  # its curl is linear
    if name not in forecast or name not in truth:
        raise UsageError("spectral errors need the variable 'vorticity' or 'velocity' in forecast and truth")
    difference = xr.Dataset({name: forecast[name].astype(np.float64) - truth[name]})
    missed, held = (_compute(data, "enstrophy_spectrum") for data in (difference, truth))
    mean = held.where(_is_finite(held)).mean([dim for dim in held.dims if dim != "wavenumber"])
    k = held["wavenumber"]
    smallest, number = float(k[0]), BANDS.index(band)
    reached = (mean > 1e-6 * mean.sum()) | (mean.sum() == 0)
    ratio = (k.where(reached).max() / smallest).clip(min=1 + 1e-9)
    low, high = (smallest * ratio ** (edge / len(BANDS)) * (1 + 1e-9) for edge in (number, number + 1))
    inside = (k > (low if number else 0.0)) & (k <= high)
    numerator, denominator = (z.where(inside, 0.0).sum("wavenumber", skipna=False) for z in (missed, held))
    error = _relative(numerator, denominator) ** 0.5
    return _error([error], [denominator], f"relative error of the {band} wavenumbers")


@metric
def spectral_error_low(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """The relative error of the largest scales: see `_spectral_error`."""
    return _spectral_error(forecast, truth, "low")


@metric
def spectral_error_middle(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """The relative error of the middle scales: see `_spectral_error`."""
    return _spectral_error(forecast, truth, "middle")


@metric
def spectral_error_high(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """The relative error of the smallest scales: see `_spectral_error`."""
    return _spectral_error(forecast, truth, "high")


@metric
def energy_spectrum_error(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """Σ_k |E_f(k) − E_t(k)| / Σ_k E_t(k): how wrong the distribution of energy over scales is, phases aside."""
    return _spectrum_error(forecast, truth, "energy_spectrum", "kinetic energy spectrum")


@metric
def enstrophy_spectrum_error(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """Σ_k |Z_f(k) − Z_t(k)| / Σ_k Z_t(k)."""
    return _spectrum_error(forecast, truth, "enstrophy_spectrum", "enstrophy spectrum")


def _spectrum_error(forecast: xr.Dataset, truth: xr.Dataset, name: str, about: str) -> xr.DataArray:
    f, t = _compute(forecast, name), _compute(truth, name)
    missed, held = (spectrum.sum("wavenumber", skipna=False) for spectrum in (abs(f - t), t))
    return _error([_relative(missed, held)], [held], f"relative error of the {about}")


@metric
def mean_drift(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """|⟨f⟩(t) − ⟨f⟩(0)| / rms f(0), the largest over the fields and components: what a conserved mean should not do."""
    drifts = []
    for name in fields(truth):
        f = forecast[name].astype(np.float64)
        over = [dim for dim in f.dims if dim not in ("trajectory", "time")]
        mean, size = f.mean(SPACE, skipna=False), (f.isel(time=0) ** 2).mean(over) ** 0.5
        drift = _relative(abs(mean - mean.isel(time=0, drop=True)), size.drop_vars("time"))
        drifts.append(drift.max([dim for dim in over if dim not in SPACE], skipna=False))
    largest = xr.concat(drifts, "field").max("field", skipna=False)
    return _named(largest.where(_is_finite(largest), math.inf), "drift of the mean over the box", "1")


@metric
def anomaly_correlation(forecast: xr.Dataset, truth: xr.Dataset) -> xr.DataArray:
    """Correlation over the box of what forecast and truth differ from the climatology by, the truth's mean over all its
    trajectories and times; the mean over the fields (Rasp et al. 2024, WeatherBench 2, doi:10.1029/2023MS004019, which
    centres neither). 0 where not finite."""
    values = []
    for name in fields(truth):
        f, t = forecast[name].astype(np.float64), truth[name].astype(np.float64)
        climatology = t.where(_is_finite(t)).mean([dim for dim in ("trajectory", "time") if dim in t.dims])
        values.append(_correlation(f, t, climatology))
    return _named(_mean(values), "anomaly correlation", "1")


def correlation_time(correlations: xr.DataArray, threshold: float) -> tuple[xr.DataArray, xr.DataArray]:
    """The first time, after the start, at which the correlation is below `threshold`; and whether that never came, or
    came after the correlation was unknown (NaN): then the value is the last time before, a lower bound
    (right-censored)."""
    later = correlations.isel(time=slice(1, None))
    over = ~(later >= threshold)
    first, never = over.argmax("time"), ~over.any("time")
    censored = never | later.isnull().isel(time=first, drop=True)
    last = xr.where(never, later.sizes["time"], first + ~censored)
    elapsed, units = _elapsed(correlations["time"])
    duration, censored = (v.drop_vars("time", errors="ignore") for v in (elapsed.isel(time=last), censored))
    about = f"time until the correlation first falls below {threshold:g}"
    return _named(duration, about, units), _named(censored, f"{about}: it never did", "1")


def _elapsed(time: xr.DataArray) -> tuple[xr.DataArray, str]:
    """The times since the first and their units; of dates in seconds."""
    since = time - time[0].drop_vars("time", errors="ignore")
    if since.dtype.kind == "m":
        return since / np.timedelta64(1, "s"), "s"
    return since, str(time.attrs.get("units", "s")).partition(" since ")[0]


def _relative(part: xr.DataArray, whole: xr.DataArray) -> xr.DataArray:
    """part / whole; of a whole of zero 0 where the part is zero too, else infinite."""
    return part / whole.where((whole > 0) | (part != 0), 1.0)


def _correlation(f: xr.DataArray, t: xr.DataArray, climatology: xr.DataArray | None = None) -> xr.DataArray:
    """⟨f′t′⟩ / √(⟨f′²⟩⟨t′²⟩), f′ and t′ what the fields differ by from their means over the box, or from `climatology`.
    Where both are zero 1, where one is 0. 0 where f is not finite, NaN where t is not."""
    over = [dim for dim in t.dims if dim not in ("trajectory", "time")]
    parts, norms, known = [], [], []
    for values in (f, t):
        most = abs(values).max(over, skipna=False)
        known.append(_is_finite(most))
        size = most.where(known[-1] & (most > 0), 1.0)
        values = values.where(known[-1], 0.0) / size  # a correlation has no scale; huge values must not overflow
        values = values - (values.mean(SPACE, skipna=False) if climatology is None else climatology / size)
        parts.append(values)
        norms.append((values**2).mean(over, skipna=False))
    constant = [norm <= NOTHING**2 for norm in norms]
    none = constant[0] | constant[1]
    product = (parts[0] * parts[1]).mean(over, skipna=False) / ((norms[0] * norms[1]) ** 0.5).where(~none, 1.0)
    defined = product.where(~none, (constant[0] & constant[1]).astype(np.float64))
    return defined.where(known[0], 0.0).where(known[1])


def _mean(values: Sequence[xr.DataArray]) -> xr.DataArray:
    return sum(values[1:], values[0]) / len(values)


def _error(errors: Sequence[xr.DataArray], sizes: Sequence[xr.DataArray], about: str) -> xr.DataArray:
    """The mean over the fields: infinite where it is not finite, NaN where the truth, whose `sizes` these are, is
    not."""
    mean = _mean(errors)
    return _named(mean.where(_is_finite(mean), math.inf).where(_is_finite(_mean(sizes))), about, "1")


def _is_finite(array: xr.DataArray) -> xr.DataArray:
    return xr.apply_ufunc(np.isfinite, array, dask="allowed")


def _named(array: xr.DataArray, long_name: str, units: str) -> xr.DataArray:
    array.attrs = {"long_name": long_name, "units": units}
    return array


def _compute(dataset: xr.Dataset, name: str) -> xr.DataArray:
    """`diagnostics.compute`; of a Dataset in dask chunks lazy, a chunk of trajectories and times at a time."""
    field = next((field for field in ("vorticity", "velocity") if field in dataset), None)
    if field is None or dataset[field].chunks is None:
        return diagnostics.compute(dataset, name)
    inner = [dim for dim in (*SPACE, "component") if dim in dataset[field].dims]
    leading = [dim for dim in dataset[field].dims if dim not in inner]
    needed = dataset[[field]]
    needed = needed.drop_vars([c for c in needed.coords if c not in inner]).chunk(dict.fromkeys(inner, -1))
    one = diagnostics.compute(needed.isel({dim: 0 for dim in leading}).load(), name)
    template = one.expand_dims({dim: needed.sizes[dim] for dim in leading}).chunk(
        {dim: needed.chunksizes[dim] for dim in leading}
    )
    made = xr.map_blocks(_one_block, needed, kwargs={"name": name, "dims": template.dims}, template=template)
    made.attrs, made.name = one.attrs, name
    return made.assign_coords({c: v for c, v in dataset.coords.items() if set(v.dims) <= set(leading)})


def _one_block(dataset: xr.Dataset, name: str, dims: tuple[str, ...]) -> xr.DataArray:
    return diagnostics.compute(dataset, name).transpose(*dims)
