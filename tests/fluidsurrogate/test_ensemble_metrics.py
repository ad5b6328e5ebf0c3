"""Scores of ensembles against closed forms, with an ensemble that is too sure as the control that fails."""

import inspect

import numpy as np
import pytest
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import UsageError
from fluidsurrogate.data.layout import grid_coordinates
from fluidsurrogate.evaluation.ensemble_members import control_or_mean, perturbed_members
from fluidsurrogate.evaluation.ensemble_metrics import ENSEMBLE_METRICS
from fluidsurrogate.evaluation.ensemble_metrics.spread import normalised_spread
from fluidsurrogate.evaluation.score_tables import summary, to_csv
from solvers import Grid


def dataset(values, *leading):
    """Vorticity (*leading, y, x) as a Dataset."""
    coords = {"time": 0.5 * np.arange(values.shape[leading.index("time")]), **grid_coordinates(Grid.square(16))}
    coords["trajectory"] = np.arange(values.shape[0])
    return xr.Dataset({"vorticity": ((*leading, "y", "x"), values)}, coords)


def synthetic(members, deviation=1.0, trajectories=60, seed=0):
    """A truth and members about a centre that nobody knows, the truth with deviation 1, the members with another."""
    rng = np.random.default_rng(seed)
    centre = 3 * rng.standard_normal((trajectories, 1, 2, 16, 16))
    truth = (centre + rng.standard_normal(centre.shape))[:, 0]
    values = centre + deviation * rng.standard_normal((trajectories, members, 2, 16, 16))
    return dataset(values, "trajectory", "member", "time"), dataset(truth, "trajectory", "time")


@pytest.mark.parametrize(("members", "deviation"), [(2, 1.0), (5, 0.5), (9, 2.0)])
def test_crps_of_gaussians(members, deviation):
    """E|X − Y| − ½E|X − X'| = √(2/π)√(1 + σ²) − σ/√π for X ~ N(0, σ²), Y ~ N(0, 1), whatever the number of members;
    for two members too, where the estimate that is not fair is far off."""
    forecast, truth = synthetic(members, deviation)
    expected = np.sqrt(2 / np.pi) * np.sqrt(1 + deviation**2) - deviation / np.sqrt(np.pi)
    found = ENSEMBLE_METRICS["crps"](forecast, truth)
    rms = float((truth["vorticity"] ** 2).mean()) ** 0.5
    assert found.dims == ("trajectory", "time")
    assert float(found.mean()) * rms == pytest.approx(expected, rel=0.015)
    unfair = expected + deviation / np.sqrt(np.pi) / members
    assert abs(float(found.mean()) * rms - unfair) > 0.02


def test_crps_of_one_gaussian_and_one_truth():
    """σ(z(2Φ(z) − 1) + 2φ(z) − 1/√π), z = (y − μ)/σ (Gneiting & Raftery 2007, doi:10.1198/016214506000001437)."""
    z, phi, cdf = 1.5, np.exp(-1.125) / np.sqrt(2 * np.pi), 0.9331927987
    members = dataset(np.random.default_rng(3).standard_normal((1, 400, 2, 16, 16)), "trajectory", "member", "time")
    truth = dataset(np.full((1, 2, 16, 16), z), "trajectory", "time")
    expected = z * (2 * cdf - 1) + 2 * phi - 1 / np.sqrt(np.pi)
    np.testing.assert_allclose(ENSEMBLE_METRICS["crps"](members, truth) * z, expected, rtol=0.01)


