"""Against a solver that others wrote: Exponax 0.2.0 (Koehler et al. 2024, arXiv:2411.00180), as in
`tests/solvers/test_peers.py`; also a tracer that a uniform velocity carries, by its `AdvectionDiffusion`.

Exponax has no carried or driving scalar in a flow that moves by itself: those are compared in `independent.py`.
"""

from __future__ import annotations

import numpy as np
import torch
from record import Row, below

from solvers import FLOWS, Grid, NavierStokes2D, TransportedScalar

N, STEPS = 128, 400
GRID = Grid.square(N)
REFERENCE = "Exponax 0.2.0, |k| < n/3"


def difference(ours: torch.Tensor, theirs: np.ndarray) -> float:
    """Relative, on |k| < n/3."""
    k = np.abs(np.fft.fftfreq(N, 1 / N))
    inside = (k[:, None] < N / 3) & (k[None, :] < N / 3)
    a, b = (np.fft.fft2(np.asarray(f)) * inside for f in (ours, theirs))
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def rows() -> list[Row]:
    """Relative differences at t = 1, ETDRK4 and ETDRK2 with equal steps of 1/400 on 128²."""
    import exponax as ex
    import jax

    jax.config.update("jax_enable_x64", True)

    def integrate(stepper, state: torch.Tensor) -> np.ndarray:
        repeated = jax.jit(lambda s: jax.lax.fori_loop(0, STEPS, lambda _, u: stepper(u), s))
        return np.asarray(repeated(jax.numpy.asarray(state.numpy())))[0]

    made, side = [], GRID.length[0]
    # so weak that it is resolved: Exponax keeps one mode fewer on each axis than the two-thirds rule allows
    start = FLOWS[2]["decaying"](viscosity=1e-2, wavenumber=3.0, bandwidth=0.5, rms=1.0).starts(GRID, [0])
    options = {"viscosity": 1e-2, "interval": 1.0, "dt": 1 / STEPS, "dtype": torch.float64}
    nodes = torch.arange(N, dtype=torch.float64) * GRID.spacing[1]  # its samples sit at the nodes, its second axis is x
    for order in (4, 2):
        theirs = integrate(
            ex.stepper.NavierStokesVorticity(2, side, N, 1 / STEPS, diffusivity=1e-2, order=order), start[0]
        )
        ours = NavierStokes2D(GRID, **options, order=order)(start)[0, 0]
        made.append(below(f"decaying, ETDRK{order}", REFERENCE, 1e-8, difference(ours, theirs)))
        peer = ex.stepper.KolmogorovFlowVorticity(
            2, side, N, 1 / STEPS, diffusivity=1e-2, drag=-0.1, injection_mode=4, injection_scale=0.5, order=order
        )
        theirs = integrate(peer, start[0])
        forced, shifted = (
            NavierStokes2D(
                GRID, **options, drag=0.1, order=order, forcing=(-0.5 * 4 * torch.cos(4 * x)).expand(N, N)
            )(start)[0, 0]
            for x in (nodes, nodes + GRID.spacing[1] / 2)
        )  # fmt: skip
        made.append(below(f"kolmogorov with drag, ETDRK{order}", REFERENCE, 1e-8, difference(forced, theirs)))
    control = difference(shifted, theirs)
    made.append(Row("control: forcing half a cell off", REFERENCE, "> 1e-02", f"{control:.1e}", control > 1e-2))
    velocity = (0.7, -0.4)
    peer = ex.stepper.AdvectionDiffusion(
        2, side, N, 1 / STEPS, velocity=jax.numpy.asarray([velocity[1], velocity[0]]), diffusivity=1e-2
    )
    carried = NavierStokes2D(GRID, **options, scalar=TransportedScalar(diffusivity=1e-2), mean_velocity=velocity)
    ours = carried(torch.cat([torch.zeros_like(start), start], dim=1))[0, 1]
    made.append(below("tracer in a uniform velocity", REFERENCE, 1e-8, difference(ours, integrate(peer, start[0]))))
    return made
