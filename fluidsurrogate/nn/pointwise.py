"""What acts on a feature (batch, channel, α, y, x) without a kernel: normalisation, modulation, activation, and the
change to a grid half or twice as fine. Each treats all α alike and every cell alike, and so commutes with the group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from solvers import FieldSpec

Feature = Float[Tensor, "batch channel alpha y x"]
ACTIVATIONS = ("gelu", "gated")


@final
class FeatureNorm(nn.Module):
    """(F − m) / s · a + b, m and s the mean and standard deviation of a sample over channel, α and the plane together;
    a and b one a channel (group normalisation with one group, Wu & He 2018, arXiv:1803.08494). Statistics of one
    channel and α alone would turn with the input and undo what tells the orientations apart."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Feature) -> Feature:
        return F.group_norm(x.flatten(2, 3), 1, self.weight, self.bias).view_as(x)


@final
class Modulation(nn.Module):
    """F → (1 + a(c)) F + b(c) for each channel, with a small network (a, b) of the conditions c, which are invariant:
    a viscosity, a drag (Perez et al. 2018, arXiv:1709.07871). The identity at the start."""

    def __init__(self, conditions: int, channels: int, hidden: int = 32) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(conditions, hidden), nn.Linear(hidden, 2 * channels)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Feature, conditions: Float[Tensor, "batch condition"]) -> Feature:
        factor, shift = self.outer(F.silu(self.inner(conditions)))[..., None, None, None].chunk(2, dim=1)
        return (1 + factor) * x + shift


def is_condition(field: FieldSpec) -> bool:
    """True for a number of the flow that no group element changes: a uniform scalar."""
    return field.uniform and field.order == 0 and field.parity > 0


@final
class Conditions(nn.Module):
    """Splits the fields in into those to convolve and, with `modulate`, the numbers to modulate by."""

    def __init__(self, fields: Sequence[FieldSpec], modulate: bool) -> None:
        super().__init__()
        components = [(f, i) for i, f in enumerate(f for f in fields for _ in range(f.components))]
        self.numbers = [i for f, i in components if modulate and is_condition(f)]
        self.rest = [i for _, i in components if i not in self.numbers]
        self.fields = [f for f in fields if not (modulate and is_condition(f))]

    def modulation(self, channels: int, activation: str) -> Modulation | None:
        """What modulates a feature that `activation` turns into so many channels; None without conditions."""
        return Modulation(len(self.numbers), channels_before(channels, activation)) if self.numbers else None

    def forward(
        self, x: Float[Tensor, "batch component y x"]
    ) -> tuple[Float[Tensor, "batch field y x"], Float[Tensor, "batch condition"] | None]:
        if not self.numbers:
            return x, None
        return x[:, self.rest], x[:, self.numbers, 0, 0]


def activate(x: Feature, kind: str) -> Float[Tensor, "batch channel_out alpha y x"]:
    """`gelu`; or `gated`, F σ(G) with the channels of the first half as F and of the second as G."""
    if kind == "gelu":
        return F.gelu(x)
    values, gates = x.chunk(2, dim=1)
    return values * gates.sigmoid()


def channels_before(channels: int, kind: str) -> int:
    """How many channels `activate` needs to give so many."""
    if kind not in ACTIVATIONS:
        raise ValueError(f"unknown activation {kind!r}; one of {', '.join(ACTIVATIONS)}")
    return 2 * channels if kind == "gated" else channels


def halve(x: Feature) -> Float[Tensor, "batch channel alpha y2 x2"]:
    """The mean of each 2 × 2 cells, which sits at the centre of a cell of the coarse grid, so that turns and mirrors
    about the middle of the box stay exact. ValueError where a side is odd."""
    ny, nx = x.shape[-2:]
    if ny % 2 or nx % 2:
        raise ValueError(f"a grid of {ny} x {nx} cells cannot be halved: take fewer levels, or a grid of even sides")
    return F.avg_pool2d(x.flatten(1, 2), 2).unflatten(1, x.shape[1:3])


def double(x: Feature) -> Float[Tensor, "batch channel alpha y2 x2"]:
    """Bilinear interpolation from coarse to fine cell centres, periodic: (9, 3, 3, 1)/16 of the four nearest."""
    padded = F.pad(x.flatten(1, 2), (1, 1, 1, 1), mode="circular")
    fine = F.interpolate(padded, scale_factor=2, mode="bilinear", align_corners=False)
    return fine[..., 2:-2, 2:-2].unflatten(1, x.shape[1:3])


def channels_for(width: int, order: int, name: str) -> int:
    """width / |G|; ValueError where that is no whole number."""
    channels, rest = divmod(width, order)
    if rest or channels < 1:
        raise ValueError(f"width must be a multiple of the {order} elements of {name} (got {width})")
    return channels
