"""What the equations of flow in two and three dimensions have in common: their coefficients, and what they compute.

The equations themselves are in `solvers.vorticity_equation` (two dimensions) and `solvers.velocity_equation` (three
dimensions). Integrators, step-size control, carries and back ends know only what is here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import FlowFields, Kicks, KickSeries, PerTrajectory, Spectrum, State, Vector
from solvers.docstrings import InheritDocstrings
from solvers.fields import TRACER, FieldSpec
from solvers.grid import Grid


@dataclass(frozen=True)
class TransportedScalar:
    """A scalar that the flow transports beside its vorticity or velocity.

    Parameters
    ----------
    field : FieldSpec
        Name and units of the scalar.
    diffusivity : float
        Scalar diffusivity κ ≥ 0, in m²/s.
    mean_gradient : tuple of float, optional
        Uniform gradient G of the scalar's mean profile, as (x, y) or (x, y, z); the state holds the departure from that
        profile.
    gravity : tuple of float, optional
        Gravity times the thermal expansion, as (x, y) or (x, y, z); None: the scalar is passive.
    """

    field: FieldSpec = TRACER
    diffusivity: float = 0.0
    mean_gradient: Vector | None = None
    gravity: Vector | None = None


@dataclass(frozen=True, eq=False)
class EquationTerms:
    """The coefficients of the equation, which may differ from trajectory to trajectory.

    All have the shape (1 or batch, component, ky or 1, kx or 1), in three dimensions with an axis kz before ky; None
    stands for a term that is absent.

    Parameters
    ----------
    linear : Tensor
        The linear rates −νk² − μ and −κk², float64: one component for all of the flow or, with a scalar, as many as the
        state has.
    forcing : Tensor, optional
        The Fourier coefficients of the forcing f.
    coupling : Tensor, optional
        What the scalar adds to the flow's tendency, and the flow to the scalar's, per unit of either.
    mean_velocity : Tensor, optional
        The mean velocity U.
    buoyancy_rate : Tensor, optional
        ``√(|g||G|)``, the fastest rate at which buoyancy acts, in 1/s.
    """

    linear: Tensor
    forcing: Tensor | None = None
    coupling: Tensor | None = None
    mean_velocity: Tensor | None = None
    buoyancy_rate: Tensor | None = None

    def select(self, which: Tensor | slice) -> EquationTerms:
        """Return the terms of some of the trajectories.

        Parameters
        ----------
        which : Tensor or slice
            Indices along the batch.

        Returns
        -------
        EquationTerms
            The object itself if all are selected by ``slice(None)``.
        """
        if isinstance(which, slice) and which == slice(None):
            return self
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: v[which] for k, v in held.items() if v is not None and len(v) > 1})


class Equation(InheritDocstrings, ABC):
    """The terms of an equation on one grid, on one device and in one precision.

    Parameters
    ----------
    grid : Grid
        The grid.
    modes : tuple of int
        The retained modes are those with mode numbers of at most these in magnitude, (my, mx) or (mz, my, mx).
    has_scalar : bool
        Whether a scalar is transported beside the flow.
    dtype : torch.dtype
        Precision of the fields.
    device : torch.device
        Where the fields live.

    Attributes
    ----------
    flow_components : int
        Components of the flow itself: 1 for a vorticity in the plane, 3 for a velocity in space.
    components : int
        Components of the state: those of the flow, and one more with a scalar.
    complex_dtype : torch.dtype
        Precision of the spectra.
    double_device : torch.device
        Where numbers in double precision live: on the CPU if the device (Apple's GPUs) has none.
    k_squared : Tensor
        The square of the wavenumber of each coefficient of a spectrum, float64.
    """

    flow_components: ClassVar[int]
    k_squared: Tensor

    def __init__(
        self, grid: Grid, modes: tuple[int, ...], has_scalar: bool, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.grid, self.modes, self.dtype, self.device = grid, modes, dtype, device
        self.double_device = torch.device("cpu") if device.type == "mps" else device
        self.complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
        self.components = self.flow_components + int(has_scalar)

    # -- between fields and spectra

    @abstractmethod
    def to_spectrum(self, field: State) -> Spectrum:
        """Return the Fourier coefficients of the retained modes of a field.

        Parameters
        ----------
        field : Tensor
            Shape (batch, component, y, x) or (batch, component, z, y, x).

        Returns
        -------
        Tensor
            The coefficients, in the layout of this equation.
        """

    @abstractmethod
    def to_field(self, spectrum: Spectrum) -> State:
        """Return the field of a spectrum.

        Parameters
        ----------
        spectrum : Tensor
            The coefficients, in the layout of this equation.

        Returns
        -------
        Tensor
            Shape (batch, component, y, x) or (batch, component, z, y, x).
        """

    @abstractmethod
    def project(self, spectrum: Spectrum) -> Spectrum:
        """Return the part of a state that the equation allows: a velocity without divergence.

        Parameters
        ----------
        spectrum : Tensor
            The state's Fourier coefficients.

        Returns
        -------
        Tensor
            Of the same shape; the spectrum itself if every state is allowed.
        """

    def odd_part(self, spectrum: Spectrum) -> Spectrum:
        """Return the part that is odd about the plates, y = 0 and half the height of the box.

        Parameters
        ----------
        spectrum : Tensor
            The state's Fourier coefficients.

        Returns
        -------
        Tensor
            Of the same shape.

        Raises
        ------
        NotImplementedError
            If the equation knows no plates.
        """
        raise NotImplementedError("only the equation of the vorticity in two dimensions knows plates")

    # -- the terms

    @abstractmethod
    def terms(
        self,
        viscosity: Tensor,
        drag: Tensor,
        diffusivity: Tensor | None = None,
        forcing: Tensor | None = None,
        mean_velocity: Tensor | None = None,
        mean_gradient: Tensor | None = None,
        gravity: Tensor | None = None,
    ) -> EquationTerms:
        """Compute the coefficients of the equation from the inputs of a stepper.

        Parameters
        ----------
        viscosity, drag : Tensor
            Kinematic viscosity ν in m²/s and linear drag μ in 1/s, shape (1 or batch, 1, 1, 1), in three dimensions
            with one axis more.
        diffusivity : Tensor, optional
            Scalar diffusivity κ in m²/s, of the same shape.
        forcing : Tensor, optional
            The forcing f at the cell centres: in two dimensions the curl of the body force in 1/s², shape
            (1 or batch, 1, y, x); in three the body force in m/s², shape (1 or batch, 3, z, y, x).
        mean_velocity, mean_gradient, gravity : Tensor, optional
            The vectors U, G and g with components (x, y) or (x, y, z), shape (1 or batch, component, 1, 1), in three
            dimensions with one axis more.

        Returns
        -------
        EquationTerms
            The coefficients in Fourier space.
        """

    @abstractmethod
    def velocity_and_scalar(self, w: Spectrum, terms: EquationTerms) -> FlowFields:
        """Compute what the advection terms need at the cell centres: the velocity and, if there is one, the scalar.

        Parameters
        ----------
        w : Tensor
            The state's Fourier coefficients.
        terms : EquationTerms
            The coefficients of the equation.

        Returns
        -------
        Tensor
            The components x, y (and z) of the velocity and then the scalar, shape (batch, component, y, x) or
            (batch, component, z, y, x).
        """

    @abstractmethod
    def explicit_tendency(self, w: Spectrum, fields: FlowFields, terms: EquationTerms) -> Spectrum:
        """Compute all of the state's time derivative but the linear decay: advection, forcing and coupling.

        Parameters
        ----------
        w : Tensor
            The state's Fourier coefficients.
        fields : Tensor
            The result of `velocity_and_scalar` for that state.
        terms : EquationTerms
            The coefficients of the equation.

        Returns
        -------
        Tensor
            The tendency, of the shape of `w`.
        """

    def advection_rate(self, fields: FlowFields, terms: EquationTerms) -> PerTrajectory:
        """Compute the rate that limits an explicit time step: the CFL number divided by the step.

        Parameters
        ----------
        fields : Tensor
            The result of `velocity_and_scalar`.
        terms : EquationTerms
            The coefficients of the equation.

        Returns
        -------
        Tensor
            ``max(|u|/Δx + |v|/Δy)``, in three dimensions with ``|w|/Δz`` in the sum, and no less than twice the rate at
            which buoyancy acts, in 1/s, shape (batch,).
        """
        speed, spacing = fields[:, : self.grid.dimensions].detach().abs(), self.grid.spacing[::-1]
        first, *others = (speed[:, i] / side for i, side in enumerate(spacing))
        rate = sum(others, start=first).amax(self.grid.dims)
        return rate if terms.buoyancy_rate is None else torch.maximum(rate, 2 * terms.buoyancy_rate.flatten())

    # -- stochastic forcing

    @abstractmethod
    def place_kicks(self, coefficients: KickSeries) -> Kicks:
        """Return the kicks of a stochastic forcing as `kicked` takes them.

        Parameters
        ----------
        coefficients : Tensor
            The Fourier coefficients of the kicks, in the layout of `solvers.grid.place_modes`.

        Returns
        -------
        Tensor
            Shape (batch, part, …).
        """

    @abstractmethod
    def kicked(self, w: Spectrum, kicks: Tensor) -> Spectrum:
        """Add one kick of a stochastic forcing to the flow of each trajectory.

        Parameters
        ----------
        w : Tensor
            The state's Fourier coefficients.
        kicks : Tensor
            One part of what `place_kicks` returned, shape (batch, …).

        Returns
        -------
        Tensor
            The state's Fourier coefficients afterwards.
        """

    @abstractmethod
    def energy_and_enstrophy(self, a: Spectrum, b: Spectrum) -> Float[Tensor, "batch 2"]:
        """Compute the inner products whose quadratic forms are the kinetic energy and the enstrophy.

        Parameters
        ----------
        a, b : Tensor
            Two states' Fourier coefficients, of which the flow counts.

        Returns
        -------
        Tensor
            ½⟨u_a·u_b⟩ and ½⟨ω_a·ω_b⟩, shape (batch, 2): energy and enstrophy if `a` is `b`.
        """

    # -- what the equations share

    def _as_complex(self, values: Tensor) -> Tensor:
        return values.to(self.complex_dtype).to(self.device)

    def _mode_weights(self, kx: Tensor) -> Tensor:
        """Return by what the modes of a half spectrum count in half a mean square: those of kx > 0 twice."""
        return (1 + (kx > 0).double()) / (2 * math.prod(self.grid.n) ** 2)

    def _inverse_k_squared(self) -> Tensor:
        """Return 1/k², zero for k = 0."""
        return 1 / self.k_squared.where(self.k_squared > 0, math.inf)

    def _linear_rates(self, viscosity: Tensor, drag: Tensor, diffusivity: Tensor | None) -> Tensor:
        linear = -viscosity * self.k_squared - drag
        if diffusivity is None:
            return linear
        flow, scalar = broadcast_but_components(linear, -diffusivity * self.k_squared)
        return torch.cat([flow.expand(-1, self.flow_components, *flow.shape[2:]), scalar], dim=1)

    def _buoyancy_rate(self, gravity: Tensor, mean_gradient: Tensor) -> Tensor:
        """Return ``√(|g||G|)`` for vectors of shape (1 or batch, component, 1, …)."""
        sizes = [reduce(torch.hypot, vector.split(1, dim=1)) for vector in (gravity, mean_gradient)]
        return (sizes[0] * sizes[1]).sqrt().to(self.dtype).to(self.device)


def broadcast_but_components(*values: Tensor) -> list[Tensor]:
    """Expand to a common batch size and common modes, but keep the number of components.

    Parameters
    ----------
    *values : Tensor
        Each of shape (1 or batch, component, …).

    Returns
    -------
    list of Tensor
        Of equal shapes but for the components.
    """
    batch = max(len(v) for v in values)
    shape = torch.broadcast_shapes(*(v.shape[2:] for v in values))
    return [v.expand(batch, v.shape[1], *shape) for v in values]
