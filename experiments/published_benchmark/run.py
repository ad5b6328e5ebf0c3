"""A published benchmark, NS-Sym (Helwig et al. 2023, arXiv:2306.05697): forced flow, ten frames ahead.

    python experiments/published_benchmark/run.py                       # 64 trajectories, 5 minutes a network
    python experiments/published_benchmark/run.py --setting gpu         # 1000 trajectories, 20 minutes, on a GPU
    python experiments/published_benchmark/run.py --setting miniature   # seconds: what the tests run
    python experiments/published_benchmark/run.py --table               # results.md from what is there

Their setting: ν = 1e-4, 256² cells strided to 64², Δt = 1, the forcing 0.1 (cos 4πx + cos 4πy), 1000 trajectories; ten
frames go in, ten come out; the score is the relative L2 norm over the ten. Their data come from explicit steps of 1e-4
and node-centred samples. Here the data are the same distribution, by this package's solver (base.toml), cell-centred
and spectrally truncated, not their files. The networks see one frame, the tenth, and the forcing as a typed input. The
solver on 64² cells forecasts from the same frame. All networks train for the same time, measured on the machine that
trains them. A run that is there is not made again.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import Persistence
from fluidsurrogate.core.files import read_json, write_json
from fluidsurrogate.data.conversion import to_inputs, to_states
from fluidsurrogate.simulation.rollout import rollout
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.windows import InMemoryTrajectories
from solvers import Stepper

sys.path.append(str(Path(__file__).parents[1]))
from study import markdown, one_thread, only, slug, training_step_seconds, write_report

HERE = Path(__file__).parent
STEPS, BATCH = 10, 16
LOCAL = {"lifting_size": 3, "activation": "gated"}
MODELS: dict[str, dict[str, Any]] = {
    "gunet": {"kind": "gunet", "group": "D4", "width": 16, "levels": 3, **LOCAL},
    "gunet, C4": {"kind": "gunet", "group": "C4", "width": 16, "levels": 3, **LOCAL},
    "unet, augmented": {"kind": "unet", "width": 16, "levels": 3, **LOCAL, "augment": "D4"},
    "gcnn": {"kind": "gcnn", "group": "D4", "width": 16, "dilations": [1, 2, 4, 4, 2, 1], **LOCAL},
    "gfno": {"kind": "gfno", "group": "D4"},
    "fno": {"kind": "fno"},
    "hybrid": {"kind": "gcnn", "group": "D4", "width": 8, "dilations": [1, 2, 1], **LOCAL, "solver": {"n": 64}},
}
PUBLISHED = {"FNO": 4.21, "FNO + p4 augmentation": 4.80, "G-FNO-p4": 2.24, "G-FNO-p4m": 2.37, "U-Net-p4": 15.4}
# Overrides of base.toml, and the seconds of training of each network.
SETTINGS: dict[str, tuple[list[str], float, str]] = {
    "cores": ([], 300.0, "cpu"),
    "gpu": (["data.train=1000", "data.valid=100", "data.test=100", "train.batch=32"], 1200.0, "cuda"),
    "miniature": (["data.train=2", "data.valid=2", "data.test=2", "grid.n=64", "grid.store=32"], 1.0, "cpu"),
}


def experiment_of(setting: str, name: str | None, seed: int, steps: int = 1000) -> fs.Experiment:
    """The flow with one network."""
    overrides, _, device = SETTINGS[setting]
    tree = fs.Experiment.read(HERE / "base.toml", overrides).tree()
    tree |= {"seed": seed, "device": device, "models": {} if name is None else {"network": MODELS[name]}}
    tree["train"] |= {"steps": steps, "valid_every": max(steps // 10, 1)}
    return fs.Experiment.from_tree(tree)


def relative_l2(forecast: torch.Tensor, truth: torch.Tensor) -> float:
    """The mean over trajectories of the L2 norm of the error over that of the truth, of all frames jointly, in %."""
    error = (forecast - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
    return 100 * float(error.mean())


def score(stepper: Stepper, test: xr.Dataset, device: str) -> dict[str, float]:
    """The relative L2 norm over ten frames, that of the first, and the milliseconds of a frame of 16 starts."""
    states = to_states(test, stepper.spec, torch.float32).to(device)
    inputs = {name: v.to(device) for name, v in to_inputs(test, stepper.spec, torch.float32).items()}
    with torch.no_grad():
        forecast = rollout(stepper, states[:, 0], STEPS, inputs)
        few = {name: v[:BATCH] for name, v in inputs.items()}
        times = []
        for _ in range(5):
            began = time.perf_counter()
            rollout(stepper, states[:BATCH, 0], 2, few).cpu()
            times.append((time.perf_counter() - began) / 2)
    return {"l2": round(relative_l2(forecast[:, 1:], states[:, 1:]), 4),
            "first": round(relative_l2(forecast[:, 1:2], states[:, 1:2]), 4),
            "ms": round(1e3 * statistics.median(times), 2)}  # fmt: skip


def seconds_of_gpu() -> float:
    """The clock when the GPU has done all that it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()


