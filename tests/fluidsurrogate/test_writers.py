"""What other programs read: every value, place, time and number comes back bit for bit; refusals; whole files."""

import json
import os

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
import yaml

import fluidsurrogate as fs
from fluidsurrogate import UsageError
from fluidsurrogate.cli import main
from fluidsurrogate.data.conversion import to_dataset
from fluidsurrogate.data.readers import READERS
from fluidsurrogate.data.writers import WRITERS, source
from solvers import (
    FORCING,
    MEAN_VELOCITY,
    TRACER,
    VELOCITY,
    VISCOSITY,
    VORTICITY,
    FieldSpec,
    Grid,
    StateSpec,
    field_in,
)

FORMATS = ("well", "pdebench", "npy", "netcdf")
N_TIMES = 3
SPLIT = ["train", "train", "valid", "test"]


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def dataset_of(fields, inputs=None, grid=None, seed=1, **attributes):
    """Four trajectories of random fields at three times."""
    grid = grid or Grid((8, 10), (1.0, 2.0))
    spec = StateSpec(grid, tuple(fields), 0.25, tuple(inputs or ()))
    given = {f.name: random(4, f.components, *f.extent(grid), seed=2) for f in spec.inputs}
    states = random(4, N_TIMES, spec.components, *grid.n, seed=seed)
    labels = {"split": ("trajectory", np.array(SPLIT, dtype=object), {"long_name": "part of the dataset"})}
    return to_dataset(spec, states, start_time=0.1, inputs=given, coordinates=labels, attributes=attributes)


@pytest.fixture
def plane():
    """Vorticity and tracer in a rectangle, with a forcing, a mean velocity, and a viscosity for each trajectory."""
    return dataset_of((VORTICITY, TRACER), (FORCING, MEAN_VELOCITY, VISCOSITY), drag=0.5)


@pytest.fixture
def square():
    """Vorticity alone in a square, which every format holds."""
    return dataset_of((VORTICITY,), grid=Grid.square(8), viscosity=0.01)


@pytest.fixture
def space():
    """Velocity and tracer in a box of three unequal sides."""
    return dataset_of((field_in(VELOCITY, 3), field_in(TRACER, 3)), grid=Grid((8, 10, 12), (1.0, 2.0, 3.0)))


