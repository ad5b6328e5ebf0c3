"""Energy, enstrophy and palinstrophy, their spectra, and their transfer between scales."""

from torch import Tensor

from fluidsurrogate.evaluation.diagnostics.registry import SummaryDiagnostic, register_diagnostic
from solvers import spectra
from solvers.array_types import Sides


def _enstrophy(flow: Tensor, length: Sides) -> Tensor:
    return spectra.enstrophy(flow, length)


for _name, _function, _long_name, _units in (
    ("kinetic_energy", spectra.kinetic_energy, "kinetic energy", "m2 s-2"),
    ("enstrophy", _enstrophy, "enstrophy", "s-2"),
    ("palinstrophy", spectra.palinstrophy, "palinstrophy", "m-2 s-2"),
    ("energy_spectrum", spectra.energy_spectrum, "kinetic energy spectrum", "m2 s-2"),
    ("enstrophy_spectrum", spectra.enstrophy_spectrum, "enstrophy spectrum", "s-2"),
    ("energy_transfer", spectra.energy_transfer, "transfer of energy into the shell by advection", "m2 s-3"),
    ("enstrophy_transfer", spectra.enstrophy_transfer, "transfer of enstrophy into the shell by advection", "s-3"),
    ("energy_flux", spectra.energy_flux, "flux of energy to larger wavenumbers", "m2 s-3"),
    ("enstrophy_flux", spectra.enstrophy_flux, "flux of enstrophy to larger wavenumbers", "s-3"),
):
    register_diagnostic(_name, SummaryDiagnostic(_function, _long_name, _units))

register_diagnostic(
    "helicity_spectrum",
    SummaryDiagnostic(spectra.helicity_spectrum, "helicity spectrum", "m s-2", dimensions=(3,)),
)
