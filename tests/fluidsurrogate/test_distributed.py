"""Several processes train one model together, to the weights of one process with the same batches."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import fluidsurrogate as fs

MINIATURE = Path(__file__).parents[1] / "miniature.toml"
MODELS = ("small-d4", "small-cnn")
OPTIONS = ["train.noise=0.1", "train.average=0.9"]


def command(launch, stage, toml, out):
    said = [sys.executable, *launch, "-m", "fluidsurrogate", stage, str(toml), "--out", str(out)]
    return subprocess.run(
        said + [word for option in OPTIONS for word in ("--set", option)], capture_output=True, text=True, timeout=300,
    )  # fmt: skip


# On CPUs `accelerate launch` starts several processes only under MPI, and one without.
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ACCELERATE = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no"]  # fmt: skip


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A run's folder with its data, which every test takes a copy of."""
    out = tmp_path_factory.mktemp("generated") / "run"
    fs.generate(fs.Experiment.read(MINIATURE, OPTIONS), out=out)
    return out


@pytest.fixture
def runs(generated, toml, tmp_path):
    one, two = (shutil.copytree(generated, tmp_path / str(processes)) for processes in (1, 2))
    fs.train(fs.Experiment.read(toml, OPTIONS), out=one)
    done = command(TORCHRUN, "train", toml, two)
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_two_processes_end_with_the_weights_of_one(runs):
    for name in MODELS:
        for file in ("weights.safetensors", "last.safetensors"):
            one, two = (load_file(runs / str(n) / "models" / name / file) for n in (1, 2))
            scale = max(float(value.abs().max()) for value in one.values())
            # Nothing depends on the bias of the head, the mean of a change: its gradient is rounding, scaled by Adam.
            counts = [key for key in one if key != "out.head.bias"]
            assert all(np.allclose(one[key], two[key], rtol=0, atol=1e-6 * scale) for key in counts)
        one, two = (fs.load(runs / str(n) / "models" / name) for n in (1, 2))
        with fs.open_data(runs / "1" / "data.zarr") as data:
            np.testing.assert_allclose(*(fs.forecast(m, data, 2)["vorticity"] for m in (one, two)), rtol=0, atol=1e-5)
        made = {path.name for path in (runs / "2" / "models" / name).iterdir()}
        assert made == {"weights.safetensors", "last.safetensors", "config.json", "curve.csv", "curves.png"}
    assert not list(runs.rglob("*.partial"))


def test_they_are_two(generated, toml, tmp_path):
    """The control: what cannot be shared by two is refused."""
    shutil.copytree(generated, tmp_path, dirs_exist_ok=True)
    toml.write_text(toml.read_text().replace("batch = 4", "batch = 3"))
    done = command(TORCHRUN, "train", toml, tmp_path)
    assert done.returncode != 0
    assert "train.batch = 3 must be a multiple of 2 processes" in done.stderr


def test_one_where_two_were_asked_for_is_said(generated, toml, tmp_path):
    shutil.copytree(generated, tmp_path, dirs_exist_ok=True)
    done = command(ACCELERATE, "train", toml, tmp_path)
    assert done.returncode == 0
    assert "accelerate started one process, as it does on CPUs: torchrun --nproc_per_node N" in done.stderr


def test_other_stages_are_refused(toml, tmp_path, monkeypatch, capsys):
    from fluidsurrogate.cli import main

    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["generate", str(toml), "--out", str(tmp_path)]) == 2
    assert "several processes can only train together" in capsys.readouterr().err
