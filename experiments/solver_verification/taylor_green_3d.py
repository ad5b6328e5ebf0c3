"""The Taylor–Green vortex in three dimensions: dissipation against time, and its peak.

From u = (sin x cos y cos z, −cos x sin y cos z, 0) on (2π)³ the vortices break down. The dissipation of energy has a
peak whose time and height depend on the Reynolds number Re = 1/ν alone (Brachet et al. 1983,
doi:10.1017/S0022112083001159; van Rees et al. 2011, doi:10.1016/j.jcp.2010.11.031: at Re = 1600 about 0.0127 to 0.0128
at t ≈ 9).

    python experiments/solver_verification/taylor_green_3d.py --n 96 --reynolds 400
    python experiments/solver_verification/taylor_green_3d.py --n 256 --reynolds 1600 --device cuda
    python experiments/solver_verification/taylor_green_3d.py --compare      # the peaks of all runs that there are

A run that was cut off, or that has used its --seconds, goes on from where it was left when it is called again. Tables
go to results/, states to runs/, which is not kept in git. It needs PyTorch and NumPy.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]  # on a machine where nothing is installed

import series  # noqa: E402

from solvers import Grid, NavierStokes3D, spectra, turbulence  # noqa: E402

INTERVAL = 0.05


def start(grid: Grid) -> torch.Tensor:
    """Return the vortex, float64."""
    z, y, x = torch.broadcast_tensors(*grid.mesh())
    sin, cos = torch.sin, torch.cos
    return torch.stack([sin(x) * cos(y) * cos(z), -cos(x) * sin(y) * cos(z), torch.zeros_like(x)])[None]


def measure(state: torch.Tensor, grid: Grid, viscosity: float) -> series.Row:
    """Return energy, dissipation 2νZ, and how well the smallest scales are resolved."""
    energy, enstrophy = (f(state, grid.length).sum() for f in (spectra.energy_spectrum, spectra.enstrophy_spectrum))
    reach = min(grid.max_modes) * 2 * torch.pi / max(grid.length)
    eta = turbulence.kolmogorov_scale(state, grid.length, viscosity)
    return {
        "energy": float(energy),
        "dissipation": 2 * viscosity * float(enstrophy),
        "k_max_eta": reach * float(eta),
    }


def main() -> None:
    """Run one case, or compare the peaks of those that there are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=96, help="cells on a side")
    parser.add_argument("--reynolds", type=float, default=400.0)
    parser.add_argument("--until", type=float, default=10.0, help="time of the flow at the end")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--order", type=int, default=4, choices=[2, 4])
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--seconds", type=float, default=540.0, help="stop after so many, and go on at the next call")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, help="a folder for table and state in place of results/ and runs/")
    parser.add_argument("--compare", action="store_true")
    options = parser.parse_args()
    tables, states = (options.out or HERE / kind / "taylor_green_3d" for kind in ("results", "runs"))
    if options.compare:
        compare(tables)
        return
    if options.threads:
        torch.set_num_threads(options.threads)
    grid, viscosity = Grid.cube(options.n), 1 / options.reynolds
    solver = NavierStokes3D(
        grid, viscosity=viscosity, interval=INTERVAL, order=options.order, backend=options.backend,
        dtype=getattr(torch, options.dtype), device=options.device,
    )  # fmt: skip
    name = f"re{options.reynolds:g}_n{options.n}_{options.dtype}" + ("_etdrk2" if options.order == 2 else "")
    run = series.Series(tables, states, name)
    is_done = run.run(
        solver, lambda: start(grid).to(options.device), lambda u: measure(u.double(), grid, viscosity), options.until,
        options.seconds,
    )  # fmt: skip
    print(f"{name} on {options.device} by {solver.backend}: {'done' if is_done else 'to be continued'}")
    compare(tables)


def compare(folder: Path) -> None:
    """Print the peak of every run, and how well its energy budget closes: −dE/dt against 2νZ."""
    for path in sorted(folder.glob("*.csv")):
        table = series.read(path)
        if len(table["time"]) < 3:
            continue
        time, height = series.peak(table["time"], table["dissipation"])
        slopes = series.slopes(table["time"], table["energy"])
        budget = [abs(s + d) for s, d in zip(slopes, table["dissipation"][1:-1], strict=True)]
        print(f"{path.stem}: peak dissipation {height:.6f} at t = {time:.3f} of {table['time'][-1]:g}; "
              f"largest |dE/dt + 2νZ| {max(budget) / height:.1e} of it; "
              f"smallest k_max η {min(table['k_max_eta']):.2f}; "
              f"{table['seconds'][-1]:.0f} s, {sum(table['steps']):.0f} steps")  # fmt: skip


if __name__ == "__main__":
    main()
