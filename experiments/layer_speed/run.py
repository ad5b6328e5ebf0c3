"""What equivariance costs: a group CNN against plain CNNs and escnn, interleaved in one process on the same cores.

    pip install -e ".[escnn]" && pip install --no-deps escnn==1.0.11
    python experiments/layer_speed/run.py [--device cpu] [--quick]      # writes results.md, or results-cuda.md

Training: milliseconds of a step of AdamW on the mean square error, float32. Inference: of one application with the
kernels expanded once. The network is the default `gcnn`: 5 × 5 lifting, five residual 3 × 3 convolutions with dilations
1, 2, 4, 2, 1, GELU, 1 × 1 head, mean over α; 32 activations a cell, that is 32, 8 and 4 channels for C1, C4 and D4. The
plain CNN is written here, of `torch.nn.Conv2d` alone: `equal activations` has 32 channels, `equal parameters` as many
as have the group CNN's parameters. escnn (Weiler & Cesa 2019): the same network of its `R2Conv` on regular
representations.
On a GPU all networks compute with the reproducible kernels, in single precision and not TF32, that training uses.
Memory: on a GPU the peak of a training step; on a CPU what the forward pass saves for the backward pass, every tensor
once.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fluidsurrogate.core.devices import reproducible_kernels
from fluidsurrogate.nn import ARCHITECTURES
from fluidsurrogate.nn.layers.escnn_import import import_escnn
from solvers import GROUPS, VORTICITY

WIDTH, DILATIONS = 32, (1, 2, 4, 2, 1)
LIKE_PLAIN = {"width": WIDTH, "dilations": DILATIONS, "lifting_size": 5, "activation": "gelu"}
CASES = ((32, 2), (32, 16), (64, 8), (128, 4))  # cells a side, batch
GPU_CASES = ((64, 16), (128, 16), (128, 64), (256, 16))
NAMES = ("C1", "C4", "D4")


class PlainCNN(nn.Module):
    """The same network without a group, of nothing but torch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lift = nn.Conv2d(1, width, 5, padding=2, padding_mode="circular")
        self.blocks = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=d, dilation=d, padding_mode="circular") for d in DILATIONS
        )
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.gelu(self.lift(x))
        for block in self.blocks:
            h = h + F.gelu(block(h))
        return self.head(h)


