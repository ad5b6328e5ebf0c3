"""What every flow promises: starts that are functions of space and seed alone, and the symmetry that it declares."""

import math

import numpy as np
import pytest
import torch

from solvers import D4, FLOWS, FORCING, Grid, act, resample
from solvers.flows.starts import banded_field

GRID = Grid.square(32)
COMMON = {"viscosity": 1e-2}
BAD = [
    ("decaying", "viscosity", 0.0),
    ("decaying", "viscosity", math.nan),
    ("decaying", "drag", -0.1),
    ("decaying", "spin_up", -1.0),
    ("decaying", "wavenumber", 0.0),
    ("decaying", "bandwidth", -1.0),
    ("decaying", "rms", math.inf),
    ("kolmogorov", "viscosity", -1.0),
    ("kolmogorov", "drag", math.nan),
    ("kolmogorov", "amplitude", 0.0),
    ("kolmogorov", "waves", 0),
    ("kolmogorov", "rms", -1.0),
]

every_flow = pytest.mark.parametrize("kind", sorted(FLOWS))


def distance(a, b):
    return float((a - b).norm() / b.norm())


def wavenumbers(n):
    k = np.fft.fftfreq(n, 1 / n)
    return np.hypot(k[:, None], k[None, :])


@every_flow
def test_starts_are_the_same_function_on_every_grid(kind):
    flow, fine = FLOWS[kind](**COMMON), Grid.square(64)
    coarse, refined = flow.starts(GRID, [0, 1]), flow.starts(fine, [0, 1])
    assert coarse.dtype == torch.float64
    assert distance(resample(refined, fine, GRID), coarse) < 1e-12
    assert distance(resample(coarse, GRID, fine), refined) < 1e-12
    assert distance(refined[..., ::2, ::2], coarse) > 1e-2


@every_flow
def test_starts_depend_on_their_seed_only(kind):
    flow = FLOWS[kind](**COMMON)
    batch, again = flow.starts(GRID, [5, 6, 2**63 - 1]), flow.starts(GRID, [5, 6, 2**63 - 1])
    assert torch.equal(batch, again)
    for i, seed in enumerate((5, 6, 2**63 - 1)):
        assert distance(flow.starts(GRID, [seed])[0], batch[i]) < 1e-14
        assert distance(batch[i], batch[i - 1]) > 0.5


@every_flow
def test_starts_have_no_mean_and_are_resolved(kind):
    spectrum = torch.fft.rfft2(FLOWS[kind](**COMMON).starts(GRID, range(8)))[:, 0]
    assert spectrum[:, 0, 0].abs().max() < 1e-12 * spectrum.abs().max()
    assert (spectrum * ~GRID.retained()).abs().max() < 1e-12 * spectrum.abs().max()


@every_flow
@pytest.mark.parametrize("g", D4.elements, ids=lambda g: g.name)
def test_the_forcing_keeps_the_declared_group_and_no_more(kind, g):
    flow = FLOWS[kind](**COMMON)
    forcing, kept = flow.forcing(GRID), g in flow.group.elements
    if forcing is None:
        assert kept, "an unforced flow has every symmetry of the square"
    else:
        error = distance(act(FORCING, forcing[None], g)[0], forcing)
        assert error < 1e-13 if kept else error > 1e-2


@pytest.mark.parametrize("kind", ["decaying", "kolmogorov"])
@pytest.mark.parametrize("n", [(32, 32), (24, 40)])
def test_the_solver_has_the_flow_s_numbers(kind, n):
    """A wave along the forcing is a solution: it decays, and the forcing's response grows, in closed form."""
    flow, grid = FLOWS[kind](viscosity=0.02, drag=0.3), Grid(n)
    forcing = flow.forcing(grid)
    y = grid.coordinates()[0]
    wave = torch.cos(4 * y + (0.7 if forcing is None else 0.0))[:, None].expand(n)[None, None].clone()
    rate = 0.02 * 16 + 0.3
    driven = 0 if forcing is None else forcing * -math.expm1(-rate * 0.5) / rate
    after = flow.solver(grid, interval=0.5, dtype=torch.float64)(wave)
    assert distance(after, wave * math.exp(-rate * 0.5) + driven) < 1e-12


