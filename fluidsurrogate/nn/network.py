"""What a network is to everything around it, and the list of architectures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from solvers import Group

Field = Float[Tensor, "batch component y x"]
FieldOut = Float[Tensor, "batch component_out y x"]
ARCHITECTURES: dict[str, Callable[..., Network]] = {}


class Network(nn.Module, ABC):
    """Typed fields in, typed fields out, equivariant under `group`."""

    group: Group

    @abstractmethod
    def fold(self) -> Callable[[Field], FieldOut]:
        """The network with its kernels expanded, once, for as many applications as the weights stay the same.
        Differentiable with respect to the weights."""

    def forward(self, x: Field) -> FieldOut:
        return self.fold()(x)


def architecture(kind: str):
    """Register a function or class under the name that an experiment gives in `models.NAME.kind`.

    It is called as f(fields_in, fields_out, **options); its keyword-only arguments, with their annotations and
    defaults, are the keys that the experiment may set.
    """

    def register(build):
        ARCHITECTURES[kind] = build
        return build

    return register
