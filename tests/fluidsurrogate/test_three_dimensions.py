"""Experiments in three dimensions: a whole run in miniature, files and tensors, and every bad input in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.cli import main
from fluidsurrogate.config.experiment_file import read_tree
from fluidsurrogate.core import memory
from fluidsurrogate.data.alignment import align_to_truth
from fluidsurrogate.data.conversion import to_dataset, to_inputs, to_states
from fluidsurrogate.data.grids import grid_of
from fluidsurrogate.data.schema import check_matches
from fluidsurrogate.simulation.generation import generate_in_memory
from fluidsurrogate.simulation.resolution import ResolutionSample
from fluidsurrogate.training.augmentation import Augmentation
from solvers import FORCING, GRAVITY, GROUPS, TRACER, VELOCITY, VISCOSITY, Grid, StateSpec, act, field_in, resample

MINIATURE = Path(__file__).parents[1] / "miniature_3d.toml"
GRID = Grid((8, 10, 12), (1.0, 2.0, 3.0))
FIELDS = tuple(field_in(field, 3) for field in (VELOCITY, TRACER))
INPUTS = tuple(field_in(field, 3) for field in (VISCOSITY, GRAVITY, FORCING))
SPEC = StateSpec(GRID, FIELDS, 0.5, INPUTS)


BOX = "grid={n=[16, 32, 32], length=[1.0, 2.0, 2.0]}"


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def stored():
    """States and inputs of three trajectories at two times, and the dataset of them."""
    states = random(3, 2, 4, *GRID.n)
    inputs = {
        "viscosity": random(3, 1, 1, 1, 1).abs(),
        "gravity": random(3, 3, 1, 1, 1),
        "forcing": random(3, 3, *GRID.n),
    }
    return states, inputs, to_dataset(SPEC, states, inputs=inputs)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a whole run of the miniature."""
    folder = tmp_path_factory.mktemp("run") / "out"
    assert main(["run", str(MINIATURE), "--out", str(folder)]) == 0
    return folder


# -- a whole run


def test_data(finished):
    with fs.open_data(finished / "data.zarr") as data:
        assert data["velocity"].dims == ("trajectory", "time", "component", "z", "y", "x")
        assert data["velocity"].shape == (4, 4, 3, 8, 8, 8)
        assert data["velocity"].encoding["chunks"] == (1, 4, 3, 8, 8, 8)
        assert [data.attrs[f"solver_n{axis}"] for axis in "zyx"] == [16, 16, 16]
        assert data.attrs["resolution_check"] == "n against 3n/2 cells over one stored interval"
        assert 0 < data.attrs["resolution_error"] < 0.5
        again = generate_in_memory(Experiment.read(MINIATURE))
        np.testing.assert_array_equal(again["velocity"], data["velocity"])
        # Stored by truncation: the same flow as on the solver's grid, which is not divergence-free on strided samples.
        u, grid = torch.from_numpy(data["velocity"][0].to_numpy()), Grid.cube(8)
        spectrum, k = torch.fft.rfftn(u, dim=grid.dims), grid.odd_wavenumbers()
        divergence = sum(k[-1 - i] * spectrum[:, i] for i in range(3)).abs().max()
        assert divergence < 1e-5 * spectrum.abs().max()


def test_scores(finished):
    with xr.open_dataset(finished / "scores.nc") as scores, xr.open_dataset(finished / "forecasts.nc") as forecasts:
        errors = forecasts["equivariance_error"].sel(source="small-o")
        rotations = [g.name for g in GROUPS[3]["O"] if g.name in errors["element"].values]
        mirrors = [name for name in errors["element"].values if name not in rotations]
        assert errors.sel(element=rotations).max() < 1e-4
        assert errors.sel(element=mirrors).min() > 1e-2
        assert forecasts["equivariance_error"].sel(source="solver-8").max() < 1e-4
        assert scores["nrmse"].sel(source="truth").max() == 0
        assert (scores["nrmse"].sel(source="persistence").isel(time=-1) > 0.1).all()
    assert {"scores.csv", "comparison.png", "scores.png"} <= {path.name for path in finished.iterdir()}


def test_info(finished, capsys):
    assert all(main(["info", str(finished / part)]) == 0 for part in ("data.zarr", "models/small-o"))
    said = capsys.readouterr().out
    assert "velocity(trajectory, time, component, z, y, x): float32, m s-1, vector" in said
    assert "8 x 8 x 8 cells on 6.28319 x 6.28319 x 6.28319" in said
    assert "the point group O and shifts by whole cells" in said


