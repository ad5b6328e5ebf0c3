"""Gradients through an interval of the solver in C++ and by PyTorch operations, and training steps of a hybrid.

    python experiments/solver_speed/gradients.py [--rounds 20] [--quick]     # writes gradients.md

The first table is of one stored interval of eight inner steps, in float32 on one thread. Its unit is the time of the
native steps without gradients: what a forward pass with gradients wanted takes, and the backward pass, by PyTorch
operations (before) and in C++ (after). The second table is of training steps a second of a hybrid whose network
corrects a coarse solver on 48² cells (experiments/hybrid/hybrid.toml), with gradients through the intervals between the
first and the last. All times are the least of many rounds in which all that is compared has its turn.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from run import start, table

import fluidsurrogate as fs
from fluidsurrogate.core.devices import reproducible_kernels
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.windows import InMemoryTrajectories
from solvers import Grid, NavierStokes2D
from solvers.backends import NativeAdjoint

STEPS, DT, VISCOSITY = 8, 1e-3, 1e-3
HYBRID = Path(__file__).parents[1] / "hybrid" / "hybrid.toml"
SMALL_DATA = ["grid.n=64", "flow.spin_up=2", "data.train=2", "data.valid=1", "data.test=1", "data.steps=8"]
NETWORKS = {"gunet over D4": "kind = 'gunet', group = 'D4'", "cnn": "kind = 'cnn'"}
HEADER = ["n", "batch", "order", "gradients for", "native forward, ms", "torch: forward, ×", "backward, ×",
          "native: forward, ×", "backward, ×"]  # fmt: skip
HYBRID_HEADER = ["network", "intervals", "by torch operations", "native", "times as fast"]


def least(runs: dict[str, Callable[[], list[float]]], rounds: int) -> dict[str, list[float]]:
    """Return the least seconds of each part of each run, taken in turn after one warm-up."""
    seen: dict[str, list[list[float]]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            seconds = run()
            if number:
                seen[name].append(seconds)
    return {name: [min(part) for part in zip(*each, strict=True)] for name, each in seen.items()}


def plain(solver: NavierStokes2D, state: torch.Tensor) -> list[float]:
    """Return the seconds of an interval without gradients."""
    carry = solver.start(state)
    with torch.no_grad():
        began = time.perf_counter()
        solver.advance(carry)
        return [time.perf_counter() - began]


def differentiated(solver: NavierStokes2D, state: torch.Tensor, names: list[str]) -> list[float]:
    """Return the seconds of the forward and of the backward pass over an interval."""
    known = {"forcing": torch.zeros_like(state), "viscosity": torch.full((len(state), 1, 1, 1), VISCOSITY)}
    given = {name: known[name].requires_grad_() for name in names}
    state = state.clone().requires_grad_()
    carry = solver.start(state, given)
    wanted = [
        carry.spectrum,
        *(t for t in (carry.terms.forcing, carry.terms.linear) if t is not None and t.requires_grad),
    ]
    began = time.perf_counter()
    after = solver.advance(carry).spectrum
    between = time.perf_counter()
    torch.autograd.grad(after, wanted, after.detach())
    return [between - began, time.perf_counter() - between]


def interval_row(n: int, batch: int, order: int, names: list[str], rounds: int) -> list[str]:
    """Return one row of the first table."""
    state = start(n, batch).float()
    options = {"viscosity": VISCOSITY, "interval": STEPS * DT, "dt": DT, "order": order}
    if "viscosity" in names:
        options["varying"] = ["viscosity"]
    solvers = {k: NavierStokes2D(Grid.square(n), forcing=torch.zeros(n, n), backend=k, **options)
               for k in ("native", "torch")}  # fmt: skip
    runs = {name: partial(differentiated, solver, state, names) for name, solver in solvers.items()}
    seconds = least({"plain": partial(plain, solvers["native"], state), **runs}, rounds)
    (unit,) = seconds["plain"]
    ratios = [f"{part / unit:.2f}" for name in ("torch", "native") for part in seconds[name]]
    return [f"{n}", f"{batch}", f"ETDRK{order}", ", ".join(["state", *names]), f"{1e3 * unit:.2f}", *ratios]


def training(network: str, unroll: int) -> Callable[[], list[float]]:
    """Return a function that takes one training step and returns its seconds, the same from call to call."""
    solver = "solver = {dt = 0.015625, order = 2}"
    overrides = [f"models={{h = {{{network}, {solver}}}}}", f"train.unroll=[{unroll}]", *SMALL_DATA]
    experiment = fs.Experiment.read(HYBRID, overrides)
    data = fs.generate(experiment).load()
    read = InMemoryTrajectories.from_dataset
    trainer = prepare_training(experiment, "h", *(read(data, split, experiment) for split in ("train", "valid")), {})

    def step() -> list[float]:
        with reproducible_kernels(trainer.device):
            batch = trainer.batches[trainer.step]
            began = time.perf_counter()
            trainer._train_step(batch)
            trainer.step += 1
            return [time.perf_counter() - began]

    return step


def hybrid_row(name: str, unroll: int, rounds: int) -> list[str]:
    """Return one row of the second table."""
    runs = {"torch": training(NETWORKS[name], unroll), "native": training(NETWORKS[name], unroll)}
    with patch.object(NativeAdjoint, "why_unavailable", return_value="to compare"):
        runs["torch"]()  # this solver has made its choice
    runs["native"]()
    (before,), (after,) = least(runs, rounds).values()
    return [name, f"{unroll}", f"{1 / before:.1f}", f"{1 / after:.1f}", f"{before / after:.2f}"]


def main() -> None:
    """Measure, print, and write gradients.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="one small case of each, nothing written")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    quick, rounds = arguments.quick, 2 if arguments.quick else arguments.rounds
    wanted = ([], ["forcing"], ["forcing", "viscosity"])
    cases = [(n, batch, order) for n in (64, 128) for batch in (1, 16) for order in (2, 4)]
    rows = [interval_row(*case, names, rounds) for case in (cases[:1] if quick else cases) for names in wanted]
    first = table(HEADER, rows)
    print(first, flush=True)
    pairs = [("cnn", 2)] if quick else [(name, unroll) for name in NETWORKS for unroll in (2, 4)]
    second = table(HYBRID_HEADER, [hybrid_row(*pair, max(2, rounds // 2)) for pair in pairs])
    print(second)
    if not quick:
        text = (
            f"# Gradients through the solver\n\n`python experiments/solver_speed/gradients.py`, {date.today()}, one of "
            f"{os.cpu_count()} cores, float32. What is measured, and how: `gradients.py`.\n\n"
            f"## One interval of {STEPS} steps\n\n"
            f"× is in units of the native forward pass without gradients.\n\n{first}\n\n"
            f"## Training steps a second of a hybrid\n\n{second}\n"
        )
        Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
