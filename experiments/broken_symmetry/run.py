"""What if a force breaks the symmetry? The forcing as a typed input, a smaller group, a group that is too large.

    python experiments/broken_symmetry/run.py [--processes 2]      # results.json, results.md, results.png
    python experiments/broken_symmetry/run.py --table              # the table and figure from what is there

Three flows with a steady forcing, stored on 32 x 32 cells: the Kolmogorov flow (its forcing keeps C2), and the two on
which neural operators are compared: `cells` (it keeps C4) and `diagonal` (no symmetry is left). The networks:

- `gcnn, D4`: the forcing is an input with a type, which turns with the state: the full group is a symmetry again;
- `gcnn, matched`: the group that the forcing keeps, C2 or C4; for `diagonal` it is that of `cnn`;
- `gcnn, forcing mistyped`: D4, with the forcing taken for a plain scalar: mirrors are no symmetry;
- `gcnn, forcing unknown`: D4 without the forcing, a group that is too large, and `cnn, forcing unknown`;
- `cnn` and `cnn, augmented`: the forcing is turned along with the state.

All train for the same number of steps, some 15 core-seconds, on 8 trajectories, and forecast 16 unseen
trajectories and the same turned by 90°, with the forcing. A run that is there is not made again.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

import fluidsurrogate as fs
from fluidsurrogate.core.files import write_json
from fluidsurrogate.data.conversion import to_inputs, to_states
from fluidsurrogate.evaluation.equivariance import equivariance_error
from fluidsurrogate.nn import ARCHITECTURES
from solvers import D4, FORCING, VORTICITY, StateSpec

sys.path.append(str(Path(__file__).parents[1]))
from study import (
    WithVelocity,
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
    turned,
    velocity_scale,
    write_report,
)

HERE = Path(__file__).parent
FLOWS = {"kolmogorov": "C2", "cells": "C4", "diagonal": ""}  # and the group that the forcing keeps
COUNTS, SEEDS, STEPS = (8,), range(3), 450
LOCAL = {"width": 16, "lifting_size": 3, "dilations": [1, 2, 1], "activation": "gated"}
MODELS: dict[str, dict[str, Any]] = {
    "gcnn, D4": {"kind": "gcnn", **LOCAL},
    "gcnn, matched": {"kind": "gcnn", **LOCAL},
    "gcnn, forcing mistyped": {"kind": "module"},
    "gcnn, forcing unknown": {"kind": "module"},
    "cnn, forcing unknown": {"kind": "module"},
    "cnn": {"kind": "cnn", **LOCAL},
    "cnn, augmented": {"kind": "cnn", **LOCAL, "augment": "D4"},
}
Run = tuple[str, int, str, int]  # flow, trajectories, network, seed


def module_of(name: str, spec: StateSpec, scale: float, seed: int) -> dict[str, nn.Module]:
    """What no TOML file describes. `scale` is what `study.velocity_scale` returns."""
    if MODELS[name]["kind"] != "module":
        return {}
    torch.manual_seed(seed)
    fields = (VORTICITY, spec.velocity_of_vorticity)
    if sees_forcing := name == "gcnn, forcing mistyped":
        fields = (*fields, replace(FORCING, parity=1))
    kind, group = ("cnn", {}) if name.startswith("cnn") else ("gcnn", {"group": "D4"})
    network = ARCHITECTURES[kind](fields, (VORTICITY,), **group, **LOCAL)
    return {name: WithVelocity(spec, scale, network, inputs=int(sees_forcing))}


def experiment_of(flow: str, count: int, name: str | None, seed: int) -> fs.Experiment:
    """One flow with one network."""
    tree = fs.Experiment.read(HERE / f"{flow}.toml").tree()
    network = {} if name is None else dict(MODELS[name])
    if name == "gcnn, matched":
        network["group"] = FLOWS[flow]
    is_config = network and network["kind"] != "module"
    tree |= {"seed": seed, "models": {"network": network} if is_config else {}}
    tree["data"] |= {"train": count}
    tree["train"] |= {"steps": STEPS, "valid_every": STEPS // 10, "workers": 1}
    return fs.Experiment.from_tree(tree)


def runs() -> list[Run]:
    """All runs, all of one seed together."""
    every = [(f, c, m, s) for s, c, f, m in product(SEEDS, COUNTS, FLOWS, MODELS)]
    return [run for run in every if FLOWS[run[0]] or run[2] != "gcnn, matched"]


def path_of(run: Run) -> Path:
    """The result of a run."""
    flow, count, name, seed = run
    return HERE / "results" / f"{flow}-{count}-{slug(name)}-{seed}.json"


def dataset(folder: Path, flow: str, seed: int) -> xr.Dataset:
    """All trajectories of a flow and a seed."""
    return fs.generate(experiment_of(flow, max(COUNTS), None, seed), folder / f"{flow}-{seed}").load()


def train_and_score(folder: Path, run: Run) -> None:
    """One run, and its scores on 16 unseen trajectories."""
    if read_result(path_of(run)) is not None:
        return
    one_thread()
    flow, count, name, seed = run
    data, experiment = dataset(folder, flow, seed), experiment_of(flow, count, name, seed)
    seen = xr.concat([only(data, "train", count), only(data, "valid")], "trajectory", data_vars="minimal")
    test, spec = only(data, "test"), experiment.spec
    module = module_of(name, spec, velocity_scale(seen, spec), seed)
    began = time.process_time()
    model = next(iter(fs.train(experiment, seen, models=module or None).values()))
    took = time.process_time() - began
    states, inputs = to_states(test, spec, torch.float32)[:, 0], to_inputs(test, spec, torch.float32)
    write_json(path_of(run), {
        "flow": flow, "trajectories": count, "network": name, "seed": seed, "steps": STEPS,
        "parameters": model.parameters, "cpu_seconds": round(took, 1),
        "machine": "{machine}, {date}".format(**one_core()),
        "equivariance_error": max(equivariance_error(model, states, D4, inputs).values()),
        "same": scores(model, test), "turned": scores(model, turned(test, spec)),
    })  # fmt: skip


def score_solvers(folder: Path) -> None:
    """solvers.json: the classical solvers from the starts that the networks have."""
    path = HERE / "results" / "solvers.json"
    if read_result(path) is None:
        one_thread()
        experiments = {(f, s): experiment_of(f, max(COUNTS), None, s) for f, s in product(FLOWS, SEEDS)}
        write_json(path, {flow: [solver_scores(experiments[flow, s], only(dataset(folder, flow, s), "test"))
                                 for s in SEEDS] for flow in FLOWS})  # fmt: skip


def collect() -> dict[tuple[str, int, str], dict[int, dict]]:
    """Results by flow, trajectories and network, then by seed."""
    found: dict[tuple[str, int, str], dict[int, dict]] = {}
    for run in runs():
        if (result := read_result(path_of(run))) is not None:
            found.setdefault(run[:3], {})[run[3]] = result
    return found


def write_results() -> None:
    """results.md and results.png from what is there."""
    found, parts = collect(), []
    for flow, count in product(FLOWS, COUNTS):
        rows = []
        plain, augmented = (found.get((flow, count, other), {}) for other in ("cnn", "cnn, augmented"))
        for name in MODELS:
            if not (results := found.get((flow, count, name))):
                continue
            kept = f" ({FLOWS[flow]})" if name == "gcnn, matched" else ""
            rows.append([
                name + kept, f"{next(iter(results.values()))['parameters']:,}", str(len(results)),
                spread([tenth(r) for r in results.values()]), ratio(results, plain), ratio(results, augmented),
                spread([tenth(r, "turned") for r in results.values()]), ratio(results, plain, "turned"),
                f"{np.median([r['equivariance_error'] for r in results.values()]):.1e}",
            ])  # fmt: skip
        if rows:
            head = ["network", "weights", "seeds", "nRMSE, step 10", "/ cnn", "/ cnn, augmented", "turned tests",
                    "/ cnn", "equivariance error (D4)"]  # fmt: skip
            parts.append(f"## {flow.capitalize()}, {count} trajectories\n\n" + markdown(head, rows))
    rows = []
    for flow, seeds in (read_result(HERE / "results" / "solvers.json") or {}).items():
        for name in seeds[0]:
            errors = [spread([r[name]["nrmse"][step] for r in seeds]) for step in (1, 10, -1)]
            rows.append([flow, name, *errors, f"{np.median([r[name]['ms'] for r in seeds]):.1f}"])
    head = ["flow", "source", "nRMSE, step 1", "step 10", "step 20", "ms an interval of 16"]
    parts.append("## The classical solver, from the same starts\n\n" + markdown(head, rows))
    machines = "; ".join(sorted({r["machine"] for results in found.values() for r in results.values()}))
    about = (
        f"{machines}, float32; {STEPS} training steps each. Mean ± "
        "standard deviation over seeds; ratios are geometric means over pairs of the same seed ± their standard "
        "error. What was measured, and how: `run.py`."
    )
    write_report(HERE / "results.md", "What if a force breaks the symmetry?", about, *parts)
    draw(found)


def draw(found: dict) -> None:
    """results.png: the ten-step errors as bars, by flow."""
    from matplotlib.figure import Figure

    colours = ("#0072b2", "#56b4e9", "#cc79a7", "#8c510a", "#bbbbbb", "#d55e00", "#e69f00")
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    axis = figure.subplots()
    for j, (name, colour) in enumerate(zip(MODELS, colours, strict=True)):
        groups = [(i, found[flow, 8, name]) for i, flow in enumerate(FLOWS) if (flow, 8, name) in found]
        for test, alpha, shift in (("same", 1.0, 0.0), ("turned", 0.45, 0.055)):
            at = [i + (j - 3) * 0.125 + shift for i, _ in groups]
            values = [[tenth(r, test) for r in results.values()] for _, results in groups]
            axis.bar(at, [np.mean(v) for v in values], 0.055, yerr=[np.std(v) for v in values], color=colour,
                     alpha=alpha, error_kw={"lw": 0.8}, label=name if test == "same" else None)  # fmt: skip
    axis.set_xticks(range(len(FLOWS)), list(FLOWS))
    axis.set(ylabel="nRMSE after ten steps", title="Eight trajectories; pale: tests turned by 90°, with the forcing")
    axis.title.set_fontsize(10)
    axis.grid(axis="y", alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(HERE / "results.png", dpi=130)


def main() -> None:
    """Run what is missing, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/broken_symmetry"), help="folder for the data")
    parser.add_argument("--table", action="store_true", help="write the table and figure from what is there")
    given = parser.parse_args()
    if not given.table:
        one_thread()
        (HERE / "results").mkdir(exist_ok=True)
        for flow, seed in product(FLOWS, SEEDS):  # before the processes share them
            dataset(given.runs, flow, seed)
        with ProcessPoolExecutor(given.processes) as pool:
            for done in [pool.submit(train_and_score, given.runs, run) for run in runs()]:
                done.result()
        score_solvers(given.runs)
        pack_results(HERE / "results")
    write_results()


if __name__ == "__main__":
    main()
