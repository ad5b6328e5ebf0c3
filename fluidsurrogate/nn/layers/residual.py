"""The residual block that the group architectures are built of."""

from __future__ import annotations

from typing import final

from torch import nn

from fluidsurrogate.nn.layers.activation import add_activation
from fluidsurrogate.nn.layers.gated_conv import conv_and_activation
from fluidsurrogate.nn.layers.modulation import ConditioningSplit
from fluidsurrogate.nn.layers.normalisation import FeatureNorm
from fluidsurrogate.nn.shapes import ConditioningNumbers, Feature


@final
class ResidualBlock(nn.Module):
    r"""Residual block with optional normalisation and modulation (He et al. 2016, arXiv:1603.05027).

    .. math:: h \mapsto h + \sigma(m(\mathrm{conv}(\mathrm{norm}(h))))

    Parameters
    ----------
    conv : Module
        Layer from a feature of `channels` to as many channels as the activation takes.
    channels : int
        Channels of the block.
    activation : str
        Activation σ, "gelu" or "gated".
    norm : bool
        Whether what the convolution takes in is normalised.
    conditions : ConditioningSplit
        Says whether there are numbers of the flow for the modulation m.
    """

    def __init__(
        self, conv: nn.Module, channels: int, activation: str, norm: bool, conditions: ConditioningSplit
    ) -> None:
        super().__init__()
        self.conv, self.activation = conv, activation
        self.norm = FeatureNorm(channels) if norm else nn.Identity()
        self.modulation = conditions.build_modulation(channels, activation)

    def forward(self, h: Feature, numbers: ConditioningNumbers | None) -> Feature:
        """Apply the block.

        Parameters
        ----------
        h : Tensor
            Feature, of shape (batch, channel, |G|, [z,] y, x).
        numbers : Tensor or None
            Conditioning numbers, of shape (batch, condition).

        Returns
        -------
        Tensor
            Feature of the same shape.
        """
        if self.modulation is None and isinstance(self.norm, nn.Identity):
            return conv_and_activation(self.conv, h, self.activation, adds=True)
        update = self.conv(self.norm(h))
        if self.modulation is not None:
            update = self.modulation(update, numbers)
        return add_activation(h, update, self.activation)
