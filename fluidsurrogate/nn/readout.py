"""The way out: from a feature to fields of any type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluidsurrogate.nn.layers import Expanding, GroupConv2d, GroupPool2d, Kernel, Kernels, PlainConv2d, periodic_conv2d
from solvers import TRACER, FieldSpec, Group

Feature = Float[Tensor, "batch channel alpha y x"]
Field = Float[Tensor, "batch component y x"]


@final
class ReadoutConv2d(Expanding):
    """Feature → field: f(x) = Σ_c Σ_g ρ(g) w_c F_c(g, x) + P b, the most general 1 × 1 equivariant map onto the
    representation ρ of `fields`: a 1 × 1 group convolution and the projection of `GroupPool2d`, in one.

    w_c and b have a value for each component; P = ⟨ρ(g)⟩ keeps of b what no element changes, nothing for a pseudoscalar
    and a group with mirrors. In (batch, channel, |G|, y, x), out (batch, component, y, x).
    """

    representation: Tensor

    def __init__(self, group: Group, channels: int, fields: Sequence[FieldSpec]) -> None:
        super().__init__()
        self.group = group
        matrices = [torch.block_diag(*(g.representation(field) for field in fields)) for g in group]
        self.register_buffer("representation", torch.stack(matrices).float(), persistent=False)
        self.weight = nn.Parameter(torch.empty(self.representation.shape[1], channels))
        self.bias = nn.Parameter(torch.zeros(self.representation.shape[1]))
        # No more than what comes in, even where all orientations agree; a first forecast close to persistence.
        nn.init.normal_(self.weight, std=1 / (math.sqrt(channels) * len(group)))

    def kernel(self) -> Kernel:
        """Weight (components, channels·|G|, 1, 1) and bias."""
        weight = torch.einsum("gij,jc->icg", self.representation, self.weight).flatten(1)
        return weight[..., None, None], self.representation.mean(0) @ self.bias

    def plain(self) -> nn.Module:
        return PlainConv2d(self.kernel())

    def forward(self, x: Feature, kernels: Kernels | None = None) -> Field:
        return periodic_conv2d(x.flatten(1, 2), self._kernel(kernels))


@final
class Readout(nn.Module):
    """What an architecture ends with, by the name of its pooling:

    `mean`: `ReadoutConv2d`, linear, for every type. `gated`: each field of it times 2 σ(s) with a scalar s of its own,
    read out beside it; one at s = 0. `max`: a 1 × 1 group convolution and `GroupPool2d` by the maximum, for scalars and
    pseudoscalars.
    """

    def __init__(self, group: Group, channels: int, fields: Sequence[FieldSpec], pool: str) -> None:
        super().__init__()
        if pool not in ("mean", "gated", "max"):
            raise ValueError(f"pool must be 'mean', 'gated' or 'max' (got {pool!r})")
        self.components = sum(field.components for field in fields)
        self.gate_of = [i for i, field in enumerate(fields) for _ in range(field.components)] if pool == "gated" else []
        gates = [replace(TRACER, name=f"gate of {field.name}") for field in fields] if pool == "gated" else []
        self.head: Expanding
        if pool == "max":
            self.head = GroupConv2d(group, channels, self.components, 1)
            self.pool: nn.Module = GroupPool2d(group, fields, "max")
        else:
            self.head, self.pool = ReadoutConv2d(group, channels, [*fields, *gates]), nn.Identity()

    def forward(self, x: Feature, kernels: Kernels | None = None) -> Field:
        y = self.pool(self.head(x, kernels))
        if not self.gate_of:
            return y
        return y[:, : self.components] * (2 * y[:, self.components :].sigmoid())[:, self.gate_of]
