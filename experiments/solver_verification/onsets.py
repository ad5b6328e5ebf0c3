"""Onsets of instability, each by bisection on the growth rate that the solver shows for a small disturbance, from a
bracket that does not hold the published value in its middle."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from cases import TURN
from record import Row, within

from solvers import FLOWS, Grid, NavierStokes2D

TIME = 60.0
MESHALKIN_SINAI = {1 / 4: 1.55218, 1 / 3: 1.66773, 1 / 2: 2.04890}


def growth(solver: NavierStokes2D, base: torch.Tensor, disturbance: torch.Tensor) -> float:
    """log ratio of the disturbance's size between one and two intervals: what decays faster has died out by then."""
    with torch.no_grad():
        carry = solver.advance(solver.start(base + disturbance))
        first = solver.state(carry) - base
        last = solver.state(solver.advance(carry)) - base
    # along x: what the base flow itself does, to rounding, is no disturbance
    first, last = (f - f.mean(-1, keepdim=True) for f in (first, last))
    return math.log(float(last.norm() / first.norm()))


def kolmogorov(reynolds: float, alpha: float) -> float:
    """u = U sin(ky), k = U = 1, held by a force against viscosity ν = 1/Re, in a box 2π/α long."""
    grid = Grid((24, 24), (TURN, TURN / alpha))
    y, x = grid.coordinates()
    laminar = -torch.cos(y)[:, None].expand(grid.n)
    solver = NavierStokes2D(
        grid, viscosity=1 / reynolds, interval=TIME, forcing=laminar / reynolds, dt=TIME / 400, dtype=torch.float64
    )
    wave = 1e-7 * torch.cos(alpha * x)[None, :] * (1 + torch.cos(y + 0.4))[:, None]
    return growth(solver, laminar[None, None], wave[None, None])


def rayleigh_benard(rayleigh: float, k: float) -> float:
    """The conducting state between free-slip plates and a wave sin(πy) cos(kx) of temperature."""
    grid = Grid((16, 16), (2.0, TURN / k))
    y, x = grid.coordinates()
    solver = FLOWS[2]["rayleigh_benard"](rayleigh=rayleigh).solver(
        grid, interval=TIME, dt=TIME / 400, dtype=torch.float64
    )
    wave = 1e-7 * torch.sin(math.pi * y)[:, None] * torch.cos(k * x)[None, :]
    return growth(solver, torch.zeros(1, 2, *grid.n, dtype=torch.float64), torch.stack([0 * wave, wave])[None])


def bisect(rate: Callable[[float], float], low: float, high: float) -> float:
    """Where the growth changes sign, to 1e-6."""
    while high - low > 1e-6 * low:
        middle = (low + high) / 2
        low, high = (middle, high) if rate(middle) < 0 else (low, middle)
    return (low + high) / 2


def rows() -> list[Row]:
    """Re_c of Kolmogorov flow (Meshalkin & Sinai 1961, doi:10.1016/0021-8928(62)90149-1), which tends to √2 in a long
    box, and Ra_c = (π² + k²)³/k² of Rayleigh–Bénard convection (Rayleigh 1916, doi:10.1080/14786441608635602)."""
    made, found = [], {}
    for alpha in (1 / 2, 1 / 3, 1 / 4, 1 / 8, 1 / 16):
        found[alpha] = bisect(lambda re, alpha=alpha: kolmogorov(re, alpha), 1.3, 3.0)
        name = f"Kolmogorov flow, α = 1/{round(1 / alpha)}: Re"
        if alpha in MESHALKIN_SINAI:
            made.append(within(name, "Meshalkin & Sinai 1961", MESHALKIN_SINAI[alpha], 1e-3, found[alpha]))
        else:
            made.append(Row(name, "none published", "", f"{found[alpha]:.5f}"))
    limit = (4 * found[1 / 16] - found[1 / 8]) / 3
    made.append(within("α → 0, from a line in α² through 1/8 and 1/16", "√2", math.sqrt(2), 1e-3, limit))
    for label, k in (("π/√2", math.pi / math.sqrt(2)), ("π", math.pi)):
        exact = (math.pi**2 + k**2) ** 3 / k**2
        critical = bisect(lambda ra, k=k: rayleigh_benard(ra, k), 400.0, 1200.0)
        source = "27π⁴/4 (Rayleigh 1916)" if k < 3 else "8π⁴ (Rayleigh 1916)"
        made.append(within(f"Rayleigh–Bénard, free slip, k = {label}: Ra", source, exact, 1e-3, critical, 3))
    return made
