"""The command line: the demo's own path in miniature, and every bad input in one line with exit code 2."""

import contextlib
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import xarray as xr

import fluidsurrogate as fs
import fluidsurrogate.simulation.generation  # what a full disk is simulated in
from fluidsurrogate.cli import main
from fluidsurrogate.core.jobs import choose_worker_count
from fluidsurrogate.core.locks import folder_lock
from fluidsurrogate.models.model_files import MODEL_FORMAT
from fluidsurrogate.nn import ARCHITECTURES

MODELS = ("small-d4", "small-cnn")
SOURCES = ["truth", "persistence", "solver-16", *MODELS]
FILES = ("data.zarr", "forecasts.nc", "scores.nc", "scores.csv", "comparison.png", "scores.png", "report.html")


# The command, which starts its processes however little there is to do, in a script without a main guard.
SCRIPT = """
import sys
import fluidsurrogate.cli as cli
import fluidsurrogate.core.jobs as jobs
jobs.MIN_CELLS_FOR_PROCESSES = 0
print("the script runs", flush=True)
sys.exit(cli.main())
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run through the real command in a process of its own.

    Two models are trained at a time, each with a process that reads its batches ahead.
    """
    from pathlib import Path

    folder = tmp_path_factory.mktemp("run")
    toml = Path(__file__).parents[1] / "miniature.toml"
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, "script.py", "run", str(toml), "--set", "train.workers=2", "--set", "train.loaders=1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return toml, folder / "runs" / "miniature", done


def refused(capsys, *argv):
    """Exit code 2 and what was said; never a traceback."""
    try:
        code = main([str(a) for a in argv])
    except SystemExit as exit_:
        code = exit_.code
    said = capsys.readouterr().err
    assert code == 2, said
    assert "Traceback" not in said
    assert 1 <= len(said.strip().splitlines()) <= 3, said
    return said


def test_a_short_training_starts_no_processes(finished, tmp_path, monkeypatch):
    """And ends with the same bits as in processes."""
    toml, out, _ = finished
    monkeypatch.setattr("fluidsurrogate.core.jobs._run_in_processes", lambda *arguments: pytest.fail("a process"))
    shutil.copytree(out / "data.zarr", tmp_path / "data.zarr")
    assert main(["train", str(toml), "--out", str(tmp_path), "--set", "train.workers=2"]) == 0
    for name in MODELS:
        one, two = ((folder / "models" / name / "weights.safetensors").read_bytes() for folder in (out, tmp_path))
        assert one == two


def test_a_script_needs_no_main_guard(finished):
    """Models trained side by side, each with a process that reads ahead, by a script that is not run again in any."""
    _, _, done = finished
    assert done.stdout.startswith("the script runs\n")
    assert done.stdout.count("the script runs") == 1


