"""The residual group CNN with dilated convolutions, and the plain CNN as the same network with the trivial group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import final

from torch import nn
from torch.nn import functional as F

from fluidsurrogate.nn.layers import GroupConv2d, GroupPool2d, Kernel, LiftingConv2d
from fluidsurrogate.nn.network import Field, FieldOut, Network, architecture
from solvers import C1, GROUPS, FieldSpec, Group


@final
class GCNN(Network):
    """Lifting → residual group convolutions → 1 × 1 group convolution → pooling over α.

    h₀ = GELU(lift(x)),  h_{i+1} = h_i + GELU(conv_i(h_i)),  y = pool(head(h)); with dilations 1, 2, 4, 2, 1 and 3 × 3
    kernels after a 5 × 5 lifting the receptive field is 25 cells.
    """

    def __init__(
        self,
        fields_in: Sequence[FieldSpec],
        fields_out: Sequence[FieldSpec],
        group: Group,
        width: int,
        lifting_size: int,
        size: int,
        dilations: Sequence[int],
        pool: str,
    ) -> None:
        super().__init__()
        channels, rest = divmod(width, len(group))
        if rest or not channels:
            raise ValueError(f"width must be a multiple of the {len(group)} elements of {group.name} (got {width})")
        self.group = group
        self.lift = LiftingConv2d(group, fields_in, channels, lifting_size)
        self.blocks = nn.ModuleList(GroupConv2d(group, channels, channels, size, d) for d in dilations)
        self.head = GroupConv2d(group, channels, sum(field.components for field in fields_out), 1)
        self.pool = GroupPool2d(group, fields_out, pool)

    def fold(self) -> Callable[[Field], FieldOut]:
        kernels = [layer.kernel() for layer in (self.lift, *self.blocks, self.head)]
        return partial(self._apply_kernels, kernels)

    def _apply_kernels(self, kernels: list[Kernel], x: Field) -> FieldOut:
        lift, *blocks, head = kernels
        h = F.gelu(self.lift(x, lift))
        for block, kernel in zip(self.blocks, blocks, strict=True):
            h = h + F.gelu(block(h, kernel))
        return self.pool(self.head(h, head))


@architecture("gcnn")
def gcnn(
    fields_in: Sequence[FieldSpec],
    fields_out: Sequence[FieldSpec],
    *,
    group: str = "D4",
    width: int = 32,
    lifting_size: int = 5,
    size: int = 3,
    dilations: tuple[int, ...] = (1, 2, 4, 2, 1),
    pool: str = "mean",
) -> GCNN:
    """Group CNN; `width` counts activations: channels × |group|."""
    if group not in GROUPS:
        raise ValueError(f"unknown group {group!r}; one of {', '.join(GROUPS)}")
    return GCNN(fields_in, fields_out, GROUPS[group], width, lifting_size, size, dilations, pool)


@architecture("cnn")
def cnn(
    fields_in: Sequence[FieldSpec],
    fields_out: Sequence[FieldSpec],
    *,
    width: int = 32,
    lifting_size: int = 5,
    size: int = 3,
    dilations: tuple[int, ...] = (1, 2, 4, 2, 1),
) -> GCNN:
    """Plain CNN: the same network over the trivial group."""
    return GCNN(fields_in, fields_out, C1, width, lifting_size, size, dilations, "mean")
