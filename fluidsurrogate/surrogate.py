"""A trained network as a stepper, and as files: weights as safetensors, everything else as JSON."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import xarray as xr
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fluidsurrogate.calibration import CALIBRATION, FEWEST_MEMBERS, LEVEL, Calibration, read_calibration
from fluidsurrogate.dataset import (
    check_matches,
    stack_members,
    to_dataset,
    to_inputs,
    to_states,
    trajectory_coordinates,
    trajectory_labels,
)
from fluidsurrogate.ensembles import Noise, Perturbation, Perturbed, member_seeds, members_from
from fluidsurrogate.errors import UsageError
from fluidsurrogate.forecasting import rollout
from fluidsurrogate.nn import Foreign, Network, allowing_code, cast, state_tensors
from fluidsurrogate.reproducible import has_device
from fluidsurrogate.scaling import Scaling
from fluidsurrogate.sections import AnyModelSection, ModelSection
from fluidsurrogate.step import FoldedStep, Step, ordered
from fluidsurrogate.store import read_json, replacing, write_json
from solvers import FieldSpec, Grid, StateSpec, Stepper
from solvers.stepper import Inputs, State

log = logging.getLogger("fluidsurrogate")
FORMAT = 1
WEIGHTS, CONFIG = "weights.safetensors", "config.json"


@dataclass(frozen=True)
class SurrogateCarry:
    """The state, the normalised inputs, and the network with its kernels expanded."""

    state: State
    inputs: Tensor | None
    network: Callable[[Tensor], Tensor]


@final
class Surrogate(Stepper[SurrogateCarry]):
    """x⁺ = x + P c N(z): the network says the normalised change, in physical units in and out; see `Step`.

    `section` is the model's part of the experiment, `about` what its maker recorded: its name and `store.stamp`.
    """

    def __init__(
        self, network: Network, spec: StateSpec, scaling: Scaling, section: ModelSection, about: Mapping[str, Any]
    ) -> None:
        self.network, self.spec, self.scaling, self.section, self.about = network, spec, scaling, section, about
        weight = next(network.parameters())
        self.step = Step(spec, scaling).to(weight.device, weight.real.dtype)
        self.calibration: Calibration | None = None

    @property
    def _scale(self) -> Tensor:
        """Of the dtype and on the device that the surrogate computes with."""
        return self.step.scale

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> SurrogateCarry:
        """Expand the kernels once for the whole rollout."""
        self.spec.check(state, inputs)
        return SurrogateCarry(state.to(self._scale), self.step.given(ordered(self.spec, inputs)), self.network.fold())

    def advance(self, carry: SurrogateCarry) -> SurrogateCarry:
        """One interval."""
        return SurrogateCarry(self.step(carry.network, carry.state, carry.inputs), carry.inputs, carry.network)

    def state(self, carry: SurrogateCarry) -> State:
        """The state in physical units."""
        return carry.state

    def fold(self) -> FoldedStep:
        """The step as a module of plain convolutions, with the weights as they are now: (state, *inputs in the order of
        the spec) → next state, for `torch.compile`, `torch.export` and ONNX."""
        return FoldedStep(copy.deepcopy(self.step), self.network.plain()).eval()

    @property
    def parameters(self) -> int:
        """Number of trained weights, a complex one counted as two."""
        return sum(p.numel() * (1 + p.is_complex()) for p in self.network.parameters())

    def forecast(
        self,
        dataset: xr.Dataset,
        steps: int,
        start: float | None = None,
        members: int = 1,
        seed: int = 0,
        level: float = LEVEL,
    ) -> xr.Dataset:
        """Forecast `steps` intervals from the dataset's first time, or from the time `start`.

        In and out (trajectory, time, y, x), times steps + 1, the start first; trajectories keep their coordinates.
        With `members` > 1, of a calibrated model: (trajectory, member, time, y, x), see `ensemble`, and what
        `Calibration.bound` says of the unperturbed member's error: `error_bound`, `horizon` to the `level`.
        UsageError where grid, fields or interval are not the model's, or `start` is no stored time; where members are
        asked of a model that is not calibrated.
        """
        if members == 1:
            return self._forecast(dataset, steps, start)
        if self.calibration is None:
            raise UsageError("members need a calibrated model, whose errors are known: fluidsurrogate calibrate FOLDER")
        if not level > 0:
            raise UsageError(f"level must be positive (got {level:g})")
        perturbation = self.calibration.perturbation.build()
        return self.calibration.bound(self.ensemble(dataset, steps, members, perturbation, start, seed), level)

    def ensemble(
        self,
        dataset: xr.Dataset,
        steps: int,
        members: int,
        perturbation: Perturbation,
        start: float | None = None,
        seed: int = 0,
    ) -> xr.Dataset:
        """The forecast, as member 0, and members − 1 others whose start, and whose state before every later step, is
        perturbed: (trajectory, member, time, y, x). The coordinate `perturbed` says which are.

        What is random depends on `seed`, the number of the member and the trajectory's coordinate: not on what else is
        forecast.
        """
        if members < FEWEST_MEMBERS:
            raise UsageError(f"members must be 1, or at least {FEWEST_MEMBERS}: a spread needs two perturbed ones "
                             f"(got {members})")  # fmt: skip
        forecast = self._forecast(dataset, steps, start)
        states, inputs = self._given(_at(dataset, start))
        seeds = member_seeds(seed, trajectory_labels(forecast), members)
        noise = Noise(self.spec, self.step.project, self.scaling.band, perturbation.spectra)
        others = members_from(Perturbed(self, noise, perturbation), states, steps, seeds, inputs)
        about = {"member_seed": seed, "perturbation_factor": perturbation.factor}
        return stack_members(self.spec, forecast, others).assign_attrs(about)

    def _forecast(self, dataset: xr.Dataset, steps: int, start: float | None) -> xr.Dataset:
        if steps < 1:
            raise UsageError(f"steps must be at least 1 (got {steps})")
        check_matches(dataset, self.spec)
        first = _at(dataset, start)
        states, inputs = self._given(first)
        with torch.no_grad():
            rolled = rollout(self, states, steps, inputs)
        if not rolled.isfinite().all():
            log.warning(f"{self.about.get('name', 'the model')}: the forecast turned non-finite")
        begin = float(first["time"].values.item()) if "time" in first.coords else 0.0
        return to_dataset(
            self.spec, rolled, start_time=begin, coordinates=trajectory_coordinates(dataset), inputs=inputs,
            attributes={"source": "fluidsurrogate surrogate", **{f"model_{k}": v for k, v in self.about.items()}},
        )  # fmt: skip

    def _given(self, first: xr.Dataset) -> tuple[State, dict[str, Tensor]]:
        """The states of a dataset's one time, on the model's device, and the inputs."""
        states = to_states(first, self.spec, self._scale.dtype)[:, 0].to(self._scale.device)
        return states, to_inputs(first, self.spec, self._scale.dtype)

    def save(self, folder: str | Path) -> None:
        """Write weights and config, each in one piece."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / WEIGHTS) as beside:
            save_file({k: v.contiguous() for k, v in state_tensors(self.network).items()}, beside)
        config = {
            "format": FORMAT,
            "model": self.section.model_dump(mode="json", exclude_none=True),
            "spec": asdict(self.spec),
            "scaling": asdict(self.scaling),
            "dtype": str(self._scale.dtype).removeprefix("torch."),
            "about": dict(self.about),
        }
        write_json(folder / CONFIG, config)
        if self.calibration is None:
            (folder / CALIBRATION).unlink(missing_ok=True)  # of the weights that were there before
        else:
            self.calibration.write(folder)


