"""Audits: of models that are right, wrong, foreign or still; against index arithmetic and closed forms."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from examples import EXAMPLES
from reference import acted, noise
from torch import nn

import fluidsurrogate as fs
import fluidsurrogate.models.loading
from fluidsurrogate import Persistence, UsageError
from fluidsurrogate.auditing.module_stepper import ModuleStepper
from fluidsurrogate.auditing.report import audit_table
from fluidsurrogate.cli import main
from solvers import (
    D1,
    D4,
    FLOWS,
    FORCING,
    TRACER,
    VELOCITY,
    VISCOSITY,
    VORTICITY,
    Grid,
    NavierStokes2D,
    StateSpec,
    Stepper,
    VelocityForm,
)  # fmt: skip
from solvers.velocity_form import with_velocity

N, INTERVAL = 16, 0.1
SPEC = StateSpec(Grid.square(N), (VORTICITY,), INTERVAL)
MIRRORS = [g.name for g in D4 if g.determinant < 0]


class Function(nn.Module):
    """A module that is a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def spectral(symbol, n=N):
    """x⁺ = x + F⁻¹[symbol(ky, kx) F x], Nyquist modes left out."""
    k = np.fft.fftfreq(n, 1 / n)
    ky, kx = np.meshgrid(k, k, indexing="ij")
    factor = torch.from_numpy(np.where((abs(ky) < n / 2) & (abs(kx) < n / 2), symbol(ky, kx), 0))
    return Function(lambda x: x + torch.fft.ifft2(factor * torch.fft.fft2(x.double())).real.to(x))


def diffusion(n=N):
    return spectral(lambda ky, kx: np.exp(-0.02 * (ky**2 + kx**2)) - 1, n)


def conv(symmetric):
    """A circular 3 × 3 convolution; a pseudoscalar's must have no bias."""
    layer = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular", bias=False, dtype=torch.float64)
    kernel = [[0.1, 0.2, 0.1], [0.2, -0.5, 0.2], [0.1, 0.2, 0.1]] if symmetric else np.arange(9.0).reshape(3, 3)
    layer.weight.data[:] = torch.as_tensor(kernel)
    return layer


def smooth(n=N, seed=0, fields=(VORTICITY,)):
    """A band-limited state: no waves shorter than four cells."""
    states = noise(fields, n, seed=seed)
    k = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    return torch.fft.ifft2(torch.fft.fft2(states) * (torch.hypot(k[:, None], k) <= n / 4)).real


def own_inputs(flow, solver):
    """The flow's values of what is an input of this solver."""
    values = flow.inputs(solver.grid)
    return {field.name: values[field.name] for field in solver.spec.inputs}


# -- right and wrong models, through the command line


@pytest.fixture(scope="module")
def folders(trained, tmp_path_factory):
    """The miniature's models and data on disk."""
    data, models = trained
    out = tmp_path_factory.mktemp("audited")
    for name, model in models.items():
        fs.save(model, out / name)
    data.to_netcdf(out / "data.nc")
    return out


def test_a_right_model_passes(folders, trained, tmp_path, capsys, picture_layout):
    data, models = trained
    to = tmp_path / "audited"
    assert main(["audit", str(folders / "small-d4"), "--data", str(folders / "data.nc"), "--to", str(to)]) == 0
    out = capsys.readouterr().out
    assert "pass: everything claimed holds to" in out
    assert str(to / "audit.nc") in out
    audit = fs.open_data(to / "audit.nc")
    assert audit.attrs["verdict"] == "pass"
    assert audit.attrs["group"] == "D4"
    assert audit["claimed"].values.all()
    assert json.loads(audit.attrs["model_experiment"])["name"] == "miniature"
    assert (to / "audit.png").read_bytes().startswith(b"\x89PNG")
    # The same numbers by index arithmetic, for a shift and an unclaimed model too.
    test = data["vorticity"].values[data["split"].values == "test"]
    state = torch.from_numpy(np.concatenate([test[:, 0], test[:, -1]]))[:, None]
    model = models["small-cnn"]
    audit = fs.audit(model, states=data)
    assert audit.attrs["states"] == 4
    with torch.no_grad():
        after = model(state)
        change = float((after - state).norm())
        for g in D4.elements[1:]:
            error = float((model(acted(SPEC.fields, state, g)) - acted(SPEC.fields, after, g)).norm()) / change
            assert error == pytest.approx(float(audit["equivariance_error"].sel(element=g.name)), rel=1e-3)
        index = (np.arange(16) - 3) % 16, (np.arange(16) - 5) % 16
        moved = state[:, :, index[0]][..., index[1]]
        error = float((model(moved) - after[:, :, index[0]][..., index[1]]).norm()) / change
    assert error < 1e-5
    assert float(audit["translation_error"].sel(shift="3 in y, 5 in x")) < 1e-5
    assert audit.attrs["verdict"] == "pass"  # it claims shifts only
    assert not audit["claimed"].values.any()


