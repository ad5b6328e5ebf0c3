"""The base class of all networks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor, nn

from fluidsurrogate.nn.folding import fold_kernels, to_plain_module
from fluidsurrogate.nn.shapes import Field, FieldOut
from solvers import Group


class Network(nn.Module, ABC):
    """Network from typed fields to typed fields that commutes with a point group and with shifts.

    A subclass sets `group`, and defines `forward` like any other `torch.nn.Module`.

    Attributes
    ----------
    group : Group
        Point group that the network commutes with exactly.
    stride : int or None
        The network commutes with shifts by multiples of this many cells: one, or as many as a cell of the coarsest grid
        spans. None if it commutes with no shifts.

    Examples
    --------
    >>> import torch
    >>> from fluidsurrogate.nn import ARCHITECTURES
    >>> from solvers import VORTICITY
    >>> network = ARCHITECTURES["gcnn"]([VORTICITY], [VORTICITY], group="D4", width=16)
    >>> network(torch.randn(2, 1, 32, 32)).shape
    torch.Size([2, 1, 32, 32])
    """

    group: Group
    stride: int | None = 1

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x: Field) -> FieldOut:
        """Apply the network.

        Parameters
        ----------
        x : Tensor
            Normalised fields, of shape (batch, component, [z,] y, x).

        Returns
        -------
        Tensor
            Normalised fields, of shape (batch, component_out, [z,] y, x).
        """

    def fold(self) -> Callable[[Tensor], Tensor]:
        """Expand the kernels once, for as many applications as the weights stay the same.

        The network itself does not change, and is compiled in its folded form if it is compiled. See
        `fluidsurrogate.nn.folding.fold_kernels`.

        Returns
        -------
        callable
            The network as a function of fields, differentiable with respect to the weights.
        """
        folded = fold_kernels(self)
        if folded is not self and self._compiled_call_impl is not None:
            return partial(_compiled_call(), folded)
        return folded

    def to_plain(self) -> nn.Module:
        """Copy the network as one of ordinary convolutions, with the present weights.

        Returns
        -------
        Module
            A network for inference and `torch.export`, which shares nothing with this one.
        """
        return to_plain_module(self)


@cache
def _compiled_call() -> Callable[..., Tensor]:
    """Return a compiled call of any module: to compile each folded copy by itself would cost 0.4 ms."""
    return torch.compile(nn.Module.__call__)
