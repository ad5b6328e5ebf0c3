"""Gradients of a rollout against finite differences, and the memory that they take by PyTorch operations.

python experiments/solver_verification/gradients.py EVERY [BACKEND]   # peak memory of a backward pass, 0: none
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

import numpy as np
import torch
from record import Row, below

from solvers import FLOWS, Grid, NavierStokes2D

INTERVALS = 20
FLOW = FLOWS[2]["kolmogorov"](viscosity=1e-2, drag=0.1, waves=2, amplitude=1.0, wavenumber=3.0, rms=2.0)


def rolled_out(
    grid: Grid,
    every: int | None,
    dt: float,
    interval: float,
    given: dict[str, torch.Tensor],
    backend: str = "auto",
) -> torch.Tensor:
    """The state after 20 intervals."""
    solver = NavierStokes2D(
        grid, viscosity=FLOW.viscosity, drag=FLOW.drag, forcing=FLOW.forcing(grid), varying=("viscosity",),
        interval=interval, dt=dt, checkpoint_every=every, backend=backend, dtype=torch.float64,
    )  # fmt: skip
    carry = solver.start(given["start"], {name: given[name] for name in ("viscosity", "forcing")})
    for _ in range(INTERVALS):
        carry = solver.advance(carry)
    return solver.state(carry)


def inputs(grid: Grid) -> dict[str, torch.Tensor]:
    """What is differentiated with respect to."""
    own = FLOW.inputs(grid)
    return {"start": FLOW.starts(grid, [1]), "viscosity": own["viscosity"], "forcing": own["forcing"]}


def accuracy() -> list[Row]:
    """Directional derivatives of Σ w·ω(1) against central differences of fourth order, over 20 intervals."""
    grid, made = Grid.square(32), []
    given = inputs(grid)
    generator = np.random.default_rng(0)
    weight = torch.from_numpy(generator.standard_normal((1, 1, *grid.n)))
    directions = {
        "start": FLOW.starts(grid, [9]), "viscosity": torch.ones_like(given["viscosity"]),
        "forcing": FLOW.starts(grid, [8]),
    }  # fmt: skip
    steps = {"start": 2e-3, "viscosity": 2e-5, "forcing": 2e-3}

    def loss(changed: dict[str, torch.Tensor], every: int | None = None) -> torch.Tensor:
        return (weight * rolled_out(grid, every, 0.0125, 0.05, given | changed)).sum()

    for name, direction in directions.items():
        x = given[name].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss({name: x}), x)
        slope, h = float((gradient * direction).sum()), steps[name]
        with torch.no_grad():
            f = [float(loss({name: given[name] + step * h * direction})) for step in (-2, -1, 1, 2)]
        error = abs((8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h) / slope - 1)
        made.append(below(f"with respect to the {name}", "finite differences, 4th order", 1e-6, error))
        if name == "viscosity":
            (again,) = torch.autograd.grad(loss({name: x}, every=2), x)
            made.append(
                below("with checkpoints, against without", "itself", 1e-12, float((again / gradient - 1).abs()))
            )
    return made


def memory_of(every: int, backend: str = "torch") -> tuple[float, float]:
    """Peak MiB that one backward pass through 20 intervals of 32 steps adds, and its seconds."""
    torch.set_num_threads(1)

    def backward(grid: Grid, every: int | None) -> None:
        given = inputs(grid)
        given["start"].requires_grad_()
        rolled_out(grid, every, 0.05 / 32, 0.05, given, backend).square().sum().backward()

    backward(Grid.square(16), 4)  # what torch needs for itself
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    backward(Grid.square(128), every or None)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, time.perf_counter() - began


def memory() -> list[Row]:
    """Each in a process of its own. glibc's malloc does not give back the arrays that checkpoints free between the
    nodes of the graph unless each is mapped by itself: with its defaults less is saved, which is shown too."""
    made: list[Row] = []
    plain = 0.0
    for every, mapped in ((0, True), (1, True), (4, True), (16, True), (0, False), (16, False)):
        environment = os.environ | ({"MALLOC_MMAP_THRESHOLD_": "65536"} if mapped else {})
        said = subprocess.run(
            [sys.executable, __file__, str(every)], env=environment, capture_output=True, text=True, check=True
        ).stdout
        mebibytes, seconds = map(float, said.split())
        plain = plain if every else mebibytes
        name = f"peak memory, 640 steps at 128², checkpoint_every = {every or 'none'}"
        target, good = ("≤ 1/5 of without", mebibytes <= plain / 5) if every and mapped else ("", None)
        reference = "ru_maxrss, arrays mapped one by one" if mapped else "ru_maxrss, malloc as it is"
        made.append(Row(name, reference, target, f"{mebibytes:.0f} MiB, {seconds:.0f} s", good))
    return made


def rows() -> list[Row]:
    """All of these."""
    return accuracy() + memory()


if __name__ == "__main__":
    print(*memory_of(int(sys.argv[1]), *sys.argv[2:]))