def test_states_come_from_the_models_experiment_and_files_go_beside_it(folders, capsys):
    assert main(["audit", str(folders / "small-d4"), "--steps", "3"]) == 0
    audit = fs.open_data(folders / "small-d4" / "audit.nc")
    assert audit.sizes["time"] == 4
    assert audit.attrs["states"] == 4  # two test trajectories, at their start and their end
    np.testing.assert_allclose(audit["time"], 0.25 * np.arange(4))
    assert audit["rotation_error_of_solver"].notnull().all()
    assert {p.name for p in (folders / "small-d4").iterdir()} == {
        "weights.safetensors", "config.json", "audit.nc", "audit.png"}  # fmt: skip


def test_a_false_claim_fails(folders, tmp_path, capsys, monkeypatch):
    honest = fluidsurrogate.models.loading.load

    def boastful(*arguments):
        model = honest(*arguments)
        model.network.group = D4
        return model

    monkeypatch.setattr(fluidsurrogate.models.loading, "load", boastful)
    command = ["audit", str(folders / "small-cnn"), "--data", str(folders / "data.nc"), "--to", str(tmp_path)]
    assert main(command) == 1
    out = capsys.readouterr().out
    assert "FAIL: claimed, but not kept to 1e-04: rotation 90" in out
    assert fs.open_data(tmp_path / "audit.nc").attrs["verdict"] == "fail"


def test_bad_input_in_one_line(folders, trained, tmp_path, capsys):
    data, _ = trained

    def refused(*argv):
        try:
            code = main(["audit", *map(str, argv)])
        except SystemExit as exit_:
            code = exit_.code
        said = capsys.readouterr().err
        assert code == 2, said
        assert len(said.strip().splitlines()) == 1, said
        return said

    model, empty = folders / "small-d4", tmp_path / "empty"
    empty.mkdir()
    data.isel(x=slice(0, 8)).to_netcdf(tmp_path / "narrow.nc")
    data.isel(trajectory=slice(0, 3)).to_netcdf(tmp_path / "train.nc")
    data.isel(trajectory=[]).drop_vars("split").to_netcdf(tmp_path / "none.nc")
    assert "it has no config.json" in refused(tmp_path / "nowhere")
    assert "it has no config.json" in refused(empty)
    assert "steps must be at least 1 (got 0)" in refused(model, "--steps", "0")
    assert "invalid int value: 'few'" in refused(model, "--steps", "few")
    assert "no such dataset" in refused(model, "--data", tmp_path / "none.zarr")
    assert "grid is 16 x 8 cells" in refused(model, "--data", tmp_path / "narrow.nc")
    assert "no trajectories for the split 'test'" in refused(model, "--data", tmp_path / "train.nc")
    assert "empty" in refused(model, "--data", tmp_path / "none.nc")
    assert "device 'abacus' is not available here" in refused(model, "--device", "abacus")
    data_file = folders / "data.nc"
    assert "data.nc cannot be written (Not a directory)" in refused(model, "--data", data_file, "--to", data_file)
    assert "required: MODEL" in refused()
    for name, about in (("silent", {}), ("gone", "data.path"), ("old", "new_key")):
        config = json.loads((model / "config.json").read_text())
        tree = json.loads(config["about"]["experiment"])
        if about == "data.path":
            tree["data"]["path"] = str(tmp_path / "gone.zarr")
        elif about:
            tree[about] = 1
        config["about"] = {"experiment": json.dumps(tree)} if about else {}
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        (tmp_path / name / "weights.safetensors").write_bytes((model / "weights.safetensors").read_bytes())
    assert "does not say which experiment it comes from; give --data" in refused(tmp_path / "silent")
    assert "gone.zarr: the dataset that the model was trained on does not exist; give --data" in refused(
        tmp_path / "gone"
    )
    assert "unknown key 'new_key'" in refused(tmp_path / "old")


