"""The stages of an experiment, each of which knows its inputs, so that nothing is done twice and nothing is mixed up:
data.zarr → models/NAME/ → forecasts.nc → scores.nc, scores.csv, comparison.png, scores.png.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
import xarray as xr

from fluidsurrogate.compare import compare, summary, to_csv
from fluidsurrogate.config import Experiment
from fluidsurrogate.dataset import open_data, to_dataset, to_inputs, to_states
from fluidsurrogate.equivariance import equivariance_error
from fluidsurrogate.errors import UsageError
from fluidsurrogate.generate import data_inputs, generate_to_zarr, split_of
from fluidsurrogate.parallel import available_workers, run_jobs
from fluidsurrogate.plots import draw_comparison, draw_scores
from fluidsurrogate.rollout import Persistence, rollout, seconds_per_step
from fluidsurrogate.store import begin, partial, publish, read_json, refuse_changes, replacing, stamp, write_text
from fluidsurrogate.surrogate import CONFIG, Surrogate, load
from fluidsurrogate.training import model_inputs, train_model
from solvers import Stepper, point_group

log = logging.getLogger("fluidsurrogate")
Inputs = dict[str, Any]


@final
class Pipeline:
    """An experiment and the folder that its results go to. A stage whose result is there for the same inputs is left
    alone; one whose inputs have changed is refused, unless `force` says to make it again."""

    def __init__(self, experiment: Experiment, out: Path, command: str = "") -> None:
        self.experiment, self.out = experiment, out
        self.command = command or experiment.name  # how messages name the experiment in a command line
        self.data_path = Path(experiment.data.path) if experiment.data.path else out / "data.zarr"
        self.forecasts_path, self.scores_path = out / "forecasts.nc", out / "scores.nc"

    # -- what each result depends on

    @cached_property
    def data_inputs(self) -> Inputs:
        """What the data depend on; for a user's dataset, which files they are."""
        if not self.experiment.data.path:
            return data_inputs(self.experiment)
        content = {"path": self.experiment.data.path, "content": _file_fingerprint(self.data_path)}
        return content | {"data": self.experiment.tree()["data"]}

    def model_inputs(self, name: str) -> Inputs:
        """What a model depends on."""
        return model_inputs(self.experiment, name, self.data_inputs)

    @property
    def forecast_inputs(self) -> Inputs:
        """What the forecasts depend on."""
        return {"data": self.data_inputs, "models": {name: self.model_inputs(name) for name in self.experiment.models}}

    @property
    def score_inputs(self) -> Inputs:
        """What the scores depend on."""
        return {"forecasts": self.forecast_inputs, "compare": self.experiment.tree()["compare"]}

    def model_path(self, name: str) -> Path:
        """The folder of a model."""
        return self.out / "models" / name

    # -- the stages

    def generate(self, force: bool = False) -> None:
        """data.zarr from the classical solver; nothing where the experiment names a dataset of the user's."""
        if self.experiment.data.path:
            log.info(f"generate: using {self.data_path}")
            open_data(self.data_path)
        elif not _is_there(self.data_path, _inputs_of_dataset, self.data_inputs, force):
            log.info(f"generate: {self.data_path}")
            generate_to_zarr(self.experiment, self.data_path, force)

    def train(self, force: bool = False) -> None:
        """models/NAME/ for every model, several at a time."""
        self._require(self.data_path, _inputs_of_dataset, self.data_inputs, "generate")
        inputs = {name: self.model_inputs(name) for name in self.experiment.models}
        todo = [name for name in inputs if not _is_there(self.model_path(name), _inputs_of_model, inputs[name], force)]
        if not todo:
            return
        options = self.experiment.train
        log.info(f"train: {', '.join(todo)} ({options.steps} steps each)")
        for name in todo:
            begin(self.model_path(name), inputs[name], force)
        tree = self.experiment.tree()
        jobs = {name: (tree, name, str(self.data_path), str(self.model_path(name)), inputs[name]) for name in todo}
        run_jobs(_train_job, jobs, available_workers(options.workers, options.threads), options.steps, "train")

    def rollout(self, force: bool = False) -> None:
        """forecasts.nc: the test trajectories by the solver, persistence and every model, and what each costs."""
        self._require(self.data_path, _inputs_of_dataset, self.data_inputs, "generate")
        for name in self.experiment.models:
            self._require(self.model_path(name), _inputs_of_model, self.model_inputs(name), "train")
        if _is_there(self.forecasts_path, _inputs_of_dataset, self.forecast_inputs, force):
            return
        log.info(f"rollout: {self.forecasts_path}")
        models = {name: load(self.model_path(name), self.experiment.device) for name in self.experiment.models}
        truth = split_of(open_data(self.data_path), "test", self.experiment).load()
        forecasts = forecast_all(self.experiment, models, truth)
        write_netcdf(self._stamped(forecasts, self.forecast_inputs), self.forecasts_path)

    def compare(self, force: bool = False) -> None:
        """scores.nc, scores.csv and the two figures."""
        self._require(self.forecasts_path, _inputs_of_dataset, self.forecast_inputs, "rollout")
        others = [self.out / name for name in ("scores.csv", "comparison.png", "scores.png")]
        if all(path.exists() for path in others) and _is_there(
            self.scores_path, _inputs_of_dataset, self.score_inputs, force
        ):
            return
        log.info(f"compare: {self.scores_path}")
        with open_data(self.forecasts_path) as forecasts:
            scores = score_all(forecasts.load(), self.experiment.compare.correlation_threshold)
            write_text(self.out / "scores.csv", to_csv(scores))
            with replacing(self.out / "comparison.png") as beside:
                draw_comparison(forecasts, beside)
        with replacing(self.out / "scores.png") as beside:
            draw_scores(scores, beside)
        write_netcdf(self._stamped(scores, self.score_inputs), self.scores_path)

    def run(self, stage: str, force: bool = False) -> None:
        """One stage; or all, for `run`. With `force`, also those after it whose results are there and so are stale."""
        first = 0 if stage == "run" else list(STAGES).index(stage)
        exists = {
            "train": (self.out / "models").exists(),
            "rollout": self.forecasts_path.exists(),
            "compare": self.scores_path.exists(),
        }
        for number, (name, function) in enumerate(STAGES.items()):
            if number == first or (number > first and (stage == "run" or (force and exists.get(name, False)))):
                function(self, force)

    def report(self) -> str:
        """The table of scores and the names of the files."""
        with open_data(self.scores_path) as scores:
            table = summary(scores).to_string()
        files = [self.data_path, *map(self.model_path, self.experiment.models), self.forecasts_path, self.scores_path]
        files += [self.out / name for name in ("scores.csv", "comparison.png", "scores.png")]
        return table + "\n\n" + "\n".join(map(str, files))

    def _require(self, path: Path, inputs_of: Callable[[Path], Inputs | None], inputs: Inputs, stage: str) -> None:
        """UsageError where an earlier stage's result is missing, or was made from other inputs."""
        if not path.exists():
            if self.experiment.data.path and path == self.data_path:
                raise UsageError(f"{path}: no such dataset (data.path)")
            raise UsageError(f"{path} does not exist yet: fluidsurrogate {stage} {self.command} makes it")
        if not (self.experiment.data.path and path == self.data_path):
            refuse_changes(path, inputs_of(path) or {}, inputs)

    def _stamped(self, dataset: xr.Dataset, inputs: Inputs) -> xr.Dataset:
        return dataset.assign_attrs(stamp(self.experiment.tree(), inputs))


