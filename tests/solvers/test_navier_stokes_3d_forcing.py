"""Budgets in three dimensions, and forcings that keep a flow going: fixed power, and noise that is white in time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from flows_3d import distance, random_field, solver

from solvers import FixedPowerForcing, Grid, StochasticForcing, TransportedScalar, spectra, turbulence
from solvers.grid import sample_modes
from solvers.stochastic_forcing import ring_amplitude

GRID = Grid.cube(12)


def energy(u):
    return 0.5 * u.square().sum(1).mean((-3, -2, -1))


def test_the_energy_budget_closes():
    """dE/dt = W − 2νZ − 2μE with a body force, by central differences."""
    force = random_field(GRID, seed=3, solenoidal=False, reach=2)[0]
    state, h = random_field(GRID, seed=4, reach=2, batch=2), 0.005
    stepper = solver(GRID, interval=h, dt=h / 2, drag=0.3, forcing=force)
    middle = stepper(state)
    rate = (energy(stepper(middle)) - energy(state)) / (2 * h)
    budget = turbulence.mean_energy_budget(middle, GRID.length, 0.05, 0.3, force)
    assert budget.rate.tolist() == pytest.approx(rate.tolist(), rel=2e-4)
    assert min(float(part.abs().min()) for part in budget) > 10 * 2e-4 * float(rate.abs().max())
    unprojected = turbulence.mean_energy_budget(middle, GRID.length, 0.05, 0.3).rate
    assert abs(float(unprojected[0] / rate[0]) - 1) > 1e-2


def test_the_spectral_budget_closes():
    """∂E(k)/∂t = T(k) − 2νZ(k), shell by shell, and advection makes no energy."""
    grid = Grid.cube(16)
    state, h = random_field(grid, seed=4, reach=2), 0.005
    stepper = solver(grid, interval=h, dt=h / 2)
    middle = stepper(state)
    before, after = (spectra.energy_spectrum(u, grid.length) for u in (state, stepper(middle)))
    transfer = spectra.energy_transfer(middle, grid.length)
    expected = transfer - 2 * 0.05 * spectra.enstrophy_spectrum(middle, grid.length)
    assert distance((after - before) / (2 * h), expected) < 1e-3
    assert abs(float(transfer.sum())) < 1e-12 * float(transfer.abs().max())
    assert float(transfer.abs().max()) > 0.1 * float(expected.abs().max())


def test_the_power_is_what_is_asked_for():
    """Where nothing dissipates, the energy grows by P t exactly; every trajectory has its own."""
    state = (
        random_field(GRID, reach=2, batch=2) * torch.tensor([1.0, 0.5], dtype=torch.float64)[:, None, None, None, None]
    )
    forcing = FixedPowerForcing(0.4, 1.5)
    after = solver(GRID, viscosity=0.0, interval=0.5, dt=0.0125, power_forcing=forcing)(state)
    assert (energy(after) - energy(state)).tolist() == pytest.approx([0.2, 0.2], rel=1e-5)
    assert energy(solver(GRID, power_forcing=forcing)(0 * state)).tolist() == [0.0, 0.0]


def test_a_forced_flow_becomes_stationary():
    """From a weak and a strong start: dissipation balances the power, and the flow forgets its start."""
    power, nu, grid = 1.0, 0.07, Grid.cube(12)
    stepper = solver(grid, viscosity=nu, interval=1.0, order=2, dtype=torch.float32,
                     power_forcing=FixedPowerForcing(power, 1.5))  # fmt: skip
    state = random_field(grid, reach=3, batch=2).float() * torch.tensor([0.3, 2.5])[:, None, None, None, None]
    carry, history = stepper.start(state), []
    for _ in range(16):
        carry = stepper.advance(carry)
        u = stepper.state(carry)
        history.append(torch.stack([energy(u), turbulence.dissipation_rate(u, grid.length, nu)]))
    earlier, later = torch.stack(history[6:11]).mean(0), torch.stack(history[11:]).mean(0)
    assert later[1].tolist() == pytest.approx([power] * 2, rel=0.15)
    assert (later[0] / earlier[0]).tolist() == pytest.approx([1.0, 1.0], rel=0.25)
    assert float(later[0, 0] / later[0, 1]) == pytest.approx(1.0, rel=0.3)
    assert float(history[0][1, 1] / history[0][1, 0]) > 5  # they began far apart
    # A good part leaves the forced modes for smaller scales: it is no laminar flow, whose energy would be P/2νk².
    assert float(spectra.energy_flux(u, grid.length)[:, 1].min()) > 0.2 * power


def noise(rate=0.5, renewal=0.05):
    return StochasticForcing(ring_amplitude(2.0, 0.5, rate, GRID.length), renewal)


def test_the_noise_feeds_the_rate_that_is_asked_for():
    """From rest, without viscosity, the mean energy is ε t; a nonlinear step conserves it."""
    stepper = solver(GRID, viscosity=0.0, interval=0.2, dt=0.05, stochastic_forcing=noise(), dtype=torch.float32)
    carry = stepper.start(torch.zeros(24, 3, *GRID.n), seeds=list(range(24)))
    injected = []
    for _ in range(2):
        carry = stepper.advance(carry)
        injected.append(carry.injected)
    fed = torch.stack(injected).sum(0)[:, 0]
    assert float(fed.mean()) == pytest.approx(0.5 * 0.4, rel=0.1)
    assert energy(stepper.state(carry)).tolist() == pytest.approx(fed.tolist(), rel=1e-3)
    kicks = noise().kicks_per_interval(0.2)
    assert kicks == 4


def test_the_noise_has_no_divergence_and_is_the_same_on_every_grid():
    forcing, fields = noise(), []
    for n in (12, 16):
        grid = Grid.cube(n)
        stepper = solver(grid, viscosity=0.0, interval=0.05, dt=0.05, stochastic_forcing=forcing)
        fields.append(stepper(torch.zeros(1, 3, *grid.n, dtype=torch.float64)))
    from solvers import resample

    assert distance(resample(fields[0], Grid.cube(12), Grid.cube(16)), fields[1]) < 1e-12
    kz, ky, kx = GRID.wavenumbers()
    u, v, w = torch.fft.rfftn(fields[0], dim=(-3, -2, -1)).unbind(1)
    assert float((kx * u + ky * v + kz * w).abs().max()) < 1e-10 * float(u.abs().max())
    assert float(u.abs().max()) > 0


def test_kicks_follow_the_seed_and_not_the_batch():
    stepper = solver(GRID, interval=0.1, stochastic_forcing=noise())
    state = random_field(GRID, batch=2)
    both = stepper.advance(stepper.start(state, seeds=[7, 3]))
    alone = stepper.advance(stepper.start(state[1:], seeds=[3]))
    assert distance(stepper.state(alone)[0], stepper.state(both)[1]) < 1e-12
    assert (
        distance(stepper.state(stepper.advance(stepper.start(state[1:], seeds=[4])))[0], stepper.state(both)[1]) > 1e-3
    )
    second = stepper.advance(both)
    assert second.injected.shape == (2, 2)
    assert not torch.equal(second.injected, both.injected)


def test_the_ring_of_a_box_of_unequal_sides():
    sides = (4.0, 2.0, 3.0)
    amplitude = ring_amplitude(1.5, 0.6, 0.7, sides)
    my, mx = amplitude.shape[1] // 2, amplitude.shape[2] - 1
    mz = amplitude.shape[0] // 2
    assert sum(amplitude[mz, my]) == amplitude[mz, my].sum()
    weight = np.where(np.arange(mx + 1) > 0, 2.0, 1.0)
    assert float((weight * amplitude**2).sum()) == pytest.approx(0.7)
    for m in np.argwhere(amplitude > 0):
        k = np.hypot.reduce([(m[0] - mz) * 2 / 4, (m[1] - my), m[2] * 2 / 3])
        assert abs(k - 1.5) <= 0.6
    assert amplitude[mz, my, 0] == 0


def test_a_forcing_of_the_plane_is_refused():
    flat = StochasticForcing(ring_amplitude(2.0, 0.5, 1.0, (1.0, 1.0)), 0.1)
    with pytest.raises(ValueError, match="stochastic_forcing must be one of 3 dimensions"):
        solver(GRID, stochastic_forcing=flat)


def test_a_forcing_that_the_grid_does_not_hold_is_refused():
    high = StochasticForcing(ring_amplitude(6.0, 0.5, 1.0, GRID.length), 0.1)
    stepper = solver(GRID, stochastic_forcing=high)
    with pytest.raises(ValueError, match="take a larger n"):
        stepper.advance(stepper.start(random_field(GRID)))


def test_scalar_variance_decays_by_diffusion_only():
    """d⟨θ²⟩/dt = −2κ⟨|∇θ|²⟩ for a passive scalar."""
    scalar = TransportedScalar(diffusivity=0.05)
    h = 0.005
    stepper = solver(GRID, viscosity=0.0, interval=h, dt=h / 2, scalar=scalar)
    state = torch.cat([random_field(GRID, reach=2), random_field(GRID, 1, 1, reach=2, solenoidal=False)], dim=1)
    middle = stepper(state)
    rate = (stepper(middle)[:, 3].square().mean() - state[:, 3].square().mean()) / (2 * h)
    squares = spectra.cospectrum(middle[:, 3:], middle[:, 3:], GRID.length, 2).sum()
    assert float(rate) == pytest.approx(float(-2 * 0.05 * squares), rel=1e-3)
    carried = replace(scalar, diffusivity=0.0)
    kept = solver(GRID, viscosity=0.0, interval=0.1, dt=0.005, scalar=carried)(state)
    assert float(kept[:, 3].square().mean() / state[:, 3].square().mean() - 1) == pytest.approx(0, abs=1e-8)


def test_buoyancy_exchanges_energy_with_the_scalar():
    """Stable stratification without losses: ½⟨u²⟩ + ½(g/G)⟨θ²⟩ is conserved."""
    scalar = TransportedScalar(mean_gradient=(0.0, 0.0, 2.0), gravity=(0.0, 0.0, -0.5))
    state = torch.cat([random_field(GRID, reach=2), random_field(GRID, 1, 1, reach=2, solenoidal=False)], dim=1)
    after = solver(GRID, viscosity=0.0, interval=0.2, dt=0.01, scalar=scalar)(state)

    def total(u):
        return float((energy(u[:, :3]) + 0.5 * 0.5 / 2.0 * u[:, 3].square().mean()).sum())

    assert total(after) == pytest.approx(total(state), rel=1e-8)
    assert abs(float(energy(after[:, :3]) / energy(state[:, :3])) - 1) > 1e-3


def test_modes_are_sampled_as_series():
    """A vector's random modes: real, and of the amplitude that was asked for."""
    from solvers.random_modes import gaussian_modes, mode_numbers, root_mean_square

    numbers = mode_numbers(2, 3, 2)
    assert [m.shape for m in numbers] == [(5, 1, 1), (1, 7, 1), (1, 1, 3)]
    amplitude = np.broadcast_to(np.abs(numbers[0]) + np.abs(numbers[1]) + numbers[2] > 0, (3, 5, 7, 3)).astype(float)
    modes = gaussian_modes(amplitude, [1, 2], dimensions=3)
    assert modes.shape == (2, 3, 5, 7, 3)
    field = sample_modes(torch.from_numpy(modes), GRID)
    mean_square = field.square().mean((-3, -2, -1)).sqrt().numpy()
    assert np.allclose(root_mean_square(modes, 3)[..., 0, 0, 0], mean_square)
    assert np.allclose(root_mean_square(modes, 4)[:, 0, 0, 0, 0], np.sqrt((mean_square**2).sum(1)))
