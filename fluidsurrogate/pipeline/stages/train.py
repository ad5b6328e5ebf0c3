"""The stage `train`: train every model of the experiment, several at a time."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fluidsurrogate.core.distributed import (
    is_main_process,
    process_count,
    wait_for_all_processes,
    warn_if_single_process,
)
from fluidsurrogate.core.jobs import choose_worker_count, run_jobs
from fluidsurrogate.core.resumable import partial_folder, publish, start_or_resume
from fluidsurrogate.core.stores import as_location
from fluidsurrogate.pipeline.run import DATA, Run
from fluidsurrogate.pipeline.stage import Provenance, Stage, Tree, register

log = logging.getLogger("fluidsurrogate")
USER_DATA_NOTICE = (  # logged before training on data that the experiment's flow did not make
    "  data of your own (data.path): the symmetries that a model may have, the solver of a hybrid, and viscosity and "
    "drag of the energy budget are taken from [flow]; "
)


def outputs(tree: Tree) -> tuple[str, ...]:
    """Return the folders of all models."""
    models = tree.get("models")
    return tuple(f"models/{name}" for name in models) if isinstance(models, dict) else ()


def provenance(run: Run, output: str) -> Provenance:
    """Return what a model depends on."""
    from fluidsurrogate.models.provenance import model_provenance

    return model_provenance(run.experiment, Path(output).name, run.provenance(DATA))


def make(run: Run, missing: Sequence[str], force: bool) -> None:
    """Train the models that are missing."""
    from fluidsurrogate.nn import code_is_allowed

    experiment, options = run.experiment, run.experiment.train
    names = [Path(output).name for output in missing]
    warn_if_single_process()
    log.info(f"train: {', '.join(names)} ({options.steps} steps each)")
    log.info(f"  a first picture appears during training: {run.out / 'preview.png'}")
    if experiment.data.path:
        from fluidsurrogate.pipeline.user_data_check import checked_user_data

        log.info(f"{USER_DATA_NOTICE}check of the data: {checked_user_data(run)['summary']}")
    wait_for_all_processes(
        experiment.device
    )  # every process must have seen which models are missing before one starts them
    provenances = {name: run.provenance(output) for name, output in zip(names, missing, strict=True)}
    if is_main_process():
        for name in names:
            start_or_resume(run.model_path(name), provenances[name], force)
    wait_for_all_processes(experiment.device)
    tree, allowed, data = run.tree, code_is_allowed(), str(run.data_path)
    jobs = {name: (tree, name, data, str(run.model_path(name)), provenances[name], allowed) for name in names}
    cells = options.batch * math.prod(experiment.spec.grid.n)
    steps = len(names) * options.steps * options.longest_span
    workers = 1 if process_count() > 1 else choose_worker_count(options.workers, options.threads, steps, cells)
    run_jobs(_train_one, jobs, workers, options.steps, "train")
    wait_for_all_processes(experiment.device)


def _train_one(
    tree: Mapping[str, Any],
    name: str,
    data: str,
    path: str,
    provenance: Provenance,
    allow_code: bool,
    report: Callable[[int, str], None],
) -> None:
    """Train one model in its unfinished folder, then give the folder its final name."""
    from fluidsurrogate.config.experiment import Experiment
    from fluidsurrogate.models.model_files import LAST_WEIGHTS_FILE
    from fluidsurrogate.models.saving import save
    from fluidsurrogate.nn import allowing_code
    from fluidsurrogate.pipeline.preview import Preview
    from fluidsurrogate.simulation.experiment_data import open_experiment_data
    from fluidsurrogate.training.history import HISTORY_FIGURE, HISTORY_FILE, TENSORBOARD_FOLDER
    from fluidsurrogate.training.train import train_model

    folder = partial_folder(Path(path))
    # A new process has not inherited the permission. The dataset is closed at the end: its user may write to it then.
    with allowing_code(allow_code):
        experiment = Experiment.from_tree(tree)
    with allowing_code(allow_code), open_experiment_data(experiment, as_location(data)) as dataset:
        preview = Preview(Path(path).parents[1])
        surrogate = train_model(experiment, name, dataset, provenance, folder, report, on_better_weights=preview)
    if is_main_process():
        (folder / "result").mkdir(exist_ok=True)
        for made in (HISTORY_FILE, HISTORY_FIGURE, LAST_WEIGHTS_FILE):
            shutil.copy(folder / made, folder / "result" / made)
        save(surrogate, folder / "result")  # it computes the hash of the weights
        if (folder / TENSORBOARD_FOLDER).exists():
            shutil.copytree(folder / TENSORBOARD_FOLDER, folder / "result" / TENSORBOARD_FOLDER, dirs_exist_ok=True)
        publish(Path(path))


register(
    Stage(
        name="train",
        summary="train every model of the experiment: models/NAME/",
        inputs=("generate",),
        kind="model",
        files=("models/*",),
        outputs=outputs,
        provenance=provenance,
        make=make,
    )
)
