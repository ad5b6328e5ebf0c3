"""Rollouts that are written while they run: the same numbers as in memory, the same bits after any kill, bounded."""

import copy
import itertools
import json
import multiprocessing
import random
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import UsageError
from fluidsurrogate.core.locks import output_lock
from fluidsurrogate.data.conversion import to_states
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.simulation import batch_sizes, batched_rollout, initial_states, rollout_writer
from solvers import Stepper

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of four times for batches of two starts on 16 x 16 cells."""
    monkeypatch.setattr(batch_sizes, "MAX_BUFFER_BYTES", 2 * 4 * 16 * 16 * 4)


@pytest.fixture(scope="module")
def forced():
    """A model in double precision whose step depends on a forcing, a viscosity and a mean velocity, and its data."""
    overrides = ["flow.kind=kolmogorov", "flow.spin_up=0", "flow.viscosity=[1e-2, 2e-2]", "dtype=float64",
                 "flow.mean_velocity=[0.3, 0.1]", "train.steps=4"]  # fmt: skip
    experiment = fs.Experiment.read(Path(__file__).parents[1] / "miniature.toml", overrides)
    data = fs.generate(experiment)
    return data, fs.train(experiment, data, ["small-cnn"])["small-cnn"]


def files(folder):
    """Every file with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_same(zarr, memory):
    assert set(zarr.variables) == set(memory.variables)
    for name, variable in memory.variables.items():
        assert zarr[name].dims == variable.dims
        assert zarr[name].attrs == variable.attrs, name
        if variable.dtype.kind == "f":
            assert zarr[name].dtype == variable.dtype
            scale = float(np.abs(variable.values).max())
            np.testing.assert_allclose(zarr[name], variable, rtol=0, atol=1e-5 * scale)
        else:
            assert list(zarr[name].values) == list(variable.values)


def test_equals_forecast(trained, forced, tmp_path, small_pieces):
    for number, (data, model) in enumerate(((trained[0], trained[1]["small-d4"]), forced)):
        zarr = fs.forecast_to_zarr(model, data, 9, tmp_path / f"{number}.zarr", start_time=0.5, batch=2)
        memory = fs.forecast(model, data, 9, start_time=0.5)
        assert_same(zarr, memory)
        assert zarr["vorticity"].encoding["chunks"][:2] == ((2, 4) if number == 0 else (2, 2))
        assert {k: v for k, v in zarr.attrs.items() if k in memory.attrs} == memory.attrs
    assert zarr["vorticity"].dtype == np.float64


def test_every_third_interval(trained, tmp_path, small_pieces):
    data, models = trained
    every = fs.forecast_to_zarr(models["small-d4"], data, 12, tmp_path / "a.zarr", batch=6)
    third = fs.forecast_to_zarr(models["small-d4"], data, 12, tmp_path / "b.zarr", batch=6, keep_every=3)
    np.testing.assert_allclose(third["time"], 0.75 * np.arange(5))
    np.testing.assert_allclose(third["vorticity"], every["vorticity"][:, ::3], atol=1e-5)


def test_one_start_without_trajectory_or_time(trained, tmp_path):
    data, models = trained
    one = data[["vorticity"]].isel(trajectory=0, time=0, drop=True)
    zarr = fs.forecast_to_zarr(models["small-d4"], one, 3, tmp_path / "one.zarr")
    assert zarr["vorticity"].sizes == {"trajectory": 1, "time": 4, "y": 16, "x": 16}
    np.testing.assert_allclose(zarr["vorticity"], fs.forecast(models["small-d4"], one, 3)["vorticity"], atol=1e-6)


class Stop(Exception):
    """What stands for a kill."""