def test_a_long_training_starts_processes(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert choose_worker_count(2, 1, 5 * 700, 16 * 1024) == 2  # the demo's
    assert choose_worker_count(2, 8, 5 * 700, 16 * 1024) == 1
    assert choose_worker_count(2, 1, 2 * 8, 4 * 256) == 1


def test_every_file_is_there(finished):
    _, out, done = finished
    for name in FILES:
        assert (out / name).exists(), name
        assert str(name) in done.stdout
    for model in MODELS:
        names = {path.name for path in (out / "models" / model).iterdir()}
        assert names == {"weights.safetensors", "last.safetensors", "config.json", "curve.csv", "curves.png"}
    assert not list(out.rglob("*.partial")) + list(out.rglob("*.new"))
    assert "small-d4" in done.stdout
    assert "nRMSE" in done.stdout
    assert "Traceback" not in done.stderr


def test_forecasts(finished):
    _, out, _ = finished
    data, forecasts = fs.open_data(out / "data.zarr"), fs.open_data(out / "forecasts.nc")
    assert list(forecasts["source"].values) == SOURCES
    assert forecasts["vorticity"].sizes == {"source": 5, "trajectory": 2, "time": 5, "y": 16, "x": 16}
    truth = data["vorticity"].values[data["split"].values == "test"]
    assert np.array_equal(forecasts["vorticity"].sel(source="truth"), truth)
    assert np.array_equal(forecasts["vorticity"].sel(source="persistence")[:, -1], truth[:, 0])
    loaded = fs.forecast(fs.load(out / "models" / "small-d4"), data.isel(trajectory=slice(4, 6)), 4)
    np.testing.assert_allclose(loaded["vorticity"], forecasts["vorticity"].sel(source="small-d4"), atol=1e-5)


def test_scores(finished):
    _, out, _ = finished
    scores = fs.open_data(out / "scores.nc")
    assert float(scores["nrmse"].sel(source="truth").max()) == 0.0
    assert float(scores["equivariance_error"].sel(source="small-d4")) < 1e-4
    assert float(scores["equivariance_error"].sel(source="small-cnn")) > 1e-2
    assert float(scores["equivariance_error"].sel(source="solver-16")) < 1e-4
    assert np.isnan(scores["equivariance_error"].sel(source="persistence"))
    assert int(scores["parameters"].sel(source="small-cnn")) == 16 * 3 * 9 + 16 + 16 * 8 * 9 + 16 + 8 + 1
    assert (scores["seconds_per_step"].sel(source=SOURCES[1:]) > 0).all()
    assert np.isnan(scores["seconds_per_step"].sel(source="truth"))
    assert len((out / "scores.csv").read_text().splitlines()) == 1 + 5 * 5
    assert json.loads(scores.attrs["experiment"])["name"] == "miniature"


def test_pictures_are_pictures(finished):
    import matplotlib.image

    _, out, _ = finished
    for name in ("comparison.png", "scores.png"):
        picture = matplotlib.image.imread(out / name)
        assert picture.shape[0] > 300
        assert picture[..., :3].std() > 0.05


def test_nothing_is_done_twice(finished, capsys, caplog):
    toml, out, _ = finished
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != ".lock"}
    with caplog.at_level("INFO", "fluidsurrogate"):
        assert main(["run", str(toml), "--out", str(out)]) == 0
    assert caplog.text.count("is up to date") == 4 + len(MODELS)
    assert times == {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != ".lock"}
    assert "small-d4" in capsys.readouterr().out


def test_changed_inputs_are_refused_by_the_stage_they_change(finished, capsys):
    toml, out, _ = finished
    for stage in ("generate", "train", "rollout", "compare", "run"):
        said = refused(capsys, stage, toml, "--out", out, "--set", "flow.viscosity=0.5")
        assert "flow.viscosity was 0.02, is 0.5" in said
        assert "--force" in said
    assert "train.steps was 8, is 9" in refused(capsys, "train", toml, "--out", out, "--set", "train.steps=9")
    assert "train.steps" in refused(capsys, "rollout", toml, "--out", out, "--set", "train.steps=9")


def test_force_redoes_the_stage_and_those_after_it(finished, tmp_path):
    toml, finished_out, _ = finished
    out = tmp_path / "out"
    changed = ["--out", str(out), "--set", "train.steps=4"]
    shutil.copytree(finished_out, out)
    data = (out / "data.zarr" / "zarr.json").stat().st_mtime_ns
    assert main(["train", str(toml), *changed, "--force"]) == 0
    assert (out / "data.zarr" / "zarr.json").stat().st_mtime_ns == data
    assert main(["compare", str(toml), *changed]) == 0  # refused if forecasts or scores were of the old weights
    assert len((out / "models" / "small-cnn" / "curve.csv").read_text().splitlines()) == 2


