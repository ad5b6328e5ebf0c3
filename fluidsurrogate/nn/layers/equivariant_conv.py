"""The base class of all layers whose kernel a group expands from fewer free weights."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from fluidsurrogate.nn.shapes import Kernel
from solvers import Group


class EquivariantConv(nn.Module, ABC):
    """Convolution with a kernel that is expanded from fewer free weights, so that it commutes with a group.

    A layer defines `expand_kernel` and `convolve`. A call expands the kernel and convolves with it. In a copy of the
    layer made by `fluidsurrogate.nn.folding.fold_kernels` the kernel is already there, and a call only convolves.

    Attributes
    ----------
    group : Group
        Point group that the layer commutes with.
    folded_kernel : tuple of Tensor or None
        The expanded kernel in a folded copy of the layer; None in the layer itself.
    packed_kernel : tuple of Tensor or None
        In a folded copy, the kernel in the layout of `gated_conv.cpp` once that was needed.
    """

    group: Group
    folded_kernel: Kernel | None = None
    packed_kernel: Kernel | None = None

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def expand_kernel(self) -> Kernel:
        """Expand the free weights to the kernel of an ordinary convolution.

        Returns
        -------
        tuple of Tensor
            Weight and bias, differentiable with respect to the free weights.
        """

    @abstractmethod
    def convolve(self, x: Tensor, kernel: Kernel) -> Tensor:
        """Convolve with an expanded kernel.

        Parameters
        ----------
        x : Tensor
            Field or feature.
        kernel : tuple of Tensor
            What `expand_kernel` returns.

        Returns
        -------
        Tensor
            Field or feature.
        """

    @abstractmethod
    def to_plain(self) -> nn.Module:
        """Convert the layer to an ordinary one without a group.

        Returns
        -------
        Module
            Holds the kernel expanded from the present weights, detached from them.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Parameters
        ----------
        x : Tensor
            Field or feature.

        Returns
        -------
        Tensor
            Field or feature.
        """
        return self.convolve(x, self.expand_kernel() if self.folded_kernel is None else self.folded_kernel)