def test_as_xskillscore_has_them():
    """CRPS as it is, not fair, from the fair one and the members' spread; spread, error and ranks."""
    xskillscore = pytest.importorskip("xskillscore")
    forecast, truth = synthetic(5, 0.7)
    f, t = forecast["vorticity"], truth["vorticity"]
    rms, over = (t**2).mean(["y", "x"]) ** 0.5, ["trajectory", "y", "x"]
    scores = {name: metric(forecast, truth) for name, metric in ENSEMBLE_METRICS.items()}
    pairs = sum(abs(f.isel(member=i) - f.isel(member=j)) for i in range(5) for j in range(5)).mean(["y", "x"])
    unfair = scores["crps"] * rms + pairs * (1 / (2 * 5 * 4) - 1 / (2 * 25))
    expected = xskillscore.crps_ensemble(t, f, dim=["y", "x"])
    np.testing.assert_allclose(unfair.transpose(*expected.dims), expected, rtol=1e-10)
    error = xskillscore.mse(f.mean("member") / rms, t / rms, dim=over)
    spread = (6 / 5 * f.var("member", ddof=1) / rms**2).mean(over)
    np.testing.assert_allclose(scores["spread_skill"], (spread / error) ** 0.5, rtol=1e-10)
    ranks = xskillscore.rank_histogram(t, f, dim=over)
    np.testing.assert_allclose(scores["rank_histogram"], ranks / ranks.sum("rank"), rtol=1e-10)


def test_a_reliable_ensemble_has_ratio_one_and_flat_ranks():
    for members in (2, 7):
        forecast, truth = synthetic(members)
        np.testing.assert_allclose(ENSEMBLE_METRICS["spread_skill"](forecast, truth), 1.0, atol=0.02)
        ranks = ENSEMBLE_METRICS["rank_histogram"](forecast, truth)
        assert ranks.dims == ("time", "rank")
        np.testing.assert_allclose(ranks, 1 / (members + 1), rtol=0.05)
        spread = ENSEMBLE_METRICS["ensemble_spread"](forecast, truth)
        error = fs.compare({"f": forecast}, truth)["nrmse"][0]  # no member is unperturbed: of the mean
        np.testing.assert_allclose(spread.mean("trajectory"), error, rtol=0.02)


@pytest.mark.parametrize("deviation", [0.5, 2.0])
def test_an_ensemble_that_is_too_sure_or_not_sure_enough(deviation):
    """(8/7) σ² / (1 + σ²/7); the truth outside of all members too often, or hardly ever."""
    forecast, truth = synthetic(7, deviation)
    expected = np.sqrt(8 / 7 * deviation**2 / (1 + deviation**2 / 7))
    np.testing.assert_allclose(ENSEMBLE_METRICS["spread_skill"](forecast, truth), expected, rtol=0.02)
    ends = 8 * ENSEMBLE_METRICS["rank_histogram"](forecast, truth).sel(rank=[0, 7]).mean("rank")
    assert ((ends > 1.5) if deviation < 1 else (ends < 0.5)).all()


def test_ranks_count_what_lies_below_and_share_ties():
    truth = dataset(np.zeros((1, 2, 16, 16)), "trajectory", "time")
    values = np.stack([np.full((2, 16, 16), v) for v in (-2.0, -1.0, 3.0)])[None]
    ranks = ENSEMBLE_METRICS["rank_histogram"](dataset(values, "trajectory", "member", "time"), truth)
    assert ranks.values.tolist() == [[0, 0, 1, 0]] * 2
    values[:, 2] = 0.0
    ranks = ENSEMBLE_METRICS["rank_histogram"](dataset(values, "trajectory", "member", "time"), truth)
    assert ranks.values.tolist() == [[0, 0, 0.5, 0.5]] * 2


