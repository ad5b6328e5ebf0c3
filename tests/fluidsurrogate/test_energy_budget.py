"""The energy budget: true of the solver, kept by every forecast, found in data or not."""

import json
import multiprocessing

import numpy as np
import pytest
import torch

import fluidsurrogate as fs
from fluidsurrogate import Experiment
from fluidsurrogate.inspection.report import report
from fluidsurrogate.models.energy_budget import BudgetCoefficients, EnergyBudget, fit_budget_coefficients
from fluidsurrogate.models.normalisation import Normalisation
from fluidsurrogate.models.step import SurrogateStep
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.windows import InMemoryTrajectories
from solvers import D4, TRACER, VELOCITY, VORTICITY, Grid, NavierStokes2D, StateSpec, VelocityForm, act, act_on_fields
from solvers.fields import DRAG, FORCING, VISCOSITY

VIEWS = [((VORTICITY,), 0), ((TRACER, VORTICITY), 1), ((VELOCITY, TRACER), 0)]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def terms_by_numpy(flow, grid, is_vorticity, forcing=None):
    """Energy, enstrophy and the power of the forcing, by full transforms and the velocity itself."""
    ky, kx = (2 * np.pi * np.fft.fftfreq(n, side / n) for n, side in zip(grid.n, grid.length, strict=True))
    ky, kx = ky[:, None], kx[None, :]
    k2 = ky**2 + kx**2
    k2[0, 0] = 1

    def velocity_of(vorticity):
        stream = np.fft.fft2(vorticity) / k2
        return np.stack([1j * ky * stream, -1j * kx * stream], axis=1)

    velocity = velocity_of(flow[:, 0]) if is_vorticity else np.fft.fft2(flow)
    velocity[..., 0, 0] = 0
    curl = 1j * kx * velocity[:, 1] - 1j * ky * velocity[:, 0]
    cells = np.prod(grid.n) ** 2
    energy, enstrophy = (0.5 * np.square(np.abs(x)).reshape(len(x), -1).sum(1) / cells for x in (velocity, curl))
    if forcing is None:
        return energy, enstrophy, np.zeros_like(energy)
    force = velocity_of(forcing[:, 0])
    force[..., 0, 0] = 0
    return energy, enstrophy, (velocity.conj() * force).real.reshape(len(force), -1).sum(1) / cells


def smooth(*shape, seed=0):
    """Noise without the shortest waves, whose derivatives are taken for zero, and, of two components, divergence."""
    spectrum = torch.fft.rfft2(noise(*shape, seed=seed))
    spectrum[..., shape[-2] // 3 : -shape[-2] // 3 + 1, :] = 0
    spectrum[..., shape[-1] // 3 :] = 0
    return torch.fft.irfft2(spectrum, s=shape[-2:])


def solenoidal(vorticity, grid):
    """The velocity that a vorticity induces."""
    ky, kx = grid.odd_wavenumbers()
    k2 = ky**2 + kx**2
    stream = torch.fft.rfft2(vorticity[:, 0]) / k2.where(k2 > 0, torch.inf)
    return torch.stack([torch.fft.irfft2(1j * k * stream) for k in (ky, -kx)], dim=1)


@pytest.mark.parametrize(("fields", "at"), VIEWS)
def test_what_comes_of_a_step_balances(fields, at):
    """With forcing, and viscosity and drag of each trajectory; means and other fields stay as they are."""
    grid = Grid((16, 24), (2.0, 3.0))
    spec = StateSpec(grid, fields, 0.1, (FORCING, VISCOSITY, DRAG))
    flow = slice(at, at + fields[at].components)
    before, after = (smooth(3, spec.components, *grid.n, seed=s) + 0.3 for s in (0, 1))
    if VELOCITY in fields:
        before, after = (torch.cat([solenoidal(s[:, 2:], grid) + 0.3, s[:, 2:]], dim=1) for s in (before, after))
    forcing, viscosity, drag = 5 * smooth(3, 1, *grid.n, seed=2), torch.rand(3).double() / 10, torch.rand(3).double()
    inputs = torch.cat([forcing, *(n[:, None, None, None].expand(-1, 1, *grid.n) for n in (viscosity, drag))], dim=1)
    made = EnergyBudget(spec, BudgetCoefficients(9.0, 9.0)).double()(after, before, inputs)
    sides = []
    for state, sign in ((before, -1), (made, 1)):
        energy, enstrophy, power = terms_by_numpy(state[:, flow].numpy(), grid, VORTICITY in fields, forcing.numpy())
        lost = 0.1 * (viscosity.numpy() * enstrophy / energy + drag.numpy())
        sides.append(energy * np.exp(sign * lost) - sign * 0.05 * power)
    np.testing.assert_allclose(sides[0], sides[1], rtol=1e-10)
    torch.testing.assert_close(made.mean((-2, -1)), after.mean((-2, -1)))
    others = [i for i in range(spec.components) if not flow.start <= i < flow.stop]
    assert torch.equal(made[:, others], after[:, others])
    ratio = (made[:, flow] - made[:, flow].mean((-2, -1), keepdim=True)) / (
        after[:, flow] - after[:, flow].mean((-2, -1), keepdim=True)
    )
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio), rtol=1e-6, atol=0)


