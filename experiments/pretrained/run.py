"""Make the pretrained models that are in the package again: train, calibrate, score, audit, write.

    python experiments/pretrained/run.py                # both models: some forty minutes of one core
    python experiments/pretrained/run.py general-2d     # one of them
    python experiments/pretrained/run.py cnn            # only the plain twin of general-2d, which stays in runs/

A run that is killed is continued by the same command. The models go to fluidsurrogate/pretrained_models/NAME.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate.core.files import write_text
from fluidsurrogate.core.progress import Progress
from fluidsurrogate.core.resumable import partial_folder, publish, start_or_resume
from fluidsurrogate.core.seeding import derive_seed
from fluidsurrogate.data.conversion import to_dataset, to_inputs, to_states
from fluidsurrogate.data.flow_constants import CONSTANTS
from fluidsurrogate.data.layout import trajectory_coordinates
from fluidsurrogate.data.netcdf_files import write_netcdf
from fluidsurrogate.inspection.model_card import model_card
from fluidsurrogate.models.provenance import model_provenance
from fluidsurrogate.simulation.generation import data_provenance
from fluidsurrogate.training.history import HISTORY_FILE
from fluidsurrogate.training.train import train_model
from solvers import DRAG, FORCING, VISCOSITY

HERE = Path(__file__).parent
RUNS = Path("runs/pretrained")
FLOWS = ("decaying", "kolmogorov", "kolmogorov-2", "forced", "stirred")
PACKAGE = HERE.parents[1] / "fluidsurrogate" / "pretrained_models"
GENERAL, TWIN = "general-2d", "cnn"
SCORED, STEPS = 16, (1, 5, 10, 20, 40)  # test trajectories of each flow; intervals after which the nRMSE is given
MEASURES = {"resolution_error": max, "kmax_eta": min, "enstrophy_in_last_shells": max}  # of several flows: the worst


def flow_experiments() -> dict[str, fs.Experiment]:
    """The experiments that make the trajectories of general-2d, by the name of the flow."""
    return {name: fs.Experiment.read(HERE / "flows" / f"{name}.toml") for name in FLOWS}


def uniform(dataset: xr.Dataset, experiment: fs.Experiment) -> xr.Dataset:
    """The trajectories of one flow with the inputs of general-2d: what is constant is repeated, no forcing is zero."""
    dataset = dataset.drop_vars(set(dataset.coords) - {*dataset.dims, "split", "seed"})
    count, cells = dataset.sizes["trajectory"], (dataset.sizes["y"], dataset.sizes["x"])
    for field in (VISCOSITY, DRAG):
        if field.name not in dataset:
            values = np.full(count, experiment.build_flow().coefficients[field.name])
            dataset[field.name] = ("trajectory", values, {"units": field.units})
    values = dataset["forcing"].values if "forcing" in dataset else np.zeros(cells)
    attributes = {"units": FORCING.units, "tensor_order": FORCING.order, "parity": FORCING.parity}
    values = np.broadcast_to(values, (count, *cells)).astype(np.float32)
    dataset["forcing"] = (("trajectory", "y", "x"), values, attributes)
    dataset = dataset[["vorticity", "viscosity", "drag", "forcing"]]
    stated = {*CONSTANTS, "experiment", "source"}  # it is no longer what the solver of one experiment has made
    dataset.attrs = {key: value for key, value in dataset.attrs.items() if key not in stated}
    return dataset.assign_coords(flow=("trajectory", np.full(count, experiment.name, dtype=object)))


def general_data() -> xr.Dataset:
    """The trajectories of all flows, as one dataset."""
    parts = [
        uniform(fs.generate(experiment, RUNS / GENERAL / "flows" / name).load(), experiment)
        for name, experiment in flow_experiments().items()
    ]
    worst = {name: choose(part.attrs[name] for part in parts) for name, choose in MEASURES.items()}
    joined = xr.concat(parts, "trajectory", combine_attrs="drop_conflicts", join="override")
    joined["trajectory"] = np.arange(joined.sizes["trajectory"])
    joined["split"] = joined["split"].astype(object)
    return joined.assign_attrs(worst)


def provenance_of(name: str, experiment: fs.Experiment) -> dict[str, Any]:
    """What a pretrained model depends on: parts of the files in this folder."""
    if experiment.name != GENERAL:
        return model_provenance(experiment, name, data_provenance(experiment))
    flows = {flow: data_provenance(other) for flow, other in flow_experiments().items()}
    return model_provenance(experiment, name, {"flows": flows})


def train(name: str, experiment: fs.Experiment) -> tuple[fs.Surrogate, xr.Dataset]:
    """Train a model, or load it if it is there, and return it with all trajectories of its experiment."""
    if experiment.name != GENERAL:
        model = fs.train(experiment, out=RUNS / experiment.name)[name]
        return model, fs.generate(experiment, RUNS / experiment.name).load()
    data, folder, provenance = general_data(), RUNS / GENERAL / "models" / name, provenance_of(name, experiment)
    if not folder.exists():
        start_or_resume(folder, provenance, False)
        work = partial_folder(folder)
        with Progress(experiment.train.steps, f"train {name}", "steps") as progress:

            def report(step: int, note: str) -> None:
                progress.update(step - progress.done, note)

            model = train_model(experiment, name, data, provenance, work, report)
        fs.save(model, work / "result")
        shutil.copy(work / HISTORY_FILE, work / "result" / HISTORY_FILE)
        publish(folder)
    return fs.load(folder), data


def truth_of(flow: str, data: xr.Dataset) -> xr.Dataset:
    """The test trajectories of one flow."""
    data = data.isel(trajectory=data["split"].values == "test")
    return data.isel(trajectory=data["flow"].values == flow) if "flow" in data.coords else data


def forecasts_of(flow: fs.Experiment, models: dict[str, fs.Surrogate], truth: xr.Dataset) -> dict[str, xr.Dataset]:
    """Forecasts of the truth by persistence, by the solvers of the flow's experiment, and by models."""
    steps, spec = truth.sizes["time"] - 1, flow.spec
    states, inputs = to_states(truth, spec), to_inputs(truth, spec)
    seeds = [derive_seed(flow.seed, "compared solver", i) for i in range(len(states))]  # of a stochastic forcing
    steppers = {"persistence": fs.Persistence(spec), **flow.build_baseline_solvers(applies=True)}
    made = {name: fs.rollout(s, states[:, 0], steps, inputs, seeds) for name, s in steppers.items()}
    like = {"start_time": float(truth["time"][0]), "coordinates": trajectory_coordinates(truth)}
    found = {name: to_dataset(spec, values, **like) for name, values in made.items()}
    return found | {name: fs.forecast(model, truth, steps) for name, model in models.items()}


