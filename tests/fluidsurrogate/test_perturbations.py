"""Members: what they are perturbed by, which symmetries that keeps, and what it depends on."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import fluidsurrogate as fs
from fluidsurrogate import UsageError
from fluidsurrogate.models.forecasting import perturbed_forecast
from fluidsurrogate.models.perturbations import (
    GaussianRandomField,
    Perturbation,
    PerturbedStepper,
    member_seeds,
    one_step_error_statistics,
    perturbed_rollout,
)
from fluidsurrogate.models.step import ChangeProjection
from solvers import D4, TEMPERATURE, VELOCITY, VORTICITY, Grid, StateSpec, Stepper, act_on_fields
from solvers.spectra import cospectrum, shell_wavenumbers

GRID, BAND = Grid.square(16), (5, 5)
SHELLS = len(shell_wavenumbers(GRID.n, GRID.length))
SPECTRUM = tuple(1.0 / (1 + k) for k in range(SHELLS))


def noise_of(*fields, grid=GRID, band=BAND, spectrum=SPECTRUM):
    spec = StateSpec(grid, fields, 0.1)
    project = ChangeProjection(grid, fields, band).double()
    return GaussianRandomField(
        spec, project, band, [spectrum[: len(shell_wavenumbers(grid.n, grid.length))]] * len(fields)
    )


def generators(count, first=0):
    return [np.random.default_rng(seed) for seed in range(first, first + count)]


def shells_of(fields):
    flat = fields.flatten(0, 1)[:, None]
    return cospectrum(flat, flat, GRID.length).mean(0) * fields.shape[1]


@pytest.mark.parametrize("field", [VORTICITY, VELOCITY], ids=lambda f: f.name)
def test_noise_has_the_spectrum_that_it_is_given_within_the_band(field):
    """All the shells that the band holds; no mean; nothing beyond; a velocity without divergence."""
    noise = noise_of(field)
    fields = noise(generators(600))
    found, expected = shells_of(fields), torch.tensor(SPECTRUM, dtype=torch.float64)
    np.testing.assert_allclose(found[:7], expected[:7], rtol=0.08)  # √(2 / (600 × 4)) of the first shell is 3 %
    assert float(found[7:].abs().max()) < 1e-20  # |k| ≤ 5√2 = 7.07
    assert float(fields.mean((-2, -1)).abs().max()) < 1e-12
    if field is VELOCITY:
        ky, kx = GRID.odd_wavenumbers()
        u, v = torch.fft.rfft2(fields).split(1, dim=1)
        assert float((kx * u + ky * v).abs().max()) < 1e-10


def test_noise_prefers_no_direction():
    """Mean squares of the modes of one shell, along the axes, the diagonals and between: equal. A filter that is longer
    in x is seen."""
    noise = noise_of(VORTICITY)

    def power(noise):
        modes = torch.fft.fft2(noise(generators(1500))).abs().square().mean((0, 1))
        return torch.stack([modes[0, 5], modes[5, 0], modes[4, 3], modes[-3, 4], modes[3, 4]])

    ratio = power(noise) / power(noise).mean()
    assert float((ratio - 1).abs().max()) < 0.12  # of 1500 exponential variables the mean is known to 2.6 %
    noise.filter = noise.filter * (1 + 0.2 * GRID.modes()[1])
    ratio = power(noise) / power(noise).mean()
    assert float((ratio - 1).abs().max()) > 0.3


class Given(np.random.Generator):
    """Random numbers that are none."""

    def __new__(cls, values):
        return super().__new__(cls, np.random.PCG64(0))

    def __init__(self, values):
        super().__init__(np.random.PCG64(0))
        self.values = values

    def standard_normal(self, shape):
        assert tuple(shape) == self.values.shape
        return self.values


@pytest.mark.parametrize("fields", [(VORTICITY, TEMPERATURE), (VELOCITY,)], ids=["scalars", "velocity"])
def test_white_noise_turned_gives_the_field_turned(fields):
    """White noise has one distribution turned, mirrored, shifted or not; so has the field, if it turns with it."""
    noise = noise_of(*fields)
    white = torch.from_numpy(np.random.default_rng(0).standard_normal((3, noise.spec.components, 16, 16)))
    field = noise([Given(w.numpy()) for w in white])
    for g in D4.elements:
        turned = noise([Given(w.numpy()) for w in act_on_fields(fields, white, g)])
        torch.testing.assert_close(turned, act_on_fields(fields, field, g), rtol=0, atol=1e-12)
    shifted = noise([Given(w.roll((2, 5), (-2, -1)).numpy()) for w in white])
    torch.testing.assert_close(shifted, field.roll((2, 5), (-2, -1)), rtol=0, atol=1e-12)


def test_noise_obeys_plates():
    """Odd about the middle of the box as well as its edges, where the field is."""
    temperature = replace(TEMPERATURE, wall=-1)
    grid = Grid.box([16, 32], [2.0, 4.0])
    spectrum = [1.0] * len(shell_wavenumbers(grid.n, grid.length))
    fields = noise_of(temperature, grid=grid, spectrum=spectrum)(generators(2))
    torch.testing.assert_close(fields, -fields.flip(-2))
    assert float(fields.abs().max()) > 0.1


def test_a_spectrum_for_another_grid_is_refused():
    with pytest.raises(ValueError, match="needs 1 spectra of 11 shells"):
        noise_of(VORTICITY, spectrum=SPECTRUM[:4])


@pytest.fixture(scope="module")
def model(trained):
    """A D4 network, perturbed by what nobody has measured."""
    return trained[1]["small-d4"]


def perturbed(model, noise=None, memory=0.5):
    noise = noise or GaussianRandomField(model.spec, model.step.project, model.normalisation.band, [SPECTRUM])
    return PerturbedStepper(model, noise, Perturbation((SPECTRUM,), memory, 0.3))


def test_the_whole_forecast_turns_with_start_and_perturbation(model, trained):
    states = torch.from_numpy(trained[0]["vorticity"].values[:2, :1])
    seeds = member_seeds(0, ["a", "b"], 3)
    plain = perturbed(model)
    members = perturbed_rollout(plain, states, 4, seeds)
    assert members.shape == (2, 2, 5, 1, 16, 16)
    for g in D4.elements[1:]:
        turning = perturbed(model, lambda made, g=g: act_on_fields(model.spec.fields, plain.random_field(made), g))
        turned = perturbed_rollout(turning, act_on_fields(model.spec.fields, states, g), 4, seeds)
        expected = act_on_fields(model.spec.fields, members.flatten(0, 2), g).reshape(members.shape)
        torch.testing.assert_close(turned, expected, rtol=0, atol=2e-4 * float(members.abs().max()))
    unturned = perturbed_rollout(plain, act_on_fields(model.spec.fields, states, D4.elements[1]), 4, seeds)
    expected = act_on_fields(model.spec.fields, members.flatten(0, 2), D4.elements[1]).reshape(members.shape)
    assert float((unturned - expected).abs().max()) > 0.05


def test_members_depend_on_seed_number_and_trajectory_alone(model, trained):
    data = trained[0]
    perturbation = Perturbation((SPECTRUM,), 0.5, 0.3)
    many = perturbed_forecast(model, data, 3, 5, perturbation)
    few = perturbed_forecast(model, data.isel(trajectory=[4, 2]), 3, 3, perturbation)
    expected = many["vorticity"].isel(trajectory=[4, 2], member=slice(0, 3))
    np.testing.assert_allclose(few["vorticity"], expected, atol=1e-4)
    assert many["vorticity"].dims == ("trajectory", "member", "time", "y", "x")
    assert many["perturbed"].values.tolist() == [False, True, True, True, True]
    values = many["vorticity"].isel(time=0).values
    assert min(np.abs(values[i, m] - values[i, n]).max() for i in range(6) for m in range(5) for n in range(m)) > 0.01
    other = perturbed_forecast(model, data.isel(trajectory=[4, 2]), 3, 3, perturbation, seed=1)
    assert float(abs(other - few)["vorticity"].isel(member=1).max()) > 0.01


def test_trajectories_of_one_label_have_noise_of_their_own(model, trained):
    """Two datasets put together: the first of a label is perturbed as by itself, the second differently."""
    data = trained[0]
    perturbation = Perturbation((SPECTRUM,), 0.5, 0.3)
    doubled = data.isel(trajectory=[4, 2, 4, 4])
    members = perturbed_forecast(model, doubled, 1, 3, perturbation)["vorticity"].isel(time=0).values
    alone = perturbed_forecast(model, data.isel(trajectory=[4]), 1, 3, perturbation)["vorticity"].isel(time=0).values
    np.testing.assert_allclose(members[0], alone[0], atol=1e-5)
    noise = members[[0, 2, 3], 1:] - members[[0, 2, 3], :1]
    assert min(np.abs(noise[i] - noise[j]).max() for i in range(3) for j in range(i)) > 0.01
    seeds = member_seeds(0, ["a", "b", "a"], 3)
    assert seeds[:2] == member_seeds(0, ["a", "b"], 3)
    assert len({seed for row in seeds for seed in row}) == 6


def test_member_zero_is_the_forecast(model, trained):
    forecast = fs.forecast(model, trained[0], 4, start_time=0.25)
    members = perturbed_forecast(model, trained[0], 4, 3, Perturbation((SPECTRUM,), 0.5, 0.3), start_time=0.25)
    assert np.array_equal(members["vorticity"].isel(member=0), forecast["vorticity"])
    assert members["vorticity"].attrs == forecast["vorticity"].attrs
    np.testing.assert_array_equal(members["time"], forecast["time"])


class Doubling(Stepper):
    """x⁺ = 2x: what it changes is the state."""

    spec = StateSpec(GRID, (VORTICITY,), 1.0)

    def start(self, state, inputs=None, seeds=None):
        return state

    def advance(self, carry):
        return 2 * carry

    def correct(self, carry, correction):
        return carry + correction

    def state(self, carry):
        return carry


def test_size_memory_and_spectrum_are_measured():
    """True steps that differ from the stepper's by noise of known spectrum and memory, relative to the change."""
    noise, times, rho = noise_of(VORTICITY), 30, 0.6
    made = generators(40)
    states, eta = [noise(made)], noise(made)
    for _ in range(times):
        x = states[-1]
        states.append(2 * x + 0.01 * x.square().mean((1, 2, 3), keepdim=True).sqrt() * eta)
        eta = rho * eta + math.sqrt(1 - rho**2) * noise(made)
    spectra, memory = one_step_error_statistics(Doubling(), [torch.stack(states, dim=1)], [None])
    assert memory == pytest.approx(rho, abs=0.02)
    np.testing.assert_allclose(np.array(spectra[0][:7]) / 1e-4, SPECTRUM[:7], rtol=0.1)


