r"""The right-hand side of flows in three dimensions, in Fourier space: velocity, and a scalar, passive or buoyant.

.. math::

    \partial_t u &= P \left[ -\nabla \cdot (u u) + f - g \theta \right] + \nu \nabla^2 u - \mu u \\
    \partial_t \theta + u \cdot \nabla \theta
        &= \kappa \nabla^2 \theta - (u - U) \cdot G

P = 1 − kk/k² projects on fields without divergence, which stands for the pressure. θ is the departure from a mean
profile of uniform gradient G; g is gravity times the thermal expansion, so that the buoyancy is −gθ; U is a uniform
mean velocity, which advects everything and is not part of the state. Without gravity θ is a passive tracer.

Advection takes eight real transforms a stage, not nine (Basdevant 1983, doi:10.1016/0021-9991(83)90064-5): a gradient
does not survive the projection, so that u₃² may be taken from the diagonal of uu. With A = u₁² − u₃², B = u₂² − u₃²,
C = u₁u₂, D = u₁u₃, E = u₂u₃,

.. math::

    \hat G = (k_1 \hat A + k_2 \hat C + k_3 \hat D, \; k_1 \hat C + k_2 \hat B + k_3 \hat E, \;
              k_1 \hat D + k_2 \hat E), \qquad
    P[-\nabla \cdot (u u)]^\wedge = -i (\hat G - k (k \cdot \hat G) / k^2),

dealiased by the two-thirds rule. The mean of the velocity, its mode k = 0, is advected away by nothing: it changes by
drag and by the mean of the body force. Buoyancy and the mean gradient leave it alone, as in two dimensions: a mean
pressure gradient balances the mean buoyancy.
"""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from solvers.array_types import FlowFields, Kicks, KickSeries, Spectrum, State
from solvers.equation import Equation, EquationTerms, broadcast_but_components
from solvers.fixed_power_forcing import FixedPowerForcing
from solvers.grid import Grid, cell_centre_phase, corners
from solvers.projection import solenoidal_part


