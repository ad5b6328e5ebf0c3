"""PyTorch files, `.pt`, as the neural-operator library and others write them: tensors, or a dict of tensors.

Layout: github.com/neuraloperator/neuraloperator, neuralop/data/datasets/pt_dataset.py: its own files hold `x` and `y`,
pairs of inputs and solutions. Trajectories are saved in the layout of the MATLAB files (`a`, `u`, `t`), or as one
tensor whose axes only its maker knows. No pickle is executed: with `weights_only=True`, `torch.load` takes tensors.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.foreign_files import as_floating
from fluidsurrogate.data.readers.neural_operator_matlab import PAIRS, read_operator_arrays
from fluidsurrogate.data.readers.package_layout import lay_out, package_dataset
from fluidsurrogate.data.readers.registry import Reader, register_reader, starts_with
from fluidsurrogate.data.readers.stored_arrays import StoredArray

OLD_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # torch/serialization.py: before version 1.6
ONLY = "the tensor"  # what a file of a single tensor calls it


def _recognises(path: Path) -> bool:
    if starts_with(path, OLD_MAGIC):
        return True
    if not starts_with(path, b"PK\x03\x04") or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def _load(path: Path) -> dict[str, Any]:
    """Return the tensors of a file by name, mapped from disk where the format allows it."""
    import torch

    try:
        found = torch.load(path, map_location="cpu", mmap=zipfile.is_zipfile(path), weights_only=True)
    except Exception as error:
        if "weights_only" not in str(error) and "Weights only" not in str(error):
            raise
        raise UsageError(f"{path}: holds Python objects, which are not executed: save tensors only, "
                         "torch.save({'u': data.u}, ...)") from None  # fmt: skip
    found = {ONLY: found} if isinstance(found, torch.Tensor) else found
    if not isinstance(found, Mapping):
        raise UsageError(f"{path}: holds a {type(found).__name__}: a tensor, or a dict of tensors, is needed")
    return {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor)}


@final
class _TensorArray(StoredArray):
    """A tensor in a PyTorch file."""

    def __init__(self, path: Path, name: str, tensor: Any) -> None:
        super().__init__(path, name, tensor.shape, _as_numpy(tensor[:0] if tensor.ndim else tensor).dtype)

    def read(self, key: Any) -> np.ndarray:
        tensor = _load(self.path)[self.name]
        return np.array(_as_numpy(tensor[key]))


def _as_numpy(tensor: Any) -> np.ndarray:
    import torch

    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor.detach()).numpy()


def _open(path: Path, facts: Facts) -> xr.Dataset:
    arrays: dict[str, StoredArray] = {n: _TensorArray(path, n, tensor) for n, tensor in _load(path).items()}
    names = facts.given.get("names") or {}
    if not {"vorticity", "velocity"} & set(names) and (
        {"a", "u"} <= set(arrays) or any(pair <= set(arrays) for pair in PAIRS)
    ):
        return read_operator_arrays(path, facts, arrays, is_reversed=False)
    fields = [ours for ours in ("vorticity", "velocity") if ours in names]
    large = [name for name, array in arrays.items() if array.ndim >= 3]
    chosen = {ours: names[ours] for ours in fields} or ({"vorticity": large[0]} if len(large) == 1 else {})
    found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "no tensor"
    if not chosen or not set(chosen.values()) <= set(arrays):
        raise UsageError(
            f"{path}: which tensor is the vorticity over time? It has {found}: --map vorticity=NAME says it"
        )
    axes = facts.take("axes")
    facts.note("names", chosen)
    states = {ours: as_floating(lay_out(arrays[theirs], axes)) for ours, theirs in chosen.items()}
    first = next(iter(states.values()))
    if "time" not in first.dims:
        raise UsageError(f"{path}: holds no trajectories ({found}; axes {axes}): this package learns steps in time")
    times = facts.take("interval") * np.arange(first.sizes["time"])
    viscosity = facts.take("viscosity", is_needed=False)
    at_nodes = True
    facts.say("the samples count as nodes, which a shift of the whole box by half a cell makes cell centres")
    return package_dataset(
        facts, states, length=facts.take("length"), times=times, at_nodes=at_nodes, viscosity=viscosity
    )


register_reader(Reader("PyTorch file", _recognises, _open, priority=10))
