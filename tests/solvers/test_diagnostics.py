"""Diagnostics against closed forms."""

import math

import pytest
import torch

from solvers import D4, FLOWS, VELOCITY, VORTICITY, FieldSpec, Grid, act, diagnostics

SCALAR = FieldSpec("scalar", 0, 1)
GRID = Grid.box([24, 32], [math.pi, 2 * math.pi])


def taylor_green():
    """ψ = sin(2x) sin(2y): ω = 8ψ, u = 2 sin(2x) cos(2y), v = −2 cos(2x) sin(2y)."""
    y, x = GRID.coordinates()
    return y[:, None] + 0 * x, x[None, :] + 0 * y[:, None]


def close(made, expected):
    torch.testing.assert_close(made[0], torch.stack(list(expected)), rtol=0, atol=1e-12)


def test_taylor_green():
    y, x = taylor_green()
    psi = torch.sin(2 * x) * torch.sin(2 * y)
    vorticity = 8 * psi[None, None]
    u, v = 2 * torch.sin(2 * x) * torch.cos(2 * y), -2 * torch.cos(2 * x) * torch.sin(2 * y)
    ux, uy = 4 * torch.cos(2 * x) * torch.cos(2 * y), -4 * psi
    close(diagnostics.stream_function(vorticity, GRID), [psi])
    close(diagnostics.velocity(vorticity, GRID), [u, v])
    close(diagnostics.velocity_gradient(vorticity, GRID), [ux, uy, -uy, -ux])
    close(diagnostics.q_criterion(vorticity, GRID), [uy**2 - ux**2])
    close(diagnostics.strain_rate(vorticity, GRID), [2 * ux.abs()])  # no shear: ∂u/∂y + ∂v/∂x = 0
    close(diagnostics.pressure(vorticity, GRID), [(torch.cos(4 * x) + torch.cos(4 * y)) * 1.0])


def test_pressure_closes_the_momentum_equation():
    """∇²p = −∇·(u·∇u), the right side by finite differences of sixth order on a fine grid."""
    grid = Grid.square(256)
    vorticity = FLOWS[2]["decaying"](viscosity=1e-3, wavenumber=2.0).starts(grid, [0])
    h = grid.spacing[0]

    def d(f, axis):
        return sum(c * (f.roll(-i, axis) - f.roll(i, axis)) for i, c in ((1, 45), (2, -9), (3, 1))) / (60 * h)

    u, v = diagnostics.velocity(vorticity, grid)[0]
    p = diagnostics.pressure(vorticity, grid)[0, 0]
    advected = [u * d(f, 1) + v * d(f, 0) for f in (u, v)]
    left, right = d(d(p, 1), 1) + d(d(p, 0), 0), -(d(advected[0], 1) + d(advected[1], 0))
    assert float((left - right).norm() / right.norm()) < 1e-5
    assert float((left + right).norm() / right.norm()) > 1.0


@pytest.mark.parametrize(
    ("name", "field"),
    [("velocity", VELOCITY), ("stream_function", VORTICITY), ("pressure", SCALAR), ("q_criterion", SCALAR),
     ("strain_rate", SCALAR)],
)  # fmt: skip
def test_diagnostics_turn_as_their_type_says(name, field):
    grid = Grid.square(16)
    function = getattr(diagnostics, name)
    vorticity = FLOWS[2]["decaying"](viscosity=1e-3, wavenumber=2.0, bandwidth=0.5).starts(grid, [0])
    for g in D4:
        turned, made = function(act(VORTICITY, vorticity, g), grid), function(vorticity, grid)
        torch.testing.assert_close(turned, act(field, made, g), rtol=0, atol=1e-12)
        if g.determinant < 0:
            wrong = FieldSpec("wrong", field.order, -field.parity)
            assert float((turned - act(wrong, made, g)).norm() / made.norm()) > 1.0
