r"""Spectra of energy and enstrophy, and their spectral (scale-by-scale) budgets: transfers and fluxes.

A flow is given by its vorticity in two dimensions, and by its velocity, without divergence, in three. None of the
numbers depends on where the first sample lies, so that functions take the sides of the box, (y, x) or (z, y, x), in
place of a grid, and any number of cells. A spectrum has the shape (batch, shell): the shell of wavenumber k holds the
modes within k ± ½, counted in waves across the longest side of the box; `shell_wavenumbers` returns the k of the
shells. The mean, of the vorticity or of the velocity, is in none of them. All functions are differentiable, work in the
precision and on the device of the flow, and raise ValueError for fields of other shapes.

The budget of box means, dE/dt = injection − dissipation − drag, is in `solvers.turbulence`.
"""

from __future__ import annotations

import math
from functools import reduce

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from solvers.array_types import FlowField, PerTrajectory, ShellSpectrum, Sides, VectorField
from solvers.grid import corners


def shell_wavenumbers(n: tuple[int, ...], length: Sides) -> Float[Tensor, " shell"]:
    """Return the wavenumbers of the shells, multiples of 2π divided by the longer side.

    Parameters
    ----------
    n : tuple of int
        Numbers of cells, (y, x) or (z, y, x).
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.

    Returns
    -------
    Tensor
        Angular wavenumbers 2π m / max(length), m = 1, 2, …, float64 on the CPU, in 1/m.
    """
    return 2 * math.pi / max(length) * torch.arange(1, int(_shells(n, length).max()) + 1, dtype=torch.float64)


