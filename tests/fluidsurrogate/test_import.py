"""Data in other formats: read, converted and written, asked for what is lacking, and refused by name."""

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import cftime
import h5py
import numpy as np
import pytest
import scipy.io
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.cli import main
from fluidsurrogate.data.readers import Facts, open_data
from fluidsurrogate.data.readers.package_layout import lay_out, shift_along
from fluidsurrogate.simulation import importing
from solvers import FLOWS, Grid, NavierStokes2D

FOREIGN = Path(__file__).parents[3] / "shared" / "data" / "foreign"
N, NU, DT = 32, 1e-3, 0.5
needs_foreign = pytest.mark.skipif(not FOREIGN.exists(), reason="the files of other programs are not here")
CENTRES = (np.arange(N) + 0.5) / N
NODES = np.arange(N) / N


def residual(data, number=0, times=4):
    """|S(w_k) - w_(k+1)| / |w_(k+1) - w_k|, the largest of some times, by the classical solver."""
    sides = tuple(data.attrs[f"length_{axis}"] for axis in ("y", "x"))
    forcing = torch.from_numpy(data["forcing"].values) if "forcing" in data else None
    solver = NavierStokes2D(
        Grid(tuple(data.sizes[axis] for axis in ("y", "x")), sides), viscosity=float(data.attrs["viscosity"]),
        interval=float(np.diff(data["time"])[0]), forcing=forcing, dtype=torch.float64, backend="torch",
    )  # fmt: skip
    states = data["vorticity"].isel(trajectory=number, time=slice(0, times)).values.astype(np.float64)
    before, after = (torch.from_numpy(s)[:, None] for s in (states[:-1], states[1:]))
    stepped = solver(before)
    return max(float((s - a).norm() / (a - b).norm()) for s, a, b in zip(stepped, after, before, strict=True))


@pytest.fixture(scope="module")
def made():
    """Two trajectories of a forced flow at the cell centres of the unit square, with the forcing."""
    flow, grid = FLOWS[2]["forced"](viscosity=NU, modes=6), Grid.square(N, 1.0)
    solver = flow.solver(grid, interval=DT, dtype=torch.float64, backend="torch")
    state, states = flow.starts(grid, [1, 2]), []
    for _ in range(5):
        states.append(state[:, 0])
        state = solver(state)
    return torch.stack(states, 1).numpy(), flow.forcing(grid).numpy()


@pytest.fixture
def plain(made):
    """The same as xarray writes it with names of this package."""
    states, forcing = made
    coords = {"time": DT * np.arange(5), "y": CENTRES, "x": CENTRES}
    fields = {"vorticity": (("trajectory", "time", "y", "x"), states), "forcing": (("y", "x"), forcing)}
    return xr.Dataset(fields, coords, {"viscosity": NU})


