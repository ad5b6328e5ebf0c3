"""What every flow promises: starts that are functions of space and seed alone, and the symmetry that it declares."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from examples import EXAMPLES
from reference import acted

from solvers import D4, FLOWS, Grid, Tracer, resample
from solvers.flows.initial_conditions import random_band_field

GRID = Grid.square(32)
ODD = math.nan, math.inf
BAD = [
    ("decaying", "viscosity", (0.0,)),
    ("decaying", "drag", (-0.1,)),
    ("decaying", "spin_up", (-1.0,)),
    ("decaying", "mean_velocity", ((math.nan, 0.0), (0.0, math.inf))),
    ("decaying", "wavenumber", (0.0,)),
    ("decaying", "bandwidth", (-1.0,)),
    ("decaying", "rms", (0.0,)),
    ("kolmogorov", "viscosity", (-1.0,)),
    ("kolmogorov", "drag", (-0.1,)),
    ("kolmogorov", "mean_velocity", ((math.nan, 0.0), (0.0, math.inf))),
    ("kolmogorov", "amplitude", (0.0,)),
    ("kolmogorov", "waves", (0, -4)),
    ("kolmogorov", "rms", (-1.0,)),
    ("stirred", "rate", (0.0,)),
    ("stirred", "wavenumber", (0.0,)),
    ("stirred", "bandwidth", (-0.5,)),
    ("stirred", "renewal", (0.0,)),
    ("stirred", "rms", (-1.0,)),
    ("stirred", "drag", (-0.1,)),
    ("shear", "reynolds", (0.0,)),
    ("shear", "schmidt", (-1.0,)),
    ("shear", "layers", (0, 3)),
    ("shear", "waves", (0, -2)),
    ("shear", "width", (0.0,)),
    ("shear", "nudge", (-0.1,)),
    ("convection", "diffusivity", (-1e-3,)),
    (
        "convection",
        "gravity",
        (
            0.0,
            -1.0,
        ),
    ),
    ("convection", "blobs", (0, -1)),
    ("convection", "radius", (0.0,)),
    ("convection", "warmth", (-1.0,)),
    ("rayleigh_benard", "rayleigh", (0.0,)),
    ("rayleigh_benard", "prandtl", (-1.0,)),
    ("rayleigh_benard", "mean_velocity", ((0.0, 1.0), (math.nan, 0.0))),
    ("rayleigh_benard", "noise", (0.0,)),
    ("rayleigh_benard", "wavenumber", (0.0,)),
    ("rayleigh_benard", "bandwidth", (-1.0,)),
]
BAD_TRACERS = [
    ("diffusivity", (-1e-3, *ODD)),
    ("mean_gradient", ((math.nan, 0.0), (0.0, math.inf))),
    ("wavenumber", (0.0, *ODD)),
    ("bandwidth", (-1.0, *ODD)),
    ("rms", (-1.0, *ODD)),
]

every_flow = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)


def distance(a, b):
    return float((a - b).norm() / b.norm())


def wavenumbers(n):
    k = np.fft.fftfreq(n, 1 / n)
    return np.hypot(k[:, None], k[None, :])


def retained(field, grid, by):
    """Without the modes that another grid's two-thirds rule drops."""
    my, mx = by.max_modes
    return torch.fft.irfft2(torch.fft.rfft2(field) * grid.retained((my, mx)), s=grid.n)


def test_every_flow_carries_examples():
    """Else none of the generic tests would see it; and their labels differ."""
    assert {example.flow.kind for example in EXAMPLES.values()} == set(FLOWS[2])
    assert len(EXAMPLES) == sum(len(cls.examples) for cls in FLOWS[2].values())


@pytest.mark.parametrize("cls", FLOWS[2].values(), ids=FLOWS[2])
def test_numbers_that_are_not_finite_are_refused_by_name(cls):
    numbers = [field.name for field in dataclasses.fields(cls) if field.init and field.type == "float"]
    assert numbers
    for name in numbers:
        for value in (math.nan, math.inf, -math.inf):
            with pytest.raises(ValueError, match=f"^{name} must be"):
                cls(**{**cls.examples[0].parameters, name: value})


