"""VTK files: a value and its place, read back by a parser of the XML and by PyVista; times, vectors, refusals."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import UsageError
from fluidsurrogate.cli import main
from fluidsurrogate.data.conversion import to_dataset
from solvers import TRACER, VELOCITY, VISCOSITY, VORTICITY, Grid, StateSpec, field_in

BOX = Grid((8, 10, 12), (1.0, 2.0, 3.0))
N_TIMES, AT = 3, {"z": 2, "y": 5, "x": 7}


@pytest.fixture
def data():
    """Random velocity and tracer in a box of three unequal sides, of two trajectories at three times."""
    spec = StateSpec(BOX, (field_in(VELOCITY, 3), field_in(TRACER, 3)), 0.25, (field_in(VISCOSITY, 3),))
    states = torch.randn(2, N_TIMES, 4, *BOX.n, generator=torch.Generator().manual_seed(1))
    return to_dataset(spec, states, start_time=0.1, inputs={"viscosity": torch.full((2, 1, 1, 1, 1), 0.02)})


def parse(path):
    """Return the image element and the arrays by name of a .vti file; the raw part is no XML and is cut off first."""
    head, _, raw = path.read_bytes().partition(b"\n_")
    tree = ElementTree.fromstring(head + b"</AppendedData></VTKFile>")
    assert (tree.attrib["byte_order"], tree.attrib["header_type"]) == ("LittleEndian", "UInt64")
    arrays = {}
    for found in tree.iter("DataArray"):
        offset = int(found.attrib["offset"])
        size = int(np.frombuffer(raw, "<u8", 1, offset)[0])
        dtype = {"Float32": "<f4", "Float64": "<f8"}[found.attrib["type"]]
        values = np.frombuffer(raw, dtype, size // np.dtype(dtype).itemsize, offset + 8)
        arrays[found.attrib["Name"]] = values.reshape(-1, int(found.attrib["NumberOfComponents"]))
    return tree.find("ImageData"), arrays


def test_a_value_and_its_place(data, tmp_path):
    collections = fs.export_data(data, tmp_path)
    assert [path.name for path in collections] == ["trajectory_0.pvd", "trajectory_1.pvd"]
    listed = ElementTree.parse(collections[1]).getroot().findall("Collection/DataSet")
    assert [float(entry.attrib["timestep"]) for entry in listed] == pytest.approx([0.1, 0.35, 0.6])
    image, arrays = parse(tmp_path / listed[2].attrib["file"])
    cells = image.attrib["WholeExtent"].split()
    assert cells == ["0", "11", "0", "9", "0", "7"]  # x, y, z
    origin, spacing = (np.array(image.attrib[key].split(), float) for key in ("Origin", "Spacing"))
    one = data.isel(trajectory=1, time=2, **AT)
    place = origin + spacing * [AT[axis] for axis in "xyz"]
    np.testing.assert_allclose(place, [float(one[axis]) for axis in "xyz"])
    point = AT["x"] + 12 * (AT["y"] + 10 * AT["z"])  # x runs fastest
    assert arrays["velocity"].dtype == np.float32
    np.testing.assert_array_equal(arrays["velocity"][point], one["velocity"].sel(component=["x", "y", "z"]).values)
    assert float(arrays["tracer"][point, 0]) == float(one["tracer"])
    assert float(arrays["viscosity"][0, 0]) == pytest.approx(0.02)
    assert float(arrays["TimeValue"][0, 0]) == pytest.approx(0.6)


def test_pyvista_reads_it(data, tmp_path):
    pyvista = pytest.importorskip("pyvista")
    (collection, _) = fs.export_data(data, tmp_path, every=2)
    reader = pyvista.get_reader(str(collection))
    assert reader.time_values == pytest.approx([0.1, 0.6])
    reader.set_active_time_value(reader.time_values[1])
    mesh = reader.read()[0]
    one = data.isel(trajectory=0, time=2, **AT)
    place = [float(one[axis]) for axis in "xyz"]
    point = mesh.find_closest_point(place)
    np.testing.assert_allclose(mesh.points[point], place)
    np.testing.assert_array_equal(mesh["velocity"][point], one["velocity"].values)
    assert mesh["tracer"][point] == float(one["tracer"])
    between = pyvista.PolyData([np.add(place, (mesh.spacing[0] / 2, 0, 0))]).sample(mesh)  # halfway to the next in x
    mean = data["tracer"].isel(trajectory=0, time=2, z=AT["z"], y=AT["y"], x=[AT["x"], AT["x"] + 1]).mean()
    assert float(between["tracer"][0]) == pytest.approx(float(mean), rel=1e-5)


def test_components_in_another_order_are_sorted(data, tmp_path):
    fs.export_data(data.isel(component=[2, 0, 1]), tmp_path / "a")
    fs.export_data(data, tmp_path / "b")
    one, other = (parse(tmp_path / name / "trajectory_0" / "time_0.vti")[1] for name in "ab")
    np.testing.assert_array_equal(one["velocity"], other["velocity"])


def test_the_plane_is_one_layer(tmp_path):
    grid = Grid((8, 10), (1.0, 2.0))
    states = torch.randn(1, 1, 3, *grid.n, dtype=torch.float64)
    dataset = to_dataset(StateSpec(grid, (VELOCITY, VORTICITY), 1.0), states)
    (collection,) = fs.export_data(dataset.isel(trajectory=0, time=0, drop=True), tmp_path)
    assert collection.name == "flow.pvd"
    image, arrays = parse(tmp_path / "flow" / "time_0.vti")
    assert image.attrib["WholeExtent"] == "0 9 0 7 0 0"
    assert arrays["vorticity"].dtype == np.float64
    np.testing.assert_array_equal(arrays["velocity"][3 + 10 * 4], [*states[0, 0, :2, 4, 3], 0])


def test_the_command_writes_all_and_refuses_to_overwrite(data, tmp_path, capsys):
    data.to_netcdf(tmp_path / "data.nc")
    command = ["export", str(tmp_path / "data.nc"), "--to", str(tmp_path / "vtk"), "--trajectories", "1"]
    assert main([*command, "--every", "2"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "vtk" / "trajectory_0.pvd")]
    assert len(list((tmp_path / "vtk" / "trajectory_0").glob("*.vti"))) == 2
    assert main(command) == 2
    assert re.search(r"trajectory_0.pvd exists already; name another folder, or add --force", capsys.readouterr().err)
    assert main([*command, "--force"]) == 0


def test_members_get_folders_of_their_own(data, tmp_path):
    members = xr.concat([data, data], "member").assign_coords(member=[0, 1])
    written = fs.export_data(members.isel(trajectory=[0]), tmp_path)
    assert sorted(path.name for path in written) == ["member_0_trajectory_0.pvd", "member_1_trajectory_0.pvd"]


def test_what_is_refused(data, tmp_path):
    with pytest.raises(UsageError, match="nothing to export: no variable has the dimensions y, x"):
        fs.export_data(data[["viscosity"]], tmp_path)
    with pytest.raises(UsageError, match="x must be cell centres with one spacing"):
        fs.export_data(data.isel(x=[0, 1, 3]), tmp_path)
