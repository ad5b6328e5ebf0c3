"""Scores against closed forms."""

import inspect
import logging
import warnings

import numpy as np
import pytest
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import UsageError
from fluidsurrogate.data.layout import grid_coordinates
from fluidsurrogate.evaluation.correlation_time import correlation_time
from fluidsurrogate.evaluation.diagnostics import compute
from fluidsurrogate.evaluation.metrics import METRICS, metric
from fluidsurrogate.evaluation.score_tables import summary, to_csv
from solvers import Grid, velocity


def dataset(values, grid=None):
    """Vorticity (trajectory, time, y, x) as a Dataset."""
    values = np.asarray(values, dtype=np.float64)
    grid = grid or Grid.square(values.shape[-1])
    coords = {"trajectory": np.arange(len(values)), "time": 0.5 * np.arange(values.shape[1])}
    return xr.Dataset({"vorticity": (("trajectory", "time", "y", "x"), values)}, coords | grid_coordinates(grid))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_nrmse_and_correlation_of_known_errors():
    truth = dataset(noise(3, 4, 16, 16))
    other = dataset(noise(3, 4, 16, 16, seed=1))
    np.testing.assert_allclose(METRICS["nrmse"](1.25 * truth, truth), 0.25)
    np.testing.assert_allclose(METRICS["nrmse"](0 * truth, truth), 1.0)
    np.testing.assert_allclose(METRICS["correlation"](-3 * truth + 7, truth), -1.0)
    expected = [[np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(x, y, strict=True)]
                for x, y in zip(truth["vorticity"].values, other["vorticity"].values, strict=True)]  # fmt: skip
    np.testing.assert_allclose(METRICS["correlation"](other, truth), expected, atol=1e-12)


def test_energy_of_one_mode():
    """ω = cos(3x): u = (0, sin(3x)/3), E = 1/36 in shell 3, Z = 1/4."""
    x = (np.arange(32) + 0.5) * 2 * np.pi / 32
    data = dataset(np.broadcast_to(np.cos(3 * x), (1, 1, 32, 32)))
    spectrum = METRICS["energy_spectrum"](data, data)[0, 0]
    np.testing.assert_allclose(spectrum.sel(wavenumber=3), 1 / 36)
    np.testing.assert_allclose(METRICS["energy"](data, data), 1 / 36)
    np.testing.assert_allclose(METRICS["enstrophy"](data, data), 1 / 4)
    np.testing.assert_allclose(METRICS["enstrophy_spectrum"](data, data)[0, 0].sel(wavenumber=3), 1 / 4)


