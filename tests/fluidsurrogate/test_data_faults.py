"""Faults that would spoil training in silence: each is found by name, and sound data pass."""

import json

import numpy as np
import pytest
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate.evaluation.data_faults import find_faults
from fluidsurrogate.simulation.user_data import check_user_data

SPLITS = ["train", "train", "valid", "test"]


def sound(name="vorticity", seed=0, cells=32):
    """Random states that differ, of four trajectories and five times."""
    shape = (4, 5, 2, cells, cells) if name == "velocity" else (4, 5, cells, cells)
    values = 3 * np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    values -= values.mean((-2, -1), keepdims=True)
    dims = ("trajectory", "time", *(("component",) if name == "velocity" else ()), "y", "x")
    axis = (np.arange(cells) + 0.5) / cells
    return xr.Dataset(
        {name: (dims, values)},
        {"time": 0.5 * np.arange(5), "y": axis, "x": axis, "split": ("trajectory", np.array(SPLITS, dtype=object))},
    )


def changed(change):
    """Sound data of which the values were changed in place."""
    data = sound()
    change(data["vorticity"].values)
    return data


def put(index, value):
    """Return a function that writes a value."""

    def change(values):
        values[index] = value

    return change


def copied(to, of):
    """Return a function that copies states."""

    def change(values):
        values[to] = values[of]

    return change


