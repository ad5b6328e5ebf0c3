"""The registered diagnostics, and the two kinds of them: fields, and numbers or spectra."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import xarray as xr
from torch import Tensor

from fluidsurrogate.data.conversion import derive_field, reduce_over_box
from fluidsurrogate.evaluation.diagnostics.flow_inputs import flow_input, has_flow_input
from solvers import FieldSpec, Grid

DIAGNOSTICS: dict[str, Diagnostic] = {}


class Diagnostic(ABC):
    """A quantity that follows from the vorticity."""

    @abstractmethod
    def is_available(self, dataset: xr.Dataset) -> bool:
        """Return whether a dataset has what is needed besides the vorticity.

        Parameters
        ----------
        dataset : xr.Dataset
            States.

        Returns
        -------
        bool
            False if the viscosity, drag or forcing that is needed is not there.
        """

    @abstractmethod
    def compute(self, dataset: xr.Dataset) -> xr.DataArray:
        """Compute the diagnostic for every vorticity field.

        Parameters
        ----------
        dataset : xr.Dataset
            States with the variable `vorticity`.

        Returns
        -------
        xr.DataArray
            The diagnostic, with `long_name` and `units`.
        """


@final
@dataclass(frozen=True)
class FieldDiagnostic(Diagnostic):
    """A field that is computed from the vorticity.

    Parameters
    ----------
    function : callable
        Function of the vorticity (batch, 1, y, x) and the grid; returns (batch, component, y, x).
    field : FieldSpec
        Name, units and type of the result.
    """

    function: Callable[[Tensor, Grid], Tensor]
    field: FieldSpec

    def is_available(self, dataset: xr.Dataset) -> bool:
        """Return True: a field needs the vorticity only.

        Parameters
        ----------
        dataset : xr.Dataset
            States.

        Returns
        -------
        bool
            True.
        """
        return True

    def compute(self, dataset: xr.Dataset) -> xr.DataArray:
        """Compute the field for every vorticity field.

        Parameters
        ----------
        dataset : xr.Dataset
            States with the variable `vorticity`, on cells that are centred on (i + ½) Δ.

        Returns
        -------
        xr.DataArray
            The field, with the dims of the vorticity.
        """
        return derive_field(dataset, "vorticity", self.function, self.field)


@final
@dataclass(frozen=True)
class SummaryDiagnostic(Diagnostic):
    """A number or a spectrum for each vorticity field.

    Parameters
    ----------
    function : callable
        Function of the vorticity (batch, 1, y, x), the sides of the box (y, x) in m and, if one is needed, the
        viscosity or drag (batch,) or the forcing (batch, 1, y, x); returns (batch,) or (batch, shell).
    long_name, units : str
        Attributes of the variable.
    needs : str or None
        "viscosity", "drag" or "forcing". A forcing is passed only if the dataset has one.
    """

    function: Callable[..., Tensor]
    long_name: str
    units: str
    needs: str | None = None

    def is_available(self, dataset: xr.Dataset) -> bool:
        """Return whether a dataset has the viscosity, drag or forcing that is needed.

        Parameters
        ----------
        dataset : xr.Dataset
            States.

        Returns
        -------
        bool
            True if nothing is needed, too.
        """
        return self.needs is None or has_flow_input(dataset, self.needs)

    def compute(self, dataset: xr.Dataset) -> xr.DataArray:
        """Compute the number or spectrum for every vorticity field, in double precision.

        Parameters
        ----------
        dataset : xr.Dataset
            States with the variable `vorticity`.

        Returns
        -------
        xr.DataArray
            Without the dims y and x; a spectrum has the dim `wavenumber`.
        """
        inputs = [] if self.needs is None else flow_input(dataset, self.needs)
        array = reduce_over_box(dataset, self.function, *inputs)
        array.attrs = {"long_name": self.long_name, "units": self.units}
        return array


def register_diagnostic(name: str, diagnostic: Diagnostic) -> Diagnostic:
    """Add a diagnostic to those that `add` and `compute` know.

    Parameters
    ----------
    name : str
        Name of the variable.
    diagnostic : Diagnostic
        The quantity: a `FieldDiagnostic` or a `SummaryDiagnostic`.

    Returns
    -------
    Diagnostic
        The same diagnostic.

    Examples
    --------
    >>> from fluidsurrogate.evaluation.diagnostics import DIAGNOSTICS, SummaryDiagnostic, register_diagnostic
    >>> def peak(vorticity, length):
    ...     return vorticity.abs().amax((1, 2, 3))
    >>> register_diagnostic("peak", SummaryDiagnostic(peak, "largest vorticity", "s-1")).units
    's-1'
    >>> DIAGNOSTICS.pop("peak").long_name  # removed again, as this is an example
    'largest vorticity'
    """
    DIAGNOSTICS[name] = diagnostic
    return diagnostic
