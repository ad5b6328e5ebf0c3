"""What a network adds where a solver is blind: noisy starts, starts known in a few cells, an unknown viscosity.

    python experiments/imperfect_starts/run.py               # results/*.json, results.md, results.png: 40 minutes
    python experiments/imperfect_starts/run.py --time        # times.json: on a quiet machine
    python experiments/imperfect_starts/run.py --table       # results.md and results.png from what is there
    python experiments/imperfect_starts/run.py --miniature   # seconds: what the tests run

A solver takes a start as it is given. If that is noisy, sparse, or lacks its viscosity, no finer grid helps. So its
rival here is the solver behind the best estimate without a network (cases.py): a Wiener filter or thresholded wavelets,
kriging, a regression on the spectrum, each with its constant chosen on 16 validation trajectories by the mean error of
the forecasts. A network over D4, the same without a group and the same on turned and mirrored starts correct that
estimate (for the viscosity they make their own), in 1000 steps each. Everybody's estimate is taken ahead by the solver
on 64² cells, whose own error is the row of the true start. Three seeds, each with flows, noise and weights of its own.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import Case, Estimate, NoisyStart, Seen, SparseStart, UnknownViscosity, batches, parameters_of
from torch import Tensor

import fluidsurrogate as fs
from fluidsurrogate.core.files import atomic_write, read_json, write_json
from fluidsurrogate.data.conversion import to_dataset, to_inputs, to_states
from fluidsurrogate.data.layout import trajectory_coordinates
from fluidsurrogate.simulation.rollout import rollout
from solvers import D4, act_on_fields

sys.path.append(str(Path(__file__).parents[1]))
from study import markdown, one_core, one_thread, only, slug, spread, write_report

HERE = Path(__file__).parent
CASES = ("noise-10", "noise-30", "sparse", "viscosity")
NETWORKS = {"cnn": ("cnn", False), "cnn, augmented": ("cnn", True), "gcnn": ("gcnn", False)}
WINDOW = 3  # the states of a training trajectory that are starts
LEADS = (0, 1, 2, 4, 10)
CHOOSE_AT = (1, 4, 10)  # the leads whose mean error chooses the constants of the rivals
RANGE = 'flow.viscosity={low = 3e-3, high = 2.4e-2, distribution = "log-uniform"}'
SMALL = ["grid.n=64", "data.train=4", "data.valid=2", "data.test=2", "train.steps=2"]


def experiment_of(case: str, seed: int, overrides: list[str]) -> fs.Experiment:
    """The flow of a case and a seed."""
    own = [RANGE] if case == "viscosity" else []
    return fs.Experiment.read(HERE / "base.toml", [*own, f"seed={seed}", *overrides])


class Study:
    """One case with one seed: its data, its solver and its estimators."""

    def __init__(self, case: str, seed: int, runs: Path, overrides: list[str]) -> None:
        self.experiment, self.name, self.seed = experiment_of(case, seed, overrides), case, seed
        self.spec = self.experiment.spec
        data = fs.generate(self.experiment, runs / f"{'viscosity' if case == 'viscosity' else 'fixed'}-{seed}").load()
        self.data = {split: only(data, split) for split in ("train", "valid", "test")}
        self.states = {split: to_states(part, self.spec, torch.float32) for split, part in self.data.items()}
        self.solver = next(s for name, s in self.experiment.build_baseline_solvers().items() if "64" in name)
        train = self.states["train"][:, :WINDOW]
        self.case: Case = {
            "noise-10": lambda: NoisyStart(self.spec, train, 0.1),
            "noise-30": lambda: NoisyStart(self.spec, train, 0.3),
            "sparse": lambda: SparseStart(self.spec, train, 0.25),
            "viscosity": lambda: UnknownViscosity(self.spec, train, self.viscosity("train")),
        }[case]()

    def viscosity(self, split: str) -> Tensor:
        """The true viscosities of the trajectories."""
        inputs = to_inputs(self.data[split], self.spec, torch.float32)
        fixed = torch.full((len(self.states[split]),), float(self.data[split].attrs.get("viscosity", math.nan)))
        return inputs.get("viscosity", fixed).flatten()

    def seen(self, split: str) -> Seen:
        """What is known of the first states of a split."""
        generator = torch.Generator().manual_seed(1000 + self.seed)
        return self.case.see(self.states[split][:, 0], generator)

    @torch.no_grad()
    def forecast(self, estimate: Estimate, steps: int) -> Tensor:
        """The solver's forecast from an estimate."""
        start, viscosity = estimate
        return rollout(
            self.solver, start, steps, None if viscosity is None else {"viscosity": viscosity.view(-1, 1, 1, 1)}
        )

    def errors(self, estimate: Estimate, split: str) -> list[float]:
        """nRMSE of the forecast from an estimate, at every stored time."""
        data = self.data[split]
        states = self.forecast(estimate, data.sizes["time"] - 1)
        forecast = to_dataset(self.spec, states, coordinates=trajectory_coordinates(data),
                              inputs=to_inputs(data, self.spec, torch.float32))  # fmt: skip
        compared = fs.compare({"f": forecast}, data, metrics=[]).sel(source="f")
        return [round(float(value), 6) for value in compared["nrmse"].values]

    def classical(self) -> dict[str, Any]:
        """The estimators without a network, each at its best on the validation set."""
        seen, chosen = self.seen("valid"), {}
        for name, estimators in self.case.candidates().items():
            errors = [[self.errors(e(seen), "valid")[lead] for lead in CHOOSE_AT] for e in estimators]
            chosen[name] = estimators[int(np.argmin(np.nanmean(errors, axis=1)))]
        return chosen

    def trained(self, network: str, folder: Path) -> tuple[torch.nn.Module, float]:
        """A trained network, from its file if it is there, and the core-seconds that the training took."""
        path = folder / f"{self.name}-{slug(network)}-{self.seed}.pt"
        if not path.exists():
            began = time.process_time()
            module = self.train(network)
            folder.mkdir(parents=True, exist_ok=True)
            saved = {"weights": module.state_dict(), "seconds": round(time.process_time() - began, 1)}
            with atomic_write(path) as beside:
                torch.save(saved, beside)
        saved = torch.load(path, weights_only=True)
        module = self.case.network(NETWORKS[network][0])
        module.load_state_dict(saved["weights"])
        return module.eval(), saved["seconds"]

    def train(self, network: str) -> torch.nn.Module:
        """A network, trained on what is seen of the first states of the training trajectories."""
        kind, is_augmented = NETWORKS[network]
        torch.manual_seed(self.seed)
        module, options = self.case.network(kind), self.experiment.train
        optimiser = torch.optim.AdamW(module.parameters(), lr=options.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.learning_rate, options.steps, pct_start=0.05)
        pool = self.states["train"][:, :WINDOW].flatten(0, 1)
        viscosity = self.viscosity("train").repeat_interleave(WINDOW)
        generator = torch.Generator().manual_seed(self.seed)
        for states, values in batches(pool, viscosity, options.batch, options.steps, self.seed):
            if is_augmented:
                element = list(D4)[int(torch.randint(len(D4), (1,), generator=generator))]
                states = act_on_fields(self.spec.fields, states, element)
            loss = self.case.loss(module(self.case.see(states, generator)), states, values)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        return module.eval()