def refusal(function, *arguments, **options):
    """The one line with which something is refused."""
    with pytest.raises(UsageError) as caught:
        function(*arguments, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def read(*sources, **options):
    """Import for the layout: what the check by physics says of such numbers does not matter."""
    return fs.import_data(*sources, accept=True, **options)


def facts_of(data):
    return {name: (value, source) for name, value, source, _ in json.loads(data.attrs["facts"]) if name != "changed"}


def changes_of(data):
    return " | ".join(value for name, value, _, _ in json.loads(data.attrs["facts"]) if name == "changed")


# -- files of other programs


@needs_foreign
@pytest.mark.parametrize("name", ["fno_V1e-3.mat", "fno_V1e-3_v73.mat"])
@pytest.mark.parametrize("options", [[], ["--to-centres"]])
def test_neural_operator_files_are_read_to_the_right_physics(name, options, tmp_path, capsys, caplog):
    """Also after the exact shift to the cell centres, where the forcing is that of the flow in the TOML."""
    to = tmp_path / "data.zarr"
    assert main(["import", str(FOREIGN / name), "--to", str(to), *options]) == 0
    assert capsys.readouterr().out == f"{to}\n"
    data = fs.open_data(to)
    assert data["vorticity"].dims == ("trajectory", "time", "y", "x")
    assert residual(data) < 1e-3
    assert residual(data.drop_vars("forcing")) > 0.05
    assert (
        residual(data.assign(vorticity=data["vorticity"].copy(data=np.swapaxes(data["vorticity"].values, 2, 3)))) > 0.1
    )
    known = facts_of(data)
    assert known["viscosity"] == (1e-3, "file")
    assert known["length"] == (1.0, "default")
    assert "the state at t = 0, variable a, was put before u" in changes_of(data)
    assert "viscosity    0.001" in caplog.text
    assert "its name only" in caplog.text
    flow = FLOWS[2]["forced"](viscosity=1e-3).forcing(Grid.square(64, 1.0)).numpy()
    assert np.allclose(data["forcing"], flow, atol=1e-12) == bool(options)
    assert ("origin" in data.attrs) != bool(options)


@needs_foreign
def test_apebench_is_read_with_both_splits(tmp_path):
    """Training and test trajectories of different lengths; each split is cut to its own."""
    data = fs.import_data(FOREIGN / "apebench", tmp_path / "data.zarr")
    assert data["split"].values.tolist() == ["train"] * 3 + ["test"] * 2
    assert data.sizes["time"] == 9
    assert residual(data, 0) < 0.01
    assert residual(data, 3) < 0.01
    assert residual(data.assign(vorticity=-data["vorticity"])) > 0.1
    assert np.isnan(data["vorticity"][:3, 7:]).all()
    assert np.isfinite(data["vorticity"][3:]).all()
    assert facts_of(data)["viscosity"] == (1e-3, "file")
    both = fs.import_data(str(FOREIGN / "apebench" / "*.npy"))
    assert both["split"].values.tolist() == ["test"] * 2 + ["train"] * 3
    assert both.attrs["split_times"] == '{"test": 9, "train": 7}'
    tree = {"name": "own", "data": {"path": str(tmp_path / "data.zarr")}}
    assert "data.valid: how many of the 5 trajectories are for what?" in refusal(Experiment.from_tree, tree)
    data = fs.import_data(FOREIGN / "apebench", tmp_path / "three.zarr", split="2,1,2")
    tree["data"]["path"] = str(tmp_path / "three.zarr")
    experiment = Experiment.from_tree(tree)
    assert (experiment.data.steps, experiment.data.test_steps, experiment.data.train) == (6, 8, 2)
    fs.generate(experiment, out=tmp_path / "run")
    assert "must keep them; it has 3 train, 2 test" in refusal(fs.import_data, FOREIGN / "apebench", split="1,1,3")


@needs_foreign
def test_what_a_file_states_may_not_be_contradicted():
    said = refusal(read, FOREIGN / "apebench", viscosity=2e-3)
    assert "states 0.001 as the viscosity, but --viscosity says 0.002" in said
    assert read(FOREIGN / "apebench", viscosity=1e-3).attrs["viscosity"] == 1e-3
    # A name of a file is no statement of its maker.
    assert read(FOREIGN / "fno_V1e-3.mat", viscosity=2e-3).attrs["viscosity"] == 2e-3


def write_matlab(path, version, states, **more):
    """As the published generator lays it out: (n, x, y, t), of which version 7.3 reverses the axes."""
    values = {"u": states.transpose(0, 3, 2, 1), "t": DT * np.arange(1, 6)[None], **more}
    if version == 5:
        scipy.io.savemat(path, values)
        return
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in values.items():
            file[name] = np.transpose(value)
            file[name].attrs["MATLAB_class"] = np.bytes_("double")


@pytest.mark.parametrize("version", [5, 7])
def test_matlab_files_ask_for_the_viscosity(version, made, tmp_path):
    states, _ = made
    write_matlab(tmp_path / "mine.mat", version, states)
    said = refusal(read, tmp_path / "mine.mat")
    assert said.endswith(f"does not state the viscosity: give it, fluidsurrogate import {tmp_path / 'mine.mat'} "
                         "--viscosity VISCOSITY --to FOLDER")  # fmt: skip
    shutil.copy(tmp_path / "mine.mat", tmp_path / "ns_V1000_N2.mat")  # a Reynolds number, or what?
    assert "does not state the viscosity" in refusal(read, tmp_path / "ns_V1000_N2.mat")
    data = read(tmp_path / "mine.mat", viscosity=NU)
    np.testing.assert_array_equal(data["vorticity"], states)
    assert "forcing" in data
    without = read(tmp_path / "mine.mat", viscosity=NU, names={"forcing": "none"})
    assert "forcing" not in without
    swapped = read(tmp_path / "mine.mat", viscosity=NU, axes="n y x t")
    np.testing.assert_array_equal(swapped["vorticity"], states.swapaxes(2, 3))


@pytest.mark.parametrize("version", [5, 7])
def test_pairs_are_refused(version, tmp_path):
    write_matlab(tmp_path / "darcy.mat", version, np.ones((2, 3, 4, 5)))
    scipy.io.savemat(tmp_path / "darcy.mat", {"coeff": np.ones((2, 8, 8)), "sol": np.ones((2, 8, 8))})
    assert "pairs of inputs and solutions" in refusal(read, tmp_path / "darcy.mat")
    scipy.io.savemat(tmp_path / "other.mat", {"field": np.ones((2, 8, 8, 3))})
    assert "which variable is the vorticity over time" in refusal(read, tmp_path / "other.mat")


# -- plain files


def test_other_names_axes_and_units(plain, tmp_path):
    """Other names, x first, descending, in kilometres and hours, with the end repeated: the same data again."""
    turned = plain.isel(x=slice(None, None, -1)).transpose("trajectory", "time", "x", "y", ...)
    repeated = xr.concat([turned, turned.isel(y=[0])], "y")
    other = xr.Dataset(
        {"vort": (("sample", "t", "X", "Y"), repeated["vorticity"].values)},
        {
            "t": ("t", plain["time"].values / 3600, {"units": "h"}),
            "X": ("X", (CENTRES - CENTRES[0])[::-1] / 1000, {"units": "km"}),
            "Y": ("Y", np.append(NODES, 1.0) / 1000, {"units": "km"}),
        },
        {"nu": NU},
    )
    other.to_netcdf(tmp_path / "other.nc")
    data = read(tmp_path / "other.nc", tmp_path / "data.zarr")
    np.testing.assert_array_equal(data["vorticity"], plain["vorticity"])
    np.testing.assert_allclose(data["x"], CENTRES)
    np.testing.assert_allclose(data["time"], plain["time"])
    np.testing.assert_allclose(data.attrs["origin"], [-0.5 / N, -0.5 / N])
    assert data.attrs["viscosity"] == NU
    for said in ("time was in h and is now in s", "y was in km", "x was descending",
                 "the last sample along y repeats the first and was dropped, 32 are left"):  # fmt: skip
        assert said in changes_of(data)
    np.testing.assert_array_equal(fs.open_data(tmp_path / "other.nc")["vorticity"], plain["vorticity"])


def test_an_end_that_is_not_equal_is_kept(plain, tmp_path):
    values = np.concatenate([plain["vorticity"].values, plain["vorticity"].values[..., :1] + 1e-9], axis=-1)
    coords = {"time": plain["time"], "y": CENTRES, "x": np.append(NODES, 1.0)}
    xr.Dataset({"vorticity": (("trajectory", "time", "y", "x"), values)}, coords).to_netcdf(tmp_path / "odd.nc")
    assert "n must be even" in refusal(read, tmp_path / "odd.nc")


def test_a_single_trajectory_and_dates(plain, tmp_path):
    one = plain.isel(trajectory=0).drop_vars("forcing")
    one.to_netcdf(tmp_path / "one.nc")
    assert read(tmp_path / "one.nc")["vorticity"].dims == ("trajectory", "time", "y", "x")
    dates = np.datetime64("2020-01-01T00:00:00", "ns") + (np.arange(5) * 1_500_000_000).astype("m8[ns]")
    one.assign_coords(time=dates).to_netcdf(tmp_path / "dates.nc")
    data = read(tmp_path / "dates.nc")
    np.testing.assert_allclose(data["time"], 1.5 * np.arange(5))
    assert "since 2020-01-01T00:00:00" in changes_of(data)
    other = [cftime.Datetime360Day(2000, 2, 28 + i) for i in range(3)]
    one.isel(time=slice(3)).assign_coords(time=other).to_netcdf(tmp_path / "cftime.nc")
    np.testing.assert_allclose(read(tmp_path / "cftime.nc")["time"], 86400.0 * np.arange(3))
    one.assign_coords(time=[0.0, 0.5, 1.0, 1.5, 2.6]).to_netcdf(tmp_path / "uneven.nc")
    assert "time is not evenly spaced, from 0.5 to 1.1" in refusal(read, tmp_path / "uneven.nc")


@pytest.mark.parametrize("names", [("lat", "lon"), ("latitude", "longitude"), ("y", "x")])
def test_latitude_longitude_is_refused_by_name(names, plain, tmp_path, toml):
    """Also under other names: today's advice for a renamed one, sortby('y'), would make it worse."""
    sphere = plain.drop_vars("forcing").rename(y=names[0], x=names[1])
    sphere = sphere.assign_coords({names[0]: np.linspace(90, -90, N), names[1]: 360 * NODES})
    sphere.to_netcdf(tmp_path / "era.nc")
    said = refusal(read, tmp_path / "era.nc")
    assert "latitude–longitude grid has poles" in said
    for call in (
        lambda: fs.train(toml, tmp_path / "era.nc"),
        lambda: fs.train(toml, fs.open_data(tmp_path / "era.nc")),
    ):
        said = refusal(call)
        assert "latitude" in said
        assert "sortby" not in said


def test_a_box_of_so_many_metres_is_no_globe(plain, tmp_path):
    """The control of the one above: 180 m by 360 m."""
    flat = plain.drop_vars("forcing")
    flat.assign_coords(y=-90 + 180 * CENTRES, x=360 * NODES).to_netcdf(tmp_path / "globe.nc")
    assert "look like latitude and longitude" in refusal(read, tmp_path / "globe.nc")
    units = {"units": "m"}
    flat = flat.assign_coords(y=("y", -90 + 180 * CENTRES, units), x=("x", 360 * NODES, units))
    flat.to_netcdf(tmp_path / "flat.nc")
    np.testing.assert_allclose(read(tmp_path / "flat.nc").attrs["origin"], [-90, -180 / N])


def test_layers_are_refused_by_name(plain, tmp_path):
    layers = plain.drop_vars("forcing").expand_dims(lev=2)
    layers.to_netcdf(tmp_path / "layers.nc")
    assert "has 2 layers along 'lev'" in refusal(read, tmp_path / "layers.nc")
    layers.isel(lev=[0]).to_netcdf(tmp_path / "layer.nc")
    np.testing.assert_array_equal(read(tmp_path / "layer.nc")["vorticity"], plain["vorticity"])


@pytest.mark.parametrize("kind", ["nc", "h5", "zarr"])
def test_groups(kind, plain, tmp_path):
    path = tmp_path / f"grouped.{kind}"
    if kind == "zarr":
        plain.to_zarr(path, group="fields/run", consolidated=False)
    elif kind == "nc":
        plain.to_netcdf(path, group="fields/run")
    else:
        with h5py.File(path, "w") as file:
            group = file.create_group("fields/run")
            for name, variable in plain.variables.items():
                group[name] = variable.values
            for name in ("time", "y", "x"):
                group[name].make_scale(name)
            for axis, name in enumerate(("time", "y", "x")):
                group["vorticity"].dims[axis + 1].attach_scale(group[name])
            group["vorticity"].dims[0].label = "trajectory"
            for axis, name in enumerate(("y", "x")):
                group["forcing"].dims[axis].attach_scale(group[name])
            file.attrs["viscosity"] = NU
    data = read(path, tmp_path / "data.zarr")
    np.testing.assert_array_equal(data["vorticity"], plain["vorticity"])
    np.testing.assert_array_equal(data["forcing"], plain["forcing"])
    assert facts_of(data)["group"] == ("fields/run", "file")
    if kind == "nc":
        (2 * plain).to_netcdf(path, group="fields/other", mode="a")
        assert "which group holds the states? It has fields/other, fields/run" in refusal(read, path)
        data = read(path, names={"vorticity": "fields/other/vorticity"})
        np.testing.assert_array_equal(data["vorticity"], 2 * plain["vorticity"])


def test_types_and_filters(plain, tmp_path):
    """Half precision and LZF, which only h5py reads; packed integers; big-endian numbers."""
    states = plain["vorticity"].values
    with h5py.File(tmp_path / "half.h5", "w") as file:
        file.create_dataset("vort", data=states.astype("f2"), compression="lzf")
        file["x"], file["y"], file["t"] = CENTRES, CENTRES, DT * np.arange(5)
    assert "which axis of 'vort'" in refusal(read, tmp_path / "half.h5")
    data = read(tmp_path / "half.h5", axes="n t y x")
    assert data["vorticity"].dtype == np.float32
    assert "was float16 and is now float32" in changes_of(data)
    np.testing.assert_array_equal(data["vorticity"], states.astype("f2").astype("f4"))
    packing = {"dtype": "i2", "scale_factor": 1e-4, "_FillValue": -32768}
    plain.to_netcdf(tmp_path / "packed.nc", encoding={"vorticity": packing})
    data = read(tmp_path / "packed.nc", tmp_path / "packed.zarr")
    np.testing.assert_allclose(data["vorticity"], states, atol=6e-5)
    assert not set(data["vorticity"].attrs) & {"scale_factor", "_FillValue"}
    np.save(tmp_path / "vort.npy", states.astype(">f4"))
    data = read(tmp_path / "vort.npy", tmp_path / "big.zarr", axes="n t y x", length=1, interval=DT)
    np.testing.assert_array_equal(data["vorticity"], states.astype("f4"))


def test_numpy_files_ask_one_thing_after_the_other(plain, tmp_path):
    states = plain["vorticity"].values
    np.save(tmp_path / "mine.npy", states.transpose(0, 3, 2, 1))
    options, said = {}, []
    for name, value in {"axes": "n x y t", "length": 1.0, "interval": DT}.items():
        said.append(refusal(read, tmp_path / "mine.npy", **options))
        options[name] = value
    assert ["--map" in said[0], "--length" in said[1], "--interval" in said[2]] == [True] * 3
    data = read(tmp_path / "mine.npy", **options)
    np.testing.assert_array_equal(data["vorticity"], states)
    assert facts_of(data)["samples"] == ("at the cell centres", "default")
    assert "vorticity = mine" in str(facts_of(data)["variables"])
    np.savez(tmp_path / "mine.npz", vx=states, vy=2 * states, t=DT * np.arange(5), x=CENTRES, y=NODES, nu=NU)
    data = read(tmp_path / "mine.npz", axes="n t y x")
    assert data["velocity"].dims == ("trajectory", "time", "component", "y", "x")
    np.testing.assert_array_equal(data["velocity"].sel(component="y"), 2 * states)
    np.testing.assert_allclose(data.attrs["origin"], [-0.5 / N, 0])
    assert data.attrs["viscosity"] == NU
    assert "names 3 axes" in refusal(read, tmp_path / "mine.npz", axes="n y x")
    assert "one letter an axis" in refusal(read, tmp_path / "mine.npz", axes="n t y q")


def test_no_pickle_is_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "evil"),)

    np.save(tmp_path / "evil.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "evil.npz", vorticity=np.array([Evil()], dtype=object), allow_pickle=True)
    for name in ("evil.npy", "evil.npz"):
        assert f"{tmp_path / name}: the NumPy file cannot be opened" in refusal(read, tmp_path / name)
    assert not (tmp_path / "evil").exists()


def test_a_mean_flow_becomes_an_input(plain, tmp_path):
    eddies = plain["vorticity"].values - plain["vorticity"].values.mean((-2, -1), keepdims=True)
    coords = {"t": plain["time"].values, "y": CENTRES, "x": CENTRES}
    fields = {"u": (("n", "t", "y", "x"), eddies + 0.5), "v": (("n", "t", "y", "x"), eddies)}
    xr.Dataset(fields, coords).to_netcdf(tmp_path / "mean.nc")
    data = read(tmp_path / "mean.nc", tmp_path / "mean.zarr", viscosity=NU)
    np.testing.assert_allclose(data["mean_velocity"], [[0.5, 0]] * 2, atol=1e-12)
    np.testing.assert_allclose(data["velocity"].sel(component="x"), eddies, atol=1e-12)
    assert "the mean flow, 0.5" in changes_of(data)
    experiment = Experiment.from_tree({"name": "own", "data": {"path": str(tmp_path / "mean.zarr"), "train": 1,
                                                               "valid": 1, "test": 1}})  # fmt: skip
    assert [field.name for field in experiment.spec.inputs] == ["mean_velocity"]
    assert experiment.data.state == "velocity"


def test_a_zip_and_an_address(plain, tmp_path):
    plain.to_zarr(tmp_path / "data.zarr", consolidated=False)
    shutil.make_archive(str(tmp_path / "data"), "zip", tmp_path / "data.zarr")
    for source in (tmp_path / "data.zip", f"file://{tmp_path / 'data.zarr'}"):
        np.testing.assert_array_equal(read(source)["vorticity"], plain["vorticity"])
        np.testing.assert_array_equal(fs.open_data(source)["vorticity"], plain["vorticity"])


# -- several files


def test_files_in_folders_are_splits(plain, tmp_path):
    for split, number in (("train", 0), ("valid", 1), ("test", 0)):
        (tmp_path / "all" / split).mkdir(parents=True)
        plain.isel(trajectory=[number]).to_netcdf(tmp_path / "all" / split / "states.nc")
    (tmp_path / "all" / "README.txt").write_text("not data")
    data = read(tmp_path / "all", split="folder")
    assert data["split"].values.tolist() == ["test", "train", "valid"]
    np.testing.assert_array_equal(data["vorticity"], plain["vorticity"].values[[0, 0, 1]])
    np.testing.assert_array_equal(data["forcing"], plain["forcing"])
    assert read(tmp_path / "all", split="1,1,1")["split"].values.tolist() == ["train", "valid", "test"]
    assert "these are 9 trajectories, but there are 3" in refusal(read, tmp_path / "all", split="7,1,1")
    (tmp_path / "none").mkdir()
    assert "holds no file of a known format" in refusal(read, tmp_path / "none")
    assert "no file matches it" in refusal(read, tmp_path / "*.foo")


def test_pieces_in_time_are_joined_in_the_order_of_their_numbers(plain, tmp_path):
    one = plain.isel(trajectory=0)
    for number, part in ((9, slice(0, 2)), (10, slice(2, 3)), (11, slice(3, 5))):
        one.isel(time=part).to_netcdf(tmp_path / f"part_{number}.nc")
    data = read(tmp_path / "part_*.nc", tmp_path / "data.zarr")
    np.testing.assert_array_equal(data["vorticity"], plain["vorticity"][:1])
    np.testing.assert_array_equal(data["forcing"], plain["forcing"])
    np.testing.assert_allclose(data["time"], plain["time"])


def test_files_that_do_not_fit_together(plain, tmp_path):
    plain.to_netcdf(tmp_path / "a.nc")
    plain.isel(x=slice(0, N // 2)).to_netcdf(tmp_path / "b.nc")
    plain.assign_coords(time=2 * plain["time"]).to_netcdf(tmp_path / "c.nc")
    plain.isel(time=slice(0, 3)).to_netcdf(tmp_path / "d.nc")
    for name, said in (("b", "another grid along x"), ("c", "are 1 s apart"), ("d", "has 3 times, others 5")):
        assert said in refusal(read, [tmp_path / "a.nc", tmp_path / f"{name}.nc"])
    plain.assign_attrs(viscosity=2 * NU).to_netcdf(tmp_path / "e.nc")
    data = read([tmp_path / "a.nc", tmp_path / "e.nc"], tmp_path / "ae.zarr")
    np.testing.assert_array_equal(data["viscosity"], [NU, NU, 2 * NU, 2 * NU])
    assert "viscosity" not in data.attrs


# -- writing


def test_an_import_that_was_interrupted_goes_on(tmp_path, monkeypatch):
    """To the same values; what was written is not read again; another import is refused."""
    values = np.random.default_rng(0).standard_normal((5, 4, 16, 16)).astype("f4")
    np.save(tmp_path / "vort.npy", values)
    monkeypatch.setattr(importing, "BLOCK_BYTES", 2 * values[0].nbytes)
    options = {"axes": "n t y x", "length": 1.0, "interval": 0.1}
    write, done = importing.write_json, []

    def interrupted(path, value):
        write(path, value)
        done.append(value)
        if value == {"blocks": 2}:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(importing, "write_json", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read(tmp_path / "vort.npy", tmp_path / "data.zarr", **options)
    assert not (tmp_path / "data.zarr").exists()
    chunks = tmp_path / "data.zarr.partial" / "result" / "vorticity" / "c"
    before = {path: path.stat().st_mtime_ns for path in chunks.rglob("*") if path.is_file()}
    data = read(tmp_path / "vort.npy", tmp_path / "data.zarr", **options)
    np.testing.assert_array_equal(data["vorticity"], values)
    assert len(before) == 4
    moved = {tmp_path / "data.zarr" / path.relative_to(chunks.parents[1]): at for path, at in before.items()}
    assert all(path.stat().st_mtime_ns == at for path, at in moved.items())
    assert not (tmp_path / "data.zarr.partial").exists()
    again = read(tmp_path / "vort.npy", tmp_path / "data.zarr", **options)
    assert again.attrs["content"] == data.attrs["content"]
    with pytest.raises(UsageError, match="was made from other inputs"):
        read(tmp_path / "vort.npy", tmp_path / "data.zarr", **{**options, "length": 2.0})
    read(tmp_path / "vort.npy", tmp_path / "data.zarr", **{**options, "length": 2.0}, force=True)
    assert "ends in .zarr" in refusal(read, tmp_path / "vort.npy", tmp_path / "data", **options)
    (tmp_path / "other.zarr").mkdir()
    assert "is not a Zarr folder" in refusal(read, tmp_path / "vort.npy", tmp_path / "other.zarr", **options)


def test_memory_is_flat(tmp_path, monkeypatch):
    """128 MiB, x first, are transposed and written in blocks; they count as too large to be hashed."""
    monkeypatch.setattr(importing, "MAX_HASHED_BYTES", 2**20)
    monkeypatch.setattr(importing, "CHECKED_BYTES", 2**22)
    path = tmp_path / "vort.npy"
    np.lib.format.open_memmap(path, "w+", np.float32, (2, 256, 256, 256)).flush()
    tracemalloc.start()
    try:
        data = read(path, tmp_path / "data.zarr", axes="n t x y", length=1, interval=0.1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert data["vorticity"].nbytes == 2**27
    assert peak < 2**26


def test_the_command_line(plain, tmp_path, capsys):
    np.save(tmp_path / "w.npy", plain["vorticity"].values)
    command = ["import", str(tmp_path / "w.npy"), "--to", str(tmp_path / "w.zarr")]
    options = [
        "--axes",
        "n t y x",
        "--length",
        "1",
        "1",
        "--viscosity",
        "1e-3",
        "--interval",
        "0.5",
        "--split",
        "1,0,1",
    ]
    assert main([*command, *options, "--map", "vorticity=w", "--format", "numpy"]) == 0
    data = fs.open_data(tmp_path / "w.zarr")
    assert data["split"].values.tolist() == ["train", "test"]
    assert residual(data.assign(forcing=plain["forcing"])) < 1e-6
    assert facts_of(data)["viscosity"] == (1e-3, "flag")
    for wrong, said in (
        (["--map", "vorticity"], "give NAME=THEIRS"), (["--format", "foo"], "names no format; take one of"),
        (["--split", "a"], "give the numbers of trajectories"), (["--length", "-1"], "give one positive number"),
    ):  # fmt: skip
        capsys.readouterr()
        assert main([*command, *options, "--force", *wrong]) == 2
        assert said in capsys.readouterr().err.splitlines()[-1]
    assert ["viscosity", 1e-3, "flag", ""] in fs.info(tmp_path / "w.zarr")["facts"]
    capsys.readouterr()
    assert main(["info", str(tmp_path / "w.zarr")]) == 0
    assert "imported      viscosity 0.001 (flag)" in capsys.readouterr().out


# -- the check by physics


@needs_foreign
def test_another_reading_is_refused_and_an_accepted_one_says_so_for_ever(tmp_path):
    options = {"axes": "n y x t"}  # x is first in these files
    said = refusal(fs.import_data, FOREIGN / "fno_V1e-3.mat", tmp_path / "wrong.zarr", **options)
    assert "another reading: axes exchanged, or the sign changed" in said
    assert "--accept" in said
    assert not (tmp_path / "wrong.zarr").exists()
    fs.import_data(FOREIGN / "fno_V1e-3.mat", tmp_path / "wrong.zarr", accept=True, **options)
    assert json.loads(fs.open_data(tmp_path / "wrong.zarr").attrs["physics_check"])["accepted"]
    again = fs.import_data(tmp_path / "wrong.zarr", tmp_path / "again.zarr")
    assert json.loads(again.attrs["physics_check"])["accepted"]
    right = json.loads(fs.import_data(FOREIGN / "fno_V1e-3.mat").attrs["physics_check"])
    assert (right["verdict"], right["accepted"]) == ("consistent", False)


# -- experiments on such data


@pytest.fixture
def own(plain, tmp_path):
    """A file with all that an experiment needs, and the table of an experiment that says the least."""
    plain.assign_coords(split=("trajectory", ["train", "valid"])).to_netcdf(tmp_path / "own.nc")
    with fs.open_data(tmp_path / "own.nc") as opened:
        one = opened.load()
    # A shift along the lines of equal forcing makes other trajectories of the same flow.
    other = one.assign(vorticity=one["vorticity"].roll(y=5, x=-5))
    both = xr.concat([one, other], "trajectory", data_vars="minimal")
    both = both.assign_coords(split=("trajectory", np.array(["train", "valid", "test", "train"], dtype=object)))
    both.to_netcdf(tmp_path / "own.nc")
    model = {"small": {"kind": "cnn", "width": 4}}
    return {"name": "own", "data": {"path": str(tmp_path / "own.nc")}, "models": model,
            "train": {"steps": 2, "warmup": 1, "batch": 2, "unroll": [1]}}  # fmt: skip


def test_an_experiment_takes_from_the_file_what_it_does_not_say(own, caplog):
    experiment = Experiment.from_tree(own)
    assert experiment.grid.build() == Grid.square(N, 1.0)
    assert (experiment.flow.kind, experiment.build_flow().viscosity) == ("given", NU)
    assert (experiment.data.train, experiment.data.steps, experiment.data.interval) == (2, 4, DT)
    assert [field.name for field in experiment.spec.inputs] == ["forcing"]
    assert 'flow.kind = "given", flow.viscosity = 0.001, flow.has_forcing = true' in caplog.text
    assert Experiment.from_tree(experiment.tree()) == experiment
    assert fs.train(experiment, own["data"]["path"])["small"].spec == experiment.spec


def test_what_the_experiment_says_may_not_contradict_the_file(own, tmp_path):
    """Refused by generate, and not only by train."""
    for table, said in (
        ({"grid": {"n": 16, "length": 1.0}}, "the dataset's grid is 32 x 32"),
        ({"grid": {"n": N, "length": 2.0}}, "the dataset's grid is 32 x 32"),
        ({"flow": {"kind": "given", "viscosity": 2e-3, "has_forcing": True}}, "has viscosity = 0.002"),
        ({"flow": {"kind": "decaying", "viscosity": NU}}, "the dataset's 'forcing' is not zero"),
        (
            {"flow": {"kind": "forced", "amplitude": 0.2}},
            "the forcing in the data is not that of the experiment's flow",
        ),
        ({"data": {**own["data"], "interval": 1.0}}, "the dataset's interval is 0.5; expected 1"),
        ({"train": {**own["train"], "unroll": [1, 7]}}, "training of small reaches over 7 intervals"),
    ):
        experiment = Experiment.from_tree({**own, **table})
        assert said in refusal(fs.generate, experiment, out=tmp_path / "run")
    right = {**own, "flow": {"kind": "forced", "viscosity": NU}}
    assert fs.generate(Experiment.from_tree(right), out=tmp_path / "run").sizes["trajectory"] == 4


def test_generate_refuses_values_that_are_not_finite(own, tmp_path):
    with fs.open_data(own["data"]["path"]) as opened:
        data = opened.load()
    data["vorticity"][1, 2, 3, 4] = np.nan
    data.to_netcdf(tmp_path / "bad.nc")
    own["data"]["path"] = str(tmp_path / "bad.nc")
    said = refusal(fs.generate, Experiment.from_tree(own), out=tmp_path / "run")
    assert "NaN" in said or "finite" in said


def test_a_forcing_of_the_experiment_is_at_the_points_of_the_samples(made, own, tmp_path):
    """At nodes for samples at nodes, whatever counts as the centre of the box."""
    _, forcing = made
    with fs.open_data(own["data"]["path"]) as opened:
        data = opened.load().drop_vars("forcing")
    shifted = data.assign_coords(x=NODES, y=NODES)  # a flow whose forcing lies half a cell elsewhere
    shifted.to_netcdf(tmp_path / "nodes.nc")
    tree = {**own, "flow": {"kind": "forced"}, "data": {"path": str(tmp_path / "nodes.nc")}}
    opened = fs.generate(Experiment.from_tree(tree))
    y, x = np.meshgrid(NODES, NODES, indexing="ij")
    expected = 0.1 * (np.sin(2 * np.pi * (x + y)) + np.cos(2 * np.pi * (x + y)))
    np.testing.assert_allclose(opened["forcing"], expected, atol=1e-12)
    tree["data"] = own["data"]
    np.testing.assert_allclose(fs.generate(Experiment.from_tree(tree))["forcing"], forcing, atol=1e-12)


def test_what_is_lacking_is_asked_for(own, tmp_path):
    with fs.open_data(own["data"]["path"]) as opened:
        silent = opened.load().drop_attrs().drop_vars("split")
    silent.to_netcdf(tmp_path / "silent.nc")
    own["data"] = {"path": str(tmp_path / "silent.nc")}
    assert "data.train, data.valid, data.test: how many of the 4" in refusal(Experiment.from_tree, own)
    own["data"] |= {"train": 2, "valid": 1, "test": 1}
    assert "does not state its viscosity" in refusal(Experiment.from_tree, own)
    own["flow"] = {"viscosity": NU}
    assert Experiment.from_tree(own).build_flow().viscosity == NU


# -- helpers of readers


def test_the_shift_is_exact_and_its_own_inverse(made):
    states, _ = made
    variable = xr.Variable(("time", "y", "x"), states[0])
    there = shift_along(shift_along(variable, "x", 0.5), "y", -0.25)
    back = shift_along(shift_along(there, "y", 0.25), "x", -0.5)
    np.testing.assert_allclose(back.values, states[0], atol=1e-12)
    wave = xr.Variable(("x",), np.sin(2 * np.pi * 5 * NODES + 0.3))
    np.testing.assert_allclose(shift_along(wave, "x", 0.5).values, np.sin(2 * np.pi * 5 * CENTRES + 0.3), atol=1e-12)


def test_axes():
    array = np.arange(2 * 3 * 1 * 4 * 5).reshape(2, 3, 1, 4, 5)
    made = lay_out(array, "n t 1 x y")
    assert made.sizes == {"trajectory": 2, "time": 3, "y": 5, "x": 4}
    np.testing.assert_array_equal(made.values, array[:, :, 0].swapaxes(2, 3))
    assert "the axis called 1" in refusal(lay_out, array, "1 t n x y")


def test_facts_without_a_file_are_kept_apart(tmp_path, plain):
    """Whoever only opens a file is not asked; whoever trains on it is."""
    plain.rename(vorticity="field").to_netcdf(tmp_path / "odd.nc")
    assert "field" in fs.open_data(tmp_path / "odd.nc")
    assert "which variable is the vorticity" in refusal(open_data, tmp_path / "odd.nc", Facts(tmp_path / "odd.nc"))


def test_a_killed_import_leaves_nothing_half_made(tmp_path):
    """SIGKILL in the middle; the same command ends it."""
    values = np.random.default_rng(0).standard_normal((6, 4, 16, 16)).astype("f4")
    np.save(tmp_path / "vort.npy", values)
    code = (
        "import os, signal, sys\n"
        "from fluidsurrogate.simulation import importing\n"
        "write = importing.write_json\n"
        "importing.BLOCK_BYTES = 8192\n"
        "def killed(path, value):\n"
        "    write(path, value)\n"
        "    if value == {'blocks': 1}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "importing.write_json = killed\n"
        f"importing.import_data({str(tmp_path / 'vort.npy')!r}, {str(tmp_path / 'data.zarr')!r}, axes='n t y x', "
        "length=1.0, interval=0.1)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == -9
    assert (tmp_path / "data.zarr.partial" / "progress.json").exists()
    command = ["import", str(tmp_path / "vort.npy"), "--to", str(tmp_path / "data.zarr"), "--axes", "n t y x"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "BLOCK_BYTES", 8192)
        assert main([*command, "--length", "1", "--interval", "0.1"]) == 0
    np.testing.assert_array_equal(fs.open_data(tmp_path / "data.zarr")["vorticity"], values)
