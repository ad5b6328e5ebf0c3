"""The classical solver against Exponax 0.2.0 and against bare FFTs, interleaved in one process on the same cores.

    python experiments/solver_speed/run.py [--device cpu] [--quick]  # writes results.md or results-cuda.md

Per step: microseconds of one inner step, float32, the median of several rounds. Floor: the two inverse and two forward
real transforms of each stage alone. Time to error: the wall-clock time in which a start reaches t = 1 with a relative
error of 1e-3 or 1e-5 (against a float64 run with 1,600 steps on the same grid), each solver with its own longest step
of 1/4, 1/6, 1/8, 1/12 … that does it. With `--device cuda` a third table: cell updates a second in float32 and
float64, and the share of the card's memory bandwidth, as a copy measures it, that the bare transforms' traffic alone
comes to: four transforms a stage, each reading and writing its field once along either axis. The flow is decaying and
resolved (rms 1, ν = 0.03), so that it does not matter that Exponax keeps one mode fewer on each axis.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import math
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

from solvers import FLOWS, Grid, NavierStokes2D

VISCOSITY, ERRORS = 0.03, (1e-3, 1e-5)
COUNTS = [m * 2**k for k in range(1, 9) for m in (2, 3)]
Run = Callable[[], object]


def start(n: int, batch: int) -> torch.Tensor:
    """Float64 starts of the flow."""
    return FLOWS[2]["decaying"](viscosity=VISCOSITY, wavenumber=3.0, bandwidth=0.5, rms=1.0).starts(
        Grid.square(n), range(batch)
    )


def ours(n: int, order: int, steps: int, state: torch.Tensor, device: str, kernel: str = "auto") -> Run:
    """Advance `state` by one time unit in `steps` steps; on a GPU small grids are replayed as a CUDA graph."""
    if device == "cuda" and n * n * len(state) <= 2**20:
        kernel = "graph"
    solver = NavierStokes2D(
        Grid.square(n), viscosity=VISCOSITY, interval=1.0, dt=1 / steps, order=order, backend=kernel,
        dtype=state.dtype, device=device,
    )  # fmt: skip
    carry = solver.start(state)

    def run() -> torch.Tensor:
        with torch.no_grad():
            vorticity = solver.state(solver.advance(carry))
        if device == "cuda":
            torch.cuda.synchronize()
        return vorticity

    return run


def theirs(n: int, order: int, steps: int, state: torch.Tensor) -> Run:
    """The same with Exponax: jit, vmap and its loop in the compiled program."""
    import exponax as ex
    import jax

    stepper = ex.stepper.NavierStokesVorticity(
        2, Grid.square(n).length[0], n, 1 / steps, diffusivity=VISCOSITY, order=order
    )
    one = lambda u: jax.lax.fori_loop(0, steps, lambda _, v: stepper(v), u)  # noqa: E731
    compiled = jax.jit(jax.vmap(one)) if len(state) > 1 else jax.jit(one)
    array = jax.numpy.asarray(state.numpy() if len(state) > 1 else state[0].numpy())
    return lambda: compiled(array).block_until_ready()


def floor(n: int, order: int, steps: int, state: torch.Tensor, device: str) -> Run:
    """The transforms of `steps` steps, nothing else."""
    fields = torch.cat([state, state], 1).to(device)
    spectra = torch.fft.rfft2(fields)

    def run() -> None:
        for _ in range(order * steps):
            torch.fft.irfft2(spectra, s=(n, n))
            torch.fft.rfft2(fields)
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def interleaved(runs: dict[str, Run], rounds: int) -> dict[str, float]:
    """Median seconds of each, taken in turn after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if number:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in times.items()}


def threads_for(n: int, batch: int) -> int:
    """Small problems are faster on one thread: what a user should set, and `data.threads` does by default."""
    return 1 if n * n * batch <= 2**15 else torch.get_num_threads()


