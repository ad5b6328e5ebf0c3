"""Bounds: their coverage where the error is known, what a forecast says of itself, and files that are none."""

import copy
import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import UsageError
from fluidsurrogate.cli import main
from fluidsurrogate.data.layout import grid_coordinates
from fluidsurrogate.evaluation.ensemble_metrics.spread import normalised_spread
from fluidsurrogate.evaluation.metrics.normalised_rmse import nrmse
from fluidsurrogate.models.calibration import Calibration, PerturbationConfig, read_calibration
from fluidsurrogate.models.forecast_errors import ForecastErrors, conformal_quantiles
from fluidsurrogate.models.forecasting import perturbed_forecast
from solvers import Grid

SIZES = {"starts": 20, "steps": 3, "members": 4}


@pytest.fixture(scope="module")
def calibrated(trained):
    """The miniature's network, calibrated on as few starts as that takes."""
    return fs.calibrate(trained[1]["small-d4"], **SIZES)


def calibration(members=3, **changed):
    perturbation = PerturbationConfig(spectra=((1.0,) * 11,), memory=0.5, factor=1.0)
    values = {"nrmse": (0.1, 0.2, 0.4), "ratio": (1.0, 2.0, 4.0), "spread_skill": (1.0,) * 3, "source": "here"}
    values["weights"] = "a hash"
    values["exponent"] = (1.0,) * len(changed.get("ratio", values["ratio"]))
    values |= changed
    return Calibration(perturbation=perturbation, members=members, coverage=0.9, starts=100, factor_starts=10, **values)


def forecast_of(deviations, times=4, members=3, seed=0):
    """Truth, and members that err by a deviation of each trajectory's own, growing with time."""
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((len(deviations), 1, times, 16, 16))
    size = np.asarray(deviations)[:, None, None, None, None] * np.arange(times)[:, None, None]
    values = truth + size * rng.standard_normal((len(deviations), members, times, 16, 16))
    coords = {"trajectory": np.arange(len(deviations)), "time": 0.5 * np.arange(times),
              **grid_coordinates(Grid.square(16))}  # fmt: skip
    made = xr.Dataset({"vorticity": (("trajectory", "member", "time", "y", "x"), values)}, coords)
    known = xr.Dataset({"vorticity": (("trajectory", "time", "y", "x"), truth[:, 0])}, coords)
    return made.assign_coords(perturbed=("member", np.arange(members) > 0)), known


def test_quantiles():
    """⌈(n + 1)c⌉-th smallest: of 1 … 19 at 90 % the 18th."""
    errors = np.random.default_rng(0).permutation(np.arange(1.0, 20.0))[:, None]
    assert conformal_quantiles(errors, 0.9) == (18.0,)
    assert conformal_quantiles(np.array([[1.0], [math.inf], [2.0]]), 0.75) == (math.inf,)


def test_coverage_of_known_errors():
    """Log-normal errors: over many calibrations the coverage is (⌈(n + 1)c⌉)/(n + 1), no less and little more, and the
    plain 90 % quantile of twenty falls short."""
    rng = np.random.default_rng(1)
    found = [[], []]
    for _ in range(400):
        errors, fresh = rng.lognormal(size=(20, 1)), rng.lognormal(size=500)
        found[0].append((fresh <= conformal_quantiles(errors, 0.9)[0]).mean())
        found[1].append((fresh <= np.quantile(errors, 0.85)).mean())
    assert np.mean(found[0]) == pytest.approx(19 / 21, abs=0.01)
    assert np.mean(found[1]) < 0.85


