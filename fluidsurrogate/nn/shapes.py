"""Array types: the axes of each kind of tensor, as jaxtyping annotations that are checked when the tests run.

`*space` stands for (y, x) in the plane and for (z, y, x) in space; docstrings write [z,] y, x.
"""

from jaxtyping import Float
from torch import Tensor

# A stack of fields of the flow: what a network takes, and what it returns.
Field = Float[Tensor, "batch component *space"]
FieldOut = Float[Tensor, "batch component_out *space"]

# A function on the group and the grid: what group convolutions take and return. alpha counts the group's elements.
Feature = Float[Tensor, "batch channel alpha *space"]
FeatureOut = Float[Tensor, "batch channel_out alpha *space"]
ResampledFeature = Float[Tensor, "batch channel alpha *resampled"]

# A feature of a steerable network: `number` counts the dimensions of its representation.
SteerableFeature = Float[Tensor, "batch channel number y x"]
SteerableFeatureOut = Float[Tensor, "batch channel_out number_out y x"]

# Uniform scalars of the flow, a viscosity say, that modulate features.
ConditioningNumbers = Float[Tensor, "batch condition"]

# States over time, which losses compare.
Trajectories = Float[Tensor, "batch time component *space"]

# What a convolution computes with: expanded weight and bias, or real and imaginary part of a spectral one.
Kernel = tuple[Tensor, Tensor]
