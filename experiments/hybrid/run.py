"""Does a learned correction make a coarse solver worth a finer one? Error and correlation time against wall-clock.

    python experiments/hybrid/run.py [--runs runs/hybrid]        # results/*.json, results.md, results.png

The truth is computed on 8n = 256 cells a side and seen through n = 32: forecasts are truncated to n, then scored. The
hybrid's solver runs on 3/2 n, which holds every mode of n. Solvers on n to 4n start from the truth on their own
grid, which the hybrid and the surrogate, on n, do not know; each steps with the longest step whose error is within 5 %
of that of its shortest. *From n*: the same solvers, started from what the hybrid starts from, the truth on n: what
there is to know of the start, taken forward almost without error. Seeds differ in weights and order.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

import fluidsurrogate as fs
from fluidsurrogate.core.files import read_json, write_json, write_text
from fluidsurrogate.data.conversion import to_dataset, to_inputs, to_states
from fluidsurrogate.data.layout import trajectory_coordinates
from fluidsurrogate.simulation.rollout import rollout, seconds_per_step
from fluidsurrogate.simulation.splits import split_of
from solvers import Stepper
from solvers.grid import Grid, resample

HERE = Path(__file__).parent
N, FACTORS, SEEDS, MODELS = 32, (1, 1.5, 2, 2.5, 3, 4), range(3), ("hybrid", "hybrid-2n", "surrogate")
STEPS_A_INTERVAL = (8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128)
ABOUT = f"""# A coarse solver with a learned correction

`python experiments/hybrid/run.py`: Kolmogorov flow, ν = 1e-3, the truth on {8 * N}², seen through n = {N}; 16 unseen
starts, 32 intervals of 0.25. `gcnn` over D4, 800 training steps, three seeds (mean ± standard deviation);
the solver of `hybrid` on 48² cells, 16 steps an interval, that of `hybrid-2n` on 64², 32 steps.

Correlation time: mean first time at which the correlation with the truth falls below 0.8 (≥: for some it did not).
Milliseconds: an interval of 16 trajectories on one core, float32, solvers at their best step.
"""


def experiment_of(*overrides: str) -> fs.Experiment:
    """The study's experiment."""
    return fs.Experiment.read(HERE / "hybrid.toml", overrides)


def seen(fine: xr.Dataset, detailed: fs.Experiment, experiment: fs.Experiment) -> xr.Dataset:
    """The truth on n."""
    (states, inputs), grids = (f(fine, detailed.spec) for f in (to_states, to_inputs)), (detailed, experiment)
    source, target = (e.spec.grid for e in grids)
    return to_dataset(
        experiment.spec, resample(states, source, target), coordinates=trajectory_coordinates(fine),
        inputs={name: resample(value, source, target) for name, value in inputs.items()},
    )  # fmt: skip


def scored(experiment: fs.Experiment, truth, forecast: Tensor) -> dict:
    """Error by time and correlation time of states on n."""
    dataset = to_dataset(experiment.spec, forecast, inputs=to_inputs(truth, experiment.spec))
    truth = truth.drop_vars(["split", "seed"]).assign_coords(trajectory=dataset["trajectory"], time=dataset["time"])
    scores = fs.compare({"f": dataset}, truth, metrics=[]).sel(source="f")
    return {
        "nrmse": [round(float(v), 5) for v in scores["nrmse"].values],
        "correlation_time": round(float(scores["correlation_time"].mean()), 4),
        "censored": int(scores["correlation_time_censored"].sum()),
    }


def solver_on(experiment: fs.Experiment, factor: float, steps: int) -> Stepper:
    """The solver on factor × n, `steps` inner steps of second order an interval."""
    interval = experiment.data.interval
    grid = Grid.square(round(factor * N), experiment.spec.grid.length[0])
    return experiment.build_flow().solver(grid, interval=interval, dt=interval / steps, order=2)


