"""The pretrained models in the package: they load and forecast with no network, and are what their experiments make."""

import importlib.util
import json
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

import fluidsurrogate as fs
from fluidsurrogate.cli import main
from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.provenance import parse_json_attribute
from fluidsurrogate.data.conversion import to_inputs, to_states
from fluidsurrogate.models.pretrained import PRETRAINED, pretrained_names
from fluidsurrogate.training.fine_tuning import with_initial_model
from solvers import D4, Group

ROOT = Path(__file__).parents[2]
NAMES = pretrained_names()
FILES = {"README.md", "audit.nc", "calibration.json", "config.json", "scores.csv", "weights.safetensors"}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a pretrained model needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def committed():
    """The script that makes the models again."""
    spec = importlib.util.spec_from_file_location("pretrained_run", ROOT / "experiments" / "pretrained" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_models_are_small_and_complete():
    assert {"decaying-2d"} <= set(NAMES)
    for name in NAMES:
        assert {path.name for path in (PRETRAINED / name).iterdir()} == FILES
    assert sum(path.stat().st_size for path in PRETRAINED.rglob("*")) <= 2**20


@pytest.mark.parametrize("name", NAMES)
def test_forecast_with_bound(name):
    """Its error is within the bound that it states, and below that of persistence."""
    model = fs.pretrained(name)
    truth = fs.simulate(model, steps=10, count=2)
    forecast = fs.forecast(model, truth, steps=10, members=4)
    error = fs.compare({"it": forecast}, truth, metrics=[])["nrmse"].sel(source="it").values
    bound = forecast["error_bound"].mean("trajectory").values
    assert np.all(error[1:] <= bound[1:])
    assert 0 < bound[1] < bound[10]
    rest = truth["vorticity"].isel(time=0) - truth["vorticity"].isel(time=slice(1, None))
    persistence = float(np.sqrt((rest**2).mean() / (truth["vorticity"].isel(time=slice(1, None)) ** 2).mean()))
    assert error[10] < 0.5 * persistence


@pytest.mark.parametrize("name", NAMES)
def test_symmetry(name):
    """Turns and mirrors commute with the step; if the vorticity did not change its sign in a mirror, they would not."""
    model = fs.pretrained(name)
    start = fs.simulate(model, steps=1, count=2).isel(time=[0])
    states, inputs = to_states(start, model.spec)[:, 0], to_inputs(start, model.spec)
    assert max(fs.equivariance_error(model, states, D4, inputs).values()) < 1e-5
    step = lambda state: model(state, inputs)  # noqa: E731
    mirrored = torch.flip(step(states), (-1,))
    change = (step(states) - states).norm()
    assert (step(-torch.flip(states, (-1,))) + mirrored).norm() < 1e-5 * change
    assert (step(torch.flip(states, (-1,))) - mirrored).norm() > 0.1 * change  # the control: parity +1
    assert isinstance(model.network.group, Group)
    assert model.network.group.name == "D4"


@pytest.mark.parametrize("name", NAMES)
def test_model_is_what_its_experiment_makes(name, committed):
    """What the folder records, filled up with today's defaults, is what the committed TOML files say."""
    path = ROOT / "experiments" / "pretrained" / f"{name}.toml"
    about = json.loads((PRETRAINED / name / "config.json").read_text())["about"]
    recorded, experiment = parse_json_attribute(about["experiment"]), Experiment.read(path)
    assert Experiment.from_tree(recorded).tree() == experiment.tree()
    provenance = parse_json_attribute(about["provenance"])
    now = json.loads(json.dumps(committed.provenance_of(name, experiment)))
    sources = provenance["data"].pop("flows", None) or {name: provenance["data"]}
    expected = now["data"].pop("flows", None) or {name: now["data"]}
    assert sources.keys() == expected.keys()
    for source, tables in sources.items():  # a flow may have more parameters by now
        complete = {
            "name": "recorded",
            **tables,
            "data": {"test": 1, **tables["data"]},
        }  # a model depends on no test set
        tree = Experiment.from_tree(complete).tree()
        assert {key: tree[key] for key in tables} | {"data": tables["data"]} == expected[source]
    assert provenance["model"].items() <= now["model"].items()
    assert provenance["train"].items() <= now["train"].items()
    assert provenance["seed"] == now["seed"]


def test_drift_is_noticed(committed, tmp_path):
    """The control: another viscosity or width is another fingerprint."""
    path = ROOT / "experiments" / "pretrained" / "decaying-2d.toml"
    was = committed.provenance_of("decaying-2d", Experiment.read(path))
    for other in ("flow.viscosity=1e-2", "models.decaying-2d.width=16", "train.steps=9999"):
        assert committed.provenance_of("decaying-2d", Experiment.read(path, [other])) != was


def test_unknown_name():
    with pytest.raises(fs.UsageError, match=r"^no pretrained model 'decaying-3d'; there are decaying-2d") as caught:
        fs.pretrained("decaying-3d")
    assert "\n" not in str(caught.value)


def test_address_is_taken_where_a_folder_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    address = "pretrained:decaying-2d"
    assert fs.load(address).parameters == fs.pretrained("decaying-2d").parameters
    assert fs.info(address)["kind"] == "model"
    assert main(["info", address]) == 0
    assert main(["models", "--pretrained"]) == 0
    assert address in capsys.readouterr().out
    assert main(["rollout", "--model", address, "--steps", "3", "--members", "3", "--to", "f.nc"]) == 0
    with fs.open_data("f.nc") as forecast:
        assert dict(forecast["vorticity"].sizes) == {"trajectory": 1, "member": 3, "time": 4, "y": 32, "x": 32}
    assert main(["rollout", "--model", address, "--start", "f.nc", "--steps", "1", "--to", "g.nc"]) == 2  # members
    assert "member" in capsys.readouterr().err
    for arguments, said in [
        (["rollout", "--model", address, "--to", "h.nc"], "missing: --steps"),
        (
            ["rollout", "--model", address, "--steps", "1", "--to", "h.nc", "--dtype", "float64"],
            "apply to an experiment",
        ),
        (["rollout", "--model", "pretrained:none", "--steps", "1", "--to", "h.nc"], "there are decaying-2d"),
        (["audit", address], "give --to FOLDER"),
        (["calibrate", address], "give --to FOLDER"),
    ]:
        assert main(arguments) == 2
        assert said in capsys.readouterr().err
    assert main(["audit", address, "--to", "audited", "--steps", "2"]) == 0
    assert (tmp_path / "audited" / "audit.nc").exists()


def test_fine_tuning_starts_from_a_pretrained_model():
    path = ROOT / "experiments" / "pretrained" / "decaying-2d.toml"
    tuned = with_initial_model(Experiment.read(path), "pretrained:decaying-2d")
    assert tuned.models["decaying-2d"].init == "pretrained:decaying-2d"  # no path of this machine


def test_simulated_trajectories():
    model = fs.pretrained("decaying-2d")
    one, three = fs.simulate(model, steps=2, seed=1), fs.simulate(model, steps=1, count=3, seed=1)
    np.testing.assert_allclose(one["vorticity"][0, :2], three["vorticity"][0], atol=1e-4)
    assert (
        abs(float(fs.simulate(model, steps=1, seed=2)["vorticity"][0, 0, 0, 0] - one["vorticity"][0, 0, 0, 0])) > 1e-3
    )
    low, high = 4e-3, 1.6e-2
    assert np.all((three["viscosity"] > low) & (three["viscosity"] < high))
    assert len(set(three["viscosity"].values)) == 3
    for arguments in ({"steps": 0}, {"count": 0}, {"seed": -1}):
        with pytest.raises(fs.UsageError, match="must be at least"):
            fs.simulate(model, **arguments)
