"""A stepper around any `torch.nn.Module`, so that a network from elsewhere can be audited and rolled out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from fluidsurrogate.core.errors import UsageError, describe_exception
from solvers import StateSpec, Stepper
from solvers.array_types import Inputs, State

log = logging.getLogger("fluidsurrogate")


@dataclass(frozen=True)
class ModuleCarry:
    """The carry of a `ModuleStepper`: the state, and its inputs as channels.

    Parameters
    ----------
    state : Tensor
        Shape (batch, component, y, x), in physical units.
    inputs : Tensor or None
        Shape (batch, component, y, x): all inputs of the spec, one after the other. None if the spec has no inputs.
    """

    state: State
    inputs: Tensor | None


@final
class ModuleStepper(Stepper[ModuleCarry]):
    """A stepper whose interval is one call of a `torch.nn.Module`.

    .. math:: x_{n+1} = m(x_n)

    The module maps the state (batch, component, y, x), in physical units, to the next state. If the spec has inputs,
    they follow the state's components as further channels, in the order of the spec. An input that is uniform in space
    has the same value in every cell.

    Parameters
    ----------
    module : torch.nn.Module
        Maps (batch, components of state and inputs, y, x) to (batch, components of the state, y, x). It is called in
        the precision and on the device of its first floating-point parameter or buffer, if it has one.
    spec : StateSpec
        The grid, fields, interval and inputs of the module's states.

    Raises
    ------
    UsageError
        If a state or input does not match the spec, if the module raises an exception, or if it returns something
        other than a state.
    """

    def __init__(self, module: nn.Module, spec: StateSpec) -> None:
        self.module, self.spec, self._warned_in_place = module, spec, False
        tensors = (*module.parameters(), *module.buffers())
        self._reference = next((t for t in tensors if t.is_floating_point()), None)

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> ModuleCarry:
        self.spec.check(state, inputs)
        state = state if self._reference is None else state.to(self._reference)
        shape = (len(state), -1, *self.spec.grid.n)
        parts = [(inputs or {})[field.name].to(state).expand(shape) for field in self.spec.inputs]
        return ModuleCarry(state, torch.cat(parts, dim=1) if parts else None)

    def advance(self, carry: ModuleCarry) -> ModuleCarry:
        channels = carry.state if carry.inputs is None else torch.cat([carry.state, carry.inputs], dim=1)
        copy = channels.clone()  # the module may work in place, and the state is the caller's
        try:
            after = self.module(copy)
        except Exception as error:  # a user's module may raise any exception
            raise UsageError(
                f"the module failed on input of shape {tuple(channels.shape)}: {describe_exception(error)}"
            ) from error
        if not isinstance(after, Tensor) or after.shape != carry.state.shape:
            got = tuple(after.shape) if isinstance(after, Tensor) else type(after).__name__
            raise UsageError(f"the module must return the next state, of shape {tuple(carry.state.shape)} (got {got})")
        if not self._warned_in_place and not torch.equal(copy.nan_to_num(), channels.nan_to_num()):
            self._warned_in_place = True
            log.warning(f"{type(self.module).__name__} changes its input in place; every step gives it a copy")
        return ModuleCarry(after, carry.inputs)

    def correct(self, carry: ModuleCarry, correction: State) -> ModuleCarry:
        return ModuleCarry(carry.state + correction, carry.inputs)

    def state(self, carry: ModuleCarry) -> State:
        return carry.state