def run(case: str, seed: int, runs: Path, results: Path, overrides: list[str]) -> None:
    """All estimators of a case and a seed. What is there is not made again."""
    if not (path := results / f"{case}-{seed}.json").exists():
        study = Study(case, seed, runs, overrides)
        seen, states = study.seen("test"), study.states["test"]
        found: dict[str, Any] = {"title": study.case.title, "times": study.data["test"]["time"].values.tolist()}
        known = (states[:, 0], study.viscosity("test") if case == "viscosity" else None)
        rows = {"the true start": {"nrmse": study.errors(known, "test")}}
        if isinstance(study.case, UnknownViscosity):
            exact = study.case.from_two_states(states[:, 0], states[:, 1])
            rows["energy of two states"] = {"nrmse": study.errors((states[:, 0], exact), "test")}
        rows |= {name: {"nrmse": study.errors(e(seen), "test")} for name, e in study.classical().items()}
        for network in NETWORKS:
            module, seconds = study.trained(network, runs / "models")
            with torch.no_grad():
                rows[network] = {"nrmse": study.errors(module(seen), "test"), "weights": parameters_of(module),
                                 "training_seconds": seconds}  # fmt: skip
        write_json(path, found | {"rows": rows})


def measure(runs: Path, overrides: list[str], repeats: int) -> dict[str, Any]:
    """Milliseconds of an estimate and its forecast over ten intervals, of 16 starts, all in turn; one thread."""
    one_thread()
    found: dict[str, dict[str, float]] = {}
    for case in CASES:
        study = Study(case, 0, runs, overrides)
        seen = {name: values[:16] for name, values in study.seen("test").items()}
        sources = {"the true start": lambda seen, s=study: (s.states["test"][:16, 0], s.viscosity("test")[:16])
                   if isinstance(s.case, UnknownViscosity) else (s.states["test"][:16, 0], None)}  # fmt: skip
        sources |= study.classical()
        for network in NETWORKS:  # trained ones: a wild start would cost the solver more
            sources[network] = study.trained(network, runs / "models")[0]
        took: dict[str, list[float]] = {name: [] for name in sources}
        for _, (name, estimator) in product(range(repeats + 2), sources.items()):
            began = time.perf_counter()
            with torch.no_grad():
                study.forecast(estimator(seen), LEADS[-1])
            took[name].append(time.perf_counter() - began)
        found[case] = {name: round(1e3 * statistics.median(each[2:]), 2) for name, each in took.items()}
    return one_core() | {"ms": found}


