"""Output of Dedalus, versions 2 and 3: HDF5, often virtual over the parts that the processes wrote.

Layout: github.com/DedalusProject/dedalus, dedalus/core/evaluator.py (`setup_file`, `create_task_dataset`): `tasks`
holds arrays (time, [component,] first coordinate, ...), whose axes carry labels and scales; `scales/sim_time` holds the
times. A Fourier basis has evenly spaced nodes, a Chebyshev basis uneven ones (walls), a sphere the angles phi and
theta. Version 2 names its grids `scales/x/1.0`, version 3 `scales/x_hash_...`. A virtual file whose parts are missing
opens all the same, with 0 times or zeros: here that is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.foreign_files import (
    Axis,
    check_periodic,
    even_axis,
    even_times,
    hdf5_if_any,
    on_axes,
    text,
)  # fmt: skip
from fluidsurrogate.data.readers.package_layout import ORDER, stack_components
from fluidsurrogate.data.readers.registry import Reader, register_reader
from fluidsurrogate.data.readers.stored_arrays import HDF5Array, lazy

SET = re.compile(r"_s(\d+)(?:_p\d+)?\.h5$")
HEIGHTS = {"h", "height"}
CURVED = {"phi", "theta", "r", "az", "colat"}
# What the examples of Dedalus call the fields: alternatives, each the names of the components or one name for all.
USUAL: dict[str, list[tuple[str, ...]]] = {
    "velocity": [("u",), ("velocity",), ("u", "v"), ("u", "w"), ("u", "v", "w"), ("ux", "uy"), ("ux", "uz")],
    "vorticity": [("vorticity",), ("omega",), ("vort",), ("ω",)],
    "tracer": [("tracer",), ("s",)],
}


@final
@dataclass(frozen=True)
class _Part:
    """What one file holds: fields by name, the points along each axis, and the times."""

    fields: dict[str, xr.Variable]
    axes: dict[str, Axis]
    times: np.ndarray


def _recognises(path: Path) -> bool:
    if path.is_dir():
        sets = _sets(path)
        return bool(sets) and _recognises(sets[0])
    with hdf5_if_any(path) as file:
        return "tasks" in file and ("scales" in file or _size_of_whole(file) is not None)


def _sets(folder: Path) -> list[Path]:
    """Return the files that one output of Dedalus was written to one after the other, in their order."""
    numbered = [(int(found[1]), path) for path in folder.glob("*.h5") if (found := SET.search(path.name))]
    return [path for _, path in sorted(numbered)]


def _open(path: Path, facts: Facts) -> xr.Dataset:
    parts = [_read(file, facts) for file in (_sets(path) if path.is_dir() else [path])]
    if any(part.axes != parts[0].axes or set(part.fields) != set(parts[0].fields) for part in parts):
        raise UsageError(f"{path}: its files are of different grids or fields: take those of one run")
    times = np.concatenate([part.times for part in parts])
    if (np.diff(times) <= 0).any():
        raise UsageError(f"{path}: the times of its files overlap, as after a restart: take the files of one run")
    times = even_times(times, facts, "scales/sim_time")
    fields = {name: xr.Variable.concat([part.fields[name] for part in parts], "time") for name in parts[0].fields}
    viscosity = facts.take("viscosity", is_needed=False)
    return on_axes(facts, fields, parts[0].axes, times, viscosity)


def _read(path: Path, facts: Facts) -> _Part:
    """Return what one file holds, after its geometry has been found to be a periodic box."""
    with hdf5_if_any(path) as file:
        if not file:
            raise UsageError(f"{path}: is damaged")
        if (whole := _size_of_whole(file)) is not None:
            raise UsageError(f"{path}: one process's part of a Dedalus output of the size {whole}: open the file "
                             "that joins the parts, or merge them (python3 -m dedalus merge_procs FOLDER)")  # fmt: skip
        tasks = file["tasks"]
        for task in tasks.values():
            _check_parts(path, task, file["scales/sim_time"].shape[0])
        chosen = _choose(tasks, facts)
        first = tasks[next(iter(chosen.values()))[0]]
        dims = _labels(first)
        _check_geometry(first, dims, facts)
        axes = {}
        for place, (name, along) in enumerate(zip("xyz", dims, strict=False), start=first.ndim - len(dims)):
            axes[name] = even_axis(first.dims[place][0][()], along, facts)
            _check_fourier(axes[name], along, facts)
        facts.note("axes", f"t {' '.join('xyz'[: len(dims)])}", reason=f"the labels t, {', '.join(dims)} of the tasks")
        facts.note(
            "names", {ours: ", ".join(theirs) for ours, theirs in chosen.items()}, reason="the names of the tasks"
        )
        fields = {ours: _field(path, tasks, theirs, len(dims)) for ours, theirs in chosen.items()}
        left_out = sorted(set(tasks) - {name for names in chosen.values() for name in names})
        if left_out and (remark := f"tasks that are not read: {', '.join(left_out)}") not in facts.remarks:
            facts.say(remark)
        return _Part(fields, axes, file["scales/sim_time"][()])


def _size_of_whole(file: Any) -> list[int] | None:
    """Return the size of the whole output if the file is one process's part of it."""
    for task in file.get("tasks", {}).values():
        whole = task.attrs.get("global_shape")
        if whole is not None and list(whole) != list(task.shape[-len(whole) :]):
            return [int(n) for n in whole]
    return None