def test_a_bound_from_the_spread_covers_large_and_small_errors_alike():
    """Trajectories whose errors differ tenfold: 90 % of each third, where a bound by lead alone covers all of the small
    ones and few of the large."""
    rng = np.random.default_rng(2)
    first, second = (forecast_of(10 ** rng.uniform(-2, -1, 600), seed=s) for s in (0, 1))
    alone, others = first[0].isel(member=0, drop=True), first[0].isel(member=[1, 2])
    error, spread = (v.values[:, 1:] for v in (nrmse(alone, first[1]), normalised_spread(others, alone)))
    errors = ForecastErrors(error, spread, error, spread)
    known = calibration(
        nrmse=conformal_quantiles(error, 0.9), ratio=conformal_quantiles(errors.error_over_spread(np.ones(3)), 0.9)
    )
    size = nrmse(second[0].isel(member=0, drop=True), second[1])
    third = np.argsort(np.argsort(size.values[:, 1])) // 200
    own = known.add_error_bound(second[0])["error_bound"]
    plain = known.add_error_bound(second[0].isel(member=0, drop=True))["error_bound"]
    within, within_plain = ([(size <= bound)[third == i, 1:].mean().item() for i in range(3)] for bound in (own, plain))
    assert np.mean(within) == pytest.approx(0.9, abs=0.03)
    assert within == pytest.approx([0.9] * 3, abs=0.05)
    assert np.mean(within_plain) == pytest.approx(0.9, abs=0.03)
    assert within_plain[0] == 1.0
    assert within_plain[2] < 0.75


def test_the_exponent_is_how_the_error_goes_with_the_spread():
    """Errors that go with the spread, with its root, not at all, or the wrong way: the slope in [0, 1]; with it, half
    of the largest tenth of error / spread^exponent are of much spread, half of little."""
    rng = np.random.default_rng(4)
    spread = rng.lognormal(size=(4000, 1)) * np.ones(4)
    error = spread ** np.array([1.0, 0.5, 0.0, -1.0]) * rng.lognormal(sigma=0.3, size=(4000, 4))
    errors = ForecastErrors(error, spread, error, spread)
    exponent = errors.fit_exponent()
    np.testing.assert_allclose(exponent, [1, 0.5, 0, 0], atol=0.02)
    ratio = errors.error_over_spread(exponent)[:, :3]
    beyond = ratio > conformal_quantiles(ratio, 0.9)
    assert beyond[spread[:, 0] > 1].mean(0) == pytest.approx([0.1] * 3, abs=0.02)
    plain = errors.error_over_spread(np.ones(4))[:, 1]
    assert (plain > np.quantile(plain, 0.9))[spread[:, 0] > 1].mean() < 0.02
    spread[::7] = math.inf  # of members that turned non-finite nothing is known
    assert np.isfinite(ForecastErrors(error, spread, error, spread).fit_exponent()).all()
    known = calibration(ratio=(1.0, 2.0, 4.0), exponent=(1.0, 0.5, 0.0))
    forecast, _ = forecast_of([0.1, 0.2])
    own = [known.add_error_bound(forecast)["error_bound"], calibration().add_error_bound(forecast)["error_bound"]]
    np.testing.assert_allclose(own[0][:, 1], own[1][:, 1])
    np.testing.assert_allclose(own[0][:, 2], 2 * (own[1][:, 2] / 2) ** 0.5)
    np.testing.assert_allclose(own[0][:, 3], 4.0)


def test_horizon_is_the_last_time_up_to_which_the_bound_is_below_the_level():
    forecast, _ = forecast_of([0.1, 0.2], times=6)
    alone = forecast.isel(member=0, drop=True)
    plain = calibration(nrmse=(0.1, 0.3, 0.2), source="there").add_error_bound(alone, level=0.25)
    bounds = plain["error_bound"]
    np.testing.assert_array_equal(bounds[0], [0, 0.1, 0.3, 0.2, math.nan, math.nan])
    assert plain["horizon"].values.tolist() == [0.5, 0.5]  # below again later, but not up to there
    assert not plain["horizon_censored"].any()
    never = calibration().add_error_bound(alone, level=0.4)
    assert never["horizon"].values.tolist() == [1.5, 1.5]
    assert never["horizon_censored"].all()
    at_once = calibration().add_error_bound(alone, level=0.01)
    assert at_once["horizon"].values.tolist() == [0.0, 0.0]
    shorter = calibration().add_error_bound(alone.isel(time=slice(0, 3)), level=0.4)
    assert shorter["horizon"].values.tolist() == [1.0, 1.0]
    assert shorter["horizon_censored"].all()
    for key, value in (("level", 0.25), ("coverage", 0.9), ("calibration_starts", 100)):
        assert plain["horizon"].attrs[key] == value
    assert plain.attrs["predictability"] == (
        "horizon: time median 0.5, 0.5 to 0.5 of 2 trajectories (nRMSE at most 0.25 with probability 0.9, "
        "calibrated on 100 starts)"
    )
    assert bounds.attrs["calibration"] == "3 leads calibrated on 100 starts (there); from the lead alone"


