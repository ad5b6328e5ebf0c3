"""Group convolutions on periodic, cell-centred grids (Cohen & Welling 2016, arXiv:1602.07576).

Features are functions on the group and the plane, (batch, channel, α, y, x), α running over `group.elements`; an
element a moves them by (a·F)(g, x) = F(a⁻¹g, a⁻¹x). A field of the flow, (batch, component, y, x), becomes a feature by
lifting and a field again by pooling over α. Each layer's free weights live on one orientation; `kernel()` expands them
to all of them by one gather, after which the layer is one `conv2d` on channel × α channels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from solvers import Element, FieldSpec, Group, act_on_fields
from solvers.symmetry import move

Kernel = tuple[Tensor, Tensor]
Kernels = Mapping[nn.Module, Kernel]
Field = Float[Tensor, "batch component y x"]
Feature = Float[Tensor, "batch channel alpha y x"]
FeatureOut = Float[Tensor, "batch channel_out alpha y x"]


class Expanding(nn.Module, ABC):
    """A layer whose free weights are expanded to a kernel: afresh at every call, unless `kernels` holds it already."""

    group: Group

    @abstractmethod
    def kernel(self) -> Kernel:
        """The expanded weight and bias, differentiable with respect to the free ones."""

    @abstractmethod
    def plain(self) -> nn.Module:
        """This layer without its group: a module that holds the expanded kernel as it is now."""

    def _kernel(self, kernels: Kernels | None) -> Kernel:
        return self.kernel() if kernels is None else kernels[self]


def signed_gather(group: Group, shape: Sequence[int], act: Callable[[Tensor, Element], Tensor]) -> tuple:
    """Where each entry of g·ψ comes from in ψ, and its sign, for every g: (index, sign), each (|G|, *shape).

    Every element permutes the entries of a kernel up to signs, so the action on a kernel of labels is all there is to
    know about it.
    """
    labels = torch.arange(1.0, math.prod(shape) + 1, dtype=torch.float64).reshape(tuple(shape))
    moved = torch.stack([act(labels, g) for g in group])
    return (moved.abs() - 1).long(), moved.sign()


def act_on_regular(group: Group, kernel: Float[Tensor, "*batch alpha y x"], g: Element) -> Tensor:
    """(g·F)(h, x) = F(g⁻¹h, g⁻¹x)."""
    inverse = group.inverse(g)
    order = [group.index(group.product(inverse, h)) for h in group]
    return move(kernel[..., order, :, :], g)


def restrict(feature: Feature, group: Group, subgroup: Group) -> Float[Tensor, "batch channel_out alpha_out y x"]:
    """A feature of `group` as |G|/|H| times as many channels of one of the subgroup H: see `Group.restriction`."""
    rows = torch.tensor(group.restriction(subgroup), device=feature.device)
    return feature[:, :, rows].flatten(1, 2)


def periodic_conv2d(x: Tensor, kernel: Kernel, dilation: int = 1) -> Tensor:
    """`conv2d` with circular padding that keeps the size."""
    weight, bias = kernel
    pad = dilation * (weight.shape[-1] // 2)
    if pad > min(x.shape[-2:]):
        raise ValueError(f"a kernel that reaches {pad} cells does not fit a grid of {tuple(x.shape[-2:])}")
    if pad:
        x = CircularPad.apply(x, pad) if x.requires_grad else circular_pad(x, pad)
    return F.conv2d(x, weight, bias, dilation=dilation)


def circular_pad(x: Float[Tensor, "batch channel y x"], pad: int) -> Float[Tensor, "batch channel y2 x2"]:
    """`pad` cells of the other side on each side."""
    return F.pad(x, (pad, pad, pad, pad), mode="circular")


class CircularPad(torch.autograd.Function):
    """`circular_pad` with a gradient that adds the strips back where they came from: torch's own copies and clears the
    whole gradient for each strip, a tenth of a training step."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, pad: int) -> Tensor:
        return circular_pad(x, pad)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.pad = inputs[1]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        p = ctx.pad
        rows = gradient[..., p:-p, :].clone()
        rows[..., -p:, :] += gradient[..., :p, :]
        rows[..., :p, :] += gradient[..., -p:, :]
        inner = rows[..., p:-p].clone()
        inner[..., -p:] += rows[..., :p]
        inner[..., :p] += rows[..., -p:]
        return inner, None


@final
class LiftingConv2d(Expanding):
    """Field → feature: [f ⋆ ψ](g, x) = Σ_y Σ_j [g·ψ]_j(y) f_j(x + y)  (eq. 10; the kernel turns like a field).

    Typed: `fields` say how each component transforms, so that a pseudoscalar's kernel changes sign under a mirror.
    In (batch, Σ components, y, x), out (batch, channels, |G|, y, x). `size` must be odd.
    """

    index: Tensor
    sign: Tensor

    def __init__(self, group: Group, fields: Sequence[FieldSpec], channels: int, size: int = 3) -> None:
        super().__init__()
        _check_odd(size)
        self.group, self.fields = group, tuple(fields)
        components = sum(field.components for field in fields)
        self.weight = nn.Parameter(torch.empty(channels, components, size, size))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.normal_(self.weight, std=1 / math.sqrt(max(components, 1) * size**2))
        index, sign = signed_gather(group, (components, size, size), lambda k, g: act_on_fields(fields, k, g))
        self.register_buffer("index", index.flatten(), persistent=False)
        self.register_buffer("sign", sign.float(), persistent=False)

    def kernel(self) -> Kernel:
        """Expanded weight (channels·|G|, components, size, size) and bias."""
        weight = self.weight.flatten(1).index_select(1, self.index).unflatten(1, self.sign.shape)
        return (weight * self.sign).flatten(0, 1), self.bias.repeat_interleave(len(self.group))

    def plain(self) -> nn.Module:
        return PlainConv2d(self.kernel(), len(self.group))

    def forward(self, x: Field, kernels: Kernels | None = None) -> Feature:
        return periodic_conv2d(x, self._kernel(kernels)).unflatten(1, (-1, len(self.group)))


