"""The step of a surrogate around its network: the same module in training, in forecasts and in exported models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluidsurrogate.models.energy_budget import EnergyBudget
from fluidsurrogate.models.normalisation import Normalisation
from solvers import FieldSpec, Grid, StateSpec
from solvers.array_types import State
from solvers.diagnostics import velocity_multiplier


@final
class SurrogateStep(nn.Module):
    r"""Module that turns the output of a network into the next state.

    .. math:: x^+ = b + P c N(z), \qquad z = (b - \mathrm{shift}) / \mathrm{scale}

    The network N predicts the normalised change of b from z, the normalised inputs and, if the normalisation has a
    scale for it, the velocity of b (`VelocityOfVorticity`). Here b is the state itself or,
    in a hybrid, the state that a coarse solver makes of it, c is the RMS change of each field, and P is the projection
    of `ChangeProjection`.

    If the energy budget of the flow is known, `EnergyBudget` then scales the new state to it. This is left out in
    training, where it would hide from the loss what the network dissipates (experiments/stability).

    Parameters
    ----------
    spec : StateSpec
        Grid, fields, inputs and interval of the stored states.
    normalisation : Normalisation
        Shift, scale, size and band of a change, and coefficients of the energy budget.
    multiples : sequence of int
        Numbers of stored intervals that the network can step over; if there are several, the network is told which.
    multiple : int
        Number of stored intervals that this module steps over: one of `multiples`.

    Attributes
    ----------
    shift, scale : Tensor
        Normalisation of the components of state and inputs, shape (component, 1, 1); in three dimensions, here and
        below, with one axis more: (component, 1, 1, 1).
    change : Tensor
        RMS change of the components of the state over the step, shape (component, 1, 1).
    velocity : VelocityOfVorticity or None
        The velocity that the network takes beside the vorticity.
    project : ChangeProjection
        The projection P.
    budget : EnergyBudget or None
        The scaling to the energy budget.
    interval_channel : float or None
        The value, from −1 to 1, that tells the network which of `multiples` it steps over; None if it has no choice.
    """

    shift: Tensor
    scale: Tensor
    change: Tensor

    def __init__(
        self, spec: StateSpec, normalisation: Normalisation, multiples: Sequence[int] = (1,), multiple: int = 1
    ) -> None:
        super().__init__()
        self.state_components, self.cells = spec.components, spec.grid.n
        shift, scale, change = normalisation.to_tensors(spec)
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)
        self.register_buffer("change", multiple * change)
        self.velocity = (
            None if normalisation.velocity_scale is None else VelocityOfVorticity(spec, normalisation.velocity_scale)
        )
        self.project = ChangeProjection(spec.grid, spec.fields, normalisation.band)
        self.budget = (
            None
            if normalisation.budget_coefficients is None
            else EnergyBudget(spec, normalisation.budget_coefficients, multiple)
        )
        self.input_components = sum(field.components for field in spec.inputs)
        few, many = min(multiples), max(multiples)
        self.interval_channel = None if few == many else 2 * (multiple - few) / (many - few) - 1

    def normalise_inputs(self, inputs: Sequence[Tensor], state: State) -> Tensor | None:
        """Normalise the inputs and expand them to the grid; append the interval if the network has a choice.

        Parameters
        ----------
        inputs : sequence of Tensor
            The inputs in the order of the spec, each (batch, component, y, x) or, if uniform, (batch, component, 1, 1),
            in physical units.
        state : Tensor
            A state of the same batch, shape (batch, component, y, x).

        Returns
        -------
        Tensor or None
            Shape (batch, component, y, x); None if the network takes nothing but the state.
        """
        channels = []
        if inputs:
            on_grid = torch.cat([value.to(self.scale).expand(-1, -1, *self.cells) for value in inputs], dim=1)
            channels.append((on_grid - self.shift[self.state_components :]) / self.scale[self.state_components :])
        if self.interval_channel is not None:
            channels.append(
                torch.full_like(state[:, :1], self.interval_channel, dtype=self.scale.dtype, device=self.scale.device)
            )
        return torch.cat(channels, dim=1) if channels else None

    def forward(
        self,
        network: Callable[[Tensor], Tensor],
        state: State,
        normalised_inputs: Tensor | None,
        base: State | None = None,
        with_budget: bool = True,
    ) -> State:
        """Advance a state by one step.

        Parameters
        ----------
        network : callable
            The network N, from (batch, component, y, x) to the normalised change (batch, component, y, x).
        state : Tensor
            The state before the step, shape (batch, component, y, x), in physical units.
        normalised_inputs : Tensor or None
            The result of `normalise_inputs`.
        base : Tensor, optional
            The state b that the network corrects; by default `state`.
        with_budget : bool
            Whether to scale the new state to the energy budget.

        Returns
        -------
        Tensor
            The state after the step, shape (batch, component, y, x), in physical units.
        """
        base = state if base is None else base
        components = self.state_components
        z = (base - self.shift[:components]) / self.scale[:components]
        taken = [z] if normalised_inputs is None else [z, normalised_inputs]
        if self.velocity is not None:
            taken.append(self.velocity(base))
        change = network(torch.cat(taken, dim=1) if len(taken) > 1 else z)
        after = base + self.project(self.change * change)
        if self.budget is None or not with_budget:
            return after
        inputs = None
        if normalised_inputs is not None and self.input_components:
            normalised = normalised_inputs[:, : self.input_components]
            inputs = normalised * self.scale[components:] + self.shift[components:]
        return self.budget(after, state, inputs)


@final
class VelocityOfVorticity(nn.Module):
    r"""Normalised velocity that belongs to the vorticity in a state (the law of Biot and Savart, in Fourier space).

    .. math:: \hat u = i k_y \hat\omega / (s k^2), \qquad \hat v = -i k_x \hat\omega / (s k^2)

    Parameters
    ----------
    spec : StateSpec
        Grid and fields of the states.
    scale : float
        The scale s, in m/s.

    Attributes
    ----------
    component : int
        Position of the vorticity among the components of a state.
    multiplier : Tensor
        What the coefficients of the vorticity are multiplied by, real and imaginary parts, shape (2, ky, kx, 2).
    """

    multiplier: Tensor

    def __init__(self, spec: StateSpec, scale: float) -> None:
        super().__init__()
        assert spec.vorticity_component is not None
        self.component = spec.vorticity_component
        # Not as complex numbers, which `Module.to` would not turn into another precision.
        self.register_buffer("multiplier", torch.view_as_real(velocity_multiplier(spec.grid) / scale).contiguous())

    def forward(self, state: State) -> Tensor:
        """Compute the velocity.

        Parameters
        ----------
        state : Tensor
            Shape (batch, component, y, x), in physical units.

        Returns
        -------
        Tensor
            Components x and y, shape (batch, 2, y, x).
        """
        spectrum = torch.fft.rfft2(state[:, self.component, None])
        return torch.fft.irfft2(torch.view_as_complex(self.multiplier) * spectrum, s=state.shape[-2:])


@final
class ChangeProjection(nn.Module):
    r"""Orthogonal projection P of a predicted change onto the changes that the flow can make.

    The result has only the modes of the changes in the training data, no mean (so that every step conserves the mean
    exactly), no divergence in a solenoidal field, and the parity of the field about the plates if there are plates.
    The projection commutes with the group. Band and plates act on each axis separately, as the small matrices

    .. math:: \frac{1}{n} \sum_{|m| \le M} \cos \frac{2 \pi m (i - j)}{n}
              \qquad \text{and} \qquad \tfrac{1}{2} (1 \pm R),

    where R reverses the order of the rows.

    Parameters
    ----------
    grid : Grid
        Grid of the stored states.
    fields : sequence of FieldSpec
        Fields of the state.
    band : tuple of int
        Largest mode numbers to keep, (my, mx) or (mz, my, mx).

    Attributes
    ----------
    matrix_z : Tensor or None
        The projection along z, shape (z, z); None in two dimensions.
    matrices_y : Tensor
        The projection along y for each component, shape (component, y, y), or (component, 1, y, y) in three dimensions.
    matrix_x : Tensor
        The projection along x, shape (x, x).
    directions : Tensor
        Unit wavevectors k/|k| as (x, y) or (x, y, z), shape (axis, ky, kx) or (axis, kz, ky, kx).
    """

    matrix_z: Tensor | None
    matrices_y: Tensor
    matrix_x: Tensor
    directions: Tensor

    def __init__(self, grid: Grid, fields: Sequence[FieldSpec], band: tuple[int, ...]) -> None:
        super().__init__()
        self.dims = grid.dims
        *band_z, band_y, band_x = (_low_pass_matrix(n, most) for n, most in zip(grid.n, band, strict=True))
        # For a vector the sign across the plates, along y, is the other one.
        walls = [sign * f.wall for f in fields for sign in (1, -1, 1)[: f.components]]
        matrices_y = [(band_y + wall * band_y.flip(0)) / (1 + abs(wall)) for wall in walls]
        self.register_buffer("matrix_z", band_z[0] if band_z else None)
        self.register_buffer("matrices_y", torch.stack(matrices_y).reshape(-1, *(1 for _ in band_z), *band_y.shape))
        self.register_buffer("matrix_x", band_x)
        self.register_buffer("directions", _unit_wavevectors(grid))
        starts = [sum(f.components for f in fields[:i]) for i in range(len(fields))]
        self.solenoidal_parts = [
            slice(start, start + f.components) for start, f in zip(starts, fields, strict=True) if f.solenoidal
        ]

    def forward(self, change: State) -> State:
        """Project a change of the state.

        Parameters
        ----------
        change : Tensor
            Shape (batch, component, y, x) or (batch, component, z, y, x).

        Returns
        -------
        Tensor
            The projected change, of the same shape.
        """
        if self.matrix_z is not None:
            change = (self.matrix_z @ change.flatten(-2)).unflatten(-1, change.shape[-2:])
        change = self.matrices_y @ change @ self.matrix_x
        change = change - change.mean(self.dims, keepdim=True)
        for part in self.solenoidal_parts:
            solenoidal = remove_divergence(change[:, part], self.directions)
            change = torch.cat([change[:, : part.start], solenoidal, change[:, part.stop :]], dim=1)
        return change


def remove_divergence(
    velocity: Float[Tensor, "batch component *space"], directions: Float[Tensor, " axis *modes"]
) -> Float[Tensor, "batch component *space"]:
    r"""Return the solenoidal part of a vector field (Helmholtz decomposition), exact for the resolved modes.

    .. math:: \hat u - e (e \cdot \hat u), \qquad e = k / |k|

    Parameters
    ----------
    velocity : Tensor
        Shape (batch, 2, y, x) or (batch, 3, z, y, x), components in the order (x, y) or (x, y, z).
    directions : Tensor
        The unit wavevectors e as (x, y) or (x, y, z), shape (2, ky, kx) or (3, kz, ky, kx).

    Returns
    -------
    Tensor
        Of the shape of the field.
    """
    space = tuple(range(1 - directions.ndim, 0))
    spectrum = torch.fft.rfftn(velocity, dim=space)
    along = (directions * spectrum).sum(1, keepdim=True)
    return torch.fft.irfftn(spectrum - directions * along, s=velocity.shape[2:], dim=space)


def _unit_wavevectors(grid: Grid) -> Float[Tensor, " axis *modes"]:
    """Return k/|k| as (x, y) or (x, y, z) in float64; zero for the mean and where all wavenumbers are Nyquist's."""
    k = torch.stack(torch.broadcast_tensors(*reversed(grid.odd_wavenumbers())))
    length = k.square().sum(0).sqrt()
    return k / length.where(length > 0, 1.0)


def order_inputs(spec: StateSpec, inputs: Mapping[str, Tensor] | None) -> list[Tensor]:
    """Return inputs by name as a list in the order of the spec.

    Parameters
    ----------
    spec : StateSpec
        Says which inputs there are, and in which order.
    inputs : mapping of str to Tensor or None
        The inputs by name; None if the spec has none.

    Returns
    -------
    list of Tensor
        One tensor for each input.
    """
    return [(inputs or {})[field.name] for field in spec.inputs]


def _low_pass_matrix(n: int, most: int) -> Float[Tensor, "n n"]:
    """Return the projection onto the modes |m| ≤ `most` of n cells in float64; the identity if those are all."""
    if most >= n // 2:
        return torch.eye(n, dtype=torch.float64)
    distance = torch.arange(n)
    angles = 2 * torch.pi * distance.double()[:, None] * torch.arange(1, most + 1, dtype=torch.float64) / n
    row = (1 + 2 * angles.cos().sum(-1)) / n  # of the distance alone: the matrix itself would hold n² cosines a mode
    return row[(distance[:, None] - distance).abs()]
