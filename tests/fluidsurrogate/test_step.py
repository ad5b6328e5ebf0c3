"""What a surrogate's change may hold: projections against transforms by numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fluidsurrogate.scaling import Scaling
from fluidsurrogate.step import Bound, Projection, Step, _directions
from fluidsurrogate.step import divergence_free as divergence_free_by
from solvers import D4, TEMPERATURE, TRACER, VELOCITY, VORTICITY, FieldSpec, Grid, StateSpec, act_on_fields, velocity


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def divergence_free(velocity, grid):
    return divergence_free_by(velocity, _directions(grid))


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
    project = Projection(Grid(n), (VORTICITY,), band).double()
    np.testing.assert_allclose(project(change), expected, atol=1e-13)
    torch.testing.assert_close(project(project(change)), project(change))


def test_plates_keep_the_parity_of_each_field():
    """Odd and even about y = 0 and half the height, which lie between cells."""
    fields = (FieldSpec("odd", 0, -1, wall=-1), FieldSpec("even", 0, 1, wall=1), TRACER, replace(VELOCITY, wall=1))
    change = Projection(Grid((16, 8), (2.0, 1.0)), fields, (7, 3)).double()(noise(2, 5, 16, 8))
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
    made = Projection(Grid.square(8), fields, (4, 4)).double()(change)
    assert divergence(made[:, :2].numpy()) < 1e-12
    assert divergence(made[:, 3:].numpy()) < 1e-12
    torch.testing.assert_close(made[:, 2:3], change[:, 2:3] - change[:, 2:3].mean())


# -- the bound of an unforced flow


FLOW_STATES = [((VORTICITY,), 0), ((TRACER, VORTICITY), 1), ((VELOCITY, TRACER), 0)]


def sizes_by_numpy(state, fields, grid):
    """Energy and enstrophy about the mean, by a full transform."""
    k2 = sum(np.square(2 * np.pi * np.fft.fftfreq(n, side / n)).reshape(s) for n, side, s in
             zip(grid.n, grid.length, ((-1, 1), (1, -1)), strict=True))  # fmt: skip
    power = np.square(np.abs(np.fft.fft2(state.numpy()))).sum(1) / np.prod(grid.n) ** 2
    power[:, 0, 0] = 0
    k2[0, 0] = 1
    energy, enstrophy = (power / k2, power) if VORTICITY in fields else (power, power * k2)
    return 0.5 * np.stack([energy.sum((1, 2)), enstrophy.sum((1, 2))], axis=1)


@pytest.mark.parametrize(("fields", "at"), FLOW_STATES)
def test_bound_takes_what_is_too_much_and_no_more(fields, at):
    grid = Grid((16, 24), (2.0, 3.0))
    spec = StateSpec(grid, fields, 1.0)
    flow = slice(at, at + fields[at].components)
    before, after = noise(3, spec.components, *grid.n) + 0.3, noise(3, spec.components, *grid.n, seed=1) + 0.3
    after[0, flow] = 2 * after[0, flow]
    after[1, flow] = 0.5 * after[1, flow]  # one that is well within
    after[2, flow] = 3 * before[2, flow]
    bounded = Bound(spec, 0.9)(after, before)
    old, new, given = (sizes_by_numpy(s[:, flow], fields, grid) for s in (before, bounded, after))
    assert (given > 0.9 * old).any(axis=1).tolist() == [True, False, True]  # the control: what was given is too much
    assert (new <= 0.9 * old * (1 + 1e-12)).all()
    np.testing.assert_allclose((new / old)[[0, 2]].max(axis=1), 0.9, rtol=1e-12)  # and not less than is allowed
    assert torch.equal(bounded[1], after[1]) or float((bounded[1] - after[1]).abs().max()) < 1e-15
    torch.testing.assert_close(bounded.mean((-2, -1)), after.mean((-2, -1)))
    others = [i for i in range(spec.components) if not flow.start <= i < flow.stop]
    assert torch.equal(bounded[:, others], after[:, others])


def test_bound_turns_with_the_state():
    spec = StateSpec(Grid.square(16), (VELOCITY, TRACER), 1.0)
    bound, before, after = Bound(spec, 0.9), noise(2, 3, 16, 16), noise(2, 3, 16, 16, seed=1)
    for g in D4:
        moved = bound(*(act_on_fields(spec.fields, s, g) for s in (after, before)))
        torch.testing.assert_close(moved, act_on_fields(spec.fields, bound(after, before), g), rtol=0, atol=1e-13)


def test_no_step_gains_energy_in_a_forecast_and_training_sees_what_would():
    """A network that says "twice the state": stopped by the bound, not where it is trained."""
    spec = StateSpec(Grid.square(16), (VORTICITY,), 1.0)
    step = Step(spec, Scaling((0.0,), (1.0,), (1.0,), (8, 8), decay=0.95)).double()
    state = noise(2, 1, 16, 16)
    state = state - state.mean((-2, -1), keepdim=True)
    torch.testing.assert_close(step(lambda z: z, state, None).square().mean(), 0.95 * state.square().mean())
    torch.testing.assert_close(step.train()(lambda z: z, state, None), 2 * state)
