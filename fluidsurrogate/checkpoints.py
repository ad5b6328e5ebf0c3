"""The whole state of a training as one safetensors file: tensors by name, everything else as JSON in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fluidsurrogate.store import replacing

Weights = dict[str, Tensor]


def write_checkpoint(
    path: Path, weights: Mapping[str, Weights], optimiser: torch.optim.Optimizer, about: Mapping[str, Any]
) -> None:
    """Sets of weights by name (none of them called `optimiser`), the optimiser's state, and plain data."""
    state = optimiser.state_dict()
    tensors = {f"{name}.{key}": value for name, held in weights.items() for key, value in held.items()}
    tensors |= {f"optimiser.{i}.{k}": v for i, held in state["state"].items() for k, v in held.items()}
    header = {**about, "groups": state["param_groups"]}
    with replacing(path) as beside:
        save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, beside, {"state": json.dumps(header)})


def read_checkpoint(path: Path, optimiser: torch.optim.Optimizer) -> tuple[dict[str, Weights], dict[str, Any]]:
    """The sets of weights and the plain data; the optimiser is put into its state."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["state"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
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
