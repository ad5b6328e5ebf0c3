"""The classical solver against Exponax 0.2.0, TorchFSM 0.0.6 and bare FFTs, interleaved in one process.

    python experiments/solver_speed/run.py [--device cpu] [--quick]  # writes results.md or results-cuda.md

Per step: microseconds of one inner step, float32, the least of twenty rounds. Floor: the two inverse and two forward
real transforms of each stage alone, by PyTorch. Of peak: the operations of our algorithm (5 n log₂ n for a complex
transform of n numbers, of which only those that hold retained modes are done) by the time and by what multiplications
with additions of whole vectors reach on as many cores (`peak.cpp`). TorchFSM runs on the same threads, its `integrate`
without the garbage collection that begins it. A package that is not installed is left out.
Beside a spinning process: the median of nine rounds while a loop in another process occupies a core.
Time to error: the wall-clock time in which a start reaches t = 1 with a relative error of 1e-3 or 1e-5 (against a
float64 run with 1,600 steps on the same grid), each solver with its own longest step of 1/4, 1/6, 1/8, 1/12 … that does
it. With `--device cuda` another table: cell updates a second in float32 and float64, and the share of the card's memory
bandwidth, as a copy measures it, that the bare transforms' traffic alone comes to: four transforms a stage, each
reading and writing its field once along either axis. The flow is decaying and resolved (rms 1, ν = 0.03), so that it
does not matter that Exponax keeps one mode fewer on each axis.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from machine import peak, spinning

from solvers import FLOWS, Grid, NavierStokes2D

HERE = Path(__file__).parent
PEERS = ("exponax", "torchfsm")
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


def torchfsm(n: int, order: int, steps: int, state: torch.Tensor) -> Run:
    """The same with TorchFSM, whose first axis is x."""
    from torchfsm.integrator import ETDRKIntegrator, SETDRKIntegrator
    from torchfsm.mesh import FourierMesh
    from torchfsm.pde import NavierStokesVorticity

    operator = NavierStokesVorticity(1 / VISCOSITY)
    operator.set_integrator(ETDRKIntegrator.ETDRK2 if order == 2 else SETDRKIntegrator.SETDRK4)
    mesh = FourierMesh([(0.0, Grid.square(n).length[0], n)] * 2)
    flipped = state.mT.contiguous()
    operator.integrate(flipped, dt=1 / steps, step=1, mesh=mesh)
    integrator, spectrum = operator._state_dict["integrator"], mesh.fft(flipped)

    def run() -> torch.Tensor:
        with torch.no_grad():
            after = spectrum
            for _ in range(steps):
                after = integrator.forward(after, 1 / steps)
            return mesh.ifft(after).real.mT

    return run


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


def interleaved(
    runs: dict[str, Run], rounds: int, choose: Callable[[Sequence[float]], float] = statistics.median
) -> dict[str, float]:
    """Seconds of each, taken in turn after one warm-up: by default the median."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if number:
                times[name].append(time.perf_counter() - began)
    return {name: choose(each) for name, each in times.items()}


def threads_for(n: int, batch: int) -> int:
    """The smallest problem is faster on one thread: what a user should set, and `data.threads` does by default."""
    return 1 if n * n * batch <= 2**12 else torch.get_num_threads()


