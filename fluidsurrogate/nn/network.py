"""What a network is to everything around it, and the list of architectures."""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial
from typing import get_type_hints

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluidsurrogate.nn.layers import Expanding, Kernels
from solvers import Group, group_named

Field = Float[Tensor, "batch component y x"]
FieldOut = Float[Tensor, "batch component_out y x"]
ARCHITECTURES: dict[str, Callable[..., Network]] = {}
CLAIMS: dict[str, Callable[[str], Group]] = {}  # by kind: from what its option `group` says to what it claims


class Network(nn.Module, ABC):
    """Typed fields in, typed fields out, equivariant under `group` and under shifts by multiples of `stride` cells:
    one, or as many as a cell of the coarsest grid spans; None: under no shifts."""

    group: Group
    stride: int | None = 1

    @abstractmethod
    def forward(self, x: Field, kernels: Kernels | None = None) -> FieldOut:
        """Apply the network; `kernels` go to every layer, which looks up its own where they are given."""

    def fold(self) -> Callable[[Field], FieldOut]:
        """The network with its kernels expanded, once, for as many applications as the weights stay the same.
        Differentiable with respect to the weights."""
        return partial(
            self, kernels={layer: layer.kernel() for layer in self.modules() if isinstance(layer, Expanding)}
        )

    def plain(self) -> nn.Module:
        """A copy as an ordinary network of plain convolutions, with the weights as they are now, for inference and for
        `torch.export`."""
        layers = {id(layer): layer.plain() for layer in self.modules() if isinstance(layer, Expanding)}
        return copy.deepcopy(self, layers).eval().requires_grad_(False)


def architecture(kind: str, claims: Callable[[str], Group] = group_named):
    """Register a function or class under the name that an experiment gives in `models.NAME.kind`.

    It is called as f(fields_in, fields_out, **options); its keyword-only arguments, with their annotations and
    defaults, are the keys that the experiment may set. `claims` turns the value of its option `group`, if it has one,
    into the point group that such a network keeps exactly; ValueError with all the names where it knows no such value.
    """

    def register(build):
        ARCHITECTURES[kind], CLAIMS[kind] = build, claims
        return build

    return register


def options_of(build: Callable) -> dict[str, inspect.Parameter]:
    """The keyword-only arguments of a function or class, their annotations resolved."""
    function = build.__init__ if inspect.isclass(build) and not is_dataclass(build) else build  # type: ignore[misc]
    types = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(build).parameters
    return {n: p.replace(annotation=types[n]) for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def register_plain(kind: str, build: Callable[..., Network], description: str) -> None:
    """Register an architecture over the trivial group, where there is no group to choose and nothing to pool."""

    def plain(fields_in, fields_out, **options):
        return build(fields_in, fields_out, group="C1", **options)

    options = {name: p for name, p in options_of(build).items() if name not in ("group", "pool")}
    plain.__doc__, plain.__annotations__ = description, {name: p.annotation for name, p in options.items()}
    fields = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("fields_in", "fields_out")]
    plain.__signature__ = inspect.Signature([*fields, *options.values()])  # type: ignore[attr-defined]
    architecture(kind)(plain)


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
