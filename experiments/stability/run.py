"""What keeps a forecast of a thousand steps alive? The default D4 network, trained in different ways, on a decaying
flow and on a forced one, rolled out from 96 unseen starts beside the solver.

    python experiments/stability/run.py [VARIANT …]        # results/*.json, results.md

A variant is a few keys of `[train]`, or a part of the step taken away. A run that is there is not made again.
"""

from __future__ import annotations

import argparse
import logging
import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import fluidsurrogate as fs
from fluidsurrogate.core.files import read_json, write_json, write_text
from fluidsurrogate.data.conversion import to_inputs, to_states
from fluidsurrogate.evaluation.conservation import energy
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.simulation.splits import split_of
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.windows import InMemoryTrajectories
from solvers import Resampled, Stepper
from solvers.spectra import energy_spectrum

HERE = Path(__file__).parent
STEPS, STARTS, WARM = 1000, 96, 100  # statistics of the forced flow are over the steps after WARM
FLOWS = {"decaying": HERE.parent / "demo.toml", "forced": HERE / "forced.toml"}
# What is changed: keys of `train`; `seed` of weights and order, the data being the same; `filter` and `budget`: whether
# the step has them.
VARIANTS: dict[str, dict] = {
    "default": {},
    "default, seed 1": {"seed": 1},
    "default, seed 2": {"seed": 2},
    "one step": {"unroll_fraction": 0.0},
    "one step, no filter, no budget": {"unroll_fraction": 0.0, "filter": False, "budget": False},
    "one step, no budget": {"unroll_fraction": 0.0, "budget": False},
    "no budget": {"budget": False},
    "no budget, seed 1": {"budget": False, "seed": 1},
    "no budget, seed 2": {"budget": False, "seed": 2},
    "budget in training too": {"budget": "always"},
    "noise 0.1": {"unroll_fraction": 0.0, "noise": 0.1},
    "push-forward": {"unroll": 1, "push_forward": 1, "unroll_fraction": 0.5},
    "curriculum to 8": {"unroll": [1, 2, 4, 8], "unroll_fraction": 0.4},
    "curriculum to 8, seed 1": {"unroll": [1, 2, 4, 8], "unroll_fraction": 0.4, "seed": 1},
    "curriculum to 8, seed 2": {"unroll": [1, 2, 4, 8], "unroll_fraction": 0.4, "seed": 2},
}
ABOUT = f"""# What keeps a forecast of a thousand steps alive?

`python experiments/stability/run.py`: `gcnn` over D4, 1,000 training steps; {STARTS} unseen starts, {STEPS}
steps.

- *default*: one interval, then three for the last fifth of the steps; changes restricted to the modes that change in
  the data (*filter*); forecasts scaled, step by step, to the energy that the flow's budget allows (*budget*).
- *finite*: forecasts that stay so; *rises*: steps in which the energy of one rises by 1e-6; *energy*: forecast over
  solver.
- *worst shell*: of the time-averaged energy spectrum, |forecast / solver − 1| at its largest over the shells that hold
  99 % of the energy; averages are over the steps after {WARM}.
"""
DECAYING_ONLY = ("noise 0.1", "push-forward")


def experiment_of(flow: str, options: dict) -> fs.Experiment:
    """The flow's experiment with one network and as many test starts as asked."""
    tree = fs.Experiment.read(FLOWS[flow]).tree()
    tree["models"] = {"gcnn-d4": {"kind": "gcnn"}}
    tree["data"]["test"] = STARTS
    tree["seed"] = options.get("seed", 0)
    elsewhere = ("filter", "budget", "seed")
    tree["train"] |= {"steps": 1000} | {key: value for key, value in options.items() if key not in elsewhere}
    return fs.Experiment.from_tree(tree)


