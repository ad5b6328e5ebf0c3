"""Writing a dataset in the format of another program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import xarray as xr

from fluidsurrogate.core.errors import UsageError, check_integer
from fluidsurrogate.core.files import check_writable
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.data.readers import as_dataset
from fluidsurrogate.data.writers.registry import WRITERS
from fluidsurrogate.data.writers.source import Source


def export_data(
    data: xr.Dataset | str | Path,
    folder: str | Path,
    format: str = "vtk",
    *,
    every: int = 1,
    force: bool = False,
    derive: Callable[[xr.Dataset], xr.Dataset] | None = None,
) -> list[Path]:
    """Write a dataset in the format of another program: The Well, PDEBench, NumPy, NetCDF or VTK.

    The data are read and written one trajectory at a time. No value is rounded or interpolated. What a format cannot
    hold is refused.

    Parameters
    ----------
    data : xr.Dataset, str or Path
        Fields in two or three dimensions on an even grid, or the file or folder that they are in.
    folder : str or Path
        The folder to write; it is made if it does not exist. Its name is the name of the dataset where a format asks
        for one.
    format : str, default "vtk"
        "well": HDF5 files that The Well's `WellDataset` reads. "pdebench": an HDF5 file that PDEBench's
        `FNODatasetMult` reads. "npy": NumPy arrays and a JSON file, as of APEBench. "netcdf": a NetCDF file by the CF
        conventions. "vtk": files for ParaView.
    every : int, default 1
        Write every `every`-th time only.
    force : bool, default False
        Write over files that are in the folder already.
    derive : callable, optional
        Adds variables to each part of the dataset before it is written, such as a diagnostic.

    Returns
    -------
    list of Path
        The files to open.

    Raises
    ------
    UsageError
        If there is no such format, it cannot hold the data, or the folder holds such files already.

    Examples
    --------
    >>> import tempfile
    >>> import fluidsurrogate as fs
    >>> experiment = fs.Experiment.from_tree({
    ...     "name": "tiny",
    ...     "grid": {"n": 16},
    ...     "flow": {"kind": "decaying", "viscosity": 0.01, "wavenumber": 2},
    ...     "data": {"train": 2, "valid": 1, "test": 1, "steps": 4, "interval": 0.25},
    ... })
    >>> data = fs.generate(experiment)
    >>> folder = tempfile.TemporaryDirectory()
    >>> [path.name for path in fs.export_data(data, folder.name)]
    ['trajectory_0.pvd', 'trajectory_1.pvd', 'trajectory_2.pvd', 'trajectory_3.pvd']
    >>> written = fs.export_data(data, f"{folder.name}/decaying", "well")
    >>> sorted({str(path.relative_to(folder.name)) for path in written})
    ['decaying/data/test/decaying.hdf5', 'decaying/data/train/decaying.hdf5', 'decaying/data/valid/decaying.hdf5', \
'decaying/stats.yaml']
    >>> folder.cleanup()
    """
    if format not in WRITERS:
        raise UsageError(f"unknown format {format!r}; one of {', '.join(sorted(WRITERS))}")
    folder, every = as_path(folder), check_integer("every", every, 1)
    dataset = as_dataset(data)
    if every > 1 and "time" in dataset.dims:
        dataset = dataset.isel(time=slice(None, None, every))
    source = Source(dataset, derive)
    check_writable(folder)
    return WRITERS[format].write(source, folder, force)