def score(name: str, experiment: fs.Experiment, model: fs.Surrogate, data: xr.Dataset) -> pd.DataFrame:
    """The nRMSE of the model, of persistence and of solvers, for each flow: the mean over test trajectories."""
    rows = []
    for flow, other in (flow_experiments() if experiment.name == GENERAL else {"decaying": experiment}).items():
        truth = truth_of(flow, data).isel(trajectory=slice(0, SCORED))
        nrmse = fs.compare(forecasts_of(other, {name: model}, truth), truth, metrics=[])["nrmse"]
        steps = [step for step in STEPS if step < nrmse.sizes["time"]]
        for source in nrmse["source"].values:
            values = {f"nrmse_{step}": round(float(nrmse.sel(source=source)[step]), 4) for step in steps}
            rows.append({"flow": flow, "source": str(source), **values})
    return pd.DataFrame(rows)


def write(name: str, experiment: fs.Experiment, model: fs.Surrogate, data: xr.Dataset) -> None:
    """Calibrate, score and audit a model, and write it into the package with its card."""
    test = data.isel(trajectory=data["split"].values == "test")
    if experiment.name == GENERAL:
        numbers = np.arange(test.sizes["trajectory"]).reshape(-1, experiment.data.test)
        unseen = test.isel(trajectory=numbers[:, SCORED:].T.ravel())  # the flows in turn
        model = fs.calibrate(model, starts=208, members=4, data=unseen)
        audit = fs.audit(model, states=test.isel(trajectory=numbers[:, :4].T.ravel()))
    else:
        model = fs.calibrate(model, starts=300, members=4)
        audit = fs.audit(model)
    scores = score(name, experiment, model, data)
    folder, target = RUNS / "package" / name, PACKAGE / name
    shutil.rmtree(folder, ignore_errors=True)
    fs.save(model, folder)
    write_text(folder / "scores.csv", scores.to_csv(index=False))
    write_netcdf(audit, folder / "audit.nc")
    write_text(folder / "README.md", card(name, experiment, model, scores, audit))
    target.parent.mkdir(exist_ok=True)
    beside = target.with_name(f".{target.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(folder, beside)
    shutil.rmtree(target, ignore_errors=True)
    beside.rename(target)


def card(name: str, experiment: fs.Experiment, model: fs.Surrogate, scores: pd.DataFrame, audit: xr.Dataset) -> str:
    """The model card, with the scores for each flow."""
    head = ["flow", "source", *(f"step {column.removeprefix('nrmse_')}" for column in scores.columns[2:])]
    lines = [head, ["---"] * len(head), *scores.astype(str).values.tolist()]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    text = model_card(model, audit=audit).replace("No scores are given.", f"nRMSE over unseen trajectories.\n\n{table}")
    text = text.replace('fs.load("hf://user/model")', f'fs.pretrained("{name}")')
    if experiment.name == GENERAL:
        rows = "\n".join(
            f"- {flow}: `{json.dumps(other.tree()['flow'])}`" for flow, other in flow_experiments().items()
        )
        text = text.replace("## Network", f"The flows, as many trajectories of each:\n\n{rows}\n\n## Network")
    return text


def main() -> None:
    """Parse the command line and make the models."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["decaying-2d", GENERAL])
    names = parser.parse_args().names
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("fluidsurrogate").setLevel(logging.INFO)
    for name in names:
        experiment = fs.Experiment.read(HERE / f"{GENERAL if name == TWIN else name}.toml")
        model, data = train(name, experiment)
        if name != TWIN:
            write(name, experiment, model, data)


if __name__ == "__main__":
    main()
