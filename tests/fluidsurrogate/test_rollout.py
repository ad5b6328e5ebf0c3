"""One rollout for every stepper."""

import numpy as np
import pytest
import torch
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate.models.forecasting import perturbed_forecast
from fluidsurrogate.models.perturbations import Perturbation
from fluidsurrogate.simulation import batch_sizes
from solvers import Stepper


@pytest.fixture(params=["solver", "surrogate", "persistence"])
def stepper(request, experiment, trained) -> Stepper:
    if request.param == "solver":
        return experiment.build_solver()
    return trained[1]["small-d4"] if request.param == "surrogate" else fs.Persistence(experiment.spec)


def test_n_intervals_are_n_single_steps(stepper, trained):
    start = torch.from_numpy(trained[0]["vorticity"].values[:3, :1])
    with torch.no_grad():
        rolled = fs.rollout(stepper, start, 4)
        single = start
        for step in range(1, 5):
            single = stepper(single)
            torch.testing.assert_close(rolled[:, step], single, rtol=1e-4, atol=1e-5)
    assert torch.equal(rolled[:, 0], start)


def test_solver_reproduces_the_stored_trajectory(experiment, trained):
    states = torch.from_numpy(trained[0]["vorticity"].values)[:, :, None]
    torch.testing.assert_close(fs.rollout(experiment.build_solver(), states[:, 0], 4), states, rtol=1e-4, atol=1e-4)


def test_observe_sees_every_carry(experiment, trained):
    taken: list[int] = []
    start = torch.from_numpy(trained[0]["vorticity"].values[:3, :1])
    fs.rollout(experiment.build_solver(), start, 4, observe=lambda carry: taken.append(len(carry.steps_taken)))
    assert taken == [3, 3, 3, 3]


@pytest.mark.parametrize("stepper", ["solver", "surrogate"], indirect=True)  # persistence takes anything
def test_wrong_shapes_are_refused(stepper):
    with pytest.raises(ValueError, match="state must be"):
        fs.rollout(stepper, torch.zeros(1, 1, 8, 8), 1)
    with pytest.raises(ValueError, match="unknown input 'forcing'"):
        fs.rollout(stepper, torch.zeros(1, 1, 16, 16), 1, {"forcing": torch.zeros(1, 1, 16, 16)})


def test_no_trajectory_is_refused_in_a_line(experiment):
    solver = experiment.build_solver()
    for stepper in (solver, fs.Persistence(solver.spec)):
        with pytest.raises(fs.UsageError, match=r"^state holds no trajectory: give at least one$"):
            fs.rollout(stepper, torch.zeros(0, 1, 16, 16), 1)


@pytest.mark.parametrize("kind", ["plain", "members", "networks"])
def test_forecasts_in_memory_are_rolled_out_in_batches_of_bounded_memory(kind, toml, trained, monkeypatch):
    """The batches change nothing but the rounding, and none is larger than memory allows."""
    data, models = trained
    many = xr.concat([data.isel(time=[0])] * 3, "trajectory")  # 18 trajectories
    model = models["small-d4"]
    if kind == "networks":
        experiment = fs.Experiment.read(toml, ["models.small-d4.networks=3", "train.steps=2"])
        model = fs.train(experiment, data, ["small-d4"])["small-d4"]
    calls = {
        "plain": lambda: fs.forecast(model, many, 4),
        "members": lambda: perturbed_forecast(model, many, 4, 4, Perturbation(((0.5,) * 11,), 0.5, 0.3)),
        "networks": lambda: fs.forecast(model, many, 4, members=3),
    }
    batches, forward = [], model.step.forward
    monkeypatch.setattr(model.step, "forward", lambda *args: batches.append(len(args[1])) or forward(*args))
    whole = calls[kind]()
    assert max(batches) == {"plain": 18, "members": 54, "networks": 54}[kind]
    batches.clear()
    cost = batch_sizes.bytes_per_interval(model, torch.zeros(1, 1, 16, 16), {}, None)
    monkeypatch.setattr(batch_sizes, "MAX_CPU_BATCH_BYTES", 5 * cost)
    divided = calls[kind]()
    assert max(batches) == (15 if kind == "networks" else 5)
    np.testing.assert_allclose(divided["vorticity"], whole["vorticity"], rtol=0, atol=1e-5)
    assert divided.drop_vars("vorticity").identical(whole.drop_vars("vorticity"))
