"""Does symmetry pay in space? Plain, augmented, discrete and steerable networks on 3D Navier–Stokes.

    python experiments/three_dimensions/run.py [--processes 1] [--device cpu] [--only layered] [--limit SECONDS]
    python experiments/three_dimensions/run.py --table      # results.md and results.png from what is there

Truth: decaying turbulence on 64³ cells, stored on 16³ by spectral truncation (base.toml). Isotropic starts, and
layered ones, whose wavevectors lie along z: seen from one side. Networks of 48 channels learn from 2, 8 and 32
trajectories, over three seeds (starts, weights and order of training all differ), with equal numbers of updates. Each
is tested on

- unseen starts of the kind that it has seen,
- the same turned by four elements of the cube's group, with the turned truth,
- starts drawn about another axis: for layered ones about the diagonal (1, 1, 1), whose layers no element of the cube's
  group brings into those along z.

A run that is there is not made again, so that the study goes on after a kill. Results and the device
that made them are in results.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import sys
import time
import traceback
from itertools import product
from pathlib import Path

import numpy as np
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate.core.files import write_json
from fluidsurrogate.data.conversion import to_states
from fluidsurrogate.data.netcdf_files import write_netcdf
from fluidsurrogate.evaluation.comparison import TRUTH
from fluidsurrogate.evaluation.equivariance import equivariance_error
from fluidsurrogate.pipeline.forecasts import forecast_all
from solvers import GROUPS, VELOCITY, act, field_in

sys.path.append(str(Path(__file__).parents[1]))
from study import HORIZON, error_by_wavenumber, one_thread, only, pack_results, read_result, spread, write_report

HERE = Path(__file__).parent
SEEDS = range(3)
STARTS = {"isotropic": {}, "layered": {"layering": 4.0}}
OTHER_AXIS = {"layering": 4.0, "axis": [1.0, 1.0, 1.0]}
DILATIONS = [1, 1, 1, 1, 1]
MODELS = {
    "cnn": {"kind": "cnn", "width": 48, "lifting_size": 3, "dilations": DILATIONS},
    "cnn-augmented": {"kind": "cnn", "width": 48, "lifting_size": 3, "dilations": DILATIONS, "augment": "Oh"},
    "cnn-small": {"kind": "cnn", "width": 10, "lifting_size": 3, "dilations": DILATIONS},
    "gcnn-o": {"kind": "gcnn", "group": "O", "width": 48, "lifting_size": 3, "dilations": DILATIONS},
    "gcnn-oh": {"kind": "gcnn", "group": "Oh", "width": 48, "lifting_size": 3, "dilations": DILATIONS},
    "steerable-o3": {"kind": "steerable3d", "group": "O3", "width": 48, "lifting_size": 3, "dilations": DILATIONS},
    "steerable-so3": {"kind": "steerable3d", "group": "SO3", "width": 48, "lifting_size": 3, "dilations": DILATIONS},
}
COLOURS = dict(zip(MODELS, ("#d55e00", "#e69f00", "#999999", "#56b4e9", "#0072b2", "#009e73", "#cc79a7"), strict=True))
ELEMENTS = ("rotation 90 about x", "rotation 120 about x+y+z", "mirror z", "rotoinversion 90 about y")
OH = GROUPS[3]["Oh"]
FOUR = [g for g in OH if g.name in ELEMENTS]


def runs() -> list[tuple[str, int, str, int]]:
    """All runs (starts, trajectories, model, seed): the ones that the targets are about first."""
    order = [
        *product(("layered", "isotropic"), (2, 8), [m for m in MODELS if m != "steerable-so3"]),
        *product(("isotropic",), (2, 8), ("steerable-so3",)),
        *product(("isotropic",), (32,), MODELS),
    ]
    return [(*run, seed) for seed in SEEDS for run in order]


def experiment_of(starts: str, model: str | None, seed: int, device: str, updates: int | None = None) -> fs.Experiment:
    """The base experiment with one kind of starts and one network."""
    tree = fs.Experiment.read(HERE / "base.toml").tree()
    tree |= {"seed": seed, "device": device, "models": {} if model is None else {model: MODELS[model]}}
    tree["flow"] |= OTHER_AXIS if starts == "other axis" else STARTS[starts]
    tree["train"] |= {} if updates is None else {"steps": updates, "valid_every": max(updates // 5, 1)}
    return fs.Experiment.from_tree(tree)


def dataset(starts: str, seed: int, device: str) -> xr.Dataset:
    """The trajectories of one kind of starts and one seed, made once and kept beside the results."""
    path = HERE / "data" / f"{starts.replace(' ', '-')}-{seed}.nc"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        experiment = experiment_of(starts, None, seed, device)
        if starts == "other axis":  # tests only
            tree = experiment.tree()
            tree["data"] |= {"train": 1, "valid": 1}
            experiment = fs.Experiment.from_tree(tree)
        write_netcdf(fs.generate(experiment), path)
    return fs.open_data(path)


def turned(data: xr.Dataset, g) -> xr.Dataset:
    """The data as someone sees them who has turned the box."""
    values = act(field_in(VELOCITY, 3), torch.from_numpy(data["velocity"].values), g)
    return data.assign(velocity=data["velocity"].copy(data=values.numpy()))


def scores(model, test: xr.Dataset) -> dict[str, float]:
    """nRMSE after one and ten intervals, correlation time and the error of the energy spectrum after ten."""
    compared = fs.compare({"model": fs.forecast(model, test, HORIZON)}, test).sel(source="model")
    spectrum = compared["energy_spectrum_error"].values
    return {
        "step 1": float(compared["nrmse"].values[1]),
        "step 10": float(compared["nrmse"].values[HORIZON]),
        "correlation time": float(compared["correlation_time_median"]),
        "censored": bool(compared["correlation_time_median_censored"]),
        "spectrum": float(spectrum[HORIZON]),
    }


def train_and_score(starts: str, count: int, name: str, seed: int, device: str, updates: int) -> None:
    """One run and its scores."""
    path = HERE / "results" / f"{starts}-{count}-{name}-{seed}.json"
    if read_result(path) is not None:
        return
    one_thread()
    data, experiment = dataset(starts, seed, device), experiment_of(starts, name, seed, device, updates)
    seen = xr.concat([only(data, "train", count), only(data, "valid")], "trajectory", data_vars="minimal")
    began = time.perf_counter()
    model = fs.train(experiment, seen)[name]
    took = time.perf_counter() - began
    test = only(data, "test")
    states = to_states(test, experiment.spec, torch.float32)[:, 0].to(device)
    result = {
        "starts": starts, "trajectories": count, "model": name, "seed": seed, "updates": updates,
        "parameters": model.parameters, "seconds": round(took, 2), "device": device_name(device),
        "equivariance error": max(equivariance_error(model, states, OH).values()),
        "equivariance error by scale": error_by_wavenumber(model, states, g=FOUR[0]),
        "same side": scores(model, test),
        "turned": [scores(model, turned(test, g)) for g in FOUR],
    }  # fmt: skip
    if starts == "layered":
        result["other axis"] = scores(model, only(dataset("other axis", seed, device), "test"))
    write_json(path, result)


def device_name(device: str) -> str:
    """What computes."""
    return torch.cuda.get_device_name() if device == "cuda" else f"a core of an {platform.machine()}"


def score_solvers(device: str) -> None:
    """results/solvers.json: persistence and the classical solvers from the starts that the networks have."""
    path = HERE / "results" / "solvers.json"
    if read_result(path) is not None:
        return
    found: dict[str, dict] = {}
    for starts, seed in product(STARTS, SEEDS):
        experiment = experiment_of(starts, None, seed, device)
        forecasts = forecast_all(experiment, {}, only(dataset(starts, seed, device), "test"))
        names = [str(name) for name in forecasts["source"].values[1:]]
        compared = fs.compare({name: forecasts.sel(source=name, drop=True) for name in names},
                              forecasts.sel(source=TRUTH, drop=True), metrics=[])  # fmt: skip
        for name in names:
            one, row = found.setdefault(starts, {}).setdefault(name, []), compared.sel(source=name)
            one.append({"step 1": float(row["nrmse"].values[1]), "step 10": float(row["nrmse"].values[HORIZON]),
                        "correlation time": float(row["correlation_time_median"])})  # fmt: skip
    write_json(path, found)


# -- the table


def collect() -> dict[tuple[str, int, str], list[dict]]:
    """Results by starts, number of trajectories and model, in the order of the seeds."""
    found: dict[tuple[str, int, str], list[dict]] = {}
    for starts, count, name, seed in runs():
        result = read_result(HERE / "results" / f"{starts}-{count}-{name}-{seed}.json")
        if result is not None:
            found.setdefault((starts, count, name), []).append(result)
    return found


def ratio(found: dict, key: tuple[str, int, str], other: str, what) -> str:
    """Geometric mean over the seeds of this network's error over another's."""
    pairs = list(zip(found[key], found.get((*key[:2], other), []), strict=False))
    return f"{np.exp(np.mean([np.log(what(a) / what(b)) for a, b in pairs])):.2f}" if pairs else "-"


def turned_error(result: dict) -> float:
    """The ten-step error in the mean of the four turned tests."""
    return float(np.mean([one["step 10"] for one in result["turned"]]))


def table(found: dict, starts: str, count: int) -> str:
    """One table: a row a network."""
    head = ["network", "parameters", "seeds", "step 1", "step 10", "correlation time", "spectrum, step 10",
            "step 10, turned", "turned / cnn's", "/ cnn-augmented's", "step 10, other axis",
            "equivariance error"]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    for name in MODELS:
        results = found.get((starts, count, name))
        if not results:
            continue
        key = (starts, count, name)
        same = [r["same side"] for r in results]
        other = spread([r["other axis"]["step 10"] for r in results]) if "other axis" in results[0] else "-"
        rows.append([
            name, f"{results[0]['parameters']:,}", str(len(results)), spread([s["step 1"] for s in same]),
            spread([s["step 10"] for s in same]), f"{np.median([s['correlation time'] for s in same]):g}",
            f"{np.mean([s['spectrum'] for s in same]):.3f}", spread([turned_error(r) for r in results]),
            ratio(found, key, "cnn", turned_error), ratio(found, key, "cnn-augmented", turned_error), other,
            f"{max(r['equivariance error'] for r in results):.1e}",
        ])  # fmt: skip
    lines = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"## {starts.capitalize()} starts, {count} training trajectories\n\n{lines}"


def solver_table() -> str:
    """Persistence and the classical solvers."""
    found = read_result(HERE / "results" / "solvers.json") or {}
    rows = [["starts", "source", "step 1", "step 10", "correlation time"], ["---"] * 5]
    for starts, sources in found.items():
        for name, results in sources.items():
            errors = [spread([r[step] for r in results]) for step in ("step 1", "step 10")]
            rows.append([starts, name, *errors, f"{np.median([r['correlation time'] for r in results]):g}"])
    return "## The classical solver, from the same starts\n\n" + "\n".join("| " + " | ".join(r) + " |" for r in rows)


def write_results() -> None:
    """results.md and results.png from what is there."""
    found = collect()
    devices = sorted({r["device"] for results in found.values() for r in results})
    updates = sorted({r["updates"] for results in found.values() for r in results})
    about = (
        f"Decaying turbulence on 64³, seen on 16³; {', '.join(map(str, updates))} updates of batch 8, on "
        f"{', '.join(devices)}; mean ± standard deviation over seeds. Errors are nRMSE after 1 and 10 intervals. "
        "*Turned*: the mean over four elements of Oh of the test data turned by it. *Other axis*: layers drawn about "
        "(1, 1, 1). Ratios are geometric means over pairs of the same seed. What was measured, and how: `run.py`."
    )
    tables = [table(found, *key) for key in dict.fromkeys(key[:2] for key in found)]
    write_report(HERE / "results.md", "Does symmetry pay in space?", about, *tables, solver_table())
    draw(found)


def draw(found: dict) -> None:
    """Turned error against the number of trajectories, and the equivariance error by scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, starts in zip(axes, STARTS, strict=False):
        for i, name in enumerate(MODELS):
            counts = [c for c in (2, 8, 32) if (starts, c, name) in found]
            values = [[turned_error(r) for r in found[starts, c, name]] for c in counts]
            if counts:
                at = np.array(counts) * 2 ** (0.04 * (i - 3))
                axis.errorbar(at, [np.mean(v) for v in values], [np.std(v) for v in values], label=name,
                              color=COLOURS[name], capsize=2, lw=1.4)  # fmt: skip
        axis.set(xscale="log", yscale="log", xlabel="training trajectories", ylabel="nRMSE, step 10, turned tests",
                 title=f"{starts} starts")  # fmt: skip
        axis.set_xticks([2, 8, 32], ["2", "8", "32"])
        axis.set_yticks([0.3, 0.4, 0.6, 0.8, 1.0], ["0.3", "0.4", "0.6", "0.8", "1"])
        axis.minorticks_off()
    for name in MODELS:
        results = found.get(("layered", 8, name)) or found.get(("isotropic", 8, name))
        if results:
            axes[2].plot(range(1, 8), np.mean([r["equivariance error by scale"] for r in results], 0), label=name,
                         color=COLOURS[name])  # fmt: skip
    title = "by scale, 8 trajectories"
    axes[2].set(yscale="log", xlabel="wavenumber", ylabel="equivariance error of one step", title=title)
    axes[2].legend(frameon=False, fontsize=7)
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / "results.png", dpi=130)


