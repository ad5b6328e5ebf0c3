"""The dataset that is stored of a simulation: fields on the stored grid, coordinates and forcing input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.config.parameter_sampling import trajectory_value
from fluidsurrogate.data.conversion import to_dataset
from fluidsurrogate.simulation.trajectory_blocks import Block, SimulatedBlock, simulate
from solvers import NavierStokes, resample
from solvers.velocity_form import with_velocity


def simulate_dataset(experiment: Experiment, solver: NavierStokes, block: Block) -> xr.Dataset:
    """Simulate the trajectories of one block and return them as they are stored.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    solver : NavierStokes
        Its classical solver.
    block : Block
        Which trajectories.

    Returns
    -------
    xr.Dataset
        With the dims trajectory, time, y and x.
    """
    return stored_dataset(experiment, solver, simulate(experiment, solver, block))


def stored_dataset(experiment: Experiment, solver: NavierStokes, run: SimulatedBlock) -> xr.Dataset:
    """Return simulated trajectories as they are stored: on the stored grid, in the stored fields.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    solver : NavierStokes
        The solver that made the trajectories.
    run : SimulatedBlock
        The trajectories on the solver's grid.

    Returns
    -------
    xr.Dataset
        With the dims trajectory, time, y and x.
    """
    grid, uniform = experiment.spec.grid, {field.name for field in solver.spec.inputs if field.uniform}
    is_other_form = (
        solver.spec.fields[0].name != experiment.spec.fields[0].name
    )  # a vorticity, of which the velocity is stored
    states = with_velocity(run.states, solver.grid) if is_other_form else run.states
    part = to_dataset(
        experiment.spec,
        resample(states, solver.grid, grid),
        inputs={name: v if name in uniform else resample(v, solver.grid, grid) for name, v in run.inputs.items()},
        coordinates=block_coordinates(experiment, [run.block]),
        attributes={"title": f"{run.flows[0].kind} flow"},
    )
    return part if solver.stochastic_forcing is None else part.assign(forcing_input_variables(run.forcing_input))


def forcing_input_variables(amounts: Sequence[Tensor]) -> dict[str, Any]:
    """Return the energy and enstrophy that the stochastic forcing fed into the flow, as variables of a dataset.

    Parameters
    ----------
    amounts : sequence of Tensor
        Energy and enstrophy for every interval, shape (trajectory, 2).

    Returns
    -------
    dict
        `injected_energy` and `injected_enstrophy` with the dims trajectory and time. The value at a time is the amount
        of the interval before it, 0 at the first time.
    """
    fed = np.stack([np.zeros(tuple(amounts[0].shape)), *(amount.cpu().numpy() for amount in amounts)], axis=1)
    return {
        f"injected_{name}": (("trajectory", "time"), fed[..., i], {"long_name": f"{name} fed by the stirring",
                                                                   "units": units})
        for i, (name, units) in enumerate((("energy", "m2 s-2"), ("enstrophy", "s-2")))
    }  # fmt: skip


def block_coordinates(experiment: Experiment, blocks: list[Block]) -> dict[str, Any]:
    """Return the coordinates of all trajectories in some blocks.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    blocks : list of Block
        The blocks.

    Returns
    -------
    dict
        Number, split and seed of each trajectory, and those of its flow's parameters that vary and are not inputs of a
        step, along the dim trajectory.
    """
    splits = [b.split for b in blocks for _ in range(b.count)]
    numbers = [b.first + i for b in blocks for i in range(b.count)]
    seeds = [experiment.trajectory_seed(split, i) for split, i in zip(splits, numbers, strict=True)]
    index = np.concatenate([b.offset + np.arange(b.count) for b in blocks])
    known = {field.name for field in experiment.spec.inputs}
    varying = {}
    for name, parameter in experiment.flow.varying_parameters().items():
        if name.rpartition(".")[2] not in known:
            values = [trajectory_value(parameter, name, *at) for at in zip(numbers, seeds, strict=True)]
            about = {"long_name": f"parameter {name} of the flow"}
            varying[name.replace(".", "_")] = ("trajectory", np.array(values), about)
    return {
        "trajectory": ("trajectory", index, {"long_name": "trajectory", "units": "1"}),
        "split": ("trajectory", np.array(splits, dtype=object), {"long_name": "part of the dataset"}),
        "seed": ("trajectory", np.array(seeds), {"long_name": "seed of the start", "units": "1"}),
    } | varying
