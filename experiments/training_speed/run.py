"""What a training step costs beside the network: waiting for data, members of an ensemble, precision.

    python experiments/training_speed/run.py [--device cpu]     # results.md or results-cuda.md; some quiet minutes

- Data: the demo's group U-Net trained from a Zarr folder by processes that read ahead; the share of the time that the
  steps wait for a batch, after the first ten, in which the readers start.
- Members: a training step of k members as one model against k steps of one network, in turn; the batch whole and in
  parts, as `train.accumulate` divides it.
- Precision: a step with `precision = "bfloat16"` against one in full precision, in turn. On a GPU also with the kernels
  that torch chooses by itself, which give other bits every time and round convolutions to TF32; and compiled.
- On a GPU, larger batches on 64 x 64 cells.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from unittest import mock

import torch

import fluidsurrogate as fs
from fluidsurrogate.core.devices import reproducible_kernels
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import write_text
from fluidsurrogate.models import surrogate
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.trainer import Trainer
from fluidsurrogate.training.windows import InMemoryTrajectories, StoredTrajectories

HERE = Path(__file__).parent
MEMBERS, REPEATS = 4, 7


def experiment_of(*overrides: str) -> fs.Experiment:
    """The demo with its group U-Net alone."""
    network = "{kind = 'gunet', group = 'D4'}"
    fixed = [f"models={{g = {network}}}", "data.train=64", "data.test=1"]
    return fs.Experiment.read(HERE.parent / "demo.toml", [*fixed, *overrides])


def trainer_of(data, *overrides: str) -> Trainer:
    """Of that network."""
    experiment = experiment_of(*overrides)
    source = StoredTrajectories if experiment.train.loaders else InMemoryTrajectories
    train = source.from_dataset(data, "train", experiment)
    return prepare_training(experiment, "g", train, InMemoryTrajectories.from_dataset(data, "valid", experiment), {})


def synchronise() -> None:
    """Wait for a GPU, if one was used."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def waiting(data, loaders: int, on: str, steps: int = 60) -> tuple[float, float]:
    """The share of the time that steps wait for data, and milliseconds a step."""
    trainer = trainer_of(data, on, f"train.loaders={loaders}")
    batches = trainer.batches.from_step(0, steps, loaders)
    with reproducible_kernels(trainer.device):
        for trainer.step in range(10):
            trainer._train_step(next(batches))
        synchronise()
        waited, began = 0.0, time.perf_counter()
        for trainer.step in range(10, steps):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            trainer._train_step(batch)
        synchronise()
    took = time.perf_counter() - began
    return waited / took, 1e3 * took / (steps - 10)


def in_turn(repeats: int = REPEATS, **functions: Callable[[], object]) -> dict[str, float]:
    """Median milliseconds of each."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(repeats):
        for name, function in functions.items():
            synchronise()
            began = time.perf_counter()
            function()
            synchronise()
            times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(each) for name, each in times.items()}


def step_of(trainer: Trainer) -> Callable[[], object]:
    """One training step on its first batch, with the kernels that training uses."""
    batch = trainer.batches[0]
    trainer.step = 1  # after the first, at which the loss is read from the device

    def step() -> None:
        with reproducible_kernels(trainer.device):
            trainer._train_step(batch)

    return step


def step_by_default(trainer: Trainer) -> Callable[[], object]:
    """One training step on its first batch, with the kernels that torch chooses by itself."""
    batch = trainer.batches[0]
    trainer.step = 1

    def step() -> None:
        with mock.patch.object(surrogate, "single_precision_convolutions", nullcontext):
            trainer._train_step(batch)

    return step


def larger_batches(folder: str, on: str) -> list[str]:
    """A table of milliseconds a step and windows a second."""
    cells = ("grid.store=64", "compare.solvers=[]", on)
    data = fs.generate(experiment_of(*cells), folder)
    lines = [
        "",
        "| 64 x 64 cells, batch | ms a step | in bfloat16 | windows a second | in bfloat16 |",
        "|---|---|---|---|---|",
    ]
    for batch in (16, 64, 256):
        size = f"train.batch={batch}"
        full, half = (
            step_of(trainer_of(data, *cells, size, f"train.precision={name}")) for name in ("full", "bfloat16")
        )
        found = in_turn(full=full, half=half)
        a, b = found["full"], found["half"]
        lines.append(f"| {batch} | {a:.1f} | {b:.1f} | {1e3 * batch / a:.0f} | {1e3 * batch / b:.0f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    device = parser.parse_args().device
    on = f"device={device}"
    where = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} cores, one thread each"
    torch.set_num_threads(1)
    logging.getLogger("fluidsurrogate").setLevel(logging.ERROR)
    lines = [
        "# What a training step costs beside the network", "",
        f"`python experiments/training_speed/run.py`, {date.today()}, {where}; the demo's `gunet` over D4.", "",
        "| data | waits for data | ms a step |", "|---|---|---|",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        data = fs.generate(experiment_of(on), folder)
        for loaders in (0, 1, 2):
            share, took = waiting(data, loaders, on)
            label = f"read ahead by {loaders}" if loaders else "in memory"
            lines.append(f"| {label} | {100 * share:.1f} % | {took:.1f} |")
        lines += ["", f"| batch in parts of | {MEMBERS} members as one, ms | {MEMBERS} steps of one, ms | ratio |",
                  "|---|---|---|---|"]  # fmt: skip
        for part in (16, 4, 2):
            accumulate = f"train.accumulate={16 // part}"
            together = step_of(trainer_of(data, on, f"models.g.networks={MEMBERS}", accumulate))
            alone = step_of(trainer_of(data, on, accumulate))
            found = in_turn(together=together, alone=lambda: [alone() for _ in range(MEMBERS)])  # noqa: B023
            a, b = found["together"], found["alone"]
            lines.append(f"| {part} | {a:.0f} | {b:.0f} | {a / b:.2f} |")
        precisions = {"full": step_of(trainer_of(data, on)),
                      "half": step_of(trainer_of(data, on, "train.precision=bfloat16"))}  # fmt: skip
        if device == "cuda":
            precisions["full, kernels of torch's choice"] = step_by_default(trainer_of(data, on))
        found = in_turn(**precisions)
        if device == "cuda":
            try:
                found |= in_turn(**{"full, compiled": step_of(trainer_of(data, on, "train.compile=true"))})
            except UsageError as error:
                print(error)
    lines += ["", "| precision | ms a step |", "|---|---|", *(f"| {k} | {v:.1f} |" for k, v in found.items())]
    if device == "cuda":
        with tempfile.TemporaryDirectory() as folder:
            lines += larger_batches(folder, on)
    lines.append("")
    write_text(HERE / ("results.md" if device == "cpu" else "results-cuda.md"), "\n".join(lines))


if __name__ == "__main__":
    main()
