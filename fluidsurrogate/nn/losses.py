"""What training makes small: each a function of predicted and true states, (batch, time, component, y, x).

A loss is a function under `@loss`, the choices of `train.loss`. All are sums over norms that the group and shifts leave
as they are, so that a loss prefers no orientation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from solvers import StateSpec

Rolled = Float[Tensor, "batch time component y x"]
LOSSES: dict[str, Callable[[Rolled, Rolled, LossContext], Tensor]] = {}
BANDS = 3


class LossContext(NamedTuple):
    """What the states are measured by: their spec, the RMS change of a step (component, 1, 1), and the largest mode
    numbers (my, mx) that change."""

    spec: StateSpec
    change: Tensor
    band: tuple[int, int]


def loss(function: Callable[[Rolled, Rolled, LossContext], Tensor]):
    """Register a loss under its own name."""
    LOSSES[function.__name__] = function
    return function


@loss
def change(predicted: Rolled, truth: Rolled, by: LossContext) -> Tensor:
    """⟨|x̂ − x|² / c²⟩ over everything, c the RMS change of a step."""
    return ((predicted - truth) / by.change).square().mean()


@loss
def l2(predicted: Rolled, truth: Rolled, by: LossContext) -> Tensor:
    """⟨‖x̂ − x‖ / ‖x‖⟩ over batch, times and fields: the relative L2 error, in which a weak state counts like a strong
    one (Li et al. 2021, arXiv:2010.08895)."""
    return _relative(_power(predicted - truth, by), _power(truth, by))


@loss
def h1(predicted: Rolled, truth: Rolled, by: LossContext) -> Tensor:
    """The relative error in ‖f‖² = Σ_k (1 + |k|²) |f̂_k|², k counting waves across the longer side of the box: gradients
    count too, and so small scales (Li et al. 2022, arXiv:2106.06898)."""
    weight = 1 + _wavenumbers(by.spec).square().to(predicted)
    return _relative(_power(predicted - truth, by, weight), _power(truth, by, weight))


@loss
def bands(predicted: Rolled, truth: Rolled, by: LossContext) -> Tensor:
    """The mean over three bands of wavenumbers, thirds of the logarithm up to the largest that changes, of the relative
    error within each: the smallest scales count like the largest."""
    k = _wavenumbers(by.spec)
    highest = max(m * max(by.spec.grid.length) / side for m, side in zip(by.band, by.spec.grid.length, strict=True))
    band = (BANDS * k.clamp(min=1).log() / math.log(max(highest, 2.0))).floor().clamp(max=BANDS - 1)
    parts = []
    for number in range(BANDS):
        inside = ((band == number) & (k > 0)).to(predicted)
        parts.append(_relative(_power(predicted - truth, by, inside), _power(truth, by, inside)))
    return torch.stack(parts).mean()


def _relative(error: Tensor, size: Tensor) -> Tensor:
    """⟨√(error / size)⟩; the floor keeps a gradient where nothing is wrong, and a number where nothing is there."""
    floor = torch.finfo(error.dtype).eps * size.mean() + torch.finfo(error.dtype).tiny ** 0.5
    return ((error + floor) / (size + floor)).sqrt().mean()


def _power(
    states: Rolled, by: LossContext, weight: Float[Tensor, "ky kx"] | None = None
) -> Float[Tensor, "batch time field"]:
    """Σ |f|², or with `weight` Σ_k weight |f̂|², of each field: a vector's components belong together."""
    if weight is None:
        power = states.square().mean((-2, -1))
    else:
        spectrum = torch.fft.rfft2(states, norm="forward")
        columns = torch.full_like(spectrum.real[0, 0, 0, 0], 2.0)  # a real field's other half
        columns[0] = 1.0
        if states.shape[-1] % 2 == 0:
            columns[-1] = 1.0
        power = (weight * columns * (spectrum.real.square() + spectrum.imag.square())).sum((-2, -1))
    parts = power.split([field.components for field in by.spec.fields], dim=-1)
    return torch.stack([part.sum(-1) for part in parts], dim=-1)


def _wavenumbers(spec: StateSpec) -> Float[Tensor, "ky kx"]:
    """|k| in waves across the longer side of the box."""
    my, mx = spec.grid.modes()
    longest = max(spec.grid.length)
    ky, kx = (m.double() * longest / side for m, side in zip((my, mx), spec.grid.length, strict=True))
    return (ky.square() + kx.square()).sqrt()
