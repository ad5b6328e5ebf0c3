"""Datasets of three dimensions: diagnostics, scores, audits and figures."""

import math

import matplotlib.image
import numpy as np
import pytest
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate import UsageError
from fluidsurrogate.data.conversion import to_dataset
from fluidsurrogate.evaluation import diagnostics
from fluidsurrogate.evaluation.conservation import component_names, energy
from fluidsurrogate.rendering.audit_figure import draw_audit
from fluidsurrogate.rendering.comparison_figure import draw_comparison
from fluidsurrogate.rendering.isosurface_figure import draw_flows_in_space
from fluidsurrogate.rendering.preview import draw_preview
from fluidsurrogate.rendering.scores_figure import draw_scores
from fluidsurrogate.simulation.rollout import rollout
from solvers import TRACER, VELOCITY, VORTICITY, Grid, NavierStokes3D, StateSpec, field_in

GRID = Grid.cube(8)
SPEC = StateSpec(GRID, (field_in(VELOCITY, 3),), 0.2)


def beltrami(grid, a=1.0, b=0.7, c=0.4):
    """An ABC flow, whose vorticity is its velocity; E = (a² + b² + c²)/2, of whom all is in the first shell."""
    z, y, x = grid.mesh()
    components = (
        a * torch.sin(z) + c * torch.cos(y),
        b * torch.sin(x) + a * torch.cos(z),
        c * torch.sin(y) + b * torch.cos(x),
    )
    return torch.stack([component.expand(grid.n) for component in components])[None]


