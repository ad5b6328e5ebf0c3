"""Error against time: the solver on several grids, surrogates of several sizes and hybrids, from the same starts.

    python experiments/cost_accuracy/run.py [--processes 2] [--device cpu]     # results/*.json
    python experiments/cost_accuracy/run.py --time                             # times.json: on a quiet machine
    python experiments/cost_accuracy/run.py --table                            # results.md and results.png

Everybody starts from the same 32 x 32 states of decaying turbulence, which were computed on 96 x 96 cells, and is
compared with that truth on 32 x 32 (McGreivy & Hakim 2024, doi:10.1038/s42256-024-00897-5). The solver runs on 32² to
128² cells; on each grid with the longest step whose error after ten intervals is within 5 % of the least, in C++ and in
PyTorch. Surrogates are group CNNs of several widths that step by 0.25, and two that step by 1.25, beyond what the
solver's stability allows; hybrids correct a solver on 32² or 48² cells. All train for 900 steps, from every stored
state. Three seeds each. Times: a forecast to t = 2.5 of 16 starts, all in turn, the median; one thread and two.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate.core.files import read_json, write_json
from fluidsurrogate.data.conversion import to_dataset, to_states
from fluidsurrogate.data.layout import trajectory_coordinates
from fluidsurrogate.simulation.rollout import rollout
from solvers import Grid, Resampled, Stepper

sys.path.append(str(Path(__file__).parents[1]))
from study import markdown, one_thread, only, slug, spread, write_report

HERE = Path(__file__).parent
SEEDS, LEAD, INTERVAL = range(3), 2.5, 0.25
GRIDS, STEPS_AN_INTERVAL = (32, 40, 48, 60, 64, 80, 96, 128), (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20)
LOCAL = {"kind": "gcnn", "lifting_size": 3, "activation": "gated"}
SHORT, LONG = {**LOCAL, "dilations": [1, 2, 1]}, {**LOCAL, "dilations": [1, 2, 4, 2, 1]}
UNROLL = {"unroll": 3, "unroll_fraction": 0.2}
# The network, how many intervals its step spans, and how it is trained.
MODELS: dict[str, tuple[dict[str, Any], int, dict[str, Any]]] = {
    "gcnn, width 8": ({**SHORT, "width": 8}, 1, UNROLL),
    "gcnn, width 16": ({**SHORT, "width": 16}, 1, UNROLL),
    "gcnn, width 32": ({**SHORT, "width": 32}, 1, UNROLL),
    "gcnn, long step, width 16": ({**LONG, "width": 16}, 5, {}),
    "gcnn, long step, width 32": ({**LONG, "width": 32}, 5, {}),
    "hybrid on 32²": ({**SHORT, "width": 8, "solver": {"n": 32, "order": 2, "dt": 0.125}}, 1, UNROLL),
    "hybrid on 48²": ({**SHORT, "width": 8, "solver": {"n": 48, "order": 2, "dt": 0.0625}}, 1, UNROLL),
}


def folder_of(device: str) -> Path:
    """The results of a device."""
    return HERE / ("results" if device == "cpu" else f"results-{device}")


def times_of(device: str) -> Path:
    """The times of a device."""
    return HERE / ("times.json" if device == "cpu" else f"times-{device}.json")


def experiment_of(seed: int, device: str = "cpu", name: str | None = None) -> fs.Experiment:
    """The flow, with one network."""
    tree = fs.Experiment.read(HERE / "base.toml").tree()
    tree |= {"seed": seed, "device": device, "models": {}}
    if name is not None:
        network, every, options = MODELS[name]
        tree["models"] = {"network": network}
        tree["data"] |= {"interval": every * INTERVAL, "steps": (tree["data"]["steps"] - every + 1) // every}
        tree["train"] |= options
    return fs.Experiment.from_tree(tree)


def dataset(runs: Path, seed: int) -> xr.Dataset:
    """All trajectories of a seed."""
    return fs.generate(experiment_of(seed), runs / f"data-{seed}").load()


def in_long_steps(data: xr.Dataset, every: int) -> xr.Dataset:
    """The trajectories with `every` as many intervals between two states, from each of the first starts."""
    count = data.sizes["time"] // every
    parts = [data.isel(time=slice(first, first + every * count, every)) for first in range(every)]
    parts = [part.assign_coords(time=parts[0]["time"]) for part in parts]
    return xr.concat(parts, "trajectory", data_vars="minimal") if every > 1 else data


def scored(stepper: Stepper, truth: xr.Dataset, device: str = "cpu") -> dict[str, Any]:
    """Error by time, and the correlation time, of forecasts of a stepper from the first states."""
    start = to_states(truth, stepper.spec, torch.float32)[:, 0].to(device)
    with torch.no_grad():
        states = rollout(stepper, start, truth.sizes["time"] - 1)
    forecast = to_dataset(stepper.spec, states.cpu(), coordinates=trajectory_coordinates(truth))
    scores = fs.compare({"f": forecast}, truth, metrics=[]).sel(source="f")
    finite = np.isfinite(scores["nrmse"].values).all()
    return {
        "nrmse": [round(float(v), 6) for v in scores["nrmse"].values] if finite else None,
        "correlation_time": float(scores["correlation_time"].mean()) if finite else 0.0,
        "censored": int(scores["correlation_time_censored"].sum()) if finite else 0,
    }


def solver_on(n: int, steps: int, seed: int = 0, backend: str = "auto", device: str = "cpu") -> Stepper:
    """The solver on n² cells, with so many steps an interval, between states on 32²."""
    experiment = experiment_of(seed, device)
    grid = Grid.square(n, experiment.spec.grid.length[0])
    solver = experiment.build_flow().solver(
        grid, interval=INTERVAL, dt=INTERVAL / steps, order=2, dtype=torch.float32, device=device, backend=backend
    )
    return Resampled(solver, experiment.spec.grid)


def train_and_score(runs: Path, name: str, seed: int, device: str) -> None:
    """One network, and its scores on 16 unseen trajectories."""
    path = folder_of(device) / f"{slug(name)}-{seed}.json"
    if path.exists():
        return
    one_thread()
    experiment, every = experiment_of(seed, device, name), MODELS[name][1]
    data = dataset(runs, seed)
    began, wall = time.process_time(), time.perf_counter()
    model = fs.train(experiment, in_long_steps(data, every))["network"]
    seconds = (time.process_time() - began) if device == "cpu" else (time.perf_counter() - wall)
    fs.save(model, runs / "models" / path.stem)
    test = only(data, "test").isel(time=slice(None, None, every))
    write_json(path, {"network": name, "seed": seed, "parameters": model.parameters, "every": every,
                      "training_seconds": round(seconds, 1), **scored(model, test, device)})  # fmt: skip


def score_solvers(runs: Path, device: str) -> None:
    """solvers.json: every grid with every number of steps, over the seeds' tests; and what the data cost."""
    path = folder_of(device) / "solvers.json"
    if path.exists():
        return
    one_thread()
    tests = [only(dataset(runs, seed), "test") for seed in SEEDS]
    rows = [{"n": n, "steps": steps, "seeds": [scored(solver_on(n, steps, device=device), t, device) for t in tests]}
            for n, steps in product(GRIDS, STEPS_AN_INTERVAL)]  # fmt: skip
    began = time.process_time()
    fs.generate(experiment_of(99))
    write_json(path, {"data_seconds": round(time.process_time() - began, 1), "rows": rows})