def test_the_size_follows_what_the_step_changes():
    noise = noise_of(VORTICITY)
    stepper = PerturbedStepper(Doubling(), noise, Perturbation((SPECTRUM,), 0.0, 0.1))
    states = noise(generators(1)) * torch.tensor([1.0, 10.0])[:, None, None, None]
    carry = stepper.start(states, None, [7, 7])
    small, large = (stepper.state(carry) - states).square().mean((1, 2, 3)).sqrt()
    assert float(large / small) == pytest.approx(10)
    assert float(small) == pytest.approx(
        0.1 * float(states[0].square().mean().sqrt()) * float(noise([np.random.default_rng(7)]).square().mean().sqrt())
    )
    with pytest.raises(ValueError, match="2 perturbed states need as many seeds"):
        stepper.start(states)


def test_what_is_refused(model, trained):
    data = trained[0]
    with pytest.raises(UsageError, match=r"members need a calibrated model, .*: run fluidsurrogate calibrate FOLDER"):
        fs.forecast(model, data, 2, members=4)
    for members in (2, 0, -1):
        with pytest.raises(UsageError, match=rf"members must be 1, or at least 3: .*got {members}"):
            perturbed_forecast(model, data, 2, members, Perturbation((SPECTRUM,), 0.5))
    two = copy.copy(model)
    two.config = model.config.model_copy(update={"networks": 2})
    with pytest.raises(UsageError, match="a model of several networks has no perturbed members"):
        perturbed_forecast(two, data, 2, 3, Perturbation((SPECTRUM,), 0.5))
