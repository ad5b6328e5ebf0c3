"""The registered diagnostics, and the two kinds of them: fields, and numbers or spectra."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import xarray as xr
from torch import Tensor

from fluidsurrogate.data.conversion import derive_field, reduce_over_box
from fluidsurrogate.data.coordinates import spatial_dims
from fluidsurrogate.evaluation.diagnostics.flow_inputs import flow_input, has_flow_input
from solvers import FieldSpec, Grid

DIAGNOSTICS: dict[str, Diagnostic] = {}
FLOW_NAMES = {2: "vorticity", 3: "velocity"}  # by number of dimensions


def flow_name(dataset: xr.Dataset) -> str:
    """Return the name of the variable that diagnostics are computed from.

    Parameters
    ----------
    dataset : xr.Dataset
        States.

    Returns
    -------
    str
        "vorticity" in two dimensions, "velocity" in three, as `solvers.spectra` takes a flow.
    """
    return FLOW_NAMES[len(spatial_dims(dataset))]


class Diagnostic(ABC):
    """A quantity that follows from the flow: from the vorticity in two dimensions, from the velocity in three.

    Attributes
    ----------
    dimensions : tuple of int
        The numbers of dimensions in which it is defined.
    """

    dimensions: tuple[int, ...] = (2, 3)

    @abstractmethod
    def is_available(self, dataset: xr.Dataset) -> bool:
        """Return whether the quantity is defined and a dataset has what is needed besides the flow.

        Parameters
        ----------
        dataset : xr.Dataset
            States.

        Returns
        -------
        bool
            False in another number of dimensions, and if the viscosity, drag or forcing that is needed is not there.
        """

    @abstractmethod
    def compute(self, dataset: xr.Dataset) -> xr.DataArray:
        """Compute the diagnostic for every state.

        Parameters
        ----------
        dataset : xr.Dataset
            States with the variable that `flow_name` returns.

        Returns
        -------
        xr.DataArray
            The diagnostic, with `long_name` and `units`.
        """


@final
@dataclass(frozen=True)
class FieldDiagnostic(Diagnostic):
    """A field that is computed from the flow.

    Parameters
    ----------
    function : callable
        Function of the flow and the grid: the vorticity (batch, 1, y, x), in three dimensions the velocity
        (batch, 3, z, y, x). It returns (batch, component, y, x) or (batch, component, z, y, x).
    field : FieldSpec
        Name, units and type of the result in two dimensions; `solvers.field_in` gives its type in three.
    dimensions : tuple of int
        The numbers of dimensions in which it is defined.
    """

    function: Callable[[Tensor, Grid], Tensor]
    field: FieldSpec
    dimensions: tuple[int, ...] = (2, 3)

    def is_available(self, dataset: xr.Dataset) -> bool:
        """Return whether the field is defined: it needs the flow only.

        Parameters
        ----------
        dataset : xr.Dataset
            States.

        Returns
        -------
        bool
            False in another number of dimensions.
        """
        return len(spatial_dims(dataset)) in self.dimensions

    def compute(self, dataset: xr.Dataset) -> xr.DataArray:
        """Compute the field for every state.

        Parameters
        ----------
        dataset : xr.Dataset
            States with the variable that `flow_name` returns, on cells that are centred on (i + ½) Δ.

        Returns
        -------
        xr.DataArray
            The field, with the dims of the flow.
        """
        return derive_field(dataset, flow_name(dataset), self.function, self.field)


@final
@dataclass(frozen=True)
class SummaryDiagnostic(Diagnostic):
    """A number or a spectrum for each state.

    Parameters
    ----------
    function : callable
        Function of the flow, the sides of the box in m and, if one is needed, the viscosity or drag (batch,) or the
        forcing. In two dimensions the flow is the vorticity (batch, 1, y, x), and the forcing the curl of the body
        force; in three the velocity (batch, 3, z, y, x), and the body force. It returns (batch,) or (batch, shell).
    long_name, units : str
        Attributes of the variable.
    needs : str or None
        "viscosity", "drag" or "forcing". A forcing is passed only if the dataset has one.
    dimensions : tuple of int
        The numbers of dimensions in which it is defined.
    """

    function: Callable[..., Tensor]
    long_name: str
    units: str
    needs: str | None = None
    dimensions: tuple[int, ...] = (2, 3)

    def is_available(self, dataset: xr.Dataset) -> bool:
        """Return whether a dataset has the dimensions and the viscosity, drag or forcing that are needed.

        Parameters
        ----------
        dataset : xr.Dataset
            States.

        Returns
        -------
        bool
            True if nothing is needed, too.
        """
        if len(spatial_dims(dataset)) not in self.dimensions:
            return False
        return self.needs is None or has_flow_input(dataset, self.needs)

    def compute(self, dataset: xr.Dataset) -> xr.DataArray:
        """Compute the number or spectrum for every state, in double precision.

        Parameters
        ----------
        dataset : xr.Dataset
            States with the variable that `flow_name` returns.

        Returns
        -------
        xr.DataArray
            Without spatial dims; a spectrum has the dim `wavenumber`.
        """
        inputs = [] if self.needs is None else flow_input(dataset, self.needs)
        array = reduce_over_box(dataset, self.function, *inputs, name=flow_name(dataset))
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
