"""Every flow with numbers that a small grid resolves, and its solver built from those numbers a second time."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from solvers import FLOWS, Flow, Grid, NavierStokes2D, StochasticForcing, Tracer


@dataclass(frozen=True)
class Example:
    """A flow, the side of a square box that it lives in, and the cells that its starts need."""

    kind: str
    options: dict
    side: float = 2 * math.pi
    n: int = 32

    @property
    def flow(self) -> Flow:
        return FLOWS[self.kind](**self.options)

    def grid(self, n=None):
        return Grid.square(n or self.n, self.side)

    def solver(self, grid, *, flow=None, s=1.0, viscosity_too=True, stirred=True, mean_velocity=None, **options):
        """From the flow's numbers, not by the flow: all rates times s, lengths and the scalar as they are."""
        flow = flow or self.flow
        forcing, scalar, stirring = flow.forcing(grid), flow.scalar, None
        if scalar is not None:
            gravity = None if scalar.gravity is None else tuple(s**2 * g for g in scalar.gravity)
            scalar = replace(scalar, diffusivity=s * scalar.diffusivity, gravity=gravity)
        if stirred and (own := flow.stochastic_forcing(grid)) is not None:
            stirring = StochasticForcing(s**1.5 * own.amplitude, own.renewal / s)
        mean = [s * (a + b) for a, b in zip(flow.mean_velocity, mean_velocity or (0.0, 0.0), strict=True)]
        return NavierStokes2D(
            grid,
            viscosity=flow.viscosity * (s if viscosity_too else 1.0),
            drag=s * flow.drag,
            forcing=None if forcing is None else s**2 * forcing,
            scalar=scalar,
            mean_velocity=tuple(mean) if any(mean) else None,
            stochastic_forcing=stirring,
            plates=flow.plates,
            dtype=torch.float64,
            **options,
        )

    def anything(self, grid, seed=0, rms=1.0, reach=4.0):
        """A smooth state without any symmetry but that of the plates: (1, component, y, x), each with this RMS."""
        spec = self.flow.solver(grid, interval=1.0).spec
        y, x = ((2 * math.pi * c / side).numpy() for c, side in zip(grid.coordinates(), grid.length, strict=True))
        rng, fields = np.random.default_rng(seed), []
        for field in spec.fields:
            values = np.zeros(grid.n)
            for my in range(-4, 5):
                for mx in range(5):
                    amplitude, phase = rng.standard_normal(), rng.uniform(0, 2 * math.pi)
                    if 0 < math.hypot(my, mx) <= reach:
                        values += amplitude * np.cos(my * y[:, None] + mx * x[None, :] + phase)
            values = values - values[::-1] if field.wall else values
            fields.append(rms * values / np.sqrt((values**2).mean()))
        return torch.from_numpy(np.stack(fields)[None])


EXAMPLES = {
    "decaying": Example("decaying", {"viscosity": 1e-2}),
    "decaying, carried along": Example("decaying", {"viscosity": 1e-2, "mean_velocity": (0.7, 0.0)}),
    "decaying with a tracer": Example(
        "decaying", {"viscosity": 1e-2, "tracer": Tracer(diffusivity=5e-3, mean_gradient=(0.0, 1.5))}
    ),
    "kolmogorov": Example("kolmogorov", {"viscosity": 1e-2}),
    "forced, diagonal": Example("forced", {"viscosity": 1e-3, "amplitude": 1.0}, side=1.0),
    "forced, cells": Example("forced", {"viscosity": 1e-3, "amplitude": 1.0, "pattern": "cells"}, side=1.0),
    "stirred": Example("stirred", {"viscosity": 1e-2}),
    "shear": Example("shear", {"reynolds": 200.0, "schmidt": 0.5, "width": 0.4, "nudge": 0.2}),
    "convection": Example("convection", {"viscosity": 1e-2, "diffusivity": 5e-3}, n=40),
    "convection, tilted": Example(
        "convection",
        {"viscosity": 1e-2, "diffusivity": 5e-3, "gravity": 1.5, "tilt": math.pi / 4, "stratification": 0.8},
        n=40,
    ),
    "rayleigh_benard": Example("rayleigh_benard", {"rayleigh": 1e4, "prandtl": 0.5}, side=2.0),
}  # fmt: skip
DETERMINISTIC = [name for name, example in EXAMPLES.items() if example.kind != "stirred"]