@pytest.fixture(scope="module")
def data():
    """The velocities of two trajectories at five times, by the classical solver."""
    solver = NavierStokes3D(GRID, viscosity=0.02, interval=0.2, dtype=torch.float64)
    noise = torch.randn(2, 3, *GRID.n, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    start = solver.state(solver.start(torch.cat([beltrami(GRID), -beltrami(GRID)]) + 0.3 * noise))
    return to_dataset(SPEC, rollout(solver, start, 4), attributes={"viscosity": 0.02})


def test_diagnostics_of_a_beltrami_flow():
    whole = to_dataset(SPEC, beltrami(GRID)[None], attributes={"viscosity": 0.1, "drag": 0.0})
    made = diagnostics.add(whole).isel(trajectory=0, time=0)
    half = (1 + 0.49 + 0.16) / 2
    assert float(made["kinetic_energy"]) == pytest.approx(half)
    assert float(made["enstrophy"]) == pytest.approx(half)
    assert float(made["energy_dissipation"]) == pytest.approx(0.2 * half)
    assert float(made["energy_spectrum"].sel(wavenumber=1)) == pytest.approx(half)
    assert float(made["helicity"].mean()) == pytest.approx(2 * half)
    assert made["helicity"].attrs["parity"] == -1
    vorticity = diagnostics.vorticity(whole)
    assert vorticity.attrs["tensor_order"] == 1
    np.testing.assert_allclose(vorticity, whole["velocity"], atol=1e-12)
    back = diagnostics.compute(xr.Dataset({"vorticity": vorticity}), "velocity")
    np.testing.assert_allclose(back.transpose(*vorticity.dims), whole["velocity"], atol=1e-12)
    assert "stream_function" not in made
    with pytest.raises(UsageError, match="stream_function is not defined for a flow in 3 dimensions"):
        diagnostics.compute(whole, "stream_function")
    with pytest.raises(UsageError, match="unknown field 'kinetic_energy'; one of vorticity, velocity"):
        diagnostics.compute_field(whole, "kinetic_energy")


def test_energies_of_tensors():
    states = beltrami(GRID)[None]
    expected = (1 + 0.49 + 0.16) / 2
    assert float(energy(SPEC, states)) == pytest.approx(expected)
    as_vorticity = StateSpec(GRID, (field_in(TRACER, 3), field_in(VORTICITY, 3)), 0.2)
    assert float(energy(as_vorticity, torch.cat([states[:, :, :1], states], 2))) == pytest.approx(expected)
    assert component_names(as_vorticity.fields) == ["tracer", "vorticity x", "vorticity y", "vorticity z"]


def test_scores(data):
    moved = data.where(data["time"] == 0, data.roll(z=1, roll_coords=False))
    forecasts = {"right": data, "weak": data.where(data["time"] == 0, 0.9 * data), "moved": moved}
    scores = fs.compare(forecasts, data)
    assert float(scores["nrmse_mean"].sel(source="right")) == 0
    np.testing.assert_allclose(scores["nrmse"].sel(source="weak")[1:], 0.1)
    np.testing.assert_allclose(scores["energy_spectrum_error"].sel(source="weak")[1:], 0.19)
    np.testing.assert_allclose(scores["energy_spectrum_error"].sel(source="moved"), 0, atol=1e-12)
    assert float(scores["correlation"].sel(source="moved")[1]) < 0.9
    np.testing.assert_allclose(scores["mean_drift"].sel(source="right"), 0, atol=1e-12)
    np.testing.assert_allclose(scores["spectral_error_low"].sel(source="weak")[1:], 0.1)
    np.testing.assert_allclose(scores["energy_spectrum"].sum("wavenumber"), scores["energy"])
    assert scores.attrs["viscosity"] == 0.02
    turned = fs.compare({"weak": forecasts["weak"].isel(component=[1, 2, 0])}, data)  # components in another order
    np.testing.assert_allclose(turned["nrmse"][0, 1:], 0.1)
    with pytest.raises(UsageError, match="has no dimension 'time'"):
        fs.compare({"one": data}, data.isel(time=0))


def test_an_audit(data, tmp_path):
    """The classical solver keeps all 48 elements and all shifts; a step along x keeps few."""
    solver = NavierStokes3D(GRID, viscosity=0.02, interval=0.2, dt=0.1, order=2, dtype=torch.float64)
    report = fs.audit(solver, states=data.isel(trajectory=[0]), steps=3, angles=[30.0], shifts=[(0, 0, 1), (1, 2, 0.5)])
    assert report.attrs["verdict"] == "pass"
    assert report.attrs["group"] == "Oh"
    assert report.attrs["grid"] == "8 x 8 x 8"
    assert report.sizes["element"] == 47
    assert float(report["equivariance_error"].max()) < 1e-11
    assert float(report["translation_error"].max()) < 1e-9
    assert float(report["wrong_parity_error"].min()) > 0.05
    assert report["shift"].values.tolist() == ["1 in x", "1 in z, 2 in y, 0.5 in x"]
    assert report["shift_z"].values.tolist() == [0, 1]
    assert report["component"].values.tolist() == ["velocity x", "velocity y", "velocity z"]
    assert float(report["rotation_error"][0]) < 0.5
    draw_audit(report, tmp_path / "audit.png", "solver")
    sideways = torch.nn.Conv3d(3, 3, 3, padding="same", padding_mode="circular", bias=False).double()
    options = {"states": data, "group": "Oh", "steps": 1, "angles": [], "shifts": []}
    with torch.no_grad():
        assert fs.audit(sideways, SPEC, **options).attrs["verdict"] == "fail"
    with pytest.raises(UsageError, match=r"shifts must be triples of cells along \(z, y, x\)"):
        fs.audit(solver, states=data, shifts=[(0, 1)])
    with pytest.raises(UsageError, match="unknown group 'p4m' in three dimensions"):
        fs.audit(solver, states=data, group="p4m")


@pytest.fixture(scope="module")
def pictures(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    sources = xr.concat([data, 0.5 * data], xr.Variable("source", np.array(["truth", "half"], dtype=object)))
    draw_comparison(sources, folder / "comparison.png")
    draw_preview(data, 0.5 * data, "half", folder / "preview.png")
    draw_scores(fs.compare({"truth": data, "half": 0.5 * data}, data), folder / "scores.png")
    draw_flows_in_space(sources, ["truth", "half"], folder / "vortices.png")
    return folder


@pytest.mark.parametrize("name", ["comparison", "preview", "scores", "vortices"])
def test_figures(pictures, name):
    picture = matplotlib.image.imread(pictures / f"{name}.png")
    assert picture.std() > 0.02


def test_pictures_without_pyvista_are_slices(data, tmp_path, monkeypatch):
    monkeypatch.setattr("fluidsurrogate.rendering.isosurface_figure.find_spec", lambda name: None)
    draw_flows_in_space(data.expand_dims(source=["truth"]), ["truth"], tmp_path / "slices.png")
    assert matplotlib.image.imread(tmp_path / "slices.png").std() > 0.02


def test_the_middle_plane_is_drawn(data):
    from fluidsurrogate.rendering.slices import vorticity_picture

    picture = vorticity_picture(data.isel(trajectory=0))
    expected = diagnostics.vorticity(data).isel(trajectory=0, z=4).sel(component="z")
    np.testing.assert_array_equal(picture, expected)
    assert picture.attrs["long_name"] == f"z vorticity at z = {2 * math.pi * 4.5 / 8:.3g}"
