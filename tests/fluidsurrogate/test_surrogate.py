"""A model on disk and off it: the same forecast, in physical units, and nothing that is no model."""

import copy
import json
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.evaluation.equivariance import equivariance_error
from fluidsurrogate.models.forecasting import check_flow_constants
from solvers import D4, Grid

MINIATURE = Path(__file__).parents[1] / "miniature.toml"


def test_save_and_load(trained, tmp_path):
    data, models = trained
    for name, model in models.items():
        model.network.train()
        fs.save(model, tmp_path / name)
        loaded = fs.load(tmp_path / name)
        assert not loaded.network.training
        a, b = (fs.forecast(m, data, 3)["vorticity"].values for m in (model, loaded))
        assert np.array_equal(a, b)
        assert (loaded.spec, loaded.normalisation, loaded.config) == (model.spec, model.normalisation, model.config)


def test_forecast_is_a_dataset_like_its_input(trained):
    data, models = trained
    forecast = fs.forecast(models["small-d4"], data.isel(trajectory=slice(3, 6)), 6, start_time=0.5)
    assert forecast["vorticity"].sizes == {"trajectory": 3, "time": 7, "y": 16, "x": 16}
    np.testing.assert_allclose(forecast["time"], 0.5 + 0.25 * np.arange(7))
    assert list(forecast["split"].values) == ["valid", "test", "test"]
    assert list(forecast["trajectory"].values) == [3, 4, 5]
    assert forecast["vorticity"].attrs == data["vorticity"].attrs
    assert np.array_equal(forecast["vorticity"][:, 0], data["vorticity"][3:, 2])


def test_forecast_from_one_field_without_trajectory_or_time(trained):
    data, models = trained
    one = data[["vorticity"]].isel(trajectory=0, time=0, drop=True)
    forecast = fs.forecast(models["small-d4"], one, 2)
    many = fs.forecast(models["small-d4"], data.isel(trajectory=[0]), 2)
    np.testing.assert_allclose(forecast["vorticity"], many["vorticity"], rtol=1e-5, atol=1e-5)


def test_equivariance_of_trained_weights(trained):
    data, models = trained
    states = torch.from_numpy(data["vorticity"].values[:, :1])
    errors = {name: max(equivariance_error(model, states, D4).values()) for name, model in models.items()}
    with torch.no_grad():
        change = float((models["small-d4"](states) - states).norm() / states.norm())
    assert change > 0.01
    assert errors["small-d4"] < 1e-4
    assert errors["small-cnn"] > 1e-2


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: d.drop_vars("vorticity"), "no variable 'vorticity'"),
        (lambda d: d.isel(x=slice(0, 8)), "8 cells"),
        (lambda d: d.assign_coords(x=d["x"] * 2), "expected 16 x 16 cells on 6.28319 x 6.28319"),
        (lambda d: d.assign_coords(x=d["x"] - d["x"][0]), "cell centres"),
        (lambda d: d.assign_coords(time=d["time"] * 2), "interval is 0.5; expected 0.25"),
        (lambda d: d.where(d["x"] > 1), "NaN"),
        (lambda d: d.drop_vars("y"), "no coordinate 'y'"),
    ],
)
def test_start_that_does_not_fit(trained, spoil, said):
    data, models = trained
    with pytest.raises(UsageError, match=said):
        fs.forecast(models["small-d4"], spoil(data), 2)


def test_wrong_parity_is_refused(trained):
    data, models = trained
    scalar = data.copy()
    scalar["vorticity"] = scalar["vorticity"].assign_attrs(parity=1)
    with pytest.raises(UsageError, match="parity 1; expected 0 and -1"):
        fs.forecast(models["small-d4"], scalar, 2)


def test_an_input_that_it_would_ignore_is_refused(trained, toml):
    """A model of the unforced flow, given a forced one or viscosities that differ; forecasts themselves go in again."""
    data, models = trained
    forced = Experiment.read(toml, ["flow.kind=kolmogorov", "flow.spin_up=0", "flow.viscosity=[1e-2, 2e-2]"])
    other = fs.generate(forced)
    for name, said in (("forcing", "'forcing' is not zero"), ("viscosity", "'viscosity' differs between trajectories")):
        with pytest.raises(UsageError, match=said):
            fs.forecast(models["small-d4"], data.assign({name: other[name]}), 2)
        with pytest.raises(UsageError, match=said):
            fs.train(toml, data.assign({name: other[name]}))
    same = data.assign(viscosity=("trajectory", [2e-2] * 6))
    assert fs.forecast(models["small-d4"], same, 2).equals(fs.forecast(models["small-d4"], data, 2))
    model = fs.train(forced, other, ["small-cnn"])["small-cnn"]
    forecast = fs.forecast(model, other, 3)
    assert set(forecast.data_vars) == {"vorticity", "forcing", "viscosity"}
    fs.forecast(model, forecast, 1, start_time=0.75)


