"""The Navier–Stokes solver against exact solutions, measured orders, budgets and finite differences."""

import math

import numpy as np
import pytest
import torch

from solvers import FLOWS, Grid, NavierStokes2D, resample, velocity

GRID = Grid.square(32)
Y, X = (c.numpy() for c in GRID.coordinates())
X, Y = X[None, :], Y[:, None]


def solver(grid=GRID, **options):
    return NavierStokes2D(grid, **{"viscosity": 0.0, "dtype": torch.float64, **options})


def tensor(array):
    return torch.from_numpy(np.broadcast_to(array, GRID.n).copy())[None, None]


def distance(a, b):
    return float((a - b).norm() / b.norm())


def derivatives(field):
    """(∂/∂x, ∂/∂y) of a field on the square of side 2π."""
    k = 1j * np.fft.fftfreq(field.shape[-1], 1 / field.shape[-1])
    return np.fft.ifft(k * np.fft.fft(field)).real, np.fft.ifft(k[:, None] * np.fft.fft(field, axis=-2), axis=-2).real


def stream_function(vorticity):
    k = np.fft.fftfreq(vorticity.shape[-1], 1 / vorticity.shape[-1])
    k2 = k[None, :] ** 2 + k[:, None] ** 2
    k2[0, 0] = np.inf
    return np.fft.ifft2(np.fft.fft2(vorticity) / k2).real


def energy(vorticity):
    """½⟨|u|²⟩."""
    by_x, by_y = derivatives(stream_function(vorticity))
    return 0.5 * (by_x**2 + by_y**2).mean()


def retained(state):
    return torch.fft.irfft2(torch.fft.rfft2(state) * GRID.retained(), s=GRID.n)


@pytest.fixture(scope="module")
def turbulent():
    """A spun-up decaying flow."""
    start = FLOWS[2]["decaying"](viscosity=6e-3).starts(GRID, [3])
    return retained(solver(viscosity=6e-3, interval=1.0, dt=0.02)(start))


def test_taylor_green_decays_at_its_rate():
    start = tensor(2 * 3 * np.cos(3 * X) * np.cos(3 * Y))
    flow = solver(viscosity=0.02, interval=0.7)
    assert distance(flow(start), start * math.exp(-2 * 0.02 * 9 * 0.7)) < 1e-12
    assert distance(flow(start), start * math.exp(-0.02 * 9 * 0.7)) > 1e-2


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize(("my", "mx"), [(0, 4), (5, 0), (-2, 3), (9, 7)])
def test_a_single_wave_decays_at_its_rate(my, mx, order):
    start = tensor(3 * np.cos(mx * X + my * Y + 0.4))
    flow = solver(viscosity=0.02, drag=0.3, interval=0.5, order=order)
    assert distance(flow(start), start * math.exp(-(0.02 * (mx**2 + my**2) + 0.3) * 0.5)) < 1e-12


def test_velocity_of_a_known_stream_function():
    u = velocity(tensor(2 * np.cos(X) * np.cos(Y)), GRID)
    assert distance(u, torch.cat([tensor(-np.cos(X) * np.sin(Y)), tensor(np.sin(X) * np.cos(Y))], dim=1)) < 1e-13


def test_a_positive_vortex_turns_counter_clockwise():
    blob = np.exp(-4 * ((X - math.pi) ** 2 + (Y - math.pi) ** 2))
    u, v = velocity(tensor(blob - blob.mean()), GRID)[0]
    assert v[16, 20] > 0.05
    assert v[16, 11] < -0.05
    assert u[20, 16] < -0.05
    assert u[11, 16] > 0.05


def test_a_checkerboard_has_no_odd_derivative():
    rows, columns = np.indices(GRID.n)
    for checkerboard in ((-1.0) ** columns, (-1.0) ** rows):
        assert velocity(tensor(checkerboard), GRID).abs().max() < 1e-15
    u, v = velocity(tensor((-1.0) ** columns * np.cos(3 * Y)), GRID)[0]
    assert v.abs().max() < 1e-15
    assert u.abs().max() > 1e-3
    u, v = velocity(tensor((-1.0) ** rows * np.cos(3 * X)), GRID)[0]
    assert u.abs().max() < 1e-15
    assert v.abs().max() > 1e-3


def test_advection_is_minus_u_grad_omega():
    fine, decaying = Grid.square(64), FLOWS[2]["decaying"](viscosity=1.0)
    w = decaying.starts(fine, [5])[0, 0].numpy()
    (psi_x, psi_y), (w_x, w_y) = derivatives(stream_function(w)), derivatives(w)
    exact = retained(resample(torch.from_numpy(psi_x * w_y - psi_y * w_x), fine, GRID))
    start = decaying.starts(GRID, [5])
    rates = [(solver(interval=h, dt=h)(start) - start) / h for h in (1e-3, 5e-4)]
    assert distance((2 * rates[1] - rates[0])[0, 0], exact) < 1e-5  # O(h) cancels
    assert distance(-rates[1][0, 0], exact) > 1