@final
class VelocityEquation(Equation):
    r"""The equation of the velocity in three dimensions, and of a scalar beside it.

    A spectrum holds the retained modes and no others: shape (batch, component, 2 Mz + 1, 2 My + 1, Mx + 1), the modes
    of the first two axes in the order 0, 1, …, M, −M, …, −1, those of the last 0, 1, …, Mx, with the values that
    `torch.fft.rfftn` gives (no division by the number of cells). Components are u, v, w and then the scalar.

    The coefficients that a back end reads are these:

    - `EquationTerms.linear`: shape (1 or batch, 1, kz, ky, kx), and with a scalar (1 or batch, 4, kz, ky, kx), of which
      the first three are equal;
    - `EquationTerms.forcing`: the projected body force, shape (1 or batch, 3, kz, ky, kx);
    - `EquationTerms.coupling`: shape (1 or batch, 6, kz, ky, kx), first −P g, which times θ̂ is added to the tendency of
      the velocity, then −G, whose product with û is added to that of θ; zero at k = 0;
    - `EquationTerms.mean_velocity`: shape (1 or batch, 3, 1, 1, 1);
    - `forced_modes` and `forced_weights` of the equation itself, see below.

    Parameters
    ----------
    grid : Grid
        The grid, in three dimensions.
    modes : tuple of int
        The retained modes are those with mode numbers mz, my, mx of at most these in magnitude.
    has_scalar : bool
        Whether a scalar is transported beside the velocity.
    dtype : torch.dtype
        Precision of the fields.
    device : torch.device
        Where the fields live.
    power_forcing : FixedPowerForcing, optional
        A forcing of the large scales.

    Attributes
    ----------
    wavenumbers : tuple of Tensor
        The wavenumbers (kz, ky, kx) of the retained modes, float64, of shapes (2 Mz + 1, 1, 1), (1, 2 My + 1, 1) and
        (1, 1, Mx + 1).
    k_squared : Tensor
        Shape (2 Mz + 1, 2 My + 1, Mx + 1), float64.
    forced_modes : Tensor
        Where the modes of the power forcing lie in a spectrum whose last three axes are flattened, int64; empty without
        that forcing. Both of a pair ±k with kx = 0 are among them.
    forced_weights : Tensor
        By what \|û\|² of each of these modes counts in the energy E_<, in the precision of the fields.
    power_forcing : FixedPowerForcing or None
        The forcing of the large scales.
    """

    flow_components = 3

    def __init__(
        self,
        grid: Grid,
        modes: tuple[int, ...],
        has_scalar: bool,
        dtype: torch.dtype,
        device: torch.device,
        power_forcing: FixedPowerForcing | None = None,
    ) -> None:
        super().__init__(grid, modes, has_scalar, dtype, device)
        kz, ky, kx = (k.to(self.double_device) for k in grid.wavenumbers())
        self.wavenumbers = (_cut(kz, modes[0], -3), _cut(ky, modes[1], -2), kx[..., : modes[2] + 1])
        self.k_squared = sum((k.square() for k in self.wavenumbers[1:]), start=self.wavenumbers[0].square())
        self._inverse = self._as_complex(self._inverse_k_squared())
        self._k = tuple(self._as_complex(k) for k in self.wavenumbers[::-1])  # in the order of components, x first
        self._minus_ik = tuple(self._as_complex(-1j * k) for k in self.wavenumbers[::-1])
        self.power_forcing = power_forcing
        weights = self._mode_weights(self.wavenumbers[2]).expand(self.k_squared.shape).flatten()
        largest = 2 * math.pi / min(grid.length) * (power_forcing.wavenumber if power_forcing else 0.0)
        is_forced = (self.k_squared > 0) & (self.k_squared <= (largest * (1 + 1e-12)) ** 2)
        forced = is_forced.flatten().nonzero().flatten()
        self.forced_modes, self.forced_weights = forced.to(device), weights[forced].to(dtype).to(device)

    # -- between fields and spectra

    def to_spectrum(self, field: State) -> Spectrum:
        """Return the Fourier coefficients of the retained modes of a field.

        Parameters
        ----------
        field : Tensor
            Shape (batch, component, z, y, x).

        Returns
        -------
        Tensor
            Shape (batch, component, 2 Mz + 1, 2 My + 1, Mx + 1).
        """
        return self._transform(field.to(self.device, self.dtype))

    def to_field(self, spectrum: Spectrum) -> State:
        """Return the field of a spectrum.

        Parameters
        ----------
        spectrum : Tensor
            Shape (batch, component, 2 Mz + 1, 2 My + 1, Mx + 1).

        Returns
        -------
        Tensor
            Shape (batch, component, z, y, x).
        """
        # Axis by axis, so that only pencils with retained modes are transformed; `irfft` pads the last axis by itself.
        nz, ny, nx = self.grid.n
        along_z = torch.fft.ifft(_pad(spectrum, nz, -3), dim=-3)
        return torch.fft.irfft(torch.fft.ifft(_pad(along_z, ny, -2), dim=-2), n=nx)

    def _transform(self, fields: State) -> Spectrum:
        # One transform over all axes is faster in PyTorch than pruned ones axis by axis, which copy between axes.
        mz, my, mx = self.modes
        return _cut(_cut(torch.fft.rfftn(fields, dim=(-3, -2, -1))[..., : mx + 1], my, -2), mz, -3)

    def project(self, spectrum: Spectrum) -> Spectrum:
        flow = solenoidal_part(spectrum[:, :3], self._k, self._inverse)
        return flow if self.components == 3 else torch.cat([flow, spectrum[:, 3:]], dim=1)

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
            zero = torch.zeros(1, 3, 1, 1, 1, dtype=torch.float64, device=self.double_device)
            vectors = [zero if v is None else v for v in (gravity, mean_gradient)]
            fluctuating = self.k_squared > 0
            buoyancy = solenoidal_part(-vectors[0] * fluctuating, self.wavenumbers[::-1], self._inverse_k_squared())
            coupling = torch.cat(broadcast_but_components(buoyancy, -vectors[1] * fluctuating), dim=1)
            coupling, buoyancy_rate = self._as_complex(coupling), self._buoyancy_rate(*vectors)
        return EquationTerms(
            self._linear_rates(viscosity, drag, diffusivity),
            None if forcing is None else self.project(self.to_spectrum(forcing)),
            coupling,
            None if mean_velocity is None else mean_velocity.to(self.dtype, copy=True).to(self.device),
            buoyancy_rate,
        )

    def velocity_and_scalar(self, w: Spectrum, terms: EquationTerms) -> FlowFields:
        fields = self.to_field(w)
        if terms.mean_velocity is None:
            return fields
        if self.components == 3:
            return fields + terms.mean_velocity
        return torch.cat([fields[:, :3] + terms.mean_velocity, fields[:, 3:]], dim=1)

    def explicit_tendency(self, w: Spectrum, fields: FlowFields, terms: EquationTerms) -> Spectrum:
        u1, u2, u3, *scalar = fields.unbind(1)
        products = [(u1 + u3) * (u1 - u3), (u2 + u3) * (u2 - u3), u1 * u2, u1 * u3, u2 * u3]
        products += [component * theta for theta in scalar for component in (u1, u2, u3)]
        spectra = self._transform(torch.stack(products, dim=1))
        a, b, c, d, e = spectra[:, :5].unbind(1)
        flux = torch.stack([self._minus_divergence(*row) for row in ((a, c, d), (c, b, e), (d, e))], dim=1)
        tendency = solenoidal_part(flux, self._k, self._inverse)
        if terms.forcing is not None:
            tendency = tendency + terms.forcing
        if self.power_forcing is not None:
            tendency = self._add_power(tendency, w[:, :3])
        if self.components == 3:
            return tendency
        transport = self._minus_divergence(*spectra[:, 5:].unbind(1))[:, None]
        if terms.coupling is not None:
            tendency = torch.addcmul(tendency, terms.coupling[:, :3], w[:, 3:])
            transport = transport + (terms.coupling[:, 3:] * w[:, :3]).sum(1, keepdim=True)
        return torch.cat([tendency, transport], dim=1)

    def _minus_divergence(self, *flux: Complex[Tensor, "batch z y x"]) -> Complex[Tensor, "batch z y x"]:
        """Return −i k·F of a vector whose last component is zero if it is left out."""
        total = self._minus_ik[0] * flux[0]
        for minus_ik, component in zip(self._minus_ik[1:], flux[1:], strict=False):
            total = torch.addcmul(total, minus_ik, component)
        return total

    def _add_power(self, tendency: Spectrum, w: Spectrum) -> Spectrum:
        """Add the forcing of fixed power, in proportion to the large-scale velocity."""
        assert self.power_forcing is not None
        low = w[:, :3].flatten(2)[..., self.forced_modes]
        square = low.real.square() + low.imag.square()
        energy = (square * self.forced_weights).sum((1, 2))[:, None, None]
        rate = torch.where(energy > 0, self.power_forcing.power / (2 * energy.where(energy > 0, 1.0)), 0.0)
        flat = tendency.flatten(2).index_add(2, self.forced_modes, rate * low)
        return flat.unflatten(2, tendency.shape[2:])

    # -- stochastic forcing

    def place_kicks(self, coefficients: KickSeries) -> Kicks:
        """Return the kicks of a stochastic forcing, projected, as `kicked` takes them.

        Parameters
        ----------
        coefficients : Tensor
            Shape (batch, part, 3, 2 mz + 1, 2 my + 1, mx + 1), in the layout of `solvers.grid.place_modes`.

        Returns
        -------
        Tensor
            Of the same shape, the modes in the order of this equation's spectra.

        Raises
        ------
        ValueError
            If not all of the modes are retained.
        """
        most = _largest_modes(coefficients)
        if any(m > kept for m, kept in zip(most, self.modes, strict=True)):
            raise ValueError(f"the stochastic forcing has modes up to {most}, of which only those up to {self.modes} "
                             "are retained: take a larger n")  # fmt: skip
        rolled = coefficients.roll([-most[0], -most[1]], (-3, -2)).to(self.double_device, non_blocking=True)
        kz, ky, kx = self.wavenumbers
        kz, ky, kx = _cut(kz, most[0], -3), _cut(ky, most[1], -2), kx[..., : most[2] + 1]
        k_squared = kz**2 + ky**2 + kx**2
        inverse = 1 / k_squared.where(k_squared > 0, math.inf)
        placed = solenoidal_part(rolled.flatten(0, 1), (kx, ky, kz), inverse).unflatten(0, rolled.shape[:2])
        return self._as_complex(placed * cell_centre_phase((kz, ky, kx), self.grid.spacing))

    def kicked(self, w: Spectrum, kicks: Tensor) -> Spectrum:
        whole = w.new_zeros(len(w), self.components, *w.shape[2:])
        for block in corners(_largest_modes(kicks)):
            whole[:, :3][block] = kicks[block]
        return w + whole

    def energy_and_enstrophy(self, a: Spectrum, b: Spectrum) -> Float[Tensor, "batch 2"]:
        products = (a[:, :3].conj() * b[:, :3]).real.to(self.double_device).double().sum(1)
        density = products * self._mode_weights(self.wavenumbers[2])
        return torch.stack([density.sum((1, 2, 3)), (density * self.k_squared).sum((1, 2, 3))], dim=1)


def _largest_modes(block: Tensor) -> tuple[int, ...]:
    """Return the largest mode numbers of a block of shape (…, 2 Mz + 1, 2 My + 1, Mx + 1)."""
    return (block.shape[-3] // 2, block.shape[-2] // 2, block.shape[-1] - 1)


def _cut(spectrum: Tensor, most: int, axis: int) -> Tensor:
    """Keep the modes 0 … M and −M … −1 of an axis."""
    return torch.cat([spectrum.narrow(axis, 0, most + 1), spectrum.narrow(axis, -most, most)], dim=axis)


def _pad(spectrum: Tensor, count: int, axis: int) -> Tensor:
    """Fill an axis of modes 0 … M and −M … −1 with zeros between them, up to a number of modes."""
    most = spectrum.shape[axis] // 2
    shape = list(spectrum.shape)
    shape[axis] = count - shape[axis]
    parts = [spectrum.narrow(axis, 0, most + 1), spectrum.new_zeros(shape), spectrum.narrow(axis, -most, most)]
    return torch.cat(parts, dim=axis)
