"""Data of APEBench: `NAME_train.npy` and `NAME_test.npy` (n, t, c, x, y), and `NAME.json`, which says what they are.

APEBench (Koehler et al. 2024, arXiv:2411.00180) computes with exponax, whose nodes lie at i L / n, x first, and whose
vorticity is the Laplacian of a stream function ψ with the velocity (∂ψ/∂y, −∂ψ/∂x): of the opposite sign.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.readers.facts import DEFAULT, Facts
from fluidsurrogate.data.readers.package_layout import join_trajectories, lay_out, package_dataset
from fluidsurrogate.data.readers.registry import Reader, register_reader, starts_with
from fluidsurrogate.data.readers.stored_arrays import NumpyArray

SPLITS = ("train", "test")
NUMPY = b"\x93NUMPY"
KEYS = {"num_spatial_dims", "num_points", "domain_extent", "dt"}


def _description(path: Path) -> Path | None:
    """Return the JSON file of a folder, of one of the arrays, or the file itself."""
    if path.is_dir():
        found = [file for file in sorted(path.glob("*.json")) if _info(file)]
        return found[0] if len(found) == 1 else None
    if starts_with(path, NUMPY):
        stem = path.stem.removesuffix("_train").removesuffix("_test")
        beside = path.with_name(f"{stem}.json")
        return beside if _info(beside) else None
    return path if starts_with(path, b"{") and _info(path) else None


def _info(path: Path) -> dict[str, Any]:
    """Return what the JSON file says; empty if it is none of APEBench's."""
    try:
        info = json.loads(path.read_text(encoding="utf-8"))["info"]
        return info if isinstance(info, dict) and set(info) >= KEYS else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _recognises(path: Path) -> bool:
    return _description(path) is not None


def _open(path: Path, facts: Facts) -> xr.Dataset:
    description = _description(path)
    assert description is not None
    info, name = _info(description), description.stem
    if info["num_spatial_dims"] != 2 or "decay_turb" not in name or info.get("num_channels") != 1:
        raise UsageError(f"{path}: the scenario {name} is not incompressible flow in two dimensions without forcing, "
                         "of which this package makes surrogates: take 2d_phy_decay_turb")  # fmt: skip
    files = {split: description.with_name(f"{name}_{split}.npy") for split in SPLITS}
    files = {split: file for split, file in files.items() if file.exists() and (path.suffix != ".npy" or file == path)}
    if not files:
        raise UsageError(f"{path}: the arrays {name}_train.npy and {name}_test.npy are missing")
    axes = facts.take("axes", default="n t 1 x y", reason="exponax puts x first")
    parts = [-lay_out(NumpyArray(file), axes) for file in files.values()]
    facts.say("the sign of the vorticity was changed: exponax takes that of the Laplacian of its stream function")
    where = description.name
    interval = facts.take("interval", in_file=info["dt"], reason=f"dt in {where}")
    length = facts.take("length", in_file=info["domain_extent"], reason=f"domain_extent in {where}")
    viscosity = facts.take("viscosity", in_file=info.get("diffusivity"), reason=f"diffusivity in {where}")
    vorticity, attributes = join_trajectories(facts, parts, list(files))
    split = [split for split, part in zip(files, parts, strict=True) for _ in range(part.sizes["trajectory"])]
    facts.note("split", ", ".join(f"{part.sizes['trajectory']} {s}" for s, part in zip(files, parts, strict=True)),
               reason="the names of the arrays")  # fmt: skip
    facts.note("samples", "at the nodes i L / n", DEFAULT, "exponax")
    times = interval * (np.arange(vorticity.sizes["time"]) + info.get("num_warmup_steps", 0))
    return package_dataset(
        facts, {"vorticity": vorticity}, length=length, times=times, at_nodes=True, viscosity=viscosity, split=split,
        attributes=attributes,
    )  # fmt: skip


register_reader(Reader("APEBench data", _recognises, _open, priority=10))
