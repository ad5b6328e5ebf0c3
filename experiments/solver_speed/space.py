"""The solver in three dimensions against Exponax 0.2.0, TorchFSM 0.0.6 and bare FFTs, interleaved in one process.

    pip install exponax==0.2.0 torchfsm==0.0.6
    python experiments/solver_speed/space.py [--threads N] [--quick]      # writes results_3d.md beside itself

Per step: milliseconds of one inner step, float32, decaying random velocities, the median of several rounds in which
every solver has its turn. Floor: the three inverse and five forward real transforms of each stage alone, as PyTorch
does them. Exponax: jit, vmap, and its loop in the compiled program. TorchFSM has no ETDRK4 of its own kind: its
`SETDRK4` is measured there, and `ETDRK2` otherwise. Each solver's velocity at the end is compared with ours: the
flow is resolved, so that it does not matter that they keep other modes.

Memory: by how much the resident memory of a process of its own rises in a call of `advance` with a fixed step, beside
what this call needs: the spectrum that it returns, the coefficients of the scheme, the state and the increments of the
scheme, the products between the two phases of a stage, and one slab of planes for each thread.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from run import Run, geometric_mean, interleaved, table

from solvers import Grid
from solvers.navier_stokes_3d import NavierStokes3D

VISCOSITY, STEP = 0.02, 1e-3
PEERS = ("exponax", "torchfsm")


def start(n: int, batch: int) -> torch.Tensor:
    """Random velocities without divergence, RMS 1, so smooth that they stay resolved."""
    grid, generator = Grid.cube(n), torch.Generator().manual_seed(0)
    noise = torch.randn(batch, 3, n, n, n, generator=generator)
    solver = NavierStokes3D(grid, viscosity=VISCOSITY, interval=1.0, dt=1.0, modes=(2, 2, 2), backend="torch")
    velocity = solver.state(solver.start(noise))
    return velocity / velocity.square().mean(dim=(1, 2, 3, 4), keepdim=True).sqrt()


def ours(n: int, order: int, steps: int, state: torch.Tensor) -> Run:
    """Advance `state` by `steps` steps."""
    solver = NavierStokes3D(
        Grid.cube(n), viscosity=VISCOSITY, interval=steps * STEP, dt=STEP, order=order, backend="native"
    )
    carry = solver.start(state)

    def run() -> torch.Tensor:
        with torch.no_grad():
            return solver.state(solver.advance(carry))

    return run


def exponax(n: int, order: int, steps: int, state: torch.Tensor) -> Run:
    """The same with Exponax, whose first axis is x."""
    import exponax as ex
    import jax

    stepper = ex.stepper.NavierStokesVelocity(3, Grid.cube(n).length[0], n, STEP, diffusivity=VISCOSITY, order=order)
    one = lambda u: jax.lax.fori_loop(0, steps, lambda _, v: stepper(v), u)  # noqa: E731
    compiled = jax.jit(jax.vmap(one)) if len(state) > 1 else jax.jit(one)
    flipped = state.permute(0, 1, 4, 3, 2).contiguous().numpy()
    array = jax.numpy.asarray(flipped if len(state) > 1 else flipped[0])
    return lambda: compiled(array).block_until_ready()


def torchfsm(n: int, order: int, steps: int, state: torch.Tensor) -> Run:
    """The same with TorchFSM, whose first axis is x."""
    from torchfsm.integrator import ETDRKIntegrator, SETDRKIntegrator
    from torchfsm.mesh import FourierMesh
    from torchfsm.pde import NavierStokes

    operator = NavierStokes(1 / VISCOSITY)
    operator.set_integrator(ETDRKIntegrator.ETDRK2 if order == 2 else SETDRKIntegrator.SETDRK4)
    mesh = FourierMesh([(0.0, Grid.cube(n).length[0], n)] * 3)
    flipped = state.permute(0, 1, 4, 3, 2).contiguous()
    operator.integrate(flipped, dt=STEP, step=1, mesh=mesh)
    integrator, spectrum = operator._state_dict["integrator"], mesh.fft(flipped)  # its loop collects garbage first

    def run() -> torch.Tensor:
        with torch.no_grad():
            after = spectrum
            for _ in range(steps):
                after = integrator.forward(after, STEP)
            return mesh.ifft(after).real

    return run


def floor(n: int, order: int, steps: int, state: torch.Tensor) -> Run:
    """The transforms of `steps` steps, nothing else."""
    axes, products = (-3, -2, -1), torch.cat([state, state[:, :2]], dim=1)
    spectra = torch.fft.rfftn(state, dim=axes)

    def run() -> None:
        for _ in range(order * steps):
            torch.fft.irfftn(spectra, s=(n, n, n), dim=axes)
            torch.fft.rfftn(products, dim=axes)

    return run


def per_step(n: int, batch: int, order: int, peers: list[str], rounds: int) -> list[str]:
    """One row of the first table."""
    state, steps = start(n, batch), max(2, min(32, 2**21 // (n**3 * batch)))
    counts = {"ours": steps, "floor": max(1, steps // 2), "exponax": max(1, steps // 2), "torchfsm": 1}
    makers = {"ours": ours, "floor": floor, "exponax": exponax, "torchfsm": torchfsm}
    names = [name for name in makers if name not in PEERS or name in peers]
    seconds = interleaved({name: makers[name](n, order, counts[name], state) for name in names}, rounds)
    milli = {name: 1e3 * seconds[name] / counts[name] for name in names}
    row = [f"{n}", f"{batch}", f"ETDRK{order}", f"{milli['ours']:.2f}", f"{milli['floor']:.2f}"]
    row += [f"{milli['ours'] / milli['floor']:.2f}"]
    for name in peers:
        row += [f"{milli[name]:.2f}", f"{milli[name] / milli['ours']:.1f}"]
    return row


def agreement(peers: list[str]) -> str:
    """How far the velocities of the peers are from ours after ten steps, relative to the change."""
    n, steps, said = 32, 10, []
    state = start(n, 1)
    own = ours(n, 2, steps, state)()
    for name in peers:
        maker = {"exponax": exponax, "torchfsm": torchfsm}[name]
        theirs = torch.tensor(maker(n, 2, steps, state)().__array__()).reshape(3, n, n, n).permute(0, 3, 2, 1)
        said.append(f"{name} {float((theirs - own[0]).norm() / (own - state).norm()):.1e}")
    return ", ".join(said)


MEMORY = """
import sys, torch
sys.path.insert(0, {here!r})
from space import ours, start
n, batch, order = map(int, sys.argv[1:])
torch.set_num_threads({threads})
ours(16, order, 2, start(16, 1))()  # everything is loaded
state = start(n, batch)
from space import NavierStokes3D, Grid, VISCOSITY, STEP
solver = NavierStokes3D(Grid.cube(n), viscosity=VISCOSITY, interval=4 * STEP, dt=STEP, order=order, backend="native")
carry = solver.start(state)
solver._interval_solver.integrator(carry, 0, 4)  # computed in double precision, once for all intervals
def resident(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))
before = resident("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
with torch.no_grad():
    after = solver.advance(carry)
print(resident("VmHWM") - before)
"""


def memory(n: int, batch: int, order: int) -> list[str]:
    """One row of the second table."""
    lanes, threads, most = 16, torch.get_num_threads(), (n - 1) // 3
    script = MEMORY.format(here=str(Path(__file__).parent), threads=threads)
    command = [sys.executable, "-c", script, *map(str, (n, batch, order))]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is given back, and counts again
    taken = int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)
    pencils, planes = -(-((2 * most + 1) * (most + 1)) // lanes) * lanes, -(-n // lanes) * lanes
    modes, teams = pencils * (2 * most + 1), min(threads, batch)
    state = 3 * modes * 8
    fields = state * (1 if order == 2 else 3) + 5 * pencils * planes * 8
    slabs = 5 * n * (most + 1) * lanes * 8 * min(threads, teams * (threads // teams))
    needed = batch * state + modes * 4 * (3 if order == 2 else 6) + teams * fields + slabs
    row = [f"{n}", f"{batch}", f"ETDRK{order}", f"{3 * n**3 * 4 * batch / 2**20:.1f}"]
    return [*row, f"{needed / 2**20:.1f}", f"{taken / 2**20:.1f}", f"{taken / needed:.2f}"]


def main() -> None:
    """Measure, print, and write results_3d.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch and of our C++")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one small case, nothing written")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    peers = []
    for name in PEERS:
        try:
            peers += [name] if version(name) else []
        except PackageNotFoundError:
            print(f"{name} is not installed: left out")
    cases = [(n, batch, order) for n in (32, 48, 64, 96) for batch in (1, 4) for order in (2, 4)]
    rows = []
    for n, batch, order in cases[:1] if arguments.quick else cases:
        rows.append(per_step(n, batch, order, peers, arguments.rounds))
        print(*rows[-1], flush=True)
    header = ["n", "batch", "scheme", "ours [ms]", "floor [ms]", "ours / floor"]
    for name in peers:
        header += [f"{name} [ms]", f"{name} / ours"]
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", *peers, *(["jax"] if "exponax" in peers else [])))
    text = (
        f"# Speed of the solver in three dimensions\n\n{datetime.date.today()}, {arguments.threads} thread(s), x86-64 "
        f"CPU, Python {platform.python_version()}, {packages}; float32. What is measured, and how: `space.py`.\n\n"
        f"## Per step\n\n{table(header, rows)}\n\n"
    )
    ratios = [float(row[5]) for row in rows]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    text += f"Geometric mean of ours / floor: {mean:.2f} (largest {max(ratios):.2f})"
    for name, column in zip(peers, (8, 10), strict=False):
        text += f"; of {name} / ours: {geometric_mean([row[:column] for row in rows])}"
    text += (
        f".\n\nDifference from ours after ten steps, relative to the change: {agreement(peers)}.\n" if peers else ".\n"
    )
    if Path("/proc/self/clear_refs").exists():
        cases = [(n, batch, order) for n, batch, order in cases if n in (64, 96) and not arguments.quick]
        header = ["n", "batch", "scheme", "state [MB]", "needed [MB]", "taken [MB]", "taken / needed"]
        text += f"\n## Memory\n\n{table(header, [memory(*case) for case in cases or [(32, 1, 2)]])}\n"
    print(text)
    if not arguments.quick:
        (Path(__file__).parent / "results_3d.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
