"""The networks of the study, those of TOML tables and those that no TOML file describes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fluidsurrogate.nn import ARCHITECTURES, GroupConv, LiftingConv
from fluidsurrogate.nn.residual_network import ResidualGroupNetwork
from solvers import VORTICITY, FieldSpec, Group, StateSpec

sys.path.append(str(Path(__file__).parents[1]))
from study import WithVelocity

LOCAL = {"width": 16, "lifting_size": 3, "dilations": [1, 2, 1], "activation": "gated"}
UNET = {"width": 8, "levels": 1, "lifting_size": 3, "activation": "gated"}
MODELS: dict[str, dict[str, Any]] = {
    "cnn": {"kind": "cnn", **LOCAL},
    "cnn, augmented": {"kind": "cnn", **LOCAL, "augment": "D4"},
    "gcnn": {"kind": "gcnn", **LOCAL},
    "cnn, small": {"kind": "cnn", **LOCAL, "width": 5},
    "gcnn, C4": {"kind": "gcnn", **LOCAL, "group": "C4"},
    "gcnn, wrong parity": {"kind": "module"},
    "gcnn, soft": {"kind": "module"},
    "gcnn, relaxed": {"kind": "module"},
    "unet": {"kind": "unet", **UNET},
    "unet, augmented": {"kind": "unet", **UNET, "augment": "D4"},
    "gunet": {"kind": "gunet", **UNET},
}
COUNTS = (1, 2, 4, 8, 32)
MAIN = ("cnn", "cnn, augmented", "gcnn")  # over all numbers of trajectories; the others at two and eight


class RelaxedLiftingConv(LiftingConv):
    """A lifting convolution whose kernel has a weight of its own for each element that turns it."""

    def __init__(self, group: Group, fields: Sequence[FieldSpec], channels: int, size: int) -> None:
        super().__init__(group, fields, channels, size)
        self.relaxed = nn.Parameter(torch.ones(len(group)))

    def expand_kernel(self) -> tuple[Tensor, Tensor]:
        weight, bias = super().expand_kernel()
        return weight * self.relaxed.repeat(len(self.weight)).view(-1, 1, 1, 1), bias


class RelaxedGroupConv(GroupConv):
    """A group convolution that weighs what comes from each element of the group.

    The sum over h of w(h) ψ(g⁻¹h) F(h): equivariant as long as all w are equal, which they are before training.
    """

    def __init__(self, group: Group, channels_in: int, channels: int, *, size: int, dilation: int) -> None:
        super().__init__(group, channels_in, channels, size, dilation)
        self.relaxed = nn.Parameter(torch.ones(len(group)))

    def expand_kernel(self) -> tuple[Tensor, Tensor]:
        weight, bias = super().expand_kernel()
        return weight * self.relaxed.repeat(self.weight.shape[1]).view(1, -1, 1, 1), bias


def relaxed_gcnn(fields_in: Sequence[FieldSpec], fields_out: Sequence[FieldSpec]) -> nn.Module:
    """The group CNN of the study with relaxed convolutions (Wang et al. 2023, arXiv:2310.02299)."""
    convolutions = [partial(RelaxedGroupConv, size=3, dilation=dilation) for dilation in LOCAL["dilations"]]
    network = ResidualGroupNetwork(
        fields_in, fields_out, convolutions, group="D4", width=LOCAL["width"], lifting_size=LOCAL["lifting_size"],
        activation=LOCAL["activation"], norm=False, modulate=False, pool="mean",
    )  # fmt: skip
    lift = network.lift
    network.lift = RelaxedLiftingConv(network.group, lift.fields, len(lift.weight), LOCAL["lifting_size"])
    return network


def module_of(name: str, spec: StateSpec, scale: float, seed: int) -> dict[str, nn.Module]:
    """What no TOML file describes. `scale` is what `study.velocity_scale` returns."""
    torch.manual_seed(seed)
    fields = (VORTICITY, spec.velocity_of_vorticity), (VORTICITY,)
    if name == "gcnn, wrong parity":
        scalar = replace(VORTICITY, parity=1)
        networks = [ARCHITECTURES["gcnn"]((scalar, spec.velocity_of_vorticity), (scalar,), group="D4", **LOCAL)]
    elif name == "gcnn, soft":
        networks = [ARCHITECTURES["gcnn"](*fields, group="D4", **LOCAL),
                    ARCHITECTURES["cnn"](*fields, **(LOCAL | {"width": 4}))]  # fmt: skip
    elif name == "gcnn, relaxed":
        networks = [relaxed_gcnn(*fields)]
    else:
        return {}
    return {name: WithVelocity(spec, scale, *networks)}
