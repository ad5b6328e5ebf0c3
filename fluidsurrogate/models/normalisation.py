"""Normalisation that obeys the types of the fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.array_types import States
from fluidsurrogate.models.energy_budget import BudgetCoefficients
from solvers import FieldSpec, StateSpec

HIDING = 10.0  # times what varies about it: so large a mean leaves a normalised field that hardly varies


@dataclass(frozen=True)
class Normalisation:
    """z = (f − shift) / scale for each field of state and inputs, in the order of the spec; `change` is the RMS of what
    one step changes in each state field (of a hybrid, what its solver misses); `band` the largest mode numbers (my, mx)
    that those changes hold; `budget_coefficients` what the flow's energy budget needs to know, where that is known.

    A shift of a pseudoscalar or a vector would not turn with the field, nor would a scale for each component: only true
    scalars are shifted, and a vector's components share a scale.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]
    change: tuple[float, ...]
    band: tuple[int, int]
    budget_coefficients: BudgetCoefficients | None = None

    @classmethod
    def fit(
        cls,
        spec: StateSpec,
        chunks: Callable[[], Iterable[tuple[States, Mapping[str, Tensor]]]],
        base: Callable[[Tensor, Mapping[str, Tensor]], Tensor] | None = None,
    ) -> Normalisation:
        """Means and root mean squares over a training set, passed over three times, some trajectories at a time.

        `base` is what the network corrects, from (batch, component, y, x) and inputs to the next state; None: the state
        as it is.
        """
        fields = spec.fields + spec.inputs

        def moments(shift: Sequence[float], power: int) -> list[float]:
            sums, counts = [0.0] * len(fields), [0] * len(fields)
            for states, inputs in chunks():
                parts = dict(zip((f.name for f in spec.fields), _parts(spec, states), strict=True)) | dict(inputs)
                for i, field in enumerate(fields):
                    sums[i] += float((parts[field.name].double() - shift[i]).pow(power).sum())
                    counts[i] += parts[field.name].numel()
            return [s / n for s, n in zip(sums, counts, strict=True)]

        means = moments([0.0] * len(fields), 1)
        shift = [m if f.order == 0 and f.parity > 0 else 0.0 for f, m in zip(fields, means, strict=True)]
        # What hardly differs from its mean, a number that is the same everywhere, has no scale of its own.
        spread = [math.sqrt(square) or 1.0 for square in moments(shift, 2)]
        scale = [r if r > 1e-5 * abs(s) else abs(s) for r, s in zip(spread, shift, strict=True)]
        change, band = _changes(spec, chunks, base)
        return cls(tuple(shift), tuple(scale), change, band)

    def to_tensors(self, spec: StateSpec) -> tuple[Tensor, Tensor, Tensor]:
        """Shift and scale (components of state and inputs, 1, 1) and change (components of state, 1, 1), float64."""
        fields = spec.fields + spec.inputs
        return _spread(self.shift, fields), _spread(self.scale, fields), _spread(self.change, spec.fields)


def check_means(spec: StateSpec, chunks: Callable[[], Iterable[tuple[States, Mapping[str, Tensor]]]]) -> list[str]:
    """A line for each field of the state whose mean over the box hides what varies about it. Such a field is scaled and
    not shifted, and its mean is conserved by every step, so that it does nothing but take digits and scale.

    Only the first stretch is looked at. UsageError where single precision leaves fewer than three digits to what
    varies.
    """
    states, _ = next(iter(chunks()))
    said = []
    for field, part in zip(spec.fields, _parts(spec, states), strict=True):
        if field.order == 0 and field.parity > 0:
            continue  # it is shifted
        mean = part.double().mean((-2, -1), keepdim=True)
        varies, size = float((part - mean).square().mean().sqrt()), float(mean.square().mean().sqrt())
        if varies < 1e3 * torch.finfo(part.dtype).eps * size:
            raise UsageError(f"the mean of {field.name}, {size:.3g}, leaves no digits to what varies about it, "
                             f"{varies:.3g}: subtract it")  # fmt: skip
        if size > HIDING * varies:
            said.append(f"the mean of {field.name}, {size:.3g}, is {size / varies:.3g} times what varies about it; "
                        "it is conserved and does nothing: subtract it")  # fmt: skip
    return said


def _changes(spec: StateSpec, chunks, base) -> tuple[tuple[float, ...], tuple[int, int]]:
    """The RMS of each field's change, and the largest mode numbers on each axis that change by more than rounding;
    equal on a square, as D4 needs.

    Rounding noise of the transforms is spread over all modes alike, in proportion to the state, not to its change.
    """
    grid, count, squares = spec.grid, 0, [0.0] * len(spec.fields)
    changed, noise, eps = torch.zeros(()), torch.zeros(()), 0.0
    for states, inputs in chunks():
        before, after = states[:, :-1], states[:, 1:]
        if base is not None:
            times = before.shape[1]
            repeated = {name: value.repeat_interleave(times, 0) for name, value in inputs.items()}
            with torch.no_grad():
                before = base(before.flatten(0, 1), repeated).unflatten(0, before.shape[:2]).to(after)
        step = after.double() - before.double()
        squares = [s + float(p.square().sum()) for s, p in zip(squares, _parts(spec, step), strict=True)]
        count += step[:, :, 0].numel()
        changed = changed + torch.fft.rfft2(step).abs().square().sum((0, 1))
        eps = torch.finfo(states.dtype).eps
        noise = noise + torch.fft.rfft2(after.double()).abs().square().mean((3, 4)).sum((0, 1)) * eps**2
    floor = torch.maximum(1e-11 * changed.amax((1, 2)), 100 * noise)
    held = (changed > floor[:, None, None]).any(0)
    modes = [torch.where(held, m, 0).max() for m in grid.modes()] if held.any() else [n // 2 for n in grid.n]
    my, mx = (int(m) for m in modes)
    band = (max(my, mx), max(my, mx)) if grid.is_square else (my, mx)
    return tuple(math.sqrt(s / (count * f.components)) or 1.0 for s, f in zip(squares, spec.fields, strict=True)), band


def _parts(spec: StateSpec, states: States) -> tuple[Tensor, ...]:
    return states.split([field.components for field in spec.fields], dim=2)


def _spread(numbers: tuple[float, ...], fields: tuple[FieldSpec, ...]) -> Tensor:
    flat = [number for number, field in zip(numbers, fields, strict=True) for _ in range(field.components)]
    return torch.tensor(flat, dtype=torch.float64)[:, None, None]