def solved(experiment: fs.Experiment, truth, start: Tensor, source: Grid, factor: float, steps: int) -> dict:
    """The solver's forecast from a start on `source`, scored."""
    solver = solver_on(experiment, factor, steps)
    with torch.no_grad():
        states = rollout(solver, resample(start, source, solver.spec.grid), experiment.data.steps)
    states = resample(states, solver.spec.grid, experiment.spec.grid).float()
    return {"factor": factor, "steps": steps, **scored(experiment, truth, states)}


def run_solvers(experiment: fs.Experiment, truth, fine: Tensor) -> None:
    """Each grid with each number of steps; at its best, from the start on n."""
    path, finest = HERE / "results" / "solvers.json", Grid.square(FACTORS[-1] * N, experiment.spec.grid.length[0])
    if not path.exists():
        rows = [solved(experiment, truth, fine[:, 0], finest, f, s) for f in FACTORS for s in STEPS_A_INTERVAL]
        write_json(path, rows)
    if not (from_n := HERE / "results" / "solvers-from-n.json").exists():
        source = experiment.spec.grid
        start = resample(fine[:, 0], finest, source)
        finer = [row for factor, row in best(read_json(path)).items() if factor > 1]
        write_json(from_n, [solved(experiment, truth, start, source, row["factor"], row["steps"]) for row in finer])


def best(rows: list[dict]) -> dict[float, dict]:
    """Of each grid, the row of the longest step whose mean error is within 5 % of the least."""
    chosen = {}
    for factor in FACTORS:
        own = [row for row in rows if row["factor"] == factor]
        errors = [np.nan_to_num(np.mean(row["nrmse"][1:]), nan=np.inf, posinf=np.inf) for row in own]
        chosen[factor] = next(row for row, error in zip(own, errors, strict=True) if error <= 1.05 * min(errors))
    return chosen


def run_models(data, runs: Path) -> None:
    """Train and score every seed."""
    for seed in SEEDS:
        for name in MODELS:
            path, experiment = HERE / "results" / f"{name}-{seed}.json", experiment_of(f"seed={seed}")
            if path.exists():
                continue
            model = fs.train(experiment, data, [name])[name]
            fs.save(model, runs / f"{name}-{seed}")
            test = split_of(data, "test", experiment)
            states, inputs = to_states(test, model.spec), to_inputs(test, model.spec)
            with torch.no_grad():
                forecast = rollout(model, states[:, 0], experiment.data.steps, inputs)
            write_json(path, {"parameters": model.parameters, **scored(experiment, test, forecast)})


