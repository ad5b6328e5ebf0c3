"""Folding: expand the kernels of a network once, for many applications."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import nn

from fluidsurrogate.nn.layers.equivariant_conv import EquivariantConv

M = TypeVar("M", bound=nn.Module)


def fold_kernels(module: nn.Module) -> nn.Module:
    """Return the module with every kernel expanded once, for as long as the weights stay the same.

    The result shares weights, buffers, hooks and everything else with the module, except that each `EquivariantConv`
    is replaced by a shallow copy that holds its expanded kernel. Gradients reach the weights through the kernels. The
    module itself is left as it is, so that several threads can fold and apply one module at the same time, and no
    exception leaves anything behind.

    Parameters
    ----------
    module : Module
        Any network. A layer that it does not register as a submodule (in a plain list, say) is expanded at every call.

    Returns
    -------
    Module
        A shallow copy, or the module itself if it has no `EquivariantConv`.
    """
    return _folded(module, {})


def _folded(module: nn.Module, done: dict[int, nn.Module]) -> nn.Module:
    """Fold a module; `done` holds what was folded before, by identity, so that a shared layer stays shared."""
    key = id(module)
    if key not in done:
        done[key] = _fold_layer(module) if isinstance(module, EquivariantConv) else _fold_parts(module, done)
    return done[key]


def _fold_layer(layer: EquivariantConv) -> EquivariantConv:
    return _shallow_copy(layer, folded_kernel=layer.expand_kernel(), packed_kernel=None)


def _fold_parts(module: nn.Module, done: dict[int, nn.Module]) -> nn.Module:
    if not module._modules:
        return module
    parts, changed = {}, False
    for name, part in module._modules.items():
        parts[name] = None if part is None else _folded(part, done)
        changed |= parts[name] is not part
    return _shallow_copy(module, _modules=parts) if changed else module


def _shallow_copy(module: M, **changes: Any) -> M:
    """Copy a module's attributes but nothing that they refer to. `copy.copy` does the same in ten times the time."""
    copied = object.__new__(type(module))
    # What `Module.compile` made would call the original.
    copied.__dict__.update(module.__dict__, _compiled_call_impl=None, **changes)
    return copied


def to_plain_module(module: nn.Module) -> nn.Module:
    """Copy a module with every equivariant layer turned into an ordinary convolution.

    Parameters
    ----------
    module : Module
        Any network.

    Returns
    -------
    Module
        A deep copy that shares nothing with the module, for inference and `torch.export`. It holds the kernels expanded
        from the present weights.
    """
    layers = {id(layer): layer.to_plain() for layer in module.modules() if isinstance(layer, EquivariantConv)}
    return copy.deepcopy(module, layers).eval().requires_grad_(False)
