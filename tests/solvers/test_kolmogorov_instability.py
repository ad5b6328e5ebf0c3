"""The onset of Kolmogorov flow's instability, against the published linear theory."""

import math

import pytest
import torch

from solvers import Grid, NavierStokes2D

SPEED, TIME = 1.0, 60.0


def growth_rate(reynolds, alpha):
    """σ of the fastest disturbance of u = U sin(ky), k = 1, in a box 2π/α long: small, so that it grows linearly."""
    grid = Grid.box([24, 24], [2 * math.pi, 2 * math.pi / alpha])
    y, x = grid.coordinates()
    viscosity = SPEED / reynolds
    laminar = -SPEED * torch.cos(y)[:, None].expand(grid.n)  # ω = −∂u/∂y
    solver = NavierStokes2D(
        grid, viscosity=viscosity, interval=TIME, forcing=viscosity * laminar, dt=TIME / 400, dtype=torch.float64
    )
    wave = 1e-7 * torch.cos(alpha * x)[None, :] * (1 + torch.cos(y + 0.4))[:, None]
    carry, sizes = solver.start((laminar + wave)[None, None]), []
    for _ in range(3):  # what decays faster dies out in the first interval
        carry = solver.advance(carry)
        disturbance = solver.state(carry)[0, 0] - laminar
        sizes.append(float((disturbance - disturbance.mean(1, keepdim=True)).norm()))
    return math.log(sizes[2] / sizes[1]) / TIME


PUBLISHED = pytest.mark.parametrize(("alpha", "critical"), [(1 / 4, 1.55218), (1 / 3, 1.66773), (1 / 2, 2.04890)])


@PUBLISHED
def test_kolmogorov_flow_turns_unstable_where_theory_says(alpha, critical):
    """Re_c = U / (νk) lies within 0.1 % of the published value (Meshalkin & Sinai 1961; √2 in an endless box)."""
    assert growth_rate(0.999 * critical, alpha) < 0 < growth_rate(1.001 * critical, alpha)


@PUBLISHED
def test_the_onset_by_bisection(alpha, critical):
    """Without the published value to begin from."""
    low, high = math.sqrt(2), 3.0
    while high - low > 2e-4 * low:
        middle = (low + high) / 2
        low, high = (middle, high) if growth_rate(middle, alpha) < 0 else (low, middle)
    assert (low + high) / 2 == pytest.approx(critical, rel=1e-3)