def test_forecast_of_ones_own_start(finished, tmp_path, capsys):
    toml, out, _ = finished
    start, to = tmp_path / "start.nc", tmp_path / "forecast.nc"
    fs.open_data(out / "data.zarr").isel(trajectory=[0, 1], time=2)[["vorticity"]].to_netcdf(start)
    command = ["rollout", str(toml), "--out", str(out), "--model", "small-d4", "--start", str(start)]
    assert main([*command, "--steps", "7", "--to", str(to)]) == 0
    forecast = fs.open_data(to)
    assert forecast["vorticity"].sizes == {"trajectory": 2, "time": 8, "y": 16, "x": 16}
    np.testing.assert_allclose(forecast["time"], 0.5 + 0.25 * np.arange(8))
    assert "exists already; give --force" in refused(capsys, *command, "--steps", "7", "--to", to)
    assert "steps must be at least 1" in refused(capsys, *command, "--steps", "0", "--to", tmp_path / "other.nc")
    assert "missing: --to" in refused(capsys, *command, "--steps", "7")
    assert "unknown model 'nobody'" in refused(capsys, *command, "--model", "nobody", "--steps", "7", "--to", "x.nc")


CALIBRATION = ["--starts", "20", "--steps", "3", "--members", "4"]


@pytest.fixture(scope="module")
def own_starts(finished, tmp_path_factory):
    """A folder with starts of one's own: two trajectories, and one without that dimension."""
    folder = tmp_path_factory.mktemp("starts")
    start = fs.open_data(finished[1] / "data.zarr").isel(trajectory=[0, 1], time=2)[["vorticity"]]
    start.to_netcdf(folder / "two.nc")
    start.isel(trajectory=0).to_netcdf(folder / "one.nc")
    return folder


@pytest.fixture(scope="module")
def calibrated(finished, tmp_path_factory):
    """The folder of a run whose one model is calibrated, not to be changed; and what the calibration printed."""
    out = tmp_path_factory.mktemp("calibrated") / "out"
    folder = out / "models" / "small-d4"
    shutil.copytree(finished[1] / "models" / "small-d4", folder)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(["calibrate", str(folder), *CALIBRATION]) == 0
    return out, said.getvalue()


def members_of(toml, out):
    return ["rollout", str(toml), "--out", str(out), "--model", "small-d4", "--steps", "2", "--members", "4"]


def test_members_need_a_calibrated_model(finished, own_starts, tmp_path, capsys):
    toml, out, _ = finished
    own = ["--start", own_starts / "two.nc", "--to", tmp_path / "never.nc"]
    said = refused(capsys, *members_of(toml, out), *own)
    assert f"fluidsurrogate calibrate {out / 'models' / 'small-d4'}" in said


def test_calibrate_says_its_bound_and_its_file(calibrated):
    out, said = calibrated
    assert said.startswith("20 initial states, 3 intervals: with probability 0.9 the nRMSE is at most ")
    assert said.splitlines()[-1] == str(out / "models" / "small-d4" / "calibration.json")


def test_members_of_ones_own_starts(calibrated, own_starts, toml, tmp_path, capsys):
    """Members, a bound, and a line that says the horizon."""
    own = ["--start", str(own_starts / "two.nc"), "--to", str(tmp_path / "two-out.nc")]
    assert main([*members_of(toml, calibrated[0]), *own, "--level", "9"]) == 0
    said = capsys.readouterr().out
    assert said == ("horizon: time median at least 1, 1 to at least 1 of 2 trajectories "
                    "(nRMSE at most 9 with probability 0.9, calibrated on 20 starts)\n")  # fmt: skip
    with fs.open_data(tmp_path / "two-out.nc") as forecast:
        assert forecast["vorticity"].sizes == {"trajectory": 2, "member": 4, "time": 3, "y": 16, "x": 16}
        assert forecast["error_bound"].dims == ("trajectory", "time")


def test_the_horizon_of_one_start_of_ones_own(calibrated, own_starts, toml, tmp_path, capsys):
    own = ["--start", str(own_starts / "one.nc"), "--to", str(tmp_path / "one-out.nc")]
    assert main([*members_of(toml, calibrated[0]), *own, "--level", "1e-3"]) == 0
    assert capsys.readouterr().out.startswith("horizon: time 0.5 (nRMSE at most 0.001 with")  # its start


