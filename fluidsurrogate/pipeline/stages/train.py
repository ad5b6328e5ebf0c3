"""The stage `train`: every model of the experiment, several at a time."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fluidsurrogate.core.processes import (
    available_workers,
    is_main_process,
    processes,
    run_jobs,
    wait_for_all,
    warn_of_one_process,
)
from fluidsurrogate.core.storage import begin, partial, publish
from fluidsurrogate.pipeline.run import DATA, Run
from fluidsurrogate.pipeline.stage import Provenance, Stage, Tree, register

log = logging.getLogger("fluidsurrogate")
OWN_DATA = (  # said before anything is learnt from data that the experiment's flow did not make
    "  data of your own (data.path): [flow] says which symmetries a model may claim, what a hybrid's solver does, and "
    "viscosity and drag of the energy budget, where the data keep it; nothing checks that it is the flow of these data"
)


def outputs(tree: Tree) -> tuple[str, ...]:
    """Return the folder of every model."""
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
    warn_of_one_process()
    log.info(f"train: {', '.join(names)} ({options.steps} steps each)")
    log.info(f"  a first picture, while they train: {run.out / 'preview.png'}")
    if experiment.data.path:
        log.info(OWN_DATA)
    wait_for_all(experiment.device)  # every process has seen what there is to do before one of them changes it
    parts = {name: run.provenance(output) for name, output in zip(names, missing, strict=True)}
    if is_main_process():
        for name in names:
            begin(run.model_path(name), parts[name], force)
    wait_for_all(experiment.device)
    tree, allowed, data = run.tree, code_is_allowed(), str(run.data_path)
    jobs = {name: (tree, name, data, str(run.model_path(name)), parts[name], allowed) for name in names}
    cells = options.batch * math.prod(experiment.spec.grid.n)
    steps = len(names) * options.steps * options.reach
    workers = 1 if processes() > 1 else available_workers(options.workers, options.threads, steps, cells)
    run_jobs(_train_one, jobs, workers, options.steps, "train")
    wait_for_all(experiment.device)


def _train_one(
    tree: Mapping[str, Any],
    name: str,
    data: str,
    path: str,
    provenance: Provenance,
    allow_code: bool,
    report: Callable[[int, str], None],
) -> None:
    """Train one model in the folder that its stage has begun, then publish it."""
    from fluidsurrogate.config.experiment import Experiment
    from fluidsurrogate.data.opening import open_data
    from fluidsurrogate.models.model_files import LAST_WEIGHTS_FILE
    from fluidsurrogate.models.saving import save
    from fluidsurrogate.nn import allowing_code
    from fluidsurrogate.pipeline.preview import Preview
    from fluidsurrogate.training.history import HISTORY_FIGURE, HISTORY_FILE, TENSORBOARD_FOLDER
    from fluidsurrogate.training.train import train_model

    folder = partial(Path(path))
    # A process of its own knows of no permission. The data are the user's, who may write to them right after.
    with allowing_code(allow_code), open_data(data) as dataset:
        experiment, preview = Experiment.from_tree(tree), Preview(Path(path).parents[1])
        surrogate = train_model(experiment, name, dataset, provenance, folder, report, on_better_weights=preview)
    if is_main_process():
        (folder / "result").mkdir(exist_ok=True)
        for made in (HISTORY_FILE, HISTORY_FIGURE, LAST_WEIGHTS_FILE):
            shutil.copy(folder / made, folder / "result" / made)
        save(surrogate, folder / "result")  # it hashes the weights that are there
        if (folder / TENSORBOARD_FOLDER).exists():
            shutil.copytree(folder / TENSORBOARD_FOLDER, folder / "result" / TENSORBOARD_FOLDER, dirs_exist_ok=True)
        publish(Path(path))


register(
    Stage(
        name="train",
        summary="every model of the experiment: models/NAME/",
        inputs=("generate",),
        kind="model",
        files=("models/*",),
        outputs=outputs,
        provenance=provenance,
        make=make,
    )
)
