"""Does symmetry pay? The demo's flow, learnt from 4, 8 and 16 trajectories, over five seeds, at equal training time.

    python experiments/first_comparison/run.py [--processes 2]      # results/*.json, results.md, results.png

Each seed has starts, weights and order of training of its own. Every network trains for as many steps as the same time
allows: TIME core-seconds at the seconds a step that `--calibrate` measured, all networks in turn on a quiet core
(steps.json). A run that is there is not made again, so that the study goes on after a kill.

The truth is computed on 96² cells, which resolve it, and seen on 32². The classical solver forecasts the same starts
too: on 32², 48² and 64² cells (solvers.json), with the milliseconds that an interval of 16 trajectories takes.

Networks: `cnn` and `gcnn` (residual, dilated, 32 activations a cell), `unet` and `gunet` (16 on the finest grid);
C4 and D4; `augmented`: each batch turned or mirrored at random; `wrong-parity`: D4, with the vorticity taken for a
plain scalar, whose mirrors are then no symmetry of the flow.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

import fluidsurrogate as fs
from fluidsurrogate.config.user_modules import with_modules
from fluidsurrogate.core.files import read_json, write_json, write_text
from fluidsurrogate.evaluation.comparison import TRUTH
from fluidsurrogate.nn import ARCHITECTURES
from fluidsurrogate.pipeline.forecasts import forecast_all
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.windows import InMemoryTrajectories
from solvers import VORTICITY

HERE = Path(__file__).parent
TIME, SEEDS, SIZES = 45.0, range(5), (4, 8, 16)
ONLY_EIGHT = ("unet", "unet-augmented")  # what the architecture does without the group
MODELS = {
    "cnn": {"kind": "cnn"},
    "cnn-augmented": {"kind": "cnn", "augment": "D4"},
    "gcnn-c4": {"kind": "gcnn", "group": "C4"},
    "gcnn-d4": {"kind": "gcnn", "group": "D4"},
    "gcnn-d4-wrong-parity": {"kind": "module"},
    "unet": {"kind": "unet", "width": 16},
    "unet-augmented": {"kind": "unet", "width": 16, "augment": "D4"},
    "gunet-d4": {"kind": "gunet", "group": "D4", "width": 16},
}
COLOURS = dict(zip(MODELS, ("#d55e00", "#e69f00", "#56b4e9", "#0072b2", "#999999", "#cc79a7", "#f0a3c8", "#009e73"),
                   strict=True))  # fmt: skip


def experiment_of(name: str, size: int, seed: int, steps: int) -> fs.Experiment:
    """The demo with one network."""
    tree = fs.Experiment.read(HERE.parent / "five_networks.toml").tree()
    tree |= {"seed": seed, "models": {} if MODELS[name]["kind"] == "module" else {name: MODELS[name]}}
    tree["data"] |= {"train": size, "test_steps": tree["data"]["steps"]}
    tree["train"] |= {"steps": steps, "valid_every": max(steps // 10, 1)}
    return fs.Experiment.from_tree(tree)


def module_of(name: str, seed: int) -> dict[str, torch.nn.Module]:
    """What no TOML file describes: the D4 network with the wrong parity."""
    if MODELS[name]["kind"] != "module":
        return {}
    torch.manual_seed(seed)
    scalar = (replace(VORTICITY, parity=1),)
    return {name: ARCHITECTURES["gcnn"](scalar, scalar, group="D4")}


def train_and_score(name: str, size: int, seed: int, steps: int) -> None:
    """One run, and its scores on 16 unseen trajectories."""
    path = HERE / "results" / f"{name}-{size}-{seed}.json"
    if path.exists():
        return
    torch.set_num_threads(1)
    logging.getLogger("fluidsurrogate").setLevel(logging.ERROR)
    experiment = experiment_of(name, size, seed, steps)
    data = fs.generate(experiment)
    began = time.process_time()
    model = fs.train(experiment, data, models=module_of(name, seed) or None)[name]
    took = time.process_time() - began
    test = data.isel(trajectory=data["split"].values == "test")
    forecast = fs.forecast(model, test, experiment.data.steps)
    scores = fs.compare({name: forecast}, test).sel(source=name)
    write_json(path, {
        "model": name, "train": size, "seed": seed, "steps": steps, "cpu_seconds": round(took, 1),
        "parameters": model.parameters, "nrmse": [round(float(v), 6) for v in scores["nrmse"].values],
        "correlation_time": float(scores["correlation_time_median"]),
        "censored": bool(scores["correlation_time_median_censored"]),
    })  # fmt: skip


def score_solvers() -> None:
    """results/solvers.json: the classical solvers of the demo's comparison, from the starts that the networks have."""
    path = HERE / "results" / "solvers.json"
    if path.exists():
        return
    torch.set_num_threads(1)
    found: dict[str, dict] = {}
    for seed in SEEDS:
        experiment = experiment_of("cnn", 8, seed, 100)
        data = fs.generate(experiment)
        forecasts = forecast_all(experiment, {}, data.isel(trajectory=data["split"].values == "test"))
        names = [str(name) for name in forecasts["source"].values[1:]]
        truth = forecasts.sel(source=TRUTH, drop=True)
        scores = fs.compare({name: forecasts.sel(source=name, drop=True) for name in names}, truth, metrics=[])
        for name in names:
            one = found.setdefault(name, {"nrmse": [], "correlation_time": [], "censored": [], "ms": []})
            one["nrmse"].append([round(float(v), 6) for v in scores["nrmse"].sel(source=name).values])
            one["correlation_time"].append(float(scores["correlation_time_median"].sel(source=name)))
            one["censored"].append(bool(scores["correlation_time_median_censored"].sel(source=name)))
            one["ms"].append(round(1e3 * float(forecasts["seconds_per_step"].sel(source=name)), 3))
    write_json(path, found)


