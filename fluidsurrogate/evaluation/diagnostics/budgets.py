"""The terms of the energy and enstrophy budgets: dissipation, drag and injection."""

from torch import Tensor

from fluidsurrogate.evaluation.diagnostics.registry import SummaryDiagnostic, register_diagnostic
from solvers.array_types import Sides
from solvers.turbulence import mean_energy_budget, mean_enstrophy_budget


def _energy_dissipation(vorticity: Tensor, length: Sides, viscosity: Tensor) -> Tensor:
    return mean_energy_budget(vorticity, length, viscosity).dissipation


def _energy_drag(vorticity: Tensor, length: Sides, drag: Tensor) -> Tensor:
    return mean_energy_budget(vorticity, length, 0.0, drag).drag


def _energy_injection(vorticity: Tensor, length: Sides, forcing: Tensor | None = None) -> Tensor:
    return mean_energy_budget(vorticity, length, 0.0, 0.0, forcing).injection


def _enstrophy_dissipation(vorticity: Tensor, length: Sides, viscosity: Tensor) -> Tensor:
    return mean_enstrophy_budget(vorticity, length, viscosity).dissipation


def _enstrophy_drag(vorticity: Tensor, length: Sides, drag: Tensor) -> Tensor:
    return mean_enstrophy_budget(vorticity, length, 0.0, drag).drag


def _enstrophy_injection(vorticity: Tensor, length: Sides, forcing: Tensor | None = None) -> Tensor:
    return mean_enstrophy_budget(vorticity, length, 0.0, 0.0, forcing).injection


for _name, _function, _long_name, _units, _needs, _dimensions in (
    ("energy_dissipation", _energy_dissipation, "dissipation of energy by viscosity", "m2 s-3", "viscosity", (2, 3)),
    ("energy_drag", _energy_drag, "loss of energy to drag", "m2 s-3", "drag", (2, 3)),
    ("energy_injection", _energy_injection, "injection of energy by forcing", "m2 s-3", "forcing", (2, 3)),
    (
        "enstrophy_dissipation",
        _enstrophy_dissipation,
        "dissipation of enstrophy by viscosity",
        "s-3",
        "viscosity",
        (2,),
    ),
    ("enstrophy_drag", _enstrophy_drag, "loss of enstrophy to drag", "s-3", "drag", (2,)),
    ("enstrophy_injection", _enstrophy_injection, "injection of enstrophy by forcing", "s-3", "forcing", (2,)),
):
    register_diagnostic(_name, SummaryDiagnostic(_function, _long_name, _units, _needs, _dimensions))
