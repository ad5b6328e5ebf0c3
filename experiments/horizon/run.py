"""How far can a forecast be trusted, and does the model know? Bounds, members and horizons of the demo's D4 network.

    python experiments/horizon/run.py [--model FOLDER]      # results.json, results.md, results.png

The model is calibrated on 3000 fresh starts (and 125 others, which fix the perturbation) and tested on 2000 more, all
by the demo's solver, each under a split name of its own in the seeds; 24 intervals each, 8 members. Then schemes of
perturbation are compared on 32 further starts. Where no model is given it is trained by the demo's experiment, for
1,000 steps (a minute or two). What is there is not made again: runs/horizon holds the model and every start's scores.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate.core.files import read_json, write_json, write_text
from fluidsurrogate.evaluation.ensemble_members import control_or_mean, perturbed_members
from fluidsurrogate.evaluation.ensemble_metrics import ENSEMBLE_METRICS
from fluidsurrogate.evaluation.ensemble_metrics.spread import normalised_spread
from fluidsurrogate.evaluation.metrics.normalised_rmse import nrmse
from fluidsurrogate.models.forecast_errors import conformal_quantiles
from fluidsurrogate.models.forecasting import perturbed_forecast
from fluidsurrogate.models.provenance import experiment_of
from fluidsurrogate.models.true_trajectories import CALIBRATION_SPLIT, trajectories_from_solver

HERE = Path(__file__).parent
WORK = Path("runs/horizon")
FITTED, STARTS, TESTS, STEPS, MEMBERS, LEVELS = 125, 3000, 2000, 24, 8, (0.25, 0.5)
BLOCK, SHOWN = 125, (1, 2, 4, 6, 8, 10, 12, 16, 20, 24)


def fitted(path: Path) -> fs.Surrogate:
    """The demo's model with its perturbation, fitted on FITTED starts, from runs/horizon if it is there. The quantiles
    that it comes with are replaced by those of STARTS others."""
    if (WORK / "model" / "calibration.json").exists():
        return fs.load(WORK / "model")
    if path.exists():
        model = fs.load(path)
    else:
        experiment = fs.Experiment.read(HERE.parent / "demo.toml", ["train.steps=1000"])
        model = fs.train(experiment, models=["gcnn-d4"])["gcnn-d4"]
    model = fs.calibrate(model, starts=8 * FITTED, steps=STEPS, members=MEMBERS)
    fs.save(model, WORK / "model")
    return model


def calibrated(model: fs.Surrogate) -> tuple[fs.Surrogate, np.ndarray, np.ndarray]:
    """With the quantiles over STARTS starts, the first after those of the fit, block by block; and their errors and
    spreads (start, lead)."""
    errors, spreads = [], []
    for first in range(FITTED, FITTED + STARTS, BLOCK):
        path = WORK / "calibration" / f"{first}.json"
        if (found := read_json(path)) is None:
            truth = truth_of(model, CALIBRATION_SPLIT, first, BLOCK)
            forecast = fs.forecast(model, truth, STEPS, members=MEMBERS)
            alone, others = control_or_mean(forecast), perturbed_members(forecast)
            error, spread = nrmse(alone, truth), normalised_spread(others, alone)
            found = [v.transpose("trajectory", "time").values[:, 1:].round(6).tolist() for v in (error, spread)]
            write_json(path, found)
            logging.info(f"{first + BLOCK - FITTED} of {STARTS} calibration starts")
        errors.append(found[0])
        spreads.append(found[1])
    error, spread = np.concatenate(errors), np.concatenate(spreads)
    model.calibration = model.calibration.model_copy(update={
        "starts": STARTS, "nrmse": conformal_quantiles(error, 0.9),
        "ratio": conformal_quantiles(error / spread ** np.array(model.calibration.exponent), 0.9),
    })  # fmt: skip
    return model, error, spread


def truth_of(model: fs.Surrogate, split: str, first: int, count: int) -> xr.Dataset:
    """Fresh trajectories of the demo's flow."""
    parts = trajectories_from_solver(experiment_of(model), STEPS, split)(first, first + count)
    return xr.concat(list(parts), "trajectory", data_vars="minimal", coords="minimal", compat="override")


