"""Files of PDEBench with one group a trajectory: HDF5, x first, channels last; as `fluidsurrogate export` writes them.

Layout: github.com/pdebench/PDEBench, pdebench/models/fno/utils.py (`FNODatasetMult`): each group "0000", "0001", ...
holds `data` (time, x, y[, z], channel) and `grid/x`, `grid/y`, `grid/t`. PDEBench's own files of this kind are
reaction–diffusion and shallow water (sim_radial_dam_break.py); nothing in them names the channels. Those of this
package do, in the attribute `channels`, and state viscosity, forcing and split in each group.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.layout import component_names
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.foreign_files import even_axis, even_times, hdf5_if_any, on_axes, text
from fluidsurrogate.data.readers.package_layout import lay_out
from fluidsurrogate.data.readers.registry import Reader, register_reader
from fluidsurrogate.data.readers.stored_arrays import HDF5Array
from solvers import KNOWN_FIELDS

NUMBERS = ("drag", "diffusivity")


def _recognises(path: Path) -> bool:
    with hdf5_if_any(path) as file:
        first = next((name for name in file if name.isdigit()), None)
        return first is not None and hasattr(file[first], "keys") and {"data", "grid"} <= set(file[first])


def _open(path: Path, facts: Facts) -> xr.Dataset:
    with hdf5_if_any(path) as file:
        groups = sorted(name for name in file if name.isdigit())
        first = file[groups[0]]
        axes = {
            axis: even_axis(first[f"grid/{axis}"][()], f"grid/{axis}", facts) for axis in "xyz" if axis in first["grid"]
        }
        times = even_times(first["grid/t"][()], facts, "grid/t")
        channels = [text(name) for name in file.attrs.get("channels", [])]
        chosen = _channels(facts, channels, first["data"].shape[-1], len(axes))
        if any(file[name]["data"].shape != first["data"].shape for name in groups):
            raise UsageError(f"{path}: its groups differ in the shape of 'data'")
        viscosity = _of_each(file, groups, "viscosity")
        inputs = {name: xr.Variable(*_with_dims(values)) for name in NUMBERS
                  if (values := _of_each(file, groups, name)) is not None}  # fmt: skip
        split = [text(file[name].attrs["split"]) for name in groups] if "split" in first.attrs else ""
        has_forcing = "forcing" in first
    letters = " ".join("xyz"[: len(axes)])
    facts.note("axes", f"t {letters} c", reason="PDEBench's layout of one group a trajectory")
    data = xr.Variable.concat(
        [lay_out(HDF5Array(path, f"{name}/data"), f"t {letters} c") for name in groups], "trajectory"
    )
    fields = {name: data.isel(component=at if len(at) > 1 else at[0]) for name, at in chosen.items()}
    if has_forcing:
        order = f"{letters} c" if len(axes) == 3 else letters
        parts = [lay_out(HDF5Array(path, f"{name}/forcing"), order) for name in groups]
        fields["forcing"] = xr.Variable.concat(parts, "trajectory")
    stated = viscosity if viscosity is None or np.ptp(viscosity) else float(viscosity[0])
    viscosity = facts.take("viscosity", stated, reason="the attribute of each group", is_needed=False)
    return on_axes(facts, fields | inputs, axes, times, viscosity, split)


def _channels(facts: Facts, named: list[str], count: int, dimensions: int) -> dict[str, list[int]]:
    """Return the channels of each field: those that the user or the file names."""
    given = facts.given.get("names") or {}
    numbers = {ours: [int(n) for n in str(theirs).split(",")] for ours, theirs in given.items()
               if str(theirs).replace(",", "").isdigit()}  # fmt: skip
    for field in KNOWN_FIELDS:
        components = [f"{field}_{c}" for c in component_names(dimensions)]
        found = [field] if field in named else components
        if set(found) <= set(named) and field not in numbers:
            numbers[field] = [named.index(name) for name in found]
    if not {"vorticity", "velocity"} & set(numbers) or max(map(max, numbers.values())) >= count:
        raise UsageError(f"{facts.path}: PDEBench's layout of one group a trajectory, which it uses for "
                         f"reaction–diffusion and shallow water; nothing says that one of its {count} channels is the "
                         "vorticity: if one is, --map vorticity=0, or velocity=0,1")  # fmt: skip
    return numbers


def _of_each(file: Any, groups: list[str], name: str) -> np.ndarray | None:
    """Return an attribute of all groups; None if the first has none."""
    if name not in file[groups[0]].attrs:
        return None
    return np.array([float(file[group].attrs[name]) for group in groups])


def _with_dims(values: np.ndarray) -> tuple[tuple[str, ...], Any]:
    return (("trajectory",), values) if np.ptp(values) else ((), values[0])


register_reader(Reader("PDEBench file of one group a trajectory", _recognises, _open, priority=10))
