r"""The right-hand side of flows in two dimensions, in Fourier space: vorticity, and a scalar, passive or buoyant.

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
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import FlowFields, Kicks, KickSeries, Spectrum, State
from solvers.diagnostics import velocity_multiplier
from solvers.equation import Equation, EquationTerms, broadcast_but_components
from solvers.grid import Grid, place_modes


@final
class VorticityEquation(Equation):
    """The equation of the vorticity in two dimensions, and of a scalar beside it.

    A spectrum has the shape (batch, component, ky, kx) and is zero for modes that are not retained.

    Parameters
    ----------
    grid : Grid
        The grid, in two dimensions.
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
    columns : int
        How many columns kx ≥ 0 of a spectrum are kept: the others hold no retained mode, so that nothing is
        transformed or multiplied there.
    """

    flow_components = 1

    def __init__(
        self, grid: Grid, modes: tuple[int, ...], has_scalar: bool, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(grid, modes, has_scalar, dtype, device)
        self.columns = modes[1] + 1
        keep = grid.retained(modes)[:, : self.columns]
        ky, kx = (k[..., : self.columns] for k in grid.wavenumbers())
        self._advection = self._as_complex(torch.stack([-kx * ky, kx**2 - ky**2]) * keep)
        self._flux = self._as_complex(1j * torch.stack(torch.broadcast_tensors(-kx, -ky)) * keep)
        self._velocity = self._as_complex(velocity_multiplier(grid)[..., : self.columns] * keep)
        self._ky, self._kx, self._kept = (t.to(self.double_device) for t in (ky, kx, keep))
        self.k_squared = self._ky**2 + self._kx**2
        self._keep = keep.to(device)

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
        ny = self.grid.n[0]
        phase = torch.exp(2j * math.pi * torch.arange(ny, dtype=torch.float64, device=self.double_device) / ny)
        return 0.5 * (spectrum - self._as_complex(phase)[:, None] * spectrum.flip(-2).roll(1, -2))

    def project(self, spectrum: Spectrum) -> Spectrum:
        return spectrum  # every vorticity is that of a velocity without divergence

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
        coupling = buoyancy_rate = None
        if gravity is not None or mean_gradient is not None:
            zero = torch.zeros(1, 2, 1, 1, dtype=torch.float64, device=self.double_device)
            vectors = [zero if v is None else v for v in (gravity, mean_gradient)]
            (gx, gy), (Gx, Gy) = (v.split(1, dim=1) for v in vectors)
            buoyancy = -1j * (gy * self._kx - gx * self._ky)
            production = -1j * (Gx * self._ky - Gy * self._kx) * self._inverse_k_squared()
            coupling = self._as_complex(torch.cat(broadcast_but_components(buoyancy, production), dim=1) * self._kept)
            buoyancy_rate = self._buoyancy_rate(*vectors)
        return EquationTerms(
            self._linear_rates(viscosity, drag, diffusivity),
            None if forcing is None else self.to_spectrum(forcing),
            coupling,
            None if mean_velocity is None else mean_velocity.to(self.dtype, copy=True).to(self.device),
            buoyancy_rate,
        )

    def velocity_and_scalar(self, w: Spectrum, terms: EquationTerms) -> FlowFields:
        velocity = self._velocity * w[:, :1]
        if self.components == 1:
            uv = self.to_field(velocity)
            return uv if terms.mean_velocity is None else uv + terms.mean_velocity
        uvs = self.to_field(torch.cat([velocity, w[:, 1:]], dim=1))
        if terms.mean_velocity is None:
            return uvs
        return torch.cat([uvs[:, :2] + terms.mean_velocity, uvs[:, 2:]], dim=1)

    def explicit_tendency(self, w: Spectrum, fields: FlowFields, terms: EquationTerms) -> Spectrum:
        u, v, *scalar = fields.unbind(1)
        products = [(u + v) * (u - v), u * v]
        products += [component * theta for theta in scalar for component in (u, v)]
        spectra = torch.fft.fft(torch.fft.rfft(torch.stack(products, dim=1))[..., : self.columns], dim=-2)
        first, second = self._advection
        tendency = torch.addcmul(first * spectra[:, :1], second, spectra[:, 1:2])
        if terms.forcing is not None:
            tendency = tendency + terms.forcing
        if self.components == 2:
            transport = (self._flux * spectra[:, 2:]).sum(1, keepdim=True)
            tendency = torch.cat([tendency, transport], dim=1)
        return tendency if terms.coupling is None else torch.addcmul(tendency, terms.coupling, w.flip(1))

    def place_kicks(self, coefficients: KickSeries) -> Kicks:
        kept = place_modes(coefficients, self.grid)[..., : self.columns].to(self.complex_dtype)
        return kept.to(self.device, non_blocking=True)

    def kicked(self, w: Spectrum, kicks: Tensor) -> Spectrum:
        return torch.cat([w[:, :1] + kicks, w[:, 1:]], dim=1)

    def energy_and_enstrophy(self, a: Spectrum, b: Spectrum) -> Float[Tensor, "batch 2"]:
        density = (a[:, 0].conj() * b[:, 0]).real.to(self.double_device).double() * self._mode_weights(self._kx)
        return torch.stack([(density * self._inverse_k_squared()).sum((-2, -1)), density.sum((-2, -1))], dim=1)
