"""What things say of themselves, and whether that is enough to make them again."""

import hashlib
import json
import os
import shutil
import tomllib

import numpy as np
import pytest
import xarray as xr
from torch import nn

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.cli import main
from fluidsurrogate.data.content_hash import hash_variables
from fluidsurrogate.inspection.model_info import best_validation
from fluidsurrogate.inspection.report import report
from fluidsurrogate.inspection.toml_writer import to_toml

MODELS = ("small-d4", "small-cnn")


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copytree(finished, tmp_path / "run")


def printed(capsys, *argv):
    capsys.readouterr()
    assert main(["info", *map(str, argv)]) == 0
    return capsys.readouterr().out


def refused(capsys, *argv):
    assert main(["info", *map(str, argv)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    return said


def test_a_data_set(finished, capsys):
    found = fs.info(finished / "data.zarr")
    json.dumps(found)
    assert found["kind"] == "data set"
    assert found["dims"] == {"trajectory": 6, "time": 5, "y": 16, "x": 16}
    assert found["variables"] == [{"name": "vorticity", "dims": ["trajectory", "time", "y", "x"], "dtype": "float32",
                                   "units": "s-1", "long_name": "vorticity", "type": "pseudoscalar"}]  # fmt: skip
    assert found["grid"] == {"cells": [16, 16], "length": pytest.approx([2 * np.pi] * 2)}
    assert found["time"] == {"count": 5, "first": 0.0, "last": 1.0, "interval": 0.25}
    assert found["splits"] == {"train": 3, "valid": 1, "test": 2}
    assert found["flow"]["viscosity"] == 0.02
    assert found["bytes"] == sum(p.stat().st_size for p in (finished / "data.zarr").rglob("*") if p.is_file())
    made = found["made"]
    assert made["experiment"] == Experiment.from_tree(made["experiment"]).tree()
    assert made["fingerprint_holds"]
    assert made["changed"] == {}
    assert made["again"] == "yes, bit-identical on the same device and number of threads"
    assert made["command"] == "fluidsurrogate generate EXPERIMENT.toml"
    said = printed(capsys, finished / "data.zarr")
    assert "vorticity(trajectory, time, y, x): float32, s-1, pseudoscalar" in said
    assert "train 3, valid 1, test 2" in said
    assert "decaying: viscosity = 0.02" in said
    assert "interval 0.25" in said


def test_a_model(finished, capsys):
    found = fs.info(finished / "models" / "small-d4")
    json.dumps(found)
    model = fs.load(finished / "models" / "small-d4")
    assert (found["kind"], found["name"], found["model"]["kind"]) == ("model", "small-d4", "gcnn")
    assert found["parameters"] == model.parameters
    assert (found["group"], found["stride"], found["interval"]) == ("D4", 1, 0.25)
    assert found["normalisation"]["change"] == list(model.normalisation.change)
    assert found["validation"]["steps"] == 8
    rows = np.genfromtxt(finished / "models" / "small-d4" / "curve.csv", delimiter=",", names=True)
    assert found["validation"]["nrmse"] == rows["valid_nrmse"].min()
    assert found["made"]["again"].startswith("yes, bit-identical")
    said = " ".join(printed(capsys, finished / "models" / "small-d4").split())
    assert "claims the point group D4 and shifts by whole cells" in said
    assert f"parameters {model.parameters:,}, float32" in said
    assert "energy kept by its budget, viscosity 0.02 and drag 0" in said


def test_forecasts_and_scores(finished, capsys, tmp_path):
    found = fs.info(finished / "scores.nc")
    json.dumps(found)
    assert (found["kind"], found["sources"]) == ("scores", ["truth", "persistence", "solver-16", *MODELS])
    with fs.open_data(finished / "scores.nc") as scores:
        expected = scores["nrmse_mean"].sel(source="small-d4").item()
    assert found["scores"]["nrmse_mean"]["small-d4"] == expected
    assert f"small-d4 {expected:.4f}" in printed(capsys, finished / "scores.nc")
    found = fs.info(finished / "forecasts.nc")
    assert (found["kind"], found["made"]["command"]) == ("forecasts", "fluidsurrogate run EXPERIMENT.toml")
    assert found["made"]["again"].startswith("yes")
    model, data = fs.load(finished / "models" / "small-d4"), fs.open_data(finished / "data.zarr")
    fs.forecast(model, data, 2).to_netcdf(tmp_path / "forecast.nc")
    found = fs.info(tmp_path / "forecast.nc")
    assert (found["kind"], found["made"]["model"]) == ("forecast", "small-d4")
    fs.forecast_to_zarr(model, data, 2, tmp_path / "forecast.zarr")
    found = fs.info(tmp_path / "forecast.zarr")
    assert (found["kind"], found["made"]["model"]) == ("forecast", "small-d4")
    assert found["made"]["again"].startswith("yes")
    assert main(["audit", str(finished / "models" / "small-d4"), "--steps", "2", "--to", str(tmp_path)]) == 0
    found = fs.info(tmp_path / "audit.nc")
    assert (found["kind"], found["audit"]["verdict"], found["made"]["model"]) == ("audit", "pass", "small-d4")
    assert "verdict pass (claims D4" in " ".join(printed(capsys, tmp_path / "audit.nc").split())


def test_a_run_and_what_is_missing_of_it(copied, capsys):
    found = fs.info(copied)
    json.dumps(found)
    kinds = [result["kind"] for result in found["results"]]
    assert kinds == ["data set", "model", "model", "forecasts", "scores", "report"]
    assert (found["name"], found["half_made"], found["to_make"]) == ("miniature", [], [])
    (copied / "scores.nc").unlink()
    (copied / "forecasts.nc").write_text("text")
    partial = copied / "models" / "small-cnn.partial"
    shutil.move(copied / "models" / "small-cnn", partial)
    provenance = json.loads(json.loads((partial / "config.json").read_text())["about"]["provenance"])
    (partial / "provenance.json").write_text(json.dumps(provenance))
    said = printed(capsys, copied)
    assert "small-cnn, interrupted" in said
    assert "the same fluidsurrogate train command continues it" in said
    assert f"{copied / 'scores.nc'}: not made yet" in said
    assert f"{copied / 'models' / 'small-cnn'}: not made yet" in said
    assert f"broken: {copied / 'forecasts.nc'}: unknown data format" in said
    assert len(printed(capsys, partial).splitlines()) == 1
    (copied / "data.zarr").rename(copied / "data.zarr.partial")
    (copied / "data.zarr.partial" / "provenance.json").write_text("{}")
    (copied / "data.zarr.partial" / "progress.json").write_text('{"blocks": 2, "inner_step": 0.1}')
    assert "2 blocks done" in printed(capsys, copied / "data.zarr.partial")


def test_a_run_with_members(copied, toml, capsys):
    numbers = ["--set", "compare.members=3", "--set", "compare.calibration_starts=20"]
    assert main(["rollout", str(toml), "--out", str(copied), *numbers]) == 0
    found = fs.info(copied / "ensembles.nc")
    assert (found["kind"], found["made"]["command"]) == ("forecasts", "fluidsurrogate run EXPERIMENT.toml")
    assert found["made"]["again"].startswith("yes")
    (copied / "scores.nc").unlink()  # of the experiment without members
    (copied / "forecasts.nc").unlink()
    assert f"{copied / 'ensembles.nc'}: forecasts" in printed(capsys, copied)
    (copied / "ensembles.nc").rename(copied / "ensembles.nc.partial")
    assert "ensembles.nc, interrupted" in printed(capsys, copied)
    assert "the same fluidsurrogate rollout command continues it" in printed(capsys, copied)


def test_what_is_none_of_these(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    (tmp_path / "file.txt").write_text("text\nof two lines")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "zarr").mkdir()
    (tmp_path / "zarr" / "zarr.json").write_text("{}")
    for name, said in [
        ("empty", "is empty"),
        ("other", "), no model (config.json) and no run"),
        ("file.txt", "unknown data format; known formats: "),
        ("nowhere", "no such file or folder"),
        ("model", "does not describe a model: the key format is missing"),
        ("zarr", "is a data set without variables"),
        ("file.txt/inside", "no such file or folder"),
    ]:
        assert said in refused(capsys, tmp_path / name)


def test_a_run_that_holds_itself(copied, capsys):
    """Each part of a run is looked at as what its name says, wherever a link leads."""
    for name in ("forecasts.nc", "scores.nc"):
        (copied / name).unlink()
        (copied / name).symlink_to(copied)
    said = printed(capsys, copied)
    assert said.count("broken: ") == 2
    assert f"broken: {copied / 'forecasts.nc'}: " in said


def test_coordinates_of_more_dimensions_than_one(tmp_path, capsys):
    dims = ("trajectory", "time")
    odd = xr.Dataset({"omega": (dims, np.zeros((2, 3)))}).assign_coords(time=(dims, np.zeros((2, 3))))
    odd = odd.assign_coords(split=(dims, np.full((2, 3), "test")))
    odd = odd.assign({name: (("source", *dims), np.zeros((1, 2, 3))) for name in ("nrmse_first_step", "nrmse_mean")})
    odd.to_netcdf(tmp_path / "odd.nc")
    found = fs.info(tmp_path / "odd.nc")
    assert "time" not in found
    assert found["splits"] == {"test": 6}
    assert found["kind"] != "scores"
    printed(capsys, tmp_path / "odd.nc")


def test_data_of_somebody_elses(tmp_path, capsys):
    """No attributes, no splits, no grid that is ours: what there is to say."""
    data = xr.Dataset({"omega": (("time", "lat"), np.zeros((3, 4)))}, {"time": [0.0, 1.0, 2.0]})
    data.to_netcdf(tmp_path / "plain.nc")
    found = fs.info(tmp_path / "plain.nc")
    assert "grid" not in found
    assert found["variables"][0]["type"] is None
    assert found["made"] == {"again": "no: the experiment that made it is not recorded"}
    assert "omega(time, lat): float64" in printed(capsys, tmp_path / "plain.nc")
    assert "does not record which experiment made it" in refused(
        capsys, tmp_path / "plain.nc", "--write-experiment", tmp_path / "x.toml"
    )
    assert not (tmp_path / "x.toml").exists()
    strange = data.assign_attrs(experiment="{", provenance="[1]", versions="3", fingerprint="x")
    strange.to_netcdf(tmp_path / "strange.nc")
    assert fs.info(tmp_path / "strange.nc")["made"]["again"].startswith("no")


# -- made again


def test_the_written_experiment_makes_the_same_again(finished, tmp_path, capsys):
    file = tmp_path / "again.toml"
    assert str(file) in printed(capsys, finished / "models" / "small-d4", "--write-experiment", file)
    assert main(["generate", str(file), "--out", str(tmp_path / "again")]) == 0
    assert main(["train", str(file), "--out", str(tmp_path / "again")]) == 0
    a, b = (fs.open_data(folder / "data.zarr") for folder in (finished, tmp_path / "again"))
    assert a.equals(b)
    for name in MODELS:
        a, b = (
            (folder / "models" / name / "weights.safetensors").read_bytes() for folder in (finished, tmp_path / "again")
        )
        assert a == b
    assert "exists already" in refused(capsys, finished / "data.zarr", "--write-experiment", file)


def edited(folder, **about):
    config = json.loads((folder / "config.json").read_text())
    config["about"] |= about
    (folder / "config.json").write_text(json.dumps(config))
    return fs.info(folder)["made"]


def test_other_versions_are_named(copied):
    model = copied / "models" / "small-d4"
    parse_record = json.loads(json.loads((model / "config.json").read_text())["about"]["versions"])
    made = edited(model, versions=json.dumps(parse_record | {"torch": "1.0", "gone": "2.0"}))
    assert made["changed"] == {"torch": ("1.0", parse_record["torch"]), "gone": ("2.0", "none")}
    assert made["again"] == f"yes, up to rounding: torch was 1.0, is {parse_record['torch']}, gone was 2.0, is none"


def test_what_does_not_hold_is_said(copied):
    model = copied / "models" / "small-d4"
    about = json.loads((model / "config.json").read_text())["about"]
    tree, provenance = json.loads(about["experiment"]), json.loads(about["provenance"])
    made = edited(model, fingerprint="0" * 16)
    assert made["again"] == "no: its fingerprint does not match its recorded inputs"
    edited(model, **about)
    made = edited(model, experiment=json.dumps(tree | {"grid": {"n": 16, "shape": "round"}}))
    assert made["again"].startswith("no: this version rejects it: its experiment: unknown key 'grid.shape'")
    made = edited(model, experiment=json.dumps(tree | {"seed": 2}))
    assert made["again"].startswith("no: this version would make another result: data.seed was 1, is 2")
    made = edited(model, experiment=json.dumps(tree | {"models": {}}))
    assert made["again"] == "no: its experiment has no model 'small-d4'"
    made = edited(model, experiment=json.dumps(tree | {"device": "cuda:7"}))
    assert made["again"].startswith("yes")
    assert provenance["seed"] == 1
    edited(model, **about)
    assert "validation" in fs.info(model)
    (model / "curve.csv").write_text("step,loss\n1,text\n")
    assert "validation" not in fs.info(model)


def test_data_of_the_users_own_that_changed_or_went(copied, toml, tmp_path, capsys):
    own = tmp_path / "mine.nc"
    fs.open_data(copied / "data.zarr").to_netcdf(own)
    arguments = ["--out", str(tmp_path / "mine"), "--set", f"data.path={own}", "--set", "train.steps=2"]
    assert main(["train", str(toml), *arguments]) == 0
    model = tmp_path / "mine" / "models" / "small-d4"
    assert fs.info(model)["made"]["again"].startswith("yes")
    assert fs.info(tmp_path / "mine")["data"] == str(own)
    assert "decaying: viscosity = 0.02" in (said := report(fs.info(model)))
    assert f"named by the experiment, but the data are your own, {own}" in said
    assert "data of your own" in report(fs.info(tmp_path / "mine"))
    os.utime(own, (1, 1))  # the content counts, whatever the file's time
    assert fs.info(model)["made"]["again"].startswith("yes")
    assert main(["train", str(toml), *arguments]) == 0
    assert "made from other inputs" not in capsys.readouterr().err
    with fs.open_data(own) as before:
        other = before.load()
    other["vorticity"][0, 0, 0, 0] += 1.0
    other.to_netcdf(tmp_path / "other.nc")
    (tmp_path / "other.nc").rename(own)
    assert fs.info(model)["made"]["again"] == f"no: its data, {own}, have changed: vorticity"
    assert main(["train", str(toml), *arguments]) == 2
    assert "made from other inputs: data.content.vorticity was " in capsys.readouterr().err
    own.unlink()
    assert f"its data, {own}, do not exist" in fs.info(model)["made"]["again"]


def test_data_of_the_users_own_seen_from_elsewhere(copied, experiment, tmp_path, capsys, monkeypatch):
    """An experiment that names its data from the current folder is written so that it names them from everywhere."""
    monkeypatch.chdir(copied)
    tree = experiment.tree()
    tree["data"]["path"] = "data.zarr"
    tree["train"]["steps"] = 2
    fs.train(Experiment.from_tree(tree), models=["small-cnn"], out=tmp_path / "mine")
    model, file = tmp_path / "mine" / "models" / "small-cnn", tmp_path / "again" / "again.toml"
    printed(capsys, model, "--write-experiment", file)
    assert tomllib.loads(file.read_text())["data"]["path"] == str(copied / "data.zarr")
    monkeypatch.chdir(tmp_path)
    assert Experiment.read(file).data.path == str(copied / "data.zarr")
    assert "data.zarr, do not exist (seen from the current folder)" in fs.info(model)["made"]["again"]
    # More than is read to find out: what is not checked is not claimed.
    monkeypatch.chdir(copied)
    assert fs.info(model)["made"]["again"].startswith("yes, bit-identical")
    monkeypatch.setattr("fluidsurrogate.inspection.reproducibility.MAX_HASHED_BYTES", 100)
    monkeypatch.setattr("fluidsurrogate.data.content_hash.hash_variables", None)
    again = fs.info(model)["made"]["again"]
    assert again.endswith("; not checked: whether its data, data.zarr, are unchanged")


def test_data_of_the_users_own_are_read_once(copied, toml, tmp_path, monkeypatch):
    """While the files are as they were, what they hold is known; it is not read again."""
    run = ["--out", str(tmp_path / "mine"), "--set", f"data.path={copied / 'data.zarr'}", "--set", "train.steps=2"]
    assert main(["train", str(toml), *run]) == 0
    with monkeypatch.context() as patch:
        patch.setattr("fluidsurrogate.data.content_hash.hash_variables", None)
        assert main(["train", str(toml), *run]) == 0
    (tmp_path / "mine" / ".data.json").write_text("{")  # a note only: damaged, it is made again
    assert main(["train", str(toml), *run]) == 0
    assert json.loads((tmp_path / "mine" / ".data.json").read_text())["variables"] == ["vorticity"]


def test_values_that_changed(copied, capsys, monkeypatch):
    """What was doubled is no longer what the experiment makes, and `info` does not say that it is."""
    for name, field in [("data.zarr", "vorticity"), ("forecasts.nc", "vorticity"), ("scores.nc", "nrmse")]:
        path = copied / name
        assert fs.info(path)["changed"] == []
        assert "values" in printed(capsys, path)
        with fs.open_data(path) as before:
            other = before.load()
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        with xr.set_options(keep_attrs=True):
            other[field] = 2 * other[field]
        other.to_zarr(path, consolidated=False) if path.suffix == ".zarr" else other.to_netcdf(path)
        found = fs.info(path)
        assert found["changed"] == [field]
        assert found["made"]["again"] == f"no: its values have changed since it was made: {field}"
        assert f"CHANGED since they were made: {field}" in printed(capsys, path)
    assert "its values have changed since it was made: vorticity" in printed(capsys, copied)
    monkeypatch.setattr("fluidsurrogate.data.content_hash.MAX_HASHED_BYTES", 100)
    found = fs.info(copied / "data.zarr")
    assert found["changed"] is None
    assert found["made"]["again"].endswith("; not checked: whether its values are unchanged")
    assert "not checked for changes: too large" in printed(capsys, copied / "data.zarr")


def test_content_is_of_values_not_of_files(tmp_path, toml, monkeypatch):
    """The same in memory, in Zarr and in NetCDF, compressed or not; another where a value, type or shape is."""
    made = fs.generate(toml)
    stored = fs.generate(toml, out=tmp_path)
    assert made.attrs["content"] == stored.attrs["content"]
    content = hash_variables(made)
    assert json.loads(made.attrs["content"]) == content
    assert content["vorticity"].startswith("float32 (6, 5, 16, 16) ")
    made.to_netcdf(tmp_path / "a.nc", encoding={"vorticity": {"zlib": True}})
    assert hash_variables(fs.open_data(tmp_path / "a.nc")) == content
    assert content["vorticity"].split()[-1] == hashlib.sha256(made["vorticity"].values.tobytes()).hexdigest()[:16]
    odd = made.isel(time=[0]).copy(deep=True)
    odd["vorticity"][0, 0, 0, 0] = -np.nan  # a NaN of other bits is the same NaN
    odd = odd.assign(flag=("trajectory", np.arange(6) > 2), when=np.datetime64("2000-01-01", "ns"), number=3)
    odd.to_netcdf(tmp_path / "b.nc")
    assert hash_variables(fs.open_data(tmp_path / "b.nc")) == hash_variables(odd)
    for changed in (made + 1e-7, made.astype("float64"), made.isel(time=slice(1, None))):
        assert hash_variables(changed)["vorticity"] != content["vorticity"]
    monkeypatch.setattr("fluidsurrogate.data.content_hash.PART_BYTES", 1000)  # a trajectory at a time
    assert hash_variables(stored) == content


def test_trained_from_python(trained, toml, tmp_path, capsys):
    data, models = trained
    fs.save(models["small-d4"], tmp_path / "same")
    assert fs.info(tmp_path / "same")["made"]["again"].startswith("yes")
    other = fs.train(toml, data.assign_attrs(fingerprint="unknown"), ["small-cnn"])["small-cnn"]
    fs.save(other, tmp_path / "other")
    assert "trained on other data than its experiment generates" in fs.info(tmp_path / "other")["made"]["again"]
    mine = fs.train(toml, data, {"mine": nn.Conv2d(1, 1, 3, padding=1)})["mine"]
    fs.save(mine, tmp_path / "mine")
    found = fs.info(tmp_path / "mine")
    assert found["code"] is None
    assert found["numbers"] == 10
    assert "mine is a module of your own, given from Python" in found["made"]["again"]
    assert "given from Python; 10 numbers" in printed(capsys, tmp_path / "mine")


def test_a_module_is_not_imported(trained, tmp_path, capsys):
    fs.save(trained[1]["small-d4"], tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    tree = json.loads(config["about"]["experiment"])
    config["model"] = tree["models"]["small-d4"] = {"kind": "module", "path": "antigravity:Net"}
    config["about"]["experiment"] = json.dumps(tree)
    config["normalisation"]["velocity_scale"] = None
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    found = fs.info(tmp_path / "model")
    assert found["code"] == "antigravity:Net"
    assert "antigravity:Net: its code is not checked" in found["made"]["again"]
    assert "antigravity" not in __import__("sys").modules


# -- small parts


@pytest.mark.parametrize(
    "tree",
    [
        {"a": 1, "b": -0.5, "c": 1e-05, "d": True, "e": [1, [2.5, "x"]], "f": {}},
        {"text": 'quotes " and \\ and \n and é and \U0001f30a and \x7f', "a b": {"c.d": {"e": 1}, "": 2}},
        {"t": {"u": {"v": {"w": 1}}, "x": 2}, "list": [{"low": 1e-3, "high": 1e22}, {}]},
        {"flow": {"viscosity": {"low": 1e-3, "high": 1e-2, "distribution": "log-uniform"}, "kind": "kolmogorov"}},
    ],
)
def test_toml_is_read_back_as_it_was(tree):
    assert tomllib.loads(to_toml(tree)) == tree


def test_toml_of_every_experiment_that_we_ship():
    from pathlib import Path

    paths = sorted((Path(__file__).parents[2] / "experiments").rglob("*.toml"))
    for path in paths[:: max(1, len(paths) // 8)]:
        tree = Experiment.read(path).tree()
        assert tomllib.loads(to_toml(tree)) == tree


@pytest.mark.parametrize("text", ["", "step\n", "step,valid_nrmse\n1,2\n", "a,b\n1", "step,valid_nrmse\n1,x\n", "\0"])
def test_a_curve_that_says_nothing(text):
    assert best_validation(text) is None


def test_a_curve_that_diverged():
    head = "step,loss,learning_rate,valid_nrmse_first_step,valid_nrmse\n"
    assert best_validation(head + "4,1,1,inf,inf\n8,1,1,0.5,0.7\n") == {
        "steps": 8, "step": 8, "nrmse_first_step": 0.5, "nrmse": 0.7
    }  # fmt: skip


def test_info_is_a_function():
    import fluidsurrogate.inspection.info

    assert fs.info is fluidsurrogate.inspection.info.info
    with pytest.raises(UsageError):
        fs.info("nowhere")
