"""A run killed at any moment leaves nothing half-written, and the run that goes on ends with the same bits."""

import json
import multiprocessing
import pickle
import random
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from safetensors.torch import load_file

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.core.locks import folder_lock
from fluidsurrogate.pipeline.pipeline import run_stages
from fluidsurrogate.pipeline.run import Run
from solvers.backends.cpp_library import why_not_compiled

FORK = multiprocessing.get_context("fork")  # a fresh interpreter would spend its seconds importing


def run_stage(toml, overrides, out, stage):
    with folder_lock(out):
        run_stages(Run(Experiment.read(toml, overrides), out), stage)


def kill_until_done(toml, overrides, out: Path, stage: str, result: Path, longest: float) -> int:
    """Kill the stage at random moments, later and later, until it finishes; how many kills found it at work."""
    moments = random.Random(3)
    for kills in range(40):
        process = FORK.Process(target=run_stage, args=(toml, overrides, out, stage))
        process.start()
        process.join(moments.uniform(0.02, longest) * (1 + kills / 10))
        if process.exitcode is not None:
            assert process.exitcode == 0
            return kills
        process.kill()
        process.join()
        assert not result.exists() or (result / "zarr.json").exists() or (result / "config.json").exists()
    raise AssertionError("it never finished")


def test_generate(toml, tmp_path):
    overrides = ["data.train=8", "data.steps=12"]
    whole = fs.generate(Experiment.read(toml, overrides))
    kills = kill_until_done(toml, overrides, tmp_path / "killed", "generate", tmp_path / "killed/data.zarr", 0.4)
    assert kills >= 2
    resumed = fs.open_data(tmp_path / "killed" / "data.zarr")
    assert np.array_equal(whole["vorticity"].values, resumed["vorticity"].values)
    fs.generate(Experiment.read(toml, overrides), tmp_path / "whole")
    names = [
        sorted(str(p.relative_to(tmp_path / run)) for p in (tmp_path / run).rglob("*")) for run in ("whole", "killed")
    ]
    assert names[0] == names[1]
    for name in names[0]:
        a, b = tmp_path / "whole" / name, tmp_path / "killed" / name
        assert a.is_dir() or a.read_bytes() == b.read_bytes(), name


def test_train(toml, tmp_path):
    overrides = ["train.steps=40", "train.valid_every=5", "train.checkpoint_every=3"]
    for run in ("whole", "killed"):
        fs.generate(Experiment.read(toml, overrides), tmp_path / run)
    run_stage(toml, overrides, tmp_path / "whole", "train")
    kills = kill_until_done(toml, overrides, tmp_path / "killed", "train", tmp_path / "killed/models/small-cnn", 0.8)
    assert kills >= 2
    for name in ("small-d4", "small-cnn"):
        folders = [tmp_path / run / "models" / name for run in ("whole", "killed")]
        weights = [load_file(folder / "weights.safetensors") for folder in folders]
        assert all(np.array_equal(weights[0][key], weights[1][key]) for key in weights[0])
        assert (folders[0] / "curve.csv").read_text() == (folders[1] / "curve.csv").read_text()


