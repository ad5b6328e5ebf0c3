"""Errors by wavenumber: of a step against the truth, and of its symmetry."""

from __future__ import annotations

import torch
import xarray as xr
from torch import Tensor

from fluidsurrogate.evaluation.equivariance import apply_stepper
from fluidsurrogate.explaining.sample import Sample
from solvers import Group, StateSpec, Stepper, act_on_fields
from solvers.spectra import cospectrum, shell_wavenumbers
from solvers.symmetry import act_on_inputs


def spectrum_by_field(spec: StateSpec, values: Tensor) -> Tensor:
    """Compute the mean square of each field in each shell of wavenumbers, averaged over a batch.

    Parameters
    ----------
    spec : StateSpec
        The fields.
    values : Tensor
        Shape (batch, component, y, x).

    Returns
    -------
    Tensor
        Shape (field, shell), float64. Its sum over shells is the variance of a field.
    """
    parts = values.double().cpu().split([field.components for field in spec.fields], dim=1)
    of_components = [torch.stack([cospectrum(c, c, spec.grid.length) for c in part.split(1, dim=1)]) for part in parts]
    return torch.stack([each.sum(0).mean(0) for each in of_components])


def measure_error_by_wavenumber(stepper: Stepper, sample: Sample, solver: Stepper | None) -> xr.Dataset:
    """Measure the error of one step by wavenumber.

    Parameters
    ----------
    stepper : Stepper
        The model.
    sample : Sample
        States and true next states.
    solver : Stepper or None
        The classical solver of the same flow, from the same states.

    Returns
    -------
    Dataset
        Spectra by (field, wavenumber), in the square of the field's units: `truth_spectrum`, `error_spectrum`,
        `change_spectrum` (the error of a forecast that nothing changes) and, with a solver, `solver_error_spectrum`.
        `step_error` (field): the relative L² error of the step, whose square is the ratio of the sums of error and
        truth.

    Raises
    ------
    LeftOutError
        If there are no true next states.
    """
    truth, spec = sample.require_after(), stepper.spec
    with torch.no_grad():
        after = apply_stepper(stepper, sample.before, sample.inputs).cpu().double()
    spectra = {
        "truth": (spectrum_by_field(spec, truth), "truth"),
        "error": (spectrum_by_field(spec, after - truth), "error of one step"),
        "change": (spectrum_by_field(spec, truth - sample.before), "change of the truth in one interval"),
    }
    if solver is not None:
        with torch.no_grad():
            solved = apply_stepper(solver, sample.before, sample.inputs).cpu().double()
        spectra["solver_error"] = spectrum_by_field(spec, solved - truth), "error of the classical solver"
    of_step = (spectra["error"][0].sum(1) / spectra["truth"][0].sum(1)).sqrt()
    return xr.Dataset(
        {
            f"{name}_spectrum": (("field", "wavenumber"), values.numpy(), {"long_name": f"spectrum of the {about}"})
            for name, (values, about) in spectra.items()
        }
        | {"step_error": ("field", of_step.numpy(), {"long_name": "relative error of one step", "units": "1"})},
        _coordinates(spec),
    )


def measure_equivariance_by_wavenumber(stepper: Stepper, sample: Sample, group: Group) -> xr.Dataset:
    r"""Measure by wavenumber how far a step is from commuting with a group.

    .. math:: \langle |\widehat{f(g x) - g f(x)}|^2 \rangle_g, \qquad \langle |\widehat{f(x) - x}|^2 \rangle

    Parameters
    ----------
    stepper : Stepper
        The model f.
    sample : Sample
        The states x.
    group : Group
        Point group of the grid; the mean is over its elements g but the identity.

    Returns
    -------
    Dataset
        `equivariance_spectrum` and `own_change_spectrum` (field, wavenumber), in the square of the field's units;
        `equivariance_error_of_step` (field): the square root of the ratio of their sums.
    """
    spec, total = stepper.spec, torch.zeros(())
    with torch.no_grad():
        after = apply_stepper(stepper, sample.before, sample.inputs)
        for g in group.elements[1:]:
            turned = act_on_fields(spec.fields, sample.before, g), act_on_inputs(spec, sample.inputs, g)
            missed = apply_stepper(stepper, *turned) - act_on_fields(spec.fields, after, g)
            total = total + spectrum_by_field(spec, missed) / (len(group) - 1)
    change = spectrum_by_field(spec, after.cpu().double() - sample.before)
    error = (total.sum(1) / change.sum(1)).sqrt()
    dims = ("field", "wavenumber")
    return xr.Dataset(
        {
            "equivariance_spectrum": (dims, total.numpy(), {"long_name": "spectrum of f(gx) - g f(x)"}),
            "own_change_spectrum": (dims, change.numpy(), {"long_name": "spectrum of f(x) - x"}),
            "equivariance_error_of_step": (
                "field",
                error.numpy(),
                {"long_name": "|f(gx) - g f(x)| / |f(x) - x|, root mean square over g", "units": "1"},
            ),
        },
        _coordinates(spec),
    )


def _coordinates(spec: StateSpec) -> dict[str, tuple]:
    """Return the coordinates of spectra."""
    k = shell_wavenumbers(spec.grid.n, spec.grid.length).numpy()
    return {
        "field": ("field", [field.name for field in spec.fields], {"long_name": "field of the state"}),
        "wavenumber": ("wavenumber", k, {"long_name": "angular wavenumber", "units": "m-1"}),
    }
