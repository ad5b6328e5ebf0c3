"""The registry of architectures: the values of `kind` in an experiment's `[models.NAME]`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import TypeVar, get_type_hints

from fluidsurrogate.nn.network import Network
from solvers import Group, group_named

B = TypeVar("B", bound=Callable[..., Network])
ARCHITECTURES: dict[str, Callable[..., Network]] = {}
# By kind: the function from the value of the option `group` to the point group that the network keeps exactly.
EXACT_GROUPS: dict[str, Callable[[str], Group]] = {}


def architecture(kind: str, exact_group: Callable[[str], Group] = group_named) -> Callable[[B], B]:
    """Register an architecture under the name that an experiment gives in `models.NAME.kind`.

    The decorated class or function is called as f(fields_in, fields_out, **options) and returns a `Network`. Its
    keyword-only arguments, with their annotations and defaults, are the keys that the experiment may set. The first
    paragraph of its docstring is what `fluidsurrogate models` prints.

    Parameters
    ----------
    kind : str
        Name of the architecture.
    exact_group : callable
        Function from the value of the option `group`, if the architecture has one, to the point group that the network
        keeps exactly. It raises ValueError with all the names if it knows no such value.

    Returns
    -------
    callable
        The decorator.

    Examples
    --------
    >>> import torch
    >>> from fluidsurrogate.nn import ARCHITECTURES, GroupConv2d, GroupPool2d, LiftingConv2d, Network, architecture
    >>> from solvers import VORTICITY, group_named
    >>> @architecture("two-layers")
    ... class TwoLayers(Network):
    ...     \"\"\"Two group convolutions.\"\"\"
    ...
    ...     def __init__(self, fields_in, fields_out, *, group: str = "D4", channels: int = 4):
    ...         super().__init__()
    ...         self.group = group_named(group)
    ...         self.lift = LiftingConv2d(self.group, fields_in, channels)
    ...         self.conv = GroupConv2d(self.group, channels, sum(field.components for field in fields_out))
    ...         self.pool = GroupPool2d(self.group, fields_out)
    ...
    ...     def forward(self, x):
    ...         return self.pool(self.conv(self.lift(x).relu()))
    >>> network = ARCHITECTURES["two-layers"]([VORTICITY], [VORTICITY], group="C4")
    >>> network(torch.randn(2, 1, 16, 16)).shape
    torch.Size([2, 1, 16, 16])
    >>> del ARCHITECTURES["two-layers"]  # as this is an example
    """

    def register(build: B) -> B:
        ARCHITECTURES[kind], EXACT_GROUPS[kind] = build, exact_group
        return build

    return register


def options_of(build: Callable) -> dict[str, inspect.Parameter]:
    """Return the keyword-only arguments of a function or class, with their annotations resolved.

    Parameters
    ----------
    build : callable
        Function, class or dataclass.

    Returns
    -------
    dict of str to Parameter
        Arguments by name.
    """
    function = build.__init__ if inspect.isclass(build) and not is_dataclass(build) else build  # type: ignore[misc]
    types = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(build).parameters
    return {n: p.replace(annotation=types[n]) for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


def register_without_group(kind: str, build: Callable[..., Network], description: str) -> None:
    """Register an architecture over the trivial group, without the options that choose the group and the pooling.

    Parameters
    ----------
    kind : str
        Name of the architecture without a group.
    build : callable
        Architecture with the options `group` and `pool`.
    description : str
        What `fluidsurrogate models` prints.
    """

    def without_group(fields_in, fields_out, **options):
        return build(fields_in, fields_out, group="C1", **options)

    options = {name: p for name, p in options_of(build).items() if name not in ("group", "pool")}
    without_group.__doc__ = description
    without_group.__annotations__ = {name: p.annotation for name, p in options.items()}
    fields = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("fields_in", "fields_out")]
    without_group.__signature__ = inspect.Signature([*fields, *options.values()])  # type: ignore[attr-defined]
    architecture(kind)(without_group)
