"""Train one network, so that a kill at any moment costs at most one checkpoint interval and no bit of the result."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import xarray as xr
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fluidsurrogate.config import Experiment, TrainSection
from fluidsurrogate.dataset import States, to_inputs, to_states
from fluidsurrogate.errors import UsageError
from fluidsurrogate.forecasting import rollout
from fluidsurrogate.generation import split_of
from fluidsurrogate.nn import Network, state_tensors
from fluidsurrogate.nn.foreign import source_of
from fluidsurrogate.reproducible import derive_seed, fixed_threads, seeded
from fluidsurrogate.scaling import Scaling
from fluidsurrogate.store import replacing, stamp, write_text
from fluidsurrogate.surrogate import Surrogate
from solvers import act, act_on_fields, group_named

CHECKPOINT, CURVE = "checkpoint.safetensors", "curve.csv"
Report = Callable[[int, str], None]  # steps done so far, a note


@dataclass(frozen=True)
class Trajectories:
    """States (trajectory, time, component, y, x) and inputs by name (trajectory, component, y, x)."""

    states: States
    inputs: Mapping[str, Tensor]

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset, split: str, experiment: Experiment) -> Trajectories:
        """One split of a dataset; UsageError where it is not what the experiment describes."""
        chosen, dtype = split_of(dataset, split, experiment), experiment.torch_dtype
        return cls(to_states(chosen, experiment.spec, dtype), to_inputs(chosen, experiment.spec, dtype))

    def window(self, which: Tensor, first: Tensor, length: int) -> tuple[States, dict[str, Tensor]]:
        """States `first` … `first + length` of the trajectories `which`, and their inputs."""
        times = first[:, None] + torch.arange(length + 1)
        return self.states[which[:, None], times], {name: value[which] for name, value in self.inputs.items()}


@final
class Trainer:
    """AdamW with warm-up and cosine decay on the mean square error of the change, relative to the RMS change:

        loss = ⟨|x̂(t + jΔt) − x(t + jΔt)|² / c²⟩ over j = 1 … k and the batch,

    k = 1, then `unroll` for the last `unroll_fraction` of the steps; x̂ is the surrogate's own rollout. Validation is a
    rollout too; the weights with the lowest geometric mean of its nRMSE over all lead times are kept (as APEBench,
    Koehler et al. 2024, arXiv:2411.00180). Everything random is derived from (seed, step): nothing depends on what was
    drawn before, and a run that is resumed is bit-identical.
    """

    def __init__(
        self,
        experiment: Experiment,
        name: str,
        train: Trajectories,
        valid: Trajectories,
        made_from: Mapping[str, Any],
        network: Network | None = None,
    ) -> None:
        self.options, self.seed, self.spec = experiment.train, experiment.seed, experiment.spec
        self.train, self.valid = train, valid
        section = experiment.models[name]
        self.augmentations = group_named(section.augment).elements if section.augment else ()
        if self.options.unroll_fraction and train.states.shape[1] <= self.options.unroll:
            raise UsageError(f"train.unroll = {self.options.unroll} needs more than {train.states.shape[1]} times")
        device = torch.device(experiment.device)
        if network is None:
            with seeded(derive_seed(self.seed, "weights"), device):
                network = section.build(self.spec, experiment.torch_dtype)
        if device.type == "cuda" and device.index is not None:
            torch.cuda.set_device(device)
        self.accelerator = Accelerator(cpu=device.type == "cpu")
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=self.options.learning_rate, weight_decay=self.options.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate_factor(self.options, step))
        self.network, self.optimiser, self.schedule = self.accelerator.prepare(network, optimiser, schedule)
        scaling = Scaling.fit(self.spec, train.states, train.inputs)
        about = {"name": name, **stamp(experiment.tree(), made_from)}
        self.surrogate = Surrogate(self.network, self.spec, scaling, section, about)
        self.step = 0
        self.curve: list[dict[str, float]] = []
        self.best, self.best_score = self._weights(), math.inf

    def run(self, folder: Path | None = None, report: Report | None = None) -> Surrogate:
        """Train to the end, from the checkpoint in `folder` if there is one, and give the best weights."""
        options = self.options
        if folder is not None and (folder / CHECKPOINT).exists():
            self._restore(folder / CHECKPOINT)
        while self.step < options.steps:
            loss = self._train_step()
            self.step += 1
            last = self.step == options.steps
            if last or self.step % options.valid_every == 0:
                self._validate(float(loss))
            if report is not None:
                report(self.step, self.note())  # before anything is written: a process whose parent died ends here
            if folder is not None and (last or self.step % options.checkpoint_every == 0):
                self._save(folder)
        if folder is not None:
            write_text(folder / CURVE, curve_csv(self.curve))
        self.network.load_state_dict(self.best)
        self.network.eval()
        return self.surrogate

    def note(self) -> str:
        """Where the training stands, in a few words."""
        if not self.curve:
            return ""
        return f"valid nRMSE {self.curve[-1]['valid_nrmse_first_step']:.3f} / {self.curve[-1]['valid_nrmse']:.3f}"

    def _train_step(self) -> Tensor:
        options, device = self.options, self.accelerator.device
        unroll = options.unroll if self.step >= options.steps * (1 - options.unroll_fraction) else 1
        states, inputs = self.train.window(*self._draw(unroll), unroll)
        states, inputs = self._augment(states.to(device), {k: v.to(device) for k, v in inputs.items()})
        self.network.train()
        with seeded(derive_seed(self.seed, "step", self.step), device):  # a network of the user's may have dropout
            predicted = rollout(self.surrogate, states[:, 0], unroll, inputs)
        loss = ((predicted[:, 1:] - states[:, 1:]) / self.surrogate.step.change).square().mean()
        if not loss.isfinite():
            raise UsageError(
                f"{self.surrogate.about['name']}: the loss is not finite at step {self.step}: lower train.learning_rate"
            )
        self.optimiser.zero_grad()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.network.parameters(), options.clip)
        self.optimiser.step()
        self.schedule.step()
        return loss.detach()

    def _draw(self, unroll: int) -> tuple[Tensor, Tensor]:
        """Trajectories and first times of this step's batch: every window once an epoch, in an order of its own."""
        trajectories, times = self.train.states.shape[:2]
        starts = times - unroll
        positions = self.step * self.options.batch + np.arange(self.options.batch)
        count = trajectories * starts
        windows = [_permutation(self.seed, unroll, int(p // count), count)[p % count] for p in positions]
        chosen = torch.tensor(np.array(windows))
        return chosen // starts, chosen % starts

    def _augment(self, states: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        if not self.augmentations:
            return states, inputs
        draw = np.random.default_rng(derive_seed(self.seed, "augment", self.step)).integers(len(self.augmentations))
        g = self.augmentations[draw]
        typed = {field.name: field for field in self.spec.inputs}
        return act_on_fields(self.spec.fields, states, g), {k: act(typed[k], v, g) for k, v in inputs.items()}

    def _validate(self, loss: float) -> None:
        self.network.eval()
        truth, device = self.valid.states, self.accelerator.device
        inputs = {name: value.to(device) for name, value in self.valid.inputs.items()}
        with torch.no_grad():
            forecast = rollout(self.surrogate, truth[:, 0].to(device), truth.shape[1] - 1, inputs).cpu()
        axes = (2, 3, 4)
        error = (forecast - truth).double().square().mean(axes).sqrt() / truth.double().square().mean(axes).sqrt()
        by_time = error[:, 1:].nan_to_num(nan=math.inf).mean(0)
        score = float(by_time.log().mean().exp())
        if score < self.best_score or not self.curve:
            self.best, self.best_score = self._weights(), score
        rate = self.optimiser.param_groups[0]["lr"]
        self.curve.append(
            {"step": self.step, "loss": loss, "learning_rate": rate,
             "valid_nrmse_first_step": float(by_time[0]), "valid_nrmse": score}
        )  # fmt: skip

    def _weights(self) -> dict[str, Tensor]:
        return state_tensors(self.network)

    def _save(self, folder: Path) -> None:
        """One safetensors file: weights, best weights and optimiser as tensors, everything else in its header."""
        optimiser = self.optimiser.state_dict()
        tensors = {f"network.{k}": v for k, v in self._weights().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        tensors |= {f"optimiser.{i}.{k}": v for i, state in optimiser["state"].items() for k, v in state.items()}
        header = {
            "step": self.step,
            "groups": optimiser["param_groups"],
            "schedule": {k: v for k, v in self.schedule.state_dict().items() if k != "lr_lambdas"},
            "curve": self.curve,
            "best_score": self.best_score,
        }
        with replacing(folder / CHECKPOINT) as beside:
            save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, beside, {"state": json.dumps(header)})

    def _restore(self, path: Path) -> None:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["state"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
        self.network.load_state_dict(_under(tensors, "network."))
        self.best = _under(tensors, "best.")
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _under(tensors, "optimiser.").items():
            index, _, name = key.partition(".")
            state.setdefault(int(index), {})[name] = value
        self.optimiser.load_state_dict({"state": state, "param_groups": header["groups"]})
        self.schedule.load_state_dict(header["schedule"] | {"lr_lambdas": [None]})
        self.step, self.curve, self.best_score = header["step"], header["curve"], header["best_score"]


def learning_rate_factor(options: TrainSection, step: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    warm = min(1.0, (step + 1) / max(options.warmup, 1))
    return warm * 0.5 * (1 + math.cos(math.pi * step / options.steps))


def curve_csv(curve: Sequence[Mapping[str, float]]) -> str:
    """The training curve as CSV."""
    if not curve:
        return ""
    lines = [",".join(curve[0]), *(",".join(f"{value:.8g}" for value in row.values()) for row in curve)]
    return "\n".join(lines) + "\n"


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


@lru_cache(maxsize=4)
def _permutation(seed: int, unroll: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng(derive_seed(seed, "order", unroll, epoch)).permutation(count)


def model_made_from(experiment: Experiment, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of an experiment that a model depends on: not the test set, nor how many are trained at a time; the
    file of a class of the user's, but not what that imports."""
    tree = experiment.tree()
    if "data" in data:
        data = {**data, "data": {key: value for key, value in data["data"].items() if key != "test"}}
    train = {key: value for key, value in tree["train"].items() if key not in ("workers", "checkpoint_every")}
    model = tree["models"][name]
    if path := experiment.models[name].code:
        model = {**model, "source": source_of(path)}
    return {"seed": tree["seed"], "dtype": tree["dtype"], "data": data, "model": model, "train": train}


def train_model(
    experiment: Experiment,
    name: str,
    dataset: xr.Dataset,
    made_from: Mapping[str, Any],
    folder: Path | None = None,
    report: Report | None = None,
    network: Network | None = None,
) -> Surrogate:
    """Train the model `name` of an experiment; with `folder`, checkpoint there and go on from what is there.
    `made_from` is recorded in the model as what it depends on; `network` is trained in place of a fresh one."""
    train, valid = (Trajectories.from_dataset(dataset, split, experiment) for split in ("train", "valid"))
    with fixed_threads(experiment.train.threads):
        return Trainer(experiment, name, train, valid, made_from, network).run(folder, report)
