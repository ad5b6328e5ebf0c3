r"""The right-hand side that all flows share, in Fourier space: vorticity, and a scalar that is passive or buoyant.

.. math::

    \partial_t \omega + u \cdot \nabla \omega
        &= \nu \nabla^2 \omega - \mu \omega + f - (g_y \partial_x \theta - g_x \partial_y \theta) \\
    \partial_t \theta + u \cdot \nabla \theta
        &= \kappa \nabla^2 \theta - (u - U) \cdot G

with :math:`\omega = \partial_x v - \partial_y u`, :math:`\nabla^2 \psi = -\omega` and
:math:`u = U + (\partial_y \psi, -\partial_x \psi)`.

θ is the departure from a mean profile of uniform gradient G; g is gravity times the thermal expansion, so that the
buoyancy is −gθ (Boussinesq 1903; Vallis 2017, §2.4, doi:10.1017/9781107588417); U is a uniform mean velocity. Without
gravity θ is a passive tracer. Advection is in the four-transform flux form −u·∇ω = ∂x∂y(u² − v²) − (∂xx − ∂yy)(uv),
−u·∇θ = −∂x(uθ) − ∂y(vθ), dealiased by the two-thirds rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import PerTrajectory, Spectrum, State, Vector
from solvers.diagnostics import velocity_multiplier
from solvers.fields import TRACER, FieldSpec
from solvers.grid import Grid


@dataclass(frozen=True)
class TransportedScalar:
    """A scalar that the flow transports beside its vorticity.

    Parameters
    ----------
    field : FieldSpec
        Name and units of the scalar.
    diffusivity : float
        Scalar diffusivity κ ≥ 0, in m²/s.
    mean_gradient : tuple of float, optional
        Uniform gradient G of the scalar's mean profile, as (x, y); the state holds the departure from that profile.
    gravity : tuple of float, optional
        Gravity times the thermal expansion, as (x, y); None: the scalar is passive.
    """

    field: FieldSpec = TRACER
    diffusivity: float = 0.0
    mean_gradient: Vector | None = None
    gravity: Vector | None = None


@dataclass(frozen=True, eq=False)
class EquationTerms:
    """The coefficients of the equation, which may differ from trajectory to trajectory.

    All have the shape (1 or batch, component, ky or 1, kx or 1); None stands for a term that is absent.

    Parameters
    ----------
    linear : Tensor
        The linear rates −νk² − μ and −κk², float64.
    forcing : Tensor, optional
        The Fourier coefficients of the forcing f.
    coupling : Tensor, optional
        What the scalar adds to the vorticity's tendency, and the vorticity to the scalar's, per unit of either.
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