def test_the_unperturbed_member_is_scored_as_the_forecast_and_is_no_member_of_the_ensemble():
    forecast, truth = synthetic(5)
    marked = forecast.assign_coords(perturbed=("member", np.arange(5) > 0))
    alone = forecast.isel(member=0, drop=True)
    xr.testing.assert_identical(control_or_mean(marked)["vorticity"], alone["vorticity"])
    counted = forecast.isel(member=[1, 0, 2, 3, 4]).assign_coords(perturbed=("member", np.array([1, 0, 1, 1, 1], "i1")))
    xr.testing.assert_identical(control_or_mean(counted)["vorticity"], alone["vorticity"])
    assert perturbed_members(counted).sizes["member"] == 4
    scores = fs.compare({"members": marked, "alone": alone}, truth)
    np.testing.assert_array_equal(scores["nrmse"][0], scores["nrmse"][1])
    assert scores["crps"].sel(source="alone").isnull().all()
    assert scores["rank_histogram"].sizes == {"source": 2, "time": 2, "rank": 5}
    others = forecast.isel(member=slice(1, None))
    for name, score in ENSEMBLE_METRICS.items():
        np.testing.assert_array_equal(score(marked, truth), score(others, truth), err_msg=name)
    assert "crps" in to_csv(scores).splitlines()[0]
    assert "alone" in summary(scores).to_string()
    assert not set(ENSEMBLE_METRICS) & set(fs.compare({"alone": alone}, truth).data_vars)


def test_metrics_of_ensembles_are_chosen_by_name():
    forecast, truth = synthetic(3, trajectories=2)
    scores = fs.compare({"f": forecast}, truth, metrics=["crps"])
    assert "crps" in scores
    assert "spread_skill" not in scores
    with pytest.raises(UsageError, match=r"unknown metric 'crsp'; one of anomaly_.*, crps, ensemble_spread"):
        fs.compare({"f": forecast}, truth, metrics=["crsp"])


def test_members_of_one():
    forecast, truth = synthetic(2, trajectories=2)
    marked = forecast.assign_coords(perturbed=("member", [False, True]))
    with pytest.raises(UsageError, match=r"needs at least two perturbed members \(got 1"):
        perturbed_members(marked)
    with pytest.raises(UsageError, match=r"needs at least two perturbed members \(got 1"):
        fs.compare({"f": forecast.isel(member=[0])}, truth)


def bounded(members=5, trajectories=3):
    """An ensemble with an unperturbed member and an error bound, and its truth."""
    forecast, truth = synthetic(members, trajectories=trajectories)
    bound = (("trajectory", "time"), np.array([[0.0, 0.3], [0.0, 0.4], [0.0, 2.0]])[:trajectories])
    return forecast.assign_coords(perturbed=("member", np.arange(members) > 0)).assign(error_bound=bound), truth


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", sorted(ENSEMBLE_METRICS))
def test_every_metric_is_defined_for_what_is_not_finite(name, value):
    forecast, truth = bounded()
    forecast["vorticity"][0, 1, 1, 3, 3] = value
    values = ENSEMBLE_METRICS[name](forecast, truth)
    assert not values.isel(time=1).isnull().any()


def test_a_member_that_is_not_finite_is_as_bad_as_can_be():
    forecast, truth = bounded()
    forecast["vorticity"][0, 1, 1, 3, 3] = np.nan
    assert ENSEMBLE_METRICS["spread_skill"](forecast, truth)[1] == 0
    for name in ("crps", "ensemble_spread"):
        assert ENSEMBLE_METRICS[name](forecast, truth)[0, 1] == np.inf


@pytest.mark.parametrize("name", sorted(ENSEMBLE_METRICS))
def test_every_metric_says_what_it_is(name):
    """Units and a long name on the result, and a docstring with the equation, the units and where it is from."""
    values = ENSEMBLE_METRICS[name](*bounded())
    assert "time" in values.dims
    assert values.attrs["long_name"]
    text = inspect.getdoc(ENSEMBLE_METRICS[name].function)
    returns = text.partition("Returns\n-------\n")[2].partition("\n\n")[0]
    assert f"units {values.attrs['units']}." in returns
    assert all(dim in returns for dim in values.dims)
    assert ".. math::" in text