def error_at(result: dict, step: int) -> float:
    """The error of a forecast after so many steps; infinite if it blew up."""
    return result["nrmse"][step] if result["nrmse"] else math.inf


def error_of(row: dict) -> float:
    """The error of a solver at the lead, in the mean over the seeds; infinite if one of its forecasts blew up."""
    return float(np.mean([error_at(one, round(LEAD / INTERVAL)) for one in row["seeds"]]))


def best_solvers(device: str) -> dict[int, dict]:
    """Of each grid, the row of the longest step whose error is within 5 % of the least."""
    rows = [row for row in read_json(folder_of(device) / "solvers.json")["rows"] if math.isfinite(error_of(row))]
    own = {n: [row for row in rows if row["n"] == n] for n in GRIDS}
    return {n: next(r for r in own[n] if error_of(r) <= 1.05 * min(map(error_of, own[n]))) for n in GRIDS if own[n]}


def results_of(name: str, device: str) -> list[dict]:
    """The results of a network, in the order of the seeds."""
    found = (read_json(folder_of(device) / f"{slug(name)}-{seed}.json") for seed in SEEDS)
    return [one for one in found if one is not None]


def measure(runs: Path, device: str) -> None:
    """times.json: seconds of a forecast to the lead of 16 starts, all sources in turn, by number of threads."""
    start = to_states(only(dataset(runs, 0), "test"), experiment_of(0).spec, torch.float32)[:, 0].to(device)
    sources: dict[str, tuple[Stepper, int]] = {}
    for n, row in best_solvers(device).items():
        for backend in ("auto", "torch"):
            stepper = solver_on(n, row["steps"], backend=backend, device=device)
            sources[f"solver {n}², {'PyTorch' if backend == 'torch' else 'C++'}"] = stepper, round(LEAD / INTERVAL)
    for name in MODELS:
        sources[name] = fs.load(runs / "models" / f"{slug(name)}-0", device), round(LEAD / INTERVAL / MODELS[name][1])
    times: dict[str, dict[str, float]] = {}
    for threads in (1, 2) if device == "cpu" else (1,):
        torch.set_num_threads(threads)
        took: dict[str, list[float]] = {name: [] for name in sources}
        with torch.no_grad():
            for repeat, (name, (stepper, steps)) in product(range(12), sources.items()):
                began = time.perf_counter()
                carry = stepper.start(start)
                for _ in range(steps):
                    carry = stepper.advance(carry)
                stepper.state(carry).cpu()
                if repeat > 1:
                    took[name].append(time.perf_counter() - began)
        times[str(threads)] = {name: round(1e3 * statistics.median(each), 2) for name, each in took.items()}
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, two cores"
    about = {"date": date.today().isoformat(), "machine": f"{machine}, torch {torch.__version__}"}
    write_json(times_of(device), {**about, "ms": times})


