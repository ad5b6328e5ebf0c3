"""What did the networks learn? Filters, reach, vortices, scales and the group axis, of five networks and three seeds.

    OMP_NUM_THREADS=1 python experiments/explain/run.py           # models, results/*.json, results.md and figures
    OMP_NUM_THREADS=1 python experiments/explain/run.py --table   # results.md and figures from what is there

Each network is trained on the demo's decaying flow for the number of steps that 22.5 core-seconds pay for (the times of
experiments/cheaper_networks; the group U-Net twice that), and explained by `fs.explain` on eight unseen trajectories.
Two of them take the vorticity alone: the others are given the velocity, so only these two must find the law of Biot and
Savart. About ten minutes on one core. A model or a result that is there is not made again.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from itertools import product
from pathlib import Path

import numpy as np
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate.core.files import read_json, write_json, write_text

sys.path.append(str(Path(__file__).parents[1]))
from study import slug

HERE = Path(__file__).parent
SEEDS = range(3)
LOCAL = {"kind": "gcnn", "width": 16, "lifting_size": 3, "dilations": [1, 2, 1], "activation": "gated"}
BEFORE = {"kind": "gunet", "width": 16, "levels": 2, "lifting_size": 5, "activation": "gelu", "velocity": False}
# Each network with its training steps.
NETWORKS: dict[str, tuple[dict, int]] = {
    "gcnn": (LOCAL, 690),
    "cnn": (LOCAL | {"kind": "cnn"}, 690),
    "cnn, augmented": (LOCAL | {"kind": "cnn", "augment": "D4"}, 700),
    "gcnn, no velocity": (LOCAL | {"velocity": False}, 730),
    "gunet, no velocity": (BEFORE, 490),
}
STYLES = {
    "gcnn": ("#0072b2", "o"),
    "cnn": ("#e69f00", "^"),
    "cnn, augmented": ("#d55e00", "v"),
    "gcnn, no velocity": ("#56b4e9", "D"),
    "gunet, no velocity": ("#009e73", "P"),
}
# The figures that the documentation shows.
FIGURES = {"gcnn": ("filters", "feature_maps", "receptive_field", "vortices", "scales", "group_axis"),
           "cnn": ("feature_maps",)}  # fmt: skip


def experiment_of(name: str, seed: int) -> fs.Experiment:
    """The demo's flow with one network; each seed has starts, weights and order of training of its own."""
    config, steps = NETWORKS[name]
    tree = fs.Experiment.read(HERE.parent / "demo.toml").tree()
    tree |= {"seed": seed, "models": {"network": config}}
    tree["data"] |= {"test_steps": tree["data"]["steps"]}
    tree["train"] |= {"steps": steps, "valid_every": max(steps // 10, 1), "workers": 1}
    return fs.Experiment.from_tree(tree)


def trained(runs: Path, name: str, seed: int) -> fs.Surrogate:
    """The model of one network and seed: from its folder, or trained and saved there."""
    folder = runs / f"{slug(name)}-{seed}"
    if not folder.exists():
        experiment = experiment_of(name, seed)
        data = fs.generate(experiment, runs / f"data-{seed}").load()
        fs.save(fs.train(experiment, data)["network"], folder)
    return fs.load(folder)


def path_of(name: str, seed: int) -> Path:
    """The result of a network and seed."""
    return HERE / "results" / f"{slug(name)}-{seed}.json"


def explained(runs: Path, name: str, seed: int) -> None:
    """Explain one model, keep its numbers and, of the first seed, the figures of `FIGURES`."""
    if path_of(name, seed).exists():
        return
    model = trained(runs, name, seed)
    model.about = {**model.about, "name": name}  # the title of the figures
    data = fs.generate(experiment_of(name, seed), runs / f"data-{seed}")
    out = runs / f"{slug(name)}-{seed}-explained"
    result = fs.explain(model, data=data, out=out)
    for figure in FIGURES.get(name, ()) if seed == 0 else ():
        shutil.copy(out / f"{figure}.png", HERE / f"{slug(name)}_{figure}.png")
    write_json(path_of(name, seed), {"parameters": model.parameters} | numbers_of(result))


def numbers_of(result: xr.Dataset) -> dict:
    """What the table and the figure need of an explanation."""
    y, x = result["offset_y"].values, result["offset_x"].values
    ring = np.round(np.hypot(y[:, None], x)).astype(int)
    numbers = {
        "orbit_error": result["orbit_error"].mean(),
        "feature_turn_error": result["feature_turn_error"].sel(layer="last"),
        "network_extent": result["network_extent"],
        "carried_rms": result["carried_rms"],
        "carried_max": result["carried_max"],
        "radius": result["radius"].sel(seen_by="model"),
        "radius_of_solver": result["radius"].sel(seen_by="solver"),
        "response_error_vortex": result["response_error"].sel(vortices="vortex"),
        "response_error_pair": result["response_error"].sel(vortices="pair"),
        "pair_speed_error": result["pair_speed_error"],
        "pair_speed_spread": (result["pair_speed"].std("turn") / result["pair_speed"].mean("turn")).mean(),
        "step_error": result["step_error"].max(),
        "equivariance_error": result["equivariance_error_of_step"].max(),
    }
    found: dict = {key: float(value) for key, value in numbers.items()}
    found |= {
        "separation": result["separation"].values.tolist(),
        "pair_speed": result["pair_speed"].mean("turn").values.tolist(),
        "pair_speed_of_solver": result["pair_speed_solver"].values.tolist(),
        "sensitivity": {str(name): [float(result["sensitivity"].sel(seen_by=name).values[ring == r].mean())
                                    for r in range(len(x) // 2)] for name in result["seen_by"].values},
    }  # fmt: skip
    first = result.isel(field=0)
    for name, over in (("equivariance", "own_change"), ("error", "truth"), ("solver_error", "truth")):
        ratio = np.sqrt(first[f"{name}_spectrum"] / first[f"{over}_spectrum"])
        found[f"{name}_by_wavenumber"] = ratio.values.tolist()
    found["wavenumber"] = result["wavenumber"].values.tolist()
    if "contribution" in result:
        found["contribution"] = result["contribution"].values.tolist()
        found["ablation_error"] = {str(kind): result["ablation_error"].sel(ablation=kind).values.tolist()
                                   for kind in result["ablation"].values}  # fmt: skip
        found["persistence_error"] = float(result["persistence_error"])
    return found


def results_of(name: str) -> list[dict]:
    """The results that are there, in the order of the seeds."""
    found = (read_json(path_of(name, seed)) for seed in SEEDS)
    return [result for result in found if result is not None]


def spread(values: list[float], unit: float = 1.0, digits: int = 2) -> str:
    """Mean ± standard deviation over the seeds."""
    if max(values) < 1e-4:
        return "0" if max(values) == 0 else "rounding"
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{unit * np.mean(values):.{digits}f} ± {unit * deviation:.{digits}f}"


def write_results() -> None:
    """results.md and results.png from what is there."""
    head = ["network", "weights", "error of one step [%]", "speed of a pair, error [%]", "between directions [%]",
            "response to a pair, error [%]", "to a vortex [%]", "reach [cells]", "radius of 90 % [cells]",
            "error of the symmetry [%]", "turned filters to nearest", "last features to turned ones"]  # fmt: skip
    rows = [head, ["---"] * len(head)]
    for name in NETWORKS:
        if found := results_of(name):
            rows.append([
                name, f"{found[0]['parameters']:,}",
                *(spread([r[key] for r in found], 100, 1) for key in ("step_error", "pair_speed_error",
                  "pair_speed_spread", "response_error_pair", "response_error_vortex")),
                f"{found[0]['network_extent']:.0f}", spread([r["radius"] for r in found], 1, 1),
                spread([r["equivariance_error"] for r in found], 100, 1),
                spread([r["orbit_error"] for r in found]), spread([r["feature_turn_error"] for r in found]),
            ])  # fmt: skip
    network_table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    every = [r for name in NETWORKS for r in results_of(name)]
    reach = (
        f"In an interval the flow carries things {np.mean([r['carried_rms'] for r in every]):.1f} cells (RMS) and "
        f"{np.max([r['carried_max'] for r in every]):.1f} at most. 90 % of the squared sensitivity of the solver's "
        f"step lies within {np.mean([r['radius_of_solver'] for r in every]):.1f} cells."
    )
    rows = [["network", "contribution of an element", "replaced", "lifting", "first block", "last block but one",
             "last block", "no change at all"]]  # fmt: skip
    rows.append(["---"] * len(rows[0]))
    for name in NETWORKS:
        found = [r for r in results_of(name) if "contribution" in r]
        for kind in found[0]["ablation_error"] if found else ():
            of_kind = np.array([r["ablation_error"][kind] for r in found])
            size = [v for r in found for v in r["contribution"]]
            rows.append([name, f"{min(size):.2f} to {max(size):.2f}", kind,
                         *(spread(list(of_kind[:, place]), 1, 1) for place in (0, 1, -2, -1)),
                         spread([r["persistence_error"] for r in found], 1, 1)])  # fmt: skip
    group_table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    finding = HERE / "finding.md"
    text = finding.read_text(encoding="utf-8").strip() if finding.exists() else ""
    about = (
        "Decaying flow, 32 x 32 cells, three seeds: mean ± standard deviation. What was measured, and how: "
        "`run.py` and `fluidsurrogate explain`."
    )
    axis_title = (
        "## The group axis\n\nError of one step, over that of the whole network, if the features of one layer are "
        "replaced."
    )
    parts = ("# What did the networks learn?", text, about, network_table, reach, axis_title, group_table)
    write_text(HERE / "results.md", "\n\n".join(part for part in parts if part) + "\n")
    draw()


def draw() -> None:
    """results.png: pairs of vortices, sensitivity by distance and error of the symmetry by wavenumber."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.6), layout="constrained")
    pairs, reach, scales = figure.subplots(1, 3)
    of_solver = [r for name in NETWORKS for r in results_of(name)]
    solver = {"color": "#000000", "ls": "--", "marker": "s", "ms": 5, "zorder": 5}
    speeds = np.array([np.array(r["pair_speed_of_solver"]) / r["pair_speed_of_solver"][0] for r in of_solver])
    pairs.plot(of_solver[0]["separation"], speeds.mean(0), label="the solver", **solver)
    profiles = np.array([r["sensitivity"]["solver"] for r in of_solver])
    reach.semilogy(profiles.mean(0) / profiles.mean(0)[0], label="the solver", **solver)
    for name, (colour, marker) in STYLES.items():
        if not (found := results_of(name)):
            continue
        style = {"color": colour, "marker": marker, "ms": 5, "label": name}
        speeds = np.array([np.array(r["pair_speed"]) / r["pair_speed_of_solver"][0] for r in found])
        pairs.errorbar(found[0]["separation"], speeds.mean(0), speeds.std(0), capsize=2, **style)
        profiles = np.array([np.array(r["sensitivity"]["model"]) / r["sensitivity"]["solver"][0] for r in found])
        reach.semilogy(profiles.mean(0), **style)
        k = np.array(found[0]["wavenumber"])
        errors = np.array([r["equivariance_by_wavenumber"] for r in found]).mean(0)
        scales.loglog(k[k <= 15], errors[k <= 15], **style)
    carried = float(np.mean([r["carried_rms"] for r in of_solver])), max(r["carried_max"] for r in of_solver)
    reach.axvspan(*carried, color="0.85", zorder=0, label="carried in an interval:\nRMS to most")
    pairs.set(title="speed of a pair of vortices", xlabel="separation [cells]",
              ylabel="relative to the solver's closest pair", ylim=(-0.03, None))  # fmt: skip
    reach.set(title="what the change of a cell depends on", xlabel="distance [cells]", ylabel="sensitivity, relative",
              ylim=(2e-3, 1.5))  # fmt: skip
    scales.set(title="error of the symmetry", xlabel="wavenumber [1/m]", ylabel="|f(gx) - g f(x)| / |f(x) - x|",
               ylim=(1e-8, 3))  # fmt: skip
    for axis in (pairs, reach, scales):
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    pairs.legend(frameon=False, fontsize=8)
    reach.legend(*(part[-1:] for part in reach.get_legend_handles_labels()), frameon=False, fontsize=8)
    figure.savefig(HERE / "results.png", dpi=110)


def main() -> None:
    """Train and explain what is missing, write the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/explain"), help="folder for data and models")
    parser.add_argument("--table", action="store_true", help="write results.md and results.png from what is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("fluidsurrogate").setLevel(logging.ERROR)
    (HERE / "results").mkdir(exist_ok=True)
    if not arguments.table:
        for seed, name in product(SEEDS, NETWORKS):
            explained(arguments.runs, name, seed)
    write_results()


if __name__ == "__main__":
    main()
