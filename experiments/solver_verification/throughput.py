"""How fast `fluidsurrogate generate` makes trajectories, and that its memory does not grow with their number."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import xarray as xr
from record import Row

EXPERIMENT = """
name = "throughput"

[grid]
n = 64

[flow]
kind = "decaying"
viscosity = 2e-3
spin_up = 1.0

[data]
train = {train}
valid = 1
test = 1
interval = 0.25
steps = 4
"""


def generated(trajectories: int) -> tuple[float, float, float]:
    """Seconds, peak MiB of the process and MB of the data of one `generate` into a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        toml = Path(folder) / "throughput.toml"
        toml.write_text(EXPERIMENT.format(train=trajectories - 2), encoding="utf-8")
        command = [sys.executable, "-m", "fluidsurrogate", "generate", str(toml), "--out", str(Path(folder) / "out")]
        began = time.perf_counter()
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)  # it has been waited for
        seconds = time.perf_counter() - began
        store = Path(folder) / "out" / "data.zarr"
        with xr.open_zarr(store) as data:
            assert process.returncode == 0
            assert data.sizes["trajectory"] == trajectories
            assert bool(data["vorticity"].isel(trajectory=-1).notnull().all())
        size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    return seconds, usage.ru_maxrss / 1024, size / 1e6


def rows() -> list[Row]:
    """100 and 1,000 trajectories of decaying flow at 64², float32, five stored states after a spin-up, one thread."""
    few, many = generated(100), generated(1000)
    ratio = many[1] / few[1]
    start_up = (1000 * few[0] - 100 * many[0]) / 900
    return [
        Row("trajectories a second, start-up included", "", "",
            f"{1000 / many[0]:.1f} (1,000 in {many[0]:.0f} s; some {start_up:.0f} s to start up)"),
        Row("peak memory of 1,000 against 100", "the process's ru_maxrss", "within 10 %",
            f"{many[1]:.0f} MiB against {few[1]:.0f} MiB ({100 * (ratio - 1):+.1f} %)", abs(ratio - 1) <= 0.1),
        Row("size of the Zarr folder", "", "", f"{many[2]:.0f} MB for 1,000, {few[2]:.1f} MB for 100"),
    ]  # fmt: skip
