"""A trained network as a stepper, and as files: weights as safetensors, everything else as JSON."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
import xarray as xr
from safetensors.torch import save as serialised
from torch import Tensor

from fluidsurrogate.config.flow_and_model_configs import ModelConfig
from fluidsurrogate.config.stage_configs import FEWEST_MEMBERS
from fluidsurrogate.core.devices import device_available
from fluidsurrogate.core.errors import UsageError, check_integer
from fluidsurrogate.core.files import atomic_write, write_json
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.data.conversion import (
    check_matches,
    stack_members,
    to_dataset,
    to_inputs,
    to_states,
    trajectory_coordinates,
    trajectory_labels,
)
from fluidsurrogate.data.coordinates import at_time
from fluidsurrogate.data.flow_constants import check_constants
from fluidsurrogate.data.schema import describe_grid, is_same_grid
from fluidsurrogate.models.calibration import CALIBRATION, LEVEL, Calibration
from fluidsurrogate.models.model_files import CONFIG, FORMAT, LAST, WEIGHTS, sha256_of, weights_in
from fluidsurrogate.models.normalisation import Normalisation
from fluidsurrogate.models.perturbations import Noise, Perturbation, PerturbedStepper, member_seeds, members_from
from fluidsurrogate.models.regridding import APPLIED, HINT, TRAINED, check_applies, check_group, moved_normalisation
from fluidsurrogate.models.step import FoldedSurrogateStep, SurrogateStep, ordered
from fluidsurrogate.nn import Network, cast, state_tensors
from fluidsurrogate.simulation.batch_sizes import check_room
from fluidsurrogate.simulation.rollout import rollout
from fluidsurrogate.simulation.zarr_rollout import rollout_to_zarr
from solvers import Grid, StateSpec, Stepper
from solvers.stepper import Inputs, State

log = logging.getLogger("fluidsurrogate")


@dataclass(frozen=True)
class SurrogateCarry:
    """The state, the inputs as they are and normalised, and the network with its kernels expanded."""

    state: State
    inputs: Inputs
    given: Tensor | None
    network: Callable[[Tensor], Tensor]


@final
class Surrogate(Stepper[SurrogateCarry]):
    """x⁺ = b + P c N(z): the network says the normalised change of b, in physical units in and out; see
    `SurrogateStep`. b is the state itself or, in a hybrid, what the stepper `base`, a coarse solver, makes of it in
    the interval.

    `config` is the model's part of the experiment, `about` what its maker recorded: its name and `store.stamp`;
    `multiple` how many stored intervals a step is long, one of the section's `intervals`: `spec` is that of such steps,
    `stored` that of the stored states. `constants` are the viscosity, drag and diffusivity of the flow that it was
    trained on, as far as they are known and no inputs.
    """

    def __init__(
        self,
        network: Network,
        spec: StateSpec,
        normalisation: Normalisation,
        config: ModelConfig,
        about: Mapping[str, Any],
        base: Stepper | None = None,
        multiple: int = 1,
        constants: Mapping[str, float] | None = None,
    ) -> None:
        self.network, self.normalisation, self.config, self.about = network, normalisation, config, about
        self.constants = dict(constants or {})
        self.stored, self.base, self.multiple = spec, base, multiple
        self.spec = replace(spec, interval=multiple * spec.interval)
        self.folder: Path | None = None  # that it was loaded from
        self.calibration: Calibration | None = None  # of this grid and these intervals
        weight = next(network.parameters())
        self.step = SurrogateStep(spec, normalisation, config.multiples, multiple).to(weight.device, weight.real.dtype)
        self.is_markov = config.networks == 1  # the mean of several does not say where each of them is
        self.keep_members = (
            False  # of an ensemble's members, `state` gives every one, one after the other, not their mean
        )
        self.half = False  # the network in bfloat16, the step around it as it is

    def every(self, multiple: int) -> Surrogate:
        """The same model, weights shared, stepping over that many stored intervals at once; UsageError where it was not
        trained for that (`models.NAME.intervals`)."""
        if multiple == self.multiple:
            return self
        if multiple not in self.config.multiples:
            raise UsageError(f"this model steps over {self.config.multiples} stored intervals (got {multiple})")
        other = Surrogate(
            self.network, self.stored, self.normalisation, self.config, self.about, self.base, multiple, self.constants
        )
        other.half, other.keep_members, other.folder = self.half, self.keep_members, self.folder
        other.step.train(self.step.training)
        return other

    def __repr__(self) -> str:
        spec, kind = self.spec, self.config.kind
        fields = ", ".join(field.name for field in spec.fields)
        inputs = f" given {', '.join(field.name for field in spec.inputs)}" if spec.inputs else ""
        return (
            f"<Surrogate {self.about.get('name', '')!r}: {kind} over {self.network.group.name}, {self.parameters:,} "
            f"weights; {fields}{inputs} on {describe_grid(spec.grid)}, every {spec.interval:g}; {self._dtype} on "
            f"{self._scale.device}>"
        )

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Surrogate:
        """A copy of the model on another device or in another precision; this one stays as it is.

        Parameters
        ----------
        device
            cpu, cuda, cuda:1, mps; by default the model's own.
        dtype
            torch.float32 or torch.float64; by default the model's own.

        Returns
        -------
        Surrogate
            In another precision it is no longer calibrated.

        Raises
        ------
        UsageError
            If there is no such device here, the precision is neither, its weights are complex and to be in double
            precision, or it is a hybrid, whose solver is built where it is loaded.
        """
        device, dtype = str(device or self._scale.device), dtype or self._scale.dtype
        if not device_available(device):
            raise UsageError(f"device {device!r} is not to be had here; try cpu, cuda or mps")
        if dtype not in (torch.float32, torch.float64):
            raise UsageError(f"dtype must be torch.float32 or torch.float64 (got {dtype})")
        if self.base is not None and (torch.device(device), dtype) != (self._scale.device, self._scale.dtype):
            raise UsageError("a hybrid's solver is built where it is loaded: save it, and fs.load(folder, device)")
        try:
            network = cast(copy.deepcopy(self.network), dtype).to(device)
        except ValueError as error:
            raise UsageError(f"the model cannot be {dtype}: {error}") from None
        moved = Surrogate(
            network, self.stored, self.normalisation, self.config, self.about, self.base, self.multiple, self.constants
        )
        moved.half, moved.keep_members, moved.folder = self.half, self.keep_members, self.folder
        moved.calibration = self.calibration if dtype == self._scale.dtype else None
        return moved

    @property
    def _dtype(self) -> str:
        return str(self._scale.dtype).removeprefix("torch.")

    @property
    def _hint(self) -> str:
        """What could be done with a start on another grid: of a hybrid nothing."""
        return "" if self.base is not None else HINT

    @property
    def _scale(self) -> Tensor:
        """Of the dtype and on the device that the surrogate computes with."""
        return self.step.scale

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> SurrogateCarry:
        """Expand the kernels once for the whole rollout."""
        if not len(state):
            raise UsageError("state holds no trajectory: give at least one")
        self.spec.check(state, inputs)
        if (members := self.config.networks) > 1:
            state = state.repeat(members, 1, 1, 1)
            inputs = {name: value.repeat(members, 1, 1, 1) for name, value in (inputs or {}).items()}
        given = self.step.given(ordered(self.spec, inputs), state)
        with self._precision():
            return SurrogateCarry(state.to(self._scale), inputs, given, self.network.fold())

    def advance(self, carry: SurrogateCarry) -> SurrogateCarry:
        """One interval."""
        base = None if self.base is None else self._by_solver(self.base, carry)

        def network(z: Tensor) -> Tensor:
            with self._precision():
                return carry.network(z).to(z.dtype)

        return replace(carry, state=self.step(network, carry.state, carry.given, base))

    @staticmethod
    def _by_solver(base: Stepper, carry: SurrogateCarry) -> State:
        try:
            return base(carry.state, carry.inputs).to(carry.state)
        except ValueError as error:  # on numbers that it cannot run
            raise UsageError(f"the hybrid's solver: {error}") from None

    def _precision(self) -> torch.autocast:
        return torch.autocast(self._scale.device.type, torch.bfloat16, enabled=self.half)

    def state(self, carry: SurrogateCarry) -> State:
        """The state in physical units; of an ensemble the mean of its members', each of which goes its own way."""
        members = self.config.networks
        return carry.state if members == 1 or self.keep_members else carry.state.unflatten(0, (members, -1)).mean(0)

    def fold(self) -> FoldedSurrogateStep:
        """The step as a module of plain convolutions, with the weights as they are now: (state, *inputs in the order of
        the spec) → next state, for `torch.compile`, `torch.export` and ONNX."""
        if self.base is not None:
            raise UsageError("a hybrid cannot be folded: its solver is no network")
        return FoldedSurrogateStep(copy.deepcopy(self.step), self.network.plain()).eval()

    @property
    def parameters(self) -> int:
        """Number of trained weights, a complex one counted as two."""
        return weights_in(self.network)

    def forecast(
        self,
        dataset: xr.Dataset,
        steps: int,
        start_time: float | None = None,
        members: int = 1,
        seed: int = 0,
        level: float = LEVEL,
    ) -> xr.Dataset:
        """Forecast `steps` intervals from the dataset's first time, or from the time `start_time`.

        In and out (trajectory, time, y, x), times steps + 1, the start first; trajectories keep their coordinates.
        With `members` > 1, of a calibrated model: (trajectory, member, time, y, x), see `ensemble`, and what
        `Calibration.bound` says of the unperturbed member's error: `error_bound`, `horizon` to the `level`.
        Of a model of k networks (`models.NAME.networks`) the forecast is their mean; with `members` = k, member 0 is
        that mean and 1 … k are the networks'.
        UsageError where grid, fields or interval are not the model's, or `start_time` is no stored time; where members
        are asked of a model that is not calibrated.
        """
        if check_integer("members", members) == 1:
            return self._forecast(dataset, steps, start_time)
        if (networks := self.config.networks) > 1:
            if members != networks:
                raise UsageError(f"this model has {networks} networks: members must be 1 or {networks} (got {members})")
            return self._by_network(dataset, steps, start_time)
        if self.calibration is None:
            raise UsageError("members need a calibrated model, whose errors are known: fluidsurrogate calibrate FOLDER")
        if not level > 0:
            raise UsageError(f"level must be positive (got {level:g})")
        perturbation = self.calibration.perturbation.build()
        return self.calibration.bound(self.ensemble(dataset, steps, members, perturbation, start_time, seed), level)

    def ensemble(
        self,
        dataset: xr.Dataset,
        steps: int,
        members: int,
        perturbation: Perturbation,
        start_time: float | None = None,
        seed: int = 0,
    ) -> xr.Dataset:
        """The forecast, as member 0, and members − 1 others whose start, and whose state before every later step, is
        perturbed: (trajectory, member, time, y, x). The coordinate `perturbed` says which are.

        What is random depends on `seed`, the number of the member and the trajectory's coordinate: not on what else is
        forecast.
        """
        if check_integer("members", members) < FEWEST_MEMBERS:
            raise UsageError(f"members must be 1, or at least {FEWEST_MEMBERS}: a spread needs two perturbed ones "
                             f"(got {members})")  # fmt: skip
        if not self.is_markov:  # each of its networks goes its own way from a state that none of them is in
            raise UsageError("a model of several networks has no perturbed members: its members are its networks")
        self._check_room(dataset, steps, members)
        forecast = self._forecast(dataset, steps, start_time)
        states, inputs = self._given(at_time(dataset, start_time, self.spec.interval))
        seeds = member_seeds(seed, trajectory_labels(forecast), members)
        noise = Noise(self.spec, self.step.project, self.normalisation.band, perturbation.spectra)
        others = members_from(PerturbedStepper(self, noise, perturbation), states, steps, seeds, inputs)
        about = {"member_seed": seed, "perturbation_factor": perturbation.factor}
        return stack_members(self.spec, forecast, others).assign_attrs(about)

    def _by_network(self, dataset: xr.Dataset, steps: int, start_time: float | None) -> xr.Dataset:
        """The mean of the networks' forecasts and, as further members, each."""
        forecast = self._forecast(dataset, steps, start_time)
        states, inputs = self._given(at_time(dataset, start_time, self.spec.interval))
        with torch.no_grad():
            carry = self.start(states, inputs)
            rolled = [carry.state]
            for _ in range(steps):
                carry = self.advance(carry)
                rolled.append(carry.state)
        each = torch.stack(rolled, dim=1).unflatten(0, (self.config.networks, -1)).transpose(0, 1)
        return stack_members(self.spec, forecast, each)

    def _forecast(self, dataset: xr.Dataset, steps: int, start_time: float | None) -> xr.Dataset:
        steps = check_integer("steps", steps, 1)
        self.check(dataset)
        self._check_room(dataset, steps, self.config.networks)
        first = at_time(dataset, start_time, self.spec.interval)
        states, inputs = self._given(first)
        with torch.no_grad():
            rolled = rollout(self, states, steps, inputs)
        if not rolled.isfinite().all():
            log.warning(f"{self.about.get('name', 'the model')}: the forecast turned non-finite")
        begin = float(first["time"].values.item()) if "time" in first.coords else 0.0
        return to_dataset(
            self.spec, rolled, start_time=begin, coordinates=trajectory_coordinates(dataset), inputs=inputs,
            attributes=self.attributes,
        )  # fmt: skip

    def check(self, dataset: xr.Dataset) -> None:
        """UsageError where a dataset does not hold states that this model can step: another grid, other fields or
        inputs, another interval, or another viscosity, drag or diffusivity than it was trained on."""
        check_matches(dataset, self.spec, self._hint)
        self.check_constants(dataset)

    def check_constants(self, dataset: xr.Dataset) -> None:
        """UsageError where a dataset states another viscosity, drag or diffusivity than the model was trained on."""
        check_constants(dataset, self.constants, "the model's flow", "train a model that takes {} as an input")

    def _check_room(self, dataset: xr.Dataset, steps: int, members: int) -> None:
        """UsageError where forecasts of so many steps and members have no room in memory."""
        starts = dataset.sizes.get("trajectory", 1)
        state = self._scale.element_size() * self.spec.components * math.prod(self.spec.grid.n)
        check_room(2 * state * starts * members * (steps + 1), f"{starts} starts, {members} members and {steps} steps",
                   "give fewer, or write them while they run (forecast_to_zarr)")  # fmt: skip

    def _given(self, first: xr.Dataset) -> tuple[State, dict[str, Tensor]]:
        """The states of a dataset's one time, on the model's device, and the inputs."""
        states = to_states(first, self.spec, self._scale.dtype)[:, 0].to(self._scale.device)
        return states, to_inputs(first, self.spec, self._scale.dtype)

    def forecast_to_zarr(
        self,
        dataset: xr.Dataset,
        steps: int,
        path: str | Path,
        *,
        start_time: float | None = None,
        keep_every: int = 1,
        batch: int | None = None,
        force: bool = False,
    ) -> xr.Dataset:
        """`forecast` for any number of starts and steps, written to the Zarr folder `path` while it runs, and opened
        lazily: in bounded memory, and through any kill. See `rollout_to_zarr`."""
        self.check(dataset)
        return rollout_to_zarr(
            self, dataset, steps, path, provenance=self.identity, start_time=start_time, keep_every=keep_every,
            batch=batch, attributes=self.attributes, force=force,
        )  # fmt: skip

    @property
    def attributes(self) -> dict[str, Any]:
        """What every forecast says of where it comes from."""
        flags = {key: self.about[key] for key in (TRAINED, APPLIED) if key in self.about}
        about = {f"model_{key}": value for key, value in self.about.items() if key not in flags}
        return {"source": "fluidsurrogate surrogate", **self.constants, **about, **flags}

    @property
    def identity(self) -> dict[str, Any]:
        """What a forecast's bits depend on, beside its start: plain data, the weights as a hash."""
        config = self._config | {"multiple": self.multiple, "half": self.half}
        if self.base is not None:  # it follows from the experiment
            config["base"] = hashlib.sha256(str(self.about["experiment"]).encode()).hexdigest()[:16]
        return config | {"weights": self.sha256[:16], "device": str(self._scale.device)}

    @property
    def sha256(self) -> str:
        """The SHA-256 hash of the file of weights that `save` would write."""
        return hashlib.sha256(to_safetensors(state_tensors(self.network))).hexdigest()

    def on(self, grid: Grid) -> Surrogate:
        """The same weights on another grid; what comes of it says so in the attributes `trained_on_grid` and
        `applied_to_grid`. On its own grid, the surrogate itself.

        A convolution counts in cells. Where the cells keep their size and the box grows, `cnn`, `gcnn`, `unet`, `gunet`
        and `steerable` do what they did, exactly; only that the flow feels the whole box, of which they now see less.
        Where the cells change in the same box they meet eddies of another size in cells than they learnt, and go wrong:
        a finer view of the coarse forecast, `Resampled(model, grid)`, is then the better one. `fno` counts in waves
        across the box: finer cells in the same box are the nearest to what it learnt. `gfno` counts in both. The change
        is cut off at the same physical wavenumber as before. Scores: `experiments/other_grid/results.md`.

        UsageError where the architecture cannot (a U-Net needs sides that are multiples of 2^levels), or the group is
        no symmetry of the grid.
        """
        if not isinstance(grid, Grid):
            raise UsageError(f"give a grid, Grid.square(64) say, from solvers (got {type(grid).__name__})")
        if is_same_grid(self.spec.grid, grid):
            return self
        if self.base is not None:
            raise UsageError("a hybrid keeps to the grid that it was trained on: its solver is on that")
        check_group(self.network.group, grid, self.spec)
        trained, applied = str(self.about.get(TRAINED, describe_grid(self.spec.grid))), describe_grid(grid)
        spec = replace(self.stored, grid=grid)
        normalisation, about = (
            moved_normalisation(self.normalisation, self.spec.grid, grid),
            {**self.about, TRAINED: trained, APPLIED: applied},
        )
        moved = Surrogate(
            self.network, spec, normalisation, self.config, about, multiple=self.multiple, constants=self.constants
        )
        moved.half = self.half
        check_applies(moved, self._scale)
        log.warning(
            f"{self.about.get('name', 'the model')}: trained on {trained}, applied to {applied}: untested there"
        )
        return moved

    @property
    def _config(self) -> dict[str, Any]:
        return {
            "model": self.config.model_dump(mode="json", exclude_none=True),
            "spec": asdict(self.stored),
            "normalisation": asdict(self.normalisation),
            "constants": self.constants,
            "dtype": self._dtype,
        }

    def save(self, folder: str | Path) -> None:
        """Write weights and config, each in one piece; the config holds the hash of the weights.

        UsageError where it was calibrated at longer steps (`every`): a folder's calibration is of single intervals.
        """
        if self.calibration is not None and self.multiple > 1:
            raise UsageError(f"its calibration is of steps over {self.multiple} intervals, and a folder keeps one of "
                             "single ones: save model.every(1)")  # fmt: skip
        folder = as_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(state_tensors(self.network), folder / WEIGHTS)
        hashes = {name: sha256_of(folder / name) for name in (WEIGHTS, LAST) if (folder / name).exists()}
        write_json(folder / CONFIG, {"format": FORMAT, **self._config, "sha256": hashes, "about": dict(self.about)})
        if self.calibration is None:
            (folder / CALIBRATION).unlink(missing_ok=True)  # of the weights that were there before
        else:
            self.calibration.write(folder)


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Tensors by name as a safetensors file, in one piece."""
    with atomic_write(path) as beside:
        beside.write_bytes(to_safetensors(weights))


def to_safetensors(weights: Mapping[str, Tensor]) -> bytes:
    """Tensors by name as the content of a safetensors file, the same bytes for the same tensors."""
    return serialised({name: value.contiguous() for name, value in weights.items()})
