"""The demo's networks on grids that they were not trained on: results.md.

    python experiments/other_grid/run.py [FOLDER]      # the demo's models, trained for 1,000 steps

Each truth is the solver's, on the grid in question: twice the box with the same cells (its starts have the same
wavenumbers per length: twice as many waves across the box), and the same box, starts and all, with finer cells.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import Experiment, Persistence
from fluidsurrogate.cli import main as fluidsurrogate
from fluidsurrogate.data.conversion import to_dataset, to_states
from fluidsurrogate.data.grids import grid_of
from fluidsurrogate.data.layout import trajectory_coordinates
from fluidsurrogate.simulation.rollout import rollout
from solvers import Resampled, Stepper

HERE = Path(__file__).parent
DEMO = HERE.parent / "demo.toml"
STEPS = 10
CASES = {
    "own grid, 32² on 2π": [],
    "same cells, 64² on 4π": [
        "grid.n=192",
        "grid.store=64",
        "grid.length=12.566370614359172",
        "flow.wavenumber=8",
        "flow.bandwidth=2",
    ],
    "finer cells, 48² on 2π": ["grid.store=48"],
    "finer cells, 64² on 2π": ["grid.store=64"],
}
HEAD = """# The demo's models on other grids

nRMSE after one and after ten intervals, means over 16 unseen trajectories, against the truth on the grid in question;
trained on 32² cells on 2π, one seed. Written by `python experiments/other_grid/run.py` on {today}; finding.md by hand.

"""


def truth_of(overrides: list[str]) -> xr.Dataset:
    """Sixteen unseen trajectories of the demo's flow, by the solver."""
    few = [
        "models={}",
        "compare.solvers=[]",
        "data.train=1",
        "data.valid=1",
        f"data.steps={STEPS}",
        f"data.test_steps={STEPS}",
    ]
    data = fs.generate(Experiment.read(DEMO, [*few, *overrides]))
    return data.isel(trajectory=data["split"].values == "test")


def score(stepper: Stepper, truth: xr.Dataset) -> str:
    """nRMSE at the first and the last step."""
    with torch.no_grad():
        rolled = rollout(stepper, to_states(truth, stepper.spec)[:, 0], STEPS)
    forecast = to_dataset(stepper.spec, rolled, coordinates=trajectory_coordinates(truth))
    error = fs.compare({"it": forecast}, truth, metrics=[])["nrmse"].squeeze("source")
    return f"{float(error[1]):.3f}, {float(error[-1]):.3f}"


def main(folder: Path) -> None:
    """Score every model on every grid and write the table."""
    options = ["--out", str(folder), "--set", "train.steps=1000"]
    if any(fluidsurrogate([stage, str(DEMO), *options]) for stage in ("generate", "train")):
        raise SystemExit(2)
    truths = {case: truth_of(overrides) for case, overrides in CASES.items()}
    models = {name: fs.load(folder / "models" / name) for name in Experiment.read(DEMO).models}
    spec = next(iter(models.values())).spec
    rows = {"persistence": [score(Persistence(replace(spec, grid=grid_of(t))), t) for t in truths.values()]}
    for name, model in models.items():
        rows[name] = [score(fs.move_to_grid(model, grid_of(truth)), truth) for truth in truths.values()]
    coarse: dict[str, Stepper] = {**models, "solver": Experiment.read(DEMO).build_baseline_solvers()["solver-32"]}
    for name, stepper in coarse.items():
        finer = [score(Resampled(stepper, grid_of(truth)), truth) for truth in list(truths.values())[2:]]
        rows[f"{name} on 32², seen on the finer grid"] = ["", "", *finer]
    lines = [f"| | {' | '.join(truths)} |", "|---|" + "---|" * len(truths)]
    lines += [f"| {name} | {' | '.join(row)} |" for name, row in rows.items()]
    finding = (HERE / "finding.md").read_text() if (HERE / "finding.md").exists() else ""
    (HERE / "results.md").write_text(HEAD.format(today=date.today()) + "\n".join(lines) + "\n\n" + finding)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("runs/other_grid"))
