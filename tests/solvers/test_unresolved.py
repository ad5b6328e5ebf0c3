"""What a dealiased solver drops of a state is kept beside it."""

import torch

from solvers import D4, FLOWS, VORTICITY, Grid, Unresolved, act

GRID = Grid.square(24)


def state():
    noise = torch.randn(2, 1, 24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return FLOWS["decaying"](viscosity=1e-2).starts(GRID, [0, 1]) + 0.1 * (noise - noise.mean((-2, -1), keepdim=True))


def test_resolved_modes_as_the_solver_steps_them_and_the_others_as_they_were():
    solver = FLOWS["decaying"](viscosity=1e-2).solver(GRID, interval=0.1, dt=0.05, dtype=torch.float64)
    before = state()
    after, alone = Unresolved(solver)(before), solver(before)
    held = GRID.retained()
    change, by_solver = torch.fft.rfft2(after - before), torch.fft.rfft2(alone - before)
    torch.testing.assert_close(change[..., held], by_solver[..., held], rtol=0, atol=1e-10)
    assert float(change[..., ~held].abs().max()) < 1e-10
    assert float(by_solver[..., ~held].abs().max()) > 1.0  # the control: the solver by itself drops them


def test_it_keeps_the_symmetries_of_the_square():
    solver = FLOWS["decaying"](viscosity=1e-2).solver(GRID, interval=0.1, dt=0.05, dtype=torch.float64)
    stepper, before = Unresolved(solver), state()
    after = stepper(before)
    for g in D4:
        error = (stepper(act(VORTICITY, before, g)) - act(VORTICITY, after, g)).norm() / (after - before).norm()
        assert float(error) < 1e-11
