"""NumPy arrays and a JSON file, in the layout of APEBench.

NAME_train.npy, NAME_valid.npy and NAME_test.npy have the shape (trajectory, time, channel, x, y) or (trajectory, time,
channel, x, y, z), and NAME.json says the box, the interval and the viscosity (https://github.com/tum-pbs/apebench,
`apebench/_scraper.py`, version 0.1.1). APEBench has x first and takes the vorticity as the Laplacian of the stream
function with :math:`u = \\partial\\psi/\\partial y`. This is minus the usual one: so pseudoscalars are written with the
other sign.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import write_json
from fluidsurrogate.data.layout import field_attributes
from fluidsurrogate.data.writers.contents import Contents, attributes_as_json, contents_of
from fluidsurrogate.data.writers.pdebench import channel_names
from fluidsurrogate.data.writers.registry import Writer, register_writer
from fluidsurrogate.data.writers.source import Source, values_along
from fluidsurrogate.data.writers.staging import staged_files

FORMAT = "APEBench's"
CONSTANTS = ("viscosity", "drag")  # what its JSON has a place for


def _write(source: Source, folder: Path, force: bool) -> list[Path]:
    contents, name = contents_of(source, FORMAT), folder.absolute().name
    _check(contents)
    names = {part: f"{name}_{part}.npy" for part in contents.parts}
    dtype = np.result_type(*(source.first[field].dtype for field in contents.fields))
    with staged_files(folder, [*names.values(), f"{name}.json"], force) as beside:
        for part, chosen in contents.parts.items():
            shape = (len(chosen), len(contents.time), len(channel_names(contents)), *contents.n)
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            with (beside / names[part]).open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for _, _, block in source.blocks(chosen):
                    file.write(np.ascontiguousarray(_channels(block, contents), dtype).tobytes())
        write_json(beside / f"{name}.json", _about(source, contents, name))
    return [folder / each for each in (*names.values(), f"{name}.json")]


def _check(contents: Contents) -> None:
    """Refuse what the layout has no place for."""
    sides = {(n, round(n * contents.spacing[axis], 12)) for n, axis in zip(contents.n, contents.axes, strict=True)}
    if len(sides) > 1:
        raise UsageError(f"{FORMAT} files state one number of points and one length for all axes, and the data have "
                         f"{' x '.join(map(str, contents.n))} cells: export to well or netcdf")  # fmt: skip
    lost = [name for name, value in contents.constants.items()
            if (value.ndim and np.ptp(value)) or (name not in CONSTANTS and np.any(value))]  # fmt: skip
    if lost := [*contents.inputs, *lost]:
        raise UsageError(f"{FORMAT} files have no place for the data's {lost[0]!r}: export to well or netcdf")


def _channels(block: Any, contents: Contents) -> np.ndarray:
    """Return the states of one trajectory with the shape (time, channel, x, y) or (time, channel, x, y, z)."""
    dims = ("trajectory", "time", "component", *contents.axes)
    parts = []
    for name, spec in contents.fields.items():
        values = values_along(block[name], dims)[0]
        parts.append(-values if spec.parity < 0 else values)
    return np.concatenate(parts, axis=1)


def _about(source: Source, contents: Contents, name: str) -> dict[str, Any]:
    """Return what APEBench's JSON file says, and under a key of our own what else there is to know."""
    info: dict[str, Any] = {
        "num_spatial_dims": len(contents.axes),
        "num_points": contents.n[0],
        "num_channels": len(channel_names(contents)),
        "domain_extent": contents.n[0] * contents.spacing["x"],
        "dt": contents.interval,
    }
    for part, chosen in contents.parts.items():
        info |= {f"num_{part}_samples": len(chosen), f"{part}_temporal_horizon": len(contents.time) - 1}
    constants = {key: float(np.ravel(value)[0]) for key, value in contents.constants.items()}
    if "viscosity" in constants:
        info["diffusivity"] = constants["viscosity"]
    if constants.get("drag"):
        info["drag"] = -constants["drag"]  # the coefficient of the vorticity on the right-hand side
    own = {
        "axes": ["trajectory", "time", "channel", *contents.axes],
        "channels": channel_names(contents),
        "signs": {field: spec.parity for field, spec in contents.fields.items()},
        "fields": {field: field_attributes(spec) for field, spec in contents.fields.items()},
        "first_sample": [float(values[0]) for values in contents.coordinates.values()],
        "start_time": float(contents.time[0]),
        "constants": constants,
        "attributes": attributes_as_json(source.dataset.attrs),
    }
    return {"name": name, "info": info, "fluidsurrogate": own}


register_writer(Writer("npy", "NumPy arrays and a JSON file, in APEBench's layout", _write))
