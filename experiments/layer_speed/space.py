"""What equivariance costs in space: networks of 48 channels against the plain 3D CNN of equal activations.

    python experiments/layer_speed/space.py [--quick]      # writes results_3d.md

Training: milliseconds of a step of AdamW on the mean square error, float32, one core, batch 8 on 16³ cells. Inference:
of one application with the kernels expanded once. Kernels: of expanding all kernels and of the gradient through it. Two
plain CNNs are written here, of `torch.nn.Conv3d` and GELU alone: `same layers` has ours, kernel by kernel, and the head
too; `1³ head` has one residual block more in place of a head of 3³. All networks are timed in turn, in one process.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
from importlib.metadata import version
from pathlib import Path

import torch
from run import applier, count, interleaved, ratio, table, trainer
from torch import Tensor, nn
from torch.nn import functional as F

from fluidsurrogate.nn import ARCHITECTURES
from fluidsurrogate.nn.layers import EquivariantConv, periodic_conv
from solvers import VELOCITY, field_in

WIDTH, N, BATCH = 48, 16, 8


class PlainCNN3d(nn.Module):
    """A residual network of ordinary convolutions, padded like ours."""

    def __init__(self, dilations: tuple[int, ...], head_size: int) -> None:
        super().__init__()
        self.dilations = (1, *dilations, 1)
        sizes = (5, *(3 for _ in dilations), head_size)
        channels = (3, *(WIDTH for _ in self.dilations[1:]), 3)
        self.layers = nn.ModuleList(nn.Conv3d(*channels[i : i + 2], side) for i, side in enumerate(sizes))

    def forward(self, x: Tensor) -> Tensor:
        lift, *blocks, head = (
            lambda h, layer=layer, dilation=dilation: periodic_conv(h, (layer.weight, layer.bias), dilation)
            for layer, dilation in zip(self.layers, self.dilations, strict=True)
        )
        h = F.gelu(lift(x))
        for block in blocks:
            h = h + F.gelu(block(h))
        return head(h)


def expander(network: nn.Module):
    """Expand all kernels and go back through them."""
    layers = [layer for layer in network.modules() if isinstance(layer, EquivariantConv)]
    cotangents = [torch.randn_like(layer.expand_kernel()[0]) for layer in layers]

    def expand() -> None:
        total = sum((layer.expand_kernel()[0] * c).sum() for layer, c in zip(layers, cotangents, strict=True))
        total.backward()

    return expand


def irreps_rows(rounds: int) -> list[list[str]]:
    """Rows of `steerable3d` over both groups."""
    rows = []
    field = field_in(VELOCITY, 3)
    for group in ("O3", "SO3"):
        torch.manual_seed(0)
        ours = ARCHITECTURES["steerable3d"]((field,), (field,), group=group, width=WIDTH)
        dilations = tuple(block.conv.dilation for block in ours.blocks)
        plains = {"same layers": PlainCNN3d(dilations, 3), "1³ head": PlainCNN3d((*dilations, 1), 1)}
        rows.append(measure(f"steerable3d, {group}", ours, plains, rounds))
    return rows


def measure(name: str, ours: nn.Module, plains: dict[str, nn.Module], rounds: int) -> list[str]:
    """One row."""
    x, y = (torch.randn(BATCH, 3, N, N, N) for _ in range(2))
    steps = {key: trainer(network, x, y) for key, network in plains.items()}
    training = interleaved({"ours": trainer(ours, x, y), "kernels": expander(ours), **steps}, rounds)
    plain = {key: applier(network, x) for key, network in plains.items()}
    inference = interleaved({"ours": applier(ours.to_plain(), x), **plain}, rounds)
    cells = [name, *(f"{count(network):,}" for network in (ours, *plains.values()))]
    for times in (training, inference):
        cells += [f"{statistics.median(times['ours']):.0f}", *(ratio(times, "ours", key) for key in plains)]
    return [*cells, f"{100 * statistics.median(training['kernels']) / statistics.median(training['ours']):.1f} %"]


def main() -> None:
    """Measure, print, and write results_3d.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="two rounds, nothing written")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 2 if arguments.quick else arguments.rounds
    rows = irreps_rows(rounds)
    head = ["network", "parameters", "same layers", "1³ head", "training, ours [ms]", "ours / same layers",
            "ours / 1³ head", "inference, ours [ms]", "ours / same layers", "ours / 1³ head",
            "kernels' share of a step"]  # fmt: skip
    text = (
        f"# What equivariance costs in space\n\n{datetime.date.today()}, 1 core of an {platform.machine()}, torch "
        f"{version('torch')}, e3nn {version('e3nn')}; float32, {BATCH} fields of {N}³ cells, {WIDTH} channels. What is "
        f"measured, and how: `space.py`. Ratios are medians over {rounds} rounds of the ratio within a round.\n\n"
        f"{table(head, rows)}\n"
    )
    print(text)
    if not arguments.quick:
        Path(__file__).with_name("results_3d.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
