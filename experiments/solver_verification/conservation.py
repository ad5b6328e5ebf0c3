"""Budgets of energy and enstrophy, what is kept without viscosity, and products free of aliasing."""

from __future__ import annotations

import torch
from record import Row, below, distance

from solvers import FLOWS, Flow, Grid, NavierStokes2D, resample, spectra, turbulence

GRID = Grid.square(64)
FORCED = FLOWS[2]["kolmogorov"](viscosity=1e-2, drag=0.1, waves=2, amplitude=2.0)
STIRRED = FLOWS[2]["stirred"](viscosity=5e-3, drag=0.1, rate=0.5)
SLOTS, PARTS = 40, 10  # intervals of one kick each, parts of each for Simpson's rule
BOTH = (turbulence.mean_energy_budget, turbulence.mean_enstrophy_budget)


def contents(state: torch.Tensor) -> torch.Tensor:
    """Energy and enstrophy."""
    return torch.stack([spectra.kinetic_energy(state, GRID.length)[0], spectra.enstrophy(state)[0]])


def rates(flow: Flow, state: torch.Tensor) -> torch.Tensor:
    """(energy and enstrophy) × (injection by the forcing, dissipation, drag)."""
    made = [budget(state, GRID.length, flow.viscosity, flow.drag, flow.forcing(GRID)) for budget in BOTH]
    return torch.stack([torch.cat(list(budget)) for budget in made])