def test_block(model: fs.Surrogate, first: int) -> dict:
    """Scores of BLOCK test starts, from a file if it is there."""
    path = WORK / "blocks" / f"{first}.json"
    if (found := read_json(path)) is not None:
        return found
    truth = truth_of(model, "horizon-test", first, BLOCK)
    forecast = fs.forecast(model, truth, STEPS, members=MEMBERS)
    alone, others = control_or_mean(forecast), perturbed_members(forecast)
    error = nrmse(alone, truth)
    absolute = abs(alone["vorticity"] - truth["vorticity"]).mean(("y", "x")) / (
        (truth["vorticity"] ** 2).mean(("y", "x")) ** 0.5
    )
    result = {
        "error": error, "error_of_mean": nrmse(others.mean("member"), truth),
        "spread": normalised_spread(others, truth), "own_spread": normalised_spread(others, alone),
        "crps": ENSEMBLE_METRICS["crps"](forecast, truth), "absolute": absolute,
    }  # fmt: skip
    found = {key: value.transpose("trajectory", "time").values.round(6).tolist() for key, value in result.items()}
    found["ranks"] = ENSEMBLE_METRICS["rank_histogram"](forecast, truth).values.round(8).tolist()
    write_json(path, found)
    return found


def schemes(model: fs.Surrogate) -> list[dict]:
    """Spread-skill of other perturbations, each scaled so that it is 1 in the geometric mean over the leads."""
    path = WORK / "schemes.json"
    if (found := read_json(path)) is not None:
        return found
    truth = truth_of(model, "horizon-schemes", 0, 32)
    own = model.calibration.perturbation.build()
    flat = tuple(tuple(float(v > 0) for v in spectrum) for spectrum in own.spectra)
    rows = []
    for name, perturbation, start_alone in (
        ("start alone", own, True),
        ("start and every step, independent", replace(own, memory=0.0), False),
        ("start and every step, with the errors' memory (taken)", own, False),
        ("the same, equal variance in every shell", replace(own, spectra=flat), False),
    ):
        factor = own.factor if perturbation is own else 0.03 if perturbation.spectra == flat else 2.0
        for last in (False, False, True):
            ratio = spread_skill(model, replace(perturbation, factor=factor), truth, start_alone)
            if not last:
                factor /= float(np.exp(np.log(ratio).mean()))
        rows.append({"scheme": name, "factor": round(factor, 4), "spread_skill": ratio.round(4).tolist()})
    write_json(path, rows)
    return rows


def spread_skill(model: fs.Surrogate, perturbation, truth: xr.Dataset, start_alone: bool) -> np.ndarray:
    """Spread over error of the members' mean by lead."""
    members = perturbed_forecast(model, truth, 1 if start_alone else STEPS, MEMBERS, perturbation)
    if start_alone:
        starts = members.isel(time=[0])
        rolled = [fs.forecast(model, starts.isel(member=m).drop_vars(["member", "perturbed"]), STEPS)
                  for m in range(MEMBERS)]  # fmt: skip
        members = xr.concat(rolled, starts["member"], data_vars="all", coords="minimal", compat="override")
        members = members.assign_coords(perturbed=starts["perturbed"])
    return ENSEMBLE_METRICS["spread_skill"](members, truth).values[1:]


def collect(blocks: list[dict]) -> dict[str, np.ndarray]:
    """Scores by (start, time), ranks by (time, rank)."""
    found = {key: np.concatenate([b[key] for b in blocks]) for key in blocks[0] if key != "ranks"}
    return found | {"ranks": np.mean([b["ranks"] for b in blocks], axis=0)}


def redrawn(ratios: np.ndarray, starts: int) -> list[float]:
    """Mean, standard deviation and smallest and largest coverage at lead 20 of bounds from the spread, over 500 draws
    of so many calibration starts and 1000 test starts from all there are."""
    rng, ratio, found = np.random.default_rng(0), ratios[:, [19]], []
    for _ in range(500):
        order = rng.permutation(len(ratio))
        bound = conformal_quantiles(ratio[order[:starts]], 0.9)[0]
        found.append((ratio[order[starts : starts + 1000]] <= bound).mean())
    return [float(np.mean(found)), float(np.std(found)), float(np.min(found)), float(np.max(found))]


