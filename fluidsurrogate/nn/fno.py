"""The Fourier neural operator (Li et al. 2021, arXiv:2010.08895) of the neuraloperator package: an outside baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from fluidsurrogate.nn.layers import Kernels
from fluidsurrogate.nn.network import Field, FieldOut, Network, architecture
from solvers import C1, FieldSpec


@final
class FNO(Network):
    """`neuralop.models.FNO`, without y and x among its inputs, so that it commutes with shifts.

    `modes` is the number of Fourier modes kept on each axis, positive and negative ones together. Its weights on them
    are complex, kept in single precision; it keeps no turns or mirrors.
    """

    group, stride = C1, 1

    def __init__(self, channels_in: int, channels_out: int, modes: int, width: int, layers: int) -> None:
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
            in_channels=channels_in,
            out_channels=channels_out,
            hidden_channels=width,
            n_layers=layers,
            positional_embedding=None,  # in a periodic box no place is special
        )

    def forward(self, x: Field, kernels: Kernels | None = None) -> FieldOut:
        cells = min(x.shape[-2:])
        if self.modes > cells:  # the package would leave the weights that are too many untrained
            raise ValueError(f"modes must be at most the {cells} cells of the grid's shorter side (got {self.modes})")
        return self.module(x)


@architecture("fno")
def fno(
    fields_in: Sequence[FieldSpec],
    fields_out: Sequence[FieldSpec],
    *,
    modes: int = 12,
    width: int = 32,
    layers: int = 4,
) -> FNO:
    """Fourier neural operator of the neuraloperator package; needs pip install "fluidsurrogate[fno]"."""
    counts = [sum(field.components for field in fields) for fields in (fields_in, fields_out)]
    return FNO(counts[0], counts[1], modes, width, layers)