@pytest.mark.parametrize("form", [lambda solver: solver, VelocityForm])
def test_the_solver_keeps_it(form):
    """To third order in the interval: an eighth of the defect over half of it; without the forcing not at all."""
    grid = Grid.square(32)
    y, x = grid.coordinates()
    forcing = (4 * torch.cos(4 * y))[:, None].expand(32, 32)
    start = (torch.sin(2 * x)[None, :] * torch.sin(3 * y)[:, None] + torch.cos(4 * y + 1)[:, None])[None, None]
    defects = []
    for interval in (0.1, 0.05):
        solver = form(NavierStokes2D(grid, viscosity=1e-2, drag=0.1, forcing=forcing, interval=interval, dt=2e-3,
                                     dtype=torch.float64))  # fmt: skip
        state = solenoidal(start, grid) if form is VelocityForm else start
        budget_coefficients = BudgetCoefficients(1e-2, 0.1)
        given = forcing[None, None]
        after = solver(state, {"forcing": given})
        defects.append(
            float(EnergyBudget(solver.spec, budget_coefficients).double().scaling_factor(after, state, given) - 1)
        )
        without = StateSpec(grid, solver.spec.fields, interval)
        assert (
            abs(float(EnergyBudget(without, budget_coefficients).double().scaling_factor(after, state, None) - 1))
            > 1e-2
        )
    assert abs(defects[0]) < 1e-3
    assert defects[0] / defects[1] == pytest.approx(8, rel=0.2)


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_an_unforced_flow_never_gains_energy(size):
    spec = StateSpec(Grid.square(16), (VORTICITY,), 0.5)
    before = size * noise(4, 1, 16, 16).float()
    before, other = (x - x.mean((-2, -1), keepdim=True) for x in (before, noise(1, 16, 16, seed=1).float()))
    after = torch.stack([2 * before[0], 1e-3 * before[1], other, 0 * before[3]])
    made = EnergyBudget(spec, BudgetCoefficients(1e-3, 0.0)).float()(after, before)
    energy = [terms_by_numpy(s.double().numpy(), spec.grid, True)[0] for s in (before, made)]
    assert made.isfinite().all()
    assert ((energy[1] < energy[0]) & (energy[1] > 0.5 * energy[0]))[:3].all()
    assert not made[3].any()
    nothing = torch.zeros_like(after)
    left = EnergyBudget(spec, BudgetCoefficients(1e-3, 0.0)).float()(after, nothing).abs().max()
    assert float(left) <= 1e-7 * float(after.abs().max())


def test_at_most_takes_away_and_gives_nothing():
    spec = StateSpec(Grid.square(16), (VORTICITY,), 0.1)
    before = smooth(1, 1, 16, 16)
    exact, most = (EnergyBudget(spec, BudgetCoefficients(1e-2, 0.1, at_most)).double() for at_most in (False, True))
    torch.testing.assert_close(most(2 * before, before), exact(2 * before, before))
    less = 0.5 * before
    torch.testing.assert_close(most(less, before), less)
    assert float(exact(less, before).square().mean()) > 1.5 * float(less.square().mean())


def test_it_turns_with_the_state():
    spec = StateSpec(Grid.square(16), (VELOCITY, TRACER), 1.0, (FORCING,))
    budget, forcing = EnergyBudget(spec, BudgetCoefficients(1e-3, 0.1)).double(), noise(2, 1, 16, 16, seed=2)
    before, after = (smooth(2, 3, 16, 16, seed=s) for s in (0, 1))
    made = budget(after, before, forcing)
    for g in D4:
        moved = budget(*(act_on_fields(spec.fields, s, g) for s in (after, before)), act(FORCING, forcing, g))
        torch.testing.assert_close(moved, act_on_fields(spec.fields, made, g), rtol=0, atol=1e-12)
    mirror = next(g for g in D4 if not torch.equal(act(FORCING, forcing, g), act(TRACER, forcing, g)))
    wrong = budget(*(act_on_fields(spec.fields, s, mirror) for s in (after, before)), act(TRACER, forcing, mirror))
    assert float((wrong - act_on_fields(spec.fields, made, mirror)).abs().max()) > 1e-3  # the control


