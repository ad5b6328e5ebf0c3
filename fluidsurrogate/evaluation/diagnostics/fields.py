"""Fields: velocity, stream function, pressure, Q criterion, strain rate and helicity."""

from torch import Tensor

from fluidsurrogate.evaluation.diagnostics.registry import FieldDiagnostic, register_diagnostic
from solvers import VELOCITY, FieldSpec, Grid, diagnostics


def _velocity(flow: Tensor, grid: Grid) -> Tensor:
    return diagnostics.velocity(flow, grid) if grid.dimensions == 2 else flow  # in space the flow is the velocity


for _function, _field, _dimensions in (
    (_velocity, VELOCITY, (2, 3)),
    (
        diagnostics.stream_function,
        FieldSpec("stream_function", 0, -1, "m2 s-1", "stream function, u = d(psi)/dy"),
        (2,),
    ),
    (diagnostics.pressure, FieldSpec("pressure", 0, 1, "m2 s-2", "pressure over density"), (2, 3)),
    (diagnostics.q_criterion, FieldSpec("q_criterion", 0, 1, "s-2", "Q criterion"), (2, 3)),
    (diagnostics.strain_rate, FieldSpec("strain_rate", 0, 1, "s-1", "strain rate, sqrt(2 S:S)"), (2, 3)),
    (diagnostics.helicity, FieldSpec("helicity", 0, -1, "m s-2", "helicity, u . curl(u)"), (3,)),
):
    register_diagnostic(_field.name, FieldDiagnostic(_function, _field, _dimensions))
