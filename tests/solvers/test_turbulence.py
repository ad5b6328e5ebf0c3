"""Scales against closed forms, budgets against the solver's own trajectories."""

import math

import pytest
import torch

from solvers import Grid, NavierStokes2D, turbulence

GRID = Grid.box([24, 32], [math.pi, 2 * math.pi])
INTERVAL = 1e-3
VISCOSITIES, DRAG = (1e-2, 4e-2), 0.3
BUDGETS = {"energy": turbulence.mean_energy_budget, "enstrophy": turbulence.mean_enstrophy_budget}


def test_scales_of_taylor_green():
    """ψ = a sin(2x) sin(2y): every |k|² is 8, ⟨|u|²⟩ = 2a², Z = 8a², P = 64a²."""
    y, x = GRID.coordinates()
    psi = (torch.sin(2 * y)[:, None] * torch.sin(2 * x)[None, :])[None, None]
    amplitudes = torch.tensor([1.0, 3.0], dtype=torch.float64)
    vorticity, sides = 8 * amplitudes[:, None, None, None] * psi, GRID.length
    viscosity = torch.tensor([0.1, 0.02], dtype=torch.float64)
    u, k = math.sqrt(2) * amplitudes, math.sqrt(8)

    def close(made, expected):
        torch.testing.assert_close(made, expected.expand(2), rtol=1e-12, atol=0)

    close(turbulence.rms_velocity(vorticity, sides), u)
    close(turbulence.integral_scale(vorticity, sides), torch.tensor(2 / k, dtype=torch.float64))
    close(turbulence.taylor_microscale(vorticity, sides), torch.tensor(1 / k, dtype=torch.float64))
    close(turbulence.turnover_time(vorticity, sides), 2 / (k * u))
    close(turbulence.reynolds_number(vorticity, sides, viscosity), 2 * u / (k * viscosity))
    close(turbulence.reynolds_number(vorticity, sides, 0.1), 2 * u / (k * 0.1))
    dissipation = 2 * viscosity * 64 * amplitudes**2
    close(turbulence.dissipation_wavenumber(vorticity, sides, viscosity), dissipation ** (1 / 6) / viscosity**0.5)
    assert turbulence.reynolds_number(vorticity, sides, 0.0).isposinf().all()
    assert turbulence.dissipation_wavenumber(vorticity, sides, 0.0).isposinf().all()
    assert turbulence.integral_scale(0 * vorticity, sides).isnan().all()


def test_integral_scale_is_that_of_the_longitudinal_correlation():
    """∫ f dr in isotropic flow of two wavenumbers: u of waves in all directions θ, whose velocity is across k,
    correlates along x as f(r) = Σ E sin²θ cos(kr cosθ) / Σ E sin²θ."""
    y, x = GRID.coordinates()
    vorticity = (9 * torch.cos(3 * x)[None, :] + 16 * torch.sin(4 * y)[:, None])[None, None]
    energies, wavenumbers = (81 / 4 / 9, 256 / 4 / 16), (3, 4)
    theta = (torch.arange(1000, dtype=torch.float64) + 0.5) * math.pi / 1000
    r = torch.linspace(0, 100, 4001, dtype=torch.float64)
    across = theta.sin() ** 2
    parts = [e * (across * torch.cos(k * r[:, None] * theta.cos())).sum(1) / across.sum()
             for e, k in zip(energies, wavenumbers, strict=True)]  # fmt: skip
    f = sum(parts) / sum(energies)
    assert float(f[0]) == pytest.approx(1)
    made = float(turbulence.integral_scale(vorticity, GRID.length))
    assert made == pytest.approx(float(torch.trapezoid(f, r)), rel=1e-3)


@pytest.fixture(scope="module")
def flows():
    """Five states in a row, (time, viscosity, 1, y, x), of two forced and dragged flows that differ in viscosity, on a
    rectangle; with a mean vorticity, which drag takes and viscosity does not; and their forcing."""
    y, x = GRID.coordinates()
    forcing = 20 * (torch.cos(4 * y)[:, None] + torch.sin(2 * x)[None, :])
    noise = torch.randn(1, 1, *GRID.n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spectrum = torch.fft.rfft2(noise) / (1 + sum(k**2 for k in GRID.wavenumbers())) * GRID.retained()
    start = 100 * torch.fft.irfft2(spectrum, s=GRID.n) + 0.7
    trajectories = []
    for viscosity in VISCOSITIES:
        solver = NavierStokes2D(GRID, viscosity=viscosity, drag=DRAG, forcing=forcing, interval=INTERVAL, dt=INTERVAL,
                                dtype=torch.float64)  # fmt: skip
        states = [start]
        for _ in range(4):
            states.append(solver(states[-1]))
        trajectories.append(torch.cat(states))
    return torch.stack(trajectories, dim=1), forcing


@pytest.mark.parametrize("quantity", BUDGETS)
def test_budgets_close(flows, quantity):
    """Against differences of fourth order in time; leaving out any term, or taking the other's viscosity, fails."""
    states, forcing = flows
    if quantity == "energy":
        content = [turbulence.kinetic_energy(s, GRID.length) for s in states]
    else:
        content = [turbulence.enstrophy(s) for s in states]
    change = (content[0] - 8 * content[1] + 8 * content[3] - content[4]) / (12 * INTERVAL)
    viscosity = torch.tensor(VISCOSITIES, dtype=torch.float64)
    budget = BUDGETS[quantity](states[2], GRID.length, viscosity, DRAG, forcing)
    scale = budget.injection.abs() + budget.dissipation + budget.drag
    assert float(((change - budget.rate).abs() / scale).max()) < 1e-8
    for term in budget:
        assert float((term.abs() / scale).min()) > 1e-2
    other = BUDGETS[quantity](states[2], GRID.length, viscosity.flip(0), DRAG, forcing)
    assert float(((change - other.rate).abs() / scale).min()) > 1e-2


@pytest.mark.parametrize("budget", BUDGETS.values())
def test_budgets_take_numbers_or_tensors(flows, budget):
    states, forcing = flows
    one = budget(states[0], GRID.length, 1e-2, DRAG, forcing)
    ones = torch.ones(2, dtype=torch.float64)
    many = budget(states[0], GRID.length, 1e-2 * ones, DRAG * ones, forcing.expand(2, 1, *GRID.n))
    for a, b in zip(one, many, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=0)
    free = budget(states[0], GRID.length, 1e-2)
    assert not free.injection.any()
    assert not free.drag.any()
    assert budget(states[0].float(), GRID.length, 1e-2, DRAG, forcing.float()).rate.dtype == torch.float32
    assert budget(states[0].to("meta"), GRID.length, 1e-2, DRAG, forcing.to("meta")).rate.device.type == "meta"