def integrated(flow: Flow, state: torch.Tensor, interval: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The three rates over an interval without kicks, by Simpson's rule; and the state at its end."""
    free = NavierStokes2D(
        GRID, viscosity=flow.viscosity, drag=flow.drag, forcing=flow.forcing(GRID), interval=interval / PARTS,
        dt=interval / PARTS / 2, dtype=torch.float64,
    )  # fmt: skip
    carry, values = free.start(state), [rates(flow, state)]
    for _ in range(PARTS):
        carry = free.advance(carry)
        values.append(rates(flow, free.state(carry)))
    weights = torch.tensor([1.0, *[4.0, 2.0] * (PARTS // 2 - 1), 4.0, 1.0], dtype=torch.float64)
    return (weights[:, None, None] * torch.stack(values)).sum(0) * interval / PARTS / 3, free.state(carry)


def closes(flow: Flow, name: str, interval: float) -> list[Row]:
    """What energy and enstrophy change by, less what is fed and lost, relative to all that is fed and lost."""
    with torch.no_grad():
        state = flow.solver(GRID, interval=10.0, dtype=torch.float64)(flow.starts(GRID, [0]))
        solver = flow.solver(GRID, interval=interval, dt=interval / 20, dtype=torch.float64)
        carry, first = solver.start(state, seeds=[7] if flow.stochastic_forcing(GRID) else None), contents(state)
        fed, moved, dragged = torch.zeros(3, 2, dtype=torch.float64)
        turned = torch.zeros(2, dtype=torch.float64)
        for _ in range(SLOTS):
            before = solver.state(carry)
            sums, _ = integrated(flow, before, interval)
            carry = solver.advance(carry)
            kicks = carry.injected[0]
            fed, moved, dragged = fed + kicks + sums[:, 0], moved + sums[:, 1] + sums[:, 2], dragged + sums[:, 2]
            turned = turned + kicks.abs() + sums.abs().sum(1)
        change = contents(solver.state(carry)) - first
    errors, controls = (change - fed + moved).abs() / turned, (change - fed + moved - dragged).abs() / turned
    made = []
    for i, quantity in enumerate(("energy", "enstrophy")):
        source = (
            "sources − sinks, Simpson" if flow.stochastic_forcing(GRID) is None else "recorded kicks − sinks, Simpson"
        )
        made.append(
            below(f"{name}: {quantity} budget over {SLOTS * interval:g} time units", source, 1e-6, float(errors[i]))
        )
    made.append(Row(f"control: {name} without the drag's share", "", "> 1e-02", f"{float(controls.min()):.1e}",
                    float(controls.min()) > 1e-2))  # fmt: skip
    return made


def noise_rate() -> Row:
    """Kicks from rest feed ε in the mean: ½ Σ E|σ_k|²/k² (Itô)."""
    grid, many = Grid.square(32), 2000
    solver = STIRRED.solver(grid, interval=STIRRED.renewal, dt=STIRRED.renewal, dtype=torch.float64)
    still = torch.zeros(many, 1, *grid.n, dtype=torch.float64)
    with torch.no_grad():
        injected = solver.advance(solver.start(still, seeds=range(many))).injected[:, 0] / STIRRED.renewal
    mean, error = float(injected.mean()), float(injected.std()) / many**0.5
    return Row(f"stirred: energy that {many} kicks from rest feed", f"ε = {STIRRED.rate}", "within 3 standard errors",
               f"{mean:.4f} ± {error:.4f}", abs(mean - STIRRED.rate) < 3 * error)  # fmt: skip


def invariants() -> list[Row]:
    """Without viscosity and drag, at a Courant number of some 0.1."""
    flow = FLOWS[2]["decaying"](viscosity=6e-3)
    with torch.no_grad():
        start = flow.solver(GRID, interval=1.0, dtype=torch.float64)(flow.starts(GRID, [3]))
        start = torch.fft.irfft2(torch.fft.rfft2(start) * GRID.retained(), s=GRID.n)
        after = NavierStokes2D(GRID, viscosity=0.0, interval=0.5, dt=2.5e-3, dtype=torch.float64)(start)
        coarse = NavierStokes2D(GRID, viscosity=0.0, interval=0.5, dt=0.05, dtype=torch.float64)(start)
    drift, seen = ((contents(s) / contents(start) - 1).abs() for s in (after, coarse))
    moved = distance(after, start)
    return [
        *(below(f"inviscid: {name}, the state changes by {100 * moved:.0f} %", "constant", 1e-10, float(drift[i]))
          for i, name in enumerate(("energy", "enstrophy"))),
        Row("control: steps 20 times as long lose", "", "> 1e-08", f"{float(seen.max()):.1e}",
            float(seen.max()) > 1e-8),
    ]  # fmt: skip


def budgets() -> list[Row]:
    """All of these."""
    made = closes(FORCED, "forced (kolmogorov)", 0.05) + closes(STIRRED, "stirred", STIRRED.renewal)
    return [*made, noise_rate(), *invariants()]


def products() -> list[Row]:
    """With modes (K, K) retained, products on n ≥ 3K + 1 cells are exact: n does not matter (Orszag 1971,
    doi:10.1175/1520-0469(1971)028<1074:OTEOAI>2.0.CO;2). Turbulent flow for two time units, fixed steps."""
    made = []
    flows = {"decaying": FLOWS[2]["decaying"](viscosity=2e-3, rms=4.0),
             "convection": FLOWS[2]["convection"](viscosity=3e-3, diffusivity=3e-3, stratification=0.2,
                                                radius=0.14)}  # fmt: skip
    for modes in (10, 21):
        base = Grid.square(3 * modes + 1 + (3 * modes + 1) % 2)
        for name, flow in flows.items():
            states = {}
            for grid in (base, Grid.square(base.n[0] + 2), Grid.square(2 * base.n[0])):
                solver = NavierStokes2D(
                    grid, viscosity=flow.viscosity, scalar=flow.scalar, interval=2.0, dt=0.005, modes=(modes, modes),
                    dtype=torch.float64,
                )  # fmt: skip
                start = resample(flow.starts(base, [4]), base, grid)
                with torch.no_grad():
                    states[grid.n[0]] = resample(solver(start), grid, base)
            first, *others = states.values()
            error = max(distance(other, first) for other in others)
            cells = ", ".join(str(n) for n in states)
            made.append(below(f"{name}, K = {modes}, n = {cells}", "the same trajectory", 1e-11, error))
            with torch.no_grad():
                fewer = NavierStokes2D(
                    base, viscosity=flow.viscosity, scalar=flow.scalar, interval=2.0, dt=0.005,
                    modes=(modes - 1, modes - 1), dtype=torch.float64,
                )(flow.starts(base, [4]))  # fmt: skip
        control = distance(fewer, first)
        made.append(Row(f"control: one mode fewer than K = {modes}", "", "> 1e-06", f"{control:.1e}", control > 1e-6))
    return made