def test_forecasts_from_a_file_by_model_and_solver(finished, tmp_path):
    start = finished / "data.zarr"
    rolled = {}
    for model in ("small-o", "solver"):
        to = tmp_path / f"{model}.zarr"
        command = ["rollout", str(MINIATURE), "--out", str(finished), "--model", model, "--start", str(start)]
        assert main([*command, "--steps", "3", "--to", str(to), "--batch", "3"]) == 0
        rolled[model] = fs.open_data(to)["velocity"]
        assert rolled[model].shape == (4, 4, 3, 8, 8, 8)
    with fs.open_data(start) as data:
        truth = data["velocity"].load()
        for forecast in rolled.values():
            np.testing.assert_array_equal(forecast.isel(time=0), truth.isel(time=0))
        off = abs(rolled["solver"] - truth).isel(time=1).max()
        assert off < 0.5 * abs(truth.isel(time=1)).max()  # of a start that has lost its small scales
        forecast = fs.forecast(fs.load(finished / "models" / "small-o"), data, 3)
        np.testing.assert_allclose(forecast["velocity"], rolled["small-o"], atol=1e-5)


def test_fine_tuning_for_a_flow_with_another_input(finished):
    trained = finished / "models" / "small-o"
    overrides = ["flow.viscosity=[4e-2, 6e-2]", f"models={{fine={{kind='gcnn',group='O',width=24,dilations=[1],"
                 f"lifting_size=3,init='{trained}'}}}}"]  # fmt: skip
    experiment = Experiment.read(MINIATURE, overrides)
    assert [field.name for field in experiment.spec.inputs] == ["viscosity"]
    tuned = fs.train(Experiment.from_tree(experiment.tree() | {"train": experiment.tree()["train"] | {"steps": 1}}))
    assert tuned["fine"].network.lift.weight.shape[1] == 4


# -- datasets and tensors


def test_states_and_inputs_survive_a_dataset_in_any_order(stored):
    states, inputs, dataset = stored
    assert dataset["velocity"].dims == ("trajectory", "time", "component", "z", "y", "x")
    assert list(dataset["component"].values) == ["x", "y", "z"]
    assert dataset.attrs["length_z"] == 1.0
    assert dataset["gravity"].dims == ("trajectory", "component")
    assert grid_of(dataset).n == GRID.n
    np.testing.assert_allclose(grid_of(dataset).length, GRID.length)
    turned = dataset.isel(component=[2, 0, 1]).transpose("x", "component", "z", ...)
    for data in (dataset, turned):
        torch.testing.assert_close(to_states(data, SPEC), states, rtol=0, atol=0)
        for name, value in to_inputs(data, SPEC).items():
            torch.testing.assert_close(value, inputs[name], rtol=0, atol=0)
    value = dataset["velocity"].sel(component="y").isel(trajectory=1, time=1).sel(x=2.875, y=0.1, z=0.0625)
    assert float(value) == float(states[1, 1, 1, 0, 0, 11])