STAGES: dict[str, Callable[[Pipeline, bool], None]] = {
    "generate": Pipeline.generate,
    "train": Pipeline.train,
    "rollout": Pipeline.rollout,
    "compare": Pipeline.compare,
}


def forecast_all(experiment: Experiment, models: Mapping[str, Surrogate], truth: xr.Dataset) -> xr.Dataset:
    """Roll every stepper out from the truth's starts: fields by (source, trajectory, time, y, x), and by source the
    equivariance error of each element of the grid's point group, the number of parameters and the seconds a step."""
    spec, dtype, device = experiment.spec, experiment.torch_dtype, torch.device(experiment.device)
    states = to_states(truth, spec, dtype).to(device)
    inputs = {name: value.to(device) for name, value in to_inputs(truth, spec, dtype).items()}
    solver = experiment.build_solver()
    steppers: dict[str, Stepper] = {"solver": solver, "persistence": Persistence(spec), **models}
    group, parts = point_group(spec.grid), []
    coordinates = {str(name): c.variable for name, c in truth.coords.items() if c.dims == ("trajectory",)}
    for name, stepper in steppers.items():
        with torch.no_grad():
            rolled = states if name == "solver" else rollout(stepper, states[:, 0], states.shape[1] - 1, inputs)
        start_time = float(truth["time"].values[0])
        part = to_dataset(spec, rolled, start_time=start_time, coordinates=coordinates)
        errors = equivariance_error(stepper, states[:, 0], group, inputs)
        part["equivariance_error"] = ("element", list(errors.values()), {
            "long_name": "|f(gx) - g f(x)| / |f(x) - x|, not defined for persistence", "units": "1"})  # fmt: skip
        part["parameters"] = ((), stepper.parameters if isinstance(stepper, Surrogate) else 0, {"units": "1"})
        parts.append(part.assign_coords(element=list(errors)))
    source = xr.Variable("source", list(steppers), {"long_name": "source of the forecast"})
    forecasts = xr.concat(parts, source, coords="minimal", compat="override", combine_attrs="override")
    seconds = seconds_per_step(steppers, states[:, 0], inputs)
    about = {"long_name": f"wall-clock time of one interval of {len(states)} trajectories", "units": "s"}
    forecasts["seconds_per_step"] = ("source", [seconds[name] for name in steppers], about)
    return forecasts


