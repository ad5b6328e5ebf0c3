"""Several processes train one model together, to the weights of one process with the same batches.

With FLUIDSURROGATE_TEST_DEVICE=cuda the first test runs on two GPUs, by NCCL.
"""

import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import fluidsurrogate as fs
from fluidsurrogate.cli import main

MINIATURE = Path(__file__).parents[1] / "miniature.toml"
MODELS = ("small-d4", "small-cnn")
DEVICE = os.environ.get("FLUIDSURROGATE_TEST_DEVICE", "cpu")
OPTIONS = ["train.noise=0.1", "train.average=0.9", f"device={DEVICE}"]
SET = [word for option in OPTIONS for word in ("--set", option)]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
# On CPUs `accelerate launch` starts several processes only under MPI, and one without.
ACCELERATE = ["--cpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no",
              "--dynamo_backend", "no"]  # fmt: skip
FORK = multiprocessing.get_context("fork")  # a fresh interpreter would spend its seconds importing


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
    train = ["-m", "fluidsurrogate", "train", str(toml), "--out", str(two), *SET]
    done = subprocess.run([sys.executable, *TORCHRUN, *train], capture_output=True, text=True, timeout=300)
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


def as_one_of_two(rank, port, *argv):
    """The command in a process to which torchrun would have said that it is one of two."""
    os.environ.update(WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    sys.exit(main(list(argv)))


def test_they_are_two(generated, toml, tmp_path, capfd):
    """The control: what cannot be shared by two is refused."""
    shutil.copytree(generated, tmp_path, dirs_exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    toml.write_text(toml.read_text().replace("batch = 4", "batch = 3"))
    processes = [
        FORK.Process(target=as_one_of_two, args=(rank, port, "train", str(toml), "--out", str(tmp_path), *SET))
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 2
    assert "train.batch = 3 must be a multiple of 2 processes" in capfd.readouterr().err


def test_one_where_two_were_asked_for_is_said(generated, toml, tmp_path, capfd):
    from accelerate.commands.launch import launch_command, launch_command_parser

    shutil.copytree(generated, tmp_path, dirs_exist_ok=True)
    train = ["--module", "fluidsurrogate", "train", str(toml), "--out", str(tmp_path), *SET]
    launch_command(launch_command_parser().parse_args([*ACCELERATE, *train]))  # raises what fails
    said = "accelerate started one process, as it does on CPUs: torchrun --nproc_per_node N"
    assert said in capfd.readouterr().err


def test_other_stages_are_refused(toml, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["generate", str(toml), "--out", str(tmp_path)]) == 2
    assert "several processes can only train together" in capsys.readouterr().err
