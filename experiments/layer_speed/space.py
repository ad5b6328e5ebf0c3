"""What equivariance costs in space: networks of 48 channels against the plain 3D CNN of equal activations.

    python experiments/layer_speed/space.py [--quick]      # writes results_3d.md

Training: milliseconds of a step of AdamW on the mean square error, float32, one core, batch 8 on 16³ cells. Inference:
of one application with the kernels expanded once. Kernels: of expanding all kernels and of the gradient through it. The
plain CNN is written here, of `torch.nn.Conv3d` alone, with the same kernel sizes and dilations, GELU and a 1³ head. All
networks are timed in turn, in one process.
"""

from __future__ import annotations

import argparse
import datetime
import platform
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

    def __init__(self, dilations: tuple[int, ...], lifting_size: int = 5, size: int = 3) -> None:
        super().__init__()
        self.dilations = (1, *dilations, 1)
        sizes = (lifting_size, *(size for _ in dilations), 1)
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
        rows.append(measure(f"steerable3d, {group}", ours, PlainCNN3d(dilations), rounds))
    return rows


def measure(name: str, ours: nn.Module, plain: nn.Module, rounds: int) -> list[str]:
    """One row."""
    x, y = (torch.randn(BATCH, 3, N, N, N) for _ in range(2))
    steps = {"ours": trainer(ours, x, y), "kernels": expander(ours), "plain": trainer(plain, x, y)}
    training = interleaved(steps, rounds)
    inference = interleaved({"ours": applier(ours.to_plain(), x), "plain": applier(plain, x)}, rounds)
    share = 100 * float(ratio(training, "kernels", "ours", digits=4))
    return [
        name, f"{count(ours):,}", f"{count(plain):,}",
        *(f"{sorted(training[key])[rounds // 2]:.0f}" for key in ("ours", "plain")), ratio(training, "ours", "plain"),
        f"{share:.1f} %",
        *(f"{sorted(inference[key])[rounds // 2]:.0f}" for key in ("ours", "plain")), ratio(inference, "ours", "plain"),
    ]  # fmt: skip


def main() -> None:
    """Measure, print, and write results_3d.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="two rounds, nothing written")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 2 if arguments.quick else arguments.rounds
    rows = irreps_rows(rounds)
    head = ["network", "parameters", "plain", "training, ours [ms]", "plain [ms]", "ours / plain", "kernels' share",
            "inference, ours [ms]", "plain [ms]", "ours / plain"]  # fmt: skip
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
