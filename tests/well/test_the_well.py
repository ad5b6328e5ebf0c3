"""Exported data in the hands of the_well: its WellDataset, normalisation, augmentations, and the rules of its checker.

    make test-well

installs the_well 1.2.0 without what it pins. Without it these tests are skipped.
"""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import fluidsurrogate as fs
from fluidsurrogate.data.conversion import to_dataset
from solvers import FORCING, MEAN_VELOCITY, TRACER, VELOCITY, VISCOSITY, VORTICITY, Grid, StateSpec, field_in

the_well = pytest.importorskip("the_well.data")
from the_well.data.augmentation import RandomAxisFlip, RandomAxisPermute, RandomRotation90  # noqa: E402
from the_well.data.normalization import RMSNormalization, ZScoreNormalization  # noqa: E402

ROOT = Path(__file__).parents[2]
PARTS = {"train": [0, 1], "valid": [2], "test": [3]}


@pytest.fixture(scope="module")
def data():
    """A decaying flow of four trajectories: vorticity and velocity of the same states."""
    experiment = fs.Experiment.from_tree({
        "name": "tiny",
        "grid": {"n": 16},
        "flow": {"kind": "decaying", "viscosity": 0.1, "wavenumber": 2},
        "data": {"train": 2, "valid": 1, "test": 1, "steps": 4, "interval": 0.25},
    })  # fmt: skip
    return fs.generate(experiment)


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    from fluidsurrogate.evaluation.diagnostics import compute_field

    folder = tmp_path_factory.mktemp("well") / "tiny"
    fs.export_data(data, folder, "well", derive=lambda part: part.assign(velocity=compute_field(part, "velocity")))
    return folder


def check_format(path):
    """Assert what scripts/check_thewell_formatting.py asserts (PolymathicAI/the_well, commit 215f55d)."""

    def shape_of(entry):
        attributes = dict(entry.attrs)
        assert all(isinstance(attributes[key], np.bool_) for key in ("sample_varying", "time_varying"))
        shape = (file.attrs["n_trajectories"],) if attributes["sample_varying"] else ()
        return shape + ((file["dimensions/time"].shape[-1],) if attributes["time_varying"] else ())

    with h5py.File(path) as file:
        assert all(isinstance(file.attrs[key], str) for key in ("dataset_name", "grid_type"))
        assert all(isinstance(file.attrs[key], np.integer) for key in ("n_spatial_dims", "n_trajectories"))
        n_dims, axes = file.attrs["n_spatial_dims"], file["dimensions"].attrs["spatial_dims"]
        for key in file.attrs["simulation_parameters"]:
            assert isinstance(key, str)
            assert key in file.attrs
            assert key in file["scalars"]
        assert len(axes) == n_dims
        assert all(isinstance(axis, str) for axis in axes)
        for axis in ("time", *axes):
            entry = file["dimensions"][axis]
            assert (entry.shape[:-1] if axis != "time" else entry.shape) == shape_of(entry)
        for order in range(3):
            group = file[f"t{order}_fields"]
            assert isinstance(group.attrs["field_names"], np.ndarray)
            for key in group.attrs["field_names"]:
                assert isinstance(key, str)
                varying = group[key].attrs["dim_varying"]
                assert len(varying) == n_dims
                space = tuple(file["dimensions"][a].shape[-1] for a, v in zip(axes, varying, strict=True) if v)
                assert group[key].shape == shape_of(group[key]) + space + (n_dims,) * order
        for key in file["scalars"].attrs["field_names"]:
            assert isinstance(key, str)
            assert file["scalars"][key].shape == shape_of(file["scalars"][key])
        for key, group in file["boundary_conditions"].items():
            assert isinstance(group.attrs["bc_type"], str)
            assert group.attrs["bc_type"].lower() in key
            assert all(isinstance(group.attrs[a], np.ndarray) for a in ("associated_fields", "associated_dims"))
            space = tuple(file["dimensions"][axis].shape[-1] for axis in group.attrs["associated_dims"])
            assert group["mask"].shape == shape_of(group) + space


def well_dataset(folder, part="train", **options):
    return the_well.WellDataset(path=str(folder), well_split_name=part, **options)