@every_flow
def test_starts_are_the_same_function_on_every_grid(example):
    flow, grid, fine = example.flow, example.grid(), example.grid(2 * example.n)
    coarse, refined = flow.starts(grid, [0, 1]), flow.starts(fine, [0, 1])
    assert coarse.dtype == torch.float64
    if not example.is_band_limited:  # a closed form, of which a finer grid holds more modes
        refined = retained(refined, fine, by=grid)
    assert distance(resample(refined, fine, grid), coarse) < 1e-12
    assert distance(resample(coarse, grid, fine), refined) < 1e-12
    assert distance(refined[..., ::2, ::2], coarse) > 1e-2


@every_flow
def test_starts_depend_on_their_seed_only(example):
    flow, grid = example.flow, example.grid()
    batch, again = flow.starts(grid, [5, 6, 2**63 - 1]), flow.starts(grid, [5, 6, 2**63 - 1])
    assert torch.equal(batch, again)
    for i, seed in enumerate((5, 6, 2**63 - 1)):
        assert distance(flow.starts(grid, [seed])[0], batch[i]) < 1e-14
        assert distance(batch[i], batch[i - 1]) > 0.5


@every_flow
def test_starts_have_no_mean_and_are_resolved(example):
    spectrum = torch.fft.rfft2(example.flow.starts(example.grid(), range(8)))
    largest = spectrum.abs().amax((0, 2, 3))
    assert (spectrum[..., 0, 0].abs().amax(0) <= 1e-12 * largest).all()
    assert ((spectrum * ~example.grid().retained()).abs().amax((0, 2, 3)) <= 1e-12 * largest).all()
    assert largest.max() > 1.0


@every_flow
@pytest.mark.parametrize("g", D4.elements, ids=lambda g: g.name)
def test_the_declared_group_keeps_every_term_and_no_more_does(example, g):
    """The forcing, a pseudoscalar; gravity, the mean gradient and the mean velocity, vectors; the plates."""
    flow, grid = example.flow, example.grid()
    inputs, errors = flow.inputs(grid), [0.0]
    for field in flow.solver(grid, interval=1.0).spec.inputs:
        errors.append(distance(acted([field], inputs[field.name], g), inputs[field.name]))
    kept = max(errors) < 1e-13 and not (flow.plates and g.swaps_axes)
    assert (g in flow.group.elements) == kept
    assert kept or max(errors) > 1e-2 or flow.plates


@pytest.mark.parametrize("kind", ["decaying", "kolmogorov"])
@pytest.mark.parametrize("n", [(32, 32), (24, 40)])
def test_the_solver_has_the_flow_s_numbers(kind, n):
    """A wave along the forcing is a solution: it decays, and the forcing's response grows, in closed form."""
    flow, grid = FLOWS[2][kind](viscosity=0.02, drag=0.3), Grid(n)
    forcing = flow.forcing(grid)
    y = grid.coordinates()[0]
    wave = torch.cos(4 * y + (0.7 if forcing is None else 0.0))[:, None].expand(n)[None, None].clone()
    rate = 0.02 * 16 + 0.3
    driven = 0 if forcing is None else forcing * -math.expm1(-rate * 0.5) / rate
    after = flow.solver(grid, interval=0.5, dtype=torch.float64)(wave)
    assert distance(after, wave * math.exp(-rate * 0.5) + driven) < 1e-12


@pytest.mark.parametrize(("wavenumber", "bandwidth", "rms"), [(4.0, 1.0, 3.0), (3.0, 0.5, 0.1), (6.5, 0.75, 20.0)])
def test_decaying_starts_have_the_asked_energy_in_the_asked_band(wavenumber, bandwidth, rms):
    flow = FLOWS[2]["decaying"](viscosity=1e-3, wavenumber=wavenumber, bandwidth=bandwidth, rms=rms)
    starts = flow.starts(GRID, range(4))[:, 0].numpy()
    np.testing.assert_allclose(np.sqrt((starts**2).mean((1, 2))), rms, rtol=1e-12)
    power = (np.abs(np.fft.fft2(starts)) ** 2).sum(0)
    inside = np.abs(wavenumbers(32) - wavenumber) <= 2 * bandwidth
    assert power[~inside].max() < 1e-26 * power.max()
    assert power[inside].min() > 1e-6 * power.max()


def test_the_band_is_gaussian_and_isotropic():
    starts = random_band_field(GRID, range(400), 4.0, 1.0, 1.0)[:, 0].numpy()
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
    start = random_band_field(grid, [0], 5.0, 0.5, 2.0)[0, 0].numpy()
    k = np.hypot(np.fft.fftfreq(32, 1 / 32)[:, None], np.fft.fftfreq(64, 1 / 64)[None, :] / 2)
    power = np.abs(np.fft.fft2(start)) ** 2
    assert power[np.abs(k - 5.0) > 1.0].max() < 1e-26 * power.max()
    assert math.isclose(np.sqrt((start**2).mean()), 2.0, rel_tol=1e-12)


