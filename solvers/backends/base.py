"""The protocol of the back ends, and their registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import torch

from solvers.array_types import PerTrajectory, Spectrum
from solvers.docstrings import InheritDocstrings
from solvers.equation import Equation, EquationTerms
from solvers.etdrk import Integrator

BACKENDS: dict[str, type[Backend]] = {}

BackendClass = TypeVar("BackendClass", bound="type[Backend]")


@dataclass(frozen=True, eq=False)
class StepSetup:
    """What all inner steps of a solver have in common.

    Parameters
    ----------
    equation : Equation
        The right-hand side.
    scheme : type of Integrator
        The time integration scheme.
    plates : bool
        Whether every step restores the oddness about the plates; in two dimensions only.
    checkpoint_every : int, optional
        With gradients, keep the state of only every so many inner steps and recompute the others.
    """

    equation: Equation
    scheme: type[Integrator]
    plates: bool = False
    checkpoint_every: int | None = None


class Backend(InheritDocstrings, ABC):
    """A way to compute the inner steps of a batch of trajectories.

    All back ends give the same numbers up to rounding; they differ in speed, and in where they run.

    Parameters
    ----------
    setup : StepSetup
        Equation, scheme and options of the solver.

    Attributes
    ----------
    name : str
        What a user calls the back end; set by `register_backend`.
    is_differentiable : bool
        Whether gradients pass through its steps. Otherwise the solver takes another back end where gradients are
        wanted: `NativeAdjoint` or PyTorch operations.
    """

    name: ClassVar[str]
    is_differentiable: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, setup: StepSetup) -> None: ...

    @classmethod
    def why_unavailable(cls, device: torch.device, has_fixed_step: bool, dimensions: int) -> str | None:
        """Explain why the back end cannot be used.

        Parameters
        ----------
        device : torch.device
            Where the solver computes.
        has_fixed_step : bool
            Whether the user has fixed the inner time step.
        dimensions : int
            Number of dimensions of the flow, 2 or 3.

        Returns
        -------
        str or None
            The reason in one line; None if the back end can be used.
        """
        return None

    @abstractmethod
    def advance(
        self,
        spectrum: Spectrum,
        terms: EquationTerms,
        integrators: Sequence[Integrator],
        counts: Sequence[int],
        watch_rate: bool,
    ) -> tuple[Spectrum, PerTrajectory]:
        """Take the inner steps of each trajectory.

        Parameters
        ----------
        spectrum : Tensor
            The state's Fourier coefficients, shape (batch, component, …).
        terms : EquationTerms
            The terms of these trajectories.
        integrators : sequence of Integrator
            The scheme with the coefficients of each trajectory.
        counts : sequence of int
            How many inner steps each trajectory takes.
        watch_rate : bool
            Whether to record the advection rate at the beginning of every step.

        Returns
        -------
        spectrum : Tensor
            The coefficients afterwards.
        rate : Tensor
            The largest ``Σ |u_i|/Δx_i`` that each trajectory met, in 1/s; zero unless `watch_rate`.
        """

    def rate(self, spectrum: Spectrum, terms: EquationTerms) -> PerTrajectory | None:
        """Return the advection rate of each state, if the back end computes it faster than PyTorch operations.

        Parameters
        ----------
        spectrum : Tensor
            The states' Fourier coefficients, shape (batch, component, …).
        terms : EquationTerms
            The terms of these trajectories.

        Returns
        -------
        Tensor or None
            ``max(Σ |u_i|/Δx_i)`` of each, in 1/s, not finite if a state is not; None to leave it to `Equation`.
        """
        return None

    def group_size(self, batch: int) -> int:
        """Return how many trajectories to advance in one call.

        Parameters
        ----------
        batch : int
            How many trajectories there are.

        Returns
        -------
        int
            At least 1, and by default all of them.
        """
        return batch


def register_backend(name: str) -> Callable[[BackendClass], BackendClass]:
    """Register a back end under the name by which users choose it.

    Parameters
    ----------
    name : str
        The name, as in ``NavierStokes2D(backend=name)``.

    Returns
    -------
    callable
        A class decorator.
    """

    def register(cls: BackendClass) -> BackendClass:
        cls.name = name
        BACKENDS[name] = cls
        return cls

    return register