def test_forecasts_balance_and_training_sees_what_does_not():
    """A network that says "twice the state": scaled back in a forecast, not where it is trained."""
    spec = StateSpec(Grid.square(16), (VORTICITY,), 1.0)
    step = SurrogateStep(spec, Normalisation((0.0,), (1.0,), (1.0,), (8, 8), BudgetCoefficients(0.0, 0.1))).double()
    state = noise(2, 1, 16, 16)
    state = state - state.mean((-2, -1), keepdim=True)
    torch.testing.assert_close(step(lambda z: z, state, None), np.exp(-0.1) * state)
    torch.testing.assert_close(step(lambda z: z, state, None, with_budget=False), 2 * state)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_budget_that_does_not_close_is_said(toml, tmp_path, caplog, monkeypatch, workers):
    """By how much: with twice the data's viscosity, half of what it would dissipate is still there after a step."""
    caplog.set_level("INFO", "fluidsurrogate")
    monkeypatch.setattr("fluidsurrogate.core.jobs.MIN_CELLS_FOR_PROCESSES", 0)
    fork = multiprocessing.get_context("fork")  # fresh interpreters would spend their seconds importing
    monkeypatch.setattr("fluidsurrogate.core.jobs.multiprocessing.get_context", lambda method: fork)
    data = fs.generate(toml)
    data.drop_attrs().to_netcdf(tmp_path / "data.nc")
    options = [f"data.path='{tmp_path / 'data.nc'}'", "train.steps=1", f"train.workers={workers}"]
    with pytest.raises(fs.UsageError, match=r"viscosity 0\.02"):
        fs.train(Experiment.read(toml, [*options, "flow.viscosity=0.04"]), out=tmp_path / "refused")
    wrong = Experiment.read(toml, [*options, "flow.viscosity=0.04", "data.accept=true"])
    models = fs.train(wrong, out=tmp_path / "run")
    said = [record.message for record in caplog.records if "the energy budget" in record.message]
    said = [message for message in said if "does not close" in message]
    assert len(said) == len(models) == 2
    for name in models:
        (line,) = [line for line in said if line.startswith(name)]
        before, after = line.split("with an error of ")
        assert before == f"{name}: the energy budget does not close on the training data "
        assert float(after.partition("%")[0]) == pytest.approx(50, abs=1)
        assert line.endswith("it would close with 0.5 times the viscosity; forecasts are not scaled to it")
    about = fs.load(tmp_path / "run" / "models" / "small-cnn").about["energy_budget"]
    assert f"not held to its budget, which {about}" in report(fs.info(tmp_path / "run" / "models" / "small-cnn"))
    caplog.clear()
    right = fs.train(Experiment.read(toml, options), models="small-cnn")["small-cnn"]
    assert right.about["energy_budget"].startswith("closes on the training data with an error of ")
    assert "energy budget" not in caplog.text


@pytest.mark.parametrize(("factor", "closing"), [(2, 0.5), (10, 0.1), (1 / 6, 6), (1 / 2, 2), (1, None)])
def test_a_wrong_viscosity_is_no_bound(experiment, miniature_data, factor, closing):
    """Too small a viscosity bounds the energy of resolved states from above, and says nothing true about them."""
    train = InMemoryTrajectories.from_dataset(miniature_data, "train", experiment)
    found, said = fit_budget_coefficients(experiment.spec, train.chunks, 0.02 * factor, 0.0)
    assert (found is None) == (closing is not None)
    assert closing is None or said.endswith(f": it would close with {closing:g} times the viscosity")


def test_it_is_found_where_the_data_keep_it(toml):
    """Also stored on fewer cells, as a bound; not where something else feeds the flow, or the data say other."""

    def balance_of(*overrides, data=None):
        experiment = Experiment.read(toml, overrides)
        train = InMemoryTrajectories.from_dataset(
            fs.generate(experiment) if data is None else data, "train", experiment
        )
        return prepare_training(experiment, "small-cnn", train, train, {}).surrogate.normalisation.budget_coefficients

    assert balance_of() == BudgetCoefficients(2e-2, 0.0)
    assert balance_of("data.state=velocity") == BudgetCoefficients(2e-2, 0.0)
    assert balance_of("flow.viscosity=[1e-2, 2e-2]", "flow.drag=[0.5, 0.0]") == BudgetCoefficients(1e-2, 0.5)
    assert balance_of("flow.kind=kolmogorov", "flow.spin_up=0", "data.interval=0.1") == BudgetCoefficients(2e-2, 0.1)
    assert balance_of("flow.kind=stirred", "flow.spin_up=0") is None
    buoyant = {"kind": "convection", "viscosity": 1e-2, "diffusivity": 1e-2, "spin_up": 0.5}
    assert balance_of("grid.n=64", f"flow={json.dumps(buoyant).replace(':', ' =')}") is None
    coarse = ("grid.n=64", "grid.store=16", "flow.viscosity=1e-3", "flow.wavenumber=6")
    assert balance_of(*coarse) == BudgetCoefficients(1e-3, 0.0, at_most=True)
    silent = fs.generate(toml).drop_attrs()  # a user's data, which do not say their viscosity, a far smaller one
    assert balance_of("flow.viscosity=1.0", data=silent) is None
