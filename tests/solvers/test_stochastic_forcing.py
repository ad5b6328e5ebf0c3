"""Random forcing: its noise, what it feeds, and the flow that it keeps going."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from solvers import FLOWS, Grid, NavierStokes2D, resample

GRID, INTERVAL = Grid.square(24), 0.2
FLOW = FLOWS[2]["stirred"](viscosity=5e-3, drag=0.1, rate=0.2, renewal=0.1, rms=2.0)


def solver(flow=FLOW, grid=GRID, **options):
    return flow.solver(grid, **{"interval": INTERVAL, "dtype": torch.float64, **options})


def distance(a, b):
    return float((a - b).norm() / b.norm())


def fields(kicks, grid):
    return torch.fft.irfft2(kicks, s=grid.n)


def energy_enstrophy_palinstrophy(state):
    """½⟨|u|²⟩, ½⟨ω²⟩ and ½⟨|∇ω|²⟩ of each trajectory, on the square of side 2π."""
    n = state.shape[-1]
    power = np.abs(np.fft.fft2(state[:, 0].numpy()) / n**2) ** 2
    k = np.fft.fftfreq(n, 1 / n)
    k2 = k[:, None] ** 2 + k[None, :] ** 2
    inverse = 1 / np.where(k2 > 0, k2, np.inf)
    return np.stack([0.5 * (weight * power).sum((1, 2)) for weight in (inverse, np.ones_like(k2), k2)])


def test_the_noise_does_not_depend_on_the_batch():
    kicks = FLOW.stochastic_forcing(GRID).kicks
    together = kicks(GRID, [7, 3, 11], 2, INTERVAL)
    assert together.shape[:2] == (3, 2)
    for i, seed in enumerate((7, 3, 11)):
        assert torch.equal(kicks(GRID, [seed], 2, INTERVAL)[0], together[i])
    assert min(distance(together[i], together[j]) for i, j in ((0, 1), (1, 2), (0, 2))) > 0.5


@pytest.mark.parametrize("n", [(16, 16), (48, 48), (32, 20)])
def test_the_noise_is_the_same_function_on_every_grid(n):
    coarse, fine = Grid(n), Grid.square(64)
    here, there = (
        fields(FLOW.stochastic_forcing(grid).kicks(grid, [3, 4], 5, INTERVAL), grid) for grid in (coarse, fine)
    )
    assert distance(resample(there, fine, coarse), here) < 1e-12
    assert distance(resample(here, coarse, fine), there) < 1e-12
    assert n != (16, 16) or distance(there[..., ::4, ::4], here) > 1e-2


def test_every_slot_every_interval_and_every_seed_has_its_own_noise():
    """And none is that of a start, which is drawn from the same seed over the same ring."""
    flow, drawn = replace(FLOW, bandwidth=1.0), []
    for seed in (0, 5, 2**62 + 1):
        kicks = [flow.stochastic_forcing(GRID).kicks(GRID, [seed], clock, INTERVAL)[0] for clock in range(3)]
        drawn += [flow.starts(GRID, [seed])[0], fields(torch.cat(kicks), GRID)]
    drawn = torch.cat(drawn).flatten(1)
    cosines = (drawn @ drawn.T) / (drawn.norm(dim=1)[:, None] * drawn.norm(dim=1))
    assert float((cosines - torch.eye(21)).abs().max()) < 0.6  # 48 numbers each: four standard deviations


def test_a_trajectory_does_not_depend_on_the_batch():
    flow, starts = solver(), FLOW.starts(GRID, [0, 1, 2])
    carry = flow.start(starts, seeds=[4, 9, 6])
    carry = flow.advance(flow.advance(carry))
    for i, seed in enumerate((4, 9, 6)):
        alone = flow.start(starts[i : i + 1], seeds=[seed])
        alone = flow.advance(flow.advance(alone))
        assert distance(flow.state(alone)[0], flow.state(carry)[i]) < 1e-12
        assert distance(alone.injected, carry.injected[i : i + 1]) < 1e-10


def test_kicks_that_outgrow_their_steps_are_done_again_with_the_same_noise():
    """One trajectory of three, from rest; what it and its neighbours meet is what fixed steps meet."""
    flow = solver(replace(FLOW, rate=20.0))
    starts = FLOW.starts(GRID, [0, 1, 2]) * torch.tensor([20.0, 0.0, 20.0], dtype=torch.float64)[:, None, None, None]
    carry = flow.start(starts, seeds=[5, 6, 7])
    planned, carry = carry.planned_steps, flow.advance(carry)
    assert carry.steps_taken[1] > planned[1]
    assert (carry.steps_taken[0], carry.steps_taken[2]) == (planned[0], planned[2])
    for i, seed in enumerate((5, 6, 7)):
        fixed = solver(replace(FLOW, rate=20.0), dt=INTERVAL / 2 / carry.steps_taken[i])
        same = fixed.advance(fixed.start(starts[i : i + 1], seeds=[seed]))
        assert distance(fixed.state(same)[0], flow.state(carry)[i]) < 1e-11
        assert distance(same.injected[0], carry.injected[i]) < 1e-11


def test_the_clock_says_which_noise_comes():
    flow, still = solver(), torch.zeros(1, 1, *GRID.n, dtype=torch.float64)
    first = flow.start(still, seeds=[8])
    once, again = flow.advance(first), flow.advance(first)
    assert torch.equal(flow.state(once), flow.state(again))
    assert (first.intervals_done, once.intervals_done) == (0, 1)
    afresh = replace(flow.start(still, seeds=[8]), intervals_done=1)
    assert distance(flow.state(flow.advance(afresh)), flow.state(once)) > 0.5
    restarted = replace(flow.start(flow.state(once), seeds=[8]), intervals_done=1)
    assert distance(flow.state(flow.advance(restarted)), flow.state(flow.advance(once))) < 1e-12


def test_without_seeds_they_are_counted_from_zero():
    flow, starts = solver(), FLOW.starts(GRID, [0, 1, 2])
    given = flow.state(flow.advance(flow.start(starts, seeds=[0, 1, 2])))
    assert torch.equal(flow(starts), given)
    assert not torch.equal(flow.state(flow.advance(flow.start(starts, seeds=[0, 1, 3])))[2], given[2])
    with pytest.raises(ValueError, match="seeds must be one for each trajectory, 3 in all"):
        flow.start(starts, seeds=[0])


@pytest.mark.parametrize(("wavenumber", "bandwidth"), [(4.0, 0.5), (3.0, 1.0)])
def test_kicks_feed_energy_at_the_asked_rate_in_the_asked_ring(wavenumber, bandwidth):
    flow = FLOWS[2]["stirred"](viscosity=1e-2, rate=0.7, wavenumber=wavenumber, bandwidth=bandwidth, renewal=0.05)
    stirring = flow.stochastic_forcing(GRID)
    drawn = fields(stirring.kicks(GRID, range(400), 3, INTERVAL), GRID)  # 4 kicks each
    energy = energy_enstrophy_palinstrophy(drawn.flatten(0, 1)[:, None])[0]
    assert energy.mean() / 0.05 == pytest.approx(0.7, rel=0.02)  # 1600 kicks of some 28 numbers: 0.7 %
    power = (np.abs(np.fft.fft2(drawn.flatten(0, 1).numpy())) ** 2).mean(0)
    k = np.fft.fftfreq(24, 1 / 24)
    radius = np.hypot(k[:, None], k[None, :])
    inside = np.abs(radius - wavenumber) <= bandwidth
    assert power[~inside].max() < 1e-25 * power.max()
    assert np.abs(power[inside] / power[inside].mean() - 1).max() < 0.15


def test_the_ring_counts_waves_across_the_shorter_side():
    """On a rectangle too the asked rate is fed."""
    grid = Grid((24, 48), (1.0, 2.0))
    drawn = fields(FLOW.stochastic_forcing(grid).kicks(grid, range(300), 0, INTERVAL), grid).flatten(0, 1).numpy()
    power = (np.abs(np.fft.fft2(drawn) / (24 * 48)) ** 2).mean(0)
    waves = np.hypot(np.fft.fftfreq(24, 1 / 24)[:, None], np.fft.fftfreq(48, 1 / 48)[None, :] / 2)
    assert power[np.abs(waves - 4.0) > 0.5].max() < 1e-25 * power.max()
    fed = 0.5 * (power / np.where(waves > 0, 2 * math.pi * waves, np.inf) ** 2).sum() / 0.1
    assert fed == pytest.approx(0.2, rel=0.03)


def test_expected_and_recorded_injection_agree():
    """Additive noise: the state that it meets takes and gives in equal parts."""
    flow = solver(dt=0.05)
    carry, fed = flow.start(FLOW.starts(GRID, range(128))), []
    for _ in range(4):
        carry = flow.advance(carry)
        fed.append(carry.injected)
    energy, enstrophy = torch.stack(fed).mean((0, 1)) / INTERVAL
    assert float(energy) == pytest.approx(0.2, rel=0.1)
    assert float(enstrophy / energy) == pytest.approx(4.0**2, rel=0.1)


@pytest.fixture(scope="module")
def by_hand():
    """Between kicks an unstirred solver in sub-intervals, Simpson's rule for what is lost; the kicks added by hand."""
    flow, subs = solver(dt=0.1 / 20), 20
    calm = NavierStokes2D(GRID, viscosity=FLOW.viscosity, drag=FLOW.drag, interval=0.1 / subs, dt=0.1 / subs,
                          dtype=torch.float64)  # fmt: skip
    start = FLOW.starts(GRID, [1, 2])
    carry, state, fed, lost = flow.start(start, seeds=[1, 2]), start, np.zeros((2, 2)), np.zeros((2, 2))
    simpson = np.array([1] + [4, 2] * (subs // 2 - 1) + [4, 1]) * 0.1 / subs / 3
    for clock in range(5):
        kicks = fields(FLOW.stochastic_forcing(GRID).kicks(GRID, [1, 2], clock, INTERVAL), GRID)
        for slot in range(2):
            losses = []
            for i in range(subs + 1):
                e, z, p = energy_enstrophy_palinstrophy(state)
                losses.append(2 * FLOW.viscosity * np.stack([z, p]) + 2 * FLOW.drag * np.stack([e, z]))
                state = calm(state) if i < subs else state
            lost += np.tensordot(simpson, np.stack(losses), 1)
            state = state + kicks[:, slot, None]
        carry = flow.advance(carry)
        fed += carry.injected.numpy().T
    return flow.state(carry), state, start, fed, lost


def test_an_interval_is_calm_flow_and_kicks_in_turn(by_hand):
    after, expected, start, *_ = by_hand
    assert distance(after, expected) < 1e-12
    assert distance(after, start) > 0.5


@pytest.mark.parametrize("quantity", [0, 1], ids=["energy", "enstrophy"])
def test_the_budget_closes_with_the_recorded_injection(by_hand, quantity):
    after, _, start, fed, lost = by_hand
    change = (energy_enstrophy_palinstrophy(after) - energy_enstrophy_palinstrophy(start))[quantity]
    scale = np.abs(fed[quantity]) + lost[quantity]
    assert (np.abs(change - fed[quantity] + lost[quantity]) < 1e-6 * scale).all()
    expected = np.array([0.2, 16 * 0.2])[quantity] * 5 * INTERVAL
    assert (np.abs(change - expected + lost[quantity]) > 1e-2 * scale).all()  # the mean rate does not close it


@pytest.mark.parametrize("order", [2, 4])
def test_order_of_accuracy_on_a_fixed_path(order):
    start = solver()(FLOW.starts(GRID, [1, 2]))

    def after(steps, order):
        flow = solver(dt=0.1 / steps, order=order)
        return flow.state(flow.advance(flow.start(start, seeds=[1, 2])))

    reference = after(64, 4)
    coarse, fine = (distance(after(steps, order), reference) for steps in (4, 8))
    assert abs(np.log2(coarse / fine) - order) < 0.2


def test_shorter_renewal_converges_at_first_order():
    """On one path of the noise: longer slots gather what shorter ones would have kicked. ω at the end, strongly."""
    calm = NavierStokes2D(GRID, viscosity=FLOW.viscosity, drag=FLOW.drag, interval=0.0125, dt=0.0125,
                          dtype=torch.float64)  # fmt: skip
    path = fields(replace(FLOW, renewal=0.0125).stochastic_forcing(GRID).kicks(GRID, range(4), 0, 0.8), GRID)

    def end(gathered):
        state = FLOW.starts(GRID, range(4))
        for first in range(0, 64, gathered):
            for _ in range(gathered):
                state = calm(state)
            state = state + path[:, first : first + gathered].sum(1, keepdim=True)
        return state

    exact = 2 * end(1) - end(2)  # the first order of the error cancels
    coarse, fine = (distance(end(gathered), exact) for gathered in (16, 8))
    assert 0.7 < np.log2(coarse / fine) < 1.3


def test_energy_settles_where_drag_and_viscosity_take_what_is_fed():
    """2μE + 2νZ = ε in the mean over time, and E near ε/2μ."""
    flow = FLOWS[2]["stirred"](viscosity=1e-3, drag=0.2, rate=0.2, renewal=0.1)
    grid = Grid.square(16)
    steps = solver(flow, grid, interval=1.0)
    carry, lost, energies = steps.start(flow.starts(grid, range(4))), [], []
    for i in range(80):
        carry = steps.advance(carry)
        if i >= 20:  # several times 1/2μ
            energy, enstrophy, _ = energy_enstrophy_palinstrophy(steps.state(carry))
            energies.append(energy)
            lost.append(2 * 0.2 * energy + 2 * 1e-3 * enstrophy)
    assert np.mean(lost) == pytest.approx(0.2, rel=0.1)
    assert 0.8 < np.mean(energies) / (0.2 / (2 * 0.2)) < 1.05
