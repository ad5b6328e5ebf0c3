"""Data-parallel training of one model by several processes, started by `torchrun` or `accelerate launch`."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from fluidsurrogate.core.distributed import process_count


@final
class DataParallel:
    """The processes that train one model together, each with its share of every batch.

    A single process uses no Accelerator, because the first device of an Accelerator would stay that of all later ones.

    Parameters
    ----------
    device : torch.device
        The device that the experiment asks for.

    Attributes
    ----------
    device : torch.device
        The device of this process.
    rank : int
        Number of this process, from 0.
    world_size : int
        Number of processes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.rank, self.world_size, self._accelerator = device, 0, 1, None
        if process_count() > 1:
            from accelerate import Accelerator  # imported late, because the import is slow

            self._accelerator = Accelerator(cpu=device.type == "cpu")
            self.device = self._accelerator.device
            self.rank, self.world_size = self._accelerator.process_index, process_count()

    def broadcast(self, network: nn.Module) -> None:
        """Give every process the weights and buffers of the first one.

        Parameters
        ----------
        network : torch.nn.Module
            The network of this process; it is changed.
        """
        if self._accelerator is not None:
            from accelerate.utils import broadcast

            for tensor in (*network.parameters(), *network.buffers()):
                broadcast(tensor.data)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes.

        Parameters
        ----------
        value : Tensor
            The tensor of this process.

        Returns
        -------
        Tensor
            The mean, the same on every process.
        """
        return value if self._accelerator is None else self._accelerator.reduce(value, "mean")
