"""Grids half or twice as fine, on which the group acts exactly."""

from __future__ import annotations

from typing import Any

from torch.nn import functional as F

from fluidsurrogate.nn.shapes import Feature, ResampledFeature


def downsample(x: Feature) -> ResampledFeature:
    """Average each 2 × 2 cells, in space 2 × 2 × 2, to one cell of a grid half as fine.

    The mean sits at the centre of the coarse cell, so that turns and mirrors about the middle of the box stay exact.

    Parameters
    ----------
    x : Tensor
        Feature, of shape (batch, channel, |G|, [z,] y, x).

    Returns
    -------
    Tensor
        Feature, of shape (batch, channel, |G|, [z/2,] y/2, x/2).

    Raises
    ------
    ValueError
        If a side has an odd number of cells.
    """
    sides = x.shape[3:]
    if any(cells % 2 for cells in sides):
        grid = " x ".join(map(str, sides))
        raise ValueError(f"a grid of {grid} cells cannot be halved: take fewer levels, or a grid of even sides")
    average = F.avg_pool2d if len(sides) == 2 else F.avg_pool3d
    return average(x.flatten(1, 2), 2).unflatten(1, x.shape[1:3])


def upsample(x: Feature) -> ResampledFeature:
    """Interpolate to a grid twice as fine, linearly along each axis from coarse to fine cell centres.

    In the plane each fine cell takes the weights (9, 3, 3, 1)/16 of the four nearest coarse cells, across the periodic
    boundary too; in space (27, 9, 9, 9, 3, 3, 3, 1)/64 of the eight nearest.

    Parameters
    ----------
    x : Tensor
        Feature, of shape (batch, channel, |G|, [z,] y, x).

    Returns
    -------
    Tensor
        Feature, of shape (batch, channel, |G|, [2z,] 2y, 2x).
    """
    dimensions = x.ndim - 3
    padded = F.pad(x.flatten(1, 2), (1, 1) * dimensions, mode="circular")
    mode = "bilinear" if dimensions == 2 else "trilinear"
    fine = F.interpolate(padded, scale_factor=2, mode=mode, align_corners=False)
    inner: tuple[Any, ...] = (..., *[slice(2, -2)] * dimensions)
    return fine[inner].unflatten(1, x.shape[1:3])