def _check_parts(path: Path, task: Any, writes: int) -> None:
    """Check that all parts of a virtual array are there, with as many times as the file states."""
    sources = task.virtual_sources() if task.is_virtual else []
    for source in sources:
        part = path.parent / source.file_name
        with hdf5_if_any(part) as file:
            if source.dset_name not in file:
                raise UsageError(f"{path}: {len(sources)} parts make up this file, and {part} is missing or damaged: "
                                 "put it back beside the file")  # fmt: skip
            if (found := file[source.dset_name].shape[0]) < writes:
                raise UsageError(f"{path}: states {writes} times, but its part {part} holds {found}: the run was "
                                 "interrupted while it wrote, or the part is another run's")  # fmt: skip
    if task.shape[0] != writes:
        raise UsageError(f"{path}: {task.name} has {task.shape[0]} times, and scales/sim_time {writes}")


def _choose(tasks: Any, facts: Facts) -> dict[str, tuple[str, ...]]:
    """Return the tasks that are fields of this package: those of the user's map, else by their usual names."""
    chosen: dict[str, tuple[str, ...]] = {}
    for ours, theirs in (facts.given.get("names") or {}).items():
        names = tuple(str(theirs).split(","))
        if missing := [name for name in names if name not in tasks]:
            raise UsageError(f"{facts.path}: has no task {missing[0]!r}; it has {', '.join(tasks)}")
        chosen[ours] = names
    for ours, alternatives in USUAL.items():
        fitting = [tuple(n) for n in alternatives if set(n) <= set(tasks) and _is_field(tasks, ours, tuple(n))]
        if fitting and ours not in chosen:
            chosen[ours] = max(fitting, key=len)
    if HEIGHTS & set(tasks) and not facts.given.get("names") and "velocity" in chosen:
        raise UsageError(f"{facts.path}: shallow water (a task {min(HEIGHTS & set(tasks))!r} beside the velocity), "
                         "which is compressible: this package is for incompressible flow; if it is none, "
                         f"--map velocity={','.join(chosen['velocity'])} reads it")  # fmt: skip
    if not {"velocity", "vorticity"} & set(chosen):
        raise UsageError(f"{facts.path}: none of its tasks {', '.join(tasks)} has a usual name of velocity or "
                         "vorticity: --map vorticity=NAME names it")  # fmt: skip
    return chosen


def _is_field(tasks: Any, ours: str, names: tuple[str, ...]) -> bool:
    dimensions = len(_labels(tasks[names[0]]))
    components = tasks[names[0]].ndim - 1 - dimensions
    if ours != "velocity":
        return components == (1 if ours == "vorticity" and dimensions == 3 else 0)
    return (components == 1 and len(names) == 1) or (components == 0 and len(names) == dimensions)


def _labels(task: Any) -> list[str]:
    labels = [text(task.dims[axis].label) for axis in range(1, task.ndim)]
    return [label for label in labels if label]


def _check_geometry(task: Any, dims: list[str], facts: Facts) -> None:
    """Refuse spheres, disks, coefficients and fields that do not vary along an axis."""
    shape = "sphere" if {"theta", "colat"} & set(dims) else "disk or cylinder"
    if CURVED & set(dims):
        raise UsageError(f"{facts.path}: the Dedalus output lies on a {shape} (coordinates {', '.join(dims)}): this "
                         "package is for periodic Cartesian boxes only")  # fmt: skip
    if len(dims) not in (2, 3) or "constant" in dims:
        raise UsageError(
            f"{facts.path}: {task.name} has the axes {', '.join(dims)}: two or three that all vary are needed"
        )
    if not np.all(task.attrs.get("grid_space", True)):
        raise UsageError(f"{facts.path}: {task.name} holds coefficients ({', '.join(dims)}): write it with layout='g'")


def _check_fourier(axis: Any, along: str, facts: Facts) -> None:
    """Refuse version 2's sines and cosines, whose points are cell centres, where Fourier's are nodes."""
    if abs(axis.first / axis.spacing - 0.5) < 1e-3:
        check_periodic(
            facts, f"{along} starts at half a cell, as the sines and cosines of Dedalus v2 do (free-slip walls)"
        )
    else:
        facts.note("periodic", True, reason="evenly spaced nodes: a Fourier basis")


def _field(path: Path, tasks: Any, names: tuple[str, ...], dimensions: int) -> xr.Variable:
    """Return a field in the order of this package, as a single trajectory."""
    parts = []
    for name in names:
        is_vector = tasks[name].ndim > 1 + dimensions
        dims = ["time", *(["component"] if is_vector else []), *"xyz"[:dimensions]]
        variable = xr.Variable(dims, lazy(HDF5Array(path, f"tasks/{name}"), dims))
        parts.append(variable.transpose(*(d for d in ORDER if d in dims)))
    return parts[0] if len(parts) == 1 else stack_components(*parts)


register_reader(Reader("Dedalus output", _recognises, _open, priority=10))