def cospectrum(a: FlowField, b: Float[Tensor, "..."], length: Sides, power: int = 0) -> ShellSpectrum:
    r"""Compute the cospectrum of two fields, weighted by a power of the wavenumber.

    .. math:: C(k) = \sum_{|k'| \in k \pm 1/2} |k'|^p \, \mathrm{Re}(\hat a^* \cdot \hat b)

    For power p = 0 and fields of zero mean the sum over all shells is ⟨a·b⟩. All other functions here are made of this
    one: with :math:`\hat\psi = \hat\omega / k^2` and :math:`|\hat u|^2 = |\hat\omega|^2 / k^2`, power −2 turns products
    with the vorticity into those of the energy, and power 0 into those of the enstrophy. With the velocity these are
    powers 0 and 2.

    Parameters
    ----------
    a : Tensor
        Shape (batch, component, y, x) or (batch, component, z, y, x).
    b : Tensor
        Of the shape of `a`, or without the batch; of one component, without that axis too.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.
    power : int
        The exponent p.

    Returns
    -------
    Tensor
        Shape (batch, shell), summed over the components.
    """
    require_fields(a, b, len(length))
    n, dims = tuple(a.shape[2:]), tuple(range(-len(length), 0))
    magnitude, shell = _magnitude(n, length), _shells(n, length)
    # A real field's half spectrum holds each pair ±kx once, except the columns kx = 0 and, for even nx, Nyquist.
    weight = torch.full((n[-1] // 2 + 1,), 2.0, dtype=torch.float64)
    weight[0] = 1.0
    if n[-1] % 2 == 0:
        weight[-1] = 1.0
    factor = torch.where(shell > 0, magnitude**power, 0.0) * weight
    p, q = torch.fft.rfftn(a, dim=dims, norm="forward"), torch.fft.rfftn(b, dim=dims, norm="forward")
    modes = ((p.real * q.real + p.imag * q.imag).sum(1, keepdim=True) * factor.to(a)).flatten(1)
    sums = modes.new_zeros(len(modes), int(shell.max()) + 1)
    return sums.scatter_add(1, shell.flatten().to(a.device).expand_as(modes), modes)[:, 1:]


def energy_spectrum(flow: FlowField, length: Sides) -> ShellSpectrum:
    r"""Compute the energy spectrum.

    .. math:: E(k) = \tfrac{1}{2} \sum |\hat u|^2

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.

    Returns
    -------
    Tensor
        Energy in each shell, shape (batch, shell), in m²/s²; its sum is the `kinetic_energy`.
    """
    require_flow(flow, len(length))
    return 0.5 * cospectrum(flow, flow, length, _exponent(length, -2))


def enstrophy_spectrum(flow: FlowField, length: Sides) -> ShellSpectrum:
    r"""Compute the enstrophy spectrum.

    .. math:: Z(k) = \tfrac{1}{2} \sum |\hat\omega|^2

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.

    Returns
    -------
    Tensor
        Enstrophy in each shell, shape (batch, shell), in 1/s²; its sum is the `enstrophy` if the mean vorticity is
        zero.
    """
    require_flow(flow, len(length))
    return 0.5 * cospectrum(flow, flow, length, _exponent(length, 0))


def kinetic_energy(flow: FlowField, length: Sides) -> PerTrajectory:
    r"""Compute the mean kinetic energy per unit mass, without a mean flow.

    .. math:: E = \tfrac{1}{2} \langle |u|^2 \rangle = \tfrac{1}{2} \langle \psi \omega \rangle

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch,), in m²/s².
    """
    return energy_spectrum(flow, length).sum(-1)


def enstrophy(flow: FlowField, length: Sides | None = None) -> PerTrajectory:
    r"""Compute the mean enstrophy.

    .. math:: Z = \tfrac{1}{2} \langle |\omega|^2 \rangle

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float, optional
        Sides of the box, (y, x) or (z, y, x), in m; needed for a velocity only.

    Returns
    -------
    Tensor
        Shape (batch,), in 1/s²; of a velocity without its divergence, if it has any.

    Raises
    ------
    ValueError
        If `length` is missing for a velocity.
    """
    if flow.ndim == 5 and length is None:
        raise ValueError("the enstrophy of a velocity needs the sides of the box, length")
    require_flow(flow, flow.ndim - 2)
    if length is None or len(length) == 2:
        return 0.5 * flow.square().mean((1, 2, 3))
    return enstrophy_spectrum(flow, length).sum(-1)


def palinstrophy(flow: FlowField, length: Sides) -> PerTrajectory:
    r"""Compute the mean palinstrophy.

    .. math:: P = \tfrac{1}{2} \langle |\nabla \omega|^2 \rangle

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch,), in 1/(m² s²).
    """
    require_flow(flow, len(length))
    return 0.5 * cospectrum(flow, flow, length, _exponent(length, 2)).sum(-1)


def helicity_spectrum(velocity: VectorField, length: Sides) -> ShellSpectrum:
    r"""Compute the helicity spectrum of a flow in three dimensions.

    .. math:: H(k) = \sum \mathrm{Re}(\hat u^* \cdot \hat\omega), \qquad \hat\omega = i k \times \hat u

    Its sum over all shells is ⟨u·ω⟩, and \|H(k)\| ≤ 2k E(k) mode by mode. Source: Moffatt 1969,
    doi:10.1017/S0022112069000991.

    Parameters
    ----------
    velocity : Tensor
        Shape (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box (z, y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch, shell), in m/s².

    Raises
    ------
    ValueError
        If the velocity is not one of three dimensions.
    """
    require_flow(velocity, 3)
    n = tuple(velocity.shape[2:])
    kz, ky, kx = ((1j * k).to(velocity.device) for k in _odd_wavenumbers(n, length))
    u, v, w = torch.fft.rfftn(velocity, dim=(-3, -2, -1)).unbind(1)
    curl = torch.stack([ky * w - kz * v, kz * u - kx * w, kx * v - ky * u], dim=1)
    return cospectrum(velocity, torch.fft.irfftn(curl, s=n, dim=(-3, -2, -1)).to(velocity), length)


def advection(flow: FlowField, length: Sides) -> FlowField:
    r"""Compute the advection term of the equation of the vorticity, or of the velocity, free of aliasing.

    .. math:: u \cdot \nabla \omega = \nabla \cdot (u \omega), \qquad u \cdot \nabla u = \nabla \cdot (u u)

    The products are formed on 3/2 the cells along each axis, where those of all modes below Nyquist are exact on all
    modes below Nyquist, and the rest is cut (Orszag 1971,
    doi:10.1175/1520-0469(1971)028<1074:OTEOAI>2.0.CO;2). So this conserves energy to rounding, and in two dimensions
    enstrophy. Nyquist modes, of which an odd derivative has no value, are left out.

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.

    Returns
    -------
    Tensor
        Of the same shape, in 1/s² or m/s².
    """
    require_flow(flow, len(length))
    n, dims = tuple(flow.shape[2:]), tuple(range(-len(length), 0))
    fine = tuple((3 * m + 1) // 2 for m in n)
    wavenumbers = _wavenumbers(n, length)
    moved = _resized(torch.fft.rfftn(flow, dim=dims, norm="forward"), n, n)
    if len(length) == 3:
        fields = torch.fft.irfftn(_resized(moved, n, fine), s=fine, dim=dims, norm="forward")
        carrier = transported = fields
    else:
        ky, kx = wavenumbers
        k2 = ky**2 + kx**2
        inverse = torch.where(k2 > 0, 1 / k2, 0.0)
        uv = [1j * (ky * inverse).to(flow) * moved, -1j * (kx * inverse).to(flow) * moved]
        fields = torch.fft.irfftn(_resized(torch.cat([*uv, moved], dim=1), n, fine), s=fine, dim=dims, norm="forward")
        carrier, transported = fields[:, :2], fields[:, 2:]
    parts = []
    for k, component in zip(reversed(wavenumbers), carrier.split(1, dim=1), strict=True):
        flux = torch.fft.rfftn(component * transported, dim=dims, norm="forward")
        parts.append(k.to(flow) * _resized(flux, fine, n))
    divergence = 1j * sum(parts[1:], start=parts[0])
    return torch.fft.irfftn(divergence, s=n, dim=dims, norm="forward")


def energy_transfer(flow: FlowField, length: Sides) -> ShellSpectrum:
    r"""Compute the spectral energy transfer: the rate at which advection brings energy into each shell.

    .. math:: T_E(k) = -\sum \mathrm{Re}(\hat\psi^* F[u \cdot \nabla \omega])
                     = -\sum \mathrm{Re}(\hat u^* \cdot F[u \cdot \nabla u])

    It closes the spectral energy budget ∂E(k)/∂t = T_E(k) − 2νZ(k) − 2μE(k) + injection; its sum over all shells is
    zero. Free of aliasing, see `advection`. Sources: Kraichnan 1967, doi:10.1063/1.1762301; Boffetta & Ecke 2012,
    doi:10.1146/annurev-fluid-120710-101240.

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch, shell), in m²/s³.
    """
    return -cospectrum(flow, advection(flow, length), length, _exponent(length, -2))


def enstrophy_transfer(flow: FlowField, length: Sides) -> ShellSpectrum:
    r"""Compute the spectral enstrophy transfer: the rate at which advection brings enstrophy into each shell.

    .. math:: T_Z(k) = -\sum \mathrm{Re}(\hat\omega^* F[u \cdot \nabla \omega])
                     = -\sum k^2 \, \mathrm{Re}(\hat u^* \cdot F[u \cdot \nabla u])

    In two dimensions its sum over all shells is zero. In three it is what the stretching of vortices makes in unit
    time. Sources as for `energy_transfer`.

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch, shell), in 1/s³.
    """
    return -cospectrum(flow, advection(flow, length), length, _exponent(length, 0))


def energy_flux(flow: FlowField, length: Sides) -> ShellSpectrum:
    r"""Compute the spectral energy flux, negative in an inverse cascade, positive in a direct one.

    .. math:: \Pi_E(k) = -\sum_{k' \le k} T_E(k')

    It is the energy that advection carries in unit time from the modes up to k + ½ to those beyond.

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch, shell), in m²/s³.
    """
    return -energy_transfer(flow, length).cumsum(-1)


def enstrophy_flux(flow: FlowField, length: Sides) -> ShellSpectrum:
    r"""Compute the spectral enstrophy flux, positive in a direct cascade.

    .. math:: \Pi_Z(k) = -\sum_{k' \le k} T_Z(k')

    It is the enstrophy that advection carries in unit time from the modes up to k + ½ to those beyond.

    Parameters
    ----------
    flow : Tensor
        In two dimensions the vorticity, shape (batch, 1, y, x), in 1/s; in three the velocity, shape
        (batch, 3, z, y, x), in m/s.
    length : tuple of float
        Sides of the box, (y, x) or (z, y, x), in m.

    Returns
    -------
    Tensor
        Shape (batch, shell), in 1/s³.
    """
    return -enstrophy_transfer(flow, length).cumsum(-1)


def require_fields(a: Tensor, b: Tensor | None = None, dimensions: int = 2) -> None:
    """Raise an error for fields of shapes that would broadcast to numbers of something else.

    Parameters
    ----------
    a : Tensor
        Expected to be (batch, 1, y, x), in three dimensions (batch, 1, z, y, x) or (batch, 3, z, y, x).
    b : Tensor, optional
        Expected to be of the shape of `a`, with a batch of one, or without the batch, and without the component if
        there is one.
    dimensions : int
        Number of dimensions, 2 or 3.

    Raises
    ------
    ValueError
        If a shape is another.
    """
    # Two components would be taken for a vector, and are vorticity and tracer in a state in two dimensions.
    if a.ndim != dimensions + 2 or a.shape[1] not in ((1,) if dimensions == 2 else (1, 3)):
        expected = "(batch, 1, y, x)" if dimensions == 2 else "(batch, 1, z, y, x) or (batch, 3, z, y, x)"
        raise ValueError(f"expected {expected}; got {tuple(a.shape)}")
    own = tuple(a.shape[2:] if a.shape[1] == 1 else a.shape[1:])
    if b is not None and tuple(b.shape) not in (tuple(a.shape), (1, *a.shape[1:]), own):
        raise ValueError(f"expected {tuple(a.shape)} or {own}; got {tuple(b.shape)}")


def require_flow(flow: Tensor, dimensions: int) -> None:
    """Raise an error unless a field is a vorticity in two dimensions, or a velocity in three.

    Parameters
    ----------
    flow : Tensor
        Expected to be (batch, 1, y, x) or (batch, 3, z, y, x).
    dimensions : int
        Number of dimensions, 2 or 3.

    Raises
    ------
    ValueError
        If the shape is another.
    """
    require_fields(flow, dimensions=dimensions)
    if dimensions == 3 and flow.shape[1] != 3:
        raise ValueError(f"expected a velocity, (batch, 3, z, y, x); got {tuple(flow.shape)}")


def _exponent(length: Sides, power: int) -> int:
    """Return a power of the wavenumber that is meant for the vorticity, or two more for the velocity in space."""
    return power if len(length) == 2 else power + 2


def _odd_wavenumbers(n: tuple[int, ...], length: Sides) -> tuple[Float[Tensor, "..."], ...]:
    """Return the wavenumbers with the Nyquist entries zero: the multipliers of odd derivatives."""
    made = _wavenumbers(n, length)
    for k, m in zip(made, n, strict=True):
        if m % 2 == 0:
            k.flatten()[m // 2] = 0
    return made


def _wavenumbers(n: tuple[int, ...], length: Sides) -> tuple[Float[Tensor, "..."], ...]:
    """Return (ky, kx) or (kz, ky, kx) of `torch.fft.rfftn`, float64 on the CPU, for any numbers of cells."""
    last = len(n) - 1
    made = [2 * math.pi * (torch.fft.rfftfreq if i == last else torch.fft.fftfreq)(m, side / m, dtype=torch.float64)
            for i, (m, side) in enumerate(zip(n, length, strict=True))]  # fmt: skip
    return tuple(k.reshape([-1 if axis == i else 1 for axis in range(len(n))]) for i, k in enumerate(made))


def _magnitude(n: tuple[int, ...], length: Sides) -> Float[Tensor, "*modes"]:
    """Return the magnitude of the wavenumber of each mode."""
    return reduce(torch.hypot, _wavenumbers(n, length))


def _shells(n: tuple[int, ...], length: Sides) -> Int[Tensor, "*modes"]:
    """Return the shell of each mode; shell 0 holds the mean alone."""
    return (_magnitude(n, length) * (max(length) / (2 * math.pi))).round().long()


def _resized(
    spectrum: Complex[Tensor, "batch component *_modes"], source: tuple[int, ...], target: tuple[int, ...]
) -> Complex[Tensor, "batch component *_modes2"]:
    """Cut or pad a spectrum to another number of cells, without the Nyquist modes of the fewer."""
    most = [(min(a, b) - 1) // 2 for a, b in zip(source, target, strict=True)]
    out = spectrum.new_zeros(*spectrum.shape[:2], *target[:-1], target[-1] // 2 + 1)
    for block in corners(most):
        out[block] = spectrum[block]
    return out
