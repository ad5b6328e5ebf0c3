"""The solver in three dimensions against closed forms, series, conserved quantities and the solver in two."""

import math

import pytest
import torch
from flows_3d import abc, antuono, distance, mesh, random_field, solver, taylor_green

from solvers import Grid, NavierStokes2D, NavierStokes3D, TransportedScalar, diagnostics, velocity
from solvers.velocity_equation import VelocityEquation

GRID = Grid.cube(12)


def curl(u, grid):
    """By index arithmetic: ε_ijk ∂_j u_k."""
    kz, ky, kx = grid.wavenumbers()
    spectrum, out = torch.fft.rfftn(u, dim=(-3, -2, -1)), []
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        wave = (kx, ky, kz)
        out.append(1j * wave[j] * spectrum[:, k] - 1j * wave[k] * spectrum[:, j])
    return torch.fft.irfftn(torch.stack(out, dim=1), s=grid.n, dim=(-3, -2, -1))


def divergence(u, grid):
    """Largest |k·û| relative to the largest |k||û|."""
    kz, ky, kx = grid.wavenumbers()
    spectrum = torch.fft.rfftn(u, dim=(-3, -2, -1))
    along = kx * spectrum[:, 0] + ky * spectrum[:, 1] + kz * spectrum[:, 2]
    return float(along.abs().max() / ((kx**2 + ky**2 + kz**2).sqrt() * spectrum.abs().amax(1)).max())


def test_eight_transforms_are_the_rotational_form():
    """Basdevant's advection is P(u × ω) by nine transforms, to rounding, on a grid that resolves all products."""
    fine = Grid.cube(16)
    u = random_field(fine, reach=2)
    equation = VelocityEquation(fine, fine.max_modes, False, torch.float64, torch.device("cpu"))
    w = equation.to_spectrum(u)
    terms = equation.terms(*(torch.zeros(1, 1, 1, 1, 1, dtype=torch.float64) for _ in range(2)))
    ours = equation.to_field(equation.explicit_tendency(w, equation.velocity_and_scalar(w, terms), terms))
    lamb = torch.linalg.cross(u, curl(u, fine), dim=1)
    kz, ky, kx = fine.wavenumbers()
    k2 = (kx**2 + ky**2 + kz**2).clamp(min=1e-9)
    spectrum = torch.fft.rfftn(lamb, dim=(-3, -2, -1))
    along = (kx * spectrum[:, 0] + ky * spectrum[:, 1] + kz * spectrum[:, 2]) / k2
    spectrum = spectrum - torch.stack([kx * along, ky * along, kz * along], dim=1)
    assert distance(ours, torch.fft.irfftn(spectrum, s=fine.n, dim=(-3, -2, -1))) < 1e-14
    assert ours.abs().max() > 0.1


@pytest.mark.parametrize("order", [2, 4])
def test_abc_flow_decays_at_its_rate(order):
    start = abc(*mesh(GRID))
    assert distance(curl(start, GRID), 2 * start) < 1e-13
    after = solver(GRID, order=order, interval=1.0)(start)
    assert distance(after, start * math.exp(-0.05 * 4)) < 1e-12


@pytest.mark.parametrize("carried_by", ["mean velocity", "state"])
def test_abc_flow_is_carried_by_a_uniform_velocity(carried_by):
    """u = U + u_ABC(x − Ut) exp(−νk²t). Beltrami flows at rest are blind to advection: this one is not."""
    wind, time = (1.0, -0.5, 0.3), 0.5
    uniform = torch.tensor(wind, dtype=torch.float64)[:, None, None, None]
    start = abc(*mesh(GRID), k=1)
    exact = abc(*mesh(GRID, [time * u for u in wind]), k=1) * math.exp(-0.05 * time)
    options = {"interval": time, "dt": time / 100}
    if carried_by == "state":
        after = solver(GRID, **options)(start + uniform) - uniform
    else:
        after = solver(GRID, mean_velocity=wind, **options)(start)
    assert distance(after, exact) < 1e-10


def test_advection_of_the_wrong_sign_is_seen(monkeypatch):
    """The control of the flow that is carried, which sees what a Beltrami flow at rest does not."""
    wind, time = (1.0, -0.5, 0.3), 2.0
    start, uniform = abc(*mesh(GRID), k=1), torch.tensor(wind, dtype=torch.float64)[:, None, None, None]
    exact = abc(*mesh(GRID, [time * u for u in wind]), k=1) * math.exp(-0.05 * time)
    right = VelocityEquation.explicit_tendency
    monkeypatch.setattr(VelocityEquation, "explicit_tendency", lambda *arguments: -right(*arguments))
    options = {"interval": time, "dt": time / 100, "backend": "torch"}
    wrong = solver(GRID, **options)(start + uniform) - uniform
    assert distance(wrong, exact) > 1
    assert distance(solver(GRID, **options)(start), start * math.exp(-0.05 * time)) < 1e-12


