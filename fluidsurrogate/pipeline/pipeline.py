"""The stages of an experiment, each of which knows its inputs, so that nothing is done twice and nothing is mixed up:
data.zarr → models/NAME/ → forecasts.nc, ensembles.nc → scores.nc, scores.csv, comparison.png, scores.png.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, final

import xarray as xr

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.distributed import (
    is_main_process,
    process_count,
    wait_for_all_processes,
    warn_if_single_process,
)
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import atomic_write, check_writable, read_json, write_json, write_text
from fluidsurrogate.core.jobs import choose_worker_count, run_jobs
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.provenance import check_same_provenance, parse_json_attribute, provenance_attributes
from fluidsurrogate.core.resumable import delete_leftovers, partial_folder, publish, start_or_resume
from fluidsurrogate.data.content_hash import CONTENT, content_of, own_content
from fluidsurrogate.data.readers import open_data
from fluidsurrogate.evaluation.score_tables import summary, to_csv
from fluidsurrogate.models.loading import load
from fluidsurrogate.models.model_files import CONFIG, LAST
from fluidsurrogate.models.provenance import model_provenance
from fluidsurrogate.nn import allowing_code, code_is_allowed
from fluidsurrogate.pipeline.ensembles import forecast_ensembles
from fluidsurrogate.pipeline.forecasts import forecast_all, score_all
from fluidsurrogate.simulation.generation import data_provenance, generate_to_zarr, refuse_unresolved, split_of
from fluidsurrogate.simulation.resolution import describe_resolution
from fluidsurrogate.simulation.zarr_rollout import rollout_to_zarr
from fluidsurrogate.training.history import CURVE, EVENTS, FIGURE
from fluidsurrogate.training.trainer import train_model
from solvers import Resampled

log = logging.getLogger("fluidsurrogate")
OWN_DATA = (  # said before anything is learnt from data that the experiment's flow did not make
    "  data of your own (data.path): [flow] says which symmetries a model may claim, what a hybrid's solver does, and "
    "viscosity and drag of the energy budget, where the data keep it; nothing checks that it is the flow of these data"
)
COMPRESSED = {"zlib": True, "complevel": 1, "shuffle": True, "fletcher32": True}
NOTE = ".data.json"  # what is known of a user's dataset
MadeFrom = dict[str, Any]  # the parts of an experiment that a result depends on


@final
class Pipeline:
    """An experiment and the folder that its results go to. A stage whose result is there for the same inputs is left
    alone; one whose inputs have changed is refused, unless `force` says to make it again."""

    def __init__(
        self, experiment: Experiment, out: Path, command: str = "", content: Mapping[str, str] | None = None
    ) -> None:
        self.experiment, self.out = experiment, (out := as_path(out))
        self.command = command or experiment.name  # how messages name the experiment in a command line
        self.content = content  # of a user's dataset, where it is not to be read
        self.data_path = as_path(experiment.data.path) if experiment.data.path else out / "data.zarr"
        self.forecasts_path, self.scores_path = out / "forecasts.nc", out / "scores.nc"
        self.ensembles_path = out / "ensembles.nc"

    # -- what each result depends on

    @cached_property
    def data_provenance(self) -> MadeFrom:
        """What the data depend on; for a user's dataset, what it holds."""
        if not self.experiment.data.path:
            return data_provenance(self.experiment)
        provenance = data_provenance(self.experiment)
        elsewhere = {key: value for key, value in provenance["data"].items() if key != "path"}
        content = self.own[CONTENT] if self.content is None else self.content
        return {**provenance, "data": elsewhere, CONTENT: content}

    @cached_property
    def own(self) -> dict[str, Any]:
        """What is known of a user's dataset: see `own_content`."""
        spec = self.experiment.spec
        if not self.data_path.exists():
            raise UsageError(f"{self.data_path}: no such dataset (data.path; in a file, relative to the file's folder)")
        return own_content(self.data_path, [field.name for field in spec.fields + spec.inputs], self.out / NOTE)

    def model_provenance(self, name: str) -> MadeFrom:
        """What a model depends on."""
        return model_provenance(self.experiment, name, self.data_provenance)

    @property
    def forecasts_provenance(self) -> MadeFrom:
        """What the forecasts depend on."""
        return {
            "data": self.data_provenance,
            "models": {name: self.model_provenance(name) for name in self.experiment.models},
            "solvers": self.experiment.tree()["compare"]["solvers"],
        }

    @property
    def ensembles_provenance(self) -> MadeFrom:
        """What the members depend on."""
        compare = self.experiment.compare
        numbers = {"members": compare.members, "calibration_starts": compare.calibration_starts}
        return {"forecasts": self.forecasts_provenance, **numbers}

    @property
    def _with_members(self) -> list[str]:
        """The models whose forecasts get members: where any do, all but those of several networks."""
        models = self.experiment.models.items()
        return [] if self.experiment.compare.members is None else [name for name, m in models if m.networks == 1]

    @property
    def scores_provenance(self) -> MadeFrom:
        """What the scores depend on."""
        return {"forecasts": self.forecasts_provenance, "compare": self.experiment.tree()["compare"]}

    @property
    def score_files(self) -> list[Path]:
        """What `compare` makes beside scores.nc."""
        return [self.out / name for name in ("scores.csv", "comparison.png", "scores.png")]

    def model_path(self, name: str) -> Path:
        """The folder of a model."""
        return self.out / "models" / name

    # -- the stages

    def generate(self, force: bool = False) -> None:
        """data.zarr from the classical solver; nothing where the experiment names a dataset of the user's."""
        if self.experiment.data.path:
            log.info(f"generate: using {self.data_path}")
            self._require(self.data_path, _dataset_provenance, self.data_provenance, "generate")
        elif not _is_there(self.data_path, _dataset_provenance, self.data_provenance, force):
            log.info(f"generate: {self.data_path}")
            generate_to_zarr(self.experiment, self.data_path, force)
        else:
            with open_data(self.data_path) as data:
                refuse_unresolved(self.experiment, data.attrs.get("resolution_error"))

    def train(self, force: bool = False) -> None:
        """models/NAME/ for every model, several at a time."""
        self._require(self.data_path, _dataset_provenance, self.data_provenance, "generate")
        parts = {name: self.model_provenance(name) for name in self.experiment.models}
        todo = [name for name in parts if not _is_there(self.model_path(name), _model_provenance, parts[name], force)]
        if not todo:
            return
        options = self.experiment.train
        warn_if_single_process()
        log.info(f"train: {', '.join(todo)} ({options.steps} steps each)")
        if self.experiment.data.path:
            log.info(OWN_DATA)
        # Every process has seen what there is to do before one of them changes it.
        wait_for_all_processes(self.experiment.device)
        if is_main_process():
            for name in todo:
                start_or_resume(self.model_path(name), parts[name], force)
        wait_for_all_processes(self.experiment.device)
        tree = self.experiment.tree()
        allowed = code_is_allowed()
        jobs = {name: (tree, name, str(self.data_path), str(self.model_path(name)), parts[name], allowed)
                for name in todo}  # fmt: skip
        cells = options.batch * math.prod(self.experiment.spec.grid.n)
        steps = len(todo) * options.steps * options.reach
        workers = 1 if process_count() > 1 else choose_worker_count(options.workers, options.threads, steps, cells)
        run_jobs(_train_job, jobs, workers, options.steps, "train")
        wait_for_all_processes(self.experiment.device)

    def rollout(self, force: bool = False) -> None:
        """forecasts.nc: the truth, and forecasts of it by persistence, solvers and every model, with what each costs;
        where compare.members is given, ensembles.nc."""
        self._require(self.data_path, _dataset_provenance, self.data_provenance, "generate")
        for name in self.experiment.models:
            self._require(self.model_path(name), _model_provenance, self.model_provenance(name), "train")
        if not _is_there(self.forecasts_path, _dataset_provenance, self.forecasts_provenance, force):
            self._rollout()
        if not self._with_members:
            return
        if not _is_there(self.ensembles_path, _dataset_provenance, self.ensembles_provenance, force):
            log.info(f"rollout: {self.ensembles_path}")
            paths = {name: self.model_path(name) for name in self._with_members}
            ensembles = forecast_ensembles(
                self.experiment, paths, self.data_path, self.ensembles_path, code_is_allowed()
            )
            write_netcdf(self._stamped(ensembles, self.ensembles_provenance), self.ensembles_path)

    def _rollout(self) -> None:
        log.info(f"rollout: {self.forecasts_path}")
        models = {name: load(self.model_path(name), self.experiment.device) for name in self.experiment.models}
        with open_data(self.data_path) as data:
            truth = split_of(data, "test", self.experiment).load()
        forecasts = forecast_all(self.experiment, models, truth)
        write_netcdf(self._stamped(forecasts, self.forecasts_provenance), self.forecasts_path)

    def solve_to_zarr(
        self, dataset: xr.Dataset, steps: int, to: Path, start_time: float | None, keep_every: int, batch: int | None,
        force: bool,
    ) -> None:  # fmt: skip
        """The truth for a long forecast: the solver from the same starts, by the same code; see `rollout_to_zarr`."""
        experiment, solver = self.experiment, self.experiment.build_solver()
        experiment.check_constants(dataset)
        provenance = {key: value for key, value in data_provenance(experiment).items() if key not in ("seed", "data")}
        provenance |= {"interval": solver.spec.interval, "state": experiment.data.state, "kernel": solver.kernel}
        rollout_to_zarr(
            Resampled(experiment.build_stepper(), experiment.spec.grid), dataset, steps, to, start_time=start_time,
            batch=batch, keep_every=keep_every, provenance={**provenance, "device": str(solver.device)}, force=force,
            attributes={"source": "fluidsurrogate classical solver", **experiment.constants,
                        "experiment": json.dumps(experiment.tree())},
        )  # fmt: skip

    def compare(self, force: bool = False) -> None:
        """scores.nc, scores.csv and the two figures."""
        self._require(self.forecasts_path, _dataset_provenance, self.forecasts_provenance, "rollout")
        ensembles = None
        if self._with_members:
            self._require(self.ensembles_path, _dataset_provenance, self.ensembles_provenance, "rollout")
            ensembles = open_data(self.ensembles_path)
        there = _is_there(self.scores_path, _dataset_provenance, self.scores_provenance, force)
        if there and all(path.exists() for path in self.score_files):
            return
        from fluidsurrogate.rendering.plots import (  # imported late, as whatever takes its time
            draw_comparison,
            draw_scores,
        )

        log.info(f"compare: {self.scores_path}")
        with open_data(self.forecasts_path) as forecasts:
            options = self.experiment.compare
            scores = score_all(forecasts.load(), options.correlation_threshold, options.metrics, ensembles)
            write_text(self.out / "scores.csv", to_csv(scores))
            with atomic_write(self.out / "comparison.png") as beside:
                draw_comparison(forecasts, beside, ensembles=ensembles)
        if ensembles is not None:
            ensembles.close()
        with atomic_write(self.out / "scores.png") as beside:
            draw_scores(scores, beside)
        write_netcdf(self._stamped(scores, self.scores_provenance), self.scores_path)

    def run(self, stage: str, force: bool = False) -> None:
        """One stage; or all, for `run`. With `force`, also those after it whose results are there and so are stale."""
        if stage != "generate":
            self.experiment.refuse_code()  # before hours of work, not after
        first = 0 if stage == "run" else list(STAGES).index(stage)
        results = {"train": self.out / "models", "rollout": self.forecasts_path, "compare": self.scores_path}
        for number, (name, function) in enumerate(STAGES.items()):
            if number == first or (number > first and (stage == "run" or (force and results[name].exists()))):
                function(self, force)

    def report(self) -> str:
        """The table of scores and the names of the files."""
        with open_data(self.scores_path) as scores:
            table = summary(scores).to_string()
        with open_data(self.data_path) as data:
            said = describe_resolution(data.attrs)
        table += f"\n\nresolution of the truth: {said or 'not known'}"
        files = [self.data_path, *map(self.model_path, self.experiment.models), self.forecasts_path, self.scores_path]
        files += [self.ensembles_path] if self._with_members else []
        files += self.score_files
        return table + "\n\n" + "\n".join(map(str, files))

    def _require(
        self, path: Path, provenance_of: Callable[[Path], MadeFrom | None], provenance: MadeFrom, stage: str
    ) -> None:
        """UsageError where an earlier stage's result is missing, or was made from other inputs."""
        if not path.exists():
            raise UsageError(f"{path} does not exist yet: fluidsurrogate {stage} {self.command} makes it")
        if not (self.experiment.data.path and path == self.data_path):
            check_same_provenance(path, provenance_of(path) or {}, provenance)
        elif is_main_process():
            with suppress(OSError):  # a folder that is only looked at
                write_json(self.out / NOTE, self.own)

    def _stamped(self, dataset: xr.Dataset, provenance: MadeFrom) -> xr.Dataset:
        return dataset.assign_attrs(provenance_attributes(self.experiment.tree(), provenance))


