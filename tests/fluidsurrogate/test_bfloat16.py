"""Forecasts whose network computes in bfloat16: near those in full precision, checked by training, and recorded."""

import copy
import logging

import numpy as np
import pytest
import torch
from torch import nn

import fluidsurrogate as fs
from fluidsurrogate.cli.program import main
from fluidsurrogate.evaluation.equivariance import equivariance_error
from fluidsurrogate.inspection.model_card import model_card
from fluidsurrogate.inspection.report import report
from fluidsurrogate.models.bfloat16 import BFLOAT16_CHECK, BFLOAT16_ERROR_RATIO
from fluidsurrogate.models.forecasting import perturbed_forecast
from fluidsurrogate.models.perturbations import Perturbation
from solvers import D4


def recorded(model, **about):
    """The model with other records; those that are None are left out."""
    changed = copy.copy(model)
    changed.about = {key: value for key, value in (dict(model.about) | about).items() if value is not None}
    return changed


def nrmse(model, test, precision):
    forecast = fs.forecast(model, test, test.sizes["time"] - 1, precision=precision)
    return fs.compare({"it": forecast}, test, metrics=["nrmse"])["nrmse"].sel(source="it").values[1:]


def change(forecast):
    return (forecast["vorticity"] - forecast["vorticity"].isel(time=0)).values


def test_forecasts_are_near_those_in_full_precision(trained):
    data, models = trained
    model = models["small-d4"]
    full, half = (fs.forecast(model, data, 4, precision=name) for name in ("full", "bfloat16"))
    assert half["vorticity"].dtype == np.float32
    assert 1e-4 < np.linalg.norm(change(half) - change(full)) / np.linalg.norm(change(full)) < 0.03
    assert half.attrs["precision"] == "bfloat16"
    assert "precision" not in full.attrs
    assert full.identical(fs.forecast(model, data, 4))  # the default
    assert half.identical(fs.forecast(model.in_precision("bfloat16"), data, 4))
    # The step around the network is in single precision: the mean is conserved.
    assert np.abs(change(half).mean((-2, -1))).max() < 1e-6
    perturbation = Perturbation(((0.5,) * 11,), 0.5, 0.3)
    members = perturbed_forecast(model.in_precision("bfloat16"), data, 4, 3, perturbation)
    assert np.array_equal(members["vorticity"].isel(member=0), half["vorticity"])


def test_symmetries_hold_to_the_rounding_of_bfloat16(trained):
    data, models = trained
    state = torch.from_numpy(data["vorticity"].values[:, :1])
    view = models["small-d4"].in_precision("bfloat16")
    exact, rounded = (max(equivariance_error(m, state, D4).values()) for m in (models["small-d4"], view))
    assert exact < 1e-5
    assert rounded < 0.03
    plain = models["small-cnn"].in_precision("bfloat16")
    assert max(equivariance_error(plain, state, D4).values()) > 0.03  # the control: a network without the symmetry


def test_to_a_zarr_folder(trained, tmp_path):
    data, models = trained
    path = tmp_path / "x.zarr"
    written = fs.forecast_to_zarr(models["small-d4"], data, 3, path, precision="bfloat16")
    memory = fs.forecast(models["small-d4"], data, 3, precision="bfloat16")
    np.testing.assert_allclose(written["vorticity"], memory["vorticity"], atol=1e-5)
    assert written.attrs["precision"] == "bfloat16"
    with pytest.raises(fs.UsageError, match=r"stepper\.precision"):
        fs.forecast_to_zarr(models["small-d4"], data, 3, path)


def test_training_records_the_errors_of_both(trained, tmp_path):
    data, models = trained
    model = models["small-d4"]
    test = data.isel(trajectory=data["split"].values == "test")
    full, half = (nrmse(model, test, precision) for precision in ("full", "bfloat16"))
    said = model.about[BFLOAT16_CHECK]
    assert said == (
        f"nRMSE after 1 and 4 intervals {full[0]:.4g} and {full[-1]:.4g} in full precision, "
        f"{half[0]:.4g} and {half[-1]:.4g} in bfloat16, on 2 test trajectories"
    )
    assert model.about[BFLOAT16_ERROR_RATIO] == pytest.approx((half / full).max(), abs=1e-4)
    fs.save(model, tmp_path / "model")
    assert fs.load(tmp_path / "model").about == model.about
    assert f"In bfloat16: {said}." in model_card(model)
    assert "In bfloat16: not checked." in model_card(recorded(model, bfloat16_check=None))
    found = fs.info(tmp_path / "model")
    assert found["bfloat16"] == said
    assert said in report(found)


