"""One Zarr store that several workers fill, block by block, each block followed by a marker that says it is done.

Object stores cannot rename a finished folder. The root of the Zarr group, `zarr.json`, is therefore written last:
before, nobody can open the store. The markers lie in another folder, beside the store.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.stores import Store
from fluidsurrogate.data.content_hash import MAX_HASHED_BYTES, hash_variables

ROOT = "zarr.json"  # makes a folder a Zarr group
LAYOUT = "layout.json"  # the root, until the store is complete; it is written when everything else is laid out
STARTED = "started.json"  # the token of the run that fills the store


@final
@dataclass(frozen=True)
class BlockStore:
    """A Zarr store that is filled block by block, and the folder of its markers. It can be sent to other processes.

    Parameters
    ----------
    data : Store
        The Zarr store.
    work : Store
        The folder of what is needed until the Zarr store is complete.
    token : str
        Identifies the attempt. A worker of an earlier attempt, which was given up, writes nothing any more.
    """

    data: Store
    work: Store
    token: str

    def lay_out(self, template: xr.Dataset, encoding: Mapping[str, Any], plan: Any = None) -> None:
        """Write everything but the root and the values along `trajectory`.

        Parameters
        ----------
        template : xr.Dataset
            The whole dataset; its lazy variables are not written.
        encoding : mapping
            The encoding of its variables for Zarr.
        plan : object, optional
            Plain data to keep with the layout.
        """
        from zarr.storage import MemoryStore

        made: dict[str, Any] = {}
        template.to_zarr(MemoryStore(made), mode="w", compute=False, consolidated=False, encoding=encoding)
        root = made.pop(ROOT)
        for key, value in made.items():
            self.data.write(key, value.to_bytes())
        arrays = sorted(key.removesuffix(f"/{ROOT}") for key in made if key.endswith(f"/{ROOT}"))
        layout = {"token": self.token, "root": json.loads(root.to_bytes()), "arrays": arrays, "plan": plan}
        self.work.write_json(LAYOUT, layout)

    def layout(self) -> dict[str, Any] | None:
        """Return what `lay_out` has recorded; None if the store is not laid out.

        Returns
        -------
        dict or None
            "root", "arrays" (names) and "plan".
        """
        found = self.work.read_json(LAYOUT)
        return found if isinstance(found, dict) and found.get("token") == self.token else None

    def check_current(self) -> None:
        """Check that this attempt is still the one that fills the store.

        Raises
        ------
        UsageError
            If it was given up.
        """
        started = self.work.read_json(STARTED)
        if not isinstance(started, dict) or started.get("token") != self.token:
            raise UsageError(
                f"{self.data.location} is no longer being made by this run: it was begun again, or deleted"
            )

    def write(self, part: xr.Dataset, region: Mapping[str, slice]) -> None:
        """Write the values of some trajectories, of all times or of some.

        Parameters
        ----------
        part : xr.Dataset
            The values. Variables without the dim `trajectory` belong to the layout and are not written again.
        region : mapping of str to slice
            Where they belong: along `trajectory` and perhaps along `time`. Its ends must be ends of chunks.
        """
        import zarr

        self.check_current()
        store = self.data.zarr()
        for name, variable in part.data_vars.items():
            if "trajectory" in variable.dims:
                array = zarr.open_array(store, path=str(name), mode="r+")
                assert array.dtype == variable.dtype, name  # Zarr would convert without a word
                array[tuple(region.get(str(dim), slice(None)) for dim in variable.dims)] = variable.values

    def mark(self, number: int, about: Mapping[str, Any]) -> dict[str, Any]:
        """Record that a block is done, after all its values are written.

        Parameters
        ----------
        number : int
            The number of the block.
        about : mapping
            Plain data about it.

        Returns
        -------
        dict
            The marker.
        """
        marker = {"token": self.token, "block": number, **about}
        self.work.write_json(f"blocks/{number}.json", marker)
        return marker

    def marker(self, number: int) -> dict[str, Any] | None:
        """Return the marker of a block.

        Parameters
        ----------
        number : int
            The number of the block.

        Returns
        -------
        dict or None
            None if the block is not done.
        """
        return self._valid(self.work.read_json(f"blocks/{number}.json"))

    def markers(self) -> dict[int, dict[str, Any]]:
        """Return the markers of all blocks that are done.

        Returns
        -------
        dict
            By the number of the block.
        """
        found = map(self._valid, self.work.child("blocks").read_all_json().values())
        return {marker["block"]: marker for marker in found if marker is not None}

    def _valid(self, marker: Any) -> dict[str, Any] | None:
        is_valid = isinstance(marker, dict) and marker.get("token") == self.token and type(marker.get("block")) is int
        return marker if is_valid else None

    def hash_content(self, block_hashes: Sequence[Mapping[str, str]]) -> dict[str, str]:
        """Return hashes of what the store holds, like `hash_variables`.

        Parameters
        ----------
        block_hashes : sequence of mapping
            What `hash_variables` returned for the variables along `trajectory` of each block, in order.

        Returns
        -------
        dict
            By variable. Those of more than 256 MiB, which nobody reads again only to compare them, are hashes of the
            hashes of their blocks, so that they need not be read here.
        """
        import zarr

        layout, store, content = self.layout(), self.data.zarr(read_only=True), {}
        for name in layout["arrays"] if layout else ():
            array = zarr.open_array(store, path=name, mode="r")
            dims = list(getattr(array.metadata, "dimension_names", None) or ())
            if name in block_hashes[0] and math.prod(array.shape) * array.dtype.itemsize > MAX_HASHED_BYTES:
                text = "\n".join(hashes[name] for hashes in block_hashes)
                digest = hashlib.sha256(text.encode()).hexdigest()[:16]
                content[name] = f"{array.dtype} {array.shape} {digest} by blocks"
            else:
                variable = xr.Dataset({name: xr.Variable(dims, np.asarray(array[...]))})
                content[name] = hash_variables(variable)[name]
        return content

    def finish(self, attributes: Mapping[str, Any]) -> None:
        """Write the root, which makes the store complete.

        Parameters
        ----------
        attributes : mapping
            Attributes of the dataset, besides those of the template.
        """
        from zarr.storage import MemoryStore

        layout = self.layout()
        assert layout is not None
        made: dict[str, Any] = {}
        merged = {**layout["root"]["attributes"], **attributes}
        xr.Dataset(attrs=merged).to_zarr(MemoryStore(made), mode="w", consolidated=False)
        self.data.write(ROOT, made[ROOT].to_bytes())
