"""Classical solvers of incompressible flow in PyTorch, and the vocabulary that everything else speaks.

`Grid`, `FieldSpec`, `StateSpec` say what a state is; `Group` and `act` how it turns; `Stepper` how it moves on.
Nothing here reads files, knows xarray, or learns.
"""

from solvers.diagnostics import velocity
from solvers.fields import FORCING, TRACER, VELOCITY, VORTICITY, FieldSpec, StateSpec
from solvers.flows import FLOWS, Flow
from solvers.grid import Grid, resample
from solvers.navier_stokes import NavierStokes2D
from solvers.resampled import Resampled
from solvers.stepper import Stepper
from solvers.symmetry import C1, C2, C4, D1, D2, D4, GROUPS, Element, Group, act, act_on_fields, point_group

__all__ = [
    "C1", "C2", "C4", "D1", "D2", "D4", "FLOWS", "FORCING", "GROUPS", "TRACER", "VELOCITY", "VORTICITY",
    "Element", "FieldSpec", "Flow", "Grid", "Group", "NavierStokes2D", "Resampled", "StateSpec", "Stepper",
    "act", "act_on_fields", "point_group", "resample", "velocity",
]  # fmt: skip
