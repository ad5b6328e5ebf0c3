"""Diagnostics as xarray: typed, with units, over all dims."""

import math

import numpy as np
import pytest
import torch
import xarray as xr

from fluidsurrogate import UsageError
from fluidsurrogate.data import conversion
from fluidsurrogate.data.grids import grid_of
from fluidsurrogate.data.layout import grid_coordinates
from fluidsurrogate.evaluation import diagnostics
from fluidsurrogate.evaluation.metrics import METRICS
from solvers import FORCING, VORTICITY, Grid, StateSpec, spectra, turbulence, velocity

SIDES = (math.pi, 2 * math.pi)
SPEC = StateSpec(Grid.box([12, 16], SIDES), (VORTICITY,), 0.5, (FORCING,))
PLANE = {name for name, diagnostic in diagnostics.DIAGNOSTICS.items() if 2 in diagnostic.dimensions}


@pytest.fixture
def data():
    """Three trajectories of two times, each with its viscosity and forcing; noise, on a rectangle."""
    rng = torch.Generator().manual_seed(0)
    states, forcing = torch.randn(3, 2, 1, *SPEC.grid.n, generator=rng), torch.randn(3, 1, *SPEC.grid.n, generator=rng)
    viscosity = ("trajectory", [1e-2, 2e-2, 4e-2], {"units": "m2 s-1"})
    return conversion.to_dataset(SPEC, states, inputs={"forcing": forcing}, coordinates={"viscosity": viscosity},
                              attributes={"drag": 0.3, "viscosity": 7.0})  # fmt: skip


def test_all_dims_alike(trained):
    data, _ = trained
    full = diagnostics.add(data)
    assert set(full.data_vars) > PLANE
    assert full["velocity"].dims == ("trajectory", "time", "component", "y", "x")
    assert full["velocity"].attrs["tensor_order"] == 1
    assert full["pressure"].attrs["units"] == "m2 s-2"
    one = torch.from_numpy(data["vorticity"].values[2, 3])[None, None]
    np.testing.assert_allclose(full["velocity"][2, 3], velocity(one, grid_of(data))[0], atol=1e-6)
    snapshot = diagnostics.add(data.isel(trajectory=2, time=3), "velocity")
    np.testing.assert_allclose(snapshot["velocity"], full["velocity"][2, 3], atol=1e-6)


def test_what_cannot_be_had(trained):
    data, _ = trained
    with pytest.raises(UsageError, match=r"unknown diagnostic 'colour'; one of .*, velocity, "):
        diagnostics.add(data, "colour")
    with pytest.raises(UsageError, match="no variable 'vorticity'"):
        diagnostics.add(data.rename(vorticity="omega"))


def test_numbers_and_spectra_have_dims_and_units(data):
    full = diagnostics.add(data)
    assert set(full.data_vars) > PLANE
    summaries = [n for n in PLANE if isinstance(diagnostics.DIAGNOSTICS[n], diagnostics.SummaryDiagnostic)]
    for name in summaries:
        spectrum = name.endswith(("spectrum", "transfer", "flux"))
        assert full[name].dims == ("trajectory", "time", *(["wavenumber"] if spectrum else [])), name
        assert full[name].dtype == np.float64
        assert full[name].attrs["long_name"]
    np.testing.assert_allclose(full["wavenumber"], np.arange(1, full.sizes["wavenumber"] + 1))
    assert full["wavenumber"].attrs["units"] == "m-1"
    units = {name: full[name].attrs["units"] for name in summaries}
    assert units["energy_flux"] == units["energy_injection"] == "m2 s-3"
    assert units["enstrophy_flux"] == units["enstrophy_drag"] == "s-3"
    assert (units["palinstrophy"], units["dissipation_wavenumber"], units["reynolds_number"]) == ("m-2 s-2", "m-1", "1")
    assert list(full["kinetic_energy"]["viscosity"].values) == [1e-2, 2e-2, 4e-2]


def test_each_trajectory_has_its_own_viscosity_and_forcing(data):
    """One field at a time, as tensors, against all at once, as xarray."""
    full = diagnostics.add(data)
    for i, j in np.ndindex(3, 2):
        w, f = (torch.from_numpy(v.values).double()[None, None] for v in (data["vorticity"][i, j], data["forcing"][i]))
        nu = float(data["viscosity"][i])
        for quantity, budget in (
            ("energy", turbulence.mean_energy_budget),
            ("enstrophy", turbulence.mean_enstrophy_budget),
        ):
            expected = budget(w, SIDES, nu, 0.3, f)
            for term in ("injection", "dissipation", "drag"):
                np.testing.assert_allclose(full[f"{quantity}_{term}"][i, j], getattr(expected, term)[0], rtol=1e-12)
        np.testing.assert_allclose(
            full["reynolds_number"][i, j], turbulence.reynolds_number(w, SIDES, nu)[0], rtol=1e-12
        )
        np.testing.assert_allclose(full["energy_flux"][i, j], spectra.energy_flux(w, SIDES)[0], atol=1e-10)


