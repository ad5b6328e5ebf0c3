"""The demo end to end on a GPU, with its scores beside those that were committed from a CPU.

    python experiments/gpu/demo.py [--device cuda] [--out FILE] [--quick]

Data, training, forecasts and comparison, by `fluidsurrogate run`. Each run is one training with one seed: the two
devices round differently, so that a network's weights part during the training and its error differs as between two
seeds, while solvers and persistence must agree. With `--quick` it is the miniature of the tests, beside itself.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
DEMO, COMMITTED = ROOT / "experiments/demo.toml", ROOT / "experiments/demo/scores.csv"
HEADER = ["source", "nRMSE at 1 step, CPU", "here", "nRMSE at half time, CPU", "here", "nRMSE at the end, CPU", "here",
          "ms a step, CPU", "here"]  # fmt: skip


def run(toml: Path, out: Path, device: str) -> float:
    """Run the experiment, and return the seconds that it took."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "fluidsurrogate", "run", str(toml), "--out", str(out), "--device", device]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return time.perf_counter() - began


def scores_of(path: Path) -> dict[str, list[dict[str, str]]]:
    """The rows of each source, in the order of time."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    sources: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        sources.setdefault(row["source"], []).append(row)
    return sources


def side_by_side(cpu: dict[str, list[dict[str, str]]], here: dict[str, list[dict[str, str]]]) -> list[list[str]]:
    """One row for each source."""
    table = []
    for source in here:
        row = [source]
        for index in (1, len(here[source]) // 2, -1):
            row += [
                f"{float(scores[source][index]['nrmse']):.4f}" if source in scores else "-" for scores in (cpu, here)
            ]
        for scores in (cpu, here):
            seconds = scores[source][0].get("seconds_per_step", "") if source in scores else ""
            row.append(f"{1e3 * float(seconds):.2f}" if seconds else "-")
        table.append(row)
    return table


def main() -> None:
    """Run, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, help="file for the table")
    parser.add_argument("--quick", action="store_true", help="the miniature of the tests")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        own, committed, toml = Path(folder) / "own", COMMITTED, DEMO
        if arguments.quick:
            toml, committed = ROOT / "tests/miniature.toml", own / "scores.csv"
        took = run(toml, own, arguments.device)
        rows = side_by_side(scores_of(committed), scores_of(own / "scores.csv"))
    machine = torch.cuda.get_device_name() if arguments.device == "cuda" else "a CPU"
    lines = ["| " + " | ".join(line) + " |" for line in [HEADER, ["---"] * len(HEADER), *rows]]
    text = (
        f"# {'The miniature' if arguments.quick else 'The demo'} end to end\n\n{datetime.date.today()}, {machine}, "
        f"Python {platform.python_version()}, torch {torch.__version__}: {took:.0f} s from nothing to the pictures. "
        "What is compared, and how: `demo.py`.\n\n" + "\n".join(lines) + "\n"
    )
    sys.stderr.write(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
