"""Normalisation of states and inputs that keeps the symmetries of their fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.array_types import States
from fluidsurrogate.models.energy_budget import BudgetCoefficients, TrajectoryChunks
from solvers import FieldSpec, Grid, StateSpec, velocity

MEAN_WARNING_RATIO = (
    10.0  # a field that is scaled only and has a mean of so many times its RMS fluctuation hardly varies
)
BaseStep = Callable[[Tensor, Mapping[str, Tensor]], Tensor]  # the next state that a network corrects


@dataclass(frozen=True)
class Normalisation:
    r"""Shift and scale of each field, and the size of the change that a network predicts.

    .. math:: z = (f - \mathrm{shift}) / \mathrm{scale}

    Only true scalars are shifted, and all components of a vector have the same scale. A shift of a pseudoscalar or a
    vector would not turn with the field, and neither would separate scales of the components.

    Parameters
    ----------
    shift : tuple of float
        One number for each field of state and inputs, in the order and the units of the spec.
    scale : tuple of float
        One number for each field of state and inputs, in the order and the units of the spec.
    change : tuple of float
        RMS change of each state field over one interval, in the units of the field. In a hybrid it is the RMS of what
        the coarse solver misses.
    band : tuple of int
        Largest mode numbers that those changes contain, (my, mx) or (mz, my, mx).
    budget_coefficients : BudgetCoefficients, optional
        Coefficients of the energy budget that forecasts are scaled to; None for no budget.
    velocity_scale : float, optional
        RMS of each component of the velocity, if the network takes it beside the vorticity.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]
    change: tuple[float, ...]
    band: tuple[int, ...]
    budget_coefficients: BudgetCoefficients | None = None
    velocity_scale: float | None = None

    @classmethod
    def fit(
        cls, spec: StateSpec, chunks: TrajectoryChunks, base: BaseStep | None = None, with_velocity: bool = False
    ) -> Normalisation:
        """Compute means and root mean squares over a training set.

        The training set is passed over three times, with a velocity four times, some trajectories at a time.

        Parameters
        ----------
        spec : StateSpec
            Fields and inputs.
        chunks : callable
            Makes a pass over the training data: states (trajectory, time, component, y, x) and inputs by name.
        base : callable, optional
            The step that the network corrects, from a state (batch, component, y, x) and inputs to the next state; by
            default the state stays as it is.
        with_velocity : bool
            Whether the network takes the velocity beside the vorticity.

        Returns
        -------
        Normalisation
            Without coefficients of an energy budget.
        """
        fields = spec.fields + spec.inputs

        def moments(shift: Sequence[float], power: int) -> list[float]:
            sums, counts = [0.0] * len(fields), [0] * len(fields)
            for states, inputs in chunks():
                names = (f.name for f in spec.fields)
                values = dict(zip(names, _split_fields(spec, states), strict=True)) | dict(inputs)
                for i, field in enumerate(fields):
                    sums[i] += float((values[field.name].double() - shift[i]).pow(power).sum())
                    counts[i] += values[field.name].numel()
            return [s / n for s, n in zip(sums, counts, strict=True)]

        means = moments([0.0] * len(fields), 1)
        shift = [m if f.order == 0 and f.parity > 0 else 0.0 for f, m in zip(fields, means, strict=True)]
        # A field that hardly differs from its mean, such as a constant input, has no scale of its own.
        rms = [math.sqrt(square) or 1.0 for square in moments(shift, 2)]
        scale = [r if r > 1e-5 * abs(s) else abs(s) for r, s in zip(rms, shift, strict=True)]
        change, band = _change_statistics(spec, chunks, base)
        velocity_scale = _rms_velocity(spec, chunks) if with_velocity else None
        return cls(tuple(shift), tuple(scale), change, band, velocity_scale=velocity_scale)

    def to_tensors(self, spec: StateSpec) -> tuple[Tensor, Tensor, Tensor]:
        """Return shift, scale and change as float64 tensors, with a number for each component.

        Parameters
        ----------
        spec : StateSpec
            Fields and inputs.

        Returns
        -------
        shift, scale : Tensor
            Shape (components of state and inputs, 1, 1); in three dimensions with one axis more.
        change : Tensor
            Shape (components of the state, 1, 1); in three dimensions with one axis more.
        """
        fields = spec.fields + spec.inputs
        return (
            _per_component(self.shift, fields, spec.grid),
            _per_component(self.scale, fields, spec.grid),
            _per_component(self.change, spec.fields, spec.grid),
        )


