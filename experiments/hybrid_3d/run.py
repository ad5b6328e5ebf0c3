"""Can a learned correction in space do what no classical solver can from the same start?

    python experiments/hybrid_3d/run.py [--runs runs/hybrid_3d] [--seeds 3] [--only NAME]   # results/*.json
    python experiments/hybrid_3d/run.py --table     # results.md and results.png from what is there

The truth is computed on 96³ cells and seen on 16³ (base.toml). Everything starts from what is seen, in which no scale
below the stored ones is left, so that even the solver on 96³ has an error that it cannot lose. Compared are

- the solver on 16³ to 96³, each with the longest of its steps whose error is within 5 % of its least,
- Smagorinsky's model on 24³ to 48³, its constant chosen on the validation data,
- hybrids: the solver on a coarse grid, which keeps its own state from interval to interval, and a network that corrects
  the stored modes at the end of each interval, trained through solver and network over up to four intervals. Networks
  over the rotations of the cube (`gcnn`, O), dense and separable, and a plain one (`cnn`) that sees the data turned.

Milliseconds: an interval of one trajectory, in a batch of eight on one core, all in turn in one process. What is there
(results/*.json) is not made again.
"""

from __future__ import annotations

import argparse
import logging
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

import fluidsurrogate as fs
from fluidsurrogate.core.files import read_json, write_json, write_text
from fluidsurrogate.data.conversion import to_dataset, to_states
from fluidsurrogate.simulation.rollout import rollout, seconds_per_step
from fluidsurrogate.simulation.splits import split_of
from solvers import Grid, Resampled, Stepper
from solvers.array_types import Inputs, State

HERE = Path(__file__).parent
GRIDS, SMAGORINSKY_GRIDS, STEPS = (16, 24, 32, 40, 48, 64, 96), (24, 32, 40, 48), (4, 5, 6, 8, 16)
CONSTANTS = (0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2)
SHOWN = (1, 4, 8, 16)
EQUIVARIANT = {"kind": "gcnn", "group": "O", "width": 48, "lifting_size": 3, "dilations": [1, 1]}
PLAIN = {name: value for name, value in EQUIVARIANT.items() if name != "group"} | {"kind": "cnn", "augment": "Oh"}
MODELS = {
    "hybrid-40": EQUIVARIANT | {"n": 40},
    "hybrid-40-separable": EQUIVARIANT | {"n": 40, "separable": True},
    "hybrid-40-cnn": PLAIN | {"n": 40},
    "hybrid-24": EQUIVARIANT | {"n": 24},
    "hybrid-32": EQUIVARIANT | {"n": 32},
    "hybrid-48": EQUIVARIANT | {"n": 48},
}
INNER_STEPS = {24: 4, 32: 4, 40: 5, 48: 6}  # of a hybrid's solver, an interval: the best of the solvers' table


class Smagorinsky(Stepper):
    """The solver with an eddy viscosity, ∂u/∂t = … + P ∇·(2 ν_t S), ν_t = (C Δ)² |S|, Δ = π / k_max.

    The term is added to the solver's state after each of its steps (J. Smagorinsky, Mon. Weather Rev. 91, 99, 1963).
    """

    def __init__(self, solver: Stepper, steps: int, constant: float) -> None:
        self.solver, self.steps, self.dt = solver, steps, solver.spec.interval
        grid = solver.spec.grid
        self.spec = solver.spec
        self.k = torch.stack(torch.broadcast_tensors(*reversed(grid.odd_wavenumbers()))).float()
        self.squared_length = (constant * np.pi / max(float(k.max()) for k in kept(grid))) ** 2

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None):
        return self.solver.start(state, inputs, seeds)

    def advance(self, carry):
        for _ in range(self.steps):
            carry = self.solver.advance(carry)
            carry = self.solver.correct(carry, self.dt * self.tendency(self.solver.state(carry)))
        return carry

    def tendency(self, velocity: State) -> State:
        """The divergence of 2 ν_t S; the solver projects it and cuts what it does not hold."""
        space = (-3, -2, -1)
        spectrum = torch.fft.rfftn(velocity, dim=space)
        gradient = torch.fft.irfftn(1j * self.k[:, None] * spectrum[:, None], s=velocity.shape[2:], dim=space)
        strain = (gradient + gradient.transpose(1, 2)) / 2
        stress = 2 * self.squared_length * (2 * strain.square().sum((1, 2), keepdim=True)).sqrt() * strain
        return torch.fft.irfftn((1j * self.k[:, None] * torch.fft.rfftn(stress, dim=space)).sum(1),
                                s=velocity.shape[2:], dim=space)  # fmt: skip

    def state(self, carry) -> State:
        return self.solver.state(carry)


