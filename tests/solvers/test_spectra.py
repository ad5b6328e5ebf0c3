"""Spectra, transfers and fluxes against closed forms, and against filtering in physical space by numpy."""

import math

import numpy as np
import pytest
import torch

from solvers import D4, VORTICITY, FieldSpec, Grid, NavierStokes2D, act, spectra

TAU = 2 * math.pi
BOXES = [((32, 32), (TAU, TAU)), ((24, 32), (math.pi, TAU)), ((40, 24), (3.0, 1.3)), ((21, 15), (1.0, 2.0))]
QUANTITIES = ["energy", "enstrophy"]


def points(n, length):
    """y and x of the samples, broadcastable."""
    y, x = (side * (torch.arange(m, dtype=torch.float64) + 0.5) / m for m, side in zip(n, length, strict=True))
    return y[:, None], x[None, :]


def noise(n, batch=2, seed=0):
    """White noise of mean zero without Nyquist modes: every mode that the grid moves."""
    values = torch.randn(batch, 1, *n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    spectrum = torch.fft.fft2(values)
    spectrum[..., 0, 0] = 0
    if n[0] % 2 == 0:
        spectrum[..., n[0] // 2, :] = 0
    if n[1] % 2 == 0:
        spectrum[..., n[1] // 2] = 0
    return torch.fft.ifft2(spectrum).real


@pytest.mark.parametrize("modes", [(0, 3), (2, 0), (1, 5), (-3, 4), (11, 15)])
def test_one_wave(modes):
    """ω = 3 cos(k·x + 1): E = 9/(4k²), Z = 9/4, P = 9k²/4, all in the shell of |k|; nothing moves."""
    n, length = (24, 32), (math.pi, TAU)
    y, x = points(n, length)
    ky, kx = 2 * modes[0], modes[1]
    vorticity = 3 * torch.cos(ky * y + kx * x + 1)[None, None]
    k2 = kx**2 + ky**2
    shell = round(math.sqrt(k2)) - 1
    assert float(spectra.shell_wavenumbers(n, length)[shell]) == pytest.approx(shell + 1, rel=1e-12)
    for function, total in ((spectra.energy_spectrum, 2.25 / k2), (spectra.enstrophy_spectrum, 2.25)):
        made = function(vorticity, length)[0]
        assert float(made[shell]) == pytest.approx(total, rel=1e-12)
        made[shell] = 0
        assert float(made.abs().max()) < 1e-13 * total
    assert float(spectra.kinetic_energy(vorticity, length)) == pytest.approx(2.25 / k2, rel=1e-12)
    assert float(spectra.enstrophy(vorticity)) == pytest.approx(2.25, rel=1e-12)
    assert float(spectra.palinstrophy(vorticity, length)) == pytest.approx(2.25 * k2, rel=1e-12)
    assert float(spectra.enstrophy_transfer(vorticity, length).abs().max()) < 1e-11


def test_taylor_green():
    """ψ = sin(2x) sin(2y): u² + v² averages to 2, ω = 8ψ, |k|² = 8 of every mode, u·∇ω = 0."""
    n, length = (24, 32), (math.pi, TAU)
    y, x = points(n, length)
    vorticity = 8 * (torch.sin(2 * x) * torch.sin(2 * y))[None, None]
    assert float(spectra.kinetic_energy(vorticity, length)) == pytest.approx(1, rel=1e-12)
    assert float(spectra.enstrophy(vorticity)) == pytest.approx(8, rel=1e-12)
    assert float(spectra.palinstrophy(vorticity, length)) == pytest.approx(64, rel=1e-12)
    assert float(spectra.energy_spectrum(vorticity, length)[0, 2]) == pytest.approx(1, rel=1e-12)
    assert float(spectra.advection(vorticity, length).abs().max()) < 1e-12


@pytest.mark.parametrize(("n", "length"), BOXES)
def test_spectra_against_the_full_transform(n, length):
    """White noise with all its modes and a mean: a loop over the modes of numpy's full complex transform."""
    values = torch.randn(2, 1, *n, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 0.3
    w = np.fft.fft2(values[:, 0].numpy()) / math.prod(n)
    k = spectra.shell_wavenumbers(n, length).numpy()
    energy, enstrophy = np.zeros((2, len(k))), np.zeros((2, len(k)))
    for i in range(n[0]):
        for j in range(n[1]):
            my, mx = (m if m <= size / 2 else m - size for m, size in ((i, n[0]), (j, n[1])))
            size = TAU * math.hypot(my / length[0], mx / length[1])
            if size:
                nearest = int(np.abs(k - size).argmin())
                energy[:, nearest] += 0.5 * np.abs(w[:, i, j]) ** 2 / size**2
                enstrophy[:, nearest] += 0.5 * np.abs(w[:, i, j]) ** 2
    np.testing.assert_allclose(spectra.energy_spectrum(values, length), energy, rtol=1e-10)
    np.testing.assert_allclose(spectra.enstrophy_spectrum(values, length), enstrophy, rtol=1e-10)
    mean = values.mean((1, 2, 3))
    parseval = spectra.enstrophy_spectrum(values, length).sum(-1) + 0.5 * mean**2
    torch.testing.assert_close(parseval, spectra.enstrophy(values), rtol=1e-12, atol=0)


def test_transfer_of_a_triad():
    """ω = Σ aᵢ cos(kᵢ·x + φᵢ), k₁ + k₂ + k₃ = 0, Σφ = 0: T_Z(k₃) = −¼ a₁a₂a₃ (k₁ × k₂)(1/k₁² − 1/k₂²), cyclic, and
    T_E = T_Z/k²: the middle wave feeds both others, or both feed it (Fjørtoft)."""
    n, length = (32, 32), (TAU, TAU)
    y, x = points(n, length)
    k, a, phase = [(3, 0), (1, 6), (-4, -6)], [2.0, 3.0, 5.0], [0.4, 1.1, -1.5]
    waves = [b * torch.cos(kx * x + ky * y + p) for (kx, ky), b, p in zip(k, a, phase, strict=True)]
    vorticity = torch.stack([sum(waves)[None], -sum(waves)[None]])
    cross = k[0][0] * k[1][1] - k[0][1] * k[1][0]
    squares = [kx**2 + ky**2 for kx, ky in k]
    expected = torch.zeros(2, len(spectra.shell_wavenumbers(n, length)), dtype=torch.float64)
    for i in range(3):
        one, two = squares[(i + 1) % 3], squares[(i + 2) % 3]
        expected[0, round(math.sqrt(squares[i])) - 1] = -0.25 * math.prod(a) * cross * (1 / one - 1 / two)
    expected[1] = -expected[0]  # a cubic quantity
    made = spectra.enstrophy_transfer(vorticity, length)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)
    factor = torch.zeros_like(expected[0])
    factor[[2, 5, 6]] = 1 / torch.tensor(squares, dtype=torch.float64)
    torch.testing.assert_close(spectra.energy_transfer(vorticity, length), expected * factor, rtol=0, atol=1e-12)
    assert float(made[0, 5] * made[0, 2]) < 0
    assert float(made[0, 5] * made[0, 6]) < 0


def aliased(vorticity, length):
    """u·∇ω with the products formed on the grid itself: what `advection` must not be."""
    ky, kx = (1j * k for k in Grid(tuple(vorticity.shape[-2:]), length).odd_wavenumbers())
    w = torch.fft.rfft2(vorticity)
    k2 = -(ky**2 + kx**2).real
    psi = w / k2.where(k2 > 0, torch.inf)
    u, v, wx, wy = (torch.fft.irfft2(f, s=vorticity.shape[-2:]) for f in (ky * psi, -kx * psi, kx * w, ky * w))
    return u * wx + v * wy


@pytest.mark.parametrize("power", [-2, 0])
@pytest.mark.parametrize(("n", "length"), BOXES)
def test_advection_conserves(n, length, power):
    """Σ_k T = 0 to rounding for any field below Nyquist; products that alias give and take by per cents."""
    vorticity = noise(n)
    transfer = -spectra.cospectrum(vorticity, spectra.advection(vorticity, length), length, power)
    turned_over = transfer.abs().sum(-1)
    assert float((transfer.sum(-1).abs() / turned_over).max()) < 1e-13
    if all(m % 2 == 0 for m in n):
        wrong = -spectra.cospectrum(vorticity, aliased(vorticity, length), length, power)
        assert float((wrong.sum(-1).abs() / wrong.abs().sum(-1)).min()) > 1e-3


@pytest.mark.parametrize(("n", "length"), BOXES)
def test_advection_against_twice_the_cells(n, length):
    """(u·∇)ω, the advective form, by numpy on twice the cells, cut to the modes of the grid."""
    vorticity = noise(n, batch=1)
    fine = refined(vorticity[0, 0].numpy(), n)
    ky, kx, k2 = full_wavenumbers(fine.shape, length)
    w = np.fft.fft2(fine)
    u, v, wx, wy = (np.fft.ifft2(f).real for f in (1j * ky * w / k2, -1j * kx * w / k2, 1j * kx * w, 1j * ky * w))
    product = np.fft.fft2(u * wx + v * wy)
    made = np.fft.fft2(refined(spectra.advection(vorticity, length)[0, 0].numpy(), n))
    below = (np.abs(np.fft.fftfreq(2 * n[0], 1 / n[0] / 2)) < n[0] / 2)[:, None] & (
        np.abs(np.fft.fftfreq(2 * n[1], 1 / n[1] / 2)) < n[1] / 2
    )
    assert np.abs(made - product * below).max() < 1e-12 * np.abs(product).max()
    assert np.abs(product * ~below).max() > 1e-3 * np.abs(product).max()


def refined(values, n):
    """The same field on twice the cells each way; no Nyquist modes."""
    w = np.fft.fftshift(np.fft.fft2(values))
    pad = [(m - m // 2, m // 2) for m in n]  # fftshift puts mode 0 at m // 2 of m, and wants it at m of 2m
    return 4 * np.fft.ifft2(np.fft.ifftshift(np.pad(w, pad))).real


def full_wavenumbers(n, length):
    ky, kx = (TAU * np.fft.fftfreq(m, side / m) for m, side in zip(n, length, strict=True))
    k2 = ky[:, None] ** 2 + kx[None, :] ** 2
    k2[0, 0] = np.inf
    return ky[:, None], kx[None, :], k2


@pytest.mark.parametrize(("n", "length"), BOXES)
def test_fluxes_against_filtering(n, length):
    """Π_E(K) = −⟨τᵢⱼ ∂ᵢ ūⱼ⟩ and Π_Z(K) = −⟨σᵢ ∂ᵢ ω̄⟩ in physical space, with the sharp filter | k | ≤ K + ½, the stress
    τᵢⱼ of uᵢuⱼ and the flux σᵢ of uᵢω that the filter leaves out."""
    vorticity = noise(n, batch=1, seed=1)
    fine = refined(vorticity[0, 0].numpy(), n)
    ky, kx, k2 = full_wavenumbers(fine.shape, length)
    energy, enstrophy = spectra.energy_flux(vorticity, length)[0], spectra.enstrophy_flux(vorticity, length)[0]
    wavenumbers = spectra.shell_wavenumbers(n, length).numpy()
    shell = np.rint(np.sqrt(np.where(np.isinf(k2), 0, k2)) / wavenumbers[0])
    w = np.fft.fft2(fine)
    u = [np.fft.ifft2(f).real for f in (1j * ky * w / k2, -1j * kx * w / k2)]
    grad = (1j * kx, 1j * ky)
    for i in range(len(wavenumbers)):
        keep = shell <= i + 1

        def low(f, keep=keep):
            return np.fft.ifft2(np.fft.fft2(f) * keep).real

        def d(f, a):
            return np.fft.ifft2(np.fft.fft2(f) * grad[a]).real

        low_u, low_w = [low(c) for c in u], low(fine)
        flux_z = -sum(((low(u[a] * fine) - low_u[a] * low_w) * d(low_w, a)).mean() for a in (0, 1))
        flux_e = -sum(
            ((low(u[a] * u[b]) - low_u[a] * low_u[b]) * d(low_u[b], a)).mean() for a in (0, 1) for b in (0, 1)
        )
        assert float(energy[i]) == pytest.approx(flux_e, abs=1e-12 * float(energy.abs().max()))
        assert float(enstrophy[i]) == pytest.approx(flux_z, abs=1e-12 * float(enstrophy.abs().max()))


def test_spectra_follow_the_solver():
    """∂E(k)/∂t = T_E(k) − 2ν k²E(k) − 2μE(k) + injection, shell by shell, and likewise Z(k), against the solver's own
    trajectory on a rectangle by differences of fourth order in time."""
    grid, interval, viscosity, drag = Grid.box([24, 32], [math.pi, TAU]), 1e-3, 1e-2, 0.3
    y, x = grid.coordinates()
    forcing = torch.cos(4 * y)[:, None] + torch.sin(2 * x)[None, :]
    solver = NavierStokes2D(grid, viscosity=viscosity, drag=drag, forcing=forcing, interval=interval, dt=interval,
                            dtype=torch.float64)  # fmt: skip
    start = torch.fft.rfft2(noise(grid.n, batch=1)) * grid.retained()
    states = [10 * torch.fft.irfft2(start / (1 + sum(k**2 for k in grid.wavenumbers())), s=grid.n)]
    for _ in range(4):
        states.append(solver(states[-1]))
    now = states[2]
    for power, transfer in ((-2, spectra.energy_transfer), (0, spectra.enstrophy_transfer)):
        content = [0.5 * spectra.cospectrum(s, s, grid.length, power) for s in states]
        change = (content[0] - 8 * content[1] + 8 * content[3] - content[4]) / (12 * interval)
        lost = viscosity * spectra.cospectrum(now, now, grid.length, power + 2) + 2 * drag * content[2]
        fed = spectra.cospectrum(now, forcing, grid.length, power)
        moved = transfer(now, grid.length)
        torch.testing.assert_close(change, moved - lost + fed, rtol=0, atol=1e-7 * float(moved.abs().max()))
        assert float((change + lost - fed).abs().max()) > 0.5 * float(moved.abs().max())  # the control: no transfer


def test_transfers_under_the_square():
    """Turned and mirrored as a pseudoscalar, a flow moves the same; as a plain scalar, a mirror turns it backwards."""
    vorticity = noise((16, 16), batch=1)
    length = (TAU, TAU)
    expected = spectra.enstrophy_transfer(vorticity, length)
    for g in D4:
        made = spectra.enstrophy_transfer(act(VORTICITY, vorticity, g), length)
        torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)
        if g.determinant < 0:
            wrong = spectra.enstrophy_transfer(act(FieldSpec("scalar", 0, 1), vorticity, g), length)
            torch.testing.assert_close(wrong, -expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "function", [spectra.energy_spectrum, spectra.enstrophy_spectrum, spectra.energy_flux, spectra.enstrophy_flux]
)
def test_precision_device_and_gradient(function):
    n, length = (24, 32), (math.pi, TAU)
    vorticity = noise(n)
    expected = function(vorticity, length)
    made = function(vorticity.float(), length)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    # Every constant follows the field to its device: any that stayed on the CPU would raise.
    assert function(vorticity.to("meta"), length).device.type == "meta"
    small = noise((5, 6)).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: function(w, length), small)
