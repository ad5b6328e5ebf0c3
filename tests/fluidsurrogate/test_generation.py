"""Data: what a trajectory depends on, what its dataset says of itself, and that nothing is lost on the way."""

import json

import numpy as np
import pytest
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.core.seeding import derive_seed
from fluidsurrogate.data.conversion import to_inputs, to_states
from fluidsurrogate.evaluation import diagnostics
from fluidsurrogate.simulation.splits import split_of
from solvers import D2, act_on_fields


def test_other_splits_do_not_matter(toml):
    """Changing `data.train` leaves the test set alone, to the last bit."""
    few = fs.generate(Experiment.read(toml, ["data.train=1"]))
    many = fs.generate(Experiment.read(toml, ["data.train=5"]))
    for split in ("valid", "test"):
        a, b = (split_of(d, split, Experiment.read(toml))["vorticity"].values for d in (few, many))
        assert np.array_equal(a, b)


def test_neighbours_in_the_block_do_not_matter(toml):
    """Trajectories of very different speeds share a block; asked for alone, each has the same bits."""
    three = fs.generate(Experiment.read(toml, ["data.train=3", "data.block=4"]))
    one = fs.generate(Experiment.read(toml, ["data.train=1", "data.block=4"]))
    assert np.array_equal(three["vorticity"].values[0], one["vorticity"].values[0])


def test_seed_and_split_matter(toml):
    a, b = (fs.generate(Experiment.read(toml, [f"seed={seed}"]))["vorticity"] for seed in (1, 2))
    assert float(abs(a - b).max()) > 1e-2
    assert float(abs(a.values[0] - a.values[3]).max()) > 1e-2  # train 0 and valid 0
    assert derive_seed(0, "train", 1) != derive_seed(0, "valid", 1)


@pytest.mark.parametrize(
    ("override", "attribute", "value"),
    [
        ("flow.viscosity=4e-2", "viscosity", 4e-2),
        ("flow.drag=0.5", "drag", 0.5),
        ("solver.dt=0.125", "inner_step", 0.125),
        ("solver.order=2", "scheme", "ETDRK2"),
        ("data.interval=0.5", "interval", 0.5),
        ("dtype=float64", "solver_dtype", "float64"),
    ],
)
def test_attributes_are_those_of_the_solver_that_ran(toml, override, attribute, value):
    """Each parameter changes the data, and the attribute says so: none is lost on the way."""
    plain, changed = fs.generate(toml), fs.generate(Experiment.read(toml, [override]))
    assert changed.attrs[attribute] == value
    assert plain.attrs[attribute] != value
    assert float(abs(changed["vorticity"] - plain["vorticity"].values).max()) > 1e-8


def test_forcing_is_stored_and_changes_the_data(toml):
    forced = [fs.generate(Experiment.read(toml, ["flow.kind=kolmogorov", f"flow.amplitude={a}"])) for a in (1.0, 2.0)]
    assert fs.generate(toml).attrs["forcing"] == "none"
    assert forced[0]["forcing"].dims == ("trajectory", "y", "x")
    # curl of A sin(k y) in x is -A k cos(k y), k = 4
    np.testing.assert_allclose(forced[0]["forcing"][0, :, 0], -4 * np.cos(4 * forced[0]["y"]), atol=1e-5)
    np.testing.assert_allclose(forced[1]["forcing"], 2 * forced[0]["forcing"], rtol=1e-6)
    assert float(abs(forced[1]["vorticity"] - forced[0]["vorticity"]).max()) > 1e-2


def test_dataset_describes_itself(experiment, tmp_path):
    data = fs.generate(experiment, tmp_path)
    assert data["vorticity"].dims == ("trajectory", "time", "y", "x")
    assert data["vorticity"].dtype == np.float32
    assert data["vorticity"].attrs["units"] == "s-1"
    assert data["vorticity"].attrs["parity"] == -1
    for dim in data.dims:
        assert "units" in data[dim].attrs, dim
    assert list(data["split"].values) == ["train"] * 3 + ["valid"] + ["test"] * 2
    assert json.loads(data.attrs["experiment"]) == experiment.tree()
    np.testing.assert_allclose(data["time"], np.arange(5) * 0.25)
    np.testing.assert_allclose(data["x"], (np.arange(16) + 0.5) * 2 * np.pi / 16)


