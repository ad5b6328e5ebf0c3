"""A convolution with its activation: on a CPU one pass over memory in C++ for gates, otherwise by PyTorch."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from torch import Tensor, nn

from fluidsurrogate.nn.layers.activation import activate, add_activation
from fluidsurrogate.nn.layers.group_conv import GroupConv, LiftingConv
from fluidsurrogate.nn.layers.periodic_conv import periodic_conv
from fluidsurrogate.nn.layers.periodic_padding import circular_pad
from fluidsurrogate.nn.shapes import Kernel
from solvers.backends import wants_gradients, wants_operations
from solvers.backends.cpp_library import compiled_library
from solvers.backends.native import pointer

SOURCE = Path(__file__).with_suffix(".cpp")
WORK_OF_A_THREAD = 2**22  # multiplications: to start a thread takes as long as some of them
NAMES = {torch.float32: "float", torch.float64: "double"}


def conv_and_activation(layer: nn.Module, x: Tensor, kind: str, adds: bool = False) -> Tensor:
    r"""Convolve, and apply an activation; add the result to what came in if asked.

    .. math:: \sigma(\mathrm{conv}(x)) \quad \text{or} \quad x + \sigma(\mathrm{conv}(x))

    A group convolution of planes with gates is computed in C++ on a CPU (`gated_conv.cpp`), with its gradient. With
    AVX-512 it takes 0.4 to 0.8 of the time of PyTorch's operations (experiments/layer_speed/gated.md). Both give the
    same numbers up to rounding. Without a C++ compiler, PyTorch computes everything.

    Parameters
    ----------
    layer : Module
        The convolution, from fields or features to features.
    x : Tensor
        Fields, of shape (batch, component, [z,] y, x), or a feature, of shape (batch, channel, |G|, [z,] y, x).
    kind : str
        "gelu" or "gated", as for `activate`.
    adds : bool
        Whether to add `x`.

    Returns
    -------
    Tensor
        Feature, of shape (batch, channel, |G|, [z,] y, x).
    """
    if kind == "gated" and isinstance(layer, GroupConv | LiftingConv) and _is_for_native(layer, x, adds):
        weight, bias = layer.expand_kernel() if layer.folded_kernel is None else layer.folded_kernel
        flat = x if x.ndim == 4 else x.flatten(1, 2)
        dilation = getattr(layer, "dilation", 1)
        if wants_gradients(x, weight, bias):
            made = GatedConv.apply(flat, weight, bias, dilation, adds)
        else:
            packed = layer.packed_kernel
            if layer.folded_kernel is None or packed is None:
                packed = pack_kernel((weight, bias), parts=2)
            if layer.folded_kernel is not None:  # the weights of the layer itself may change
                layer.packed_kernel = packed
            made = native_conv(flat, packed, weight, dilation, plus=flat if adds else None)
        return made.unflatten(1, (-1, len(layer.group)))
    return add_activation(x, layer(x), kind) if adds else activate(layer(x), kind)


def _is_for_native(layer: GroupConv | LiftingConv, x: Tensor, adds: bool) -> bool:
    """Return whether C++ can compute a layer: planes of the right shape on a CPU, and nothing of torch's in between.

    What is not right is left to PyTorch, which raises the error.
    """
    weight, bias = (layer.weight, layer.bias) if layer.folded_kernel is None else layer.folded_kernel
    expected = layer.weight.shape[1:2] if isinstance(layer, LiftingConv) else (layer.weight.shape[1], len(layer.group))
    return (
        type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype in NAMES
        and all(
            type(t) in (Tensor, nn.Parameter) and t.device == x.device and t.dtype == x.dtype for t in (weight, bias)
        )
        and layer.group.dimensions == 2
        and x.ndim == 3 + len(expected)
        and len(x) > 0
        and tuple(x.shape[1:-2]) == tuple(expected)
        and not (adds and layer.weight.shape[0] != 2 * x.shape[1])
        and getattr(layer, "dilation", 1) * (layer.weight.shape[-1] // 2) <= min(x.shape[-2:])
        and not _is_followed(layer)
        and not isinstance(compiled_library(SOURCE), str)
    )


def _is_followed(layer: nn.Module) -> bool:
    """Return whether something wants to see PyTorch's operations: a transform, a tracer, a counter, a hook."""
    everywhere = torch.nn.modules.module
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks,
             everywhere._global_forward_hooks, everywhere._global_forward_pre_hooks,
             everywhere._global_backward_hooks, everywhere._global_backward_pre_hooks)  # fmt: skip
    return (
        wants_operations()
        or torch.is_autocast_enabled("cpu")
        or torch.jit.is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or any(hooks)
    )


