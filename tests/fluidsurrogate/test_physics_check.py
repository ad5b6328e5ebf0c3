"""The solver steps stored states as they are meant, and says so when they are read otherwise."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate.cli import main
from fluidsurrogate.evaluation.physics_check import check_physics, residual_of_stepper
from fluidsurrogate.evaluation.physics_report import is_accepted, record_check, recorded_check
from fluidsurrogate.evaluation.physics_sample import MIRROR
from fluidsurrogate.pipeline.pipeline import run_stages
from fluidsurrogate.pipeline.run import Run
from fluidsurrogate.simulation.user_data import check_user_data
from solvers import Grid, NavierStokes2D, NavierStokes3D, VelocityForm
from solvers import velocity as velocity_of

FOREIGN_FILES = Path(__file__).parents[3] / "shared" / "data" / "foreign"
needs_foreign_files = pytest.mark.skipif(not FOREIGN_FILES.exists(), reason="the foreign files are not here")
VISCOSITY, INTERVAL, LENGTH = 1e-2, 0.25, 2 * np.pi


def layout(values, length=LENGTH, interval=INTERVAL, name="vorticity", **attributes):
    """States in the package's layout."""
    space = ("z", "y", "x")[-(values.ndim - (3 if name == "velocity" else 2)) :]
    dims = ("trajectory", "time", *(("component",) if name == "velocity" else ()), *space)
    coords = {
        axis: (np.arange(n) + 0.5) * length / n for axis, n in zip(space, values.shape[-len(space) :], strict=True)
    }
    coords["time"] = interval * np.arange(values.shape[1])
    return xr.Dataset({name: (dims, np.asarray(values))}, coords, attributes)


def smooth(*shape, waves=4, seed=0):
    """Smooth random fields: a few waves."""
    dims = tuple(range(-(len(shape) - 2), 0))
    spectrum = torch.fft.rfftn(
        torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=dims
    )
    for dim in dims:
        k = torch.fft.fftfreq(shape[dim], 1 / shape[dim]).abs()[: spectrum.shape[dim]]
        view = [1] * len(shape)
        view[dim] = -1
        spectrum = spectrum * (k <= waves).reshape(view)
    spectrum[(..., *(0 for _ in dims))] = 0
    made = torch.fft.irfftn(spectrum, s=shape[2:], dim=dims)
    return 3 * made / made.std()


def roll(solver, start, times=5):
    """Rollout as numpy, (trajectory, time, component, ...)."""
    carry, states = solver.start(start), []
    for _ in range(times):
        states.append(solver.state(carry))
        carry = solver.advance(carry)
    return torch.stack(states, 1).numpy()


@pytest.fixture(scope="module")
def decaying():
    solver = NavierStokes2D(Grid.square(32), viscosity=VISCOSITY, interval=INTERVAL, dtype=torch.float64)
    return layout(roll(solver, smooth(4, 1, 32, 32))[:, :, 0], viscosity=VISCOSITY)


@pytest.fixture(scope="module")
def velocity():
    solver = VelocityForm(NavierStokes2D(Grid.square(32), viscosity=VISCOSITY, interval=INTERVAL, dtype=torch.float64))
    start = velocity_of(smooth(4, 1, 32, 32), Grid.square(32))
    return layout(roll(solver, start), name="velocity", viscosity=VISCOSITY)


@pytest.fixture(scope="module")
def in_space():
    solver = NavierStokes3D(Grid.cube(16), viscosity=0.05, interval=0.05, dtype=torch.float64)
    start = solver.state(solver.start(0.3 * smooth(2, 3, 16, 16, 16, waves=2)))
    return layout(roll(solver, start, 4), interval=0.05, name="velocity", viscosity=0.05)


def with_values(dataset, change):
    name = next(iter(dataset.data_vars))
    return dataset.assign({name: (dataset[name].dims, np.ascontiguousarray(change(dataset[name].values)))})