@pytest.mark.parametrize("grid", [Grid.square(32), Grid.box([16, 32], [np.pi, 2 * np.pi]), Grid.square(16, 1.0)])
def test_spectrum_sums_to_the_energy_of_the_velocity(grid):
    """Against the kinetic energy of the velocity field in physical space; Nyquist modes carry none."""
    values = torch.from_numpy(noise(2, 1, *grid.n))
    spectrum = torch.fft.rfft2(values)
    spectrum[..., grid.n[0] // 2, :] = spectrum[..., grid.n[1] // 2] = spectrum[..., 0, 0] = 0
    values = torch.fft.irfft2(spectrum, s=grid.n)
    expected = 0.5 * velocity(values, grid).square().sum(1).mean((-2, -1))
    data = dataset(values[:, None, 0], grid)
    energy = METRICS["energy_spectrum"](data, data).sum("wavenumber")
    np.testing.assert_allclose(energy[:, 0], expected, rtol=1e-12)
    enstrophy = METRICS["enstrophy_spectrum"](data, data).sum("wavenumber")
    np.testing.assert_allclose(enstrophy[:, 0], 0.5 * values.square().mean((1, 2, 3)), rtol=1e-12)


def test_correlation_time_and_censoring():
    times = xr.DataArray([0.0, 0.5, 1.0, 1.5], dims="time", coords={"time": [0.0, 0.5, 1.0, 1.5]})
    values = xr.DataArray(
        [[1, 0.9, 0.7, 0.9], [1, 0.9, 0.9, 0.81]], dims=("trajectory", "time"), coords={"time": times}
    )
    time, censored = correlation_time(values, 0.8)
    assert list(time.values) == [1.0, 1.5]
    assert list(censored.values) == [False, True]


def test_start_counts_in_no_mean():
    truth = dataset(noise(2, 3, 8, 8))
    forecast = truth.copy(deep=True)
    forecast["vorticity"][:, 1] *= 1.1
    forecast["vorticity"][:, 2] *= 1.3
    scores = fs.compare({"f": forecast}, truth)
    np.testing.assert_allclose(scores["nrmse"][0], [0, 0.1, 0.3], atol=1e-12)
    np.testing.assert_allclose(scores["nrmse_mean"], 0.2)
    np.testing.assert_allclose(scores["nrmse_first_step"], 0.1)


def test_spread_is_over_trajectories():
    truth = dataset(noise(2, 2, 8, 8))
    forecast = truth.copy(deep=True)
    forecast["vorticity"][0, 1] *= 1.1
    forecast["vorticity"][1, 1] *= 1.3
    scores = fs.compare({"f": forecast}, truth)
    np.testing.assert_allclose([scores["nrmse"][0, 1], scores["nrmse_spread"][0, 1]], [0.2, 0.1])


def test_non_finite_forecast_is_scored_as_such(caplog):
    truth = dataset(noise(2, 4, 8, 8))
    forecast = truth.copy(deep=True)
    forecast["vorticity"][0, 2:] = np.nan
    forecast["vorticity"][1, 3, 0, 0] = np.inf
    with caplog.at_level(logging.WARNING):
        scores = fs.compare({"bad": forecast, "good": truth}, truth)
    assert "bad: 2 of 2 forecasts turned non-finite" in caplog.text
    assert "good" not in caplog.text
    assert list(scores["finite"].sel(source="bad").values) == [1, 1, 0.5, 0]
    assert np.isinf(scores["nrmse"].sel(source="bad")[2:]).all()
    assert scores["correlation"].sel(source="bad")[3] == 0
    assert list(scores["correlation_time"].sel(source="bad").values) == [1.0, 1.5]
    assert "inf" in summary(scores).to_string()


def test_huge_forecast_does_not_overflow():
    truth = dataset(noise(1, 2, 8, 8))
    scores = fs.compare({"huge": truth * 1e200}, truth)
    np.testing.assert_allclose(scores["correlation"][0], 1.0)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(lambda d: d.isel(time=slice(0, 2)), "2 along time, the truth 3"),
     (lambda d: d.isel(trajectory=[0]), "1 along trajectory, the truth 2"),
     (lambda d: d.assign_coords(time=d["time"] + 1), "its time differs"),
     (lambda d: d.isel(trajectory=[1, 0]), "its trajectory differs"),
     (lambda d: d.rename(vorticity="omega"), "no variable 'vorticity'"),
     (lambda d: d.isel(time=[0]), "one time only"),
     (lambda d: d.isel(x=0), "no dimension 'x'")],
)  # fmt: skip
def test_forecasts_that_do_not_fit(spoil, said):
    truth = dataset(noise(2, 3, 8, 8))
    with pytest.raises(UsageError, match=said):
        fs.compare({"f": spoil(truth)}, truth)


def test_a_vector_correlates_with_itself():
    """Components of very different size are one field."""
    truth = dataset(noise(2, 2, 8, 8))
    both = xr.concat([truth["vorticity"], 10 * truth["vorticity"] + 1], xr.Variable("component", ["x", "y"]))
    velocity = truth.assign(velocity=both)
    np.testing.assert_allclose(METRICS["correlation"](velocity, velocity), 1.0)


def test_spectra_on_odd_grids():
    truth = dataset(noise(1, 2, 8, 8)).isel(x=slice(0, 7))
    np.testing.assert_allclose(
        METRICS["enstrophy_spectrum"](truth, truth).sum("wavenumber"),
        0.5 * truth["vorticity"].var(("y", "x")),
        rtol=1e-12,
    )


def test_no_forecasts():
    with pytest.raises(UsageError, match="nothing to compare"):
        fs.compare({}, dataset(noise(1, 2, 8, 8)))