def steps_of(n: int, batch: int) -> dict[str, int]:
    """How many steps each takes when a step is timed: fewer of the slowest."""
    steps = max(4, min(64, 2**22 // (n * n * batch)))
    return {"ours": steps, "floor": steps, "exponax": steps, "torchfsm": max(1, steps // 16)}


def step_runs(n: int, batch: int, order: int, device: str, peers: list[str]) -> dict[str, Run]:
    """What the first table times."""
    different, steps = min(batch, 16), steps_of(n, batch)
    state = start(n, different).float().repeat(batch // different, 1, 1, 1)
    runs = {
        "ours": ours(n, order, steps["ours"], state, device),
        "floor": floor(n, order, steps["floor"], state, device),
    }
    makers = {"exponax": theirs, "torchfsm": torchfsm}
    return runs | {name: makers[name](n, order, steps[name], state) for name in peers}


def operations(n: int, batch: int, order: int) -> float:
    """Floating-point operations of one of our steps."""
    columns, rows = 2 * ((n - 1) // 3 + 1), 2 * ((n - 1) // 3) + 1
    transforms = 2 * (n + columns) * 5 * n * math.log2(n)  # along x of all rows, along y of the columns with modes
    return batch * order * (transforms + 4 * n * n + 20 * columns * rows)


def agreement(peers: list[str]) -> str:
    """How far peers are from ours after eight steps, relative to the change."""
    n, steps, said = 64, 8, []
    state = start(n, 1).float()
    own = ours(n, 4, steps, state, "cpu")()
    for name in peers:
        result = {"exponax": theirs, "torchfsm": torchfsm}[name](n, 4, steps, state)()
        other = torch.tensor(result.__array__()).reshape(own.shape)
        said.append(f"{name} {float((other - own).norm() / (own - state).norm()):.1e}")
    return ", ".join(said)


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


def geometric_mean(rows: list[list[str]], column: int = -1, worst: Callable[[Sequence[float]], float] = min) -> str:
    """Of a column, and its worst entry."""
    ratios = [float(row[column]) for row in rows if row[column] != "-"]
    word = "lowest" if worst is min else "largest"
    return f"{math.exp(statistics.fmean(map(math.log, ratios))):.2f} ({word} {worst(ratios):.2f})"


BESIDE = ["n", "batch", "scheme", "ours [µs]", "exponax [µs]", "exponax / ours"]


def beside_load(runs: dict[tuple[int, int, int], dict[str, Run]]) -> list[list[str]]:
    """Rows of the second table."""
    rows, every = [], torch.get_num_threads()
    with spinning():
        for (n, batch, order), pair in runs.items():
            torch.set_num_threads(threads_for(n, batch))
            micro = per_step(pair, n, batch, 9, statistics.median)
            torch.set_num_threads(every)
            row = [f"{n}", f"{batch}", f"ETDRK{order}", f"{micro['ours']:.0f}", f"{micro['exponax']:.0f}"]
            rows.append([*row, f"{micro['exponax'] / micro['ours']:.1f}"])
            print("beside a spinning process:", *rows[-1], flush=True)
    return rows


def per_step(
    runs: dict[str, Run], n: int, batch: int, rounds: int, choose: Callable[[Sequence[float]], float]
) -> dict[str, float]:
    """Microseconds a step."""
    steps = steps_of(n, batch)
    return {name: 1e6 * value / steps[name] for name, value in interleaved(runs, rounds, choose).items()}


def is_installed(package: str) -> bool:
    """Whether a peer is there; says if it is not."""
    try:
        return bool(version(package))
    except PackageNotFoundError:
        print(f"{package} is not installed: left out")
        return False


def main() -> None:
    """Measure, print, and write results.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="one small case of each, nothing written")
    arguments = parser.parse_args()
    device, on_cpu = arguments.device, arguments.device == "cpu"
    peers = [name for name in PEERS if on_cpu and is_installed(name)]
    sizes, batches = ((64,), (1,)) if arguments.quick else ((64, 128, 256), (1, 16))
    if not on_cpu and not arguments.quick:
        sizes, batches = (256, 512, 1024, 2048), (1, 16, 256)
    cases = [(n, batch, order) for n in sizes for batch in batches for order in (2, 4) if n * n * batch <= 2**27]
    load, every, most = os.getloadavg()[0], torch.get_num_threads(), peak() if on_cpu else 0.0
    kept, rows, shares = {}, [], []
    for case in cases:
        n, batch, order = case
        torch.set_num_threads(threads_for(n, batch))
        runs = step_runs(*case, device, peers)
        micro = per_step(runs, n, batch, 20, min)
        if "exponax" in peers:
            kept[case] = {name: runs[name] for name in ("ours", "exponax")}
        row = [f"{n}", f"{batch}", f"ETDRK{order}", f"{micro['ours']:.0f}", f"{micro['floor']:.0f}"]
        row += [f"{micro['ours'] / micro['floor']:.2f}"]
        if most:
            shares.append(operations(*case) / (1e-6 * micro["ours"]) / (most * torch.get_num_threads()))
            row += [f"{shares[-1]:.2f}"]
        for name in peers:
            row += [f"{micro[name]:.0f}", f"{micro[name] / micro['ours']:.1f}"]
        rows.append(row)
        torch.set_num_threads(every)
        print(*row, flush=True)
    header = ["n", "batch", "scheme", "ours [µs]", "floor [µs]", "ours / floor", *(["of peak"] if most else [])]
    for name in peers:
        header += [f"{name} [µs]", f"{name} / ours"]
    machine = f"{every} cores of an x86-64 CPU" if on_cpu else torch.cuda.get_device_name()
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", *peers, *(["jax"] if "exponax" in peers else [])))
    text = (
        f"# Speed of the solver\n\n{datetime.date.today()}, {machine}, load before {load:.1f}, Python "
        f"{platform.python_version()}, {packages}; float32. What is measured, and how: `run.py`.\n\n"
        f"## Per step\n\n{table(header, rows)}\n\nGeometric means: ours / floor {geometric_mean(rows, 5, worst=max)}"
    )
    for i, name in enumerate(peers):
        text += f", {name} / ours {geometric_mean(rows, len(header) - 2 * len(peers) + 2 * i + 1)}"
    text += "."
    if most:
        text += (
            f" A core does at most {most / 1e9:.0f} Gflop/s in float32; our steps do {min(shares):.0%} to "
            f"{max(shares):.0%} of it. A transform has few multiplications to pair with additions, so that about "
            "0.7 is the most that they could reach."
        )
    if peers:
        text += f" After eight steps the relative difference from ours is: {agreement(peers)}."
    if "exponax" in peers:
        beside = beside_load(kept)
        text += f"\n\n## Per step, beside a spinning process\n\n{table(BESIDE, beside)}\n\n"
        text += f"Geometric mean of exponax / ours: {geometric_mean(beside)}."
    error_rows = []
    for n, batch, order in cases:
        if n <= 256 and batch <= 16:
            torch.set_num_threads(threads_for(n, batch))
            error_rows += to_error(n, batch, order, device, "exponax" in peers, rounds=5)
            torch.set_num_threads(every)
    pair = ["exponax steps", "[ms]", "exponax / ours"] if "exponax" in peers else []
    second = table(["n", "batch", "scheme", "error", "our steps", "[ms]", *pair], error_rows)
    text += f"\n\n## Time to error at t = 1\n\n{second}\n"
    if pair:
        text += f"\nGeometric mean of exponax / ours: {geometric_mean(error_rows)}.\n"
    print(text)
    if not arguments.quick:
        (HERE / ("results.md" if on_cpu else "results-cuda.md")).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
