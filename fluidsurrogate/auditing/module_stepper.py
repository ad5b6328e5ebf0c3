"""A network that somebody else wrote, as a stepper."""

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
    """The state, and the inputs as channels."""

    state: State
    inputs: Tensor | None


@final
class ModuleStepper(Stepper[ModuleCarry]):
    """x⁺ = m(x): a module that maps the state (batch, component, y, x), in physical units, to the next one.

    `spec` says what the components are. Where it has inputs, they follow the state's components as channels, in the
    spec's order, a uniform input the same at every cell: (batch, components of state and inputs, y, x) in. State and
    inputs are given in the precision and on the device of the module's first parameter or buffer, if it has one.
    UsageError where the module does not take that, or gives something else than a state.
    """

    def __init__(self, module: nn.Module, spec: StateSpec) -> None:
        self.module, self.spec, self.warned = module, spec, False
        tensors = (*module.parameters(), *module.buffers())
        self._like = next((t for t in tensors if t.is_floating_point()), None)

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> ModuleCarry:
        """Begin at a state."""
        self.spec.check(state, inputs)
        state = state if self._like is None else state.to(self._like)
        whole = (len(state), -1, *self.spec.grid.n)
        parts = [(inputs or {})[field.name].to(state).expand(whole) for field in self.spec.inputs]
        return ModuleCarry(state, torch.cat(parts, dim=1) if parts else None)

    def advance(self, carry: ModuleCarry) -> ModuleCarry:
        """One interval."""
        given = carry.state if carry.inputs is None else torch.cat([carry.state, carry.inputs], dim=1)
        own = given.clone()  # the module may work in place, and the state is the caller's
        try:
            after = self.module(own)
        except Exception as error:  # somebody else's code raises whatever it does
            raise UsageError(f"the module does not take {tuple(given.shape)}: {describe_exception(error)}") from error
        if not isinstance(after, Tensor) or after.shape != carry.state.shape:
            got = tuple(after.shape) if isinstance(after, Tensor) else type(after).__name__
            raise UsageError(f"the module must give the next state, {tuple(carry.state.shape)}; got {got}")
        if not self.warned and not torch.equal(own.nan_to_num(), given.nan_to_num()):
            self.warned = True
            log.warning(f"{type(self.module).__name__} changes its input in place: it is given a copy at every step")
        return ModuleCarry(after, carry.inputs)

    def state(self, carry: ModuleCarry) -> State:
        """The state."""
        return carry.state