def time_all(experiment: fs.Experiment, fine: Tensor, data, runs: Path) -> None:
    """Milliseconds that an interval of one batch of 16 takes each, at the solvers' best steps."""
    path = HERE / "results" / "seconds.json"
    if path.exists():
        return
    seconds, finest = {}, Grid.square(4 * N, experiment.spec.grid.length[0])
    for factor, row in best(read_json(HERE / "results" / "solvers.json")).items():
        solver = solver_on(experiment, factor, row["steps"])
        seconds |= seconds_per_step({f"solver {factor:g}n": solver}, resample(fine[:, 0], finest, solver.spec.grid))
    inputs = to_inputs(split_of(data, "test", experiment), experiment.spec)
    start = resample(fine[:, 0], finest, experiment.spec.grid)
    models = {name: fs.load(runs / f"{name}-0") for name in MODELS}
    seconds |= seconds_per_step(models, start, inputs)
    write_json(path, {name: round(1e3 * value, 3) for name, value in seconds.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/hybrid"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("fluidsurrogate").setLevel(logging.ERROR)
    experiment, detailed = experiment_of(), experiment_of(f"grid.store={4 * N}", "models={}")
    fine = fs.generate(detailed, arguments.runs)
    data = seen(fine, detailed, experiment)
    fine_states = to_states(split_of(fine, "test", detailed), detailed.spec)[:, :1]
    truth = split_of(data, "test", experiment)
    run_solvers(experiment, truth, fine_states)
    run_models(data, arguments.runs)
    time_all(experiment, fine_states, data, arguments.runs)
    write_text(HERE / "results.md", table())
    draw()


def sources() -> dict[str, list[dict]]:
    """What the table and the figure show: of each source, its results by seed."""
    rows = {f"solver {row['factor']:g}n": [row] for row in best(read_json(HERE / "results" / "solvers.json")).values()}
    from_n = read_json(HERE / "results" / "solvers-from-n.json")
    rows |= {f"solver {row['factor']:g}n, from n": [row] for row in from_n}
    return rows | {name: [read_json(HERE / "results" / f"{name}-{seed}.json") for seed in SEEDS] for name in MODELS}


def table() -> str:
    """A row a forecaster."""
    solvers, seconds = read_json(HERE / "results" / "solvers.json"), read_json(HERE / "results" / "seconds.json")
    head = ["", "steps an interval", "nRMSE, 1 interval", "8", "16", "32", "correlation time", "ms an interval"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, runs in sources().items():
        errors, times = np.array([run["nrmse"] for run in runs]), np.array([run["correlation_time"] for run in runs])
        cells = [f"{name} ({round(N * runs[0]['factor'])}²)" if "factor" in runs[0] else f"{name} (n = {N})"]
        cells.append(str(runs[0].get("steps", "-")))
        cells += [_mean(errors[:, t]) for t in (1, 8, 16, 32)]
        censored = any(run["censored"] for run in runs)
        cells.append(f"{'≥ ' if censored else ''}{_mean(times)}")
        lines.append("| " + " | ".join([*cells, f"{seconds[name.removesuffix(', from n')]:.3g}"]) + " |")
    scan = [
        "| grid | " + " | ".join(f"{s} steps" for s in STEPS_A_INTERVAL) + " |",
        "|" + "---|" * (len(STEPS_A_INTERVAL) + 1),
    ]
    for factor in FACTORS:
        own = {row["steps"]: row["nrmse"][16] for row in solvers if row["factor"] == factor}
        values = [f"{own[s]:.3f}" if np.isfinite(own[s]) else "blows up" for s in STEPS_A_INTERVAL]
        scan.append(f"| {round(factor * N)}² | " + " | ".join(values) + " |")
    finding = HERE / "finding.md"
    under = "nRMSE after 16 intervals of the solver by grid and number of steps (second order, ETDRK2):"
    text = finding.read_text(encoding="utf-8") if finding.exists() else ""
    return "\n".join([ABOUT, *lines, "", under, "", *scan, "", text])


def draw() -> None:
    """results.png: error after 1 and 8 intervals and correlation time, from the same starts, against the time."""
    from matplotlib.figure import Figure

    seconds = read_json(HERE / "results" / "seconds.json")
    values = {
        "nRMSE after 1 interval": lambda run: run["nrmse"][1],
        "nRMSE after 8 intervals": lambda run: run["nrmse"][8],
        "correlation time": lambda run: run["correlation_time"],
    }
    figure = Figure(figsize=(11.5, 3.8), layout="constrained")
    for axis, (label, value) in zip(figure.subplots(1, 3), values.items(), strict=True):
        for name, runs in sources().items():
            is_solver = name.startswith("solver")
            if is_solver and not (name.endswith("from n") or name == "solver 1n"):
                continue  # started from what nobody else knows
            at, each = seconds[name.removesuffix(", from n")], [value(run) for run in runs]
            colour = "#222222" if is_solver else "#0072b2" if name == "surrogate" else "#d55e00"
            axis.errorbar(at, np.mean(each), np.std(each), fmt="o" if is_solver else "s", color=colour, capsize=2)
            short = f"{round(N * runs[0]['factor'])}²" if is_solver else name
            axis.annotate(short, (at, float(np.mean(each))), (5, 4), textcoords="offset points", fontsize=7)
        axis.set(xscale="log", xlabel="ms an interval of 16 trajectories, one core", ylabel=label)
        if "nRMSE" in label:
            axis.set_yscale("log")
        axis.grid(alpha=0.25, which="both")
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Black: the solver on n² cells, from the same starts", fontsize=9)
    figure.savefig(HERE / "results.png", dpi=130)


def _mean(values: np.ndarray) -> str:
    spread = f" ± {values.std(ddof=1):.2g}" if len(values) > 1 else ""
    return f"{values.mean():.3g}{spread}"


if __name__ == "__main__":
    main()