# -- tables and figure


@cache
def collect(results: Path) -> dict[str, list[dict]]:
    """The results of each case, by seed."""
    found = {case: [read_json(path) for path in sorted(results.glob(f"{case}-[0-9].json"))] for case in CASES}
    return {case: each for case, each in found.items() if each}


def kinds_of(rows: dict[str, dict]) -> dict[str, list[str]]:
    """Names of the sources: what nobody knows, what needs no network, networks."""
    known = [name for name in rows if name in ("the true start", "energy of two states")]
    networks = [name for name in rows if name in NETWORKS]
    return {"known": known, "classical": [n for n in rows if n not in known + networks], "networks": networks}


def best_classical(results: list[dict], lead: int) -> str:
    """The estimator without a network that has the least mean error at a lead."""
    names = kinds_of(results[0]["rows"])["classical"]
    return min(names, key=lambda name: np.mean([r["rows"][name]["nrmse"][lead] for r in results]))


def table(case: str, results: list[dict], ms: dict[str, float]) -> str:
    """One case: errors at some leads, and over the best without a network at the same lead."""
    rows = []
    for name, one in results[0]["rows"].items():
        errors = [[r["rows"][name]["nrmse"][lead] for r in results] for lead in LEADS]
        ratios = []
        for lead, own in zip(LEADS[1:], errors[1:], strict=True):
            rival = [r["rows"][best_classical(results, lead)]["nrmse"][lead] for r in results]
            ratio = math.exp(np.mean(np.log(own) - np.log(rival)))
            ratios.append(f"{ratio:.2f}" if name in NETWORKS else "")
        weights = f"{one['weights']:,}" if "weights" in one else ""
        rows.append([name, weights, *(spread(e) for e in errors), *ratios, f"{ms[name]:.1f}" if name in ms else ""])
    times = [f"{results[0]['times'][lead]:g}" for lead in LEADS]
    head = ["estimate", "weights", *(f"nRMSE, t = {t}" if i == 0 else f"t = {t}" for i, t in enumerate(times)),
            *(f"ratio, t = {t}" for t in times[1:]), "ms"]  # fmt: skip
    return f"## {results[0]['title']}\n\n" + markdown(head, rows)


