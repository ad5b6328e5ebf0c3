"""The registry of architectures: the values of `kind` in an experiment's `[models.NAME]`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, TypeVar, get_type_hints

from fluidsurrogate.nn.network import Network
from solvers import FieldSpec, Group, group_named

B = TypeVar("B", bound=Callable[..., Network])
ARCHITECTURES: dict[str, Callable[..., Network]] = {}
# By kind: the function from the value of the option `group` and the number of dimensions to the point group that the
# network keeps exactly; the numbers of dimensions that it is for; and the options whose default differs in space.
EXACT_GROUPS: dict[str, Callable[[str, int], Group]] = {}
DIMENSIONS: dict[str, tuple[int, ...]] = {}
SPACE_DEFAULTS: dict[str, Mapping[str, Any]] = {}


def architecture(
    kind: str,
    exact_group: Callable[[str, int], Group] = group_named,
    dimensions: tuple[int, ...] = (2, 3),
    in_space: Mapping[str, Any] | None = None,
) -> Callable[[B], B]:
    """Register an architecture under the name that an experiment gives in `models.NAME.kind`.

    The decorated class or function is called as f(fields_in, fields_out, **options) and returns a `Network`. Its
    keyword-only arguments, with their annotations and defaults, are the keys that the experiment may set. The first
    paragraph of its docstring is what `fluidsurrogate models` prints. The fields say how many dimensions there are.

    Parameters
    ----------
    kind : str
        Name of the architecture.
    exact_group : callable
        Function from the value of the option `group`, if the architecture has one, and the number of dimensions to the
        point group that the network keeps exactly. It raises ValueError with all the names if it knows no such value.
    dimensions : tuple of int
        Numbers of dimensions that the architecture is for: 2, 3 or both. It is never called with fields of others.
    in_space : mapping of str to object, optional
        Options whose default is another one in three dimensions, with that default.

    Returns
    -------
    callable
        The decorator.

    Examples
    --------
    >>> import torch
    >>> from fluidsurrogate.nn import ARCHITECTURES, GroupConv, GroupPool, LiftingConv, Network, architecture
    >>> from solvers import VORTICITY, group_named
    >>> @architecture("two-layers")
    ... class TwoLayers(Network):
    ...     \"\"\"Two group convolutions.\"\"\"
    ...
    ...     def __init__(self, fields_in, fields_out, *, group: str = "D4", channels: int = 4):
    ...         super().__init__()
    ...         self.group = group_named(group, fields_in[0].dimensions)
    ...         self.lift = LiftingConv(self.group, fields_in, channels)
    ...         self.conv = GroupConv(self.group, channels, sum(field.components for field in fields_out))
    ...         self.pool = GroupPool(self.group, fields_out)
    ...
    ...     def forward(self, x):
    ...         return self.pool(self.conv(self.lift(x).relu()))
    >>> network = ARCHITECTURES["two-layers"]([VORTICITY], [VORTICITY], group="C4")
    >>> network(torch.randn(2, 1, 16, 16)).shape
    torch.Size([2, 1, 16, 16])
    >>> del ARCHITECTURES["two-layers"]  # as this is an example
    """

    def register(build: B) -> B:
        EXACT_GROUPS[kind], DIMENSIONS[kind], SPACE_DEFAULTS[kind] = exact_group, dimensions, dict(in_space or {})
        has_extras = in_space or dimensions != (2, 3)
        ARCHITECTURES[kind] = _for_dimensions(kind, build) if has_extras else build
        return build

    return register


def _for_dimensions(kind: str, build: Callable[..., Network]) -> Callable[..., Network]:
    """Return a builder that refuses fields of other dimensions, and knows the defaults of three dimensions."""

    def builder(fields_in: Sequence[FieldSpec], fields_out: Sequence[FieldSpec], **options: Any) -> Network:
        dimensions = fields_out[0].dimensions
        if dimensions not in DIMENSIONS[kind]:
            others = ", ".join(other for other in sorted(ARCHITECTURES) if dimensions in DIMENSIONS[other])
            raise ValueError(f"kind = {kind!r} is not for {dimensions} dimensions; take one of {others}")
        defaults = SPACE_DEFAULTS[kind] if dimensions == 3 else {}
        return build(fields_in, fields_out, **{**defaults, **options})

    builder.__wrapped__ = build  # type: ignore[attr-defined]  # inspect.unwrap finds the class, for its documentation
    return _with_signature(builder, options_of(build), build.__doc__)


def _with_signature(
    build: Callable[..., Network], options: Mapping[str, inspect.Parameter], description: str | None
) -> Callable[..., Network]:
    """Give a function of (fields_in, fields_out, **options) the docstring and the signature of its options."""
    build.__doc__ = description
    build.__annotations__ = {name: p.annotation for name, p in options.items()}
    fields = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("fields_in", "fields_out")]
    build.__signature__ = inspect.Signature([*fields, *options.values()])  # type: ignore[attr-defined]
    return build


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


def register_without_group(
    kind: str, build: Callable[..., Network], description: str, in_space: Mapping[str, Any] | None = None
) -> None:
    """Register an architecture over the trivial group, without the options that choose the group and the pooling.

    Parameters
    ----------
    kind : str
        Name of the architecture without a group.
    build : callable
        Architecture with the options `group` and `pool`.
    description : str
        What `fluidsurrogate models` prints.
    in_space : mapping of str to object, optional
        Options whose default is another one in three dimensions, with that default.
    """

    def without_group(fields_in, fields_out, **options):
        return build(fields_in, fields_out, group="C1", **options)

    options = {name: p for name, p in options_of(build).items() if name not in ("group", "pool")}
    architecture(kind, in_space=in_space)(_with_signature(without_group, options, description))