@pytest.mark.parametrize("k", [1, 2])
def test_the_exact_solution_of_antuono(k):
    grid = Grid.cube(8 if k == 1 else 16)
    start = antuono(*mesh(grid), k=k)
    assert distance(curl(start, grid), math.sqrt(3) * k * start) < 1e-12
    assert distance(solver(grid)(start), start * math.exp(-3 * 0.05 * k**2 * 0.25)) < 1e-10


def enstrophy_series(t, nu):
    """⟨ω²⟩/⟨ω²⟩₀ of the Taylor–Green vortex to order t⁴, and its next term."""
    kept = (1 - 6 * nu * t + (5 / 48 + 18 * nu**2) * t**2 - (5 / 3 + 36 * nu**2) * nu * t**3
            + (50 / 6336 + 1835 / 144 * nu**2 + 54 * nu**4) * t**4)  # fmt: skip
    return kept, -(0.25639 * nu + 63.4167 * nu**3 + 64.8 * nu**5) * t**5


def test_the_series_of_the_taylor_green_vortex():
    grid, nu, misses = Grid.cube(16), 0.1, []
    start = taylor_green(*mesh(grid))
    first = float(curl(start, grid).square().sum(1).mean())
    assert first == pytest.approx(0.75, rel=1e-12)
    for time in (0.1, 0.2):
        after = solver(grid, viscosity=nu, interval=time, dt=time / 20)(start)
        kept, following = enstrophy_series(time, nu)
        miss = float(curl(after, grid).square().sum(1).mean()) / first - kept
        assert miss == pytest.approx(following, rel=0.2)
        misses.append(miss)
    assert misses[1] / misses[0] == pytest.approx(32, rel=0.1)  # of order t⁵
    # Without advection, the enstrophy would decay as exp(−6νt), and the t² term would be wrong.
    assert abs(math.exp(-6 * nu * 0.2) - enstrophy_series(0.2, nu)[0]) > 100 * abs(misses[1])


def test_energy_and_helicity_are_conserved_without_viscosity():
    start = random_field(GRID, reach=2)

    def invariants(u):
        return 0.5 * u.square().sum(1).mean(), (u * curl(u, GRID)).sum(1).mean()

    changes = []
    for dt in (0.01, 0.005):
        after = solver(GRID, viscosity=0.0, interval=0.1, dt=dt)(start)
        assert distance(after, start) > 0.05
        pairs = zip(invariants(after), invariants(start), strict=True)
        changes.append(max(abs(float(b / a - 1)) for b, a in pairs))
    assert changes[1] < 1e-10
    assert changes[0] > 8 * changes[1]  # what is left is the error of the time steps
    wrong = 0.5 * solver(GRID, viscosity=1e-3, interval=0.1, dt=0.005)(start).square().sum(1).mean()
    assert abs(float(wrong / invariants(start)[0] - 1)) > 1e-5


@pytest.mark.parametrize("order", [2, 4])
def test_orders_of_accuracy(order):
    start = random_field(GRID, reach=2)
    exact = solver(GRID, viscosity=0.02, interval=0.2, dt=0.2 / 80, order=4)(start)
    errors = [distance(solver(GRID, viscosity=0.02, interval=0.2, dt=0.2 / m, order=order)(start), exact)
              for m in (5, 10)]  # fmt: skip
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.25)


def test_divergence_is_removed_at_the_start_and_stays_away():
    state = random_field(GRID, reach=3, solenoidal=False)
    assert divergence(state, GRID) > 0.1
    stepper = solver(GRID)
    carry = stepper.start(state)
    projected = stepper.state(carry)
    assert divergence(projected, GRID) < 1e-13
    gradient = state - projected
    assert float(curl(gradient, GRID).abs().max()) < 1e-12
    assert float((gradient * projected).mean().abs()) < 1e-14
    after = stepper.state(stepper.advance(stepper.advance(carry)))
    assert divergence(after, GRID) < 1e-12
    assert torch.equal(stepper(state), stepper.state(stepper.advance(carry)))
    assert divergence(NavierStokes3D(GRID, viscosity=0.01, interval=0.5)(state.float()).double(), GRID) < 1e-5


def plane_flow(n, seed):
    """A vorticity and a scalar in the plane, of modes up to 3."""
    y, x = Grid.square(n).mesh()
    draw = torch.Generator().manual_seed(seed)
    fields = torch.zeros(1, 2, n, n, dtype=torch.float64)
    for my in range(-3, 4):
        for mx in range(4):
            phase = 2 * math.pi * torch.rand(2, 1, 1, generator=draw, dtype=torch.float64)
            fields[0] += (my != 0 or mx != 0) * torch.cos(my * y + mx * x + phase)
    return fields / 3


