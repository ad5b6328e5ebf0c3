"""Normalisation of features."""

from __future__ import annotations

from typing import final

import torch
from torch import nn
from torch.nn import functional as F

from fluidsurrogate.nn.shapes import Feature


@final
class FeatureNorm(nn.Module):
    r"""Normalisation of a feature over channels, group elements and the grid together.

    .. math:: \frac{F - m}{s} \, a_c + b_c

    m and s are the mean and standard deviation of one sample, a and b one number for each channel c: group
    normalisation with one group (Wu & He 2018, arXiv:1803.08494). Statistics of one channel and one group element alone
    would turn with the input and undo what tells the orientations apart.

    Parameters
    ----------
    channels : int
        Channels of the feature.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Feature) -> Feature:
        """Normalise a feature.

        Parameters
        ----------
        x : Tensor
            Feature, of shape (batch, channel, |G|, [z,] y, x).

        Returns
        -------
        Tensor
            Feature of the same shape.
        """
        return F.group_norm(x.flatten(2, 3), 1, self.weight, self.bias).view_as(x)