def table_rows(times: dict, device: str) -> list[dict[str, Any]]:
    """What the table and the figure show: name, kind, error, correlation time and milliseconds."""
    rows: list[dict[str, Any]] = []
    at, ms = round(LEAD / INTERVAL), times["ms"]
    for n, row in best_solvers(device).items():
        for backend in ("C++", "PyTorch"):
            name = f"solver {n}², {backend}"
            rows.append({"name": name, "kind": f"solver, {backend}", "note": f"{row['steps']} steps an interval",
                         "first": [error_at(s, 1) for s in row["seeds"]],
                         "error": [error_at(s, at) for s in row["seeds"]],
                         "time": [s["correlation_time"] for s in row["seeds"]],
                         "censored": any(s["censored"] for s in row["seeds"]), "training": 0.0})  # fmt: skip
    for name in MODELS:
        if found := results_of(name, device):
            rows.append({"name": name, "kind": "hybrid" if "hybrid" in name else "surrogate",
                         "note": f"{found[0]['parameters']:,} weights",
                         "first": [error_at(r, 1) for r in found] if found[0]["every"] == 1 else None,
                         "error": [error_at(r, at // r["every"]) for r in found],
                         "time": [r["correlation_time"] for r in found], "censored": any(r["censored"] for r in found),
                         "training": float(np.mean([r["training_seconds"] for r in found]))})  # fmt: skip
    for row in rows:
        row["ms"] = {threads: each.get(row["name"]) for threads, each in ms.items()}
    return [row for row in rows if row["ms"]["1"] is not None]


def write_results(device: str) -> None:
    """results.md and results.png from what is there."""
    times = read_json(times_of(device))
    rows, data_seconds = table_rows(times, device), read_json(folder_of(device) / "solvers.json")["data_seconds"]
    solvers = [row for row in rows if row["kind"] == "solver, C++"]
    lines = []
    for row in rows:
        as_good = [s for s in solvers if np.mean(s["error"]) <= np.mean(row["error"])]
        rival = min(as_good, key=lambda s: s["ms"]["1"], default=None)
        saved = None if rival is None or row["training"] == 0 else rival["ms"]["1"] - row["ms"]["1"]
        cost = data_seconds + row["training"]
        pays = "" if row["training"] == 0 else "never" if saved is None or saved <= 0 else f"{1e3 * cost / saved:,.0f}"
        ratio = "" if rival is None or row["training"] == 0 else f"{row['ms']['1'] / rival['ms']['1']:.2f}"
        censored = "≥ " if row["censored"] else ""
        lines.append([
            row["name"], row["note"], spread(row["first"]) if row["first"] else "-", spread(row["error"]),
            f"{censored}{np.mean(row['time']):.2f}", *(f"{row['ms'][threads]:.1f}" for threads in times["ms"]),
            "" if row["training"] == 0 else f"{row['training']:.0f}",
            "" if rival is None or row["training"] == 0 else rival["name"], ratio, pays,
        ])  # fmt: skip
    head = ["source", "", "nRMSE, t = 0.25", f"t = {LEAD}", "correlation time",
            *(f"ms, {threads} thread{'s' if threads != '1' else ''}" for threads in times["ms"]), "training [core s]",
            "cheapest solver as good", "time / its", "pays after"]  # fmt: skip
    about = (
        f"{times['date']}, {times['machine']}, float32. ms: a forecast to t = {LEAD} of 16 starts. Error: mean ± "
        "standard deviation over three seeds. Correlation time: mean first time at which the correlation with the "
        "truth falls below 0.8 (≥: for some starts it did not by t = 10). *Pays after*: how many such forecasts repay "
        f"training and the data ({data_seconds:g} core-seconds), against the cheapest solver that is as good, on one "
        "thread. What was measured, and how: `run.py`."
    )
    write_report(folder_of(device).with_suffix(".md"), "Error against time", about, markdown(head, lines))
    draw(rows, folder_of(device).with_suffix(".png"))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """results.png: error and correlation time against the milliseconds of a forecast, with the front."""
    from matplotlib.figure import Figure

    styles = {"solver, C++": ("o", "#222222"), "solver, PyTorch": ("o", "#aaaaaa"), "surrogate": ("s", "#0072b2"),
              "hybrid": ("^", "#d55e00")}  # fmt: skip
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for axis, key in zip(figure.subplots(1, 2), ("error", "time"), strict=True):
        for row in rows:
            marker, colour = styles[row["kind"]]
            value = float(np.mean(row[key]))
            axis.plot(row["ms"]["1"], value, marker, color=colour, ms=6)
            is_at_the_end = key == "time" and row["kind"] == "solver, C++"  # where one label would hide the next
            if row["kind"] != "solver, PyTorch" and not is_at_the_end:
                label = row["name"].removesuffix(", C++").removeprefix("solver ").removeprefix("gcnn, ")
                axis.annotate(label, (row["ms"]["1"], value), (5, 4), textcoords="offset points", fontsize=7)
        points = sorted((row["ms"]["1"], float(np.mean(row[key]))) for row in rows)
        better = (lambda a, b: a <= b) if key == "error" else (lambda a, b: a >= b)
        front = [p for p in points if all(better(p[1], q[1]) for q in points if q[0] <= p[0])]
        axis.plot(*zip(*front, strict=True), color="0.6", lw=1, zorder=0)
        axis.set(xscale="log", xlabel=f"ms of a forecast of 16 starts to t = {LEAD}, one thread")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set(yscale="log", ylabel=f"nRMSE at t = {LEAD}")
    figure.axes[1].set(ylabel="correlation time")
    for kind, (marker, colour) in styles.items():
        figure.axes[1].plot([], [], marker, color=colour, label=kind)
    figure.axes[1].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run what is missing; measure; write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=Path, default=Path("runs/cost_accuracy"), help="folder for data and models")
    parser.add_argument("--time", action="store_true", help="measure the times, nothing else")
    parser.add_argument("--table", action="store_true", help="write results.md and results.png from what is there")
    given = parser.parse_args()
    if not (given.time or given.table):
        one_thread()
        folder_of(given.device).mkdir(exist_ok=True)
        for seed in SEEDS:  # before the processes share them
            dataset(given.runs, seed)
        score_solvers(given.runs, given.device)
        with ProcessPoolExecutor(given.processes) as pool:
            jobs = [pool.submit(train_and_score, given.runs, n, s, given.device) for s, n in product(SEEDS, MODELS)]
            for done in jobs:
                done.result()
    if given.time:
        measure(given.runs, given.device)
    if times_of(given.device).exists():
        write_results(given.device)


if __name__ == "__main__":
    main()
