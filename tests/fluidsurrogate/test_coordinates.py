"""Places and times are the same within a fraction of the cell and of the interval, whatever the clock reads."""

import inspect

import numpy as np
import pytest
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import UsageError
from fluidsurrogate.data.conversion import to_dataset, to_states
from fluidsurrogate.data.coordinates import box_sides, select_time
from fluidsurrogate.data.grids import grid_of, is_same_grid
from fluidsurrogate.data.layout import grid_coordinates
from fluidsurrogate.data.schema import check_matches
from fluidsurrogate.evaluation.metrics import METRICS
from solvers import VORTICITY, Grid, StateSpec

HOUR = np.timedelta64(1, "h")


def dataset(time, n=(8, 12), length=(2.0, 3.0)):
    """Noise, its first time followed by copies that are scaled, so that every time has an error of its own."""
    values = np.random.default_rng(0).standard_normal((2, 1, *n)) * (1 + 0.1 * np.arange(len(time)))[:, None, None]
    coords = {"trajectory": [0, 1], "time": time, **grid_coordinates(Grid(n, length))}
    return xr.Dataset({"vorticity": (("trajectory", "time", "y", "x"), values)}, coords)


CLOCKS = {
    "seconds": 0.25 * np.arange(6),
    "unix seconds, hourly": 1.7e9 + 3600.0 * np.arange(6),
    "unix seconds": 1.7e9 + 0.25 * np.arange(6),
    "nanoseconds": 1e-9 * np.arange(6),
    "whole nanoseconds": 1_700_000_000_000_000_000 + 10**9 * np.arange(6),
    "dates": np.datetime64("2020-01-01", "s") + np.arange(6) * HOUR,
    "lead times": np.arange(6) * HOUR,
}


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS)
@pytest.mark.parametrize("by", [1, 3])
def test_another_time_is_never_taken_for_the_same(clock, by):
    data = dataset(clock)
    same = fs.compare({"f": data}, data)
    np.testing.assert_array_equal(same["nrmse"], 0)
    late, early = data.isel(time=slice(by, None)), data.isel(time=slice(0, -by))
    with pytest.raises(UsageError, match=r"its time differs from the truth's: .+ against .+") as error:
        fs.compare({"f": late}, early)
    here, there = str(error.value).partition("truth's: ")[2].split(" against ")
    assert here != there
    with pytest.raises(UsageError, match="time differs"):
        METRICS["nrmse"](late, early)


def test_a_tenth_of_an_interval_is_another_time_and_a_thousandth_is_none():
    truth = dataset(1e6 + 0.25 * np.arange(6))
    near = truth.assign_coords(time=truth["time"] + 2e-4)
    np.testing.assert_array_equal(fs.compare({"f": near}, truth)["nrmse"], 0)
    with pytest.raises(UsageError, match=r"1000000.025 against 1000000$"):
        fs.compare({"f": truth.assign_coords(time=truth["time"] + 0.025)}, truth)


def test_boxes_of_any_size_are_told_apart():
    small, large = dataset(np.arange(3), length=(2e-7, 3e-7)), dataset(np.arange(3), length=(4e-7, 6e-7))
    with pytest.raises(UsageError, match="its y differs"):
        fs.compare({"f": large}, small)
    assert not is_same_grid(grid_of(large), grid_of(small))
    spec = StateSpec(Grid((8, 12), (2e-7, 3e-7)), (VORTICITY,), 1.0)
    assert to_states(small, spec).shape == (2, 3, 1, 8, 12)
    with pytest.raises(UsageError, match=r"grid is .* 4e-07 x 6e-07; expected .* 2e-07 x 3e-07"):
        check_matches(large, spec)


def test_grids_differ_by_fractions_of_a_cell():
    """A thousand cells: 1e-4 of the side would be a tenth of a cell."""
    grid = Grid((1000, 1000), (1.0, 1.0))
    assert is_same_grid(Grid((1000, 1000), (1.0 + 5e-7, 1.0)), grid)
    assert not is_same_grid(Grid((1000, 1000), (1.0, 1.0 + 1e-4)), grid)
    spec = StateSpec(grid, (VORTICITY,), 1.0)
    with pytest.raises(UsageError, match=r"cells on 1.000004 x 1; expected 1000 x 1000 cells on 1 x 1$"):
        check_matches(dataset(np.arange(2.0), (1000, 1000), (1.000004, 1.0)), spec)


