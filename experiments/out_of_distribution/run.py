"""What are forecasts worth out of distribution, and do their error bounds notice?

    python experiments/out_of_distribution/run.py           # results/*.json, results.md, results.png: 25 minutes
    python experiments/out_of_distribution/run.py --table   # results.md and results.png from what is there

Two networks learn decaying turbulence (base.toml): `fixed` at the viscosity 8e-3, `conditioned` at viscosities from
4e-3 to 1.6e-2, which are an input of it. Both are calibrated on fresh starts of what they have seen. Then they forecast
32 starts of other flows, each with a resolved truth: viscosities divided and multiplied by four, other spectra and
speeds, a box twice as large, a stirred flow. The classical solver on 32² and 48² cells (in the larger box 64² and 96²)
forecasts the same starts. Three seeds.

- *bound*: the 90 % bound of the error at t = 2.5, in the mean; *coverage*: how often the error is below it;
- *stated horizon*: the time up to which the bound stays below 0.5; *real horizon*: the same of the error; medians;
- *spread / error*: of the members, at t = 2.5, after the calibration.
"""

from __future__ import annotations

import argparse
import logging
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate.core.files import read_json, write_json
from fluidsurrogate.data.grids import grid_of
from fluidsurrogate.evaluation.ensemble_members import control_or_mean

sys.path.append(str(Path(__file__).parents[1]))
from study import markdown, one_thread, only, solver_scores, spread, write_report

HERE = Path(__file__).parent
SEEDS, LEAD, LEVEL, MEMBERS = range(3), 10, 0.5, 8
NETWORKS = {"fixed": [], "conditioned": ["flow.viscosity={low = 4e-3, high = 1.6e-2, distribution = 'log-uniform'}"]}
FINE = ["grid.n=192"]
CASES: dict[str, list[str]] = {
    "as seen": [],
    "viscosity / 4": ["flow.viscosity=2e-3", *FINE],
    "viscosity / 2": ["flow.viscosity=4e-3", "grid.n=128"],
    "viscosity × 2": ["flow.viscosity=1.6e-2"],
    "viscosity × 4": ["flow.viscosity=3.2e-2"],
    "larger eddies": ["flow.wavenumber=2.5"],
    "smaller eddies": ["flow.wavenumber=6", "grid.n=128"],
    "half the speed": ["flow.rms=1.5"],
    "twice the speed": ["flow.rms=6", *FINE],
    "box twice as large": ["grid.n=192", "grid.store=64", "grid.length=12.566370614359172", "flow.wavenumber=8",
                           "flow.bandwidth=2", "compare.solvers=[{n = 96}]"],
    "jets": ["flow.layering=4", "flow.spin_up=0.5"],
    "stirred": ["flow={kind = 'stirred', viscosity = 8e-3, drag = 0.1, spin_up = 20}", "grid.n=128"],
}  # fmt: skip


def experiment_of(seed: int, *overrides: str) -> fs.Experiment:
    """The base experiment with other values."""
    return fs.Experiment.read(HERE / "base.toml", [f"seed={seed}", *overrides])


def model_of(runs: Path, network: str, seed: int) -> fs.Surrogate:
    """The network, trained and calibrated, made once."""
    folder = runs / f"{network}-{seed}"
    if not folder.exists():
        model = fs.train(experiment_of(seed, *NETWORKS[network]), models=["network"])["network"]
        fs.save(fs.calibrate(model, starts=400, members=MEMBERS), folder)
    return fs.load(folder)


def test_of(runs: Path, case: str, seed: int) -> xr.Dataset:
    """The test trajectories of a case."""
    experiment = experiment_of(seed, *CASES[case], "data.train=1", "data.valid=1", "models={}")
    folder = runs / f"{case.replace('/', 'over').replace('×', 'times').replace(' ', '-')}-{seed}"
    return only(fs.generate(experiment, folder).load(), "test")


def starts_of(test: xr.Dataset, network: str, viscosity: float) -> xr.Dataset:
    """The starts as the network takes them, without the flow's constants, for which it would refuse them."""
    starts = test[["vorticity"]].drop_attrs(deep=False)
    if network == "conditioned":
        values = np.full(test.sizes["trajectory"], viscosity)
        starts = starts.assign(viscosity=("trajectory", values, {"units": "m2 s-1"}))
    return starts


