"""Surrogates in three dimensions: projection, budget, perturbations, symmetry, hybrids, files, other grids."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

import fluidsurrogate as fs
from fluidsurrogate import Surrogate, UsageError
from fluidsurrogate.config.experiment import AnyModelConfig
from fluidsurrogate.evaluation.equivariance import equivariance_error, translation_error, wrong_parity
from fluidsurrogate.models.energy_budget import BudgetCoefficients, EnergyBudget, fit_budget_coefficients
from fluidsurrogate.models.normalisation import Normalisation
from fluidsurrogate.models.perturbations import GaussianRandomField, field_rms
from fluidsurrogate.models.step import ChangeProjection
from fluidsurrogate.simulation.rollout import rollout
from solvers import (
    FORCING,
    GROUPS,
    TRACER,
    VELOCITY,
    VISCOSITY,
    Grid,
    NavierStokes3D,
    Resampled,
    StateSpec,
    field_in,
    resample,
)
from solvers.spectra import shell_wavenumbers

VELOCITY3, TRACER3, FORCING3, VISCOSITY3 = (field_in(f, 3) for f in (VELOCITY, TRACER, FORCING, VISCOSITY))
CUBE, BOX = Grid.cube(8), Grid((8, 8, 12), (1.0, 1.0, 2.0))
OH = GROUPS[3]["Oh"]


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(0)


def flow(grid, batch=2, seed=0, modes=2):
    """Random solenoidal velocities of a few long waves, zero mean, of RMS speed 1."""
    numbers = np.random.default_rng(seed).standard_normal((batch, 3, *grid.n))
    made = ChangeProjection(grid, (VELOCITY3,), (modes,) * 3)(torch.from_numpy(numbers))
    return made / made.square().sum(1, keepdim=True).mean((1, 2, 3, 4), keepdim=True).sqrt()


def surrogate(spec, kind="gcnn", budget=None, base=None, **options):
    own = {"group": "Oh", "width": 48} if kind == "gcnn" else {"width": 6}
    config = TypeAdapter(AnyModelConfig).validate_python({"kind": kind, "dilations": (1,), **own, **options})
    network, fields = config.build(spec).double(), spec.fields + spec.inputs
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    shift = tuple(0.3 if field.order == 0 and field.parity > 0 else 0.0 for field in fields)
    change = (0.5,) * len(spec.fields)
    normalisation = Normalisation(shift, (1.0,) * len(fields), change, (3, 3, 3), budget)
    return Surrogate(network, spec, normalisation, config, {"name": "test"}, base)


def test_the_change_of_a_box_has_its_band_no_mean_and_no_divergence():
    """Against transforms by numpy; the scalar beside the velocity is only filtered."""
    change = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 4, *BOX.n)))
    band = (2, 3, 4)
    project = ChangeProjection(BOX, (TRACER3, VELOCITY3), band).double()
    whole = [np.fft.fftfreq(n, 1 / n) for n in BOX.n]
    mz, my, mx = np.meshgrid(*whole, indexing="ij")
    keep = (abs(mz) <= band[0]) & (abs(my) <= band[1]) & (abs(mx) <= band[2])
    keep[0, 0, 0] = False
    spectrum = keep * np.fft.fftn(change.numpy(), axes=(-3, -2, -1))
    k = np.stack([m / side for m, side in zip((mx, my, mz), reversed(BOX.length), strict=True)])
    k2 = np.maximum((k**2).sum(0), 1e-30)
    spectrum[:, 1:] -= k * (k * spectrum[:, 1:]).sum(1, keepdims=True) / k2
    expected = np.fft.ifftn(spectrum, axes=(-3, -2, -1)).real
    np.testing.assert_allclose(project(change), expected, atol=1e-13)
    torch.testing.assert_close(project(project(change)), project(change))


def test_the_budget_counts_energy_enstrophy_and_work():
    """Taylor-Green vortices of unit amplitude have E = 1/8 and Z = 3/8; the power of a force is <u f>."""
    grid = Grid.cube(8)
    z, y, x = grid.mesh()
    u, v = torch.sin(x) * torch.cos(y) * torch.cos(z), -torch.cos(x) * torch.sin(y) * torch.cos(z)
    state = torch.stack([u, v, torch.zeros_like(u)])[None]
    force = flow(grid, 1, seed=3)
    budget = EnergyBudget(StateSpec(grid, (VELOCITY3,), 0.5, (FORCING3,)), BudgetCoefficients(0.1, 0.2)).double()
    energy, loss, work = budget.budget_terms(state, force)
    assert float(energy) == pytest.approx(1 / 8)
    assert float(loss) == pytest.approx(0.5 * (0.1 * 3 + 0.2))
    assert float(work) == pytest.approx(0.25 * float((state * force).sum(1).mean()))
    after = flow(grid, 1, seed=4)
    scaled = budget(after, state, force)
    e, z_plus, w = (float(v) for v in budget.budget_terms(scaled, force))
    assert e * math.exp(z_plus) - w == pytest.approx(float(energy) * math.exp(-float(loss)) + float(work))


def test_the_budget_of_stored_flow_closes_and_that_of_truncated_flow_is_a_bound():
    def trajectories(n, store):
        solver = NavierStokes3D(Grid.cube(n), viscosity=0.02, interval=0.1, dtype=torch.float64)
        states = rollout(solver, 3 * flow(solver.grid, 1), 8)[:, 2:]
        return resample(states, Grid.cube(n), Grid.cube(store))

    found = []
    for store in (16, 8):
        spec = StateSpec(Grid.cube(store), (VELOCITY3,), 0.1)
        states = trajectories(16, store)
        found.append(fit_budget_coefficients(spec, lambda states=states: [(states, {})], 0.02, 0.0))
    (closed, _), (bound, said) = found
    assert not closed.at_most
    assert bound.at_most
    assert said.endswith("energy leaves for scales that are not stored")


def test_perturbations_are_solenoidal_and_have_their_spectrum():
    spec = StateSpec(CUBE, (VELOCITY3, TRACER3), 0.1)
    project = ChangeProjection(CUBE, spec.fields, (3, 3, 3)).double()
    shells = len(shell_wavenumbers(CUBE.n, CUBE.length))
    spectra = [[1.0, 2.0, 0.5] + [0.0] * (shells - 3)] * 2
    noise = GaussianRandomField(spec, project, (3, 3, 3), spectra)([np.random.default_rng(i) for i in range(60)])
    z, y, x = np.meshgrid(*(np.fft.fftfreq(8, 1 / 8),) * 3, indexing="ij")
    shell = np.rint(np.sqrt(x**2 + y**2 + z**2)).astype(int)
    power = (np.abs(np.fft.fftn(noise.numpy(), axes=(-3, -2, -1))) ** 2 / 8**6).mean(0)
    for part in (power[:3].sum(0), power[3]):
        sums = [part[shell == k].sum() for k in (1, 2, 3)]
        np.testing.assert_allclose(sums, [1.0, 2.0, 0.5], rtol=0.15)
    u = np.fft.fftn(noise[:, :3].numpy(), axes=(-3, -2, -1))
    assert np.abs(x * u[:, 0] + y * u[:, 1] + z * u[:, 2]).max() < 1e-10
    assert field_rms(spec, noise).shape == (60, 4, 1, 1, 1)


def test_a_surrogate_commutes_with_all_elements_and_translations():
    model = surrogate(
        StateSpec(CUBE, (VELOCITY3, TRACER3), 0.1, (FORCING3, VISCOSITY3)), budget=BudgetCoefficients(0.1, 0.0)
    )
    state = torch.cat([flow(CUBE, 1), torch.randn(1, 1, *CUBE.n, dtype=torch.float64)], dim=1)
    given = {"forcing": flow(CUBE, 1, 5), "viscosity": torch.full((1, 1, 1, 1, 1), 0.1, dtype=torch.float64)}
    errors = equivariance_error(model, state, OH, given)
    assert len(errors) == 47
    assert max(errors.values()) < 1e-10
    wrong = equivariance_error(model, state, OH, given, wrong_parity(model.spec))
    assert min(wrong[g.name] for g in OH if g.determinant < 0) > 0.05  # the control
    assert max(translation_error(model, state, s, given) for s in ((0, 0, 1), (2, 3, 1))) < 1e-10


def test_a_plain_network_does_not():
    model = surrogate(StateSpec(CUBE, (VELOCITY3,), 0.1), "cnn")
    assert max(equivariance_error(model, flow(CUBE, 1), OH).values()) > 0.05


def test_it_comes_back_from_its_folder_and_as_a_module(tmp_path):
    model = surrogate(StateSpec(CUBE, (VELOCITY3,), 0.1, (FORCING3,)), "cnn", BudgetCoefficients(0.1, 0.0, True))
    fs.save(model, tmp_path)
    loaded, state, force = fs.load(tmp_path), flow(CUBE), {"forcing": flow(CUBE, 2, 7)}
    assert loaded.spec == model.spec
    with torch.no_grad():
        assert torch.equal(loaded(state, force), model(state, force))
        exported = fs.as_module(model)
        torch.testing.assert_close(exported(state, force["forcing"]), model(state, force))


@pytest.mark.slow
def test_it_is_exported():
    model = surrogate(StateSpec(CUBE, (VELOCITY3,), 0.1, (FORCING3,)), "cnn", BudgetCoefficients(0.1, 0.0, True))
    exported, given = fs.as_module(model), (flow(CUBE), flow(CUBE, 2, 7))
    program = torch.export.export(exported, given)
    torch.testing.assert_close(program.module()(*given), exported(*given))


def test_another_grid_keeps_wavenumbers_and_dimensions():
    model = surrogate(StateSpec(CUBE, (VELOCITY3,), 0.1), "cnn")
    moved = fs.move_to_grid(model, Grid((8, 16, 16), (2 * math.pi, 4 * math.pi, 4 * math.pi)))
    assert moved.normalisation.band == (3, 6, 6)
    with torch.no_grad():
        tiled = moved(flow(CUBE, 1).repeat(1, 1, 1, 2, 2))
    torch.testing.assert_close(tiled[..., :8, :8], model(flow(CUBE, 1)))
    with pytest.raises(UsageError, match=r"a model of 3 dimensions cannot be applied to a grid of 2: .*\(z, y, x\)"):
        fs.move_to_grid(model, Grid.square(8))


def test_a_hybrid_keeps_its_solvers_small_scales():
    """Without a correction it is its solver on 16 cells, seen through 8; restarted from these it is another flow."""
    spec = StateSpec(CUBE, (VELOCITY3,), 0.2)
    fine = NavierStokes3D(Grid.cube(16), viscosity=0.02, interval=0.2, dt=0.05, order=2, dtype=torch.float64)
    base = Resampled(fine, CUBE)
    model = surrogate(spec, "cnn", base=base)
    for parameter in model.network.parameters():
        torch.nn.init.zeros_(parameter)
    start = 2 * flow(CUBE, 1)
    with torch.no_grad():
        alone, found = (rollout(stepper, start, 4)[:, -1] for stepper in (base, model))
        restarted = start
        for _ in range(4):
            restarted = base(restarted)
        assert float((found - alone).norm() / alone.norm()) < 1e-12
        assert float((restarted - alone).norm() / alone.norm()) > 1e-2  # the control
        corrected = surrogate(spec, base=base)
        assert max(equivariance_error(corrected, start, OH).values()) < 1e-10
        carry = corrected.advance(corrected.start(start))
        held = base.correct(carry.solver, carry.correction)
        torch.testing.assert_close(base.state(held), corrected.state(carry), rtol=0, atol=1e-12)


def test_bands_of_equal_sides_are_equal():
    spec = StateSpec(BOX, (VELOCITY3,), 0.1)
    change = torch.zeros(1, 2, 3, *BOX.n, dtype=torch.float64)
    y, x = BOX.mesh()[1], BOX.mesh()[2]
    change[:, 1, 0] = torch.sin(2 * math.pi * 3 * y)
    change[:, 1, 1] = torch.sin(2 * math.pi * x / 2)
    fitted = Normalisation.fit(spec, lambda: [(change, {})])
    assert fitted.band == (3, 3, 1)  # z as y, whose side is as long, and x by itself
    assert replace(fitted, band=(1, 1, 1)).to_tensors(spec)[2].shape == (3, 1, 1, 1)