def main() -> None:
    """Make the data, run what is missing until the time is up, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--updates", type=int, default=400, help="training steps of each network")
    parser.add_argument("--only", choices=STARTS, help="one kind of starts")
    parser.add_argument("--limit", type=float, default=float("inf"), help="start no run after so many seconds")
    parser.add_argument("--table", action="store_true", help="write results.md and results.png from what is there")
    arguments = parser.parse_args()
    began = time.perf_counter()
    (HERE / "results").mkdir(exist_ok=True)
    if not arguments.table:
        for starts, seed in product([*STARTS, "other axis"], SEEDS):
            dataset(starts, seed, arguments.device)
        print(f"data: {time.perf_counter() - began:.0f} s", flush=True)
        score_solvers(arguments.device)
        print(f"solvers: {time.perf_counter() - began:.0f} s", flush=True)
        jobs = [run for run in runs() if arguments.only in (None, run[0])]
        with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
            tasks = [(run, arguments.device, arguments.updates, began_at(began) + arguments.limit) for run in jobs]
            for done, run in enumerate(pool.imap_unordered(run_one, tasks), 1):
                print(f"{time.perf_counter() - began:.0f} s: {done}/{len(tasks)} {run}", flush=True)
        pack_results(HERE / "results")
    write_results()


def began_at(began: float) -> float:
    """The wall-clock time of a performance counter's reading, which processes do not share."""
    return time.time() - (time.perf_counter() - began)


def run_one(task: tuple) -> tuple:
    """One run in a process of the pool, unless the time is up."""
    run, device, updates, end = task
    try:
        if time.time() < end:
            train_and_score(*run, device, updates)
    except Exception:  # the other runs go on; this one is made at the next call
        traceback.print_exc()
    return run


if __name__ == "__main__":
    main()
