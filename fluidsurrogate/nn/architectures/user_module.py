"""A `torch.nn.Module` of the user's own as a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.nn.network import Network
from fluidsurrogate.nn.registry import architecture
from fluidsurrogate.nn.shapes import Field, FieldOut
from fluidsurrogate.nn.user_code import USER_MODULE, construct_module, require_code_permission
from solvers import FieldSpec, Group, group_named


@final
class UserModule(Network):
    """Module of a user's own as a network.

    The network claims the group that the module's attribute `group` says, a `solvers.Group` or the name of one, and C1
    if there is no such attribute. It claims no translations.

    Parameters
    ----------
    module : Module
        Maps normalised fields (batch, components in, [z,] y, x) to normalised fields (batch, components out, [z,] y,
        x).
    fields_out : sequence of FieldSpec
        Fields that the module returns.

    Raises
    ------
    UsageError
        If the module has nothing to train, or a state that no safetensors file could hold; when called, if its output
        has a wrong shape.
    """

    stride = None

    def __init__(self, module: nn.Module, fields_out: Sequence[FieldSpec]) -> None:
        super().__init__()
        name = type(module).__name__
        if not isinstance(module, nn.Module):
            got = f"the class {module.__name__}" if isinstance(module, type) else name
            raise UsageError(f"give an instance of a torch.nn.Module (got {got})")
        if isinstance(module, torch.jit.ScriptModule):
            raise UsageError(f"{name} is compiled by TorchScript: give the torch.nn.Module that it was made from")
        if next(module.parameters(), None) is None:
            raise UsageError(f"{name} has no parameters to train")
        if any(is_lazy(parameter) for parameter in module.parameters()):
            raise UsageError(f"{name} has lazy layers: say their numbers of channels")
        extra = [key for key in module.state_dict() if key.endswith("_extra_state")]
        if extra:
            raise UsageError(f"{name} keeps {extra[0]} beside its tensors: models are saved as tensors only")
        claimed = getattr(module, "group", None)
        dimensions = fields_out[0].dimensions
        claimed = group_named(claimed, dimensions) if isinstance(claimed, str) else claimed
        self.group = claimed if isinstance(claimed, Group) else group_named("C1", dimensions)
        self.module, self.components_out = module, sum(field.components for field in fields_out)

    def forward(self, x: Field) -> FieldOut:
        """Apply the module.

        Parameters
        ----------
        x : Tensor
            Normalised fields, of shape (batch, component, [z,] y, x).

        Returns
        -------
        Tensor
            Normalised fields, of shape (batch, component_out, [z,] y, x).
        """
        y, expected = self.module(x), (len(x), self.components_out, *x.shape[2:])
        if not isinstance(y, Tensor) or tuple(y.shape) != expected:
            # Checked at every call: a component too few would be broadcast without a word.
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise UsageError(f"{type(self.module).__name__} must map {tuple(x.shape)} to {expected}; it gives {got}")
        return y


@architecture(USER_MODULE)
def module(
    fields_in: Sequence[FieldSpec],
    fields_out: Sequence[FieldSpec],
    *,
    path: str | None = None,
    options: dict[str, Any] | None = None,
) -> UserModule:
    """Build your own torch.nn.Module, "package.module:Class", from its `options`; needs --allow-code.

    The constructor gets `options`, and whichever of these it names: channels_in and channels_out, or in_channels and
    out_channels, the numbers of components; fields_in and fields_out, the `FieldSpec` objects.

    Parameters
    ----------
    fields_in : sequence of FieldSpec
        Fields that the network takes.
    fields_out : sequence of FieldSpec
        Fields that the network returns.
    path : str
        The class, as "package.module:Class".
    options : dict of str to object, optional
        Arguments of its constructor.

    Returns
    -------
    UserModule
        The module as a network.

    Raises
    ------
    UsageError
        If the code is not allowed to run, or cannot be constructed.
    """
    path = require_code_permission(path)
    counts = [sum(field.components for field in fields) for fields in (fields_in, fields_out)]
    offered = {
        "channels_in": counts[0], "channels_out": counts[1], "in_channels": counts[0], "out_channels": counts[1],
        "fields_in": tuple(fields_in), "fields_out": tuple(fields_out),
    }  # fmt: skip
    return UserModule(construct_module(path, offered, options or {}), fields_out)
