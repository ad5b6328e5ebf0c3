"""Optimisation: the optimiser, its learning-rate schedule, and the moving average of the weights."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from fluidsurrogate.config.stage_configs import TrainConfig
from fluidsurrogate.nn import Network, cpu_state_dict


def build_optimiser(network: Network, options: TrainConfig) -> torch.optim.AdamW:
    """Build the optimiser, AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), which updates all weights in one kernel.

    A network with complex weights is updated by separate operations, because the kernel takes real numbers only.

    Parameters
    ----------
    network : Network
        The network whose weights are optimised.
    options : TrainConfig
        The table `train` of the experiment.

    Returns
    -------
    AdamW
        The optimiser, at its first step.
    """
    weights = list(network.parameters())
    fused = True if all(weight.is_floating_point() for weight in weights) else None
    return torch.optim.AdamW(weights, lr=options.learning_rate, weight_decay=options.weight_decay, fused=fused)


def learning_rate_factor(options: TrainConfig, step: int) -> float:
    r"""Return the learning rate of a training step, relative to `train.learning_rate`.

    A linear warm-up is followed by half a cosine down to zero (Loshchilov & Hutter 2017, arXiv:1608.03983):

    .. math:: \min(1, (s + 1) / \mathrm{warmup}) \cdot \tfrac{1}{2} (1 + \cos(\pi s / \mathrm{steps}))

    Parameters
    ----------
    options : TrainConfig
        The table `train` of the experiment.
    step : int
        Number s of the training step, from 0.

    Returns
    -------
    float
        Between 0 and 1.
    """
    warm = min(1.0, (step + 1) / max(options.warmup, 1))
    return warm * 0.5 * (1 + math.cos(math.pi * step / options.steps))


@final
class MovingAverage:
    r"""Exponential moving average of a network's weights.

    .. math:: a \leftarrow d\, a + (1 - d)\, w, \qquad d = \min(\mathrm{decay}, (1 + s) / (10 + s))

    Here s is the number of training steps so far. The decay is smaller at first, while the weights change fast.

    Parameters
    ----------
    network : Network
        The network whose weights are averaged.
    decay : float
        The decay d of late steps; 0 for no average.

    Attributes
    ----------
    weights : dict of str to Tensor
        The averaged weights by name.
    """

    def __init__(self, network: Network, decay: float) -> None:
        device = next(network.parameters()).device
        self.network, self.decay = network, decay
        self.weights = {key: value.to(device) for key, value in cpu_state_dict(network).items()}

    def update(self, step: int) -> None:
        """Add the current weights of the network to the average.

        Parameters
        ----------
        step : int
            Number s of training steps so far.
        """
        if not self.decay:
            return
        decay, weights = min(self.decay, (1 + step) / (10 + step)), self.network.state_dict()
        for name, held in self.weights.items():
            is_number = held.is_floating_point() or held.is_complex()
            self.weights[name] = torch.lerp(weights[name], held, decay) if is_number else weights[name].clone()

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Continue from the average of a checkpoint.

        Parameters
        ----------
        weights : dict of str to Tensor
            The averaged weights by name; empty if the checkpoint has none.
        """
        self.weights |= {key: value.to(self.weights[key].device) for key, value in weights.items()}
