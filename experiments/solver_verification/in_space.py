"""The solver in three dimensions against closed forms, invariants and symmetries, and its long runs against others'.

The flows and their exact solutions are those of `tests/flows_3d.py`. The runs are those of `taylor_green_3d.py` and
`forced_3d.py`, from the tables in results/.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import series
import torch
from record import FOLDER, Row, below, within

from solvers import GROUPS, Grid, NavierStokes3D, act, field_in
from solvers.diagnostics import vorticity
from solvers.fields import VELOCITY, FieldSpec
from solvers.velocity_equation import VelocityEquation

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from flows_3d import abc, antuono, distance, mesh, random_field, solver, taylor_green

GRID = Grid.cube(16)
NU = 0.05


def rows() -> list[Row]:
    """Return relative differences, float64, on 16³."""
    return [*closed_forms(), *invariants(), *symmetries()]


def closed_forms() -> list[Row]:
    """Exact solutions at rest and carried, and a series."""
    wind, time = (1.0, -0.5, 0.3), 0.5
    uniform = torch.tensor(wind, dtype=torch.float64)[:, None, None, None]
    start = abc(*mesh(GRID))
    made = [below("ABC flow decays, t = 1", "exp(−νk²t)", 1e-12,
                  distance(solver(GRID, interval=1.0)(start), start * math.exp(-NU * 4)))]  # fmt: skip
    slow = abc(*mesh(GRID), k=1)
    carried = abc(*mesh(GRID, [time * u for u in wind]), k=1) * math.exp(-NU * time)
    after = solver(GRID, interval=time, dt=time / 100)(slow + uniform) - uniform
    made.append(below("ABC flow carried by U, t = 0.5", "U + u(x − Ut) exp(−νk²t)", 1e-10, distance(after, carried)))
    carried = abc(*mesh(GRID, [2 * u for u in wind]), k=1) * math.exp(-NU * 2)
    right = VelocityEquation.explicit_tendency
    VelocityEquation.explicit_tendency = lambda *arguments: -right(*arguments)
    try:
        wrong = solver(GRID, interval=2.0, dt=0.02, backend="torch")(slow + uniform) - uniform
    finally:
        VelocityEquation.explicit_tendency = right
    error = distance(wrong, carried)
    made.append(Row("control: advection of the wrong sign, t = 2", "", "> 100 %", f"{100 * error:.0f} %", error > 1))
    exact = antuono(*mesh(GRID), k=2)
    made.append(below("the solution of Antuono 2020, t = 0.25", "doi:10.1017/jfm.2020.126", 1e-10,
                      distance(solver(GRID)(exact), exact * math.exp(-3 * NU * 4 * 0.25))))  # fmt: skip
    nu, vortex = 0.1, taylor_green(*mesh(GRID))
    first = vorticity(vortex, GRID).square().sum(1).mean()
    misses = []
    for t in (0.1, 0.2):
        after = vorticity(solver(GRID, viscosity=nu, interval=t, dt=t / 20)(vortex), GRID).square().sum(1).mean()
        kept = (1 - 6 * nu * t + (5 / 48 + 18 * nu**2) * t**2 - (5 / 3 + 36 * nu**2) * nu * t**3
                + (50 / 6336 + 1835 / 144 * nu**2 + 54 * nu**4) * t**4)  # fmt: skip
        misses.append(float(after / first) - kept)
    following = -(0.25639 * nu + 63.4167 * nu**3 + 64.8 * nu**5)
    found = misses[0] / 0.1**5
    made.append(Row("Taylor–Green: ⟨ω²⟩ less its series to t⁴, over t⁵", "the next term",
                    f"{following:.4f} within 15 %", f"{found:.4f}", abs(found / following - 1) < 0.15))  # fmt: skip
    ratio = math.log2(misses[1] / misses[0])
    made.append(Row("… of order", "5", "5 ± 0.15", f"{ratio:.2f}", abs(ratio - 5) < 0.15))
    return made


def invariants() -> list[Row]:
    """Energy and helicity without viscosity, the divergence, and the order of accuracy."""
    start, made = random_field(GRID, reach=2), []
    after = solver(GRID, viscosity=0.0, interval=0.1, dt=0.005)(start)
    moved = distance(after, start)

    def helicity(u: torch.Tensor) -> torch.Tensor:
        return (u * vorticity(u, GRID)).sum(1).mean()

    for name, of in (("energy", lambda u: u.square().sum(1).mean()), ("helicity", helicity)):
        error = abs(float(of(after) / of(start) - 1))
        made.append(below(f"inviscid: {name}, the state changes by {100 * moved:.0f} %", "constant", 1e-10, error))
    kz, ky, kx = GRID.wavenumbers()
    spectrum = torch.fft.rfftn(after, dim=(-3, -2, -1))
    along = (kx * spectrum[:, 0] + ky * spectrum[:, 1] + kz * spectrum[:, 2]).abs().max()
    size = ((kx**2 + ky**2 + kz**2).sqrt() * spectrum.abs().amax(1)).max()
    made.append(below("divergence: largest |k·û| over the largest |k||û|", "0", 1e-12, float(along / size)))
    exact = solver(GRID, viscosity=0.02, interval=0.2, dt=0.2 / 80)(start)
    for order in (2, 4):
        options = {"viscosity": 0.02, "interval": 0.2, "order": order}
        errors = [distance(solver(GRID, dt=0.2 / m, **options)(start), exact) for m in (5, 10)]
        found = math.log2(errors[0] / errors[1])
        made.append(
            Row(f"order of ETDRK{order}", str(order), f"{order} ± 0.25", f"{found:.2f}", abs(found - order) < 0.25)
        )
    return made


def symmetries() -> list[Row]:
    """All elements of the cube's group, relative to what the step changes, and velocity taken for a pseudovector."""
    stepper, state, group = solver(GRID, interval=0.1), random_field(GRID), GROUPS[3]["Oh"]
    after = stepper(state)
    change = (after - state).norm()

    def error(field: FieldSpec, g) -> float:
        return float((stepper(act(field, state, g)) - act(field, after, g)).norm() / change)

    largest = max(error(field_in(VELOCITY, 3), g) for g in group)
    wrong = min(error(FieldSpec("velocity", 1, -1, dimensions=3), g) for g in group if g.determinant < 0)
    return [
        below("all 48 elements of Oh commute", "0", 1e-11, largest),
        Row(
            "control: velocity as a pseudovector, least of 24 mirrors",
            "",
            "> 5 %",
            f"{100 * wrong:.0f} %",
            wrong > 0.05,
        ),
    ]


