"""Gradients, checkpoints, inputs of each trajectory, back ends and messages of the solver in three dimensions."""

import copy
import pickle

import pytest
import torch
from flows_3d import distance, random_field, solver

from solvers import Grid, NavierStokes2D, NavierStokes3D, TransportedScalar, VelocityForm

GRID = Grid.cube(8)


def loss(stepper, state, inputs=None, weight=None):
    return (stepper(state, inputs) * weight).sum()


def test_gradients_are_those_of_finite_differences():
    """With respect to state, viscosity, body force and mean velocity, through a scalar with buoyancy."""
    scalar = TransportedScalar(diffusivity=0.02, mean_gradient=(0.0, 0.0, 1.0), gravity=(0.0, 0.0, -1.0))
    force = random_field(GRID, seed=9, reach=2, solenoidal=False)[0]
    stepper = solver(GRID, interval=0.1, dt=0.05, forcing=force, scalar=scalar, mean_velocity=(0.1, 0.2, 0.3),
                     varying=("viscosity",))  # fmt: skip
    state = torch.cat([random_field(GRID, reach=2), random_field(GRID, 1, 1, reach=2, solenoidal=False)], dim=1)
    inputs = {
        "viscosity": torch.full((1, 1, 1, 1, 1), 0.05, dtype=torch.float64),
        "forcing": force[None].clone(),
        "mean_velocity": torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64).reshape(1, 3, 1, 1, 1),
    }
    weight = random_field(GRID, seed=8, components=4, reach=2, solenoidal=False)
    leaves = [state, *inputs.values()]
    for leaf in leaves:
        leaf.requires_grad_()
    gradients = torch.autograd.grad(loss(stepper, state, inputs, weight), leaves)
    draw = torch.Generator().manual_seed(0)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        direction = torch.randn(leaf.shape, generator=draw, dtype=torch.float64)
        with torch.no_grad():
            both = []
            for sign in (1e-5, -1e-5):
                moved = [a + sign * direction if a is leaf else a for a in leaves]
                both.append(loss(stepper, moved[0], dict(zip(inputs, moved[1:], strict=True)), weight))
        measured = float(both[0] - both[1]) / 2e-5
        assert float((gradient * direction).sum()) == pytest.approx(measured, rel=1e-6)
        assert abs(measured) > 1e-3


def test_gradients_pass_through_the_forcing_of_fixed_power():
    from solvers import FixedPowerForcing

    stepper = solver(GRID, interval=0.1, dt=0.05, power_forcing=FixedPowerForcing(2.0, 1.5))
    state, weight = random_field(GRID, reach=2).requires_grad_(), random_field(GRID, seed=8, reach=2)
    (gradient,) = torch.autograd.grad(loss(stepper, state, None, weight), state)
    direction = random_field(GRID, seed=7, reach=2, solenoidal=False)
    with torch.no_grad():
        both = [loss(stepper, state + sign * direction, None, weight) for sign in (1e-5, -1e-5)]
    assert float((gradient * direction).sum()) == pytest.approx(float(both[0] - both[1]) / 2e-5, rel=1e-6)


def test_checkpoints_change_no_bit():
    state, results = random_field(GRID, reach=2), []
    for every in (None, 2):
        start = state.clone().requires_grad_()
        after = solver(GRID, interval=0.1, dt=0.02, checkpoint_every=every)(start)
        results.append((after.detach(), *torch.autograd.grad(after.square().sum(), start)))
    for plain, checkpointed in zip(*results, strict=True):
        assert torch.equal(plain, checkpointed)