def _at(dataset: xr.Dataset, start: float | None) -> xr.Dataset:
    if "time" not in dataset.dims:
        return dataset
    if start is None:
        return dataset.isel(time=[0])
    times = np.asarray(dataset["time"].values, dtype=np.float64)
    nearest = int(np.abs(times - start).argmin())
    if not math.isclose(times[nearest], start, rel_tol=1e-6, abs_tol=1e-9):
        raise UsageError(f"start = {start:g} is no stored time; the nearest is {times[nearest]:g}")
    return dataset.isel(time=[nearest])


def load(
    path: str | Path, device: str = "cpu", *, allow_code: bool = False, module: nn.Module | None = None
) -> Surrogate:
    """The model in a folder that `Surrogate.save` wrote. Nothing in it is executed: safetensors and JSON only.

    A model of kind "module" is code that is not in the folder. With `allow_code` the class that its config names is
    imported and run; or `module`, built as it was for training, gets the weights (a copy of it: it stays as it is).
    UsageError where the folder is no model, its weights are not those that its config describes, or it needs code and
    neither was given.
    """
    folder = Path(path)
    if not has_device(device):
        raise UsageError(f"device {device!r} is not to be had here; try cpu, cuda or mps")
    config = read_json(folder / CONFIG)
    if config is None:
        raise UsageError(f"{folder} is no model: it has no {CONFIG}")
    try:
        if config["format"] != FORMAT:
            raise UsageError(f"model format {config['format']} is not {FORMAT}; made by another version")
        spec = _spec_from_json(config["spec"])
        numbers = config["scaling"]
        shift, scale, change = (tuple(map(float, numbers[key])) for key in ("shift", "scale", "change"))
        scaling = Scaling(shift, scale, change, (int(numbers["band"][0]), int(numbers["band"][1])))
        section = TypeAdapter(AnyModelSection).validate_python(config["model"], strict=False)
        if config["dtype"] not in ("float32", "float64"):
            raise ValueError(f"unknown dtype {config['dtype']!r}")
        network = _network(section, spec, getattr(torch, config["dtype"]), allow_code, module).to(device).eval()
        surrogate = Surrogate(network, spec, scaling, section, dict(config["about"]))
    except UsageError as error:
        raise UsageError(f"{folder}: {error}") from None
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UsageError(f"{folder / CONFIG} describes no model: {reason}") from None
    try:
        network.load_state_dict(load_file(folder / WEIGHTS, device=device))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{folder / WEIGHTS}: not the weights of this model: {reason}") from None
    surrogate.calibration = read_calibration(folder, spec)
    return surrogate


def _network(
    section: ModelSection, spec: StateSpec, dtype: torch.dtype, allow_code: bool, module: nn.Module | None
) -> Network:
    if module is None:
        with allowing_code(allow_code):
            return section.build(spec, dtype)
    if not section.is_foreign:
        raise UsageError(f"a model of kind {section.kind!r} takes no module of yours")
    return cast(Foreign(copy.deepcopy(module), spec.fields), dtype)


def _spec_from_json(tree: Mapping[str, Any]) -> StateSpec:
    fields, inputs = (tuple(FieldSpec(**field) for field in tree[key]) for key in ("fields", "inputs"))
    grid = Grid(tuple(tree["grid"]["n"]), tuple(tree["grid"]["length"]))
    return StateSpec(grid, fields, float(tree["interval"]), inputs)
