"""Control of the step size: how many inner steps each trajectory takes within a stored interval.

A step Δt must keep ``Δt · max(Σ |u_i|/Δx_i)`` below the CFL bound of the scheme. Steps are planned once an interval,
for the speeds at its beginning; a trajectory that outgrows the bound on the way is computed again from the beginning of
the interval with halved steps. Every trajectory has its own number of steps, so that none depends on the others in a
batch.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import final

MAX_STEPS = 100_000  # between two kicks, or in an interval without kicks
MAX_HALVINGS = 12
TOLERATED_GROWTH = 1.1  # of the CFL number within an interval, beyond the bound that was planned for


@final
@dataclass(frozen=True)
class StepSizeController:
    """Number of inner steps of each trajectory, fixed or by a CFL bound.

    An interval is divided into equal parts by the kicks of a stochastic forcing; all numbers of steps are of one part.

    Parameters
    ----------
    interval : float
        Time between two stored states.
    parts : int
        Into how many parts kicks divide the interval; 1 without kicks.
    cfl : float
        Largest ``Δt · max(Σ |u_i|/Δx_i)`` of the scheme.
    fixed_steps : int, optional
        The number of steps of every trajectory; None: by the CFL bound.
    """

    interval: float
    parts: int
    cfl: float
    fixed_steps: int | None = None

    @classmethod
    def from_step(cls, interval: float, parts: int, cfl: float, dt: float | None) -> StepSizeController:
        """Make a controller from the time step that a user gives.

        Parameters
        ----------
        interval : float
            Time between two stored states.
        parts : int
            Into how many parts kicks divide the interval.
        cfl : float
            Largest ``Δt · max(Σ |u_i|/Δx_i)`` of the scheme.
        dt : float, optional
            The inner time step; None: by the CFL bound.

        Returns
        -------
        StepSizeController
            With fixed steps if `dt` is given.

        Raises
        ------
        ValueError
            If `dt` does not divide a part of the interval into at most 100,000 steps.
        """
        return cls(interval, parts, cfl, None if dt is None else _divisions(interval, parts, dt))

    def step_length(self, steps: int) -> float:
        """Return the inner time step for a number of steps.

        Parameters
        ----------
        steps : int
            Steps in a part of the interval; 0 counts as 1.

        Returns
        -------
        float
            The time step.
        """
        return self.interval / self.parts / max(steps, 1)

    def plan(self, rates: Sequence[float]) -> tuple[int, ...]:
        """Return the fewest steps that keep the CFL bound.

        Parameters
        ----------
        rates : sequence of float
                The largest ``Σ |u_i|/Δx_i`` of each trajectory.

        Returns
        -------
        tuple of int
            Steps in a part of the interval, for each trajectory; 0 for a rate that is not finite, of a state that is
            not: it stays as it is.

        Raises
        ------
        ValueError
            If a trajectory would need more than 100,000 steps.
        """
        wanted = (r * self.interval / self.parts / self.cfl if math.isfinite(r) else None for r in rates)
        return tuple(0 if w is None else _limited(max(1, math.ceil(w))) for w in wanted)

    def accepts(self, steps: int, rates: Sequence[float]) -> bool:
        """Return whether steps that were taken were short enough for the speeds that they met.

        Steps are planned for the speed at the beginning: a growth of a tenth on the way is harmless. A rate that is
        not finite means a step so long that the state overflowed.

        Parameters
        ----------
        steps : int
            Steps that a trajectory took in each part of the interval.
        rates : sequence of float
            Values of ``Σ |u_i|/Δx_i`` that it met.

        Returns
        -------
        bool
            False if the interval must be computed again with shorter steps.
        """
        limit = TOLERATED_GROWTH * self.cfl * steps * self.parts / self.interval
        return steps == 0 or all(rate <= limit for rate in rates)

    def halve(self, steps: Sequence[int], rejected: Collection[int], halvings: int) -> tuple[int, ...]:
        """Return the numbers of steps for another attempt.

        Parameters
        ----------
        steps : sequence of int
            Steps of each trajectory in the last attempt.
        rejected : collection of int
            Positions of the trajectories whose steps were too long.
        halvings : int
            How often steps have been halved in this interval already.

        Returns
        -------
        tuple of int
            Twice as many steps for those trajectories.

        Raises
        ------
        ValueError
            If steps have been halved 12 times already, or would be more than 100,000.
        """
        if halvings == MAX_HALVINGS:
            raise ValueError(
                f"the flow outgrows its inner steps even after {halvings} halvings, to {max(steps)} an interval: "
                "shorten the interval, lower the speeds or the forcing, or choose units of length and time in which "
                "its numbers are closer to 1"
            )
        return tuple(_limited(2 * m if i in rejected else m) for i, m in enumerate(steps))


def _divisions(interval: float, parts: int, dt: float) -> int:
    """Return how many steps `dt` make up a part of the interval."""
    if not math.isfinite(dt) or dt <= 0:
        raise ValueError(f"dt must be positive and finite (got {dt})")
    part = interval / parts
    count = round(part / dt) if part / dt <= MAX_STEPS + 0.5 else 0
    if count < 1 or not math.isclose(count * dt, part, rel_tol=1e-9):
        what = f"the interval {part:.10g}" + (" between two kicks" if parts > 1 else "")
        raise ValueError(f"dt must divide {what} into at most {MAX_STEPS} steps (got {dt})")
    return count


def _limited(steps: int) -> int:
    if steps > MAX_STEPS:
        raise ValueError(
            f"the flow would need {steps:.6g} inner steps an interval, more than {MAX_STEPS}: "
            "shorten the interval, lower the speeds or coarsen the grid"
        )
    return steps
