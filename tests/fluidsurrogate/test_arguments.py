"""Ordinary mistakes in a call: each is refused in one line that says what to do, and friendlier spellings work."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import fluidsurrogate as fs
from fluidsurrogate import UsageError

# In a process of its own, in which no types are checked, as for a user.
SCRIPT = """
import sys, tempfile
import numpy as np, torch, fluidsurrogate as fs
from torch import nn

experiment = fs.Experiment.read(sys.argv[1])
data = fs.generate(experiment)
model = fs.train(experiment, data, "small-cnn")["small-cnn"]
folder = tempfile.mkdtemp()
fs.save(model, folder)
frozen = nn.Conv2d(1, 1, 3, padding=1).requires_grad_(False)
scripted = torch.jit.script(nn.Sequential(nn.Conv2d(1, 1, 1)))
mine = fs.train(experiment, data, {"mine": nn.Conv2d(1, 1, 1)})["mine"]
fs.save(mine, folder + "/mine")
zarr = folder + "/long.zarr"
for said, call in [
    ("models.m: all its weights are frozen: call", lambda: fs.train(experiment, data, {"m": frozen})),
    ("models.m: RecursiveScriptModule is compiled by TorchScript", lambda: fs.train(experiment, data, {"m": scripted})),
    ("give an instance of a torch.nn.Module (got the class Id", lambda: fs.train(experiment, data, {"m": nn.Identity})),
    ("give an instance of a torch.nn.Module (got the class C", lambda: fs.load(folder + "/mine", module=nn.Conv2d)),
    ("no/such.zarr: no such dataset", lambda: fs.train(experiment, "no/such.zarr")),
    ("unknown model 'small'; the experiment has", lambda: fs.train(experiment, data, "small")),
    ("an xarray Dataset is needed (got DataArray)", lambda: fs.train(experiment, data["vorticity"])),
    ("give an Experiment or the path of its TOML file (got dict)", lambda: fs.generate(experiment.tree())),
    ("give an Experiment or the path of its TOML file (got int)", lambda: fs.train(5)),
    ("give the folder of a model (got NoneType)", lambda: fs.load(None)),
    ("steps must be a whole number (got 2.5)", lambda: fs.forecast(model, data, 2.5)),
    ("steps must be a whole number (got '3')", lambda: fs.forecast(model, data, "3")),
    ("would take", lambda: fs.forecast(model, data, 10**12)),
    ("members must be a whole number (got 1000000000000.0)", lambda: fs.forecast(model, data, 2, members=1e12)),
    ("an xarray Dataset is needed (got str)", lambda: fs.forecast(model, "start.nc", 2)),
    ("steps must be a whole number (got 2.5)", lambda: fs.forecast_to_zarr(model, data, 2.5, zarr)),
    ("batch must be a whole number (got 0.5)", lambda: fs.forecast_to_zarr(model, data, 2, zarr, batch=0.5)),
    ("the times of 1000000000000 steps would take", lambda: fs.forecast_to_zarr(model, data, 10**12, zarr)),
    ("give a grid, Grid.square(64) say", lambda: fs.move_to_grid(model, (32, 32))),
    ("give a model, as fs.load and fs.train do (got str)", lambda: fs.calibrate(folder)),
    ("starts must be a whole number (got 20.5)", lambda: fs.calibrate(model, starts=20.5)),
    ("members must be a whole number", lambda: fs.calibrate(model, starts=20, members=1e12)),
    ("would take", lambda: fs.calibrate(model, starts=20, members=10**12)),
    ("no.nc: no such dataset", lambda: fs.calibrate(model, starts=20, data="no.nc")),
    ("no.nc: no such dataset", lambda: fs.audit(model, states="no.nc")),
    ("steps must be a whole number (got 2.5)", lambda: fs.audit(model, steps=2.5)),
    ("got type", lambda: fs.audit(nn.Identity, model.spec)),
    ("state holds no trajectory: give at least one", lambda: fs.rollout(model, torch.zeros(0, 1, 16, 16), 2)),
    ("state holds no trajectory: give", lambda: fs.rollout(experiment.build_solver(), torch.zeros(0, 1, 16, 16), 2)),
    ("state holds no trajectory: give at least one", lambda: model(torch.zeros(0, 1, 16, 16))),
]:
    try:
        call()
    except fs.UsageError as error:
        assert said in str(error) and len(str(error).splitlines()) == 1, (said, str(error))
    else:
        raise AssertionError(f"not refused: {said}")
"""


def test_mistakes_are_refused_in_one_line(toml):
    ran = subprocess.run([sys.executable, "-c", SCRIPT, toml], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr


def test_a_path_for_the_data_and_one_name_for_the_models(trained, toml, tmp_path):
    data, models = trained
    data.to_netcdf(tmp_path / "data.nc")
    made = fs.train(toml, tmp_path / "data.nc", "small-cnn")
    assert list(made) == ["small-cnn"]
    weights = zip(*(m.network.state_dict().values() for m in (made["small-cnn"], models["small-cnn"])), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)
    of_path = fs.audit(models["small-d4"], states=str(tmp_path / "data.nc"), steps=1, angles=[], shifts=[])
    assert of_path.identical(fs.audit(models["small-d4"], states=data, steps=1, angles=[], shifts=[]))


def test_a_device_may_be_torchs(trained, tmp_path):
    data, models = trained
    fs.save(models["small-d4"], tmp_path)
    loaded = fs.load(tmp_path, torch.device("cpu"))
    assert fs.forecast(loaded, data, 2).identical(fs.forecast(models["small-d4"], data, 2))


@pytest.mark.parametrize("size", [1e17, 1e20, 1e37])
def test_values_whose_squares_are_no_numbers(trained, size):
    data, models = trained
    with pytest.raises(UsageError, match="'vorticity' holds NaN, infinite values, or values too large for torch"):
        fs.forecast(models["small-d4"], data * size, 2)
    large = fs.forecast(models["small-d4"], data * 1e14, 2)
    assert np.isfinite(large["vorticity"]).all()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "models.small-cnn.networks=1000000000000",
            "models.small-cnn.networks: input should be less than or equal to 1",
        ),
        ("models={m = {kind = 'gfno', width = 8, layers = 1000000000000}}", "layers must be 1 to 100"),
    ],
)
def test_absurd_numbers_of_networks_and_layers(toml, override, said):
    with pytest.raises(UsageError, match=said):
        fs.Experiment.read(toml, [override])