@final
class VorticityEquation:
    """The terms of the equation on one grid, on one device and in one precision.

    Parameters
    ----------
    grid : Grid
        The grid.
    modes : tuple of int
        The retained modes are those with mode numbers my, mx of at most these in magnitude.
    has_scalar : bool
        Whether a scalar is transported beside the vorticity.
    dtype : torch.dtype
        Precision of the fields.
    device : torch.device
        Where the fields live.

    Attributes
    ----------
    components : int
        1 for the vorticity alone, 2 with a scalar.
    columns : int
        How many columns kx ≥ 0 of a spectrum are kept: the others hold no retained mode, so that nothing is
        transformed or multiplied there.
    complex_dtype : torch.dtype
        Precision of the spectra.
    double_device : torch.device
        Where numbers in double precision live: on the CPU if the device (Apple's GPUs) has none.
    k_squared : Tensor
        The square of the wavenumber, float64.
    """

    def __init__(
        self, grid: Grid, modes: tuple[int, ...], has_scalar: bool, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.grid, self.modes, self.dtype, self.device = grid, modes, dtype, device
        self.double_device = torch.device("cpu") if device.type == "mps" else device
        self.complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
        self.components = 2 if has_scalar else 1
        self.columns = modes[1] + 1
        keep = grid.retained(modes)[:, : self.columns]
        ky, kx = (k[..., : self.columns] for k in grid.wavenumbers())
        self._advection = self._as_complex(torch.stack([-kx * ky, kx**2 - ky**2]) * keep)
        self._flux = self._as_complex(1j * torch.stack(torch.broadcast_tensors(-kx, -ky)) * keep)
        self._velocity = self._as_complex(velocity_multiplier(grid)[..., : self.columns] * keep)
        self._ky, self._kx, self._kept = (t.to(self.double_device) for t in (ky, kx, keep))
        self.k_squared = self._ky**2 + self._kx**2
        self._keep = keep.to(device)

    def _as_complex(self, values: Tensor) -> Tensor:
        return values.to(self.complex_dtype).to(self.device)

    # -- between fields and spectra

    def to_spectrum(self, field: State) -> Spectrum:
        """Return the Fourier coefficients of the retained modes of a field.

        Parameters
        ----------
        field : Tensor
            Shape (batch, component, y, x).

        Returns
        -------
        Tensor
            Shape (batch, component, ky, kx), zero for modes that are not retained.
        """
        return torch.fft.rfft2(field.to(self.device, self.dtype))[..., : self.columns] * self._keep

    def to_field(self, spectrum: Spectrum) -> State:
        """Return the field of a spectrum.

        Parameters
        ----------
        spectrum : Tensor
            Shape (batch, component, ky, kx).

        Returns
        -------
        Tensor
            Shape (batch, component, y, x).
        """
        # Along y only the columns that are kept; along x `irfft` fills the missing ones with zeros.
        return torch.fft.irfft(torch.fft.ifft(spectrum, dim=-2), n=self.grid.n[1])

    def odd_part(self, spectrum: Spectrum) -> Spectrum:
        """Return the part that is odd about the plates, y = 0 and half the height of the box.

        Parameters
        ----------
        spectrum : Tensor
            Shape (batch, component, ky, kx).

        Returns
        -------
        Tensor
            Of the same shape.
        """
        ny = self.grid.n[0]
        phase = torch.exp(2j * math.pi * torch.arange(ny, dtype=torch.float64, device=self.double_device) / ny)
        return 0.5 * (spectrum - self._as_complex(phase)[:, None] * spectrum.flip(-2).roll(1, -2))

    # -- the terms

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
            Kinematic viscosity ν in m²/s and linear drag μ in 1/s, shape (1 or batch, 1, 1, 1).
        diffusivity : Tensor, optional
            Scalar diffusivity κ in m²/s, of the same shape.
        forcing : Tensor, optional
            The curl f of the body force in 1/s², shape (1 or batch, 1, y, x).
        mean_velocity, mean_gradient, gravity : Tensor, optional
            The vectors U, G and g with components (x, y), shape (1 or batch, 2, 1, 1).

        Returns
        -------
        EquationTerms
            The coefficients in Fourier space.
        """
        linear = -viscosity * self.k_squared - drag
        if diffusivity is not None:
            linear = torch.cat(_broadcast_but_components(linear, -diffusivity * self.k_squared), dim=1)
        coupling = buoyancy_rate = None
        if gravity is not None or mean_gradient is not None:
            zero = torch.zeros(1, 2, 1, 1, dtype=torch.float64, device=self.double_device)
            (gx, gy), (Gx, Gy) = ((zero if v is None else v).split(1, dim=1) for v in (gravity, mean_gradient))
            buoyancy = -1j * (gy * self._kx - gx * self._ky)
            inverse = 1 / self.k_squared.where(self.k_squared > 0, math.inf)
            production = -1j * (Gx * self._ky - Gy * self._kx) * inverse
            coupling = self._as_complex(torch.cat(_broadcast_but_components(buoyancy, production), dim=1) * self._kept)
            buoyancy_rate = (torch.hypot(gx, gy) * torch.hypot(Gx, Gy)).sqrt().to(self.dtype).to(self.device)
        return EquationTerms(
            linear,
            None if forcing is None else self.to_spectrum(forcing),
            coupling,
            None if mean_velocity is None else mean_velocity.to(self.dtype, copy=True).to(self.device),
            buoyancy_rate,
        )

    def velocity_and_scalar(self, w: Spectrum, terms: EquationTerms) -> Float[Tensor, "batch uvs y x"]:
        """Compute what the advection terms need at the cell centres: u, v and, if there is one, the scalar.

        Parameters
        ----------
        w : Tensor
            The state's Fourier coefficients, shape (batch, component, ky, kx).
        terms : EquationTerms
            The coefficients of the equation.

        Returns
        -------
        Tensor
            Shape (batch, 2 or 3, y, x).
        """
        velocity = self._velocity * w[:, :1]
        if self.components == 1:
            uv = self.to_field(velocity)
            return uv if terms.mean_velocity is None else uv + terms.mean_velocity
        uvs = self.to_field(torch.cat([velocity, w[:, 1:]], dim=1))
        if terms.mean_velocity is None:
            return uvs
        return torch.cat([uvs[:, :2] + terms.mean_velocity, uvs[:, 2:]], dim=1)

    def explicit_tendency(
        self, w: Spectrum, uvs: Float[Tensor, "batch uvs y x"], terms: EquationTerms
    ) -> Spectrum:  # fmt: skip
        """Compute all of ∂w/∂t but the linear decay: advection, forcing and coupling.

        Parameters
        ----------
        w : Tensor
            The state's Fourier coefficients, shape (batch, component, ky, kx).
        uvs : Tensor
            The result of `velocity_and_scalar` for that state.
        terms : EquationTerms
            The coefficients of the equation.

        Returns
        -------
        Tensor
            The tendency, of the shape of `w`.
        """
        u, v = uvs[:, 0], uvs[:, 1]
        products = [(u + v) * (u - v), u * v]
        if self.components == 2:
            products += [u * uvs[:, 2], v * uvs[:, 2]]
        spectra = torch.fft.fft(torch.fft.rfft(torch.stack(products, dim=1))[..., : self.columns], dim=-2)
        first, second = self._advection
        tendency = torch.addcmul(first * spectra[:, :1], second, spectra[:, 1:2])
        if terms.forcing is not None:
            tendency = tendency + terms.forcing
        if self.components == 2:
            transport = (self._flux * spectra[:, 2:]).sum(1, keepdim=True)
            tendency = torch.cat([tendency, transport], dim=1)
        return tendency if terms.coupling is None else torch.addcmul(tendency, terms.coupling, w.flip(1))

    def advection_rate(self, uvs: Float[Tensor, "batch uvs y x"], terms: EquationTerms) -> PerTrajectory:
        """Compute the rate that limits an explicit time step: the CFL number divided by the step.

        Parameters
        ----------
        uvs : Tensor
            The result of `velocity_and_scalar`.
        terms : EquationTerms
            The coefficients of the equation.

        Returns
        -------
        Tensor
            ``max(|u|/Δx + |v|/Δy)``, and no less than twice the rate at which buoyancy acts, in 1/s, shape (batch,).
        """
        dy, dx = self.grid.spacing
        speed = uvs[:, :2].detach().abs()
        rate = (speed[:, 0] / dx + speed[:, 1] / dy).amax((-2, -1))
        return rate if terms.buoyancy_rate is None else torch.maximum(rate, 2 * terms.buoyancy_rate.flatten())

    def energy_and_enstrophy(self, a: Spectrum, b: Spectrum) -> Float[Tensor, "batch 2"]:
        """Compute the inner products whose quadratic forms are the kinetic energy and the enstrophy.

        Parameters
        ----------
        a, b : Tensor
            Two states' Fourier coefficients, of which the vorticity counts.

        Returns
        -------
        Tensor
            ½⟨ψ_a ω_b⟩ and ½⟨ω_a ω_b⟩, shape (batch, 2): energy and enstrophy if `a` is `b`.
        """
        count = (1 + (self._kx > 0).double()) / (2 * math.prod(self.grid.n) ** 2)  # half a spectrum: kx > 0 twice
        density = (a[:, 0].conj() * b[:, 0]).real.to(self.double_device).double() * count
        inverse = 1 / self.k_squared.where(self.k_squared > 0, math.inf)
        return torch.stack([(density * inverse).sum((-2, -1)), density.sum((-2, -1))], dim=1)


def _broadcast_but_components(*values: Tensor) -> list[Tensor]:
    """Expand to a common batch size and a common (ky, kx), but keep the number of components."""
    batch = max(len(v) for v in values)
    shape = torch.broadcast_shapes(*(v.shape[2:] for v in values))
    return [v.expand(batch, v.shape[1], *shape) for v in values]
