"""Whether generated data are resolved: the measure against solvers built by hand, and what generate does with it."""

import json
import math

import numpy as np
import pytest
import torch

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.simulation import generation, resolution, trajectory_blocks
from fluidsurrogate.simulation.resolution import ResolutionSample
from solvers import Grid, NavierStokes2D, Resampled, StochasticForcing, resample

SMALL = ["data.train=1", "data.valid=1", "data.test=1", "data.steps=2", "train.unroll=1", "dtype=float64"]
FLOWS = {
    "decaying": [],
    "kolmogorov": ["flow.kind=kolmogorov", "flow.waves=2", "flow.wavenumber=3"],
    "stirred": ["flow.kind=stirred", "flow.wavenumber=3"],
    "tracer": ["flow.tracer.diffusivity=0.02", "flow.tracer.mean_gradient=[0, 1]"],
    "several viscosities": ["flow.viscosity=[0.04, 0.02, 0.03]", "data.test=3"],
}
LEAST_VISCOSITY = {"several viscosities": 1}  # the number of the trajectory that is measured


@pytest.mark.parametrize("flow", FLOWS)
def test_error_is_that_of_the_coarse_solver(toml, flow):
    """Both solvers built by hand, in double precision, from the full state after the spin-up: the same number."""
    experiment = Experiment.read(toml, [*SMALL, *FLOWS[flow]])
    data = fs.generate(experiment)
    number = LEAST_VISCOSITY.get(flow, 0)
    grids, (own,) = (Grid.square(16), Grid.square(32)), experiment.flows("test", [number])
    seed = [experiment.trajectory_seed("test", number)]
    taken, after = {field.name for field in experiment.spec.inputs}, []
    inputs = {name: value for name, value in own.inputs(grids[0]).items() if name in taken}
    spun = trajectory_blocks.spin_up(experiment, own.starts(grids[0], seed), inputs, seed)
    for grid in grids:
        solver = own.solver(grid, interval=0.25, dtype=torch.float64)
        taken = {field.name for field in solver.spec.inputs}  # not a viscosity that differs from the others'
        inputs = {name: value for name, value in own.inputs(grid).items() if name in taken}
        state = solver.state(solver.advance(solver.start(resample(spun, grids[0], grid), inputs, seed)))
        after.append(resample(state, grid, grids[0])[0].numpy())
    off, size = (np.sqrt((x**2).mean((-2, -1))) for x in (after[0] - after[1], after[1]))
    assert data.attrs["resolution_error"] == pytest.approx((off / size).max(), rel=1e-6)
    if flow == "tracer":
        each = [data.attrs[f"resolution_error_{name}"] for name in ("vorticity", "tracer")]
        np.testing.assert_allclose(each, off / size, rtol=1e-6)
    assert data.attrs["resolution_check"] == "n against 2n cells over one stored interval"


def test_error_falls_with_the_cells(toml):
    """Spectral convergence: what is unresolved on 16 cells is resolved on 48; generate warns of the first alone."""
    errors = [fs.generate(Experiment.read(toml, [*SMALL, f"grid.n={n}"])).attrs["resolution_error"] for n in (16, 48)]
    assert errors[0] > 0.05
    assert errors[1] < 0.01


def test_other_kicks_would_be_another_flow(toml, monkeypatch):
    """The control: were the finer solver kicked by other numbers, a resolved stirred flow would look unresolved."""
    experiment = Experiment.read(toml, [*SMALL, *FLOWS["stirred"], "grid.n=48", "flow.rate=1.0"])
    assert fs.generate(experiment).attrs["resolution_error"] < 0.01
    drawn = StochasticForcing.coefficients
    monkeypatch.setattr(
        StochasticForcing,
        "coefficients",
        lambda self, grid, seeds, *at: drawn(self, grid, [s + grid.n[0] for s in seeds], *at),
    )
    assert fs.generate(experiment).attrs["resolution_error"] > 0.02


