"""The curriculum: over how many intervals, and from how noisy an initial state, each training step rolls out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.config.stage_configs import TrainConfig
from fluidsurrogate.core.seeding import derive_seed
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.nn.shapes import Trajectories
from fluidsurrogate.simulation.rollout import advance_by, advance_through
from solvers import Stepper


@final
@dataclass(frozen=True)
class UnrollSchedule:
    """The rollout of one training step.

    Parameters
    ----------
    push_forward : int
        Number of intervals that are forecast first, without gradients.
    unroll : int
        Number of intervals that are forecast then, with gradients; they count in the loss.
    stride : int
        Number of stored intervals in each of these intervals.
    """

    push_forward: int
    unroll: int
    stride: int = 1

    @property
    def span(self) -> int:
        """Number of stored intervals from the initial state to the last state of the loss."""
        return (self.push_forward + self.unroll) * self.stride


@final
@dataclass(frozen=True)
class Curriculum:
    """The rollouts of all training steps, which depend on the seed and the number of the step only.

    - Unrolling: `unroll` gives the number of intervals by stages. The first stage lasts until `unroll_fraction` of the
      steps are left, which the other stages share equally. One number k stands for 1, then k.
    - Push-forward (Brandstetter et al. 2022, arXiv:2202.03376): after the first stage, `push_forward` intervals are
      forecast without gradients before those of the loss, so that the network sees its own errors as inputs.
    - Intervals: a network that takes the interval as an input is asked for one of `intervals`, drawn for each step.
    - Noise (Sanchez-Gonzalez et al. 2020, arXiv:2002.09405): initial states get white noise of `noise` times the RMS
      change of a step, within the modes that change; the truth stays as it is.

    Parameters
    ----------
    options : TrainConfig
        The table `train` of the experiment.
    seed : int
        Seed of the training.
    intervals : tuple of int
        Numbers of stored intervals that the network can step over.
    """

    options: TrainConfig
    seed: int
    intervals: tuple[int, ...] = (1,)

    def schedule_at(self, step: int) -> UnrollSchedule:
        """Return the rollout of a training step.

        Parameters
        ----------
        step : int
            Number of the training step, from 0.

        Returns
        -------
        UnrollSchedule
            How many intervals, how many of them without gradients, and how long they are.
        """
        options = self.options
        first, later = options.unroll_stages
        first_stage_end = options.steps * (1 - options.unroll_fraction)
        stage = -1
        if step >= first_stage_end and options.unroll_fraction:
            stage = int((step - first_stage_end) / (options.steps - first_stage_end) * len(later))
        stride = self.intervals[derive_seed(self.seed, "interval", step) % len(self.intervals)]
        return UnrollSchedule(0 if stage < 0 else options.push_forward, first if stage < 0 else later[stage], stride)

    @property
    def longest_span(self) -> int:
        """Number of stored intervals in the longest rollout of the training."""
        return self.options.longest_span * max(self.intervals)

    def add_noise(self, surrogate: Surrogate, start: Tensor, step: int, samples: slice, batch: int) -> Tensor:
        """Add noise to initial states.

        The noise of a sample is the same however the batch is divided among processes and parts.

        Parameters
        ----------
        surrogate : Surrogate
            The surrogate in training; it gives the size and the projection of the noise.
        start : Tensor
            Initial states of some samples of the batch, shape (samples, component, y, x).
        step : int
            Number of the training step.
        samples : slice
            Which samples of the batch these are.
        batch : int
            Number of samples in the whole batch.

        Returns
        -------
        Tensor
            The noisy initial states, shape (samples, component, y, x).
        """
        if not self.options.noise:
            return start
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "noise", step))
        white = torch.randn(batch, *start.shape[1:], generator=generator, dtype=start.dtype)[samples]
        white = white.to(start.device, non_blocking=True)
        return start + surrogate.step.project(self.options.noise * surrogate.step.change * white)


def unroll(
    stepper: Stepper,
    states: Float[Tensor, "windows times component *space"],
    start: Tensor,
    inputs: dict[str, Tensor],
    schedule: UnrollSchedule,
) -> tuple[Trajectories, Trajectories]:
    """Roll a surrogate out for the loss of one training step.

    Parameters
    ----------
    stepper : Stepper
        The surrogate's view for training, with steps of `schedule.stride` intervals.
    states : Tensor
        The true states, shape (windows, times, component, y, x) or (windows, times, component, z, y, x).
    start : Tensor
        The initial states, shape (windows, component, y, x), perhaps with noise.
    inputs : dict of str to Tensor
        The inputs of the windows by name.
    schedule : UnrollSchedule
        How many intervals, and how many of them without gradients.

    Returns
    -------
    predicted : Tensor
        The predicted states of the intervals in the loss, shape (windows, time, component, y, x); for a deep ensemble,
        those of all networks, one batch of windows after the other.
    truth : Tensor
        The true states at the same times, of the same shape.
    """
    carry = stepper.start(start, inputs)
    with torch.no_grad():
        carry = advance_by(stepper, carry, schedule.push_forward)
    predicted = [stepper.state(carry) for carry in advance_through(stepper, carry, schedule.unroll)]
    truth = states[:, :: schedule.stride][:, schedule.push_forward + 1 :]
    networks = len(predicted[0]) // len(truth)
    return torch.stack(predicted, dim=1), truth.repeat(networks, *(1,) * (truth.ndim - 1))