WRONG = {  # what is done to the data: the reading that must be named, and the residual as given
    "exchanged": (lambda d: with_values(d, lambda v: v.swapaxes(-1, -2)), MIRROR, (0.3, 2.5)),
    "sign": (lambda d: with_values(d, np.negative), MIRROR, (0.3, 2.5)),
    "reversed axis": (lambda d: with_values(d, lambda v: v[..., ::-1]), MIRROR, (0.3, 2.5)),
    "viscosity x 2": (lambda d: d.assign_attrs(viscosity=2 * VISCOSITY), "viscosity 0.01 (times 0.5;", (0.02, 0.5)),
    "viscosity / 6": (lambda d: d.assign_attrs(viscosity=VISCOSITY / 6), "viscosity 0.01 (times 6;", (0.02, 0.5)),
    "viscosity x 10": (lambda d: d.assign_attrs(viscosity=10 * VISCOSITY), "viscosity 0.01 (times 0.1;", (0.1, 5)),
    "interval x 1.1": (lambda d: d.assign_coords(time=1.1 * d.time), "interval 0.25 (times 0.9091)", (0.03, 0.3)),
    "normalised": (lambda d: with_values(d, lambda v: (v - v.mean()) / v.std()), "values multiplied by", (0.2, 1)),
    "other units": (lambda d: with_values(d, lambda v: 1e6 * v), "values multiplied by 1e-06", (10, np.inf)),
    "box x 2": (lambda d: d.assign_coords(x=2 * d.x, y=2 * d.y), "or a box 0.5 times as large", (0.02, 1)),
    "two at once": (
        lambda d: with_values(d, np.negative).assign_attrs(viscosity=2 * VISCOSITY),
        f"{MIRROR}, viscosity 0.01 (times 0.5;",
        (0.3, 2.5),
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_reading_is_refused_by_name(decaying, what):
    change, name, (least, most) = WRONG[what]
    report = check_physics(change(decaying))
    assert report.is_refused, report.lines()
    assert name in report.better_reading
    assert name in report.refusal()
    assert least < report.residual <= most
    assert min(trial.residual for trial in report.trials) < 1e-3


def test_right_data_are_consistent(decaying):
    """The control: also with exchange and sign change together, which nobody can tell from the data; and it says so."""
    for data in (decaying, with_values(decaying, lambda v: -v.swapaxes(-1, -2)), decaying.isel(trajectory=0)):
        report = check_physics(data)
        assert (report.verdict, report.better_reading) == ("consistent", None)
        assert report.residual < 1e-4
        assert report.estimates["viscosity"] == pytest.approx(VISCOSITY, rel=1e-3)
        assert any("a symmetry of the flow" in note for note in report.notes)


def test_a_trajectory_that_is_of_another_flow_is_named(decaying):
    mixed = decaying.copy(deep=True)
    mixed["vorticity"][0] *= -1
    report = check_physics(mixed)
    assert report.verdict == "consistent"
    (note,) = [note for note in report.notes if "not stepped" in note]
    assert "1 of the trajectories that were looked at are not stepped: trajectory 0 has a residual of " in note
    assert not [note for note in check_physics(decaying).notes if "not stepped" in note]


def test_what_nobody_states_is_fitted(decaying):
    """Viscosity, interval, drag and a mean flow."""
    silent = decaying.drop_attrs()
    report = check_physics(silent)
    assert report.verdict == "consistent"
    assert report.estimates == pytest.approx({"viscosity": VISCOSITY}, rel=1e-3)
    wrong_clock = decaying.assign_coords(time=1.3 * decaying.time)
    report = check_physics(wrong_clock, free=["interval"])
    assert (report.verdict, report.estimates["interval"]) == ("consistent", pytest.approx(INTERVAL, rel=1e-3))
    assert check_physics(wrong_clock).is_refused  # the control
    k = np.fft.fftfreq(32, 1 / 32)
    phase = np.exp(-1j * (0.7 * k[None, :] - 0.3 * k[:, None]) * silent.time.values[:, None, None])
    moving = with_values(decaying, lambda v: np.fft.ifft2(np.fft.fft2(v) * phase).real)
    report = check_physics(moving)
    assert report.verdict == "consistent"
    found = [report.estimates[f"mean_velocity_{axis}"] for axis in "xy"]
    np.testing.assert_allclose(found, [0.7, -0.3], rtol=1e-2)
    dragged = NavierStokes2D(Grid.square(32), viscosity=VISCOSITY, drag=0.3, interval=INTERVAL, dtype=torch.float64)
    report = check_physics(layout(roll(dragged, smooth(4, 1, 32, 32))[:, :, 0], viscosity=VISCOSITY))
    assert (report.verdict, report.estimates["drag"]) == ("consistent", pytest.approx(0.3, rel=1e-2))


def forced(n=32):
    y = Grid.square(n).coordinates()[0]
    forcing = (2 * torch.cos(2 * y))[:, None].expand(n, n)
    solver = NavierStokes2D(Grid.square(n), viscosity=0.02, interval=INTERVAL, forcing=forcing, dtype=torch.float64)
    return layout(roll(solver, smooth(4, 1, n, n), 6)[:, :, 0], viscosity=0.02), forcing.numpy()


def test_a_steady_forcing_is_fitted_and_judged_on_other_states():
    data, forcing = forced()
    report = check_physics(data)
    assert report.verdict == "consistent"
    assert report.trials[0].residual > 0.05  # without it
    assert np.std(report.forcing[0].numpy() - forcing) < 0.03 * np.std(forcing)
    exchanged = check_physics(with_values(data, lambda v: v.swapaxes(-1, -2)))  # the control: no forcing mends that
    assert exchanged.is_refused
    assert exchanged.better_reading.startswith(MIRROR)


def test_a_forcing_that_is_given_fixes_the_axes():
    """State and forcing may have been changed one without the other."""
    data, forcing = forced()
    given = data.assign(forcing=(("y", "x"), forcing))
    assert check_physics(given).verdict == "consistent"
    for change, name in (
        (lambda d: with_values(d, lambda v: v.swapaxes(-1, -2)), "axes of the vorticity"),
        (lambda d: d.assign(forcing=-d.forcing), "sign of the forcing"),
        (lambda d: d.assign(forcing=(("y", "x"), d.forcing.values.T)), "axes of the forcing"),
        (lambda d: d.assign(forcing=2 * d.forcing), "another steady forcing"),
    ):  # fmt: skip
        report = check_physics(change(given))
        assert report.is_refused
        assert name in report.better_reading


VELOCITY_WRONG = {
    "(v, u)": (lambda v: v[:, :, ::-1], "components in the order (v, u), or the axes exchanged"),
    "axes": (lambda v: v.swapaxes(-1, -2), "components in the order (v, u), or the axes exchanged"),
    "sign": (np.negative, "sign of the velocity changed"),
    "one sign": (lambda v: v * np.array([1, -1])[:, None, None], "the sign of the component y changed"),
    "normalised": (lambda v: v / v.std(), "values multiplied by"),
}


@pytest.mark.parametrize("what", VELOCITY_WRONG)
def test_velocity_that_is_read_wrongly(velocity, what):
    change, name = VELOCITY_WRONG[what]
    report = check_physics(with_values(velocity, change))
    assert report.is_refused
    assert name in report.better_reading


def test_velocity_that_is_read_rightly(velocity):
    assert check_physics(velocity).verdict == "consistent"
    both = with_values(velocity, lambda v: v[:, :, ::-1].swapaxes(-1, -2))  # the mirror image: a symmetry
    assert check_physics(both).verdict == "consistent"
    carried = with_values(velocity, lambda v: v + np.array([0.5, 0.0])[:, None, None])  # a mean that moves nothing
    assert check_physics(carried).verdict != "consistent"
    box = check_physics(velocity.assign_coords(x=2 * velocity.x, y=2 * velocity.y))
    assert "a box 0.5 times as large" in box.better_reading


SPACE_WRONG = {
    "(w, v, u)": (lambda d: with_values(d, lambda v: v[:, :, ::-1]), "components in the order (w, v, u)"),
    "x first": (lambda d: with_values(d, lambda v: v.transpose(0, 1, 2, 5, 4, 3)), "components in the order (w, v, u)"),
    "sign": (lambda d: with_values(d, np.negative), "sign of the velocity changed"),
    "viscosity": (lambda d: d.assign_attrs(viscosity=0.1), "viscosity 0.05"),
}


@pytest.mark.parametrize("what", SPACE_WRONG)
def test_in_space(in_space, what):
    change, name = SPACE_WRONG[what]
    report = check_physics(change(in_space))
    assert report.is_refused
    assert name in report.better_reading


def test_in_space_read_rightly(in_space):
    report = check_physics(in_space)
    assert report.verdict == "consistent"
    assert report.residual < 1e-4


def test_no_verdict_and_not_this_equation(decaying, in_space):
    tracer = decaying.rename(vorticity="tracer")
    assert check_physics(tracer).summary().startswith("no verdict: it holds neither vorticity nor velocity")
    assert check_physics(decaying.isel(time=[0])).summary() == "no verdict: it holds a single time"
    still = with_values(decaying, lambda v: np.broadcast_to(v[:, :1], v.shape))
    assert check_physics(still).summary() == "no verdict: no two neighbouring states are finite and differ"
    noise = with_values(decaying, lambda v: np.random.default_rng(0).standard_normal(v.shape))
    assert check_physics(noise).summary().startswith("no verdict: not resolved")
    x = decaying.x.values
    ramp = check_physics(with_values(decaying, lambda v: v + 2 * (x - x.mean())))
    assert ramp.summary().startswith(
        "not this equation: the states are not periodic: across the edge of the box along x"
    )
    rng = np.random.default_rng(0)
    other = with_values(decaying, lambda v: v[:, :1] * rng.standard_normal((1, v.shape[1], 1, 1)))
    report = check_physics(other)
    assert report.verdict in ("not this equation", "no verdict")
    assert not report.is_refused


def test_random_forcing_gives_no_verdict(toml):
    """A control that the solver itself cannot step; told by the data's equation, and without it by the error's band."""
    tree = fs.Experiment.read(toml, ["models={}"]).tree()
    tree["flow"] = {"kind": "stirred", "viscosity": 5e-3, "spin_up": 1.0}
    tree["grid"]["n"], tree["models"] = 32, {}
    data = fs.generate(fs.Experiment.from_tree(tree))
    assert "forced at random" in check_physics(data).reason
    silent = check_physics(data.drop_attrs().assign_attrs(viscosity=5e-3))
    assert silent.verdict in ("no verdict", "not this equation")
    assert not silent.is_refused


def test_the_dataset_says_for_ever_that_it_was_accepted(decaying, tmp_path, toml):
    wrong = with_values(decaying, np.negative)
    report = check_physics(wrong)
    kept = record_check(wrong, report, accepted=True)
    kept.to_netcdf(tmp_path / "kept.nc")
    with fs.open_data(tmp_path / "kept.nc") as opened:
        assert is_accepted(opened)
        assert recorded_check(opened)["better_reading"] == MIRROR
    assert not is_accepted(record_check(wrong, report))
    assert not is_accepted(record_check(decaying, check_physics(decaying), accepted=True))  # nothing was to be accepted
    assert not is_accepted(wrong.assign_attrs(physics_check="{"))


def test_command(decaying, tmp_path, capsys):
    decaying.to_netcdf(tmp_path / "right.nc")
    with_values(decaying, np.negative).to_netcdf(tmp_path / "wrong.nc")
    assert main(["check", str(tmp_path / "right.nc")]) == 0
    said = capsys.readouterr().out
    assert "as given " in said
    assert "verdict: consistent: " in said
    assert main(["check", str(tmp_path / "wrong.nc")]) == 1
    assert f"with another reading: {MIRROR}" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "wrong.nc"), "--accept"]) == 0
    assert main(["check", str(tmp_path / "right.nc"), "--viscosity", "-1"]) == 2
    assert "viscosity must be a number of at least 0 (got -1.0)" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "none.nc")]) == 2
    assert main(["info", str(tmp_path / "wrong.nc")]) == 0
    assert f"with another reading: {MIRROR}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"viscosity": float("nan")}, "viscosity must be a number"),
        ({"free": ["mass"]}, r"free must name .* \(got 'mass'\)"),
    ],
)
def test_arguments(decaying, arguments, message):
    with pytest.raises(fs.UsageError, match=message):
        fs.check(decaying, **arguments)


