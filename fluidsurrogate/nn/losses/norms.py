"""Norms that the losses are built of."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.nn.shapes import Trajectories
from solvers import FieldSpec, Grid


def mean_relative_error(error: Tensor, size: Tensor) -> Tensor:
    r"""Compute the mean relative error from squared norms.

    .. math:: \left\langle \sqrt{\frac{e + \epsilon}{s + \epsilon}} \right\rangle

    The small floor ε keeps the gradient finite for a perfect forecast, and the value finite for a vanishing state.

    Parameters
    ----------
    error : Tensor
        Squared norm e of each error.
    size : Tensor
        Squared norm s of each true state, of the same shape.

    Returns
    -------
    Tensor
        Scalar.
    """
    floor = torch.finfo(error.dtype).eps * size.mean() + torch.finfo(error.dtype).tiny ** 0.5
    return ((error + floor) / (size + floor)).sqrt().mean()


def squared_norms(
    states: Trajectories, fields: tuple[FieldSpec, ...], weight: Float[Tensor, "*modes"] | None = None
) -> Float[Tensor, "batch time field"]:
    r"""Compute the squared norm of each field, summed over its components.

    .. math:: \langle |f|^2 \rangle \quad \text{or, with a weight,} \quad \sum_k w_k |\hat f_k|^2

    Parameters
    ----------
    states : Tensor
        Shape (batch, time, component, [z,] y, x).
    fields : tuple of FieldSpec
        Fields that the components belong to, in order.
    weight : Tensor, optional
        Weight of each Fourier mode of a real transform, shape ([kz,] ky, kx) with kx ≥ 0.

    Returns
    -------
    Tensor
        Shape (batch, time, field).
    """
    axes = tuple(range(3 - states.ndim, 0))
    if weight is None:
        power = states.square().mean(axes)
    else:
        spectrum = torch.fft.rfftn(states, dim=axes, norm="forward")
        columns = spectrum.real.new_full(spectrum.shape[-1:], 2.0)  # each stands for its conjugate at −kx, too
        columns[0] = 1.0
        if states.shape[-1] % 2 == 0:
            columns[-1] = 1.0
        power = (weight * columns * (spectrum.real.square() + spectrum.imag.square())).sum(axes)
    parts = power.split([field.components for field in fields], dim=-1)
    return torch.stack([part.sum(-1) for part in parts], dim=-1)


def wavenumber_magnitude(grid: Grid) -> Float[Tensor, "*modes"]:
    """Compute the magnitude of each mode's wavenumber, in waves across the longer side of the box.

    Parameters
    ----------
    grid : Grid
        Grid of the states.

    Returns
    -------
    Tensor
        Shape ([kz,] ky, kx) with kx ≥ 0, float64.
    """
    longest = max(grid.length)
    first, *others = ((m.double() * longest / side).square() for m, side in zip(grid.modes(), grid.length, strict=True))
    return sum(others, start=first).sqrt()