@pytest.mark.parametrize("how", ["variable", "coordinate", "attribute", "one of three"])
def test_a_start_of_another_viscosity_is_refused(trained, tmp_path, how):
    """The miniature's viscosity is 0.02; in single precision it is still that."""
    data, models = trained
    model = models["small-d4"]
    other = {
        "variable": data.assign(viscosity=0.5),
        "coordinate": data.assign_coords(viscosity=0.5),
        "attribute": data.assign_attrs(viscosity=np.float32(0.5)),
        "one of three": data.assign(viscosity=("trajectory", [0.5] * 6)),
    }[how]
    fs.save(model, tmp_path / "model")
    loaded = fs.load(tmp_path / "model")
    assert loaded.constants == model.constants == {"viscosity": 0.02, "drag": 0.0}
    said = r"the dataset has viscosity = 0.5, the model's flow has viscosity = 0.02: train a model that takes viscosity"
    for step in (
        lambda m: fs.forecast(m, other, 2),
        lambda m: fs.forecast(fs.move_to_grid(m.every(1), m.spec.grid), other, 2),
        lambda m: check_flow_constants(fs.move_to_grid(m, Grid.square(32, 4 * np.pi)), other),
        lambda m: fs.forecast_to_zarr(m, other, 2, tmp_path / "long.zarr"),
        lambda m: fs.calibrate(m, starts=20, data=other),
        lambda m: fs.audit(m, states=other, steps=1, angles=[], shifts=[]),
    ):
        for each in (model, loaded):
            with pytest.raises(UsageError, match=said) as caught:
                step(each)
            assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "long.zarr").exists()
    with pytest.raises(
        UsageError, match=r"viscosity = 0.5, the experiment's flow has viscosity = 0.02: make viscosity"
    ):
        fs.train(MINIATURE, other, ["small-cnn"])


def test_constants_are_those_that_the_data_state(trained):
    data, models = trained
    model = models["small-d4"]
    expected = fs.forecast(model, data, 1)
    assert expected.attrs["viscosity"] == 0.02  # so that the forecast is a start, and has a Reynolds number
    for same in (
        data.assign_attrs(viscosity=np.float32(0.02)),
        data.assign(viscosity=np.float32(0.02)),
        data.assign(drag=0.0),
        data.drop_attrs(),
    ):
        assert fs.forecast(model, same, 1).equals(expected)
    with pytest.raises(UsageError, match=r"drag = 1e-09, the model's flow has drag = 0:"):
        fs.forecast(model, data.assign(drag=1e-9), 1)
    with pytest.raises(UsageError, match=r"the dataset's viscosity must be a number or one a trajectory .got 'water'."):
        fs.forecast(model, data.assign_attrs(viscosity="water"), 1)
    silent = fs.train(MINIATURE, data.drop_attrs(), ["small-cnn"])["small-cnn"]
    assert silent.constants == {}
    assert fs.forecast(silent, data.assign_attrs(viscosity=0.5), 1).equals(fs.forecast(models["small-cnn"], data, 1))


def test_start_time_and_steps_are_checked(trained):
    data, models = trained
    with pytest.raises(UsageError, match=r"0.3 is no stored time; the nearest is 0.25"):
        fs.forecast(models["small-d4"], data, 2, start_time=0.3)
    with pytest.raises(UsageError, match="steps must be at least 1"):
        fs.forecast(models["small-d4"], data, 0)
    timed = data.isel(time=2)  # at 0.5, a coordinate of no dimension
    assert fs.forecast(models["small-d4"], timed, 1, start_time=0.5)["time"].values.tolist() == [0.5, 0.75]
    with pytest.raises(UsageError, match=r"7 is no stored time; the nearest is 0.5"):
        fs.forecast(models["small-d4"], timed, 1, start_time=7)
    with pytest.raises(UsageError, match="does not say of which time it is"):
        fs.forecast(models["small-d4"], timed.drop_vars("time"), 1, start_time=7)


