"""VTK files, which ParaView opens: one ImageData file for each stored time, and a collection for each trajectory.

A field is point data at the cell centres, where its samples are. So contours, slices and streamlines need no conversion
to points, and every value is at its place; the box ends half a cell beyond the outermost points. In two dimensions the
image has one layer, and vectors have a third component of zero.

Format: the VTK XML formats, https://docs.vtk.org/en/latest/vtk_file_formats/vtkxml_file_format.html
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import atomic_write, write_text
from fluidsurrogate.data.coordinates import evenly_spaced_axis, spatial_dims
from fluidsurrogate.data.writers.registry import Writer, register_writer
from fluidsurrogate.data.writers.source import Source

VTK_TYPES = {"f4": "Float32", "f8": "Float64"}
INNER_DIMS = ("component", "z", "y", "x")


def _write(source: Source, folder: Path, force: bool) -> list[Path]:
    dataset, space = source.dataset, set(source.space)
    origin, spacing = _geometry(dataset)
    fields = [name for name, v in dataset.data_vars.items() if space <= set(v.dims)]
    outer = list(dict.fromkeys(d for f in fields for d in dataset[f].dims if d not in (*INNER_DIMS, "time")))
    times = _times(dataset)
    chosen = list(_selections(dataset, [str(dim) for dim in outer]))
    collections = [folder / f"{name}.pvd" for name, _ in chosen]
    if not force and (present := [path for path in collections if path.exists()]):
        raise UsageError(f"{present[0]} exists already; name another folder, or add --force (force=True) to replace it")
    width = len(str(len(times) - 1))
    for (name, where), collection in zip(chosen, collections, strict=True):
        entries = []
        for number, (index, time) in enumerate(times):
            path = folder / name / f"time_{number:0{width}d}.vti"
            _write_image(path, source.load(**where, time=index), origin, spacing, time)
            entries.append((time, f"{name}/{path.name}"))
        write_text(collection, _collection(entries))
    return collections


def _geometry(dataset: xr.Dataset) -> tuple[list[float], list[float]]:
    """Return first point and spacing along (x, y, z); in two dimensions z is 0, and its spacing that of x."""
    axes = {axis: evenly_spaced_axis(dataset, axis) for axis in spatial_dims(dataset)}
    first = {axis: float(values[0]) for axis, (values, _) in axes.items()}
    spacing = {axis: step for axis, (_, step) in axes.items()}
    return [first.get(a, 0.0) for a in "xyz"], [spacing.get(a, spacing["x"]) for a in "xyz"]


def _times(dataset: xr.Dataset) -> list[tuple[int, float]]:
    """Return position and value of each stored time; without a time coordinate, its number."""
    if "time" not in dataset.coords:
        return [(i, float(i)) for i in range(dataset.sizes.get("time", 1))]
    return list(enumerate(np.atleast_1d(dataset["time"].values).astype(np.float64).tolist()))


def _selections(dataset: xr.Dataset, dims: list[str]) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield a name and an index for each combination of trajectory, member, source and whatever other dims there are.

    Labels that could not be part of a file name, or are not unique, are replaced by their position.
    """
    names = []
    for dim in dims:
        labels = [str(v) for v in dataset[dim].values.tolist()] if dim in dataset.coords else []
        plain = len(set(labels)) == len(labels) and all(re.fullmatch(r"\w[\w.-]{0,60}", label) for label in labels)
        names.append(labels if labels and plain else [str(i) for i in range(dataset.sizes[dim])])
    for index in itertools.product(*(range(len(labels)) for labels in names)):
        parts = [f"{dim}_{labels[i]}" for dim, labels, i in zip(dims, names, index, strict=True)]
        yield "_".join(parts) or "flow", dict(zip(dims, index, strict=True))