def summarise(
    model: fs.Surrogate,
    known: tuple[np.ndarray, np.ndarray],
    found: dict[str, np.ndarray],
    tried: list[dict],
) -> dict:
    """The numbers of the tables; `known` are errors and spreads of the calibration starts."""
    calibration, interval = model.calibration, model.spec.interval
    error, own = found["error"][:, 1:], found["own_spread"][:, 1:]
    plain, exponent = np.array(calibration.nrmse), np.array(calibration.exponent)
    bound = own**exponent * np.array(calibration.ratio)
    sharp = own * np.array(conformal_quantiles(known[0] / known[1], 0.9))
    ratios = known[0] / known[1] ** exponent
    together = np.concatenate([ratios, error / own**exponent])
    first = [conformal_quantiles(v[:1000], 0.9) for v in (known[0], ratios)]
    third = np.argsort(np.argsort(found["own_spread"][:, 1:], axis=0), axis=0) * 3 // len(error)

    def by_third(limit: np.ndarray) -> list[list[float]]:
        return [[float((error <= limit)[third[:, t] == i, t].mean()) for t in range(STEPS)] for i in (0, 1, 2)]

    log = [np.log(found[key][:, 1:]) for key in ("own_spread", "error")]
    horizons = {}
    for level in LEVELS:
        last, real = (
            np.cumprod(np.concatenate([np.zeros((len(error), 1)), values], 1) <= level, axis=1).sum(1) - 1
            for values in (bound, error)
        )
        whole = int(np.cumprod(np.concatenate([[0.0], plain]) <= level).sum() - 1)
        horizons[str(level)] = {
            "stated_median": float(np.median(last)) * interval,
            "stated_range": [float(v) * interval for v in (last.min(), last.max())],
            "stated_censored": float((last == STEPS).mean()),
            "real_median": float(np.median(real)) * interval,
            "real_range": [float(v) * interval for v in (real.min(), real.max())],
            "below_level_up_to_horizon": float((real >= last).mean()),
            "below_level_one_interval_later": float((real >= np.minimum(last + 1, STEPS)).mean()),
            "by_lead_alone": whole * interval,
            "by_lead_alone_below": float((real >= whole).mean()),
            "correlation_of_stated_and_real": float(np.corrcoef(last, real)[0, 1]),
        }
    return {
        "memory": calibration.perturbation.memory, "factor": calibration.perturbation.factor,
        "starts": calibration.starts, "tests": len(error),
        "coverage_of_1000": (error <= own**exponent * np.array(first[1])).mean(0).tolist(),
        "coverage_plain_of_1000": (error <= np.array(first[0])).mean(0).tolist(),
        "redrawn": {str(n): redrawn(together, n) for n in (100, 300, 1000, 3000)},
        "coverage": (error <= bound).mean(0).tolist(), "coverage_plain": (error <= plain).mean(0).tolist(),
        "coverage_by_third": by_third(bound), "coverage_plain_by_third": by_third(np.broadcast_to(plain, error.shape)),
        "coverage_sharp": (error <= sharp).mean(0).tolist(), "coverage_sharp_by_third": by_third(sharp),
        "mean_bound_sharp": sharp.mean(0).tolist(), "exponent": exponent.tolist(),
        "mean_bound": bound.mean(0).tolist(), "bound_plain": plain.tolist(), "nrmse": error.mean(0).tolist(),
        "nrmse_of_mean": found["error_of_mean"][:, 1:].mean(0).tolist(),
        "spread_skill": np.sqrt((found["spread"] ** 2).sum(0) / (found["error_of_mean"] ** 2).sum(0))[1:].tolist(),
        "correlation_of_spread_and_error": [float(np.corrcoef(log[0][:, t], log[1][:, t])[0, 1])
                                            for t in range(STEPS)],
        "crps": found["crps"][:, 1:].mean(0).tolist(), "absolute_error": found["absolute"][:, 1:].mean(0).tolist(),
        "ranks": found["ranks"][1:].tolist(), "horizons": horizons, "schemes": tried,
    }  # fmt: skip


