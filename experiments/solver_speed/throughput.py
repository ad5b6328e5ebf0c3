"""Cell updates a second of the solver's back ends in two and three dimensions, and the share of the memory's bandwidth.

    python experiments/solver_speed/throughput.py [--device cuda] [--out FILE] [--quick]   # throughput-cuda.md

A step is one inner step of ETDRK4; its time is the median of several rounds in which the back ends have their turn. The
share of the bandwidth is that of the bare transforms' traffic, of what a copy of 256 MiB moves in the same time: four
transforms a stage in the plane and eight in space, each of which reads and writes its field once along every axis. The
flows decay and are smooth. `graph` replays the steps as one CUDA graph, `compile` goes through `torch.compile`, which
takes so long that only some cases are compiled. The table is written anew after every case.
"""

from __future__ import annotations

import argparse
import datetime
import platform
from pathlib import Path

import space
import torch
from run import Run, bandwidth, interleaved, table
from run import start as start_in_plane

from solvers import Grid, NavierStokes2D, NavierStokes3D, resample

VISCOSITY, STEP, MOST_CELLS = 0.02, 1e-4, 2**26
TRANSFORMS = {2: 4, 3: 8}  # of a stage, in the flux forms that the solvers have
# n, batches, and the batch that is compiled too, by the number of dimensions.
CASES = {2: ((256, (1, 16, 256), 16), (512, (1, 16, 256), None), (1024, (1, 16), 1), (2048, (1, 16), None)),
         3: ((64, (1, 16, 256), 1), (128, (1, 16), None), (256, (1,), None))}  # fmt: skip
CPU_CASES = {2: ((256, (1, 16), None), (512, (1,), None)), 3: ((64, (1,), None),)}
MINIATURE = {2: ((32, (1, 4), None),), 3: ((16, (1,), None),)}
HEADER = ["cells", "batch", "precision", "back end", "µs a step", "cell updates a second", "share of bandwidth"]


def start(dimensions: int, n: int, device: str) -> torch.Tensor:
    """A smooth flow on any grid, computed on a small one."""
    small = min(n, 64 if dimensions == 2 else 32)
    flow = start_in_plane(small, 1) if dimensions == 2 else space.start(small, 1)
    grids = [Grid.square(m) if dimensions == 2 else Grid.cube(m) for m in (small, n)]
    return resample(flow.to(device), *grids)


def stepper(dimensions: int, n: int, steps: int, state: torch.Tensor, kernel: str) -> Run:
    """Advance a state by so many steps."""
    solver_of, grid = (NavierStokes2D, Grid.square(n)) if dimensions == 2 else (NavierStokes3D, Grid.cube(n))
    solver = solver_of(
        grid, viscosity=VISCOSITY, interval=steps * STEP, dt=STEP, order=4, backend=kernel, dtype=state.dtype,
        device=state.device,
    )  # fmt: skip
    carry = solver.start(state)

    def run() -> None:
        with torch.no_grad():
            solver.advance(carry)
        if state.device.type == "cuda":
            torch.cuda.synchronize()

    return run


def rows_of(dimensions: int, n: int, batch: int, dtype: torch.dtype, kernels: list[str], copied: float, device: str):
    """One row for each back end; those that fail say why."""
    state = start(dimensions, n, device).to(dtype).expand(batch, *[-1] * (1 + dimensions)).contiguous()
    cells = n**dimensions * batch
    steps = max(2, min(64, 2**26 // cells if device == "cuda" else 2**14 // cells))
    label = [" × ".join([str(n)] * dimensions), f"{batch}", str(dtype).removeprefix("torch.")]
    runs, failed = {}, []
    for kernel in kernels:
        try:
            run = stepper(dimensions, n, steps, state, kernel)
            run()
            runs[kernel] = run
        except Exception as error:  # one back end that fails leaves the others their rows
            failed.append([*label, kernel, f"{type(error).__name__}: {str(error).splitlines()[0][:80]}", "-", "-"])
    seconds = interleaved(runs, 5) if runs else {}
    bits = torch.finfo(dtype).bits
    moved = 4 * TRANSFORMS[dimensions] * 2 * dimensions * cells * bits / 8  # 4 stages; read and written on each axis
    for kernel, taken in seconds.items():
        step = taken / steps
        yield [*label, kernel, f"{1e6 * step:.0f}", f"{cells / step:.2e}", f"{moved / step / copied:.2f}"]
    yield from failed


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--quick", action="store_true", help="two small cases; written only with --out")
    arguments = parser.parse_args()
    if arguments.quick:
        torch.set_num_threads(1)
    device, rows, copied = arguments.device, [], bandwidth(arguments.device, 5)
    cases = MINIATURE if arguments.quick else CASES if device == "cuda" else CPU_CASES
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads of a CPU"
    out = arguments.out or Path(__file__).with_name("throughput.md" if device == "cpu" else "throughput-cuda.md")
    head = (
        f"# Throughput of the solver, ETDRK4\n\n{datetime.date.today()}, {machine}, "
        f"Python {platform.python_version()}, torch {torch.__version__}. A copy moves {copied / 1e9:.0f} "
        "GB/s. What is measured, and how: `throughput.py`.\n\n"
    )
    measured: list[tuple] = []
    for dimensions, sizes in cases.items():
        for n, batches, to_compile in sizes:
            measured += [(dimensions, n, to_compile, torch.float32, ["compile"])] if to_compile else []
            for batch in batches:
                if n**dimensions * batch <= MOST_CELLS:
                    kernels = ["torch", "graph"] if device == "cuda" else ["torch", "native"]
                    measured += [(dimensions, n, batch, dtype, kernels) for dtype in (torch.float32, torch.float64)]
    # What is compiled comes last, because it takes minutes, for which the others need not wait.
    for case in sorted(measured, key=lambda case: case[-1] == ["compile"]):
        for row in rows_of(*case, copied, device):
            rows.append(row)
            print(*row, flush=True)
        if device == "cuda":
            torch.cuda.empty_cache()
        if arguments.out or not arguments.quick:
            out.write_text(head + table(HEADER, rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