def test_csv_has_a_row_a_source_and_time():
    truth = dataset(noise(2, 3, 8, 8))
    lines = to_csv(fs.compare({"a": truth, "b": truth}, truth)).splitlines()
    assert lines[0].startswith("source,time,nrmse,nrmse_spread,correlation")
    assert "correlation_time_median," in lines[0]
    assert "energy_spectrum_1," in lines[0]
    assert len(lines) == 1 + 2 * 3


def wave(k, amplitude=1.0, n=32, trajectories=1, times=1):
    x = (np.arange(n) + 0.5) * 2 * np.pi / n
    return amplitude * np.broadcast_to(np.cos(k * x), (trajectories, times, n, n))


def test_vrmse_of_a_forecast_of_the_mean_is_one():
    truth = dataset(noise(2, 3, 16, 16) + 5.0)
    mean = truth.mean(("y", "x")).broadcast_like(truth)
    np.testing.assert_allclose(METRICS["vrmse"](mean, truth), 1.0, rtol=1e-6)
    spread = truth["vorticity"].std(("y", "x")).values
    np.testing.assert_allclose(METRICS["vrmse"](truth + 0.3, truth), 0.3 / spread, rtol=1e-6)


def test_spectral_errors_say_which_scales_are_wrong():
    """Waves 1, 3 and 9 lie in the three thirds of the logarithm from 1 to 9."""
    truth = dataset(wave(1) + wave(3) + wave(9))
    forecast = dataset(wave(1, 1.1) + wave(3, 1.2) + wave(9, 1.3))
    for band, error in (("low", 0.1), ("middle", 0.2), ("high", 0.3)):
        np.testing.assert_allclose(METRICS[f"spectral_error_{band}"](forecast, truth), error)
        np.testing.assert_allclose(METRICS[f"spectral_error_{band}"](truth, truth), 0.0, atol=1e-12)


def test_spectrum_errors_ignore_phases():
    truth, shifted = dataset(wave(2)), dataset(np.roll(wave(2), 3, axis=-1))
    np.testing.assert_allclose(METRICS["energy_spectrum_error"](shifted, truth), 0.0, atol=1e-12)
    assert METRICS["nrmse"](shifted, truth).item() > 0.5
    # Twice the amplitude, four times the energy; at another wave all of it is wrong, here and there.
    np.testing.assert_allclose(METRICS["energy_spectrum_error"](dataset(wave(2, 2.0)), truth), 3.0)
    np.testing.assert_allclose(METRICS["enstrophy_spectrum_error"](dataset(wave(4)), truth), 2.0)


def test_drift_of_the_mean():
    truth = dataset(wave(2, times=3))
    forecast = truth.copy(deep=True)
    forecast["vorticity"][:, 2] += 0.01
    np.testing.assert_allclose(METRICS["mean_drift"](forecast, truth), [[0, 0, 0.01 * np.sqrt(2)]], atol=1e-12)
    forecast["vorticity"][:, 1, 3, 3] = np.nan
    assert METRICS["mean_drift"](forecast, truth)[0, 1] == np.inf


def test_anomaly_correlation_takes_out_the_climatology():
    """A field common to all times raises the correlation of anything; not that of anomalies."""
    anomalies = noise(2, 4, 16, 16)
    anomalies -= anomalies.mean((0, 1))
    common = 10 * noise(16, 16, seed=5)
    truth, unskilled = dataset(anomalies + common), dataset(noise(2, 4, 16, 16, seed=2) + common)
    assert float(METRICS["correlation"](unskilled, truth).min()) > 0.95
    assert float(abs(METRICS["anomaly_correlation"](unskilled, truth)).max()) < 0.3
    a, b = anomalies[0, 0].ravel(), (unskilled["vorticity"].values[0, 0] - common).ravel()
    expected = (a @ b) / np.sqrt((a @ a) * (b @ b))
    np.testing.assert_allclose(METRICS["anomaly_correlation"](unskilled, truth)[0, 0], expected, atol=1e-12)


def test_metrics_are_chosen_by_name_and_what_tables_need_is_always_there():
    truth = dataset(noise(2, 3, 16, 16))
    scores = fs.compare({"f": 1.1 * truth}, truth, metrics=["vrmse"])
    assert "vrmse" in scores
    assert "energy_spectrum_error" not in scores
    assert "nrmse" in scores
    np.testing.assert_allclose(scores["nrmse_geometric_mean"], 0.1)
    with pytest.raises(UsageError, match="unknown metric 'vrms'; one of anomaly_correlation, correlation"):
        fs.compare({"f": truth}, truth, metrics=["vrms"])


