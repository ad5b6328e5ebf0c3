"""Inner steps that the solver takes by itself, a trajectory at a time."""

import pytest
import torch

from solvers import FLOWS, Grid, NavierStokes2D, velocity

GRID = Grid.square(32)
INTERVAL = 0.25
CFL = {2: 0.5, 4: 1.0}
TOLERANCES = [(torch.float64, 1e-12), (torch.float32, 1e-5)]


def solver(**options):
    return NavierStokes2D(GRID, **{"viscosity": 6e-3, "interval": INTERVAL, "dtype": torch.float64, **options})


def starts(*rms):
    decaying = FLOWS[2]["decaying"](viscosity=6e-3, rms=1.0)
    return torch.cat([number * decaying.starts(GRID, [seed]) for seed, number in enumerate(rms)])


def distance(a, b):
    return float((a - b).norm() / b.norm())


def courant(state, steps, interval=INTERVAL, grid=GRID):
    """Δt · max(|u|/Δx + |v|/Δy)."""
    u, v = velocity(state, grid).abs()[0]
    return float((u * grid.n[1] / grid.length[1] + v * grid.n[0] / grid.length[0]).max()) * interval / steps


def strong_forcing(strength):
    y, x = GRID.coordinates()
    return strength * (torch.cos(2 * x)[None, :] + torch.cos(3 * y)[:, None] + torch.cos(x[None, :] + 2 * y[:, None]))


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES, ids=["float64", "float32"])
@pytest.mark.parametrize("dt", [None, 0.01])
def test_a_batch_is_its_trajectories_one_by_one(dtype, tolerance, dt):
    together, states = solver(dtype=dtype, dt=dt), starts(3.0, 30.0, 9.0)
    carry = together.advance(together.start(states))
    assert len(set(carry.steps_taken)) == (3 if dt is None else 1)
    for i, after in enumerate(together.state(carry)):
        alone = solver(dtype=dtype, dt=dt)
        single = alone.advance(alone.start(states[i : i + 1]))
        assert single.steps_taken == carry.steps_taken[i : i + 1]
        assert single.planned_steps == carry.planned_steps[i : i + 1]
        assert distance(after, alone.state(single)[0]) < tolerance


def test_a_batch_in_which_one_alone_is_done_again():
    """What its neighbour needs changes a trajectory's result by rounding only."""
    forced, states = solver(interval=0.5, forcing=strong_forcing(1.0)), starts(3.0, 3.0)
    forcing = torch.stack([strong_forcing(30.0), strong_forcing(1.0)])[:, None]
    carry = forced.start(states, {"forcing": forcing})
    planned, carry = carry.planned_steps, forced.advance(carry)
    assert carry.steps_taken[0] > planned[0]
    assert carry.steps_taken[1] == planned[1]
    for i, after in enumerate(forced.state(carry)):
        assert distance(after, forced(states[i : i + 1], {"forcing": forcing[i : i + 1]})[0]) < 1e-11


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("rms", [1.0, 10.0, 40.0])
@pytest.mark.parametrize("grid", [GRID, Grid((16, 48)), Grid((32, 32), (4.5, 3.0))], ids=["square", "cells", "sides"])
def test_the_plan_is_the_longest_step_below_the_bound(grid, order, rms):
    state = rms * FLOWS[2]["decaying"](viscosity=6e-3, wavenumber=2.0, rms=1.0).starts(grid, [0])
    flow = NavierStokes2D(grid, viscosity=6e-3, interval=INTERVAL, order=order, dtype=torch.float64)
    (steps,) = flow.start(state).planned_steps
    assert courant(state, steps, grid=grid) <= CFL[order]
    assert steps == 1 or courant(state, steps - 1, grid=grid) > CFL[order]


@pytest.mark.parametrize(("order", "tolerance"), [(2, 1e-2), (4, 5e-4)])
def test_own_steps_agree_with_a_fine_fixed_step(order, tolerance):
    state = starts(10.0)
    reference = solver(dt=INTERVAL / 200)(state)
    assert distance(solver(order=order)(state), reference) < tolerance
    assert distance(state, reference) > 0.3


def test_fixed_steps_are_as_many_as_divide_the_interval():
    flow, state = solver(dt=INTERVAL / 7), starts(3.0)
    carry = flow.advance(flow.start(state))
    assert carry.steps_taken == (7,)
    assert distance(flow.state(carry), solver(dt=INTERVAL / 6)(state)) > 1e-9


@pytest.mark.parametrize("interval", [0.1, 0.25, 0.3, 1 / 3, 0.7, 1e-9, 1e9])
def test_every_number_of_steps_can_be_asked_for(interval):
    """`dt=interval / k`, whose multiples need not be the interval to the last bit."""
    for k in (*range(1, 17), 97, 1000, 100_000):
        assert solver(interval=interval, dt=interval / k).step_control.fixed_steps == k
    stirred = FLOWS[2]["stirred"](viscosity=1e-2, renewal=interval / 3)
    for k in range(1, 17):
        assert stirred.solver(GRID, interval=interval, dt=interval / (3 * k)).step_control.fixed_steps == k