def test_bound_is_of_the_calibrated_number_of_members():
    """More members change nothing, fewer leave the bound by lead."""
    forecast, _ = forecast_of([0.1, 0.2], members=6)
    known = calibration(members=4)
    own = known.add_error_bound(forecast)["error_bound"]
    np.testing.assert_array_equal(own, known.add_error_bound(forecast.isel(member=slice(0, 4)))["error_bound"])
    assert "from the spread of 3 perturbed members" in own.attrs["calibration"]
    assert own[1, 1] > 1.5 * own[0, 1]
    few = known.add_error_bound(forecast.isel(member=slice(0, 3)))["error_bound"]
    np.testing.assert_array_equal(few, [[0, 0.1, 0.2, 0.4]] * 2)


def test_a_forecast_that_is_no_number_is_bounded_by_none():
    """Whatever its members say: they may be finite where it is not."""
    forecast, _ = forecast_of([0.1, 0.2], times=5)
    broken = forecast.copy(deep=True)
    broken["vorticity"][0, 0, 2:, 3, 3] = np.nan
    for known, given in ((calibration(), lambda f: f), (calibration(), lambda f: f.isel(member=0, drop=True))):
        whole, part = (known.add_error_bound(given(f), level=9.0) for f in (forecast, broken))
        assert part["error_bound"].isel(trajectory=1).equals(whole["error_bound"].isel(trajectory=1))
        assert np.array_equal(part["error_bound"][0, :2], whole["error_bound"][0, :2])
        assert np.isinf(part["error_bound"][0, 2:4]).all()
        assert np.isnan(part["error_bound"][0, 4])  # beyond the calibrated leads
        assert part["horizon"].values.tolist() == [0.5, 1.5]
        assert part["horizon_censored"].values.tolist() == [False, True]


def test_calibrate(calibrated, trained, tmp_path):
    """Fitted, saved, loaded; forecasts say what they are worth; the starts are none of the data's."""
    data, models = trained
    known = calibrated.calibration
    assert (known.starts, known.factor_starts, known.members, len(known.nrmse)) == (20, 8, 4, 3)
    assert models["small-d4"].calibration is None
    assert fs.calibrate(models["small-d4"], **SIZES).calibration == known
    assert 0.5 < known.perturbation.factor < 5
    fs.save(calibrated, tmp_path / "model")
    loaded = fs.load(tmp_path / "model")
    assert loaded.calibration == known
    assert json.loads((tmp_path / "model" / "calibration.json").read_text())["format"] == 2
    forecast = fs.forecast(loaded, data, 4, members=4, level=1e-3)
    assert forecast["error_bound"].dims == ("trajectory", "time")
    assert (forecast["error_bound"][:, 1:4] > 0).all()
    assert forecast["error_bound"][:, 4].isnull().all()
    assert (forecast["horizon"] == 0).all()
    assert forecast["horizon"].attrs["level"] == 1e-3
    forecast.to_netcdf(tmp_path / "forecast.nc")
    assert fs.open_data(tmp_path / "forecast.nc")["perturbed"].values.tolist() == [False, True, True, True]
    scores = fs.compare({"f": forecast.isel(time=slice(0, 4))}, data.isel(time=slice(0, 4)))
    assert scores["bound_coverage"][0, 1:].notnull().all()
    with pytest.raises(UsageError, match="level must be positive"):
        fs.forecast(loaded, data, 2, members=4, level=0.0)
    fs.save(models["small-d4"], tmp_path / "model")  # other weights perhaps: the calibration was of those before
    assert fs.load(tmp_path / "model").calibration is None