@pytest.mark.parametrize("which", ["float32", "float64 with inputs"])
def test_stopped_after_any_piece_and_resumed(trained, forced, tmp_path, small_pieces, monkeypatch, which):
    """Stopped before and after each of its writes, it ends with the bytes of a run in one piece."""
    data, model = (trained[0], trained[1]["small-d4"]) if which == "float32" else forced
    fs.forecast_to_zarr(model, data, 9, tmp_path / "whole.zarr", batch=4, keep_every=3)
    write, stops = rollout_writer.write_json, 0

    def stopping(path, value):
        nonlocal stops
        if stops % 2:
            write(path, value)
        stops += 1
        if stops < 9:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(rollout_writer, "write_json", stopping)
        for _ in range(20):
            try:
                fs.forecast_to_zarr(model, data, 9, tmp_path / "cut.zarr", batch=4, keep_every=3)
                break
            except Stop:
                assert not (tmp_path / "cut.zarr").exists()
                with pytest.raises(UsageError, match="steps was 9, is 6"):
                    fs.forecast_to_zarr(model, data, 6, tmp_path / "cut.zarr", batch=4, keep_every=3)
    assert stops >= 9
    assert files(tmp_path / "cut.zarr") == files(tmp_path / "whole.zarr")
    assert {path.name for path in tmp_path.iterdir()} == {"cut.zarr", "whole.zarr"}


def slowly(model, data, path):
    fs.forecast_to_zarr(model, data, 60, path, batch=2)


def test_killed_and_resumed(trained, tmp_path, small_pieces):
    """SIGKILL at random moments of a process of its own."""
    data, models = trained
    slowly(models["small-d4"], data, tmp_path / "whole.zarr")
    moments, kills = random.Random(5), 0
    for attempt in range(60):
        process = FORK.Process(target=slowly, args=(models["small-d4"], data, tmp_path / "cut.zarr"))
        process.start()
        process.join(moments.uniform(0.05, 0.5) * (1 + attempt / 10))
        if process.exitcode is not None:
            assert process.exitcode == 0
            break
        process.kill()
        process.join()
        kills += 1
    assert kills >= 2
    assert files(tmp_path / "cut.zarr") == files(tmp_path / "whole.zarr")


def test_the_stored_state_is_gone_on_with(trained, tmp_path, small_pieces, monkeypatch):
    """The control: a stored state that is changed by hand changes what follows, and nothing before."""
    data, models = trained
    write, path = rollout_writer.write_json, tmp_path / "x.zarr"

    def stopping(file, value):
        write(file, value)
        if value.get("pieces") == 2:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(rollout_writer, "write_json", stopping)
        with pytest.raises(Stop):
            fs.forecast_to_zarr(models["small-d4"], data, 11, path, batch=2)
    store = tmp_path / "x.zarr.partial" / "result"
    changed = xr.open_zarr(store, consolidated=False)[["vorticity"]].isel(trajectory=[0, 1], time=slice(4, 8)).load()
    changed["vorticity"][0, -1] = 0
    changed.drop_vars(list(changed.coords)).to_zarr(
        store, region={"trajectory": slice(0, 2), "time": slice(4, 8)}, consolidated=False
    )
    got = fs.forecast_to_zarr(models["small-d4"], data, 11, path, batch=2)["vorticity"]
    right = fs.forecast(models["small-d4"], data, 11)["vorticity"]
    np.testing.assert_allclose(got[:, :7], right[:, :7], atol=1e-5)
    np.testing.assert_allclose(got[1:], right[1:], atol=1e-5)
    assert float(abs(got[0, 8] - right[0, 8]).max()) > 0.1