def files_below(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# -- The Well


def test_the_well_has_x_first_and_pseudoscalars_as_tensors(plane, tmp_path):
    written = fs.export_data(plane, tmp_path / "mine", "well")
    assert [str(path.relative_to(tmp_path)) for path in written] == [
        "mine/data/train/mine.hdf5", "mine/data/valid/mine.hdf5", "mine/data/test/mine.hdf5", "mine/stats.yaml",
    ]  # fmt: skip
    for part, chosen in (("train", [0, 1]), ("valid", [2]), ("test", [3])):
        ours = plane.isel(trajectory=chosen)
        with h5py.File(tmp_path / f"mine/data/{part}/mine.hdf5") as file:
            assert file.attrs["n_trajectories"] == len(chosen)
            assert list(file["dimensions"].attrs["spatial_dims"]) == ["x", "y"]
            for name in ("time", "x", "y"):
                np.testing.assert_array_equal(file["dimensions"][name], ours[name])
                assert file["dimensions"][name].dtype == np.float64
            for name, dims in (("vorticity", ("trajectory", "time")), ("forcing", ("trajectory",))):
                tensor = file["t2_fields"][name][()]
                values = ours[name].transpose(*dims, "x", "y").values
                assert tensor.dtype == values.dtype == np.float32
                np.testing.assert_array_equal(tensor[..., 0, 1], values)
                np.testing.assert_array_equal(tensor, -tensor.swapaxes(-1, -2))
            tracer = ours["tracer"].transpose("trajectory", "time", "x", "y")
            np.testing.assert_array_equal(file["t0_fields/tracer"], tracer)
            np.testing.assert_array_equal(file["t1_fields/mean_velocity"], ours["mean_velocity"])
            assert list(file["t1_fields/mean_velocity"].attrs["dim_varying"]) == [False, False]
            np.testing.assert_array_equal(file["scalars/viscosity"], ours["viscosity"])
            assert float(file["scalars/drag"][()]) == 0.5


def test_the_wells_vorticity_is_the_curl_of_its_velocity(tmp_path):
    """A vortex that turns anticlockwise: the component (x, y) is ∂v/∂x − ∂u/∂y, and positive."""
    grid = Grid.square(16)
    y, x = (m.double() for m in grid.mesh())
    state = torch.stack([torch.cos(x) * torch.sin(y), -torch.sin(x) * torch.cos(y), -2 * torch.cos(x) * torch.cos(y)])
    spec = StateSpec(grid, (VELOCITY, VORTICITY), 0.25)
    dataset = to_dataset(spec, state.broadcast_to(1, 2, 3, 16, 16).clone(), attributes={"viscosity": 0.01})
    fs.export_data(dataset, tmp_path / "mine", "well")
    with h5py.File(tmp_path / "mine/data/train/mine.hdf5") as file:
        u = file["t1_fields/velocity"][0, 0]
        tensor = file["t2_fields/vorticity"][0, 0]
    step = 2 * np.pi / 16
    gradient = np.stack([(np.roll(u, -1, axis) - np.roll(u, 1, axis)) / (2 * np.sin(step)) for axis in (0, 1)], axis=-2)
    np.testing.assert_allclose(tensor, gradient - gradient.swapaxes(-1, -2), atol=1e-12)


def test_the_well_in_space(tmp_path):
    data = dataset_of((field_in(VORTICITY, 3), field_in(VELOCITY, 3)), grid=Grid((8, 10, 12), (1.0, 2.0, 3.0)))
    fs.export_data(data.isel(component=[2, 1, 0]), tmp_path / "mine", "well")
    one = data.isel(trajectory=3).transpose("time", "x", "y", "z", "component")
    with h5py.File(tmp_path / "mine/data/test/mine.hdf5") as file:
        np.testing.assert_array_equal(file["t1_fields/velocity"][0], one["velocity"])
        tensor = file["t2_fields/vorticity"][0]
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        np.testing.assert_array_equal(tensor[..., i, j], one["vorticity"][..., k])
    np.testing.assert_array_equal(tensor, -tensor.swapaxes(-1, -2))


def test_the_statistics_are_those_of_the_training_data(plane, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "BLOCK_BYTES", 1)  # a time at a time: changes reach from block to block
    fs.export_data(plane, tmp_path / "mine", "well")
    stats = yaml.safe_load((tmp_path / "mine" / "stats.yaml").read_text())
    assert set(stats) == {"mean", "std", "rms", "mean_delta", "std_delta", "rms_delta"}
    train = plane.isel(trajectory=[0, 1]).astype(float)
    for suffix, data in (("", train), ("_delta", train.diff("time"))):
        for name, at in (("vorticity", (0, 1)), ("tracer", ())):
            found = {kind: np.array(stats[kind + suffix][name])[at] for kind in ("mean", "std", "rms")}
            values = data[name].values
            expected = {"mean": values.mean(), "std": values.std(), "rms": np.sqrt((values**2).mean())}
            assert found == pytest.approx(expected, rel=1e-12)
    assert set(stats["mean"]) == {"vorticity", "tracer", "forcing", "mean_velocity"}
    assert set(stats["mean_delta"]) == {"vorticity", "tracer"}
    assert np.shape(stats["mean"]["mean_velocity"]) == (2,)


def test_the_well_refuses_a_folder_with_other_files(square, tmp_path):
    fs.export_data(square, tmp_path / "mine", "well")
    (tmp_path / "mine/data/train/more.h5").touch()
    with pytest.raises(UsageError, match=r"more.h5 would be read as part of the data: name another folder"):
        fs.export_data(square, tmp_path / "mine", "well", force=True)


# -- PDEBench


def read_as_pdebench(path, test_ratio, is_test, initial_step):
    """Read a file as `FNODatasetMult` does (pdebench/models/fno/utils.py, commit 9754b4c of pdebench/PDEBench)."""
    with h5py.File(path) as file:
        names = sorted(file.keys())
        at = int(len(names) * (1 - test_ratio))
        for name in names[at:] if is_test else names[:at]:
            group = file[name]
            data = torch.tensor(np.array(group["data"], dtype="f"))
            data = data.permute([*range(1, data.ndim - 1), 0, -1])
            axes = "xyz"[: data.ndim - 2]
            along = [torch.tensor(np.array(group["grid"][axis], dtype="f")) for axis in axes]
            yield data[..., :initial_step, :], data, torch.stack(torch.meshgrid(*along, indexing="ij"), -1)


@pytest.mark.parametrize("name", ["plane", "space"])
def test_pdebench_reads_it(name, tmp_path, request):
    dataset = request.getfixturevalue(name)
    (path,) = fs.export_data(dataset, tmp_path / "mine", "pdebench")
    assert path == tmp_path / "mine" / "mine.h5"
    samples = [*read_as_pdebench(path, 0.25, False, 2), *read_as_pdebench(path, 0.25, True, 2)]
    axes = [axis for axis in "xyz" if axis in dataset.dims]
    with h5py.File(path) as file:
        channels = list(file.attrs["channels"])
        assert [file[key].attrs["split"] for key in sorted(file)] == SPLIT
    for i, (start, data, grid) in enumerate(samples):
        one = dataset.isel(trajectory=i)
        for at, channel in enumerate(channels):
            field, _, component = channel.partition("_")
            values = one[field].sel(component=component) if component else one[field]
            np.testing.assert_array_equal(data[..., at], values.transpose(*axes, "time"))
        assert torch.equal(start, data[..., :2, :])
        for at, axis in enumerate(axes):
            np.testing.assert_array_equal(np.unique(grid[..., at]), dataset[axis].values.astype("f"))


def test_pdebench_keeps_the_inputs(plane, tmp_path):
    (path,) = fs.export_data(plane, tmp_path / "mine", "pdebench")
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["0003/forcing"], plane["forcing"].isel(trajectory=3).transpose("x", "y"))
        np.testing.assert_array_equal(file["0003/mean_velocity"], plane["mean_velocity"].isel(trajectory=3))
        assert file["0003"].attrs["viscosity"] == plane["viscosity"].values[3]


