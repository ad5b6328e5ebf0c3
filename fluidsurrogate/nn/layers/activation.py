"""Pointwise activations of features, which treat all group elements and cells alike and so commute with the group."""

from __future__ import annotations

from torch.nn import functional as F

from fluidsurrogate.nn.shapes import Feature, FeatureOut

ACTIVATIONS = ("gelu", "gated")


def activate(x: Feature, kind: str) -> FeatureOut:
    r"""Apply an activation to every number of a feature.

    .. math:: \mathrm{GELU}(F) \quad \text{or} \quad F \, \sigma(G)

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
    return values * gates.sigmoid()


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
