"""Where the features of a network can be read or replaced, without a change of the network: forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fluidsurrogate.explaining.sample import LeftOutError
from fluidsurrogate.nn.deep_ensemble import DeepEnsemble
from fluidsurrogate.nn.layers.equivariant_conv import EquivariantConv
from fluidsurrogate.nn.layers.steerable_conv import SteerableConv2d
from solvers import Group


@dataclass(frozen=True)
class FeatureLayer:
    """A place in a network where a feature passes.

    Parameters
    ----------
    name : str
        What the place is called.
    module : Module
        The module that the feature leaves or enters.
    is_input : bool
        Whether it is what the module takes, rather than what it returns.
    shape : tuple of int
        Shape of the feature: (batch, channel, α, y, x), or (batch, channel, y, x) if there is no group axis.
    """

    name: str
    module: nn.Module
    is_input: bool
    shape: tuple[int, ...]

    @property
    def has_alpha(self) -> bool:
        """Whether the feature has an axis of group elements."""
        return len(self.shape) == 5

    @contextmanager
    def replaced(self, function: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Replace the feature, at every application of the network inside the block.

        Parameters
        ----------
        function : callable
            From the feature to what takes its place, of the same shape.

        Yields
        ------
        None
            The block runs once.
        """
        if self.is_input:
            handle = self.module.register_forward_pre_hook(lambda _, args: (function(args[0]), *args[1:]))
        else:
            handle = self.module.register_forward_hook(lambda _, args, out: function(out))
        try:
            yield
        finally:
            handle.remove()


@contextmanager
def recorded(layers: Sequence[FeatureLayer]) -> Iterator[list[Tensor]]:
    """Record the features of the last application of the network inside the block.

    Parameters
    ----------
    layers : sequence of FeatureLayer
        Where.

    Yields
    ------
    list of Tensor
        Filled while the block runs: the feature at each place, always as (batch, channel, α, y, x).
    """
    kept: list[Tensor] = [None] * len(layers)  # type: ignore[list-item]

    def keep(index: int) -> Callable[[Tensor], Tensor]:
        def look(feature: Tensor) -> Tensor:
            kept[index] = (feature if layers[index].has_alpha else feature.unsqueeze(2)).detach().clone()
            return feature

        return look

    with ExitStack() as stack:
        for index, layer in enumerate(layers):
            stack.enter_context(layer.replaced(keep(index)))
        yield kept


def find_feature_layers(network: nn.Module | None, apply: Callable[[], Any]) -> list[FeatureLayer]:
    """Find where features pass in a network, from the first to the last.

    In a network over a group these are the outermost modules that return (batch, channel, α, y, x), which are the
    blocks, and what the first of them takes: the lifted feature. In any other network these are its convolutions but
    the last, which makes the output.

    Parameters
    ----------
    network : Module or None
        The network; None for a stepper that has none.
    apply : callable
        Applies the network once.

    Returns
    -------
    list of FeatureLayer
        In the order in which the network computes them.

    Raises
    ------
    LeftOutError
        If there is nothing to look at, with the reason.
    """
    if network is None:
        raise LeftOutError("this stepper is no network")
    if isinstance(network, DeepEnsemble):
        raise LeftOutError("the networks of an ensemble are computed as one: explain one of them")
    if any(isinstance(part, SteerableConv2d) for part in network.modules()):
        raise LeftOutError("the features of a steerable network have no axis of group elements")
    calls = _shapes_of_calls(network, apply)
    parts = dict(network.named_modules())
    group = getattr(network, "group", None)
    order = len(group) if isinstance(group, Group) else 1  # a foreign module may call anything so

    def lifted(shape: tuple[int, ...] | None) -> bool:
        return shape is not None and len(shape) == 5 and shape[2] == order

    found = [name for name in calls if lifted(calls[name][1])]
    blocks = [name for name in found if not isinstance(parts[name], EquivariantConv)] or found
    blocks = [name for name in blocks if not any(name.startswith(f"{other}.") for other in blocks)]
    layers = [FeatureLayer(name, parts[name], False, calls[name][1] or ()) for name in blocks]
    if layers and lifted(first := calls[layers[0].name][0]):
        layers.insert(0, FeatureLayer("lifting", layers[0].module, True, first or ()))
    if not layers:
        convolutions = [
            name for name, (_, out) in calls.items() if isinstance(parts[name], nn.Conv2d) and len(out or ()) == 4
        ]
        kept = convolutions[:-1] or convolutions
        layers = [FeatureLayer(name, parts[name], False, calls[name][1] or ()) for name in kept]
    if not layers:
        raise LeftOutError("no layer of this network returns features on the grid")
    return layers


def _shapes_of_calls(
    network: nn.Module, apply: Callable[[], Any]
) -> dict[str, tuple[tuple[int, ...] | None, tuple[int, ...] | None]]:
    """Return the shapes of what each submodule takes and returns, in the order in which they begin."""
    calls: dict[str, tuple[tuple[int, ...] | None, tuple[int, ...] | None]] = {}

    def shape_of(value: Any) -> tuple[int, ...] | None:
        return tuple(value.shape) if isinstance(value, Tensor) else None

    handles = []
    for name, part in network.named_modules():
        if not name:
            continue

        def begin(_: nn.Module, args: tuple, name: str = name) -> None:
            calls[name] = (shape_of(args[0]) if args else None, None)

        def end(_: nn.Module, args: tuple, out: Any, name: str = name) -> None:
            calls[name] = (calls[name][0], shape_of(out))

        handles += [part.register_forward_pre_hook(begin), part.register_forward_hook(end)]
    try:
        apply()
    finally:
        for handle in handles:
            handle.remove()
    return calls
