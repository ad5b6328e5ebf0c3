"""Cell-centred grids and exact transfer between them, against direct sums of cosines."""

import math

import numpy as np
import pytest
import torch

from solvers import D4, Grid, resample
from solvers.grid import sample_modes
from solvers.point_groups import MIRROR_DIAGONAL
from solvers.symmetry import move

REACH = 15
OUTSIDE_DIAGONAL = [g for g in D4.elements[1:] if g != MIRROR_DIAGONAL]


def cosines(grid, seed=0, limits=(REACH, REACH)):
    """Σ a cos(k·x + φ) over random modes (my, mx), those beyond `limits` left out, summed at the cell centres."""
    rng = np.random.default_rng(seed)
    (ny, nx), (ly, lx) = grid.n, grid.length
    y, x = (np.arange(ny) + 0.5)[:, None] * ly / ny, (np.arange(nx) + 0.5)[None, :] * lx / nx
    field = np.zeros((ny, nx))
    for my in range(-REACH, REACH + 1):
        for mx in range(REACH + 1):
            amplitude, phase = rng.standard_normal(), rng.uniform(0, 2 * math.pi)
            if abs(my) <= limits[0] and mx <= limits[1]:
                field += amplitude * np.cos(2 * math.pi * (my * y / ly + mx * x / lx) + phase)
    return torch.from_numpy(field)


def distance(a, b):
    return float((a - b).norm() / b.norm())


def naive_crop(field, target):
    """Truncation of the spectrum without the shift between the two grids' cell centres."""
    half = target.n[0] // 2
    spectrum = torch.fft.rfft2(field)[:, :half]
    spectrum = torch.cat([spectrum[:half], torch.zeros(1, half, dtype=spectrum.dtype), spectrum[1 - half :]])
    return torch.fft.irfft2(spectrum, s=target.n) * math.prod(target.n) / field.numel()


def test_samples_sit_at_cell_centres():
    grid = Grid((8, 16), (2.0, 8.0))
    y, x = grid.coordinates()
    assert grid.spacing == (0.25, 0.5)
    np.testing.assert_allclose(y, np.linspace(0.125, 1.875, 8), rtol=1e-15)
    np.testing.assert_allclose(x, np.linspace(0.25, 7.75, 16), rtol=1e-15)


def test_a_mirror_is_a_flip_only_for_cell_centres():
    grid = Grid.square(16)
    x = grid.coordinates()[1]
    field, mirrored = torch.sin(x + 0.3), torch.sin(2 * math.pi - x + 0.3)
    assert distance(field.flip(-1), mirrored) < 1e-14
    nodes = x - grid.spacing[1] / 2
    assert distance(torch.sin(nodes + 0.3).flip(-1), torch.sin(2 * math.pi - nodes + 0.3)) > 1e-1


@pytest.mark.parametrize("n", [(7, 8), (8, 9), (6, 8), (0, 0), (-8, 8)])
def test_odd_and_tiny_n_are_refused(n):
    with pytest.raises(ValueError, match="n must be even and at least 8"):
        Grid(n)


@pytest.mark.parametrize("length", [0.0, -1.0, math.inf, math.nan])
def test_bad_length_is_refused(length):
    with pytest.raises(ValueError, match="length must be positive and finite"):
        Grid((8, 8), (1.0, length))


def test_a_quarter_turn_needs_equal_cells_and_sides():
    assert Grid.square(8).is_square
    assert not Grid((8, 16)).is_square
    assert not Grid((8, 8), (1.0, 2.0)).is_square