def test_options_of_members_that_do_not_go_together(calibrated, own_starts, toml, tmp_path, capsys):
    command, own = members_of(toml, calibrated[0]), ["--start", str(own_starts / "one.nc")]
    to = ["--to", str(tmp_path / "never.nc")]
    for few in ("2", "0", "-1"):
        assert "members must be 1, or at least 3" in refused(capsys, *command[:-1], few, *own, *to)
    assert "level must be positive" in refused(capsys, *command, *own, *to, "--level", "0")
    assert "give --members" in refused(capsys, *command[:-2], *own, *to, "--level", "0.3")
    assert "give --model, --start" in refused(capsys, "rollout", toml, "--members", "4")
    assert "--members needs a NetCDF file" in refused(capsys, *command, *own, "--to", tmp_path / "never.zarr")
    assert not (tmp_path / "never.nc").exists()


def test_a_calibration_is_made_again_by_force_alone(calibrated, own_starts, toml, tmp_path, capsys):
    """And what is refused, forced or not, takes nothing away."""
    shutil.copytree(calibrated[0], tmp_path / "out")
    folder = tmp_path / "out" / "models" / "small-d4"
    again = ["calibrate", folder, *CALIBRATION]
    assert "calibration.json exists already; give --force" in refused(capsys, *again)
    (folder / "calibration.json").write_text("{}")
    own = ["--start", own_starts / "one.nc", "--to", tmp_path / "never.nc"]
    assert "is not a calibration of format 2; make it again: fluidsurrogate calibrate" in refused(
        capsys, *members_of(toml, tmp_path / "out"), *own
    )
    assert main([str(a) for a in again] + ["--force"]) == 0
    for spoiled, said in ((["--starts", "3"], "starts must be at least 20"), (["--members", "1"], "members must be at"),
                          (["--data", tmp_path / "no.nc"], "no such dataset"), (["--device", "abacus"], "device"),
                          (["--data", own_starts / "two.nc"], "need the dimensions trajectory and time")):  # fmt: skip
        assert said in refused(capsys, *again, "--force", *spoiled)
    assert fs.load(folder).calibration is not None
    assert fs.load(folder, calibrated=False).calibration is None
    assert "is not a model" in refused(capsys, "calibrate", tmp_path / "nowhere")


def test_members_in_a_whole_run(finished, tmp_path, caplog):
    """`compare.members`: one file more, models calibrated, scores of the members; what was there stays as it was."""
    toml, finished_out, _ = finished
    out = tmp_path / "out"
    shutil.copytree(finished_out, out)
    before = (out / "forecasts.nc").stat().st_mtime_ns
    command = ["run", str(toml), "--out", str(out), "--set", "compare.members=4", "--set"]
    for name in ("scores.nc", "report.html"):
        (out / name).unlink()
    assert main([*command, "compare.calibration_starts=20"]) == 0
    assert (out / "forecasts.nc").stat().st_mtime_ns == before
    with fs.open_data(out / "ensembles.nc") as ensembles, fs.open_data(out / "scores.nc") as scores:
        sizes = {"source": 2, "trajectory": 2, "member": 4, "time": 5, "y": 16, "x": 16}
        assert ensembles["vorticity"].sizes == sizes
        assert ensembles["vorticity"].dtype == np.float32
        assert list(scores["source"].values) == SOURCES
        for name in ("crps", "spread_skill", "rank_histogram", "bound_coverage", "error_bound", "horizon"):
            assert scores[name].sel(source="persistence").isnull().all()
            assert scores[name].sel(source="small-d4").notnull().any()
        with fs.open_data(finished_out / "scores.nc") as plain:
            np.testing.assert_allclose(scores["nrmse"], plain["nrmse"], atol=1e-5)
            assert "crps" not in plain
    assert (out / "models" / "small-cnn" / "calibration.json").exists()
    assert not list(out.rglob("*.partial"))
    caplog.clear()
    with caplog.at_level("INFO", "fluidsurrogate"):
        assert main([*command, "compare.calibration_starts=20"]) == 0
    assert caplog.text.count("is up to date") == 5 + len(MODELS)