def test_the_calibrated_spread_is_that_of_the_error(trained, calibrated):
    """On fresh starts, in the geometric mean over the leads; with half the perturbation it is not."""
    experiment = fs.Experiment.read("tests/miniature.toml", ["data.test=40", "seed=5", "data.steps=3"])
    data = fs.generate(experiment)
    test = data.isel(trajectory=data["split"].values == "test")
    own = calibrated.calibration.perturbation.build()
    ratios = []
    for perturbation in (own, replace(own, factor=own.factor / 2)):
        forecast = perturbed_forecast(calibrated, test, 3, 6, perturbation)
        ratio = fs.compare({"f": forecast}, test, metrics=["spread_skill"])["spread_skill"][0, 1:]
        ratios.append(float(np.exp(np.log(ratio).mean())))
    assert ratios[0] == pytest.approx(1.0, abs=0.25)
    assert ratios[1] < 0.7


@pytest.mark.parametrize(
    "overrides",
    [
        ["flow.kind=kolmogorov", "flow.spin_up=0", "flow.viscosity=[1e-2, 2e-2]"],
        ["flow.tracer={diffusivity = 1e-2, wavenumber = 2}", "data.state=velocity"],
    ],
    ids=["forcing and viscosity as inputs", "velocity and tracer"],
)
def test_states_of_several_fields_and_inputs(overrides):
    """Each member with its trajectory's inputs; a velocity's perturbation is free of divergence."""
    experiment = fs.Experiment.read("tests/miniature.toml", [*overrides, "train.steps=2"])
    data = fs.generate(experiment)
    model = fs.calibrate(fs.train(experiment, data, ["small-cnn"])["small-cnn"], starts=20, steps=2, members=3)
    forecast = fs.forecast(model, data, 2, members=3)
    assert forecast["error_bound"].notnull().all()
    for field in model.spec.fields:
        perturbed = forecast[field.name] - forecast[field.name].isel(member=0)
        assert (abs(perturbed).isel(time=0, member=1) > 0).any()
        assert forecast[field.name].dims[:3] == ("trajectory", "member", "time")
        if field.solenoidal:
            start = perturbed.isel(time=0, member=1).transpose("trajectory", "component", "y", "x").values
            u, v = np.moveaxis(np.fft.rfft2(start.astype(np.float64)), 1, 0)
            ky, kx = (k.numpy() for k in model.spec.grid.odd_wavenumbers())
            assert np.abs(kx * u + ky * v).max() < 1e-4 * np.abs(kx * u).max()


def test_calibrate_on_data_of_ones_own(trained):
    data, models = trained
    many = xr.concat([data] * 8, "trajectory").assign_coords(trajectory=np.arange(48))
    many = many.assign_coords(split=("trajectory", ["train", *["own"] * 47]))
    known = fs.calibrate(models["small-d4"], starts=30, members=3, data=many).calibration
    assert (known.starts, len(known.nrmse)) == (30, 4)
    assert known.source == "a dataset of the user's"
    for spoil, said in (
        (
            data,
            "28 trajectories of 4 intervals that were not used for training or validation, and the data have 2 of 4",
        ),
        (many.isel(time=[0]), "and the data have 47 of 0"),
        (many.isel(trajectory=0, drop=True), "need the dimensions trajectory and time"),
        (many.rename(vorticity="w"), "no variable 'vorticity'"),
    ):
        with pytest.raises(UsageError, match=said):
            fs.calibrate(models["small-d4"], starts=20, members=3, data=spoil)