def write_results(results: Path, folder: Path) -> None:
    """results.md and results.png from what is there."""
    found, times = collect(results), read_json(folder / "times.json") or {"ms": {}}
    seconds = [r["rows"][name]["training_seconds"] for each in found.values() for r in each for name in NETWORKS]
    measured = f"{times['date']}, {times['machine']}, float32. " if "date" in times else ""
    about = (
        f"{measured}Forecasts by the solver on 64² cells from each estimate. Mean ± standard deviation over "
        f"{len(next(iter(found.values())))} seeds. *Ratio*: over the error of the best estimate without a network, at "
        f"the same time. ms: the estimate and the forecast of 16 starts to the last time. Networks trained for "
        f"{min(seconds):.0f} to {max(seconds):.0f} core-seconds. What was measured, and how: `run.py`."
    )
    parts = [table(case, each, times["ms"].get(case, {})) for case, each in found.items()]
    write_report(folder / "results.md", "Imperfect starts", about, *parts)
    draw(found, folder)


def draw(found: dict[str, list[dict]], folder: Path) -> None:
    """results.png: error against time, a panel for each case."""
    from matplotlib.figure import Figure

    lines = {"cnn": {"color": "#d55e00", "ls": (0, (3, 3)), "zorder": 3}, "cnn, augmented": {"color": "#e69f00"},
             "gcnn": {"color": "#0072b2"}}  # fmt: skip
    dashes = ["-", "--", ":"]
    figure = Figure(figsize=(8.6, 7.6), layout="constrained")
    axes = figure.subplots(2, 2).flat[: len(found)]
    for number, (axis, results) in enumerate(zip(axes, found.values(), strict=True)):
        kinds = kinds_of(results[0]["rows"])
        for name in results[0]["rows"]:
            errors = np.mean([r["rows"][name]["nrmse"] for r in results], axis=0)
            if name in NETWORKS:
                style = {"lw": 1.8, **lines[name]}
            elif name in kinds["known"]:
                style = {"color": "0.75", "ls": "-" if name == "the true start" else "--"}
            else:
                style = {"color": "0.2", "ls": dashes[kinds["classical"].index(name)]}
            axis.plot(results[0]["times"], np.where(errors > 0, errors, np.nan), label=name, **style)
        axis.set(yscale="log", xlabel="time [s]", title=results[0]["title"])
        if number % 2 == 0:
            axis.set_ylabel("nRMSE of the forecast")
        axis.title.set_fontsize(10)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=8, ncol=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    figure.savefig(folder / "results.png", dpi=130)


def main() -> None:
    """Run what is missing, write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/imperfect_starts"), help="folder for data and models")
    parser.add_argument("--results", type=Path, default=HERE, help="folder for the results")
    parser.add_argument("--time", action="store_true", help="measure the times, nothing else")
    parser.add_argument("--table", action="store_true", help="write results.md and results.png from what is there")
    parser.add_argument("--miniature", action="store_true", help="a few trajectories and steps")
    given = parser.parse_args()
    overrides = SMALL if given.miniature else []
    if not given.table and not given.time:
        one_thread()
        (given.results / "results").mkdir(parents=True, exist_ok=True)
        for seed, case in product(range(given.seeds), CASES):
            run(case, seed, given.runs, given.results / "results", overrides)
    if given.time or given.miniature:
        write_json(given.results / "times.json", measure(given.runs, overrides, 2 if given.miniature else 40))
    write_results(given.results / "results", given.results)


if __name__ == "__main__":
    main()
