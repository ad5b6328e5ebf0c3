"""Files as users name them, and files that are broken."""

import os
import pickle
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.cli import main
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.data.grids import grid_of
from fluidsurrogate.data.readers import READERS, Facts, Reader, find_reader, register_reader
from tests.fluidsurrogate import format_samples as samples


def damage(variable):
    """Overwrite the middle of every chunk of a Zarr array."""
    for chunk in (p for p in (variable / "c").rglob("*") if p.is_file()):
        data = bytearray(chunk.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 16] = b"\xff" * 16
        chunk.write_bytes(data)


# -- every reader


@pytest.fixture(params=sorted(name for name, reader in READERS.items() if reader.write_sample is not None))
def reader(request):
    return READERS[request.param]


def small_dataset():
    """Numbers of two types, with coordinates and attributes; large enough that damage hits the values."""
    values = np.random.default_rng(0).standard_normal((3, 4, 16, 16)).astype(np.float32)
    coords = {"time": ("time", [0.0, 0.25, 0.5, 0.75], {"units": "s"}), "trajectory": [4, 5, 6]}
    coords["split"] = ("trajectory", np.array(["train", "train", "test"], dtype=object))
    fields = {
        "vorticity": (("trajectory", "time", "y", "x"), values, {"units": "s-1"}),
        "count": ("time", [1, 2, 3, 4]),
    }
    return xr.Dataset(fields, coords, {"title": "sample"})


@pytest.mark.parametrize("name", ["sample", "sample.nc", "sample.zarr", "sample.txt"])
def test_a_reader_recognises_its_format_by_content_and_reads_lazily(reader, tmp_path, name):
    dataset = small_dataset()
    reader.write_sample(dataset, tmp_path / name)
    found = [r for r in READERS.values() if r.recognises(tmp_path / name)]
    assert [r.name for r in found if r.priority >= reader.priority] == [reader.name]  # of its priority the only one
    assert find_reader(tmp_path / name) is reader
    with fs.open_data(tmp_path / name) as opened:
        assert not opened["vorticity"].variable._in_memory
        part = opened["vorticity"].isel(trajectory=[2, 0], time=slice(1, None, 2))
        np.testing.assert_array_equal(part, dataset["vorticity"][[2, 0], 1::2])
        assert not opened["vorticity"].variable._in_memory
        assert opened["time"].attrs["units"] == "s"  # times stay numbers
        xr.testing.assert_equal(opened.load(), dataset)
    assert fs.info(tmp_path / name)["kind"] == "data set"


