"""A coarse solver with a learned correction: it is the solver where nothing is learned, keeps what both keep, learns
through the solver, and beats it."""

import pytest
import torch
from torch import nn

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.config.experiment import cells_for_all_modes
from fluidsurrogate.evaluation.equivariance import equivariance_error
from fluidsurrogate.simulation.rollout import rollout
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.windows import InMemoryTrajectories
from solvers import D4, Grid, Resampled, resample
from solvers.backends import NativeAdjoint
from solvers.backends.cpp_library import why_not_compiled

# The truth on 32² cells, stored on 16²; the hybrid's solver takes one step of second order where the truth takes many.
COARSE = ["grid.n=32", "grid.store=16", "flow.viscosity=1e-3", "models.small-d4.solver={dt = 0.25, order = 2}"]


def trainer_of(toml, *overrides, name="small-d4"):
    experiment = Experiment.read(toml, [*COARSE, *overrides])
    data = fs.generate(experiment)
    train, valid = (InMemoryTrajectories.from_dataset(data, split, experiment) for split in ("train", "valid"))
    return experiment, prepare_training(experiment, name, train, valid, {}), train


def test_without_a_correction_it_is_the_coarse_solver(toml):
    """On 24 cells, 3/2 of the stored 16, and seen through these."""
    experiment, trainer, train = trainer_of(toml)
    hybrid, grid = trainer.surrogate, trainer.surrogate.spec.grid
    nn.init.zeros_(hybrid.network.out.head.weight)
    nn.init.zeros_(hybrid.network.out.head.bias)
    solver = experiment.build_flow().solver(Grid.square(24, grid.length[0]), interval=0.25, dt=0.25, order=2)

    assert hybrid.normalisation.budget_coefficients is not None
    hybrid.step.budget = None  # of what is looked at here, the solver's step and what is added to it

    def coarse(state):
        return resample(solver(resample(state, grid, solver.spec.grid)), solver.spec.grid, grid)

    with torch.no_grad():
        pairs = [(coarse(train.states[:, t]), train.states[:, t + 1]) for t in range(train.size[1] - 1)]
        once, later = pairs[0]
        torch.testing.assert_close(hybrid(train.states[:, 0]), once, rtol=0, atol=1e-5)
        torch.testing.assert_close(rollout(hybrid, train.states[:, 0], 2)[:, 2], coarse(once), rtol=0, atol=2e-5)
    assert float((once - later).norm() / (later - train.states[:, 0]).norm()) > 0.02  # it has errors to learn
    # The change that the network's output is scaled by is what the solver misses.
    missed = torch.stack([b - a for a, b in pairs]).square().mean().sqrt()
    assert hybrid.normalisation.change[0] == pytest.approx(float(missed), rel=1e-5)


@pytest.mark.skipif(why_not_compiled() is not None, reason="no compiler")
def test_training_through_native_steps_is_that_through_torch_s(toml, monkeypatch):
    """Three intervals: the weights after some steps are the same, and not those of a solver without gradients."""
    trained = {}
    for way in ("native", "torch", "cut"):
        with monkeypatch.context() as patch:
            if way == "torch":
                patch.setattr(NativeAdjoint, "why_unavailable", classmethod(lambda *_: "not wanted"))
            if way == "cut":
                patch.setattr(Resampled, "correct", lambda self, carry, correction: Resampled.start(
                    self, self.state(carry).detach() + correction.detach()))  # fmt: skip
            _, trainer, _ = trainer_of(toml, "train.steps=8", "train.unroll=[3]", "dtype=float64")
            before = torch.cat([p.detach().flatten() for p in trainer.network.parameters()])
            network = trainer.run().network
            used = trainer.surrogate.base.stepper._interval_solver.__dict__.get("adjoint_backend")
            assert isinstance(used, NativeAdjoint) == (way == "native")
            trained[way] = torch.cat([p.detach().flatten() for p in network.parameters()]) - before
    native, torch_s, cut = trained.values()
    assert float((native - torch_s).norm() / torch_s.norm()) < 1e-4
    assert float((native - cut).norm() / cut.norm()) > 1e-2


