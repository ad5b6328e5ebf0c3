"""Simulate trajectories with the classical solver, a block of fixed size at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.devices import fixed_threads
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.seeding import derive_seed
from fluidsurrogate.simulation.resolution import ResolutionSample
from fluidsurrogate.simulation.rollout import advance_by, rollout
from fluidsurrogate.simulation.splits import SPLITS
from solvers import Flow, NavierStokes2D
from solvers.spectral_carry import SpectralCarry


@dataclass(frozen=True)
class Block:
    """`count` trajectories of one split, numbers `first` … of that split, at `offset` of the dataset."""

    split: str
    first: int
    count: int
    offset: int

    @property
    def is_sampled(self) -> bool:
        """True for the block with test trajectory 0, by which the resolution is measured whatever `data.train` is."""
        return self.split == "test" and self.first == 0


def plan_blocks(experiment: Experiment) -> list[Block]:
    """The dataset in blocks of `data.block` trajectories, split by split."""
    data, offset, plan = experiment.data, 0, []
    for split in SPLITS:
        size = getattr(data, split)
        for first in range(0, size, data.block):
            count = min(data.block, size - first)
            plan.append(Block(split, first, count, offset))
            offset += count
    return plan


@final
@dataclass(frozen=True)
class SimulatedBlock:
    """The trajectories of a block on the solver's grid: states (trajectory, time, component, y, x), inputs and flows,
    the inner steps that each took in every interval, and what the stirring fed in it."""

    block: Block
    flows: Sequence[Flow]
    states: Tensor
    inputs: dict[str, Tensor]
    taken: Sequence[tuple[int, ...]]
    injected: Sequence[Tensor]
    inner_step: float  # the smallest that any trajectory took

    def sample(self, solver: NavierStokes2D) -> ResolutionSample:
        """The first trajectory, to measure the resolution by."""
        return ResolutionSample.of(
            self.states[0], solver, self.flows[0].viscosity, self.taken[0][0] * solver.step_control.parts
        )


def simulate(experiment: Experiment, solver: NavierStokes2D, block: Block) -> SimulatedBlock:
    """The trajectories of one block on the solver's grid.

    Always `data.block` trajectories are computed, whatever is kept of them: an FFT's last bits depend on the size of
    its batch, and so no trajectory depends on which others were asked for.
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
                raise ValueError(f"its start is not finite in {experiment.dtype}; choose parameters closer to 1")
            inputs = stack_inputs(flows, solver)
            state = spin_up(experiment, state, inputs, seeds)
            states = rollout(solver, state, experiment.data.stored_steps, inputs, seeds, carries.append)
        except ValueError as error:
            raise UsageError(f"the solver cannot run this flow: {error}") from None
    count = block.count
    finite = states[:count].isfinite().all(dim=(-3, -2, -1)).cpu().numpy()
    if not finite.all():
        which, step = (int(i[0]) for i in np.nonzero(~finite))
        raise UsageError(
            f"the solver turned non-finite at step {step} of {block.split} trajectory {block.first + which}: "
            "try a smaller solver.dt, a larger flow.viscosity or a larger grid.n"
        )
    taken = [carry.steps_taken[:count] for carry in carries]
    return SimulatedBlock(
        block,
        flows[:count],
        states[:count],
        {name: value[:count] for name, value in inputs.items()},
        taken,
        [carry.injected[:count] for carry in carries if carry.injected is not None],
        solver.spec.interval / solver.step_control.parts / max(map(max, taken)),
    )


def stack_inputs(flows: Sequence[Flow], solver: NavierStokes2D) -> dict[str, Tensor]:
    """What the solver's step depends on, one value a trajectory; a vector that a flow lacks is zero."""
    own, stacked = [flow.inputs(solver.grid) for flow in flows], {}
    for field in solver.spec.inputs:
        none = torch.zeros(1, field.components, *field.extent(solver.grid), dtype=torch.float64)
        values = torch.cat([inputs.get(field.name, none) for inputs in own])
        stacked[field.name] = values if field.uniform else values.to(solver.dtype)
    return stacked


def spin_up(experiment: Experiment, state: Tensor, inputs: Mapping[str, Tensor], seeds: Sequence[int]) -> Tensor:
    """The state after the flow's spin-up."""
    if not experiment.build_flow().spin_up:
        return state
    solver, intervals = experiment.build_spin_up()
    carry = solver.start(state, inputs, [derive_seed(seed, "spin-up") for seed in seeds])
    return solver.state(advance_by(solver, carry, intervals))