def test_a_trajectory_with_its_own_viscosity_does_not_depend_on_the_batch():
    stepper = solver(GRID, varying=("viscosity", "drag"), interval=0.3)
    scale = torch.tensor([0.5, 3.0, 1.0], dtype=torch.float64)[:, None, None, None, None]
    state = random_field(GRID, reach=2, batch=3) * scale
    inputs = {
        "viscosity": torch.tensor([0.01, 0.05, 0.2], dtype=torch.float64).reshape(3, 1, 1, 1, 1),
        "drag": torch.tensor([0.0, 0.3, 0.1], dtype=torch.float64).reshape(3, 1, 1, 1, 1),
    }
    carry = stepper.advance(stepper.start(state, inputs))
    assert len(set(carry.steps_taken)) > 1
    together = stepper.state(carry)
    for i in range(3):
        own = {name: value[i : i + 1] for name, value in inputs.items()}
        assert distance(stepper(state[i : i + 1], own)[0], together[i]) < 1e-13
        fixed = solver(GRID, viscosity=float(own["viscosity"]), drag=float(own["drag"]), interval=0.3)
        assert distance(fixed(state[i : i + 1])[0], together[i]) < 1e-12


def test_a_trajectory_that_is_not_finite_stays_alone():
    state = random_field(GRID, reach=2, batch=2)
    state[1, 0, 0, 0, 0] = torch.nan
    after = solver(GRID)(state)
    assert distance(after[0], solver(GRID)(state[:1])[0]) < 1e-13
    assert not bool(after[1].isfinite().any())


def test_a_solver_and_its_carry_survive_a_pickle():
    stepper, state = solver(GRID, dt=0.05), random_field(GRID)
    again, carry = pickle.loads(pickle.dumps((stepper, stepper.start(state))))
    assert torch.equal(again.state(again.advance(carry)), stepper(state))
    assert torch.equal(copy.deepcopy(stepper)(state), stepper(state))


def test_what_was_projected_is_what_is_carried():
    """`modes` fewer than the two-thirds rule allows are the only ones left."""
    after = solver(Grid.cube(12), modes=(2, 1, 2))(random_field(Grid.cube(12)))
    spectrum = torch.fft.rfftn(after, dim=(-3, -2, -1)).abs().amax((0, 1))
    mz, my, mx = Grid.cube(12).modes()
    assert float((spectrum * ((mz > 2) | (my > 1) | (mx > 2))).max()) < 1e-11 * float(spectrum.max())
    assert float(spectrum[2, 1, 2]) > 1e-6 * float(spectrum.max())


def test_the_equation_is_said():
    scalar = TransportedScalar(gravity=(0.0, 0.0, -1.0), mean_gradient=(0.0, 0.0, 1.0))
    said = solver(GRID, scalar=scalar).equation
    assert said == ("div(u) = 0; du/dt + u.grad(u) = -grad(p) + nu laplacian(u) - mu u - g theta; "
                    "d(theta)/dt + u.grad(theta) = kappa laplacian(theta) - u.G")  # fmt: skip
    assert [f.name for f in solver(GRID, scalar=scalar).spec.fields] == ["velocity", "tracer"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: solver(Grid.square(8)), "NavierStokes3D needs a grid in 3 dimensions .got 2.: take NavierStokes2D"),
        (lambda: NavierStokes2D(GRID, viscosity=0.1, interval=1.0), "NavierStokes2D needs a grid in 2 dimensions"),
        (lambda: solver(GRID, forcing=torch.zeros(8, 8, 8)), r"forcing must be of shape \(3, 8, 8, 8\)"),
        (lambda: solver(GRID, mean_velocity=(1.0, 2.0)), "mean_velocity must have 3 components"),
        (lambda: solver(GRID, scalar=TransportedScalar(gravity=(0.0, -1.0))), "gravity must have 3 components"),
        (lambda: solver(GRID, modes=(3, 1, 1)), "modes must be from 1 to"),
        (lambda: solver(GRID)(torch.zeros(1, 2, 8, 8, 8)), r"state must be \(batch, 3, 8, 8, 8\)"),
        (lambda: VelocityForm(solver(GRID)), "only a stepper of vorticity"),
        (lambda: solver(GRID).start(random_field(GRID), {"viscosity": torch.ones(1, 1, 1, 1, 1)}), "unknown input"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_single_precision_is_the_default():
    state = random_field(GRID)
    after = NavierStokes3D(GRID, viscosity=0.05, interval=0.25)(state)
    assert after.dtype == torch.float32
    assert distance(after.double(), solver(GRID)(state)) < 1e-5
