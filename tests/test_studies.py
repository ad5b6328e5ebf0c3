"""The scripts of the studies run, write what they promise, and their own methods do what they say."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate.simulation.rollout import rollout
from solvers import D4, VELOCITY, VORTICITY, Grid, NavierStokes2D, StateSpec, act_on_fields

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.mark.slow
def test_the_published_benchmark_in_miniature(tmp_path):
    script = EXPERIMENTS / "published_benchmark" / "run.py"
    options = ["--setting", "miniature", "--runs", tmp_path / "runs", "--results", tmp_path]
    subprocess.run([sys.executable, script, *options], check=True, cwd=tmp_path)
    made = {path.stem for path in (tmp_path / "miniature").glob("*.json")}
    assert {"solver", "gunet-0", "gunet-C4-0", "unet-augmented-0", "gcnn-0", "gfno-0", "hybrid-0"} <= made
    assert "| G-FNO-p4 | 2.24 |" in (tmp_path / "results.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_imperfect_starts_in_miniature(tmp_path):
    pytest.importorskip("pywt")
    script = EXPERIMENTS / "imperfect_starts" / "run.py"
    options = ["--miniature", "--seeds", "1", "--runs", tmp_path / "runs", "--results", tmp_path]
    subprocess.run([sys.executable, script, *options], check=True, cwd=tmp_path)
    table = (tmp_path / "results.md").read_text(encoding="utf-8")
    for source in ("Wiener filter", "wavelet thresholds", "kriging", "regression on the spectrum", "gcnn"):
        assert f"| {source} |" in table
    assert (tmp_path / "results.png").stat().st_size > 10_000


@pytest.fixture(scope="module")
def cases():
    return load("imperfect_starts/cases.py")


def load(path):
    """A module of a study, which is no package."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, EXPERIMENTS / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_four_turns_change_no_data():
    study = load("study.py")
    experiment = fs.Experiment.read(EXPERIMENTS / "broken_symmetry" / "kolmogorov.toml",
                                    ["grid.n=32", "flow.spin_up=0.5", "data.train=1", "data.valid=1", "data.test=2",
                                     "data.steps=1", "data.test_steps=1"])  # fmt: skip
    data = fs.generate(experiment)
    once = study.turned(data, experiment.spec)
    assert not np.allclose(once["vorticity"], data["vorticity"])
    assert not np.allclose(once["forcing"], data["forcing"])
    again = study.turned(study.turned(study.turned(once, experiment.spec), experiment.spec), experiment.spec)
    xr.testing.assert_allclose(again, data)


def test_results_are_packed_and_nothing_else_is_removed(tmp_path):
    study = load("study.py")
    folder = tmp_path / "results"
    folder.mkdir()
    for name, value in (("a", {"nrmse": 1}), ("b", {"nrmse": 2})):
        (folder / f"{name}.json").write_text(json.dumps(value))
    (folder / "thesis.txt").write_text("mine")
    study.pack_results(folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    assert study.read_result(folder / "b.json") == {"nrmse": 2}
    assert study.read_result(folder / "c.json") is None
    (folder / "b.json").write_text(json.dumps({"nrmse": 3}))  # made anew
    (folder / "thesis.txt").unlink()
    study.pack_results(folder)
    assert json.loads((tmp_path / "results.json").read_text()) == {"a": {"nrmse": 1}, "b": {"nrmse": 3}}
    assert not folder.exists()


SPEC = StateSpec(Grid.square(16), (VORTICITY,), interval=0.25)


def gaussian_starts(count):
    """Random states, (trajectory, time, component, y, x), whose power falls with the wavenumber."""
    ky, kx = SPEC.grid.wavenumbers()
    noise = torch.randn(count, 1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    amplitude = torch.where((k := (ky**2 + kx**2).sqrt()) > 0, 10 / (1 + k**2), 0.0).float()
    return torch.fft.irfft2(torch.fft.rfft2(noise) * amplitude, s=(16, 16))


def relative_error(estimate, states):
    return float((estimate - states).norm() / states.norm())


def test_wiener_filter_is_best_at_the_true_noise(cases):
    """Of Gaussian fields the filter is the best estimate: with too little or too much noise assumed it is worse."""
    starts = gaussian_starts(64)
    case = cases.NoisyStart(SPEC, starts, 0.3)
    seen = case.see(starts[:, 0], torch.Generator().manual_seed(1))
    assumed = {factor: relative_error(case.wiener(seen, factor), starts[:, 0]) for factor in (0.1, 1.0, 10.0)}
    assert assumed[1.0] < min(assumed[0.1], assumed[10.0])
    assert assumed[1.0] < 0.8 * relative_error(seen["vorticity"], starts[:, 0])


def test_kriging_passes_through_what_is_known(cases):
    starts = gaussian_starts(32)
    case = cases.SparseStart(SPEC, starts, 0.25)
    seen = case.see(starts[:, 0], torch.Generator().manual_seed(1))
    assert (seen["mask"].sum((1, 2, 3)) == 64).all()
    estimate = case.kriging(seen, nugget=1e-8)
    torch.testing.assert_close(estimate * seen["mask"], seen["vorticity"], atol=1e-3, rtol=1e-3)
    assert relative_error(estimate, starts[:, 0]) < 0.5


@pytest.mark.parametrize(("kind", "turns"), [("gcnn", True), ("cnn", False)])
def test_corrected_starts_turn_with_what_was_seen(cases, kind, turns):
    starts = gaussian_starts(8)
    torch.manual_seed(0)
    for case in (cases.NoisyStart(SPEC, starts, 0.3), cases.SparseStart(SPEC, starts, 0.25)):
        seen = case.see(starts[:, 0], torch.Generator().manual_seed(1))
        network, mirror = case.network(kind).eval(), list(D4)[4]
        types = {"vorticity": (VORTICITY,), "mask": (cases.SCALAR,), "velocity": (VELOCITY,)}
        mirrored = {name: act_on_fields(types[name], values, mirror) for name, values in seen.items()}
        with torch.no_grad():
            error = relative_error(network(mirrored)[0], act_on_fields((VORTICITY,), network(seen)[0], mirror))
        assert (error < 1e-4) == turns


def test_energy_of_two_states_tells_the_viscosity(cases):
    solver = NavierStokes2D(Grid.square(32), viscosity=0.01, interval=0.1)
    states = rollout(solver, torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)), 4)[:, 3:]
    spec = StateSpec(Grid.square(32), (VORTICITY,), interval=0.1)
    case = cases.UnknownViscosity(spec, states, torch.tensor([0.01, 0.02]))
    torch.testing.assert_close(
        case.from_two_states(states[:, 0], states[:, 1]), torch.full((2,), 0.01), rtol=0.02, atol=0
    )


def test_relaxed_convolutions_turn_until_their_weights_differ():
    network = load("symmetry/networks.py").relaxed_gcnn((VORTICITY,), (VORTICITY,)).eval()
    x, turn = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)), list(D4)[1]

    @torch.no_grad()
    def error():
        return relative_error(
            network(act_on_fields((VORTICITY,), x, turn)), act_on_fields((VORTICITY,), network(x), turn)
        )

    assert error() < 1e-5
    with torch.no_grad():
        network.blocks[0].conv.relaxed[1] = 1.5
    assert error() > 1e-3
