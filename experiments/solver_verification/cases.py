"""The flows that accuracy is measured on: each kind in `experiments/flows`, smooth enough for 64 cells."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from solvers import FLOWS, Flow, Grid, Tracer

TURN = 2 * math.pi


@dataclass(frozen=True)
class Case:
    """A flow in a box: `length` (y, x) and `shape`, the cells along (y, x) for one of n; a time in which it changes."""

    flow: Flow
    length: tuple[float, float]
    time: float
    spin_up: float
    shape: tuple[float, float] = (1, 1)

    def grid(self, n: int) -> Grid:
        """With n cells along y, or as many as its shape says."""
        return Grid((round(n * self.shape[0]), round(n * self.shape[1])), self.length)

    def spun_up(self, grid: Grid, seed: int = 1) -> torch.Tensor:
        """A state of the flow after its start is forgotten, float64."""
        with torch.no_grad():
            return self.flow.solver(grid, interval=self.spin_up, dtype=torch.float64)(self.flow.starts(grid, [seed]))


def cases() -> dict[str, Case]:
    """All of them, by name."""
    tracer = Tracer(diffusivity=2e-2, mean_gradient=(0.0, 1.0))
    kolmogorov = {"viscosity": 2e-2, "drag": 0.1, "waves": 3, "amplitude": 1.0, "wavenumber": 3.0, "rms": 3.0}
    diagonal, cells = (
        {"pattern": p, "viscosity": v, "amplitude": 2.0} for p, v in (("diagonal", 5e-4), ("cells", 2e-3))
    )
    convection = {"viscosity": 1e-2, "diffusivity": 1e-2, "tilt": 0.3, "stratification": 0.2, "radius": 0.13}
    return {
        "decaying": Case(FLOWS[2]["decaying"](viscosity=2e-2, rms=3.0), (TURN, TURN), 0.5, 1.0),
        "kolmogorov, rectangle": Case(FLOWS[2]["kolmogorov"](**kolmogorov), (TURN, 1.5 * TURN), 0.5, 2.0, (1, 1.5)),
        "forced, diagonal": Case(FLOWS[2]["forced"](**diagonal), (1.0, 1.0), 1.0, 6.0),
        "forced, cells": Case(FLOWS[2]["forced"](**cells), (1.0, 1.0), 1.0, 4.0),
        "tracer, mean gradient": Case(FLOWS[2]["kolmogorov"](**kolmogorov, tracer=tracer), (TURN, TURN), 0.5, 2.0),
        "shear": Case(FLOWS[2]["shear"](reynolds=1e3, waves=1, width=0.1), (1.0, 1.0), 0.5, 1.0),
        "convection": Case(FLOWS[2]["convection"](**convection), (TURN, TURN), 1.0, 4.0),
        "rayleigh_benard": Case(
            FLOWS[2]["rayleigh_benard"](rayleigh=1e5, wavenumber=2.0, noise=0.3), (2.0, 2.0), 0.5, 3.0
        ),
        "stirred": Case(
            FLOWS[2]["stirred"](viscosity=1e-2, drag=0.1, wavenumber=3.0, rate=0.5, renewal=0.1, rms=3.0),
            (TURN, TURN), 0.5, 2.0,
        ),
    }  # fmt: skip