def solver_table() -> str:
    """The classical solvers, a row each."""
    found = read_json(HERE / "results" / "solvers.json") or {}
    head = ["source", "nRMSE, step 1", "step 10", "step 20", "correlation time", "ms an interval of 16"]
    rows = [head, ["---"] * len(head)]
    for name, r in found.items():
        errors = [spread([series[step] for series in r["nrmse"]]) for step in (1, 10, -1)]
        censored = "> " if sum(r["censored"]) > len(r["censored"]) / 2 else ""
        rows.append([name, *errors, f"{censored}{np.median(r['correlation_time']):g}", f"{np.median(r['ms']):.1f}"])
    return "## The classical solver\n\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows)


def calibrate() -> None:
    """steps.json: how many steps of each network take TIME, measured in turn on one core."""
    torch.set_num_threads(1)
    trainers = {}
    for name in MODELS:
        experiment = experiment_of(name, 8, 0, 1000)
        data = fs.generate(experiment)
        train, valid = (InMemoryTrajectories.from_dataset(data, split, experiment) for split in ("train", "valid"))
        modules, networks = module_of(name, 0), {}
        if modules:
            experiment, networks = with_modules(experiment, modules)
        trainers[name] = prepare_training(experiment, name, train, valid, {}, networks.get(name))
    seconds: dict[str, dict[int, list[float]]] = {name: {1: [], 3: []} for name in MODELS}
    for _, name, unroll in product(range(12), MODELS, (1, 3)):
        trainer = trainers[name]
        trainer.step = 0 if unroll == 1 else 999  # the last fifth of the steps is over three intervals
        began = time.perf_counter()
        trainer._train_step(trainer.batches[trainer.step])
        seconds[name][unroll].append(time.perf_counter() - began)
    means = {name: 0.8 * statistics.median(s[1]) + 0.2 * statistics.median(s[3]) for name, s in seconds.items()}
    write_json(HERE / "steps.json", {
        "seconds_a_step": {name: round(mean, 4) for name, mean in means.items()},
        "steps": {name: int(TIME / mean) // 10 * 10 for name, mean in means.items()},
    })  # fmt: skip


def collect() -> dict[tuple[str, int], list[dict]]:
    """Results by network and size, in the order of the seeds."""
    found: dict[tuple[str, int], list[dict]] = {}
    for name, size, seed in product(MODELS, SIZES, SEEDS):
        result = read_json(HERE / "results" / f"{name}-{size}-{seed}.json")
        if result is not None:
            found.setdefault((name, size), []).append(result)
    return found


def spread(values: list[float]) -> str:
    """Mean ± standard deviation over the seeds."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.3f}"


def write_results() -> None:
    """results.md and results.png from what is there."""
    found, tables = collect(), []
    for size in SIZES:
        rows = []
        tenth = {name: [r["nrmse"][10] for r in found.get((name, size), [])] for name in MODELS}
        for name in MODELS:
            results = found.get((name, size), [])
            if not results:
                continue
            times = [r["correlation_time"] for r in results]
            censored = "> " if sum(r["censored"] for r in results) > len(results) / 2 else ""
            ratios = []
            for other in ("cnn", "cnn-augmented"):
                pairs = list(zip(tenth[name], tenth[other], strict=False))
                ratios.append(f"{np.exp(np.mean([np.log(a / b) for a, b in pairs])):.2f}" if pairs else "-")
            first, last = ([r["nrmse"][step] for r in results] for step in (1, -1))
            about = [f"{results[0]['parameters']:,}", str(results[0]["steps"]), str(len(results))]
            time_of = f"{censored}{np.median(times):g}"
            rows.append([name, *about, spread(first), spread(tenth[name]), spread(last), time_of, *ratios])
        head = ["network", "parameters", "steps", "seeds", "nRMSE, step 1", "step 10", "step 20", "correlation time",
                "step 10 / cnn's", "/ cnn-augmented's"]  # fmt: skip
        lines = [head, ["---"] * len(head), *rows]
        tables.append(f"## {size} training trajectories\n\n" + "\n".join("| " + " | ".join(x) + " |" for x in lines))
    finding = HERE / "finding.md"
    text = [
        "# Does symmetry pay?",
        f"Decaying turbulence computed on 96² and seen on 32², {TIME:g} core-seconds of training a network, mean ± "
        "standard deviation over seeds (starts, weights and order all differ); ratios are geometric means over pairs "
        "of the same seed. What was measured, and how: `run.py`.",
        finding.read_text(encoding="utf-8").strip() if finding.exists() else "",
        *tables,
        solver_table(),
    ]
    write_text(HERE / "results.md", "\n\n".join(part for part in text if part) + "\n")
    draw(found)


def draw(found: dict[tuple[str, int], list[dict]]) -> None:
    """Ten-step error against the number of training trajectories."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    for offset, name in enumerate(MODELS):
        sizes = [size for size in SIZES if (name, size) in found]
        values = [[r["nrmse"][10] for r in found[name, size]] for size in sizes]
        if not sizes:
            continue
        at = np.array(sizes) * 2 ** (0.03 * (offset - 3.5))
        means, spreads = [np.mean(v) for v in values], [np.std(v) for v in values]
        line = "--" if "augmented" in name else ":" if "wrong" in name else "-"
        axis.errorbar(at, means, spreads, label=name, color=COLOURS[name], lw=1.4, capsize=2, ls=line)
    axis.set(xscale="log", yscale="log", xlabel="training trajectories", ylabel="nRMSE after ten steps")
    axis.set_xticks(SIZES, [str(size) for size in SIZES])
    axis.minorticks_off()
    axis.set_yticks([0.1, 0.2, 0.3, 0.5, 1.0], ["0.1", "0.2", "0.3", "0.5", "1"])
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, ncols=2)
    figure.savefig(HERE / "results.png", dpi=130)


def main() -> None:
    """Calibrate if need be, run what is missing, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--calibrate", action="store_true", help="measure the seconds a step, nothing else")
    parser.add_argument("--table", action="store_true", help="write results.md and results.png from what is there")
    arguments = parser.parse_args()
    if arguments.table:
        write_results()
        return
    if arguments.calibrate or not (HERE / "steps.json").exists():
        calibrate()
    if arguments.calibrate:
        return
    steps = read_json(HERE / "steps.json")["steps"]
    (HERE / "results").mkdir(exist_ok=True)
    # The size that the targets are about first, all networks of a seed together.
    runs = [run for run in product((8, 4, 16), SEEDS, MODELS) if run[0] == 8 or run[2] not in ONLY_EIGHT]
    jobs = [(name, size, seed, steps[name]) for size, seed, name in runs]
    with ProcessPoolExecutor(arguments.processes) as pool:
        for done in [pool.submit(train_and_score, *job) for job in jobs]:
            done.result()
    score_solvers()
    write_results()


if __name__ == "__main__":
    main()
