"""The velocity form steps the same flow."""

import numpy as np
import pytest
import torch

from solvers import FLOWS, TRACER, VELOCITY, Grid, NavierStokes2D, Tracer, VelocityForm, act_on_fields, point_group
from solvers.diagnostics import velocity, vorticity
from solvers.velocity_form import with_velocity


def flow(**options):
    return FLOWS[2]["decaying"](viscosity=1e-2, wavenumber=4, rms=1.0, **options)


def test_vorticity_is_the_curl():
    y, x = Grid.square(16).coordinates()
    u = torch.stack(torch.broadcast_tensors(torch.sin(3 * y)[:, None] * torch.cos(x), torch.sin(2 * x)[None, :]))
    expected = 2 * torch.cos(2 * x)[None, :] - 3 * torch.cos(3 * y)[:, None] * torch.cos(x)
    torch.testing.assert_close(vorticity(u[None], Grid.square(16))[0, 0], expected)


@pytest.mark.parametrize("tracer", [None, Tracer(diffusivity=1e-2)], ids=["alone", "with a tracer"])
def test_it_is_the_same_trajectory(tracer):
    grid, case = Grid.square(32), flow(tracer=tracer)
    solver = case.solver(grid, interval=0.2, dtype=torch.float64)
    form, start = VelocityForm(solver), case.starts(grid, [0, 1])
    assert form.spec.fields == (VELOCITY, TRACER)[: 2 if tracer else 1]
    after = form(with_velocity(start, grid))
    expected = solver(start)
    torch.testing.assert_close(after[:, :2], velocity(expected[:, :1], grid), rtol=0, atol=1e-12)
    torch.testing.assert_close(after[:, 2:], expected[:, 1:], rtol=0, atol=1e-12)
    assert (after - with_velocity(start, grid)).norm() > 1e-2 * after.norm()


def test_it_turns_as_a_vector():
    """As a pair of scalars it would not."""
    grid, case = Grid.square(32), flow()
    form = VelocityForm(case.solver(grid, interval=0.2, dtype=torch.float64))
    start = with_velocity(case.starts(grid, [0]), grid)
    after = form(start)
    for g in point_group(grid).elements[1:]:
        error = form(act_on_fields((VELOCITY,), start, g)) - act_on_fields((VELOCITY,), after, g)
        assert error.norm() / (after - start).norm() < 1e-10
    wrong = form(torch.rot90(start, -1, (-2, -1))) - torch.rot90(after, -1, (-2, -1))
    assert wrong.norm() / (after - start).norm() > 1e-2


def test_a_flow_without_vorticity_is_refused():
    form = VelocityForm(NavierStokes2D(Grid.square(8), viscosity=1.0, interval=1.0))
    with pytest.raises(ValueError, match="only a stepper of vorticity has a velocity form"):
        VelocityForm(form)


def test_velocity_of_plates_is_even_along_and_odd_across():
    case = FLOWS[2]["rayleigh_benard"](rayleigh=1e4)
    grid = Grid((32, 32), (2.0, 2.0))
    form = VelocityForm(case.solver(grid, interval=0.5, dtype=torch.float64))
    assert form.spec.fields[0].wall == 1
    inputs = {field.name: case.inputs(grid)[field.name] for field in form.spec.inputs}
    state = form(with_velocity(case.starts(grid, [0]), grid), inputs)
    u, v = state[0, 0].numpy(), state[0, 1].numpy()
    np.testing.assert_allclose(u[::-1], u, atol=1e-13)
    np.testing.assert_allclose(v[::-1], -v, atol=1e-13)
    assert abs(u).max() > 1e-4


def test_a_mean_velocity_is_not_lost_without_a_word():
    form = VelocityForm(NavierStokes2D(Grid.square(8), viscosity=1.0, interval=1e-2))
    y, _ = form.spec.grid.coordinates()
    shear = torch.stack([torch.sin(y)[:, None].expand(8, 8), torch.zeros(8, 8)])[None].float()
    assert form(shear).isfinite().all()
    with pytest.raises(ValueError, match=r"the velocity has a mean over the box, 0.5: subtract it, or give it as"):
        form(torch.cat([shear, shear + 0.5]))
    with pytest.raises(ValueError, match=r"mean over the box, 0.5:"):  # whatever the speed of its neighbour
        form(torch.cat([1e4 * shear, shear + 0.5]))