class GatedConv(torch.autograd.Function):
    """The convolution with gates in C++, with its gradient.

    The gradient for the array is a convolution in C++ too, with the kernel turned around; that for the kernel is
    PyTorch's. Where the gradient is itself to be differentiated, PyTorch's operations compute it.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, dilation: int, adds: bool) -> Tensor:
        """Convolve, apply the gates, and add what came in if asked.

        Parameters
        ----------
        ctx : FunctionCtx
            Context of the call.
        x : Tensor
            Shape (batch, incoming, y, x).
        weight : Tensor
            Shape (2 channels, incoming, size, size): values, then gates.
        bias : Tensor
            Shape (2 channels,).
        dilation : int
            Cells between neighbouring points of the kernel.
        adds : bool
            Whether to add `x`.

        Returns
        -------
        Tensor
            Shape (batch, channels, y, x).
        """
        sums = x.new_empty(len(x), *x.shape[2:], len(weight))
        packed = pack_kernel((weight, bias), parts=2)
        out = native_conv(x, packed, weight, dilation, plus=x if adds else None, sums=sums)
        ctx.save_for_backward(x, weight, bias, sums)
        ctx.dilation, ctx.adds = dilation, adds
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the gradients for the array, the kernel and the bias.

        Parameters
        ----------
        ctx : FunctionCtx
            Context of the call.
        gradient : Tensor
            Gradient with respect to the result.

        Returns
        -------
        tuple
            Gradients with respect to the arguments of `forward`.
        """
        x, weight, bias, sums = ctx.saved_tensors
        # For gradients of the gradient, and for several gradients at once, whose tensor has no storage.
        if torch.is_grad_enabled() or wants_operations() or not torch._C._has_storage(gradient):
            with torch.enable_grad():
                # Views, because x may itself depend on the same weight.
                x, weight, bias = own = [t.view_as(t) for t in (x, weight, bias)]
                made = activate(periodic_conv(x, (weight, bias), ctx.dilation), "gated")
                wanted = [t for t, needed in zip(own, ctx.needs_input_grad, strict=False) if needed]
                found = iter(torch.autograd.grad(made + x if ctx.adds else made, wanted, gradient, create_graph=True))
            return *(next(found) if needed else None for needed in ctx.needs_input_grad[:3]), None, None
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        for_sums, channels = torch.empty_like(sums), len(weight) // 2
        function = getattr(compiled_library(SOURCE), f"gate_gradient_{NAMES[x.dtype]}")
        cells = ctypes.c_long(gradient.numel() // channels)
        function(cells, channels, pointer(gradient), pointer(sums), pointer(for_sums))
        flat = for_sums.permute(0, 3, 1, 2)
        for_x = for_weight = None
        if ctx.needs_input_grad[0]:
            turned = weight.flip((2, 3)).transpose(0, 1)
            packed = pack_kernel((turned, turned.new_zeros(len(turned))), parts=1)
            for_x = native_conv(flat, packed, turned, ctx.dilation, plus=gradient if ctx.adds else None, parts=1)
        if ctx.needs_input_grad[1]:
            padded = circular_pad(x, ctx.dilation * (weight.shape[-1] // 2))
            settings = ([1, 1], [0, 0], [ctx.dilation] * 2, False, [0, 0], 1, [False, True, False])
            for_weight = torch.ops.aten.convolution_backward(flat, padded, weight, None, *settings)[1]
        return for_x, for_weight, for_sums.sum((0, 1, 2)) if ctx.needs_input_grad[2] else None, None, None


def native_conv(
    x: Tensor,
    packed: Kernel,
    weight: Tensor,
    dilation: int,
    *,
    plus: Tensor | None = None,
    sums: Tensor | None = None,
    parts: int = 2,
) -> Tensor:
    """Call the C++.

    Parameters
    ----------
    x : Tensor
        Shape (batch, incoming, y, x).
    packed : tuple of Tensor
        The kernel from `pack_kernel`.
    weight : Tensor
        The weight before it was packed, of shape (parts · channels, incoming, size, size).
    dilation : int
        Cells between neighbouring points of the kernel.
    plus : Tensor, optional
        What to add, of shape (batch, channels, y, x), with the channels last in memory.
    sums : Tensor, optional
        Where values and gates are stored, of shape (batch, y, x, 2 channels).
    parts : int
        2 for values and gates; 1 for a convolution without an activation.

    Returns
    -------
    Tensor
        Shape (batch, channels, y, x), with the channels last in memory.
    """
    library = compiled_library(SOURCE)
    assert not isinstance(library, str)
    flat = x.contiguous(memory_format=torch.channels_last)
    if plus is x:
        plus = flat
    batch, incoming, height, width = flat.shape
    channels, size = len(weight) // parts, weight.shape[-1]
    out = x.new_empty(batch, height, width, channels)
    sizes = (batch, height, width, incoming, channels, size, dilation, parts)
    work = flat.numel() * len(weight) * size**2
    threads = min(torch.get_num_threads(), batch * height, 1 + work // WORK_OF_A_THREAD)
    arrays = (None if t is None else pointer(t) for t in (flat, *packed, plus, out, sums))
    if getattr(library, f"conv_{NAMES[x.dtype]}")((ctypes.c_int * len(sizes))(*sizes), *arrays, threads):
        raise MemoryError(f"no memory for a convolution of {height} x {width} cells")
    return out.permute(0, 3, 1, 2)


def pack_kernel(kernel: Kernel, parts: int) -> Kernel:
    """Return weight and bias as C++ reads them: in chunks of channels, whose values and gates are neighbours.

    Parameters
    ----------
    kernel : tuple of Tensor
        Weight of shape (parts · channels, incoming, size, size) and bias of shape (parts · channels,).
    parts : int
        2 for values and gates, otherwise 1.

    Returns
    -------
    tuple of Tensor
        Weight of shape (chunk, size, size, incoming, channels of a chunk) and bias of shape (chunk, channels of a
        chunk), the last axis padded to whole vectors of the processor.
    """
    library = compiled_library(SOURCE)
    assert not isinstance(library, str)
    weight, bias = (t.detach().unflatten(0, (parts, -1)) for t in kernel)
    lanes, channels = getattr(library, f"lanes_{NAMES[weight.dtype]}")(), weight.shape[1]
    chunk = min(channels, 4 * lanes // parts)

    def in_chunks(t: Tensor) -> Tensor:
        if channels % chunk:
            t = torch.cat([t, t.new_zeros(parts, -channels % chunk, *t.shape[2:])], dim=1)
        t = t.unflatten(1, (-1, chunk)).transpose(0, 1).flatten(1, 2)
        if parts * chunk % lanes:
            t = torch.cat([t, t.new_zeros(len(t), -parts * chunk % lanes, *t.shape[2:])], dim=1)
        return t

    return in_chunks(weight).permute(0, 3, 4, 2, 1).contiguous(), in_chunks(bias).contiguous()
