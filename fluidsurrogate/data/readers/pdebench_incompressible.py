"""Incompressible Navier–Stokes files of PDEBench: HDF5, x first, velocity last.

Layout: github.com/pdebench/PDEBench, pdebench/data_gen/src/data_io.py (`dims_for`, `to_ndarray`) and
sim_ns_incomp_2d.py: `velocity` (batch, time, x, y, component) and `particles` (batch, time, x, y, 1), resampled to the
cell centres, `force` (batch, x, y, component), `t` (batch, time); the YAML of the run is the attribute `config`. In the
published files the velocity is 0 outside the box (`velocity_extrapolation: ZERO`): walls. The force acts on the
particles, f = particles · force, which makes it a buoyancy.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.foreign_files import Axis, check_periodic, even_times, hdf5_if_any, on_axes, text
from fluidsurrogate.data.readers.package_layout import lay_out, side_lengths
from fluidsurrogate.data.readers.registry import Reader, register_reader
from fluidsurrogate.data.readers.stored_arrays import HDF5Array


def _recognises(path: Path) -> bool:
    with hdf5_if_any(path) as file:
        return {"velocity", "particles", "t"} <= set(file) and getattr(file["velocity"], "ndim", 0) in (5, 6)


def _open(path: Path, facts: Facts) -> xr.Dataset:
    with hdf5_if_any(path) as file:
        config, latest = text(file.attrs.get("config", "")), int(file.attrs.get("latestIndex", -1))
        shape, times = file["velocity"].shape, file["t"][()]
        force = file["force"][:1] if "force" in file else np.zeros(1)
    dimensions = len(shape) - 3
    space = "x y z"[: 2 * dimensions - 1]
    boundaries = _value(config, "velocity_extrapolation") or "ZERO"
    if boundaries.upper() == "PERIODIC":
        facts.note("periodic", True, reason="velocity_extrapolation in the attribute config")
    else:
        check_periodic(
            facts, f"PDEBench's incompressible flow lies between walls (velocity_extrapolation {boundaries})"
        )
    if (times != times[:1]).any():
        raise UsageError(f"{path}: the times 't' differ from trajectory to trajectory")
    facts.note("axes", f"n t {space} c", reason="the layout of PDEBench")
    times = even_times(times[0], facts, "t")
    if 0 <= latest < len(times) - 1:
        facts.say(f"the run was interrupted: only the first {latest + 1} of {len(times)} states are there")
        times = times[: latest + 1]
    fields = {"velocity": lay_out(HDF5Array(path, "velocity"), f"n t {space} c")}
    fields["tracer"] = lay_out(HDF5Array(path, "particles"), f"n t {space} 1")
    fields = {name: field.isel(time=slice(len(times))) for name, field in fields.items()}
    facts.note("names", {"tracer": "particles"}, reason="the density of the particles")
    sides = re.search(r"^domain_size:\s*\[([^\]]*)\]", config, re.MULTILINE)
    in_file = tuple(map(float, sides[1].split(",")))[::-1] if sides else None
    given = facts.take(
        "length", in_file[0] if in_file and len(set(in_file)) == 1 else in_file, 1.0, "config: domain_size"
    )
    lengths = side_lengths(given, dimensions)
    axes = {name: Axis(shape[2 + i], lengths[-1 - i] / shape[2 + i], lengths[-1 - i] / shape[2 + i] / 2)
            for i, name in enumerate(space.split())}  # fmt: skip
    if force.any():
        facts.say(
            "a force acts on the particles (particles · force), which no flow of this package has: it is left out"
        )
    viscosity = _value(config, "NU")
    viscosity = facts.take("viscosity", float(viscosity) if viscosity else None, reason="config: NU", is_needed=False)
    return on_axes(facts, fields, axes, times, viscosity)


def _value(config: str, key: str) -> str:
    """Return the value of a key at the top of a YAML text; nothing if it is not there."""
    found = re.search(rf"^{key}:\s*['\"]?([^'\"#\s]+)", config, re.MULTILINE)
    return found[1] if found else ""


register_reader(Reader("incompressible-flow file of PDEBench", _recognises, _open, priority=10))