def test_where_viscosity_drag_and_forcing_come_from(data):
    expected = diagnostics.compute(data, "energy_dissipation")
    variable = diagnostics.compute(data.reset_coords("viscosity"), "energy_dissipation")
    xr.testing.assert_identical(variable, expected.drop_vars("viscosity"))
    attribute = diagnostics.compute(data.drop_vars("viscosity"), "energy_dissipation")
    np.testing.assert_allclose(attribute, expected * 7.0 / data["viscosity"], rtol=1e-12)
    drag = data.assign(drag=("trajectory", [0.0, 0.3, 0.6]))
    ratio = diagnostics.compute(drag, "enstrophy_drag") / diagnostics.compute(data, "enstrophy_drag")
    np.testing.assert_allclose(ratio[:, 0], [0, 1, 2])
    one = diagnostics.add(data.isel(trajectory=1, time=0), "energy_dissipation", "energy_injection")
    np.testing.assert_allclose(one["energy_dissipation"], expected[1, 0], rtol=1e-12)
    assert one["energy_injection"].dims == ()
    same = diagnostics.compute(data.assign(forcing=data["forcing"][0]), "energy_injection")
    np.testing.assert_allclose(same[0], diagnostics.compute(data, "energy_injection")[0], rtol=1e-12)
    assert not diagnostics.compute(data.drop_vars("forcing"), "energy_injection").any()


def test_what_is_left_out_if_none_is_named(data):
    bare = data.drop_vars(["viscosity", "forcing"])
    bare.attrs = {"drag": 0.3, "forcing": "variable 'forcing'"}
    made = set(diagnostics.add(bare)) - set(bare)
    assert PLANE - made == {
        "reynolds_number", "dissipation_wavenumber", "energy_dissipation", "enstrophy_dissipation", "energy_injection",
        "enstrophy_injection",
    }  # fmt: skip


def test_a_stretch_at_a_time_is_all_at_once(data, monkeypatch):
    whole = diagnostics.compute(data, "enstrophy_injection")
    monkeypatch.setattr(conversion, "BATCH_CELLS", 4 * 12 * 16 + 1)  # four, then two
    xr.testing.assert_allclose(diagnostics.compute(data, "enstrophy_injection"), whole, rtol=1e-14)
    reordered = diagnostics.compute(data.transpose("x", "time", "y", "trajectory"), "enstrophy_injection")
    xr.testing.assert_allclose(reordered.transpose(*whole.dims), whole, rtol=1e-12)


def test_scores_are_the_diagnostics(data):
    names = {"energy": "kinetic_energy"} | {n: n for n in ("enstrophy", "energy_spectrum", "enstrophy_spectrum")}
    for score, name in names.items():
        xr.testing.assert_identical(METRICS[score](data, data), diagnostics.compute(data, name))


def test_spectra_need_no_cell_centres(data):
    """Samples that start at 0, an odd number of them: spectra and fluxes as ever, fields refused."""
    x = np.arange(15) * 2 * math.pi / 15
    values = np.cos(3 * x) * np.ones((9, 1))
    nodes = xr.Dataset({"vorticity": (("y", "x"), values)}, {"y": np.arange(9) * math.pi / 9, "x": x})
    np.testing.assert_allclose(diagnostics.compute(nodes, "energy_spectrum").sel(wavenumber=3), 1 / 36)
    np.testing.assert_allclose(diagnostics.compute(nodes, "enstrophy_flux"), 0, atol=1e-14)
    with pytest.raises(UsageError, match="y must be cell centres"):
        diagnostics.compute(nodes, "velocity")


@pytest.mark.parametrize(
    ("spoil", "name", "said"),
    [(lambda d: d.drop_vars("viscosity").drop_attrs(), "reynolds_number",
      "neither a variable nor an attribute 'viscosity'"),
     (lambda d: d.drop_attrs(), "energy_drag", "neither a variable nor an attribute 'drag'"),
     (lambda d: d.assign_attrs(drag="strong"), "energy_drag", "drag must be a number or one a traj.* .got 'strong'"),
     (lambda d: d.assign_attrs(drag=-1.0), "energy_drag", "drag must be finite and at least 0 .got -1"),
     (lambda d: d.assign(drag=d["vorticity"]), "energy_drag", "it has the dims trajectory, time, y, x"),
     (lambda d: d.assign(forcing=1.0), "energy_injection", "'forcing' must have the dims y and x"),
     (lambda d: d.drop_vars("forcing").assign_attrs(forcing="variable 'forcing'"), "energy_injection",
      "says that the flow is forced, but there is no variable 'forcing'"),
     (lambda d: d.isel(time=slice(0, 0)), "energy_flux", "the dataset is empty"),
     (lambda d: d.drop_vars("x"), "energy_flux", "no coordinate 'x'"),
     (lambda d: d.rename(vorticity="omega"), "energy_flux", "no variable 'vorticity'")],
)  # fmt: skip
def test_numbers_that_cannot_be_had(data, spoil, name, said):
    with pytest.raises(UsageError, match=said) as error:
        diagnostics.compute(spoil(data), name)
    assert "\n" not in str(error.value)


