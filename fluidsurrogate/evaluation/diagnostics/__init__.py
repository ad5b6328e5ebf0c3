"""What follows from the vorticity, as xarray: `add(dataset, "energy_flux")` adds a variable to a Dataset.

The vorticity is a variable of the dataset or computed from the velocity. Fields (velocity, pressure, ...) have the dims
of the vorticity; spectra have `wavenumber` for `y`, `x`; everything else is one number a trajectory and time. Equations
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
