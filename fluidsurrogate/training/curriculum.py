"""What each training step asks of the surrogate: how many intervals, how many of them without gradients, how long, and
from how noisy a start. The pieces combine freely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.config.stage_configs import TrainConfig
from fluidsurrogate.core.seeding import derive_seed
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.simulation.rollout import advance_by, advance_through
from solvers import Stepper

Rolled = Float[Tensor, "batch time component y x"]


@final
@dataclass(frozen=True)
class UnrollSchedule:
    """`lead` intervals forecast without gradients, then `unroll` with, each `stride` stored ones long."""

    lead: int
    unroll: int
    stride: int = 1

    @property
    def span(self) -> int:
        """Stored intervals from the start to the last state of the loss."""
        return (self.lead + self.unroll) * self.stride


@final
@dataclass(frozen=True)
class Curriculum:
    """The lesson of every step, drawn from (seed, step).

    - Curriculum: `unroll` intervals by stages; the first lasts until `unroll_fraction` of the steps are left, which the
      others share equally. One number k stands for 1, then k.
    - Push-forward (Brandstetter et al. 2022, arXiv:2202.03376): after the first stage, `push_forward` intervals are
      forecast without gradients before those of the loss, so that the network sees its own errors as inputs.
    - Intervals: a network that takes the interval as an input is asked for one of `intervals`, drawn for each step.
    - Noise (Sanchez-Gonzalez et al. 2020, arXiv:2002.09405): starts get white noise of `noise` times the RMS change of
      a step, within the modes that change; the truth stays as it is.
    """

    options: TrainConfig
    seed: int
    intervals: tuple[int, ...] = (1,)

    def at(self, step: int) -> UnrollSchedule:
        """What the step asks."""
        options = self.options
        first, later = options.unroll_stages
        begun = options.steps * (1 - options.unroll_fraction)
        number = -1
        if step >= begun and options.unroll_fraction:
            number = int((step - begun) / (options.steps - begun) * len(later))
        stride = self.intervals[derive_seed(self.seed, "interval", step) % len(self.intervals)]
        return UnrollSchedule(0 if number < 0 else options.push_forward, first if number < 0 else later[number], stride)

    @property
    def longest(self) -> int:
        """Stored intervals of the longest window."""
        return self.options.longest_span * max(self.intervals)

    def noisy(self, surrogate: Surrogate, start: Tensor, step: int, rows: slice, batch: int) -> Tensor:
        """The starts of these rows of the step's batch, with their noise: the same however the batch is divided."""
        if not self.options.noise:
            return start
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "noise", step))
        white = torch.randn(batch, *start.shape[1:], generator=generator, dtype=start.dtype)[rows].to(start.device)
        return start + surrogate.step.project(self.options.noise * surrogate.step.change * white)


def unroll(
    stepper: Stepper,
    states: Float[Tensor, "windows times component y x"],
    start: Tensor,
    inputs: dict[str, Tensor],
    schedule: UnrollSchedule,
) -> tuple[Rolled, Rolled]:
    """Roll a surrogate out for the loss of one training step.

    Parameters
    ----------
    stepper : Stepper
        The surrogate's view for training, with steps of `schedule.stride` intervals.
    states : Tensor
        The true states, shape (windows, times, component, y, x).
    start : Tensor
        The initial states, shape (windows, component, y, x), perhaps with noise.
    inputs : dict of str to Tensor
        The inputs of the windows by name.
    schedule : UnrollSchedule
        How many intervals, and how many of them without gradients.

    Returns
    -------
    predicted, truth : Tensor
        The states of the intervals in the loss, shape (windows, time, component, y, x); for a deep ensemble, one batch
        of windows a network.
    """
    carry = stepper.start(start, inputs)
    with torch.no_grad():
        carry = advance_by(stepper, carry, schedule.lead)
    predicted = [stepper.state(carry) for carry in advance_through(stepper, carry, schedule.unroll)]
    truth = states[:, :: schedule.stride][:, schedule.lead + 1 :]
    copies = len(predicted[0]) // len(truth)  # one a network
    return torch.stack(predicted, dim=1), truth.repeat(copies, 1, 1, 1, 1)
