"""Several networks of one architecture, trained and applied as one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from fluidsurrogate.nn.network import Network
from fluidsurrogate.nn.shapes import Field, FieldOut

# Cells of a member's grid up to which the members are applied together on a CPU. On larger grids one grouped
# convolution is slower there than one convolution for each member.
MAX_CELLS_TOGETHER = 4096


@final
class DeepEnsemble(Network):
    """Deep ensemble of networks of one architecture (Lakshminarayanan et al. 2017, arXiv:1612.01474).

    Fields come in and go out with the states of one member after those of the other, in shape
    (members · batch, component, [z,] y, x). Each weight is a stack of the members' weights. One `vmap` applies all
    members, and turns a convolution of each into one grouped convolution. On large grids on a CPU, where that is
    slower, the members are applied in turn.

    Parameters
    ----------
    networks : sequence of Network
        Members, of the same architecture and options.

    Attributes
    ----------
    count : int
        Number of members.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self.group, self.stride, self.count = networks[0].group, networks[0].stride, len(networks)
        # In a tuple, so that it is no submodule: only its shape counts, the weights are given at every call.
        self._template = (copy.deepcopy(networks[0]).to("meta"),)
        weights, buffers = stack_module_state(list(networks))
        self._names = {"weights": list(weights), "buffers": list(buffers)}
        for name, value in weights.items():
            self.register_parameter(_without_dots(name), nn.Parameter(value.detach()))
        for name, value in buffers.items():
            self.register_buffer(_without_dots(name), value, persistent=name in networks[0].state_dict())

    def forward(self, x: Field) -> FieldOut:
        """Apply all members, each to its part of the batch.

        Parameters
        ----------
        x : Tensor
            Normalised fields, of shape (members · batch, component, [z,] y, x).

        Returns
        -------
        Tensor
            Normalised fields, of shape (members · batch, component_out, [z,] y, x).
        """
        weights: dict[str, Tensor] = {name: self.get_parameter(_without_dots(name)) for name in self._names["weights"]}
        buffers = {name: self.get_buffer(_without_dots(name)) for name in self._names["buffers"]}

        def apply(weights: dict[str, Tensor], buffers: dict[str, Tensor], own: Tensor) -> Tensor:
            return functional_call(self._template[0], (weights, buffers), (own,))

        each = x.unflatten(0, (self.count, -1))
        if x.device.type == "cpu" and each[0, :, 0].numel() > MAX_CELLS_TOGETHER:
            own = (_unstacked(stacks, self.count) for stacks in (weights, buffers))
            return torch.cat([apply(*part) for part in zip(*own, each, strict=True)])
        return vmap(apply, randomness="different")(weights, buffers, each).flatten(0, 1)

    def to_plain(self) -> nn.Module:
        """Raise ValueError: only a single network can be converted to ordinary convolutions.

        Returns
        -------
        Module
            Never.

        Raises
        ------
        ValueError
            Always.
        """
        raise ValueError("an ensemble cannot be folded; fold its members, trained one by one")


def _unstacked(stacks: dict[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    """Split stacked weights into those of each member."""
    parts = {name: stack.unbind() for name, stack in stacks.items()}
    return [{name: values[i] for name, values in parts.items()} for i in range(count)]


def _without_dots(name: str) -> str:
    """Return a weight's name as torch allows it for a parameter of the ensemble itself."""
    return name.replace(".", "/")


def clip_member_gradients(parameters: Sequence[nn.Parameter], max_norm: float, members: int) -> Tensor:
    """Scale the gradient of each member of an ensemble to a maximal norm, as if the member were trained by itself.

    Parameters
    ----------
    parameters : sequence of Parameter
        Stacked weights of the ensemble, or the weights of a single network.
    max_norm : float
        Largest norm that a member's gradient may have.
    members : int
        Number of members; 1 for a single network.

    Returns
    -------
    Tensor
        The largest norm of all members before it was scaled, a scalar.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if members == 1:
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    norms = torch.stack([g.flatten(1).abs().square().sum(1) for g in gradients]).sum(0).sqrt()
    factors = (max_norm / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.reshape(-1, *[1] * (gradient.ndim - 1)))
    return norms.max()
