"""Scales of a turbulent flow, and the budgets of its mean energy and enstrophy, from the vorticity.

Tensors go in, and one number for each field of the batch comes out. As in `solvers.spectra` the box is given by its
sides (y, x). Viscosity and drag are numbers, or one for each field. The scales of a fluid at rest are NaN.

The budgets here are those of box means, dE/dt = injection − dissipation − drag. The spectral budget, shell by shell,
also holds the transfer between scales: see `solvers.spectra.energy_transfer`.
"""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import PerTrajectory, ScalarField, Sides
from solvers.spectra import cospectrum, enstrophy, kinetic_energy, palinstrophy, require_fields

Coefficient = float | PerTrajectory
Forcing = Float[Tensor, "*forced y x"]


def rms_velocity(vorticity: ScalarField, length: Sides) -> PerTrajectory:
    r"""Compute the root mean square of the velocity, of both components together.

    .. math:: u = \langle |u|^2 \rangle^{1/2} = (2 E)^{1/2}

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch,), in m/s.
    """
    return (2 * kinetic_energy(vorticity, length)).sqrt()


def integral_scale(vorticity: ScalarField, length: Sides) -> PerTrajectory:
    r"""Compute the integral length scale from the energy spectrum, summed mode by mode.

    .. math:: L = 2 \, \frac{\sum E(k) / k}{\sum E(k)}

    In isotropic flow it is the integral ∫ f dr of the longitudinal velocity correlation f(r) (Pope 2000, §6.3,
    doi:10.1017/CBO9780511840531): in two dimensions E f(r) = ∫ 2 E(k) J₁(kr)/(kr) dk, and ∫ J₁(s)/s ds = 1. Other
    authors multiply Σ E(k)/k / Σ E(k) by 1 or 2π.

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch,), in m.
    """
    weighted = cospectrum(vorticity, vorticity, length, -3).sum(-1)
    return 2 * weighted / cospectrum(vorticity, vorticity, length, -2).sum(-1)


def taylor_microscale(vorticity: ScalarField, length: Sides) -> PerTrajectory:
    r"""Compute the Taylor microscale: viscosity dissipates energy at the rate 2νE/λ².

    .. math:: \lambda = (\langle |u|^2 \rangle / \langle \omega^2 \rangle)^{1/2} = (E / Z)^{1/2}

    Taylor 1935 (doi:10.1098/rspa.1935.0151) defines λ through the dissipation too, in three dimensions with a factor
    of his own, 15νu'²/λ².

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch,), in m.
    """
    return (kinetic_energy(vorticity, length) / _fluctuating_enstrophy(vorticity, length)).sqrt()


def turnover_time(vorticity: ScalarField, length: Sides) -> PerTrajectory:
    """Compute the turnover time T = L/u of the large eddies (Pope 2000, §6.1).

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.

    Returns
    -------
    Tensor
        `integral_scale` divided by `rms_velocity`, shape (batch,), in s.
    """
    return integral_scale(vorticity, length) / rms_velocity(vorticity, length)


def reynolds_number(vorticity: ScalarField, length: Sides, viscosity: Coefficient) -> PerTrajectory:
    """Compute the Reynolds number Re = u L/ν of `rms_velocity` and `integral_scale`.

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.
    viscosity : float or Tensor
        Kinematic viscosity ν in m²/s, one number or shape (batch,).

    Returns
    -------
    Tensor
        Shape (batch,); infinite for ν = 0.
    """
    scale = rms_velocity(vorticity, length) * integral_scale(vorticity, length)
    return scale / _checked(viscosity, vorticity)


def dissipation_wavenumber(vorticity: ScalarField, length: Sides, viscosity: Coefficient) -> PerTrajectory:
    r"""Compute the wavenumber at which viscosity ends the enstrophy cascade.

    .. math:: k_d = \eta^{1/6} / \nu^{1/2}, \qquad \eta = 2 \nu P

    Here η is the dissipation of enstrophy and P the palinstrophy. Source: Kraichnan 1967, doi:10.1063/1.1762301.

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.
    viscosity : float or Tensor
        Kinematic viscosity ν in m²/s, one number or shape (batch,).

    Returns
    -------
    Tensor
        Shape (batch,), in 1/m; infinite for ν = 0.
    """
    return (2 * palinstrophy(vorticity, length)) ** (1 / 6) / _checked(viscosity, vorticity) ** (1 / 3)


