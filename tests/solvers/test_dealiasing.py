"""Retained modes fixed, products on grids of different sizes: the two-thirds rule says which are exact."""

import numpy as np
import pytest
import torch

from solvers import FLOWS, Grid, NavierStokes2D, TransportedScalar, resample

K, INTERVAL = 5, 0.5
FINE = Grid.square(32)


def solver(n, modes=(K, K), **options):
    grid = Grid.square(n) if isinstance(n, int) else Grid(n)
    forcing = FLOWS[2]["kolmogorov"](viscosity=1e-2, waves=3).forcing(grid)
    scalar = TransportedScalar(diffusivity=5e-3, mean_gradient=(0.0, 0.5), gravity=(0.3, -1.0))
    return NavierStokes2D(grid, **{
        "viscosity": 5e-3, "interval": INTERVAL, "dt": 0.02, "forcing": forcing, "scalar": scalar, "modes": modes,
        "mean_velocity": (0.4, -0.2), "dtype": torch.float64, **options,
    })  # fmt: skip


def retained(field, grid, modes=(K, K)):
    return torch.fft.irfft2(torch.fft.rfft2(field) * grid.retained(modes), s=grid.n)


def distance(a, b):
    return float((a - b).norm() / b.norm())


@pytest.fixture(scope="module")
def start():
    """Vorticity and temperature with every mode up to K, on the fine grid."""
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 2, 32, 32)))
    return retained(noise, FINE) * 5.0


def trajectory(n, start, count=4, **options):
    flow = solver(n, **options)
    carry, states = flow.start(resample(start, FINE, flow.grid)), []
    for _ in range(count):
        carry = flow.advance(carry)
        states.append(resample(flow.state(carry), flow.grid, FINE))
    return torch.stack(states)


@pytest.fixture(scope="module")
def reference(start):
    return trajectory(32, start)


@pytest.mark.parametrize("n", [16, 18, 24, 48, (16, 20)], ids=str)
def test_grids_of_at_least_3k_plus_1_cells_give_one_trajectory(start, reference, n):
    assert distance(trajectory(n, start), reference) < 1e-11


def test_the_modes_beyond_stay_empty(start, reference):
    assert distance(retained(reference, FINE), reference) < 1e-13
    assert distance(reference[-1], start) > 0.5


def test_by_default_every_grid_retains_what_it_can(start, reference):
    """The control: grids then differ."""
    assert distance(trajectory(16, start, modes=None), reference) < 1e-11  # 16 = 3K + 1: the same modes
    assert distance(trajectory(18, start, modes=None), reference) < 1e-11  # and 18 as well
    assert distance(trajectory(24, start, modes=None), reference) > 1e-3


def test_fewer_modes_than_cells_allow_are_another_flow(start, reference):
    assert distance(trajectory(32, start, modes=(K, K - 1)), reference) > 1e-3


@pytest.mark.parametrize("modes", [(K, K), (K, 1), (1, K), (0, 4), (4, 0), (-1, 4)])
def test_grids_of_fewer_cells_are_refused(modes):
    with pytest.raises(ValueError, match=r"modes must be from 1 to \(4, 4\) on this grid"):
        solver(14, modes=modes)


def test_single_precision_and_own_steps_keep_to_the_modes_too(start):
    a, b = (trajectory(n, start, 1, dt=None) for n in (16, 32))
    assert distance(a, b) < 1e-3  # each grid takes its own steps
    single = trajectory(32, start.float(), 1, dtype=torch.float32)
    assert distance(single, trajectory(32, start, 1)) < 1e-5
    assert distance(retained(single, FINE), single) < 1e-6