FAULTS = {
    "NaN": (put((2, 3, 4, 5), np.nan), "not finite", "'vorticity' of trajectory 2 is NaN or infinite from time 3 on"),
    "infinite": (put((0, 4), np.inf), "not finite", "trajectory 0 is NaN or infinite from time 4 on"),
    "-999.9": (put((1, 2, slice(3), 7), -999.9), "sentinel", "holds -999.9, which stands for missing values"),
    "1e20": (put((1, 2, slice(3), 7), 1e20), "sentinel", "which stands for missing values"),
    "NetCDF's own": (put((1, 2, slice(3), 7), 9.96921e36), "sentinel", "holds 9.96921e+36"),
    "padded times": (put((1, slice(3, 5)), 0), "padding", "trajectory 1 is zero everywhere at time 3"),
    "padded trajectory": (put(3, 0), "padding", "trajectory 3 is zero everywhere, as if padded"),
    "padded cells": (put((..., slice(28, 32)), 0), "padding", "is zero along the last 4 cells of x"),
    "twice": (copied((1, 3), (1, 2)), "duplicate frames", "trajectory 1 holds the same state at times 2 and 3: drop"),
    "train is test": (copied(3, 0), "leak", "trajectory 0 (train) and trajectory 3 (test) hold the same states"),
    "overlap": (copied((2, slice(0, 3)), (1, slice(2, 5))), "leak", "trajectory 1 (train) and trajectory 2 (valid)"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_errors(what):
    change, kind, message = FAULTS[what]
    (fault,) = find_faults(changed(change))
    assert (fault.kind, fault.is_error) == (kind, True)
    assert message in fault.message
    assert "@" not in fault.message


def test_sound_data_have_none():
    """The controls: also a start at rest, a start that trajectories share, a wall, one large value, a steady flow."""
    assert not find_faults(sound())
    assert not find_faults(sound("velocity"))
    assert not find_faults(changed(put((0, 0), 0)))
    assert not find_faults(changed(copied((3, 0), (0, 0))))
    assert not find_faults(changed(put((..., 0), 0)))
    assert not find_faults(changed(lambda v: np.multiply(v, 300, out=v)))
    steady = sound().isel(time=[0, 0, 0]).assign_coords(time=[0.0, 1.0, 2.0])
    assert not [fault for fault in find_faults(steady) if fault.kind == "duplicate frames"]


def test_the_same_trajectory_twice_in_training_is_a_warning():
    (fault,) = find_faults(changed(copied(1, 0)))
    assert (fault.kind, fault.is_error) == ("repeated trajectory", False)
    (fault,) = find_faults(changed(copied(1, 0)), ["train", "test", "train", "train"])
    assert (fault.kind, fault.is_error) == ("leak", True)


def test_uneven_times():
    data = sound().assign_coords(time=[0.0, 0.5, 1.0, 1.6, 2.1])
    (fault,) = find_faults(data)
    assert fault.message.startswith("the times are uneven: intervals from 0.5 to 0.6; ")
    assert not find_faults(sound().assign_coords(time=(0.1 * np.arange(5)).astype(np.float32)))


def test_warnings_of_values():
    normalised = changed(lambda v: np.divide(v, v.std(), out=v))
    (fault,) = find_faults(normalised)
    assert (fault.kind, fault.is_error) == ("normalised", False)
    (fault,) = find_faults(changed(lambda v: np.add(v, 1, out=v)))
    assert (fault.kind, fault.is_error) == ("mean vorticity", False)


def test_a_count_and_the_first_place():
    (fault,) = find_faults(changed(put((slice(1, 4), 2, 0, 0), np.nan)))
    assert "'vorticity' of trajectory 1 (and in 2 more) is NaN" in fault.message


def test_a_large_dataset_is_sampled(monkeypatch):
    monkeypatch.setattr("fluidsurrogate.evaluation.data_faults.MAX_READ_BYTES", 1)
    assert not find_faults(changed(put((1, 2), np.nan)))  # only the first and the last trajectory are read
    assert find_faults(changed(put((3, 2), np.nan)))


def test_divergence():
    data = sound("velocity").assign_attrs(viscosity=1e-3)
    report = fs.check(data)
    assert [fault.kind for fault in report.errors] == ["divergence"]
    assert "the divergence of the velocity is " in report.refusal()


@pytest.fixture
def mine(miniature_data, toml, tmp_path):
    """Makes an experiment on data of one's own, a changed copy of the miniature's."""

    def make(change=lambda data: data, *overrides):
        change(miniature_data.drop_attrs(deep=False)).to_netcdf(tmp_path / "own.nc")
        path = json.dumps(str(tmp_path / "own.nc"))
        return fs.Experiment.read(toml, [f"data.path={path}", "train.steps=1", *overrides])

    return make


def zero_end(data):
    data["vorticity"][1, 3:] = 0
    return data


def same_in_test(data):
    data["vorticity"][-1] = data["vorticity"][0]
    return data


REFUSED = {
    "padding": (zero_end, "is zero everywhere at time 3, as if padded"),
    "leak": (same_in_test, r"trajectory 0 \(train\) and trajectory 5 \(test\) hold the same states"),
    "other viscosity": (lambda d: d.assign_attrs(viscosity=0.5), "the dataset has viscosity = 0.5, the experiment's"),
    "uneven": (
        lambda d: d.assign_coords(time=[0, 0.25, 0.5, 0.8, 1.0]),
        "not evenly spaced, from 0.2 to 0.3|interval is 0.3; expected 0.25",  # by the reader of files, or the check,
    ),
    "sign": (lambda d: d.assign(vorticity=-d["vorticity"]), "axes exchanged, or the sign changed"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_generate_and_training_refuse(mine, tmp_path, what):
    """Before a step is trained: from the stage `generate`, from training into a folder, and in memory."""
    change, message = REFUSED[what]
    experiment = mine(change)
    with pytest.raises(fs.UsageError, match=message):
        fs.generate(experiment, out=tmp_path / "out")
    with pytest.raises(fs.UsageError, match=message):
        fs.train(experiment, models="small-cnn", out=tmp_path / "other")
    if what != "leak":  # in memory nothing says what the test data are
        with pytest.raises(fs.UsageError, match=message):
            fs.train(experiment, fs.open_data(experiment.data.path).load(), "small-cnn")


def test_sound_data_of_ones_own_are_taken(mine, tmp_path, caplog, monkeypatch):
    """The control; what was found is remembered in the folder of the run."""
    caplog.set_level("INFO", "fluidsurrogate")
    experiment = mine()
    fs.generate(experiment, out=tmp_path / "out")
    assert "verdict: consistent: [flow] decaying steps the states with a residual of 0.0000" in caplog.text
    monkeypatch.setattr("fluidsurrogate.simulation.user_data.check_user_data", None)
    fs.generate(experiment, out=tmp_path / "out")
    (tmp_path / "out" / ".check.json").write_text("{")
    with pytest.raises(TypeError):
        fs.generate(experiment, out=tmp_path / "out")


def test_faults_can_be_accepted(mine):
    experiment = mine(zero_end, "data.accept=true")
    report = check_user_data(experiment, fs.open_data(experiment.data.path).load())
    assert [fault.kind for fault in report.errors] == ["padding"]