def table(r: dict) -> str:
    """results.md."""
    rows = [
        ("coverage of the bound from the spread", "coverage", "{:.1%}"),
        ("the same with exponent 1", "coverage_sharp", "{:.1%}"),
        ("coverage of the bound by lead alone", "coverage_plain", "{:.1%}"),
        ("exponent of the spread", "exponent", "{:.2f}"),
        ("mean bound from the spread", "mean_bound", "{:.3f}"),
        ("the same with exponent 1", "mean_bound_sharp", "{:.3f}"),
        ("bound by lead alone", "bound_plain", "{:.3f}"),
        ("mean nRMSE, unperturbed member", "nrmse", "{:.3f}"),
        ("mean nRMSE, mean of the members", "nrmse_of_mean", "{:.3f}"),
        ("spread-skill ratio", "spread_skill", "{:.2f}"),
        ("correlation of log spread and log error", "correlation_of_spread_and_error", "{:.2f}"),
        ("CRPS, members", "crps", "{:.4f}"),
        ("CRPS, unperturbed member (mean absolute error)", "absolute_error", "{:.4f}"),
    ]
    shown = [t - 1 for t in SHOWN]
    lines = [
        "# How far can a forecast be trusted, and does the model know?",
        "",
        "Written by `python experiments/horizon/run.py`. The demo's `gcnn-d4`, trained for 1,000 steps and calibrated "
        f"on {r['starts']} fresh starts, tested on {r['tests']} others; {MEMBERS} members, the unperturbed one among "
        "them. Errors are relative to the rms of the truth; a lead is an interval of 0.25.",
        "",
        "| lead | " + " | ".join(map(str, SHOWN)) + " |",
        "|---|" + "---|" * len(SHOWN),
        *(f"| {name} | " + " | ".join(form.format(r[key][t]) for t in shown) + " |" for name, key, form in rows),
    ]
    for name, key in (
        ("the bound from the spread", "coverage_by_third"),
        ("the same with exponent 1", "coverage_sharp_by_third"),
        ("the bound by lead alone", "coverage_plain_by_third"),
    ):
        for i, which in enumerate(("least", "middle", "most")):
            lines.append(f"| coverage of {name}, in the third of {which} spread | "
                         + " | ".join(f"{r[key][i][t]:.1%}" for t in shown) + " |")  # fmt: skip
    worst = [max(abs(c - 0.9) for c in r[key]) for key in ("coverage", "coverage_plain")]
    few = [max(abs(c - 0.9) for c in r[key]) for key in ("coverage_of_1000", "coverage_plain_of_1000")]
    lines += [
        "",
        f"Over all {STEPS} leads the coverage differs from 90 % by {100 * worst[0]:.1f} points at the most (from the "
        f"spread) and {100 * worst[1]:.1f} (by lead alone); with the first 1000 of the calibration starts alone, by "
        f"{100 * few[0]:.1f} and {100 * few[1]:.1f}: the study was enlarged after that came out. Drawn anew from "
        "all starts, 500 times, the bound from the spread covers of 1000 test starts at lead 20:",
        "",
        "| calibration starts | mean | standard deviation | least | most |",
        "|---|---|---|---|---|",
        *(f"| {n} | " + " | ".join(f"{100 * v:.1f} %" for v in r["redrawn"][n]) + " |" for n in r["redrawn"]),
        "",
        "## Horizons",
        "",
        "The stated horizon is the last time up to which the error bound stays below the level; the real one that up "
        f"to which the error itself does; {STEPS * 0.25:g} where it does to the end.",
        "",
        "| level | stated, median (range) | real, median (range) | error below the level up to the stated horizon | "
        "and one interval longer | horizon by lead alone | error below the level up to that | correlation |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for level, h in r["horizons"].items():
        a, b = h["stated_range"], h["real_range"]
        lines.append(
            f"| {level} | {h['stated_median']:g} ({a[0]:g} to {a[1]:g}) | "
            f"{h['real_median']:g} ({b[0]:g} to {b[1]:g}) | "
            f"{h['below_level_up_to_horizon']:.1%} | {h['below_level_one_interval_later']:.1%} | "
            f"{h['by_lead_alone']:g} | {h['by_lead_alone_below']:.1%} | {h['correlation_of_stated_and_real']:.2f} |"
        )
    count = len(r["ranks"][0])
    lines += [
        "",
        "## Ranks",
        "",
        f"How often the truth has each rank among the {count - 1} perturbed members, times {count} (1 is flat):",
        "",
        "| lead | " + " | ".join(map(str, range(count))) + " |",
        "|---|" + "---|" * count,
        *(f"| {t + 1} | " + " | ".join(f"{count * v:.2f}" for v in r["ranks"][t]) + " |" for t in shown[::2]),
        "",
        "## What the members are perturbed by",
        "",
        "Spread-skill ratio by lead on 32 further starts, each scheme scaled so that it is 1 in the geometric mean "
        "over the leads:",
        "",
        "| scheme | factor | " + " | ".join(map(str, SHOWN)) + " |",
        "|---|---|" + "---|" * len(SHOWN),
        *(f"| {s['scheme']} | {s['factor']:.2f} | " + " | ".join(f"{s['spread_skill'][t]:.2f}" for t in shown) + " |"
          for s in r["schemes"]),
        "",
        f"The memory, {r['memory']:.2f}, is measured: the correlation of one-step errors an interval apart. So are "
        f"size and spectrum; the one number that is fitted, the factor of the size, comes out as {r['factor']:.2f}. "
        "The exponents of the spread are fitted on the same 125 starts; that there should be any was decided after "
        "seeing, on the test starts, what exponent 1 does to those of little and of much spread.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def draw(r: dict, found: dict[str, np.ndarray], bound: np.ndarray, path: Path) -> None:
    """Coverage, spread and error, ranks, horizons."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.4), layout="constrained")
    (a, b), (c, d) = figure.subplots(2, 2)
    lead, level = np.arange(1, STEPS + 1), LEVELS[-1]
    a.axhspan(0.87, 0.93, color="0.9")
    for i, label in ((0, "from the spread, third of least spread"), (2, "of most")):
        a.plot(lead, r["coverage_by_third"][i], color="#0072b2", ls=":" if i else "--", lw=0.9, label=label)
    a.axhline(0.9, color="0.5", lw=0.8)
    for key, label, colour in (
        ("coverage", "from the spread", "#0072b2"),
        ("coverage_plain", "by lead alone", "#e69f00"),
    ):
        a.plot(lead, r[key], color=colour, label=label)
    a.set(xlabel="lead [intervals]", ylabel="coverage", ylim=(0.8, 1), title="error within the 90 % bound")
    a.legend(frameon=False)
    for key, label, colour in (("nrmse", "nRMSE of the forecast", "#000000"),
                               ("mean_bound", "90 % bound, mean", "#0072b2")):  # fmt: skip
        b.plot(lead, r[key], color=colour, label=label)
    b.plot(
        lead,
        np.array(r["spread_skill"]) * np.sqrt((found["error_of_mean"][:, 1:] ** 2).mean(0)),
        color="#009e73",
        label="spread",
    )
    b.plot(lead, np.sqrt((found["error_of_mean"][:, 1:] ** 2).mean(0)), color="#d55e00", ls="--",
           label="error of the members' mean")  # fmt: skip
    b.set(xlabel="lead [intervals]", ylabel="over rms of the truth", title="spread and error", ylim=(0, None))
    b.legend(frameon=False)
    count = len(r["ranks"][0])
    for t, colour in ((0, "#56b4e9"), (7, "#0072b2"), (19, "#d55e00"), (23, "#000000")):
        c.plot(range(count), count * np.array(r["ranks"][t]), "o-", color=colour, label=f"lead {t + 1}")
    c.axhline(1, color="0.5", lw=0.8)
    c.set(xlabel="members below the truth", ylabel="frequency / flat", ylim=(0, 2), title="rank histogram")
    c.legend(frameon=False, ncols=2)
    bound = np.concatenate([np.zeros((len(found["error"]), 1)), bound], axis=1)
    last, real = (np.cumprod(values <= level, axis=1).sum(1) - 1 for values in (bound, found["error"]))
    counts, _, _ = np.histogram2d(last, real, bins=np.arange(-0.5, STEPS + 1.5))
    d.pcolormesh(np.arange(-0.5, STEPS + 1.5), np.arange(-0.5, STEPS + 1.5), np.where(counts > 0, counts, np.nan).T,
                 cmap="viridis")  # fmt: skip
    d.plot([0, STEPS], [0, STEPS], color="#d55e00", lw=1)
    low, high = min(last.min(), real.min()) - 1, STEPS + 0.5
    d.set(xlabel="stated horizon [intervals]", ylabel="real horizon", xlim=(low, high), ylim=(low, high),
          title=f"horizons, level {level:g}: above the line the error stayed below")  # fmt: skip
    for axis in (a, b, c, d):
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, format="png")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", type=Path, default=WORK / "trained")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    model = fitted(options.parse_args().model)
    tried = schemes(model)
    blocks = []
    for first in range(0, TESTS, BLOCK):
        blocks.append(test_block(model, first))
        logging.info(f"{first + BLOCK} of {TESTS} test starts")
    model, error, spread = calibrated(model)
    found = collect(blocks)
    result = summarise(model, (error, spread), found, tried)
    write_json(HERE / "results.json", result)
    write_text(HERE / "results.md", table(result))
    bound = found["own_spread"][:, 1:] ** np.array(model.calibration.exponent) * np.array(model.calibration.ratio)
    draw(result, found, bound, HERE / "results.png")


if __name__ == "__main__":
    main()