def test_forecast_into_zarr(finished, tmp_path, capsys, caplog):
    """Piece by piece, of a model or of the solver; made once, and refused for other inputs."""
    toml, out, _ = finished
    data = fs.open_data(out / "data.zarr")
    command = ["rollout", str(toml), "--out", str(out), "--start", str(out / "data.zarr"), "--at", "0.5"]
    command += ["--steps", "6", "--keep-every", "2", "--batch", "4"]
    for name in ("solver", "small-d4"):
        assert main([*command, "--model", name, "--to", str(tmp_path / f"{name}.zarr")]) == 0
        forecast = fs.open_data(tmp_path / f"{name}.zarr")
        assert forecast["vorticity"].sizes == {"trajectory": 6, "time": 4, "y": 16, "x": 16}
        np.testing.assert_allclose(forecast["time"], [0.5, 1.0, 1.5, 2.0])
        assert list(forecast["split"].values) == list(data["split"].values)
    truth = fs.open_data(tmp_path / "solver.zarr")["vorticity"][:, 1]
    np.testing.assert_allclose(truth, data["vorticity"][:, 4], atol=1e-4)
    with caplog.at_level("INFO", "fluidsurrogate"):
        assert main([*command, "--model", "small-d4", "--to", str(tmp_path / "small-d4.zarr")]) == 0
    assert "is up to date" in caplog.text
    again = [*command, "--model", "small-cnn", "--to", tmp_path / "small-d4.zarr"]
    assert "stepper.model" in refused(capsys, *again)
    assert main([*map(str, again), "--force"]) == 0
    assert "--model solver need a Zarr folder" in refused(
        capsys, *command, "--model", "solver", "--to", tmp_path / "x.nc"
    )
    assert "0.6 is no stored time" in refused(capsys, *again, "--at", "0.6", "--force")


def test_forecast_on_another_grid(finished, tmp_path, capsys):
    toml, out, _ = finished
    start = tmp_path / "start.nc"
    fs.generate(fs.Experiment.read(toml, ["grid.n=24", "models={}"])).isel(time=[0]).to_netcdf(start)
    command = ["rollout", str(toml), "--out", str(out), "--model", "small-d4", "--start", str(start), "--steps", "2"]
    assert "--other-grid on the command line" in refused(capsys, *command, "--to", tmp_path / "x.nc")
    for to in ("x.nc", "x.zarr"):
        assert main([*command, "--to", str(tmp_path / to), "--other-grid"]) == 0
        with fs.open_data(tmp_path / to) as forecast:
            assert forecast.sizes["x"] == 24
            assert forecast.attrs["applied_to_grid"] == "24 x 24 cells on 6.28319 x 6.28319"


def test_starts_that_do_not_fit(finished, tmp_path, capsys):
    toml, out, _ = finished
    good = fs.open_data(out / "data.zarr").isel(trajectory=[0], time=[0])[["vorticity"]].load()
    bad = {
        "grid is 16 x 8": good.isel(x=slice(0, 8)),
        "no variable 'vorticity'": good.rename(vorticity="temperature"),
        "NaN": good.where(good["y"] > 1),
        "no such dataset": None,
        "unknown data format; known formats: ": "text",
    }
    for number, (said, start) in enumerate(bad.items()):
        path = tmp_path / f"{number}.nc"
        if isinstance(start, xr.Dataset):
            start.to_netcdf(path)
        elif start is not None:
            path.write_text(start)
        message = refused(capsys, "rollout", toml, "--out", out, "--model", "small-d4", "--start", path, "--steps", 2,
                          "--to", tmp_path / "never.nc")  # fmt: skip
        assert said in message
    assert not (tmp_path / "never.nc").exists()


def test_stage_without_its_input_says_which_command_makes_it(toml, tmp_path, capsys):
    for stage, maker in [("train", "generate"), ("rollout", "generate"), ("compare", "rollout")]:
        command = f"first run: fluidsurrogate {maker} {toml} --set seed=3 --out {tmp_path / 'empty'}"
        assert command in refused(capsys, stage, toml, "--set", "seed=3", "--out", tmp_path / "empty")
    fs.generate(toml, tmp_path / "data")
    assert f"first run: fluidsurrogate train {toml} --out {tmp_path / 'data'}" in refused(
        capsys, "rollout", toml, "--out", tmp_path / "data"
    )
    own = ["--model", "small-d4", "--start", toml, "--steps", 2, "--to", tmp_path / "x.nc"]
    assert "train" in refused(capsys, "rollout", toml, "--out", tmp_path / "data", *own)