def test_its_checker_passes(folder, tmp_path):
    box, scalar = Grid((8, 10, 12), (1.0, 2.0, 3.0)), Grid((8, 10), (1.0, 2.0))
    specs = {
        "space": StateSpec(box, (field_in(VELOCITY, 3), field_in(VORTICITY, 3)), 0.25),
        "plane": StateSpec(scalar, (VORTICITY, TRACER), 0.25, (FORCING, MEAN_VELOCITY, VISCOSITY)),
    }
    paths = [folder / "data" / part / "tiny.hdf5" for part in PARTS]
    for name, spec in specs.items():
        inputs = {f.name: torch.randn(2, f.components, *f.extent(spec.grid)) for f in spec.inputs}
        dataset = to_dataset(spec, torch.randn(2, 3, spec.components, *spec.grid.n), inputs=inputs)
        paths.append(fs.export_data(dataset, tmp_path / name, "well")[0])
        sample = well_dataset(tmp_path / name, full_trajectory_mode=True)[1]
        one = dataset.isel(trajectory=1)
        if name == "plane":
            mean = sample["constant_fields"][..., :2]  # of order 1, in front of the forcing, of order 2
            assert torch.equal(mean, torch.tensor(one["mean_velocity"].values).expand(10, 8, 2))
            np.testing.assert_array_equal(sample["constant_fields"][..., 3], one["forcing"].transpose("x", "y"))
            assert float(sample["constant_scalars"][0]) == float(one["viscosity"])
        back = fs.from_well(well_dataset(tmp_path / name, full_trajectory_mode=True))
        for key in dataset.data_vars:
            np.testing.assert_array_equal(back[key], dataset[key])
    for path in paths:
        check_format(path)
    with h5py.File(paths[0], "r+") as file:
        del file["scalars"].attrs["field_names"]
    with pytest.raises(KeyError):  # the control
        check_format(paths[0])
    with h5py.File(paths[0], "r+") as file:
        file["scalars"].attrs["field_names"] = np.array(["viscosity", "drag"], dtype=h5py.string_dtype())


@pytest.mark.parametrize("part", PARTS)
def test_its_dataset_yields_every_value(part, data, folder):
    dataset = well_dataset(folder, part, full_trajectory_mode=True)
    assert len(dataset) == len(PARTS[part])
    assert dataset.metadata.field_names[1] == ["velocity_x", "velocity_y"]
    assert dataset.metadata.field_names[2] == [f"vorticity_{ij}" for ij in ("xx", "xy", "yx", "yy")]
    assert dataset.metadata.boundary_condition_types == ["PERIODIC"]
    for i, sample in enumerate(dataset):
        if i == len(dataset):
            break
        fields = torch.cat([sample["input_fields"], sample["output_fields"]])
        ours = data["vorticity"].isel(trajectory=PARTS[part][i]).transpose("time", "x", "y")
        np.testing.assert_array_equal(fields[..., 3], ours)  # behind the velocity's two and vorticity_xx
        np.testing.assert_array_equal(fields[..., 4], -ours)
        assert sample["boundary_conditions"].eq(2).all()
        np.testing.assert_array_equal(sample["space_grid"][:, 3, 0], data["x"])
        np.testing.assert_array_equal(sample["space_grid"][3, :, 1], data["y"])
        time = torch.cat([sample["input_time_grid"], sample["output_time_grid"]])
        np.testing.assert_array_equal(time, data["time"])


@pytest.mark.parametrize("normalization", [ZScoreNormalization, RMSNormalization])
def test_it_normalises_by_our_statistics(normalization, folder):
    plain = well_dataset(folder)
    dataset = well_dataset(folder, use_normalization=True, normalization_type=normalization)
    fields = torch.stack([dataset[i]["input_fields"] for i in range(len(dataset))]).double()
    rms = fields.pow(2).mean((0, 1, 2, 3)).sqrt()
    assert rms[[0, 1, 3, 4]] == pytest.approx(torch.ones(4), rel=0.2)  # inputs are all times but the last
    assert rms[[2, 5]].eq(0).all()
    back = dataset.norm.denormalize_flattened(dataset[0]["input_fields"], "variable")
    torch.testing.assert_close(back, plain[0]["input_fields"])


def correlation(a, b):
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


def augmented(folder, change):
    """Apply a function of the_well to a sample, and return the vorticity and the curl of the velocity after it."""
    dataset = well_dataset(folder)
    loaded = dataset._load_one_sample(0)[0]
    fields = change(loaded)["variable_fields"]
    u, v = fields[1]["velocity"][0].double().unbind(-1)
    k = torch.fft.fftfreq(16, 1 / 16, dtype=torch.float64)
    curl = torch.fft.ifft2(1j * k[:, None] * torch.fft.fft2(v) - 1j * k * torch.fft.fft2(u)).real  # the first axis is x
    return fields, curl