@pytest.fixture(scope="module")
def slopes(turbulent):
    """log₂ of the ratio of errors at halved steps, by order."""
    interval = 0.4
    reference = solver(viscosity=6e-3, interval=interval, dt=interval / 256)(turbulent)
    out = {}
    for order in (2, 4):
        runs = [solver(viscosity=6e-3, interval=interval, dt=interval / n, order=order) for n in (8, 16, 32)]
        errors = [distance(run(turbulent), reference) for run in runs]
        out[order] = np.log2(np.divide(errors[:-1], errors[1:]))
    return out


@pytest.mark.parametrize("order", [2, 4])
def test_order_of_accuracy(slopes, order):
    assert np.abs(slopes[order] - order).max() < 0.2


def test_second_order_is_not_fourth(slopes):
    assert slopes[2].max() < 3


@pytest.mark.parametrize("dt", [0.005, 0.2])
def test_energy_and_enstrophy_are_constant_without_viscosity(turbulent, dt):
    after = solver(interval=0.4, dt=dt)(turbulent)
    before, after = turbulent[0, 0].numpy(), after[0, 0].numpy()
    drifts = [energy(after) / energy(before) - 1, (after**2).mean() / (before**2).mean() - 1]
    assert distance(torch.from_numpy(after), torch.from_numpy(before)) > 0.1
    if dt == 0.005:
        assert np.abs(drifts).max() < 1e-10
    else:
        assert np.abs(drifts).min() > 1e-8  # what a long step loses is seen


@pytest.mark.parametrize("forced", [False, True])
def test_energy_budget(turbulent, forced):
    """dE/dt = −2νZ − 2μE + ⟨ψ f⟩ with Z = ½⟨ω²⟩, integrated by Simpson's rule."""
    nu, mu, h, intervals = 6e-3, 0.2 if forced else 0.0, 0.01, 20
    force = 2.0 * tensor(np.cos(2 * Y) + np.sin(X + Y)) if forced else None
    flow = solver(viscosity=nu, drag=mu, interval=h, forcing=force[0, 0] if forced else None)
    carry = flow.start(turbulent)
    energies, powers = [], []
    for _ in range(intervals + 1):
        w = flow.state(carry)[0, 0].numpy()
        work = (stream_function(w) * force[0, 0].numpy()).mean() if forced else 0.0
        energies.append(energy(w))
        powers.append(-nu * (w**2).mean() - 2 * mu * energies[-1] + work)
        carry = flow.advance(carry)
    simpson = h / 3 * (np.array([1] + [4, 2] * (intervals // 2 - 1) + [4, 1]) @ powers)
    change = energies[-1] - energies[0]
    assert abs(change) > 1e-3 * energies[0]
    assert abs(simpson / change - 1) < 1e-7


@pytest.mark.parametrize("wanted", ["state", "forcing"])
def test_gradients_match_finite_differences(turbulent, wanted):
    flow = solver(viscosity=6e-3, drag=0.1, interval=0.3, dt=0.1, forcing=tensor(np.cos(2 * Y))[0, 0])
    given = {"state": turbulent.clone(), "forcing": tensor(np.cos(2 * Y) + np.sin(X))}
    direction, weight = (tensor(np.random.default_rng(s).standard_normal(GRID.n)) for s in (0, 1))

    def loss(x):
        now = {**given, wanted: x}
        return (weight * flow(now["state"], {"forcing": now["forcing"]})).sum()

    x = given[wanted].requires_grad_()
    slope = float((torch.autograd.grad(loss(x), x)[0] * direction).sum())
    with torch.no_grad():
        f = [float(loss(x + step * direction)) for step in (-2e-3, -1e-3, 1e-3, 2e-3)]
    assert abs((8 * (f[2] - f[1]) - (f[3] - f[0])) / 12e-3 / slope - 1) < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"viscosity": -1.0}, "viscosity"),
        ({"viscosity": math.nan}, "viscosity"),
        ({"drag": -0.1}, "drag"),
        ({"drag": math.inf}, "drag"),
        ({"interval": 0.0}, "interval"),
        ({"interval": math.nan}, "interval"),
        ({"dt": 0.03}, "dt must divide"),
        ({"dt": 0.2}, "dt must divide"),
        ({"dt": -0.1}, "dt"),
        ({"dt": math.nan}, "dt"),
        ({"order": 3}, "order"),
        ({"dtype": torch.float16}, "dtype"),
        ({"forcing": torch.zeros(16, 32)}, "forcing"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        solver(**{"interval": 0.1, **options})


@pytest.mark.parametrize("shape", [(1, 2, 32, 32), (1, 1, 16, 32), (1, 1, 32, 16)])
def test_a_state_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="state must be"):
        solver(interval=0.1).start(torch.zeros(shape))


def test_unknown_and_misshapen_inputs_are_refused(turbulent):
    with pytest.raises(ValueError, match="unknown input"):
        solver(interval=0.1).start(turbulent, {"forcing": turbulent})
    with pytest.raises(ValueError, match="forcing"):
        solver(interval=0.1, forcing=turbulent[0, 0]).start(turbulent, {"forcing": turbulent[..., :16]})