# -- steppers that are no networks


def test_the_solver_keeps_all_that_its_flow_keeps():
    grid = Grid.square(24)
    solver = NavierStokes2D(grid, viscosity=1e-2, interval=INTERVAL, dt=0.02, dtype=torch.float64)
    audit = fs.audit(solver, states=EXAMPLES["decaying"].anything(grid), steps=3)
    assert audit.attrs["verdict"] == "pass"
    assert audit.attrs["tolerance"] == 1e-10
    assert float(audit["equivariance_error"].max()) < 1e-10
    assert float(audit["translation_error"].max()) < 1e-10  # half cells too
    assert float(audit["wrong_parity_error"].sel(element=MIRRORS).min()) > 0.5
    assert audit["wrong_parity_error"].isnull().sum() == 3
    assert float(np.abs(audit["mean_drift"]).max()) < 1e-14
    assert float(audit["energy_growth_step"]) < 0
    assert audit.attrs["galilean_x_reason"] == "neither the state nor an input holds the mean velocity"


def test_the_solver_with_its_inputs_and_without():
    """With the forcing turned along it keeps all of D4; with its own, held fixed, Kolmogorov flow's C2."""
    example = EXAMPLES["kolmogorov"]
    grid = example.grid(24)
    solver = example.flow.solver(grid, interval=INTERVAL, dt=0.02, dtype=torch.float64)
    state = example.anything(grid)
    full = fs.audit(solver, states=state, inputs=own_inputs(example.flow, solver), steps=1, angles=[30])
    assert full.attrs["verdict"] == "pass"
    assert full["claimed"].values.all()
    alone = fs.audit(solver, states=state, steps=1, angles=[30])
    assert alone.attrs["verdict"] == "nothing claimed"
    held = {str(e) for e in alone["element"].values if alone["equivariance_error"].sel(element=e) < 1e-10}
    assert held == {g.name for g in example.flow.group.elements[1:]} == {"rotation 180"}
    assert fs.audit(solver, states=state, steps=1, angles=[], group="C2").attrs["verdict"] == "pass"
    broken = fs.audit(solver, states=state, steps=1, angles=[], group="D4")
    assert broken.attrs["verdict"] == "fail"
    assert broken.attrs["failed"].split(", ") == [g.name for g in D4.elements[1:] if g.name != "rotation 180"]


def test_between_plates():
    example = EXAMPLES["rayleigh_benard"]
    grid = example.grid(24)
    solver = example.flow.solver(grid, interval=0.05, dt=0.01, dtype=torch.float64)
    audit = fs.audit(solver, states=example.anything(grid), inputs=own_inputs(example.flow, solver), steps=2)
    assert list(audit["element"].values) == ["rotation 180", "mirror x", "mirror y"]
    assert audit.attrs["verdict"] == "pass"
    assert (audit["shift_y"] == 0).all()
    assert audit["rotation_error"].isnull().all()
    assert audit.attrs["rotation_reason"] == "not defined between plates"
    assert "not defined between plates" in audit_table(audit)


def test_persistence_is_undefined_and_not_right():
    audit = fs.audit(Persistence(SPEC), states=smooth(), group=D4, stride=1)
    assert audit.attrs["verdict"] == "undefined"
    for name in ("equivariance_error", "translation_error", "rotation_error", "wrong_parity_error"):
        assert audit[name].isnull().all(), name
    assert float(audit["mean_drift"].max()) == 0
    assert "undefined: the step changes nothing" in audit_table(audit)
    assert fs.audit(Persistence(SPEC), states=smooth()).attrs["verdict"] == "nothing claimed"


# -- networks that somebody else wrote


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_foreign_module(symmetric):
    layer, state = conv(symmetric), smooth()
    audit = fs.audit(layer, SPEC, states=state, group="D4", stride=1)
    assert audit.attrs["verdict"] == ("pass" if symmetric else "fail")
    with torch.no_grad():
        after = layer(state)
        for g in D4.elements[1:]:
            error = (layer(acted(SPEC.fields, state, g)) - acted(SPEC.fields, after, g)).norm() / (after - state).norm()
            assert float(audit["equivariance_error"].sel(element=g.name)) == pytest.approx(float(error), abs=1e-12)
    assert float(audit["translation_error"].max()) < 1e-12  # linear: band-limited states stay so
    silent = fs.audit(layer, SPEC, states=state)
    assert silent.attrs["verdict"] == "nothing claimed"
    assert not silent["claimed"].values.any()


