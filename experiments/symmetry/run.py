"""When does symmetry pay? Data, anisotropy and time against the error of plain, augmented and equivariant networks.

    python experiments/symmetry/run.py --calibrate           # times.json: the CPU time of a training step; two minutes
    python experiments/symmetry/run.py [--processes 2]       # results.json, results.md, results.png, chart.png
    python experiments/symmetry/run.py --table               # the tables and figures from what is there
    python experiments/symmetry/run.py --budget 90 --seeds 5 --results FOLDER    # a larger setting

Three kinds of data, computed on 96 x 96 cells and stored on 32 x 32:

- isotropic: decaying turbulence, the demo's flow;
- layered: the same flow from jets along x, seen from one side;
- kolmogorov: a forced flow whose forcing, an input of the networks, has one orientation.

Every network sees 1, 2, 4, 8 or 32 trajectories and trains for the same core-seconds: as many steps as the CPU time of
a step (times.json) allows. It forecasts 16 unseen trajectories of its kind, and the same turned by 90°. Each seed has
starts, weights and order of training of its own. Networks of equal activations, and of equal weights (`cnn, small`):

- `cnn`, `unet` and the same with augmentation: each batch turned or mirrored at random;
- `gcnn`, `gunet`: D4; `gcnn, C4`;
- `gcnn, wrong parity`: the vorticity taken for a plain scalar, whose mirrors are no symmetry of the flow;
- `gcnn, soft`: D4, plus a small plain network (residual pathway priors, Finzi et al. 2021, arXiv:2112.01388);
- `gcnn, relaxed`: D4, with a weight for each element of the group in each layer, which training may make unequal
  (relaxed group convolutions, Wang et al. 2023, arXiv:2310.02299).

A run that is there is not made again.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from figures import draw_chart, draw_curves, draw_wavenumbers
from networks import COUNTS, MAIN, MODELS, module_of

import fluidsurrogate as fs
from fluidsurrogate.config.user_modules import with_modules
from fluidsurrogate.core.files import read_json, write_json
from fluidsurrogate.data.conversion import to_inputs, to_states
from fluidsurrogate.evaluation.equivariance import equivariance_error
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.windows import InMemoryTrajectories
from solvers import D4

sys.path.append(str(Path(__file__).parents[1]))
from study import (
    HORIZON,
    error_by_wavenumber,
    markdown,
    one_core,
    one_thread,
    only,
    pack_results,
    ratio,
    read_result,
    scores,
    slug,
    solver_scores,
    spread,
    tenth,
    training_step_seconds,
    turned,
    velocity_scale,
    write_report,
)

HERE = Path(__file__).parent
KINDS = {"isotropic": HERE / "isotropic.toml", "layered": HERE / "layered.toml", "kolmogorov": HERE / "kolmogorov.toml"}
LONGER = [("cnn, augmented", 2.0), ("cnn, augmented", 4.0), ("gcnn", 0.5), ("gcnn", 2.0), ("gcnn", 4.0)]
Run = tuple[str, int, str, int, float]  # kind of data, trajectories, network, seed, times the budget


def experiment_of(kind: str, count: int, name: str | None, seed: int, steps: int = 100) -> fs.Experiment:
    """One kind of data with one network."""
    tree = fs.Experiment.read(KINDS[kind]).tree()
    is_module = name is not None and MODELS[name]["kind"] == "module"
    tree |= {"seed": seed, "models": {} if name is None or is_module else {"network": MODELS[name]}}
    tree["data"] |= {"train": count, "test_steps": tree["data"]["steps"]}
    tree["train"] |= {"steps": steps, "valid_every": max(steps // 10, 1), "workers": 1}
    return fs.Experiment.from_tree(tree)


def runs(seeds: int) -> list[Run]:
    """All runs, those that the targets are about first."""
    order = [
        *product(("isotropic", "layered"), (2, 8, 1), MAIN),
        *product(("isotropic", "layered"), (2, 8), [name for name in MODELS if name not in MAIN]),
        *product(("isotropic", "layered"), (4, 32), MAIN),
        *product(("kolmogorov",), (2, 8), MAIN),
    ]
    chosen = [(kind, count, name, seed, 1.0) for seed in range(seeds) for kind, count, name in order]
    more = [("isotropic", 8, name, seed, times) for seed in range(seeds)
            for name, times in LONGER]  # fmt: skip
    return chosen + more


def path_of(folder: Path, run: Run) -> Path:
    """The result of a run."""
    kind, count, name, seed, times = run
    longer = "" if times == 1 else f"-x{times:g}"
    return folder / f"{kind}-{count}-{slug(name)}{longer}-{seed}.json"


def dataset(runs_folder: Path, kind: str, seed: int) -> xr.Dataset:
    """All trajectories of a kind and a seed."""
    experiment = experiment_of(kind, max(COUNTS), None, seed)
    return fs.generate(experiment, runs_folder / f"{kind}-{seed}").load()


def trainer_of(experiment: fs.Experiment, name: str, seen: xr.Dataset, seed: int):
    """The trainer of a network, before its first step."""
    networks: dict[str, Any] = {}
    if module := module_of(name, experiment.spec, velocity_scale(seen, experiment.spec), seed):
        experiment, networks = with_modules(experiment, {"network": module[name]})
    train, valid = (InMemoryTrajectories.from_dataset(seen, split, experiment) for split in ("train", "valid"))
    return prepare_training(experiment, "network", train, valid, {}, networks.get("network"))


def train_and_score(runs_folder: Path, folder: Path, run: Run, steps: int) -> None:
    """One run, and its scores on 16 unseen trajectories."""
    path = path_of(folder, run)
    if read_result(path) is not None:
        return
    one_thread()
    kind, count, name, seed, times = run
    data, experiment = dataset(runs_folder, kind, seed), experiment_of(kind, count, name, seed, steps)
    seen = xr.concat([only(data, "train", count), only(data, "valid")], "trajectory", data_vars="minimal")
    test, spec = only(data, "test"), experiment.spec
    states = to_states(test, spec, torch.float32)[:, 0]
    inputs = to_inputs(test, spec, torch.float32) or None
    before = error_by_wavenumber(trainer_of(experiment, name, seen, seed).surrogate, states, inputs)
    module = module_of(name, spec, velocity_scale(seen, spec), seed)
    began = time.process_time()
    model = next(iter(fs.train(experiment, seen, models=module or None).values()))
    write_json(path, {
        "kind": kind, "trajectories": count, "network": name, "seed": seed, "budget": times, "steps": steps,
        "parameters": model.parameters, "cpu_seconds": round(time.process_time() - began, 1),
        "equivariance_error": max(equivariance_error(model, states, D4, inputs).values()),
        "equivariance_error_before_by_wavenumber": before,
        "equivariance_error_by_wavenumber": error_by_wavenumber(model, states, inputs),
        "same": scores(model, test), "turned": scores(model, turned(test, spec)),
    })  # fmt: skip


def score_solvers(runs_folder: Path, folder: Path, seeds: int) -> None:
    """solvers.json: the classical solvers from the starts that the networks have."""
    if read_result(folder / "solvers.json") is not None:
        return
    one_thread()
    found: dict[str, dict[str, list]] = {}
    for kind, seed in product(KINDS, range(seeds)):
        test = only(dataset(runs_folder, kind, seed), "test")
        for name, row in solver_scores(experiment_of(kind, max(COUNTS), None, seed), test).items():
            one = found.setdefault(kind, {}).setdefault(name, {"nrmse": [], "correlation_time": [], "ms": []})
            for key, values in one.items():
                values.append(row[key])
    write_json(folder / "solvers.json", found)


def calibrate(runs_folder: Path, before: dict[str, Any]) -> None:
    """times.json: the CPU time of a training step of each network, measured in turn by one thread.

    A network that is missing in what was measured before is measured beside `gcnn`, and its time is scaled to what
    `gcnn` has there.
    """
    one_thread()
    known = before.get("training_step_ms", {})
    names = [name for name in MODELS if name == "gcnn" or name not in known]
    data = dataset(runs_folder, "isotropic", 0)
    seen = xr.concat([only(data, "train", 8), only(data, "valid")], "trajectory", data_vars="minimal")
    trainers = {name: trainer_of(experiment_of("isotropic", 8, name, 0, 1000), name, seen, 0) for name in names}
    measured = {name: 1e3 * seconds for name, seconds in training_step_seconds(trainers).items()}
    scale = known.get("gcnn", measured["gcnn"]) / measured["gcnn"]
    found = {name: known.get(name, round(scale * measured.get(name, math.nan), 2)) for name in MODELS}
    write_json(HERE / "times.json", (before or one_core()) | {"training_step_ms": found})


# -- tables and figures


def collect(folder: Path, seeds: int) -> dict[tuple[str, int, str, float], dict[int, dict]]:
    """Results by kind, trajectories, network and budget, then by seed."""
    found: dict[tuple[str, int, str, float], dict[int, dict]] = {}
    for run in runs(seeds):
        if (result := read_result(path_of(folder, run))) is not None:
            kind, count, name, seed, times = run
            found.setdefault((kind, count, name, times), {})[seed] = result
    return found


def trajectories_for(found: dict, kind: str, name: str, error: float, test: str) -> float:
    """How many trajectories a network needs for an error, interpolated in the logarithms; inf: more than there are."""
    counts = [count for count in COUNTS if (kind, count, name, 1.0) in found]
    errors = [np.log(np.mean([tenth(r, test) for r in found[kind, count, name, 1.0].values()])) for count in counts]
    for i, count in enumerate(counts):
        if errors[i] <= np.log(error):
            if i == 0:
                return count
            part = (errors[i - 1] - np.log(error)) / (errors[i - 1] - errors[i])
            return float(np.exp(np.log(counts[i - 1]) + part * np.log(count / counts[i - 1])))
    return float("inf")


def tables(found: dict, folder: Path) -> Iterator[str]:
    """Yield the tables."""
    for kind, count in product(KINDS, COUNTS):
        rows = []
        for name in MODELS:
            if not (results := found.get((kind, count, name, 1.0))):
                continue
            one = next(iter(results.values()))
            times = [r["same"]["correlation_time"] for r in results.values()]
            censored = "> " if sum(r["same"]["censored"] for r in results.values()) > len(results) / 2 else ""
            plain, augmented = (found.get((kind, count, other, 1.0), {}) for other in ("cnn", "cnn, augmented"))
            low = [np.mean(r["equivariance_error_by_wavenumber"][:5]) for r in results.values()]
            at_large_scales = f"{np.mean(low):.2f}" if np.mean(low) > 1e-3 else "rounding"
            rows.append([
                name, f"{one['parameters']:,}", str(one["steps"]), str(len(results)),
                spread([tenth(r) for r in results.values()]), ratio(results, plain), ratio(results, augmented),
                spread([tenth(r, "turned") for r in results.values()]), ratio(results, plain, "turned"),
                ratio(results, augmented, "turned"), f"{censored}{np.median(times):.3g}",
                f"{np.median([r['equivariance_error'] for r in results.values()]):.1e}", at_large_scales,
            ])  # fmt: skip
        if rows:
            head = ["network", "weights", "steps", "seeds", "nRMSE, step 10", "/ cnn", "/ cnn, augmented",
                    "turned tests", "/ cnn", "/ cnn, augmented", "correlation time [s]", "equivariance error",
                    "at k ≤ 5"]  # fmt: skip
            yield f"## {kind.capitalize()}, {count} trajector{'y' if count == 1 else 'ies'}\n\n" + markdown(head, rows)
    rows = []
    for kind, test, count in product(("isotropic", "layered"), ("same", "turned"), (1, 2, 4, 8)):
        if (kind, count, "gcnn", 1.0) in found:
            error = float(np.mean([tenth(r, test) for r in found[kind, count, "gcnn", 1.0].values()]))
            needed = [trajectories_for(found, kind, other, error, test) for other in ("cnn, augmented", "cnn")]
            shown = [f"{n:.2g}" if np.isfinite(n) else f"> {max(COUNTS)}" for n in needed]
            rows.append([kind, test, str(count), f"{error:.3f}", *shown])
    if rows:
        head = ["data", "tests", "trajectories of `gcnn`", "nRMSE, step 10", "`cnn, augmented` needs", "`cnn` needs"]
        yield "## Data for equal error\n\n" + markdown(head, rows)
    rows = []
    for (kind, count, name, times), results in found.items():
        if times != 1 or (kind == "isotropic" and count == 8 and name in MAIN):
            rows.append([name, f"{times:g}", str(next(iter(results.values()))["steps"]), str(len(results)),
                         spread([tenth(r) for r in results.values()])])  # fmt: skip
    head = ["network", "times the budget", "steps", "seeds", "nRMSE, step 10"]
    yield "## Time for equal error: eight isotropic trajectories\n\n" + markdown(head, sorted(rows))
    solvers = read_result(folder / "solvers.json") or {}
    rows = [[kind, name, *(spread([series[step] for series in r["nrmse"]]) for step in (1, HORIZON, -1)),
             f"{np.median(r['correlation_time']):.3g}", f"{np.median(r['ms']):.1f}"]
            for kind, sources in solvers.items() for name, r in sources.items()]  # fmt: skip
    if rows:
        head = ["data", "source", "nRMSE, step 1", "step 10", "step 20", "correlation time [s]", "ms an interval of 16"]
        yield "## The classical solver, from the same starts\n\n" + markdown(head, rows)


def write_results(out: Path, seeds: int, budget: float) -> None:
    """results.md, results.png, chart.png and wavenumbers.png from what is there."""
    found, times = collect(out / "results", seeds), read_json(HERE / "times.json")
    about = (
        f"{times['date']}, {times['machine']}, float32; {budget:g} core-seconds of training each. Mean ± standard "
        "deviation over seeds; ratios are geometric means over pairs of the same seed ± their standard error. What "
        "was measured, and how: `run.py`."
    )
    write_report(out / "results.md", "When does symmetry pay?", about, *tables(found, out / "results"))
    for name, draw in (("results", draw_curves), ("chart", draw_chart), ("wavenumbers", draw_wavenumbers)):
        draw(found, out / f"{name}.png")


def main() -> None:
    """Calibrate if need be, run what is missing, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--budget", type=float, default=15.0, help="core-seconds of training for each network")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/symmetry"), help="folder for the data")
    parser.add_argument("--results", type=Path, default=HERE, help="folder for results.json, tables and figures")
    parser.add_argument("--calibrate", action="store_true", help="measure the times, nothing else")
    parser.add_argument("--table", action="store_true", help="write the tables and figures from what is there")
    given = parser.parse_args()
    logging.getLogger("fluidsurrogate").setLevel(logging.ERROR)
    if given.table:
        write_results(given.results, given.seeds, given.budget)
        return
    before = {} if given.calibrate else read_json(HERE / "times.json") or {}
    if MODELS.keys() - before.get("training_step_ms", {}).keys():
        calibrate(given.runs, before)
    if given.calibrate:
        return
    milliseconds = read_json(HERE / "times.json")["training_step_ms"]
    folder = given.results / "results"
    steps = {run: int(1e3 * given.budget * run[4] / milliseconds[run[2]]) // 10 * 10 for run in runs(given.seeds)}
    for run, count in steps.items():
        if (found := read_result(path_of(folder, run))) is not None and found["steps"] != count:
            parser.error(f"{given.results} holds results of another budget: give --results FOLDER")
    folder.mkdir(parents=True, exist_ok=True)
    for kind, seed in product(KINDS, range(given.seeds)):  # before the processes share them
        dataset(given.runs, kind, seed)
    with ProcessPoolExecutor(given.processes) as pool:
        jobs = [(given.runs, folder, run, count) for run, count in steps.items()]
        waiting = [pool.submit(train_and_score, *job) for job in jobs]
        for done in waiting:
            done.result()
    score_solvers(given.runs, folder, given.seeds)
    pack_results(folder)
    write_results(given.results, given.seeds, given.budget)


if __name__ == "__main__":
    main()
