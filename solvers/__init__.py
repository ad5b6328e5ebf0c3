"""Classical solvers of incompressible flow in PyTorch, and the vocabulary that everything else speaks.

`Grid`, `FieldSpec`, `StateSpec` say what a state is; `Group` and `act` how it turns; `Stepper` how it moves on.
Nothing here reads files, knows xarray, or learns.
"""

from solvers.diagnostics import velocity
from solvers.equation import TransportedScalar
from solvers.fields import (
    DIFFUSIVITY,
    DRAG,
    FORCING,
    GRAVITY,
    KNOWN_FIELDS,
    MEAN_GRADIENT,
    MEAN_VELOCITY,
    TEMPERATURE,
    TRACER,
    VELOCITY,
    VISCOSITY,
    VORTICITY,
    FieldSpec,
    StateSpec,
    field_in,
)  # fmt: skip
from solvers.fixed_power_forcing import FixedPowerForcing
from solvers.flows import FLOWS, Flow, Tracer
from solvers.grid import Grid, resample
from solvers.navier_stokes import NavierStokes
from solvers.navier_stokes_2d import NavierStokes2D
from solvers.navier_stokes_3d import NavierStokes3D
from solvers.point_groups import (
    C1,
    C2,
    C4,
    D1,
    D1A,
    D1D,
    D1Y,
    D2,
    D2D,
    D4,
    GROUPS,
    MIRROR_X,
    generate_group,
    group_named,
    point_group,
    subgroups,
)  # fmt: skip
from solvers.resampled import Resampled
from solvers.stepper import Stepper
from solvers.stochastic_forcing import StochasticForcing
from solvers.symmetry import Element, Group, act, act_on_fields
from solvers.velocity_form import VelocityForm

__all__ = [
    "C1",
    "C2",
    "C4",
    "D1",
    "D1A",
    "D1D",
    "D1Y",
    "D2",
    "D2D",
    "D4",
    "DIFFUSIVITY",
    "DRAG",
    "FLOWS",
    "FORCING",
    "GRAVITY",
    "GROUPS",
    "KNOWN_FIELDS",
    "MEAN_GRADIENT",
    "MEAN_VELOCITY",
    "MIRROR_X",
    "TEMPERATURE",
    "TRACER",
    "VELOCITY",
    "VISCOSITY",
    "VORTICITY",
    "Element",
    "FieldSpec",
    "FixedPowerForcing",
    "Flow",
    "Grid",
    "Group",
    "NavierStokes",
    "NavierStokes2D",
    "NavierStokes3D",
    "Resampled",
    "StateSpec",
    "Stepper",
    "StochasticForcing",
    "Tracer",
    "TransportedScalar",
    "VelocityForm",
    "act",
    "act_on_fields",
    "field_in",
    "generate_group",
    "group_named",
    "point_group",
    "resample",
    "subgroups",
    "velocity",
]  # fmt: skip
