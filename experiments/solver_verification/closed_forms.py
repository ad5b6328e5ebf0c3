"""Solutions that are known in closed form, float64."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from cases import TURN
from record import Row, below, distance, within

from solvers import FLOWS, Grid, NavierStokes2D, Tracer, TransportedScalar
from solvers.flows.initial_conditions import closed_form_field, lamb_chaplygin

GRID = Grid((48, 64), (TURN, 1.5 * TURN))
Y, X = GRID.coordinates()[0][:, None], GRID.coordinates()[1][None, :]
ROOT = 3.8317059702075125  # ba, the first zero of J₁


def field(values: torch.Tensor) -> torch.Tensor:
    """(1, 1, y, x)."""
    return values.expand(GRID.n)[None, None].clone()


def wave(my: int, mx: int, phase: float = 0.0) -> tuple[torch.Tensor, float, float]:
    """cos(k·x + phase), ky and kx."""
    ky, kx = TURN * my / GRID.length[0], TURN * mx / GRID.length[1]
    return field(torch.cos(ky * Y + kx * X + phase)), ky, kx


def solver(interval: float, **options) -> NavierStokes2D:
    """On the rectangle."""
    return NavierStokes2D(GRID, interval=interval, dtype=torch.float64, **options)


def decays() -> list[Row]:
    """Taylor–Green exp(−νk²t) (Taylor & Green 1937), a single wave exp(−(νk² + μ)t), a tracer's exp(−κk²t)."""
    ky, kx = 2.0, 2 * TURN / GRID.length[1]
    taylor_green = field(torch.cos(kx * X) * torch.cos(ky * Y))
    after = solver(0.7, viscosity=0.02)(taylor_green)
    rate = 0.02 * (kx**2 + ky**2)
    single, ky, kx = wave(5, -3, 0.4)
    dragged = solver(0.7, viscosity=0.02, drag=0.3)(single)
    carried = solver(
        0.7, viscosity=0.02, dt=1e-3, scalar=TransportedScalar(diffusivity=0.05), mean_velocity=(1.3, -0.6)
    )
    moved = wave(5, -3, 0.4 - 0.7 * (1.3 * kx - 0.6 * ky))[0] * math.exp(-0.05 * (kx**2 + ky**2) * 0.7)
    tracer = carried(torch.cat([torch.zeros_like(single), single], dim=1))[:, 1:]
    return [
        below("Taylor–Green vortices", "exp(−νk²t)", 1e-12, distance(after, taylor_green * math.exp(-rate * 0.7))),
        below("a single wave, with drag", "exp(−(νk² + μ)t)", 1e-12,
              distance(dragged, single * math.exp(-(0.02 * (kx**2 + ky**2) + 0.3) * 0.7))),
        below("a tracer's wave in a mean velocity", "exp(−κk²t), moved by Ut", 1e-10, distance(tracer, moved)),
    ]  # fmt: skip


def tracer_is_vorticity() -> list[Row]:
    """θ obeys the equation of ω where κ = ν, μ = 0 and nothing forces: it stays what ω is."""
    grid = Grid.square(64)
    flow = FLOWS[2]["decaying"](viscosity=5e-3, rms=4.0, tracer=Tracer(diffusivity=5e-3))
    start = flow.starts(grid, [0])[:, :1].expand(-1, 2, -1, -1)
    after = flow.solver(grid, interval=2.0, dtype=torch.float64)(start)
    error, change = distance(after[:, 1:], after[:, :1]), distance(after[:, :1], start[:, :1])
    return [below(f"tracer = vorticity, which changes by {100 * change:.0f} %", "θ = ω, κ = ν", 1e-12, error)]


def laminar_kolmogorov() -> list[Row]:
    """From rest ω = −A k cos(ky) (1 − e^{−rt})/r, r = νk² + μ."""
    flow = FLOWS[2]["kolmogorov"](viscosity=0.05, drag=0.1, waves=2, amplitude=1.5)
    rate = 0.05 * 4 + 0.1
    after = flow.solver(GRID, interval=3.0, dtype=torch.float64)(torch.zeros(1, 1, *GRID.n, dtype=torch.float64))
    exact = field(-1.5 * 2 * torch.cos(2 * Y)) * -math.expm1(-rate * 3.0) / rate
    late = flow.solver(GRID, interval=200.0, dtype=torch.float64)(after)
    amplitude = float(late.abs().max() / torch.cos(2 * Y).abs().max())
    return [
        below("Kolmogorov flow from rest", "−A k cos(ky) (1 − e^{−rt})/r", 1e-12, distance(after, exact)),
        within("its amplitude in the end", "A k/(νk² + μ)", 3 / rate, 1e-12, amplitude),
    ]


