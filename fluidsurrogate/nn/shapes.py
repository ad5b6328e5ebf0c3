"""Array types: what the axes of each kind of tensor are. jaxtyping annotations, checked when the tests run."""

from jaxtyping import Float
from torch import Tensor

# A stack of fields of the flow, in and out of a network.
Field = Float[Tensor, "batch component y x"]
FieldOut = Float[Tensor, "batch component_out y x"]

# A function on the group and the plane; alpha runs over the elements of the group.
Feature = Float[Tensor, "batch channel alpha y x"]
FeatureOut = Float[Tensor, "batch channel_out alpha y x"]
FeatureOnOtherGrid = Float[Tensor, "batch channel alpha y2 x2"]

# A steerable feature: `number` runs over the basis of a representation.
SteerableFeature = Float[Tensor, "batch channel number y x"]
SteerableFeatureOut = Float[Tensor, "batch channel_out number_out y x"]

# Uniform scalars of the flow, such as its viscosity, that modulate features.
ConditioningNumbers = Float[Tensor, "batch condition"]

# States over time, as losses compare them.
Trajectories = Float[Tensor, "batch time component y x"]
