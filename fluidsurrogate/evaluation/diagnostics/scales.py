"""Velocity, length and time scales, and numbers made of them."""

from fluidsurrogate.evaluation.diagnostics.registry import SummaryDiagnostic, register_diagnostic
from solvers import turbulence

for _name, _function, _long_name, _units, _needs in (
    ("rms_velocity", turbulence.rms_velocity, "root mean square velocity", "m s-1", None),
    ("integral_scale", turbulence.integral_scale, "integral scale, 2 sum(E/k) / sum(E)", "m", None),
    ("taylor_microscale", turbulence.taylor_microscale, "Taylor microscale, sqrt(E/Z)", "m", None),
    ("turnover_time", turbulence.turnover_time, "eddy turnover time", "s", None),
    ("reynolds_number", turbulence.reynolds_number, "Reynolds number", "1", "viscosity"),
    ("dissipation_wavenumber", turbulence.dissipation_wavenumber, "wavenumber of enstrophy dissipation", "m-1",
     "viscosity"),
):  # fmt: skip
    register_diagnostic(_name, SummaryDiagnostic(_function, _long_name, _units, _needs))