STAGES: dict[str, Callable[[Pipeline, bool], None]] = {
    "generate": Pipeline.generate,
    "train": Pipeline.train,
    "rollout": Pipeline.rollout,
    "compare": Pipeline.compare,
}


def write_netcdf(dataset: xr.Dataset, path: Path) -> None:
    """Write NetCDF in one piece: fields compressed without loss, with checksums; and a record of what it holds."""
    fields = [name for name, variable in dataset.data_vars.items() if {"y", "x"} <= set(variable.dims)]
    with atomic_write(path) as beside:
        dataset.to_netcdf(beside, engine="netcdf4", encoding={name: COMPRESSED for name in fields})
        with open_data(beside) as written:
            content = content_of(written)
        xr.Dataset(attrs={CONTENT: json.dumps(content)}).to_netcdf(beside, mode="a", engine="netcdf4")


def _train_job(
    tree: Mapping[str, Any],
    name: str,
    data: str,
    path: str,
    provenance: MadeFrom,
    allow_code: bool,
    report: Callable[[int, str], None],
) -> None:
    """Train one model in the folder that its stage has begun, then publish it."""
    folder = partial_folder(Path(path))
    # A process of its own knows of no permission. The data are the user's, who may write to them right after.
    with allowing_code(allow_code), open_data(data) as dataset:
        surrogate = train_model(Experiment.from_tree(tree), name, dataset, provenance, folder, report)
    if is_main_process():
        (folder / "result").mkdir(exist_ok=True)
        for made in (CURVE, FIGURE, LAST):
            shutil.copy(folder / made, folder / "result" / made)
        surrogate.save(folder / "result")  # it hashes the weights that are there
        if (folder / EVENTS).exists():
            shutil.copytree(folder / EVENTS, folder / "result" / EVENTS, dirs_exist_ok=True)
        publish(Path(path))


def _is_there(path: Path, provenance_of: Callable[[Path], MadeFrom | None], provenance: MadeFrom, force: bool) -> bool:
    """True where `path` was made from these inputs and is not to be made again; UsageError where from others, or
    where it is to be made and cannot be written."""
    if force or not path.exists():
        check_writable(path.parent)
        return False
    check_same_provenance(path, provenance_of(path) or {}, provenance)
    if is_main_process():
        delete_leftovers(path)
    log.info(f"{path} is up to date")
    return True


def _dataset_provenance(path: Path) -> MadeFrom | None:
    with open_data(path) as dataset:
        return parse_json_attribute(dataset.attrs.get("provenance"))


def _model_provenance(path: Path) -> MadeFrom | None:
    config = read_json(path / CONFIG)
    about = config.get("about") if isinstance(config, dict) else None
    return parse_json_attribute(about.get("provenance")) if isinstance(about, dict) else None
