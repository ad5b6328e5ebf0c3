"""Several networks of one architecture, trained and applied as one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from fluidsurrogate.nn.layers import Kernels
from fluidsurrogate.nn.network import Field, FieldOut, Network

AT_ONCE = 4096  # cells a member; on a CPU a grouped convolution of more is slower than one convolution a member


@final
class DeepEnsemble(Network):
    """A deep ensemble (Lakshminarayanan et al. 2017, arXiv:1612.01474): (members · batch, component, y, x) in and out,
    one member's states after the other's. Each weight is a stack of the members'; one `vmap` applies them all, and what
    is a convolution of each becomes one grouped convolution. Where that does not pay they are applied in turn."""

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self.group, self.stride, self.count = networks[0].group, networks[0].stride, len(networks)
        # In a tuple, so that it is no submodule: only its shape counts, the weights are given at every call.
        self.one = (copy.deepcopy(networks[0]).to("meta"),)
        weights, buffers = stack_module_state(list(networks))
        self.names = {"weights": list(weights), "buffers": list(buffers)}
        for name, value in weights.items():
            self.register_parameter(_flat(name), nn.Parameter(value.detach()))
        for name, value in buffers.items():
            self.register_buffer(_flat(name), value, persistent=name in networks[0].state_dict())

    def forward(self, x: Field, kernels: Kernels | None = None) -> FieldOut:
        weights: dict[str, Tensor] = {name: self.get_parameter(_flat(name)) for name in self.names["weights"]}
        buffers = {name: self.get_buffer(_flat(name)) for name in self.names["buffers"]}

        def apply(weights: dict[str, Tensor], buffers: dict[str, Tensor], own: Tensor) -> Tensor:
            return functional_call(self.one[0], (weights, buffers), (own,))

        each = x.unflatten(0, (self.count, -1))
        if x.device.type == "cpu" and each[0, :, 0].numel() > AT_ONCE:
            own = (_members(stacks, self.count) for stacks in (weights, buffers))
            return torch.cat([apply(*part) for part in zip(*own, each, strict=True)])
        return vmap(apply, randomness="different")(weights, buffers, each).flatten(0, 1)

    def fold(self) -> Callable[[Field], FieldOut]:
        """Expanded at every call: what that costs is little beside the grouped convolutions."""
        return self

    def plain(self) -> nn.Module:
        """Not to be had: ValueError."""
        raise ValueError("an ensemble cannot be folded; fold its members, trained one by one")


def _members(stacks: dict[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    apart = {name: stack.unbind() for name, stack in stacks.items()}
    return [{name: values[i] for name, values in apart.items()} for i in range(count)]


def _flat(name: str) -> str:
    return name.replace(".", "/")


def clip_each(parameters: Sequence[nn.Parameter], most: float, members: int) -> Tensor:
    """Scale each member's gradient to a norm of at most `most`, as it would be by itself; the largest norm before."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if members == 1:
        return torch.nn.utils.clip_grad_norm_(parameters, most)
    norms = torch.stack([g.flatten(1).abs().square().sum(1) for g in gradients]).sum(0).sqrt()
    factors = (most / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.reshape(-1, *[1] * (gradient.ndim - 1)))
    return norms.max()
