"""Another method, written a second time in numpy: velocity in place of vorticity, the advective form in place of the
flux form, full complex transforms, no dealiasing, and SciPy's Runge–Kutta method of order 8 (DOP853; Hairer, Nørsett &
Wanner 1993, §II.10, doi:10.1007/978-3-540-78862-1) in place of exponential time differencing.

    ∂u/∂t = P[−u·∇u + ν∇²u − μ(u − U) + F − gθ],   ∂θ/∂t = −u·∇θ + κ∇²θ − (u − U)·G

P takes out gradients and the mean. What both resolve to rounding must agree to what the integrators' tolerances allow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from cases import TURN
from record import Row, below, distance
from scipy.integrate import solve_ivp

from solvers import FLOWS, Flow, Grid, NavierStokes2D, Tracer

Force = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
REFERENCE = "velocity form, DOP853"


@dataclass(frozen=True)
class Velocity:
    """The equations above on one grid; spectra are full and normalised as numpy's."""

    flow: Flow
    grid: Grid
    force: Force | None = None

    def __post_init__(self) -> None:
        ky, kx = (TURN * np.fft.fftfreq(n, side / n) for n, side in zip(self.grid.n, self.grid.length, strict=True))
        k = np.stack(np.broadcast_arrays(kx[None, :], ky[:, None]))
        object.__setattr__(self, "k", k)
        object.__setattr__(self, "k2", (k**2).sum(0))

    def to_velocity(self, vorticity: np.ndarray) -> np.ndarray:
        """û with i k × û = ω̂ and i k·û = 0."""
        scaled = 1j * np.fft.fft2(vorticity) / np.where(self.k2 > 0, self.k2, np.inf)
        return np.stack([self.k[1] * scaled, -self.k[0] * scaled])

    def to_vorticity(self, velocity: np.ndarray) -> np.ndarray:
        """∂v/∂x − ∂u/∂y."""
        return np.fft.ifft2(1j * (self.k[0] * velocity[1] - self.k[1] * velocity[0])).real

    def tendency(self, spectra: np.ndarray) -> np.ndarray:
        """∂/∂t of (û, v̂) or (û, v̂, θ̂), without U."""
        flow, scalar = self.flow, self.flow.scalar
        fields = np.fft.ifft2(spectra).real
        by_x, by_y = (np.fft.ifft2(1j * k * spectra).real for k in self.k)
        carrier = fields[:2] + np.array(flow.mean_velocity)[:, None, None]
        out = np.fft.fft2(-carrier[0] * by_x - carrier[1] * by_y)
        out[:2] -= (flow.viscosity * self.k2 + flow.drag) * spectra[:2]
        if self.force is not None:
            y, x = (c.numpy() for c in self.grid.coordinates())
            out[:2] += np.fft.fft2(np.stack(np.broadcast_arrays(*self.force(y[:, None], x[None, :]))))
        if scalar is not None:
            out[2] -= scalar.diffusivity * self.k2 * spectra[2]
            for i in range(2):
                out[i] -= (scalar.gravity[i] if scalar.gravity else 0.0) * spectra[2]
                out[2] -= (scalar.mean_gradient[i] if scalar.mean_gradient else 0.0) * spectra[i]
        along = (self.k * out[:2]).sum(0) / np.where(self.k2 > 0, self.k2, np.inf)
        out[:2] -= self.k * along
        out[:2, 0, 0] = 0.0
        return out

    def integrate(self, state: torch.Tensor, time: float) -> torch.Tensor:
        """The state (1, component, y, x) a `time` later."""
        fields = state[0].numpy()
        first = np.concatenate([self.to_velocity(fields[0]), np.fft.fft2(fields[1:])])
        shape, scale = first.shape, np.abs(first).max()
        done = solve_ivp(
            lambda _, packed: self.tendency(packed.view(complex).reshape(shape)).ravel().view(float),
            (0.0, time), first.ravel().view(float), method="DOP853", rtol=1e-11, atol=1e-13 * scale,
        )  # fmt: skip
        last = done.y[:, -1].copy().view(complex).reshape(shape)
        out = np.concatenate([self.to_vorticity(last[:2])[None], np.fft.ifft2(last[2:]).real])
        return torch.from_numpy(out)[None]


def ours(flow: Flow, grid: Grid, state: torch.Tensor, time: float) -> torch.Tensor:
    """The solver at a Courant number of an eighth."""
    own = flow.solver(grid, interval=time, dtype=torch.float64)
    taken = own.advance(own.start(state)).steps_taken[0]
    return flow.solver(grid, interval=time, dt=time / (8 * taken), dtype=torch.float64)(state)


def rows() -> list[Row]:
    """Every deterministic term of the equations, at t = 1."""
    square, long, layer = Grid.square(128), Grid((96, 144), (TURN, 1.5 * TURN)), Grid((64, 64), (2.0, 2.0))
    sheared = {"viscosity": 5e-2, "wavenumber": 3.0, "rms": 2.0, "waves": 2, "drag": 0.1}
    tracer = Tracer(diffusivity=5e-2, mean_gradient=(0.3, 1.0))
    convection = {"viscosity": 2e-2, "diffusivity": 3e-2, "radius": 0.15, "tilt": 0.4, "stratification": 0.5}

    def stripes(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.sin(2 * y) + 0 * x, 0 * y * x

    compared: dict[str, tuple[Flow, Grid, Force | None]] = {
        "decaying": (FLOWS[2]["decaying"](viscosity=3e-2, wavenumber=3.0, rms=2.0), square, None),
        "kolmogorov, rectangle, drag": (FLOWS[2]["kolmogorov"](**sheared), long, stripes),
        "tracer, mean gradient, mean velocity": (
            FLOWS[2]["kolmogorov"](**sheared, tracer=tracer, mean_velocity=(0.7, -0.4)), square, stripes,
        ),
        "convection, tilted, stratified": (FLOWS[2]["convection"](**convection), square, None),
        "rayleigh_benard, Ra = 2000": (
            FLOWS[2]["rayleigh_benard"](rayleigh=2e3, prandtl=0.7, noise=0.3, wavenumber=2.0), layer, None,
        ),
    }  # fmt: skip
    made = []
    for name, (flow, grid, force) in compared.items():
        start = flow.starts(grid, [2])
        theirs, mine = Velocity(flow, grid, force).integrate(start, 1.0), ours(flow, grid, start, 1.0)
        made.append(below(f"{name}: relative difference", REFERENCE, 1e-8, distance(mine, theirs)))
        if name.startswith("convection"):
            wrong = NavierStokes2D(grid, viscosity=2.02e-2, interval=1.0, scalar=flow.scalar, dtype=torch.float64)
            control = distance(wrong(start), theirs)
            made.append(Row("control: viscosity 1 % off", REFERENCE, "> 1e-04", f"{control:.1e}", control > 1e-4))
    return made
