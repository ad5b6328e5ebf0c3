"""A network's weights in another precision, and as a file takes them."""

from __future__ import annotations

import torch
from torch import Tensor

from fluidsurrogate.nn.network import Network


def cast_weights(network: Network, dtype: torch.dtype) -> Network:
    """Convert the floating-point weights and buffers of a network, in place, to another precision.

    Complex weights stay complex, unlike under `Module.to`, which would make them real.

    Parameters
    ----------
    network : Network
        Network to convert.
    dtype : torch.dtype
        A real floating-point type.

    Returns
    -------
    Network
        The same network.

    Raises
    ------
    ValueError
        If the network has complex weights and `dtype` is not float32: no safetensors file holds others.
    """
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_complex() and dtype is not torch.float32:
            raise ValueError("its weights are complex and kept in single precision: take dtype = 'float32'")
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return network


def cpu_state_dict(network: Network) -> dict[str, Tensor]:
    """Copy the weights and buffers of a network to the CPU, by name, as a file takes them.

    Whatever a module adds to its `state_dict` that is no tensor is left out: neuraloperator adds the arguments of its
    constructor.

    Parameters
    ----------
    network : Network
        Any network.

    Returns
    -------
    dict of str to Tensor
        Copies that share no memory with the network.
    """
    state = network.state_dict().items()
    return {name: value.detach().cpu().clone() for name, value in state if isinstance(value, Tensor)}