def test_a_step_that_does_not_divide_the_time_between_two_kicks_is_refused():
    stirred = FLOWS[2]["stirred"](viscosity=1e-2, renewal=0.05)
    message = r"dt must divide the interval 0\.05 between two kicks into at most 100000 steps \(got 0\.25\)"
    with pytest.raises(ValueError, match=message):
        stirred.solver(GRID, interval=0.3, dt=0.25)
    with pytest.raises(ValueError, match=r"dt must divide the interval 0\.3 into at most 100000 steps \(got 0\.25\)"):
        solver(interval=0.3, dt=0.25)


@pytest.mark.parametrize("interval", [0.3, 0.1])
def test_two_intervals_are_one_of_twice_the_length(interval):
    half, whole, state = solver(interval=interval, dt=0.05), solver(interval=2 * interval, dt=0.05), starts(3.0)
    carry = half.advance(half.advance(half.start(state)))
    assert distance(half.state(carry), whole(state)) < 1e-13


@pytest.mark.parametrize(
    ("strength", "rms", "interval"),
    [(30.0, 3.0, 0.5), (10.0, 0.0, 1.0), (60.0, 3.0, 0.5)],
    ids=["grows", "grows from rest in one step", "overflows"],
)
def test_a_trajectory_that_outgrows_its_bound_is_done_again(strength, rms, interval):
    forcing, state = strong_forcing(strength), starts(rms)
    flow = solver(interval=interval, forcing=forcing)
    carry = flow.start(state)
    (planned,), carry = carry.planned_steps, flow.advance(carry)
    (taken,) = carry.steps_taken
    once = solver(interval=interval, forcing=forcing, dt=interval / planned)(state)
    fine = solver(interval=interval, forcing=forcing, dt=interval / 600)(state)
    assert not distance(once, fine) < 0.1
    assert taken > planned
    assert courant(flow.state(carry), taken, interval) < 1.1 * CFL[4]
    assert distance(flow.state(carry), fine) < 1e-3


def test_a_flow_that_needs_too_many_steps_is_refused():
    with pytest.raises(ValueError, match="inner steps an interval"):
        solver().start(1e7 * starts(1.0))


def test_gradients_pass_through_own_steps():
    flow, states = solver(), starts(3.0, 10.0)
    direction = starts(1.0, 1.0).flip(0)
    states.requires_grad_()
    slope = float((torch.autograd.grad(flow(states).square().sum(), states)[0] * direction).sum())
    with torch.no_grad():
        up, down = (float(flow(states + step * direction).square().sum()) for step in (1e-4, -1e-4))
    assert abs((up - down) / 2e-4 / slope - 1) < 1e-6


def test_a_flow_that_outgrows_every_halving_is_refused():
    with pytest.raises(ValueError, match="outgrows its inner steps even after 12 halvings"):
        solver(interval=30.0, forcing=strong_forcing(1e6))(torch.zeros(1, 1, 32, 32, dtype=torch.float64))


def test_a_state_that_is_not_finite_stays_and_harms_nobody():
    states = starts(3.0, 3.0)
    states[0, 0, 0, 0] = torch.nan
    flow = solver()
    carry = flow.advance(flow.start(states))
    assert carry.steps_taken[0] == 0
    assert not flow.state(carry)[0].isfinite().any()
    assert distance(flow.state(carry)[1], flow(states[1:])[0]) < 1e-12


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize(
    ("start", "dtype", "message"),
    [
        (1e20, torch.float32, r"the flow would need 1.04345e\+20 inner steps an interval, more than 100000: shorten"),
        (1e300, torch.float64, r"the flow would need 1.04345e\+300 inner steps an interval, more than 100000: shorten"),
        (1e38, torch.float32, "the flow is too fast for numbers in float32: choose units of length and time"),
        (1e300, torch.float32, "the flow is too fast for numbers in float32: choose units of length and time"),
    ],
)
def test_a_start_out_of_all_proportion_is_refused_in_a_line(backend, start, dtype, message):
    """Also where its speeds overflow: it is finite, and must not stay as it is like one that is not."""
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        solver(viscosity=1e-2, dtype=dtype, backend=backend).start(start * starts(1.0, 1.0))
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("number", [1e30, 1e160, 1e308])
def test_a_decay_too_fast_for_the_closed_forms_leaves_nothing(backend, order, number):
    """ν k² Δt = 1e160 squared is no number; what is left after such a step is 0."""
    state = starts(1.0)
    after = solver(viscosity=number, order=order, backend=backend)(state)
    assert float(after.abs().max()) < 1e-17  # the mean of the start, which viscosity leaves


@pytest.mark.parametrize("order", [2, 4])
def test_under_a_fast_decay_the_flow_is_what_the_forcing_holds(order):
    """f / μ, whatever the start."""
    forced = solver(viscosity=0.0, drag=1e30, forcing=strong_forcing(2e30), order=order, dt=INTERVAL)
    torch.testing.assert_close(forced(starts(1.0))[0, 0], strong_forcing(2.0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_an_empty_batch_is_refused_in_a_line(backend):
    with pytest.raises(ValueError, match=r"^state holds no trajectory: give at least one$"):
        solver(backend=backend)(torch.zeros(0, 1, 32, 32))
