"""What a network is to everything around it, and the list of architectures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from solvers import Group

Field = Float[Tensor, "batch component y x"]
FieldOut = Float[Tensor, "batch component_out y x"]
ARCHITECTURES: dict[str, Callable[..., Network]] = {}


class Network(nn.Module, ABC):
    """Typed fields in, typed fields out, equivariant under `group`."""

    group: Group

    @abstractmethod
    def fold(self) -> Callable[[Field], FieldOut]:
        """The network with its kernels expanded, once, for as many applications as the weights stay the same.
        Differentiable with respect to the weights."""

    def forward(self, x: Field) -> FieldOut:
        return self.fold()(x)


def architecture(kind: str):
    """Register a function or class under the name that an experiment gives in `models.NAME.kind`.

    It is called as f(fields_in, fields_out, **options); its keyword-only arguments, with their annotations and
    defaults, are the keys that the experiment may set.
    """

    def register(build):
        ARCHITECTURES[kind] = build
        return build

    return register


def cast(network: Network, dtype: torch.dtype) -> Network:
    """The network with its floating-point weights and buffers in `dtype`, its complex ones left complex, which
    `Module.to` would make real. ValueError for complex weights in double precision: no safetensors file holds them."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_complex() and dtype is not torch.float32:
            raise ValueError("its weights are complex and kept in single precision: take dtype = 'float32'")
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return network


def state_tensors(network: Network) -> dict[str, Tensor]:
    """Weights and buffers by name, copies on the CPU that share no memory, as a file takes them. What else a module
    adds to its `state_dict`, neuraloperator's the arguments of its constructor, is left out."""
    state = network.state_dict().items()
    return {name: value.detach().cpu().clone() for name, value in state if isinstance(value, Tensor)}