@pytest.mark.parametrize("change", [
    lambda data: RandomAxisFlip.flip(data, torch.tensor([True, False])),
    lambda data: RandomAxisFlip.flip(data, torch.tensor([False, True])),
    lambda data: RandomAxisPermute.permute(data, torch.tensor([1, 0])),
    lambda data: RandomRotation90.rotate90(data, torch.tensor([1, 0]), torch.tensor([0, 1])),
], ids=["flip x", "flip y", "swap axes", "quarter turn"])  # fmt: skip
def test_its_augmentations_keep_the_vorticity_that_of_the_velocity(change, folder):
    fields, curl = augmented(folder, change)
    assert correlation(fields[2]["vorticity"][0, ..., 0, 1], curl) > 0.9999


def test_as_a_scalar_a_flip_would_give_it_the_wrong_sign(folder, tmp_path):
    """The reason for the tensor: the same file with the vorticity among the t0 fields."""
    import shutil

    shutil.copytree(folder, tmp_path / "tiny")
    with h5py.File(tmp_path / "tiny/data/train/tiny.hdf5", "r+") as file:
        scalar = file["t0_fields"].create_dataset("vorticity", data=file["t2_fields/vorticity"][..., 0, 1])
        scalar.attrs.update(file["t2_fields/vorticity"].attrs)
        del file["t2_fields/vorticity"]
        file["t0_fields"].attrs["field_names"] = np.array(["vorticity"], dtype=h5py.string_dtype())
        file["t2_fields"].attrs["field_names"] = np.array([], dtype=h5py.string_dtype())
    for flipped, expected in ((False, 1.0), (True, -1.0)):
        mask = torch.tensor([flipped, False])
        fields, curl = augmented(tmp_path / "tiny", lambda data, mask=mask: RandomAxisFlip.flip(data, mask))
        assert correlation(fields[0]["vorticity"][0], curl) == pytest.approx(expected, abs=1e-4)


def test_there_and_back_bit_for_bit(data, folder):
    back = fs.from_well({part: well_dataset(folder, part, full_trajectory_mode=True) for part in PARTS})
    np.testing.assert_array_equal(back["vorticity"], data["vorticity"])
    assert back["split"].values.tolist() == data["split"].values.tolist()
    np.testing.assert_array_equal(back["time"], data["time"])
    np.testing.assert_allclose(back["x"], data["x"], rtol=1e-14)
    windows = fs.from_well(torch.utils.data.DataLoader(well_dataset(folder), batch_size=3))
    assert windows["vorticity"].shape == (8, 2, 16, 16)
    np.testing.assert_array_equal(windows["vorticity"][5], data["vorticity"][1, 1:3])


def test_what_is_no_state_is_refused(folder):
    options = {"use_normalization": True, "normalization_type": ZScoreNormalization}
    for source, said in (
        (well_dataset(folder, **options), "are normalised"),
        (well_dataset(folder, transform=RandomAxisFlip()), "are augmented"),
        (well_dataset(folder, max_dt_stride=2), "random intervals"),
        (the_well.DeltaWellDataset(path=str(folder), well_split_name="train"), "yields changes"),
    ):
        with pytest.raises(fs.UsageError, match=said):
            fs.from_well(source)


def test_the_example_of_the_guide_runs(data, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "guides" / "export.md").read_text(encoding="utf-8")
    (example,) = (
        text for text in re.findall(r"```\{code-block\} python\n(.*?)```", page, re.DOTALL) if "the_well" in text
    )
    assert len([line for line in example.splitlines() if line]) <= 10
    experiment = fs.Experiment.from_tree({
        "name": "demo",
        "grid": {"n": 16},
        "flow": {"kind": "decaying", "viscosity": 0.1, "wavenumber": 2},
        "data": {"train": 2, "valid": 1, "test": 1, "steps": 4, "interval": 0.25},
        "models": {"small": {"kind": "gcnn", "group": "D4", "width": 8, "dilations": [1]}},
        "train": {"steps": 2, "warmup": 1},
    })  # fmt: skip
    monkeypatch.chdir(tmp_path)
    fs.export_data(data, "decaying", "well")
    fs.save(fs.train(experiment, data=data)["small"], "runs/demo/models/gcnn-d4")
    names = {}
    exec(compile(example, "export.md", "exec"), names)
    assert 0 < float(names["scores"]["nrmse"].isel(time=1, source=0)) < 2