def own_data(toml, tmp_path, change=lambda d: d, overrides=()):
    data = change(fs.generate(toml).drop_attrs(deep=False))
    data.to_netcdf(tmp_path / "own.nc")
    return fs.Experiment.read(toml, [f"data.path={json.dumps(str(tmp_path / 'own.nc'))}", "train.steps=1", *overrides])


def test_the_flow_of_the_experiment(toml, tmp_path):
    """A viscosity, a drag or a forcing in [flow] that the data have not; and the control."""
    experiment = own_data(toml, tmp_path)
    with fs.open_data(experiment.data.path) as opened:
        data = opened.load()
    report = check_user_data(experiment, data)
    assert (report.verdict, report.solver_applies) == ("consistent", True)
    assert report.trials[0].name == "[flow] decaying"
    for overrides, words in ((["flow.viscosity=0.04"], r"viscosity 0\.02 "), (["flow.drag=0.5"], r"drag 0 ")):
        wrong = own_data(toml, tmp_path, overrides=overrides)
        with pytest.raises(fs.UsageError, match=rf"with another reading: {words}.*data\.accept = true"):
            check_user_data(wrong, data)
        accepted = own_data(toml, tmp_path, overrides=[*overrides, "data.accept=true"])
        assert not check_user_data(accepted, data).solver_applies
    solver = experiment.build_checking_solvers()[0]
    assert residual_of_stepper(data, solver) < 1e-5


