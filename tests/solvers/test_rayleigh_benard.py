"""Convection between plates: the boundary conditions, and the linear theory of Rayleigh (1916)."""

import math

import numpy as np
import pytest
import torch

from solvers import FLOWS, Grid, NavierStokes2D

GRID = Grid((24, 32), (2.0, 3.0))
FLOW = FLOWS[2]["rayleigh_benard"](rayleigh=1e4, prandtl=0.7, noise=0.1, wavenumber=2.0)


def intervals(solver, state, count):
    carry = solver.start(state)
    for _ in range(count):
        carry = solver.advance(carry)
    return solver.state(carry)


def even(state):
    """The part that is even about the plates, relative to the whole."""
    return float((state + state.flip(-2)).norm() / (2 * state.norm()))


def at_height(state, grid, height):
    """ω, θ, u, v, ∂u/∂y and ∂θ/∂y along x at any height, by the Fourier series."""
    w, theta = np.fft.fft2(state[0].numpy()) / math.prod(grid.n)
    ky, kx = (2 * math.pi * np.fft.fftfreq(n, side / n) for n, side in zip(grid.n, grid.length, strict=True))
    ky, kx, k2 = ky[:, None], kx[None, :], ky[:, None] ** 2 + kx[None, :] ** 2
    psi = w / np.where(k2 > 0, k2, 1.0)
    fields = np.stack([w, theta, 1j * ky * psi, -1j * kx * psi, -(ky**2) * psi, 1j * ky * theta])
    wave = np.exp(1j * ky * (height - grid.spacing[0] / 2))  # from the first cell centre
    return np.fft.ifft((fields * wave).sum(1) * grid.n[1]).real


@pytest.fixture(scope="module")
def convecting():
    """Grown out of the noise, no longer linear."""
    solver = FLOW.solver(GRID, interval=1.0, dtype=torch.float64)
    return intervals(solver, FLOW.starts(GRID, [2]), 30)


def test_the_flow_stays_odd_about_the_plates(convecting):
    assert even(convecting) < 1e-14
    assert float(convecting[0, 1].abs().max()) > 0.3


def test_without_plates_an_even_disturbance_grows():
    """The same equations in a periodic box: rising and sinking columns know no walls."""
    start = FLOW.starts(GRID, [2])
    x = GRID.coordinates()[1]
    disturbed = start + 1e-6 * torch.cos(2 * math.pi * x / 3.0)
    options = {"viscosity": FLOW.viscosity, "scalar": FLOW.scalar, "interval": 1.0, "dtype": torch.float64}
    free, bounded = (NavierStokes2D(GRID, plates=plates, **options) for plates in (False, True))
    assert even(disturbed) < 1e-4
    assert even(intervals(free, disturbed, 15)) > 1e-2
    assert even(intervals(bounded, disturbed, 15)) < 1e-14


@pytest.mark.parametrize("height", [0.0, 1.0])
def test_plates_are_free_slip_and_of_fixed_temperature(convecting, height):
    """ω, θ, v and ∂u/∂y vanish there; u and the flow of heat do not, nor anything in between."""
    within = np.abs(at_height(convecting, GRID, 0.3)).max(1)
    w, theta, u, v, shear, heat = np.abs(at_height(convecting, GRID, height)).max(1) / within
    assert max(w, theta, v, shear) < 1e-12
    assert min(u, heat) > 0.1
    near = np.abs(at_height(convecting, GRID, height + GRID.spacing[0] / 2)).max(1) / within
    assert min(near[0], near[1], near[3]) > 1e-2  # half a cell away: the control


def test_conduction_is_steady():
    still = torch.zeros(1, 2, *GRID.n, dtype=torch.float64)
    assert not intervals(FLOW.solver(GRID, interval=1.0, dtype=torch.float64), still, 3).any()