def test_components_in_another_order_are_aligned(stored):
    _, _, dataset = stored
    aligned = align_to_truth(dataset.isel(component=[1, 2, 0]), dataset)
    xr.testing.assert_identical(aligned["velocity"], dataset["velocity"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.isel(z=0, drop=True), "the dataset is of 2 dimensions, y, x; expected 3, z, y, x"),
        (lambda d: d.isel(component=[0, 1]), "the coordinate component must be x, y, z (got ['x', 'y'])"),
        (lambda d: d.assign_coords(component=["u", "v", "w"]), "component must be x, y, z"),
        (lambda d: d.drop_vars("component").isel(component=[0, 1]), "has 2 components; expected 3, x, y and z"),
        (lambda d: d.assign_coords(z=d["z"] + 1.0), "z must be cell centres"),
        (lambda d: d.isel(z=slice(None, None, -1)), "z must be cell centres that increase"),
        (lambda d: d.isel(z=slice(0, 6)), "n must be even and at least 8"),
        (lambda d: d.drop_vars("z"), "no coordinate 'z'"),
        (lambda d: d.assign(gravity=d["gravity"].isel(component=0, drop=True)), "gravity' has no dimension"),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(stored, change, said):
    with pytest.raises(UsageError) as caught:
        check_matches(change(stored[2]), SPEC)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_in_space_for_an_experiment_of_the_plane(experiment, stored):
    with pytest.raises(UsageError, match="of 3 dimensions, z, y, x; expected 2, y, x: select one plane"):
        check_matches(stored[2], experiment.spec)


# -- experiments


def test_defaults_of_three_dimensions():
    overrides = ["models={g={kind='gcnn'}}"]
    tree = Experiment.from_tree(read_tree(MINIATURE, overrides), check_networks=False).tree()
    assert tree["data"]["state"] == "velocity"
    assert tree["flow"]["mean_velocity"] == [0, 0, 0]
    assert tree["models"]["g"]["group"] == "Oh"
    assert Experiment.from_tree(tree, check_networks=False).tree() == tree
    box = Experiment.read(MINIATURE, [BOX, "models={}"])
    assert box.spec.grid == Grid((16, 32, 32), (1.0, 2.0, 2.0))
    assert "dimensions" not in box.tree()["grid"]


def test_the_plane_is_recorded_as_ever(experiment):
    assert list(experiment.tree()["grid"]) == ["n", "length"]
    assert experiment.tree()["data"]["state"] == "vorticity"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("grid.n=[16, 16]", "grid: n must be one number or [z, y, x] (got [16, 16])"),
        ("grid.n=[16, 16, 16, 16]", "grid: n must be one number, [y, x] or [z, y, x]"),
        ("grid.length=[1.0, 2.0]", "grid: length must be one number or [z, y, x]"),
        ("grid.store=[8, 8, 16]", "store must be at most n along each axis, and equal on two axes if and only if n is"),
        ("grid.dimensions=4", "grid.dimensions: input should be 2 or 3 (got 4)"),
        ("grid.n=4096", "grid.n: a flow on 4096 x 4096 x 4096 cells on 6.28319 x 6.28319 x 6.28319 would take 1.23"),
        ("data.state='vorticity'", "data.state = 'vorticity' needs a grid in 2 dimensions; take 'velocity'"),
        ("flow.kind='shear'", "flow: kind = 'shear' is a flow in 2 dimensions, and the grid is of 3; take one of"),
        ("flow.kind='raining'", "flow.kind: unknown flow 'raining'; one of 'abc'"),
        ("flow.mean_velocity=[1.0, 0.0]", "flow.mean_velocity: must be [x, y, z] (got [1.0, 0.0])"),
        ("flow.tracer={diffusivity=1.0, mean_gradient=[1.0, 0.0]}", "flow.tracer.mean_gradient: must be [x, y, z]"),
        ("models={s={kind='steerable'}}", "models.s: kind = 'steerable' is not for 3 dimensions; take one of cnn"),
        ("models={s={kind='gfno'}}", "models.s: kind = 'gfno' is not for 3 dimensions; take one of cnn"),
        ("models.small-o.group='D8'", "models.small-o: unknown group 'D8' in three dimensions; one of C1, Ci"),
        ("models.small-cnn.augment='p4m'", "models.small-cnn: unknown group 'p4m' in three dimensions"),
        (BOX, "models.small-o: group 'O' is not a symmetry of this box"),
        ("compare.solvers=[{n=[8, 8, 12]}]", "solver.n must be equal on two axes if and only if the stored grid is"),
    ],
)  # fmt: skip
def test_bad_values(override, said):
    with pytest.raises(UsageError) as caught:
        Experiment.read(MINIATURE, [override])
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_too_many_states_for_the_memory(monkeypatch):
    experiment = Experiment.read(MINIATURE, ["models={}"])
    monkeypatch.setattr(memory, "free_memory", lambda device: 2**19)
    with pytest.raises(UsageError, match=r"a block of 2 trajectories of 4 states on 16 x 16 x 16 cells .* data\.block"):
        generate_in_memory(experiment)


def test_resolution_of_known_fields():
    """A single Beltrami mode: k_max η with Kolmogorov's η, and all of the enstrophy in one shell."""
    experiment = Experiment.read(MINIATURE, ["models={}"])
    solver, grid = experiment.build_solver(), Grid.cube(16)
    z = grid.mesh()[0].expand(grid.n)
    for k, tail in ((2, 0.0), (5, 1.0)):  # the two-thirds rule retains modes up to 5
        u = torch.stack([torch.sin(k * z), torch.cos(k * z), torch.zeros_like(z)])[None]
        sample = ResolutionSample.from_states(u, solver, 0.05, 1)
        eta = (0.05**3 / (2 * 0.05 * k**2 / 2)) ** 0.25
        assert sample.kmax_eta == pytest.approx(5 * eta, rel=1e-6)
        assert sample.tail == pytest.approx(tail, abs=1e-12)


def test_augmentation_moves_states_and_inputs_by_elements_of_the_cube():
    grid = Grid.cube(8)
    spec = StateSpec(grid, FIELDS, 0.5, INPUTS)
    states, gravity = random(2, 3, 4, *grid.n), random(2, 3, 1, 1, 1)
    seen = set()
    for step in range(40):
        moved, inputs = Augmentation(spec, "Oh", seed=1)(states, {"gravity": gravity}, step)
        fits = [g for g in GROUPS[3]["Oh"] if torch.equal(act(FIELDS[0], states[:, :, :3], g), moved[:, :, :3])]
        assert len(fits) == 1
        torch.testing.assert_close(inputs["gravity"], act(INPUTS[1], gravity, fits[0]))
        seen.add(fits[0].name)
    assert len(seen) > 20


def test_truncation_of_what_is_stored():
    """What is stored on n / 2 cells is the solver's flow, resampled; so are its times and labels."""
    experiment = Experiment.read(MINIATURE, ["flow.spin_up=0.0", "models={}"])
    start = experiment.flows("train", [0])[0].starts(Grid.cube(16), [experiment.trajectory_seed("train", 0)])
    data = generate_in_memory(experiment)
    expected = resample(start, Grid.cube(16), Grid.cube(8))[0]
    np.testing.assert_allclose(data["velocity"][0, 0].values, expected.numpy(), atol=1e-5)
    assert json.loads(data.attrs["experiment"])["grid"]["dimensions"] == 3
