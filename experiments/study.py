"""What the studies share: parts of data, turned tests, scores, and how tables say them."""

from __future__ import annotations

import logging
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

import fluidsurrogate as fs
from fluidsurrogate.core.files import read_json, write_json, write_text
from fluidsurrogate.data.conversion import to_inputs, to_states
from fluidsurrogate.evaluation.comparison import TRUTH
from fluidsurrogate.evaluation.equivariance import apply_stepper
from fluidsurrogate.models.step import VelocityOfVorticity
from fluidsurrogate.pipeline.forecasts import forecast_all
from fluidsurrogate.training.trainer import Trainer
from solvers import D4, Element, StateSpec, act_on_fields
from solvers.array_types import Inputs
from solvers.diagnostics import velocity
from solvers.spectra import cospectrum
from solvers.symmetry import act_on_inputs

HORIZON = 10  # the number of intervals after which studies compare errors
Name = TypeVar("Name")
QUARTER_TURN = next(g for g in D4 if g.name == "rotation 90")


def one_thread() -> None:
    """Let a process compute in one thread, and say nothing but errors."""
    torch.set_num_threads(1)
    logging.getLogger("fluidsurrogate").setLevel(logging.ERROR)


def one_core() -> dict[str, str]:
    """When and where times were measured, on one core of a CPU."""
    return {
        "date": date.today().isoformat(),
        "machine": f"one core of an {platform.machine()}, torch {torch.__version__}",
    }


def training_step_seconds(
    trainers: Mapping[Name, Trainer], rounds: int = 10, clock: Callable[[], float] = time.process_time
) -> dict[Name, float]:
    """The seconds of a training step in the mean over a training, measured in turn: medians of steps early and late.

    The last `train.unroll_fraction` of the steps are over several intervals and take longer. The trainers are of no
    use afterwards.
    """
    times: dict[Name, tuple[list[float], list[float]]] = {name: ([], []) for name in trainers}
    for number, (name, trainer), late in product(range(rounds), trainers.items(), (False, True)):
        trainer.step = trainer.options.steps - 1 - number if late else number
        began = clock()
        trainer._train_step(trainer.batches[trainer.step])
        times[name][late].append(clock() - began)
    shares = {name: trainer.options.unroll_fraction for name, trainer in trainers.items()}
    return {
        name: (1 - shares[name]) * statistics.median(early) + shares[name] * statistics.median(late)
        for name, (early, late) in times.items()
    }


def only(data: xr.Dataset, split: str, count: int | None = None) -> xr.Dataset:
    """The first trajectories of a split."""
    return data.isel(trajectory=np.flatnonzero(data["split"].values == split)[:count])


def turned(data: xr.Dataset, spec: StateSpec) -> xr.Dataset:
    """The data as someone sees them who has turned the box by 90°."""
    states = act_on_fields(spec.fields, to_states(data, spec, torch.float64), QUARTER_TURN)
    inputs = act_on_inputs(spec, to_inputs(data, spec, torch.float64), QUARTER_TURN) or {}
    values = {"vorticity": states[:, :, 0]} | {name: inputs[name][:, 0] for name in inputs if name in data}
    return data.assign({name: data[name].copy(data=v.numpy().reshape(data[name].shape).astype(data[name].dtype))
                        for name, v in values.items()})  # fmt: skip


def velocity_scale(data: xr.Dataset, spec: StateSpec) -> float:
    """The root mean square of the training data's velocity over that of their vorticity."""
    states = to_states(only(data, "train"), spec, torch.float64).flatten(0, 1)
    return float(velocity(states, spec.grid).std() / states.std())


class WithVelocity(nn.Module):
    """Networks of a normalised vorticity, its normalised velocity and some inputs; their outputs are added."""

    def __init__(self, spec: StateSpec, scale: float, *networks: nn.Module, inputs: int = 0) -> None:
        super().__init__()
        self.velocity, self.networks = VelocityOfVorticity(spec, scale), nn.ModuleList(networks)
        self.inputs = inputs  # so many of the components beside the vorticity are seen

    def forward(self, x: Tensor) -> Tensor:
        vorticity, inputs = x[:, :1], x[:, 1 : 1 + self.inputs]
        taken = torch.cat([vorticity, self.velocity(vorticity), inputs], dim=1)
        return sum((network(taken) for network in self.networks), torch.zeros_like(vorticity))