def horizons(errors: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The last time up to which each error stays below the level."""
    below = np.cumprod(errors < LEVEL, axis=1).sum(1)
    return times[np.maximum(below - 1, 0)]


def score(model: fs.Surrogate, network: str, test: xr.Dataset, viscosity: float) -> dict[str, Any]:
    """Errors, bounds and horizons of the forecasts of a case."""
    starts, steps = starts_of(test, network, viscosity), test.sizes["time"] - 1
    is_own_grid = test.sizes["x"] == model.spec.grid.n[-1]  # a model is not calibrated on any other
    if is_own_grid:
        forecast = fs.forecast(model, starts, steps, members=MEMBERS)
    else:
        forecast = fs.forecast(fs.move_to_grid(model, grid_of(test)), starts, steps)
    truth, best = test["vorticity"].values, control_or_mean(forecast)["vorticity"]
    states = best.transpose("trajectory", "time", "y", "x").values
    scale = np.sqrt((truth**2).mean((-2, -1)))
    errors = np.sqrt(((states - truth) ** 2).mean((-2, -1))) / scale
    times = test["time"].values - float(test["time"][0])
    result: dict[str, Any] = {
        "nrmse": [round(float(v), 5) for v in errors.mean(0)],
        "real_horizon": float(np.median(horizons(errors, times))),
    }
    if is_own_grid:
        members = forecast["vorticity"].transpose("member", "trajectory", "time", "y", "x").values
        width = np.sqrt(members.var(0, ddof=1).mean((-2, -1))) / scale
        bound = forecast["error_bound"].transpose("trajectory", "time").values
        result |= {
            "bound": round(float(bound[:, LEAD].mean()), 4),
            "coverage": round(float((errors[:, LEAD] <= bound[:, LEAD]).mean()), 4),
            "stated_horizon": float(np.median(forecast["horizon"].values)),
            "spread_over_error": round(float(width[:, LEAD].mean() / errors[:, LEAD].mean()), 4),
        }
    return result


def run(runs: Path, seed: int) -> None:
    """All cases of a seed."""
    path = HERE / "results" / f"{seed}.json"
    found = read_json(path) or {}
    for case in CASES:
        if case in found:
            continue
        test = test_of(runs, case, seed)
        viscosity = float(experiment_of(seed, *CASES[case]).build_flow().coefficients["viscosity"])
        rows: dict[str, Any] = {
            network: score(model_of(runs, network, seed), network, test, viscosity) for network in NETWORKS
        }
        solvers = solver_scores(experiment_of(seed, *CASES[case], "models={}"), test)
        rows |= {name: {"nrmse": row["nrmse"]} for name, row in solvers.items()}
        found[case] = rows | {"resolution_error": float(test.attrs["resolution_error"])}
        write_json(path, found)


def write_results() -> None:
    """results.md and results.png from what is there."""
    found = [one for seed in SEEDS if (one := read_json(HERE / "results" / f"{seed}.json")) is not None]

    def over_seeds(case: str, source: str, key: str) -> list[float]:
        rows = [one[case][source] for one in found if case in one and source in one[case]]
        return [row["nrmse"][LEAD] if key == "nrmse" else row[key] for row in rows if key == "nrmse" or key in row]

    lines, keys = [], ("bound", "coverage", "stated_horizon", "real_horizon", "spread_over_error")
    for case, network in product(CASES, NETWORKS):
        if errors := over_seeds(case, network, "nrmse"):
            means = [np.mean(v) if (v := over_seeds(case, network, key)) else None for key in keys]
            solvers = [over_seeds(case, name, "nrmse") for name in ("solver-32", "solver-64", "solver-48", "solver-96")]
            solvers = [v for v in solvers if v][:2]
            said = ["-" if m is None else f"{100 * m:.0f} %" if key == "coverage" else f"{m:.2f}"
                    for key, m in zip(keys, means, strict=True)]  # fmt: skip
            lines.append([case, network, spread(errors), *said, *(f"{np.mean(v):.3f}" for v in solvers)])
    head = ["case", "network", f"nRMSE, t = {LEAD * 0.25}", "bound", "coverage", "stated horizon", "real horizon",
            "spread / error", "solver on the stored cells", "on 3/2 as many"]  # fmt: skip
    about = (
        "Mean ± standard deviation over three seeds, 32 starts each; what the columns mean, and how it was measured: "
        "`run.py`. A model gives no bound on a grid that it was not calibrated on."
    )
    write_report(HERE / "results.md", "Out of distribution", about, markdown(head, lines))
    draw(over_seeds)


def draw(over_seeds: Any) -> None:
    """results.png: the stated against the real error and horizon of each case."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    at = np.arange(len(CASES))
    for shift, network, colour in ((-0.18, "fixed", "#d55e00"), (0.18, "conditioned", "#0072b2")):
        for axis, real, stated in ((left, "nrmse", "bound"), (right, "real_horizon", "stated_horizon")):
            values = [[np.mean(v) if (v := over_seeds(case, network, key)) else np.nan for case in CASES]
                      for key in (real, stated)]  # fmt: skip
            axis.barh(at + shift, values[0], 0.32, color=colour, alpha=0.75, label=network)
            axis.plot(values[1], at + shift, "k|", ms=9, mew=2, label="stated" if network == "fixed" else None)
    for axis, label in ((left, "nRMSE at t = 2.5 (bar) and its stated bound (line)"), (right, "horizon: real, stated")):
        axis.set_yticks(at, list(CASES) if axis is left else [])
        axis.invert_yaxis()
        axis.set_xlabel(label)
        axis.grid(axis="x", alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
    figure.savefig(HERE / "results.png", dpi=130)


def main() -> None:
    """Run what is missing, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/out_of_distribution"), help="folder for data and models"
    )
    parser.add_argument("--table", action="store_true", help="write results.md and results.png from what is there")
    given = parser.parse_args()
    if not given.table:
        one_thread()
        logging.getLogger("fluidsurrogate").setLevel(logging.ERROR)
        (HERE / "results").mkdir(exist_ok=True)
        for seed in SEEDS:
            run(given.runs, seed)
    write_results()


if __name__ == "__main__":
    main()
