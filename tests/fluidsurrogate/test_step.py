"""What a surrogate's change may hold: projections against transforms by numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fluidsurrogate.models.step import ChangeProjection, VelocityOfVorticity, _unit_wavevectors, remove_divergence
from solvers import D4, TEMPERATURE, TRACER, VELOCITY, VORTICITY, FieldSpec, Grid, StateSpec, act_on_fields, velocity


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def divergence_free(velocity, grid):
    return remove_divergence(velocity, _unit_wavevectors(grid))


def divergence(u):
    ky, kx = (np.fft.fftfreq(n, 1 / n) for n in u.shape[-2:])
    ky[len(ky) // 2] = kx[len(kx) // 2] = 0  # the Nyquist mode has no odd derivative
    ux, uy = np.fft.fft2(u[:, 0]), np.fft.fft2(u[:, 1])
    return np.abs(kx * ux + ky[:, None] * uy).max()


def test_divergence_free():
    """Nothing of an incompressible flow is lost, everything of a gradient is, and no divergence is left of noise."""
    grid = Grid.square(16)
    flow = velocity(noise(2, 1, 16, 16), grid)
    torch.testing.assert_close(divergence_free(flow, grid), flow, rtol=0, atol=1e-13)
    y, x = (c.numpy() for c in grid.coordinates())
    gradient = np.stack(np.broadcast_arrays(2 * np.cos(2 * x) * np.sin(y)[:, None], np.sin(2 * x) * np.cos(y)[:, None]))
    assert divergence_free(torch.from_numpy(gradient.copy())[None], grid).abs().max() < 1e-14
    whole = noise(2, 2, 16, 16)
    free = divergence_free(whole, grid)
    assert divergence(free.numpy()) < 1e-11 < 1e-2 < divergence(whole.numpy())
    torch.testing.assert_close(free.mean((-2, -1)), whole.mean((-2, -1)))


def test_divergence_free_on_a_rectangle():
    grid = Grid((12, 16), (1.0, 3.0))
    flow = velocity(noise(1, 1, 12, 16), grid)
    torch.testing.assert_close(divergence_free(flow, grid), flow, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("n", "band"), [((16, 16), (5, 5)), ((12, 20), (3, 7)), ((16, 16), (8, 8))])
def test_the_band_is_kept_and_nothing_else(n, band):
    change = noise(2, 1, *n)
    my, mx = (np.abs(np.fft.fftfreq(m, 1 / m)) for m in n)
    keep = (my[:, None] <= band[0]) & (mx <= band[1])
    keep[0, 0] = False
    expected = np.fft.ifft2(keep * np.fft.fft2(change.numpy())).real
    project = ChangeProjection(Grid(n), (VORTICITY,), band).double()
    np.testing.assert_allclose(project(change), expected, atol=1e-13)
    torch.testing.assert_close(project(project(change)), project(change))


def test_plates_keep_the_parity_of_each_field():
    """Odd and even about y = 0 and half the height, which lie between cells."""
    fields = (FieldSpec("odd", 0, -1, wall=-1), FieldSpec("even", 0, 1, wall=1), TRACER, replace(VELOCITY, wall=1))
    change = ChangeProjection(Grid((16, 8), (2.0, 1.0)), fields, (7, 3)).double()(noise(2, 5, 16, 8))
    about_the_lower, about_the_upper = change.flip(-2), change.roll(8, -2).flip(-2).roll(-8, -2)
    for mirrored in (about_the_lower, about_the_upper):
        torch.testing.assert_close(mirrored[:, 0], -change[:, 0])
        torch.testing.assert_close(mirrored[:, 1], change[:, 1])
        assert (mirrored[:, 2] - change[:, 2]).abs().max() > 1e-2
        torch.testing.assert_close(mirrored[:, 3], change[:, 3])  # along the plates
        torch.testing.assert_close(mirrored[:, 4], -change[:, 4])  # across them


def test_each_field_is_projected_by_its_own_type():
    fields = (VELOCITY, TEMPERATURE, VELOCITY)
    change = noise(1, 5, 8, 8)
    made = ChangeProjection(Grid.square(8), fields, (4, 4)).double()(change)
    assert divergence(made[:, :2].numpy()) < 1e-12
    assert divergence(made[:, 3:].numpy()) < 1e-12
    torch.testing.assert_close(made[:, 2:3], change[:, 2:3] - change[:, 2:3].mean())


def test_the_velocity_of_the_vorticity():
    """A shear whose velocity is known, beside a tracer, on a rectangle; the solver's own for noise."""
    grid = Grid((12, 16), (1.0, 3.0))
    spec = StateSpec(grid, (TRACER, VORTICITY), 0.1)
    _, x = grid.coordinates()
    k = 2 * np.pi / 3.0
    state = torch.stack([x.expand(12, 16), torch.cos(k * x).expand(12, 16)])[None]  # ω = cos kx has v = sin kx / k
    u = VelocityOfVorticity(spec, scale=0.5).double()(state)
    assert u[:, 0].abs().max() < 1e-14
    torch.testing.assert_close(u[0, 1], (torch.sin(k * x) / k / 0.5).expand(12, 16), rtol=0, atol=1e-14)
    state = noise(3, 2, 12, 16)
    torch.testing.assert_close(VelocityOfVorticity(spec, 1.0).double()(state), velocity(state[:, 1:], grid))


def test_the_velocity_turns_with_the_vorticity():
    of_vorticity = VelocityOfVorticity(StateSpec(Grid.square(16), (VORTICITY,), 0.1), 1.0).double()
    state = noise(2, 1, 16, 16)
    u = of_vorticity(state)
    for g in D4:
        turned = of_vorticity(act_on_fields((VORTICITY,), state, g))
        assert (turned - act_on_fields((VELOCITY,), u, g)).norm() < 1e-12 * u.norm()
        if g.determinant < 0:  # a vorticity that is taken for a plain scalar has the velocity of its mirror image
            turned = of_vorticity(act_on_fields((replace(VORTICITY, parity=1),), state, g))
            assert (turned - act_on_fields((VELOCITY,), u, g)).norm() > u.norm()
