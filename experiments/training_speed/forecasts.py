"""Forecasts: the network in bfloat16 against full precision, and many members in batches against all at once.

    python experiments/training_speed/forecasts.py     # forecasts.md; some two minutes

On 32 x 32 cells, with one thread. Precision: a step of a forecast of 16 states, with oneDNN as this machine has it and
held to what older CPUs have (`ONEDNN_MAX_CPU_ISA`), each in a process of its own. Batches: `perturbed_forecast` of 256
starts with 8 members over two intervals. What is compared takes turns.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from functools import partial
from unittest import mock

import torch
from run import HERE, in_turn
from variants import NETWORKS, Data

from fluidsurrogate.core.files import write_text
from fluidsurrogate.data.conversion import to_dataset
from fluidsurrogate.models.forecasting import perturbed_forecast
from fluidsurrogate.models.perturbations import Perturbation
from fluidsurrogate.simulation import rollout
from solvers.spectra import shell_wavenumbers

BATCH, STARTS, MEMBERS, STEPS, ROUNDS = 16, 256, 8, 2, 3
INSTRUCTIONS = {"DEFAULT": "all", "AVX512_CORE_BF16": "AVX-512, bfloat16", "AVX512_CORE": "AVX-512", "AVX2": "AVX2"}


def step_times() -> dict[str, dict[str, float]]:
    """Milliseconds of a step of a forecast in both precisions, for each network."""
    data, found = Data(32, BATCH, "cpu"), {}
    for name, network in NETWORKS.items():
        model = data.trainer(network).surrogate
        views = {precision: model.in_precision(precision) for precision in ("full", "bfloat16")}
        with torch.no_grad():
            carries = {precision: view.start(torch.randn(BATCH, 1, 32, 32)) for precision, view in views.items()}
            found[name] = in_turn(**{p: partial(view.advance, carries[p]) for p, view in views.items()})
    return found


def step_times_with(instructions: str) -> dict[str, dict[str, float]]:
    """The same in a process whose convolutions use these instructions at most."""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions}
    command = [sys.executable, __file__, "--steps"]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout)


def member_times(network: str) -> tuple[float, float, float]:
    """Least seconds of an ensemble forecast, all at once and in batches, and the median ratio."""
    model = Data(32, BATCH, "cpu").trainer(network).surrogate
    spec, times = model.spec, ([], [])
    starts = to_dataset(spec, torch.randn(STARTS, 1, 1, 32, 32))
    shells = len(shell_wavenumbers(spec.grid.n, spec.grid.length))
    perturbation = Perturbation(((1e-3,) * shells,), 0.5)
    for _ in range(ROUNDS):
        for found, at_once in zip(times, (True, False), strict=True):
            choose = (lambda count, *_: count) if at_once else rollout.equal_batches
            with mock.patch.object(rollout, "equal_batches", choose):
                began = time.perf_counter()
                perturbed_forecast(model, starts, STEPS, MEMBERS, perturbation)
                found.append(time.perf_counter() - began)
    return min(times[0]), min(times[1]), statistics.median(a / b for a, b in zip(*times, strict=True))


def main() -> None:
    """Measure, print, and write the tables."""
    torch.set_num_threads(1)
    if "--steps" in sys.argv:
        print(json.dumps(step_times()))
        return
    steps = {words: step_times_with(name) for name, words in INSTRUCTIONS.items()}
    lines = [
        "# Forecasts in bfloat16 and in batches", "",
        f"`python experiments/training_speed/forecasts.py`, {date.today()}, one of {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, torch {torch.__version__}. What is measured, and how: `forecasts.py`.", "",
        f"Milliseconds of a step of {BATCH} states in full precision → in bfloat16, by what oneDNN may use of the CPU "
        "(all: as this machine is):", "",
        "| network | " + " | ".join(steps) + " |", "|---" * (len(steps) + 1) + "|",
    ]  # fmt: skip
    for name in NETWORKS:
        cells = [f"{found[name]['full']:.1f} → {found[name]['bfloat16']:.1f}" for found in steps.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", f"Seconds of a forecast of {STARTS} starts with {MEMBERS} members over {STEPS} intervals:", "",
              "| network | all at once | in batches | times as fast |", "|---|---|---|---|"]  # fmt: skip
    for name in ("gunet over D4", "gcnn over D4", "cnn"):
        before, after, ratio = member_times(NETWORKS[name])
        lines.append(f"| {name} | {before:.1f} | {after:.1f} | {ratio:.2f} |")
    write_text(HERE / "forecasts.md", "\n".join([*lines, ""]))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