def test_checkpoint_is_used(toml, tmp_path):
    """The control: a run whose checkpoint is changed by hand ends elsewhere, so resuming does read it."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    from fluidsurrogate.training.checkpoints import content_sha256
    from fluidsurrogate.training.train import train_model
    from fluidsurrogate.training.trainer import CHECKPOINT_FILE

    experiment = Experiment.read(toml)
    data = fs.generate(experiment)
    train_model(experiment, "small-cnn", data, {}, tmp_path)
    with safe_open(tmp_path / CHECKPOINT_FILE, "pt") as file:
        state = json.loads(file.metadata()["state"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    tensors["best.out.head.bias"] += 1
    save_file(tensors, tmp_path / CHECKPOINT_FILE, {"state": json.dumps(state)})
    with pytest.raises(
        UsageError, match=r"is not a checkpoint of this training .it is damaged: its content is not what"
    ):
        train_model(experiment, "small-cnn", data, {}, tmp_path)
    del state["sha256"]
    header = {"state": json.dumps({**state, "sha256": content_sha256(tensors, state)})}
    save_file(tensors, tmp_path / CHECKPOINT_FILE, header)
    changed = train_model(experiment, "small-cnn", data, {}, tmp_path)
    assert changed.network.out.head.bias.item() > 0.9


def test_a_broken_checkpoint_is_refused_in_one_line(toml, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    from fluidsurrogate.training.train import train_model
    from fluidsurrogate.training.trainer import CHECKPOINT_FILE

    experiment, path = Experiment.read(toml), tmp_path / CHECKPOINT_FILE
    data = fs.generate(experiment)
    train_model(experiment, "small-cnn", data, {}, tmp_path)
    whole = path.read_bytes()
    with safe_open(path, "pt") as file:
        state = json.loads(file.metadata()["state"])
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    for broken in (whole[:100], whole[: len(whole) // 2], b"", pickle.dumps({"step": 1})):
        path.write_bytes(broken)
        with pytest.raises(
            UsageError, match=r"checkpoint.safetensors is not a checkpoint of this training .*: delete it"
        ):
            train_model(experiment, "small-cnn", data, {}, tmp_path)
    for header in (None, {"state": "{"}, {"state": "[1]"}, {"state": json.dumps(state | {"step": "x"})},
                   {"state": json.dumps({key: state[key] for key in state if key != "groups"})}):  # fmt: skip
        save_file(tensors, path, header)
        with pytest.raises(UsageError, match=r"is not a checkpoint of this training") as caught:
            train_model(experiment, "small-cnn", data, {}, tmp_path)
        assert len(str(caught.value).splitlines()) == 1


def test_partial_from_other_inputs_is_refused(toml, tmp_path):
    process = FORK.Process(target=run_stage, args=(toml, ["data.train=40"], tmp_path, "generate"))
    process.start()
    while not (tmp_path / "data.zarr.partial" / "progress.json").exists():
        time.sleep(0.01)
    with pytest.raises(UsageError, match="is in use by another run"), folder_lock(tmp_path):
        pass
    process.kill()
    process.join()
    with pytest.raises(UsageError, match=r"data.train was 40, is 3"):
        run_stage(toml, [], tmp_path, "generate")
    assert not (tmp_path / "data.zarr").exists()


def test_what_a_kill_leaves_of_a_deleted_folder_is_not_gone_on_with(toml, tmp_path):
    """The label goes first: chunks that are gone beside progress that is still there would be published as NaN."""
    from fluidsurrogate.core.resumable import delete_folder

    run_stage(toml, [], tmp_path, "generate")
    folder = tmp_path / "data.zarr.partial"
    folder.mkdir()
    (folder / "provenance.json").write_text("{}")
    unlinked = []
    original = Path.unlink
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Path, "unlink", lambda self, missing_ok=False: (unlinked.append(self.name), original(self, missing_ok))
        )
        patch.setattr("shutil.rmtree", lambda *a, **k: unlinked.append("rest"))
        delete_folder(folder)
    assert unlinked == ["provenance.json", "rest"]


def test_force_goes_on_where_it_was_killed(toml, tmp_path):
    """The same work by the same versions is not done twice, forced or not; other work is dropped only by force."""
    from fluidsurrogate.core.resumable import partial_folder, start_or_resume

    path = tmp_path / "thing"
    (start_or_resume(path, {"a": 1}, force=False) / "work").touch()
    assert (start_or_resume(path, {"a": 1}, force=True) / "work").exists()
    with pytest.raises(UsageError, match="a was 1, is 2"):
        start_or_resume(path, {"a": 2}, force=False)
    assert not (start_or_resume(path, {"a": 2}, force=True) / "work").exists()
    start_or_resume(path, {"a": 3}, force=False)  # nothing was done yet: nothing to refuse
    assert [entry.name for entry in partial_folder(path).iterdir()] == ["provenance.json"]


@pytest.mark.skipif(why_not_compiled() is not None, reason="no compiler")
def test_data_begun_with_a_compiler_are_refused_without_one_in_plain_words(experiment, tmp_path, monkeypatch):
    """The experiment is the same: what differs is what its solver can run on, here and there."""
    from fluidsurrogate.simulation.generation import generate_to_zarr
    from solvers import NavierStokes2D

    path = tmp_path / "data.zarr"
    monkeypatch.setattr(NavierStokes2D, "backend", "native")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fluidsurrogate.simulation.generation.publish", lambda path: None)  # as if killed just before
        generate_to_zarr(experiment, path, force=False)
    monkeypatch.setattr(NavierStokes2D, "backend", "torch")
    with pytest.raises(UsageError) as refused:
        generate_to_zarr(experiment, path, force=False)
    assert str(refused.value) == (
        f"{path} is half made, and the rest would be computed differently here: "
        'the solver\'s kernel was "native", is "torch"\n'
        "  resume it where it was begun; the native kernel needs a C++ compiler, g++ or the one that CXX names; "
        "or give --force to begin again here"
    )
    generate_to_zarr(experiment, path, force=True)
    assert xr.open_zarr(path, consolidated=False).attrs["kernel"] == "torch"


def test_what_was_begun_with_other_versions_or_inputs_says_which(tmp_path, monkeypatch):
    from fluidsurrogate.core.resumable import start_or_resume

    path = tmp_path / "thing"
    (start_or_resume(path, {"a": 1, "device": "cpu"}, force=False) / "work").touch()
    with pytest.raises(UsageError, match=r'thing\.partial was made from other inputs: a was 1, is 2; device was "cpu"'):
        start_or_resume(path, {"a": 2, "device": "cuda"}, force=False)
    with pytest.raises(UsageError, match=r'differently here: the device was "cpu", is "cuda"\n'):
        start_or_resume(path, {"a": 1, "device": "cuda"}, force=False)
    monkeypatch.setattr("fluidsurrogate.core.provenance.version", lambda package: "0")
    with pytest.raises(UsageError, match=r'differently here: .*; versions\.torch was ".*", is "0"'):
        start_or_resume(path, {"a": 1, "device": "cpu"}, force=False)