def test_a_calibration_at_longer_steps_stays_out_of_the_folder(trained, toml, tmp_path):
    """There it would be taken for one of single intervals."""
    experiment = fs.Experiment.read(toml, ["models.small-d4.intervals=[1, 2]", "data.steps=6", "train.steps=2"])
    model = fs.train(experiment, fs.generate(experiment), ["small-d4"])["small-d4"].every(2)
    lots = trained[0].isel(time=[0, 2, 4], trajectory=np.arange(28) % 6).drop_vars(["split", "trajectory"])
    known = fs.calibrate(model, starts=20, members=3, data=lots)
    assert "error_bound" in fs.forecast(known, lots, 1, members=3)
    with pytest.raises(UsageError, match=r"is for steps over 2 intervals, .*: save model.every\(1\)"):
        fs.save(known, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    fs.save(known.every(1), tmp_path / "model")
    assert fs.load(tmp_path / "model").calibration is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"starts": 19}, "starts must be at least 20 .got 19"),
        ({"members": 2}, "members must be at least 3 .got 2"),
        ({"steps": 0}, "steps must be at least 1 .got 0"),
        ({"starts": 20, "coverage": 0.99}, "coverage must be between 0 and 0.952, as 20 starts allow .got 0.99"),
        ({"coverage": 1.0}, "coverage must be between 0 and"),
        ({"coverage": -0.1}, "coverage must be between 0 and"),
    ],
)
def test_numbers_out_of_range(trained, options, said):
    with pytest.raises(UsageError, match=said):
        fs.calibrate(trained[1]["small-d4"], **options)


def test_a_model_that_does_not_say_where_it_comes_from(trained):
    model = trained[1]["small-d4"]
    other = fs.Surrogate(model.network, model.spec, model.normalisation, model.config, {})
    with pytest.raises(UsageError, match="does not say which experiment it comes from; give --data"):
        fs.calibrate(other)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"grid": {"n": 65536}}, "a grid of 65536 cells a side: at most 8192"),
     ({"data": {"steps": 10**12}}, "1000000000000 steps and 4 members would take .* GiB of memory")],
)  # fmt: skip
def test_an_experiment_out_of_all_proportion(trained, changes, said):
    """It may be somebody else's."""
    model = trained[1]["small-d4"]
    tree = json.loads(model.about["experiment"])
    for table, values in changes.items():
        tree[table] |= values
    other = copy.copy(model)
    other.about = {**model.about, "experiment": json.dumps(tree)}
    with pytest.raises(UsageError, match=said):
        fs.calibrate(other, starts=20, members=4)
    other.about = {"experiment": "[1]"}
    with pytest.raises(UsageError, match="does not say which experiment"):
        fs.calibrate(other, starts=20, members=4)


def test_a_model_that_turns_non_finite_has_an_infinite_bound(tmp_path):
    errors = ForecastErrors(*(np.full((20, 2), math.inf) for _ in range(4)))
    known = calibration(nrmse=conformal_quantiles(errors.error, 0.9), ratio=(0.0, 0.0), spread_skill=(1.0, math.inf))
    assert ForecastErrors.error_over_spread(errors, np.ones(2)).max() == 0.0  # the bound is infinite times the spread
    known.write(tmp_path)
    assert "Infinity" not in (tmp_path / "calibration.json").read_text()
    assert read_calibration(tmp_path, fs.Experiment.read("tests/miniature.toml").spec, "a hash") == known


def test_files_that_are_no_calibration(calibrated, tmp_path):
    fs.save(calibrated, tmp_path)
    path = tmp_path / "calibration.json"
    good = json.loads(path.read_text())
    perturbation = good["perturbation"]
    for text, said in (
        ("{", "is not valid JSON"),
        ("[]", "is not a calibration of format 2"),
        ("null", "is not a calibration of format 2"),
        ("[" * 100_000, "is not valid JSON"),
        (" " * 5_000_000, "it has 5000000 bytes, at most 4194304 are read"),
        (good | {"format": True}, "is not a calibration of format 2"),
        (good | {"starts": 10**30}, "is not a calibration: starts: "),
        (good | {"nrmse": ["1", "1", "1"]}, "nrmse.0: Input should be a valid number"),
        (good | {"format": 1}, "is not a calibration of format 2"),
        ({key: good[key] for key in good if key != "ratio"}, "is not a calibration: ratio: Field required"),
        (good | {"ratio": [1.0]}, "nrmse, ratio, exponent and spread_skill must each have one number"),
        (good | {"nrmse": [1.0, -1.0, 1.0]}, "nrmse.1: Input should be greater than or equal to 0"),
        (good | {"members": 2}, "members: Input should be greater than or equal to 3"),
        (good | {"coverage": 1.5}, "coverage: Input should be less than 1"),
        (good | {"extra": 1}, "extra: Extra inputs are not permitted"),
        (good | {"perturbation": perturbation | {"memory": 1.0}}, "perturbation.memory: Input should be less than 1"),
        (
            good | {"perturbation": perturbation | {"spectra": [[1.0]]}},
            "of this model: perturbation.spectra must be 1 spectra of 11 shells",
        ),
        (good | {"weights": "0" * 64}, "is not a calibration of this model: it was made for other weights"),
    ):
        path.write_text(text if isinstance(text, str) else json.dumps(text))
        with pytest.raises(UsageError, match=said) as caught:
            fs.load(tmp_path)
        assert len(str(caught.value).splitlines()) == 1
    assert torch.isfinite(torch.tensor(good["nrmse"])).all()