def test_a_bias_is_no_pseudoscalar():
    """A tracer's step may add a constant; a vorticity's breaks every mirror."""
    step = Function(lambda x: conv(True)(x) + 0.25)
    for field, broken in ((TRACER, []), (VORTICITY, MIRRORS)):
        spec = StateSpec(Grid.square(N), (field,), INTERVAL)
        audit = fs.audit(step, spec, states=smooth(), group="D4", steps=2)
        assert audit.attrs["failed"] == ", ".join(broken)
        assert ("energy_reason" in audit.attrs) == (field == TRACER)


def test_drift_of_a_module_that_adds_a_constant():
    state = smooth()
    rms = state.square().mean((1, 2, 3)).sqrt()
    audit = fs.audit(Function(lambda x: x + 0.25), SPEC, states=state, steps=6)
    np.testing.assert_allclose(audit["mean_drift"].values[0], 0.25 * np.arange(7) / float(rms.min()), rtol=1e-12)
    np.testing.assert_allclose(audit["mean_drift_step"].values, 0.25 / float(rms.min()), rtol=1e-12)
    np.testing.assert_allclose(audit["energy_change"].values, 0, atol=1e-12)  # the mean vorticity is no flow
    audit = fs.audit(Function(lambda x: 1.1 * x), SPEC, states=state, steps=6)
    np.testing.assert_allclose(audit["energy_change"].values, 1.21 ** np.arange(7) - 1, atol=1e-12)
    np.testing.assert_allclose([audit["energy_growth_step"], audit["energy_change_step"]], 0.21, rtol=1e-10)
    assert "grows by up to 2.1e-01 in a step" in audit_table(audit)


def test_inputs_are_channels_behind_the_state():
    """In the spec's order, uniform ones at every cell, and turned with the state."""
    spec = StateSpec(Grid.square(N), (VORTICITY,), INTERVAL, (FORCING, VISCOSITY))
    state, inputs = (
        smooth(),
        {"viscosity": torch.full((2, 1, 1, 1), 0.3, dtype=torch.float64), "forcing": smooth(seed=5)},
    )
    seen = []

    def step(x):
        seen.append(x)
        return x[:, :1] + x[:, 1:2] * x[:, 2:]

    audit = fs.audit(Function(step), spec, states=state, inputs=inputs, group="D4", stride=1)
    assert audit.attrs["verdict"] == "pass"
    assert torch.equal(seen[0], torch.cat([state, inputs["forcing"], torch.full_like(state, 0.3)], dim=1))
    with pytest.raises(UsageError, match="input 'viscosity' is missing"):
        fs.audit(Function(step), spec, states=state, inputs={"forcing": inputs["forcing"]})
    with pytest.raises(UsageError, match="input 'forcing' is missing"):
        fs.audit(Function(step), spec, states=state)


def test_dropout_is_off_while_audited_and_on_again_after():
    module = nn.Sequential(conv(True), nn.Dropout(0.5)).train()
    module[0].eval()
    assert fs.audit(module, SPEC, states=smooth(), group="D4").attrs["verdict"] == "pass"
    assert (module.training, module[0].training, module[1].training) == (True, False, True)


class OneBuffer(Stepper):
    """Twice the state, made in the caller's own tensor, and given in the same tensor at every call."""

    def __init__(self):
        self.spec, self.buffer = SPEC, torch.zeros(1)

    def start(self, state, inputs=None, seeds=None):
        return state

    def advance(self, carry):
        self.buffer = self.buffer if self.buffer.shape == carry.shape else torch.empty_like(carry)
        return self.buffer.copy_(carry.mul_(2))

    def state(self, carry):
        return carry


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_module_that_works_in_place_is_audited_like_another(symmetric, caplog):
    layer, state = conv(symmetric), smooth()
    before = state.clone()
    fresh = Function(lambda x: x + 0.1 * layer(x))
    in_place = Function(lambda x: x.add_(0.1 * layer(x)))
    expected = fs.audit(fresh, SPEC, states=state, group="D4", steps=3)
    assert "in place" not in caplog.text
    found = fs.audit(in_place, SPEC, states=state, group="D4", steps=3)
    assert found.attrs["verdict"] == ("pass" if symmetric else "fail")
    assert found.identical(expected)
    assert caplog.text.count("changes its input in place; every step gives it a copy") == 1
    errors = [fs.equivariance_error(ModuleStepper(module, SPEC), state, D4) for module in (fresh, in_place)]
    assert errors[0] == errors[1]
    rolled = [fs.rollout(ModuleStepper(module, SPEC), state, 3) for module in (fresh, in_place)]
    assert torch.equal(*rolled)
    assert torch.equal(state, before)


