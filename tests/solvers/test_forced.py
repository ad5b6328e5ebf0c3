"""The forced flows of the neural-operator benchmarks: forcing, start and symmetries as published."""

import math

import numpy as np
import pytest
import torch

from solvers import D4, FLOWS, FORCING, Grid, act

UNIT = Grid.square(32, 1.0)


def forced(**options):
    return FLOWS[2]["forced"](viscosity=1e-3, **options)


def test_forcings_are_those_of_the_papers():
    y, x = (c.numpy() for c in UNIT.coordinates())
    x, y = np.meshgrid(x, y)
    s = 2 * np.pi * (x + y)
    np.testing.assert_allclose(forced().forcing(UNIT), 0.1 * (np.sin(s) + np.cos(s)), atol=1e-14)
    expected = 0.1 * (np.cos(4 * np.pi * x) + np.cos(4 * np.pi * y))
    np.testing.assert_allclose(forced(pattern="cells").forcing(UNIT), expected, atol=1e-14)


@pytest.mark.parametrize("g", D4.elements, ids=lambda g: g.name)
@pytest.mark.parametrize("pattern", ["diagonal", "cells"])
def test_declared_group_is_kept_and_no_more(pattern, g):
    flow = forced(pattern=pattern)
    forcing = flow.forcing(UNIT)
    error = float((act(FORCING, forcing[None], g)[0] - forcing).norm() / forcing.norm())
    assert error < 1e-13 if g in flow.group.elements else error > 1e-2


def test_mirrors_of_the_cells_need_a_shift_by_a_quarter():
    forcing = forced(pattern="cells").forcing(UNIT)
    for g in D4.elements[4:]:
        mirrored = act(FORCING, forcing[None], g)[0]
        torch.testing.assert_close(mirrored.roll((8, 8), (0, 1)), forcing, rtol=0, atol=1e-14)
        assert (mirrored - forcing).norm() > forcing.norm()


@pytest.mark.parametrize(
    ("kind", "options"),
    [("decaying", {}), ("kolmogorov", {}), ("forced", {}), ("forced", {"pattern": "cells"})],
    ids=["decaying", "kolmogorov", "diagonal", "cells"],
)
def test_declared_translations_are_those_that_keep_the_forcing(kind, options):
    """Every shift by whole cells, those that are declared and those that are not."""
    flow, grid = FLOWS[2][kind](viscosity=1e-3, **options), Grid.square(16, 1.0)
    forcing, declared = flow.forcing(grid), flow.translations(grid)
    if forcing is None:
        assert declared.all()
        return
    shifted = torch.stack([torch.stack([forcing.roll((i, j), (0, 1)) for j in range(16)]) for i in range(16)])
    kept = (shifted - forcing).abs().amax((-2, -1)) < 1e-12
    assert torch.equal(kept, declared)
    assert not kept.all()


@pytest.mark.parametrize(("field", "rms"), [("published", 0.262), ("paper", 0.043)])
def test_start_has_the_published_variance(field, rms):
    flow, seeds = forced(field=field), range(400)
    starts = flow.starts(UNIT, seeds)
    assert float(starts.square().mean().sqrt()) == pytest.approx(rms, rel=0.03)
    # E|a_k|² of each mode: 2 · 7³ (4π²k² + 49)^(−5/2) as generated, 7^(3/2) (…)^(−5/2) as written
    power = (np.abs(np.fft.fft2(starts[:, 0].numpy()) / 32**2) ** 2).mean(0)
    k = np.fft.fftfreq(32, 1 / 32)
    k2 = k[:, None] ** 2 + k[None, :] ** 2
    expected = {"published": 2 * 7**3, "paper": 7**1.5}[field] * (4 * math.pi**2 * k2 + 49) ** -2.5
    inside = (np.abs(k)[:, None] <= 10) & (np.abs(k)[None, :] <= 10) & (k2 > 0)
    ratio = power[inside] / expected[inside]
    assert abs(ratio.mean() - 1) < 0.02
    assert np.abs(ratio - 1).max() < 0.3
    assert power[~inside].max() < 1e-30


@pytest.mark.parametrize("option", [{"pattern": "rings"}, {"field": "notes"}])
def test_unknown_names_are_refused(option):
    with pytest.raises(ValueError, match=r"unknown .* one of"):
        forced(**option)
