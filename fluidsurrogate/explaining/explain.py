"""Explain what a model has learned: all measurements as one Dataset, with figures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
import xarray as xr
from torch import nn

from fluidsurrogate.auditing.samples import reference_solver, states_from_experiment
from fluidsurrogate.auditing.steppers import as_stepper, evaluation_mode, network_of, unwrap
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import check_writable
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.data.netcdf_files import write_netcdf
from fluidsurrogate.data.readers import as_dataset
from fluidsurrogate.evaluation.equivariance import apply_stepper
from fluidsurrogate.explaining.feature_layers import find_feature_layers
from fluidsurrogate.explaining.feature_maps import measure_feature_maps
from fluidsurrogate.explaining.filters import measure_filters
from fluidsurrogate.explaining.group_axis import measure_ablation, measure_contributions
from fluidsurrogate.explaining.receptive_field import measure_receptive_field
from fluidsurrogate.explaining.sample import LeftOutError, select_pairs
from fluidsurrogate.explaining.scales import measure_equivariance_by_wavenumber, measure_error_by_wavenumber
from fluidsurrogate.explaining.vortices import measure_vortices
from fluidsurrogate.models.forecasting import check_flow_constants
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.rendering.explain_figures import draw_explanation
from solvers import Group, StateSpec, Stepper, group_named, point_group

log = logging.getLogger("fluidsurrogate")


def explain(
    model: Stepper | nn.Module,
    spec: StateSpec | None = None,
    *,
    data: xr.Dataset | str | Path | None = None,
    solver: Stepper | None = None,
    out: str | Path | None = None,
) -> xr.Dataset:
    """Measure what a model in the plane has learned: filters, feature maps, reach, vortices, scales, group axis.

    Every measurement that a model can have is made; what it cannot have is left out, and the attribute `left_out` says
    why, a line each. Steps, errors and responses are those of one interval.

    Parameters
    ----------
    model : Stepper or torch.nn.Module
        A surrogate, a hybrid or any other stepper; or a module that maps the state (batch, component, y, x), in
        physical units and followed by its inputs as channels, to the next state.
    spec : StateSpec, optional
        Grid, fields, interval and inputs of a module's states. Required for a module, not used for a stepper.
    data : Dataset, str or Path, optional
        Trajectories, of which up to 64 pairs of states from test trajectories are taken. By default, for a surrogate,
        test trajectories of the experiment that it was trained by.
    solver : Stepper, optional
        The classical solver of the same flow, to compare with. By default the solver of the experiment that a surrogate
        was trained by.
    out : str or Path, optional
        Folder to write `explain.nc` and the figures to. By default nothing is written.

    Returns
    -------
    Dataset
        The measurements:

        - `filter` (channel, filter_element, filter_component, filter_y, filter_x): filters of the first layer;
          `orbit_error` (element): how far their turned copies are from the nearest filter, relative.
        - `feature_map` (layer, pose, map, y, x): first and last features of a state (`feature_input`) and of the same
          state turned; `feature_turn_error` (layer): how far they are from turning with it.
        - `sensitivity` (seen_by, offset_y, offset_x), `radius`: what the change in a cell depends on, for model and
          solver; `network_sensitivity`, `network_radius`, `network_extent`: the same for the network by itself;
          `carried_rms`, `carried_max`: how far the flow carries things in an interval. All in cells.
        - `vortex_change`, `vortex_change_solver` (vortices, y, x), `response_error` (vortices): what a step makes of a
          vortex and of a pair; `pair_speed` (separation, turn), `pair_speed_solver`, `pair_speed_theory` (separation),
          `pair_speed_error`: how fast it moves pairs.
        - `error_spectrum`, `truth_spectrum`, `change_spectrum`, `solver_error_spectrum` (field, wavenumber) and
          `step_error` (field).
        - `equivariance_spectrum`, `own_change_spectrum` (field, wavenumber) and `equivariance_error_of_step` (field).
        - `contribution` (alpha): size of the last features by group element.
        - `ablation_error` (place, ablation): error without the distinction of group elements, over that of the whole
          network; `persistence_error`: that of a forecast that changes nothing.

    Raises
    ------
    UsageError
        If the model is one in three dimensions, data and model do not match, or there are no data.

    Examples
    --------
    What a classical solver makes of a pair of vortices is what it makes of it:

    >>> import fluidsurrogate as fs
    >>> experiment = fs.Experiment.from_tree({
    ...     "name": "example",
    ...     "grid": {"n": 16},
    ...     "flow": {"kind": "decaying", "viscosity": 0.02, "wavenumber": 2},
    ...     "data": {"train": 1, "valid": 1, "test": 1, "steps": 2, "interval": 0.25},
    ... })
    >>> solver = experiment.build_stepper()
    >>> result = fs.explain(solver, data=fs.generate(experiment), solver=solver)
    >>> float(result["response_error"].max())
    0.0
    """
    stepper = as_stepper(model, spec)
    grid, fields = stepper.spec.grid, stepper.spec.fields
    if grid.dimensions != 2:
        raise UsageError("explain works in the plane: this model's states are in three dimensions (see fs.audit)")
    folder = None if out is None else as_path(out)
    if folder is not None:
        check_writable(folder)
    inner = unwrap(stepper)
    if data is None:
        if not isinstance(inner, Surrogate):
            raise UsageError("data are required, as a Dataset or its path, unless the model is a trained surrogate")
        data = states_from_experiment(inner)
    data = as_dataset(data)
    if isinstance(inner, Surrogate):
        check_flow_constants(inner, data)
        solver = reference_solver(inner, stepper.spec) if solver is None else solver
    sample = select_pairs(stepper.spec, data)
    network, of_grid = network_of(stepper), point_group(grid, fields)
    fields_in = (
        inner.config.fields_in(inner.stored) if isinstance(inner, Surrogate) else (*fields, *stepper.spec.inputs)
    )
    own = getattr(network, "group", None)
    group = own if isinstance(own, Group) else group_named("C1")  # a foreign module may call anything so

    def layers():
        return find_feature_layers(network, lambda: apply_stepper(stepper, *one))

    first = sample.first(1)
    one = first.before, first.inputs
    parts: dict[str, Callable[[], xr.Dataset]] = {
        "filters": lambda: measure_filters(network, fields_in, of_grid),
        "feature maps": lambda: measure_feature_maps(stepper, layers(), sample, group, of_grid),
        "receptive field": lambda: measure_receptive_field(stepper, network, fields_in, sample, solver),
        "vortices": lambda: measure_vortices(stepper, sample, solver, of_grid),
        "error by wavenumber": lambda: measure_error_by_wavenumber(stepper, sample, solver),
        "equivariance by wavenumber": lambda: measure_equivariance_by_wavenumber(stepper, sample, of_grid),
        "contributions": lambda: measure_contributions(stepper, layers(), sample, group),
        "ablation": lambda: measure_ablation(stepper, layers(), sample, group),
    }
    measured, left_out = [], []
    with evaluation_mode(stepper), torch.no_grad():
        for name, measure in parts.items():
            try:
                measured.append(measure())
            except LeftOutError as reason:
                left_out.append(f"{name}: {reason}")
    if solver is None:
        left_out.append("comparison with the solver: the solver of this flow is not known")
    result = xr.merge(measured, compat="no_conflicts", combine_attrs="no_conflicts").assign_attrs(
        title="what a model has learned",
        left_out="\n".join(left_out),
        group=group.name,
        interval=stepper.spec.interval,
        states=len(sample.before),
        grid=" x ".join(map(str, grid.n)),
    )
    if isinstance(inner, Surrogate):
        result = result.assign_attrs({f"model_{key}": value for key, value in inner.about.items()})
    if folder is not None:
        write_netcdf(result, folder / "explain.nc")
        draw_explanation(result, folder)
    return result
