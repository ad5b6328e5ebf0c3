"""Several processes train one model together, to the weights of one process with the same batches."""

import subprocess
import sys

import numpy as np
import pytest
from safetensors.torch import load_file

MODELS = ("small-d4", "small-cnn")
OPTIONS = ["train.noise=0.1", "train.average=0.9"]


def command(launch, stage, toml, out):
    said = [sys.executable, *launch, "-m", "fluidsurrogate", stage, str(toml), "--out", str(out)]
    return subprocess.run(
        said + [word for option in OPTIONS for word in ("--set", option)], capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def launch(processes):
    return ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(processes), "--num_machines", "1",
            "--mixed_precision", "no", "--dynamo_backend", "no"]  # fmt: skip


@pytest.fixture
def runs(toml, tmp_path):
    for processes in (1, 2):
        out = tmp_path / str(processes)
        assert command([], "generate", toml, out).returncode == 0
        done = command(launch(2) if processes == 2 else [], "train", toml, out)
        assert done.returncode == 0, done.stderr
    return tmp_path


def test_two_processes_end_with_the_weights_of_one(runs):
    for name in MODELS:
        for file in ("weights.safetensors", "last.safetensors"):
            one, two = (load_file(runs / str(n) / "models" / name / file) for n in (1, 2))
            scale = max(float(value.abs().max()) for value in one.values())
            assert all(np.allclose(one[key], two[key], rtol=0, atol=1e-6 * scale) for key in one)
        made = {path.name for path in (runs / "2" / "models" / name).iterdir()}
        assert made == {"weights.safetensors", "last.safetensors", "config.json", "curve.csv", "curves.png"}
    assert not list(runs.rglob("*.partial"))


def test_other_stages_are_refused(toml, tmp_path, monkeypatch, capsys):
    from fluidsurrogate.cli import main

    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["generate", str(toml), "--out", str(tmp_path)]) == 2
    assert "several processes train one model together" in capsys.readouterr().err
