"""From what a network says to the next state: the same module in training, in forecasts and in what is exported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluidsurrogate.models.energy_budget import EnergyBudget
from fluidsurrogate.models.normalisation import Normalisation
from solvers import FieldSpec, Grid, StateSpec

State = Float[Tensor, "batch component y x"]


@final
class SurrogateStep(nn.Module):
    """x⁺ = b + P c N(z), z = (b − shift) / scale, with the inputs beside the state in z: the network says the change of
    b, the state as it is or what a coarse solver made of it.

    P keeps what a change may hold: the modes of the training data's changes, no mean (which is so conserved, exactly),
    no divergence in a solenoidal field, the parity about the plates where there are plates. It commutes with the group.
    Where the energy budget of the flow is known, `EnergyBudget` then scales x⁺ to it: not in training, where it would
    hide from the loss what the network dissipates (experiments/stability).

    `multiple`, one of `multiples`, is how many stored intervals the network is asked for, and told if it has a choice.
    """

    shift: Tensor
    scale: Tensor
    change: Tensor

    def __init__(
        self, spec: StateSpec, normalisation: Normalisation, multiples: Sequence[int] = (1,), multiple: int = 1
    ) -> None:
        super().__init__()
        self.components, self.whole = spec.components, spec.grid.n
        shift, scale, change = normalisation.to_tensors(spec)
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)
        self.register_buffer("change", multiple * change)
        self.project = Projection(spec.grid, spec.fields, normalisation.band)
        self.budget = (
            None
            if normalisation.budget_coefficients is None
            else EnergyBudget(spec, normalisation.budget_coefficients, multiple)
        )
        self.inputs = sum(field.components for field in spec.inputs)
        few, many = min(multiples), max(multiples)
        self.interval_channel = None if few == many else 2 * (multiple - few) / (many - few) - 1

    def given(self, inputs: Sequence[Tensor], state: State) -> Tensor | None:
        """The inputs, in the order of the spec, as normalised components; a uniform one is the same at every point.
        Last, where the network has a choice of intervals, the one it is asked for, from −1 to 1."""
        parts = []
        if inputs:
            whole = torch.cat([value.to(self.scale).expand(-1, -1, *self.whole) for value in inputs], dim=1)
            parts.append((whole - self.shift[self.components :]) / self.scale[self.components :])
        if self.interval_channel is not None:
            parts.append(
                torch.full_like(state[:, :1], self.interval_channel, dtype=self.scale.dtype, device=self.scale.device)
            )
        return torch.cat(parts, dim=1) if parts else None

    def forward(
        self,
        network: Callable[[Tensor], Tensor],
        state: State,
        given: Tensor | None,
        base: State | None = None,
        with_budget: bool = True,
    ) -> State:
        base = state if base is None else base
        z = (base - self.shift[: self.components]) / self.scale[: self.components]
        change = network(z if given is None else torch.cat([z, given], dim=1))
        after = base + self.project(self.change * change)
        if self.budget is None or not with_budget:
            return after
        inputs = None
        if given is not None and self.inputs:
            inputs = given[:, : self.inputs] * self.scale[self.components :] + self.shift[self.components :]
        return self.budget(after, state, inputs)


@final
class Projection(nn.Module):
    """The P of `SurrogateStep`, an orthogonal projection. Band and plates act on each axis by itself, as a small
    matrix: (Σ_|m|≤M cos(2πm(i − j)/n)/n) and ½ (1 ± the reversal of the rows)."""

    rows: Tensor
    columns: Tensor
    directions: Tensor

    def __init__(self, grid: Grid, fields: Sequence[FieldSpec], band: tuple[int, int]) -> None:
        super().__init__()
        band_y, band_x = (_low_pass(n, most) for n, most in zip(grid.n, band, strict=True))
        walls = [sign * f.wall for f in fields for sign in (1, -1)[: f.components]]  # across the plates the other sign
        rows = [(band_y + wall * band_y.flip(0)) / (1 + abs(wall)) for wall in walls]
        self.register_buffer("rows", torch.stack(rows))
        self.register_buffer("columns", band_x)
        self.register_buffer("directions", _directions(grid))
        starts = [sum(f.components for f in fields[:i]) for i in range(len(fields))]
        self.solenoidal = [start for start, f in zip(starts, fields, strict=True) if f.solenoidal]

    def forward(self, change: State) -> State:
        change = self.rows @ change @ self.columns
        change = change - change.mean((-2, -1), keepdim=True)
        for start in self.solenoidal:
            free = divergence_free(change[:, start : start + 2], self.directions)
            change = torch.cat([change[:, :start], free, change[:, start + 2 :]], dim=1)
        return change


def divergence_free(
    velocity: Float[Tensor, "batch 2 y x"], directions: Float[Tensor, "2 ky kx"]
) -> Float[Tensor, "batch 2 y x"]:
    """û − e (e·û), e = k/|k|: the solenoidal part of a vector field (Helmholtz), spectrally exact."""
    spectrum = torch.fft.rfft2(velocity)
    along = (directions * spectrum).sum(1, keepdim=True)
    return torch.fft.irfft2(spectrum - directions * along, s=velocity.shape[-2:])


def _directions(grid: Grid) -> Float[Tensor, "2 ky kx"]:
    """k/|k| as (x, y), float64; zero for the mean and where both are Nyquist."""
    ky, kx = grid.odd_wavenumbers()
    k = torch.stack(torch.broadcast_tensors(kx, ky))
    length = k.square().sum(0).sqrt()
    return k / length.where(length > 0, 1.0)


def ordered(spec: StateSpec, inputs: Mapping[str, Tensor] | None) -> list[Tensor]:
    """Inputs by name in the order of the spec."""
    return [(inputs or {})[field.name] for field in spec.inputs]


def _low_pass(n: int, most: int) -> Float[Tensor, "n n"]:
    """The projection onto the modes |m| ≤ most of n cells, float64; the identity where those are all."""
    if most >= n // 2:
        return torch.eye(n, dtype=torch.float64)
    distance = torch.arange(n)
    angles = 2 * torch.pi * distance.double()[:, None] * torch.arange(1, most + 1, dtype=torch.float64) / n
    row = (1 + 2 * angles.cos().sum(-1)) / n  # of the distance alone: the matrix itself would hold n² cosines a mode
    return row[(distance[:, None] - distance).abs()]
