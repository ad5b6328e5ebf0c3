"""What every flow's solver commutes with: turns and mirrors, shifts, a uniform velocity, another unit of time."""

import pytest
import torch
from examples import DETERMINISTIC, EXAMPLES
from reference import acted

from solvers import D2, D4, FLOWS, TRACER, point_group

INTERVAL, S = 0.2, 2.5

every_flow = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
every_deterministic_flow = pytest.mark.parametrize(
    "example", [EXAMPLES[name] for name in DETERMINISTIC], ids=DETERMINISTIC
)


def relative(error, after, before):
    """An error of each trajectory relative to what the step changes."""
    return error.flatten(1).norm(dim=1) / (after - before).flatten(1).norm(dim=1)


def turned_errors(solver, state, own=None):
    """‖f(gx) − g f(x)‖ / ‖f(x) − x‖ for each g of D4, as one batch, its `own` inputs turned along."""
    spec, after = solver.spec, solver(state)
    turned = torch.cat([acted(spec.fields, state, g) for g in D4])
    expected = torch.cat([acted(spec.fields, after, g) for g in D4])
    inputs = own and {f.name: torch.cat([acted([f], own[f.name], g) for g in D4]) for f in spec.inputs}
    got = solver.state(solver.advance(solver.start(turned, inputs, seeds=[0] * len(D4))))
    return relative(got - expected, after, state).tolist()


@every_flow
def test_the_solver_keeps_the_declared_group_and_no_more(example):
    """Inputs held fixed; of a stirred flow, without its kicks."""
    grid = example.grid(24)
    assert point_group(grid) == D4
    solver = example.rescaled_solver(grid, stochastic=False, interval=INTERVAL, dt=0.05)
    errors = turned_errors(solver, example.anything(grid))
    for g, error in zip(D4, errors, strict=True):
        assert error < 1e-10 if g in example.flow.group.elements else error > 1e-2, g.name


@every_deterministic_flow
def test_with_its_inputs_turned_along_every_flow_keeps_the_square(example):
    """But for the plates, which stay where they are."""
    grid = example.grid(24)
    solver = example.flow.solver(grid, interval=INTERVAL, dt=0.05, dtype=torch.float64)
    errors = turned_errors(solver, example.anything(grid), example.flow.inputs(grid))
    kept = D2 if example.flow.plates else D4
    for g, error in zip(D4, errors, strict=True):
        assert error < 1e-10 if g in kept.elements else error > 1e-2, g.name


def test_a_stirred_flow_keeps_the_square_in_the_mean_only():
    """σ_k depends on |k| alone, as any turn needs; one draw of the kicks keeps nothing."""
    example = EXAMPLES["stirred"]
    grid = example.grid(24)
    half = torch.from_numpy(example.flow.stochastic_forcing(grid).amplitude)  # my = −M … M, mx = 0 … M
    assert half.shape == (9, 5)
    whole = torch.cat([half.flip(0, 1)[:, :-1], half], dim=1)  # the modes mx < 0 are conjugates
    for g in D4:
        assert torch.equal(acted([TRACER], whole[None, None], g)[0, 0], whole)
    errors = turned_errors(example.rescaled_solver(grid, interval=INTERVAL), example.anything(grid))
    assert errors[0] < 1e-10
    assert min(errors[1:]) > 1e-2


@every_flow
def test_the_solver_keeps_the_declared_translations_and_no_more(example):
    """Every shift by whole cells along y and x, as one batch."""
    grid = example.grid(16)
    solver = example.rescaled_solver(grid, stochastic=False, interval=INTERVAL, dt=0.1)
    state = example.anything(grid)
    shifts = [(i, j) for i in range(16) for j in range(16)]

    def shifted(field):
        return torch.cat([field.roll(shift, (-2, -1)) for shift in shifts])

    after = solver(state)
    errors = relative(solver(shifted(state)) - shifted(after), after, state).unflatten(0, (16, 16))
    declared = example.flow.translations(grid)
    assert declared[0, 0]
    assert (errors[declared] < 1e-10).all()
    assert (errors[~declared] > 0.1).all()


@every_flow
@pytest.mark.parametrize("axis", [0, 1], ids=["x", "y"])
def test_a_uniform_velocity_carries_the_flow_along_where_it_is_galilean(example, axis):
    grid, cells = example.grid(16), 2
    options = {"stochastic": False, "interval": INTERVAL, "dt": INTERVAL / 80}
    speed = cells * grid.spacing[1 - axis] / INTERVAL
    velocity = (speed, 0.0) if axis == 0 else (0.0, speed)
    state = example.anything(grid)
    after = example.rescaled_solver(grid, **options)(state)
    carried = example.rescaled_solver(grid, mean_velocity=velocity, **options)(state)
    (error,) = relative(carried - after.roll(cells, -1 - axis), after, state)
    if example.flow.galilean_invariance(grid)[axis]:
        assert error < 1e-6
        assert relative(carried - after, after, state) > 0.5
    else:
        assert error > 1e-2


@every_flow
def test_faster_rates_give_the_same_flow_in_less_time(example):
    """ω → sω for ν, κ, μ, U → s(ν, κ, μ, U), f, g → s²(f, g), ε → s³ε, t → t/s; θ stays."""
    grid = example.grid(24)
    state = example.anything(grid)
    faster = torch.tensor([S, 1.0][: state.shape[1]], dtype=torch.float64)[:, None, None]
    after = example.flow.solver(grid, interval=INTERVAL, dt=0.025, dtype=torch.float64)(state)
    errors = []
    for both in (True, False):
        solver = example.rescaled_solver(grid, s=S, viscosity_too=both, interval=INTERVAL / S, dt=0.025 / S)
        errors.append(relative(solver(faster * state) / faster - after, after, state))
    assert errors[0] < 1e-10
    assert errors[1] > 1e-2


def test_faster_stirring_has_its_rate_cubed():
    """As the flow's own numbers say it."""
    slow, fast = (FLOWS[2]["stirred"](viscosity=1e-2, rate=s**3 * 0.1, renewal=0.05 / s) for s in (1.0, S))
    grid = EXAMPLES["stirred"].grid(24)
    kicks = [
        flow.stochastic_forcing(grid).kicks(grid, [3], 4, interval) for flow, interval in ((slow, 0.2), (fast, 0.2 / S))
    ]
    assert float((kicks[1] - S * kicks[0]).norm() / kicks[1].norm()) < 1e-12
