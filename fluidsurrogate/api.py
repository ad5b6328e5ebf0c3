"""The stages from Python: in memory unless a folder is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import xarray as xr
from torch import nn

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.processes import processes, run_jobs
from fluidsurrogate.core.storage import locked
from fluidsurrogate.data.conversion import as_dataset, open_data
from fluidsurrogate.models.loading import load
from fluidsurrogate.models.provenance import model_provenance
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.nn import Network, allowing_code
from fluidsurrogate.pipeline.pipeline import run_stage
from fluidsurrogate.pipeline.run import Run
from fluidsurrogate.pipeline.stage import STAGES
from fluidsurrogate.simulation.generation import generate_in_memory
from fluidsurrogate.training.fine_tuning import with_initial_model
from fluidsurrogate.training.train import train_model


def generate(experiment: Experiment | str | Path, out: str | Path | None = None, force: bool = False) -> xr.Dataset:
    """Trajectories of the experiment's flow from the classical solver, (trajectory, time, y, x).

    Where the experiment names a dataset of the user's (`data.path`), that one. With `out`, they are written to
    out/data.zarr (or found there, made from the same inputs) and opened lazily.
    Raises UsageError for an experiment that is not valid, or a folder that holds something else.
    """
    experiment = Experiment.of(experiment)
    if out is None:
        return open_data(experiment.data.path) if experiment.data.path else generate_in_memory(experiment)
    run = Run(experiment, out)
    with locked(run.out):
        run_stage(run, STAGES["generate"], force)
    return open_data(run.data_path)


def train(
    experiment: Experiment | str | Path,
    data: xr.Dataset | str | Path | None = None,
    models: str | Sequence[str] | Mapping[str, nn.Module] | None = None,
    *,
    out: str | Path | None = None,
    init: str | Path | None = None,
    allow_code: bool = False,
) -> dict[str, Surrogate]:
    """Train models, one after the other, on a Dataset, or the file or folder of one (default: what `generate` gives).

    `models`: a name or names of the experiment's, all of them by default; or modules of your own by name, which map
    (batch, components of state and inputs, y, x) to (batch, components of the state, y, x), both normalised. A module
    is copied and stays as it is. `init`: the folder of a trained model, whose weights the experiment's models of its
    kind and group start from (fine-tuning). `allow_code` lets models of kind "module" import and run what their `path`
    names.

    With `out`, models of the experiment are trained on out/data.zarr, several at a time, into out/models/NAME, as the
    command line does: killed at any moment, the same call goes on, and what is there is not made again.

    The dataset's `split` coordinate says what is for training and validation; without one, its first `data.train`
    trajectories and the next `data.valid`. `save(model, folder)` writes a model, `load(folder)` reads it. Raises
    UsageError where data and experiment, or a module and the states, do not fit.
    """
    with allowing_code(allow_code):
        experiment = Experiment.of(experiment)
        experiment = experiment if init is None else with_initial_model(experiment, init)
        networks: dict[str, Network] = {}
        if isinstance(models, Mapping):
            experiment, networks = experiment.with_modules(models)
        models = (models,) if isinstance(models, str) else models
        chosen = {name: (name,) for name in models or experiment.models}
        unknown = set(chosen) - set(experiment.models)
        if unknown:
            raise UsageError(f"unknown model {sorted(unknown)[0]!r}; the experiment has {', '.join(experiment.models)}")
        experiment.refuse_code(name for name in chosen if name not in networks)
        if out is not None:
            if processes() > 1:
                raise UsageError("several processes train by the command: torchrun … -m fluidsurrogate train …")
            if data is not None or networks:
                raise UsageError("out is for an experiment's own data and models: give no data and no modules with it")
            run = Run(experiment.model_copy(update={"models": {n: experiment.models[n] for n in chosen}}), out)
            with locked(run.out):
                for stage in ("generate", "train"):
                    run_stage(run, STAGES[stage])
            return {name: load(run.model_path(name), experiment.device) for name in chosen}
        dataset = generate(experiment) if data is None else as_dataset(data)
        trained: dict[str, Surrogate] = {}

        def work(name: str, report) -> None:
            provenance = model_provenance(
                experiment, name, {"fingerprint": dataset.attrs.get("fingerprint", "unknown")}
            )
            network = networks.get(name)
            trained[name] = train_model(experiment, name, dataset, provenance, report=report, network=network)

        run_jobs(work, chosen, workers=1, total=experiment.train.steps, label="train")
    return trained