def test_without_test_data_the_validation_data_are_forecast(trained, toml):
    data = trained[0]
    without = data.isel(trajectory=data["split"].values != "test")
    broken = data.copy(deep=True)
    broken["vorticity"][{"trajectory": 5, "time": 1}] = np.nan
    for given in (without, broken):
        model = fs.train(fs.Experiment.read(toml, ["train.steps=1"]), given, ["small-d4"])["small-d4"]
        assert model.about[BFLOAT16_CHECK].endswith("on 1 validation trajectories")


def test_a_model_without_a_good_record_is_warned_of_once(trained, caplog):
    data, models = trained
    model = models["small-d4"]

    def said(model, precision="bfloat16"):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "fluidsurrogate"):
            fs.forecast(model, data, 1, precision=precision)
        return [record.getMessage() for record in caplog.records]

    good = recorded(model, bfloat16_error_ratio=1.049)
    assert said(good) == []
    for ratio, reason in (
        (1.06, "its error grows by more than 5% in bfloat16"), (None, "no error in bfloat16 is known"),
        ("1.0", "no error in bfloat16 is known"),
    ):  # fmt: skip
        bad = recorded(model, bfloat16_error_ratio=ratio)
        assert said(bad) == [f"small-d4: {reason}: {model.about[BFLOAT16_CHECK]}"]
        assert said(bad, "full") == []
    unknown = said(recorded(model, bfloat16_check=None))
    assert [line.partition("; ")[0] for line in unknown] == [
        "small-d4: no record says how much its error grows in bfloat16"
    ]
    (other,) = said(recorded(good, applied_to_grid="32 x 32 cells"))
    assert "on the grid of its training only" in other


class NoBfloat16(nn.Module):
    """A network of the user's that computes in full precision only."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")

    def forward(self, x):
        y = self.conv(x)
        if y.dtype == torch.bfloat16:
            raise RuntimeError("not in bfloat16")
        return y


def test_a_network_that_cannot_is_trained_all_the_same(trained, toml):
    model = fs.train(toml, trained[0], {"mine": NoBfloat16()})["mine"]
    assert model.about[BFLOAT16_CHECK] == "the network cannot compute in bfloat16 (RuntimeError)"
    assert BFLOAT16_ERROR_RATIO not in model.about


def test_what_is_refused(trained):
    data, models = trained
    with pytest.raises(fs.UsageError, match=r"precision must be 'full' or 'bfloat16' \(got 'half'\)"):
        fs.forecast(models["small-d4"], data, 1, precision="half")
    double = models["small-d4"].to(dtype=torch.float64)
    with pytest.raises(fs.UsageError, match=r"needs a model in float32 \(got one in float64\)"):
        fs.forecast(double, data, 1, precision="bfloat16")
    assert fs.forecast(double, data, 1, precision="full")["vorticity"].dtype == np.float64


def test_models_in_double_precision_record_nothing(trained, toml):
    experiment = fs.Experiment.read(toml, ["dtype=float64", "train.steps=1"])
    assert BFLOAT16_CHECK not in fs.train(experiment, trained[0], ["small-d4"])["small-d4"].about


def test_from_the_command_line(trained, toml, tmp_path, capsys):
    data, models = trained
    out = tmp_path / "out"
    fs.save(models["small-d4"], out / "models" / "small-d4")
    data.isel(trajectory=[0], time=0)[["vorticity"]].to_netcdf(tmp_path / "start.nc")
    start = ["--start", str(tmp_path / "start.nc"), "--steps", "2", "--precision", "bfloat16"]
    command = ["rollout", str(toml), "--out", str(out), *start, "--model"]
    for to in (tmp_path / "x.nc", tmp_path / "x.zarr"):
        assert main([*command, "small-d4", "--to", str(to)]) == 0
        with fs.open_data(to) as made:
            assert made.attrs["precision"] == "bfloat16"
    capsys.readouterr()
    for arguments, said in (
        ([*command, "solver", "--to", str(tmp_path / "y.zarr")], "--precision applies to the network of a model"),
        (["rollout", str(toml), "--precision", "bfloat16"], "--precision need a forecast from a file"),
    ):
        assert main(arguments) == 2
        assert said in capsys.readouterr().err