@pytest.mark.parametrize("n", [(16, 16), (48, 48), (24, 64), (32, 32)])
def test_resample_is_the_band_limited_function_at_the_new_cell_centres(n):
    source, target = Grid((32, 32), (3.0, 2.0)), Grid(n, (3.0, 2.0))
    limits = tuple(min(32, m) // 2 - 1 for m in n)
    assert distance(resample(cosines(source), source, target), cosines(target, limits=limits)) < 1e-12
    if n == (16, 16):
        assert distance(cosines(source)[::2, ::2], cosines(target, limits=limits)) > 1e-2
        assert distance(naive_crop(cosines(source), target), cosines(target, limits=limits)) > 1e-2


def test_resample_drops_the_nyquist_modes_of_the_coarser_grid():
    fine, coarse = Grid.square(32), Grid.square(16)
    y, x = fine.coordinates()
    nyquist = torch.sin(8 * x)[None, :] * torch.cos(3 * y)[:, None]
    kept = torch.sin(7 * x)[None, :] * torch.cos(3 * y)[:, None]
    assert resample(nyquist, fine, coarse).abs().max() < 1e-14
    assert resample(kept, fine, coarse).abs().max() > 0.5


@pytest.mark.parametrize("n", [16, 48])
@pytest.mark.parametrize("g", D4.elements, ids=lambda g: g.name)
def test_resample_commutes_with_d4(g, n):
    source, target = Grid.square(32), Grid.square(n)
    field = cosines(source, seed=1)
    assert distance(resample(move(field, g), source, target), move(resample(field, source, target), g)) < 1e-12


@pytest.mark.parametrize("g", OUTSIDE_DIAGONAL, ids=lambda g: g.name)
def test_striding_and_the_naive_crop_do_not_commute_with_d4(g):
    field, coarse = cosines(Grid.square(32), seed=1), Grid.square(16)
    assert distance(move(field, g)[::2, ::2], move(field[::2, ::2], g)) > 1e-2
    assert distance(naive_crop(move(field, g), coarse), move(naive_crop(field, coarse), g)) > 1e-2


def test_resample_keeps_the_box():
    with pytest.raises(ValueError, match="the two grids must be of the same box"):
        resample(torch.zeros(8, 8), Grid.square(8, 1.0), Grid.square(16, 2.0))


@pytest.mark.parametrize("n", range(8, 66, 2))
def test_retained_modes_alias_onto_none_of_themselves(n):
    keep = Grid((n, n + 2)).retained()
    for size, used in ((n, keep.any(1)[: n // 2 + 1]), (n + 2, keep.any(0))):
        largest = int(used.nonzero().max())
        assert size >= 3 * largest + 1
        assert size < 3 * (largest + 1) + 1
        assert int(used.sum()) == largest + 1


@pytest.mark.parametrize("n", [16, 18, 20])
def test_products_of_retained_modes_are_exact_on_retained_modes(n):
    grid, fine = Grid.square(n), Grid.square(2 * n)
    largest = (n - 1) // 3

    def error(limit):
        a, b = (cosines(grid, seed, (limit, limit)) for seed in (2, 3))
        exact = cosines(fine, 2, (limit, limit)) * cosines(fine, 3, (limit, limit))
        coarse = torch.fft.rfft2(a * b) * grid.retained()
        return distance(torch.fft.irfft2(coarse, s=grid.n), keep_modes(resample(exact, fine, grid), grid))

    assert error(largest) < 1e-12
    assert error(largest + 2) > 1e-2


def keep_modes(field, grid):
    return torch.fft.irfft2(torch.fft.rfft2(field) * grid.retained(), s=grid.n)


def test_sample_modes_is_the_sum_at_the_cell_centres():
    rng = np.random.default_rng(4)
    modes = rng.standard_normal((7, 3)) + 1j * rng.standard_normal((7, 3))
    modes[:3, 0] = modes[:3:-1, 0].conj()
    modes[3, 0] = modes[3, 0].real
    grid = Grid((10, 8), (2.0, 5.0))
    y, x = (c.numpy() for c in grid.coordinates())
    expected = np.zeros(grid.n)
    for row, my in enumerate(range(-3, 4)):
        for mx in range(3):
            wave = modes[row, mx] * np.exp(2j * math.pi * (my * y[:, None] / 2.0 + mx * x[None, :] / 5.0))
            expected += wave.real * (1 if mx == 0 else 2)
    np.testing.assert_allclose(sample_modes(torch.from_numpy(modes)[None], grid)[0], expected, atol=1e-13)
    with pytest.raises(ValueError, match="too coarse"):
        sample_modes(torch.zeros(1, 9, 3, dtype=torch.complex128), Grid.square(8))
