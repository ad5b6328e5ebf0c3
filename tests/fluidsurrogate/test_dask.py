"""Data and rollouts made on a Dask cluster: the bits of one machine, whatever is killed, at a path or at an address."""

import os
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import fluidsurrogate as fs
from fluidsurrogate import UsageError
from fluidsurrogate.cli import main
from fluidsurrogate.core import cluster
from fluidsurrogate.core.stores import Store, is_address
from fluidsurrogate.data.block_store import BlockStore
from fluidsurrogate.data.content_hash import hash_variables
from fluidsurrogate.simulation.cluster_store import sharded

pytestmark = pytest.mark.xdist_group("dask")
distributed = pytest.importorskip("distributed")
TESTS = Path(__file__).parents[1]
# 64 trajectories of 16 x 16 cells in 32 blocks, which take some tens of milliseconds each
SLOW = ["data.train=60", "data.valid=2", "data.test=2", "solver.dt=5e-4"]


@pytest.fixture(scope="module")
def client():
    """Two worker processes of one thread each, each restarted when it is killed."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local,
        distributed.Client(local) as connected,
    ):
        yield connected


@pytest.fixture(scope="module")
def threads():
    """A worker in this process, which sees its memory."""
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as local,
        distributed.Client(local) as connected,
    ):
        yield connected


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """An experiment that takes long enough to be killed, and its data as one machine makes them."""
    experiment = fs.Experiment.read(TESTS / "miniature.toml", SLOW)
    return experiment, fs.generate(experiment, tmp_path_factory.mktemp("slow"))


def assert_same(made, plain):
    """Dims, coordinates, attributes, content: everything but the processor, which only a cluster records."""
    xr.testing.assert_identical(made.drop_attrs(deep=False), plain.drop_attrs(deep=False))
    for name, variable in plain.variables.items():
        assert made[name].dtype == variable.dtype
        if variable.dtype.kind == "f":
            assert made[name].values.tobytes() == variable.values.tobytes(), name
    attributes = {key: value for key, value in made.attrs.items() if key != "processor"}
    assert made.attrs["processor"]
    assert attributes == plain.attrs


def shard_times(folder):
    """When each shard of the vorticity was last written, by its number, be the store complete or not."""
    files = [path for path in folder.rglob("0") if "/vorticity/c/" in path.as_posix() and "plain" not in path.parts]
    return {int(path.as_posix().partition("/vorticity/c/")[2].partition("/")[0]): path.stat().st_mtime_ns
            for path in files}  # fmt: skip


def wait_for_blocks(folder, count, is_over=lambda: False):
    """The numbers of the blocks that are done, as soon as there are so many."""
    for _ in range(6000):
        done = [path.stem for path in folder.glob("blocks/*.json") if path.stat().st_size]
        if len(done) >= count:
            return sorted(map(int, done))
        assert not is_over(), "over before it could be killed"
        time.sleep(0.005)
    raise AssertionError("no block was made")


# a forcing and a viscosity as inputs; random forcing; in space, with the velocity, on fewer cells than are computed
@pytest.mark.parametrize(("file", "overrides"), [
    ("miniature.toml", ["flow.kind=kolmogorov", "flow.viscosity=[1e-2, 2e-2]", "data.test_steps=6", "dtype=float64"]),
    ("miniature.toml", ["flow.kind=stirred", "data.state=velocity", "grid.n=24", "grid.store=16", "data.train=4"]),
    ("miniature_3d.toml", []),
], ids=["forced", "stirred", "in space"])  # fmt: skip
def test_the_bits_are_those_of_one_machine(client, tmp_path, file, overrides):
    experiment = fs.Experiment.read(TESTS / file, overrides)
    made = fs.generate(experiment, tmp_path / "cluster", dask=client)
    assert_same(made, fs.generate(experiment, tmp_path / "plain"))
    assert [p.name for p in (tmp_path / "cluster").iterdir() if p.name != ".lock"] == ["data.zarr"]
    again = fs.generate(experiment, tmp_path / "cluster")  # without a cluster: it is up to date
    assert again.attrs == made.attrs


def test_an_address_across_processes(client, tmp_path, monkeypatch):
    """`file://` through fsspec, as an object store is: shards are whole blocks, and the root comes last."""
    experiment = fs.Experiment.read(TESTS / "miniature.toml", ["data.train=4", "data.valid=2"])
    address = f"file://{tmp_path}/made.zarr"
    seen = []
    mark = Store.write
    monkeypatch.setattr(Store, "write", lambda self, name, content: (seen.append(name), mark(self, name, content))[1])
    made = fs.generate(experiment, to=address, dask=client)
    assert seen[-1] == "zarr.json"
    assert_same(made, fs.generate(experiment, tmp_path / "plain"))
    assert {path.name for path in tmp_path.iterdir()} == {"made.zarr", "plain"}
    array = zarr.open_group(tmp_path / "made.zarr", mode="r")["vorticity"]
    assert (array.shards[0], array.chunks[0]) == (2, 1)
    assert len(list((tmp_path / "made.zarr" / "vorticity" / "c").iterdir())) == 4  # blocks


def test_a_killed_worker_costs_its_block(client, slow, tmp_path):
    experiment, plain = slow
    processes = client.run(os.getpid)

    def kill_a_worker():
        done = wait_for_blocks(tmp_path / "made.zarr.partial", 2)
        times = shard_times(tmp_path)
        os.kill(next(iter(processes.values())), signal.SIGKILL)
        return {number: times[number] for number in done}

    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_a_worker)
        made = fs.generate(experiment, to=tmp_path / "made.zarr", dask=client)
        before = killing.result()
    after = shard_times(tmp_path)
    assert 2 <= len(before) < 32 == len(after)
    assert not [number for number, moment in before.items() if after[number] != moment]
    assert_same(made, plain)


@pytest.mark.parametrize("how", ["interrupted", "killed"])
def test_a_client_that_ends_is_resumed(client, slow, tmp_path, monkeypatch, how):
    """Ctrl-C, to a path; SIGKILL, to an address. The same call makes what is missing and nothing else."""
    experiment, plain = slow
    to = tmp_path / "made.zarr" if how == "interrupted" else f"file://{tmp_path}/made.zarr"
    if how == "interrupted":
        with monkeypatch.context() as patch:
            patch.setattr("fluidsurrogate.core.progress.Progress.update", interrupt)
            with pytest.raises(KeyboardInterrupt):
                fs.generate(experiment, to=to, dask=client)
    else:
        words = [word for item in SLOW for word in ("--set", item)]
        command = [sys.executable, "-m", "fluidsurrogate", "generate", str(TESTS / "miniature.toml"), *words,
                   "--to", str(to), "--dask", client.scheduler.address]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=TESTS.parent)
        wait_for_blocks(tmp_path / "made.zarr.partial", 2, lambda: process.poll() is not None)
        process.kill()
        process.wait()
    done, times = wait_for_blocks(tmp_path / "made.zarr.partial", 1), shard_times(tmp_path)
    assert len(done) < 32
    with pytest.raises(UsageError, match=r"no such dataset|still being made"):
        fs.open_data(to)
    with pytest.raises(UsageError, match="was made from other inputs: seed was 1, is 2"):
        fs.generate(experiment.model_copy(update={"seed": 2}), to=to, dask=client)
    made = fs.generate(experiment, to=to, dask=client)
    after = shard_times(tmp_path)
    assert not [number for number in done if after[number] != times[number]]
    assert_same(made, plain)
    assert {path.name for path in tmp_path.iterdir()} == {"made.zarr"}


def interrupt(progress, count, note):
    """What stands for Ctrl-C, once two trajectories are done; the note says how many workers there are."""
    assert "worker" in note
    raise KeyboardInterrupt


def test_in_memory_and_trained_from_there(threads, experiment, tmp_path, caplog):
    """`memory://` lives in one process. Training reads from the address."""
    address = "memory://bucket/data.zarr"
    made = fs.generate(experiment, to=address, dask=threads)
    assert_same(made, fs.generate(experiment, tmp_path / "plain"))
    assert not Store(f"{address}.partial").exists()
    caplog.set_level("INFO", "fluidsurrogate")
    caplog.clear()
    fs.generate(experiment, to=address, dask="local:1")  # which is not even started
    assert caplog.messages == [f"{address} is up to date"]
    other = experiment.model_copy(update={"seed": 7})
    with pytest.raises(UsageError, match="was made from other inputs: seed was 1, is 7"):
        fs.generate(other, to=address, dask=threads)
    replaced = fs.generate(other, to=address, dask=threads, force=True)
    assert replaced.attrs["seed"] == 7

    user = fs.Experiment.read(TESTS / "miniature.toml", [f'data.path="{address}"'])
    model = fs.train(user, models="small-cnn", out=tmp_path / "run")["small-cnn"]
    np.testing.assert_array_equal(fs.forecast(model, replaced, 1)["vorticity"][:, 0], replaced["vorticity"][:, 0])


def test_rollouts(client, trained, tmp_path):
    data, models = trained
    data.to_zarr(tmp_path / "start.zarr", consolidated=False)
    start = fs.open_data(tmp_path / "start.zarr")
    model = models["small-d4"]
    plain = fs.forecast_to_zarr(model, start, 6, tmp_path / "plain.zarr", batch=2, keep_every=2)
    made = fs.forecast_to_zarr(model, start, 6, tmp_path / "made.zarr", batch=2, keep_every=2, dask=client)
    assert_same(made, plain)
    address = f"file://{tmp_path}/remote.zarr"
    assert_same(fs.forecast_to_zarr(model, start, 6, address, batch=2, keep_every=2, dask=client), plain)
    again = fs.forecast_to_zarr(model, start, 6, address, batch=2, keep_every=2, dask="local:1")  # it is up to date
    assert again.attrs == fs.open_data(address).attrs
    assert {p.name for p in tmp_path.iterdir()} == {"start.zarr", "plain.zarr", "made.zarr", "remote.zarr"}


def test_the_solver_s_rollout_from_the_command_line(client, tmp_path):
    """In space."""
    toml, start = str(TESTS / "miniature_3d.toml"), str(tmp_path / "run" / "data.zarr")
    assert main(["generate", toml, "--out", str(tmp_path / "run")]) == 0
    words = ["rollout", toml, "--model", "solver", "--start", start, "--steps", "3", "--batch", "2", "--to"]
    assert main([*words, str(tmp_path / "plain.zarr")]) == 0
    assert main([*words, f"file://{tmp_path}/made.zarr", "--dask", client.scheduler.address]) == 0
    assert_same(fs.open_data(f"file://{tmp_path}/made.zarr"), fs.open_data(tmp_path / "plain.zarr"))


def test_a_flow_that_cannot_be_run_leaves_nothing(threads, toml):
    """As without a cluster: data that these parameters cannot finish do not block those of other parameters."""
    experiment = fs.Experiment.read(toml, ["solver.dt=0.25", "flow.rms=1e6"])
    with pytest.raises(UsageError, match="the solver's state became NaN"):
        fs.generate(experiment, to="memory://none/data.zarr", dask=threads)
    assert not Store("memory://none").exists()


def test_data_that_are_not_resolved_are_refused_before_the_rest_is_made(threads, toml):
    experiment = fs.Experiment.read(toml, ["data.max_resolution_error=0.01", "data.train=40"])
    with pytest.raises(UsageError, match=r"but data\.max_resolution_error = 0\.01: raise grid\.n"):
        fs.generate(experiment, to="memory://coarse/data.zarr", dask=threads)
    assert len(Store("memory://coarse/data.zarr.partial/blocks").read_all_json()) < 22
    assert not Store("memory://coarse/data.zarr").exists("zarr.json")


def block_store(number=0):
    """A store in memory for four trajectories in two blocks, laid out."""
    data = Store(f"memory://unit-{number}/x.zarr")
    work = Store(f"memory://unit-{number}/x.zarr.partial")
    work.write_json("started.json", {"token": "a"})
    store = BlockStore(data, work, "a")
    values = xr.Dataset({"v": (("trajectory", "x"), np.arange(8.0).reshape(4, 2))}, {"trajectory": range(4)})
    store.lay_out(*sharded(values.chunk(trajectory=1), 2))
    return store, values


def test_nothing_half_made_is_taken_for_done():
    store, values = block_store(1)
    for number in range(2):
        at = slice(2 * number, 2 * number + 2)
        store.write(values[["v"]].isel(trajectory=at), {"trajectory": at})
        store.mark(number, {"hashes": {}})
    with pytest.raises(UsageError, match="no Zarr group here, or one that is still being made"):
        fs.open_data(store.data.location)
    assert set(store.markers()) == {0, 1}  # the control
    whole = store.work.read("blocks/1.json")
    store.work.write("blocks/1.json", whole[:-1])  # as a kill leaves it on a file system
    assert set(store.markers()) == {0}
    assert store.marker(1) is None
    store.finish({"title": "done"})
    with fs.open_data(store.data.location) as opened:
        xr.testing.assert_identical(opened.load(), values.assign_attrs(title="done"))
        assert store.hash_content([{}]) == hash_variables(values)


def test_a_worker_of_an_attempt_that_was_given_up_writes_nothing():
    store, values = block_store(2)
    store.work.write_json("started.json", {"token": "b"})
    with pytest.raises(UsageError, match="is no longer being made by this run"):
        store.write(values[["v"]], {"trajectory": slice(0, 4)})
    assert BlockStore(store.data, store.work, "b").markers() == {}
    assert BlockStore(store.data, store.work, "b").layout() is None


def test_large_data_are_hashed_by_their_blocks(monkeypatch):
    store, values = block_store(3)
    store.write(values[["v"]], {"trajectory": slice(0, 4)})
    monkeypatch.setattr("fluidsurrogate.data.block_store.MAX_HASHED_BYTES", 40)
    one, other = store.hash_content([{"v": "1"}, {"v": "2"}]), store.hash_content([{"v": "1"}, {"v": "3"}])
    assert one["v"].startswith("float64 (4, 2) ")
    assert one["v"].endswith("by blocks")
    assert one["v"] != other["v"]
    assert one["trajectory"] == hash_variables(values)["trajectory"]


def test_what_is_not_a_cluster_is_refused_in_one_line(experiment, monkeypatch, tmp_path):
    def refuses(said, **options):
        with pytest.raises(UsageError, match=said) as caught:
            fs.generate(experiment, **options)
        assert len(str(caught.value).splitlines()) == 1

    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    to = tmp_path / "x.zarr"
    refuses("expected local:N", to=to, dask="local:two")
    refuses("expected local:N", to=to, dask="local:0")
    refuses("expected the address of a scheduler", to=to, dask="cluster")
    refuses("no Dask scheduler answers at tcp://127.0.0.1:9", to=to, dask="tcp://127.0.0.1:9")
    refuses(r"or a distributed\.Client \(got int\)", to=to, dask=3)
    refuses("give dask, and either out or to", dask="local:1")
    refuses("give dask, and either out or to", to=to)
    refuses("choose a name that ends in .zarr", to=tmp_path / "x", dask="local:1")
    refuses("choose a name that ends in .zarr", to="memory://bucket", dask="local:1")
    refuses("choose an address that ends in .zarr", to="zip::memory://bucket/x.zarr", dask="local:1")
    refuses("Protocol not known: nowhere", to="nowhere://bucket/x.zarr", dask="local:1")
    Store("memory://mine.zarr").write("precious", b"")
    refuses("exists already and was not made by this command", to="memory://mine.zarr", dask="local:1", force=True)
    monkeypatch.setitem(sys.modules, "distributed", None)
    refuses(r"--dask needs the package distributed: pip install 'fluidsurrogate\[dask\]'", to=to, dask="local:1")
    assert not list(tmp_path.glob("x*"))


def test_the_command_line_refuses_what_makes_no_sense(toml, tmp_path, capsys):
    for said, words in {
        "--to needs --dask": ["generate", toml, "--to", tmp_path / "x.zarr"],
        "--dask needs a forecast from a file": ["rollout", toml, "--dask", "local:1"],
        "names data that exist": ["generate", toml, "--set", "data.path=x.zarr", "--dask", "local:1"],
        "an address of another storage": ["generate", toml, "--out", "s3://bucket/run"],
        "--dask and an address need a Zarr folder": [
            "rollout", toml, "--model", "solver", "--start", "x.nc", "--steps", "2", "--to", "y.nc", "--dask", "local:1"
        ],
    }.items():  # fmt: skip
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1


def test_workers_that_would_compute_other_bits_are_refused(experiment):
    with pytest.raises(UsageError, match=r"torch 1, not 2: install the same versions"):
        cluster.check_versions({"python": "3", "torch": "1"}, {"python": "3", "torch": "2"})
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as local,
        distributed.Client(local) as two,
        pytest.raises(UsageError, match="has 2 threads: start each with one"),
    ):
        fs.generate(experiment, to="memory://threads/x.zarr", dask=two)


def test_addresses_are_told_from_paths():
    assert all(map(is_address, ["s3://bucket/x.zarr", "memory://x", "file:///tmp/x", "zip::s3://x.zip", "gs://a"]))
    assert not any(map(is_address, ["x.zarr", "/a/b", "C:/x", "a:b", "zip::x.zip", Path("s3:/bucket"), 3]))


def test_zarr_is_read_from_zip_files_and_remote_stores(tmp_path):
    """Of versions 2 and 3, at the root of the ZIP file or in a folder; here, or by a chain of fsspec."""
    data = xr.Dataset({"v": (("trajectory", "x"), np.arange(8.0).reshape(4, 2))})
    for version in (2, 3):
        data.to_zarr(tmp_path / f"{version}.zarr", consolidated=False, zarr_format=version)
        for folder in ("", "inner"):
            path = tmp_path / f"{version}{folder}.zarr.zip"
            with zipfile.ZipFile(path, "w") as archive:
                for file in (tmp_path / f"{version}.zarr").rglob("*"):
                    if file.is_file():
                        archive.write(file, Path(folder) / file.relative_to(tmp_path / f"{version}.zarr"))
            with fs.open_data(path) as opened:
                xr.testing.assert_identical(opened.load(), data)
        with fs.open_data(f"zip::file://{tmp_path}/{version}.zarr.zip") as opened:
            xr.testing.assert_identical(opened.load(), data)
        with fs.open_data(f"file://{tmp_path}/{version}.zarr") as opened:
            xr.testing.assert_identical(opened.load(), data)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "no data")
    for path, said in [
        (tmp_path / "other.zip", "unknown data format"),
        (f"file://{tmp_path}/other.zarr", "no such dataset"),
        (f"file://{tmp_path}", "there is no Zarr group here"),
    ]:
        with pytest.raises(UsageError, match=said) as refusal:
            fs.open_data(path)
        assert len(str(refusal.value).splitlines()) == 1
