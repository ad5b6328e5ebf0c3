"""Layers that commute with a point group of the square or the cube, and what else networks are built of."""

from fluidsurrogate.nn.layers.activation import activate, channels_before_activation
from fluidsurrogate.nn.layers.equivariant_conv import EquivariantConv
from fluidsurrogate.nn.layers.gated_conv import conv_and_activation
from fluidsurrogate.nn.layers.group_conv import GroupConv, LiftingConv, channels_for_width
from fluidsurrogate.nn.layers.group_pool import GroupPool
from fluidsurrogate.nn.layers.modulation import ConditioningSplit, FiLM
from fluidsurrogate.nn.layers.normalisation import FeatureNorm
from fluidsurrogate.nn.layers.periodic_conv import PlainConv, periodic_conv
from fluidsurrogate.nn.layers.readout import Readout, ReadoutConv
from fluidsurrogate.nn.layers.resampling import downsample, upsample
from fluidsurrogate.nn.layers.residual import ResidualBlock
from fluidsurrogate.nn.layers.separable_conv import DepthwiseGroupConv, SeparableGroupConv
from fluidsurrogate.nn.layers.spectral_conv import SpectralGroupConv2d

__all__ = [
    "ConditioningSplit", "DepthwiseGroupConv", "EquivariantConv", "FeatureNorm", "FiLM", "GroupConv", "GroupPool",
    "LiftingConv", "PlainConv", "Readout", "ReadoutConv", "ResidualBlock", "SeparableGroupConv", "SpectralGroupConv2d",
    "activate", "channels_before_activation", "channels_for_width", "conv_and_activation", "downsample",
    "periodic_conv", "upsample",
]  # fmt: skip
