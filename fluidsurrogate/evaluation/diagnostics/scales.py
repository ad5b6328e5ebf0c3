"""Velocity, length and time scales, and numbers made of them."""

from fluidsurrogate.evaluation.diagnostics.registry import SummaryDiagnostic, register_diagnostic
from solvers import turbulence

PLANE, SPACE, BOTH = (2,), (3,), (2, 3)

for _name, _function, _long_name, _units, _needs, _dimensions in (
    ("rms_velocity", turbulence.rms_velocity, "root mean square velocity", "m s-1", None, BOTH),
    ("integral_scale", turbulence.integral_scale, "integral scale, 2 sum(E/k) / sum(E)", "m", None, BOTH),
    ("taylor_microscale", turbulence.taylor_microscale, "Taylor microscale", "m", None, BOTH),
    ("turnover_time", turbulence.turnover_time, "eddy turnover time", "s", None, BOTH),
    ("reynolds_number", turbulence.reynolds_number, "Reynolds number", "1", "viscosity", BOTH),
    ("dissipation_wavenumber", turbulence.dissipation_wavenumber, "wavenumber of enstrophy dissipation", "m-1",
     "viscosity", PLANE),
    ("taylor_reynolds_number", turbulence.taylor_reynolds_number, "Reynolds number of the Taylor microscale", "1",
     "viscosity", SPACE),
    ("kolmogorov_scale", turbulence.kolmogorov_scale, "Kolmogorov scale, (nu^3 / dissipation)^(1/4)", "m", "viscosity",
     SPACE),
    ("derivative_skewness", turbulence.derivative_skewness, "skewness of du/dx, dv/dy and dw/dz", "1", None, SPACE),
):  # fmt: skip
    register_diagnostic(_name, SummaryDiagnostic(_function, _long_name, _units, _needs, _dimensions))