def test_spectral_measures_against_closed_forms():
    """One wavenumber k: P = k² Z, so χ = 2 ν k² Z; and a field whose enstrophy lies one half in the last shells."""
    grid, viscosity = Grid.square(32), 1e-3
    solver = NavierStokes2D(grid, viscosity=viscosity, interval=1.0)
    _, x = grid.coordinates()
    one = 3 * torch.cos(4 * x).expand(1, 1, *grid.n)
    sample = ResolutionSample.from_states(one, solver, viscosity, 1)
    chi = 2 * viscosity * 16 * (9 / 4)
    assert sample.kmax_eta == pytest.approx(10 * (viscosity**3 / chi) ** (1 / 6), rel=1e-6)
    assert sample.tail < 1e-12
    both = torch.cat([one, one + 3 * torch.cos(10 * x).expand(1, 1, *grid.n)])
    assert ResolutionSample.from_states(both, solver, viscosity, 1).tail == pytest.approx(0.5, rel=1e-6)


def test_a_fluid_at_rest_is_resolved():
    solver = NavierStokes2D(Grid.square(16), viscosity=1e-2, interval=1.0)
    sample = ResolutionSample.from_states(torch.zeros(2, 1, 16, 16), solver, 1e-2, 1)
    assert (sample.kmax_eta, sample.tail) == (math.inf, 0.0)


def test_number_of_training_trajectories_does_not_matter(toml):
    few, many = (fs.generate(Experiment.read(toml, [f"data.train={n}"])).attrs for n in (1, 5))
    for name in ("resolution_error", "kmax_eta", "enstrophy_in_last_shells"):
        assert few[name] == many[name]


def test_memory_and_disk_and_a_resumed_run_say_the_same(experiment, tmp_path, monkeypatch):
    """A run that ends after its data and before the measurement, or within the data, goes on to the same numbers."""
    whole = fs.generate(experiment).attrs
    for name, stops in (("measure_resolution", 1), ("simulate", 4)):
        original, calls = getattr(generation, name), []

        def stopping(*arguments, original=original, calls=calls, stops=stops):
            calls.append(1)
            if len(calls) == stops:
                raise KeyboardInterrupt
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(generation, name, stopping)
            with pytest.raises(KeyboardInterrupt):
                fs.generate(experiment, tmp_path / name)
        attributes = fs.generate(experiment, tmp_path / name).attrs
        for key in ("resolution_error", "resolution_check", "kmax_eta", "enstrophy_in_last_shells", "fingerprint"):
            assert attributes[key] == whole[key], (name, key)


def test_limit_refuses_and_is_part_of_no_hash(toml, tmp_path, caplog):
    strict = Experiment.read(toml, ["data.max_resolution_error=0.01"])
    for out in (None, tmp_path / "a"):
        with pytest.raises(
            UsageError, match=r"resolution error is \d+\.\d\d%.*data.max_resolution_error = 0.01: raise"
        ):
            fs.generate(strict, out)
    assert not (tmp_path / "a" / "data.zarr").exists()
    generous = Experiment.read(toml, ["data.max_resolution_error=0.9"])
    assert fs.generate(generous, tmp_path / "a").attrs["fingerprint"] == fs.generate(toml).attrs["fingerprint"]
    with pytest.raises(UsageError, match=r"resolution error is 12.72%, but data.max_resolution_error = 0.01"):
        fs.generate(strict, tmp_path / "a")  # that are there already
    fs.generate(toml, tmp_path / "a")  # the same data: nothing is refused, nothing made again
    caplog.clear()
    resolved = Experiment.read(toml, [*SMALL, "grid.n=48", "data.max_resolution_error=0.01"])
    assert fs.generate(resolved).attrs["resolution_error"] < 0.01
    assert "not resolved" not in caplog.text


def test_generate_says_it_and_warns(toml, caplog):
    with caplog.at_level("INFO", "fluidsurrogate"):
        fs.generate(toml)
    assert "resolution: error 12.7% (n against 2n cells over one stored interval), k_max eta" in caplog.text
    assert "not resolved: on twice the cells the flow differs by 12.72%" in caplog.text


