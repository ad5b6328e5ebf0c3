"""What is a model of many flows worth on a flow that it has not seen? Zero-shot, fine-tuned, and from scratch.

    python experiments/pretrained/run.py general-2d cnn   # the two models, if they are not there
    python experiments/general_model/run.py               # results.json, results.md: 20 minutes of a core
    python experiments/general_model/run.py --table       # results.md and results.png from what is there

`general-2d` and its plain twin, a `cnn` trained on turned and mirrored batches, have seen five flows
(experiments/pretrained). They forecast test trajectories of those flows, of a flow that they have not seen and at
viscosities outside of what they have seen. Then they are fine-tuned for ten seconds of one core on 1, 2, 4 or 8
trajectories of a new flow. Networks of the default size are trained on as many for 22 seconds, from scratch. Steps are
as many as the seconds of times.json allow. Two more trajectories choose the weights, in each case alike. Every seed has
starts, weights and order of training of its own. Sixteen other trajectories are scored. A run that is there is not made
again.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate.core.files import read_json, write_json
from fluidsurrogate.training.train import prepare_training, train_model
from fluidsurrogate.training.windows import InMemoryTrajectories

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "pretrained"))
sys.path.append(str(HERE.parent))
import run as pretraining  # noqa: E402  experiments/pretrained/run.py
from study import one_core, pack_results, read_result, spread, training_step_seconds, write_report  # noqa: E402

RUNS = Path("runs/general_model")
GENERAL = fs.Experiment.read(HERE.parent / "pretrained" / "general-2d.toml")
PRETRAINED = {"gcnn": pretraining.RUNS / GENERAL.name / "models" / GENERAL.name,
              "cnn": pretraining.RUNS / GENERAL.name / "models" / pretraining.TWIN}  # fmt: skip
HELD_OUT = ("diagonal", "low_viscosity", "high_viscosity", "vortex_merger")
SEEDS, TRAJECTORIES, TUNING, SCRATCH = range(3), (1, 2, 4, 8), 10.0, 22.0  # seconds of one core
STEPS = (1, 10, 20)
TRAINING = {"batch": 16, "unroll": 3, "unroll_fraction": 0.2, "workers": 1}
WAYS: dict[tuple[str, str], dict[str, Any]] = {  # network and way of training: the keys that differ
    ("gcnn", "fine-tuned"): {"learning_rate": 1e-3, "warmup": 10},
    ("cnn", "fine-tuned"): {"learning_rate": 1e-3, "warmup": 10},
    ("gcnn", "from scratch"): {"learning_rate": 6e-3, "warmup": 50},
    ("cnn", "from scratch"): {"learning_rate": 6e-3, "warmup": 50},
}
JOBS = [  # flow, network, way, trajectories: first what the target is about
    *(("diagonal", "gcnn", "from scratch", n) for n in (8, 1)),
    *(("diagonal", "gcnn", "fine-tuned", n) for n in (1, 8)),
    *(("low_viscosity", "gcnn", way, n) for way, n in (("from scratch", 8), ("fine-tuned", 1))),
    *(("diagonal", "gcnn", way, n) for way, n in product(("fine-tuned", "from scratch"), (2, 4))),
    *(("diagonal", "cnn", "from scratch", n) for n in (8, 1)),
    ("low_viscosity", "gcnn", "from scratch", 1),
    *(("diagonal", "cnn", "fine-tuned", n) for n in TRAJECTORIES),
    ("low_viscosity", "cnn", "fine-tuned", 1),
]


def flow_of(name: str, seed: int) -> fs.Experiment:
    """The experiment of a flow that is held out, with the starts of a seed."""
    return fs.Experiment.from_tree(fs.Experiment.read(HERE / f"{name}.toml").tree() | {"seed": seed})


def trajectories_of(name: str, seed: int) -> tuple[xr.Dataset, xr.Dataset]:
    """The trajectories of a flow as its own experiment stores them, and with the inputs of general-2d."""
    experiment = flow_of(name, seed)
    dataset = fs.generate(experiment, RUNS / f"{name}-{seed}").load()
    return dataset, pretraining.uniform(dataset, experiment)


def with_trajectories(dataset: xr.Dataset, count: int) -> xr.Dataset:
    """The dataset with the first `count` training trajectories only."""
    is_train = dataset["split"].values == "train"
    return dataset.isel(trajectory=np.flatnonzero(~is_train | (np.cumsum(is_train) <= count)))


def experiment_of(flow: str, network: str, way: str, count: int, seed: int, steps: int) -> fs.Experiment:
    """One training."""
    tree = (GENERAL if way == "fine-tuned" else flow_of(flow, seed)).tree()
    model: dict[str, Any] = {"kind": network} | ({"augment": "D4"} if network == "cnn" else {})
    if way == "fine-tuned":
        model = GENERAL.tree()["models"][GENERAL.name if network == "gcnn" else pretraining.TWIN]
        model["init"] = str(PRETRAINED[network].absolute())
    tree |= {"seed": seed, "models": {"network": model}}
    tree["data"] |= {"train": count, "valid": 2, "test": 16}
    tree["train"] = TRAINING | WAYS[network, way] | {"steps": steps, "valid_every": max(steps // 20, 1)}
    return fs.Experiment.from_tree(tree)


def path_of(*parts: Any) -> Path:
    """The result of a run."""
    return HERE / "results" / ("-".join(str(part).replace(" ", "_") for part in parts) + ".json")


def nrmse_of(model: fs.Surrogate, truth: xr.Dataset) -> list[float]:
    """The nRMSE after each interval, the mean over trajectories."""
    scores = fs.compare({"it": fs.forecast(model, truth, truth.sizes["time"] - 1)}, truth, metrics=[])
    return [round(float(v), 6) for v in scores["nrmse"].sel(source="it").values]


def tune(flow: str, network: str, way: str, count: int, seed: int, steps: int) -> None:
    """One training, and its scores on 16 unseen trajectories."""
    path = path_of(flow, network, way, count, seed)
    if read_result(path) is not None:
        return
    own, general = trajectories_of(flow, seed)
    dataset = with_trajectories(general if way == "fine-tuned" else own, count)
    experiment = experiment_of(flow, network, way, count, seed, steps)
    with tempfile.TemporaryDirectory() as folder:
        model = train_model(experiment, "network", dataset, {}, Path(folder))
        curve = np.genfromtxt(Path(folder) / "curve.csv", delimiter=",", names=True)
    test = dataset.isel(trajectory=dataset["split"].values == "test")
    write_json(path, {
        "flow": flow, "network": network, "way": way, "trajectories": count, "seed": seed, "steps": steps,
        "parameters": model.parameters, "nrmse": nrmse_of(model, test),
        "curve": [[int(row["step"]), round(float(row["valid_nrmse"]), 5)] for row in np.atleast_1d(curve)],
    })  # fmt: skip


def score_without_training() -> None:
    """zero-*.json: the pretrained models, persistence and solvers on flows seen and not seen."""
    data = pretraining.general_data()
    models = {network: fs.load(folder) for network, folder in PRETRAINED.items() if folder.exists()}
    for flow, seed in [*((flow, 0) for flow in pretraining.FLOWS), *product(HELD_OUT, SEEDS)]:
        path = path_of("zero", flow, seed)
        found = read_result(path)
        if found is not None and models.keys() <= found["nrmse"].keys():
            continue
        if flow in HELD_OUT:
            experiment, (_, truth) = flow_of(flow, seed), trajectories_of(flow, seed)
            truth = pretraining.truth_of(flow, truth)
        else:
            experiment = pretraining.flow_experiments()[flow]
            truth = pretraining.truth_of(flow, data).isel(trajectory=slice(0, pretraining.SCORED))
        scores = fs.compare(pretraining.forecasts_of(experiment, models, truth), truth, metrics=[])["nrmse"]
        write_json(path, {
            "flow": flow, "seed": seed,
            "nrmse": {str(source): [round(float(v), 6) for v in scores.sel(source=source).values]
                      for source in scores["source"].values},
        })  # fmt: skip


def calibrate() -> None:
    """times.json: the core-seconds of a training step of each network and way."""
    own, general = trajectories_of("diagonal", 0)
    trainers = {}
    for network, way in WAYS:
        tree = experiment_of("diagonal", network, way, 8, 0, 1000).tree()
        tree["models"]["network"].pop("init", None)  # it changes no time, and may not be there yet
        experiment = fs.Experiment.from_tree(tree)
        dataset = general if way == "fine-tuned" else own
        train, valid = (InMemoryTrajectories.from_dataset(dataset, split, experiment) for split in ("train", "valid"))
        trainers[network, way] = prepare_training(experiment, "network", train, valid, {})
    ms = {", ".join(way): round(1e3 * seconds, 2) for way, seconds in training_step_seconds(trainers).items()}
    write_json(HERE / "times.json", one_core() | {"training_step_ms": ms})


def steps_of(times: dict[str, Any], network: str, way: str) -> int:
    """Return how many training steps the seconds pay for."""
    seconds = TUNING if way == "fine-tuned" else SCRATCH
    return int(1e3 * seconds / times["training_step_ms"][f"{network}, {way}"]) // 10 * 10


def results_of(*parts: Any) -> list[dict[str, Any]]:
    """The results that are there, in the order of the seeds."""
    return [found for seed in SEEDS if (found := read_result(path_of(*parts, seed))) is not None]


def rows_to_table(rows: list[list[str]]) -> str:
    """Return a Markdown table whose first row is the head."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])


