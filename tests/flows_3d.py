"""Closed-form flows in three dimensions, and random ones, written apart from the package."""

import math

import numpy as np
import torch

from solvers import Grid, NavierStokes3D

sin, cos = torch.sin, torch.cos


def mesh(grid, shift=(0.0, 0.0, 0.0)):
    """x, y, z at every cell centre, less a shift (x, y, z)."""
    z, y, x = torch.broadcast_tensors(*grid.mesh())
    return x - shift[0], y - shift[1], z - shift[2]


def abc(x, y, z, amplitudes=(1.0, 0.7, 0.4), k=2):
    """A Beltrami flow, curl u = k u (Arnold 1965; Childress 1970)."""
    a, b, c = amplitudes
    return torch.stack([
        a * sin(k * z) + c * cos(k * y), b * sin(k * x) + a * cos(k * z), c * sin(k * y) + b * cos(k * x)
    ])[None]  # fmt: skip


def antuono(x, y, z, k=1.0):
    """Antuono 2020, doi:10.1017/jfm.2020.126, of positive helicity: curl u = √3 k u."""
    a, b = 5 * math.pi / 6, math.pi / 6

    def component(x, y, z):
        return sin(k * x - a) * cos(k * y - b) * sin(k * z) - cos(k * z - a) * sin(k * x - b) * sin(k * y)

    scale = 4 * math.sqrt(2) / (3 * math.sqrt(3))
    return scale * torch.stack([component(x, y, z), component(y, z, x), component(z, x, y)])[None]


def taylor_green(x, y, z):
    return torch.stack([sin(x) * cos(y) * cos(z), -cos(x) * sin(y) * cos(z), torch.zeros_like(x)])[None]


def random_field(grid, seed=0, components=3, reach=3, batch=1, solenoidal=True, mean=0.0):
    """A smooth field without any symmetry: modes up to `reach` waves on each axis, RMS near 1."""
    rng = np.random.default_rng(seed)
    x, y, z = (c.numpy() for c in mesh(Grid(grid.n)))  # of the box 2π: as many waves across any box
    waves = 2 * math.pi / np.array(grid.length[::-1])
    out = np.zeros((batch, components, *grid.n))
    for m in np.ndindex(2 * reach + 1, 2 * reach + 1, reach + 1):
        mz, my, mx = m[0] - reach, m[1] - reach, m[2]
        k = waves * np.array([mx, my, mz])
        if not k.any() or np.hypot(np.hypot(mx, my), mz) > reach:
            continue
        phase = mx * x + my * y + mz * z
        for amplitude, wave in ((rng.standard_normal((batch, components)), np.cos(phase)),
                                (rng.standard_normal((batch, components)), np.sin(phase))):  # fmt: skip
            if solenoidal:
                amplitude[:, :3] -= (amplitude[:, :3] @ k)[:, None] * k / (k @ k)
            out += amplitude[:, :, None, None, None] * wave
    out /= np.sqrt((out**2).mean((-3, -2, -1), keepdims=True).mean(1, keepdims=True))
    return torch.from_numpy(out) + mean


def solver(grid, **options):
    return NavierStokes3D(grid, **{"viscosity": 0.05, "interval": 0.25, "dtype": torch.float64, **options})


def distance(a, b):
    """The relative difference."""
    return float((a - b).norm() / b.norm())