@pytest.mark.parametrize("kind", ["solver", "persistence"])
def test_any_stepper(experiment, trained, tmp_path, small_pieces, monkeypatch, kind):
    """The solver too, which begins a batch that was cut short from its start, to the same bits."""
    data = trained[0]
    stepper: Stepper = experiment.build_solver() if kind == "solver" else fs.Persistence(experiment.spec)
    zarr = fs.rollout_to_zarr(stepper, data, 9, tmp_path / "whole.zarr", provenance={"which": kind}, batch=4)
    states = to_states(data, experiment.spec)
    memory = fs.rollout(stepper, states[:, 0], 9)
    np.testing.assert_allclose(zarr["vorticity"], memory[:, :, 0], atol=1e-4)
    if kind == "solver":
        np.testing.assert_allclose(zarr["vorticity"][:, :5], data["vorticity"], atol=1e-4)
    write, count = rollout_writer.write_json, 0

    def stopping(file, value):
        nonlocal count
        write(file, value)
        count += 1
        if count in (3, 6):
            raise Stop

    monkeypatch.setattr(rollout_writer, "write_json", stopping)
    for _ in range(3):
        try:
            fs.rollout_to_zarr(stepper, data, 9, tmp_path / "cut.zarr", provenance={"which": kind}, batch=4)
        except Stop:
            continue
    assert files(tmp_path / "cut.zarr") == files(tmp_path / "whole.zarr")


def test_random_steppers_get_the_seeds_of_their_trajectories(toml, tmp_path):
    """In batches as at once: each trajectory of a stirred flow is stirred by its own seed."""
    stirred = ["flow={kind = 'stirred', viscosity = 1e-2, wavenumber = 2, spin_up = 0}", "models={}"]
    experiment = fs.Experiment.read(toml, stirred)
    data = fs.generate(experiment)
    made = [
        fs.rollout_to_zarr(experiment.build_solver(), data, 4, tmp_path / f"{batch}.zarr", provenance={}, batch=batch)
        for batch in (2, 3)
    ]
    for zarr in made:
        np.testing.assert_allclose(zarr["vorticity"], data["vorticity"], atol=1e-3)