@pytest.mark.parametrize("name", sorted(ENSEMBLE_METRICS))
def test_a_rotation_of_both_leaves_every_metric_that_says_so(name):
    if not ENSEMBLE_METRICS[name].rotation_invariant:
        pytest.skip("does not claim it")

    def turned(data):
        field = data["vorticity"].transpose(..., "y", "x")
        return data.assign(vorticity=field.copy(data=np.rot90(field.values, k=-1, axes=(-2, -1))))

    forecast, truth = bounded()
    found = ENSEMBLE_METRICS[name](turned(forecast), turned(truth))
    np.testing.assert_allclose(found, ENSEMBLE_METRICS[name](forecast, truth), rtol=1e-10)


def test_a_vector_has_one_spread():
    """The components of a velocity are one field: twice the vorticity's members, one component zero, √½ of the rms."""
    forecast, truth = synthetic(5, trajectories=4)
    both = [xr.concat([d["vorticity"], 0 * d["vorticity"]], xr.Variable("component", ["x", "y"]))
            for d in (forecast, truth)]  # fmt: skip
    vectors = [xr.Dataset({"velocity": v.transpose("trajectory", ..., "component", "y", "x")}) for v in both]
    expected = normalised_spread(forecast, truth)
    np.testing.assert_allclose(normalised_spread(*vectors).transpose("trajectory", "time"), expected, rtol=1e-12)


@pytest.mark.parametrize("which", ["forecast", "truth", "both"])
@pytest.mark.parametrize("name", sorted(ENSEMBLE_METRICS))
def test_every_metric_is_lazy_pure_and_the_same_in_chunks(name, which):
    forecast, truth = bounded()
    whole = ENSEMBLE_METRICS[name](forecast, truth)
    before = forecast.copy(deep=True), truth.copy(deep=True)
    chunked = ENSEMBLE_METRICS[name](
        forecast.chunk({"trajectory": 2, "member": 2, "time": 1}) if which != "truth" else forecast,
        truth.chunk({"trajectory": 1, "y": 5}) if which != "forecast" else truth,
    )
    assert forecast.identical(before[0])
    assert truth.identical(before[1])
    assert chunked.chunks is not None
    assert chunked.attrs == whole.attrs
    np.testing.assert_allclose(chunked.transpose(*whole.dims), whole, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["crps", "ensemble_spread"])
def test_a_truth_at_rest(name):
    """As of the nRMSE: nothing of nothing is 0, anything of nothing infinite."""
    forecast, truth = synthetic(3, trajectories=2)
    np.testing.assert_array_equal(ENSEMBLE_METRICS[name](0 * forecast, 0 * truth), 0)
    np.testing.assert_array_equal(ENSEMBLE_METRICS[name](forecast, 0 * truth), np.inf)


@pytest.mark.parametrize("name", sorted(ENSEMBLE_METRICS))
def test_a_truth_that_is_not_finite_makes_scores_unknown(name):
    forecast, truth = bounded(3, trajectories=2)
    truth["vorticity"][0, 1, 3, 3] = np.nan
    values = ENSEMBLE_METRICS[name](forecast, truth)
    known = ENSEMBLE_METRICS[name](forecast, truth.fillna(0.0))
    if "trajectory" in values.dims:
        values, known = (v.transpose("trajectory", "time") for v in (values, known))
        assert np.isnan(values[0, 1])
        np.testing.assert_allclose(values[1], known[1])
    else:
        assert np.isnan(values.isel(time=1)).all()
    np.testing.assert_allclose(values.isel(time=0), known.isel(time=0))


@pytest.mark.parametrize("name", sorted(ENSEMBLE_METRICS))
def test_every_metric_aligns_forecast_and_truth(name):
    """Times that are rounded otherwise are the same; xarray alone would leave them out."""
    forecast, truth = bounded(3, trajectories=2)
    rounded = truth.assign_coords(time=truth["time"] + 1e-9, y=truth["y"].astype(np.float32))
    late = truth.assign_coords(time=truth["time"] + 0.5)
    score = ENSEMBLE_METRICS[name]
    np.testing.assert_array_equal(score(forecast, rounded), score(forecast, truth))
    with pytest.raises(UsageError, match="its time differs"):
        score(forecast, late)