def score_all(forecasts: xr.Dataset, threshold: float) -> xr.Dataset:
    """The scores of every source against the solver, with what was measured of each while rolling out."""
    truth = forecasts.sel(source="solver", drop=True)
    by_source = {str(name): forecasts.sel(source=name, drop=True) for name in forecasts["source"].values}
    scores = compare(by_source, truth, threshold)
    scores["equivariance_error_by_element"] = forecasts["equivariance_error"]
    scores["equivariance_error"] = forecasts["equivariance_error"].max("element", keep_attrs=True)
    for name in ("parameters", "seconds_per_step"):
        scores[name] = forecasts[name]
    return scores


def write_netcdf(dataset: xr.Dataset, path: Path) -> None:
    """Write NetCDF in one piece."""
    with replacing(path) as beside:
        dataset.to_netcdf(beside, engine="netcdf4")


def _train_job(
    tree: Mapping[str, Any], name: str, data: str, path: str, inputs: Inputs, report: Callable[[int, str], None]
) -> None:
    """Train one model in the folder that its stage has begun, then publish it."""
    folder = partial(Path(path))
    surrogate = train_model(Experiment.from_tree(tree), name, open_data(data), inputs, folder, report)
    surrogate.save(folder / "result")
    shutil.copy(folder / "curve.csv", folder / "result" / "curve.csv")
    publish(Path(path))


def _is_there(path: Path, inputs_of: Callable[[Path], Inputs | None], inputs: Inputs, force: bool) -> bool:
    """True where `path` was made from these inputs and is not to be made again; UsageError where from others."""
    if force or not path.exists():
        return False
    refuse_changes(path, inputs_of(path) or {}, inputs)
    shutil.rmtree(partial(path), ignore_errors=True)
    log.info(f"{path} is up to date")
    return True


def _inputs_of_dataset(path: Path) -> Inputs | None:
    with open_data(path) as dataset:
        text = dataset.attrs.get("inputs")
    return None if text is None else json.loads(text)


def _inputs_of_model(path: Path) -> Inputs | None:
    text = ((read_json(path / CONFIG) or {}).get("about") or {}).get("inputs")
    return None if text is None else json.loads(text)


def _file_fingerprint(path: Path) -> str:
    """Which files a user's dataset is: their names, sizes and times of change."""
    files: Sequence[Path] = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        if file.exists():
            stat = os.stat(file)
            digest.update(f"{file.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]
