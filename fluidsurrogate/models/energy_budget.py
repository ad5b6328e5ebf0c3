"""The kinetic-energy budget of the flow, which every forecast step of a surrogate can be scaled to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from fluidsurrogate.data.array_types import States
from solvers import FORCING, VELOCITY, VORTICITY, FieldSpec, StateSpec
from solvers.array_types import PerTrajectory, State

FLOW_FIELDS = (VORTICITY.name, VELOCITY.name)  # the field that gives the flow's energy; a state holds one of them
# The budget is used if it closes on the training data up to these shares of the dissipated energy.
MEAN_TOLERANCE, STEP_TOLERANCE = 0.02, 0.1  # in the mean over all steps, and in a typical step
# A bound that lies farther off is taken only if the states do not hold all scales: more than this share of their
# enstrophy is then in modes beyond two thirds of the largest.
FAR_BOUND, HIDDEN_ENSTROPHY = 0.2, 1e-3
FACTORS = (1e-3, 1e3)  # between which the viscosity is searched for with which a budget would close
MAX_DECAY_EXPONENT = 50.0  # a larger exponent leaves no energy, and its exponential would overflow
# Makes a pass over the training data: states and inputs of some trajectories at a time.
TrajectoryChunks = Callable[[], Iterable[tuple[States, Mapping[str, Tensor]]]]


@final
@dataclass(frozen=True)
class BudgetCoefficients:
    """Coefficients of an energy budget that the stored states of a flow obey.

    Parameters
    ----------
    viscosity : float
        Kinematic viscosity ν, in m²/s.
    drag : float
        Linear drag μ, in 1/s.
    at_most : bool
        Whether the budget is an upper bound only, because energy may be lost to modes that are not stored.
    """

    viscosity: float
    drag: float
    at_most: bool = False


@final
class EnergyBudget(nn.Module):
    r"""Scaling of a predicted state that makes its kinetic energy obey the budget of the flow.

    In a periodic box neither advection nor pressure does work, so the energy
    :math:`E = \frac12 \langle |u|^2 \rangle` changes by viscosity, drag and forcing only (Boffetta & Ecke 2012,
    doi:10.1146/annurev-fluid-120710-101240; in three dimensions Pope 2000, *Turbulent Flows*, ch. 5):

    .. math:: \frac{dE}{dt} = -2 \nu Z - 2 \mu E + W,

    with the enstrophy :math:`Z = \frac12 \langle |\omega|^2 \rangle` and the power of the forcing
    :math:`W = \langle u \cdot f \rangle`. In three dimensions advection carries energy to small scales: if the stored
    states do not hold those, the budget is an upper bound (1.4 to 1.7 times as much as 2νZ was lost in decaying flow
    seen through 16³ cells). The predicted state :math:`x^+` is scaled by the factor s that solves the
    budget over one interval T,

    .. math:: s^2 E^+ e^{T (\nu Z^+ / E^+ + \mu)} - \tfrac{T}{2} s W^+
              = E e^{-T (\nu Z / E + \mu)} + \tfrac{T}{2} W.

    Like the trapezoidal rule this is of second order in T; its solution is positive. An unforced flow then never gains
    energy, and a forced flow gains no more than the forcing supplies. The vorticity or the velocity is scaled about its
    mean over the box; other fields stay as they are. The scaling commutes with every symmetry.

    Parameters
    ----------
    spec : StateSpec
        Grid, fields, inputs and interval of the stored states.
    budget_coefficients : BudgetCoefficients
        Viscosity and drag. An input named `viscosity` or `drag` replaces the number here, and the forcing is always
        taken from the input `forcing`.
    multiple : int
        Number of stored intervals in T.

    Attributes
    ----------
    energy_weights : Tensor
        Weight of each mode of the vorticity in the energy, shape (ky, kx) or (kz, ky, kx).
    enstrophy_weights : Tensor
        Weight of each mode of the vorticity in the enstrophy, of the same shape.
    curl_wavenumbers : Tensor
        Wavenumbers of the derivatives in the curl as (x, y) or (x, y, z), shape (axis, ky, kx) or (axis, kz, ky, kx).
    """

    energy_weights: Tensor
    enstrophy_weights: Tensor
    curl_wavenumbers: Tensor

    def __init__(self, spec: StateSpec, budget_coefficients: BudgetCoefficients, multiple: int = 1) -> None:
        super().__init__()
        self.budget_coefficients, self.interval = budget_coefficients, multiple * spec.interval
        starts = [sum(f.components for f in spec.fields[:i]) for i in range(len(spec.fields))]
        start, self.flow_field = next((s, f) for s, f in zip(starts, spec.fields, strict=True) if f.name in FLOW_FIELDS)
        self.flow_components = slice(start, start + self.flow_field.components)
        names = [f.name for f in spec.inputs for _ in range(f.components)]
        self.input_index = {name: names.index(name) for name in ("viscosity", "drag") if name in names}
        self.forcing_field = next((f for f in spec.inputs if f.name == FORCING.name), None)
        if self.forcing_field is not None:
            start = names.index(FORCING.name)
            self.forcing_components = slice(start, start + self.forcing_field.components)
        self.dims = spec.grid.dims
        first, *others = (k.square() for k in spec.grid.wavenumbers())
        k2 = sum(others, start=first)
        half = torch.ones_like(others[-1])  # ½, twice for the columns whose mirror images are left out
        half[..., 0] = 0.5
        half[..., -1] = 0.5
        self.register_buffer("energy_weights", torch.where(k2 > 0, half / k2.where(k2 > 0, 1.0), 0.0))
        self.register_buffer("enstrophy_weights", torch.where(k2 > 0, half, 0.0))
        self.register_buffer(
            "curl_wavenumbers", torch.stack(torch.broadcast_tensors(*reversed(spec.grid.odd_wavenumbers())))
        )

    def forward(self, after: State, before: State, inputs: Tensor | None = None) -> State:
        """Scale the state after a step to the energy that the budget allows.

        Parameters
        ----------
        after : Tensor
            The predicted state, shape (batch, component, y, x), in physical units.
        before : Tensor
            The state one interval earlier, of the same shape and units.
        inputs : Tensor, optional
            All inputs of the spec, shape (batch, component, y, x), in physical units.

        Returns
        -------
        Tensor
            The scaled state, shape (batch, component, y, x).
        """
        components = self.flow_components
        flow = after[:, components]
        factor = self.scaling_factor(flow, before[:, components], inputs)[(..., None, *(None for _ in self.dims))]
        mean = flow.mean(self.dims, keepdim=True)
        balanced = mean + factor * (flow - mean)
        if flow.shape[1] == after.shape[1]:
            return balanced
        return torch.cat([after[:, : components.start], balanced, after[:, components.stop :]], dim=1)

    def scaling_factor(self, after: State, before: State, inputs: Tensor | None) -> PerTrajectory:
        """Return the factor s that the flow field after a step is multiplied by.

        Parameters
        ----------
        after, before : Tensor
            The vorticity or velocity after and before the step, shape (batch, component, y, x).
        inputs : Tensor, optional
            All inputs of the spec, shape (batch, component, y, x), in physical units.

        Returns
        -------
        Tensor
            Shape (batch,), dimensionless; at most 1 if the budget is an upper bound only.
        """
        energy, loss, work = self.budget_terms(after, inputs)
        energy_before, loss_before, work_before = self.budget_terms(before, inputs)
        kept = (energy_before * (-loss_before).exp() + work_before).clamp(min=0.0)
        weight = torch.where(
            energy > 0, energy * loss.exp(), torch.inf
        )  # a state at rest has nothing to scale, and 0 / 0 is avoided
        half = work / (2 * weight)
        factor = half + (half.square() + kept / weight).sqrt()
        return factor.clamp(max=1.0) if self.budget_coefficients.at_most else factor

    def budget_terms(self, flow: State, inputs: Tensor | None) -> tuple[PerTrajectory, PerTrajectory, PerTrajectory]:
        """Compute the terms E, T(νZ/E + μ) and WT/2 of the budget.

        Parameters
        ----------
        flow : Tensor
            The vorticity or velocity, shape (batch, component, y, x).
        inputs : Tensor, optional
            All inputs of the spec, shape (batch, component, y, x), in physical units.

        Returns
        -------
        energy : Tensor
            The kinetic energy E of each state, shape (batch,), in m²/s².
        loss : Tensor
            The exponent T(νZ/E + μ) of half an interval's dissipation, shape (batch,), at most `MAX_DECAY_EXPONENT`.
        work : Tensor
            The work WT/2 of the forcing over half an interval, shape (batch,), in m²/s².
        """
        real, imaginary = self.vorticity_spectrum(flow, self.flow_field)
        power = real.square() + imaginary.square()
        within = (1, *self.dims)
        energy, enstrophy = ((power * weights).sum(within) for weights in (self.energy_weights, self.enstrophy_weights))
        viscosity, drag = (self._coefficient(name, inputs) for name in ("viscosity", "drag"))
        ratio = enstrophy / energy.clamp(min=torch.finfo(energy.dtype).tiny)
        loss = (self.interval * (viscosity * ratio + drag)).clamp(max=MAX_DECAY_EXPONENT)
        if inputs is None or self.forcing_field is None:
            return energy, loss, torch.zeros_like(energy)
        forcing = inputs[:, self.forcing_components]
        forcing_real, forcing_imaginary = self.vorticity_spectrum(forcing, self.forcing_field)
        work = real * forcing_real + imaginary * forcing_imaginary
        return energy, loss, self.interval * (work * self.energy_weights).sum(within)  # twice the half

    def enstrophy_share(self, flow: State, modes: Tensor) -> float:
        """Measure how much of the enstrophy is in some of the modes.

        Parameters
        ----------
        flow : Tensor
            The vorticity or velocity, shape (batch, component, y, x).
        modes : Tensor
            Which modes, as booleans, shape (ky, kx) or (kz, ky, kx).

        Returns
        -------
        float
            The share, from 0 to 1.
        """
        real, imaginary = self.vorticity_spectrum(flow, self.flow_field)
        density = (real.square() + imaginary.square()) * self.enstrophy_weights
        total = float(density.sum())
        return float((density * modes).sum()) / total if total > 0 else 0.0

    def vorticity_spectrum(self, values: State, field: FieldSpec) -> tuple[Tensor, Tensor]:
        """Compute the spectrum of a vorticity, or of the curl of a velocity or a body force.

        It is returned as two real tensors, because ONNX has no complex numbers.

        Parameters
        ----------
        values : Tensor
            The vorticity, velocity or forcing, shape (batch, component, y, x) or (batch, component, z, y, x).
        field : FieldSpec
            The type of the field. The curl of a true vector is taken; a vorticity, or the curl of a force that a
            forcing is in two dimensions, stays as it is.

        Returns
        -------
        real : Tensor
            Real part of the coefficients of `torch.fft.rfftn` over the number of cells, shape (batch, 1, ky, kx) or
            (batch, 3, kz, ky, kx).
        imaginary : Tensor
            Imaginary part of the same coefficients, of the same shape.
        """
        spectrum = torch.fft.rfftn(values, dim=self.dims, norm="forward")
        real, imaginary = spectrum.real, spectrum.imag
        if field.name == VORTICITY.name or field.order == 0:
            return real, imaginary
        return -self._cross_with_wavenumbers(imaginary), self._cross_with_wavenumbers(real)  # i k × u

    def _cross_with_wavenumbers(self, vector: Tensor) -> Tensor:
        """Return k × v, in two dimensions its only component, along z."""
        k, v = self.curl_wavenumbers, vector.unbind(1)
        axes = (2,) if len(self.dims) == 2 else (0, 1, 2)
        following = [((axis + 1) % 3, (axis + 2) % 3) for axis in axes]
        return torch.stack([k[i] * v[j] - k[j] * v[i] for i, j in following], dim=1)

    def _coefficient(self, name: str, inputs: Tensor | None) -> Tensor | float:
        """Return viscosity or drag: one number a trajectory if it is an input, else the constant of the flow."""
        if inputs is not None and name in self.input_index:
            return inputs[:, self.input_index[name]].flatten(1)[:, 0]
        return getattr(self.budget_coefficients, name)


def fit_budget_coefficients(
    spec: StateSpec, chunks: TrajectoryChunks, viscosity: float, drag: float, multiple: int = 1
) -> tuple[BudgetCoefficients | None, str]:
    """Decide from training data whether the energy budget of the flow may be imposed on forecasts.

    The error with which the budget closes over each step is compared with the energy dissipated in a typical step. The
    budget is not used if it does not close: data of the user's may have another viscosity, and buoyancy or random
    stirring supply energy that the budget does not know of.

    Parameters
    ----------
    spec : StateSpec
        Grid, fields, inputs and interval of the stored states.
    chunks : callable
        Makes a pass over the training data: states (trajectory, time, component, y, x) and inputs by name.
    viscosity : float
        Kinematic viscosity of the experiment's flow, in m²/s.
    drag : float
        Linear drag of the experiment's flow, in 1/s.
    multiple : int
        Number of stored intervals in a step.

    Returns
    -------
    coefficients : BudgetCoefficients or None
        None if the budget does not close; with `at_most` if it is only an upper bound.
    finding : str
        What was found, in words; it is stored with the model.
    """
    if not any(field.name in FLOW_FIELDS for field in spec.fields):
        return None, "is not known, because the state holds neither vorticity nor velocity"
    budget = EnergyBudget(spec, BudgetCoefficients(viscosity, drag), multiple).double()
    dragging = EnergyBudget(spec, BudgetCoefficients(0.0, drag), multiple).double()  # the loss by the drag alone
    dragging.input_index.pop("viscosity", None)
    parts, hidden = [], []
    for states, values in chunks():
        flow, count = states.double()[:, :, budget.flow_components], states.shape[1]
        on_grid = [values[f.name].double().expand(-1, -1, *spec.grid.n) for f in spec.inputs]
        inputs = torch.cat(on_grid, 1).repeat_interleave(count, 0) if on_grid else None
        terms = (*budget.budget_terms(flow.flatten(0, 1), inputs), dragging.budget_terms(flow.flatten(0, 1), inputs)[1])
        unflattened = [v.unflatten(0, states.shape[:2]) for v in terms]
        parts.append([torch.stack([v[:, :-multiple].flatten(), v[:, multiple:].flatten()]) for v in unflattened])
        hidden.append(budget.enstrophy_share(flow[:, 0], ~spec.grid.retained()))
    energy, loss, work, by_drag = (torch.cat([part[i] for part in parts], dim=1) for i in range(4))
    error = _imbalance(energy, loss, work)
    mean, typical, most = float(error.mean()), float(error.square().mean().sqrt()), float(error.amax())
    size = f"with an error of {mean:+.1%} of the dissipated energy in the mean and {typical:.1%} in a typical step"
    if abs(mean) <= MEAN_TOLERANCE and typical <= STEP_TOLERANCE:
        return BudgetCoefficients(viscosity, drag), f"closes on the training data {size}"
    is_bound = mean <= MEAN_TOLERANCE and most <= STEP_TOLERANCE
    if is_bound and (mean > -FAR_BOUND or max(hidden) > HIDDEN_ENSTROPHY):
        bound = f"is an upper bound on the training data {size}"
        if spec.grid.dimensions > 2:
            bound += ": energy leaves for scales that are not stored"
        return BudgetCoefficients(viscosity, drag, at_most=True), bound
    factor = _closing_factor(energy, loss, work, by_drag)
    hint = "" if factor is None else f": it would close with {factor:.3g} times the viscosity"
    return None, f"does not close on the training data {size}{hint}"


def _imbalance(energy: Tensor, loss: Tensor, work: Tensor) -> Tensor:
    """Return the error of the budget of each step, over the energy that a typical step dissipates.

    The terms are those before and after each step, shape (2, step).
    """
    (before, after), (lost_before, lost_after), (work_before, work_after) = energy, loss, work
    left, right = after * lost_after.exp() - work_after, before * (-lost_before).exp() + work_before
    return (left - right) / (after * lost_after + before * lost_before).square().mean().sqrt()


def _closing_factor(energy: Tensor, loss: Tensor, work: Tensor, by_drag: Tensor) -> float | None:
    """Return by what the viscosity is to be multiplied for the budget to close; None if no factor makes it close."""

    def error(factor: float) -> Tensor:
        return _imbalance(energy, (by_drag + factor * (loss - by_drag)).clamp(max=MAX_DECAY_EXPONENT), work)

    low, high = FACTORS
    for _ in range(60):  # the mean error grows with the viscosity
        middle = (low * high) ** 0.5
        low, high = (low, middle) if float(error(middle).mean()) > 0 else (middle, high)
    closing = error(middle)
    is_inside = FACTORS[0] * 1.01 < middle < FACTORS[1] / 1.01
    closes = abs(float(closing.mean())) <= MEAN_TOLERANCE and float(closing.square().mean().sqrt()) <= STEP_TOLERANCE
    return middle if is_inside and closes else None