@final
class MeanBudget(NamedTuple):
    """What changes the mean energy or enstrophy of a box in unit time; advection does not.

    Parameters
    ----------
    injection : Tensor
        What the forcing feeds, shape (batch,).
    dissipation : Tensor
        What viscosity takes, shape (batch,).
    drag : Tensor
        What linear drag takes, shape (batch,).
    """

    injection: PerTrajectory
    dissipation: PerTrajectory
    drag: PerTrajectory

    @property
    def rate(self) -> PerTrajectory:
        """The time derivative: injection − dissipation − drag, shape (batch,)."""
        return self.injection - self.dissipation - self.drag


def mean_energy_budget(
    vorticity: ScalarField,
    length: Sides,
    viscosity: Coefficient,
    drag: Coefficient = 0.0,
    forcing: Forcing | None = None,
) -> MeanBudget:
    r"""Compute the budget of the mean kinetic energy.

    .. math:: \frac{dE}{dt} = \langle \psi f \rangle - 2 \nu Z - 2 \mu E

    It holds for ∂ω/∂t + u·∇ω = ν∇²ω − μω + f. Source: Boffetta & Ecke 2012,
    doi:10.1146/annurev-fluid-120710-101240.

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.
    viscosity : float or Tensor
        Kinematic viscosity ν in m²/s, one number or shape (batch,).
    drag : float or Tensor
        Linear drag μ in 1/s, one number or shape (batch,).
    forcing : Tensor, optional
        The curl f of the body force, shape (y, x) or (batch, 1, y, x), in 1/s²; None: unforced.

    Returns
    -------
    MeanBudget
        Injection, dissipation and drag, in m²/s³.
    """
    energy = kinetic_energy(vorticity, length)
    fed = torch.zeros_like(energy) if forcing is None else cospectrum(vorticity, forcing, length, -2).sum(-1)
    viscosity, drag = _checked(viscosity, vorticity), _checked(drag, vorticity)
    return MeanBudget(fed, 2 * viscosity * _fluctuating_enstrophy(vorticity, length), 2 * drag * energy)


def mean_enstrophy_budget(
    vorticity: ScalarField,
    length: Sides,
    viscosity: Coefficient,
    drag: Coefficient = 0.0,
    forcing: Forcing | None = None,
) -> MeanBudget:
    r"""Compute the budget of the mean enstrophy.

    .. math:: \frac{dZ}{dt} = \langle \omega f \rangle - 2 \nu P - 2 \mu Z, \qquad
              P = \tfrac{1}{2} \langle |\nabla \omega|^2 \rangle

    It holds for ∂ω/∂t + u·∇ω = ν∇²ω − μω + f.

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.
    viscosity : float or Tensor
        Kinematic viscosity ν in m²/s, one number or shape (batch,).
    drag : float or Tensor
        Linear drag μ in 1/s, one number or shape (batch,).
    forcing : Tensor, optional
        The curl f of the body force, shape (y, x) or (batch, 1, y, x), in 1/s²; None: unforced.

    Returns
    -------
    MeanBudget
        Injection, dissipation and drag, in 1/s³.
    """
    total = enstrophy(vorticity)
    require_fields(vorticity, forcing)
    fed = torch.zeros_like(total) if forcing is None else (vorticity * forcing).mean((1, 2, 3))
    viscosity, drag = _checked(viscosity, vorticity), _checked(drag, vorticity)
    return MeanBudget(fed, 2 * viscosity * palinstrophy(vorticity, length), 2 * drag * total)


def _checked(value: Coefficient, vorticity: ScalarField) -> Coefficient:
    """Return a coefficient, or raise ValueError for a shape like (batch, 1, 1, 1), which would broadcast."""
    if isinstance(value, Tensor) and tuple(value.shape) not in ((), (1,), (len(vorticity),)):
        raise ValueError(
            f"viscosity and drag must be numbers or of shape ({len(vorticity)},); got {tuple(value.shape)}"
        )
    return value


def _fluctuating_enstrophy(vorticity: ScalarField, length: Sides) -> PerTrajectory:
    """Return ½⟨ω²⟩ without the mean vorticity, which has no velocity."""
    return 0.5 * cospectrum(vorticity, vorticity, length).sum(-1)
