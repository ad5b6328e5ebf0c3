"""The step-size controller alone: plans, bounds, halvings and limits."""

import math

import pytest

from solvers.step_size import MAX_HALVINGS, MAX_STEPS, StepSizeController

CONTROLLER = StepSizeController(interval=0.5, parts=2, cfl=0.8)


def courant(steps, rate):
    return rate * CONTROLLER.step_length(steps)


@pytest.mark.parametrize("rate", [0.0, 1e-9, 3.1, 3.2, 3.3, 100.0, 12345.6])
def test_a_plan_is_the_fewest_steps_within_the_bound(rate):
    (steps,) = CONTROLLER.plan([rate])
    assert courant(steps, rate) <= CONTROLLER.cfl * (1 + 1e-12)
    assert steps == 1 or courant(steps - 1, rate) > CONTROLLER.cfl


def test_each_trajectory_is_planned_alone():
    rates = [0.0, 7.0, math.inf, 400.0, math.nan]
    assert CONTROLLER.plan(rates) == tuple(CONTROLLER.plan([rate])[0] for rate in rates) == (1, 3, 0, 125, 0)


def test_steps_divide_the_parts_of_an_interval():
    assert CONTROLLER.step_length(5) == 0.05
    assert CONTROLLER.step_length(0) == CONTROLLER.step_length(1) == 0.25


@pytest.mark.parametrize(("growth", "accepted"), [(1.0, True), (1.09, True), (1.11, False), (math.inf, False)])
def test_growth_by_a_tenth_is_accepted(growth, accepted):
    at_bound = CONTROLLER.cfl / CONTROLLER.step_length(10)
    assert CONTROLLER.accepts(10, [0.1, growth * at_bound]) == accepted
    assert CONTROLLER.accepts(10, [growth * at_bound, 0.1]) == accepted


def test_a_rate_that_is_not_a_number_is_rejected_and_a_state_that_stays_is_not():
    assert not CONTROLLER.accepts(10, [math.nan, 1.0])
    assert CONTROLLER.accepts(0, [math.nan, math.nan])


def test_only_rejected_trajectories_are_halved():
    assert CONTROLLER.halve((3, 4, 5), [1], 0) == (3, 8, 5)
    assert CONTROLLER.halve((3, 4, 5), [0, 2], MAX_HALVINGS - 1) == (6, 4, 10)


def test_limits_are_errors_of_a_line():
    with pytest.raises(ValueError, match=f"even after {MAX_HALVINGS} halvings, to 5 an interval: shorten"):
        CONTROLLER.halve((3, 4, 5), [1], MAX_HALVINGS)
    with pytest.raises(ValueError, match="the flow would need 120000 inner steps an interval, more than 100000"):
        CONTROLLER.halve((60_000, 1), [0], 0)
    most = MAX_STEPS * CONTROLLER.cfl / CONTROLLER.step_length(1)
    assert CONTROLLER.plan([most * (1 - 1e-9)]) == (MAX_STEPS,)
    with pytest.raises(ValueError, match="more than 100000"):
        CONTROLLER.plan([most * (1 + 1e-4)])


@pytest.mark.parametrize(
    ("dt", "steps"), [(None, None), (0.25, 1), (0.05, 5), (0.25 / 7, 7), (0.25 / MAX_STEPS, 100_000)]
)
def test_a_fixed_step_divides_a_part(dt, steps):
    assert StepSizeController.from_step(0.5, 2, 0.8, dt).fixed_steps == steps


@pytest.mark.parametrize("dt", [0.0, -0.1, math.nan, math.inf, 0.1, 0.5, 0.25 / (MAX_STEPS + 1), 1e-300])
def test_other_fixed_steps_are_refused(dt):
    with pytest.raises(ValueError, match=r"^dt must (be positive|divide the interval 0.25 between two kicks)"):
        StepSizeController.from_step(0.5, 2, 0.8, dt)