def test_a_forcing_that_the_flow_has_not(tmp_path):
    data, _ = forced()
    tree = {"name": "t", "grid": {"n": 32}, "flow": {"kind": "decaying", "viscosity": 0.02, "wavenumber": 2},
            "data": {"train": 2, "valid": 1, "test": 1, "steps": 5, "interval": INTERVAL}}  # fmt: skip
    with pytest.raises(fs.UsageError, match=r"\[flow\] decaying is not that of the data.*a steady forcing of rms 1\.4"):
        check_user_data(fs.Experiment.from_tree(tree), data)


def test_the_solver_is_a_row_where_the_check_says_that_it_applies(toml, tmp_path, caplog):
    """Of data that [flow] steps it is, with an error; of others it is not; the truth is never called solver."""
    caplog.set_level("INFO", "fluidsurrogate")
    experiment = own_data(toml, tmp_path, overrides=["models={}"])
    tree = experiment.tree()
    tree["models"] = {"cnn": {"kind": "cnn", "width": 4}}
    for name, values, is_there in (("right", lambda d: d, True), ("noise", None, False)):
        with fs.open_data(experiment.data.path) as opened:
            data = opened.load()
        if values is None:
            data["vorticity"][:] = np.random.default_rng(0).standard_normal(data["vorticity"].shape)
        data.to_netcdf(tmp_path / f"{name}.nc")
        tree["data"]["path"] = str(tmp_path / f"{name}.nc")
        run_stages(Run(fs.Experiment.from_tree(tree), tmp_path / name), "run")
        with fs.open_data(tmp_path / name / "scores.nc") as scores:
            sources = list(map(str, scores["source"].values))
            assert ("solver-16" in sources) == is_there
            assert sources[0] == "truth"
            if is_there:
                assert scores["seconds_per_step"].sel(source="solver-16") > 0
    assert "no row of the classical solver" in caplog.text


