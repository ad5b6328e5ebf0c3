"""The Fourier neural operator (Li et al. 2021, arXiv:2010.08895) of the neuraloperator package: an outside baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from fluidsurrogate.nn.network import Network
from fluidsurrogate.nn.registry import architecture
from fluidsurrogate.nn.shapes import Field, FieldOut
from solvers import C1, FieldSpec


@architecture("fno", dimensions=(2,))
@final
class FNO(Network):
    """Fourier neural operator of the neuraloperator package; needs pip install "fluidsurrogate[fno]".

    It wraps `neuralop.models.FNO`, without y and x among its inputs, so that it commutes with shifts. It keeps no turns
    or mirrors. Its spectral weights are complex and kept in single precision.

    Parameters
    ----------
    fields_in : sequence of FieldSpec
        Fields that the network takes.
    fields_out : sequence of FieldSpec
        Fields that the network returns.
    modes : int
        Number of Fourier modes on each axis, positive and negative ones together; even.
    width : int
        Channels.
    layers : int
        Number of Fourier layers, 1 to 100.

    Raises
    ------
    ValueError
        If an option is out of its range or the neuraloperator package is missing; when called, if a side of the grid
        has fewer cells than there are modes.
    """

    group, stride = C1, 1

    def __init__(
        self,
        fields_in: Sequence[FieldSpec],
        fields_out: Sequence[FieldSpec],
        *,
        modes: int = 12,
        width: int = 32,
        layers: int = 4,
    ) -> None:
        super().__init__()
        if modes < 2 or modes % 2:
            raise ValueError(f"modes must be even and at least 2: as many positive as negative ones (got {modes})")
        if width < 2 or not 1 <= layers <= 100:
            raise ValueError(f"width must be at least 2 and layers 1 to 100 (got {width} and {layers})")
        try:
            with torch.device("cpu"):  # what the package makes on import stays when this network is gone
                from neuralop.models import FNO as FourierNeuralOperator
        except ImportError as error:
            raise ValueError(f'kind = "fno" needs pip install "fluidsurrogate[fno]" ({error})') from None
        self.modes = modes
        self.module = FourierNeuralOperator(
            n_modes=(modes, modes),
            in_channels=sum(field.components for field in fields_in),
            out_channels=sum(field.components for field in fields_out),
            hidden_channels=width,
            n_layers=layers,
            positional_embedding=None,  # in a periodic box no place is special
        )

    def forward(self, x: Field) -> FieldOut:
        """Apply the network.

        Parameters
        ----------
        x : Tensor
            Normalised fields, of shape (batch, component, y, x).

        Returns
        -------
        Tensor
            Normalised fields, of shape (batch, component_out, y, x).
        """
        cells = min(x.shape[-2:])
        if self.modes > cells:  # the package would leave the weights that are too many untrained
            raise ValueError(f"modes must be at most the {cells} cells of the grid's shorter side (got {self.modes})")
        return self.module(x)