def escnn_network(name: str) -> nn.Module:
    """The same network of escnn's layers."""
    escnn = import_escnn()
    gspaces, enn = escnn.gspaces, escnn.nn
    space = gspaces.flipRot2dOnR2(4) if name == "D4" else gspaces.rot2dOnR2(4 if name == "C4" else 1)
    group = space.fibergroup
    pseudoscalar = space.irrep(1, 0) if name == "D4" else space.trivial_repr
    taken = enn.FieldType(space, [pseudoscalar])
    hidden = enn.FieldType(space, [space.regular_repr] * (WIDTH // group.order()))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            circular = {"padding_mode": "circular"}
            self.lift = enn.R2Conv(taken, hidden, 5, padding=2, **circular)
            self.blocks = nn.ModuleList(
                enn.R2Conv(hidden, hidden, 3, padding=d, dilation=d, **circular) for d in DILATIONS
            )
            self.head = enn.R2Conv(hidden, taken, 1)

        def gelu(self, h):
            return enn.GeometricTensor(F.gelu(h.tensor), h.type)

        def forward(self, x: Tensor) -> Tensor:
            h = self.gelu(self.lift(enn.GeometricTensor(x, taken)))
            for block in self.blocks:
                h = h + self.gelu(block(h))
            return self.head(h).tensor

    return Network()


def width_of(parameters: int) -> int:
    """Of the plain CNN with the nearest number of parameters."""
    return min(range(2, 65), key=lambda width: abs(count(PlainCNN(width)) - parameters))


def count(network: nn.Module) -> int:
    """Trained weights."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def trainer(network: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """One training step."""
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)

    def step() -> None:
        loss = (network(x) - y).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        synchronise(x)

    return step


def applier(network: nn.Module, x: Tensor) -> Callable[[], None]:
    """One application, kernels expanded before."""
    network.eval()

    def apply() -> None:
        with torch.no_grad():
            network(x)
        synchronise(x)

    return apply


def synchronise(x: Tensor) -> None:
    """Wait for a GPU."""
    if x.device.type == "cuda":
        torch.cuda.synchronize()


def interleaved(runs: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each, all taken in turn, after two rounds of warm-up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if number > 1:
                times[name].append(1e3 * (time.perf_counter() - began))
    return times


def ratio(times: dict[str, list[float]], name: str, reference: str, digits: int = 2) -> str:
    """The median over rounds of the ratio within a round."""
    return f"{statistics.median(a / b for a, b in zip(times[name], times[reference], strict=True)):.{digits}f}"


def memory(network: nn.Module, step: Callable[[], None], x: Tensor) -> float:
    """MiB: see the module's docstring."""
    if x.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() / 2**20
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    kept = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept.append(network(x))
    return sum(seen.values()) / 2**20


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def has_escnn() -> bool:
    """True where it can be imported."""
    try:
        import_escnn()
    except ValueError:
        return False
    return True


def measure(n: int, batch: int, name: str, device: str, peer: bool, rounds: int) -> list[str]:
    """One row."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(batch, 1, n, n, generator=generator).to(device) for _ in range(2))
    began = time.perf_counter()
    ours = ARCHITECTURES["gcnn"]((VORTICITY,), (VORTICITY,), group=name, **LIKE_PLAIN)
    built = time.perf_counter() - began
    networks: dict[str, nn.Module] = {"ours": ours, "plain": PlainCNN(WIDTH)}
    if len(GROUPS[2][name]) > 1:
        networks["small"] = PlainCNN(width_of(count(ours)))
        if peer:
            networks["escnn"] = escnn_network(name)
    networks = {key: network.to(device) for key, network in networks.items()}
    steps = {key: trainer(network, x, y) for key, network in networks.items()}
    training = interleaved(steps, rounds)
    held = {key: memory(network, steps[key], x) for key, network in networks.items()}
    folded = {key: network.to_plain() if key == "ours" else network for key, network in networks.items()}
    inference = interleaved({key: applier(network, x) for key, network in folded.items()}, rounds)

    def cell(times: dict[str, list[float]], key: str) -> str:
        return f"{statistics.median(times[key]):.{2 if device == 'cuda' else 1}f}" if key in times else "-"

    def over(times: dict[str, list[float]], key: str, reference: str) -> str:
        return ratio(times, key, reference) if key in times and reference in times else "-"

    return [
        name, f"{n}", f"{batch}", f"{count(ours):,}", f"{built:.2f}",
        cell(training, "ours"), cell(training, "plain"), cell(training, "small"), cell(training, "escnn"),
        over(training, "ours", "plain"), over(training, "escnn", "ours"),
        cell(inference, "ours"), over(inference, "ours", "plain"), over(inference, "escnn", "ours"),
        f"{held['ours']:.0f}", f"{held['plain']:.0f}", f"{held['escnn']:.0f}" if "escnn" in held else "-",
    ]  # fmt: skip


def main() -> None:
    """Measure, print, and write results.md, or results-cuda.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--quick", action="store_true", help="one small case; written only with --out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    peer, device = has_escnn(), arguments.device
    cases = CASES[:1] if arguments.quick else CASES if device == "cpu" else GPU_CASES
    with reproducible_kernels(torch.device(device)):  # as the package trains
        rows = [
            measure(n, batch, name, device, peer, 2 if arguments.quick else arguments.rounds)
            for n, batch in cases for name in NAMES
        ]  # fmt: skip
    head = ["group", "n", "batch", "parameters", "built [s]", "training, ours [ms]", "plain, equal activations",
            "plain, equal parameters", "escnn", "ours / plain", "escnn / ours", "inference, ours [ms]",
            "ours / plain", "escnn / ours", "memory, ours [MiB]", "plain", "escnn"]  # fmt: skip
    where = torch.cuda.get_device_name() if device == "cuda" else f"{arguments.threads} core of an {platform.machine()}"
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", *(["escnn"] if peer else [])))
    text = (
        f"# What equivariance costs\n\n{datetime.date.today()}, {where}, {packages}; float32. What is measured, and "
        f"how: `run.py`. Ratios are medians over {arguments.rounds} rounds of the ratio within a round.\n\n"
        f"{table(head, rows)}\n"
    )
    print(text)
    if arguments.out or not arguments.quick:
        path = Path(__file__).with_name("results.md" if device == "cpu" else "results-cuda.md")
        (arguments.out or path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