def kept(grid: Grid) -> list[Tensor]:
    """The wavenumbers of each axis that the two-thirds rule keeps."""
    return [k.flatten()[: m + 1] for k, m in zip(grid.wavenumbers(), grid.max_modes, strict=True)]


# -- the forecasters


def experiment_of(name: str | None = None, seed: int = 0, updates: int = 400) -> fs.Experiment:
    """The study's experiment with one model."""
    tree = fs.Experiment.read(HERE / "base.toml").tree() | {"seed": seed}
    if name is not None:
        n = MODELS[name]["n"]
        solver = {"n": n, "dt": tree["data"]["interval"] / INNER_STEPS[n], "order": 2}
        options = {key: value for key, value in MODELS[name].items() if key != "n"}
        tree["models"] = {name: options | {"solver": solver}}
        tree["train"] |= {"steps": updates, "valid_every": max(updates // 4, 1)}
    return fs.Experiment.from_tree(tree)


def solver_on(n: int, steps: int) -> Stepper:
    """The solver on n³ cells between states on 16³, ETDRK2, float32."""
    experiment = experiment_of()
    grid, interval = Grid.cube(n), experiment.data.interval
    solver = experiment.build_flow().solver(grid, interval=interval, dt=interval / steps, order=2)
    return Resampled(solver, experiment.spec.grid)


def smagorinsky_on(n: int, steps: int, constant: float) -> Stepper:
    """Smagorinsky's model on n³ cells between states on 16³."""
    experiment = experiment_of()
    dt = experiment.data.interval / steps
    solver = experiment.build_flow().solver(Grid.cube(n), interval=dt, dt=dt, order=2)
    return Resampled(Smagorinsky(solver, steps, constant), experiment.spec.grid)


def scored(stepper: Stepper, truth: Tensor) -> dict:
    """Error by time and correlation time of a stepper's forecast from the first true states."""
    with torch.no_grad():
        states = rollout(stepper, truth[:, 0], truth.shape[1] - 1)
    spec = experiment_of().spec
    both = [to_dataset(spec, s.float()) for s in (states, truth)]
    scores = fs.compare({"f": both[0]}, both[1], metrics=["energy_spectrum_error"]).sel(source="f")
    return {
        "nrmse": [round(float(v), 5) for v in scores["nrmse"].values],
        "correlation_time": round(float(scores["correlation_time"].mean()), 4),
        "censored": int(scores["correlation_time_censored"].sum()),
        "spectrum": [round(float(v), 5) for v in scores["energy_spectrum_error"].values],
    }


def mean_error(row: dict) -> float:
    """The mean of the errors by time; infinite where a forecast blew up."""
    return float(np.nan_to_num(np.mean(row["nrmse"][1:]), nan=np.inf, posinf=np.inf))


def run_solvers(truth: Tensor) -> None:
    """results/solvers.json: each grid with each number of steps."""
    path = HERE / "results" / "solvers.json"
    if not path.exists():
        write_json(path, [{"n": n, "steps": s, **scored(solver_on(n, s), truth)} for n in GRIDS for s in STEPS])


def run_smagorinsky(valid: Tensor, truth: Tensor) -> None:
    """results/smagorinsky.json: each constant on the validation data, the best of them on the test data."""
    path, rows = HERE / "results" / "smagorinsky.json", []
    if path.exists():
        return
    for n in SMAGORINSKY_GRIDS:
        scan = {c: mean_error(scored(smagorinsky_on(n, 8, c), valid)) for c in CONSTANTS}
        constant = min(scan, key=scan.__getitem__)
        for steps in STEPS:
            row = {"n": n, "steps": steps, "constant": constant, "scan": {str(c): v for c, v in scan.items()}}
            rows.append(row | scored(smagorinsky_on(n, steps, constant), truth))
    write_json(path, rows)


def best(rows: list[dict]) -> dict[int, dict]:
    """Of each grid, the row of the longest step whose mean error is within 5 % of the least."""
    by_grid = {n: [row for row in rows if row["n"] == n] for n in dict.fromkeys(row["n"] for row in rows)}
    return {
        n: next(row for row in own if mean_error(row) <= 1.05 * min(map(mean_error, own))) for n, own in by_grid.items()
    }


def run_model(name: str, seed: int, updates: int, data: xr.Dataset, truth: Tensor, runs: Path) -> None:
    """Train and score one hybrid."""
    path = HERE / "results" / f"{name}-{seed}.json"
    if path.exists():
        return
    experiment = experiment_of(name, seed, updates)
    began = time.perf_counter()
    model = fs.train(experiment, data)[name]
    seconds = time.perf_counter() - began
    fs.save(model, runs / f"{name}-{seed}")
    about = {"parameters": model.parameters, "updates": updates, "seconds": round(seconds)}
    write_json(path, about | scored(model, truth))
    print(f"{name}, seed {seed}: {seconds:.0f} s", flush=True)


def time_all(truth: Tensor, runs: Path) -> None:
    """results/milliseconds.json: of an interval of one trajectory, at each solver's best step."""
    path = HERE / "results" / "milliseconds.json"
    if path.exists():
        return
    steppers: dict[str, Stepper] = {
        f"solver {n}³": solver_on(n, row["steps"]) for n, row in best(read_json(HERE / "results/solvers.json")).items()
    }
    for n, row in best(read_json(HERE / "results" / "smagorinsky.json")).items():
        steppers[f"Smagorinsky {n}³"] = smagorinsky_on(n, row["steps"], row["constant"])
    steppers |= {name: fs.load(runs / f"{name}-0") for name in MODELS if (runs / f"{name}-0").exists()}
    seconds = seconds_per_step(steppers, truth[:, 0])
    write_json(path, {name: round(1e3 * value / len(truth), 3) for name, value in seconds.items()})


# -- table and figure


def rows() -> dict[str, list[dict]]:
    """Results by forecaster: one for a solver, one for each seed of a hybrid."""
    found = {f"solver {n}³": [row] for n, row in best(read_json(HERE / "results" / "solvers.json")).items()}
    for n, row in best(read_json(HERE / "results" / "smagorinsky.json")).items():
        found[f"Smagorinsky {n}³"] = [row]
    for name in MODELS:
        results = [read_json(path) for path in sorted((HERE / "results").glob(f"{name}-[0-9].json"))]
        found |= {name: results} if results else {}
    return found


def write_results() -> None:
    """results.md and results.png."""
    found, times = rows(), read_json(HERE / "results" / "milliseconds.json") or {}
    head = ["", "seeds", "steps an interval", "ms an interval", *(f"nRMSE, {t}" for t in SHOWN), "correlation time",
            "spectrum, 8", "parameters"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, runs in found.items():
        steps = runs[0].get("steps") or INNER_STEPS[MODELS[name]["n"]]
        cells = [
            name,
            str(len(runs)) if "seconds" in runs[0] else "-",
            str(steps),
            f"{times[name]:.1f}" if name in times else "-",
        ]
        cells += [spread([run["nrmse"][t] for run in runs]) for t in SHOWN]
        cells.append(("≥ " if any(r["censored"] for r in runs) else "") + f"{mean(runs, 'correlation_time'):.2f}")
        cells.append(f"{np.mean([run['spectrum'][8] for run in runs]):.3f}")
        cells.append(f"{runs[0]['parameters']:,}" if "parameters" in runs[0] else "-")
        lines.append("| " + " | ".join(cells) + " |")
    finding = HERE / "finding.md"
    constants = {row["n"]: row["constant"] for row in read_json(HERE / "results" / "smagorinsky.json")}
    text = [
        "# A coarse solver with a learned correction, in space",
        f"Decaying turbulence on 96³ cells, seen on 16³; {len(found['solver 96³'][0]['nrmse']) - 1} intervals of 0.25 "
        f"from eight unseen starts; one core, {platform.machine()}. Errors: nRMSE of the stored state after so many "
        "intervals, mean ± standard deviation over seeds. Smagorinsky's constant: "
        + ", ".join(f"{c} on {n}³" for n, c in constants.items())
        + ". What was measured, and how: `run.py`.",
        finding.read_text(encoding="utf-8").strip() if finding.exists() else "",
        "\n".join(lines),
    ]
    write_text(HERE / "results.md", "\n\n".join(part for part in text if part) + "\n")
    if times:
        draw(found, times)


def mean(runs: list[dict], key: str) -> float:
    return float(np.mean([run[key] for run in runs]))


def spread(values: list[float]) -> str:
    """Mean, and ± standard deviation over several seeds."""
    if not np.isfinite(values).all():
        return "blows up"
    return f"{np.mean(values):.4f}" + (f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else "")


def draw(found: dict[str, list[dict]], times: dict[str, float]) -> None:
    """Error against cost after one and after eight intervals, and error against time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    axes = figure.subplots(1, 3)
    kinds = {"solver": ("#333333", "o-"), "Smagorinsky": ("#e69f00", "s--"), "hybrid": ("#0072b2", "D")}
    for axis, step, limits in zip(axes, (1, 8), ((0.08, 0.15), (0.22, 0.5)), strict=False):
        for kind, (colour, style) in kinds.items():
            names = [name for name in found if name.startswith(kind) and name in times]
            errors = [np.mean([run["nrmse"][step] for run in found[name]]) for name in names]
            axis.plot([times[name] for name in names], errors, style, color=colour, label=kind)
            for i, (name, error) in enumerate(zip(names, errors, strict=True)):
                label, below = name.split(" ")[-1].removeprefix("hybrid-"), -9 * (1 + i % 3)
                axis.annotate(label, (times[name], error), fontsize=7, textcoords="offset points", color=colour,
                              xytext=(5, below if kind == "hybrid" else 5), annotation_clip=True)  # fmt: skip
        axis.set(xscale="log", ylim=limits, xlabel="ms an interval, one core", ylabel="nRMSE")
        axis.set_title(f"after {step} interval{'s' if step > 1 else ''}")
    shown = [n for n in found if n in ("solver 24³", "solver 40³", "solver 48³", "solver 96³") or n not in times
             or n.startswith(("hybrid", "Smagorinsky 40"))]  # fmt: skip
    for i, name in enumerate(shown):
        errors = np.mean([run["nrmse"] for run in found[name]], axis=0)
        axes[2].plot(0.25 * np.arange(len(errors)), errors, label=name, color=f"C{i}",
                     ls="-" if name.startswith("hybrid") else "--")  # fmt: skip
    axes[2].set(xlabel="time [s]", ylabel="nRMSE", title="error by time")
    axes[0].legend(frameon=False, fontsize=8)
    axes[2].legend(frameon=False, fontsize=7)
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / "results.png", dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/hybrid_3d"), help="folder of data and models")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=400, help="training steps of each hybrid")
    parser.add_argument("--only", nargs="+", choices=MODELS, default=[*MODELS], help="some of the hybrids")
    parser.add_argument("--time", action="store_true", help="measure the times: once all hybrids are there")
    parser.add_argument("--table", action="store_true", help="write results.md and results.png from what is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("fluidsurrogate").setLevel(logging.ERROR)
    (HERE / "results").mkdir(exist_ok=True)
    if not arguments.table:
        experiment = experiment_of()
        data = fs.generate(experiment, arguments.runs)
        valid, truth = (
            to_states(split_of(data, split, experiment), experiment.spec, torch.float32) for split in ("valid", "test")
        )
        run_solvers(truth)
        run_smagorinsky(valid, truth)
        for seed in range(arguments.seeds):
            for name in arguments.only:
                run_model(name, seed, arguments.updates, data, truth, arguments.runs)
        if arguments.time:
            time_all(truth, arguments.runs)
    write_results()


if __name__ == "__main__":
    main()
