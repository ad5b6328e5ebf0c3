"""Exponential time differencing Runge–Kutta for du/dt = L u + N(u), L diagonal and real.

The coefficients are combinations of φ_j(z) = Σ_m z^m / (m + j)!, z = L Δt, whose closed forms cancel near z = 0: there
the series is summed instead. Sources: Cox & Matthews 2002, doi:10.1006/jcph.2002.6995 (eq. 22 and 26–29); Kassam &
Trefethen 2005, doi:10.1137/S1064827502410633 (eq. 2.4–2.5 and section 3).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

Tendency = Callable[[Tensor], Tensor]
FASTEST = -1e100  # a decay that leaves nothing of a step's beginning: the closed forms overflow beyond


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
        """Coefficients for L = `linear` (float64) and the inner step `dt`, in float64; differentiable."""

    @abstractmethod
    def step(self, u: Tensor, tendency_at_u: Tensor, tendency: Tendency) -> Tensor:
        """u(t) → u(t + Δt); N(u) is passed in since the caller has mostly looked at it already."""

    def to(self, device: torch.device, dtype: torch.dtype) -> Integrator:
        """The same scheme with its coefficients where and as precise as the state is."""
        return type(self)([c.to(dtype).to(device) for c in self.coefficients])

    @property
    def nbytes(self) -> int:
        """Memory that the coefficients take."""
        return sum(c.nbytes for c in self.coefficients)

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
        z = _exponent(linear, dt)
        phi1 = _stable(z, [1], lambda z, e: (e - 1) / z)
        phi2 = _stable(z, [0, 1], lambda z, e: (e - 1 - z) / z**2)
        return cls([torch.exp(z), dt * phi1, dt * phi2])

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
        z = _exponent(linear, dt)
        q = 0.5 * _stable(z / 2, [1], lambda z, e: (e - 1) / z)
        f1 = _stable(z, [1, -3, 4], lambda z, e: (-4 - z + e * (4 - 3 * z + z**2)) / z**3)
        f2 = _stable(z, [0, 2, -4], lambda z, e: 2 * (2 + z + e * (z - 2)) / z**3)
        f3 = _stable(z, [0, -1, 4], lambda z, e: (-4 - 3 * z - z**2 + e * (4 - z)) / z**3)
        return cls([torch.exp(z), torch.exp(z / 2), *(dt * f for f in (q, f1, f2, f3))])

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


def _exponent(linear: Tensor, dt: float) -> Tensor:
    return (linear * dt).clamp(min=FASTEST)


def _stable(z: Tensor, weights: Sequence[float], closed: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Σ_j weights_j φ_j(z), j = 1, 2, …: by its closed form, a function of (z, e^z), where |z| ≥ 1, else by its
    series."""
    series = [sum(w / math.factorial(m + j) for j, w in enumerate(weights, 1)) for m in range(19)]
    small = z.abs() < 1
    near, far = torch.where(small, z, 0.0), torch.where(small, 1.0, z)  # neither branch spoils the other's gradient
    total = torch.full_like(z, series[-1])
    for coefficient in series[-2::-1]:
        total = total * near + coefficient
    return torch.where(small, total, closed(far, torch.exp(far)))