@pytest.mark.parametrize(("interval", "stored"), [(1e-9, 5e-9), (1.0, 1.01), (86400.0, 86500.0), (1e-9, 0.0)])
def test_the_interval_is_compared_by_its_own_size(interval, stored):
    spec = StateSpec(Grid((8, 12), (2.0, 3.0)), (VORTICITY,), interval)
    check_matches(dataset(interval * np.arange(4)), spec)
    with pytest.raises(UsageError, match=f"interval is {stored:.9g}; expected {interval:.9g}"):
        check_matches(dataset(stored * np.arange(4)), spec)


def test_times_that_a_model_reads_are_times_that_compare_aligns():
    """An interval that is a little off counts up: what is read has every time within a thousandth of an interval."""
    spec = StateSpec(Grid((8, 12), (2.0, 3.0)), (VORTICITY,), 1.0)
    ours = dataset(1.0 * np.arange(50))
    for off, fits in ((1e-5, True), (1e-4, False)):
        theirs = ours.assign_coords(time=(1 + off) * ours["time"])
        for reads in (lambda d: check_matches(d, spec), lambda d: fs.compare({"f": d}, ours, metrics=[])):
            if fits:
                reads(theirs)
            else:
                with pytest.raises(UsageError):
                    reads(theirs)


@pytest.mark.parametrize("first", [0.0, 1e4, 1e6, 1e8, 1.7e9])
def test_start_is_a_stored_time(trained, first):
    data, models = trained
    model, interval = models["small-cnn"], float(data["time"][1] - data["time"][0])
    late = data.assign_coords(time=first + interval * np.arange(data.sizes["time"]))
    for ask in (first + 2.4 * interval, first + (data.sizes["time"] + 2) * interval, first - interval):
        with pytest.raises(UsageError, match=r"no stored time; the nearest is \d") as error:
            fs.forecast(model, late, 1, start_time=ask)
        start, nearest = str(error.value).split(" is no stored time; the nearest is ")
        assert float(start.removeprefix("start_time = ")) == pytest.approx(ask, abs=1e-6)
        assert float(nearest) in late["time"].values
    forecast = fs.forecast(model, late, 1, start_time=first + 2 * interval)
    assert float(forecast["time"][0]) == first + 2 * interval
    np.testing.assert_array_equal(forecast["vorticity"][:, 0], data["vorticity"][:, 2])


def test_start_that_is_no_number():
    data = dataset(np.arange(3.0))
    assert select_time(data, 2, 1.0)["time"] == 2
    with pytest.raises(UsageError, match="start_time = nan is no stored time"):
        select_time(data, float("nan"), 1.0)
    anything = inspect.unwrap(select_time)  # without the check of types that tests have and users have not
    assert anything(data, data["time"][2], 1.0)["time"] == 2
    with pytest.raises(UsageError, match="start_time must be a number, one of the stored times"):
        anything(data, np.datetime64("2020-01-01"), 1.0)


def test_a_clock_that_its_type_does_not_resolve_is_refused():
    """Near 1e8 single precision goes in steps of 8: a quarter of a second is not in it."""
    spec = StateSpec(Grid((8, 12), (2.0, 3.0)), (VORTICITY,), 0.25)
    data = dataset(1e8 + 0.25 * np.arange(6))
    check_matches(data, spec)
    coarse = data.assign_coords(time=data["time"].astype(np.float32))
    with pytest.raises(UsageError, match=r"'time' is stored as float32, in steps of 8 near 1e\+08: too coarse for"):
        check_matches(coarse, spec)
    with pytest.raises(UsageError, match="must increase from value to value"):
        fs.compare({"f": coarse}, coarse)
    with pytest.raises(UsageError, match=r"float32 is too coarse for a spacing of 0.25: store it as float64"):
        fs.compare({"f": data.assign_coords(time=(1e8 + 8.0 * np.arange(6)).astype(np.float32))}, data)
    fine = dataset(1e3 + 0.25 * np.arange(6))
    check_matches(fine.assign_coords(time=fine["time"].astype(np.float32)), spec)