def test_a_stepper_that_works_in_place(caplog):
    state = smooth()
    before = state.clone()
    rolled = fs.rollout(OneBuffer(), state, 3)
    assert torch.equal(rolled, torch.stack([before * 2**i for i in range(4)], dim=1))
    assert max(fs.equivariance_error(OneBuffer(), state, D4).values()) < 1e-12
    assert fs.audit(OneBuffer(), states=state, group="D4", steps=2).attrs["verdict"] == "pass"
    assert torch.equal(state, before)


def test_precision_is_the_modules():
    layer = conv(True).float()
    audit = fs.audit(layer, SPEC, states=smooth(), group="D4")
    assert (audit.attrs["dtype"], audit.attrs["tolerance"], audit.attrs["verdict"]) == ("float32", 1e-4, "pass")
    assert fs.audit(layer, SPEC, states=smooth(), group="D4", tolerance=1e-12).attrs["verdict"] == "fail"


def test_a_model_that_turns_non_finite_does_not_pass():
    audit = fs.audit(Function(lambda x: x / 0 - x / 0), SPEC, states=smooth(), group="D4", steps=2)
    assert audit.attrs["verdict"] == "fail"
    assert "FAIL: claimed" in audit_table(audit)
    assert "not finite" in audit_table(audit)


# -- angles, parity, a moving frame


@pytest.mark.parametrize("field", [TRACER, VORTICITY], ids=lambda field: field.name)
def test_any_angle_for_an_isotropic_step_and_none_for_another(field):
    spec, state = StateSpec(Grid.square(32), (field,), INTERVAL), smooth(32)
    round_step = fs.audit(diffusion(32), spec, states=state, angles=[15, 30, 45, 90, 211])
    assert float(round_step["rotation_error"].max()) < 1e-4
    along_x = fs.audit(spectral(lambda ky, kx: 1j * kx, 32), spec, states=state, angles=[15, 30, 45, 90, 211])
    # (cos θ ∂x + sin θ ∂y) against ∂x, of gradients that point anywhere: √((1 − cos θ)² + sin² θ) = 2 sin θ/2
    expected = [2 * abs(math.sin(math.radians(angle) / 2)) for angle in (15, 30, 45, 90, 211)]
    np.testing.assert_allclose(along_x["rotation_error"], expected, rtol=0.25)


def test_vectors_components_turn_at_any_angle():
    spec, state = StateSpec(Grid.square(32), (VELOCITY,), INTERVAL), smooth(32, fields=(VELOCITY,))
    good = fs.audit(diffusion(32), spec, states=state, group="D4", angles=[30])
    assert good.attrs["verdict"] == "pass"
    assert float(good["rotation_error"][0]) < 1e-5
    one_only = Function(lambda x: torch.cat([diffusion(32)(x[:, :1]), x[:, 1:]], dim=1))
    bad = fs.audit(one_only, spec, states=state, group=D1, angles=[30])
    assert bad.attrs["verdict"] == "pass"  # mirrors of the axes do not mix the components
    assert float(bad["rotation_error"][0]) > 0.3
    assert float(bad["equivariance_error"].sel(element="rotation 90")) > 0.3
    assert bad.attrs["wrong_parity_reason"] == "the state has no pseudoscalar"


def test_the_solvers_angles_converge_with_the_grid():
    """The box is square, and so is the band of modes that a solver retains; a lump feels it less on more cells."""
    errors = []
    for n in (24, 48):
        solver = NavierStokes2D(Grid.square(n), viscosity=1e-2, interval=0.1, dt=0.02, dtype=torch.float64)
        audit = fs.audit(solver, states=EXAMPLES["decaying"].anything(Grid.square(n)), steps=1, angles=[30])
        errors.append(float(audit["rotation_error"][0]))
    assert errors[1] < 0.02
    assert errors[1] < 0.2 * errors[0]


def test_odd_steps_cannot_tell_parities_apart():
    audit = fs.audit(diffusion(), SPEC, states=smooth(), group="D4")
    assert float(audit["wrong_parity_error"].max()) < 1e-10
    assert "small: the step is odd" in audit_table(audit)


