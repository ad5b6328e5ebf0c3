"""One rollout for every stepper."""

import pytest
import torch

import fluidsurrogate as fs
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
