"""Initial states of a rollout, read from a dataset a few at a time."""

from __future__ import annotations

import hashlib
import math
from typing import final

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from fluidsurrogate.data.conversion import read_states, to_inputs
from fluidsurrogate.data.coordinates import select_time
from fluidsurrogate.data.layout import trajectory_coordinates
from solvers import StateSpec
from solvers.array_types import State

READ_CELLS = 2**21  # cells of the states that are read at a time for the fingerprint


@final
class InitialStates:
    """Initial states in a dataset of any size, read a few trajectories at a time.

    Parameters
    ----------
    dataset : xr.Dataset
        States that are known to match `spec` (see `check_matches`), perhaps opened lazily.
    spec : StateSpec
        What the states are.
    start_time : float, optional
        The stored time to take; by default the first one.

    Attributes
    ----------
    spec : StateSpec
        What the states are.
    dataset : xr.Dataset
        The states at the start time.
    count : int
        Number of trajectories.
    start_time : float
        The time of the states; 0 if the dataset has no times.
    coordinates : dict
        The coordinates along `trajectory`.
    dtype : torch.dtype
        The precision in which each stored value is read unchanged.

    Raises
    ------
    UsageError
        If the dataset does not have the start time.
    """

    def __init__(self, dataset: xr.Dataset, spec: StateSpec, start_time: float | None) -> None:
        self.spec, self.dataset = spec, select_time(dataset, start_time, spec.interval)
        self.count = dataset.sizes.get("trajectory", 1)
        self.start_time = float(self.dataset["time"].values.item()) if "time" in self.dataset.coords else 0.0
        coordinates = trajectory_coordinates(dataset)
        # Zarr has no settled form for strings of fixed length, which NetCDF gives.
        coordinates = {k: c.astype(object) if c.dtype.kind == "U" else c for k, c in coordinates.items()}
        self.coordinates = {"trajectory": ("trajectory", np.arange(self.count), {"long_name": "trajectory"})}
        self.coordinates |= coordinates
        kept = np.result_type(np.float32, *(self.dataset[field.name].dtype for field in spec.fields))
        self.dtype = torch.float32 if kept == np.float32 else torch.float64

    def read(self, first: int, last: int) -> tuple[State, dict[str, Tensor]]:
        """Read the initial states and the inputs of some trajectories.

        Parameters
        ----------
        first : int
            The first trajectory.
        last : int
            The trajectory after the last one.

        Returns
        -------
        states : Tensor
            Shape (batch, component, y, x).
        inputs : dict of str to Tensor
            The inputs by name.
        """
        part = self.dataset
        if "trajectory" in part.dims:
            part = part.isel(trajectory=slice(first, last))
        return read_states(part, self.spec, self.dtype)[:, 0], to_inputs(part, self.spec, self.dtype)

    @property
    def seeds(self) -> list[int]:
        """One seed for each trajectory: the coordinate `seed`, or else 0, 1, 2 and so on."""
        seeds = self.dataset.coords.get("seed")
        if seeds is None or seeds.dims != ("trajectory",) or seeds.dtype.kind not in "iu":
            return list(range(self.count))
        return [int(seed) for seed in seeds.values]

    def fingerprint(self) -> str:
        """Return a hash of everything that a rollout takes from the dataset.

        All initial states are read. One that is not finite is thus found before hours of work, not after.

        Returns
        -------
        str
            16 hexadecimal digits.
        """
        digest = hashlib.sha256()
        at_a_time = max(1, READ_CELLS // (self.spec.components * math.prod(self.spec.grid.n)))
        for first in range(0, self.count, at_a_time):
            state, inputs = self.read(first, min(first + at_a_time, self.count))
            for value in (state, *inputs.values()):
                digest.update(value.contiguous().numpy().tobytes())
        for name, variable in sorted(self.coordinates.items()):
            digest.update(f"{name} {np.asarray(xr.as_variable(variable).values).tolist()}".encode())
        return digest.hexdigest()[:16]
