"""A training step and a forecast step: eager, in bfloat16, with the channels last, compiled, as one CUDA graph.

    python experiments/training_speed/variants.py [--device cuda] [--out FILE] [--quick]     # variants-cuda.md

Training: milliseconds of a whole step of the package's trainer, on a batch that is on the device already: augmentation,
forecast, loss, gradients, their norm, AdamW. `graph` records forecast, loss, gradients, clipping and AdamW as one CUDA
graph, which the host starts with one call; it is measured here, and no option of the package. Inference: a step of a
forecast of the same batch, with the kernels expanded once. All variants of a network are measured in turn, the median
of several rounds; what is compiled comes last, because compiling takes minutes. The table is written anew after each
network.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from run import HERE, in_turn, step_by_default, step_of

import fluidsurrogate as fs
from fluidsurrogate.core.devices import reproducible_kernels
from fluidsurrogate.nn import clip_member_gradients
from fluidsurrogate.nn.layers import periodic_padding
from fluidsurrogate.nn.losses import LOSSES
from fluidsurrogate.training.curriculum import unroll
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.trainer import Trainer
from fluidsurrogate.training.windows import InMemoryTrajectories

NETWORKS = {
    "gunet over D4": "kind = 'gunet', group = 'D4'",
    "gcnn over D4": "kind = 'gcnn', group = 'D4'",
    "gcnn over D4, separable": "kind = 'gcnn', group = 'D4', separable = true",
    "cnn": "kind = 'cnn'",
    "gfno over D4": "kind = 'gfno', group = 'D4'",
}
COMPILED = "gunet over D4"  # the only one that is compiled too
HEADER = ["network", "variant", "ms a training step", "windows a second", "ms a forecast step"]


class Data:
    """Random windows of a size: the speed does not depend on what is in them."""

    def __init__(self, n: int, batch: int, device: str) -> None:
        sizes = [f"grid.n={n}", f"grid.store={n}", "data.train=2", "data.valid=1", "data.test=1", "data.steps=4",
                 "compare.solvers=[]"]  # fmt: skip
        self.fixed = [*sizes, f"train.batch={batch}", f"device={device}"]
        generator = torch.Generator().manual_seed(0)
        states = torch.randn(max(2, batch // 2), 5, 1, n, n, generator=generator)
        self.train, self.valid = (InMemoryTrajectories(states[part], {}) for part in (slice(None), slice(1)))

    def trainer(self, network: str, *overrides: str) -> Trainer:
        """Of a network."""
        fixed = [f"models={{g = {{{network}}}}}", *self.fixed, *overrides]
        return prepare_training(fs.Experiment.read(HERE.parent / "demo.toml", fixed), "g", self.train, self.valid, {})


def forecast_of(trainer: Trainer) -> Callable[[], object]:
    """One step of a forecast."""
    surrogate = trainer.training_view(trainer.surrogate)
    with torch.no_grad():
        carry = surrogate.start(trainer.batches[0][0][:, 0].to(trainer.device))

    def step() -> None:
        with torch.no_grad():
            surrogate.advance(carry)

    return step


def static_step(trainer: Trainer) -> Callable[[], object]:
    """The same training step on a fixed batch with nothing that depends on the host, so that it can be recorded."""
    device, weights = trainer.device, list(trainer.network.parameters())
    states, inputs = trainer.batches[0]
    states = states.to(device)
    rate = torch.tensor(1e-3, device=device) if device.type == "cuda" else 1e-3
    fused = True if all(weight.is_floating_point() for weight in weights) else None
    optimiser = torch.optim.AdamW(weights, lr=rate, fused=fused, capturable=device.type == "cuda")
    loss_of, schedule = LOSSES[trainer.options.loss], trainer.curriculum.schedule_at(0)
    view = trainer.training_view(trainer.surrogate)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        predicted, truth = unroll(view, states, states[:, 0], inputs, schedule)
        loss_of(predicted, truth, trainer.context).backward()
        clip_member_gradients(weights, trainer.options.clip, 1)
        optimiser.step()

    return step


def recorded(step: Callable[[], object]) -> Callable[[], object]:
    """Record a step as a CUDA graph (torch's notes on CUDA semantics, "Whole-network capture")."""
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


@contextmanager
def channels_last(device: str) -> Iterator[None]:
    """Pad into memory with the channels last on this device too."""
    with mock.patch.object(periodic_padding, "CHANNELS_LAST_DEVICES", {"cpu", device}):
        yield


def within(context: Callable, function: Callable[[], object], *arguments) -> Callable[[], object]:
    """Call a function in a context."""

    def call() -> None:
        with context(*arguments):
            function()

    return call


def variants(data: Data, network: str, device: str, compiled: bool) -> dict[str, Callable]:
    """What makes the training step of each variant, and the step of a forecast if it has one of its own."""
    half = "train.precision=bfloat16"
    trainer, in_half = (lambda *more: data.trainer(network, *more)), (lambda: data.trainer(network, half))

    def of(trainer: Trainer) -> tuple:
        return step_of(trainer), forecast_of(trainer)

    def static(trainer: Trainer, record: bool) -> tuple:
        with reproducible_kernels(trainer.device):
            step = static_step(trainer)
            return (recorded(step) if record else step), None

    def last(trainer: Trainer) -> tuple:
        return tuple(within(channels_last, function, device) for function in of(trainer))

    made: dict[str, Callable] = {"eager": lambda: of(trainer()), "bfloat16": lambda: of(in_half())}
    if device == "cuda":
        made["kernels of torch's choice"] = lambda: (step_by_default(trainer()), None)
        made["channels last"] = lambda: last(trainer())
        made["bfloat16, channels last"] = lambda: last(in_half())
        made["graph"] = lambda: static(trainer(), True)
        made["graph, bfloat16"] = lambda: static(in_half(), True)
    else:
        made["as it would be recorded"] = lambda: static(trainer(), False)
    if compiled:
        made["compiled"] = lambda: of(trainer("train.compile=true"))
        made["compiled, bfloat16"] = lambda: of(trainer("train.compile=true", half))
    return made


def measure(data: Data, name: str, made: dict[str, Callable], repeats: int) -> list[list[str]]:
    """One row for each variant; those that fail say why."""
    steps: dict[str, Callable] = {}
    failed, batch = [], len(data.trainer(NETWORKS[name]).batches.samples)
    for variant, make in made.items():
        try:
            train, forecast = make()
            train()
            steps[f"train {variant}"] = train
            if forecast is not None:
                forecast()
                steps[f"forecast {variant}"] = forecast
        except Exception as error:  # one variant that fails leaves the others their rows
            said = (str(error).splitlines() or [""])[0]
            failed.append([name, variant, f"{type(error).__name__}: {said[:80]}".replace("|", "/"), "-", "-"])
    found, rows = in_turn(repeats, **steps), []
    for variant in made:
        if f"train {variant}" in found:
            took, forecast = found[f"train {variant}"], found.get(f"forecast {variant}")
            said = "-" if forecast is None else f"{forecast:.2f}"
            rows.append([name, variant, f"{took:.2f}", f"{1e3 * batch / took:.0f}", said])
    return rows + failed


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--quick", action="store_true", help="one small network; written only with --out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("fluidsurrogate").setLevel(logging.ERROR)
    device, repeats = arguments.device, 2 if arguments.quick else 7
    n, batch = (32, 2) if arguments.quick else (64, 64) if device == "cuda" else (32, 16)
    machine = torch.cuda.get_device_name() if device == "cuda" else "one core of a CPU"
    out = arguments.out or HERE / ("variants.md" if device == "cpu" else "variants-cuda.md")
    head = (
        f"# Training and forecast steps\n\n{datetime.date.today()}, {machine}, Python {platform.python_version()}, "
        f"torch {torch.__version__}; {n} × {n} cells, batch {batch}. What is measured, and how: `variants.py`.\n\n"
    )
    data, rows = Data(n, batch, device), []
    order = [*NETWORKS.items()][: 1 if arguments.quick else None]
    passes = [(name, network, False) for name, network in order]
    if not arguments.quick:
        passes.append((COMPILED, NETWORKS[COMPILED], True))
    for name, network, compiled in passes:
        made = variants(data, network, device, compiled)
        if compiled:
            made = {variant: make for variant, make in made.items() if variant.startswith("compiled")}
        for row in measure(data, name, made, repeats):
            rows.append(row)
            print(*row, sep=" | ", flush=True)
        if device == "cuda":
            torch.cuda.empty_cache()
        if arguments.out or not arguments.quick:
            lines = ["| " + " | ".join(line) + " |" for line in [HEADER, ["---"] * len(HEADER), *rows]]
            out.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
