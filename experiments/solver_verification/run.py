"""The proof of the solver that takes too long for the tests.

    python experiments/solver_verification/run.py                 # the checks that have no result yet
    python experiments/solver_verification/run.py --only onsets   # one again (several: --only A --only B)

Each check keeps its numbers in results/NAME.json; results.md is made from all of them. `peers` needs Exponax 0.2.0
(pip install 'fluidsurrogate[peers]'), which brings the SciPy of `independent`. All of it takes some half an hour on
one core, of which `turbulence` takes twenty minutes where turbulence.nc is not there yet.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import accuracy
import closed_forms
import conservation
import gradients
import in_space
import independent
import onsets
import peers
import record
import throughput
import torch
import turbulence_figure

CHECKS: dict[str, tuple[str, Callable[[], list[record.Row]]]] = {
    "order": ("Order of accuracy in time", accuracy.order_in_time),
    "space": ("Convergence in space", accuracy.convergence_in_space),
    "peers": ("Another solver: Exponax 0.2.0", peers.rows),
    "space_peers": ("Another solver in three dimensions: Exponax 0.2.0", in_space.peer_rows),
    "independent": ("Another method: velocity, advective form, DOP853", independent.rows),
    "closed_forms": ("Closed forms", closed_forms.rows),
    "onsets": ("Onsets of instability", onsets.rows),
    "budgets": ("Budgets and invariants", conservation.budgets),
    "products": ("Product grids", conservation.products),
    "gradients": ("Gradients of a rollout", gradients.rows),
    "in_space": ("Three dimensions: closed forms, invariants, symmetries", in_space.rows),
    "runs_in_space": ("Three dimensions: Taylor–Green vortex and forced turbulence", in_space.run_rows),
    "throughput": ("Data sets", throughput.rows),
    "turbulence": ("Steady turbulence at 512², float32", turbulence_figure.rows),
}


def main() -> None:
    """Run what is asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(CHECKS), metavar="NAME", help=", ".join(CHECKS))
    only = parser.parse_args().only
    torch.set_num_threads(1)
    for name in only or [name for name in CHECKS if not record.path_of(name).exists()]:
        title, check = CHECKS[name]
        began = time.perf_counter()
        rows = check()
        record.write(name, title, rows, time.perf_counter() - began)
        for row in rows:
            print(f"{name}: {row.check}: {row.measured} (target {row.target}) {row.passed}", flush=True)
    part = record.HERE / "results.part"
    part.write_text(record.table(list(CHECKS)), encoding="utf-8")
    os.replace(part, record.HERE / "results.md")


if __name__ == "__main__":
    main()