def trained(experiment: fs.Experiment, data, options: dict) -> Surrogate:
    """The network, its step with or without filter and budget."""
    train, valid = (InMemoryTrajectories.from_dataset(data, split, experiment) for split in ("train", "valid"))
    trainer = prepare_training(experiment, "gcnn-d4", train, valid, {})
    model, normalisation = trainer.surrogate, trainer.surrogate.normalisation
    if not options.get("filter", True):
        normalisation = replace(normalisation, band=tuple(n // 2 for n in experiment.spec.grid.n))
    if not options.get("budget", True):
        normalisation = replace(normalisation, budget_coefficients=None)
    trainer.surrogate = Surrogate(model.network, model.spec, normalisation, model.config, model.about)
    if options.get("budget") == "always":
        trainer.training_view = Surrogate.each_network  # with the energy budget
    return trainer.run()


def followed(stepper: Stepper, start: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Energy (start, step), the mean's drift relative to the RMS, and the spectrum averaged over the later steps."""
    carry, length = stepper.start(start, inputs, list(range(len(start)))), stepper.spec.grid.length
    energies, spectra, states = [energy(stepper.spec, start[:, None])[:, 0]], [], []
    for step in range(1, STEPS + 1):
        carry = stepper.advance(carry)
        state = stepper.state(carry)
        energies.append(energy(stepper.spec, state[:, None])[:, 0])
        if step <= 20:
            states.append(state)
        if step > WARM and step % 5 == 0:
            spectra.append(energy_spectrum(state.double(), length).mean(0))
    drift = (state.double().mean((-2, -1)) - start.double().mean((-2, -1))).abs().max() / start.double().std()
    return {"energy": torch.stack(energies, 1), "spectrum": torch.stack(spectra).mean(0), "drift": drift,
            "states": torch.stack(states, 1)}  # fmt: skip


def run(flow: str, name: str, solver: dict[str, Tensor], data, experiment: fs.Experiment) -> None:
    """Train and follow one variant."""
    path, options = HERE / "results" / f"{flow}-{name.replace(', ', '-').replace(' ', '-')}.json", VARIANTS[name]
    if path.exists():
        return
    began = time.process_time()
    model = trained(experiment_of(flow, options), data, options)
    took = time.process_time() - began
    test = split_of(data, "test", experiment).isel(time=[0])
    start, inputs = to_states(test, model.spec)[:, 0], to_inputs(test, model.spec)
    with torch.no_grad():
        own = followed(model, start, inputs)
    e, truth = own["energy"], solver["energy"]
    spectrum = solver["spectrum"]
    order = spectrum.sort(descending=True)
    held = order.indices[: int((order.values.cumsum(0) < 0.99 * spectrum.sum()).sum()) + 1]
    error = (own["states"] - solver["states"]).square().mean((2, 3, 4)).sqrt()
    error = error / solver["states"].square().mean((2, 3, 4)).sqrt()
    at_20, at_last = e[:, 20] / truth[:, 20], e[:, -1] / truth[:, -1]
    ratio = (own["spectrum"] / spectrum)[held]
    write_json(path, {
        "flow": flow, "variant": name, "core_seconds": round(took, 1),
        "finite": int(e.isfinite().all(1).sum()),
        "nrmse_10": _round(error[:, 9].mean()), "nrmse_20": _round(error[:, 19].mean()),
        "rises": int((e[:, 1:] > e[:, :-1] * (1 + 1e-6)).sum()),
        "energy_20": [_round(v) for v in (at_20.amin(), at_20.mean(), at_20.amax())],
        "energy_last": [_round(v) for v in (at_last.amin(), at_last.mean(), at_last.amax())],
        "mean_energy": _round(e[:, WARM:].mean() / truth[:, WARM:].mean()),
        "spectrum_worst": _round((ratio - 1).abs().max()), "shells": len(held),
        "spectrum_ratio": [_round(v) for v in ratio], "drift": _round(own["drift"]),
    })  # fmt: skip


def _round(value: Tensor) -> float | None:
    number = float(value)
    return float(f"{number:.4g}") if math.isfinite(number) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("variants", nargs="*", metavar="VARIANT")
    parser.add_argument("--flow", choices=FLOWS, help="one flow only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("fluidsurrogate").setLevel(logging.ERROR)
    for flow in [arguments.flow] if arguments.flow else FLOWS:
        experiment = experiment_of(flow, {})
        data = fs.generate(experiment)
        test = split_of(data, "test", experiment).isel(time=[0])
        with torch.no_grad():
            solver = followed(
                Resampled(experiment.build_stepper(), experiment.spec.grid),
                to_states(test, experiment.spec)[:, 0],
                to_inputs(test, experiment.spec),
            )
        for name in arguments.variants or [v for v in VARIANTS if flow == "decaying" or v not in DECAYING_ONLY]:
            run(flow, name, solver, data, experiment)
    write_text(HERE / "results.md", table())


def table() -> str:
    """Both flows, a row a variant."""
    found = {(row["flow"], row["variant"]): row for row in map(read_json, sorted((HERE / "results").glob("*.json")))}
    lines = [ABOUT]
    for flow in FLOWS:
        lines += [f"## {flow.capitalize()} flow", ""]
        forced = flow == "forced"
        head = ["variant", "core-seconds", "finite", "nRMSE, step 10", "step 20", "energy, step 20 (least, mean, most)"]
        head += ["mean energy", "worst shell"] if forced else ["rises", f"energy, step {STEPS} (least, mean, most)"]
        lines += ["| " + " | ".join([*head, "drift of the mean"]) + " |", "|" + "---|" * (len(head) + 1)]
        for name in VARIANTS:
            if (row := found.get((flow, name))) is None:
                continue
            cells = [name, f"{row['core_seconds']:.0f}", f"{row['finite']} / {STARTS}"]
            cells += [_said(row["nrmse_10"]), _said(row["nrmse_20"]), _said_all(row["energy_20"])]
            cells += [_said(row["mean_energy"]), _said(row["spectrum_worst"])] if forced else [
                str(row["rises"]), _said_all(row["energy_last"])]  # fmt: skip
            lines.append("| " + " | ".join([*cells, "-" if row["drift"] is None else f"{row['drift']:.0e}"]) + " |")
        lines.append("")
    finding = HERE / "finding.md"
    return "\n".join([*lines, ""]) + (finding.read_text(encoding="utf-8") if finding.exists() else "")


def _said_all(values: list[float | None]) -> str:
    return "not finite" if None in values else ", ".join(map(_said, values))


def _said(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3g}" if value < 1e4 else f"{value:.0e}"


if __name__ == "__main__":
    main()