def test_what_is_not_affordable_is_measured_in_part_or_not_at_all(toml, monkeypatch):
    """A smaller budget: over an eighth of the interval the flows differ less; over none, only the spectrum is left."""
    experiment = Experiment.read(toml, [*SMALL, "data.block=1"])
    whole = fs.generate(experiment).attrs
    monkeypatch.setattr(resolution, "WORK_FRACTION", 0.0)
    cells = 16 * 16
    steps = round(0.25 / whole["inner_step"])
    monkeypatch.setattr(resolution, "WORK_PER_SECOND", 8 * steps * cells / 2)
    half = fs.generate(experiment).attrs
    assert half["resolution_check"] == "n against 2n cells over 0.125, a part of the stored interval"
    assert 0.2 * whole["resolution_error"] < half["resolution_error"] < 0.9 * whole["resolution_error"]
    monkeypatch.setattr(resolution, "WORK_PER_SECOND", 1.0)
    none = fs.generate(experiment).attrs
    assert none["resolution_check"] == "spectrum alone"
    assert "resolution_error" not in none
    assert none["kmax_eta"] == whole["kmax_eta"]
    with pytest.raises(UsageError, match="is not known"):
        fs.generate(Experiment.read(toml, [*SMALL, "data.block=1", "data.max_resolution_error=0.5"]))


def test_truth_of_every_comparison_has_its_rivals(toml, tmp_path):
    """The stored grid's solver, and those that are asked for, begin where the networks do; checked by hand."""
    from fluidsurrogate.pipeline.forecasts import forecast_all

    wanted = "compare.solvers=[{n=24}, {n=24, order=2, dt=0.05}]"
    experiment = Experiment.read(toml, ["grid.n=32", "grid.store=16", wanted])
    data = fs.generate(experiment)
    truth = data.isel(trajectory=data["split"].values == "test")
    forecasts = forecast_all(experiment, {}, truth)
    names = ["truth", "persistence", "solver-16", "solver-24", "solver-24-etdrk2-dt0.05"]
    assert list(forecasts["source"].values) == names
    assert np.array_equal(forecasts["vorticity"].sel(source="truth"), truth["vorticity"])
    start = torch.from_numpy(truth["vorticity"].values[:, 0])[:, None]
    stored = Grid.square(16)
    for name, n, order, dt in ((names[2], 16, 4, None), (names[3], 24, 4, None), (names[4], 24, 2, 0.05)):
        solver = NavierStokes2D(Grid.square(n), viscosity=0.02, interval=0.25, order=order, dt=dt)
        rolled = fs.rollout(Resampled(solver, stored), start, 4)[:, :, 0].numpy()
        np.testing.assert_allclose(forecasts["vorticity"].sel(source=name), rolled, atol=1e-5)
    scores = fs.compare({n: forecasts.sel(source=n, drop=True) for n in names}, truth)
    error = scores["nrmse_first_step"].sel(source=names).values
    assert error[0] == 0.0
    assert error[3] < 0.5 * error[2] < 0.5 * error[1]  # on 24 cells all that is stored is held, on 16 it is not
    for variable in ("seconds_per_step", "parameters", "equivariance_error"):
        assert forecasts[variable].sel(source="truth").isnull().all()
    assert (forecasts["seconds_per_step"].sel(source=names[1:]) > 0).all()


def test_a_solver_of_a_stirred_flow_does_not_know_the_kicks(toml):
    """On the truth's own grid, from its own start: with the truth's kicks it would be the truth, to rounding."""
    from fluidsurrogate.pipeline.forecasts import forecast_all

    experiment = Experiment.read(toml, [*FLOWS["stirred"], "flow.rate=1.0", "flow.renewal=0.25"])
    data = fs.generate(experiment)
    test = data["split"].values == "test"
    truth = data.isel(trajectory=test)
    forecast = forecast_all(experiment, {}, truth)["vorticity"].sel(source="solver-16").values
    size = np.sqrt((truth["vorticity"].values ** 2).mean())
    assert np.sqrt(((forecast - truth["vorticity"].values)[:, -1] ** 2).mean()) > 0.1 * size
    start = torch.from_numpy(truth["vorticity"].values[:, 0])[:, None]
    told = fs.rollout(experiment.build_solver(), start, 4, seeds=truth["seed"].values.tolist())
    np.testing.assert_allclose(told[:, :, 0], truth["vorticity"], atol=1e-3 * size)


