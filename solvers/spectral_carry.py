"""What the solver carries between two stored intervals."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from solvers.array_types import Spectrum
from solvers.equation import EquationTerms
from solvers.integrator_cache import IntegratorCache


@dataclass(frozen=True)
class SpectralCarry:
    """What the solver carries from one stored interval to the next.

    Parameters
    ----------
    spectrum : Tensor
        The state's Fourier coefficients in the layout of the equation: shape (batch, component, ky, kx), the columns
        that hold retained modes, or (batch, component, kz, ky, kx), the retained modes only, see
        `solvers.velocity_equation.VelocityEquation`.
    terms : EquationTerms
        The coefficients of each trajectory's equation.
    planned_steps : tuple of int
        Inner steps that each trajectory is to take between two kicks in the next interval.
    steps_taken : tuple of int
        Inner steps that each trajectory took between two kicks in the last interval.
    intervals_done : int
        How many intervals have passed since the start: with the seed it determines the kicks of the next one.
    seeds : tuple of int
        Seed of each trajectory's stochastic forcing; empty without one.
    injected : Tensor, optional
        Energy and enstrophy that the kicks of the last interval fed, shape (batch, 2).
    integrators : IntegratorCache
        The time integrators that were used last. A pickle or a copy has an empty cache.
    """

    spectrum: Spectrum
    terms: EquationTerms
    planned_steps: tuple[int, ...]
    steps_taken: tuple[int, ...] = ()
    intervals_done: int = 0
    seeds: tuple[int, ...] = ()
    injected: Tensor | None = None
    integrators: IntegratorCache = field(default_factory=IntegratorCache)
