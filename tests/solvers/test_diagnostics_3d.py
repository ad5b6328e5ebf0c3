"""Derived fields, spectra and scales of flows in three dimensions, against closed forms."""

import math

import pytest
import torch
from flows_3d import abc, distance, mesh, random_field, solver, taylor_green

from solvers import GROUPS, Grid, act, diagnostics, field_in, spectra, turbulence
from solvers.fields import VELOCITY, VORTICITY, FieldSpec

GRID = Grid.cube(12)
LENGTH = GRID.length


def test_curl_and_its_inverse():
    start = abc(*mesh(GRID))
    assert distance(diagnostics.vorticity(start, GRID), 2 * start) < 1e-13
    box = Grid((10, 12, 16), (3.0, 5.0, 4.0))
    u = random_field(box, reach=3)
    assert distance(diagnostics.velocity(diagnostics.vorticity(u, box), box), u) < 1e-13
    psi = diagnostics.stream_function(diagnostics.vorticity(u, box), box)
    assert distance(diagnostics.vorticity(psi, box), u) < 1e-13
    assert distance(diagnostics.vorticity(u.float(), box).double(), diagnostics.vorticity(u, box)) < 1e-5


def test_pressure_and_q_of_the_taylor_green_vortex():
    """p = (cos 2x + cos 2y)(cos 2z + 2)/16 (Taylor & Green 1937, doi:10.1098/rspa.1937.0036)."""
    x, y, z = mesh(GRID)
    start = taylor_green(x, y, z)
    exact = (torch.cos(2 * x) + torch.cos(2 * y)) * (torch.cos(2 * z) + 2) / 16
    assert distance(diagnostics.pressure(start, GRID)[0, 0], exact) < 1e-12
    gradient = diagnostics.velocity_gradient(start, GRID).reshape(1, 3, 3, *GRID.n)
    ux = torch.cos(x) * torch.cos(y) * torch.cos(z)
    assert distance(gradient[0, 0, 0], ux) < 1e-12
    assert distance(gradient[0, 0, 1], -torch.sin(x) * torch.sin(y) * torch.cos(z)) < 1e-12
    symmetric, antisymmetric = (gradient + s * gradient.transpose(1, 2) for s in (1, -1))
    q = (antisymmetric.square().sum((1, 2)) - symmetric.square().sum((1, 2))) / 8
    assert distance(diagnostics.q_criterion(start, GRID)[:, 0], q) < 1e-12
    assert distance(diagnostics.strain_rate(start, GRID)[:, 0] ** 2, symmetric.square().sum((1, 2)) / 2) < 1e-12


def test_helicity_of_beltrami_flows():
    start = abc(*mesh(GRID))
    mean = diagnostics.helicity(start, GRID).mean()
    assert float(mean) == pytest.approx(2 * float(start.square().sum(1).mean()))
    spectrum = spectra.helicity_spectrum(start, LENGTH)[0]
    assert float(spectrum[1]) == pytest.approx(float(mean))
    assert float(spectrum.abs().sum()) == pytest.approx(float(mean))
    mirrored = act(field_in(VELOCITY, 3), start, next(g for g in GROUPS[3]["Oh"] if g.determinant < 0))
    assert float(diagnostics.helicity(mirrored, GRID).mean()) == pytest.approx(-float(mean))


@pytest.mark.parametrize("g", GROUPS[3]["Oh"].elements[1::9], ids=lambda g: g.name)
def test_derived_fields_turn_by_their_types(g):
    u = random_field(GRID)
    turned = act(field_in(VELOCITY, 3), u, g)
    pseudoscalar, scalar = FieldSpec("helicity", 0, -1, dimensions=3), FieldSpec("pressure", dimensions=3)
    for function, field in ((diagnostics.vorticity, field_in(VORTICITY, 3)), (diagnostics.helicity, pseudoscalar),
                            (diagnostics.pressure, scalar), (diagnostics.q_criterion, scalar)):  # fmt: skip
        assert distance(function(turned, GRID), act(field, function(u, GRID), g)) < 1e-12


def test_spectra_sum_to_means():
    u = random_field(GRID, batch=2, mean=0.4)
    omega, fluctuation = diagnostics.vorticity(u, GRID), u - 0.4
    half = 0.5 * fluctuation.square().sum(1).mean((-3, -2, -1))
    assert spectra.kinetic_energy(u, LENGTH).tolist() == pytest.approx(half.tolist())
    z = 0.5 * omega.square().sum(1).mean((-3, -2, -1))
    assert spectra.enstrophy(u, LENGTH).tolist() == pytest.approx(z.tolist())
    p = 0.5 * diagnostics.velocity_gradient(omega, GRID).square().sum(1).mean((-3, -2, -1))
    assert spectra.palinstrophy(u, LENGTH).tolist() == pytest.approx(p.tolist())
    theta = random_field(GRID, components=1, solenoidal=False, batch=2)
    variance = theta.square().mean((1, 2, 3, 4))
    assert spectra.cospectrum(theta, theta, LENGTH).sum(-1).tolist() == pytest.approx(variance.tolist())


