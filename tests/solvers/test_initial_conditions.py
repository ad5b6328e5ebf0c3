"""Closed-form starts: each is what its formula says, and does what it is known for."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from solvers import FLOWS, Grid, NavierStokes2D, resample, velocity
from solvers.flows.initial_conditions import CLOSED_FORMS, closed_form_field, lamb_chaplygin


def still(shape, grid, rms=1.0):
    """The start without its random shift."""
    y, x = grid.coordinates()
    values = shape(grid, y[:, None], x[None, :]) + torch.zeros(grid.n, dtype=torch.float64)
    values = values - values.mean()
    return values * rms / values.square().mean().sqrt()


def aligned(start, reference):
    """The largest circular correlation of two fields over all shifts by whole cells."""
    a, b = (torch.fft.rfft2(f / f.norm()) for f in (start, reference))
    return float(torch.fft.irfft2(a * b.conj(), s=start.shape).max())


def unlike(start, reference):
    """How much the sizes of the two fields' modes differ, which no shift changes."""
    a, b = (torch.fft.rfft2(f).abs() for f in (start, reference))
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("name", sorted(CLOSED_FORMS))
def test_start_is_its_formula_shifted(name):
    grid = Grid.square(128)
    starts = FLOWS[2]["decaying"](viscosity=1e-3, start=name, rms=2.5).starts(grid, [1, 2])
    assert starts.square().mean((1, 2, 3)).sqrt().numpy() == pytest.approx(2.5, rel=1e-12)
    for start in starts[:, 0]:
        assert aligned(start, still(CLOSED_FORMS[name], grid)) > 0.99
    assert float((starts[0] - starts[1]).norm() / starts[0].norm()) > 0.1


@pytest.mark.parametrize("name", sorted(CLOSED_FORMS))
def test_start_is_the_same_function_on_every_grid(name):
    """In the modes that both grids retain; the finer grid holds more of them."""
    coarse, fine = Grid.square(32), Grid.square(96)
    a, b = (closed_form_field(CLOSED_FORMS[name], grid, [3], 1.0) for grid in (coarse, fine))
    b = resample(b, fine, coarse)
    a, b = (torch.fft.rfft2(f) * coarse.retained() for f in (a, b))
    scale = float((a * b.conj()).sum().real / a.abs().square().sum())  # each has RMS 1 on its own grid
    assert float((b - scale * a).norm() / b.norm()) < 1e-12
    assert 0.5 < scale <= 1.0 + 1e-12


def test_taylor_green_decays_and_stays():
    grid = Grid.square(32)
    flow = FLOWS[2]["decaying"](viscosity=0.05, start="taylor_green")
    start = flow.starts(grid, [0])
    after = flow.solver(grid, interval=1.0, dtype=torch.float64)(start)
    torch.testing.assert_close(after, start * math.exp(-0.1), rtol=0, atol=1e-12)


def centroid_x(vorticity, grid):
    """Of ω², on the circle."""
    angle = torch.exp(2j * math.pi * grid.coordinates()[1] / grid.length[1])
    return float(torch.angle((vorticity[0, 0].square().sum(0) * angle).sum())) / (2 * math.pi)


def test_lamb_chaplygin_moves_along_x_with_its_own_speed():
    """A small dipole in a large box, whose images slow it by little."""
    grid = Grid.square(128, 1.0)
    start = FLOWS[2]["decaying"](viscosity=1e-6, start="lamb_chaplygin", rms=1.0).starts(grid, [4])
    flow = FLOWS[2]["decaying"](viscosity=1e-6).solver(grid, interval=0.5, dtype=torch.float64)
    # ω = −2 U b J₁(br) sin θ / J₀(ba): U from the enstrophy, ∫ω² = 4 U² b² / J₀² · π ∫₀ᵃ J₁² r dr = 2π U² (ba)²
    mean_square = float(start.square().mean())
    speed = math.sqrt(mean_square / (2 * math.pi)) / 3.8317059702075125
    moved = (centroid_x(flow(start), grid) - centroid_x(start, grid)) % 1.0
    assert moved == pytest.approx(0.5 * speed, rel=0.05)


def test_lamb_chaplygin_has_its_own_speed_in_an_endless_box():
    """The images in a periodic box slow the dipole by a share that goes as (radius / box)²: extrapolated to none."""
    grid, radii, speeds = Grid.square(256, 1.0), np.array([0.05, 0.07, 0.1]), []
    for radius in radii:
        start = closed_form_field(partial(lamb_chaplygin, radius=radius), grid, [4], 1.0)
        own = 1 / math.sqrt(2 * math.pi) / 3.8317059702075125  # U of mean ω² = 1: as above
        solver = NavierStokes2D(grid, viscosity=0.0, interval=radius / own, dtype=torch.float64)
        moved = (centroid_x(solver(start), grid) - centroid_x(start, grid)) % 1.0
        speeds.append(moved / radius)
    slowing, endless = np.polyfit(radii**2, speeds, 1)
    assert endless == pytest.approx(1.0, rel=3e-3)
    assert slowing < -2
    assert speeds[-1] < 0.98  # the control: as it is, 3 % slow


