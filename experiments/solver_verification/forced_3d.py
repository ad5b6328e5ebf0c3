"""Stationary turbulence in three dimensions: a flow kept going by a forcing of fixed power at the largest scales.

After a spin-up the energy spectrum, the dissipation and the skewness of the velocity's derivative are averaged. To be
expected are a dissipation that equals the power, a skewness near −0.5 (Batchelor & Townsend 1947,
doi:10.1098/rspa.1947.0095), and a spectrum that falls as k^(−5/3) or faster before viscosity ends it.

    python experiments/solver_verification/forced_3d.py --n 64
    python experiments/solver_verification/forced_3d.py --n 128 --device cuda

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

from solvers import FixedPowerForcing, Grid, NavierStokes3D, spectra, turbulence  # noqa: E402
from solvers.velocity_equation import VelocityEquation  # noqa: E402

INTERVAL, POWER, FORCED = 0.5, 1.0, 1.5
VISCOSITY_64 = 0.025  # at other n in proportion to n^(−4/3), so that k_max η stays


def start(grid: Grid) -> torch.Tensor:
    """Return a random velocity of energy 1 in the modes of up to four waves on each axis, float64."""
    generator = torch.Generator().manual_seed(0)
    small = torch.randn(3, 9, 9, 5, 2, generator=generator, dtype=torch.float64)
    equation = VelocityEquation(grid, (4, 4, 4), False, torch.float64, torch.device("cpu"))
    state = equation.to_field(equation.project(torch.view_as_complex(small)[None] * (equation.k_squared > 0)))
    return state * (2 / state.square().sum(1).mean()).sqrt()


def measure(state: torch.Tensor, grid: Grid, viscosity: float) -> series.Row:
    """Return what is averaged: scales, the skewness, and the energy spectrum shell by shell."""
    length = grid.length
    spectrum = spectra.energy_spectrum(state, length)[0, : min(grid.max_modes)].tolist()
    reach = min(grid.max_modes) * 2 * torch.pi / max(length)
    return {
        "energy": float(spectra.kinetic_energy(state, length)),
        "dissipation": float(turbulence.dissipation_rate(state, length, viscosity)),
        "skewness": float(turbulence.derivative_skewness(state, length)),
        "taylor_reynolds": float(turbulence.taylor_reynolds_number(state, length, viscosity)),
        "integral_scale": float(turbulence.integral_scale(state, length)),
        "k_max_eta": reach * float(turbulence.kolmogorov_scale(state, length, viscosity)),
    } | {f"E{k}": e for k, e in enumerate(spectrum, 1)}


def main() -> None:
    """Run, and print the averages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=64, help="cells on a side")
    parser.add_argument("--until", type=float, default=40.0, help="time of the flow at the end")
    parser.add_argument("--spin-up", type=float, default=15.0, help="time before the averages begin")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--seconds", type=float, default=540.0, help="stop after so many, and go on at the next call")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, help="a folder for table and state in place of results/ and runs/")
    options = parser.parse_args()
    tables, states = (options.out or HERE / kind / "forced_3d" for kind in ("results", "runs"))
    if options.threads:
        torch.set_num_threads(options.threads)
    grid, viscosity = Grid.cube(options.n), VISCOSITY_64 * (64 / options.n) ** (4 / 3)
    solver = NavierStokes3D(
        grid, viscosity=viscosity, interval=INTERVAL, order=2, power_forcing=FixedPowerForcing(POWER, FORCED),
        backend=options.backend, dtype=getattr(torch, options.dtype), device=options.device,
    )  # fmt: skip
    run = series.Series(tables, states, f"n{options.n}_{options.dtype}")
    is_done = run.run(
        solver, lambda: start(grid).to(options.device), lambda u: measure(u.double(), grid, viscosity), options.until,
        options.seconds,
    )  # fmt: skip
    print(f"n = {options.n} on {options.device} by {solver.backend}: {'done' if is_done else 'to be continued'}")
    rows = [row for row in run.rows if row["time"] >= options.spin_up]
    if len(rows) > 1:
        for name in [name for name in rows[0] if name not in ("interval", "time", "steps", "seconds")]:
            values = torch.tensor([row[name] for row in rows], dtype=torch.float64)
            print(f"{name}: {float(values.mean()):.4g} ± {float(values.std()):.2g}")


if __name__ == "__main__":
    main()
