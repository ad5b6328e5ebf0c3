"""Faults of a dataset that its labels do not show: missing values, padding, repeats, leaks, normalised values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import xarray as xr

from fluidsurrogate.data.coordinates import coordinate_tolerance, spatial_dims
from fluidsurrogate.data.layout import field_names

MAX_READ_BYTES = 2**28  # of a larger dataset only some trajectories are looked at
SENTINELS = (-999.9, -999.0, -9999.0, -99999.0, -32768.0, -32767.0, 9999.0, 99999.0)  # and anything of 1e15 or more
LARGEST = 1e15
FAR = 5.0  # how many times the size of the other values such a number must be
STANDARD = 0.02  # how far mean and standard deviation may be from 0 and 1 in data that look normalised
MIN_STANDARD_NUMBERS = 10_000  # of fewer numbers, mean 0 and standard deviation 1 may be chance


@final
@dataclass(frozen=True)
class Fault:
    """Something wrong with a dataset.

    Parameters
    ----------
    kind : str
        A short name: "not finite", "sentinel", "padding", "duplicate frames", "leak", "repeated trajectory",
        "uneven times", "normalised" or "mean vorticity".
    message : str
        What is wrong, where, and what to do: one line.
    is_error : bool
        Whether the data should not be trained on; otherwise it is a warning.
    """

    kind: str
    message: str
    is_error: bool = True


def find_faults(dataset: xr.Dataset, splits: Sequence[str] | None = None) -> list[Fault]:
    """Look through a dataset, trajectory by trajectory, for faults that would spoil training in silence.

    Parameters
    ----------
    dataset : xr.Dataset
        States in the layout of the package, opened lazily or not.
    splits : sequence of str, optional
        What each trajectory is for; by default the coordinate `split`.

    Returns
    -------
    list of Fault
        Errors first.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from fluidsurrogate.evaluation.data_faults import find_faults
    >>> states = np.random.default_rng(0).standard_normal((2, 4, 8, 8))
    >>> states -= states.mean(axis=(2, 3), keepdims=True)
    >>> states[1, 2] = states[1, 1]
    >>> dataset = xr.Dataset({"vorticity": (("trajectory", "time", "y", "x"), states)})
    >>> [fault.kind for fault in find_faults(dataset)]
    ['duplicate frames']
    """
    if "trajectory" not in dataset.dims:
        dataset = dataset.expand_dims("trajectory")
    if splits is None and "split" in dataset.coords:
        splits = [str(value) for value in np.ravel(dataset["split"].values)]
    faults = list(_uneven_times(dataset))
    for name in field_names(dataset):
        if dataset[name].dtype.kind in "fiu" and {"trajectory", "time"} <= set(dataset[name].dims):
            faults += _Scan(name, dataset[name], splits).faults()
    return sorted(faults, key=lambda fault: not fault.is_error)


class _Scan:
    """One pass over the trajectories of a field."""

    def __init__(self, name: str, variable: xr.DataArray, splits: Sequence[str] | None) -> None:
        self.name, self.splits = name, splits
        dims = ("trajectory", "time", *(d for d in variable.dims if d not in ("trajectory", "time")))
        self.variable, self.space = variable.transpose(*dims), len(spatial_dims(variable))
        self.count, self.count_bad = variable.sizes["trajectory"], 0
        keep = max(2, int(self.count * MAX_READ_BYTES / max(1, variable.nbytes)))
        self.chosen = np.unique(np.linspace(0, self.count - 1, min(self.count, keep)).round().astype(int))
        self.first: dict[str, tuple[str, int]] = {}  # a fault is said once, with the first place and a count
        self.places: dict[str, int] = {}
        self.frames: dict[str, tuple[int, int]] = {}  # where each frame was first seen
        self.copies: dict[int, int] = {}
        self.leaks: dict[int, int] = {}
        self.numbers, self.total, self.squares, self.means = 0, 0.0, 0.0, []  # type: ignore[var-annotated]

    def faults(self) -> Iterator[Fault]:
        """Read the trajectories and yield what is wrong."""
        for i in self.chosen.tolist():
            self._look_at(i, self.variable.isel(trajectory=i).values)
        for kind, (message, _) in self.first.items():
            more = f" (and in {self.places[kind] - 1} more)" if self.places[kind] > 1 else ""
            yield Fault(kind, message.replace("@", more, 1))
        yield from self._repeats()
        yield from self._statistics()

    def _look_at(self, i: int, values: np.ndarray) -> None:
        """Look at one trajectory, (time, ..., y, x)."""
        label = f"{self.name!r} of trajectory {i}"
        flat = values.reshape(len(values), -1)
        finite = np.isfinite(flat).all(1)
        if not finite.all():
            at = int(np.argmin(finite))
            self._note("not finite", i, f"{label}@ is NaN or infinite from time {at} on: leave such trajectories out")
            return
        if (sentinel := _sentinel(flat)) is not None:
            self._note("sentinel", i, f"{label}@ holds {sentinel:.6g}, which stands for missing values: leave such "
                                      "trajectories out, or mask and fill them")  # fmt: skip
            return
        blank = np.asarray(~flat.any(1))
        padded = blank & np.logical_or.accumulate(~blank)  # a flow may start from rest
        if padded.any():
            self._note("padding", i, f"{label}@ is zero everywhere at time {int(np.argmax(padded))}, as if padded: cut "
                                     "these times off")  # fmt: skip
        elif blank.all():
            self._note("padding", i, f"{label}@ is zero everywhere, as if padded: leave such trajectories out")
        elif (edge := _blank_edge(values, self.space)) is not None:
            self._note("padding", i, f"{label}@ is zero along {edge} at all times, as if padded: cut these cells off")
        same = np.asarray((flat[1:] == flat[:-1]).all(1) & ~blank[1:])
        if same.any() and not same.all():
            at, pairs = int(np.argmax(same)), int(same.sum())
            count = f", {pairs} such pairs in all" if pairs > 1 else ""
            self._note("duplicate frames", i, f"{label}@ holds the same state at times {at} and {at + 1}{count}: drop "
                                              "the repeats")  # fmt: skip
        self._remember(i, flat, blank)
        self.numbers += flat.size
        self.total += float(flat.sum(dtype=np.float64))
        self.squares += float(np.square(flat, dtype=np.float64).sum())
        size = np.sqrt(np.square(flat, dtype=np.float64).mean())
        self.means.append(abs(float(flat.mean(dtype=np.float64))) / size if size > 0 else 0.0)

    def _note(self, kind: str, i: int, message: str) -> None:
        self.first.setdefault(kind, (message, i))
        self.places[kind] = self.places.get(kind, 0) + 1

    def _remember(self, i: int, flat: np.ndarray, blank: np.ndarray) -> None:
        """Compare the frames with those of earlier trajectories, by a hash of their values in single precision."""
        shared: dict[int, int] = {}
        for t in np.flatnonzero(~blank):
            key = hashlib.blake2b(np.ascontiguousarray(flat[t], dtype="<f4").tobytes(), digest_size=12).hexdigest()
            j, _ = self.frames.setdefault(key, (i, int(t)))
            if j != i:
                shared[j] = shared.get(j, 0) + 1
        for j, count in shared.items():
            if count >= min(2, len(flat)):  # a start alone may be shared, by flows of another viscosity say
                self.copies.setdefault(i, j)
                if self._split(i) != self._split(j):
                    self.leaks.setdefault(i, j)

    def _split(self, i: int) -> str:
        return self.splits[i] if self.splits is not None and i < len(self.splits) else ""

    def _repeats(self) -> Iterator[Fault]:
        """Yield trajectories that share states, across splits or within one."""
        for repeats, kind in ((self.leaks, "leak"), (self.copies, "repeated trajectory")):
            if repeats:
                i, j = next(iter(repeats.items()))
                where = [f"trajectory {n}{f' ({self._split(n)})' if self._split(n) else ''}" for n in (j, i)]
                more = f"; so do {len(repeats) - 1} more" if len(repeats) > 1 else ""
                advice = "leave the repeats out"
                if kind == "leak":
                    advice = "scores would be too good: make the splits of different trajectories"
                yield Fault(kind, f"{self.name!r}: {where[0]} and {where[1]} hold the same states{more}: {advice}",
                            is_error=kind == "leak")  # fmt: skip
                return

    def _statistics(self) -> Iterator[Fault]:
        """Yield that values look normalised, or that a vorticity has a mean."""
        if not self.numbers:
            return
        mean = self.total / self.numbers
        deviation = float(np.sqrt(max(0.0, self.squares / self.numbers - mean**2)))
        if self.numbers >= MIN_STANDARD_NUMBERS and abs(mean) < STANDARD and abs(deviation - 1) < STANDARD / 4:
            yield Fault("normalised", f"{self.name!r} has mean {mean:.3f} and standard deviation {deviation:.3f}: if "
                        "it was normalised, multiply it by the deviation that it was divided by", False)  # fmt: skip
        if self.name == "vorticity" and self.means and max(self.means) > 0.01 and self.space == 2:
            yield Fault("mean vorticity", f"'vorticity' has a mean over the box of {max(self.means):.1%} of its size, "
                        "which a periodic flow has not: were the values shifted?", False)  # fmt: skip


def _uneven_times(dataset: xr.Dataset) -> Iterator[Fault]:
    """Yield that the stored times are not evenly spaced."""
    if "time" not in dataset.coords or dataset["time"].dims != ("time",) or dataset["time"].dtype.kind not in "fiu":
        return
    stored = dataset["time"].values
    if len(stored) < 3:
        return
    steps = np.diff(stored.astype(np.float64))
    interval = float(np.median(steps))
    if not (np.abs(steps - interval) <= 2 * coordinate_tolerance(stored, abs(interval))).all():
        yield Fault("uneven times", f"the times are uneven: intervals from {steps.min():.6g} to {steps.max():.6g}; a "
                    "step needs one interval: select times that have one, or interpolate")  # fmt: skip


def _sentinel(flat: np.ndarray) -> float | None:
    """Return a number that stands for missing values: a usual one, or one of 1e15 or more, far beyond the others."""
    largest = float(np.abs(flat).max())
    for number in (*SENTINELS, *([float(flat.flat[int(np.abs(flat).argmax())])] if largest >= LARGEST else [])):
        if abs(number) > 1.001 * largest:
            continue
        missing = flat.astype(np.float32) == np.float32(number)
        others = flat[~missing]
        size = float(np.sqrt(np.square(others, dtype=np.float64).mean())) if others.size else 0.0
        if missing.sum() > 1 and abs(number) > FAR * size:
            return number
    return None


def _blank_edge(values: np.ndarray, space: int) -> str | None:
    """Return the axis whose last or first cells are exactly zero at all times."""
    for back in range(1, space + 1):
        moved = np.moveaxis(values, -back, 0)
        blank = np.asarray(~moved.reshape(len(moved), -1).any(1))
        if (blank[-1] or blank[0]) and 2 <= blank.sum() < len(blank):  # a single line may be a wall
            return f"the {'last' if blank[-1] else 'first'} {int(blank.sum())} cells of {'xyz'[back - 1]}"
    return None
