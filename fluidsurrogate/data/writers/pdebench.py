"""An HDF5 file in PDEBench's layout of one group a trajectory, which its FNO and U-Net train on.

`FNODatasetMult` (pdebench/models/fno/utils.py) and `UNetDatasetMult` (pdebench/models/unet/utils.py) read

- the groups "0000", "0001", ..., sorted by name: the last `test_ratio` of them test;
- in each group `data`, float32 of shape (time, x, y, channel) or (time, x, y, z, channel), and `grid/x`, `grid/y`, ...

(https://github.com/pdebench/PDEBench, commit 9754b4c). The fields of the state are the channels, whose names are the
attribute `channels` of the file. PDEBench's own incompressible set is no model for this: it holds only velocities, no
class that its networks train with reads it, and it does not state the box.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from fluidsurrogate.data.layout import component_names
from fluidsurrogate.data.writers.contents import Contents, attributes_as_json, contents_of
from fluidsurrogate.data.writers.registry import Writer, register_writer
from fluidsurrogate.data.writers.source import Source, values_along
from fluidsurrogate.data.writers.staging import staged_files

FORMAT = "PDEBench's"
DIGITS = 4  # of a group's name at least


def _write(source: Source, folder: Path, force: bool) -> list[Path]:
    contents = contents_of(source, FORMAT)
    name = f"{folder.absolute().name}.h5"
    # The parts in this order, because PDEBench tests with the last groups.
    split = [part for part, chosen in contents.parts.items() for _ in chosen]
    chosen = [index for part in contents.parts.values() for index in part]
    digits = max(DIGITS, len(str(len(chosen) - 1)))
    dtype = np.result_type(*(source.first[field].dtype for field in contents.fields))
    with staged_files(folder, [name], force) as beside, h5py.File(beside / name, "w") as file:
        file.attrs["channels"] = np.array(channel_names(contents), dtype=h5py.string_dtype())
        for number, times, block in source.blocks(chosen):
            group = file.require_group(f"{number:0{digits}d}")
            if times.start == 0:
                shape = (len(contents.time), *contents.n, len(channel_names(contents)))
                group.create_dataset("data", shape, dtype, chunks=(1, *shape[1:]))
                group.attrs["split"] = split[number]
                for axis, values in {"t": contents.time, **contents.coordinates}.items():
                    group[f"grid/{axis}"] = values
                for key, constant in contents.constants.items():
                    group.attrs[key] = constant[chosen[number]] if constant.ndim else constant
                for key, spec in contents.inputs.items():
                    axes = contents.axes if "x" in block[key].dims else ()
                    dims = ("trajectory", *axes, *("component",) * spec.order)
                    group[key] = values_along(block[key], dims)[0]
                if number == 0:
                    group["fluidsurrogate"] = attributes_as_json(source.dataset.attrs)
            group["data"][times] = _channels_last(block, contents)
    return [folder / name]


def channel_names(contents: Contents) -> list[str]:
    """Return the name of each channel: that of the field, with the component of a vector behind it.

    Parameters
    ----------
    contents : Contents
        What is written.

    Returns
    -------
    list of str
        "vorticity", or "velocity_x" and "velocity_y", ...
    """
    names = component_names(len(contents.axes))
    return [f"{field}_{component}" if component else field
            for field, spec in contents.fields.items() for component in (names if spec.order else [""])]  # fmt: skip


def _channels_last(block: xr.Dataset, contents: Contents) -> np.ndarray:
    """Return the states of one trajectory with the shape (time, x, y, channel) or (time, x, y, z, channel)."""
    dims = ("trajectory", "time", *contents.axes, "component")
    return np.concatenate([values_along(block[field], dims)[0] for field in contents.fields], axis=-1)


register_writer(Writer("pdebench", "an HDF5 file that PDEBench's FNO and U-Net train on (FNODatasetMult)", _write))