def test_its_solver_keeps_the_scales_that_are_not_stored(toml):
    """On 64 cells, without a correction, a rollout is that of the solver alone, seen through the stored 16."""
    overrides = ["dtype=float64", "flow.wavenumber=4", "models.small-d4.solver={n = 64, dt = 0.125, order = 2}"]
    experiment, trainer, train = trainer_of(toml, *overrides)
    hybrid, grid = trainer.surrogate, trainer.surrogate.spec.grid
    nn.init.zeros_(hybrid.network.out.head.weight)
    nn.init.zeros_(hybrid.network.out.head.bias)
    hybrid.step.budget = None
    options = {"interval": 0.25, "dt": 0.125, "order": 2, "dtype": torch.float64}
    fine = Resampled(experiment.build_flow().solver(Grid.square(64, grid.length[0]), **options), grid)
    start = train.states[:, 0]
    with torch.no_grad():
        alone, found = rollout(fine, start, 4)[:, -1], rollout(hybrid, start, 4)[:, -1]
        restarted = start
        for _ in range(4):
            restarted = fine(restarted)
    assert float((found - alone).norm() / alone.norm()) < 1e-12
    assert float((restarted - alone).norm() / alone.norm()) > 1e-3  # the control: the small scales are lost each time
    assert not hybrid.is_markov


def test_its_correction_reaches_the_solver(toml):
    """What a correction adds is in the next state, and the solver's other modes are untouched."""
    _, trainer, train = trainer_of(toml, "dtype=float64", "models.small-d4.solver={n = 32, dt = 0.25, order = 2}")
    hybrid, start = trainer.surrogate, train.states[:, 0]
    nn.init.normal_(hybrid.network.out.head.weight)
    with torch.no_grad():
        carry = hybrid.advance(hybrid.start(start))
        corrected = hybrid.base.correct(carry.solver, carry.correction)
        torch.testing.assert_close(hybrid.base.state(corrected), hybrid.state(carry), rtol=0, atol=1e-12)
        added = (corrected.spectrum - carry.solver.spectrum).abs().amax((0, 1))
        beyond = max(float(added[8:-7].max()), float(added[:, 8:].max()))
        assert beyond < 1e-12 < 1e-3 < float(added.max())
        twice = hybrid.correct(carry, 0.1 * start)
        torch.testing.assert_close(hybrid.state(twice), hybrid.state(carry) + 0.1 * start)
        torch.testing.assert_close(twice.correction, carry.correction + 0.1 * start)


def test_its_solver_holds_every_mode_unless_it_is_told_not_to(toml):
    """With no time to go by, what comes back is what went in; on the stored cells a third of the modes is gone."""
    still = ["data.interval=1e-6", "flow.spin_up=0", "flow.wavenumber=4"]
    for n, lost in ((24, False), (16, True)):
        _, trainer, train = trainer_of(toml, *still, f"models.small-d4.solver={{n = {n}, order = 2}}")
        state = train.states[:, 0]
        with torch.no_grad():
            error = float((trainer.surrogate.base(state, {}) - state).norm() / state.norm())
        assert (error > 1e-3) if lost else (error < 1e-5)
    assert cells_for_all_modes((16, 18)) == (24, 28)
    with pytest.raises(UsageError, match=r"solver.n must be square if and only if the stored grid is square"):
        Experiment.read(toml, [*COARSE, "models.small-d4.solver={n = [16, 24]}"])


