"""How long do gated blocks take in C++ and in PyTorch, and how far is that from what a core can do?

    python experiments/layer_speed/gated.py     # gated.md: a minute, on one core

A block is x + v · gate(g), (v, g) a 3 × 3 group convolution over D4 of x: one layer of `gcnn`. Milliseconds: the
least of so many rounds, both ways in turn. The convolution alone is PyTorch's (oneDNN), with its periodic padding done
before. Training: the block and its gradients for x and the kernel. Peak: `solver_speed/peak.cpp`.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import torch
from torch import Tensor

from fluidsurrogate.core.files import write_text
from fluidsurrogate.nn import GroupConv
from fluidsurrogate.nn.folding import fold_kernels
from fluidsurrogate.nn.layers import conv_and_activation, gated_conv
from fluidsurrogate.nn.layers.periodic_padding import circular_pad
from solvers import D4

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "solver_speed"))
from machine import peak  # noqa: E402

CASES = [(1, 8, 32), (16, 8, 32), (1, 16, 32), (16, 16, 32), (4, 16, 128), (16, 32, 32)]  # batch, width, n
HEAD = ["batch", "width", "n", "forecast, C++ [ms]", "PyTorch", "ratio", "convolution alone", "C++, share of peak",
        "training, C++ [ms]", "PyTorch", "ratio"]  # fmt: skip


@contextmanager
def by_pytorch():
    """Without the C++."""
    found, gated_conv.compiled_library = gated_conv.compiled_library, lambda _: "left out, to compare"
    try:
        yield
    finally:
        gated_conv.compiled_library = found


def seconds(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least time of each, in turn."""
    least = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            least[name] = min(least[name], time.perf_counter() - began)
    return least


def measure(batch: int, width: int, n: int, rounds: int, most: float) -> list[str]:
    """One row."""
    layer = GroupConv(D4, width // 8, 2 * width // 8)
    x = torch.randn(batch, n, n, width).permute(0, 3, 1, 2).unflatten(1, (-1, 8))
    with torch.no_grad():
        folded = fold_kernels(layer)
    weight, padded = folded.folded_kernel[0], circular_pad(x.flatten(1, 2), 1)

    def block(conv: GroupConv, given: Tensor) -> Tensor:
        return conv_and_activation(conv, given, "gated", adds=True)

    def forecast() -> None:
        with torch.no_grad():
            block(folded, x)

    def training() -> None:
        given = x.detach().requires_grad_()
        block(layer, given).sum().backward()

    def slow(call: Callable[[], None]) -> Callable[[], None]:
        def without() -> None:
            with by_pytorch():
                call()

        return without

    def alone() -> Tensor:
        with torch.no_grad():
            return torch.nn.functional.conv2d(padded, weight)

    took = seconds({"fast": forecast, "slow": slow(forecast), "alone": alone}, rounds)
    trained = seconds({"fast": training, "slow": slow(training)}, rounds)
    operations = 2 * batch * n**2 * weight.numel()
    return [
        str(batch), str(width), str(n), f"{1e3 * took['fast']:.2f}", f"{1e3 * took['slow']:.2f}",
        f"{took['fast'] / took['slow']:.2f}", f"{1e3 * took['alone']:.2f}",
        f"{operations / took['fast'] / most:.2f}" if most else "", f"{1e3 * trained['fast']:.2f}",
        f"{1e3 * trained['slow']:.2f}", f"{trained['fast'] / trained['slow']:.2f}",
    ]  # fmt: skip


def main() -> None:
    """Measure, print, and write gated.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    most = peak()
    rows = [HEAD, ["---"] * len(HEAD), *(measure(*case, arguments.rounds, most) for case in CASES)]
    about = (
        f"{date.today()}, one core of an {platform.machine()}, torch {torch.__version__}, float32; at most "
        f"{most / 1e9:.0f} Gflop/s. What is measured, and how: `gated.py`."
    )
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    write_text(HERE / "gated.md", f"# Gated blocks in C++\n\n{about}\n\n{text}\n")
    print(text)


if __name__ == "__main__":
    main()