@needs_foreign_files
def test_files_of_the_neural_operator():
    """Residuals of the prototype: (y, x) 0.5, exchanged 0.0002, without forcing 1.2, forcing at cell centres 0.12."""
    import scipy.io

    states = np.moveaxis(scipy.io.loadmat(FOREIGN_FILES / "fno_V1e-3.mat")["u"], -1, 1)  # x first
    s = np.arange(64)[:, None] / 64 + np.arange(64)[None] / 64
    forcing = [(("y", "x"), 0.1 * (np.sin(2 * np.pi * (s + d)) + np.cos(2 * np.pi * (s + d)))) for d in (0, 1 / 64)]
    given = {"length": 1.0, "interval": 1.0, "viscosity": 1e-3}
    wrong = check_physics(layout(states, **given).assign(forcing=forcing[0]))
    assert wrong.better_reading == MIRROR
    assert 0.4 < wrong.residual < 0.8
    read = layout(states.swapaxes(-1, -2), **given)
    assert check_physics(read.assign(forcing=forcing[0])).residual < 1e-3
    silent = check_physics(read)
    assert silent.trials[0].residual > 1
    assert silent.verdict == "consistent"
    np.testing.assert_allclose(silent.forcing[0].numpy(), forcing[0][1], atol=2e-3)
    unknown = check_physics(read.drop_attrs())
    assert unknown.estimates == pytest.approx({"viscosity": 1e-3, "forcing_rms": 0.1}, rel=1e-2)
    centres = check_physics(read.assign(forcing=forcing[1]))
    assert 0.1 < centres.residual < 0.15
    assert "another steady forcing" in centres.better_reading


