"""Starts of a user's own: taken exactly or refused in one line, and nothing interpolated, converted or guessed."""

import numpy as np
import pytest
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import UsageError
from fluidsurrogate.data.units import units_compatible


@pytest.fixture(scope="module")
def start(trained):
    """Two starts as a user would write them, by name and coordinates alone."""
    values = trained[0]["vorticity"].isel(trajectory=[0, 1], time=[2])
    return xr.Dataset(
        {"vorticity": (values.dims, values.values)}, {name: values[name].values for name in ("time", "y", "x")}
    )


def through(dataset, path, **encoding):
    dataset.to_netcdf(path, encoding={"vorticity": encoding} if encoding else None)
    with fs.open_data(path) as opened:
        return opened.load()


def rounded(dataset):
    return dataset.assign(vorticity=(dataset["vorticity"] * 8).round() / 8)


TAKEN = {
    "as it is": lambda d, p: d,
    "double precision": lambda d, p: d.astype(np.float64),
    "through NetCDF": lambda d, p: through(d, p),
    "axes in another order": lambda d, p: d.transpose("x", "time", "y", "trajectory"),
    "big-endian": lambda d, p: d.assign(vorticity=d["vorticity"].astype(">f4")),
    "coordinates in single precision": lambda d, p: d.assign_coords(x=d["x"].astype("f4"), y=d["y"].astype("f4")),
    "other spellings of units": lambda d, p: units(d, vorticity="1/s", x="metres", time="seconds"),
    "without units of its own": lambda d, p: units(d, vorticity="1", x="", time="dimensionless"),
    "seconds, through NetCDF": lambda d, p: through(units(d, time="seconds"), p),
    "variables that matter to no step": lambda d, p: d.assign(note=("trajectory", ["a", "b"])),
    "NaN as the value that is none": lambda d, p: attribute(d, _FillValue=np.float32("nan")),
}
EXACT = {
    "packed": lambda d, p: through(rounded(d), p, dtype="i2", scale_factor=0.125, _FillValue=-9999),
    "integers": lambda d, p: rounded(d).assign(vorticity=(d["vorticity"] * 8).round().astype("i4")),
}


def units(dataset, **said):
    dataset = dataset.copy()
    for name, text in said.items():
        dataset[name].attrs["units"] = text
    return dataset


def attribute(dataset, **said):
    return dataset.assign(vorticity=dataset["vorticity"].assign_attrs(said))


def change(name, value):
    return lambda d, p: d.assign({name: value(d)})


def packed(dataset, path):
    through(rounded(dataset), path, dtype="i2", scale_factor=0.125)
    with xr.open_dataset(path, mask_and_scale=False) as opened:
        return opened.load()


def by_trajectory(d):
    return d.isel(time=0, drop=True).assign_coords(time=("trajectory", [0.0, 0.25]))


REFUSED = {
    "another grid": (lambda d, p: d.isel(x=slice(0, 8)), "grid is 16 x 8 cells .*; expected 16 x 16"),
    "coarser cells": (lambda d, p: d.coarsen(x=2, y=2).mean(), "grid is 8 x 8 cells"),
    "another box": (lambda d, p: d.assign_coords(x=d["x"] * 2), "on 6.28319 x 12.5664; expected"),
    "cells that begin at 0": (lambda d, p: d.assign_coords(x=d["x"] - d["x"][0]), "x must be cell centres"),
    "a centred box": (lambda d, p: d.assign_coords(y=d["y"] - np.pi), "y must be cell centres"),
    "decreasing y": (lambda d, p: d.isel(y=slice(None, None, -1)), r"it decreases: sortby\('y'\) turns it"),
    "uneven cells": (lambda d, p: d.assign_coords(x=d["x"] + 0.1 * np.sin(d["x"])), "x must be cell centres"),
    "curved coordinates": (
        lambda d, p: d.drop_vars("x").assign_coords(x=(("y", "x"), np.ones((16, 16)))), "must be numbers along x"),
    "names for coordinates": (lambda d, p: d.assign_coords(x=list("abcdefghijklmnop")), "must be numbers along x"),
    "kilometres": (lambda d, p: units(d, x="km"), "'x' has units 'km'; expected 'm'"),
    "per hour": (lambda d, p: units(d, vorticity="h-1"), "'vorticity' has units 'h-1'; expected 's-1'"),
    "hours": (lambda d, p: units(d, time="hours"), "'time' has units 'hours'; expected 's'"),
    "dates": (lambda d, p: d.assign_coords(time=np.array(["2020-01-01"], "M8[ns]")), "not dates"),
    "times that differ by trajectory": (lambda d, p: by_trajectory(d), "time is along 'trajectory'"),
    "a time that is none": (lambda d, p: d.assign_coords(time=[np.nan]), "time holds NaN"),
    "another interval": (
        lambda d, p: xr.concat([d, d.assign_coords(time=[1.5])], "time"), "interval is 1; expected 0.25"),
    "a time that is missing": (
        lambda d, p: xr.concat([d, d, d], "time").assign_coords(time=[0.0, 0.25, 0.75]), "interval is 0.5; expected"),
    "times twice": (lambda d, p: xr.concat([d, d], "time"), "interval is 0; expected 0.25"),
    "times without a coordinate": (
        lambda d, p: xr.concat([d, d], "time").drop_vars("time"), "time has no coordinate"),
    "a field of no time beside times": (
        lambda d, p: d.isel(time=0, drop=True).assign(other=("time", [1.0, 2.0])).assign_coords(time=[0.0, 0.25]),
        "'vorticity' has no dimension time, but the dataset has 2"),
    "members": (lambda d, p: d.expand_dims(member=2), "the dimension 'member'"),
    "one level": (lambda d, p: d.expand_dims(z=1), "3 dimensions, z, y, x; expected 2"),
    "one row": (lambda d, p: d.assign(vorticity=d["vorticity"].isel(y=0)), "has no dimension 'y'"),
    "still packed": (packed, "opened without decoding .it has the attribute scale_factor"),
    "a value that is none": (lambda d, p: attribute(d, missing_value=-9999.0), "the attribute missing_value"),
    "complex": (lambda d, p: d.assign(vorticity=d["vorticity"] + 1j), "must be real numbers .it is complex"),
    "text": (lambda d, p: d.assign(vorticity=d["vorticity"].astype(str)), "must be real numbers"),
    "NaN": (lambda d, p: d.where(d["x"] > 1), "NaN"),
    "too large": (lambda d, p: d.assign(vorticity=d["vorticity"].astype(float) * 1e300), "too large"),
    "a true scalar": (lambda d, p: attribute(d, tensor_order=0, parity=1), "parity 1; expected 0 and -1"),
    "plates": (lambda d, p: attribute(d, wall_parity=-1), "wall_parity -1; expected 0"),
    "several plates": (lambda d, p: attribute(d, wall_parity=[1, -1]), r"wall_parity \[1, -1\]; expected 0"),
    "nothing": (lambda d, p: d.isel(trajectory=[]), "is empty"),
}  # fmt: skip


@pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN)
def test_taken_exactly(trained, start, tmp_path, make):
    model = trained[1]["small-d4"]
    expected, got = (fs.forecast(model, d, 1) for d in (start, make(start.copy(deep=True), tmp_path / "start.nc")))
    assert np.array_equal(got["vorticity"], expected["vorticity"])
    assert list(got["time"].values) == [0.5, 0.75]


@pytest.mark.parametrize("make", EXACT.values(), ids=EXACT)
def test_numbers_as_they_decode(trained, start, tmp_path, make):
    given = make(start.copy(deep=True), tmp_path / "start.nc")
    stored = fs.forecast(trained[1]["small-d4"], given, 1)["vorticity"].isel(time=0)
    factor = 1 if given["vorticity"].dtype.kind == "f" else 8
    assert np.array_equal(stored, factor * rounded(start)["vorticity"].isel(time=0))


@pytest.mark.filterwarnings("ignore:saving variable vorticity with floating point data as an integer")
@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line(trained, start, tmp_path, make, said):
    given = make(start.copy(deep=True), tmp_path / "start.nc")
    model = trained[1]["small-d4"]
    calls = [lambda: fs.forecast(model, given, 1)]
    calls += [lambda: fs.forecast_to_zarr(model, given, 1, tmp_path / "x.zarr")] if said != "too large" else []
    for call in calls:
        with pytest.raises(UsageError, match=said) as caught:
            call()
        assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "x.zarr").exists()


@pytest.mark.parametrize(
    ("said", "expected"),
    [("1/s", "s-1"), ("s^-1", "s-1"), ("s**-1", "s-1"), ("s⁻¹", "s-1"), ("Hz", "s-1"), ("rad/s", "s-1"), ("", "K"),
     ("m/s", "m s-1"), ("m s^-2 K^-1", "m s-2 K-1"), ("m/s2/K", "m s-2 K-1"), ("m**2/s", "m2 s-1"), ("m·s⁻¹", "m s-1")],
)  # fmt: skip
def test_spellings_of_units(said, expected):
    assert units_compatible(said, expected)


@pytest.mark.parametrize(
    ("said", "expected"),
    [("h-1", "s-1"), ("1/day", "s-1"), ("s", "s-1"), ("km", "m"), ("cm/s", "m s-1"), ("degC", "K"), ("m2/s", "m s-1"),
     ("%", "1"), ("1e-5 s-1", "s-1"), ("m", "1"), ("10 s-1", "s-1"), ("degrees_east", "m")],
)  # fmt: skip
def test_other_units(said, expected):
    assert not units_compatible(said, expected)


def test_chunks_that_are_cut_off(trained, start, tmp_path):
    path = tmp_path / "start.zarr"
    start.to_zarr(path, consolidated=False)
    for chunk in (path / "vorticity" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(chunk.read_bytes()[:20])
    with fs.open_data(path) as given:
        for call in (lambda: fs.forecast(trained[1]["small-d4"], given, 1),
                     lambda: fs.forecast_to_zarr(trained[1]["small-d4"], given, 1, tmp_path / "x.zarr")):  # fmt: skip
            with pytest.raises(UsageError, match=r"start.zarr: variable 'vorticity' cannot be read: ") as caught:
                call()
            assert len(str(caught.value).splitlines()) == 1
