"""What is exported: a lazy dataset, and fields to compute from each part of it as it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import final

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.coordinates import spatial_dims

BLOCK_BYTES = 2**26  # of what is in memory at a time


@final
class Source:
    """A dataset to export, read part by part.

    Parameters
    ----------
    dataset : Dataset
        Fields in two or three dimensions; its values are read when they are used.
    derive : callable, optional
        Adds variables to a part of the dataset that has been read, such as a diagnostic.
    """

    def __init__(self, dataset: xr.Dataset, derive: Callable[[xr.Dataset], xr.Dataset] | None = None) -> None:
        space = spatial_dims(dataset)
        if not any(set(space) <= set(variable.dims) for variable in dataset.data_vars.values()):
            raise UsageError(f"nothing to export: no variable has the dimensions {', '.join(space)}")
        if empty := [dim for dim, size in dataset.sizes.items() if size == 0]:
            raise UsageError(f"nothing to export: the dimension {empty[0]!r} has no entry")
        self.dataset, self.derive = dataset, derive

    def load(self, **indexers: object) -> xr.Dataset:
        """Return a part of the dataset in memory, with the fields that are to be added.

        Parameters
        ----------
        **indexers : int, slice or list of int
            Which part, by dim; dims that the dataset lacks are ignored.

        Returns
        -------
        Dataset
            The part.
        """
        part = self.dataset.isel(indexers, missing_dims="ignore").load()
        return part if self.derive is None else self.derive(part)

    @cached_property
    def first(self) -> xr.Dataset:
        """The first state of the first trajectory, which says the dims and types of all variables."""
        return self.load(trajectory=slice(0, 1), time=slice(0, 1))

    @property
    def space(self) -> tuple[str, ...]:
        """The spatial dims: (y, x) or (z, y, x)."""
        return spatial_dims(self.dataset)

    def blocks(self, trajectories: Sequence[int]) -> Iterator[tuple[int, slice, xr.Dataset]]:
        """Yield all states of some trajectories, one trajectory at a time and as many times as fit into 64 MiB.

        Parameters
        ----------
        trajectories : sequence of int
            Their positions.

        Yields
        ------
        number : int
            Counts the trajectories from 0.
        times : slice
            The times of the block.
        block : Dataset
            The states, with both dims if the dataset has them.
        """
        n_times = self.dataset.sizes.get("time", 1)
        per_block = max(1, min(n_times, BLOCK_BYTES // max(1, self.first.nbytes)))
        for number, index in enumerate(trajectories):
            for start in range(0, n_times, per_block):
                times = slice(start, min(start + per_block, n_times))
                yield number, times, self.load(trajectory=slice(index, index + 1), time=times)


def values_along(variable: xr.DataArray, dims: Sequence[str]) -> np.ndarray:
    """Return the values of a variable with its dims in an order; a dim that it lacks gets the length 1.

    Parameters
    ----------
    variable : DataArray
        The variable, in memory.
    dims : sequence of str
        The order of the axes of the result.

    Returns
    -------
    ndarray
        The values, the components of vectors in the order x, y, z.
    """
    if "component" in variable.dims and "component" in variable.coords:
        variable = variable.sel(component=sorted(variable["component"].values))
    return variable.expand_dims([dim for dim in dims if dim not in variable.dims]).transpose(*dims).values
