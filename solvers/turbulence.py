"""Scales of a turbulent flow, and the budgets of its mean energy and enstrophy.

Tensors go in, and one number for each field of the batch comes out. As in `solvers.spectra` a flow is given by its
vorticity in two dimensions and by its velocity in three, and the box by its sides, (y, x) or (z, y, x).
Viscosity and drag are numbers, or one for each field. The scales of a fluid at rest are NaN.

The budgets here are those of box means, dE/dt = injection − dissipation − drag. The spectral budget, shell by shell,
also holds the transfer between scales: see `solvers.spectra.energy_transfer`.
"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import FlowField, PerTrajectory, Sides, VectorField
from solvers.diagnostics import velocity_gradient
from solvers.grid import Grid
from solvers.spectra import (
    cospectrum,
    enstrophy,
    enstrophy_spectrum,
    kinetic_energy,
    palinstrophy,
    require_fields,
    require_flow,
)

Coefficient = float | PerTrajectory
Forcing = Float[Tensor, "..."]


def rms_velocity(flow: FlowField, length: Sides) -> PerTrajectory:
    r"""Compute the root mean square of the velocity, of all components together.

    .. math:: u = \langle |u|^2 \rangle^{1/2} = (2 E)^{1/2}

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch,), in m/s.
    """
    return (2 * kinetic_energy(flow, length)).sqrt()


def integral_scale(flow: FlowField, length: Sides) -> PerTrajectory:
    r"""Compute the integral length scale from the energy spectrum, summed mode by mode.

    .. math:: L = c \, \frac{\sum E(k) / k}{\sum E(k)}

    with c = 2 in two dimensions and c = 3π/4 in three. In isotropic flow it is the integral ∫ f dr of the longitudinal
    velocity correlation f(r) (Pope 2000, §6.3 and eq. 6.225, doi:10.1017/CBO9780511840531): in two dimensions
    E f(r) = ∫ 2 E(k) J₁(kr)/(kr) dk, and ∫ J₁(s)/s ds = 1. Other authors multiply Σ E(k)/k / Σ E(k) by 1 or 2π.

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch,), in m.
    """
    require_flow(flow, len(length))
    energy = -2 if len(length) == 2 else 0  # the exponent that makes energy of what is given
    weighted = cospectrum(flow, flow, length, energy - 1).sum(-1)
    factor = 2 if len(length) == 2 else 0.75 * math.pi
    return factor * weighted / cospectrum(flow, flow, length, energy).sum(-1)


def taylor_microscale(flow: FlowField, length: Sides) -> PerTrajectory:
    r"""Compute the Taylor microscale, which says at what rate viscosity dissipates energy.

    In two dimensions, where that rate is 2νE/λ²,

    .. math:: \lambda = (\langle |u|^2 \rangle / \langle \omega^2 \rangle)^{1/2} = (E / Z)^{1/2}

    and in three, as Taylor 1935 (doi:10.1098/rspa.1935.0151) defines it through the rate 15νu'²/λ² with the root mean
    square u' of one component, :math:`\lambda = (5 E / Z)^{1/2}`.

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch,), in m.
    """
    factor = 1 if len(length) == 2 else 5
    return (factor * kinetic_energy(flow, length) / _fluctuating_enstrophy(flow, length)).sqrt()


def turnover_time(flow: FlowField, length: Sides) -> PerTrajectory:
    """Compute the turnover time T = L/u of the large eddies (Pope 2000, §6.1).

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.

    Returns
    -------
    Tensor
        `integral_scale` divided by `rms_velocity`, shape (batch,), in s.
    """
    return integral_scale(flow, length) / rms_velocity(flow, length)


def reynolds_number(flow: FlowField, length: Sides, viscosity: Coefficient) -> PerTrajectory:
    """Compute the Reynolds number Re = u L/ν of `rms_velocity` and `integral_scale`.

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.
    viscosity : float or Tensor
        Kinematic viscosity ν in m²/s, one number or shape (batch,).

    Returns
    -------
    Tensor
        Shape (batch,); infinite for ν = 0.
    """
    scale = rms_velocity(flow, length) * integral_scale(flow, length)
    return scale / _checked(viscosity, flow)


def taylor_reynolds_number(flow: FlowField, length: Sides, viscosity: Coefficient) -> PerTrajectory:
    """Compute the Reynolds number of the Taylor microscale, Re_λ = u' λ/ν.

    Here u' is the root mean square of one component of the velocity (Pope 2000, §6.3).

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.
    viscosity : float or Tensor
        Kinematic viscosity ν in m²/s, one number or shape (batch,).

    Returns
    -------
    Tensor
        Shape (batch,); infinite for ν = 0.
    """
    one_component = rms_velocity(flow, length) / math.sqrt(len(length))
    return one_component * taylor_microscale(flow, length) / _checked(viscosity, flow)


def dissipation_rate(flow: FlowField, length: Sides, viscosity: Coefficient) -> PerTrajectory:
    r"""Compute the rate at which viscosity dissipates energy.

    .. math:: \varepsilon = 2 \nu Z = \nu \langle |\omega|^2 \rangle

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.
    viscosity : float or Tensor
        Kinematic viscosity ν in m²/s, one number or shape (batch,).

    Returns
    -------
    Tensor
        Shape (batch,), in m²/s³.
    """
    return 2 * _checked(viscosity, flow) * _fluctuating_enstrophy(flow, length)


def kolmogorov_scale(flow: FlowField, length: Sides, viscosity: Coefficient) -> PerTrajectory:
    r"""Compute the length at which viscosity ends the energy cascade of three dimensions.

    .. math:: \eta = (\nu^3 / \varepsilon)^{1/4}, \qquad \varepsilon = 2 \nu Z

    A simulation is well resolved if the largest wavenumber times η is 1.5 or more (Pope 2000, §9.1.2).

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.
    viscosity : float or Tensor
        Kinematic viscosity ν in m²/s, one number or shape (batch,).

    Returns
    -------
    Tensor
        Shape (batch,), in m.
    """
    return (_checked(viscosity, flow) ** 3 / dissipation_rate(flow, length, viscosity)) ** 0.25


def derivative_skewness(velocity: VectorField, length: Sides) -> PerTrajectory:
    r"""Compute the skewness of the longitudinal derivatives of the velocity.

    .. math:: S = \frac{\langle (\partial_i u_i)^3 \rangle}{\langle (\partial_i u_i)^2 \rangle^{3/2}}

    with the means taken over the box and over the directions i. In three-dimensional turbulence it is near −0.5:
    negative, since energy goes to small scales (Batchelor & Townsend 1947, doi:10.1098/rspa.1947.0095).

    Parameters
    ----------
    velocity : Tensor
        Shape (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box (z, y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch,).

    Raises
    ------
    ValueError
        If it is no velocity.
    """
    require_flow(velocity, 3)
    grid = Grid(tuple(velocity.shape[2:]), tuple(length))
    gradient = velocity_gradient(velocity, grid)[:, ::4].flatten(1)  # ∂u/∂x, ∂v/∂y and ∂w/∂z
    return gradient.pow(3).mean(1) / gradient.square().mean(1) ** 1.5


def dissipation_wavenumber(vorticity: FlowField, length: Sides, viscosity: Coefficient) -> PerTrajectory:
    r"""Compute the wavenumber at which viscosity ends the enstrophy cascade of two dimensions.

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
    require_flow(vorticity, 2)
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
    flow: FlowField,
    length: Sides,
    viscosity: Coefficient,
    drag: Coefficient = 0.0,
    forcing: Forcing | None = None,
) -> MeanBudget:
    r"""Compute the budget of the mean kinetic energy.

    .. math:: \frac{dE}{dt} = W - 2 \nu Z - 2 \mu E

    For the vorticity, ∂ω/∂t + u·∇ω = ν∇²ω − μω + f, the forcing feeds W = ⟨ψf⟩; for the velocity,
    ∂u/∂t + u·∇u = −∇p + ν∇²u − μu + f, it feeds W = ⟨u·f⟩. Source: Boffetta & Ecke 2012,
    doi:10.1146/annurev-fluid-120710-101240.

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.
    viscosity : float or Tensor
        Kinematic viscosity ν in m²/s, one number or shape (batch,).
    drag : float or Tensor
        Linear drag μ in 1/s, one number or shape (batch,).
    forcing : Tensor, optional
        With a vorticity the curl f of the body force, shape (y, x) or (batch, 1, y, x), in 1/s²; with a velocity the
        body force f, of the velocity's shape or without the batch, in m/s²; None: unforced.

    Returns
    -------
    MeanBudget
        Injection, dissipation and drag, in m²/s³.
    """
    energy = kinetic_energy(flow, length)
    fed = torch.zeros_like(energy) if forcing is None else _fed(flow, forcing, length)
    viscosity, drag = _checked(viscosity, flow), _checked(drag, flow)
    return MeanBudget(fed, 2 * viscosity * _fluctuating_enstrophy(flow, length), 2 * drag * energy)


