"""Fields that follow from the vorticity, as xarray: `add(dataset, "velocity", "pressure")`."""

from __future__ import annotations

from collections.abc import Callable

import xarray as xr
from torch import Tensor

from fluidsurrogate.dataset import derive
from fluidsurrogate.errors import UsageError
from solvers import VELOCITY, FieldSpec, Grid, diagnostics

DIAGNOSTICS: dict[str, tuple[Callable[[Tensor, Grid], Tensor], FieldSpec]] = {
    "velocity": (diagnostics.velocity, VELOCITY),
    "stream_function": (
        diagnostics.stream_function,
        FieldSpec("stream_function", 0, -1, "m2 s-1", "stream function, u = d(psi)/dy"),
    ),
    "pressure": (diagnostics.pressure, FieldSpec("pressure", 0, 1, "m2 s-2", "pressure over density")),
    "q_criterion": (diagnostics.q_criterion, FieldSpec("q_criterion", 0, 1, "s-2", "Q criterion")),
    "strain_rate": (diagnostics.strain_rate, FieldSpec("strain_rate", 0, 1, "s-1", "strain rate, sqrt(2 S:S)")),
}


def add(dataset: xr.Dataset, *names: str) -> xr.Dataset:
    """The dataset with these fields beside its `vorticity`, over all its dims; all that there are if none is named.

    Definitions: `solvers.diagnostics`. Raises UsageError for an unknown name, or a dataset without vorticity on cell
    centres.
    """
    for name in names:
        if name not in DIAGNOSTICS:
            raise UsageError(f"unknown diagnostic {name!r}; one of {', '.join(DIAGNOSTICS)}")
    if "vorticity" not in dataset:
        raise UsageError("the dataset has no variable 'vorticity'")
    return dataset.assign({name: derive(dataset, "vorticity", *DIAGNOSTICS[name]) for name in names or DIAGNOSTICS})