@pytest.mark.parametrize("prandtl", [0.5, 1.0, 4.0])
def test_small_disturbances_grow_at_their_rates(prandtl):
    """s² + (ν + κ) K² s + νκ K⁴ = k²/K², K² = k² + (mπ)²: both roots, for several waves at once."""
    flow = FLOWS[2]["rayleigh_benard"](rayleigh=3000.0, prandtl=prandtl)
    nu, kappa = math.sqrt(prandtl / 3000.0), 1 / math.sqrt(prandtl * 3000.0)
    y, x = (c.numpy() for c in GRID.coordinates())
    starts, rates = [], []
    for mx, m in ((1, 1), (2, 1), (3, 1), (1, 2), (2, 3)):
        k = 2 * math.pi * mx / 3.0
        square = k**2 + (m * math.pi) ** 2
        for s in np.roots([1.0, (nu + kappa) * square, nu * kappa * square**2 - k**2 / square]):
            w, theta = -k, s + nu * square  # of ω = w sin(kx) sin(mπy) and θ = theta cos(kx) sin(mπy)
            layer = np.sin(m * math.pi * y)[:, None]
            starts.append(1e-8 * np.stack([w * layer * np.sin(k * x), theta * layer * np.cos(k * x)]))
            rates.append(s)
    start = torch.from_numpy(np.stack(starts))
    after = flow.solver(GRID, interval=1.0, dt=0.01, dtype=torch.float64)(start)
    grown = torch.from_numpy(np.exp(rates))[:, None, None, None]
    assert float(((after - grown * start).flatten(1).norm(dim=1) / (grown * start).flatten(1).norm(dim=1)).max()) < 1e-6
    assert max(rates) > 0.1
    assert min(rates) < -0.1


def growth(flow, grid, rayleigh):
    """Of the first wave across the box at these Ra, one a trajectory, once what decays faster is gone."""
    y, x = grid.coordinates()
    wave = 1e-7 * torch.sin(math.pi * y)[:, None] * torch.cos(2 * math.pi * x / grid.length[1])
    start = torch.stack([torch.zeros_like(wave), wave])[None].expand(len(rayleigh), 2, *grid.n)
    viscosity = torch.from_numpy(np.sqrt(flow.prandtl / rayleigh))[:, None, None, None]
    inputs = {name: vector.expand(len(rayleigh), 2, 1, 1) for name, vector in flow.inputs(grid).items() if
              name in ("gravity", "mean_gradient")}  # fmt: skip
    inputs |= {"viscosity": viscosity, "diffusivity": viscosity / flow.prandtl}
    solver = flow.solver(grid, interval=8.0, dt=0.2, varying=["viscosity", "diffusivity"], dtype=torch.float64)
    carry, sizes = solver.start(start, inputs), []
    for _ in range(2):
        carry = solver.advance(carry)
        sizes.append(solver.state(carry).flatten(1).norm(dim=1))
    return torch.log(sizes[1] / sizes[0]).numpy()


ONSETS = pytest.mark.parametrize(
    ("width", "critical"), [(2 * math.sqrt(2), 27 * math.pi**4 / 4), (2.0, 8 * math.pi**4)], ids=["657.5", "779.3"]
)


@ONSETS
@pytest.mark.parametrize("prandtl", [1.0, 3.0])
def test_the_onset_by_bisection(width, critical, prandtl):
    """Ra_c = (π² + k²)³/k², at the earliest 27π⁴/4 = 657.511 where k = π/√2; k = π: 8π⁴. Without it to begin from."""
    flow, grid = FLOWS[2]["rayleigh_benard"](prandtl=prandtl), Grid((8, 8), (2.0, width))
    low, high = 300.0, 2000.0
    while high - low > 2e-4 * low:
        tried = np.linspace(low, high, 18)
        grows = growth(flow, grid, tried) > 0
        assert not grows[0]
        first = int(grows.argmax())
        low, high = float(tried[first - 1]), float(tried[first])
    assert (low + high) / 2 == pytest.approx(critical, rel=1e-3)


@ONSETS
def test_the_flow_s_own_number_is_the_rayleigh_number(width, critical):
    """From the flow's own noise, just below and just above."""
    sizes = []
    for rayleigh in (0.98 * critical, 1.02 * critical):
        flow = FLOWS[2]["rayleigh_benard"](rayleigh=rayleigh, noise=1e-6, wavenumber=1.0, bandwidth=0.5)
        grid = Grid((12, 16), (2.0, width))
        solver = flow.solver(grid, interval=10.0, dt=0.2, dtype=torch.float64)
        once = intervals(solver, flow.starts(grid, [0]), 1)
        sizes.append(float(intervals(solver, once, 1).norm() / once.norm()))
    assert sizes[0] < 1 < sizes[1]