def gravity_wave() -> list[Row]:
    """A plane internal wave solves the full equations: frequency N cos φ, φ the angle of k to the horizontal, and decay
    exp(−νk²t) where κ = ν (Vallis 2017, §7.3, doi:10.1017/9781107588417). Frequency from the zeros of θ's amplitude."""
    start, ky, kx = wave(3, 4, 0.3)
    buoyancy, nu = 1.7, 2e-3
    scalar = TransportedScalar(diffusivity=nu, mean_gradient=(0.0, buoyancy**2), gravity=(0.0, -1.0))
    flow, interval = solver(0.05, viscosity=nu, dt=0.00625, scalar=scalar), 0.05
    carry, amplitudes = flow.start(torch.cat([torch.zeros_like(start), start], dim=1)), [1.0]
    for i in range(1, 601):
        carry = flow.advance(carry)
        theta = flow.state(carry)[:, 1:]
        amplitudes.append(
            float((theta * start).sum() / start.square().sum()) * math.exp(nu * (kx**2 + ky**2) * i * interval)
        )
    frequency = buoyancy * kx / math.hypot(kx, ky)
    zeros = [
        i + amplitudes[i] / (amplitudes[i] - amplitudes[i + 1])
        for i in range(600)
        if amplitudes[i] * amplitudes[i + 1] < 0
    ]
    measured = math.pi * (len(zeros) - 1) / ((zeros[-1] - zeros[0]) * interval)
    exact = np.cos(frequency * interval * np.arange(601))
    error = float(np.abs(np.array(amplitudes) - exact).max())
    return [
        within("internal gravity wave: frequency", "N cos φ", frequency, 1e-4, measured),
        below("its amplitude over 30 time units", "cos(ωt) exp(−νk²t)", 1e-8, error),
    ]


def dipole_speed(radius: float, n: int) -> float:
    """Of a Lamb–Chaplygin dipole of this radius in a unit box, in units of its own U: over the time in which it moves
    by its diameter, after it has moved by its radius. By the centroid of ω²."""
    grid = Grid.square(n, 1.0)
    start = closed_form_field(partial(lamb_chaplygin, radius=radius), grid, [0])
    speed = radius / (2 * ROOT)  # the amplitude of the start is −2 U b = 1
    flow = NavierStokes2D(grid, viscosity=1e-5 * speed * radius, interval=radius / speed, dtype=torch.float64)
    angle = torch.exp(2j * math.pi * grid.coordinates()[1])

    def place(state: torch.Tensor) -> float:
        return float(torch.angle((state[0, 0].square().sum(0) * angle).sum())) / (2 * math.pi)

    with torch.no_grad():
        carry = flow.advance(flow.start(start))
        first = place(flow.state(carry))
        carry = flow.advance(flow.advance(carry))
        moved = (place(flow.state(carry)) - first) % 1.0
    return moved / (2 * radius)


def dipole() -> list[Row]:
    """U of a small dipole in a large box (Lamb 1932, §165; Meleshko & van Heijst 1994, doi:10.1017/S0022112094004428).
    Its images, with no mean flow, slow it by its impulse 2πa²U over twice the box, πa²U/L²: a line in a²."""
    radii, cells = (0.1, 0.075, 0.05), (256, 384, 512)
    speeds = [dipole_speed(a, n) for a, n in zip(radii, cells, strict=True)]
    slope, limit = np.polyfit(np.square(radii), speeds, 1)
    shown = ", ".join(f"{s:.4f}" for s in speeds)
    return [
        within("Lamb–Chaplygin dipole: speed/U as a/L → 0", "1 (Lamb 1932)", 1.0, 1e-2, float(limit), 4),
        Row("at a/L = 0.1, 0.075, 0.05; slope in (a/L)²", "1 − π (a/L)²", "", f"{shown}; {slope:.2f}"),
    ]


def rows() -> list[Row]:
    """All of them."""
    parts = (decays, tracer_is_vorticity, laminar_kolmogorov, gravity_wave, dipole)
    return [row for part in parts for row in part()]
