"""Grids half or twice as fine, on which the group acts exactly."""

from __future__ import annotations

from torch.nn import functional as F

from fluidsurrogate.nn.shapes import Feature, ResampledFeature


def downsample(x: Feature) -> ResampledFeature:
    """Average each 2 × 2 cells to one cell of a grid half as fine.

    The mean sits at the centre of the coarse cell, so that turns and mirrors about the middle of the box stay exact.

    Parameters
    ----------
    x : Tensor
        Feature, of shape (batch, channel, |G|, y, x).

    Returns
    -------
    Tensor
        Feature, of shape (batch, channel, |G|, y/2, x/2).

    Raises
    ------
    ValueError
        If a side has an odd number of cells.
    """
    ny, nx = x.shape[-2:]
    if ny % 2 or nx % 2:
        raise ValueError(f"a grid of {ny} x {nx} cells cannot be halved: take fewer levels, or a grid of even sides")
    return F.avg_pool2d(x.flatten(1, 2), 2).unflatten(1, x.shape[1:3])


def upsample(x: Feature) -> ResampledFeature:
    """Interpolate to a grid twice as fine, bilinearly from coarse to fine cell centres.

    Each fine cell takes the weights (9, 3, 3, 1)/16 of the four nearest coarse cells, across the periodic boundary too.

    Parameters
    ----------
    x : Tensor
        Feature, of shape (batch, channel, |G|, y, x).

    Returns
    -------
    Tensor
        Feature, of shape (batch, channel, |G|, 2y, 2x).
    """
    padded = F.pad(x.flatten(1, 2), (1, 1, 1, 1), mode="circular")
    fine = F.interpolate(padded, scale_factor=2, mode="bilinear", align_corners=False)
    return fine[..., 2:-2, 2:-2].unflatten(1, x.shape[1:3])
