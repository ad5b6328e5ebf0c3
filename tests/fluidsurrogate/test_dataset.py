"""Tensors to xarray and back: typed, with units, nothing lost."""

import numpy as np
import pytest
import torch

from fluidsurrogate import UsageError
from fluidsurrogate.dataset import check_matches, grid_of, to_dataset, to_inputs, to_states
from solvers import FORCING, TRACER, VELOCITY, VORTICITY, FieldSpec, Grid, StateSpec

SPEC = StateSpec(Grid.rectangle([8, 12], [2.0, 3.0]), (VORTICITY, VELOCITY, TRACER), 0.5, (FORCING,))


def states():
    return torch.randn(3, 4, 4, 8, 12, generator=torch.Generator().manual_seed(0))


def test_there_and_back():
    values, forcing = states(), torch.randn(3, 1, 8, 12)
    dataset = to_dataset(SPEC, values, inputs={"forcing": forcing})
    assert dataset["velocity"].dims == ("trajectory", "time", "component", "y", "x")
    assert dataset["velocity"].attrs["tensor_order"] == 1
    assert list(dataset["component"].values) == ["x", "y"]
    assert np.array_equal(dataset["velocity"].sel(component="y"), values[:, :, 2])
    assert torch.equal(to_states(dataset, SPEC), values)
    assert torch.equal(to_inputs(dataset, SPEC)["forcing"], forcing)
    assert torch.equal(to_states(dataset.transpose("x", "time", ...), SPEC), values)


def test_grid_is_read_off_the_coordinates():
    grid = grid_of(to_dataset(SPEC, states()))
    assert grid.n == (8, 12)
    np.testing.assert_allclose(grid.length, (2.0, 3.0))


def test_missing_dims_count_as_one():
    dataset = to_dataset(SPEC, states(), inputs={"forcing": torch.ones(3, 1, 8, 12)})
    one = dataset.isel(trajectory=1, time=2)
    assert torch.equal(to_states(one, SPEC)[0, 0], states()[1, 2])
    assert to_inputs(one, SPEC)["forcing"].shape == (1, 1, 8, 12)


def test_one_forcing_for_all_trajectories():
    dataset = to_dataset(SPEC, states())
    dataset["forcing"] = (("y", "x"), np.ones((8, 12)), {"tensor_order": 0, "parity": -1})
    assert to_inputs(dataset, SPEC)["forcing"].shape == (3, 1, 8, 12)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda d: d.drop_vars("tracer"), "no variable 'tracer'; it has vorticity, velocity, forcing"),
        (lambda d: d.assign_coords(y=d["y"] + 0.3), "y must be cell centres"),
        (lambda d: d.isel(y=slice(None, None, -1)), "y must be cell centres"),
        (lambda d: d.isel(time=[0, 1, 3]), "interval"),
        (lambda d: d.assign(tracer=d["tracer"].assign_attrs(parity=-1)), "parity -1; expected 0 and 1"),
    ],
)
def test_what_does_not_match_is_said(spoil, said):
    dataset = to_dataset(SPEC, states(), inputs={"forcing": torch.ones(3, 1, 8, 12)})
    check_matches(dataset, SPEC)
    with pytest.raises(UsageError, match=said):
        check_matches(spoil(dataset), SPEC)


def test_unknown_field_must_say_how_it_transforms():
    spec = StateSpec(SPEC.grid, (FieldSpec("salinity"),), 0.5)
    dataset = to_dataset(spec, states()[:, :, :1])
    check_matches(dataset, spec)
    dataset["salinity"].attrs.clear()
    with pytest.raises(UsageError, match="give it the attributes tensor_order and parity"):
        check_matches(dataset, spec)
