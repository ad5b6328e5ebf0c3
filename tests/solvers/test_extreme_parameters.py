"""Parameters out of all proportion are refused in a line that names them, at once, before memory is taken for them."""

import time

import pytest
import torch

from solvers import FLOWS, Grid, resample
from solvers.stochastic_forcing import MAX_KICKS

GRID = Grid.square(32)
COARSE = "the grid is too coarse for modes up to"
CASES = [
    ("decaying", {"wavenumber": 1e20}, COARSE),
    ("decaying", {"wavenumber": 1e308}, COARSE),
    ("decaying", {"bandwidth": 1e308}, COARSE),
    (
        "decaying",
        {"bandwidth": 1e-308},
        "no wavenumbers within wavenumber = 4.0 ± 2 bandwidth = 1e-308; widen the band",
    ),
    ("forced", {"modes": 10**5}, COARSE),
    ("forced", {"modes": 10**20}, COARSE),
    ("stirred", {"wavenumber": 1e5}, COARSE),
    ("stirred", {"wavenumber": 1e308}, COARSE),
    ("stirred", {"bandwidth": 1e20}, COARSE),
    ("stirred", {"renewal": 1e-308}, f"renewal must be at least the interval divided by {MAX_KICKS}"),
    ("convection", {"diffusivity": 0.01, "radius": 1e-308}, COARSE),
    ("convection", {"diffusivity": 0.01, "radius": 1e-4}, COARSE),
    ("convection", {"diffusivity": 0.01, "blobs": 10**20}, "blobs must be at most 10000"),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("kind", "options", "message"), CASES, ids=str)
def test_a_flow_out_of_all_proportion(kind, options, message):
    began = time.monotonic()
    with pytest.raises(ValueError, match="^" + message):
        _build(kind, options)
    assert time.monotonic() - began < 1


def _build(kind, options):
    flow = FLOWS[2][kind](viscosity=1e-2, **options)
    flow.solver(GRID, interval=0.25)
    flow.starts(GRID, [0])


@pytest.mark.parametrize("length", [1e-300, 1e-31, 1e31, 1e300])
def test_a_box_that_no_unit_of_length_explains(length):
    with pytest.raises(ValueError, match="length must be from 1e-30 to 1e30"):
        Grid.square(16, length)


def test_a_field_that_is_not_on_the_source_grid_is_not_resampled():
    """It would be cut or padded as if it were, and come out as another field."""
    with pytest.raises(ValueError, match=r"the field must be on the source grid, \(..., 32, 32\); got \(1, 24, 24\)"):
        resample(torch.zeros(1, 24, 24), GRID, Grid.square(16))
    with pytest.raises(ValueError, match="the field must be on the source grid"):
        resample(torch.zeros(1, 24, 24), GRID, GRID)