def zero_shot_table() -> str:
    """The table of the pretrained models without further training."""
    known = set().union(*(r["nrmse"] for flow in (*pretraining.FLOWS, *HELD_OUT) for r in results_of("zero", flow)))
    names = {"general-2d": "gcnn", "its plain twin": "cnn", "persistence": "persistence", "solver on 32²": "solver-32"}
    sources = {name: source for name, source in names.items() if source in known}
    rows = [["flow", "seen", *sources]]
    for flow in (*pretraining.FLOWS, *HELD_OUT):
        if not (found := results_of("zero", flow)):
            continue
        values = [[r["nrmse"].get(source, [np.nan] * 11)[10] for r in found] for source in sources.values()]
        shown = [spread(v) if len(found) > 1 else f"{v[0]:.3f}" for v in values]
        rows.append([flow.replace("_", " "), "yes" if flow in pretraining.FLOWS else "no", *shown])
    return "## Without further training\n\nnRMSE after ten intervals.\n\n" + rows_to_table(rows)


def tuning_table(flow: str) -> str:
    """The table of one flow: fine-tuned and from scratch."""
    reference = {r["seed"]: r for r in results_of(flow, "gcnn", "from scratch", 8)}
    head = ["network", "training", "trajectories", "steps", "seeds", *(f"nRMSE, step {step}" for step in STEPS),
            "ratio, step 10", "steps to the reference"]  # fmt: skip
    rows = [head]
    zero = results_of("zero", flow)
    for network, name in (("gcnn", "general-2d"), ("cnn", "its plain twin")):
        if zero and network in zero[0]["nrmse"]:
            ratios = [np.log(r["nrmse"][network][10] / reference[r["seed"]]["nrmse"][10]) for r in zero
                      if r["seed"] in reference]  # fmt: skip
            rows.append([name, "none", "0", "0", str(len(zero)),
                         *(spread([r["nrmse"][network][step] for r in zero]) for step in STEPS),
                         f"{np.exp(np.mean(ratios)):.2f}" if ratios else "", ""])  # fmt: skip
    for (network, way), count in product(WAYS, TRAJECTORIES):
        if not (found := results_of(flow, network, way, count)):
            continue
        pairs = [(r, reference[r["seed"]]) for r in found if r["seed"] in reference]
        ratios = [np.log(r["nrmse"][10] / other["nrmse"][10]) for r, other in pairs]
        reached = [steps_to(r["curve"], min(value for _, value in other["curve"])) for r, other in pairs]
        rows.append([
            network, way, str(count), str(found[0]["steps"]), str(len(found)),
            *(spread([r["nrmse"][step] for r in found]) for step in STEPS),
            f"{np.exp(np.mean(ratios)):.2f}" if ratios else "",
            f"{max(reached)}" if reached and None not in reached else "not reached",
        ])  # fmt: skip
    return f"## {flow.replace('_', ' ').capitalize()}\n\n" + rows_to_table(rows)


