"""What follows from the vorticity, itself given or the velocity's, as xarray: `add(dataset, "energy_flux")`.

Fields (velocity, pressure, ...) have the dims of the vorticity; spectra have `wavenumber` for `y`, `x`; everything else
is one number a trajectory and time. Definitions, equations and sources: `solvers.diagnostics`, `solvers.spectra` and
`solvers.turbulence`. Spectra, numbers and budgets are computed in double precision, on any periodic box.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import xarray as xr
from torch import Tensor

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.conversion import derive, summarise
from fluidsurrogate.data.coordinates import SPACE
from fluidsurrogate.data.schema import check_units, check_values
from solvers import FORCING, KNOWN_FIELDS, VELOCITY, VORTICITY, FieldSpec, Grid, diagnostics, spectra, turbulence

FIELDS: dict[str, tuple[Callable[[Tensor, Grid], Tensor], FieldSpec]] = {
    "velocity": (diagnostics.velocity, VELOCITY),
    "stream_function": (
        diagnostics.stream_function,
        FieldSpec("stream_function", 0, -1, "m2 s-1", "stream function, u = d(psi)/dy"),
    ),
    "pressure": (diagnostics.pressure, FieldSpec("pressure", 0, 1, "m2 s-2", "pressure over density")),
    "q_criterion": (diagnostics.q_criterion, FieldSpec("q_criterion", 0, 1, "s-2", "Q criterion")),
    "strain_rate": (diagnostics.strain_rate, FieldSpec("strain_rate", 0, 1, "s-1", "strain rate, sqrt(2 S:S)")),
}


@final
@dataclass(frozen=True)
class Summary:
    """A number or spectrum for each field: a function of the vorticity, the sides of the box, and the viscosity, drag
    or forcing if it `needs` one."""

    function: Callable[..., Tensor]
    long_name: str
    units: str
    needs: str | None = None


def _energy_dissipation(vorticity: Tensor, length: spectra.Sides, viscosity: Tensor) -> Tensor:
    return turbulence.mean_energy_budget(vorticity, length, viscosity).dissipation


def _energy_drag(vorticity: Tensor, length: spectra.Sides, drag: Tensor) -> Tensor:
    return turbulence.mean_energy_budget(vorticity, length, 0.0, drag).drag


def _energy_injection(vorticity: Tensor, length: spectra.Sides, forcing: Tensor | None = None) -> Tensor:
    return turbulence.mean_energy_budget(vorticity, length, 0.0, 0.0, forcing).injection


def _enstrophy_dissipation(vorticity: Tensor, length: spectra.Sides, viscosity: Tensor) -> Tensor:
    return turbulence.mean_enstrophy_budget(vorticity, length, viscosity).dissipation


def _enstrophy_drag(vorticity: Tensor, length: spectra.Sides, drag: Tensor) -> Tensor:
    return turbulence.mean_enstrophy_budget(vorticity, length, 0.0, drag).drag


def _enstrophy_injection(vorticity: Tensor, length: spectra.Sides, forcing: Tensor | None = None) -> Tensor:
    return turbulence.mean_enstrophy_budget(vorticity, length, 0.0, 0.0, forcing).injection


def _enstrophy(vorticity: Tensor, length: spectra.Sides) -> Tensor:
    return spectra.enstrophy(vorticity)


SUMMARIES = {
    "kinetic_energy": Summary(spectra.kinetic_energy, "kinetic energy", "m2 s-2"),
    "enstrophy": Summary(_enstrophy, "enstrophy", "s-2"),
    "palinstrophy": Summary(spectra.palinstrophy, "palinstrophy", "m-2 s-2"),
    "energy_spectrum": Summary(spectra.energy_spectrum, "kinetic energy spectrum", "m2 s-2"),
    "enstrophy_spectrum": Summary(spectra.enstrophy_spectrum, "enstrophy spectrum", "s-2"),
    "energy_transfer": Summary(spectra.energy_transfer, "transfer of energy into the shell by advection", "m2 s-3"),
    "enstrophy_transfer": Summary(spectra.enstrophy_transfer, "transfer of enstrophy into the shell by advection",
                                  "s-3"),
    "energy_flux": Summary(spectra.energy_flux, "flux of energy to larger wavenumbers", "m2 s-3"),
    "enstrophy_flux": Summary(spectra.enstrophy_flux, "flux of enstrophy to larger wavenumbers", "s-3"),
    "rms_velocity": Summary(turbulence.rms_velocity, "root mean square velocity", "m s-1"),
    "integral_scale": Summary(turbulence.integral_scale, "integral scale, 2 sum(E/k) / sum(E)", "m"),
    "taylor_microscale": Summary(turbulence.taylor_microscale, "Taylor microscale, sqrt(E/Z)", "m"),
    "turnover_time": Summary(turbulence.turnover_time, "eddy turnover time", "s"),
    "reynolds_number": Summary(turbulence.reynolds_number, "Reynolds number", "1", "viscosity"),
    "dissipation_wavenumber": Summary(turbulence.dissipation_wavenumber, "wavenumber of enstrophy dissipation", "m-1",
                                      "viscosity"),
    "energy_dissipation": Summary(_energy_dissipation, "dissipation of energy by viscosity", "m2 s-3", "viscosity"),
    "energy_drag": Summary(_energy_drag, "loss of energy to drag", "m2 s-3", "drag"),
    "energy_injection": Summary(_energy_injection, "injection of energy by forcing", "m2 s-3", "forcing"),
    "enstrophy_dissipation": Summary(_enstrophy_dissipation, "dissipation of enstrophy by viscosity", "s-3",
                                     "viscosity"),
    "enstrophy_drag": Summary(_enstrophy_drag, "loss of enstrophy to drag", "s-3", "drag"),
    "enstrophy_injection": Summary(_enstrophy_injection, "injection of enstrophy by forcing", "s-3", "forcing"),
}  # fmt: skip
DIAGNOSTICS = (*FIELDS, *SUMMARIES)


def add(dataset: xr.Dataset, *names: str) -> xr.Dataset:
    """The dataset with these diagnostics beside its `vorticity`; if none is named, with all of `DIAGNOSTICS` but those
    whose viscosity, drag or forcing the dataset lacks. `compute` says what each takes and raises."""
    return dataset.assign({name: compute(dataset, name) for name in names or _available(dataset)})


def compute(dataset: xr.Dataset, name: str) -> xr.DataArray:
    """One of `DIAGNOSTICS`, over all the dims of the dataset's `vorticity`, with long_name and units.

    `viscosity` and `drag` are the variable or coordinate of that name, a number or one a trajectory, or else the
    attribute; the forcing is the variable `forcing`, none without.

    Raises UsageError for an unknown name; a dataset without vorticity, or one without the viscosity, drag or forcing
    that is needed; coordinates that are not evenly spaced and increasing, and, for fields, cells that are not centred
    on (i + ½) Δ; and other units than these, where units are said.
    """
    if name not in DIAGNOSTICS:
        raise UsageError(f"unknown diagnostic {name!r}; one of {', '.join(DIAGNOSTICS)}")
    dataset = dataset.assign(vorticity=vorticity(dataset))
    if name in FIELDS:
        return derive(dataset, "vorticity", *FIELDS[name])
    summary = SUMMARIES[name]
    array = summarise(dataset, summary.function, *_inputs(dataset, summary.needs)).rename(name)
    array.attrs = {"long_name": summary.long_name, "units": summary.units}
    return array


def vorticity(dataset: xr.Dataset) -> xr.DataArray:
    """The dataset's vorticity; ω = ∂v/∂x − ∂u/∂y where it has the velocity only. UsageError where it has neither, and
    where dims, units or coordinates are not what these fields have."""
    given = next((field for field in (VORTICITY, VELOCITY) if field.name in dataset), None)
    if given is None:
        raise UsageError("the dataset has no variable 'vorticity' or 'velocity'")
    check_values(dataset[given.name], given)
    for axis in SPACE:
        if axis in dataset.coords:
            check_units(dataset[axis], axis, "m")
    return dataset["vorticity"] if given is VORTICITY else derive(dataset, "velocity", diagnostics.vorticity, VORTICITY)


def _available(dataset: xr.Dataset) -> list[str]:
    """The diagnostics of which the dataset has what they need."""
    has = {need: need in dataset.variables or need in dataset.attrs for need in ("viscosity", "drag")}
    has["forcing"] = "forcing" in dataset or not _says_forced(dataset)
    return [*FIELDS, *(name for name, summary in SUMMARIES.items() if summary.needs is None or has[summary.needs])]


def _inputs(dataset: xr.Dataset, need: str | None) -> list[xr.DataArray]:
    if need is None:
        return []
    return _forcing(dataset) if need == "forcing" else [_coefficient(dataset, need)]


def _coefficient(dataset: xr.Dataset, name: str) -> xr.DataArray:
    """ν or μ: a number, or one a trajectory."""
    value = dataset[name] if name in dataset.variables else dataset.attrs.get(name)
    if value is None:
        raise UsageError(f"the dataset has neither a variable nor an attribute {name!r}")
    if name in dataset.variables:
        check_units(dataset[name], name, KNOWN_FIELDS[name].units)
    try:
        array = xr.DataArray(value).astype(float)
    except (TypeError, ValueError):
        raise UsageError(f"{name} must be a number or one a trajectory (got {value!r})") from None
    if not set(array.dims) <= {"trajectory"}:
        raise UsageError(
            f"{name} must be a number or one a trajectory; it has the dims {', '.join(map(str, array.dims))}"
        )
    if not bool(((array >= 0) & (array < math.inf)).all()):
        raise UsageError(f"{name} must be finite and at least 0 (got {array.values})")
    return array


def _forcing(dataset: xr.Dataset) -> list[xr.DataArray]:
    """f, or nothing where the flow is unforced."""
    if "forcing" in dataset:
        if not {"y", "x"} <= set(dataset["forcing"].dims):
            raise UsageError("the variable 'forcing' must have the dims y and x")
        check_values(dataset["forcing"], FORCING)
        return [dataset["forcing"]]
    if _says_forced(dataset):
        raise UsageError("the dataset's attribute 'forcing' says that it is forced, and it has no variable 'forcing'")
    return []


def _says_forced(dataset: xr.Dataset) -> bool:
    return dataset.attrs.get("forcing", "none") != "none"
