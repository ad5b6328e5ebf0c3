"""Normalisation that obeys the types of the fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fluidsurrogate.dataset import States
from solvers import FieldSpec, Grid, StateSpec


@dataclass(frozen=True)
class Scaling:
    """z = (f − shift) / scale for each field of state and inputs, in the order of the spec; `change` is the RMS of what
    one step changes in each state field; `band` the largest mode numbers (my, mx) that those changes hold.

    A shift of a pseudoscalar or a vector would not turn with the field, nor would a scale for each component: only true
    scalars are shifted, and a vector's components share a scale.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]
    change: tuple[float, ...]
    band: tuple[int, int]

    @classmethod
    def fit(cls, spec: StateSpec, states: States, inputs: Mapping[str, Tensor]) -> Scaling:
        """Means and root mean squares over a training set."""
        parts = states.split([field.components for field in spec.fields], dim=2)
        values = {field.name: part for field, part in zip(spec.fields, parts, strict=True)} | dict(inputs)
        fields = spec.fields + spec.inputs
        shift = [float(values[f.name].double().mean()) if f.order == 0 and f.parity > 0 else 0.0 for f in fields]
        # What hardly differs from its mean, a number that is the same everywhere, has no scale of its own.
        spread = [_rms(values[f.name] - s) for f, s in zip(fields, shift, strict=True)]
        scale = [r if r > 1e-5 * abs(s) else abs(s) for r, s in zip(spread, shift, strict=True)]
        change = [_rms(part[:, 1:] - part[:, :-1]) for part in parts]
        return cls(tuple(shift), tuple(scale), tuple(change), _band(spec.grid, states))

    def to_tensors(self, spec: StateSpec) -> tuple[Tensor, Tensor, Tensor]:
        """Shift and scale (components of state and inputs, 1, 1) and change (components of state, 1, 1), float64."""
        fields = spec.fields + spec.inputs
        return _spread(self.shift, fields), _spread(self.scale, fields), _spread(self.change, spec.fields)


def _band(grid: Grid, states: States) -> tuple[int, int]:
    """The largest mode numbers on each axis that change by more than rounding; equal on a square, as D4 needs.

    Rounding noise of the transforms is spread over all modes alike, in proportion to the state, not to its change.
    """
    change = torch.fft.rfft2((states[:, 1:] - states[:, :-1]).double()).abs().square().mean((0, 1))
    noise = torch.fft.rfft2(states.double()).abs().square().mean((0, 1, 3, 4)) * torch.finfo(states.dtype).eps ** 2
    floor = torch.maximum(1e-11 * change.amax((1, 2)), 100 * noise)
    held = (change > floor[:, None, None]).any(0)
    modes = [torch.where(held, m, 0).max() for m in grid.modes()] if held.any() else [n // 2 for n in grid.n]
    my, mx = (int(m) for m in modes)
    return (max(my, mx), max(my, mx)) if grid.is_square else (my, mx)


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt()) or 1.0


def _spread(numbers: tuple[float, ...], fields: tuple[FieldSpec, ...]) -> Tensor:
    flat = [number for number, field in zip(numbers, fields, strict=True) for _ in range(field.components)]
    return torch.tensor(flat, dtype=torch.float64)[:, None, None]
