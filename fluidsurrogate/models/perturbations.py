"""Members of an ensemble: forecasts whose start, and whose state before every later step, is disturbed at random."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.core.seeding import derive_seed
from fluidsurrogate.models.step import Projection
from fluidsurrogate.simulation.rollout import rollout
from solvers import StateSpec, Stepper
from solvers.array_types import Inputs, State
from solvers.spectra import cospectrum, shell_wavenumbers

DeepEnsemble = Float[Tensor, "trajectory member time component y x"]
Generators = Sequence[np.random.Generator]


@dataclass(frozen=True)
class Perturbation:
    """b c η before each step: c the RMS of what the step before changed in each field (before the first: of what that
    will change), η Gaussian random fields that look like the model's own one-step errors over c.

    `spectra`: for each field of the state, Σ⟨η²⟩ in the shells |k| ± ½ of `solvers.spectra`; `memory`: the correlation
    of η from one step to the next, η⁺ = ρη + √(1 − ρ²) η'; `factor`: b.
    """

    spectra: tuple[tuple[float, ...], ...]
    memory: float
    factor: float = 1.0


@final
class Noise:
    """Draws η' (batch, component, y, x): white noise on the cells, filtered by |k| and projected as the changes of a
    surrogate are: onto its band, without mean, solenoidal where the field is, with the parity about the plates.

    White noise has the same distribution turned, mirrored and shifted by cells, and filter and projection commute with
    these: so in distribution the field keeps every symmetry of the grid. ValueError where spectra and spec do not fit.
    """

    def __init__(
        self, spec: StateSpec, project: Projection, band: tuple[int, int], spectra: Sequence[Sequence[float]]
    ) -> None:
        shells = len(shell_wavenumbers(spec.grid.n, spec.grid.length))
        if len(spectra) != len(spec.fields) or any(len(spectrum) != shells for spectrum in spectra):
            raise ValueError(f"the perturbation needs {len(spec.fields)} spectra of {shells} shells")
        self.spec, self.project = spec, project
        held, parts = _modes_by_shell(spec, band), []
        for field, spectrum in zip(spec.fields, spectra, strict=True):
            # Of a mode's degrees of freedom the projection keeps one where the field is solenoidal, half about plates.
            kept = (field.components - field.solenoidal) * (0.5 if field.wall else 1.0)
            power = torch.tensor(spectrum, dtype=torch.float64) / (held * kept).clamp(min=1e-300)
            power = torch.where(held > 0, power, 0.0) * math.prod(spec.grid.n)
            parts += [power.sqrt()[_shell_of_each_mode(spec)]] * field.components
        self.filter = torch.stack(parts)
        self.filter[:, 0, 0] = 0.0

    def __call__(self, generators: Generators) -> State:
        """One field a generator, in the precision and on the device of the projection."""
        shape = (self.spec.components, *self.spec.grid.n)
        white = torch.from_numpy(np.stack([g.standard_normal(shape) for g in generators]))
        fields = torch.fft.irfft2(torch.fft.rfft2(white) * self.filter, s=self.spec.grid.n)
        return self.project(fields.to(self.project.rows))


@dataclass(frozen=True)
class PerturbedCarry:
    """The state as it is seen, as it is stepped from, and what the next perturbation depends on."""

    seen: State
    origin: State
    inputs: Inputs
    random: Tensor
    generators: Generators


@final
class PerturbedStepper(Stepper[PerturbedCarry]):
    """A stepper disturbed before every step; its start is seen disturbed. `seeds`, one a trajectory, fix everything."""

    def __init__(self, stepper: Stepper, noise: Callable[[Generators], State], perturbation: Perturbation) -> None:
        self.stepper, self.spec, self.noise, self.perturbation = stepper, stepper.spec, noise, perturbation

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> PerturbedCarry:
        """Disturb the start. ValueError where `seeds` are not as many as the states."""
        if seeds is None or len(seeds) != len(state):
            raise ValueError(f"{len(state)} perturbed states need as many seeds")
        generators = [np.random.default_rng(seed) for seed in seeds]
        random = self.noise(generators)
        state = state.to(random)
        disturbed = state + self._size(self.stepper(state, inputs) - state) * random
        return PerturbedCarry(disturbed, disturbed, inputs, random, generators)

    def advance(self, carry: PerturbedCarry) -> PerturbedCarry:
        """One interval from the disturbed state."""
        seen = self.stepper(carry.origin, carry.inputs)
        rho = self.perturbation.memory
        random = rho * carry.random + math.sqrt(1 - rho**2) * self.noise(carry.generators)
        origin = seen + self._size(seen - carry.origin) * random
        return PerturbedCarry(seen, origin, carry.inputs, random, carry.generators)

    def state(self, carry: PerturbedCarry) -> State:
        """The state before the perturbation that the next step starts with; the start with it."""
        return carry.seen

    def _size(self, change: State) -> Float[Tensor, "batch component 1 1"]:
        """b c at each component."""
        return self.perturbation.factor * spread_over(self.spec, change)


def spread_over(spec: StateSpec, change: State) -> Float[Tensor, "batch component 1 1"]:
    """The RMS of each field, its components together, repeated for each of these."""
    parts = [part.square().mean((1, 2, 3), keepdim=True).sqrt().expand(-1, part.shape[1], -1, -1)
             for part in change.split([field.components for field in spec.fields], dim=1)]  # fmt: skip
    return torch.cat(parts, dim=1)


def members_from(
    stepper: PerturbedStepper, states: State, steps: int, seeds: Sequence[Sequence[int]], inputs: Inputs = None
) -> DeepEnsemble:
    """The disturbed forecasts of each state, (trajectory, member, time, component, y, x), with `seeds` by trajectory
    and member; the disturbed start first."""
    each = len(seeds[0])
    repeated = {name: value.repeat_interleave(each, dim=0) for name, value in (inputs or {}).items()}
    flat = [seed for row in seeds for seed in row]
    with torch.no_grad():
        rolled = rollout(stepper, states.repeat_interleave(each, dim=0), steps, repeated, flat, first_from_stepper=True)
    return rolled.unflatten(0, (len(states), each))


def member_seeds(seed: int, labels: Sequence[int | float | str], count: int) -> list[list[int]]:
    """Seeds of the members 1 … count − 1 of each trajectory, by its label: whatever else is forecast with it.

    Of several trajectories of one label, as two datasets put together have, each has seeds of its own.
    """
    seen, seeds = Counter[str](), []
    for label in map(str, labels):
        again = (seen[label],) if seen[label] else ()
        seen[label] += 1
        seeds.append([derive_seed(seed, "member", m, label, *again) for m in range(1, count)])
    return seeds


def one_step_errors(
    stepper: Stepper, truth: Sequence[Float[Tensor, "_ time component y x"]], inputs: Sequence[Inputs]
) -> tuple[tuple[tuple[float, ...], ...], float]:
    """Spectra and memory of a `Perturbation`, from blocks of true trajectories and their inputs: the errors of single
    steps from the true states, each over the RMS of the change that the step makes, in the mean over all of them."""
    spec, blocks = stepper.spec, []
    with torch.no_grad():
        for states, given in zip(truth, inputs, strict=True):
            steps = []
            for t in range(states.shape[1] - 1):
                made = stepper(states[:, t], given).to(states)
                size = spread_over(spec, made - states[:, t])
                steps.append(((made - states[:, t + 1]) / size.where(size > 0, 1.0)).double())
            blocks.append(torch.stack(steps, dim=1))
    spectra, memories = [], []
    for part in torch.cat(blocks).split([field.components for field in spec.fields], dim=2):
        single = part.flatten(0, 2)[:, None]
        shells = cospectrum(single, single, spec.grid.length).mean(0) * part.shape[2]
        spectra.append(tuple(float(v) for v in shells.nan_to_num(0.0, 0.0, 0.0)))
        before, after = part[:, :-1], part[:, 1:]
        product, norm = (before * after).sum(), (before.square().sum() * after.square().sum()).sqrt()
        memories.append(float(product / norm) if norm > 0 and product.isfinite() else 0.0)
    return tuple(spectra), min(max(sum(memories) / len(memories), 0.0), 0.99)


def _shell_of_each_mode(spec: StateSpec) -> Tensor:
    """Index of the shell of each mode of `torch.fft.rfft2`; the mean counted to the first."""
    ky, kx = spec.grid.wavenumbers()
    return ((torch.hypot(ky, kx) * max(spec.grid.length) / (2 * math.pi)).round().long() - 1).clamp(min=0)


def _modes_by_shell(spec: StateSpec, band: tuple[int, int]) -> Float[Tensor, " shell"]:
    """How many modes the band leaves in each shell, a mode and its conjugate counted as two."""
    shell = _shell_of_each_mode(spec)
    weight = torch.full(shell.shape, 2.0, dtype=torch.float64)
    weight[:, 0] = weight[:, spec.grid.n[1] // 2] = 1.0
    weight = torch.where(spec.grid.retained(band), weight, 0.0)
    weight[0, 0] = 0.0
    return torch.zeros(int(shell.max()) + 1, dtype=torch.float64).scatter_add(0, shell.flatten(), weight.flatten())
