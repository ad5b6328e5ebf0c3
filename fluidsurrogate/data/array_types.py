"""Array types shared by the modules that take states out of datasets: jaxtyping annotations that name each axis.

`*space` stands for (y, x) or (z, y, x). Under the tests beartype checks every annotation.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

# States of several trajectories at several times, as a Dataset holds them; without the axis `member`, and with it.
States = Float[Tensor, "trajectory time component *space"]
EnsembleStates = Float[Tensor, "trajectory member time component *space"]
