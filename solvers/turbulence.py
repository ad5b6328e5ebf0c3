"""Scales and budgets of a turbulent flow, from the vorticity; tensors in and out, a number for each field of a batch.

As in `solvers.spectra` the box is given by its sides (y, x). Viscosity and drag are numbers or one for each field.
Scales are NaN for a fluid at rest.
"""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.spectra import (
    ScalarField,
    Sides,
    Total,
    cospectrum,
    enstrophy,
    kinetic_energy,
    palinstrophy,
    require_fields,
)

Coefficient = float | Float[Tensor, " batch"]
Forcing = Float[Tensor, "*forced y x"]


def rms_velocity(vorticity: ScalarField, length: Sides) -> Total:
    """u = ⟨|u|²⟩^½ = (2E)^½ [length/time]: of both components together."""
    return (2 * kinetic_energy(vorticity, length)).sqrt()


def integral_scale(vorticity: ScalarField, length: Sides) -> Total:
    """L = 2 Σ E(k)/k / Σ E(k) [length], summed mode by mode.

    It is ∫ f dr of the longitudinal velocity correlation f(r) (Pope 2000, §6.3, doi:10.1017/CBO9780511840531) where the
    flow is isotropic: in two dimensions E f(r) = ∫ 2 E(k) J₁(kr)/(kr) dk, and ∫ J₁(s)/s ds = 1. Others multiply
    Σ E(k)/k / Σ E(k) by 1 or 2π.
    """
    weighted = cospectrum(vorticity, vorticity, length, -3).sum(-1)
    return 2 * weighted / cospectrum(vorticity, vorticity, length, -2).sum(-1)


def taylor_microscale(vorticity: ScalarField, length: Sides) -> Total:
    """λ = (⟨|u|²⟩/⟨ω²⟩)^½ = (E/Z)^½ [length]: viscosity dissipates energy at the rate 2νE/λ².

    Taylor 1935 (doi:10.1098/rspa.1935.0151) defines λ through the dissipation too, in three dimensions with a factor
    of his own, 15νu'²/λ².
    """
    return (kinetic_energy(vorticity, length) / _fluctuating_enstrophy(vorticity, length)).sqrt()


def turnover_time(vorticity: ScalarField, length: Sides) -> Total:
    """T = L/u [time], of `integral_scale` and `rms_velocity`: that of the large eddies (Pope 2000, §6.1)."""
    return integral_scale(vorticity, length) / rms_velocity(vorticity, length)


def reynolds_number(vorticity: ScalarField, length: Sides, viscosity: Coefficient) -> Total:
    """Re = u L/ν, of `rms_velocity` and `integral_scale`; infinite where ν = 0."""
    scale = rms_velocity(vorticity, length) * integral_scale(vorticity, length)
    return scale / _per_field(viscosity, vorticity)


def dissipation_wavenumber(vorticity: ScalarField, length: Sides, viscosity: Coefficient) -> Total:
    """k_d = η^(1/6)/ν^(1/2) [1/length], η = 2νP the dissipation of enstrophy: where the cascade of enstrophy ends
    (Kraichnan 1967, doi:10.1063/1.1762301). Infinite where ν = 0."""
    return (2 * palinstrophy(vorticity, length)) ** (1 / 6) / _per_field(viscosity, vorticity) ** (1 / 3)


@final
class EnergyBudget(NamedTuple):
    """What forcing feeds and viscosity and drag take in unit time, each (batch,); advection gives and takes nothing."""

    injection: Total
    dissipation: Total
    drag: Total

    @property
    def rate(self) -> Total:
        """The time derivative, injection − dissipation − drag."""
        return self.injection - self.dissipation - self.drag


def energy_budget(
    vorticity: ScalarField,
    length: Sides,
    viscosity: Coefficient,
    drag: Coefficient = 0.0,
    forcing: Forcing | None = None,
) -> EnergyBudget:
    """dE/dt = ⟨ψf⟩ − 2νZ − 2μE [length²/time³], of ∂ω/∂t + u·∇ω = ν∇²ω − μω + f.

    `forcing` f is a vorticity forcing (y, x) or (batch, 1, y, x), none if None. Boffetta & Ecke 2012,
    doi:10.1146/annurev-fluid-120710-101240.
    """
    energy = kinetic_energy(vorticity, length)
    fed = torch.zeros_like(energy) if forcing is None else cospectrum(vorticity, forcing, length, -2).sum(-1)
    viscosity, drag = _per_field(viscosity, vorticity), _per_field(drag, vorticity)
    return EnergyBudget(fed, 2 * viscosity * _fluctuating_enstrophy(vorticity, length), 2 * drag * energy)


def enstrophy_budget(
    vorticity: ScalarField,
    length: Sides,
    viscosity: Coefficient,
    drag: Coefficient = 0.0,
    forcing: Forcing | None = None,
) -> EnergyBudget:
    """dZ/dt = ⟨ωf⟩ − 2νP − 2μZ [1/time³], P = ½⟨|∇ω|²⟩: as `energy_budget`."""
    total = enstrophy(vorticity)
    require_fields(vorticity, forcing)
    fed = torch.zeros_like(total) if forcing is None else (vorticity * forcing).mean((1, 2, 3))
    viscosity, drag = _per_field(viscosity, vorticity), _per_field(drag, vorticity)
    return EnergyBudget(fed, 2 * viscosity * palinstrophy(vorticity, length), 2 * drag * total)


def _per_field(value: Coefficient, vorticity: ScalarField) -> Coefficient:
    """The value; ValueError where it is not one number, or one for each field: (batch, 1, 1, 1) would broadcast."""
    if isinstance(value, Tensor) and tuple(value.shape) not in ((), (1,), (len(vorticity),)):
        raise ValueError(f"viscosity and drag must be numbers or ({len(vorticity)},); got {tuple(value.shape)}")
    return value


def _fluctuating_enstrophy(vorticity: ScalarField, length: Sides) -> Total:
    """½⟨ω²⟩ without the mean vorticity, to which no velocity belongs."""
    return 0.5 * cospectrum(vorticity, vorticity, length).sum(-1)