def per_step(n: int, batch: int, order: int, device: str, peer: bool, rounds: int) -> list[str]:
    """One row of the first table."""
    different = min(batch, 16)
    state = start(n, different).float().repeat(batch // different, 1, 1, 1)
    steps = max(4, min(64, 2**22 // (n * n * batch)))
    runs = {"ours": ours(n, order, steps, state, device), "floor": floor(n, order, steps, state, device)}
    if peer:
        runs["exponax"] = theirs(n, order, steps, state)
    seconds = interleaved(runs, rounds)
    micro = {name: 1e6 * value / steps for name, value in seconds.items()}
    row = [f"{n}", f"{batch}", f"ETDRK{order}", f"{micro['ours']:.0f}", f"{micro['floor']:.0f}"]
    row += [f"{micro['ours'] / micro['floor']:.2f}"]
    return row + ([f"{micro['exponax']:.0f}", f"{micro['exponax'] / micro['ours']:.2f}"] if peer else [])


def bandwidth(device: str, rounds: int) -> float:
    """Bytes a second that a copy of 256 MiB reads and writes."""
    source = torch.zeros(2**26, device=device)
    target = torch.empty_like(source)

    def run() -> None:
        target.copy_(source)
        if device == "cuda":
            torch.cuda.synchronize()

    return 2 * source.nbytes / interleaved({"copy": run}, rounds)["copy"]


@functools.cache
def reference(n: int) -> torch.Tensor:
    """The first start at t = 1, in double precision and 1,600 steps."""
    return ours(n, 4, 1600, start(n, 1), "cpu")()


def to_error(n: int, batch: int, order: int, device: str, peer: bool, rounds: int) -> list[list[str]]:
    """Rows of the second table."""
    state, exact = start(n, batch), reference(n)
    makers = {"ours": lambda m: ours(n, order, m, state.float(), device)}
    if peer:
        makers["exponax"] = lambda m: theirs(n, order, m, state.float())
    counts: dict[tuple[str, float], int] = {}
    for name, make in makers.items():
        for steps in COUNTS:
            result = make(steps)()
            first = torch.tensor(result.cpu().numpy() if name == "ours" else result.__array__()).reshape(-1, n, n)[0]
            error = float((first.double() - exact[0, 0]).norm() / exact.norm())
            for bound in ERRORS:
                if error <= bound:
                    counts.setdefault((name, bound), steps)
            if error <= min(ERRORS):
                break
    rows = []
    for bound in ERRORS:
        row = [f"{n}", f"{batch}", f"ETDRK{order}", f"{bound:g}"]
        found = {name: counts[name, bound] for name in makers if (name, bound) in counts}
        seconds = interleaved({name: makers[name](steps) for name, steps in found.items()}, rounds)
        for name in makers:
            row += [f"{found[name]}", f"{1e3 * seconds[name]:.2f}"] if name in found else ["-", "-"]
        rows.append(row + [f"{seconds['exponax'] / seconds['ours']:.2f}" if len(seconds) == 2 else "-"] * peer)
    return rows


def table(header: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *rows])


def geometric_mean(rows: list[list[str]]) -> str:
    """Of the last column."""
    ratios = [float(row[-1]) for row in rows if row[-1] != "-"]
    return f"{math.exp(statistics.fmean(map(math.log, ratios))):.2f} (lowest {min(ratios):.2f})"


def main() -> None:
    """Measure, print, and write results.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="one small case of each, nothing written")
    arguments = parser.parse_args()
    device, here = arguments.device, Path(__file__).parent
    try:
        peer = device == "cpu" and bool(version("exponax"))
    except ModuleNotFoundError:
        peer = False
    sizes, batches = ((64,), (1,)) if arguments.quick else ((64, 128, 256), (1, 16))
    if device == "cuda" and not arguments.quick:
        sizes, batches = (256, 512, 1024, 2048), (1, 16, 256)
    steps_rows, error_rows = [], []
    every = torch.get_num_threads()
    for n in sizes:
        for batch in batches:
            for order in (2, 4):
                if n * n * batch > 2**27:
                    continue
                torch.set_num_threads(threads_for(n, batch))
                steps_rows.append(per_step(n, batch, order, device, peer, rounds=7))
                error_rows += to_error(n, batch, order, device, peer, rounds=5) if n <= 256 and batch <= 16 else []
                torch.set_num_threads(every)
                print(*steps_rows[-1], flush=True)
    ratio = ["exponax [µs]", "exponax / ours"] if peer else []
    first = table(["n", "batch", "scheme", "ours [µs]", "floor [µs]", "ours / floor", *ratio], steps_rows)
    pair = ["exponax steps", "[ms]", "exponax / ours"] if peer else []
    second = table(["n", "batch", "scheme", "error", "our steps", "[ms]", *pair], error_rows)
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{every} cores of an x86-64 CPU"
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", *(["exponax", "jax"] if peer else [])))
    text = (
        f"# Speed of the solver\n\n{datetime.date.today()}, {machine}, Python {platform.python_version()}, {packages}; "
        f"float32. What is measured, and how: `run.py`.\n\n## Per step\n\n{first}\n\n"
        f"## Time to error at t = 1\n\n{second}\n"
    )
    if peer:
        text += f"\nGeometric mean of exponax / ours: {geometric_mean(steps_rows)} per step, "
        text += f"{geometric_mean(error_rows)} at equal error.\n"
    print(text)
    if not arguments.quick:
        (here / ("results.md" if device == "cpu" else "results-cuda.md")).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