def test_memory_zarr_and_netcdf_hold_the_same(experiment, tmp_path):
    memory, zarr = fs.generate(experiment), fs.generate(experiment, tmp_path).load()
    zarr.to_netcdf(tmp_path / "copy.nc")
    netcdf = fs.open_data(tmp_path / "copy.nc").load()
    assert np.array_equal(memory["vorticity"].values, zarr["vorticity"].values)
    assert netcdf.attrs == zarr.attrs
    for name, variable in zarr.variables.items():
        assert list(np.ravel(netcdf[name].values)) == list(np.ravel(variable.values)), name
        assert netcdf[name].attrs == variable.attrs


def test_stage_is_not_done_twice(experiment, tmp_path):
    fs.generate(experiment, tmp_path)
    marks = {p: p.stat().st_mtime_ns for p in (tmp_path / "data.zarr").rglob("*")}
    fs.generate(experiment, tmp_path)
    assert marks == {p: p.stat().st_mtime_ns for p in (tmp_path / "data.zarr").rglob("*")}


def test_changed_inputs_are_refused_and_forced(toml, tmp_path):
    fs.generate(toml, tmp_path)
    other = Experiment.read(toml, ["flow.viscosity=0.03"])
    with pytest.raises(UsageError, match=r"flow.viscosity was 0.02, is 0.03"):
        fs.generate(other, tmp_path)
    assert fs.open_data(tmp_path / "data.zarr").attrs["viscosity"] == 0.02
    assert fs.generate(other, tmp_path, force=True).attrs["viscosity"] == 0.03
    assert not list(tmp_path.glob("data.zarr.*"))


def test_non_finite_solver_says_when_and_what_to_try(toml):
    with pytest.raises(
        UsageError, match=r"NaN or infinite at interval \d+ of train trajectory 0: try a smaller solver.dt"
    ):
        fs.generate(Experiment.read(toml, ["solver.dt=0.25", "flow.rms=1e4", "flow.spin_up=0"]))


def test_flow_that_needs_too_many_steps(toml):
    with pytest.raises(UsageError, match="inner steps an interval"):
        fs.generate(Experiment.read(toml, ["flow.rms=1e9"]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("flow.rms=1e308", "the solver cannot run this flow: the initial state is not finite in float32"),
        ("flow.spin_up=1e20", "spin_up must be at most 1000000 times data.interval"),
        ("data.interval=1e-300", "spin_up must be at most 1000000 times data.interval"),
        ("grid.length=1e-300", "length must be from 1e-30 to 1e30"),
        ("grid.length=1e20", "the flow outgrows its inner steps .* choose units of length and time"),
    ],
)
def test_parameters_out_of_all_proportion_are_refused(toml, override, message):
    with pytest.raises(UsageError, match=message):
        fs.generate(Experiment.read(toml, [override]))


def test_a_spin_up_shorter_than_any_interval_is_one(toml):
    """1e-308 is less than the rounding that the number of intervals is forgiven."""
    assert Experiment.read(toml, ["flow.spin_up=1e-308"]).build_spin_up()[1] == 1


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.write_text("no data"), lambda p: p.mkdir()])
def test_no_dataset(tmp_path, make):
    make(tmp_path / "thing")
    with pytest.raises(UsageError, match="thing"):
        fs.open_data(tmp_path / "thing")


def test_zarr_is_plain_zarr(experiment, tmp_path):
    fs.generate(experiment, tmp_path)
    assert xr.open_zarr(tmp_path / "data.zarr", consolidated=False)["vorticity"].mean().compute().notnull()


def test_a_coarser_store_is_the_same_function(toml):
    """Stored on fewer cells: the band-limited field at their centres; striding, the control, is something else."""
    double = ["dtype=float64", "flow.kind=kolmogorov", "flow.waves=2"]
    fine = fs.generate(Experiment.read(toml, [*double, "grid.n=32"]))
    coarse = fs.generate(Experiment.read(toml, [*double, "grid.n=32", "grid.store=16"]))
    assert coarse["vorticity"].sizes == {"trajectory": 6, "time": 5, "y": 16, "x": 16}
    assert (coarse.attrs["solver_ny"], coarse.attrs["solver_nx"]) == (32, 32)
    np.testing.assert_allclose(coarse["x"], (np.arange(16) + 0.5) * 2 * np.pi / 16)
    modes = np.fft.fft2(fine["vorticity"].values) / 32**2
    k = np.fft.fftfreq(32, 1 / 32)
    held = (np.abs(k)[:, None] < 8) & (np.abs(k)[None, :] < 8)
    basis = np.exp(1j * np.outer(coarse["x"].values - fine["x"].values[0], k))
    expected = np.einsum("ya,xb,...ab->...yx", basis, basis, modes * held).real
    np.testing.assert_allclose(coarse["vorticity"], expected, atol=1e-12)
    np.testing.assert_allclose(coarse["forcing"][0, :, 0], -2 * np.cos(2 * coarse["y"]), atol=1e-12)
    assert float(abs(fine["vorticity"].values[..., ::2, ::2] - expected).max()) > 1e-2


