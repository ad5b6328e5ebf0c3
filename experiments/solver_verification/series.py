"""A long run of a flow in three dimensions as a table (CSV), a row for each interval, and the state to go on from.

PyTorch and NumPy only, so that the scripts that use it run on a bare machine with a GPU.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from solvers import NavierStokes3D

Row = dict[str, float]


class Series:
    """Rows of numbers, and the state after the last of them, in NAME.pt; the rows also in NAME.csv.

    Parameters
    ----------
    tables : Path
        Where NAME.csv lies.
    states : Path
        Where NAME.pt lies.
    name : str
        What is computed, with all numbers that matter: other numbers, another name.
    """

    def __init__(self, tables: Path, states: Path, name: str) -> None:
        for folder in (tables, states):
            folder.mkdir(parents=True, exist_ok=True)
        self.table, self.kept = tables / f"{name}.csv", states / f"{name}.pt"
        self.rows: list[Row] = []
        self.state: torch.Tensor | None = None
        if self.kept.exists():
            held = torch.load(self.kept, map_location="cpu", weights_only=True)
            self.rows, self.state = held["rows"], held["state"]

    def run(
        self,
        solver: NavierStokes3D,
        start: Callable[[], torch.Tensor],
        measure: Callable[[torch.Tensor], Row],
        until: float,
        seconds: float,
        save_every: float = 60.0,
    ) -> bool:
        """Go on until a time of the flow, or for some seconds; return whether the end was reached."""
        carry = solver.start((start() if self.state is None else self.state).to(solver.device))
        if not self.rows:
            first = {"interval": 0.0, "time": 0.0, "steps": 0.0, "seconds": 0.0}
            self.rows.append(first | measure(solver.state(carry)))
        done, before = round(self.rows[-1]["interval"]), self.rows[-1]["seconds"]
        began = saved = time.perf_counter()
        while done * solver.spec.interval < until - 1e-9:
            if time.perf_counter() - began > seconds:
                break
            carry, done = solver.advance(carry), done + 1
            numbers = measure(solver.state(carry))
            row = {"interval": done, "time": done * solver.spec.interval, "steps": carry.steps_taken[0]}
            self.rows.append(row | {"seconds": before + time.perf_counter() - began} | numbers)
            print(" ".join(f"{k} {v:.6g}" for k, v in list(self.rows[-1].items())[:10]), flush=True)
            if time.perf_counter() - saved > save_every:
                self._save(solver.state(carry))
                saved = time.perf_counter()
        self._save(solver.state(carry))
        return done * solver.spec.interval >= until - 1e-9

    def _save(self, state: torch.Tensor) -> None:
        """Write beside the names, then rename."""
        part, table = (path.with_suffix(path.suffix + ".part") for path in (self.kept, self.table))
        torch.save({"rows": self.rows, "state": state.cpu()}, part)
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            writer.writerows({k: f"{v:.9g}" for k, v in row.items()} for row in self.rows)
        os.replace(part, self.kept)
        os.replace(table, self.table)


def read(path: Path) -> dict[str, list[float]]:
    """Return the columns of a table."""
    with path.open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return {name: [row[name] for row in rows] for name in rows[0]}


def peak(times: list[float], values: list[float]) -> tuple[float, float]:
    """Return time and height of the first maximum near the largest value, by a parabola through three points.

    At Re = 400 the dissipation has two, at t = 6.65 and 8.7, of which the second is higher by less than 1 %.
    """
    inner = range(1, len(values) - 1)
    i = next((i for i in inner if values[i - 1] < values[i] >= values[i + 1] and values[i] > 0.9 * max(values)), None)
    i = max(range(len(values)), key=values.__getitem__) if i is None else i
    if i in (0, len(values) - 1):
        return times[i], values[i]
    before, here, after = values[i - 1 : i + 2]
    offset = 0.5 * (before - after) / (before - 2 * here + after)
    return times[i] + offset * (times[i + 1] - times[i]), here - 0.25 * (before - after) * offset


def slopes(times: list[float], values: list[float]) -> Iterator[float]:
    """Yield the central differences of a column, without its ends."""
    for i in range(1, len(values) - 1):
        yield (values[i + 1] - values[i - 1]) / (times[i + 1] - times[i - 1])