@pytest.mark.parametrize(("wavenumber", "bandwidth", "rms"), [(4.0, 1.0, 3.0), (3.0, 0.5, 0.1), (6.5, 0.75, 20.0)])
def test_decaying_starts_have_the_asked_energy_in_the_asked_band(wavenumber, bandwidth, rms):
    flow = FLOWS["decaying"](viscosity=1e-3, wavenumber=wavenumber, bandwidth=bandwidth, rms=rms)
    starts = flow.starts(GRID, range(4))[:, 0].numpy()
    np.testing.assert_allclose(np.sqrt((starts**2).mean((1, 2))), rms, rtol=1e-12)
    power = (np.abs(np.fft.fft2(starts)) ** 2).sum(0)
    inside = np.abs(wavenumbers(32) - wavenumber) <= 2 * bandwidth
    assert power[~inside].max() < 1e-26 * power.max()
    assert power[inside].min() > 1e-6 * power.max()


def test_the_band_is_gaussian_and_isotropic():
    starts = banded_field(GRID, range(400), 4.0, 1.0, 1.0)[:, 0].numpy()
    power = (np.abs(np.fft.fft2(starts)) ** 2).mean(0)
    radius = wavenumbers(32)
    inside = (np.abs(radius - 4.0) <= 2.0) & (radius > 0)
    scaled = power[inside] / np.exp(-((radius[inside] - 4.0) ** 2))  # 2 × the exponent of the amplitude
    assert np.abs(scaled / scaled.mean() - 1).max() < 0.25  # 400 draws: 5 % a mode
    y, x = np.nonzero(inside)
    across = np.abs(np.fft.fftfreq(32)[x]) > np.abs(np.fft.fftfreq(32)[y])
    assert abs(scaled[across].mean() / scaled[~across].mean() - 1) < 0.05


def test_a_rectangle_counts_waves_across_its_shorter_side():
    grid = Grid((32, 64), (1.0, 2.0))
    start = banded_field(grid, [0], 5.0, 0.5, 2.0)[0, 0].numpy()
    k = np.hypot(np.fft.fftfreq(32, 1 / 32)[:, None], np.fft.fftfreq(64, 1 / 64)[None, :] / 2)
    power = np.abs(np.fft.fft2(start)) ** 2
    assert power[np.abs(k - 5.0) > 1.0].max() < 1e-26 * power.max()
    assert math.isclose(np.sqrt((start**2).mean()), 2.0, rel_tol=1e-12)


@pytest.mark.parametrize("waves", [1, 3, 4])
def test_the_kolmogorov_laminar_state_is_stationary(waves):
    flow = FLOWS["kolmogorov"](viscosity=0.05, drag=0.1, amplitude=1.5, waves=waves)
    grid = Grid((32, 32), (3.0, 2.0))
    k = 2 * math.pi * waves / 3.0
    wave = torch.cos(k * grid.coordinates()[0])[:, None].expand(32, 32)[None, None]
    laminar = -1.5 * k * wave / (0.05 * k**2 + 0.1)
    solver = flow.solver(grid, interval=0.5, dtype=torch.float64)
    assert distance(solver(laminar.clone()), laminar) < 1e-10
    relaxed = laminar * (1 + 0.1 * math.exp(-(0.05 * k**2 + 0.1) * 0.5))
    assert distance(solver(1.1 * laminar), relaxed) < 1e-10
    assert distance(solver(1.1 * laminar), 1.1 * laminar) > 1e-3


@pytest.mark.parametrize(("kind", "name", "value"), BAD)
def test_bad_parameters_are_refused_by_name(kind, name, value):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        FLOWS[kind](**{**COMMON, name: value})


def test_a_grid_too_coarse_for_the_flow_is_refused():
    with pytest.raises(ValueError, match="too coarse"):
        FLOWS["kolmogorov"](viscosity=1e-2, waves=11).forcing(GRID)
    with pytest.raises(ValueError, match="too coarse"):
        FLOWS["decaying"](viscosity=1e-2, wavenumber=15.0).starts(GRID, [0])


def test_starts_that_a_grid_does_not_retain_are_refused():
    with pytest.raises(ValueError, match="too coarse for modes"):
        FLOWS["decaying"](viscosity=1e-2).starts(Grid.square(16), [0])
    with pytest.raises(ValueError, match="widen the band"):
        FLOWS["decaying"](viscosity=1e-2, wavenumber=4.5, bandwidth=0.01).starts(Grid.square(32), [0])