def test_sides_are_those_of_even_increasing_cells():
    data = dataset(np.arange(2))
    np.testing.assert_allclose(box_sides(data), (2.0, 3.0))
    np.testing.assert_allclose(box_sides(data.assign_coords(y=data["y"] + 5e6)), (2.0, 3.0), rtol=1e-6)
    single = data.assign_coords({a: data[a].astype(np.float32) for a in "yx"})
    np.testing.assert_allclose(box_sides(single), (2.0, 3.0), rtol=1e-6)
    whole = data.assign_coords(y=np.arange(8), x=np.arange(12, dtype=np.int16))
    assert box_sides(whole) == (8.0, 12.0)
    stretched = data.assign_coords(x=np.linspace(0, 1, 12) ** 2)
    for spoilt, said in (
        (
            data.isel(y=slice(None, None, -1)),
            "y must be cell centres that increase; it decreases: sortby.'y'. turns it",
        ),
        (data.isel(y=slice(None, None, -1), x=slice(None, None, -1)), "sortby.'y'. turns it"),
        (stretched, "x must be cell centres with one spacing; its spacing is 0.00826446 to 0.173554"),
        (data.isel(x=[0, 1, 3, 2, 4, 5]), "x must be cell centres with one spacing"),
        (data.isel(x=[0, 1, 2, 4]), "x must be cell centres with one spacing"),
        (data.assign_coords(x=np.zeros(12)), "x must be cell centres with one spacing"),
        (data.assign_coords(x=data["x"].where(data["x"] > 1)), "'x' holds NaN"),
        (data.assign_coords(x=list("abcdefghijkl")), "'x' must be numbers along x"),
        (data.assign_coords(y=(data["y"] + 5e6).astype(np.float32)), "stored as float32, in steps of 0.5 near 5e"),
    ):
        for read in (box_sides, grid_of, lambda d: fs.compare({"f": d}, d)):
            with pytest.raises(UsageError, match=said) as error:
                read(spoilt)
            assert "\n" not in str(error.value)


def test_times_that_do_not_increase():
    data = dataset(np.arange(4.0))
    for time in ([3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 1.0, 2.0], [0.0, 2.0, 1.0, 3.0]):
        with pytest.raises(UsageError, match="its time must increase"):
            fs.compare({"f": data.assign_coords(time=time)}, data.assign_coords(time=time))
    with pytest.raises(UsageError, match="its time holds values that are missing"):
        fs.compare({"f": data.assign_coords(time=[0, 1, np.nan, 3])}, data)
    dates = data.assign_coords(time=np.array(["2020-01-01", "2020-01-02", "NaT", "2020-01-04"], dtype="M8[s]"))
    with pytest.raises(UsageError, match="its time holds values that are missing"):
        fs.compare({"f": dates}, dates)


def test_clocks_of_two_kinds():
    data = dataset(np.arange(3.0))
    dates = data.assign_coords(time=np.datetime64("2020-01-01", "s") + np.arange(3) * HOUR)
    with pytest.raises(UsageError, match=r"must be numbers, or datetime64 .*got datetime64\[s\] and float64"):
        fs.compare({"f": dates}, data)
    fine = dates.assign_coords(time=dates["time"].astype("M8[ns]"))
    np.testing.assert_array_equal(fs.compare({"f": fine}, dates)["nrmse"], 0)
    cftime = pytest.importorskip("cftime")
    other = data.assign_coords(time=[cftime.DatetimeNoLeap(2000, 1, 1, hour) for hour in range(3)])
    with pytest.raises(UsageError, match="got DatetimeNoLeap") as error:
        fs.compare({"f": other}, other)
    assert "\n" not in str(error.value)