def test_a_calibration_that_is_no_file_of_the_folder(calibrated, tmp_path):
    """Nothing is followed out of the folder, and nothing waited for."""
    folder = tmp_path / "model"
    fs.save(calibrated, folder)
    path = folder / "calibration.json"
    os.replace(path, tmp_path / "calibration.json")
    for make, said in (
        (lambda: os.symlink("../calibration.json", path), "is a link that leaves the folder"),
        (lambda: os.symlink("calibration.json", path), "has no calibration.json"),
        (lambda: os.mkfifo(path), "its calibration.json is not a file"),
        (path.mkdir, "its calibration.json is not a file"),
    ):
        make()
        with pytest.raises(UsageError, match=said) as caught:
            fs.load(folder)
        assert len(str(caught.value).splitlines()) == 1
        path.rmdir() if path.is_dir() else path.unlink()
    assert fs.load(folder).calibration is None


def test_a_place_that_cannot_be_written_is_refused_before_the_work(trained, tmp_path, monkeypatch, capsys):
    _, models = trained
    model, folder = models["small-d4"], tmp_path / "model"
    fs.save(model, folder)
    fs.save(models["small-cnn"], tmp_path / "other")
    (tmp_path / "file").write_text("")

    def no_work(*arguments):
        raise AssertionError("it worked before it looked")

    monkeypatch.setattr("fluidsurrogate.models.fit_calibration.fit_perturbation", no_work)
    monkeypatch.setattr("fluidsurrogate.auditing.audit.measure_point_group", no_work)
    sizes = {"starts": 20, "steps": 3}
    for to, said in (
        (tmp_path / "file" / "new", "cannot be written"),
        (tmp_path / "file", "is not a folder of this model: name a new one"),
        (tmp_path / "other", "is not a folder of this model: name a new one"),
        (tmp_path, "is not a folder of this model: name a new one"),
    ):
        with pytest.raises(UsageError, match=said):
            fs.calibrate(model, **sizes, to=to)
        assert main(["calibrate", str(folder), "--starts", "20", "--steps", "3", "--to", str(to)]) == 2
        assert said in capsys.readouterr().err
    assert main(["audit", str(folder), "--to", str(tmp_path / "file" / "new")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_read_only_model_is_calibrated_elsewhere(trained, tmp_path, capsys):
    data, models = trained
    model, folder, to = models["small-d4"], tmp_path / "model", tmp_path / "new" / "copy"
    fs.save(model, folder)
    folder.chmod(0o555)
    command = ["calibrate", str(folder), "--starts", "20", "--steps", "3", "--members", "4"]
    assert main([*command, "--to", str(to)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(to / "calibration.json")
    expected = fs.calibrate(model, **SIZES)
    copied = fs.load(to)
    assert copied.calibration == expected.calibration
    assert fs.forecast(copied, data, 2).equals(fs.forecast(model, data, 2))
    assert not (folder / "calibration.json").exists()
    assert main([*command, "--to", str(to)]) == 2
    assert "exists already; give --force" in capsys.readouterr().err
    assert main([*command, "--to", str(to), "--force"]) == 0
    assert fs.calibrate(fs.load(to, calibrated=False), **SIZES, to=to).calibration == expected.calibration
    if not os.access(folder, os.W_OK):  # root may write everywhere
        assert main(command) == 2
        assert "cannot be written (Permission denied): name another folder with --to" in capsys.readouterr().err
    folder.chmod(0o755)
