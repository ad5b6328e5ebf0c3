"""The scalar beside the vorticity, carried or driving, against closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from solvers import FLOWS, Grid, NavierStokes2D, Tracer, TransportedScalar

GRID = Grid.square(32)
Y, X = (c.numpy() for c in GRID.coordinates())
X, Y = X[None, :], Y[:, None]


def solver(scalar, grid=GRID, **options):
    return NavierStokes2D(grid, scalar=scalar, **{"viscosity": 0.01, "dtype": torch.float64, **options})


def state(vorticity, theta):
    return torch.from_numpy(np.stack([np.broadcast_to(f, GRID.n) for f in (vorticity, theta)])[None].astype(float))


def distance(a, b):
    return float((a - b).norm() / b.norm())


@pytest.fixture(scope="module")
def turbulent():
    """Two decaying flows, each with a tracer."""
    return FLOWS[2]["decaying"](viscosity=1e-2, tracer=Tracer(diffusivity=1e-2)).starts(GRID, [1, 2])


def test_a_tracer_that_starts_as_the_vorticity_stays_it(turbulent):
    """Both obey one equation where κ = ν, though the code advects them in different forms."""
    start = torch.cat([turbulent[:, :1], turbulent[:, :1]], dim=1)
    apart = {}
    for diffusivity in (0.01, 0.011):
        flow = solver(TransportedScalar(diffusivity=diffusivity), interval=0.25)
        carry = flow.start(start)
        for _ in range(8):
            carry = flow.advance(carry)
        after = flow.state(carry)
        apart[diffusivity] = distance(after[:, 1], after[:, 0])
    assert apart[0.01] < 1e-12
    assert apart[0.011] > 1e-3
    assert distance(after[:, :1], turbulent[:, :1]) > 0.5


@pytest.mark.parametrize(("my", "mx"), [(0, 4), (5, 0), (-2, 3), (9, 7)])
def test_a_wave_in_still_fluid_diffuses_at_its_rate(my, mx):
    """Whatever viscosity and drag are; a mean gradient feeds nothing where nothing moves."""
    start = state(0.0, np.cos(mx * X + my * Y + 0.4))
    flow = solver(TransportedScalar(diffusivity=0.03, mean_gradient=(2.0, -1.0)), drag=0.3, interval=0.5)
    vorticity, theta = flow(start)[0]
    assert not vorticity.any()
    rate = 0.03 * (mx**2 + my**2)
    assert distance(theta, start[0, 1] * math.exp(-rate * 0.5)) < 1e-12
    assert distance(theta, start[0, 1] * math.exp(-rate * 0.5 / 3)) > 1e-2


def test_a_shear_tilts_the_mean_gradient():
    """θ_t = κθ″ − u G_x in u = cos(ky): θ = −G_x u (1 − exp(−κk²t))/κk²; along y likewise."""
    k, kappa, gradient = 3, 0.05, (1.3, -0.7)
    grown = -math.expm1(-kappa * k**2 * 0.8) / (kappa * k**2)
    along_x = state(k * np.sin(k * Y), 0.0)  # ω = −∂u/∂y
    along_y = state(-k * np.sin(k * X), 0.0)  # ω = ∂v/∂x
    flow = solver(TransportedScalar(diffusivity=kappa, mean_gradient=gradient), viscosity=0.0, interval=0.8, dt=0.02)
    after = flow(torch.cat([along_x, along_y]))
    for number, (component, speed) in enumerate(zip(gradient, (np.cos(k * Y), np.cos(k * X)), strict=True)):
        expected = state(0.0, -component * grown * speed)[0, 1]
        assert distance(after[number, 1], expected) < 1e-7
        assert distance(after[number, 1], -expected) > 1


@pytest.mark.parametrize("velocity", [(0.7, 0.0), (0.0, -1.1), (0.4, 0.9)])
def test_a_mean_velocity_carries_the_scalar_along(velocity):
    """By no whole number of cells; and the mean velocity does not move along the gradient: θ is measured from it."""

    def blob(t):
        x, y = X - velocity[0] * t, Y - velocity[1] * t
        waves = [(1, 2, 0.3), (3, -1, 1.0), (-2, 0, 2.0), (0, 1, 0.1)]
        return sum(math.exp(-0.02 * (a**2 + b**2) * t) * np.cos(a * x + b * y + phase) for a, b, phase in waves)

    flow = solver(
        TransportedScalar(diffusivity=0.02, mean_gradient=(1.0, 1.0)), mean_velocity=velocity, interval=1.0, dt=0.01
    )
    vorticity, theta = flow(state(0.0, blob(0.0)))[0]
    assert not vorticity.any()
    assert distance(theta, state(0.0, blob(1.0))[0, 1]) < 1e-8
    assert distance(theta, state(0.0, blob(0.0))[0, 1]) > 0.1


@pytest.mark.parametrize("tilt", [0.0, 0.5, math.pi / 2, 2.5])
def test_internal_waves_have_their_frequency(tilt):
    """Ω = N |sin of the angle between k and g|, N² = g|G|. One plane wave of any size solves the full equations."""
    flow = FLOWS[2]["convection"](viscosity=0.01, diffusivity=0.01, gravity=2.0, tilt=tilt, stratification=1.5)
    waves = [(1, 0), (0, 1), (1, 1), (-2, 1), (1, -3), (4, 2)]  # (mx, my)
    time, up = 3.0, (-math.sin(tilt), math.cos(tilt))
    start = torch.cat([state(0.0, 0.8 * np.cos(a * X + b * Y + 0.3)) for a, b in waves])
    after = flow.solver(GRID, interval=time, dt=0.02, dtype=torch.float64)(start)
    for (a, b), (vorticity, theta) in zip(waves, after, strict=True):
        k, phase = math.hypot(a, b), a * X + b * Y + 0.3
        size, across = 0.8 * math.exp(-0.01 * k**2 * time), (a * up[1] - b * up[0]) / k
        frequency = math.sqrt(2.0 * 1.5) * across  # signed
        speed = size * math.sqrt(2.0 / 1.5) * math.sin(frequency * time)  # θ_t = −|G| · across · speed · cos(phase)
        expected = state(-k * speed * np.sin(phase), size * math.cos(frequency * time) * np.cos(phase))[0]
        assert float((vorticity - expected[0]).abs().max()) < 1e-6
        assert float((theta - expected[1]).abs().max()) < 1e-6
        along = math.sqrt(2.0 * 1.5) * math.sqrt(max(0.0, 1 - across**2))
        if abs(abs(frequency) - along) > 0.1:  # the angle taken from the other axis: the control
            other = torch.from_numpy(size * math.cos(along * time) * np.cos(phase))
            assert float((theta - other).abs().max()) > 1e-2


@pytest.mark.parametrize(("order", "tolerance"), [(2, 0.35), (4, 0.02)])
def test_own_steps_follow_internal_waves_where_nothing_moves_yet(order, tolerance):
    """No speed says how long a step may be, buoyancy does, for each trajectory by its own N."""
    gravity, time = torch.tensor([1.0, 400.0], dtype=torch.float64), 1.0
    inputs = {"gravity": torch.stack([torch.zeros(2, dtype=torch.float64), -gravity], dim=1)[..., None, None]}
    start = state(0.0, 1e-4 * np.cos(X)).expand(2, -1, -1, -1)
    scalar = TransportedScalar(gravity=(0.0, -1.0), mean_gradient=(0.0, 1.0))
    exact = start[:, 1] * torch.cos(gravity.sqrt() * time)[:, None, None]
    flow = solver(scalar, viscosity=0.0, interval=time, order=order)
    carry = flow.advance(flow.start(start, inputs))
    assert distance(flow.state(carry)[:, 1], exact) < tolerance
    assert carry.steps_taken[1] > 10 * carry.steps_taken[0]
    few = solver(scalar, viscosity=0.0, interval=time, dt=time / carry.steps_taken[0], order=order)
    assert not distance(few.state(few.advance(few.start(start, inputs)))[:, 1], exact) < 1.0


@pytest.mark.parametrize("tilt", [0.0, math.pi / 2, math.pi, -math.pi / 2])
def test_a_warm_blob_goes_where_gravity_does_not_point(tilt):
    flow, grid = FLOWS[2]["convection"](viscosity=0.01, diffusivity=0.01, tilt=tilt, blobs=1), Grid.square(40)
    start = flow.starts(grid, [3])
    after = flow.solver(grid, interval=2.0, dtype=torch.float64)(start)

    def middle(field):
        """(x, y) on the circle of the centre of θ²."""
        weight, (y, x) = field[0, 1].square(), grid.coordinates()
        turns = (weight.sum(0) * torch.exp(1j * x)).sum(), (weight.sum(1) * torch.exp(1j * y)).sum()
        return np.array([float(torch.angle(t)) for t in turns])

    dx, dy = (middle(after) - middle(start) + math.pi) % (2 * math.pi) - math.pi
    up = -math.sin(tilt), math.cos(tilt)
    assert dx * up[0] + dy * up[1] > 0.1
    assert abs(dx * up[1] - dy * up[0]) < 1e-6


def test_buoyancy_turns_the_fluid_at_its_rate():
    """∂ω/∂t = −(g_y ∂θ/∂x − g_x ∂θ/∂y) from rest."""
    theta, (gx, gy) = np.cos(2 * X - Y + 0.4), (0.6, -1.1)
    phase = -np.sin(2 * X - Y + 0.4)
    expected = state(-(gy * 2 * phase - gx * -1 * phase), 0.0)[0, 0]
    h = 1e-4
    after = solver(TransportedScalar(gravity=(gx, gy)), viscosity=0.0, interval=h, dt=h)(state(0.0, theta))
    assert distance(after[0, 0] / h, expected) < 1e-7


def test_without_gravity_the_scalar_is_passive(turbulent):
    alone = NavierStokes2D(GRID, viscosity=0.01, interval=0.5, dt=0.025, dtype=torch.float64)(turbulent[:, :1])
    scalar = TransportedScalar(diffusivity=0.01, mean_gradient=(0.0, 1.0))
    assert distance(solver(scalar, interval=0.5, dt=0.025)(turbulent)[:, :1], alone) < 1e-13
    driving = replace(scalar, gravity=(0.0, -1.0))
    assert distance(solver(driving, interval=0.5, dt=0.025)(turbulent)[:, :1], alone) > 1e-2


def test_shear_has_the_numbers_of_its_reynolds_and_schmidt():
    """ν = 1/Re and κ = ν/Sc: layers that flow along x only diffuse."""
    flow = FLOWS[2]["shear"](reynolds=50.0, schmidt=0.4)
    start = state(np.cos(3 * Y), np.cos(2 * Y + 0.7))
    vorticity, theta = flow.solver(GRID, interval=0.5, dt=0.01, dtype=torch.float64)(start)[0]
    assert distance(vorticity, start[0, 0] * math.exp(-9 / 50 * 0.5)) < 1e-12
    assert distance(theta, start[0, 1] * math.exp(-4 / 20 * 0.5)) < 1e-12
