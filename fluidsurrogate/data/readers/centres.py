"""Samples at nodes, moved to the cell centres."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fluidsurrogate.data.coordinates import spatial_dims
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.package_layout import shift_along


def to_cell_centres(dataset: xr.Dataset, facts: Facts) -> xr.Dataset:
    """Return fields at the cell centres of a box that begins where theirs does, spectrally exact and lazily.

    Parameters
    ----------
    dataset : xr.Dataset
        In the layout of this package. The attribute `origin` says where its coordinate 0 lies.
    facts : Facts
        Where the change is recorded.

    Returns
    -------
    xr.Dataset
        Along each axis whose origin is half a cell before a whole number of cells, all fields are moved by half a cell.
        Axes with another origin stay as they are.
    """
    origin, moved = dataset.attrs.get("origin"), []
    if origin is None:
        facts.say("--to-centres had nothing to do: the samples are at the cell centres already")
        return dataset
    shifted, left = dataset.copy(), list(map(float, np.atleast_1d(origin)))
    for number, axis in enumerate(spatial_dims(dataset)):
        spacing = float(dataset[axis][1] - dataset[axis][0])
        cells = left[number] / spacing
        if abs(cells - np.floor(cells) - 0.5) > 1e-3:
            continue
        for name, variable in shifted.data_vars.items():
            if axis in variable.dims:
                shifted[name] = shift_along(variable.variable, axis, 0.5)
        left[number] = 0.0 if abs(left[number] + spacing / 2) <= 1e-3 * spacing else left[number] + spacing / 2
        moved.append(axis)
    facts.say(f"all fields were moved from the nodes to the cell centres along {', '.join(moved) or 'no axis'}")
    attrs = {key: value for key, value in dataset.attrs.items() if key != "origin"}
    return shifted.drop_attrs(deep=False).assign_attrs(attrs | ({"origin": left} if any(left) else {}))
