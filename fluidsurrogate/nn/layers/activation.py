"""Pointwise activations of features, which treat all group elements and cells alike and so commute with the group."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fluidsurrogate.nn.shapes import Feature, FeatureOut

ACTIVATIONS = ("gelu", "gated")


def activate(x: Feature, kind: str) -> FeatureOut:
    r"""Apply an activation to every number of a feature.

    .. math:: \mathrm{GELU}(F) \quad \text{or} \quad F \, \sigma(G), \qquad
        \sigma(G) = \min(\max(G / 6 + 1 / 2, 0), 1)

    A gate of straight pieces takes a tenth of the time of a logistic one, and forecasts no worse.

    Parameters
    ----------
    x : Tensor
        Feature, of shape (batch, channel, |G|, [z,] y, x).
    kind : str
        "gelu"; or "gated", with the first half of the channels as values F and the second half as gates G.

    Returns
    -------
    Tensor
        Feature with as many channels, or with half of them if gated.
    """
    if kind == "gelu":
        return F.gelu(x)
    values, gates = x.chunk(2, dim=1)
    return values * open_gates(gates)


def open_gates(gates: Tensor) -> Tensor:
    """Return how far each gate is open, from 0 to 1.

    Parameters
    ----------
    gates : Tensor
        Any shape.

    Returns
    -------
    Tensor
        Of the same shape. PyTorch's `hardsigmoid`, but with gradients of any order, and exact in double precision.
    """
    return (gates / 6 + 0.5).clamp(0, 1)


def add_activation(h: Feature, x: FeatureOut, kind: str) -> Feature:
    """Add the activation of a feature to another feature.

    Parameters
    ----------
    h : Tensor
        Feature, of shape (batch, channel, |G|, [z,] y, x).
    x : Tensor
        Feature with as many channels as the activation takes.
    kind : str
        As for `activate`.

    Returns
    -------
    Tensor
        Feature of the shape of `h`.
    """
    if kind == "gelu":
        return h + F.gelu(x)
    values, gates = x.chunk(2, dim=1)
    return torch.addcmul(h, values, open_gates(gates))  # one pass over memory in place of two


def channels_before_activation(channels: int, kind: str) -> int:
    """Compute how many channels an activation takes to return a number of channels.

    Parameters
    ----------
    channels : int
        Channels that the activation returns.
    kind : str
        "gelu" or "gated".

    Returns
    -------
    int
        Channels that the activation takes.

    Raises
    ------
    ValueError
        If there is no such activation.
    """
    if kind not in ACTIVATIONS:
        raise ValueError(f"unknown activation {kind!r}; one of {', '.join(ACTIVATIONS)}")
    return 2 * channels if kind == "gated" else channels