def test_folders_that_are_no_model(trained, tmp_path):
    _, models = trained
    fs.save(models["small-d4"], tmp_path / "good")
    config = json.loads((tmp_path / "good" / "config.json").read_text())
    weights = (tmp_path / "good" / "weights.safetensors").read_bytes()

    def folder(name, config_text, weight_bytes=weights):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config_text)
        (tmp_path / name / "weights.safetensors").write_bytes(weight_bytes)
        return tmp_path / name

    wide = config | {"model": config["model"] | {"width": 32}}
    bad = {
        "it has no config.json": tmp_path / "nowhere",
        "is not valid JSON": folder("broken", "{"),
        "does not describe a model": folder("empty", "{}"),
        "another version of fluidsurrogate wrote this model": folder("future", json.dumps(config | {"format": 99})),
        "does not describe a model: ": folder("kind", json.dumps(config | {"model": {"kind": "os.system"}})),
        "size mismatch": folder("wide", json.dumps(wide)),
        "not the weights of this model": folder("cut", json.dumps(config), weights[: len(weights) // 2]),
        "not the weights": folder("pickle", json.dumps(config), pickle.dumps({"weight": print})),
    }
    for said, path in bad.items():
        with pytest.raises(UsageError, match=said):
            fs.load(path)


def test_a_users_own_dataset_trains(trained, toml):
    """A Dataset without our attributes or splits: types by name, splits by count."""
    data, _ = trained
    plain = xr.Dataset({"vorticity": (data["vorticity"].dims, data["vorticity"].values)},
                       {name: data[name].values for name in ("time", "y", "x")})  # fmt: skip
    ours, theirs = (fs.train(toml, d, ["small-d4"])["small-d4"] for d in (data, plain))
    assert all(
        torch.equal(a, b) for a, b in zip(*(m.network.state_dict().values() for m in (ours, theirs)), strict=True)
    )


def test_says_what_it_is(trained):
    _, models = trained
    assert repr(models["small-d4"]) == (
        f"<Surrogate 'small-d4': gcnn over D4, {models['small-d4'].parameters:,} weights; vorticity on 16 x 16 cells "
        "on 6.28319 x 6.28319, every 0.25; float32 on cpu>"
    )


def test_in_another_precision(trained, tmp_path, toml):
    data, models = trained
    model = models["small-d4"]
    before = fs.forecast(model, data, 2)
    double = model.to(dtype=torch.float64)
    assert {p.dtype for p in double.network.parameters()} == {torch.float64}
    forecast = fs.forecast(double, data, 2)
    assert forecast["vorticity"].dtype == np.float64
    np.testing.assert_allclose(forecast["vorticity"], before["vorticity"], atol=1e-4)
    assert float(abs(forecast - before)["vorticity"].max()) > 0
    assert fs.forecast(model, data, 2).identical(before)  # it stays as it is
    fs.save(double, tmp_path / "double")
    assert fs.forecast(fs.load(tmp_path / "double"), data, 2).identical(forecast)
    assert fs.forecast(double.to("cpu", torch.float32), data, 2).identical(before)
    assert fs.forecast(model.to(torch.device("cpu")), data, 2).identical(before)
    for call, said in (
        (lambda: model.to("abacus"), "device 'abacus' is not available here"),
        (lambda: model.to(dtype=torch.float16), "dtype must be torch.float32 or torch.float64"),
    ):
        with pytest.raises(UsageError, match=said):
            call()
    hybrid = fs.train(Experiment.read(toml, ["models={h = {kind = 'cnn', width = 4, solver = {}}}"]), data)["h"]
    with pytest.raises(UsageError, match="a hybrid cannot be moved, because its solver is built when it is loaded"):
        hybrid.to(dtype=torch.float64)


def test_pickled_and_copied_it_forecasts_the_same(trained, toml):
    """Single networks, an ensemble of them, a hybrid; and in a process started afresh, as by Dask, joblib, a pool."""
    data, models = trained
    more = "models={m = {kind = 'gcnn', width = 8, networks = 2}, h = {kind = 'cnn', width = 4, solver = {}}}"
    several = fs.train(Experiment.read(toml, [more]), data)
    everything = {**models, **several}
    expected = {name: fs.forecast(model, data, 3) for name, model in everything.items()}
    for name, model in everything.items():
        for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            assert (twin.spec, twin.normalisation, twin.config) == (model.spec, model.normalisation, model.config)
            assert fs.forecast(twin, data, 3).identical(expected[name])
    with multiprocessing.get_context("spawn").Pool(1, torch.set_num_threads, (1,)) as pool:
        made = pool.starmap(fs.forecast, [(model, data, 3) for model in everything.values()])
    assert all(a.identical(b) for a, b in zip(made, expected.values(), strict=True))
