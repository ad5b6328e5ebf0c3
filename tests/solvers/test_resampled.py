"""A fine solver between coarse states."""

import pytest
import torch
from examples import EXAMPLES

from solvers import D4, FLOWS, VORTICITY, Grid, Resampled, VelocityForm, act, resample
from solvers.velocity_form import with_velocity

FINE, COARSE = Grid.square(48), Grid.square(24)


def stepper():
    flow = FLOWS[2]["decaying"](viscosity=1e-2)
    fine = flow.solver(FINE, interval=0.25, dtype=torch.float64)
    return flow.starts(FINE, [0, 1]), fine, Resampled(fine, COARSE)


def test_it_is_the_fine_solver_between_two_resamplings():
    start, fine, seen = stepper()
    coarse = resample(start, FINE, COARSE)  # the start's band lies within both grids: nothing is lost
    torch.testing.assert_close(seen(coarse), resample(fine(start), FINE, COARSE), rtol=0, atol=1e-12)
    own = FLOWS[2]["decaying"](viscosity=1e-2).solver(COARSE, interval=0.25, dtype=torch.float64)
    assert float((own(coarse) - seen(coarse)).norm() / seen(coarse).norm()) > 1e-6  # the control: the coarse solver


def test_it_keeps_the_symmetries_of_the_square():
    start, _, seen = stepper()
    coarse = resample(start, FINE, COARSE)
    after = seen(coarse)
    for g in D4:
        error = (seen(act(VORTICITY, coarse, g)) - act(VORTICITY, after, g)).norm() / (after - coarse).norm()
        assert float(error) < 1e-11


@pytest.mark.parametrize("inner", [20, 48], ids=["coarser inside", "finer inside"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_flow_seen_on_another_grid(name, inner):
    """Coarser and finer inside, inputs given or left to the solver, seeds of the stirring, and a carry that goes on."""
    example = EXAMPLES[name]
    grid, there = (Grid.square(n, example.side) for n in (32, inner))
    solver = example.flow.solver(there, interval=0.01 * example.side, dtype=torch.float64)
    seen = Resampled(solver, grid)
    state = torch.cat([example.anything(grid, seed) for seed in (0, 1)])
    inputs = {
        name: value.expand(2, *value.shape[1:]) for name, value in example.flow.inputs(grid).items()
        if name in {field.name for field in solver.spec.inputs}
    }  # fmt: skip
    carry = seen.advance(seen.advance(seen.start(state, inputs, seeds=[7, 8])))
    within = solver.start(resample(state, grid, there), seeds=[7, 8])
    expected = resample(solver.state(solver.advance(solver.advance(within))), there, grid)
    torch.testing.assert_close(seen.state(carry), expected, rtol=0, atol=1e-11 * float(expected.abs().max()))
    own = seen.advance(seen.advance(seen.start(state, seeds=[7, 8])))  # the flow's own forcing, gravity, ...
    torch.testing.assert_close(seen.state(own), expected, rtol=0, atol=1e-11 * float(expected.abs().max()))
    if solver.stochastic_forcing is not None:
        other = seen.advance(seen.advance(seen.start(state, inputs, seeds=[8, 7])))
        assert float((seen.state(other) - expected).norm() / expected.norm()) > 1e-3


@pytest.mark.parametrize("inner", [20, 48], ids=["coarser inside", "finer inside"])
def test_states_of_velocity_on_another_grid(inner):
    """Either way round: the velocity of what is resampled is what is resampled of the velocity."""
    flow, grid, there = (
        FLOWS[2]["kolmogorov"](viscosity=1e-2, waves=2, wavenumber=3.0),
        Grid.square(32),
        Grid.square(inner),
    )
    solver = flow.solver(there, interval=0.25, dtype=torch.float64)
    state = flow.starts(grid, [0, 1])
    expected = with_velocity(Resampled(solver, grid)(state), grid)
    for stepper in (VelocityForm(Resampled(solver, grid)), Resampled(VelocityForm(solver), grid)):
        assert [field.name for field in stepper.spec.fields] == ["velocity"]
        assert stepper.spec.grid == grid
        torch.testing.assert_close(stepper(with_velocity(state, grid)), expected, rtol=0, atol=1e-13)


def test_states_and_inputs_of_another_grid_are_refused():
    flow = FLOWS[2]["kolmogorov"](viscosity=1e-2, waves=2)
    seen, state = Resampled(flow.solver(FINE, interval=0.25), COARSE), torch.zeros(1, 1, 24, 24)
    with pytest.raises(ValueError, match=r"state must be \(batch, 1, 24, 24\); got \(1, 1, 48, 48\)"):
        seen(torch.zeros(1, 1, 48, 48))
    with pytest.raises(
        ValueError, match=r"the field must be on the source grid, \(..., 24, 24\); got \(1, 1, 48, 48\)"
    ):
        seen(state, {"forcing": torch.zeros(1, 1, 48, 48)})
    with pytest.raises(ValueError, match=r"input 'forcing' must be \(1, 1, 48, 48\); got \(2, 1, 48, 48\)"):
        seen(state, {"forcing": torch.zeros(2, 1, 24, 24)})
    with pytest.raises(ValueError, match="unknown input 'gravity'"):
        seen(state, {"gravity": torch.zeros(1, 1, 24, 24)})