def test_it_is_equivariant_and_keeps_the_mean(toml):
    _, trainer, train = trainer_of(toml, "dtype=float64")
    state = train.states[:, 0] + 0.7
    with torch.no_grad():
        assert max(equivariance_error(trainer.surrogate, state, D4).values()) < 1e-10
        forecast = rollout(trainer.surrogate, state, 3)
    assert float((forecast.mean((-2, -1)) - forecast[:, :1].mean((-2, -1))).abs().max()) < 1e-12
    _, plain, _ = trainer_of(toml, "dtype=float64", "models.small-cnn.solver={dt = 0.25, order = 2}", name="small-cnn")
    with torch.no_grad():
        assert max(equivariance_error(plain.surrogate, state, D4).values()) > 1e-3  # the control


def test_gradients_go_through_the_solver(toml):
    """Two intervals: the derivative along a direction in weight space is the difference quotient; with the state cut
    off after the first interval it is another."""
    _, trainer, train = trainer_of(toml, "dtype=float64")
    hybrid, weight = trainer.surrogate, trainer.network.out.head.weight
    state, direction = train.states[:, 0], torch.randn(weight.shape, dtype=torch.float64)

    def loss():
        return (rollout(hybrid, state, 2)[:, 2] - train.states[:, 2]).square().mean()

    (gradient,) = torch.autograd.grad(loss(), weight)
    kept, step, around = weight.detach().clone(), 1e-4, []
    with torch.no_grad():
        for sign in (1, -1):
            weight.copy_(kept + sign * step * direction)
            around.append(float(loss()))
        weight.copy_(kept)
    quotient = (around[0] - around[1]) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(quotient, rel=1e-5)
    with torch.no_grad():
        once = hybrid(state)
    (cut,) = torch.autograd.grad((hybrid(once) - train.states[:, 2]).square().mean(), weight)
    assert float((cut * direction).sum()) != pytest.approx(quotient, rel=1e-2)


def test_what_its_solver_cannot_run_is_said_in_one_line(toml):
    experiment, trainer, train = trainer_of(toml, "flow.viscosity=[1e-3, 2e-3]")
    given = {"viscosity": torch.full((1, 1, 1, 1), -1e-3)}
    with pytest.raises(UsageError, match=r"^the hybrid's solver: input 'viscosity' must be at least 0 for every traj"):
        trainer.surrogate(train.states[:1, 0], given)
    data = fs.generate(experiment)
    for stepper in (trainer.surrogate, trainer_of(toml, "flow.viscosity=[1e-3, 2e-3]", name="small-cnn")[1].surrogate):
        with pytest.raises(UsageError, match=r"^variable 'viscosity' is negative"):
            fs.forecast(stepper, data.assign(viscosity=-data["viscosity"]), 1)
    with pytest.raises(UsageError, match=r"expected 16 x 16 cells on 6.28319 x 6.28319$"):  # and no hint of model.on
        fs.forecast(trainer.surrogate, data.isel(x=slice(0, 8)), 1)


@pytest.mark.parametrize("state", ["vorticity", "velocity"])
def test_it_learns_and_comes_back_from_its_folder(toml, tmp_path, state):
    experiment = Experiment.read(
        toml, [*COARSE, f"data.state={state}", "data.train=6", "train.steps=150", "train.learning_rate=1e-2"]
    )
    data = fs.generate(experiment)
    hybrid = fs.train(experiment, data, ["small-d4"])["small-d4"]
    start = InMemoryTrajectories.from_dataset(data, "valid", experiment).states
    with torch.no_grad():
        missed = (hybrid.base(start[:, 0]) - start[:, 1]).norm()
        assert float((hybrid(start[:, 0]) - start[:, 1]).norm() / missed) < 0.7
    fs.save(hybrid, tmp_path)
    loaded = fs.load(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(start[:, 0]), hybrid(start[:, 0]))
    with pytest.raises(UsageError, match="a hybrid cannot be exported"):
        fs.as_module(hybrid)


def test_a_stirred_flow_has_no_hybrid(toml):
    with pytest.raises(UsageError, match=r"models.small-d4: solver: a hybrid cannot know the stochastic forcing"):
        Experiment.read(toml, [*COARSE, "flow={kind = 'stirred', viscosity = 1e-2}"])
