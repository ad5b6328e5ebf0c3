"""A fine solver between coarse states."""

import torch

from solvers import D4, FLOWS, VORTICITY, Grid, Resampled, act, resample

FINE, COARSE = Grid.square(48), Grid.square(24)


def stepper():
    flow = FLOWS["decaying"](viscosity=1e-2)
    fine = flow.solver(FINE, interval=0.25, dtype=torch.float64)
    return flow.starts(FINE, [0, 1]), fine, Resampled(fine, COARSE)


def test_it_is_the_fine_solver_between_two_resamplings():
    start, fine, seen = stepper()
    coarse = resample(start, FINE, COARSE)  # the start's band lies within both grids: nothing is lost
    torch.testing.assert_close(seen(coarse), resample(fine(start), FINE, COARSE), rtol=0, atol=1e-12)
    own = FLOWS["decaying"](viscosity=1e-2).solver(COARSE, interval=0.25, dtype=torch.float64)
    assert float((own(coarse) - seen(coarse)).norm() / seen(coarse).norm()) > 1e-6  # the control: the coarse solver


def test_it_keeps_the_symmetries_of_the_square():
    start, _, seen = stepper()
    coarse = resample(start, FINE, COARSE)
    after = seen(coarse)
    for g in D4:
        error = (seen(act(VORTICITY, coarse, g)) - act(VORTICITY, after, g)).norm() / (after - coarse).norm()
        assert float(error) < 1e-11