def test_the_order_of_the_components_does_not_matter(data):
    velocity_only = data.drop_vars("vorticity").assign(velocity=diagnostics.compute(data, "velocity"))
    turned = velocity_only.isel(component=[1, 0])
    assert turned["component"].values.tolist() == ["y", "x"]
    for name in ("energy_spectrum", "velocity", "pressure"):
        xr.testing.assert_allclose(
            diagnostics.compute(turned, name), diagnostics.compute(velocity_only, name), rtol=1e-5, atol=1e-7
        )
    np.testing.assert_allclose(
        diagnostics.compute(velocity_only, "energy_spectrum")[..., :3],
        diagnostics.compute(data, "energy_spectrum")[..., :3],
        rtol=1e-5,
    )


@pytest.mark.parametrize("name", ["energy_spectrum", "energy_flux", "kinetic_energy", "velocity", "pressure"])
def test_axes_that_decrease_or_stretch_are_refused(name):
    """cos 1.5 y in a box of height 4π/3: the peak of its spectrum is at 1.5, and of the turned box at nothing else."""
    grid = Grid.box([24, 16], [4 * math.pi / 3 * 2, math.pi])
    y = grid.coordinates()[0].numpy()
    tall = xr.Dataset({"vorticity": (("y", "x"), np.cos(1.5 * y)[:, None] * np.ones(16))},
                      grid_coordinates(grid))  # fmt: skip
    spectrum = diagnostics.compute(tall, "energy_spectrum")
    assert float(spectrum.idxmax()) == pytest.approx(1.5)
    for axes in ("y", "x", "yx"):
        turned = tall.isel({axis: slice(None, None, -1) for axis in axes})
        with pytest.raises(UsageError, match=f"it decreases: sortby.'{axes[0]}'. turns it"):
            diagnostics.compute(turned, name)
        xr.testing.assert_allclose(
            diagnostics.compute(turned.sortby(list(axes)), name), diagnostics.compute(tall, name)
        )
    stretched = tall.assign_coords(y=tall["y"] ** 2)
    with pytest.raises(UsageError, match="y must be cell centres with one spacing; its spacing is"):
        diagnostics.compute(stretched, name)


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [">f8", "<f4", ">f4", "f2", "i4", ">i2", "u1", "i8", "longdouble"])
def test_numbers_of_any_type(data, kind, default):
    whole = data.assign(vorticity=np.abs(np.round(4 * data["vorticity"]))).drop_vars("forcing")
    typed = whole.assign(vorticity=whole["vorticity"].astype(kind))
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(default)
        for name in ("velocity", "pressure", "energy_spectrum", "enstrophy_flux"):
            expected, found = diagnostics.compute(whole, name), diagnostics.compute(typed, name)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
            if name.startswith("en"):
                assert found.dtype == np.float64
        single = diagnostics.compute(data, "velocity")  # of data in single precision
        assert single.dtype == np.float32
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize(
    ("spoil", "name", "said"),
    [(lambda d: d.assign(vorticity=d["vorticity"].assign_attrs(units="h-1")), "energy_flux",
      "'vorticity' has units 'h-1'; expected 's-1'"),
     (lambda d: d.assign_coords(x=d["x"].assign_attrs(units="km")), "energy_flux", "'x' has units 'km'; expected 'm'"),
     (lambda d: d.assign_coords(x=d["x"].assign_attrs(units="km")), "velocity", "'x' has units 'km'; expected 'm'"),
     (lambda d: d.assign(forcing=d["forcing"].assign_attrs(units="s-1")), "energy_injection", "'forcing' has units"),
     (lambda d: d.assign_coords(viscosity=d["viscosity"].assign_attrs(units="cm2 s-1")), "reynolds_number",
      "'viscosity' has units 'cm2 s-1'; expected 'm2 s-1'"),
     (lambda d: d.assign(vorticity=d["vorticity"].astype(complex)), "energy_flux", "must be real numbers .it is compl"),
     (lambda d: d.assign(vorticity=d["vorticity"].astype(str)), "velocity", "must be real numbers"),
     (lambda d: d.assign(vorticity=d["vorticity"].isel(y=0, drop=True)), "energy_flux", "no dimension 'y'"),
     (lambda d: d.assign(velocity=diagnostics.compute(d, "velocity").assign_coords(component=["u", "v"])).drop_vars(
         "vorticity"), "energy_flux", "the coordinate component must be x, y"),
     (lambda d: d.assign(velocity=diagnostics.compute(d, "velocity").isel(component=[0])).drop_vars("vorticity"),
      "energy_flux", "has 1 components; expected 2")],
)  # fmt: skip
def test_fields_that_are_not_what_they_are_taken_for(data, spoil, name, said):
    with pytest.raises(UsageError, match=said) as error:
        diagnostics.compute(spoil(data), name)
    assert "\n" not in str(error.value)
