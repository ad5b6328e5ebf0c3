"""Perturbed forecasts: the members of an ensemble, perturbed at random at the start and before every later step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.core.seeding import derive_seed
from fluidsurrogate.data.array_types import EnsembleStates, States
from fluidsurrogate.models.step import ChangeProjection
from fluidsurrogate.simulation.rollout import rollout_in_batches
from solvers import StateSpec, Stepper
from solvers.array_types import Inputs, State
from solvers.spectra import cospectrum, shell_wavenumbers

RandomGenerators = Sequence[np.random.Generator]  # one for each forecast


@dataclass(frozen=True)
class Perturbation:
    r"""Statistics of the random fields that perturb the members of an ensemble before every step.

    .. math:: \delta = b\, c\, \eta, \qquad \eta^+ = \rho \eta + \sqrt{1 - \rho^2}\, \eta'

    Here c is the RMS change of each field over the previous step (at the start: over the coming step), and η and η' are
    Gaussian random fields with the spectrum of the model's own one-step errors, relative to c.

    Parameters
    ----------
    spectra : tuple of tuple of float
        For each field of the state, the sum of ⟨η²⟩ over its components in each shell |k| ± ½ of `solvers.spectra`.
    memory : float
        Correlation ρ of η from one step to the next.
    factor : float
        Size b of the perturbation, relative to the one-step errors.
    """

    spectra: tuple[tuple[float, ...], ...]
    memory: float
    factor: float = 1.0


@final
class GaussianRandomField:
    """Sampler of random states with a given spectrum that keep, in distribution, every symmetry of the grid.

    White noise on the cells is filtered by |k| and then projected as the changes of a surrogate are: onto their band,
    without a mean, without divergence if the field is solenoidal, and with the parity of the field about the plates.
    White noise has the same distribution after a rotation, a mirror or a shift by cells, and filter and projection
    commute with these.

    Parameters
    ----------
    spec : StateSpec
        Grid and fields of the state.
    project : ChangeProjection
        The projection of the surrogate's changes.
    band : tuple of int
        Largest mode numbers that the projection keeps, (my, mx) or (mz, my, mx).
    spectra : sequence of sequence of float
        For each field, the variance in each shell, as in `Perturbation`.

    Attributes
    ----------
    filter : Tensor
        Amplitude of each mode of `torch.fft.rfftn`, shape (component, ky, kx) or (component, kz, ky, kx).

    Raises
    ------
    ValueError
        If the spectra do not have the fields and shells of the spec.
    """

    def __init__(
        self, spec: StateSpec, project: ChangeProjection, band: tuple[int, ...], spectra: Sequence[Sequence[float]]
    ) -> None:
        shells = len(shell_wavenumbers(spec.grid.n, spec.grid.length))
        if len(spectra) != len(spec.fields) or any(len(spectrum) != shells for spectrum in spectra):
            raise ValueError(f"the perturbation needs {len(spec.fields)} spectra of {shells} shells each, "
                             f"one for each field (got {len(spectra)} of {[len(s) for s in spectra]})")  # fmt: skip
        self.spec, self.project = spec, project
        modes, amplitudes = _count_modes_per_shell(spec, band), []
        for field, spectrum in zip(spec.fields, spectra, strict=True):
            # Of a mode's degrees of freedom the projection drops one if the field is solenoidal, half about plates.
            kept = (field.components - field.solenoidal) * (0.5 if field.wall else 1.0)
            power = torch.tensor(spectrum, dtype=torch.float64) / (modes * kept).clamp(min=1e-300)
            power = torch.where(modes > 0, power, 0.0) * math.prod(spec.grid.n)
            amplitudes += [power.sqrt()[_shell_index(spec)]] * field.components
        self.filter = torch.stack(amplitudes)
        self.filter.flatten(1)[:, 0] = 0.0  # the mean

    def __call__(self, generators: RandomGenerators) -> State:
        """Draw a field from each generator.

        Parameters
        ----------
        generators : sequence of numpy.random.Generator
            One for each field to draw; each is advanced.

        Returns
        -------
        Tensor
            Shape (batch, component, y, x), in the precision and on the device of the projection.
        """
        shape = (self.spec.components, *self.spec.grid.n)
        white = torch.from_numpy(np.stack([g.standard_normal(shape) for g in generators]))
        grid = self.spec.grid
        fields = torch.fft.irfftn(torch.fft.rfftn(white, dim=grid.dims) * self.filter, s=grid.n, dim=grid.dims)
        return self.project(fields.to(self.project.matrices_y))


@dataclass(frozen=True)
class PerturbedCarry:
    """State of a perturbed forecast between two intervals.

    Parameters
    ----------
    state : Tensor
        The forecast state, shape (batch, component, y, x).
    perturbed_state : Tensor
        The state that the next step starts from: the forecast state with its perturbation.
    carry : object
        What the perturbed stepper carries, with the perturbation of its state.
    noise : Tensor
        The random fields η of the last perturbation, shape (batch, component, y, x).
    generators : sequence of numpy.random.Generator
        The random generators, one for each forecast.
    """

    state: State
    perturbed_state: State
    carry: Any
    noise: Tensor
    generators: RandomGenerators


@final
class PerturbedStepper(Stepper[PerturbedCarry]):
    """Stepper whose state is perturbed at random at the start and before every later step.

    Parameters
    ----------
    stepper : Stepper
        The stepper to perturb, which must implement `correct`.
    random_field : callable
        Draws a random field from each of several generators, as `GaussianRandomField` does.
    perturbation : Perturbation
        Memory and size of the perturbations.

    Attributes
    ----------
    spec : StateSpec
        That of the stepper.
    """

    def __init__(
        self, stepper: Stepper, random_field: Callable[[RandomGenerators], State], perturbation: Perturbation
    ) -> None:
        self.stepper, self.spec = stepper, stepper.spec
        self.random_field, self.perturbation = random_field, perturbation

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> PerturbedCarry:
        """Begin a rollout from the perturbed initial states.

        Parameters
        ----------
        state : Tensor
            The initial states, shape (batch, component, y, x).
        inputs : mapping of str to Tensor, optional
            The inputs by name.
        seeds : sequence of int
            One seed for each initial state; they fix all perturbations of the rollout.

        Returns
        -------
        PerturbedCarry
            What `advance` takes.

        Raises
        ------
        ValueError
            If there is not one seed for each initial state.
        """
        if seeds is None or len(seeds) != len(state):
            raise ValueError(f"{len(state)} perturbed states need as many seeds (got {len(seeds or ())})")
        generators = [np.random.default_rng(seed) for seed in seeds]
        noise = self.random_field(generators)
        state = state.to(noise)
        perturbed = state + self._amplitude(self.stepper(state, inputs) - state) * noise
        return PerturbedCarry(perturbed, perturbed, self.stepper.start(perturbed, inputs), noise, generators)

    def advance(self, carry: PerturbedCarry) -> PerturbedCarry:
        """Advance the perturbed state by one interval, and perturb the result for the next one.

        Parameters
        ----------
        carry : PerturbedCarry
            From `start` or `advance`.

        Returns
        -------
        PerturbedCarry
            One interval later.
        """
        after = self.stepper.advance(carry.carry)
        state = self.stepper.state(after)
        rho = self.perturbation.memory
        noise = rho * carry.noise + math.sqrt(1 - rho**2) * self.random_field(carry.generators)
        added = self._amplitude(state - carry.perturbed_state) * noise
        return PerturbedCarry(state, state + added, self.stepper.correct(after, added), noise, carry.generators)

    def state(self, carry: PerturbedCarry) -> State:
        """Return the forecast state, before the perturbation that the next step starts with.

        Parameters
        ----------
        carry : PerturbedCarry
            From `start` or `advance`.

        Returns
        -------
        Tensor
            Shape (batch, component, y, x); of the carry of `start`, the initial state with its perturbation.
        """
        return carry.state

    def _amplitude(self, change: State) -> Float[Tensor, "batch component *ones"]:
        """Return the size b c of the perturbation at each component."""
        return self.perturbation.factor * field_rms(self.spec, change)


def field_rms(spec: StateSpec, states: State) -> Float[Tensor, "batch component *ones"]:
    """Compute the root mean square of each field, over its components together.

    Parameters
    ----------
    spec : StateSpec
        Says which components belong to a field.
    states : Tensor
        Shape (batch, component, y, x).

    Returns
    -------
    Tensor
        Shape (batch, component, 1, 1), in three dimensions (batch, component, 1, 1, 1); the number of a field is
        repeated for each of its components.
    """
    within = (1, *spec.grid.dims)
    parts = [part.square().mean(within, keepdim=True).sqrt().expand(-1, part.shape[1], *(-1 for _ in spec.grid.n))
             for part in states.split([field.components for field in spec.fields], dim=1)]  # fmt: skip
    return torch.cat(parts, dim=1)


def perturbed_rollout(
    stepper: PerturbedStepper, states: State, steps: int, seeds: Sequence[Sequence[int]], inputs: Inputs = None
) -> EnsembleStates:
    """Roll the perturbed members of each trajectory out.

    Parameters
    ----------
    stepper : PerturbedStepper
        The perturbed model.
    states : Tensor
        The unperturbed initial states, shape (trajectory, component, y, x).
    steps : int
        Number of intervals.
    seeds : sequence of sequence of int
        A seed for each trajectory and member, as `member_seeds` gives them.
    inputs : mapping of str to Tensor, optional
        The inputs by name, each (trajectory, component, y, x).

    Returns
    -------
    Tensor
        Shape (trajectory, member, steps + 1, component, y, x), the perturbed initial state first, on the CPU.
    """
    members = len(seeds[0])
    repeated = {name: value.repeat_interleave(members, dim=0) for name, value in (inputs or {}).items()}
    flat = [seed for row in seeds for seed in row]
    repeated_states = states.repeat_interleave(members, dim=0)
    rolled = rollout_in_batches(stepper, repeated_states, steps, repeated, flat, first_from_stepper=True)
    return rolled.unflatten(0, (len(states), members))


def member_seeds(seed: int, labels: Sequence[int | float | str], count: int) -> list[list[int]]:
    """Derive the seeds of the perturbed members of each trajectory from its label.

    The seeds of a trajectory do not depend on the other trajectories of the forecast. If several trajectories have the
    same label, as in two concatenated datasets, each of them gets different seeds.

    Parameters
    ----------
    seed : int
        Seed of the ensemble.
    labels : sequence of int, float or str
        Label of each trajectory.
    count : int
        Number of members, the unperturbed member 0 included.

    Returns
    -------
    list of list of int
        Seeds of the members 1 to count − 1 of each trajectory.
    """
    seen, seeds = Counter[str](), []
    for label in map(str, labels):
        repeats = (seen[label],) if seen[label] else ()
        seen[label] += 1
        seeds.append([derive_seed(seed, "member", m, label, *repeats) for m in range(1, count)])
    return seeds


def one_step_error_statistics(
    stepper: Stepper, truth: Sequence[States], inputs: Sequence[Inputs]
) -> tuple[tuple[tuple[float, ...], ...], float]:
    """Measure spectra and memory of a model's one-step errors, for a `Perturbation`.

    Each error is that of a single step from a true state, divided by the RMS of the change that the step makes. Spectra
    and correlations are means over all steps.

    Parameters
    ----------
    stepper : Stepper
        The model.
    truth : sequence of Tensor
        Blocks of true trajectories, each (trajectory, time, component, y, x).
    inputs : sequence of mapping of str to Tensor
        The inputs of each block by name, or None.

    Returns
    -------
    spectra : tuple of tuple of float
        For each field, the sum of the squares over its components in each shell.
    memory : float
        Correlation of the errors of successive steps, between 0 and 0.99.
    """
    spec, blocks = stepper.spec, []
    with torch.no_grad():
        for states, values in zip(truth, inputs, strict=True):
            errors = []
            for t in range(states.shape[1] - 1):
                predicted = stepper(states[:, t], values).to(states)
                size = field_rms(spec, predicted - states[:, t])
                errors.append(((predicted - states[:, t + 1]) / size.where(size > 0, 1.0)).double())
            blocks.append(torch.stack(errors, dim=1))
    spectra, memories = [], []
    for part in torch.cat(blocks).split([field.components for field in spec.fields], dim=2):
        flat = part.flatten(0, 2)[:, None]
        shells = cospectrum(flat, flat, spec.grid.length).mean(0) * part.shape[2]
        spectra.append(tuple(float(v) for v in shells.nan_to_num(0.0, 0.0, 0.0)))
        before, after = part[:, :-1], part[:, 1:]
        product, norm = (before * after).sum(), (before.square().sum() * after.square().sum()).sqrt()
        memories.append(float(product / norm) if norm > 0 and product.isfinite() else 0.0)
    return tuple(spectra), min(max(sum(memories) / len(memories), 0.0), 0.99)


def _shell_index(spec: StateSpec) -> Tensor:
    """Return the index of the shell of each mode of `torch.fft.rfftn`; the mean is counted to the first."""
    first, *others = spec.grid.wavenumbers()
    for k in others:
        first = torch.hypot(first, k)
    return ((first * max(spec.grid.length) / (2 * math.pi)).round().long() - 1).clamp(min=0)


def _count_modes_per_shell(spec: StateSpec, band: tuple[int, ...]) -> Float[Tensor, " shell"]:
    """Count the modes of each shell within the band, a mode and its conjugate as two."""
    shell = _shell_index(spec)
    weight = torch.full(shell.shape, 2.0, dtype=torch.float64)
    weight[..., 0] = weight[..., spec.grid.n[-1] // 2] = 1.0
    weight = torch.where(spec.grid.retained(band), weight, 0.0)
    weight.flatten()[0] = 0.0  # the mean
    return torch.zeros(int(shell.max()) + 1, dtype=torch.float64).scatter_add(0, shell.flatten(), weight.flatten())