def steps_for(experiment: fs.Experiment, data: xr.Dataset, seconds: float, clock: Callable[[], float]) -> int:
    """How many training steps take so long."""
    train, valid = (InMemoryTrajectories.from_dataset(data, split, experiment) for split in ("train", "valid"))
    trainers = {"network": prepare_training(experiment, "network", train, valid, {})}
    return max(1, int(seconds / training_step_seconds(trainers, rounds=5, clock=clock)["network"]))


def run(setting: str, runs: Path, results: Path, seeds: int) -> None:
    """Every network and seed, the solver and persistence."""
    _, seconds, device = SETTINGS[setting]
    clock = time.process_time if device == "cpu" else seconds_of_gpu
    experiment = experiment_of(setting, None, 0)
    data = fs.generate(experiment, runs / setting).load()
    test = only(data, "test")
    if not (path := results / "solver.json").exists():
        rows: dict[str, Stepper] = {"persistence": Persistence(experiment.spec)}
        rows |= experiment.build_baseline_solvers()
        write_json(path, {name: score(stepper, test, device) for name, stepper in rows.items()})
    for seed, name in product(range(seeds), MODELS):
        if MODELS[name]["kind"] == "fno" and find_spec("neuralop") is None:
            print('without fno: pip install "fluidsurrogate[fno]"')
            continue
        path = results / f"{slug(name)}-{seed}.json"
        if path.exists():
            continue
        steps = steps_for(experiment_of(setting, name, seed), data, seconds, clock)
        began = clock()
        model = fs.train(experiment_of(setting, name, seed, steps), data)["network"]
        took = clock() - began
        fs.save(model, runs / f"{setting}-models" / path.stem)
        machine = torch.cuda.get_device_name() if device == "cuda" else f"a core of an {platform.machine()}"
        write_json(path, {"network": name, "seed": seed, "steps": steps, "parameters": model.parameters,
                          "seconds": round(took, 1), "date": date.today().isoformat(), "machine": machine,
                          **score(model, test, device)})  # fmt: skip


def write_results(folder: Path) -> None:
    """results.md: a table for each setting that has results."""
    parts = []
    for setting, (_, seconds, _) in SETTINGS.items():
        results = folder / setting
        if setting == "miniature" or not (solvers := read_json(results / "solver.json")):
            continue
        count = experiment_of(setting, None, 0).data.train
        rows, machine = [], ""
        for name in MODELS:
            found = [read_json(path) for path in sorted(results.glob(f"{slug(name)}-[0-9].json"))]
            if found:
                machine = f"{found[0]['machine']}, {found[0]['date']}"
                l2, first = ([r[key] for r in found] for key in ("l2", "first"))
                spread = f" ± {np.std(l2, ddof=1):.2f}" if len(l2) > 1 else ""
                steps = sorted({r["steps"] for r in found})
                shown = f"{steps[0]} to {steps[-1]}" if len(steps) > 1 else f"{steps[0]}"
                about = [name, f"{found[0]['parameters']:,}", shown, str(len(found))]
                rows.append([*about, f"{np.mean(l2):.2f}{spread}", f"{np.mean(first):.2f}", f"{found[0]['ms']:.1f}"])
        rows += [
            [name, "", "", "", f"{r['l2']:.2f}", f"{r['first']:.2f}", f"{r['ms']:.1f}"] for name, r in solvers.items()
        ]
        head = [
            "source",
            "weights",
            "steps",
            "seeds",
            "relative L2 of ten frames [%]",
            "of the first [%]",
            "ms a frame of 16",
        ]
        parts.append(f"## {count} trajectories, {seconds:g} s of training, {machine}\n\n" + markdown(head, rows))
    rows = [[name, f"{value:.2f}"] for name, value in PUBLISHED.items()]
    parts.append("## As published: 1000 trajectories, ten frames in, on their files\n\n"
                 + markdown(["network", "relative L2 of ten frames [%]"], rows))  # fmt: skip
    about = "The same distribution, not the same files: what differs, and how it was measured, is in `run.py`."
    write_report(folder / "results.md", "A published benchmark: NS-Sym", about, *parts)


def main() -> None:
    """Run what is missing, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=SETTINGS, default="cores")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/published_benchmark"), help="folder for data and models"
    )
    parser.add_argument("--results", type=Path, default=HERE, help="folder for the results")
    parser.add_argument("--table", action="store_true", help="write results.md from what is there")
    given = parser.parse_args()
    if not given.table:
        one_thread()
        (given.results / given.setting).mkdir(parents=True, exist_ok=True)
        run(given.setting, given.runs, given.results / given.setting, given.seeds)
    write_results(given.results)


if __name__ == "__main__":
    main()