@needs_foreign_files
def test_files_of_apebench():
    """Residuals of the prototype: as given 0.002, exchanged 0.5."""
    states = np.load(FOREIGN_FILES / "apebench" / "2d_phy_decay_turb_train.npy")[:, :, 0]
    report = check_physics(layout(states, 1.0, 0.1, viscosity=1e-3))
    assert report.verdict == "consistent"
    assert report.residual < 2e-3
    wrong = check_physics(layout(states.swapaxes(-1, -2), 1.0, 0.1, viscosity=1e-3))
    assert wrong.better_reading == MIRROR
    assert 0.4 < wrong.residual < 0.7


@needs_foreign_files
@pytest.mark.slow
def test_a_file_of_jax_cfd():
    """A finite-volume scheme, staggered: the divergence tells that x is first, and that u and v are on faces."""
    with xr.open_dataset(FOREIGN_FILES / "jaxcfd" / "velocity_64.nc") as file:
        states = np.stack([file["u"].values, file["v"].values], axis=1)[None]
        interval = float(file["time"][1] - file["time"][0])
    as_stored = fs.check(layout(states, interval=interval, name="velocity"))
    assert "components in the order (v, u), or the axes exchanged" in as_stored.better_reading
    turned = states.swapaxes(-1, -2)
    staggered = fs.check(layout(turned, interval=interval, name="velocity"))
    assert [fault.kind for fault in staggered.errors] == ["divergence"]
    k = 2 * np.pi * np.fft.fftfreq(64)
    half = [np.exp(-0.5j * k)[None, :], np.exp(-0.5j * k)[:, None]]
    moved = np.stack([np.fft.ifft2(np.fft.fft2(turned[:, :, i]) * half[i]).real for i in (0, 1)], axis=2)
    right = fs.check(layout(moved, interval=interval, name="velocity"))
    assert not right.is_refused
    assert right.residual < staggered.residual
    assert right.reason.startswith("as given is the best reading that was tried")
