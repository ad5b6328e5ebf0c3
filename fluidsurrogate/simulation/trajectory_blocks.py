"""Simulate trajectories with the classical solver, in blocks of fixed size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.devices import fixed_threads
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.memory import check_free_memory
from fluidsurrogate.core.seeding import derive_seed
from fluidsurrogate.data.grids import describe_grid
from fluidsurrogate.simulation.resolution import ResolutionSample
from fluidsurrogate.simulation.rollout import advance_by, rollout
from fluidsurrogate.simulation.splits import SPLITS
from solvers import Flow, NavierStokes
from solvers.spectral_carry import SpectralCarry

COPIES = 2  # of each state in memory, while those of all times are stacked


@dataclass(frozen=True)
class Block:
    """Trajectories of one split that are simulated together.

    Parameters
    ----------
    split : {"train", "valid", "test"}
        The split.
    first : int
        The number of the first trajectory in the split.
    count : int
        Number of trajectories that are kept.
    offset : int
        The position of the first trajectory in the dataset.
    """

    split: str
    first: int
    count: int
    offset: int

    @property
    def is_sampled(self) -> bool:
        """Whether the block is the first for testing, on which the resolution is measured whatever `data.train` is."""
        return self.split == "test" and self.first == 0


def plan_blocks(experiment: Experiment) -> list[Block]:
    """Divide the dataset of an experiment into blocks of `data.block` trajectories, split by split.

    Parameters
    ----------
    experiment : Experiment
        The experiment.

    Returns
    -------
    list of Block
        All blocks in the order of the dataset.
    """
    data, offset, blocks = experiment.data, 0, []
    for split in SPLITS:
        size = getattr(data, split)
        for first in range(0, size, data.block):
            count = min(data.block, size - first)
            blocks.append(Block(split, first, count, offset))
            offset += count
    return blocks


def check_block_memory(experiment: Experiment, solver: NavierStokes) -> None:
    """Check that the memory has room for one block of trajectories on the solver's grid, before it is computed.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    solver : NavierStokes
        Its classical solver.

    Raises
    ------
    UsageError
        If less memory is free; the message says how much a block takes.
    """
    data, spec = experiment.data, solver.spec
    one = spec.components * math.prod(spec.grid.n) * torch.finfo(solver.dtype).bits // 8
    needed = COPIES * data.block * (data.stored_intervals + 1) * one
    what = f"a block of {data.block} trajectories of {data.stored_intervals + 1} states on {describe_grid(spec.grid)}"
    check_free_memory(needed, what, "lower data.block, data.steps or grid.n", solver.device)


@final
@dataclass(frozen=True)
class SimulatedBlock:
    """The simulated trajectories of a block, on the solver's grid.

    Parameters
    ----------
    block : Block
        Which trajectories they are.
    flows : sequence of Flow
        The flow of each trajectory.
    states : Tensor
        Shape (trajectory, time, component, y, x) or (trajectory, time, component, z, y, x).
    inputs : dict of str to Tensor
        The inputs of the solver by name.
    inner_steps : sequence of tuple of int
        For every interval, the number of inner steps of each trajectory.
    forcing_input : sequence of Tensor
        The energy (m² s⁻²) and enstrophy (s⁻²) that the stochastic forcing fed into each trajectory, for every
        interval, shape (trajectory, 2). Empty without stochastic forcing.
    smallest_inner_step : float
        The smallest inner time step of any trajectory, in s.
    """

    block: Block
    flows: Sequence[Flow]
    states: Tensor
    inputs: dict[str, Tensor]
    inner_steps: Sequence[tuple[int, ...]]
    forcing_input: Sequence[Tensor]
    smallest_inner_step: float

    def sample(self, solver: NavierStokes) -> ResolutionSample:
        """Return the trajectory with the least viscosity, or the first such one, to measure the resolution on.

        Parameters
        ----------
        solver : NavierStokes
            The solver that made the trajectories.

        Returns
        -------
        ResolutionSample
            The sample.
        """
        i = min(range(self.block.count), key=lambda i: self.flows[i].viscosity)
        first_steps = self.inner_steps[0][i] * solver.step_control.parts
        number = self.block.first + i
        return ResolutionSample.from_states(self.states[i], solver, self.flows[i].viscosity, first_steps, number)


def simulate(experiment: Experiment, solver: NavierStokes, block: Block) -> SimulatedBlock:
    """Simulate the trajectories of one block on the solver's grid.

    Always `data.block` trajectories are computed, however many are kept. The last bits of an FFT depend on the size of
    its batch; with a fixed size, no trajectory depends on which others are computed.

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
    SimulatedBlock
        The trajectories.

    Raises
    ------
    UsageError
        If the solver cannot run the flow, or a state becomes NaN or infinite.
    """
    numbers = range(block.first, block.first + experiment.data.block)
    seeds = [experiment.trajectory_seed(block.split, i) for i in numbers]
    flows = experiment.flows(block.split, numbers)
    carries: list[SpectralCarry] = []
    with torch.no_grad(), fixed_threads(experiment.data.threads):
        try:
            starts = [flow.starts(solver.grid, [seed]) for flow, seed in zip(flows, seeds, strict=True)]
            state = torch.cat(starts).to(solver.device, solver.dtype)
            if not bool(state.isfinite().all()):
                raise ValueError(
                    f"the initial state is not finite in {experiment.dtype}; choose parameters of the flow closer to 1"
                )
            inputs = stack_inputs(flows, solver)
            state = spin_up(experiment, state, inputs, seeds)
            states = rollout(solver, state, experiment.data.stored_intervals, inputs, seeds, carries.append)
        except ValueError as error:
            raise UsageError(f"the solver cannot run this flow: {error}") from None
    count = block.count
    finite = states[:count].isfinite().flatten(2).all(dim=-1).cpu().numpy()
    if not finite.all():
        which, interval = (int(i[0]) for i in np.nonzero(~finite))
        raise UsageError(
            f"the solver's state became NaN or infinite at interval {interval} of {block.split} trajectory "
            f"{block.first + which}: try a smaller solver.dt, a larger flow.viscosity or a larger grid.n"
        )
    inner_steps = [carry.steps_taken[:count] for carry in carries]
    return SimulatedBlock(
        block,
        flows[:count],
        states[:count],
        {name: value[:count] for name, value in inputs.items()},
        inner_steps,
        [carry.injected[:count] for carry in carries if carry.injected is not None],
        solver.spec.interval / solver.step_control.parts / max(map(max, inner_steps)),
    )


def stack_inputs(flows: Sequence[Flow], solver: NavierStokes) -> dict[str, Tensor]:
    """Gather the inputs of the solver from the flows of several trajectories.

    Parameters
    ----------
    flows : sequence of Flow
        The flow of each trajectory.
    solver : NavierStokes
        The solver, whose `spec` says which inputs its step depends on.

    Returns
    -------
    dict of str to Tensor
        One value a trajectory, shape (trajectory, component, y, x) or (trajectory, component, 1, 1); in three
        dimensions with one axis more. A vector that a flow does not have is zero.
    """
    own, stacked = [flow.inputs(solver.grid) for flow in flows], {}
    for field in solver.spec.inputs:
        none = torch.zeros(1, field.components, *field.extent(solver.grid), dtype=torch.float64)
        values = torch.cat([inputs.get(field.name, none) for inputs in own])
        stacked[field.name] = values if field.uniform else values.to(solver.dtype)
    return stacked


def spin_up(experiment: Experiment, state: Tensor, inputs: Mapping[str, Tensor], seeds: Sequence[int]) -> Tensor:
    """Advance initial states over the spin-up of the flow.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    state : Tensor
        The initial states, shape (trajectory, component, y, x).
    inputs : mapping of str to Tensor
        The inputs of the solver.
    seeds : sequence of int
        One a trajectory.

    Returns
    -------
    Tensor
        The states after the spin-up.
    """
    if not experiment.build_flow().spin_up:
        return state
    solver, intervals = experiment.build_spin_up()
    carry = solver.start(state, inputs, [derive_seed(seed, "spin-up") for seed in seeds])
    return solver.state(advance_by(solver, carry, intervals))
