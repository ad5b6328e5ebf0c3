"""How far a GPU's numbers are from the CPU's: every check of `tests/device_checks.py`, with the largest difference.

    python experiments/gpu/agreement.py [--device cuda] [--out FILE] [--quick]

The difference is relative to the norm of the CPU's numbers; a check fails where it exceeds the bound, which is that of
the tests. The table is written anew after every check.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import platform
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from device_checks import CHECKS, Device

HEADER = ["check", "numbers compared", "largest difference", "seconds", "outcome"]
LAST = ("training_goes_on", "whole_run", "generation", "calibration")  # the longest ones
QUICK = ("solver_with_fixed_steps, second", "functions_of_fields", "network, gcnn, plain", "loss, h1")


def outcome_of(name: str, device: Device) -> list[str]:
    """Run one check."""
    compared, largest = 0, 0.0
    checked = Device.check_numbers

    def check_numbers(self: Device, own: torch.Tensor, cpu: torch.Tensor, bound: float | None = None) -> None:
        nonlocal compared, largest
        if own.shape == cpu.shape:
            norm = float(cpu.norm())
            compared += own.numel()
            largest = max(largest, float((own - cpu).norm()) / norm if norm else 0.0)
        checked(self, own, cpu, bound)

    began, said = time.perf_counter(), "passed"
    with mock.patch.object(Device, "check_numbers", check_numbers), tempfile.TemporaryDirectory() as folder:
        try:
            CHECKS[name](device, Path(folder))
        except Exception as error:
            line = next(iter(str(error).splitlines()), "")
            said = f"FAILED: {type(error).__name__}: {line[:120]}".replace("|", "/")
    return [name, f"{compared:,}", f"{largest:.1e}", f"{time.perf_counter() - began:.1f}", said]


def main() -> None:
    """Run the checks, print them, and write the table; exit with 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--quick", action="store_true", help="four checks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    device, rows = Device(arguments.device), []
    machine = torch.cuda.get_device_name() if arguments.device == "cuda" else "a CPU, with itself"
    head = (
        f"# Agreement with the CPU\n\n{datetime.date.today()}, {machine}, Python {platform.python_version()}, torch "
        f"{torch.__version__}. What is measured, and how: `agreement.py`.\n\n"
    )
    for name in QUICK if arguments.quick else sorted(CHECKS, key=lambda name: name.startswith(LAST)):
        rows.append(outcome_of(name, device))
        sys.stderr.write(" | ".join(rows[-1]) + "\n")
        if arguments.out:
            lines = ["| " + " | ".join(line) + " |" for line in [HEADER, ["---"] * len(HEADER), *rows]]
            arguments.out.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")
    failed = sum(row[-1] != "passed" for row in rows)
    sys.stderr.write(f"{len(rows) - failed} of {len(rows)} passed\n")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