def test_models_learn_what_is_stored(toml):
    experiment = Experiment.read(toml, ["grid.n=32", "grid.store=16", "train.steps=4"])
    data = fs.generate(experiment)
    model = fs.train(experiment, data, ["small-d4"])["small-d4"]
    assert model.spec.grid.n == (16, 16)
    assert fs.forecast(model, data, 2)["vorticity"].sizes["x"] == 16


def test_parameters_of_each_trajectory_are_stored_and_make_its_data(toml):
    """A batch of different flows is, trajectory by trajectory, what each gives alone."""
    varied = ["flow.viscosity=[2e-2, 5e-2]", "flow.rms=[1.0, 4.0, 2.0]", "dtype=float64", "solver.dt=0.05"]
    data = fs.generate(Experiment.read(toml, varied))
    assert data["viscosity"].dims == ("trajectory",)
    assert list(data["viscosity"].values) == [2e-2, 5e-2, 2e-2, 2e-2, 2e-2, 5e-2]  # in turn in each split
    assert list(data["rms"].values) == [1.0, 4.0, 2.0, 1.0, 1.0, 4.0]
    assert "viscosity" not in data.attrs
    assert data.attrs["drag"] == 0.0
    alone = fs.generate(Experiment.read(toml, ["flow.viscosity=5e-2", "flow.rms=4.0", *varied[2:]]))
    np.testing.assert_allclose(data["vorticity"][1], alone["vorticity"][1], atol=1e-12)
    assert float(abs(data["vorticity"][0] - alone["vorticity"].values[0]).max()) > 1e-2


FLOWS = {
    "tracer": ["flow.tracer={diffusivity = [1e-2, 2e-2], wavenumber = 2, mean_gradient = [0.0, 1.0]}"],
    "moved": ["flow.mean_velocity=[1.0, 0.5]"],
    "stirred": ["flow={kind = 'stirred', viscosity = 1e-2, wavenumber = 2, spin_up = 0.5}"],
    "shear": ["flow={kind = 'shear', reynolds = 100, width = 0.5}", "grid.length=[6.0, 3.0]", "grid.n=[32, 16]"],
    "convection": ["flow={kind = 'convection', viscosity = 1e-2, diffusivity = 1e-2, radius = 0.3, "
                   "tilt = {low = -0.5, high = 0.5}}"],
    "rayleigh_benard": ["flow={kind = 'rayleigh_benard', rayleigh = 1e4, wavenumber = 2}", "grid.length=2.0"],
}  # fmt: skip
INPUTS = {"tracer": ["mean_gradient", "diffusivity"], "moved": ["mean_velocity"], "stirred": [], "shear": [],
          "convection": ["gravity"], "rayleigh_benard": ["gravity", "mean_gradient"]}  # fmt: skip


@pytest.mark.parametrize("kind", FLOWS)
def test_every_flow_is_generated_learnt_and_forecast(toml, tmp_path, kind):
    """Through Zarr, with typed inputs; the D2 network that learns it is equivariant, inputs turned along."""
    model = "models={small = {kind = 'gcnn', group = 'D2', width = 8, dilations = [1]}}"
    experiment = Experiment.read(toml, [*FLOWS[kind], model, "train.steps=2"])
    data = fs.generate(experiment, tmp_path)
    assert [field.name for field in experiment.spec.inputs] == INPUTS[kind]
    for field in experiment.spec.inputs:
        assert data[field.name].dims == ("trajectory",) + (("component",) if field.order else ())
        assert data[field.name].attrs["units"] == field.units
    scalars = [str(name) for name in data.data_vars if name in ("tracer", "temperature")]
    assert len(scalars) == experiment.spec.components - 1
    assert all(np.isfinite(data[name]).all() for name in ("vorticity", *scalars))
    surrogate = fs.train(experiment, data)["small"]
    states, inputs = to_states(data, experiment.spec), to_inputs(data, experiment.spec)
    errors = fs.equivariance_error(surrogate, states[:, 0], D2, inputs)
    assert max(errors.values()) < 1e-4
    if any(field.order for field in experiment.spec.inputs):
        change = (surrogate(states[:, 0], inputs) - states[:, 0]).norm()
        half_turn, fields = D2.elements[1], experiment.spec.fields
        still = surrogate(act_on_fields(fields, states[:, 0], half_turn), inputs)  # the control: inputs left behind
        error = still - act_on_fields(fields, surrogate(states[:, 0], inputs), half_turn)
        assert float((error.norm() / change).detach()) > 1e-3
    forecast = fs.forecast(surrogate, data, 2)
    scores = fs.compare({"small": forecast}, data.isel(time=slice(0, 3)))
    assert np.isfinite(scores["nrmse"]).all()


