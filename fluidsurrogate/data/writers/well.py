"""HDF5 files in the format of The Well, which its `WellDataset` reads, with the statistics that normalisation needs.

Fields are sorted by tensor order, with x as the first axis. The vorticity of a flow in the plane is a pseudoscalar: it
changes sign under a mirror. The Well's t0 fields are true scalars, and its augmentations would flip them without that
sign. So a pseudoscalar is written as the antisymmetric tensor of order 2 that it stands for,

.. math:: W_{ij} = \\partial_i u_j - \\partial_j u_i, \\qquad W_{xy} = \\omega_z = -W_{yx},

and a pseudovector in space likewise, :math:`W_{ij} = \\epsilon_{ijk} \\omega_k`.

Format: https://polymathic-ai.org/the_well/data_format, and the_well 1.2.0: `data/datasets.py`, `data/normalization.py`,
`scripts/compute_statistics.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.layout import field_attributes
from fluidsurrogate.data.writers.contents import Contents, attributes_as_json, contents_of
from fluidsurrogate.data.writers.registry import Writer, register_writer
from fluidsurrogate.data.writers.source import Source, values_along
from fluidsurrogate.data.writers.staging import staged_files
from fluidsurrogate.data.writers.statistics import RunningStatistics
from solvers import FieldSpec

FORMAT = "The Well's"
STATISTICS = "stats.yaml"
PARTS = ("train", "valid", "test")
CHUNK_BYTES = 2**20  # of an HDF5 chunk of several times
# In space, the component of a pseudovector that is the entry (i, j) of the tensor of order 2.
DUAL = {(0, 1): 2, (1, 2): 0, (2, 0): 1}


def _write(source: Source, folder: Path, force: bool) -> list[Path]:
    contents = contents_of(source, FORMAT)
    for name, spec in (contents.fields | contents.inputs).items():
        if spec.parity < 0 and spec.order != len(contents.axes) - 2:
            raise UsageError(f"{FORMAT} files hold tensors up to order 2, and {name!r} (tensor_order {spec.order}, "
                             "parity -1) is none of these: leave it out, or export to netcdf")  # fmt: skip
    if len(contents.time) < 2:
        raise UsageError(f"{FORMAT} files hold trajectories of two times at least, and the data have one")
    names = {part: f"data/{part}/{folder.absolute().name}.hdf5" for part in contents.parts}
    others = {
        path for part in PARTS for pattern in ("*.h5", "*.hdf5") for path in folder.glob(f"data/{part}/{pattern}")
    }
    if others := others - {folder / name for name in names.values()}:
        raise UsageError(f"{min(others)} would be read as part of the data: name another folder")
    statistics = {name: (RunningStatistics(), RunningStatistics()) for name in (*contents.fields, *contents.inputs)}
    with staged_files(folder, [*names.values(), STATISTICS], force) as beside:
        for part, name in names.items():
            (beside / name).parent.mkdir(parents=True)
            with h5py.File(beside / name, "w") as file:
                _declare(file, source, contents, contents.parts[part], folder.absolute().name)
                _fill(file, source, contents, contents.parts[part], statistics if part == next(iter(names)) else None)
        (beside / STATISTICS).write_text(_as_yaml(statistics, contents), encoding="utf-8")
    return [folder / name for name in (*names.values(), STATISTICS)]


def _declare(file: h5py.File, source: Source, contents: Contents, chosen: list[int], name: str) -> None:
    """Write everything but the fields: attributes, grid, times, boundaries, scalars, and where the data come from."""
    shared = {key: value for key, value in contents.constants.items() if value.ndim == 0}
    about = {"dataset_name": name, "grid_type": "cartesian", "n_spatial_dims": len(contents.axes),
             "n_trajectories": len(chosen), "simulation_parameters": _texts(shared)}  # fmt: skip
    file.attrs.update(about | {key: float(value) for key, value in shared.items()})
    dimensions = file.create_group("dimensions")
    dimensions.attrs["spatial_dims"] = _texts(contents.axes)
    for axis, values in {"time": contents.time, **contents.coordinates}.items():
        dimensions[axis] = values
        dimensions[axis].attrs.update(sample_varying=False, time_varying=axis == "time")
    boundaries = file.create_group("boundary_conditions")
    for axis, n in zip(contents.axes, contents.n, strict=True):
        group = boundaries.create_group(f"{axis}_periodic")
        group.attrs.update(
            associated_dims=_texts([axis]), associated_fields=_texts([]), bc_type="PERIODIC",
            sample_varying=False, time_varying=False,
        )  # fmt: skip
        group["mask"] = np.isin(np.arange(n), (0, n - 1))
        group["values"] = np.zeros(2, np.float32)
    scalars = file.create_group("scalars")
    scalars.attrs["field_names"] = _texts(contents.constants)
    for key, value in contents.constants.items():
        scalars[key] = value[chosen] if value.ndim else value
        scalars[key].attrs.update(sample_varying=bool(value.ndim), time_varying=False)
    ours = file.create_group("fluidsurrogate")
    ours["attributes"] = attributes_as_json(source.dataset.attrs)
    if "trajectory" in source.dataset.coords:
        labels = np.atleast_1d(source.dataset["trajectory"].values)[chosen]
        ours["trajectory"] = labels if labels.dtype.kind in "iuf" else _texts(labels.tolist())


def _fill(
    file: h5py.File,
    source: Source,
    contents: Contents,
    chosen: list[int],
    statistics: Mapping[str, tuple[RunningStatistics, RunningStatistics]] | None,
) -> None:
    """Write the fields of some trajectories block by block, and collect their statistics."""
    stored: dict[str, h5py.Dataset] = {}
    n_dims = len(contents.axes)
    orders = {name: rank(spec) for name, spec in (contents.fields | contents.inputs).items()}
    for order in range(3):
        group = file.create_group(f"t{order}_fields")
        group.attrs["field_names"] = _texts(name for name in orders if orders[name] == order)
    for name, spec in (contents.fields | contents.inputs).items():
        variable, varies = source.first[name], name in contents.fields
        # An input that the trajectories share is stored once, one that is uniform in space without its axes.
        leading = (len(chosen), len(contents.time)) if varies else (len(chosen),) * ("trajectory" in variable.dims)
        space = contents.n if "x" in variable.dims else ()
        shape = (*leading, *space, *(n_dims,) * orders[name])
        options: dict[str, Any] = {}
        if varies:
            state = variable.dtype.itemsize * int(np.prod(shape[2:]))
            options["chunks"] = (1, max(1, min(shape[1], CHUNK_BYTES // state)), *shape[2:])
        if orders[name] == 2:  # three quarters of it are zeros and repetitions
            options |= {"compression": "gzip", "compression_opts": 1, "shuffle": True}
        dataset = file[f"t{orders[name]}_fields"].create_dataset(name, shape, variable.dtype, **options)
        dataset.attrs.update(
            dim_varying=[bool(space)] * n_dims, sample_varying=bool(leading), time_varying=varies,
            symmetric=False, antisymmetric=spec.parity < 0, **field_attributes(spec),
        )  # fmt: skip
        stored[name] = dataset
    last: dict[str, np.ndarray] = {}
    for number, times, block in source.blocks(chosen):
        for name, spec in contents.fields.items():
            values = _as_tensor(block, name, spec, contents.axes, ("trajectory", "time"))[0]
            stored[name][number, times] = values
            if statistics is not None:
                total, change = statistics[name]
                total.add(values, orders[name])
                joined = np.concatenate([last[name], values]) if times.start else values
                if len(joined) > 1:
                    change.add(np.diff(joined.astype(np.float64), axis=0), orders[name])
                last[name] = values[-1:]
        if times.start:
            continue
        for name, spec in contents.inputs.items():
            is_shared = "trajectory" not in source.first[name].dims
            if number and is_shared:
                continue
            values = _as_tensor(block, name, spec, contents.axes if "x" in block[name].dims else (), ("trajectory",))[0]
            stored[name][() if is_shared else number] = values
            if statistics is not None:
                statistics[name][0].add(values, orders[name])


def rank(spec: FieldSpec) -> int:
    """Return the tensor order that The Well stores a field with: 2 for pseudoscalars and pseudovectors."""
    return spec.order if spec.parity > 0 else 2


def _as_tensor(
    block: xr.Dataset, name: str, spec: FieldSpec, axes: tuple[str, ...], leading: tuple[str, ...]
) -> np.ndarray:
    """Return a field as a tensor in The Well's sense: x first, components last."""
    values = values_along(block[name], (*leading, *axes, *("component",) * spec.order))
    if spec.parity > 0:
        return values
    n_dims, own = spec.dimensions, values.shape[:-1] if spec.order else values.shape
    tensor = np.zeros((*own, n_dims, n_dims), values.dtype)
    for (i, j), k in DUAL.items() if n_dims == 3 else {(0, 1): None}.items():
        part = values if k is None else values[..., k]
        tensor[..., i, j], tensor[..., j, i] = part, -part
    return tensor


def _texts(values: Any) -> np.ndarray:
    """Return an array of texts that HDF5 stores as such, also if it is empty."""
    return np.array([str(value) for value in values], dtype=h5py.string_dtype())


def _as_yaml(statistics: Mapping[str, tuple[RunningStatistics, RunningStatistics]], contents: Contents) -> str:
    """Return the statistics as YAML: of the values and, for fields that vary with time, of their changes in a step."""
    lines = []
    for which, suffix in enumerate(("", "_delta")):
        for kind in ("mean", "std", "rms"):
            lines.append(f"{kind}{suffix}:")
            for name in contents.fields if which else statistics:
                lines.append(f"  {name}: {_number(getattr(statistics[name][which], kind).tolist())}")
    return "\n".join(lines) + "\n"


def _number(value: Any) -> str:
    """Return a number or nested list of numbers as YAML 1.1 reads it: with a point in front of the exponent."""
    return f"[{', '.join(map(_number, value))}]" if isinstance(value, list) else f"{value:.16e}"


register_writer(Writer("well", "HDF5 files that The Well's WellDataset reads, with stats.yaml", _write))