@final
class GroupConv2d(Expanding):
    """Feature → feature: [F ⋆ ψ](g, x) = Σ_h Σ_y ψ(g⁻¹h, g⁻¹y) F(h, x + y)  (eq. 11).

    In and out (batch, channel, |G|, y, x). `size` must be odd.
    """

    index: Tensor

    def __init__(self, group: Group, channels_in: int, channels: int, size: int = 3, dilation: int = 1) -> None:
        super().__init__()
        _check_odd(size)
        _check_dilation(dilation)
        self.group, self.dilation = group, dilation
        order = len(group)
        self.weight = nn.Parameter(torch.empty(channels, channels_in, order, size, size))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.normal_(self.weight, std=1 / math.sqrt(channels_in * order * size**2))
        index, _ = signed_gather(group, (order, size, size), lambda k, g: act_on_regular(group, k, g))
        # From the free weights of one channel out, (in, h, y, x), to where conv2d wants them, (g, in, h, y, x).
        index = index[:, None] + index[0].numel() * torch.arange(channels_in)[:, None, None, None]
        self.register_buffer("index", index.flatten(), persistent=False)

    def kernel(self) -> Kernel:
        """Expanded weight (channels·|G|, channels_in·|G|, size, size) and bias."""
        channels, channels_in, order, *size = self.weight.shape
        weight = self.weight.flatten(1).index_select(1, self.index)
        weight = weight.view(channels * order, channels_in * order, *size)
        return weight, self.bias.repeat_interleave(order)

    def plain(self) -> nn.Module:
        return PlainConv2d(self.kernel(), len(self.group), self.dilation)

    def forward(self, x: Feature, kernels: Kernels | None = None) -> FeatureOut:
        y = periodic_conv2d(x.flatten(1, 2), self._kernel(kernels), self.dilation)
        return y.unflatten(1, (-1, len(self.group)))


@final
class PlainConv2d(nn.Module):
    """A convolution with a given kernel, of a field or of a feature's channels and α in one; its output is a field,
    or, where `alpha` says how many α there are, a feature again."""

    weight: Tensor
    bias: Tensor

    def __init__(self, kernel: Kernel, alpha: int = 0, dilation: int = 1) -> None:
        super().__init__()
        self.alpha, self.dilation = alpha, dilation
        self.register_buffer("weight", kernel[0].detach().clone())
        self.register_buffer("bias", kernel[1].detach().clone())

    def forward(self, x: Tensor, kernels: Kernels | None = None) -> Tensor:
        y = periodic_conv2d(x.flatten(1, -3), (self.weight, self.bias), self.dilation)
        return y.unflatten(1, (-1, self.alpha)) if self.alpha else y


@final
class GroupPool2d(nn.Module):
    """Feature → field, pooling over α: one channel in for each component out.

    `mean`: f(x) = 1/|G| Σ_g ρ(g) F(g, x), the projection onto the field's representation, right for every type.
    `max`: the largest F over α for scalars; for pseudoscalars max + min of the sign-twisted det(g) F(g, x), which is
    odd under mirrors. A plain max over α is right for scalars only: it gives the same number before and after a mirror,
    where a pseudoscalar must change its sign (`tests/fluidsurrogate/nn/test_layers.py` shows it fail).
    """

    representation: Tensor
    twisted: Tensor

    def __init__(self, group: Group, fields: Sequence[FieldSpec], reduce: str = "mean") -> None:
        super().__init__()
        if reduce not in ("mean", "max"):
            raise ValueError(f"reduce must be 'mean' or 'max' (got {reduce!r})")
        if reduce == "max" and any(field.order for field in fields):
            raise ValueError("the maximum is for scalars and pseudoscalars; a vector leaves by 'mean' or 'gated'")
        self.reduce, self.fields = reduce, tuple(fields)
        matrices = [torch.block_diag(*(g.representation(field) for field in fields)) for g in group]
        self.register_buffer("representation", torch.stack(matrices).float(), persistent=False)
        twisted = [field.parity < 0 for field in fields]
        self.register_buffer("twisted", torch.tensor(twisted)[:, None, None], persistent=False)

    def forward(self, x: Feature) -> Field:
        representation = self.representation.to(x.dtype)
        if self.reduce == "mean":
            return torch.einsum("gij,bjgyx->biyx", representation, x) / len(representation)
        signs = representation.diagonal(dim1=1, dim2=2).T  # det(g) or 1: (component, |G|)
        untwisted = x * signs[:, :, None, None]
        largest = untwisted.amax(2)
        return torch.where(self.twisted, largest + untwisted.amin(2), largest)


def _check_odd(size: int) -> None:
    if size < 1 or size % 2 == 0:
        raise ValueError(f"kernel size must be odd, so that it has a centre (got {size})")


def _check_dilation(dilation: int) -> None:
    if dilation < 1:
        raise ValueError(f"dilation must be at least 1 (got {dilation})")
