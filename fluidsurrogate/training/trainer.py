"""The training loop; if it is killed, it goes on from the last checkpoint and ends with the same bits."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import final

import torch
from safetensors import SafetensorError
from torch import Tensor

from fluidsurrogate.config.stage_configs import TrainConfig
from fluidsurrogate.core.distributed import is_main_process
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.seeding import derive_seed, seeded_generators
from fluidsurrogate.models.model_files import LAST_WEIGHTS_FILE
from fluidsurrogate.models.saving import write_weights
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.nn import clip_member_gradients, cpu_state_dict
from fluidsurrogate.nn.losses import LOSSES, LossContext
from fluidsurrogate.training.augmentation import Augmentation
from fluidsurrogate.training.checkpoints import Weights, read_checkpoint, write_checkpoint
from fluidsurrogate.training.compilation import explaining_compile_errors
from fluidsurrogate.training.curriculum import UnrollSchedule, unroll
from fluidsurrogate.training.data_parallel import DataParallel
from fluidsurrogate.training.history import TensorBoardWriter, describe_row, is_out_of_patience, write_history
from fluidsurrogate.training.optimisation import MovingAverage, build_optimiser, learning_rate_factor
from fluidsurrogate.training.validation import validation_error
from fluidsurrogate.training.windows import Batch, InMemoryTrajectories, WindowBatches

CHECKPOINT_FILE = "checkpoint.safetensors"
STEPS_BETWEEN_READS = 10  # losses are read from the device once in so many steps: each read waits for the device
log = logging.getLogger("fluidsurrogate")
Report = Callable[[int, str], None]  # training steps done so far, a note
# The surrogate with the better weights, the validation data, the training step, the validation nRMSE.
OnBetterWeights = Callable[[Surrogate, InMemoryTrajectories, int, float], None]


@final
class Trainer:
    """Training loop of one model: AdamW with warm-up and cosine decay, on the rollouts of a `Curriculum`.

    Validation is a rollout too. The weights with the lowest geometric mean of its nRMSE over all lead times are kept
    (as in APEBench, Koehler et al. 2024, arXiv:2411.00180); if `train.average` asks for it, these are the moving
    average of the weights. All random numbers are derived from (seed, step) and do not depend on earlier ones, so that
    a resumed run is bit-identical. If there are several processes (`accelerate launch`), each takes its share of every
    batch.

    Parameters
    ----------
    surrogate : Surrogate
        The model to train; its network is changed.
    options : TrainConfig
        The table `train` of the experiment.
    seed : int
        Seed of the training.
    batches : WindowBatches
        The batch of each training step.
    valid : InMemoryTrajectories
        The validation data.
    parallel : DataParallel
        The processes that train the model together.

    Attributes
    ----------
    step : int
        Number of training steps done.
    history : list of dict of str to float
        A row for each validation.
    training_view : callable
        Turns the surrogate into its view for the loss.
    on_better_weights : callable or None
        Called after every validation that found better weights.
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
        self.training_view: Callable[[Surrogate], Surrogate] = partial(
            Surrogate.for_training, precision=options.precision
        )
        self.augment = Augmentation(surrogate.stored, surrogate.config.augment, seed)
        self.optimiser = build_optimiser(self.network, options)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda s: learning_rate_factor(options, s))
        self.context = LossContext(surrogate.stored, surrogate.step.change, surrogate.normalisation.band)
        self.on_better_weights: OnBetterWeights | None = None
        self.step, self._seconds_waiting, self._seconds = 0, 0.0, 0.0
        self._unread: list[tuple[int, Tensor]] = []  # steps, with a number that is not finite if the step has diverged
        self._views = {multiple: surrogate.every(multiple) for multiple in surrogate.config.multiples}
        self.history: list[dict[str, float]] = []
        self.average = MovingAverage(self.network, options.average)
        self.best, self.best_score = self._weights(), math.inf

    def run(self, folder: Path | None = None, report: Report | None = None) -> Surrogate:
        """Train to the end, from the checkpoint in the folder if there is one.

        Parameters
        ----------
        folder : Path, optional
            Folder for checkpoints, the history and the weights at the end.
        report : callable, optional
            Called after every training step with the number of steps done and a note.

        Returns
        -------
        Surrogate
            The model with the best weights.

        Raises
        ------
        UsageError
            If the checkpoint is not one of this training, the loss is not finite, or TensorBoard is asked for without a
            folder.
        """
        options = self.options
        if folder is not None and (folder / CHECKPOINT_FILE).exists():
            self._restore(folder / CHECKPOINT_FILE)
        is_main, name = is_main_process(), str(self.surrogate.about["name"])
        if options.tensorboard and folder is None:
            raise UsageError("train.tensorboard needs a folder: train from the command line, or give fs.train out")
        tensorboard = None
        if options.tensorboard and is_main and folder is not None:
            tensorboard = TensorBoardWriter(folder, self.step)
        batches = self.batches.from_step(self.step, options.steps, options.loaders)
        while self.step < options.steps and not self._should_stop:
            began = time.perf_counter()
            batch = next(batches)
            self._seconds_waiting += time.perf_counter() - began
            loss = self._train_step(batch)
            self._seconds += time.perf_counter() - began
            self.step += 1
            last = self.step == options.steps
            if last or self.step % options.valid_every == 0:
                self._check_finite()
                self._validate(float(loss))
                if tensorboard is not None:
                    tensorboard.add(self.history[-1])
            if report is not None:  # before anything is written: a process whose parent died ends here
                report(options.steps if self._should_stop else self.step, self._describe_progress())
            is_due = last or self._should_stop or self.step % options.checkpoint_every == 0
            if is_due:
                self._check_finite()
                if folder is not None and is_main:
                    self._save(folder)
        if folder is not None and is_main:
            write_history(self.history, folder, name)
            write_weights(self.average.weights if options.average else self._weights(), folder / LAST_WEIGHTS_FILE)
        self.network.load_state_dict(self.best)
        self.network.eval()
        return self.surrogate

    @property
    def validation_batch(self) -> int:
        """Number of trajectories that are forecast at a time: what fits in training."""
        return len(self.batches.samples) // self.options.accumulate

    @property
    def _should_stop(self) -> bool:
        """Whether `train.patience` validations in a row were no better than the best before them."""
        return is_out_of_patience(self.history, self.options.patience)

    def _describe_progress(self) -> str:
        """Describe the last validation, and the share of the time that is spent waiting for data."""
        if not self.history:
            return ""
        waiting = ""
        if self.options.loaders and self._seconds:
            waiting = f", waits for data {self._seconds_waiting / self._seconds:.0%}"
        return describe_row(self.history[-1]) + waiting

    def _train_step(self, batch: Batch) -> Tensor:
        """Take one step of the optimiser, and return the loss."""
        options, unroll_schedule = self.options, self.curriculum.schedule_at(self.step)
        self.network.train()
        self.optimiser.zero_grad()
        samples = self.batches.samples
        size = len(samples) // options.accumulate
        losses = []
        for first in range(0, len(samples), size):
            states = batch[0][first : first + size]
            inputs = {name: value[first : first + size] for name, value in batch[1].items()}
            with explaining_compile_errors(options.compile):
                part = slice(int(samples[first]), int(samples[first]) + size)
                loss = self._loss(states, inputs, unroll_schedule, part)
                # The loss is a mean over the networks, and each network gets the gradient of its own loss.
                (self.surrogate.config.networks * loss / options.accumulate).backward()
            losses.append(loss.detach())
        loss = self.parallel.mean(torch.stack(losses).mean())
        for parameter in self.network.parameters():
            if parameter.grad is not None:
                parameter.grad = self.parallel.mean(parameter.grad)
        norm = clip_member_gradients(list(self.network.parameters()), options.clip, self.surrogate.config.networks)
        self._unread.append((self.step, loss + norm.to(loss.device)))
        if self.step == 0 or len(self._unread) >= STEPS_BETWEEN_READS:  # the first: nothing has changed the weights yet
            self._check_finite()
        self.optimiser.step()
        self.schedule.step()
        self.average.update(self.step)
        return loss

    def _check_finite(self) -> None:
        """Read from the device whether the losses and gradients since the last check are finite.

        Raises UsageError with the first step at which they are not. It comes before any validation or checkpoint.
        """
        unread, self._unread = self._unread, []
        if not unread:
            return
        finite = torch.stack([number for _, number in unread]).isfinite().tolist()
        for (step, _), is_finite in zip(unread, finite, strict=True):
            if not is_finite:
                self._raise_diverged("the loss is not finite", step)

    def _raise_diverged(self, reason: str, step: int) -> None:
        """Raise UsageError with a reason, the training step, and what to do."""
        name = self.surrogate.about["name"]
        if step:
            advice = "lower train.learning_rate"
        elif not all(weight.isfinite().all() for weight in self.network.parameters()):
            advice = "the weights of the network are not finite before the training: check how they are drawn"
        else:  # nothing has been trained, so that no learning rate is to blame
            advice = "the untrained network turns these data into values that are not finite: check data and network"
        raise UsageError(f"{name}: {reason} at step {step}: {advice}") from None

    def _loss(
        self, states: Tensor, inputs: dict[str, Tensor], unroll_schedule: UnrollSchedule, samples: slice
    ) -> Tensor:
        """Compute the loss of some samples of the step's batch."""
        device = self.device
        states = states.to(device, non_blocking=True)
        inputs = {name: value.to(device, non_blocking=True) for name, value in inputs.items()}
        states, inputs = self.augment(states, inputs, self.step)
        start = self.curriculum.add_noise(self.surrogate, states[:, 0], self.step, samples, self.options.batch)
        labels = (self.step, samples.start) if samples.start else (self.step,)
        stride = unroll_schedule.stride
        stepper = self.training_view(self._views[stride])
        # A network of the user's may have dropout.
        with seeded_generators(derive_seed(self.seed, "step", *labels), device):
            try:
                predicted, truth = unroll(stepper, states, start, inputs, unroll_schedule)
            except ValueError as error:
                if self.surrogate.base is None:
                    raise
                self._check_finite()  # an earlier step may be the one that diverged
                self._raise_diverged(str(error), self.step)  # of a hybrid's solver, for a state that has blown up
        context = self.context._replace(change=stride * self.context.change)
        return LOSSES[self.options.loss](predicted, truth, context)

    def _validate(self, loss: float) -> None:
        """Forecast the validation data, keep the weights if they are the best so far, and extend the history."""
        current = self._weights()
        weights = self.average.weights if self.options.average else current
        self.network.load_state_dict(weights)
        self.network.eval()
        by_time = validation_error(self.surrogate, self.valid, self.validation_batch, self.device)
        score = float(self.parallel.mean(by_time.log().mean().exp().to(self.device)))  # the same for all processes
        if score < self.best_score or not self.history:
            self.best, self.best_score = {k: v.clone() for k, v in weights.items()}, score
            if self.on_better_weights is not None and is_main_process():
                self.on_better_weights(self.surrogate, self.valid, self.step, score)
        self.network.load_state_dict(current)
        rate = self.optimiser.param_groups[0]["lr"]
        self.history.append(
            {"step": self.step, "loss": loss, "learning_rate": rate,
             "valid_nrmse_first_step": float(by_time[0]), "valid_nrmse": score}
        )  # fmt: skip

    def _weights(self) -> Weights:
        """Return the current weights of the network by name."""
        return cpu_state_dict(self.network)

    def _save(self, folder: Path) -> None:
        """Write a checkpoint to a folder."""
        weights = {"network": self._weights(), "best": self.best}
        weights |= {"average": self.average.weights} if self.options.average else {}
        schedule = {k: v for k, v in self.schedule.state_dict().items() if k != "lr_lambdas"}
        metadata = {"step": self.step, "schedule": schedule, "curve": self.history, "best_score": self.best_score}
        write_checkpoint(folder / CHECKPOINT_FILE, weights, self.optimiser, metadata)

    def _restore(self, path: Path) -> None:
        """Continue from a checkpoint; raise UsageError if it is not one of this training."""
        try:
            weights, metadata = read_checkpoint(path, self.optimiser)
            self.network.load_state_dict(weights["network"])
            self.best = weights["best"]
            self.average.restore(weights.get("average", {}))
            self.schedule.load_state_dict(metadata["schedule"] | {"lr_lambdas": [None]})
            self.step, self.history = int(metadata["step"]), metadata["curve"]
            self.best_score = metadata["best_score"]
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(
                f"{path} is not a checkpoint of this training ({reason}): delete it to begin again"
            ) from None
