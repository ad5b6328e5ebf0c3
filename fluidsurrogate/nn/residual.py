"""The block that the group architectures are built of."""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from fluidsurrogate.nn.layers import Kernels
from fluidsurrogate.nn.pointwise import Conditions, FeatureNorm, activate

Feature = Float[Tensor, "batch channel alpha y x"]
Numbers = Float[Tensor, "batch condition"] | None


@final
class Residual(nn.Module):
    """h + a(m(conv(norm(h)))): `conv` maps a feature of `channels` to as many as the activation a takes in; the norm is
    there if wanted, the modulation m by the flow's numbers if there are any (He et al. 2016, arXiv:1603.05027)."""

    def __init__(self, conv: nn.Module, channels: int, activation: str, norm: bool, conditions: Conditions) -> None:
        super().__init__()
        self.conv, self.activation = conv, activation
        self.norm = FeatureNorm(channels) if norm else nn.Identity()
        self.modulation = conditions.modulation(channels, activation)

    def forward(self, h: Feature, numbers: Numbers, kernels: Kernels | None) -> Feature:
        update = self.conv(self.norm(h), kernels)
        if self.modulation is not None:
            update = self.modulation(update, numbers)
        return h + activate(update, self.activation)
