"""The Navier–Stokes files of the Fourier neural operator, `.mat`: vorticity on the unit square with a steady forcing.

Layout and forcing are those of the published generator (Li et al. 2021, arXiv:2010.08895): `a` (n, x, y) is the
vorticity at t = 0, `u` (n, x, y, t) the vorticity at the later times `t`, at the nodes x = i / n. The files state
neither box, viscosity nor forcing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.readers.facts import DEFAULT, FILE, FLAG, Facts
from fluidsurrogate.data.readers.matlab_arrays import is_matlab_file, open_matlab_arrays
from fluidsurrogate.data.readers.package_layout import add_time_before, lay_out, package_dataset, parse_axes
from fluidsurrogate.data.readers.registry import Reader, register_reader
from fluidsurrogate.data.readers.stored_arrays import StoredArray

AMPLITUDE = 0.1  # of the forcing, in 1/s²
VISCOSITY_IN_NAME = re.compile(r"(?:^|_)V(\d+(?:\.\d+)?e-?\d+)(?:_|\.|$)", re.IGNORECASE)
PAIRS = ({"coeff", "sol"}, {"x", "y"})


def _open(path: Path, facts: Facts) -> xr.Dataset:
    return read_operator_arrays(path, facts, *open_matlab_arrays(path))


def read_operator_arrays(
    path: Path, facts: Facts, arrays: Mapping[str, StoredArray], is_reversed: bool
) -> xr.Dataset:  # fmt: skip
    """Return the trajectories in the arrays `a`, `u`, `t` of a file, MATLAB's or another with the same arrays.

    Parameters
    ----------
    path : Path
        The file.
    facts : Facts
        The facts about it.
    arrays : mapping of str to StoredArray
        Its arrays by name.
    is_reversed : bool
        Whether the last axis of the arrays is the first of the layout.

    Returns
    -------
    xr.Dataset
        In the layout of this package.

    Raises
    ------
    UsageError
        If there are no trajectories, or a fact is missing.
    """
    names = facts.given.get("names") or {}
    name = names.get("vorticity", "u")
    if name not in arrays or arrays[name].ndim < 3:
        _refuse(path, facts, arrays)
    axes = facts.take("axes", default="n x y t", reason="the published generator of these data puts x first")
    if arrays[name].ndim != len(parse_axes(axes)):
        _refuse(path, facts, arrays)

    def order(axes: str) -> str:
        letters = [letter for letter in axes.replace(",", " ") if letter != " "]
        return " ".join(reversed(letters) if is_reversed else letters)

    vorticity = lay_out(arrays[name], order(axes))
    facts.note("variables", f"vorticity = {name}", FLAG if "vorticity" in names else DEFAULT)
    times = _times(facts, arrays, vorticity.sizes["time"])
    initial = arrays.get("a")
    step = float(times[1] - times[0]) if len(times) > 1 else float(times[0])
    if initial is not None and initial.ndim == 3 and np.isclose(times[0], step):
        vorticity = add_time_before(lay_out(initial, order(axes.replace("t", ""))), vorticity)
        times = np.concatenate([[0.0], times])
        facts.say(f"the state at t = 0, variable a, was put before {name}, which begins at t = {times[1]:g}")
    length = facts.take("length", default=1.0, reason="these data are of the unit square; the file does not state it")
    fields = {"vorticity": vorticity}
    if names.get("forcing") != "none":
        fields["forcing"] = _forcing(vorticity.sizes["y"], vorticity.sizes["x"])
        facts.note("forcing", f"{AMPLITUDE} (sin 2π(x + y) + cos 2π(x + y)) at the nodes", DEFAULT,
                   "the published generator; the file does not state it; --map forcing=none leaves it out")  # fmt: skip
    return package_dataset(
        facts, fields, length=length, times=times, at_nodes=True, viscosity=_viscosity(path, facts)
    )  # fmt: skip


def _refuse(path: Path, facts: Facts, arrays: Mapping[str, StoredArray]) -> None:
    """Refuse a MATLAB file without a variable of trajectories."""
    found = ", ".join(f"{name} {array.shape}" for name, array in sorted(arrays.items()))
    if any(pair <= set(arrays) for pair in PAIRS) or ("u" in arrays and arrays["u"].ndim < 3):
        raise UsageError(f"{path}: holds pairs of inputs and solutions or fields of one dimension, no trajectories in "
                         f"two or three ({found}): this package learns steps in time")  # fmt: skip
    raise UsageError(f"{path}: which variable is the vorticity over time, and which axis is what? It has {found}: "
                     f'fluidsurrogate import {path} --map vorticity=NAME --axes "n x y t" --to FOLDER')  # fmt: skip


def _times(facts: Facts, arrays: Mapping[str, StoredArray], count: int) -> np.ndarray:
    """Return the times of the states."""
    if "t" in arrays and np.prod(arrays["t"].shape) == count:
        times = np.ravel(arrays["t"][...]).astype(np.float64)
        if count > 1:
            facts.take("interval", in_file=float(np.mean(np.diff(times))), reason="variable t")
        return times
    return facts.take("interval") * np.arange(1, count + 1)


def _viscosity(path: Path, facts: Facts) -> float:
    """Return the viscosity: the user's, else that in the name of the file."""
    in_name = VISCOSITY_IN_NAME.search(path.name)
    if facts.given.get("viscosity") is None and in_name:
        return facts.note("viscosity", float(in_name[1]), FILE, "its name only; --viscosity overrides it")
    return facts.take("viscosity")


def _forcing(rows: int, columns: int) -> xr.Variable:
    """Return the forcing of the published generator at the nodes."""
    y, x = np.arange(rows)[:, None] / rows, np.arange(columns)[None, :] / columns
    phase = 2 * np.pi * (x + y)
    return xr.Variable(("y", "x"), AMPLITUDE * (np.sin(phase) + np.cos(phase)))


register_reader(Reader("neural-operator MATLAB file", is_matlab_file, _open, priority=5))
