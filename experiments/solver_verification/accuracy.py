"""Orders of accuracy in time and convergence in space, flow by flow."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from cases import Case, cases
from record import Row, distance

from solvers import resample

CELLS, FINEST = (32, 48, 64, 96, 128), 192
FLOOR = 1e-13  # below it rounding shows


def advanced(case: Case, state: torch.Tensor, n: int, steps: int, order: int = 4) -> torch.Tensor:
    """The state one `time` later in `steps` inner steps between two kicks (or in all, where there are none)."""
    grid = case.grid(n)
    kicks = case.flow.solver(grid, interval=case.time).step_control.parts
    dt = case.time / kicks / steps
    with torch.no_grad():
        return case.flow.solver(grid, interval=case.time, dt=dt, order=order, dtype=torch.float64)(state)


def own_steps(case: Case, state: torch.Tensor, n: int) -> int:
    """The inner steps between two kicks that the solver takes by itself: Courant number 1."""
    solver = case.flow.solver(case.grid(n), interval=case.time, dtype=torch.float64)
    with torch.no_grad():
        return solver.advance(solver.start(state)).steps_taken[0]


def order_in_time() -> list[Row]:
    """Slopes of the error against the step from a half to an eighth of the step of Courant number 1, on 64 cells,
    against ETDRK4 with a 64th: Cox & Matthews 2002 (doi:10.1006/jcph.2002.6995)."""
    rows = []
    for name, case in cases().items():
        state = case.spun_up(case.grid(64))
        most = own_steps(case, state, 64)
        reference = advanced(case, state, 64, 64 * most)
        for order in (2, 4):
            errors = [distance(advanced(case, state, 64, refined * most, order), reference) for refined in (2, 4, 8)]
            slopes = [math.log2(a / b) for a, b in pairwise(errors)]
            good = abs(slopes[-1] - order) <= 0.1 and (order == 4 or max(slopes) < 3)
            measured = f"{slopes[0]:.2f}, {slopes[1]:.2f} (error {errors[0]:.0e} to {errors[-1]:.0e})"
            path = "; one noise path" if case.flow.stochastic_forcing(case.grid(64)) else ""
            rows.append(
                Row(f"{name}: ETDRK{order}{path}", "Cox & Matthews 2002", f"last slope {order} ± 0.1", measured, good)
            )
    return rows


def convergence_in_space() -> list[Row]:
    """Errors on 32 to 128 cells against 192, from the same start and with the same time step, a half of the one of
    Courant number 1 on the finest; the slopes grow as long as rounding is not seen: faster than any power."""
    rows = []
    for name, case in cases().items():
        finest = case.grid(FINEST)
        start = case.flow.starts(finest, [1])
        steps = 2 * own_steps(case, start, FINEST)
        reference, errors = advanced(case, start, FINEST, steps), []
        for n in CELLS:
            grid = case.grid(n)
            coarse = advanced(case, case.flow.starts(grid, [1]), n, steps)
            errors.append(distance(resample(coarse, grid, finest), reference))
        pairs = list(zip(CELLS, errors, strict=True))
        slopes = [math.log(e / f) / math.log(m / n) for (n, e), (m, f) in pairwise(pairs) if f > FLOOR]
        grow = all(b > a for a, b in pairwise(slopes))
        measured = " ".join(f"{e:.0e}" for e in errors) + "; slopes " + " ".join(f"{s:.0f}" for s in slopes)
        good = grow and len(slopes) > 1 and errors[-1] < 1e-6
        rows.append(Row(name, f"itself on {FINEST}", "slopes grow; ≤ 1e-6 on 128", measured, good))
    return rows
