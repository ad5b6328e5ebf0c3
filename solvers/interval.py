"""One stored interval of some trajectories: inner steps, and the kicks of a stochastic forcing between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import Kicks, PerTrajectory, Spectrum
from solvers.equation import Equation


@final
class IntervalResult(NamedTuple):
    """What an interval makes of some trajectories.

    Parameters
    ----------
    spectrum : Tensor
        The states' Fourier coefficients at its end, shape (batch, component, …).
    rate : Tensor
        The largest advection rate ``Σ |u_i|/Δx_i`` met at the beginning of a step, shape (batch,).
    injected : Tensor
        Energy and enstrophy that the kicks fed, float64, shape (batch, 2).
    """

    spectrum: Spectrum
    rate: PerTrajectory
    injected: Float[Tensor, "batch 2"]

    @classmethod
    def concatenate(cls, results: Sequence[IntervalResult]) -> IntervalResult:
        """Join the results of several groups of trajectories.

        Parameters
        ----------
        results : sequence of IntervalResult
            At least one.

        Returns
        -------
        IntervalResult
            The groups one after the other along the batch.
        """
        return results[0] if len(results) == 1 else cls(*map(torch.cat, zip(*results, strict=True)))

    def put_into(self, whole: IntervalResult, which: Sequence[int]) -> IntervalResult:
        """Replace some trajectories of a batch.

        Parameters
        ----------
        whole : IntervalResult
            The result of all trajectories.
        which : sequence of int
            Which of them this result belongs to.

        Returns
        -------
        IntervalResult
            The whole batch.
        """
        if len(which) == len(whole.spectrum):
            return self
        pairs = zip(whole, self, strict=True)
        return IntervalResult(*(old.index_copy(0, torch.tensor(which, device=old.device), new) for old, new in pairs))


def run_interval(
    equation: Equation,
    spectrum: Spectrum,
    advance: Callable[[Spectrum], tuple[Spectrum, PerTrajectory]],
    parts: int,
    kicks: Kicks | None,
) -> IntervalResult:
    """Advance over all parts of an interval, with a kick at the end of each.

    Parameters
    ----------
    equation : Equation
        Measures what the kicks feed.
    spectrum : Tensor
        The states' Fourier coefficients at the beginning, shape (batch, component, …).
    advance : callable
        Takes the inner steps of one part: from a spectrum to the spectrum afterwards and the advection rate met.
    parts : int
        Into how many parts the interval is divided.
    kicks : Tensor, optional
        What is added to the flow's coefficients at the end of each part, from `Equation.place_kicks`.

    Returns
    -------
    IntervalResult
        The end of the interval.
    """
    w, rates = spectrum, []
    injected = torch.zeros(len(w), 2, dtype=torch.float64, device=equation.double_device)
    for part in range(parts):
        w, rate = advance(w)
        rates.append(rate)
        if kicks is not None:
            kicked = equation.kicked(w, kicks[:, part])
            injected = injected + equation.energy_and_enstrophy(kicked + w, kicked - w)  # a² − b² = (a + b)(a − b)
            w = kicked
    return IntervalResult(w, rates[0] if parts == 1 else torch.stack(rates).amax(0), injected)