def test_a_moving_frame():
    """The solver, whose mean velocity is an input; one whose forcing would have to move; velocity as a state."""
    example = EXAMPLES["decaying, carried along"]
    grid = example.grid(24)
    solver = example.flow.solver(grid, interval=INTERVAL, dt=0.005, dtype=torch.float64)
    state, inputs = example.anything(grid), own_inputs(example.flow, solver)
    audit = fs.audit(solver, states=state, inputs=inputs, steps=1)
    assert float(audit["galilean_error"].max()) < 1e-6
    y, x = (c.numpy() for c in grid.coordinates())
    waves = torch.from_numpy(np.cos(2 * y)[:, None] + 0 * x)
    forced = NavierStokes2D(
        grid, viscosity=1e-2, interval=INTERVAL, dt=0.005, dtype=torch.float64, forcing=waves, mean_velocity=(0.7, 0.0)
    )
    audit = fs.audit(forced, states=state, inputs=inputs | {"forcing": waves[None, None]}, steps=1)
    assert float(audit["galilean_error"].sel(direction="x")) < 1e-6  # waves along y do not see a velocity along x
    assert audit.attrs["galilean_y_reason"] == "the forcing would have to move along"


def test_a_moving_frame_of_velocities():
    spec = StateSpec(Grid.square(N), (VELOCITY,), INTERVAL)

    def carried(x):
        """Diffused, and shifted by its own mean times the interval."""
        k = torch.fft.fftfreq(N, 1 / N, dtype=torch.float64)
        ky, kx = torch.meshgrid(k, k, indexing="ij")
        u, v = (INTERVAL * x.mean((-2, -1), keepdim=True)).split(1, dim=1)
        phase = torch.exp(-1j * (kx * u + ky * v) - 0.02 * (kx**2 + ky**2))
        return torch.fft.ifft2(phase * torch.fft.fft2(x)).real

    state = smooth(fields=(VELOCITY,))
    assert float(fs.audit(Function(carried), spec, states=state)["galilean_error"].max()) < 1e-10
    assert float(fs.audit(diffusion(), spec, states=state)["galilean_error"].min()) > 0.5


# -- arguments


def test_bad_arguments():
    layer, state = conv(True), smooth()
    bad = {
        "spec is required for a torch.nn.Module": lambda: fs.audit(layer, states=state),
        "states are required": lambda: fs.audit(layer, SPEC),
        r"state must be \(batch, 1, 16, 16\); got": lambda: fs.audit(layer, SPEC, states=state[:, :, :8]),
        "must be finite and not empty": lambda: fs.audit(layer, SPEC, states=state * math.nan),
        "steps must be at least 1": lambda: fs.audit(layer, SPEC, states=state, steps=0),
        "tolerance must be positive": lambda: fs.audit(layer, SPEC, states=state, tolerance=0.0),
        "unknown group 'D7'": lambda: fs.audit(layer, SPEC, states=state, group="D7"),
        "spec differs from": lambda: fs.audit(Persistence(SPEC), StateSpec(SPEC.grid, (TRACER,), 1.0), states=state),
        "the module failed on input of shape": lambda: fs.audit(nn.Conv2d(3, 1, 1), SPEC, states=state),
        "must return the next state": lambda: fs.audit(Function(lambda x: x[..., 1:]), SPEC, states=state),
        "got tuple": lambda: fs.audit(Function(lambda x: (x, x)), SPEC, states=state),
        "inputs are for states given as a tensor": lambda: fs.audit(
            layer, SPEC, states=xr.Dataset(), inputs={"viscosity": state}),
        "'D4' is no symmetry of this grid; choose D2": lambda: fs.audit(
            layer, StateSpec(Grid((8, 16)), (VORTICITY,), 1.0), states=state[..., :8, :], group="D4"),
        "tolerance is required for torch.bfloat16": lambda: fs.audit(conv(True).bfloat16(), SPEC, states=state),
    }  # fmt: skip
    for said, call in bad.items():
        with pytest.raises(UsageError, match=said):
            call()


def test_a_module_is_a_stepper_like_any_other():
    state = smooth()
    rolled = fs.rollout(ModuleStepper(Function(lambda x: 2 * x), SPEC), state, 3)
    assert torch.equal(rolled[:, -1], 8 * state)