def test_like_signed_vortices_turn_about_each_other():
    """Counter-clockwise for positive ones: after a while the pair lies across where it lay."""
    grid = Grid.square(64)
    flow = FLOWS[2]["decaying"](viscosity=1e-4, start="vortex_merger", rms=3.0)
    start = flow.starts(grid, [0])
    states = [start]
    solver = flow.solver(grid, interval=0.25, dtype=torch.float64)
    for _ in range(8):
        states.append(solver(states[-1]))

    def tilt(state):
        weight = (state[0, 0] - state.min()).double()
        weight = weight / weight.sum()
        y, x = grid.coordinates()
        turn = [torch.exp(2j * math.pi * c / side) for c, side in zip((y, x), grid.length, strict=True)]
        middle = [float(torch.angle((weight.sum(1 - i) * t).sum())) for i, t in enumerate(turn)]
        dy, dx = ((torch.angle(t * np.exp(-1j * m))) for t, m in zip(turn, middle, strict=True))
        return float((weight * dy[:, None] * dx[None, :]).sum())

    assert abs(tilt(states[0])) < 1e-6
    assert tilt(states[1]) > 1e-5  # the right one has gone up, the left one down


def test_shear_starts_as_layers_with_the_tracer_in_every_other_one():
    """Its mean over x: u = θ = ½ tanh s, s = sin(ky − π/2) / (k · width), less the mean; the nudge has its waves."""
    grid = Grid((128, 64), (2.0, 1.0))
    flow = FLOWS[2]["shear"](width=0.15, layers=4, waves=3, nudge=0.2)
    start, y = flow.starts(grid, [5]), grid.coordinates()[0]
    k = math.pi * 4 / 2.0
    layers = (0.5 * torch.tanh(torch.sin(k * y - math.pi / 2) / (k * 0.15)))[:, None].expand(grid.n)
    u, v = velocity(start[:, :1], grid)[0]
    along, theta = (f.mean(1, keepdim=True).expand(grid.n) for f in (u, start[0, 1]))
    assert float((along - theta).norm() / theta.norm()) < 1e-6
    assert aligned(theta, layers) > 0.999  # by whole cells
    assert unlike(theta, layers) < 1e-5
    across = torch.fft.rfft(v, dim=1).abs().amax(0)
    assert across.argmax() == 3
    assert across[torch.arange(33) != 3].max() < 1e-12 * across[3]
    assert 0.05 < float(v.abs().max()) < 0.2  # what of it is free of divergence


def test_convection_starts_with_gaussian_blobs_at_rest():
    """θ = warmth · exp(−r²/radius²), less its mean; radius as a share of the shorter side."""
    grid = Grid((64, 96), (2.0, 3.0))
    one, four = (FLOWS[2]["convection"](viscosity=1e-2, diffusivity=1e-2, warmth=1.5, blobs=n) for n in (1, 4))
    vorticity, theta = one.starts(grid, [3])[0]
    y, x = grid.coordinates()
    blob = 1.5 * torch.exp(-((x[None, :] - 1.5) ** 2 + (y[:, None] - 1.0) ** 2) / 0.2**2)
    blob = blob - blob.mean()
    assert not vorticity.any()
    assert aligned(theta, blob) > 0.99  # by whole cells
    assert unlike(theta, blob) < 1e-5
    total = four.starts(grid, [3])[0, 1]
    assert float((total.square().mean() / theta.square().mean()).sqrt()) > 1.5
    assert float(total.mean()) == pytest.approx(0.0, abs=1e-14)


def test_rayleigh_benard_starts_with_noise_of_its_size_at_rest():
    grid = Grid((32, 64), (2.0, 4.0))
    vorticity, theta = FLOWS[2]["rayleigh_benard"](noise=0.03).starts(grid, [0, 1]).unbind(1)
    assert not vorticity.any()
    assert theta.square().mean((1, 2)).sqrt().tolist() == pytest.approx([0.03, 0.03], rel=1e-12)
    assert float((theta + theta.flip(1)).abs().max()) < 1e-15


def test_unknown_start_is_refused():
    with pytest.raises(ValueError, match="unknown start 'storm'; one of random, taylor_green"):
        FLOWS[2]["decaying"](viscosity=1e-3, start="storm")


def test_the_layered_start_varies_along_its_axis():
    grid = Grid.square(48)
    flow = FLOWS[2]["decaying"](viscosity=1.0, layering=6.0, axis=(1.0, 1.0))
    power = torch.fft.rfft2(flow.initial_flow(grid, range(4))).abs().square().sum((0, 1))
    ky, kx = grid.wavenumbers()
    along = (kx + ky) ** 2 / (2 * (kx**2 + ky**2)).clamp_min(1e-9)
    assert float((power * along).sum() / power.sum()) > 0.8
    isotropic = replace(flow, layering=0.0).initial_flow(grid, range(4))
    shares = torch.fft.rfft2(isotropic).abs().square().sum((0, 1))
    assert float((shares * along).sum() / shares.sum()) < 0.6


@pytest.mark.parametrize(("bad", "message"), [({"axis": (0.0, 0.0)}, "axis"), ({"layering": -1.0}, "layering")])
def test_a_layered_start_needs_an_axis(bad, message):
    with pytest.raises(ValueError, match=f"{message} must"):
        FLOWS[2]["decaying"](viscosity=1.0, **bad)