@pytest.mark.parametrize("waves", [1, 3, 4])
def test_the_kolmogorov_laminar_state_is_stationary(waves):
    flow = FLOWS[2]["kolmogorov"](viscosity=0.05, drag=0.1, amplitude=1.5, waves=waves)
    grid = Grid((32, 32), (3.0, 2.0))
    k = 2 * math.pi * waves / 3.0
    wave = torch.cos(k * grid.coordinates()[0])[:, None].expand(32, 32)[None, None]
    laminar = -1.5 * k * wave / (0.05 * k**2 + 0.1)
    solver = flow.solver(grid, interval=0.5, dtype=torch.float64)
    assert distance(solver(laminar.clone()), laminar) < 1e-10
    relaxed = laminar * (1 + 0.1 * math.exp(-(0.05 * k**2 + 0.1) * 0.5))
    assert distance(solver(1.1 * laminar), relaxed) < 1e-10
    assert distance(solver(1.1 * laminar), 1.1 * laminar) > 1e-3


@pytest.mark.parametrize(("kind", "name", "values"), BAD, ids=[f"{kind} {name}" for kind, name, _ in BAD])
def test_bad_parameters_are_refused_by_name(kind, name, values):
    options = FLOWS[2][kind].examples[0].parameters
    for value in values:
        with pytest.raises(ValueError, match=f"^{name} must be"):
            FLOWS[2][kind](**{**options, name: value})


@pytest.mark.parametrize(("name", "values"), BAD_TRACERS, ids=[name for name, _ in BAD_TRACERS])
def test_bad_parameters_of_a_tracer_are_refused_by_name(name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"^{name} must be"):
            Tracer(**{"diffusivity": 1e-3, name: value})


def test_a_tracer_that_nothing_feeds_is_refused():
    with pytest.raises(ValueError, match=r"^rms must be positive where there is no mean_gradient"):
        Tracer(diffusivity=1e-3, rms=0.0)
    fed = FLOWS[2]["decaying"](viscosity=1e-2, tracer=Tracer(diffusivity=1e-3, rms=0.0, mean_gradient=(1.0, 0.0)))
    vorticity, tracer = fed.starts(GRID, [0])[0]
    assert float(vorticity.square().mean().sqrt()) == pytest.approx(3.0)
    assert not tracer.any()


def test_vorticity_and_tracer_are_drawn_apart():
    """From the same band, by the same seed."""
    tracer = Tracer(diffusivity=1e-3, wavenumber=4.0, bandwidth=1.0, rms=3.0)
    starts = FLOWS[2]["decaying"](viscosity=1e-2, tracer=tracer).starts(GRID, range(20))
    (w, theta) = starts.flatten(2).unbind(1)
    assert abs(float((w * theta).mean())) < 0.1 * 3.0**2
    assert float(theta.square().mean().sqrt()) == pytest.approx(3.0)


def test_plates_need_a_box_two_high():
    with pytest.raises(ValueError, match=r"grid.length must be \[2, ...\]"):
        FLOWS[2]["rayleigh_benard"]().starts(GRID, [0])


def test_a_ring_without_modes_is_refused():
    with pytest.raises(ValueError, match="widen the ring"):
        FLOWS[2]["stirred"](viscosity=1e-2, wavenumber=4.5, bandwidth=1e-3).stochastic_forcing(GRID)


def test_a_grid_too_coarse_for_the_flow_is_refused():
    with pytest.raises(ValueError, match="too coarse"):
        FLOWS[2]["kolmogorov"](viscosity=1e-2, waves=11).forcing(GRID)
    with pytest.raises(ValueError, match="too coarse"):
        FLOWS[2]["decaying"](viscosity=1e-2, wavenumber=15.0).starts(GRID, [0])


def test_starts_that_a_grid_does_not_retain_are_refused():
    with pytest.raises(ValueError, match="too coarse for modes"):
        FLOWS[2]["decaying"](viscosity=1e-2).starts(Grid.square(16), [0])
    with pytest.raises(ValueError, match="widen the band"):
        FLOWS[2]["decaying"](viscosity=1e-2, wavenumber=4.5, bandwidth=0.01).starts(Grid.square(32), [0])