@pytest.fixture(scope="module")
def of_velocity(tmp_path_factory):
    """A group U-Net that learnt the miniature's velocity, from its files."""
    path = tmp_path_factory.mktemp("velocity") / "miniature.toml"
    path.write_text((Path(__file__).parents[1] / "miniature.toml").read_text())
    models = "models={unet = {kind = 'gunet', group = 'D4', width = 8, levels = 1}}"
    experiment = fs.Experiment.read(path, ["data.state='velocity'", models])
    return fs.train(experiment)["unet"]


def test_a_model_of_velocity(of_velocity):
    audit = fs.audit(of_velocity)
    assert audit.attrs["verdict"] == "pass"
    assert np.isfinite(audit["rotation_error_of_solver"]).all()
    assert "zero by definition" in audit.attrs["galilean_x_reason"]
    assert np.isfinite(audit["energy_change"]).all()


def test_a_model_that_halves_its_grid_claims_shifts_by_two_cells(of_velocity):
    audit = fs.audit(of_velocity, steps=2)
    claimed = {
        name: bool(c) for name, c in zip(audit["shift"].values, audit["translation_claimed"].values, strict=True)
    }
    assert claimed["2 in x"]
    assert claimed["2 in y"]
    assert not claimed["1 in x"]
    assert "shifts by multiples of 2 cells" in audit_table(audit)
    odd = audit["translation_error"].sel(shift="1 in x").item()
    assert odd > 1e-3 > audit["translation_error"].sel(shift="2 in x").item()
    assert fs.audit(of_velocity, stride=1, steps=2).attrs["verdict"] == "fail"


def test_a_view_of_a_solver_claims_what_the_solver_does():
    flow = FLOWS[2]["decaying"](viscosity=1e-2, wavenumber=3, rms=1.0)
    solver = flow.solver(Grid.square(32), interval=0.2, dtype=torch.float64)
    form = VelocityForm(solver)
    state = with_velocity(flow.starts(Grid.square(32), [0]), Grid.square(32))
    audit = fs.audit(form, states=state, steps=2)
    assert audit.attrs["verdict"] == "pass"
    assert audit.attrs["group"] == "D4"
    assert audit["rotation_error"].max().item() < 0.05


def test_a_start_at_rest_has_no_relative_energy():
    spec = StateSpec(Grid.square(N), (VORTICITY, TRACER), INTERVAL)
    state = torch.cat([torch.zeros(2, 1, N, N, dtype=torch.float64), smooth(fields=(TRACER,))], dim=1)
    audit = fs.audit(Function(lambda x: x + 0.1 * x.flip(1)), spec, states=state)
    assert audit.attrs["energy_reason"] == "a start is at rest"
    assert np.isnan(audit["energy_change"]).all()
    assert np.isnan(audit["mean_drift"].sel(component="vorticity")).all()
    assert "inf" not in audit_table(audit)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stride": 0}, "stride must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"tolerance": 0.0}, "tolerance must be positive"),
        ({"group": "D3"}, "unknown group 'D3'"),
    ],
)
def test_bad_arguments_of_an_audit(options, said):
    with pytest.raises(UsageError, match=said):
        fs.audit(diffusion(), SPEC, states=smooth(), **options)


def test_lists_that_are_empty_or_repeat_themselves():
    audit = fs.audit(diffusion(), SPEC, states=smooth(), shifts=[], angles=[30.0, 30.0])
    assert audit.sizes["angle"] == 1
    assert "rotation by 30 degrees" in audit_table(audit)


def test_the_flow_of_ones_own_data_is_not_assumed(trained, toml, tmp_path, caplog):
    """Beside a model of data that somebody else made there is no solver of the flow that its experiment names."""
    data, models = trained
    own = data.drop_attrs()
    given = fs.train(toml, own, ["small-cnn"])["small-cnn"]
    own.to_netcdf(tmp_path / "own.nc")
    tree = fs.Experiment.read(toml, [f"data.path={tmp_path / 'own.nc'}", "train.steps=2"])
    with caplog.at_level("INFO", "fluidsurrogate"):
        named = fs.train(tree, models=["small-cnn"], out=tmp_path / "run")["small-cnn"]
    assert "are taken from [flow]" in caplog.text
    for model, known in ((models["small-cnn"], True), (given, False), (named, False)):
        report = fs.audit(model, states=own, steps=1)
        assert bool(np.isfinite(report["rotation_error_of_solver"]).any()) == known