def _write_image(path: Path, state: xr.Dataset, origin: list[float], spacing: list[float], time: float) -> None:
    """Write the fields and numbers of one time as an ImageData file with raw appended data."""
    space = spatial_dims(state)
    fields = {str(name): _point_array(v, space) for name, v in state.data_vars.items() if set(space) <= set(v.dims)}
    numbers = {"TimeValue": np.array([time])} | {
        str(name): np.atleast_1d(v.values).astype("<f8")
        for name, v in state.data_vars.items()
        if set(v.dims) <= {"component"} and v.dtype.kind in "fiu"
    }
    cells = [state.sizes.get(axis, 1) for axis in "xyz"]
    extent = " ".join(f"0 {n - 1}" for n in cells)
    offset, blocks, described = 0, [], {}
    for name, array in (*numbers.items(), *fields.items()):
        described[name] = f'format="appended" offset="{offset}"'
        blocks.append(array)
        offset += 8 + array.nbytes
    lines = [
        '<?xml version="1.0"?>',
        '<VTKFile type="ImageData" version="1.0" byte_order="LittleEndian" header_type="UInt64">',
        f'<ImageData WholeExtent="{extent}" Origin="{_numbers(origin)}" Spacing="{_numbers(spacing)}">',
        "<FieldData>",
        *(f'<DataArray type="Float64" Name={quoteattr(name)} NumberOfComponents="1" '
          f'NumberOfTuples="{len(values)}" {described[name]}/>' for name, values in numbers.items()),
        "</FieldData>",
        f'<Piece Extent="{extent}">',
        f"<PointData{_active(fields)}>",
        *(f'<DataArray type="{VTK_TYPES[values.dtype.str[1:]]}" Name={quoteattr(name)} '
          f'NumberOfComponents="{values.shape[-1]}" {described[name]}/>' for name, values in fields.items()),
        "</PointData>",
        "</Piece>",
        "</ImageData>",
        '<AppendedData encoding="raw">',
    ]  # fmt: skip
    with atomic_write(path) as beside, beside.open("wb") as file:
        file.write(("\n".join(lines) + "\n_").encode())
        for array in blocks:
            file.write(np.uint64(array.nbytes).astype("<u8").tobytes())
            file.write(array.tobytes())
        file.write(b"\n</AppendedData>\n</VTKFile>\n")


def _point_array(variable: xr.DataArray, space: tuple[str, ...]) -> np.ndarray:
    """Return a field as VTK stores it: points with x running fastest, and three components of a vector."""
    if "component" in variable.coords:
        variable = variable.sel(component=sorted(variable["component"].values))
    own = [*space, *(["component"] if "component" in variable.dims else [])]
    values = variable.transpose(*own).values
    values = values.astype("<f4" if values.dtype.itemsize <= 4 and values.dtype.kind == "f" else "<f8")
    values = values.reshape(math.prod(values.shape[: len(space)]), -1)
    missing = 3 - values.shape[-1] if "component" in own else 0
    return np.ascontiguousarray(np.pad(values, ((0, 0), (0, missing))))


def _active(fields: Mapping[str, np.ndarray]) -> str:
    """Return the attributes that name the scalar and the vector that are shown first."""
    shown: dict[str, str] = {}
    for name, values in fields.items():
        shown.setdefault("Scalars" if values.shape[-1] == 1 else "Vectors", name)
    return "".join(f" {kind}={quoteattr(name)}" for kind, name in shown.items())


def _collection(entries: list[tuple[float, str]]) -> str:
    """Return the text of a collection of files with their times."""
    files = (f'<DataSet timestep="{time:.12g}" part="0" file={quoteattr(name)}/>' for time, name in entries)
    head = '<?xml version="1.0"?>\n<VTKFile type="Collection" version="1.0" byte_order="LittleEndian">\n<Collection>'
    return "\n".join([head, *files, "</Collection>", "</VTKFile>\n"])


def _numbers(values: list[float]) -> str:
    """Return numbers with all their digits, apart by spaces."""
    return " ".join(map(repr, values))


register_writer(
    Writer("vtk", "files for ParaView, one for each stored time (.vti), and their collections (.pvd)", _write)
)
