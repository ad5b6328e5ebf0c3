"""Generation and training from Python: in memory, or into the folder of a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr
from torch import nn

from fluidsurrogate.config.experiment import Experiment, as_experiment
from fluidsurrogate.config.user_modules import check_code_permission, with_modules
from fluidsurrogate.core.distributed import process_count
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.jobs import run_jobs
from fluidsurrogate.core.locks import folder_lock
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.stores import as_location
from fluidsurrogate.data.readers import open_data
from fluidsurrogate.models.loading import load
from fluidsurrogate.models.provenance import model_provenance
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.nn import Network, allowing_code
from fluidsurrogate.pipeline.pipeline import run_stage
from fluidsurrogate.pipeline.run import Run
from fluidsurrogate.pipeline.stage import STAGES
from fluidsurrogate.simulation.cluster_generation import generate_on_cluster
from fluidsurrogate.simulation.experiment_data import open_experiment_data, open_for_training
from fluidsurrogate.simulation.generation import data_provenance, generate_in_memory
from fluidsurrogate.simulation.user_data import check_user_data, is_made_by_solver
from fluidsurrogate.simulation.zarr_rollout import is_up_to_date
from fluidsurrogate.training.fine_tuning import with_initial_model
from fluidsurrogate.training.train import train_model

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("fluidsurrogate")


def generate(
    experiment: Experiment | str | Path,
    out: str | Path | None = None,
    force: bool = False,
    *,
    dask: str | Client | None = None,
    to: str | Path | None = None,
) -> xr.Dataset:
    """Generate the trajectories of an experiment with the classical solver.

    If the experiment names the user's own dataset (`data.path`), this is opened instead.

    Parameters
    ----------
    experiment : Experiment, str or Path
        An experiment, or the path of its TOML file.
    out : str or Path, optional
        The folder of a run. The data are written to out/data.zarr and opened lazily; data that are there already, made
        from the same experiment, are only opened. By default the data are held in memory.
    force : bool, default False
        Generate the data in `out` again, in place of existing ones.
    dask : str or distributed.Client, optional
        A Dask cluster that generates the data: the address of its scheduler, "local:N" for N workers on this machine,
        or a client. It needs `out` or `to`. By default they are generated here.
    to : str or Path, optional
        With `dask`, in place of `out`: the Zarr folder to write, or its address, such as "s3://bucket/data.zarr".

    Returns
    -------
    xr.Dataset
        With the dims trajectory, time, y and x. The coordinate `split` says what each trajectory is for.

    Raises
    ------
    UsageError
        If the experiment is not valid, the solver cannot run its flow, or `out` holds data of another experiment.

    Examples
    --------
    Four trajectories of a decaying flow, on 16 x 16 cells:

    >>> import fluidsurrogate as fs
    >>> experiment = fs.Experiment.from_tree({
    ...     "name": "tiny",
    ...     "grid": {"n": 16},
    ...     "flow": {"kind": "decaying", "viscosity": 0.01, "wavenumber": 2},
    ...     "data": {"train": 2, "valid": 1, "test": 1, "steps": 4, "interval": 0.25},
    ... })
    >>> data = fs.generate(experiment)
    >>> dict(data["vorticity"].sizes)
    {'trajectory': 4, 'time': 5, 'y': 16, 'x': 16}
    >>> data["split"].values.tolist()
    ['train', 'train', 'valid', 'test']
    """
    experiment = as_experiment(experiment)
    if dask is not None or to is not None:
        return _generate_on_cluster(experiment, out, force, dask, to)
    if out is None:
        path = experiment.data.path
        return open_experiment_data(experiment, as_path(path)) if path else generate_in_memory(experiment)
    run = Run(experiment, out)
    with folder_lock(run.out):
        run_stage(run, STAGES["generate"], force)
    return open_experiment_data(run.experiment, run.data_path)


def _generate_on_cluster(
    experiment: Experiment, out: str | Path | None, force: bool, dask: str | Client | None, to: str | Path | None
) -> xr.Dataset:
    """Generate data on a Dask cluster, into the folder of a run or to a place of their own."""
    if dask is None or (out is None) == (to is None):
        raise UsageError("a Dask cluster writes to a Zarr folder: give dask, and either out or to")
    if experiment.data.path:
        raise UsageError("dask generates data, but the experiment names data that exist: remove dask, or data.path")
    if to is not None:
        location = as_location(to)
        if Path(location).suffix != ".zarr":
            raise UsageError(f"{location}: choose a name that ends in .zarr")
        if isinstance(location, str) or not is_up_to_date(location, data_provenance(experiment), force):
            generate_on_cluster(experiment, location, dask, force, lock=True)
        return open_data(location)
    run = Run(experiment, str(out), dask=dask)
    with folder_lock(run.out):
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
    """Train surrogates.

    Parameters
    ----------
    experiment : Experiment, str or Path
        An experiment, or the path of its TOML file.
    data : xr.Dataset, str or Path, optional
        The dataset, or its file or folder; by default what `generate` returns. Its coordinate `split` says which
        trajectories are for training and validation; without it, these are the first `data.train` trajectories and the
        next `data.valid`.
    models : str, sequence of str or mapping of str to torch.nn.Module, optional
        Names of models of the experiment; by default all. Or your own modules by name: each maps a tensor of shape
        (batch, components of state and inputs, y, x) to one of shape (batch, components of the state, y, x), both
        normalised. A module is copied before training.
    out : str or Path, optional
        The folder of a run. The experiment's models are then trained on out/data.zarr, several at a time, into
        out/models/NAME, as by the command line: existing results are reused, and a call that was killed is continued by
        the same call. By default models are trained one after the other and held in memory; `save` writes one.
    init : str or Path, optional
        The folder of a trained model. Models of the same kind and group start from its weights (fine-tuning).
    allow_code : bool, default False
        Allow models of kind "module" to import and run the code that their `path` names.

    Returns
    -------
    dict of str to Surrogate
        The trained models by name.

    Raises
    ------
    UsageError
        If the experiment or an argument is not valid, or data or modules do not fit the experiment.

    Examples
    --------
    A plain convolutional network, trained for five steps on 16 x 16 cells:

    >>> import fluidsurrogate as fs
    >>> experiment = fs.Experiment.from_tree({
    ...     "name": "tiny",
    ...     "grid": {"n": 16},
    ...     "flow": {"kind": "decaying", "viscosity": 0.01, "wavenumber": 2},
    ...     "data": {"train": 2, "valid": 1, "test": 1, "steps": 4, "interval": 0.25},
    ...     "models": {"cnn": {"kind": "cnn", "width": 8}},
    ...     "train": {"steps": 5, "batch": 4, "warmup": 1},
    ... })
    >>> data = fs.generate(experiment)
    >>> model = fs.train(experiment, data)["cnn"]
    >>> forecast = fs.forecast(model, data, steps=2)
    >>> dict(forecast["vorticity"].sizes)
    {'trajectory': 4, 'time': 3, 'y': 16, 'x': 16}
    """
    with allowing_code(allow_code):
        experiment = as_experiment(experiment)
        experiment = experiment if init is None else with_initial_model(experiment, init)
        networks: dict[str, Network] = {}
        if isinstance(models, Mapping):
            experiment, networks = with_modules(experiment, models)
        models = (models,) if isinstance(models, str) else models
        chosen = {name: (name,) for name in models or experiment.models}
        unknown = set(chosen) - set(experiment.models)
        if unknown:
            raise UsageError(f"unknown model {sorted(unknown)[0]!r}; the experiment has {', '.join(experiment.models)}")
        check_code_permission(experiment, (name for name in chosen if name not in networks))
        if out is not None:
            if process_count() > 1:
                raise UsageError(
                    "several processes can train only from the command line: "
                    "torchrun --nproc_per_node N -m fluidsurrogate train EXPERIMENT.toml"
                )
            if data is not None or networks:
                raise UsageError("out cannot be combined with data or with modules: leave out data and modules, or out")
            run = Run(experiment.model_copy(update={"models": {n: experiment.models[n] for n in chosen}}), out)
            with folder_lock(run.out):
                for stage in ("generate", "train"):
                    run_stage(run, STAGES[stage])
            return {name: load(run.model_path(name), experiment.device) for name in chosen}
        dataset = generate(experiment) if data is None else open_for_training(experiment, data)
        if not is_made_by_solver(dataset):
            report = check_user_data(experiment, dataset, splits=("train", "valid"))
            log.info(f"train: check of the data: {report.summary()}")
        trained: dict[str, Surrogate] = {}

        def work(name: str, report) -> None:
            provenance = model_provenance(
                experiment, name, {"fingerprint": dataset.attrs.get("fingerprint", "unknown")}
            )
            network = networks.get(name)
            trained[name] = train_model(experiment, name, dataset, provenance, report=report, network=network)

        run_jobs(work, chosen, workers=1, total=experiment.train.steps, label="train")
    return trained