# -- NumPy


def test_numpy_arrays_in_apebenchs_layout(square, tmp_path):
    written = fs.export_data(square, tmp_path / "mine", "npy")
    assert [path.name for path in written] == ["mine_train.npy", "mine_valid.npy", "mine_test.npy", "mine.json"]
    for part in ("train", "valid", "test"):
        array = np.load(tmp_path / "mine" / f"mine_{part}.npy", allow_pickle=False)
        values = square["vorticity"].isel(trajectory=square["split"] == part).transpose(..., "x", "y").values
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array[:, :, 0], -values)  # APEBench's sign
    info = json.loads((tmp_path / "mine" / "mine.json").read_text())["info"]
    expected = {"num_spatial_dims": 2, "num_points": 8, "num_channels": 1, "dt": 0.25, "diffusivity": 0.01}
    expected |= {"num_train_samples": 2, "train_temporal_horizon": 2, "num_test_samples": 1}
    assert {key: info[key] for key in expected} == expected
    assert info["domain_extent"] == pytest.approx(2 * np.pi, rel=1e-15)


def test_numpy_arrays_of_velocities(tmp_path):
    data = dataset_of((field_in(VELOCITY, 3),), grid=Grid.cube(8))
    fs.export_data(data, tmp_path / "mine", "npy")
    array = np.load(tmp_path / "mine" / "mine_train.npy", allow_pickle=False)
    values = data["velocity"].isel(trajectory=[0, 1]).transpose("trajectory", "time", "component", "x", "y", "z")
    np.testing.assert_array_equal(array, values)