def mean_enstrophy_budget(
    vorticity: FlowField,
    length: Sides,
    viscosity: Coefficient,
    drag: Coefficient = 0.0,
    forcing: Forcing | None = None,
) -> MeanBudget:
    r"""Compute the budget of the mean enstrophy in two dimensions.

    .. math:: \frac{dZ}{dt} = \langle \omega f \rangle - 2 \nu P - 2 \mu Z, \qquad
              P = \tfrac{1}{2} \langle |\nabla \omega|^2 \rangle

    It holds for ∂ω/∂t + u·∇ω = ν∇²ω − μω + f. In three dimensions the stretching of vortices makes enstrophy, see
    `solvers.spectra.enstrophy_transfer`.

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
    require_flow(vorticity, 2)
    total = enstrophy(vorticity)
    require_fields(vorticity, forcing)
    fed = torch.zeros_like(total) if forcing is None else (vorticity * forcing).mean((1, 2, 3))
    viscosity, drag = _checked(viscosity, vorticity), _checked(drag, vorticity)
    return MeanBudget(fed, 2 * viscosity * palinstrophy(vorticity, length), 2 * drag * total)


def _checked(value: Coefficient, flow: FlowField) -> Coefficient:
    """Return a coefficient, or raise ValueError for a shape like (batch, 1, 1, 1), which would broadcast."""
    if isinstance(value, Tensor) and tuple(value.shape) not in ((), (1,), (len(flow),)):
        raise ValueError(f"viscosity and drag must be numbers or of shape ({len(flow)},); got {tuple(value.shape)}")
    return value


def _fluctuating_enstrophy(flow: FlowField, length: Sides) -> PerTrajectory:
    """Return ½⟨ω²⟩ without the mean vorticity, which has no velocity."""
    return enstrophy_spectrum(flow, length).sum(-1)


def _fed(flow: FlowField, forcing: Forcing, length: Sides) -> PerTrajectory:
    """Return the rate at which a forcing feeds energy: ⟨ψf⟩ for a vorticity, ⟨u·f⟩ for a velocity."""
    return cospectrum(flow, forcing, length, -2 if len(length) == 2 else 0).sum(-1)
