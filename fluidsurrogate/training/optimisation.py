"""Optimisation: the learning-rate schedule and the moving average of the weights."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from fluidsurrogate.config.stage_configs import TrainConfig
from fluidsurrogate.nn import Network, cpu_state_dict


def learning_rate_factor(options: TrainConfig, step: int) -> float:
    """Return the learning rate relative to `train.learning_rate`: linear warm-up, then half a cosine down to zero."""
    warm = min(1.0, (step + 1) / max(options.warmup, 1))
    return warm * 0.5 * (1 + math.cos(math.pi * step / options.steps))


@final
class MovingAverage:
    """Exponential moving average of a network's weights.

    .. math:: a \\leftarrow d\\, a + (1 - d)\\, w, \\qquad d = \\min(\\mathrm{decay}, (1 + s) / (10 + s))

    After s steps; at first the average is not so slow, while the weights are young.

    Parameters
    ----------
    network : Network
        Its weights are averaged.
    decay : float
        The decay d of late steps; 0 for no average.

    Attributes
    ----------
    weights : dict of str to Tensor
        The average.
    """

    def __init__(self, network: Network, decay: float) -> None:
        device = next(network.parameters()).device
        self.network, self.decay = network, decay
        self.weights = {key: value.to(device) for key, value in cpu_state_dict(network).items()}

    def update(self, step: int) -> None:
        """Take the weights after so many steps into the average."""
        if not self.decay:
            return
        decay, weights = min(self.decay, (1 + step) / (10 + step)), self.network.state_dict()
        for name, held in self.weights.items():
            is_number = held.is_floating_point() or held.is_complex()
            self.weights[name] = torch.lerp(weights[name], held, decay) if is_number else weights[name].clone()

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Go on from the average of a checkpoint."""
        self.weights |= {key: value.to(self.weights[key].device) for key, value in weights.items()}