def error_by_wavenumber(model, states: Tensor, inputs: Inputs = None, g: Element = QUARTER_TURN) -> list[float]:
    """‖f(gx) − g f(x)‖ over ‖f(x) − x‖ in each shell of wavenumbers, for one element g of a point group."""
    fields, spec, length = model.spec.fields, model.spec, model.spec.grid.length
    with torch.no_grad():
        after = apply_stepper(model, states, inputs)
        turned_after = apply_stepper(model, act_on_fields(fields, states, g), act_on_inputs(spec, inputs, g))
    error, change = ((turned_after - act_on_fields(fields, after, g)).double().cpu(), (after - states).double().cpu())
    above, below = (cospectrum(values, values, length).sum(0) for values in (error, change))
    return [round(float(ratio), 8) for ratio in (above / below).sqrt()[: states.shape[-1] // 2 - 1]]


def scores(model, test: xr.Dataset) -> dict[str, Any]:
    """nRMSE by step, and the correlation time."""
    compared = fs.compare({"model": fs.forecast(model, test, test.sizes["time"] - 1)}, test).sel(source="model")
    return {
        "nrmse": [round(float(v), 6) for v in compared["nrmse"].values],
        "correlation_time": float(compared["correlation_time_median"]),
        "censored": bool(compared["correlation_time_median_censored"]),
    }


def solver_scores(experiment: fs.Experiment, test: xr.Dataset) -> dict[str, dict[str, Any]]:
    """The classical solvers of a comparison, from the starts that the networks have; milliseconds an interval."""
    forecasts = forecast_all(experiment, {}, test)
    names = [str(name) for name in forecasts["source"].values[1:]]
    truth = forecasts.sel(source=TRUTH, drop=True)
    compared = fs.compare({n: forecasts.sel(source=n, drop=True) for n in names}, truth, metrics=[])
    return {
        name: {
            "nrmse": [round(float(v), 6) for v in compared["nrmse"].sel(source=name).values],
            "correlation_time": float(compared["correlation_time_median"].sel(source=name)),
            "ms": round(1e3 * float(forecasts["seconds_per_step"].sel(source=name)), 3),
        }
        for name in names
    }


def tenth(result: dict, test: str = "same") -> float:
    """The ten-step error."""
    return result[test]["nrmse"][HORIZON]


def ratio(ours: Mapping[int, dict], theirs: Mapping[int, dict], test: str = "same") -> str:
    """Geometric mean of the ratios of ten-step errors over pairs of the same seed, with its standard error."""
    logs = [np.log(tenth(ours[seed], test) / tenth(theirs[seed], test)) for seed in ours.keys() & theirs.keys()]
    if not logs:
        return "-"
    error = np.std(logs, ddof=1) / len(logs) ** 0.5 if len(logs) > 1 else 0.0
    return f"{np.exp(np.mean(logs)):.2f} ± {np.exp(np.mean(logs)) * error:.2f}"


def spread(values: list[float]) -> str:
    """Mean ± standard deviation over the seeds."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.3f}"


def slug(name: str) -> str:
    """The name of a network or a case as part of a file's name."""
    return name.replace(", ", "-").replace(" ", "_").replace("²", "")


def read_result(path: Path) -> Any:
    """A result of a study: its own file, which it has while the study runs, or its part of results.json, or None."""
    return read_json(path) if path.exists() else _packed(path.parent.with_suffix(".json")).get(path.stem)


@cache
def _packed(path: Path) -> dict[str, Any]:
    """The results that were packed."""
    return read_json(path) or {}


def pack_results(folder: Path) -> None:
    """Move all results of a folder into one file beside it: results/*.json into results.json."""
    path, files = folder.with_suffix(".json"), sorted(folder.glob("*.json"))
    if files:
        write_json(path, dict(sorted(((read_json(path) or {}) | {f.stem: read_json(f) for f in files}).items())))
        _packed.cache_clear()
    for file in files:
        file.unlink()
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def write_report(path: Path, title: str, about: str, *parts: str) -> None:
    """results.md: a title, how it was measured, what was found (finding.md beside it), and the tables."""
    finding = path.parent / "finding.md"
    text = finding.read_text(encoding="utf-8").strip() if finding.exists() else ""
    write_text(path, "\n\n".join(part for part in (f"# {title}", about, text, *parts) if part) + "\n")
