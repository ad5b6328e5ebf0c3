"""Training steps a second, eager and compiled by torch (`train.compile`), and what compiling costs first.

    python experiments/training_speed/compiled.py [--device cpu] [--quick]   # compiled.md or compiled-cuda.md

On 32 x 32 cells in batches of 16, as in the demo, with one thread. Compiling is the time by which the first training
step and the first step of a forecast, as validation makes it, take longer than later ones; kernels that an earlier
process compiled are not used. Then eager and compiled steps take turns. The last column says after how many training
steps the compiled network has gained what compiling cost. Some four minutes on a CPU.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from unittest import mock

import torch
from run import HERE, step_of, synchronise
from variants import NETWORKS, Data, forecast_of

from fluidsurrogate.training.trainer import Trainer

NAMES = ("cnn", "gcnn over D4", "gunet over D4")
HEADER = ("network", "eager, steps a second", "compiled", "times as fast", "compiling, s", "pays after")


def seconds(function: Callable[[], object]) -> float:
    """The time of one call."""
    synchronise()
    began = time.perf_counter()
    function()
    synchronise()
    return time.perf_counter() - began


def first_calls(trainer: Trainer) -> float:
    """The time by which first calls of the kinds that a training makes take longer than later ones."""
    step, forecast = step_of(trainer), forecast_of(trainer)
    first = seconds(step) + seconds(forecast)
    return first - seconds(step) - seconds(forecast)


def measure(name: str, device: str, quick: bool) -> list[str]:
    """The row of a network."""
    network = "kind = 'cnn', width = 4, dilations = [1]" if quick else NETWORKS[name]
    data = Data(32, 2 if quick else 16, device)
    trainers = data.trainer(network), data.trainer(network, "train.compile=true")
    _, compiling = map(first_calls, trainers)
    steps, times = [step_of(trainer) for trainer in trainers], ([], [])
    for _ in range(2 if quick else 15):
        for step, found in zip(steps, times, strict=True):
            found.append(seconds(step))
    eager, compiled = times
    ratio = statistics.median(a / b for a, b in zip(eager, compiled, strict=True))
    gain = min(eager) * (1 - 1 / ratio)  # s a step
    pays = f"{compiling / gain:,.0f} steps" if gain > 0 else "never"
    return [name, f"{1 / min(eager):.1f}", f"{1 / min(compiled):.1f}", f"{ratio:.2f}", f"{compiling:.0f}", pays]


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--quick", action="store_true", help="one small network; written only with --out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device, rows = arguments.device, []
    machine = torch.cuda.get_device_name() if device == "cuda" else f"one of {os.cpu_count()} cores"
    with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=cache):
        torch.compile(torch.sin)(torch.zeros(2, device=device))  # imports the compiler and starts its processes
        for name in NAMES[: 1 if arguments.quick else None]:
            rows.append(measure(name, device, arguments.quick))
            print(*rows[-1], sep=" | ", flush=True)
    text = "\n".join([
        "# Training steps a second, eager and compiled", "",
        f"`python experiments/training_speed/compiled.py`, {date.today()}, {machine}, Python "
        f"{platform.python_version()}, torch {torch.__version__}, float32; 32 × 32 cells, batches of 16. What is "
        "measured, and how: `compiled.py`.", "",
        *("| " + " | ".join(line) + " |" for line in (HEADER, ["---"] * len(HEADER), *rows)), "",
    ])  # fmt: skip
    if arguments.out or not arguments.quick:
        out = arguments.out or HERE / ("compiled.md" if device == "cpu" else "compiled-cuda.md")
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