def test_done_is_opened_and_other_inputs_are_refused(trained, tmp_path, caplog):
    data, models = trained
    model, path = models["small-d4"], tmp_path / "x.zarr"
    fs.forecast_to_zarr(model, data, 3, path)
    marks = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    with caplog.at_level("INFO", "fluidsurrogate"):
        fs.forecast_to_zarr(model, data.copy(), 3, path)
    assert "is up to date" in caplog.text
    assert marks == {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    other = data.copy(deep=True)
    other["vorticity"][5, 0, 3, 3] += 1e-3
    loud = Surrogate(
        *(getattr(models["small-cnn"], a) for a in ("network", "spec", "normalisation", "config", "about"))
    )
    for said, call in {
        "steps was 3, is 4": lambda: fs.forecast_to_zarr(model, data, 4, path),
        "starts was": lambda: fs.forecast_to_zarr(model, other, 3, path),
        "start_time was 0.0, is 0.25": lambda: fs.forecast_to_zarr(model, data, 3, path, start_time=0.25),
        "stepper.weights was": lambda: fs.forecast_to_zarr(with_other_weights(model), data, 3, path),
        "stepper.model": lambda: fs.forecast_to_zarr(loud, data, 3, path),
        'batch was "as memory allows", is 2': lambda: fs.forecast_to_zarr(model, data, 3, path, batch=2),
    }.items():
        with pytest.raises(UsageError, match=said):
            call()
    assert fs.forecast_to_zarr(model, data, 4, path, force=True).sizes["time"] == 5


def test_names_from_netcdf_are_stored_as_zarr_has_them(trained, tmp_path, recwarn):
    data, models = trained
    data.to_netcdf(tmp_path / "start.nc")
    with fs.open_data(tmp_path / "start.nc") as start:
        zarr = fs.forecast_to_zarr(models["small-d4"], start, 2, tmp_path / "x.zarr")
    assert zarr["split"].values.tolist() == data["split"].values.tolist()
    assert not [w for w in recwarn if "Zarr V3 specification" in str(w.message)]


@pytest.mark.parametrize("text", ["not json", 3, "[1]", "null", "[" * 100_000, ""])
def test_a_forecast_that_does_not_say_what_it_was_provenance(trained, tmp_path, text):
    data, models = trained
    xr.Dataset(attrs={"provenance": text}).to_zarr(tmp_path / "x.zarr", consolidated=False)
    with pytest.raises(UsageError, match="made from other inputs: batch was absent"):
        fs.forecast_to_zarr(models["small-d4"], data, 3, tmp_path / "x.zarr")


@pytest.mark.parametrize(
    "record",
    [[], {}, {"plan": {"batch": 1}, "batches": 0, "pieces": 0}, *(
        {"plan": {"batch": batch, "piece": 1, "chunk": chunk, "threads": 1}, "batches": batches, "pieces": 0}
        for batch, chunk, batches in (("a", 1, 0), (0, 1, 0), (3, 2, 0), (1, True, 0), (1, 1, -1), (1, 1, "0")))],
)  # fmt: skip
def test_a_record_that_is_none(trained, tmp_path, small_pieces, monkeypatch, record):
    """Of an interrupted rollout: said in one line, with what to do."""
    data, models = trained
    monkeypatch.setattr(batched_rollout, "to_dataset", raising(Stop, after=2))
    with pytest.raises(Stop):
        fs.forecast_to_zarr(models["small-d4"], data, 3, tmp_path / "x.zarr")
    (tmp_path / "x.zarr.partial" / "progress.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"is not the progress file of a rollout: delete .*x.zarr.partial"):
        fs.forecast_to_zarr(models["small-d4"], data, 3, tmp_path / "x.zarr")


def raising(error, after):
    """`to_dataset` that raises when it was called as often as that."""
    function, calls = batched_rollout.to_dataset, itertools.count(1)

    def stopping(*args, **options):
        if next(calls) > after:
            raise error
        return function(*args, **options)

    return stopping


def with_other_weights(model):
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        next(network.parameters()).add_(1e-3)
    return Surrogate(network, model.spec, model.normalisation, model.config, model.about)


def test_bad_calls(trained, tmp_path):
    data, models = trained
    model, path = models["small-d4"], tmp_path / "x.zarr"
    late = data.copy(deep=True)
    late["vorticity"][5, 0, 3, 3] = np.nan
    (tmp_path / "mine.zarr").mkdir()
    for said, call in {
        "steps must be at least 1": lambda: fs.forecast_to_zarr(model, data, 0, path),
        "batch must be at least 1": lambda: fs.forecast_to_zarr(model, data, 2, path, batch=0),
        "multiple of keep_every = 2": lambda: fs.forecast_to_zarr(model, data, 3, path, keep_every=2),
        "a name that ends in .zarr": lambda: fs.forecast_to_zarr(model, data, 3, tmp_path / "x.nc"),
        "NaN": lambda: fs.forecast_to_zarr(model, late, 3, path),
        "no stored time": lambda: fs.forecast_to_zarr(model, data, 3, path, start_time=0.3),
        "is not a Zarr folder": lambda: fs.forecast_to_zarr(model, data, 3, tmp_path / "mine.zarr", force=True),
        "seeds must be one a trajectory, 6": lambda: fs.rollout_to_zarr(model, data, 2, path, provenance={}, seeds=[1]),
    }.items():
        with pytest.raises(UsageError, match=said) as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1
    with output_lock(path), pytest.raises(UsageError, match="being made by another run"):
        fs.forecast_to_zarr(model, data, 3, path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.zarr"]


def test_non_finite_goes_on_and_resumes(trained, tmp_path, small_pieces, monkeypatch, caplog):
    data, models = trained
    wild = Surrogate(*(getattr(models["small-d4"], a) for a in ("network", "spec", "normalisation", "config", "about")))
    wild.step.change.mul_(1e25)
    write, stopped = rollout_writer.write_json, False

    def stopping(file, value):
        nonlocal stopped
        write(file, value)
        if value.get("pieces") == 2 and not stopped:
            stopped = True
            raise Stop

    monkeypatch.setattr(rollout_writer, "write_json", stopping)
    with pytest.raises(Stop):
        fs.forecast_to_zarr(wild, data, 11, tmp_path / "x.zarr", batch=2)
    zarr = fs.forecast_to_zarr(wild, data, 11, tmp_path / "x.zarr", batch=2)
    assert "has become NaN or infinite; it is continued" in caplog.text
    assert stopped
    assert np.isfinite(zarr["vorticity"][:, 0]).all()
    assert np.isnan(zarr["vorticity"][:, -1]).all()


def test_memory_is_bounded(trained, tmp_path, monkeypatch):
    """However many starts and steps, no more states are read or kept at a time than the batch and the piece hold."""
    data, models = trained
    many, model = xr.concat([data.isel(time=[0])] * 20, "trajectory"), models["small-d4"]
    kept, read, batches, one = [], [], [], 16 * 16 * 4
    cost = batch_sizes.bytes_per_interval(model, torch.zeros(1, 1, 16, 16), {}, [0])
    monkeypatch.setattr(batch_sizes, "MAX_CPU_BATCH_BYTES", 7 * cost)
    monkeypatch.setattr(batch_sizes, "MAX_BUFFER_BYTES", 40 * one)
    monkeypatch.setattr(initial_states, "READ_CELLS", 10 * 16 * 16)

    def spy(owner, name, seen, size):
        original = getattr(owner, name)

        def spied(*args, **options):
            seen.append(size(*args))
            return original(*args, **options)

        monkeypatch.setattr(owner, name, spied)

    spy(batched_rollout, "to_dataset", kept, lambda spec, states: states.shape[0] * states.shape[1])
    spy(initial_states.InitialStates, "read", read, lambda self, first, last: last - first)
    spy(model.step, "forward", batches, lambda network, state, *rest: len(state))
    fs.forecast_to_zarr(model, many, 20, tmp_path / "x.zarr")
    assert max(batches) == 7  # 120 starts in 18 batches
    assert max(kept) <= 40
    assert max(read) == 10
    assert sum(batches) == 120 * 20 + 1


def test_batches_follow_free_memory(trained, monkeypatch):
    model = trained[1]["small-d4"]
    one = torch.zeros(1, 1, 16, 16)
    cost = batch_sizes.bytes_per_interval(model, one, {}, [0])
    assert cost > 64 * 16 * 16 * 4
    chosen = batch_sizes.plan_batches(model, one, {}, [0], 96, 10001)
    assert 16 <= chosen.batch <= 96
    assert 96 % chosen.batch == 0
    assert chosen.batch * chosen.piece * 16 * 16 * 4 <= batch_sizes.MAX_BUFFER_BYTES
    assert chosen.batch % chosen.chunk == 0
    assert chosen.batch * chosen.piece * cost <= batch_sizes.MAX_UNSAVED_BYTES
    assert batch_sizes.plan_batches(model, one, {}, [0], 96, 10001, 10).piece == max(
        1, batch_sizes.MAX_UNSAVED_BYTES // (chosen.batch * cost * 10)
    )

    class Memory:
        available = 4 * 10 * cost

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory)
    assert batch_sizes.plan_batches(model, one, {}, [0], 96, 10).batch == 10  # 9.6 in ten rounds
    assert batch_sizes.plan_batches(model, one, {}, [0], 96, 10, batch=50).batch == 50
    Memory.available = 0
    assert batch_sizes.plan_batches(model, one, {}, [0], 96, 10).batch == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
def test_full_disk(trained, tmp_path, monkeypatch):
    """In one line, and the same call goes on when there is room."""
    from fluidsurrogate.cli.program import error_message

    data, models = trained

    def full(path, value):
        with open("/dev/full", "w") as file:
            file.write(json.dumps(value))

    with monkeypatch.context() as patch:
        patch.setattr(rollout_writer, "write_json", full)
        with pytest.raises(OSError, match="No space left") as caught:
            fs.forecast_to_zarr(models["small-d4"], data, 3, tmp_path / "x.zarr")
    assert (
        error_message(caught.value) == "No space left on device; free some space: the same command continues from here"
    )
    fs.forecast_to_zarr(models["small-d4"], data, 3, tmp_path / "x.zarr")
