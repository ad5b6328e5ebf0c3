"""The right-hand side that every flow shares, in Fourier space: vorticity, and a scalar, carried or driving.

    ∂ω/∂t + u·∇ω = ν∇²ω − μω + f − (g_y ∂θ/∂x − g_x ∂θ/∂y),      ω = ∂v/∂x − ∂u/∂y, ∇²ψ = −ω, u = U + (∂ψ/∂y, −∂ψ/∂x)
    ∂θ/∂t + u·∇θ = κ∇²θ − (u − U)·G

θ is the departure from a mean profile of uniform gradient G; g is gravity times the thermal expansion, so that the
buoyancy is −gθ (Boussinesq 1903; Vallis 2017, §2.4, doi:10.1017/9781107588417); U is a uniform mean velocity.
Without gravity θ is a passive tracer. Advection is the four-transform flux form
−u·∇ω = ∂x∂y(u² − v²) − (∂xx − ∂yy)(uv), −u·∇θ = −∂x(uθ) − ∂y(vθ), dealiased by the two-thirds rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import final

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from solvers.diagnostics import velocity_symbol
from solvers.fields import TRACER, FieldSpec
from solvers.grid import Grid

Spectrum = Complex[Tensor, "batch component ky kx"]  # of `rfft2`: the columns kx ≥ 0 that hold retained modes
Pair = tuple[float, float]


@dataclass(frozen=True)
class Scalar:
    """What the flow carries beside its vorticity: κ ≥ 0, and optionally the vectors G and g, each as (x, y)."""

    field: FieldSpec = TRACER
    diffusivity: float = 0.0
    mean_gradient: Pair | None = None
    gravity: Pair | None = None


@dataclass(frozen=True, eq=False)
class Terms:
    """What differs between trajectories: each (1 or batch, component, ky or 1, kx or 1), None where there is none.

    `linear`: the decay rates, float64. `forcing`: f̂. `coupling`: what θ̂ adds to ∂ω̂/∂t and ω̂ to ∂θ̂/∂t.
    `mean_velocity`: U. `frequency`: √(|g||G|), the fastest rate at which buoyancy acts.
    """

    linear: Tensor
    forcing: Tensor | None = None
    coupling: Tensor | None = None
    mean_velocity: Tensor | None = None
    frequency: Tensor | None = None

    def of(self, which: Tensor | slice) -> Terms:
        """Those of some trajectories; itself for all of them."""
        if isinstance(which, slice) and which == slice(None):
            return self
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: v[which] for k, v in held.items() if v is not None and len(v) > 1})


@final
class Equation:
    """The terms above on one grid, one device and in one precision, for the modes with |my|, |mx| of at most
    `modes`."""

    def __init__(
        self, grid: Grid, modes: tuple[int, int], has_scalar: bool, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.grid, self.modes, self.dtype, self.device = grid, modes, dtype, device
        # Where numbers in double precision live: Apple's GPUs know none.
        self.exact = torch.device("cpu") if device.type == "mps" else device
        self.complex = torch.complex128 if dtype == torch.float64 else torch.complex64
        self.components = 2 if has_scalar else 1
        # The other columns hold no retained mode: nothing is transformed or multiplied there.
        self.columns = modes[1] + 1
        keep = grid.retained(modes)[:, : self.columns]
        ky, kx = (k[..., : self.columns] for k in grid.wavenumbers())
        self._advection = self._complex(torch.stack([-kx * ky, kx**2 - ky**2]) * keep)
        self._flux = self._complex(1j * torch.stack(torch.broadcast_tensors(-kx, -ky)) * keep)
        self._velocity = self._complex(velocity_symbol(grid)[..., : self.columns] * keep)
        self._ky, self._kx, self._kept = ky.to(self.exact), kx.to(self.exact), keep.to(self.exact)
        self.square = self._ky**2 + self._kx**2
        self._keep = keep.to(device)

    def _complex(self, values: Tensor) -> Tensor:
        return values.to(self.complex).to(self.device)

    # -- between fields and spectra

    def spectrum(self, field: Float[Tensor, "batch component y x"]) -> Spectrum:
        """The retained modes of a field."""
        return torch.fft.rfft2(field.to(self.device, self.dtype))[..., : self.columns] * self._keep

    def field(self, spectrum: Spectrum) -> Float[Tensor, "batch component y x"]:
        """The field of a spectrum."""
        return self._synthesise(spectrum)

    def odd(self, spectrum: Spectrum) -> Spectrum:
        """The part that is odd about y = 0, and so about half the height of the box too."""
        ny = self.grid.n[0]
        turn = torch.exp(2j * math.pi * torch.arange(ny, dtype=torch.float64, device=self.exact) / ny)
        return 0.5 * (spectrum - self._complex(turn)[:, None] * spectrum.flip(-2).roll(1, -2))

    def _synthesise(self, spectrum: Tensor) -> Tensor:
        # Along y only where there is something; along x `irfft` fills the missing columns with zeros.
        return torch.fft.irfft(torch.fft.ifft(spectrum, dim=-2), n=self.grid.n[1])

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
    ) -> Terms:
        """From values as `Stepper` inputs are: (1 or batch, component, 1, 1), the forcing (1 or batch, 1, y, x)."""
        linear = -viscosity * self.square - drag
        if diffusivity is not None:
            linear = torch.cat(_batched(linear, -diffusivity * self.square), dim=1)
        coupling = frequency = None
        if gravity is not None or mean_gradient is not None:
            zero = torch.zeros(1, 2, 1, 1, dtype=torch.float64, device=self.exact)
            (gx, gy), (Gx, Gy) = ((zero if v is None else v).split(1, dim=1) for v in (gravity, mean_gradient))
            buoyancy = -1j * (gy * self._kx - gx * self._ky)
            inverse = 1 / self.square.where(self.square > 0, math.inf)
            stirring = -1j * (Gx * self._ky - Gy * self._kx) * inverse
            coupling = self._complex(torch.cat(_batched(buoyancy, stirring), dim=1) * self._kept)
            frequency = (torch.hypot(gx, gy) * torch.hypot(Gx, Gy)).sqrt().to(self.dtype).to(self.device)
        return Terms(
            linear,
            None if forcing is None else self.spectrum(forcing),
            coupling,
            None if mean_velocity is None else mean_velocity.to(self.dtype, copy=True).to(self.device),
            frequency,
        )

    def fields(self, w: Spectrum, terms: Terms) -> Float[Tensor, "batch uvs y x"]:
        """u and v, and θ where there is one, at the cell centres."""
        velocity = self._velocity * w[:, :1]
        if self.components == 1:
            uv = self._synthesise(velocity)
            return uv if terms.mean_velocity is None else uv + terms.mean_velocity
        uvs = self._synthesise(torch.cat([velocity, w[:, 1:]], dim=1))
        if terms.mean_velocity is None:
            return uvs
        return torch.cat([uvs[:, :2] + terms.mean_velocity, uvs[:, 2:]], dim=1)

    def explicit(self, w: Spectrum, uvs: Float[Tensor, "batch uvs y x"], terms: Terms) -> Spectrum:
        """All but the linear decay, from a spectrum and its `fields`."""
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
            carried = (self._flux * spectra[:, 2:]).sum(1, keepdim=True)
            tendency = torch.cat([tendency, carried], dim=1)
        return tendency if terms.coupling is None else torch.addcmul(tendency, terms.coupling, w.flip(1))

    def rate(self, uvs: Float[Tensor, "batch uvs y x"], terms: Terms) -> Float[Tensor, " batch"]:
        """max(|u|/Δx + |v|/Δy), and no less than twice the rate at which buoyancy acts."""
        dy, dx = self.grid.spacing
        speed = uvs[:, :2].detach().abs()
        rate = (speed[:, 0] / dx + speed[:, 1] / dy).amax((-2, -1))
        return rate if terms.frequency is None else torch.maximum(rate, 2 * terms.frequency.flatten())

    def quadratic(self, a: Spectrum, b: Spectrum) -> Float[Tensor, "batch 2"]:
        """½⟨ψ_a ω_b⟩ and ½⟨ω_a ω_b⟩ of two vorticity spectra: energy and enstrophy where they are the same."""
        count = (1 + (self._kx > 0).double()) / (2 * math.prod(self.grid.n) ** 2)  # half a spectrum: kx > 0 twice
        density = (a[:, 0].conj() * b[:, 0]).real.to(self.exact).double() * count
        inverse = 1 / self.square.where(self.square > 0, math.inf)
        return torch.stack([(density * inverse).sum((-2, -1)), density.sum((-2, -1))], dim=1)


def _batched(*values: Tensor) -> list[Tensor]:
    """Alike in all but dim 1."""
    batch = max(len(v) for v in values)
    shape = torch.broadcast_shapes(*(v.shape[2:] for v in values))
    return [v.expand(batch, v.shape[1], *shape) for v in values]