def test_data_of_ones_own_are_the_truth_and_have_no_solver(toml, tmp_path):
    """Noise is no flow: no row may claim that a solver made it."""
    from fluidsurrogate.pipeline.pipeline import reports, run_stages
    from fluidsurrogate.pipeline.run import Run

    data = fs.generate(toml)
    noise = np.random.default_rng(0).standard_normal(data["vorticity"].shape).astype(np.float32)
    data.assign(vorticity=data["vorticity"].copy(data=noise)).drop_attrs(deep=False).to_netcdf(tmp_path / "own.nc")
    path = json.dumps(str(tmp_path / "own.nc"))
    pipeline = Run(Experiment.read(toml, [f"data.path={path}", "train.steps=2"]), tmp_path / "out")
    run_stages(pipeline, "run")
    with fs.open_data(tmp_path / "out" / "scores.nc") as scores:
        assert list(scores["source"].values) == ["truth", "persistence", "small-d4", "small-cnn"]
        assert np.isnan(scores["seconds_per_step"].sel(source="truth"))
    assert "resolution of the truth: not known" in reports(pipeline, "run")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["compare.solvers=[{n=16}]"], "compare.solvers: solver-16 is compared already"),
        (["compare.solvers=[{n=24},{n=24}]"], "compare.solvers: solver-24 is compared already"),
        (["compare.solvers=[{n=24,dt=0.1}]"], "compare.solvers: dt must divide"),
        (
            ["compare.solvers=[{n=[24,32]}]"],
            "compare.solvers: solver.n must be square if and only if the stored grid is square",
        ),
        (["compare.solvers=[{cells=24}]"], "unknown key 'compare.solvers.0.cells'"),
        (["models.truth.kind=cnn"], "models.truth: every comparison has a source of this name already"),
        (["models.solver-16.kind=cnn"], "models.solver-16: every comparison has a source of this name already"),
    ],
)
def test_solvers_that_make_no_sense_are_refused(toml, overrides, message):
    with pytest.raises(UsageError) as refusal:
        Experiment.read(toml, overrides)
    assert message in str(refusal.value)


def test_a_forcing_that_the_stored_grid_does_not_hold(toml):
    """Then there is no solver on the stored grid, and the comparison goes on without it."""
    kolmogorov = ["flow.kind=kolmogorov", "flow.waves=6", "grid.n=32", "grid.store=16", "models={}"]
    experiment = Experiment.read(toml, kolmogorov)
    assert list(experiment.build_baseline_solvers()) == []
    experiment = Experiment.read(toml, [*kolmogorov, "compare.solvers=[{n=24}]"])
    assert list(experiment.build_baseline_solvers()) == ["solver-24"]


def test_info_card_and_report_show_it(finished, toml):
    """What the data say of their resolution goes with the model that learnt from them."""
    from fluidsurrogate.inspection.model_card import model_card
    from fluidsurrogate.inspection.report import report
    from fluidsurrogate.pipeline.pipeline import reports
    from fluidsurrogate.pipeline.run import Run

    pipeline = Run(Experiment.read(toml), finished)
    said = "error 12.7% (n against 2n cells over one stored interval)"
    model = finished / "models" / "small-d4"
    assert said in fs.info(finished / "data.zarr")["says"]["resolution"]
    assert said in fs.info(model)["resolution"]
    assert said in report(fs.info(model))
    assert said in report(fs.info(finished / "data.zarr"))
    assert said in model_card(fs.load(model))
    assert f"resolution of the truth: {said}" in reports(pipeline, "run")
