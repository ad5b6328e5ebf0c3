"""Array types shared by the solvers: jaxtyping annotations that name each axis, and plain pairs and mappings.

Arrays are indexed (batch, component, y, x), or (batch, component, z, y, x) in three dimensions: `*space` stands for
either. Coordinates grow with their index. Under the tests beartype checks every annotation with an array.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Complex, Float
from torch import Tensor

# A state, or any stack of fields along the component axis.
State = Float[Tensor, "batch component *space"]
ScalarField = Float[Tensor, "batch 1 *space"]
VectorField = Float[Tensor, "batch direction *space"]
# A flow, given by its vorticity or by its velocity.
FlowField = Float[Tensor, "batch flow *space"]

# What advection needs at the cell centres: the velocity, and the scalar if there is one.
FlowFields = Float[Tensor, "batch velocity_and_scalar *space"]

# Fourier coefficients as `torch.fft.rfftn` gives them, perhaps cut to the columns kx ≥ 0 that hold retained modes.
Spectrum = Complex[Tensor, "batch component *modes"]

# Kicks of a stochastic forcing: Fourier coefficients of the vorticity, or in three dimensions of the velocity, for each
# part of an interval.
Kicks = Complex[Tensor, "batch part flow *kicked_modes"]
# The same as Fourier series, in the layout of `solvers.grid.place_modes`.
KickSeries = Complex[Tensor, "batch part flow *series"]

# Sums over shells of wavenumbers |k|, and one number for each field or trajectory of a batch.
ShellSpectrum = Float[Tensor, "batch shell"]
PerTrajectory = Float[Tensor, " batch"]

# Inputs of a stepper by name: (batch, component, y, x), or (batch, component, 1, 1) for uniform ones; in three
# dimensions with one axis more.
Inputs = Mapping[str, Tensor] | None

Vector = tuple[float, ...]  # components (x, y) or (x, y, z) of a uniform vector
Sides = tuple[float, ...]  # sides of the box, (y, x) or (z, y, x)
