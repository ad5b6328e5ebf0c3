"""Spectra, transfers and fluxes of energy and enstrophy, from the vorticity; tensors in and out.

None of these depends on where the first sample lies, so they take the sides of the box, (y, x), for a grid, and any
number of cells. A spectrum is (batch, shell): the shell of |k| holds the modes with |k| ± ½, |k| counting waves across
the longer side of the box; `shell_wavenumbers` are the k of the shells. The mean vorticity is in none of them. All are
differentiable, in the precision and on the device of the vorticity, and raise ValueError for fields of other shapes.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

ScalarField = Float[Tensor, "batch 1 y x"]
Spectrum = Float[Tensor, "batch shell"]
Total = Float[Tensor, " batch"]
Sides = tuple[float, float]  # (y, x)


def shell_wavenumbers(n: tuple[int, int], length: Sides) -> Float[Tensor, " shell"]:
    """The angular wavenumbers k = 2π m / max(length), m = 1, 2, ... of the shells [1/length]: float64 on the CPU."""
    return 2 * math.pi / max(length) * torch.arange(1, int(_shells(n, length).max()) + 1, dtype=torch.float64)


def cospectrum(a: ScalarField, b: Float[Tensor, "*forced y x"], length: Sides, power: int = 0) -> Spectrum:
    """C(k) = Σ |k|^power Re(â* b̂) over the modes of each shell, with Σ_k C = ⟨a b⟩ for power 0 and zero means.

    Everything below is one of these: with ψ̂ = ω̂/k² and |û|² = |ω̂|²/k², power −2 turns products with the vorticity
    into those of the energy, power 0 into those of the enstrophy. `b` is (y, x) or (batch, 1, y, x).
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


def energy_spectrum(vorticity: ScalarField, length: Sides) -> Spectrum:
    """E(k) = ½ Σ |û|² [length²/time²] over the shell; Σ_k E = `kinetic_energy`."""
    return 0.5 * cospectrum(vorticity, vorticity, length, -2)


def enstrophy_spectrum(vorticity: ScalarField, length: Sides) -> Spectrum:
    """Z(k) = ½ Σ |ω̂|² [1/time²] over the shell; Σ_k Z = `enstrophy` where the mean vorticity is zero."""
    return 0.5 * cospectrum(vorticity, vorticity, length)


def kinetic_energy(vorticity: ScalarField, length: Sides) -> Total:
    """E = ½⟨|u|²⟩ = ½⟨ψω⟩ [length²/time²], the mean flow zero."""
    return energy_spectrum(vorticity, length).sum(-1)


def enstrophy(vorticity: ScalarField) -> Total:
    """Z = ½⟨ω²⟩ [1/time²]."""
    require_fields(vorticity)
    return 0.5 * vorticity.square().mean((1, 2, 3))


def palinstrophy(vorticity: ScalarField, length: Sides) -> Total:
    """P = ½⟨|∇ω|²⟩ [1/(length² time²)]."""
    return 0.5 * cospectrum(vorticity, vorticity, length, 2).sum(-1)


def advection(vorticity: ScalarField, length: Sides) -> ScalarField:
    """u·∇ω = ∇·(uω) [1/time²], free of aliasing: the products are formed on 3/2 the cells along each axis, where those
    of all modes below Nyquist are exact on all modes below Nyquist, and the rest is cut (Orszag 1971,
    doi:10.1175/1520-0469(1971)028<1074:OTEOAI>2.0.CO;2). So this conserves energy and enstrophy to rounding.

    Nyquist modes, of which an odd derivative has no value, are left out.
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


def energy_transfer(vorticity: ScalarField, length: Sides) -> Spectrum:
    """T_E(k) = −Σ Re(ψ̂* F[u·∇ω]) [length²/time³] over the shell: the rate at which advection brings energy into it
    from all others, ∂E(k)/∂t = T_E(k) − 2νZ(k) − 2μE(k) + injection. Σ_k T_E = 0. Free of aliasing, see `advection`.
    Kraichnan 1967, doi:10.1063/1.1762301; Boffetta & Ecke 2012, doi:10.1146/annurev-fluid-120710-101240."""
    return -cospectrum(vorticity, advection(vorticity, length), length, -2)


def enstrophy_transfer(vorticity: ScalarField, length: Sides) -> Spectrum:
    """T_Z(k) = −Σ Re(ω̂* F[u·∇ω]) [1/time³] over the shell, as `energy_transfer`; Σ_k T_Z = 0."""
    return -cospectrum(vorticity, advection(vorticity, length), length)


def energy_flux(vorticity: ScalarField, length: Sides) -> Spectrum:
    """Π_E(k) = −Σ_{k' ≤ k} T_E(k') [length²/time³]: the energy that advection carries in unit time from the modes up to
    |k| + ½ to those beyond; negative in an inverse cascade."""
    return -energy_transfer(vorticity, length).cumsum(-1)


def enstrophy_flux(vorticity: ScalarField, length: Sides) -> Spectrum:
    """Π_Z(k) = −Σ_{k' ≤ k} T_Z(k') [1/time³]: as `energy_flux`; positive in a direct cascade."""
    return -enstrophy_transfer(vorticity, length).cumsum(-1)


def require_fields(a: Tensor, b: Tensor | None = None) -> None:
    """Raise ValueError unless `a` is (batch, 1, y, x) and `b`, if given, is (y, x) or as `a`: others would broadcast to
    numbers of something else."""
    if a.ndim != 4 or a.shape[1] != 1:
        raise ValueError(f"expected (batch, 1, y, x); got {tuple(a.shape)}")
    if b is not None and tuple(b.shape) not in (tuple(a.shape), (1, *a.shape[1:]), tuple(a.shape[-2:])):
        raise ValueError(f"expected {tuple(a.shape)} or {tuple(a.shape[-2:])}; got {tuple(b.shape)}")


def _wavenumbers(n: tuple[int, int], length: Sides) -> tuple[Float[Tensor, "ny 1"], Float[Tensor, "1 kx"]]:
    """(ky, kx) of `torch.fft.rfft2`: float64 on the CPU."""
    ky = 2 * math.pi * torch.fft.fftfreq(n[0], length[0] / n[0], dtype=torch.float64)
    kx = 2 * math.pi * torch.fft.rfftfreq(n[1], length[1] / n[1], dtype=torch.float64)
    return ky[:, None], kx[None, :]


def _shells(n: tuple[int, int], length: Sides) -> Int[Tensor, "ny kx"]:
    """The shell of each mode; 0 is the mean alone."""
    ky, kx = _wavenumbers(n, length)
    return (torch.hypot(ky, kx) * (max(length) / (2 * math.pi))).round().long()


def _resized(
    spectrum: Complex[Tensor, "batch component _ky _kx"], source: tuple[int, int], target: tuple[int, int]
) -> Complex[Tensor, "batch component _ky2 _kx2"]:
    """Cut or padded with zeros from one number of cells to another, without the Nyquist modes of the fewer."""
    my, mx = ((min(a, b) - 1) // 2 for a, b in zip(source, target, strict=True))
    out = spectrum.new_zeros(*spectrum.shape[:-2], target[0], target[1] // 2 + 1)
    out[..., : my + 1, : mx + 1] = spectrum[..., : my + 1, : mx + 1]
    out[..., target[0] - my :, : mx + 1] = spectrum[..., source[0] - my :, : mx + 1]
    return out
