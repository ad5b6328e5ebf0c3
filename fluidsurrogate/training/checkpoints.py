"""The whole state of a training as one safetensors file: tensors by name, everything else as JSON in its header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fluidsurrogate.core.files import atomic_write

Weights = dict[str, Tensor]


def write_checkpoint(
    path: Path, weights: Mapping[str, Weights], optimiser: torch.optim.Optimizer, about: Mapping[str, Any]
) -> None:
    """Sets of weights by name (none of them called `optimiser`), the optimiser's state, and plain data."""
    state = optimiser.state_dict()
    tensors = {f"{name}.{key}": value for name, held in weights.items() for key, value in held.items()}
    tensors |= {f"optimiser.{i}.{k}": v for i, held in state["state"].items() for k, v in held.items()}
    tensors = {key: value.contiguous().cpu() for key, value in tensors.items()}
    header = {**about, "groups": state["param_groups"]}
    with atomic_write(path) as beside:
        save_file(tensors, beside, {"state": json.dumps({**header, "sha256": sha256_of(tensors, header)})})


def read_checkpoint(path: Path, optimiser: torch.optim.Optimizer) -> tuple[dict[str, Weights], dict[str, Any]]:
    """The sets of weights and the plain data; the optimiser is put into its state. ValueError where the content is not
    what was written."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["state"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    if header.pop("sha256") != sha256_of(tensors, header):
        raise ValueError("it is damaged: its content is not what was written")
    weights: dict[str, Weights] = {}
    for key, value in tensors.items():
        name, _, rest = key.partition(".")
        weights.setdefault(name, {})[rest] = value
    state: dict[int, Weights] = {}
    for key, value in weights.pop("optimiser", {}).items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": header.pop("groups")})
    return weights, header


def sha256_of(tensors: Weights, header: Mapping[str, Any]) -> str:
    """The SHA-256 hash of tensors on the CPU, by name, and of plain data."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(name.encode() + value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