def test_data_of_ones_own(finished, tmp_path, capsys):
    """`data.path`: Zarr or NetCDF, trained on where it lies."""
    toml, out, _ = finished
    copy = tmp_path / "mine.nc"
    fs.open_data(out / "data.zarr").to_netcdf(copy)
    mine = ["--out", str(tmp_path / "mine"), "--set", f"data.path={copy}"]
    assert main(["run", str(toml), *mine]) == 0
    scores = [fs.open_data(folder / "scores.nc")["nrmse"] for folder in (out, tmp_path / "mine")]
    assert "solver-16" in scores[1]["source"]  # the check says that it steps these data
    np.testing.assert_allclose(scores[0].sel(source=scores[1]["source"].values), scores[1], atol=1e-6)
    os.utime(copy, (1, 1))
    assert main(["train", str(toml), *mine]) == 0  # what they hold counts
    with fs.open_data(copy) as data:
        changed = data.load()
    changed["vorticity"][0] *= 2
    changed.to_netcdf(tmp_path / "changed.nc")
    (tmp_path / "changed.nc").replace(copy)
    assert "data.content.vorticity was" in refused(capsys, "train", toml, *mine)
    assert "no such dataset" in refused(capsys, "run", toml, "--out", tmp_path / "none", "--set", "data.path=none.zarr")


@pytest.fixture
def mine(toml, tmp_path):
    """The miniature with a module of the user's beside it, in the folder that commands are given in."""
    text = toml.read_text() + '\n[models.mine]\nkind = "module"\npath = "my_networks:Net"\noptions = {width = 4}\n'
    (tmp_path / "mine.toml").write_text(text)
    (tmp_path / "my_networks.py").write_text(
        "import logging\nfrom multiprocessing import parent_process\n\nfrom torch import nn\n\n"
        "class Net(nn.Sequential):\n    def __init__(self, channels_in, channels_out, width):\n"
        "        super().__init__(nn.Conv2d(channels_in, width, 3, padding=1), nn.BatchNorm2d(width), nn.GELU(),\n"
        "                         nn.Conv2d(width, channels_out, 1))\n"
        "        log = logging.getLogger('fluidsurrogate')\n"
        "        log.info(f'built in a process of its own: {parent_process() is not None}')\n"
    )
    yield tmp_path / "mine.toml"
    sys.modules.pop("my_networks", None)


def test_a_module_of_ones_own(mine, tmp_path, monkeypatch, capsys, caplog):
    """Found beside the TOML, trained in a process of its own, rolled out and compared; the flag stored nowhere.

    What that process logs is logged here.
    """
    head, _, tail = mine.read_text().partition("[models.small-d4]")
    mine.write_text(
        head + "[models.small-cnn]" + tail.partition("[models.small-cnn]")[2]
    )  # one model beside it will do
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])  # the current folder is not searched
    monkeypatch.setattr("fluidsurrogate.core.jobs.MIN_CELLS_FOR_PROCESSES", 0)
    assert main(["run", "mine.toml", "--allow-code", "--set", "train.workers=2", "--set", "train.steps=4"]) == 0
    assert "mine" in capsys.readouterr().out
    assert "built in a process of its own: True" in caplog.text
    out = tmp_path / "runs" / "miniature"
    with fs.open_data(out / "scores.nc") as scores:
        assert int(scores["parameters"].sel(source="mine")) == 4 * 9 + 4 + 8 + 4 + 1
        assert "allow" not in scores.attrs["experiment"]
    config = json.loads((out / "models" / "mine" / "config.json").read_text())
    assert config["model"] == {"kind": "module", "path": "my_networks:Net", "options": {"width": 4}, "networks": 1}


