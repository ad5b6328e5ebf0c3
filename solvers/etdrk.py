"""Exponential time differencing Runge–Kutta for du/dt = L u + N(u), L diagonal and real.

The coefficients are averages over a circle in the complex plane, which avoids the cancellation of their closed forms
near L Δt = 0. Sources: Cox & Matthews 2002, doi:10.1006/jcph.2002.6995 (eq. 22 and 26–29); Kassam & Trefethen 2005,
doi:10.1137/S1064827502410633 (eq. 2.4–2.5 and section 3).
"""

from __future__ import annotations

import cmath
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

Tendency = Callable[[Tensor], Tensor]


class Integrator(ABC):
    """A scheme for one inner step; `coefficients` broadcast against the spectral state (batch, component, ky, kx)."""

    order: int
    name: str
    cfl: float  # largest Δt · max(|u|/Δx + |v|/Δy) that a solver takes by itself

    def __init__(self, coefficients: Sequence[Tensor]) -> None:
        self.coefficients = tuple(coefficients)

    @classmethod
    @abstractmethod
    def from_linear(cls, linear: Tensor, dt: float) -> Integrator:
        """Coefficients for L = `linear` (float64) and the inner step `dt`, in float64."""

    @abstractmethod
    def step(self, u: Tensor, tendency_at_u: Tensor, tendency: Tendency) -> Tensor:
        """u(t) → u(t + Δt); N(u) is passed in since the caller has mostly looked at it already."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Integrator:
        """The same scheme with its coefficients where and as precise as the state is."""
        return type(self)([c.to(device, dtype) for c in self.coefficients])

    @classmethod
    def stack(cls, integrators: Sequence[Integrator]) -> Integrator:
        """One scheme whose trajectories take different inner steps, along the batch axis."""
        columns = zip(*(i.coefficients for i in integrators), strict=True)
        return cls([torch.cat(column) for column in columns])


@final
class ETDRK2(Integrator):
    """Second order: a = e^{LΔt} u + Δt φ₁ N(u);  u⁺ = a + Δt φ₂ (N(a) − N(u))."""

    order, name, cfl = 2, "ETDRK2", 0.5

    @classmethod
    def from_linear(cls, linear: Tensor, dt: float) -> ETDRK2:
        phi1, phi2 = _contour_means(linear * dt, lambda z, e: [(e - 1) / z, (e - 1 - z) / z**2])
        return cls([torch.exp(linear * dt), dt * phi1, dt * phi2])

    def step(self, u: Tensor, tendency_at_u: Tensor, tendency: Tendency) -> Tensor:
        decay, first, second = self.coefficients
        a = torch.addcmul(decay * u, first, tendency_at_u)
        return torch.addcmul(a, second, tendency(a) - tendency_at_u)


@final
class ETDRK4(Integrator):
    """Fourth order, Kassam & Trefethen eq. 2.4–2.5."""

    order, name, cfl = 4, "ETDRK4", 1.0

    @classmethod
    def from_linear(cls, linear: Tensor, dt: float) -> ETDRK4:
        averaged = _contour_means(
            linear * dt,
            lambda z, e: [
                (torch.exp(z / 2) - 1) / z,
                (-4 - z + e * (4 - 3 * z + z**2)) / z**3,
                2 * (2 + z + e * (z - 2)) / z**3,
                (-4 - 3 * z - z**2 + e * (4 - z)) / z**3,
            ],
        )
        return cls([torch.exp(linear * dt), torch.exp(linear * dt / 2), *(dt * mean for mean in averaged)])

    def step(self, u: Tensor, tendency_at_u: Tensor, tendency: Tendency) -> Tensor:
        decay, half, q, f1, f2, f3 = self.coefficients
        half_u = half * u
        a = torch.addcmul(half_u, q, tendency_at_u)
        at_a = tendency(a)
        at_b = tendency(torch.addcmul(half_u, q, at_a))
        at_c = tendency(torch.addcmul(half * a, q, torch.sub(2 * at_b, tendency_at_u)))
        u = torch.addcmul(decay * u, f1, tendency_at_u)
        return torch.addcmul(torch.addcmul(u, f2, at_a + at_b), f3, at_c)


INTEGRATORS: dict[int, type[Integrator]] = {scheme.order: scheme for scheme in (ETDRK2, ETDRK4)}


def _contour_means(
    z: Tensor, functions: Callable[[Tensor, Tensor], list[Tensor]], points: int = 32
) -> tuple[Tensor, ...]:
    """Means of functions of (z, e^z), real on the real axis, over the unit circle around each real z: over its upper
    half, since the lower is its mirror image. Point by point, so that memory is that of a few arrays of z's shape."""
    sums: list[Tensor] = []
    for i in range(points):
        around = z + cmath.exp(1j * math.pi * (i + 0.5) / points)
        values = [value.real / points for value in functions(around, torch.exp(around))]
        sums = [a + b for a, b in zip(sums, values, strict=True)] if sums else values
    return tuple(sums)
