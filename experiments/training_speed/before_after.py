"""Training steps a second before and after a change of the code, in turn on the same core.

    python experiments/training_speed/before_after.py COMMIT [--device cpu] [--rounds 9]    # writes before_after.md

Before is the commit, checked out into a temporary folder; after is this working tree. Each has a process of its own
with the same data and the same networks. The two take turns: a case is trained for some steps in one, then in the
other, with one thread. The table gives steps a second by the least time of each, and the median over rounds of the
ratio within a round.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESIDUAL = "width = 32, lifting_size = 5, dilations = [1, 2, 4, 2, 1], activation = 'gelu'"
CASES = {
    "gunet over D4": ("kind = 'gunet', group = 'D4'",),
    "gcnn over D4": (f"kind = 'gcnn', group = 'D4', {RESIDUAL}",),
    "cnn": (f"kind = 'cnn', {RESIDUAL}",),
    "gunet, loss h1": ("kind = 'gunet', group = 'D4'", "train.loss=h1"),
    "gunet, moving average, noise": ("kind = 'gunet', group = 'D4'", "train.average=0.999", "train.noise=0.1"),
    "gunet, bfloat16": ("kind = 'gunet', group = 'D4'", "train.precision=bfloat16"),
    "gunet, three networks": ("kind = 'gunet', group = 'D4', networks = 3",),
    "gcnn, 8 channels, batch 4": (f"kind = 'gcnn', group = 'D4', {RESIDUAL.replace('32', '8')}", "train.batch=4"),
}
MINIATURE = ("data.train=2", "data.valid=1", "data.test=1", "data.steps=6", "train.batch=2")

# Runs in either tree, so that it uses nothing that is new.
WORKER = """
import logging, sys, time
import torch
import fluidsurrogate as fs
from fluidsurrogate.config.flow_and_model_configs import ModelConfig
from fluidsurrogate.core.devices import reproducible_kernels
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.windows import InMemoryTrajectories
toml, data, *fixed = sys.argv[1:]
torch.set_num_threads(1)
logging.disable(logging.WARNING)
trainers = {}
velocity = "velocity = false, " if "velocity" in ModelConfig.model_fields else ""  # the same network in both trees
def trainer_of(key):
    if key not in trainers:
        network, *overrides = key.split("|")
        experiment = fs.Experiment.read(toml, [f"models={{g = {{{velocity}{network}}}}}", *fixed, *overrides])
        with fs.open_data(data) as dataset:
            read = InMemoryTrajectories.from_dataset
            train, valid = (read(dataset, split, experiment) for split in ("train", "valid"))
        trainers[key] = prepare_training(experiment, "g", train, valid, {})
    return trainers[key]
for line in sys.stdin:
    key, steps = line.rstrip().split("\\t")
    trainer = trainer_of(key)
    with reproducible_kernels(trainer.device):
        began = time.perf_counter()
        for _ in range(int(steps)):
            trainer._train_step(trainer.batches[trainer.step])
            trainer.step += 1
        if trainer.device.type == "cuda":
            torch.cuda.synchronize()
    print(time.perf_counter() - began, flush=True)
"""


class Tree:
    """A process that trains with the code of one folder."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        command = [sys.executable, "-c", WORKER, *arguments]
        environment = os.environ | {"PYTHONPATH": str(folder)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
        )

    def seconds_per_step(self, key: str, steps: int) -> float:
        """Train for some steps."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{key}\t{steps}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline()) / steps

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def checked_out(commit: str, folder: Path) -> str:
    """Put the files of a commit into a folder, and return its short name."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    said = subprocess.run(["git", "rev-parse", "--short", commit], cwd=ROOT, capture_output=True, text=True, check=True)
    return said.stdout.strip()


def main() -> None:
    """Measure, print, and write before_after.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", help="the commit to compare with")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=8, help="of each in a round")
    parser.add_argument("--quick", action="store_true", help="a miniature, nothing written")
    arguments = parser.parse_args()
    toml, sizes = str(HERE.parent / "demo.toml"), MINIATURE if arguments.quick else ("data.train=8", "data.test=1")
    fixed = [f"device={arguments.device}", "train.steps=100000", *sizes]
    with tempfile.TemporaryDirectory() as temporary:
        folder, data = Path(temporary) / "before", Path(temporary) / "data"
        name = checked_out(arguments.before, folder)
        make = "import sys, fluidsurrogate as fs; _, a, b, *c = sys.argv; fs.generate(fs.Experiment.read(a, c), b)"
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", make, toml, str(data), *fixed]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        trees = [Tree(place, [toml, str(data / "data.zarr"), *fixed]) for place in (folder, ROOT)]
        rows = []
        for case, parts in list(CASES.items())[: 2 if arguments.quick else None]:
            times: list[list[float]] = [[], []]
            for tree in trees:
                tree.seconds_per_step("|".join(parts), 3)  # the first steps take longer
            for _ in range(arguments.rounds):
                for tree, found in zip(trees, times, strict=True):
                    found.append(tree.seconds_per_step("|".join(parts), arguments.steps))
            ratio = statistics.median(a / b for a, b in zip(*times, strict=True))
            rows.append(f"| {case} | {1 / min(times[0]):.1f} | {1 / min(times[1]):.1f} | {ratio:.2f} |")
            print(rows[-1], flush=True)
        for tree in trees:
            tree.close()
    where = f"one of {os.cpu_count()} cores"
    if arguments.device == "cuda":
        import torch

        where = torch.cuda.get_device_name()
    text = "\n".join([
        "# Training steps a second, before and after", "",
        f"`python experiments/training_speed/before_after.py {name}`, {date.today()}, {where}, float32. What is "
        "measured, and how: `before_after.py`.", "",
        "| training | before | after | times as fast |", "|---|---|---|---|", *rows, "",
    ])  # fmt: skip
    if not arguments.quick:
        name = "before_after.md" if arguments.device == "cpu" else "before_after-cuda.md"
        (HERE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