def describe_large_means(spec: StateSpec, chunks: TrajectoryChunks) -> list[str]:
    """Describe each field of the state whose mean over the box is much larger than its fluctuations.

    A pseudoscalar or a vector is scaled but not shifted, and every step conserves its mean: a large mean takes digits
    and scale away from the flow and has no effect on it. Only the first chunk of the data is examined.

    Parameters
    ----------
    spec : StateSpec
        Fields and inputs.
    chunks : callable
        Makes a pass over the training data: states (trajectory, time, component, y, x) and inputs by name.

    Returns
    -------
    list of str
        A warning for each such field, with what to do about it.

    Raises
    ------
    UsageError
        If the precision of the data leaves fewer than three digits to the fluctuations.
    """
    states, _ = next(iter(chunks()))
    warnings = []
    for field, values in zip(spec.fields, _split_fields(spec, states), strict=True):
        if field.order == 0 and field.parity > 0:
            continue  # it is shifted
        mean = values.double().mean(spec.grid.dims, keepdim=True)
        fluctuation = float((values - mean).square().mean().sqrt())
        size = float(mean.square().mean().sqrt())
        if fluctuation < 1e3 * torch.finfo(values.dtype).eps * size:
            raise UsageError(f"the mean of {field.name} over the box, {size:.3g}, leaves fewer than three digits to "
                             f"its fluctuations, {fluctuation:.3g}: subtract the mean from the data")  # fmt: skip
        if size > MEAN_WARNING_RATIO * fluctuation:
            warnings.append(
                f"the mean of {field.name} over the box, {size:.3g}, is {size / fluctuation:.3g} times its "
                "fluctuations; it is conserved and has no effect on the flow: subtract it from the data"
            )
    return warnings


def _change_statistics(
    spec: StateSpec, chunks: TrajectoryChunks, base: BaseStep | None
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return the RMS change of each field, and the largest mode number on each axis that changes by more than rounding.

    Mode numbers are equal on axes of equal length and cells, as the grid's point group needs. Rounding noise of the
    transforms is spread over all modes alike, in proportion to the state, not to its change.
    """
    grid, count, squares = spec.grid, 0, [0.0] * len(spec.fields)
    power, noise, eps = torch.zeros(()), torch.zeros(()), 0.0
    for states, inputs in chunks():
        before, after = states[:, :-1], states[:, 1:]
        if base is not None:
            times = before.shape[1]
            repeated = {name: value.repeat_interleave(times, 0) for name, value in inputs.items()}
            with torch.no_grad():
                before = base(before.flatten(0, 1), repeated).unflatten(0, before.shape[:2]).to(after)
        change = after.double() - before.double()
        squares = [s + float(p.square().sum()) for s, p in zip(squares, _split_fields(spec, change), strict=True)]
        count += change[:, :, 0].numel()
        power = power + torch.fft.rfftn(change, dim=grid.dims).abs().square().sum((0, 1))
        eps = torch.finfo(states.dtype).eps
        spectrum = torch.fft.rfftn(after.double(), dim=grid.dims)
        noise = noise + spectrum.abs().square().mean(grid.dims).sum((0, 1)) * eps**2
    floor = torch.maximum(1e-11 * power.amax(grid.dims), 100 * noise)
    held = (power > floor.reshape(-1, *(1 for _ in grid.n))).any(0)
    modes = [torch.where(held, m, 0).max() for m in grid.modes()] if held.any() else [n // 2 for n in grid.n]
    largest = [int(m) for m in modes]
    band = tuple(max(m for j, m in enumerate(largest) if _interchangeable(grid, i, j)) for i in range(len(largest)))
    return tuple(math.sqrt(s / (count * f.components)) or 1.0 for s, f in zip(squares, spec.fields, strict=True)), band


def _rms_velocity(spec: StateSpec, chunks: TrajectoryChunks) -> float:
    """Return the RMS of a component of the velocity that belongs to the vorticity."""
    component, total, count = spec.vorticity_component, 0.0, 0
    assert component is not None
    for states, _ in chunks():
        u = velocity(states[:, :, component : component + 1].flatten(0, 1).double(), spec.grid)
        total, count = total + float(u.square().sum()), count + u.numel()
    return math.sqrt(total / count) or 1.0


def _interchangeable(grid: Grid, axis: int, other: int) -> bool:
    """Return whether two axes of a grid have the same number of cells and the same length."""
    return grid.n[axis] == grid.n[other] and math.isclose(grid.length[axis], grid.length[other], rel_tol=1e-12)


def _split_fields(spec: StateSpec, states: States) -> tuple[Tensor, ...]:
    """Split states into the components of each field."""
    return states.split([field.components for field in spec.fields], dim=2)


def _per_component(numbers: tuple[float, ...], fields: tuple[FieldSpec, ...], grid: Grid) -> Tensor:
    """Repeat the number of each field for each of its components; shape (component, 1, 1), one 1 for each axis."""
    flat = [number for number, field in zip(numbers, fields, strict=True) for _ in range(field.components)]
    return torch.tensor(flat, dtype=torch.float64).reshape(-1, *(1 for _ in grid.n))
