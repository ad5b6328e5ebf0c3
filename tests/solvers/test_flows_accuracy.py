"""Every flow's solver converges: at order 2 or 4 in the inner step, faster than any power in the number of cells."""

import numpy as np
import pytest
import torch
from examples import DETERMINISTIC, EXAMPLES

from solvers import resample

every_deterministic_flow = pytest.mark.parametrize(
    "example", [EXAMPLES[name] for name in DETERMINISTIC], ids=DETERMINISTIC
)


def distance(a, b):
    return float((a - b).norm() / b.norm())


@every_deterministic_flow
def test_order_of_accuracy_in_time(example):
    """From a state that the flow has made itself; second order is not fourth."""
    grid, interval = example.grid(24), 0.4
    start = example.flow.solver(grid, interval=0.5, dt=0.025, dtype=torch.float64)(example.anything(grid, rms=3.0))

    def after(steps, order):
        return example.flow.solver(grid, interval=interval, dt=interval / steps, order=order, dtype=start.dtype)(start)

    reference = after(128, 4)
    for order, steps in ((2, (16, 32)), (4, (16, 32))):
        coarse, fine = (distance(after(n, order), reference) for n in steps)
        assert abs(np.log2(coarse / fine) - order) < 0.2


@every_deterministic_flow
def test_accuracy_in_space_is_spectral(example):
    """The error falls the faster the more cells there are, from a smooth start; not so from one with jumps."""
    cells, reference = np.array([16, 24, 32, 48]), example.grid(96)
    smooth = example.anything(reference, reach=2.0)

    def solver(grid):
        return example.flow.solver(grid, interval=0.4, dt=0.025, dtype=torch.float64)

    def powers(start):
        """d log(error) / d log(cells), and the last error."""
        exact, errors = solver(reference)(start), []
        for n in cells.tolist():
            grid = example.grid(n)
            after = solver(grid)(resample(start, reference, grid))
            errors.append(distance(resample(after, grid, reference), exact))
        return -np.diff(np.log(errors)) / np.diff(np.log(cells)), errors[-1]

    (low, *_, high), error = powers(smooth)
    assert high > 9
    assert high > low + 5
    assert error < 2e-6
    (*_, rough), rough_error = powers(smooth.sign())
    assert rough < high / 2
    assert rough_error > 1000 * error