# -- every metric, also one that somebody adds

COMPARING = sorted(name for name, metric in METRICS.items() if metric.perfect_score is not None)
DESCRIBING = sorted(set(METRICS) - set(COMPARING))
STATES = ("vorticity", "velocity")


def pair(state):
    """A truth and a forecast of it, with a forecast that turns non-finite and coordinates along `trajectory`."""
    truth = dataset(noise(3, 4, 16, 16))
    forecast = truth + 0.1 * dataset(noise(3, 4, 16, 16, seed=1))
    forecast["vorticity"][2, 3, 0, 0] = np.inf
    made = []
    for data in (forecast, truth):
        if state == "velocity":
            data = data.assign(velocity=compute(data, "velocity")).drop_vars("vorticity")
        split = ("trajectory", np.array(["test", "test", "valid"], dtype=object))
        made.append(data.assign_coords(split=split).assign_attrs(title="a title"))
    return made


def turned(data, state, mirror):
    """A quarter turn counter-clockwise in (x, y), or the mirror x → −x, of a square periodic state."""
    values = data[state].transpose(..., "y", "x").values
    values = values[..., ::-1] if mirror else np.rot90(values, k=-1, axes=(-2, -1))
    sign = -1 if mirror and state == "vorticity" else 1
    if state == "velocity":
        u, v = values[:, :, 0], values[:, :, 1]
        values = np.stack([-u, v] if mirror else [-v, u], axis=2)
    return data.assign({state: data[state].transpose(..., "y", "x").copy(data=sign * values)})


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_is_lazy_pure_and_the_same_in_chunks(name, state):
    forecast, truth = pair(state)
    before = forecast.copy(deep=True), truth.copy(deep=True)
    whole = METRICS[name](forecast, truth)
    assert forecast.identical(before[0])
    assert truth.identical(before[1])
    assert METRICS[name](forecast, truth).identical(whole)
    chunks = {"trajectory": 2, "time": 3, "y": 8}
    chunked = METRICS[name](forecast.chunk(chunks), truth.chunk(chunks))
    assert chunked.chunks is not None
    assert chunked.attrs == whole.attrs
    assert chunked.sizes == whole.sizes
    np.testing.assert_allclose(chunked.transpose(*whole.dims), whole, rtol=1e-10, atol=1e-13)
    assert set(chunked.coords) == set(whole.coords)
    for coordinate in whole.coords:
        assert chunked[coordinate].equals(whole[coordinate])


@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_says_what_it_is(name):
    """Units and a long name on the result, and a docstring with the equation, the units and where it is from."""
    values = METRICS[name](*pair("vorticity"))
    assert set(values.dims[:2]) == {"trajectory", "time"}
    assert values.attrs["long_name"]
    text = inspect.getdoc(METRICS[name].function)
    returns = text.partition("Returns\n-------\n")[2].partition("\n\n")[0]
    assert f"units {values.attrs['units']}." in returns
    assert all(dim in returns for dim in values.dims)
    assert ".. math::" in text


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", sorted(METRICS))
def test_every_metric_aligns_forecast_and_truth(name, state):
    """Coordinates that differ by rounding are the same; another time is refused, in one line."""
    forecast, truth = pair(state)
    rounded = truth.assign_coords(time=truth["time"] + 1e-9, y=truth["y"].astype(np.float32))
    np.testing.assert_allclose(METRICS[name](forecast, rounded), METRICS[name](forecast, truth), rtol=1e-6)
    late = truth.assign_coords(time=truth["time"] + 0.5)
    with pytest.raises(UsageError, match="its time differs from the truth's") as error:
        METRICS[name](forecast, late)
    assert "\n" not in str(error.value)


