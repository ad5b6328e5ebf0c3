"""Navier–Stokes files of PDEArena: HDF5, x first, smoke and a velocity on the faces of the cells.

Layout: github.com/microsoft/pdearena, pdedatagen/navier_stokes.py (`generate_trajectories_smoke`): a group `train`,
`valid` or `test` holds `u` (n, t, x, y), the smoke at the cell centres, and `vx`, `vy`, PhiFlow's staggered velocity
without its last face, so that vx lies on the lower x faces and vy on the lower y faces. Velocities are 0 at the walls.
`x` and `y` are linspace(0, L, n), although the cells are L / n wide. `t` is linspace(tmin, tmax, states), although the
states are `dt` apart. `buo_y` is the force of the smoke along y. The viscosity is not in the file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.foreign_files import Axis, check_periodic, hdf5_if_any, on_axes
from fluidsurrogate.data.readers.package_layout import lay_out, shift_along, stack_components
from fluidsurrogate.data.readers.registry import Reader, register_reader
from fluidsurrogate.data.readers.stored_arrays import HDF5Array

SPLITS = ("train", "valid", "test")
ARRAYS = {"u", "vx", "vy", "t", "x", "y"}


def _recognises(path: Path) -> bool:
    with hdf5_if_any(path) as file:
        return any(set(file[split]) >= ARRAYS for split in SPLITS if split in file and hasattr(file[split], "keys"))


def _open(path: Path, facts: Facts) -> xr.Dataset:
    with hdf5_if_any(path) as file:
        split = next(s for s in SPLITS if s in file)
        group = file[split]
        numbers = {name: group[name][()] for name in group if name not in ("u", "vx", "vy")}
        states = group["u"].shape[1]
    check_periodic(facts, "the smoke of PDEArena flows between walls (its velocities are 0 there)")
    for name in ("x", "y", "dt"):
        if name in numbers and (numbers[name] != numbers[name][:1]).any():
            raise UsageError(f"{path}: {name!r} differs from trajectory to trajectory")
    axes = {}
    for name in ("x", "y"):
        count, length = len(numbers[name][0]), float(numbers[name][0, -1] - numbers[name][0, 0])
        axes[name] = Axis(count, length / count, length / count / 2)
    facts.say("x and y of the file count from wall to wall; the cells are L / n wide, and the samples at their centres")
    in_file = float(numbers["dt"][0]) if "dt" in numbers else None
    interval = facts.take("interval", in_file, reason="dt; the spacing of t is another and wrong")
    facts.note("axes", "n t x y", reason="the layout of PDEArena")
    facts.note("split", split, reason="the name of the group")
    smoke, vx, vy = (lay_out(HDF5Array(path, f"{split}/{name}"), "n t x y") for name in ("u", "vx", "vy"))
    velocity = stack_components(shift_along(vx, "x", 0.5), shift_along(vy, "y", 0.5))
    facts.say("the velocities lay on the lower faces of the cells and are moved to the centres, by a spectral shift of "
              "half a cell")  # fmt: skip
    fields = {"velocity": velocity, "tracer": smoke}
    if np.any(numbers.get("buo_y", 0)):
        buoyancy = np.broadcast_to(numbers["buo_y"].ravel(), velocity.sizes["trajectory"])
        gravity = np.stack([np.zeros_like(buoyancy), -buoyancy], axis=1)  # the force is −g θ here, + buo_y u there
        fields = {
            "velocity": velocity,
            "temperature": smoke,
            "gravity": xr.Variable(("trajectory", "component"), gravity),
        }
        facts.say("the smoke drives the flow: it counts as temperature, and gravity is (0, −buo_y)")
    viscosity = facts.take("viscosity", is_needed=False)
    return on_axes(facts, fields, axes, interval * np.arange(states), viscosity, split)


register_reader(Reader("file of PDEArena", _recognises, _open, priority=10))
