"""Tensors to xarray and back: typed, with units, nothing lost."""

import numpy as np
import pytest
import torch

from fluidsurrogate import UsageError
from fluidsurrogate.data.conversion import to_dataset, to_inputs, to_states
from fluidsurrogate.data.grids import grid_of
from fluidsurrogate.data.schema import check_matches
from solvers import FORCING, KNOWN_FIELDS, TRACER, VELOCITY, VORTICITY, FieldSpec, Grid, StateSpec

SPEC = StateSpec(Grid.box([8, 12], [2.0, 3.0]), (VORTICITY, VELOCITY, TRACER), 0.5, (FORCING,))


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


def field(value):
    return ("trajectory", "y", "x"), np.full((3, 8, 12), value)


PLAIN = StateSpec(SPEC.grid, (VORTICITY,), 0.5)
HARMLESS = {
    "no forcing": {"forcing": field(0.0)},
    "no gravity": {"gravity": ("component", [0.0, 0.0])},
    "no drag": {"drag": ((), 0.0)},
    "one viscosity": {"viscosity": ((), 1e-3)},
    "the same viscosity": {"viscosity": ("trajectory", [1e-3] * 3)},
    "one diffusivity": {"diffusivity": ("trajectory", [1e-3] * 3)},
    "a tracer": {"tracer": field(1.0)},
    "the velocity": {"velocity": (("component", "y", "x"), np.ones((2, 8, 12)))},
}
IGNORED = {
    "forcing": field(0.1),
    "gravity": ("component", [0.0, -1.0]),
    "mean_gradient": (("trajectory", "component"), [[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]]),
    "mean_velocity": ("component", [1.0, 0.0]),
    "viscosity": ("trajectory", [1e-3, 1e-3, 2e-3]),
    "drag": ("trajectory", [0.0, 0.1, 0.1]),
    "diffusivity": ("trajectory", [1e-3, 2e-3, 1e-3]),
}


@pytest.mark.parametrize("variables", HARMLESS.values(), ids=HARMLESS)
def test_what_no_step_depends_on_may_be_there(variables):
    check_matches(to_dataset(PLAIN, states()[:, :, :1]).assign(variables), PLAIN)


@pytest.mark.parametrize("coordinate", [False, True], ids=["variable", "coordinate"])
@pytest.mark.parametrize("name", IGNORED)
def test_an_input_that_would_be_ignored_is_refused(name, coordinate):
    dataset = to_dataset(PLAIN, states()[:, :, :1])
    dataset = (dataset.assign_coords if coordinate else dataset.assign)({name: IGNORED[name]})
    with pytest.raises(UsageError) as caught:
        check_matches(dataset, PLAIN)
    assert f"the dataset's {name!r} " in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    check_matches(dataset.drop_vars(name), PLAIN)
    taken = StateSpec(PLAIN.grid, PLAIN.fields, PLAIN.interval, (KNOWN_FIELDS[name],))
    check_matches(dataset, taken)


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [">f8", ">f4", "f2", "i4", ">i2", "u1", "u2", "i8", "longdouble"])
def test_numbers_of_any_type(kind, default):
    """Whole numbers, which every type holds, in a box with whole and single-precision coordinates."""
    values = (10 * states()).round().abs()
    dataset = to_dataset(SPEC, values, inputs={"forcing": torch.ones(3, 1, 8, 12)})
    typed = dataset.astype(kind)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(default)
        for dtype in (torch.float32, torch.float64):
            found = to_states(typed, SPEC, dtype)
            assert found.dtype == dtype
            assert torch.equal(found, values.to(dtype))
            assert torch.equal(to_inputs(typed, SPEC, dtype)["forcing"], torch.ones(3, 1, 8, 12, dtype=dtype))
        for name, c in to_dataset(SPEC, values).coords.items():
            assert c.dtype == dataset[name].dtype, name
    finally:
        torch.set_default_dtype(before)


def test_coordinates_of_any_type():
    dataset = to_dataset(SPEC, states(), inputs={"forcing": torch.ones(3, 1, 8, 12)})
    for kind in ("<f4", ">f4", ">f8"):
        turned = dataset.assign_coords({c: dataset[c].astype(kind) for c in ("time", "y", "x")})
        assert torch.equal(to_states(turned, SPEC), states())
        np.testing.assert_allclose(grid_of(turned).length, (2.0, 3.0), rtol=1e-6)


def test_components_in_either_order():
    dataset = to_dataset(SPEC, states(), inputs={"forcing": torch.ones(3, 1, 8, 12)})
    assert torch.equal(to_states(dataset.isel(component=[1, 0]), SPEC), states())


@pytest.mark.parametrize("time", [[1.5, 1.0, 0.5, 0.0], [0.0, 0.5, 0.5, 1.0]])
def test_times_that_decrease_or_repeat(time):
    dataset = to_dataset(SPEC, states(), inputs={"forcing": torch.ones(3, 1, 8, 12)})
    with pytest.raises(UsageError, match=r"interval is (-0.5|0); expected 0.5"):
        to_states(dataset.assign_coords(time=time), SPEC)
