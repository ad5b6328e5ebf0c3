"""Layers that commute with a point group of the square, and what else networks are built of."""

from fluidsurrogate.nn.layers.activation import activate, channels_before_activation
from fluidsurrogate.nn.layers.equivariant_conv import EquivariantConv2d
from fluidsurrogate.nn.layers.group_conv import GroupConv2d, LiftingConv2d, channels_for_width
from fluidsurrogate.nn.layers.group_pool import GroupPool2d
from fluidsurrogate.nn.layers.modulation import ConditioningSplit, FiLM
from fluidsurrogate.nn.layers.normalisation import FeatureNorm
from fluidsurrogate.nn.layers.periodic_conv import PlainConv2d, periodic_conv2d
from fluidsurrogate.nn.layers.readout import Readout, ReadoutConv2d
from fluidsurrogate.nn.layers.resampling import downsample, upsample
from fluidsurrogate.nn.layers.residual import ResidualBlock
from fluidsurrogate.nn.layers.spectral_conv import SpectralGroupConv2d

__all__ = [
    "ConditioningSplit", "EquivariantConv2d", "FeatureNorm", "FiLM", "GroupConv2d", "GroupPool2d", "LiftingConv2d",
    "PlainConv2d", "Readout", "ReadoutConv2d", "ResidualBlock", "SpectralGroupConv2d", "activate",
    "channels_before_activation", "channels_for_width", "downsample", "periodic_conv2d", "upsample",
]  # fmt: skip
