r"""Exponential time differencing Runge–Kutta (ETDRK) schemes for du/dt = L u + N(u), with L diagonal and real.

The coefficients are combinations of

.. math:: \varphi_j(z) = \sum_{m \ge 0} \frac{z^m}{(m + j)!}, \qquad z = L \, \Delta t,

whose closed forms cancel near z = 0: there the series is summed instead. Sources: Cox & Matthews 2002,
doi:10.1006/jcph.2002.6995 (eq. 22 and 26–29); Kassam & Trefethen 2005, doi:10.1137/S1064827502410633 (eq. 2.4–2.5 and
section 3).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import ClassVar, final

import torch
from torch import Tensor

from solvers.docstrings import InheritDocstrings

Tendency = Callable[[Tensor], Tensor]
Closed = Callable[[Tensor, Tensor], Tensor]
FASTEST_DECAY = -1e100  # of L Δt, which leaves nothing of a step's beginning: the closed forms overflow beyond


class Integrator(InheritDocstrings, ABC):
    """A time integration scheme with its coefficients for one inner time step.

    Parameters
    ----------
    coefficients : sequence of Tensor
        They broadcast against the spectral state (batch, component, …).

    Attributes
    ----------
    order : int
        Order of accuracy.
    name : str
        What the scheme is called in the literature.
    cfl : float
        The largest ``Δt · max(Σ |u_i|/Δx_i)`` that a solver chooses by itself.
    """

    order: ClassVar[int]
    name: ClassVar[str]
    cfl: ClassVar[float]

    def __init__(self, coefficients: Sequence[Tensor]) -> None:
        self.coefficients = tuple(coefficients)

    @classmethod
    @abstractmethod
    def from_linear(cls, linear: Tensor, dt: float) -> Integrator:
        """Compute the coefficients; differentiable.

        Parameters
        ----------
        linear : Tensor
            The diagonal of L, float64, in 1/s.
        dt : float
            The inner time step, in s.

        Returns
        -------
        Integrator
            The scheme, with coefficients in float64.
        """

    @abstractmethod
    def step(self, u: Tensor, tendency_at_u: Tensor, tendency: Tendency) -> Tensor:
        """Take one inner step.

        Parameters
        ----------
        u : Tensor
            The state u(t).
        tendency_at_u : Tensor
            N(u), which the caller has mostly computed already.
        tendency : callable
            The function N.

        Returns
        -------
        Tensor
            The state u(t + Δt).
        """

    def to(self, device: torch.device, dtype: torch.dtype) -> Integrator:
        """Return the scheme with its coefficients on another device and in another precision.

        Parameters
        ----------
        device : torch.device
            The device of the state.
        dtype : torch.dtype
            The dtype of the state.

        Returns
        -------
        Integrator
            A new object.
        """
        return type(self)([c.to(dtype).to(device) for c in self.coefficients])

    @property
    def nbytes(self) -> int:
        """Memory that the coefficients take, in bytes."""
        return sum(c.nbytes for c in self.coefficients)

    @classmethod
    def stack(cls, integrators: Sequence[Integrator]) -> Integrator:
        """Return one scheme for trajectories with different inner steps.

        Parameters
        ----------
        integrators : sequence of Integrator
            The scheme of each trajectory.

        Returns
        -------
        Integrator
            Their coefficients along the batch axis.
        """
        columns = zip(*(i.coefficients for i in integrators), strict=True)
        return cls([torch.cat(column) for column in columns])

    def split(self) -> list[Integrator]:
        """Return the schemes of the trajectories, one by one: the opposite of `stack`.

        Returns
        -------
        list of Integrator
            One for each entry of the coefficients' batch axis.
        """
        return [type(self)(row) for row in zip(*(c.split(1) for c in self.coefficients), strict=True)]


@final
class ETDRK2(Integrator):
    r"""The second-order scheme of Cox & Matthews (2002, eq. 22).

    .. math::

        a &= e^{L \Delta t} u + \Delta t \, \varphi_1 N(u) \\
        u^+ &= a + \Delta t \, \varphi_2 \, (N(a) - N(u))

    Parameters
    ----------
    coefficients : sequence of Tensor
        ``exp(L Δt)``, ``Δt φ₁`` and ``Δt φ₂``.
    """

    order, name, cfl = 2, "ETDRK2", 0.5

    @classmethod
    def from_linear(cls, linear: Tensor, dt: float) -> ETDRK2:
        z = _exponent(linear, dt)
        phi1 = _combine_phi(z, [1], lambda z, e: (e - 1) / z)
        phi2 = _combine_phi(z, [0, 1], lambda z, e: (e - 1 - z) / z**2)
        return cls([torch.exp(z), dt * phi1, dt * phi2])

    def step(self, u: Tensor, tendency_at_u: Tensor, tendency: Tendency) -> Tensor:
        decay, first, second = self.coefficients
        a = torch.addcmul(decay * u, first, tendency_at_u)
        return torch.addcmul(a, second, tendency(a) - tendency_at_u)


@final
class ETDRK4(Integrator):
    """The fourth-order scheme of Kassam & Trefethen (2005, eq. 2.4–2.5).

    Parameters
    ----------
    coefficients : sequence of Tensor
        ``exp(L Δt)``, ``exp(L Δt/2)``, Q and f₁, f₂, f₃ of the paper.
    """

    order, name, cfl = 4, "ETDRK4", 1.0

    @classmethod
    def from_linear(cls, linear: Tensor, dt: float) -> ETDRK4:
        z = _exponent(linear, dt)
        q = 0.5 * _combine_phi(z / 2, [1], lambda z, e: (e - 1) / z)
        f1 = _combine_phi(z, [1, -3, 4], lambda z, e: (-4 - z + e * (4 - 3 * z + z**2)) / z**3)
        f2 = _combine_phi(z, [0, 2, -4], lambda z, e: 2 * (2 + z + e * (z - 2)) / z**3)
        f3 = _combine_phi(z, [0, -1, 4], lambda z, e: (-4 - 3 * z - z**2 + e * (4 - z)) / z**3)
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
    return (linear * dt).clamp(min=FASTEST_DECAY)


def _combine_phi(z: Tensor, weights: Sequence[float], closed: Closed | None) -> Tensor:
    """Return Σ_j weights_j φ_j(z), j = 1, 2, …: by `closed`, a function of z and e^z, for |z| ≥ 1, else a series."""
    return PhiCombination.apply(z, weights, closed)


class PhiCombination(torch.autograd.Function):
    r"""A combination of the functions φ, whose derivative is one too.

    .. math:: \varphi_j' = \varphi_j - j \varphi_{j+1}

    So a gradient takes one more series, where PyTorch would go back over every term of the first.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor, weights: Sequence[float], closed: Closed | None) -> Tensor:
        """Return Σ_j weights_j φ_j(z).

        Parameters
        ----------
        z : Tensor
            Any shape, float64.
        weights : sequence of float
            The weights of φ₁, φ₂, ….
        closed : callable, optional
            The closed form for |z| ≥ 1, a function of z and e^z; by default the recurrence of the functions φ.

        Returns
        -------
        Tensor
            Of the shape of `z`.
        """
        series = [sum(w / math.factorial(m + j) for j, w in enumerate(weights, 1)) for m in range(19)]
        small = z.abs() < 1
        near, far = torch.where(small, z, 0.0), torch.where(small, 1.0, z)
        total = torch.full_like(z, series[-1])
        for coefficient in series[-2::-1]:
            total = total.mul_(near).add_(coefficient)
        return torch.where(small, total, (closed or _recurrence(weights))(far, torch.exp(far)))

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        """Keep the arguments for the derivative.

        Parameters
        ----------
        ctx : FunctionCtx
            Context of the call.
        inputs : tuple
            Arguments of `forward`.
        output : Tensor
            Result of `forward`.
        """
        z, ctx.weights, _ = inputs
        ctx.save_for_backward(z)
        ctx.save_for_forward(z)

    @staticmethod
    def _slope(ctx) -> Tensor:
        """Return the derivative."""
        (z,), w = ctx.saved_tensors, [0.0, *ctx.weights, 0.0]
        return _combine_phi(z, [b - j * a for j, (a, b) in enumerate(pairwise(w))], None)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Compute the gradient for z.

        Parameters
        ----------
        ctx : FunctionCtx
            Context of the call.
        gradient : Tensor
            Gradient with respect to the result.

        Returns
        -------
        tuple of (Tensor, None, None)
            Gradients with respect to the arguments of `forward`.
        """
        return gradient * PhiCombination._slope(ctx), None, None

    @staticmethod
    def jvp(ctx, tangent: Tensor, *_) -> Tensor:
        """Compute the directional derivative.

        Parameters
        ----------
        ctx : FunctionCtx
            Context of the call.
        tangent : Tensor
            Direction of z.
        *_ : None
            The other arguments have no direction.

        Returns
        -------
        Tensor
            Of the shape of `z`.
        """
        return tangent * PhiCombination._slope(ctx)


def _recurrence(weights: Sequence[float]) -> Closed:
    """Return Σ_j weights_j φ_j as a function of z and e^z, by φ_{j+1} = (φ_j − 1/j!) / z and φ₀ = e^z."""

    def closed(z: Tensor, e: Tensor) -> Tensor:
        phi, total = e, torch.zeros_like(z)
        for j, weight in enumerate(weights):
            phi = (phi - 1 / math.factorial(j)) / z
            total = total + weight * phi
        return total

    return closed