def test_a_flow_that_does_not_depend_on_z_is_that_of_two_dimensions():
    """With a scalar that is buoyant, a mean gradient, a mean velocity, drag and a force; w is carried like a scalar."""
    n, nz = 16, 8
    flat, box = Grid.square(n), Grid((nz, n, n))
    state = plane_flow(n, 0)
    y, x = flat.mesh()
    force = 0.3 * torch.stack(torch.broadcast_tensors(torch.sin(2 * y), torch.cos(x + y)))
    scalar = {"diffusivity": 0.02}
    options = {"viscosity": 0.05, "drag": 0.1, "interval": 0.25, "dt": 0.025, "dtype": torch.float64}
    two = NavierStokes2D(
        flat, forcing=diagnostics.vorticity(force[None], flat)[0, 0], mean_velocity=(0.4, -0.2),
        scalar=TransportedScalar(**scalar, mean_gradient=(0.3, 1.0), gravity=(0.2, -1.0)), **options,
    )(state)  # fmt: skip
    zeros = torch.zeros(1, *flat.n, dtype=torch.float64)
    in_space = torch.cat([velocity(state[:, :1], flat)[0], zeros, state[0, 1:]])[None]
    three = NavierStokes3D(
        box, forcing=torch.cat([force, zeros])[:, None].expand(-1, nz, -1, -1), mean_velocity=(0.4, -0.2, 0.7),
        scalar=TransportedScalar(**scalar, mean_gradient=(0.3, 1.0, 0.5), gravity=(0.2, -1.0, 0.0)), **options,
    )(in_space[:, :, None].expand(-1, -1, nz, -1, -1))  # fmt: skip
    assert distance(three, three[:, :, :1].expand_as(three)) < 1e-13
    assert distance(three[:, :2, 0], velocity(two[:, :1], flat)) < 1e-10
    assert float(three[:, 2].abs().max()) < 1e-13
    assert distance(three[:, 3:, 0], two[:, 1:]) < 1e-10
    assert distance(state[:, 1:], two[:, 1:]) > 0.1


def test_a_velocity_across_the_plane_is_a_passive_scalar():
    n, nz = 16, 8
    state = plane_flow(n, 1)
    options = {"viscosity": 0.05, "interval": 0.25, "dt": 0.025, "dtype": torch.float64}
    two = NavierStokes2D(Grid.square(n), scalar=TransportedScalar(diffusivity=0.05), **options)(state)
    in_space = torch.cat([velocity(state[:, :1], Grid.square(n)), state[:, 1:]], dim=1)[:, :, None]
    three = NavierStokes3D(Grid((nz, n, n)), **options)(in_space.expand(-1, -1, nz, -1, -1))
    assert distance(three[:, 2, 0], two[:, 1]) < 1e-10


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flow_in_a_plane_across_any_axis(axis):
    """The same flow, turned: each axis of a box with three different numbers of cells plays each part."""
    n, state = 16, plane_flow(16, 2)
    u, v = velocity(state[:, :1], Grid.square(n))[0]
    options = {"viscosity": 0.05, "interval": 0.25, "dt": 0.025, "dtype": torch.float64}
    two = velocity(NavierStokes2D(Grid.square(n), **options)(state[:, :1]), Grid.square(n))[0]
    sizes = [8 if i == axis else n for i in range(3)]  # along x, y, z; the flow is in the planes (i, j), cyclically
    i, j = [(axis + 1) % 3, (axis + 2) % 3]

    def placed(first, second):
        out = torch.zeros(3, *sizes, dtype=torch.float64)  # indexed (component, x, y, z)
        for component, plane in ((i, first), (j, second)):
            along = plane.T if i < j else plane  # plane[j index, i index]
            out[component] = along.unsqueeze(axis).expand(sizes)
        return out.permute(0, 3, 2, 1)[None]

    after = NavierStokes3D(Grid(tuple(reversed(sizes))), **options)(placed(u, v))
    assert distance(after, placed(*two)) < 1e-10


def test_the_mean_flow_changes_by_drag_and_the_mean_force_only():
    wind, push = (torch.tensor(v, dtype=torch.float64) for v in ((0.5, -0.2, 0.1), (0.3, 0.0, -0.6)))
    state = random_field(GRID) + wind[:, None, None, None]
    force = push[:, None, None, None].expand(3, *GRID.n)
    after = solver(GRID, drag=0.4, forcing=force, interval=0.5)(state).mean((-3, -2, -1))[0]
    decay = math.exp(-0.2)
    assert distance(after, wind * decay + push * (1 - decay) / 0.4) < 1e-12
    unforced = solver(GRID)(state).mean((-3, -2, -1))[0]
    assert distance(unforced, wind) < 1e-13


def test_a_sheared_box_of_unequal_sides():
    """A parallel flow u(y, z) decays mode by mode, in a box of unequal sides and numbers of cells."""
    grid = Grid((10, 12, 16), (3.0, 5.0, 4.0))
    _, y, z = mesh(grid)
    ky, kz = 2 * math.pi / 5.0, 2 * math.pi / 3.0
    u = torch.cos(2 * ky * y + kz * z)
    state = torch.stack([u, torch.zeros_like(u), torch.zeros_like(u)])[None]
    after = solver(grid)(state)
    assert distance(after, state * math.exp(-0.05 * 0.25 * ((2 * ky) ** 2 + kz**2))) < 1e-12