def test_code_is_not_run_without_the_flag(mine, tmp_path, capsys):
    said = "mine: kind = 'module' would import and run my_networks:Net"
    for stage in ("run", "train", "rollout", "compare"):
        message = refused(capsys, stage, mine, "--out", tmp_path / "out")
        assert said in message
        assert "--allow-code" in message
        assert not (tmp_path / "out" / "data.zarr").exists()
    assert main(["generate", str(mine), "--out", str(tmp_path / "out")]) == 0
    (tmp_path / "out" / "models" / "mine").mkdir(parents=True)
    config = {"format": MODEL_FORMAT, "model": {"kind": "module", "path": "os:system"}, "dtype": "float32", "about": {},
              "spec": {"fields": [{"name": "vorticity"}], "inputs": [], "interval": 1.0,
                       "grid": {"n": [16, 16], "length": [1.0, 1.0]}},
              "normalisation": {"shift": [0.0], "scale": [1.0], "change": [1.0], "band": [1, 1]},
              "constants": {}, "sha256": {}}  # fmt: skip
    (tmp_path / "out" / "models" / "mine" / "config.json").write_text(json.dumps(config))
    own = ["--model", "mine", "--start", tmp_path / "out" / "data.zarr", "--steps", 2, "--to", tmp_path / "x.nc"]
    assert "would import and run os:system" in refused(capsys, "rollout", mine, "--out", tmp_path / "out", *own)
    assert "would import and run os:system" in refused(capsys, "audit", tmp_path / "out" / "models" / "mine")
    assert "my_networks" not in sys.modules
    pathless = ["--set", "models={mine = {kind = 'module'}}", "--allow-code"]
    assert "models.mine: kind = 'module' has no path" in refused(capsys, "run", mine, *pathless)


def test_models(capsys):
    assert main(["models"]) == 0
    said = capsys.readouterr().out
    assert "\ngcnn: Group CNN: lifting → residual" in said
    assert '    group = "D4", width = 16, lifting_size = 3, size = 3, dilations = [1, 2, 1],' in said
    assert "\n    modes = 12, width = 32, layers = 4\n" in said
    assert "\n    path, options\n" in said
    assert said.endswith("\n  every kind: augment, solver, intervals, init, networks, velocity\n")
    assert [line.partition(":")[0] for line in said.splitlines() if not line.startswith(" ")] == sorted(ARCHITECTURES)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_terminals_of_any_encoding(monkeypatch, encoding):
    """What an encoding does not have is spelt plainly: no traceback after all the work."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    assert main(["models"]) == 0
    sys.stdout.write("1.0 ± 0.1 \udcff")  # as in a table of scores; and of a file name that is not UTF-8
    sys.stdout.flush()
    said = written.getvalue().decode(encoding)
    arrow, sign = ("→", "±") if encoding == "utf-8" else ("->", "+-" if encoding == "ascii" else "±")
    assert f"lifting {arrow} residual" in said
    assert said.endswith(f"1.0 {sign} 0.1 ?")


def test_command_line_itself(toml, capsys):
    assert "invalid choice: 'simulate'" in refused(capsys, "simulate", toml)
    assert "required: EXPERIMENT.toml" in refused(capsys, "run")
    assert "expected dotted.key=value" in refused(capsys, "run", toml, "--set", "train.steps")
    assert "No such file" in refused(capsys, "run", "nowhere.toml")
    assert "unknown key 'grid.m'" in refused(capsys, "run", toml, "--set", "grid.m=3")
    assert "device" in refused(capsys, "run", toml, "--device", "abacus")
    assert "dtype" in refused(capsys, "run", toml, "--dtype", "float8")
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"fluidsurrogate {fs.__version__}\n"


def test_folder_in_use(toml, tmp_path, capsys):
    with folder_lock(tmp_path):
        assert "in use by another run" in refused(capsys, "generate", toml, "--out", tmp_path)


def test_a_finished_run_that_may_not_be_written(finished, capsys, monkeypatch):
    """What is there is shown; what would have to be made is refused before any work."""
    toml, folder, _ = finished
    same = ["--out", str(folder), "--set", "train.workers=2"]

    def refuse(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr("fluidsurrogate.core.locks.FileLock._acquire", refuse)
    monkeypatch.setattr("fluidsurrogate.core.files.tempfile.TemporaryFile", refuse)
    assert main(["compare", str(toml), *same]) == 0
    assert "small-d4" in capsys.readouterr().out
    assert main(["run", str(toml), *same]) == 0
    for stage, changed in [("generate", "seed=2"), ("train", "train.steps=3"), ("rollout", "compare.solvers=[]")]:
        assert "cannot be written (Permission denied)" in refused(
            capsys, stage, toml, *same, "--set", changed, "--force"
        )


LATE = (
    "matplotlib",
    "accelerate",
    "torch._dynamo",
    "dask",
    "dask.array",
    "scipy",
    "zarr",
    "netCDF4",
    "huggingface_hub",
)


def imported_by(*commands):
    """The exit code of each command, and which of the modules that take their time it imported.

    Each runs in a process of its own, a fork of one that has imported torch and the program, and nothing else.
    """
    code = """
