"""Training one model by several processes, each with its share of every batch (`torchrun`, `accelerate launch`)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from fluidsurrogate.core.distributed import process_count


@final
class DataParallel:
    """The processes that train one model together.

    One process needs no Accelerator, whose first device would stay that of all.

    Parameters
    ----------
    device : torch.device
        The device that the experiment asks for.

    Attributes
    ----------
    device : torch.device
        The device of this process.
    part : tuple of int
        Number of this process, and how many there are.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.part, self._accelerator = device, (0, 1), None
        if process_count() > 1:
            from accelerate import Accelerator  # imported late, since it takes its time

            self._accelerator = Accelerator(cpu=device.type == "cpu")
            self.device, self.part = self._accelerator.device, (self._accelerator.process_index, process_count())

    def broadcast(self, network: nn.Module) -> None:
        """Give every process the weights and buffers of the first one."""
        if self._accelerator is not None:
            from accelerate.utils import broadcast

            for tensor in (*network.parameters(), *network.buffers()):
                broadcast(tensor.data)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes."""
        return value if self._accelerator is None else self._accelerator.reduce(value, "mean")
