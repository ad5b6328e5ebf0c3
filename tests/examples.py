"""Every flow with the good values that it carries, and its solver built from those values a second time."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from solvers import FLOWS, Flow, Grid, NavierStokes2D, StochasticForcing


@dataclass(frozen=True)
class Example:
    """A flow, and a square box with as many cells as its starts need."""

    flow: Flow
    side: float
    n: int
    is_band_limited: bool

    def grid(self, n=None):
        return Grid.square(n or self.n, self.side)

    def rescaled_solver(
        self, grid, *, s=1.0, viscosity_too=True, stochastic=True, mean_velocity=(0.0, 0.0), **options
    ):  # fmt: skip
        """A reference from the flow's terms, not by the flow: all rates times s, lengths and scalar as they are."""
        flow = self.flow
        forcing, scalar, noise = flow.forcing(grid), flow.scalar, flow.stochastic_forcing(grid) if stochastic else None
        if scalar is not None:
            gravity = None if scalar.gravity is None else tuple(s**2 * g for g in scalar.gravity)
            scalar = replace(scalar, diffusivity=s * scalar.diffusivity, gravity=gravity)
        if noise is not None:
            noise = StochasticForcing(s**1.5 * noise.amplitude, noise.renewal / s)
        mean = [s * (a + b) for a, b in zip(flow.mean_velocity, mean_velocity, strict=True)]
        return NavierStokes2D(
            grid,
            viscosity=flow.viscosity * (s if viscosity_too else 1.0),
            drag=s * flow.drag,
            forcing=None if forcing is None else s**2 * forcing,
            scalar=scalar,
            mean_velocity=tuple(mean) if any(mean) else None,
            stochastic_forcing=noise,
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
    ", ".join(filter(None, (kind, example.label))): Example(
        cls(**example.parameters), example.side, example.n, example.is_band_limited
    )
    for kind, cls in FLOWS[2].items()
    for example in cls.examples
}
DETERMINISTIC = [
    name for name, example in EXAMPLES.items() if example.flow.stochastic_forcing(example.grid()) is None
]  # fmt: skip