import json, os, sys, torch
from fluidsurrogate.cli import main
late, commands = json.loads(sys.argv[1])
for command in commands:
    if not os.fork():
        code = main(command)
        print()
        print("imported", code, *[name for name in late if name in sys.modules], flush=True)
        os._exit(0)
    os.wait()
"""
    given = json.dumps([LATE, [list(map(str, command)) for command in commands]])
    done = subprocess.run([sys.executable, "-c", code, given], capture_output=True, text=True, timeout=300)
    found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("imported ")]
    return [(int(first), set(late)) for first, *late in found]


def test_an_answer_waits_for_no_module_that_it_does_not_need(finished, toml):
    toml.write_text(toml.read_text().replace("[grid]", "[grid]\nm = 3"))
    out = finished[1]
    refusal, scores, data = imported_by(("run", toml), ("info", out / "scores.nc"), ("info", out / "data.zarr"))
    assert refusal == (2, set())
    code, late = scores
    assert code == 0
    assert not late & {"matplotlib", "accelerate", "torch._dynamo", "zarr", "huggingface_hub"}
    code, late = data
    assert code == 0
    assert not late & {"matplotlib", "accelerate", "torch._dynamo", "dask.array", "scipy", "netCDF4"}


def test_folder_that_is_a_file(toml, capsys):
    assert "File exists" in refused(capsys, "generate", toml, "--out", toml)


def test_folder_of_something_else(toml, tmp_path, capsys):
    (tmp_path / "data.zarr").mkdir()
    assert "data.zarr" in refused(capsys, "run", toml, "--out", tmp_path)
    (tmp_path / "models" / "small-d4").mkdir(parents=True)
    (tmp_path / "data.zarr").rmdir()
    assert "small-d4 was made from other inputs" in refused(capsys, "run", toml, "--out", tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_full_disk(toml, tmp_path, capsys, monkeypatch):
    """The chunk that does not fit stops the run in one line; with space again, the same command finishes."""

    def full(path, value):
        with open("/dev/full", "w") as file:
            file.write(json.dumps(value))

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["fluidsurrogate.simulation.generation"], "write_json", full)
        assert "No space left on device" in refused(capsys, "generate", toml, "--out", tmp_path)
    assert not (tmp_path / "data.zarr").exists()
    assert main(["generate", str(toml), "--out", str(tmp_path)]) == 0


def test_ctrl_c(toml, tmp_path):
    """Exit code 130, and the same command goes on."""
    command = [sys.executable, "-m", "fluidsurrogate", "generate", str(toml), "--out", str(tmp_path / "out")]
    command += ["--set", "data.train=60"]
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a test run in the background is deaf to Ctrl-C
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listen)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "data.zarr.partial" / "progress.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "interrupted; the same command continues from here" in said
    assert "Traceback" not in said
    assert main(command[3:]) == 0
    assert fs.open_data(tmp_path / "out" / "data.zarr").sizes["trajectory"] == 63
