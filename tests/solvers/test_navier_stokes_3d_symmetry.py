"""The solver in three dimensions commutes with all 48 elements of the cube's group and with every translation."""

import pytest
import torch
from flows_3d import distance, random_field, solver

from solvers import (
    GROUPS,
    TRACER,
    FixedPowerForcing,
    Grid,
    TransportedScalar,
    act,
    act_on_fields,
    field_in,
)
from solvers.continuous_symmetry import shift
from solvers.fields import VELOCITY, FieldSpec
from solvers.symmetry import act_on_inputs

GRID, OH = Grid.cube(12), GROUPS[3]["Oh"]
SPACE_VELOCITY, SPACE_TRACER = field_in(VELOCITY, 3), field_in(TRACER, 3)
PSEUDOVECTOR = FieldSpec("velocity", 1, -1, "m s-1", dimensions=3)
MIRRORS = [g for g in OH if g.determinant < 0]


def test_there_are_48_elements():
    assert len(OH) == 48
    assert len(MIRRORS) == 24


@pytest.fixture(scope="module")
def unforced():
    """A solver, a state without any symmetry, and the state an interval later."""
    stepper = solver(GRID, interval=0.1, power_forcing=FixedPowerForcing(0.3, 1.5))
    state = random_field(GRID, reach=3, batch=1, mean=0.3)
    return stepper, state, stepper(state)


def relative(error, after, before):
    """An error relative to what the step changes."""
    return float(error.norm() / (after - before).norm())


def test_all_elements_commute(unforced):
    """All images as one batch: no trajectory depends on its neighbours."""
    stepper, state, after = unforced
    images = torch.cat([act(SPACE_VELOCITY, state, g) for g in OH])
    expected = torch.cat([act(SPACE_VELOCITY, after, g) for g in OH])
    for g, result, wanted in zip(OH, stepper(images), expected, strict=True):
        assert relative(result - wanted, after, state) < 1e-11, g.name


def test_a_velocity_taken_for_a_pseudovector_does_not_commute(unforced):
    stepper, state, after = unforced
    for g in MIRRORS[:3]:
        error = stepper(act(PSEUDOVECTOR, state, g)) - act(PSEUDOVECTOR, after, g)
        assert relative(error, after, state) > 0.05


@pytest.mark.parametrize("cells", [(1, 0, 0), (3, 7, 5), (0.3, 2.71, -1.5)])
def test_translations_commute(unforced, cells):
    stepper, state, after = unforced
    error = stepper(shift(state, cells)) - shift(after, cells)
    assert relative(error, after, state) < 1e-11
    assert relative(shift(after, cells) - after, after, state) > 0.1


def test_elements_commute_where_they_act_on_the_inputs_too():
    """Body force, gravity, mean gradient and mean velocity turn with the flow."""
    force = random_field(GRID, seed=5, solenoidal=False)[0]
    scalar = TransportedScalar(diffusivity=0.03, mean_gradient=(0.4, -0.2, 1.0), gravity=(0.3, 0.5, -1.0))
    stepper = solver(
        GRID, interval=0.1, dt=0.025, drag=0.2, forcing=force, scalar=scalar, mean_velocity=(0.5, 0.2, -0.4)
    )
    fields = (SPACE_VELOCITY, SPACE_TRACER)
    assert stepper.spec.fields == fields
    state = torch.cat([random_field(GRID, seed=1), random_field(GRID, seed=2, components=1, solenoidal=False)], dim=1)
    inputs = {name: value for name, value in stepper._defaults.items() if name in {f.name for f in stepper.spec.inputs}}
    after = stepper(state)
    for g in OH.elements[1::7]:
        turned = {name: value.contiguous() for name, value in act_on_inputs(stepper.spec, inputs, g).items()}
        error = stepper(act_on_fields(fields, state, g), turned) - act_on_fields(fields, after, g)
        assert relative(error, after, state) < 1e-11, g.name
        assert relative(stepper(act_on_fields(fields, state, g)) - act_on_fields(fields, after, g), after, state) > 0.01


def test_the_other_grid_commutes_with_sampling():
    """A coarse grid that resolves the flow gives what the fine one gives, where their cells lie elsewhere."""
    from solvers import Resampled, resample

    fine, coarse = Grid.cube(16), Grid.cube(12)
    stepper = solver(fine, interval=0.1, viscosity=0.1)
    state = random_field(fine, reach=2)
    after = Resampled(stepper, coarse)(resample(state, fine, coarse))
    assert distance(after, resample(stepper(state), fine, coarse)) < 1e-11
