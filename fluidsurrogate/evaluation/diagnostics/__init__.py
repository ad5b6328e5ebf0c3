"""What follows from the flow, as xarray: `add(dataset, "energy_flux")` adds a variable to a Dataset.

The flow is the vorticity in two dimensions and the velocity in three, as in `solvers.spectra`: a variable of the
dataset, or computed from the other one. Fields (velocity, pressure, ...) have the dims of the flow; spectra have
`wavenumber` in place of the spatial dims; everything else is one number a trajectory and time. Equations
and sources are those of `solvers.diagnostics`, `solvers.spectra` and `solvers.turbulence`. Spectra, numbers and budgets
are computed in double precision, on any periodic box.

A new diagnostic is one call of `register_diagnostic`, in a file of this folder or a new one; the files are found by
themselves, and the tests in `tests/fluidsurrogate/test_dataset_diagnostics.py` run over every registered diagnostic.
"""

from fluidsurrogate.core.registration import import_submodules
from fluidsurrogate.evaluation.diagnostics.computation import add, compute, compute_field, compute_lazily, vorticity
from fluidsurrogate.evaluation.diagnostics.registry import (
    DIAGNOSTICS,
    Diagnostic,
    FieldDiagnostic,
    SummaryDiagnostic,
    register_diagnostic,
)

import_submodules(__name__, __path__)

__all__ = [
    "DIAGNOSTICS", "Diagnostic", "FieldDiagnostic", "SummaryDiagnostic", "add", "compute", "compute_field",
    "compute_lazily",
    "register_diagnostic", "vorticity",
]  # fmt: skip
