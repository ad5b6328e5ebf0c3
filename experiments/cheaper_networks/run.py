"""Which network has the least error for its time? Inference and training, two flows, five seeds.

    python experiments/cheaper_networks/run.py --calibrate     # times.json: a minute, on a quiet core
    python experiments/cheaper_networks/run.py [--processes 2] # results.json, results.md, results.png
    python experiments/cheaper_networks/run.py --table         # results.md and results.png from what is there

Every network is trained for as many steps as a budget of core-seconds allows, at the seconds a step of times.json, and
forecasts 16 unseen trajectories over twenty intervals. Each seed has starts, weights and order of training of its own.
Milliseconds a step: one interval of 16 trajectories of 32 x 32 cells on one core, all networks in turn, the least of
forty. The truth is computed on 96 x 96 cells, which resolve both flows. A run that is there is not made again.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import torch

import fluidsurrogate as fs
from fluidsurrogate.core.files import read_json, write_json
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.windows import InMemoryTrajectories

sys.path.append(str(Path(__file__).parents[1]))
from study import one_core, one_thread, pack_results, read_result, slug, spread, training_step_seconds, write_report

HERE = Path(__file__).parent
FLOWS = {"decaying": HERE.parent / "demo.toml", "forced": HERE / "forced.toml"}
SEEDS, FULL, HALF = range(5), 45.0, 22.5
BEFORE = {"kind": "gunet", "width": 16, "levels": 2, "lifting_size": 5, "activation": "gelu", "velocity": False}
LOCAL = {"kind": "gcnn", "width": 16, "lifting_size": 3, "dilations": [1, 2, 1], "activation": "gated"}
PLAIN = LOCAL | {"kind": "cnn"}
MODELS = {
    "gunet, before": BEFORE,
    "gunet, separable": BEFORE | {"separable": True},
    "gunet, with velocity": BEFORE | {"velocity": True},
    "gunet, width 8": {"kind": "gunet", "width": 8, "levels": 1, "lifting_size": 3, "activation": "gated"},
    "gcnn": LOCAL,
    "gcnn, no velocity": LOCAL | {"velocity": False},
    "gcnn, two blocks": LOCAL | {"dilations": [1, 1]},
    "gcnn, width 8": LOCAL | {"width": 8},
    "gcnn, separable 5 x 5": LOCAL | {"separable": True, "size": 5, "dilations": [1, 1, 1]},
    "cnn": PLAIN,
    "cnn, augmented": PLAIN | {"augment": "D4"},
}  # fmt: skip
# Where a label stands in the figure, if not on the upper right of its point.
LABELS = {
    "gunet, with velocity": ("right", -5, -9),
    "gunet, before": ("left", -8, 10),
    "gcnn, two blocks": ("center", 0, -16),
    "gunet, width 8": ("left", 6, -8),
    "gcnn, width 8": ("center", 4, 18),
}
MORE_TIME = ("gunet, before", "gcnn")  # trained with the full budget; of the first, nothing else is asked


def experiment_of(flow: str, name: str, seed: int, steps: int) -> fs.Experiment:
    """One flow with one network."""
    tree = fs.Experiment.read(FLOWS[flow]).tree()
    tree |= {"seed": seed, "models": {"network": MODELS[name]}}
    tree["data"] |= {"test_steps": tree["data"]["steps"]}
    tree["train"] |= {"steps": steps, "valid_every": max(steps // 10, 1), "workers": 1}
    return fs.Experiment.from_tree(tree)


def jobs() -> Iterator[tuple[int, str, str, float]]:
    """Yield seed, flow, network and budget, all of one seed together."""
    for seed, flow in product(SEEDS, FLOWS):
        yield from ((seed, flow, name, FULL) for name in MORE_TIME)
        yield from ((seed, flow, name, HALF) for name in MODELS if name != "gunet, before")


def path_of(seed: int, flow: str, name: str, budget: float) -> Path:
    """The result of a run."""
    return HERE / "results" / f"{flow}-{slug(name)}-{budget:g}-{seed}.json"


def train_and_score(runs: Path, seed: int, flow: str, name: str, budget: float, steps: int) -> None:
    """One run, and its scores on 16 unseen trajectories."""
    path = path_of(seed, flow, name, budget)
    if read_result(path) is not None:
        return
    one_thread()
    experiment = experiment_of(flow, name, seed, steps)
    data = fs.generate(experiment, runs / f"{flow}-{seed}").load()
    model = fs.train(experiment, data)["network"]
    test = data.isel(trajectory=data["split"].values == "test")
    forecast = fs.forecast(model, test, experiment.data.steps)
    scores = fs.compare({name: forecast}, test, metrics=[]).sel(source=name)
    write_json(path, {
        "network": name, "flow": flow, "seed": seed, "budget": budget, "steps": steps, "parameters": model.parameters,
        "nrmse": [round(float(v), 6) for v in scores["nrmse"].values],
    })  # fmt: skip


def calibrate(runs: Path) -> None:
    """times.json: the time of a training step and of a forecast step of each network, measured in turn on one core."""
    one_thread()
    trainers = {}
    for name in MODELS:
        experiment = experiment_of("decaying", name, 0, 1000)
        data = fs.generate(experiment, runs / "decaying-0").load()
        train, valid = (InMemoryTrajectories.from_dataset(data, split, experiment) for split in ("train", "valid"))
        trainers[name] = prepare_training(experiment, "network", train, valid, {})
    training = training_step_seconds(trainers)
    forecasting: dict[str, list[float]] = {name: [] for name in MODELS}
    states = torch.randn(16, 1, 32, 32)
    with torch.no_grad():
        carries = {name: trainer.surrogate.start(states) for name, trainer in trainers.items()}
        for _, name in product(range(40), MODELS):
            began = time.perf_counter()
            trainers[name].surrogate.advance(carries[name])
            forecasting[name].append(time.perf_counter() - began)
    write_json(HERE / "times.json", one_core() | {
        "training_step_ms": {name: round(1e3 * seconds, 2) for name, seconds in training.items()},
        "forecast_step_ms": {name: round(1e3 * min(t), 2) for name, t in forecasting.items()},
    })  # fmt: skip


def steps_of(times: dict, name: str, budget: float) -> int:
    """Return how many training steps a budget of core-seconds pays for."""
    return int(1e3 * budget / times["training_step_ms"][name]) // 10 * 10


def results_of(flow: str, name: str, budget: float) -> list[dict]:
    """The results that are there, in the order of the seeds."""
    found = (read_result(path_of(seed, flow, name, budget)) for seed in SEEDS)
    return [result for result in found if result is not None]


def write_results() -> None:
    """results.md and results.png from what is there."""
    times = read_json(HERE / "times.json")
    tables = [table_of(flow, times) for flow in FLOWS]
    about = (
        f"{times['date']}, {times['machine']}, float32. Mean ± standard deviation over seeds; ratios to `gunet, "
        "before` with its full budget, of the errors as the geometric mean over pairs of the same seed. What was "
        "measured, and how: `run.py`."
    )
    write_report(HERE / "results.md", "Cheaper networks", about, *tables)
    draw(times)


def table_of(flow: str, times: dict) -> str:
    """The table of one flow."""
    before = {r["seed"]: r["nrmse"][10] for r in results_of(flow, "gunet, before", FULL)}
    milliseconds = times["forecast_step_ms"]
    head = ["network", "weights", "ms a step", "ratio", "training [core s]", "steps", "seeds", "nRMSE, step 1",
            "step 10", "ratio", "step 20"]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    for name, budget in [*((name, FULL) for name in MORE_TIME), *((name, HALF) for name in MODELS)]:
        if not (found := results_of(flow, name, budget)):
            continue
        first, tenth, last = ([r["nrmse"][step] for r in found] for step in (1, 10, 20))
        ratios = [np.log(r["nrmse"][10] / before[r["seed"]]) for r in found if r["seed"] in before]
        rows.append([
            name, f"{found[0]['parameters']:,}", f"{milliseconds[name]:.1f}",
            f"{milliseconds[name] / milliseconds['gunet, before']:.2f}", f"{budget:g}", str(found[0]["steps"]),
            str(len(found)), spread(first), spread(tenth), f"{np.exp(np.mean(ratios)):.2f}" if ratios else "",
            spread(last),
        ])  # fmt: skip
    return f"## {flow.capitalize()} flow\n\n" + "\n".join("| " + " | ".join(row) + " |" for row in rows)


def draw(times: dict) -> None:
    """Ten-step error against the milliseconds of a step, with the front."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    for axis, flow in zip(figure.subplots(1, 2), FLOWS, strict=True):
        points = []
        for name in MODELS:
            budget = FULL if name == "gunet, before" else HALF
            if not (found := results_of(flow, name, budget)):
                continue
            errors, at = [r["nrmse"][10] for r in found], times["forecast_step_ms"][name]
            points.append((at, float(np.mean(errors))))
            has_velocity = MODELS[name].get("velocity", True)
            marker = {"gunet": "s", "gcnn": "o", "cnn": "^"}[str(MODELS[name]["kind"])]
            colour = "#0072b2" if has_velocity else "#d55e00"
            axis.errorbar(at, np.mean(errors), np.std(errors), fmt=marker, color=colour, capsize=2, ms=5)
            side, x, y = LABELS.get(name, ("left", 5, 4))
            place = {"textcoords": "offset points", "fontsize": 7, "ha": side}
            axis.annotate(name, (at, np.mean(errors)), (x, y), **place)
        front = [p for p in sorted(points) if all(q[1] >= p[1] for q in points if q[0] <= p[0])]
        axis.plot(*zip(*front, strict=True), color="0.6", lw=1, zorder=0)
        axis.set(xscale="log", yscale="log", title=f"{flow} flow", xlabel="ms a step of 16 trajectories, one core")
        axis.set_xticks([2, 4, 8, 16, 32], ["2", "4", "8", "16", "32"])
        axis.set_yticks([0.1, 0.2, 0.3, 0.5, 1.0], ["0.1", "0.2", "0.3", "0.5", "1"])
        axis.minorticks_off()
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("nRMSE after ten steps")
    figure.suptitle("Half the training time of `gunet, before`; blue: the network takes the velocity", fontsize=9)
    figure.savefig(HERE / "results.png", dpi=130)


def main() -> None:
    """Calibrate if need be, run what is missing, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/cheaper_networks"), help="folder for the data")
    parser.add_argument("--calibrate", action="store_true", help="measure the times, nothing else")
    parser.add_argument("--table", action="store_true", help="write results.md and results.png from what is there")
    arguments = parser.parse_args()
    if arguments.table:
        write_results()
        return
    if arguments.calibrate or not (HERE / "times.json").exists():
        calibrate(arguments.runs)
    if arguments.calibrate:
        return
    times = read_json(HERE / "times.json")
    (HERE / "results").mkdir(exist_ok=True)
    logging.getLogger("fluidsurrogate").setLevel(logging.ERROR)
    for seed, flow in product(SEEDS, FLOWS):  # before the processes share them
        fs.generate(experiment_of(flow, "gcnn", seed, 100), arguments.runs / f"{flow}-{seed}")
    with ProcessPoolExecutor(arguments.processes) as pool:
        waiting = [pool.submit(train_and_score, arguments.runs, *job, steps_of(times, *job[2:])) for job in jobs()]
        for done in waiting:
            done.result()
    pack_results(HERE / "results")
    write_results()


if __name__ == "__main__":
    main()
