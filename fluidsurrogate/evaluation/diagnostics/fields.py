"""Fields: velocity, stream function, pressure, Q criterion and strain rate."""

from fluidsurrogate.evaluation.diagnostics.registry import FieldDiagnostic, register_diagnostic
from solvers import VELOCITY, FieldSpec, diagnostics

for _function, _field in (
    (diagnostics.velocity, VELOCITY),
    (
        diagnostics.stream_function,
        FieldSpec("stream_function", 0, -1, "m2 s-1", "stream function, u = d(psi)/dy"),
    ),
    (diagnostics.pressure, FieldSpec("pressure", 0, 1, "m2 s-2", "pressure over density")),
    (diagnostics.q_criterion, FieldSpec("q_criterion", 0, 1, "s-2", "Q criterion")),
    (diagnostics.strain_rate, FieldSpec("strain_rate", 0, 1, "s-1", "strain rate, sqrt(2 S:S)")),
):
    register_diagnostic(_field.name, FieldDiagnostic(_function, _field))