def test_numpy_arrays_refuse_what_their_json_cannot_say(plane, square, tmp_path):
    with pytest.raises(UsageError, match=r"one number of points and one length for all axes, and the data have 10 x 8"):
        fs.export_data(plane, tmp_path, "npy")
    forced = square.assign(forcing=square["vorticity"].isel(time=0, trajectory=0, drop=True))
    forced["forcing"].attrs = {}
    with pytest.raises(UsageError, match=r"no place for the data's 'forcing': export to well or netcdf"):
        fs.export_data(forced, tmp_path, "npy")
    varied = square.assign(viscosity=("trajectory", [0.1, 0.2, 0.1, 0.1]))
    with pytest.raises(UsageError, match=r"no place for the data's 'viscosity'"):
        fs.export_data(varied, tmp_path, "npy")
    assert not list(tmp_path.iterdir())


# -- NetCDF


@pytest.mark.parametrize("name", ["plane", "space"])
def test_netcdf_comes_back_identical(name, tmp_path, request):
    dataset = request.getfixturevalue(name)
    (path,) = fs.export_data(dataset, tmp_path / "mine", "netcdf")
    for opened in (xr.open_dataset(path), fs.open_data(path)):
        with opened:
            xr.testing.assert_equal(opened.load(), dataset)
            for key in dataset.data_vars:
                assert opened[key].dtype == dataset[key].dtype
                assert opened[key].attrs == dataset[key].attrs
            assert set(opened.coords) == set(dataset.coords)


def test_netcdf_says_its_axes_by_the_conventions(space, tmp_path):
    import netCDF4

    (path,) = fs.export_data(space, tmp_path / "mine", "netcdf")
    with netCDF4.Dataset(path) as file:
        assert file.Conventions == "CF-1.11"
        assert {key: file[key].axis for key in ("time", "z", "y", "x")} == dict(time="T", z="Z", y="Y", x="X")
        assert [file[key].units for key in ("time", "z", "y", "x")] == ["s", "m", "m", "m"]
        assert [file[key].standard_name for key in ("time", "y", "x")] == [
            "time", "projection_y_coordinate", "projection_x_coordinate",
        ]  # fmt: skip
        assert file["z"].positive == "up"
        assert file["velocity"].dimensions == ("trajectory", "time", "component", "z", "y", "x")
        assert file["velocity"].coordinates == "split"
        assert {file[key].dtype for key in ("split", "component")} == {np.dtype("S1")}  # what classic tools read
        assert not [key for key in ("time", "z", "y", "x") if "_FillValue" in file[key].ncattrs()]


def test_netcdf_holds_members_and_the_others_refuse_them(square, tmp_path):
    members = xr.concat([square, square + 1], "member", data_vars=["vorticity"]).assign_coords(member=[0, 1])
    members["vorticity"].attrs = square["vorticity"].attrs
    (path,) = fs.export_data(members, tmp_path / "netcdf", "netcdf")
    xr.testing.assert_equal(xr.load_dataset(path), members)
    for name in ("well", "pdebench", "npy"):
        with pytest.raises(UsageError, match=r"the data have the dimension 'member': select one of its entries"):
            fs.export_data(members, tmp_path / name, name)


# -- every format


def test_every_format_is_known():
    assert {*FORMATS, "vtk"} <= set(WRITERS)
    assert all(writer.about for writer in WRITERS.values())


