"""Against a solver that we did not write: Exponax 0.2.0 (Koehler et al. 2024, arXiv:2411.00180), float64."""

import numpy as np
import pytest
import torch
from flows_3d import random_field

from solvers import FLOWS, Grid, NavierStokes2D, NavierStokes3D

ex = pytest.importorskip("exponax", reason="pip install fluidsurrogate[peers]")
import jax  # noqa: E402

jax.config.update("jax_enable_x64", True)


N, STEPS = 128, 400  # cells on a side, steps in a time unit
GRID = Grid.square(N)


def difference(ours, theirs):
    """Relative, on |k| < n/3."""
    k = np.abs(np.fft.fftfreq(N, 1 / N))
    inside = (k[:, None] < N / 3) & (k[None, :] < N / 3)
    a, b = (np.fft.fft2(np.asarray(f)) * inside for f in (ours, theirs))
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def integrate(stepper, state):
    repeated = jax.jit(lambda s: jax.lax.fori_loop(0, STEPS, lambda _, u: stepper(u), s))
    return np.asarray(repeated(jax.numpy.asarray(state)))


def start():
    # so weak that it is resolved: Exponax keeps one mode fewer on each axis than the two-thirds rule allows
    return FLOWS[2]["decaying"](viscosity=1e-2, wavenumber=3.0, bandwidth=0.5, rms=1.0).starts(GRID, [0])


def test_decaying_flow_agrees():
    """Its first axis is x and its velocity has the opposite sign: for an unforced flow the two cancel."""
    state = start()
    peer = ex.stepper.NavierStokesVorticity(2, GRID.length[0], N, 1 / STEPS, diffusivity=1e-2, order=4)
    theirs = integrate(peer, state[0].numpy())[0]
    ours = NavierStokes2D(GRID, viscosity=1e-2, interval=1.0, dt=1 / STEPS, dtype=torch.float64)(state)[0, 0]
    assert difference(ours, theirs) < 1e-8
    assert difference(state[0, 0], theirs) > 0.1
    wrong = NavierStokes2D(GRID, viscosity=1.01e-2, interval=1.0, dt=1 / STEPS, dtype=torch.float64)(state)[0, 0]
    assert difference(wrong, theirs) > 1e-4


def test_kolmogorov_flow_agrees():
    """Fed our (y, x), its second axis is our x: the stripes stand across it. Its samples sit at the nodes j Δx, so that
    as an array its forcing is −γ k cos(k j Δx)."""
    state, nodes = start(), torch.arange(N, dtype=torch.float64) * GRID.spacing[1]
    peer = ex.stepper.KolmogorovFlowVorticity(
        2, GRID.length[0], N, 1 / STEPS, diffusivity=1e-2, drag=-0.1, injection_mode=4, injection_scale=0.5, order=4
    )
    theirs = integrate(peer, state[0].numpy())[0]
    options = {"viscosity": 1e-2, "drag": 0.1, "interval": 1.0, "dt": 1 / STEPS, "dtype": torch.float64}
    forced, shifted = (
        NavierStokes2D(GRID, forcing=(-0.5 * 4 * torch.cos(4 * x)).expand(N, N), **options)(state)[0, 0]
        for x in (nodes, nodes + GRID.spacing[1] / 2)
    )
    assert difference(forced, theirs) < 1e-8
    assert difference(shifted, theirs) > 1e-2  # the control: half a cell off


def test_decaying_flow_in_space_agrees():
    """In velocity form. Its axes are (x, y, z), ours (z, y, x); components have the same order."""
    n, steps = 24, 50
    grid = Grid.cube(n)
    state = 0.5 * random_field(grid, reach=2)
    peer = ex.stepper.NavierStokesVelocity(3, grid.length[0], n, 0.5 / steps, diffusivity=0.2, order=4)
    repeated = jax.jit(lambda s: jax.lax.fori_loop(0, steps, lambda _, u: peer(u), s))
    theirs = np.asarray(repeated(jax.numpy.asarray(state[0].numpy().transpose(0, 3, 2, 1)))).transpose(0, 3, 2, 1)

    def ours(viscosity):
        options = {"interval": 0.5, "dt": 0.5 / steps, "dtype": torch.float64}
        return NavierStokes3D(grid, viscosity=viscosity, **options)(state)[0].numpy()

    def apart(a, b):
        return np.linalg.norm(a - b) / np.linalg.norm(b)

    assert apart(ours(0.2), theirs) < 1e-8
    assert apart(ours(0.202), theirs) > 1e-4
    assert apart(state[0].numpy() * np.exp(-0.2 * 3 * 0.5), theirs) > 1e-2