def test_the_solver_repeats_its_data_from_what_is_stored(toml):
    """From the first state and the stored inputs, those of each trajectory."""
    experiment = Experiment.read(toml, [*FLOWS["convection"], "flow.viscosity=[1e-2, 3e-2]"])
    data = fs.generate(experiment)
    states, inputs = to_states(data, experiment.spec), to_inputs(data, experiment.spec)
    again = fs.rollout(experiment.build_solver(), states[:, 0], 4, inputs)
    assert float((again - states).abs().max()) < 1e-4 * float(states.abs().max())
    swapped = {name: value.flip(0) for name, value in inputs.items()}
    other = fs.rollout(experiment.build_solver(), states[:, 0], 4, swapped)
    assert float((other - states).abs().max()) > 1e-2 * float(states.abs().max())


def test_what_the_stirring_fed_is_stored(toml):
    """E(t₂) − E(t₁) is what was fed less what was lost, and what is fed has the asked mean."""
    overrides = [*FLOWS["stirred"], "data.train=40", "data.block=8", "flow.viscosity=1e-9", "flow.drag=1e-9"]
    data = diagnostics.add(fs.generate(Experiment.read(toml, overrides)), "kinetic_energy")
    fed = data["injected_energy"]
    assert fed.dims == ("trajectory", "time")
    assert (fed.isel(time=0) == 0).all()
    np.testing.assert_allclose(data["kinetic_energy"].diff("time"), fed[:, 1:], atol=2e-4)
    assert float(fed[:, 1:].mean()) == pytest.approx(0.1 * 0.25, rel=0.25)
    assert float(fed[:, 1:].std()) > 1e-3


def test_a_plate_s_parity_is_no_parity_of_the_field(toml):
    data = fs.generate(Experiment.read(toml, [*FLOWS["rayleigh_benard"], "models={}"]))
    assert (data["temperature"].attrs["parity"], data["temperature"].attrs["wall_parity"]) == (1, -1)
    assert (data["vorticity"].attrs["parity"], data["vorticity"].attrs["wall_parity"]) == (-1, -1)
    for name in ("temperature", "vorticity"):
        mirrored = -data[name].values[..., ::-1, :]
        np.testing.assert_allclose(data[name], mirrored, atol=1e-5 * float(abs(data[name]).max()))


def test_test_trajectories_may_be_longer(toml, tmp_path):
    """One time axis for all; the splits are cut to their own; shorter ones are the same to the bit."""
    longer = Experiment.read(toml, ["data.test_steps=6"])
    data, plain = fs.generate(longer), fs.generate(toml)
    assert data.sizes["time"] == 7
    assert [split_of(data, s, longer).sizes["time"] for s in ("train", "valid", "test")] == [5, 5, 7]
    assert np.array_equal(data["vorticity"][:, :5], plain["vorticity"])
    shorter = Experiment.read(toml, ["data.test_steps=2"])
    data = fs.generate(shorter)
    assert [split_of(data, s, shorter).sizes["time"] for s in ("train", "valid", "test")] == [5, 5, 3]
    with pytest.raises(UsageError, match="the dataset has 5 times; its test trajectories need 7"):
        split_of(plain, "test", longer)


def test_large_trajectories_are_stored_by_a_few_times(toml, tmp_path, monkeypatch):
    """A window of two states is then read without the whole trajectory; the values are the same."""
    import zarr

    whole = fs.generate(toml, tmp_path / "whole")
    monkeypatch.setattr("fluidsurrogate.data.layout.CHUNK_BYTES", 2 * 16 * 16 * 4)
    fs.generate(toml, tmp_path / "parts")
    store = zarr.open(tmp_path / "parts" / "data.zarr", mode="r")
    assert store["vorticity"].chunks == (1, 2, 16, 16)
    assert zarr.open(tmp_path / "whole" / "data.zarr", mode="r")["vorticity"].chunks == (1, 5, 16, 16)
    assert np.array_equal(fs.open_data(tmp_path / "parts" / "data.zarr")["vorticity"], whole["vorticity"])
