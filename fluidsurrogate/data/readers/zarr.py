"""Zarr folders, of versions 2 and 3."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.registry import Reader, register_reader

GROUP_FILES = ("zarr.json", ".zgroup")  # one of them lies at the root of a Zarr group: of version 3, of version 2


def _recognises(path: Path) -> bool:
    return path.is_dir() and any((path / name).exists() for name in GROUP_FILES)


def _open(path: Path, facts: Facts) -> xr.Dataset:
    # Times stay numbers, so that their units can be checked. `open_data` caches what is read.
    return xr.open_dataset(path, engine="zarr", consolidated=False, decode_timedelta=False, cache=False)


def _write_sample(dataset: xr.Dataset, path: Path) -> None:
    dataset.to_zarr(path, consolidated=False)


register_reader(Reader("Zarr folder", _recognises, _open, _write_sample))