def test_each_shell_holds_its_modes():
    x, y, z = mesh(GRID)
    wave = torch.cos(2 * x + y + 2 * z)  # |k| = 3
    u = torch.stack([wave, torch.zeros_like(wave), -wave])[None]
    energy = spectra.energy_spectrum(u, LENGTH)[0]
    assert float(energy[2]) == pytest.approx(0.5)
    assert float(energy.sum()) == pytest.approx(0.5)
    assert spectra.shell_wavenumbers(GRID.n, LENGTH)[:3].tolist() == [1, 2, 3]


def test_transfers_are_the_rates_that_advection_makes():
    """Energy is only moved; the enstrophy that stretching makes is ⟨ω_i ω_j ∂_j u_i⟩ and the flow's own rate."""
    u = random_field(Grid.cube(16), reach=2)
    grid = Grid.cube(16)
    energy, enstrophy = spectra.energy_transfer(u, grid.length)[0], spectra.enstrophy_transfer(u, grid.length)[0]
    assert abs(float(energy.sum())) < 1e-13 * float(energy.abs().max())
    omega = diagnostics.vorticity(u, grid)
    gradient = diagnostics.velocity_gradient(u, grid).reshape(1, 3, 3, *grid.n)
    stretching = torch.einsum("bizyx,bjzyx,bijzyx->bzyx", omega, omega, gradient).mean()
    assert float(enstrophy.sum()) == pytest.approx(float(stretching), rel=1e-9)
    h = 1e-3
    moved = solver(grid, viscosity=0.0, interval=h, dt=h)(u)
    back = -solver(grid, viscosity=0.0, interval=h, dt=h)(-u)
    rate = (spectra.enstrophy(moved, grid.length) - spectra.enstrophy(back, grid.length)) / (2 * h)
    assert float(rate) == pytest.approx(float(stretching), rel=1e-4)
    assert float(spectra.energy_flux(u, grid.length)[0, -1]) == pytest.approx(0, abs=1e-13)


def test_scales_of_a_single_shell():
    """Of ABC flow with k = 2: Z = k²E, L = 3π/(4k), λ = √5/k, η and Re_λ from them."""
    u, k, nu = abc(*mesh(GRID)), 2.0, 0.01
    energy = 0.5 * float(u.square().sum(1).mean())
    assert float(turbulence.integral_scale(u, LENGTH)) == pytest.approx(0.75 * math.pi / k)
    assert float(turbulence.taylor_microscale(u, LENGTH)) == pytest.approx(math.sqrt(5) / k)
    dissipation = 2 * nu * k**2 * energy
    assert float(turbulence.dissipation_rate(u, LENGTH, nu)) == pytest.approx(dissipation)
    assert float(turbulence.kolmogorov_scale(u, LENGTH, nu)) == pytest.approx((nu**3 / dissipation) ** 0.25)
    taylor = math.sqrt(2 * energy / 3) * math.sqrt(5) / k / nu
    assert float(turbulence.taylor_reynolds_number(u, LENGTH, nu)) == pytest.approx(taylor)
    assert float(turbulence.rms_velocity(u, LENGTH)) == pytest.approx(math.sqrt(2 * energy))


def test_skewness_of_the_derivative():
    """Zero for a Gaussian field's mean; negative after a while of turbulence; the sign changes with time's."""
    grid = Grid.cube(16)
    u = solver(grid, viscosity=0.03, interval=0.5)(random_field(grid, reach=3, seed=2))
    skewness = float(turbulence.derivative_skewness(u, grid.length))
    assert -0.8 < skewness < -0.1
    assert float(turbulence.derivative_skewness(-u, grid.length)) == pytest.approx(-skewness)
    gradient = diagnostics.velocity_gradient(u, grid)[:, [0, 4, 8]]
    assert skewness == pytest.approx(float(gradient.pow(3).mean() / gradient.square().mean() ** 1.5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda u: spectra.energy_spectrum(u[:, :1], LENGTH), "expected a velocity"),
        (lambda u: spectra.cospectrum(u[:, :2], u[:, :2], LENGTH), "expected .batch, 1, z, y, x."),
        (lambda u: spectra.cospectrum(u, u[0, 0], LENGTH), "expected"),
        (lambda u: spectra.enstrophy(u), "needs the sides of the box"),
        (lambda u: turbulence.dissipation_wavenumber(u, LENGTH, 0.1), "expected .batch, 1, y, x."),
        (lambda u: turbulence.mean_enstrophy_budget(u, LENGTH, 0.1), "expected .batch, 1, y, x."),
        (lambda u: diagnostics.helicity(u[:, :2], Grid.square(12)), "needs a grid in 3 dimensions"),
        (lambda u: diagnostics.pressure(u[:, :2], GRID), "expected .batch, 3, 12, 12, 12."),
    ],
)  # fmt: skip
def test_other_shapes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_field(GRID))