def test_labels_of_trajectories_are_the_same_or_not():
    data = dataset(np.arange(3.0))
    for labels in (["run-a", "run-b"], [1000000, 1000001], [7, 7]):
        named = data.assign_coords(trajectory=labels)
        scores = fs.compare({"f": 1.1 * named}, named)
        np.testing.assert_allclose(scores["nrmse"][0, 1:], 0.1)
        assert scores["trajectory"].values.tolist() == labels
    with pytest.raises(UsageError, match="its trajectory differs from the truth's: 1000001 against 1000000"):
        fs.compare({"f": data.assign_coords(trajectory=[1000001, 1000002])},
                   data.assign_coords(trajectory=[1000000, 1000001]))  # fmt: skip
    with pytest.raises(UsageError, match="its trajectory differs from the truth's: b against a"):
        fs.compare({"f": data.assign_coords(trajectory=["b", "a"])}, data.assign_coords(trajectory=["a", "b"]))


@pytest.mark.parametrize(
    ("variable", "units", "fits"),
    [("time", "s", True), ("time", "h", False), ("x", "km", False), ("vorticity", "h-1", False),
     ("vorticity", "1/s", True), ("vorticity", "1", True)],
)  # fmt: skip
def test_units_are_the_truths(variable, units, fits):
    truth = to_dataset(
        StateSpec(Grid.square(8), (VORTICITY,), 1.0), torch.randn(1, 3, 1, 8, 8), inputs=None
    )  # with units in its attributes
    forecast = truth.copy()
    forecast[variable] = truth[variable].assign_attrs(units=units)
    if fits:
        np.testing.assert_array_equal(fs.compare({"f": forecast}, truth)["nrmse"], 0)
    else:
        with pytest.raises(UsageError, match=f"its {variable} has units '{units}', the truth's '"):
            fs.compare({"f": forecast}, truth)


def test_a_single_trajectory_keeps_its_label(trained):
    data, models = trained
    one = data.isel(trajectory=4)
    forecast = fs.forecast(models["small-cnn"], one, 2)
    assert forecast["trajectory"].values.tolist() == [4]
    error = fs.compare({"f": forecast}, one.isel(time=slice(0, 3)))["nrmse"]
    both = fs.compare({"f": fs.forecast(models["small-cnn"], data, 2)}, data.isel(time=slice(0, 3)), metrics=[])
    assert error.shape == both["nrmse"].shape


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(lambda d: d.isel(trajectory=[]), "the truth is empty"),
     (lambda d: d.isel(x=slice(0, 0)), "the truth is empty"),
     (lambda d: d.rename(x="lon"), "no variable along time, y and x"),
     (lambda d: d.astype(complex), "its 'vorticity' must be real numbers .it is complex128"),
     (lambda d: d.astype(str), "its 'vorticity' must be real numbers"),
     (lambda d: d.astype(object), "its 'vorticity' must be real numbers .it is object")],
)  # fmt: skip
def test_fields_that_cannot_be_compared(spoil, said):
    data = spoil(dataset(np.arange(3.0)))
    for name in ("nrmse", "correlation", "spectral_error_low"):
        with pytest.raises(UsageError, match=said):
            METRICS[name](data, data)
    with pytest.raises(UsageError):
        fs.compare({"f": data}, data)


def test_dims_that_one_side_has_not():
    data = dataset(np.arange(3.0))
    stacked = data.stack(cell=("y", "x"))
    with pytest.raises(UsageError, match="its 'vorticity' has no dimension 'y'"):
        METRICS["nrmse"](stacked, data)
    with pytest.raises(UsageError, match="has no dimension 'y' with a coordinate"):
        fs.compare({"f": stacked}, data)
    one = data.isel(trajectory=1)
    np.testing.assert_array_equal(METRICS["nrmse"](one, one), 0)
    np.testing.assert_array_equal(METRICS["nrmse"](data, one).sel(trajectory=1), 0)
    with pytest.raises(UsageError, match="its 'vorticity' has no dimension 'trajectory'"):
        METRICS["nrmse"](one, data)
    loose = one.drop_vars("trajectory").assign_coords(trajectory=[0, 1])
    with pytest.raises(UsageError, match="'vorticity' of 'f' has no dimension 'trajectory'"):
        fs.compare({"f": loose}, data)
    with pytest.raises(UsageError, match="spectral errors need the variable 'vorticity' or 'velocity'"):
        METRICS["spectral_error_high"](data.rename(vorticity="tracer"), data.rename(vorticity="tracer"))
