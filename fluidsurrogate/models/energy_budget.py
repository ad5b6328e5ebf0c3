"""The energy budget of the flow: how much a step may leave, which a network need not learn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluidsurrogate.data.array_types import States
from solvers import VELOCITY, VORTICITY, StateSpec

MOTIONS = (VORTICITY.name, VELOCITY.name)  # what a state holds one of
IN_THE_MEAN, IN_A_STEP = 0.02, 0.1  # of what is dissipated: by so much the data's budget may fail to close
STEEPEST = 50.0  # in the exponent: beyond, nothing is left
State = Float[Tensor, "batch component y x"]
Values = Float[Tensor, " batch"]


@final
@dataclass(frozen=True)
class BudgetCoefficients:
    """Viscosity ν and drag μ of a flow whose stored states obey the budget; `at_most`: of which energy may be lost to
    modes that are not stored, so that the budget is a bound."""

    viscosity: float
    drag: float
    at_most: bool = False


@final
class EnergyBudget(nn.Module):
    """x⁺ := s x⁺, the flow's energy E, enstrophy Z and the power W = ⟨u·f⟩ of the forcing then being in balance,

        dE/dt = −2νZ − 2μE + W,    over T:  s²E⁺ exp T(νZ⁺/E⁺ + μ) − s W⁺T/2 = E exp −T(νZ/E + μ) + WT/2,

    of second order in T, as the trapezoidal rule is, and positive. In two dimensions nonlinear terms and pressure do no
    work. So an unforced flow never gains energy, and a forced one no more than the forcing gives it. The vorticity or
    the velocity is scaled, about its mean; other fields stay as they are. It commutes with every symmetry.

    ν and μ are those of `budget_coefficients` or, where they vary, and the forcing in any case, the inputs of these
    names.
    """

    energy: Tensor
    enstrophy: Tensor
    curl: Tensor

    def __init__(self, spec: StateSpec, budget_coefficients: BudgetCoefficients, multiple: int = 1) -> None:
        super().__init__()
        self.budget_coefficients, self.interval = budget_coefficients, multiple * spec.interval
        starts = [sum(f.components for f in spec.fields[:i]) for i in range(len(spec.fields))]
        start, self.motion = next((s, f) for s, f in zip(starts, spec.fields, strict=True) if f.name in MOTIONS)
        self.flow = slice(start, start + self.motion.components)
        names = [f.name for f in spec.inputs for _ in range(f.components)]
        self.at = {name: names.index(name) for name in ("forcing", "viscosity", "drag") if name in names}
        ky, kx = spec.grid.wavenumbers()
        k2 = ky.square() + kx.square()
        half = torch.ones_like(kx)  # ½, twice for the columns whose mirror images are left out
        half[0, 0] = 0.5
        half[0, -1] = 0.5
        self.register_buffer("energy", torch.where(k2 > 0, half / k2.where(k2 > 0, 1.0), 0.0))
        self.register_buffer("enstrophy", torch.where(k2 > 0, half, 0.0))
        self.register_buffer("curl", torch.stack(torch.broadcast_tensors(*spec.grid.odd_wavenumbers())))

    def forward(self, after: State, before: State, inputs: Tensor | None = None) -> State:
        """`inputs` (batch, component, y, x): all of the spec, in physical units."""
        flow = after[:, self.flow]
        factor = self.factor(flow, before[:, self.flow], inputs)[:, None, None, None]
        mean = flow.mean((-2, -1), keepdim=True)
        balanced = mean + factor * (flow - mean)
        if flow.shape[1] == after.shape[1]:
            return balanced
        return torch.cat([after[:, : self.flow.start], balanced, after[:, self.flow.stop :]], dim=1)

    def factor(self, after: State, before: State, inputs: Tensor | None) -> Values:
        """s."""
        (has, lost, fed), (had, losing, feeding) = (self.terms(x, inputs) for x in (after, before))
        kept = (had * (-losing).exp() + feeding).clamp(min=0.0)
        weight = torch.where(has > 0, has * lost.exp(), torch.inf)  # of nothing there is nothing to scale
        half = fed / (2 * weight)
        factor = half + (half.square() + kept / weight).sqrt()
        return factor.clamp(max=1.0) if self.budget_coefficients.at_most else factor

    def terms(self, flow: State, inputs: Tensor | None) -> tuple[Values, Values, Values]:
        """E, T(νZ/E + μ) and WT/2."""
        real, imaginary = self.vorticity(flow)
        power = real.square() + imaginary.square()
        energy, enstrophy = ((power * weights).sum((1, 2)) for weights in (self.energy, self.enstrophy))
        viscosity, drag = (self._number(name, inputs) for name in ("viscosity", "drag"))
        ratio = enstrophy / energy.clamp(min=torch.finfo(energy.dtype).tiny)
        lost = (self.interval * (viscosity * ratio + drag)).clamp(max=STEEPEST)
        if inputs is None or "forcing" not in self.at:
            return energy, lost, torch.zeros_like(energy)
        at = self.at["forcing"]
        forcing = torch.fft.rfft2(inputs[:, at : at + 1], norm="forward")
        work = real * forcing.real[:, 0] + imaginary * forcing.imag[:, 0]
        return energy, lost, self.interval * (work * self.energy).sum((1, 2))  # twice the half

    def vorticity(self, flow: State) -> tuple[Tensor, Tensor]:
        """Real and imaginary part of its spectrum, each (batch, ky, kx): ONNX has no complex numbers."""
        spectrum = torch.fft.rfft2(flow, norm="forward")
        real, imaginary = spectrum.real, spectrum.imag
        if self.motion.name == VORTICITY.name:
            return real[:, 0], imaginary[:, 0]
        ky, kx = self.curl
        return ky * imaginary[:, 0] - kx * imaginary[:, 1], kx * real[:, 1] - ky * real[:, 0]

    def _number(self, name: str, inputs: Tensor | None) -> Tensor | float:
        if inputs is not None and name in self.at:
            return inputs[:, self.at[name], 0, 0]
        return getattr(self.budget_coefficients, name)


def fit_budget_coefficients(
    spec: StateSpec,
    chunks: Callable[[], Iterable[tuple[States, Mapping[str, Tensor]]]],
    viscosity: float,
    drag: float,
    multiple: int = 1,
) -> tuple[BudgetCoefficients | None, str]:
    """Whether trajectories obey the budget over `multiple` intervals: what fails to close is compared with what is
    dissipated. None where they do not: the data may be a user's, of another viscosity, or the flow be fed by what the
    budget does not know, buoyancy or random stirring. And what was found, in words."""
    if not any(field.name in MOTIONS for field in spec.fields):
        return None, "not known: the state holds neither vorticity nor velocity"
    budget = EnergyBudget(spec, BudgetCoefficients(viscosity, drag), multiple).double()
    missing, dissipated = [], []
    for states, given in chunks():
        flow, count = states.double()[:, :, budget.flow], states.shape[1]
        whole = [given[f.name].double().expand(-1, -1, *spec.grid.n) for f in spec.inputs]
        inputs = torch.cat(whole, 1).repeat_interleave(count, 0) if whole else None
        energy, lost, fed = (v.unflatten(0, states.shape[:2]) for v in budget.terms(flow.flatten(0, 1), inputs))
        earlier, later = slice(None, -multiple), slice(multiple, None)
        left, right = energy * lost.exp() - fed, energy * (-lost).exp() + fed
        missing.append((left[:, later] - right[:, earlier]).flatten())
        dissipated.append((energy * lost)[:, later].flatten() + (energy * lost)[:, earlier].flatten())
    error = torch.cat(missing) / torch.cat(dissipated).square().mean().sqrt()
    mean, typical, most = float(error.mean()), float(error.square().mean().sqrt()), float(error.amax())
    found = f"by {mean:+.1%} of what is dissipated in the mean, {typical:.1%} in a typical step"
    if abs(mean) <= IN_THE_MEAN and typical <= IN_A_STEP:
        return BudgetCoefficients(viscosity, drag), f"closes on the training data: off {found}"
    if mean <= IN_THE_MEAN and most <= IN_A_STEP:
        return BudgetCoefficients(viscosity, drag, at_most=True), f"is a bound on the training data: off {found}"
    return None, f"does not close on the training data: off {found}"
