r"""Spectra of energy and enstrophy, and their spectral (scale-by-scale) budgets: transfers and fluxes.

None of these depends on where the first sample lies, so that functions take the sides of the box, (y, x), in place of a
grid, and any number of cells. A spectrum has the shape (batch, shell): the shell of wavenumber k holds the modes within
k ± ½, counted in waves across the longer side of the box; `shell_wavenumbers` returns the k of the shells. The mean
vorticity is in none of them. All functions are differentiable, work in the precision and on the device of the
vorticity, and raise ValueError for fields of other shapes.

The budget of box means, dE/dt = injection − dissipation − drag, is in `solvers.turbulence`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from solvers.array_types import PerTrajectory, ScalarField, ShellSpectrum, Sides


def shell_wavenumbers(n: tuple[int, ...], length: Sides) -> Float[Tensor, " shell"]:
    """Return the wavenumbers of the shells, multiples of 2π divided by the longer side.

    Parameters
    ----------
    n : tuple of int
        Numbers of cells (y, x).
    length : tuple of float
        Sides of the box (y, x), in m.

    Returns
    -------
    Tensor
        Angular wavenumbers 2π m / max(length), m = 1, 2, …, float64 on the CPU, in 1/m.
    """
    return 2 * math.pi / max(length) * torch.arange(1, int(_shells(n, length).max()) + 1, dtype=torch.float64)


def cospectrum(a: ScalarField, b: Float[Tensor, "*forced y x"], length: Sides, power: int = 0) -> ShellSpectrum:
    r"""Compute the cospectrum of two fields, weighted by a power of the wavenumber.

    .. math:: C(k) = \sum_{|k'| \in k \pm 1/2} |k'|^p \, \mathrm{Re}(\hat a^* \hat b)

    For power p = 0 and fields of zero mean the sum over all shells is ⟨a b⟩. All other functions here are made of this
    one: with :math:`\hat\psi = \hat\omega / k^2` and :math:`|\hat u|^2 = |\hat\omega|^2 / k^2`, power −2 turns products
    with the vorticity into those of the energy, and power 0 into those of the enstrophy.

    Parameters
    ----------
    a : Tensor
        Shape (batch, 1, y, x).
    b : Tensor
        Shape (batch, 1, y, x) or (y, x).
    length : tuple of float
        Sides of the box (y, x), in m.
    power : int
        The exponent p.

    Returns
    -------
    Tensor
        Shape (batch, shell).
    """
    require_fields(a, b)
    n = (a.shape[-2], a.shape[-1])
    ky, kx = _wavenumbers(n, length)
    magnitude, shell = torch.hypot(ky, kx), _shells(n, length)
    # A real field's half spectrum holds each pair ±kx once, except the columns kx = 0 and, for even nx, Nyquist.
    weight = torch.full((n[1] // 2 + 1,), 2.0, dtype=torch.float64)
    weight[0] = 1.0
    if n[1] % 2 == 0:
        weight[-1] = 1.0
    factor = torch.where(shell > 0, magnitude**power, 0.0) * weight
    p, q = torch.fft.rfft2(a, norm="forward"), torch.fft.rfft2(b, norm="forward")
    modes = ((p.real * q.real + p.imag * q.imag) * factor.to(a)).flatten(1)
    sums = modes.new_zeros(len(modes), int(shell.max()) + 1)
    return sums.scatter_add(1, shell.flatten().to(a.device).expand_as(modes), modes)[:, 1:]


def energy_spectrum(vorticity: ScalarField, length: Sides) -> ShellSpectrum:
    r"""Compute the energy spectrum.

    .. math:: E(k) = \tfrac{1}{2} \sum |\hat u|^2

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.

    Returns
    -------
    Tensor
        Energy in each shell, shape (batch, shell), in m²/s²; its sum is the `kinetic_energy`.
    """
    return 0.5 * cospectrum(vorticity, vorticity, length, -2)


def enstrophy_spectrum(vorticity: ScalarField, length: Sides) -> ShellSpectrum:
    r"""Compute the enstrophy spectrum.

    .. math:: Z(k) = \tfrac{1}{2} \sum |\hat\omega|^2

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.

    Returns
    -------
    Tensor
        Enstrophy in each shell, shape (batch, shell), in 1/s²; its sum is the `enstrophy` if the mean vorticity is
        zero.
    """
    return 0.5 * cospectrum(vorticity, vorticity, length)


def kinetic_energy(vorticity: ScalarField, length: Sides) -> PerTrajectory:
    r"""Compute the mean kinetic energy per unit mass, without a mean flow.

    .. math:: E = \tfrac{1}{2} \langle |u|^2 \rangle = \tfrac{1}{2} \langle \psi \omega \rangle

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch,), in m²/s².
    """
    return energy_spectrum(vorticity, length).sum(-1)


def enstrophy(vorticity: ScalarField) -> PerTrajectory:
    r"""Compute the mean enstrophy.

    .. math:: Z = \tfrac{1}{2} \langle \omega^2 \rangle

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.

    Returns
    -------
    Tensor
        Shape (batch,), in 1/s².
    """
    require_fields(vorticity)
    return 0.5 * vorticity.square().mean((1, 2, 3))


def palinstrophy(vorticity: ScalarField, length: Sides) -> PerTrajectory:
    r"""Compute the mean palinstrophy.

    .. math:: P = \tfrac{1}{2} \langle |\nabla \omega|^2 \rangle

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch,), in 1/(m² s²).
    """
    return 0.5 * cospectrum(vorticity, vorticity, length, 2).sum(-1)


def advection(vorticity: ScalarField, length: Sides) -> ScalarField:
    r"""Compute the advection term of the vorticity equation, free of aliasing.

    .. math:: u \cdot \nabla \omega = \nabla \cdot (u \omega)

    The products are formed on 3/2 the cells along each axis, where those of all modes below Nyquist are exact on all
    modes below Nyquist, and the rest is cut (Orszag 1971,
    doi:10.1175/1520-0469(1971)028<1074:OTEOAI>2.0.CO;2). So this conserves energy and enstrophy to rounding. Nyquist
    modes, of which an odd derivative has no value, are left out.

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.

    Returns
    -------
    Tensor
        Of the same shape, in 1/s².
    """
    require_fields(vorticity)
    n = (vorticity.shape[-2], vorticity.shape[-1])
    fine = ((3 * n[0] + 1) // 2, (3 * n[1] + 1) // 2)
    ky, kx = _wavenumbers(n, length)
    k2 = ky**2 + kx**2
    w = _resized(torch.fft.rfft2(vorticity, norm="forward"), n, n)
    inverse = torch.where(k2 > 0, 1 / k2, 0.0)
    uvw = torch.cat([1j * (ky * inverse).to(vorticity) * w, -1j * (kx * inverse).to(vorticity) * w, w], dim=1)
    u, v, w = torch.fft.irfft2(_resized(uvw, n, fine), s=fine, norm="forward").split(1, dim=1)
    uw, vw = (_resized(torch.fft.rfft2(flux, norm="forward"), fine, n) for flux in (u * w, v * w))
    divergence = 1j * (kx.to(vorticity) * uw + ky.to(vorticity) * vw)
    return torch.fft.irfft2(divergence, s=n, norm="forward")


def energy_transfer(vorticity: ScalarField, length: Sides) -> ShellSpectrum:
    r"""Compute the spectral energy transfer: the rate at which advection brings energy into each shell.

    .. math:: T_E(k) = -\sum \mathrm{Re}(\hat\psi^* F[u \cdot \nabla \omega])

    It closes the spectral energy budget ∂E(k)/∂t = T_E(k) − 2νZ(k) − 2μE(k) + injection; its sum over all shells is
    zero. Free of aliasing, see `advection`. Sources: Kraichnan 1967, doi:10.1063/1.1762301; Boffetta & Ecke 2012,
    doi:10.1146/annurev-fluid-120710-101240.

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch, shell), in m²/s³.
    """
    return -cospectrum(vorticity, advection(vorticity, length), length, -2)


def enstrophy_transfer(vorticity: ScalarField, length: Sides) -> ShellSpectrum:
    r"""Compute the spectral enstrophy transfer: the rate at which advection brings enstrophy into each shell.

    .. math:: T_Z(k) = -\sum \mathrm{Re}(\hat\omega^* F[u \cdot \nabla \omega])

    Its sum over all shells is zero. Sources as for `energy_transfer`.

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch, shell), in 1/s³.
    """
    return -cospectrum(vorticity, advection(vorticity, length), length)


def energy_flux(vorticity: ScalarField, length: Sides) -> ShellSpectrum:
    r"""Compute the spectral energy flux, negative in an inverse cascade.

    .. math:: \Pi_E(k) = -\sum_{k' \le k} T_E(k')

    It is the energy that advection carries in unit time from the modes up to k + ½ to those beyond.

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch, shell), in m²/s³.
    """
    return -energy_transfer(vorticity, length).cumsum(-1)


def enstrophy_flux(vorticity: ScalarField, length: Sides) -> ShellSpectrum:
    r"""Compute the spectral enstrophy flux, positive in a direct cascade.

    .. math:: \Pi_Z(k) = -\sum_{k' \le k} T_Z(k')

    It is the enstrophy that advection carries in unit time from the modes up to k + ½ to those beyond.

    Parameters
    ----------
    vorticity : Tensor
        Shape (batch, 1, y, x), in 1/s.
    length : tuple of float
        Sides of the box (y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch, shell), in 1/s³.
    """
    return -enstrophy_transfer(vorticity, length).cumsum(-1)


def require_fields(a: Tensor, b: Tensor | None = None) -> None:
    """Raise an error for fields of shapes that would broadcast to numbers of something else.

    Parameters
    ----------
    a : Tensor
        Expected to be (batch, 1, y, x).
    b : Tensor, optional
        Expected to be of the shape of `a`, (1, 1, y, x) or (y, x).

    Raises
    ------
    ValueError
        If a shape is another.
    """
    if a.ndim != 4 or a.shape[1] != 1:
        raise ValueError(f"expected (batch, 1, y, x); got {tuple(a.shape)}")
    if b is not None and tuple(b.shape) not in (tuple(a.shape), (1, *a.shape[1:]), tuple(a.shape[-2:])):
        raise ValueError(f"expected {tuple(a.shape)} or {tuple(a.shape[-2:])}; got {tuple(b.shape)}")


def _wavenumbers(n: tuple[int, ...], length: Sides) -> tuple[Float[Tensor, "ny 1"], Float[Tensor, "1 kx"]]:
    """Return (ky, kx) of `torch.fft.rfft2`, float64 on the CPU, for any numbers of cells."""
    ky = 2 * math.pi * torch.fft.fftfreq(n[0], length[0] / n[0], dtype=torch.float64)
    kx = 2 * math.pi * torch.fft.rfftfreq(n[1], length[1] / n[1], dtype=torch.float64)
    return ky[:, None], kx[None, :]


def _shells(n: tuple[int, ...], length: Sides) -> Int[Tensor, "ny kx"]:
    """Return the shell of each mode; shell 0 holds the mean alone."""
    ky, kx = _wavenumbers(n, length)
    return (torch.hypot(ky, kx) * (max(length) / (2 * math.pi))).round().long()


def _resized(
    spectrum: Complex[Tensor, "batch component _ky _kx"], source: tuple[int, ...], target: tuple[int, ...]
) -> Complex[Tensor, "batch component _ky2 _kx2"]:
    """Cut or pad a spectrum to another number of cells, without the Nyquist modes of the fewer."""
    my, mx = ((min(a, b) - 1) // 2 for a, b in zip(source, target, strict=True))
    out = spectrum.new_zeros(*spectrum.shape[:-2], target[0], target[1] // 2 + 1)
    out[..., : my + 1, : mx + 1] = spectrum[..., : my + 1, : mx + 1]
    out[..., target[0] - my :, : mx + 1] = spectrum[..., source[0] - my :, : mx + 1]
    return out