def peer_rows() -> list[Row]:
    """Return the relative difference from Exponax's solver of the velocity on 24³ at t = 0.5."""
    import exponax as ex
    import jax

    jax.config.update("jax_enable_x64", True)
    n, steps, nu, made = 24, 50, 0.1, []
    grid = Grid.cube(n)
    state = 0.5 * random_field(grid, reach=2)
    for order in (4, 2):
        peer = ex.stepper.NavierStokesVelocity(3, grid.length[0], n, 0.5 / steps, diffusivity=nu, order=order)
        repeated = jax.jit(lambda s, peer=peer: jax.lax.fori_loop(0, steps, lambda _, u: peer(u), s))
        theirs = np.asarray(repeated(jax.numpy.asarray(state[0].numpy().transpose(0, 3, 2, 1)))).transpose(0, 3, 2, 1)
        options = {"viscosity": nu, "interval": 0.5, "dt": 0.5 / steps, "dtype": torch.float64, "order": order}
        ours = NavierStokes3D(grid, **options)(state)[0]
        found = distance(ours, torch.from_numpy(theirs.copy()))
        made.append(below(f"in space: random flow on 24³, ETDRK{order}", "Exponax 0.2.0, rotational form", 1e-8, found))
    return made


def run_rows() -> list[Row]:
    """Return what the long runs found, as far as their tables are there."""
    made = []
    tables = {path.stem: series.read(path) for path in sorted((FOLDER / "taylor_green_3d").glob("*.csv"))}
    for name, table in tables.items():
        time, height = series.peak(table["time"], table["dissipation"])
        found = f"{height:.5f} at t = {time:.2f}, k_max η ≥ {min(table['k_max_eta']):.2f}"
        if name.startswith("re400_") and ("n96" in name or "n128" in name):
            made.append(within(f"Taylor–Green {name}: peak dissipation", "0.01094 and 0.01096 on 96³ and 128³", 0.01095,
                               0.005, height))  # fmt: skip
        elif name.startswith("re1600_"):
            is_there = 0.0126 <= height <= 0.0129 and abs(time - 9) < 0.3
            made.append(Row(f"Taylor–Green {name}: peak dissipation", "van Rees et al. 2011",
                            "0.0126 to 0.0129 at t ≈ 9", found, is_there))  # fmt: skip
        else:
            made.append(Row(f"Taylor–Green {name}: peak dissipation", "Brachet et al. 1983", "", found))
        slopes = series.slopes(table["time"], table["energy"])
        worst = max(abs(s + d) for s, d in zip(slopes, table["dissipation"][1:-1], strict=True)) / height
        made.append(Row("… largest |dE/dt + 2νZ| over the peak", "0, central differences", "≤ 1 %",
                        f"{100 * worst:.2f} %", worst < 0.01))  # fmt: skip
    for path in sorted((FOLDER / "forced_3d").glob("*.csv")):
        table = series.read(path)
        late = [i for i, t in enumerate(table["time"]) if t >= 15.0]
        if len(late) < 10:
            continue
        mean = {name: float(np.mean([values[i] for i in late])) for name, values in table.items()}
        label = f"fixed power, {path.stem}, Re_λ = {mean['taylor_reynolds']:.0f}, k_max η = {mean['k_max_eta']:.1f}"
        balance = mean["dissipation"]
        made.append(
            Row(f"{label}: mean dissipation", "the power, 1", "within 5 %", f"{balance:.3f}", abs(balance - 1) < 0.05)
        )
        skewness = mean["skewness"]
        made.append(Row("… skewness of ∂u/∂x", "Batchelor & Townsend 1947: near −0.5", "−0.6 to −0.4",
                        f"{skewness:.3f}", -0.6 < skewness < -0.4))  # fmt: skip
    return made