@pytest.mark.parametrize("name", FORMATS)
def test_parts_do_not_matter(name, square, tmp_path, monkeypatch):
    """One time at a time gives the bytes of whole trajectories, and never more than one trajectory is in memory."""
    fs.export_data(square, tmp_path / "a" / "mine", name)
    monkeypatch.setattr(source, "BLOCK_BYTES", 1)
    sizes, load = [], source.Source.load

    def watched(self, **indexers):
        sizes.append(load(self, **indexers)["vorticity"].size)
        return load(self, **indexers)

    monkeypatch.setattr(source.Source, "load", watched)
    fs.export_data(square, tmp_path / "b" / "mine", name)
    one, other = files_below(tmp_path / "a"), files_below(tmp_path / "b")
    one.pop("mine/stats.yaml", None), other.pop("mine/stats.yaml", None)  # sums in another order
    assert one == other
    assert max(sizes) == 64


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_overwritten_and_nothing_left_half_written(name, square, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(source.Source, "blocks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fs.export_data(square, tmp_path / "new" / "mine", name)
    assert not list(tmp_path.iterdir())
    fs.export_data(square, tmp_path / "mine", name)
    before = files_below(tmp_path)
    with pytest.raises(UsageError, match=r"exists already; name another folder, or add --force"):
        fs.export_data(square, tmp_path / "mine", name)
    with monkeypatch.context() as patch:
        patch.setattr(source.Source, "blocks", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fs.export_data(square, tmp_path / "mine", name, force=True)
    assert files_below(tmp_path) == before
    fs.export_data(square + 1, tmp_path / "mine", name, force=True)
    assert set(files_below(tmp_path)) == set(before)
    assert files_below(tmp_path) != before
    assert all(os.stat(tmp_path / path).st_mode & 0o444 for path in before)


def interrupted(self, trajectories):
    yield 0, slice(0, 1), self.load(trajectory=slice(0, 1), time=slice(0, 1))
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", FORMATS)
def test_every_second_time_and_a_computed_field(name, tmp_path, capsys):
    fs.generate(_experiment()).to_netcdf(tmp_path / "data.nc")
    command = ["export", str(tmp_path / "data.nc"), "--format", name, "--to", str(tmp_path / name)]
    assert main([*command, "--every", "2", "--trajectories", "2", "--add", "velocity"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert all((tmp_path / name) in (tmp_path / line).parents for line in shown)
    expected = (3, 2, 3, 16, 16)  # times, train trajectories, channels
    if name == "well":
        with h5py.File(tmp_path / "well/data/train/well.hdf5") as file:
            assert file["t1_fields/velocity"].shape == (2, 3, 16, 16, 2)
    elif name == "pdebench":
        with h5py.File(tmp_path / "pdebench/pdebench.h5") as file:
            assert file["0001/data"].shape == (3, 16, 16, 3)
    elif name == "npy":
        assert np.load(tmp_path / "npy/npy_train.npy").shape == (2, *expected[:1], *expected[2:])
    else:
        assert xr.open_dataset(tmp_path / "netcdf/netcdf.nc")["velocity"].shape == (2, 3, 2, 16, 16)
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err


def _experiment():
    return fs.Experiment.from_tree({
        "name": "tiny",
        "grid": {"n": 16},
        "flow": {"kind": "decaying", "viscosity": 0.1, "wavenumber": 2},
        "data": {"train": 2, "valid": 1, "test": 1, "steps": 4, "interval": 0.25},
    })  # fmt: skip


@pytest.mark.parametrize(("change", "name", "said"), [
    (lambda d: d, "matlab", "unknown format 'matlab'; one of netcdf, npy, pdebench, vtk, well"),
    (lambda d: d.isel(time=[0, 2, 1]), "well", "hold times at one interval; those of the data are uneven"),
    (lambda d: d.assign_coords(time=np.array([0, 1, 3.0])), "npy", "hold times at one interval"),
    (lambda d: d.assign_coords(time=np.array([0, 1, 2], "M8[s]")), "pdebench", "hold times in seconds"),
    (lambda d: d.drop_vars("time"), "pdebench", "the data have no coordinate 'time'"),
    (lambda d: d.isel(time=[0]), "well", "two times at least, and the data have one"),
    (lambda d: d.isel(trajectory=[]), "netcdf", "the dimension 'trajectory' has no entry"),
    (lambda d: d.assign_coords(split=("trajectory", list("abcd"))), "well", "split must say train, valid or test"),
    (lambda d: d.drop_vars("vorticity"), "netcdf", "no variable has the dimensions y, x"),
    (lambda d: d.rename(vorticity="mine").assign(mine=d["vorticity"].drop_attrs()), "well",
     "'mine' does not say how it transforms"),
    (lambda d: d.isel(x=[0, 1, 3]), "well", "x must be cell centres with one spacing"),
])  # fmt: skip
def test_what_is_refused_in_one_line(change, name, said, square, tmp_path):
    with pytest.raises(UsageError, match=said) as refusal:
        fs.export_data(change(square), tmp_path / "mine", name)
    assert len(str(refusal.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_pseudoscalar_in_space_has_no_place_in_the_well(space, tmp_path):
    helicity = dataset_of((FieldSpec("helicity", 0, -1, dimensions=3),), grid=Grid((8, 10, 12), (1.0, 2.0, 3.0)))
    with pytest.raises(
        UsageError, match=r"tensors up to order 2, and 'helicity' \(tensor_order 0, parity -1\) is none"
    ):
        fs.export_data(space.assign(helicity=helicity["helicity"]), tmp_path, "well")


@pytest.mark.parametrize("name", FORMATS)
def test_one_trajectory_without_that_dimension(name, square, tmp_path):
    written = fs.export_data(square.isel(trajectory=0, drop=True), tmp_path / "mine", name)
    assert all(path.exists() for path in written)


def test_places_are_those_of_the_file_that_was_imported(square, tmp_path):
    """Data at nodes carry `origin`: what is written has the coordinates that the nodes had."""
    step = float(square["x"][1] - square["x"][0])
    fs.export_data(square.assign_attrs(origin=[-step / 2, -step / 2]), tmp_path / "mine", "well")
    with h5py.File(tmp_path / "mine/data/test/mine.hdf5") as file:
        np.testing.assert_allclose(file["dimensions/x"], step * np.arange(8), atol=1e-15)


# -- there and back through the package's own readers, once these are there


@pytest.mark.skipif("file of The Well" not in READERS, reason="the reader is not there yet")
@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_the_well_there_and_back(part, tmp_path):
    data = dataset_of((VORTICITY, TRACER), (FORCING,), viscosity=0.01)
    fs.export_data(data, tmp_path / "mine", "well")
    chosen = data.isel(trajectory=data["split"].values == part)
    with fs.open_data(tmp_path / f"mine/data/{part}/mine.hdf5") as back:
        for name in ("vorticity", "tracer", "forcing"):
            assert back[name].dtype == chosen[name].dtype
            np.testing.assert_array_equal(back[name].transpose(*chosen[name].dims), chosen[name])
        for name in ("x", "y"):
            np.testing.assert_allclose(back[name], chosen[name], rtol=1e-14)
        assert "origin" not in back.attrs
        assert float(np.ravel(back["viscosity"] if "viscosity" in back else back.attrs["viscosity"])[0]) == 0.01


@pytest.mark.skipif("APEBench data" not in READERS, reason="the reader is not there yet")
def test_numpy_arrays_there_and_back(square, tmp_path):
    folder = tmp_path / "2d_phy_decay_turb"
    fs.export_data(square.isel(trajectory=[0, 1, 3]), folder, "npy")
    with fs.open_data(folder) as back:
        np.testing.assert_array_equal(
            back["vorticity"].transpose("trajectory", "time", "y", "x"), square["vorticity"].isel(trajectory=[0, 1, 3])
        )
        assert back["split"].values.tolist() == ["train", "train", "test"]
        np.testing.assert_allclose(back["x"], square["x"], rtol=1e-14)