def steps_to(curve: list[list[float]], error: float) -> int | None:
    """Return the first step at which the validation error is at most `error`."""
    return next((int(step) for step, value in curve if value <= error), None)


def write_results() -> None:
    """results.md and results.png from what is there."""
    times = read_json(HERE / "times.json")
    about = (
        f"{times['date']}, {times['machine']}, float32. Mean ± standard deviation over seeds. The reference is a "
        "`gcnn` from scratch on eight trajectories: ratios to it are geometric means over pairs of the same seed, and "
        "the last "
        "column says after how many steps the validation error was as low as its least, in the slowest seed. What "
        "was measured, and how: `run.py`."
    )
    tables = [zero_shot_table(), *(tuning_table(flow) for flow in dict.fromkeys(flow for flow, *_ in JOBS))]
    write_report(HERE / "results.md", "One model for many flows", about, *tables)
    draw()


def draw() -> None:
    """Ten-step error against the number of trajectories."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    flows = list(dict.fromkeys(flow for flow, *_ in JOBS))
    for axis, flow in zip(figure.subplots(1, len(flows)), flows, strict=True):
        zero = results_of("zero", flow)
        for (network, way), x in zip(WAYS, (-0.03, 0.03, -0.03, 0.03), strict=True):
            colour, marker = ("#0072b2", "o") if network == "gcnn" else ("#d55e00", "^")
            found = [(n, [r["nrmse"][10] for r in results_of(flow, network, way, n)]) for n in TRAJECTORIES]
            found = [(n, values) for n, values in found if values]
            if not found:
                continue
            at, values = [n * (1 + x) for n, _ in found], [v for _, v in found]
            axis.errorbar(at, [np.mean(v) for v in values], [np.std(v, ddof=1) if len(v) > 1 else 0 for v in values],
                          fmt=marker, ls="-" if way == "fine-tuned" else ":", color=colour, capsize=2, ms=5,
                          mfc=colour if way == "fine-tuned" else "white", label=f"{network}, {way}")  # fmt: skip
            if way == "fine-tuned" and zero and network in zero[0]["nrmse"]:
                axis.axhline(np.mean([r["nrmse"][network][10] for r in zero]), color=colour, lw=0.8, ls="--",
                             label=f"{network}, not fine-tuned")  # fmt: skip
        axis.set(
            xscale="log", yscale="log", title=flow.replace("_", " "), xlabel="training trajectories of the new flow"
        )
        axis.set_xticks(TRAJECTORIES, [str(n) for n in TRAJECTORIES])
        axis.set_yticks([0.05, 0.1, 0.2, 0.5, 1.0], ["0.05", "0.1", "0.2", "0.5", "1"])
        axis.minorticks_off()
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("nRMSE after ten intervals")
    figure.axes[0].legend(fontsize=7, frameon=False)
    figure.savefig(HERE / "results.png", dpi=130)


def main() -> None:
    """Run what is missing and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="write results.md and results.png from what is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("fluidsurrogate").setLevel(logging.ERROR)
    (HERE / "results").mkdir(exist_ok=True)
    if not arguments.table:
        if not (HERE / "times.json").exists():
            calibrate()
        times = read_json(HERE / "times.json")
        for (flow, network, way, count), seed in product(JOBS, SEEDS):
            if way == "from scratch" or PRETRAINED[network].exists():
                tune(flow, network, way, count, seed, steps_of(times, network, way))
        score_without_training()
        pack_results(HERE / "results")
    write_results()


if __name__ == "__main__":
    main()
