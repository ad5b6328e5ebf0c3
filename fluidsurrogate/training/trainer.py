"""The training loop: a kill at any moment costs at most one checkpoint interval and no bit of the result."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from fluidsurrogate.config.stage_configs import TrainConfig
from fluidsurrogate.core.distributed import is_main_process
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.seeding import derive_seed, seeded_generators
from fluidsurrogate.models.model_files import LAST
from fluidsurrogate.models.saving import write_weights
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.nn import clip_member_gradients, cpu_state_dict
from fluidsurrogate.nn.losses import LOSSES, LossContext
from fluidsurrogate.training.augmentation import Augmentation
from fluidsurrogate.training.checkpoints import Weights, read_checkpoint, write_checkpoint
from fluidsurrogate.training.curriculum import UnrollSchedule, unroll
from fluidsurrogate.training.data_parallel import DataParallel
from fluidsurrogate.training.history import Events, write_curve
from fluidsurrogate.training.optimisation import MovingAverage, learning_rate_factor
from fluidsurrogate.training.validation import validation_error
from fluidsurrogate.training.windows import Batch, InMemoryTrajectories, WindowBatches

CHECKPOINT = "checkpoint.safetensors"
log = logging.getLogger("fluidsurrogate")
Report = Callable[[int, str], None]  # steps done so far, a note
OnBetterWeights = Callable[[Surrogate, InMemoryTrajectories, int, float], None]  # step, validation nRMSE


@final
class Trainer:
    """AdamW with warm-up and cosine decay on a loss of `losses.LOSSES` over the rollouts that `lessons.Lessons` asks.

    Validation is a rollout too; the weights with the lowest geometric mean of its nRMSE over all lead times are kept
    (as APEBench, Koehler et al. 2024, arXiv:2411.00180), of the moving average of the weights where `train.average`
    asks for one. Everything random is derived from (seed, step): nothing depends on what was drawn before, and a run
    that is resumed is bit-identical. Of several processes (`accelerate launch`) each takes its share of every batch.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        options: TrainConfig,
        seed: int,
        batches: WindowBatches,
        valid: InMemoryTrajectories,
        parallel: DataParallel,
    ) -> None:
        self.surrogate, self.network, self.options, self.seed = surrogate, surrogate.network, options, seed
        self.batches, self.curriculum, self.valid = batches, batches.curriculum, valid
        self.parallel, self.device = parallel, parallel.device
        self.view: Callable[[Surrogate], Surrogate] = partial(Surrogate.for_training, precision=options.precision)
        self.augment = Augmentation(surrogate.stored, surrogate.config.augment, seed)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda s: learning_rate_factor(options, s))
        self.context = LossContext(surrogate.stored, surrogate.step.change, surrogate.normalisation.band)
        self.on_better_weights: OnBetterWeights | None = None
        self.step, self.waited, self.worked = 0, 0.0, 0.0
        self.curve: list[dict[str, float]] = []
        self.average = MovingAverage(self.network, options.average)
        self.best, self.best_score = self._weights(), math.inf

    def run(self, folder: Path | None = None, report: Report | None = None) -> Surrogate:
        """Train to the end, from the checkpoint in `folder` if there is one, and give the best weights."""
        options = self.options
        if folder is not None and (folder / CHECKPOINT).exists():
            self._restore(folder / CHECKPOINT)
        is_main, name = is_main_process(), str(self.surrogate.about["name"])
        if options.tensorboard and folder is None:
            raise UsageError("train.tensorboard writes beside the model: train from the command line, or with out")
        events = Events(folder, self.step) if options.tensorboard and is_main and folder is not None else None
        batches = self.batches.from_step(self.step, options.steps, options.loaders)
        while self.step < options.steps and not self.is_stale:
            began = time.perf_counter()
            batch = next(batches)
            self.waited += time.perf_counter() - began
            loss = self._train_step(batch)
            self.worked += time.perf_counter() - began
            self.step += 1
            last = self.step == options.steps
            if last or self.step % options.valid_every == 0:
                self._validate(float(loss))
                if events is not None:
                    events.add(self.curve[-1])
            if report is not None:  # before anything is written: a process whose parent died ends here
                report(options.steps if self.is_stale else self.step, self.note())
            if folder is not None and is_main and (last or self.is_stale or self.step % options.checkpoint_every == 0):
                self._save(folder)
        if folder is not None and is_main:
            write_curve(self.curve, folder, name)
            write_weights(self.average.weights if options.average else self._weights(), folder / LAST)
        self.network.load_state_dict(self.best)
        self.network.eval()
        return self.surrogate

    @property
    def is_stale(self) -> bool:
        """True where `train.patience` validations in a row were no better than the best before them."""
        scores = [row["valid_nrmse"] for row in self.curve]
        return (
            bool(self.options.patience and scores) and len(scores) - 1 - int(np.argmin(scores)) >= self.options.patience
        )

    def note(self) -> str:
        """Where the training stands, in a few words."""
        if not self.curve:
            return ""
        row = self.curve[-1]
        waits = f", waits for data {self.waited / self.worked:.0%}" if self.options.loaders and self.worked else ""
        return (
            f"loss {row['loss']:.3g}, valid nRMSE {row['valid_nrmse_first_step']:.3f} / {row['valid_nrmse']:.3f}, "
            f"learning rate {row['learning_rate']:.1g}{waits}"
        )

    def _train_step(self, batch: Batch) -> Tensor:
        options, unroll_schedule = self.options, self.curriculum.at(self.step)
        self.network.train()
        self.optimiser.zero_grad()
        rows = self.batches.rows
        size = len(rows) // options.accumulate
        losses = []
        for first in range(0, len(rows), size):
            states = batch[0][first : first + size]
            inputs = {name: value[first : first + size] for name, value in batch[1].items()}
            with compiling(options.compile):
                loss = self._loss(states, inputs, unroll_schedule, slice(int(rows[first]), int(rows[first]) + size))
                (self.surrogate.config.networks * loss / options.accumulate).backward()  # each member's own
            losses.append(loss.detach())
        loss = self.parallel.mean(torch.stack(losses).mean())
        for parameter in self.network.parameters():
            if parameter.grad is not None:
                parameter.grad = self.parallel.mean(parameter.grad)
        norm = clip_member_gradients(list(self.network.parameters()), options.clip, self.surrogate.config.networks)
        if not (loss + norm.to(loss.device)).isfinite():
            self._give_up("the loss is not finite")
        self.optimiser.step()
        self.schedule.step()
        self.average.update(self.step)
        return loss

    def _give_up(self, reason: str) -> None:
        name = self.surrogate.about["name"]
        if self.step:
            advice = "lower train.learning_rate"
        elif not all(weight.isfinite().all() for weight in self.network.parameters()):
            advice = "the network's weights are not finite before any is trained"
        else:  # nothing has been trained, so that no learning rate is to blame
            advice = "the untrained network turns these data into values that are not finite: look at both"
        raise UsageError(f"{name}: {reason} at step {self.step}: {advice}") from None

    def _loss(self, states: Tensor, inputs: dict[str, Tensor], unroll_schedule: UnrollSchedule, rows: slice) -> Tensor:
        """Of these rows of the step's batch."""
        device = self.device
        states, inputs = self.augment(states.to(device), {k: v.to(device) for k, v in inputs.items()}, self.step)
        start = self.curriculum.noisy(self.surrogate, states[:, 0], self.step, rows, self.options.batch)
        labels = (self.step, rows.start) if rows.start else (self.step,)
        stepper = self.view(self.surrogate.every(unroll_schedule.stride))
        # A network of the user's may have dropout.
        with seeded_generators(derive_seed(self.seed, "step", *labels), device):
            try:
                predicted, truth = unroll(stepper, states, start, inputs, unroll_schedule)
            except ValueError as error:
                if self.surrogate.base is None:
                    raise
                self._give_up(str(error))  # a hybrid's solver, on a state that has blown up
        context = self.context._replace(change=unroll_schedule.stride * self.context.change)
        return LOSSES[self.options.loss](predicted, truth, context)

    def _validate(self, loss: float) -> None:
        current = self._weights()
        weights = self.average.weights if self.options.average else current
        self.network.load_state_dict(weights)
        self.network.eval()
        part = len(self.batches.rows) // self.options.accumulate  # what fits in training
        by_time = validation_error(self.surrogate, self.valid, part, self.device)
        score = float(self.parallel.mean(by_time.log().mean().exp().to(self.device)))  # one verdict for all
        if score < self.best_score or not self.curve:
            self.best, self.best_score = {k: v.clone() for k, v in weights.items()}, score
            if self.on_better_weights is not None and is_main_process():
                self.on_better_weights(self.surrogate, self.valid, self.step, score)
        self.network.load_state_dict(current)
        rate = self.optimiser.param_groups[0]["lr"]
        self.curve.append(
            {"step": self.step, "loss": loss, "learning_rate": rate,
             "valid_nrmse_first_step": float(by_time[0]), "valid_nrmse": score}
        )  # fmt: skip

    def _weights(self) -> Weights:
        return cpu_state_dict(self.network)

    def _save(self, folder: Path) -> None:
        weights = {"network": self._weights(), "best": self.best}
        weights |= {"average": self.average.weights} if self.options.average else {}
        schedule = {k: v for k, v in self.schedule.state_dict().items() if k != "lr_lambdas"}
        about = {"step": self.step, "schedule": schedule, "curve": self.curve, "best_score": self.best_score}
        write_checkpoint(folder / CHECKPOINT, weights, self.optimiser, about)

    def _restore(self, path: Path) -> None:
        try:
            weights, about = read_checkpoint(path, self.optimiser)
            self.network.load_state_dict(weights["network"])
            self.best = weights["best"]
            self.average.restore(weights.get("average", {}))
            self.schedule.load_state_dict(about["schedule"] | {"lr_lambdas": [None]})
            self.step, self.curve, self.best_score = int(about["step"]), about["curve"], about["best_score"]
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"{path} is no checkpoint of this training ({reason}): delete it to begin again") from None


@contextmanager
def compiling(asked: bool) -> Iterator[None]:
    """Turn what torch's compiler raises, where the network is compiled, into a UsageError of one line."""
    try:
        yield
    except Exception as error:
        if not asked or not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise
        reason = next(iter(str(error).splitlines()), "")[:200]
        raise UsageError(f"train.compile = true: torch cannot compile the network here: {reason}") from None
