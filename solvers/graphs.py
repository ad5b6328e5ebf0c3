"""CUDA graphs: a function of one tensor, recorded once and replayed as a single launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor


@final
class Graphed:
    """`function` for inputs of the shape of `example`: whatever else it reads must stay where it is in memory.

    Small grids are held up by the launches of their kernels; a replay has one (CUDA programming guide, §3.2.8.7).
    """

    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> None:
        self._given = example.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # once before the recording, so that plans and memory are there
            function(self._given)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._made = function(self._given)

    def __call__(self, value: Tensor) -> Tensor:
        """The function of `value`."""
        self._given.copy_(value)
        self._graph.replay()
        return self._made.clone()