def test_a_reader_takes_paths_in_the_home_folder(reader, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    reader.write_sample(small_dataset(), tmp_path / "sample")
    with fs.open_data("~/sample") as opened:
        assert opened.sizes["time"] == 4


def test_a_reader_recognises_nothing_else(reader, tmp_path):
    (tmp_path / "empty file").touch()
    (tmp_path / "text").write_text("CDF, HDF or zarr, in words\n" * 100)
    (tmp_path / "empty folder").mkdir()
    for path in tmp_path.iterdir():
        assert not reader.recognises(path)
        with pytest.raises(UsageError, match=f"{path}: unknown data format; known formats: .*{reader.name}"):
            fs.open_data(path)


def test_a_damaged_file_is_one_line(reader, tmp_path):
    """Each file of a dataset cut off, or overwritten in part: the values as they were, or a UsageError of one line."""
    reader.write_sample(small_dataset(), tmp_path / "whole")
    parts = [p for p in (tmp_path / "whole").rglob("*") if p.is_file()] or [tmp_path / "whole"]
    errors = []
    for number, part in enumerate(parts):
        data = part.read_bytes()
        for damaged in (data[:20], data[: len(data) // 2], data[: len(data) // 2] + b"\xff" * (len(data) // 2)):
            path = tmp_path / f"damaged-{number}-{len(errors)}-{len(damaged)}"
            (shutil.copytree if (tmp_path / "whole").is_dir() else shutil.copy)(tmp_path / "whole", path)
            (path / part.relative_to(tmp_path / "whole")).write_bytes(damaged)
            try:
                with fs.open_data(path) as opened:
                    opened.load()
            except UsageError as error:
                errors.append((path, str(error)))
    assert errors
    assert all(said.startswith(str(path)) and len(said.splitlines()) == 1 for path, said in errors)


def test_a_new_reader_is_one_call(tmp_path, monkeypatch):
    """A format of the user's: recognised by its first bytes, and by its priority before the reader of plain files."""
    monkeypatch.setattr("fluidsurrogate.data.readers.registry.READERS", dict(READERS))

    def is_mine(path):
        return path.read_bytes().startswith(b"MINE")

    register_reader(Reader("plain", is_mine, lambda path, facts: xr.Dataset(attrs={"reader": "plain"})))
    special = register_reader(
        Reader("special", is_mine, lambda path, facts: xr.Dataset(attrs={"reader": "special"}), priority=1)
    )
    (tmp_path / "file").write_bytes(b"MINE: 3")
    assert find_reader(tmp_path / "file") is special
    assert fs.open_data(tmp_path / "file").attrs == {"reader": "special"}


def test_a_file_that_may_not_be_read_is_one_line(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "file").touch()
    monkeypatch.setattr("fluidsurrogate.data.readers.opening.find_reader", denied)
    with pytest.raises(UsageError, match=f"{tmp_path / 'file'}: cannot be read: .*Permission denied"):
        fs.open_data(tmp_path / "file")


# -- every format of other programs


@pytest.fixture(scope="module")
def flow():
    return samples.make_flow()


@pytest.fixture(params=sorted(samples.READ))
def foreign(request):
    """Name of a reader, how to write a sample of its format, and what a user states."""
    return request.param, *samples.READ[request.param]


@pytest.mark.parametrize("name", ["sample", "sample.nc", "sample_s1.h5", "sample.txt"])
def test_a_foreign_format_is_recognised_by_content_and_read_lazily(foreign, flow, tmp_path, name):
    reader, write, given = foreign
    write(tmp_path / name, flow)
    found = find_reader(tmp_path / name)
    assert found.name == reader
    rivals = [r.name for r in READERS.values() if r.recognises(tmp_path / name) and r.priority >= found.priority]
    assert rivals == [reader]
    with fs.open_data(tmp_path / name, Facts(tmp_path / name, given)) as opened:
        fields = [f for f in ("vorticity", "velocity") if f in opened]
        assert fields
        assert not any(opened[field].variable._in_memory for field in fields)
        part = opened[fields[0]].isel(time=slice(1, None, 2)).values
        assert np.isfinite(part).all()
        np.testing.assert_array_equal(part, opened[fields[0]].values[:, 1::2])
        assert grid_of(opened)


def test_a_foreign_format_in_the_home_folder(foreign, flow, tmp_path, monkeypatch):
    reader, write, given = foreign
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "sample", flow)
    with fs.open_data("~/sample", Facts(tmp_path / "sample", given)) as opened:
        assert opened.sizes["time"] > 1, reader


def test_a_damaged_foreign_file_is_one_line(foreign, flow, tmp_path):
    """Cut off or overwritten in part: the values as they were, or a UsageError of one line that names the file."""
    _, write, given = foreign
    write(tmp_path / "whole", flow)
    data, errors = (tmp_path / "whole").read_bytes(), []
    for number, damaged in enumerate((data[:20], data[: len(data) // 2], data[:2000] + b"\xff" * (len(data) - 2000),
                                      data[: len(data) // 2] + b"\xff" * (len(data) // 2))):  # fmt: skip
        path = tmp_path / f"damaged-{number}"
        path.write_bytes(damaged)
        try:
            with fs.open_data(path, Facts(path, given)) as opened:
                opened.load()
        except UsageError as error:
            errors.append((path, str(error)))
    assert len(errors) >= 2
    assert all(said.startswith(str(path)) and len(said.splitlines()) == 1 for path, said in errors)


@pytest.mark.parametrize("reader", sorted(samples.REFUSED))
def test_a_format_that_is_refused_is_one_line(reader, flow, tmp_path):
    samples.REFUSED[reader](tmp_path / "sample", flow)
    assert find_reader(tmp_path / "sample").name == reader
    with pytest.raises(UsageError) as refused:
        fs.open_data(tmp_path / "sample")
    assert str(refused.value).startswith(str(tmp_path / "sample"))
    assert len(str(refused.value).splitlines()) == 1


def test_every_reader_has_a_sample():
    """A reader without a sample of its own writes one here, or its own tests do."""
    elsewhere = {"APEBench data", "neural-operator MATLAB file", "HDF5 file", "NumPy file"}
    with_sample = {name for name, reader in READERS.items() if reader.write_sample is not None}
    assert set(READERS) == with_sample | set(samples.READ) | set(samples.REFUSED) | elsewhere


# -- broken files


def test_a_damaged_chunk_is_one_line_wherever_it_is_read(finished, toml, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    damage(run / "data.zarr" / "vorticity")
    said = f"{run / 'data.zarr'}: variable 'vorticity' cannot be read: "
    for read in (
        lambda: fs.open_data(run / "data.zarr").load(),
        lambda: fs.open_data(run / "data.zarr")["vorticity"].isel(time=[0, 2]).values,
        lambda: fs.open_data(run / "data.zarr").chunk(trajectory=1).mean().compute(),
        lambda: fs.forecast(fs.load(run / "models" / "small-d4"), fs.open_data(run / "data.zarr"), 1),
    ):
        with pytest.raises(UsageError, match="variable 'vorticity' cannot be read") as refusal:
            read()
        assert str(refusal.value).startswith(said)
        assert len(str(refusal.value).splitlines()) == 1
    for stage, result in [("train", "models"), ("rollout", "forecasts.nc")]:
        path = run / result
        shutil.rmtree(path) if path.is_dir() and stage == "train" else path.unlink(missing_ok=True)
        if stage == "rollout":
            shutil.copytree(finished / "models", run / "models", dirs_exist_ok=True)
        capsys.readouterr()
        assert main([stage, str(toml), "--out", str(run)]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(f"fluidsurrogate: {said}")


def test_damaged_labels_and_forecasts(finished, toml, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    damage(run / "data.zarr" / "split")
    assert main(["info", str(run / "data.zarr")]) == 2
    assert f"{run / 'data.zarr'}: " in capsys.readouterr().err
    file = run / "forecasts.nc"
    with fs.open_data(file) as forecasts:
        encoding = forecasts["vorticity"].encoding
        assert encoding["zlib"]
        assert encoding["fletcher32"]
        assert file.stat().st_size < forecasts["vorticity"].nbytes + 40_000
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4096] = b"\xff" * 4096
    file.write_bytes(data)
    (run / "scores.nc").unlink()
    assert main(["compare", str(toml), "--out", str(run)]) == 2
    said = capsys.readouterr().err
    assert f"{file}: " in said
    assert "Traceback" not in said


def test_what_is_opened_is_what_xarray_opens(finished):
    """The guard changes nothing of a whole file: laziness, selections of every kind, chunks, copies, writing."""
    path = finished / "data.zarr"
    plain = xr.open_zarr(path, chunks=None, consolidated=False, decode_timedelta=False)
    opened = fs.open_data(path)
    assert not opened["vorticity"].variable._in_memory
    plain.load()
    assert opened.identical(plain)
    field, expected = opened["vorticity"], plain["vorticity"].values
    assert np.array_equal(field.isel(trajectory=[2, 0], time=slice(1, None, 2)), expected[[2, 0]][:, 1::2])
    points = {"y": xr.DataArray([1, 2], dims="p"), "x": xr.DataArray([3, 0], dims="p")}
    assert np.array_equal(fs.open_data(path)["vorticity"].isel(points), expected[:, :, [1, 2], [3, 0]])
    assert np.array_equal(fs.open_data(path)["vorticity"].chunk(time=1).compute(), expected)
    assert pickle.loads(pickle.dumps(fs.open_data(path))).identical(plain)
    opened["vorticity"][0] = 3.0
    assert (opened["vorticity"][0] == 3.0).all()
    assert np.array_equal(fs.open_data(path)["vorticity"], expected)


def test_a_damaged_record_of_what_is_done(toml, tmp_path, monkeypatch):
    """What an interrupted run left says in one line that it is of no use, and how to begin again."""
    import fluidsurrogate.simulation.generation as generation

    simulate, calls = generation.simulate, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 5:  # the second block of the test trajectories
            raise KeyboardInterrupt
        return simulate(*args)

    with monkeypatch.context() as patch:
        patch.setattr(generation, "simulate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fs.generate(Experiment.read(toml, ["data.test=3", "data.block=2"]), tmp_path)
    folder = tmp_path / "data.zarr.partial"
    left = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for name in set(left) - {"provenance.json"}:
        for bad in (b'{"blocks": -1}', b'{"blocks": 1000, "inner_step": 0.1}', b"[3]", left[name][:5], b"\xff" * 40):
            (folder / name).write_bytes(bad)
            with pytest.raises(UsageError) as refusal:
                fs.generate(Experiment.read(toml, ["data.test=3", "data.block=2"]), tmp_path)
            assert str(folder / name) in str(refusal.value)
            assert len(str(refusal.value).splitlines()) == 1
        (folder / name).write_bytes(left[name])
    assert len(left) == 3
    whole = fs.generate(Experiment.read(toml, ["data.test=3", "data.block=2"]), tmp_path)
    assert (
        whole.attrs["content"] == fs.generate(Experiment.read(toml, ["data.test=3", "data.block=2"])).attrs["content"]
    )


# -- paths


def test_the_home_folder_is_one_place(toml, tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir(), here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    models = fs.train(toml, models=["small-cnn"], out="~/run")
    assert {".lock", "data.zarr", "models"} <= set(os.listdir(home / "run"))
    assert fs.open_data("~/run/data.zarr").sizes["trajectory"] == 6
    assert fs.info("~/run/models/small-cnn")["kind"] == "model"
    fs.save(models["small-cnn"], "~/saved")
    model = fs.load("~/saved")
    fs.forecast_to_zarr(model, fs.open_data("~/run/data.zarr"), 1, "~/forecast.zarr")
    assert (home / "forecast.zarr").is_dir()
    experiment = Experiment.from_tree(Experiment.read(toml).tree() | {"name": "own"}).tree()
    experiment["data"]["path"] = "~/run/data.zarr"
    assert fs.generate(Experiment.from_tree(experiment)).sizes["trajectory"] == 6
    assert main(["generate", str(toml), "--out=~/other"]) == 0
    assert (home / "other" / "data.zarr").is_dir()
    shutil.copy(toml, home / "mine.toml")
    assert Experiment.read("~/mine.toml").name == "miniature"
    start = ["rollout", str(toml), "--out=~/run", "--model=small-cnn", "--start=~/run/data.zarr", "--steps=1"]
    assert main([*start, "--to=~/f.nc"]) == 0
    assert (home / "f.nc").is_file()
    assert os.listdir(here) == []


def test_paths_that_cannot_be(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for path, said in [
        ("a::b/run", "may not hold '::'"),
        ("~nobody-of-this-name/run", "no such home folder"),
        ("x" * 5000, "File name too long"),
        ("a\0b", "no file can have this name"),
        ("\ud800", "no file can have this name"),
    ]:
        with pytest.raises(UsageError, match=said) as refusal:
            as_path(path)
        assert len(str(refusal.value)) < 400
    with pytest.raises(UsageError, match="may not hold '::'"):
        fs.open_data("memory::data.zarr")


def test_paths_in_a_file_are_relative_to_it(finished, toml, tmp_path, monkeypatch):
    """In the experiment's file relative to its folder, on the command line to the current one, from Python as given."""
    shutil.copytree(finished / "data.zarr", tmp_path / "own.zarr")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    text = toml.read_text()
    toml.write_text(
        text.replace("[data]", '[data]\npath = "own.zarr"').replace('kind = "cnn"', 'kind = "cnn"\ninit = "m"')
    )
    monkeypatch.chdir(elsewhere)
    experiment = Experiment.read(toml)
    assert experiment.data.path == str(tmp_path / "own.zarr")
    assert experiment.models["small-cnn"].init == str(tmp_path / "m")
    assert fs.generate(toml).sizes["trajectory"] == 6
    assert Experiment.read(toml, ["data.path=here.zarr"]).data.path == str(elsewhere / "here.zarr")
    assert Experiment.read(toml, ["models.small-cnn.init=hf://a/b"]).models["small-cnn"].init == "hf://a/b"
    tree = experiment.tree()
    tree["data"]["path"] = "given.nc"
    assert Experiment.from_tree(tree).data.path == "given.nc"


def test_a_file_that_is_forgotten_while_another_thread_reads(tmp_path):
    # Garbage collection closes it, in whichever thread it runs. The NetCDF library would end the process.
    fields = {"u": (("time", "y", "x"), np.random.default_rng(0).random((64, 64, 64)))}
    encoding = {"u": {"zlib": True, "chunksizes": (1, 16, 16)}}
    xr.Dataset(fields, None, {f"a{i}": "x" for i in range(9)}).to_netcdf(tmp_path / "a.nc", encoding=encoding)
    code = """
        import gc, sys, threading
        from pathlib import Path
        from fluidsurrogate.data.readers import READERS, Facts
        path, stop = Path(sys.argv[1]), threading.Event()
        gc.disable()

        def opened():
            return READERS["NetCDF file"].open(path, Facts(path))

        def read(data):
            while not stop.is_set():
                data["u"].values

        reader = threading.Thread(target=read, args=[opened()])
        reader.start()
        for _ in range(3):
            several = [opened() for _ in range(8)]
            for data in several:
                data.attrs["itself"] = data  # a cycle, which only the collector ends
                data["u"][0, 0, 0].values
            del data, several
            gc.collect()
        stop.set()
        reader.join()
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), tmp_path / "a.nc"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-500:]


def test_threads_read_a_netcdf_file_at_the_same_time(tmp_path):
    # In a process of its own, because a clash within the NetCDF library ends the process.
    fields = {f"u{i}": (("trajectory", "time", "y", "x"), np.ones((2, 3, 8, 8))) for i in range(4)}
    xr.Dataset(fields, {"time": np.arange(3.0)}, {f"a{i}": "x" for i in range(9)}).to_netcdf(tmp_path / "a.nc")
    code = """
        import sys
        from concurrent.futures import ThreadPoolExecutor
        from pathlib import Path
        from fluidsurrogate.data.readers.dataset_header import open_general
        data = open_general(Path(sys.argv[1]))
        with ThreadPoolExecutor(8) as pool:
            sums = pool.map(lambda i: float(data[f"u{i % 4}"].data.sum().compute(scheduler="sync")), range(120))
            assert set(sums) == {384.0}
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), tmp_path / "a.nc"], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-500:]