def assert_unchanged(name, state, mirror):
    forecast, truth = (data.isel(trajectory=[0, 1]) for data in pair(state))
    both = [turned(data, state, mirror) for data in (forecast, truth)]
    np.testing.assert_allclose(METRICS[name](*both), METRICS[name](forecast, truth), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_rotation_of_both_leaves_every_metric_that_says_so(name, state):
    if not METRICS[name].rotation_invariant:
        pytest.skip("does not claim it")
    assert_unchanged(name, state, mirror=False)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", METRICS)
def test_a_mirror_of_both_leaves_every_metric_that_says_so(name, state):
    if not METRICS[name].rotation_invariant:
        pytest.skip("does not claim it")
    assert_unchanged(name, state, mirror=True)


def test_a_rotation_of_the_forecast_alone_is_an_error():
    """The control of the test above, and of how it turns: a mirrored vorticity without its sign is another flow."""
    forecast, truth = pair("vorticity")
    assert float(METRICS["nrmse"](turned(forecast, "vorticity", False), truth)[0, 0]) > 0.5
    y, x = ((np.arange(16) + 0.5) * 2 * np.pi / 16 for _ in "yx")
    waves = dataset((np.cos(2 * x)[None] * np.sin(y)[:, None] + np.cos(x + 3 * y[:, None]))[None, None])
    for mirror in (False, True):
        velocity = waves.assign(velocity=compute(waves, "velocity"))
        expected = turned(velocity, "velocity", mirror)["velocity"]
        np.testing.assert_allclose(compute(turned(waves, "vorticity", mirror), "velocity"), expected, atol=1e-12)
        assert np.abs(compute(waves, "velocity") - expected).max() > 0.1


@pytest.mark.parametrize("name", COMPARING)
def test_the_truth_has_the_perfect_score(name):
    truth = dataset(noise(2, 3, 16, 16))
    np.testing.assert_allclose(METRICS[name](truth, truth), METRICS[name].perfect_score, atol=1e-12)
    assert not np.allclose(METRICS[name](dataset(noise(2, 3, 16, 16, seed=1)), truth), METRICS[name].perfect_score)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", COMPARING)
def test_every_comparing_metric_is_defined_for_a_forecast_that_is_not_finite(name, value):
    """A bad score where the forecast is not finite, and a number everywhere else."""
    forecast, truth = pair("vorticity")
    forecast["vorticity"][2, 3, 0, 0] = value
    values = METRICS[name](forecast, truth).transpose("trajectory", "time").values
    assert not np.isnan(values[2, 3])
    assert values[2, 3] != METRICS[name].perfect_score
    assert np.isfinite(np.delete(values.ravel(), 11)).all()


@pytest.mark.parametrize("name", COMPARING)
def test_every_comparing_metric_is_unknown_where_the_truth_is_not_finite(name):
    forecast, truth = (data.isel(trajectory=slice(0, 2)).copy(deep=True) for data in pair("vorticity"))
    truth["vorticity"][1, 2, 3, 3] = np.nan
    truth["vorticity"][0, 1, 0, 0] = -np.inf
    values = METRICS[name](forecast, truth).transpose("trajectory", "time").values
    assert np.argwhere(np.isnan(values)).tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize("name", DESCRIBING)
def test_every_describing_metric_takes_the_forecast_alone(name):
    forecast, truth = pair("vorticity")
    spoilt = truth.where(truth["time"] < 1)
    assert METRICS[name](forecast, spoilt).identical(METRICS[name](forecast, truth))


def test_a_metric_is_one_function(monkeypatch):
    """The name, the check before it, and its place in a comparison come by themselves."""
    registered = dict(METRICS)
    monkeypatch.setattr("fluidsurrogate.evaluation.metrics.registry.METRICS", registered)
    monkeypatch.setattr("fluidsurrogate.evaluation.comparison.METRICS", registered)

    @metric(perfect_score=0.0)
    def largest_error(forecast, truth):
        """Return the largest error of the vorticity."""
        error = abs(forecast["vorticity"] - truth["vorticity"]).max(("y", "x"), skipna=False)
        return error.assign_attrs(long_name="largest error", units="s-1")

    truth = dataset(noise(2, 3, 8, 8))
    assert largest_error.__doc__ == "Return the largest error of the vorticity."
    scores = fs.compare({"f": truth + 0.5 * (truth["time"] > 0)}, truth, metrics=["largest_error"])
    np.testing.assert_allclose(scores["largest_error"][0], [0, 0.5, 0.5])
    assert scores["largest_error"].attrs["units"] == "s-1"
    with pytest.raises(UsageError, match="its time differs"):
        largest_error(truth.assign_coords(time=truth["time"] + 1), truth)


# -- comparisons


def test_compare_takes_chunks():
    forecast, truth = pair("vorticity")
    a = fs.compare({"f": forecast}, truth)
    b = fs.compare({"f": forecast.chunk(trajectory=1)}, truth.chunk(time=2)).load()
    assert set(a.variables) == set(b.variables)
    for name, values in a.data_vars.items():
        np.testing.assert_allclose(b[name].transpose(*values.dims), values, rtol=1e-10, atol=1e-13)


ERRORS = ["nrmse", "vrmse", *(f"spectral_error_{band}" for band in ("low", "middle", "high")),
          "energy_spectrum_error", "enstrophy_spectrum_error"]  # fmt: skip
SKILLS = ["correlation", "anomaly_correlation"]


@pytest.mark.parametrize("constant", [0.0, 0.1])
def test_a_truth_at_rest(constant):
    """Nothing missed of nothing is no error; anything missed of nothing is infinite. A constant has no fluctuations,
    though in rounding it differs from its mean."""
    rest = dataset(np.full((2, 3, 24, 24), constant))
    moving = rest + dataset(noise(2, 3, 24, 24)) * (rest["time"] > 0)
    for name in [*ERRORS, "mean_drift"]:
        np.testing.assert_array_equal(METRICS[name](rest, rest), 0, err_msg=name)
    for name in SKILLS:
        np.testing.assert_array_equal(METRICS[name](rest, rest), 1, err_msg=name)
        np.testing.assert_array_equal(METRICS[name](moving, rest)[:, 1:], 0, err_msg=name)
    for name in [e for e in ERRORS if e != "vrmse" and not (constant and e == "nrmse")]:  # vrmse adds 1e-7
        error = METRICS[name](moving, rest)[:, 1:]
        assert (error > 1e12).all(), name  # a transform leaves rounding of a constant
        assert constant or np.isinf(error).all(), name
        np.testing.assert_allclose(METRICS[name](0 * moving, moving)[:, 1:], 1, err_msg=name)
    np.testing.assert_array_equal(METRICS["correlation"](rest, moving)[:, 1:], 0)
    drift = METRICS["mean_drift"](moving, moving)
    np.testing.assert_array_equal(drift[:, 0], 0)
    if not constant:
        np.testing.assert_array_equal(drift[:, 1:], np.inf)
    scores = fs.compare({"right": rest, "wrong": moving}, rest)
    assert scores["correlation_time_censored"].sel(source="right").all()
    assert list(scores["correlation_time_median"].values) == [1.0, 0.5]


def test_a_truth_that_is_not_finite_makes_scores_unknown_and_no_forecast_wrong(caplog):
    truth = dataset(noise(3, 4, 16, 16))
    forecast, spoilt = 1.1 * truth, truth.copy(deep=True)
    forecast["vorticity"][:, 0] = truth["vorticity"][:, 0]
    spoilt["vorticity"][1, 2, 3, 3] = np.nan
    spoilt["vorticity"][2, 1, 0, 0] = -np.inf
    unknown = np.zeros((3, 4), dtype=bool)
    unknown[1, 2] = unknown[2, 1] = True
    for name in ERRORS + SKILLS:
        values = METRICS[name](forecast, spoilt).transpose("trajectory", "time").values
        np.testing.assert_array_equal(np.isnan(values), unknown, err_msg=name)
        assert np.isfinite(values[~unknown]).all(), name
    assert METRICS["finite"](forecast, spoilt).all()
    with caplog.at_level(logging.WARNING):
        scores = fs.compare({"f": forecast}, spoilt)
    assert "the truth: 2 of 3 trajectories hold NaN or infinite values" in caplog.text
    assert "f: " not in caplog.text
    np.testing.assert_allclose(scores["nrmse"][0], [0, np.nan, np.nan, 0.1], atol=1e-12)
    # The correlation is 1 at every known time; an unknown one bounds the time from below.
    assert scores["correlation_time"][0].values.tolist() == [1.5, 0.5, 0.0]
    assert scores["correlation_time_censored"].all()


def test_a_missing_start_is_said(caplog):
    truth = dataset(noise(2, 4, 16, 16))
    forecast = truth.copy(deep=True)
    forecast["vorticity"][:, 1:] *= 1.1
    with caplog.at_level(logging.WARNING):
        fs.compare({"f": forecast, "of half the modes": 0.5 * truth}, truth)
        fs.compare({"single": forecast.astype(np.float32), "half": forecast.astype(np.float16)}, truth)
        assert not caplog.text
        later = slice(1, None)
        fs.compare({"f": forecast.isel(time=later)}, truth.isel(time=later))
    assert "no forecast is at the truth's state at the first time, 0.5, which counts as the start" in caplog.text


def test_correlation_times_of_dates_are_seconds():
    truth = dataset(noise(1, 4, 16, 16))
    forecast = truth.copy(deep=True)
    forecast["vorticity"][:, 2:] *= -1
    hours = np.datetime64("2020-01-01", "s") + np.arange(4) * np.timedelta64(1, "h")
    dates = [data.assign_coords(time=hours) for data in (forecast, truth)]
    scores = fs.compare({"f": dates[0], "truth": dates[1]}, dates[1])
    assert scores["correlation_time"].dtype == np.float64
    assert scores["correlation_time_median"].values.tolist() == [7200.0, 10800.0]
    assert scores["correlation_time"].attrs["units"] == "s"
    assert "> 10800" in summary(scores).to_string()
    in_hours = [data.assign_coords(time=("time", [0.0, 1.0, 2.0, 3.0], {"units": "h"})) for data in (forecast, truth)]
    scores = fs.compare({"f": in_hours[0]}, in_hours[1])
    assert scores["correlation_time"].values.tolist() == [[2.0]]
    assert scores["correlation_time"].attrs["units"] == "h"


@pytest.mark.parametrize(
    ("call", "said"),
    [(lambda c, d: c(d, d), "forecasts must be Datasets by name, {'model': forecast} .got Dataset"),
     (lambda c, d: c([d], d), "forecasts must be Datasets by name, .* .got list"),
     (lambda c, d: c({"f": d["vorticity"]}, d), "'f' must be an xarray Dataset .got DataArray"),
     (lambda c, d: c({"f": "f.nc"}, d), "'f' must be an xarray Dataset .got str"),
     (lambda c, d: c({"f": d}, "d.nc"), "the truth must be an xarray Dataset .got str"),
     (lambda c, d: c({"f": d}, d, metrics="nrmse"), "metrics must be a list of names, .'nrmse'. .got 'nrmse'"),
     (lambda c, d: c({"f": d}, d, "0.8"), "correlation_threshold must be a number between -1 and 1 .got '0.8'"),
     (lambda c, d: c({"f": d}, d, float("nan")), "correlation_threshold must be a number"),
     (lambda c, d: c({"f": d.expand_dims(source=["a", "b"])}, d), "has the dimension 'source': select one of it"),
     (lambda c, d: c({"f": d}, d.expand_dims(member=2)), "of the truth has the dimension 'member'")],
)  # fmt: skip
def test_wrong_arguments(call, said):
    with pytest.raises(UsageError, match=said) as error:
        call(inspect.unwrap(fs.compare), dataset(noise(2, 3, 8, 8)))  # without the check of types that tests have
    assert "\n" not in str(error.value)


def scene():
    """A truth of a scalar and a vector on a rectangle, a forecast, and members."""
    grid = Grid.box([12, 16], [np.pi, 2 * np.pi])
    truth = dataset(noise(3, 4, 12, 16), grid).assign_coords(component=["x", "y"])
    truth["velocity"] = (("trajectory", "time", "component", "y", "x"), noise(3, 4, 2, 12, 16, seed=1))
    errors = xr.full_like(truth, 0.0).map(lambda v: v + noise(*v.shape, seed=v.ndim)) * (truth["time"] > 0)
    members = xr.concat([truth + size * errors for size in (0.1, 0.2, -0.1, 0.4)], "member")
    return truth + 0.1 * errors, members.transpose("trajectory", "member", ...), truth


SAME = {
    "transposed": lambda d: d.transpose("x", "time", ...),
    "in chunks": lambda d: d.chunk({"trajectory": 2, "y": 7, "component": 1}),
    "members and times in chunks": lambda d: d.chunk({dim: 2 for dim in d.dims if dim in ("member", "time")}),
    "single-precision coordinates": lambda d: d.assign_coords({c: d[c].astype(np.float32) for c in ("time", "y", "x")}),
    "big-endian": lambda d: d.astype(">f8").assign_coords({c: d[c].astype(">f8") for c in ("time", "y", "x")}),
    "components y, x": lambda d: d.isel(component=[1, 0]),
    "coordinates of their own": lambda d: d.assign_coords(lead=("time", range(4)), run=("trajectory", list("abc"))),
    "no labels": lambda d: d.drop_vars("trajectory"),
}
SAME_CLOCK = {
    "a late clock": lambda d: d.assign_coords(time=d["time"] + 1.7e9),
    "dates": lambda d: d.assign_coords(time=np.datetime64("2000-01-01") + np.arange(4) * np.timedelta64(500, "ms")),
    "duplicate labels": lambda d: d.assign_coords(trajectory=[7, 7, 7]),
    "duplicate labels in chunks": lambda d: d.assign_coords(trajectory=[7, 7, 7]).chunk(trajectory=2),
    "string labels": lambda d: d.assign_coords(trajectory=["a", "bb", "c"]),
}


@pytest.fixture(scope="module")
def expected():
    forecast, members, truth = scene()
    return fs.compare({"f": forecast, "m": members}, truth)


def assert_same(scores, expected):
    assert set(scores.data_vars) == set(expected.data_vars)
    for name, values in expected.data_vars.items():
        assert set(scores[name].dims) == set(values.dims), name
        np.testing.assert_allclose(
            scores[name].transpose(*values.dims), values, rtol=2e-7, atol=1e-10, equal_nan=True, err_msg=name
        )


@pytest.mark.parametrize("which", ["forecasts", "truth"])
@pytest.mark.parametrize("way", SAME)
def test_scores_do_not_depend_on_how_data_are_held(way, which, expected):
    forecast, members, truth = scene()
    if which == "truth":
        truth = SAME[way](truth)
    else:
        forecast, members = map(SAME[way], (forecast, members))
    assert_same(fs.compare({"f": forecast, "m": members}, truth), expected)


@pytest.mark.parametrize("way", SAME_CLOCK)
def test_scores_do_not_depend_on_labels_and_clock_and_can_be_stored(way, expected, tmp_path):
    forecast, members, truth = (SAME_CLOCK[way](data) for data in scene())
    scores = fs.compare({"f": forecast, "m": members}, truth)
    assert_same(scores, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores.to_zarr(tmp_path / "scores.zarr", consolidated=False)
        scores.to_netcdf(tmp_path / "scores.nc")
    xr.testing.assert_allclose(xr.open_zarr(tmp_path / "scores.zarr", consolidated=False).load(), scores)


@pytest.mark.parametrize(("kind", "of_truth"), [("i2", "i8"), ("u1", "u1"), ("i1", "f4")])
def test_whole_numbers_are_scored_as_they_are(kind, of_truth):
    """Differences of unsigned numbers must not wrap around."""
    values = np.round(10 * noise(2, 3, 16, 16)).clip(-60, 60) + (60 if kind == "u1" else 0)
    truth, forecast = dataset(values), dataset(values + np.array([0, 3, -2])[:, None, None] * (values > values.mean()))
    scores = fs.compare({"f": forecast}, truth)
    assert_same(fs.compare({"f": forecast.astype(kind)}, truth.astype(of_truth)), scores)


def test_late_clocks_keep_their_digits_in_the_table():
    truth = dataset(noise(1, 3, 8, 8)).assign_coords(time=1.7e9 + 0.25 * np.arange(3))
    times = [line.split(",")[1] for line in to_csv(fs.compare({"f": truth}, truth)).splitlines()[1:]]
    assert times == ["1700000000", "1700000000.25", "1700000000.5"]


def test_wavenumbers_of_large_boxes():
    """4e7 m, round the earth: 12 digits, not 12 decimals."""
    grid = Grid.square(16, 4e7)
    spectrum = METRICS["energy_spectrum"](*[dataset(noise(1, 1, 16, 16), grid)] * 2)
    np.testing.assert_allclose(spectrum["wavenumber"], 2 * np.pi / 4e7 * np.arange(1, 12), rtol=1e-11)
