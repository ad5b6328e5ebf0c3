"""Each loss against closed forms on waves. What every loss must satisfy is tested on all registered ones: a new loss is
tested without an edit here."""

import math

import pytest
import torch

from fluidsurrogate.nn.losses import LOSSES, LossContext
from fluidsurrogate.nn.losses.norms import squared_norms
from solvers import D4, TRACER, VELOCITY, VORTICITY, Grid, StateSpec, act_on_fields

GRID = Grid.square(16)
SPEC = StateSpec(GRID, (VORTICITY,), 1.0)


def wave(mx, my=0, grid=GRID):
    y, x = grid.coordinates()
    ky, kx = (2 * math.pi * m / side for m, side in zip((my, mx), grid.length, strict=True))
    return torch.cos(kx * x[None, :] + ky * y[:, None])[None, None, None]


def context(spec=SPEC, change=2.0, band=(8, 8)):
    return LossContext(spec, torch.full((spec.components, 1, 1), change, dtype=torch.float64), band)


def value(name, predicted, truth, by=None):
    return float(LOSSES[name](predicted, truth, by or context()))


def test_change_is_the_mean_square_in_units_of_the_change():
    assert value("change", wave(1) + 0.3 * wave(2), wave(1)) == pytest.approx(0.09 / 2 / 4)


@pytest.mark.parametrize("missed", [1, 3, 7])
def test_l2_is_the_same_for_every_wave(missed):
    assert value("l2", 5 * (wave(2) + 0.1 * wave(0, missed)), 5 * wave(2)) == pytest.approx(0.1)


@pytest.mark.parametrize("missed", [1, 3, 7])
def test_h1_weighs_gradients(missed):
    expected = 0.1 * math.sqrt((1 + missed**2) / (1 + 2**2))
    assert value("h1", wave(2) + 0.1 * wave(0, missed), wave(2)) == pytest.approx(expected)


def test_h1_of_a_rectangle_counts_waves_across_the_longer_side():
    grid = Grid((16, 8), (2.0, 1.0))
    by = context(StateSpec(grid, (VORTICITY,), 1.0), band=(8, 4))
    got = value("h1", wave(0, 1, grid) + 0.1 * wave(1, 0, grid), wave(0, 1, grid), by)
    assert got == pytest.approx(0.1 * math.sqrt((1 + 2**2) / (1 + 1)))


def test_h1_counts_the_nyquist_column_once():
    nyquist = wave(8, 0) * math.cos(math.pi / 2) + (-1.0) ** torch.arange(16, dtype=torch.float64)
    direct = nyquist.square().mean()  # Parseval: without the weight, h1's norm is l2's
    ones = torch.ones(16, 9, dtype=torch.float64)
    assert float(squared_norms(nyquist, SPEC.fields, ones)) == pytest.approx(float(direct))


def test_bands_count_alike():
    """Waves 1, 3 and 6 lie in the three bands up to 8: the same relative error in one costs the same in each."""
    truth = wave(1) + 0.1 * wave(0, 3) + 0.01 * wave(6)
    parts = [0.5 * wave(1), 0.05 * wave(0, 3), 0.005 * wave(6)]
    values = [value("bands", truth + part, truth) for part in parts]
    assert values == pytest.approx([0.5 / 3] * 3, rel=1e-3)
    assert value("l2", truth + parts[0], truth) > 50 * value("l2", truth + parts[2], truth)


@pytest.mark.parametrize("name", LOSSES)
def test_moves_with_the_group(name):
    spec = StateSpec(GRID, (VORTICITY, TRACER, VELOCITY), 1.0)
    draw = torch.Generator().manual_seed(1)
    predicted, truth = (torch.randn(2, 3, 4, 16, 16, dtype=torch.float64, generator=draw) for _ in range(2))
    expected = value(name, predicted, truth, context(spec))
    for g in D4.elements:
        moved = [torch.stack([act_on_fields(spec.fields, s, g) for s in states]) for states in (predicted, truth)]
        assert value(name, *moved, context(spec)) == pytest.approx(expected, rel=1e-12)
    # The control: an error along y that is not the error along x.
    assert value(name, predicted.transpose(-1, -2), truth, context(spec)) != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_forecast_has_the_lowest_loss(name):
    spec = StateSpec(GRID, (VORTICITY, TRACER, VELOCITY), 1.0)
    draw = torch.Generator().manual_seed(2)
    truth, error = (torch.randn(2, 3, 4, 16, 16, dtype=torch.float64, generator=draw) for _ in range(2))
    perfect, close, far = (value(name, truth + size * error, truth, context(spec)) for size in (0.0, 0.1, 0.2))
    assert perfect < close < far


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_where_nothing_is_wrong_or_nothing_is_there(name):
    for truth in (wave(1), 0 * wave(1)):
        predicted = truth.float().clone().requires_grad_()
        by = LossContext(SPEC, torch.ones(1, 1, 1), (8, 8))
        loss = LOSSES[name](predicted, truth.float(), by)
        loss.backward()
        assert predicted.grad.isfinite().all()
        assert loss.isfinite()
