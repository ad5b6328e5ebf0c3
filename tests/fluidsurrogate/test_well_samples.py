"""Samples as a WellDataset yields them become a dataset that `train` takes; what is no state is refused.

That the_well's own WellDataset yields such samples is tested in tests/well.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import UsageError

EXPERIMENT = {
    "name": "tiny",
    "grid": {"n": 16, "length": 2.0},
    "flow": {"kind": "decaying", "viscosity": 0.1, "wavenumber": 2},
    "data": {"train": 2, "valid": 1, "test": 1, "steps": 4, "interval": 0.25},
    "models": {"small": {"kind": "gcnn", "group": "D4", "width": 8, "dilations": [1]}},
    "train": {"steps": 2, "warmup": 1},
}
TENSOR = {0: [], 1: [], 2: ["vorticity_xx", "vorticity_xy", "vorticity_yx", "vorticity_yy"]}


@pytest.fixture(scope="module")
def data():
    return fs.generate(fs.Experiment.from_tree(EXPERIMENT))


def sample_of(data, i):
    """A sample with the vorticity as a tensor."""
    values = torch.tensor(data["vorticity"].isel(trajectory=i).transpose("time", "x", "y").values)
    tensor = torch.stack([0 * values, values, -values, 0 * values], -1)
    grid = torch.stack(torch.meshgrid(*(torch.tensor(data[axis].values) for axis in "xy"), indexing="ij"), -1)
    time = torch.tensor(data["time"].values)
    return {
        "input_fields": tensor[:1], "output_fields": tensor[1:], "constant_scalars": torch.tensor([0.1]),
        "space_grid": grid, "input_time_grid": time[:1], "output_time_grid": time[1:],
        "boundary_conditions": torch.full((2, 2), 2.0),
    }  # fmt: skip


class Samples:
    """What a WellDataset is to us: samples by number, and what their channels are."""

    def __init__(self, data, **attributes):
        self.data, self.reads = data, 0
        self.metadata = SimpleNamespace(field_names=TENSOR, constant_field_names={}, grid_type="cartesian",
                                        constant_scalar_names=["viscosity"])  # fmt: skip
        vars(self).update(attributes)

    def __len__(self):
        return self.data.sizes["trajectory"]

    def __getitem__(self, i):
        self.reads += 1
        return sample_of(self.data, i)


def test_a_map_of_samples_is_read_lazily_and_trains(data):
    source = Samples(data)
    found = fs.from_well(source)
    assert found["vorticity"].chunksizes["trajectory"] == (1, 1, 1, 1)
    reads = source.reads
    np.testing.assert_array_equal(found["vorticity"].isel(trajectory=2), data["vorticity"].isel(trajectory=2))
    assert source.reads - reads <= 1
    xr.testing.assert_allclose(found["x"].drop_attrs(), data["x"].drop_attrs(), rtol=1e-12)
    assert found["viscosity"].values.tolist() == [pytest.approx(0.1)] * 4
    assert "origin" not in found.attrs
    torch.manual_seed(0)
    experiment = fs.Experiment.from_tree(EXPERIMENT)
    ours = fs.train(experiment, data=data)["small"]
    theirs = fs.train(experiment, data=found.drop_vars("viscosity"))["small"]
    one, other = (fs.forecast(model, data.isel(trajectory=[3]), steps=2) for model in (ours, theirs))
    np.testing.assert_array_equal(one["vorticity"], other["vorticity"])


def test_splits_and_loaders(data):
    parts = {"train": data.isel(trajectory=[0, 1]), "valid": data.isel(trajectory=[2])}
    loaders = {key: torch.utils.data.DataLoader(Samples(part), batch_size=2) for key, part in parts.items()}
    found = fs.from_well(loaders)
    assert found["split"].values.tolist() == ["train", "train", "valid"]
    np.testing.assert_array_equal(found["vorticity"], data["vorticity"].isel(trajectory=[0, 1, 2]))
    subset = fs.from_well(torch.utils.data.Subset(Samples(data), [3, 1]))
    np.testing.assert_array_equal(subset["vorticity"], data["vorticity"].isel(trajectory=[3, 1]))


@pytest.mark.parametrize("batch", [None, 3])
def test_any_iterable_of_samples_or_batches(data, batch):
    samples = [{k: v for k, v in sample_of(data, i).items() if k != "constant_scalars"} for i in range(4)]
    if batch:
        samples = torch.utils.data.DataLoader(samples, batch_size=batch)
        samples = (item for item in samples)
    found = fs.from_well(samples, fields=TENSOR)
    np.testing.assert_array_equal(found["vorticity"], data["vorticity"])


def test_a_velocity_in_space_at_nodes():
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) * 0.5 for n in (8, 10, 12)), indexing="ij"), -1)
    fields = torch.randn(3, 8, 10, 12, 4, generator=torch.Generator().manual_seed(1))
    sample = {"input_fields": fields[:2], "output_fields": fields[2:], "space_grid": grid,
              "input_time_grid": torch.tensor([1.0, 1.5]), "output_time_grid": torch.tensor([2.0])}  # fmt: skip
    names = {0: ["dye"], 1: ["v_x", "v_y", "v_z"]}
    found = fs.from_well([sample], fields=names, names={"velocity": "v", "tracer": "dye"})
    one = found.isel(trajectory=0)
    assert one["velocity"].dims == ("time", "component", "z", "y", "x")
    np.testing.assert_array_equal(one["tracer"].transpose("time", "x", "y", "z"), fields[..., 0])
    np.testing.assert_array_equal(one["velocity"].transpose("time", "x", "y", "z", "component"), fields[..., 1:])
    assert found.attrs["origin"] == [-0.25] * 3
    assert found["time"].values.tolist() == [0.0, 0.5, 1.0]
    assert float(found["x"][0]) == 0.25


def changed(data, **parts):
    return [{**sample_of(data, 0), **parts}]


@pytest.mark.parametrize(("make", "said"), [
    (lambda d: Samples(d, use_normalization=True, norm=object()), "are normalised: give a WellDataset with use_norm"),
    (lambda d: Samples(d, transform=object()), "are augmented"),
    (lambda d: Samples(d, min_dt_stride=1, max_dt_stride=2), "random intervals"),
    (lambda d: type("DeltaWellDataset", (Samples,), {})(d), "yields changes: give a WellDataset"),
    (lambda d: Samples(d, metadata=SimpleNamespace(grid_type="spherical")), "the grid is spherical"),
    (lambda d: changed(d, boundary_conditions=torch.zeros(2, 2)), "walls or open"),
    (lambda d: changed(d, space_grid=sample_of(d, 0)["space_grid"] ** 2), "not even and increasing along y"),
    (lambda d: changed(d, output_time_grid=torch.tensor([0.3, 0.5, 1.75, 1.8])), "not evenly spaced"),
    (lambda d: [*changed(d), *changed(d, output_time_grid=torch.arange(1, 5.0))], "sample 1 has other times"),
    (lambda d: [*changed(d), *changed(d, space_grid=sample_of(d, 0)["space_grid"] * 2)], "sample 1 has another grid"),
    (lambda d: changed(d, input_fields=torch.ones(1, 16, 16, 4)), "'vorticity' is not antisymmetric"),
    (lambda d: changed(d, input_fields=torch.ones(1, 16, 16, 3), output_fields=torch.ones(4, 16, 16, 3)),
     "have 3 channels in input_fields, and 4 names"),
    (lambda d: changed(d, space_grid=sample_of(d, 0)["space_grid"][:6]), "the grid of the samples: n must be even"),
    (lambda d: [], "there are no samples"),
    (lambda d: {"training": []}, "the keys must be train, valid and test"),
    (lambda d: [{k: v for k, v in sample_of(d, 0).items() if k != "space_grid"}], "no 'space_grid'"),
])  # fmt: skip
def test_what_is_refused(make, said, data):
    assert fs.from_well(changed(data), fields=TENSOR, scalars=["viscosity"]).sizes["trajectory"] == 1  # the control
    source = make(data)
    with pytest.raises(UsageError, match=said):
        fs.from_well(source, **({} if isinstance(source, Samples) else {"fields": TENSOR, "scalars": ["viscosity"]}))


def test_channels_must_be_named(data):
    with pytest.raises(UsageError, match="do not say what their channels are: give fields"):
        fs.from_well(changed(data))
    with pytest.raises(UsageError, match="have 1 constant_scalars, and 0 names: give scalars"):
        fs.from_well(changed(data), fields=TENSOR)
    one = sample_of(data, 0)
    one |= {key: one[key][..., :1] for key in ("input_fields", "output_fields")}
    with pytest.raises(UsageError, match="hold omega, and neither vorticity nor velocity"):
        fs.from_well([one], fields={0: ["omega"]}, scalars=["viscosity"])
