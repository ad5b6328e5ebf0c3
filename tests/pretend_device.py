"""A pretend accelerator, for machines without a real one: its tensors refuse to mix with those of the CPU.

    import pretend_device

    pretend_device.install()  # before anything that asks torch for its devices
    x = torch.randn(3).to("pretend")
    x + 1                     # on "pretend"
    x + torch.randn(3)        # RuntimeError, as on a GPU
    with pretend_device.only_there():
        torch.zeros(3)        # RuntimeError: computed on the CPU
    with pretend_device.counting() as traffic:
        float(x.sum())        # traffic.waits is ["_local_scalar_dense"]: the host waits for the device
        x[[0, 2]]             # traffic.hidden is ["index"]: a copy to the device that nobody asked for; it waits, too

Each of its tensors holds a tensor on the CPU, so that results can be compared. It cannot show what only a GPU has:
streams, graphs, kernels, precision. Install it in a process of its own, because it stays for as long as the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _device as device_context
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretend"
IS_POSSIBLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
COPIES = {"copy_", "_to_copy", "_copy_from", "_copy_from_and_resize"}  # what moves numbers between devices
TAKES_CPU_INDICES = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}  # so does CUDA
# Below the dispatch to Python, torch forgets that a view stands for the conjugate or the negative: these are computed.
AS_VALUES = {"_conj": torch.ops.aten._conj_physical.default, "_neg_view": torch.ops.aten.neg.default}
# What a GPU computes and then tells the host, which waits for it. `float`, `bool`, `item` and `if` come to the first.
READ_BY_HOST = {
    "_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "unique_dim", "unique_consecutive",
    "bincount",
}  # fmt: skip
_registered: list[torch.library.Library] = []  # held, because an implementation goes with its library


@dataclass
class Traffic:
    """What the host waited for, and what was copied between the devices, by the names of the operations.

    As on a GPU, a copy in either direction makes the host wait, unless it is asked not to (`non_blocking=True`).
    """

    waits: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)  # those that nobody asked for by name: lists as indices


_traffic: list[Traffic] = []


@contextmanager
def counting() -> Iterator[Traffic]:
    """Count what the host waits for while the block runs."""
    _traffic.append(Traffic())
    try:
        yield _traffic[-1]
    finally:
        _traffic.pop()


def _count(name: str, args: Any, kwargs: dict[str, Any], is_copy: bool) -> None:
    """Add an operation to the traffic."""
    if name in TAKES_CPU_INDICES:
        # Indices on the CPU are copied, and a mask becomes the numbers of its entries: the host needs their count.
        indices = [t for t in tree_leaves(args[1]) if isinstance(t, Tensor)]
        is_hidden = any(t.ndim and not isinstance(t, PretendTensor) for t in indices)
        waits = is_hidden or any(t.dtype == torch.bool for t in indices)
    else:
        non_blocking = kwargs.get("non_blocking", name == "copy_" and len(args) > 2 and args[2])
        is_hidden, waits = False, name in READ_BY_HOST or (is_copy and not non_blocking)
    for traffic in _traffic:
        traffic.waits += [name] * waits
        traffic.copies += [name] * (is_copy or is_hidden)
        traffic.hidden += [name] * is_hidden


class PretendTensor(Tensor):
    """A tensor on the pretend device: a shell around a tensor on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> PretendTensor:
        shell = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=torch.device(NAME, 0),
        )  # fmt: skip
        shell.held = held
        return shell

    def __repr__(self) -> str:
        return f"PretendTensor({self.held!r})"

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy: use Tensor.cpu() first")

    numpy = __array__

    def tolist(self) -> Any:
        _count("_local_scalar_dense", (), {}, False)
        return self.held.tolist()

    def __getitem__(self, key: Any) -> Tensor:
        """Take lists as indices, which torch would copy to the device in C++."""
        keys = key if isinstance(key, tuple) else (key,)
        return super().__getitem__(tuple(torch.tensor(k) if isinstance(k, list) else k for k in keys))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _is_here(device: Any) -> bool:
    """Whether a device, or its name, is the pretend one."""
    return device is not None and torch.device(device).type == NAME


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute an operation on the CPU tensors inside, after the checks that an accelerator makes."""
    name = func._schema.name.partition("::")[2]
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    pretend = [t for t in tensors if isinstance(t, PretendTensor)]
    target, generator = kwargs.get("device"), kwargs.get("generator")
    if pretend and name not in COPIES | TAKES_CPU_INDICES:
        for t in tensors:
            if t.ndim and not isinstance(t, PretendTensor):  # a number, of no dimension, goes anywhere
                raise RuntimeError(f"{name}: expected all tensors on one device, but found {NAME}:0 and "
                                   f"{t.device} {tuple(t.shape)}")  # fmt: skip
    stays = bool(pretend) if target is None else _is_here(target)
    if name == "copy_":
        stays = isinstance(args[0], PretendTensor)
    if _traffic and pretend:
        devices = {isinstance(t, PretendTensor) for t in tensors}
        is_copy = name in COPIES and (devices | {stays} if name == "_to_copy" else devices) == {True, False}
        _count(name, args, kwargs, is_copy)
    if generator is not None and stays and generator.device.type == "cpu":
        raise RuntimeError(f"{name}: expected a generator on {NAME}, but found one on the CPU")

    def inside(value: Any) -> Any:
        if isinstance(value, PretendTensor):
            return value.held
        return torch.device("cpu") if isinstance(value, torch.device) and value.type == NAME else value

    given, options = tree_map(inside, args), tree_map(inside, kwargs)
    options.pop("pin_memory", None)
    result = AS_VALUES.get(name, func)(*given, **options)
    shells = {id(t.held): t for t in pretend}

    def outside(value: Any) -> Any:
        if not isinstance(value, Tensor) or isinstance(value, PretendTensor) or not stays:
            return value
        return shells[id(value)] if id(value) in shells else PretendTensor(value)  # in place: the same tensor

    return args[0] if name == "copy_" else tree_map(outside, result)


def install() -> None:
    """Give torch the device `pretend`, and let the package take it for one of its own."""
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    every = torch.library.Library("_", "IMPL")
    every.fallback(lambda op, *args, **kwargs: _run(op, args, kwargs), "PrivateUse1")
    own = torch.library.Library("aten", "IMPL")
    for op in (torch.ops.aten.empty.memory_format, torch.ops.aten.empty_strided.default):
        own.impl(op, lambda *args, _op=op, **kwargs: _run(_op, args, kwargs), "PrivateUse1")
    every.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    own.impl(torch.ops.aten.conv2d.default, _conv2d_in_half_precision, "AutocastPrivateUse1")
    _registered.extend([every, own])
    device_context._device_constructors()  # it remembers the functions that there are: before any is replaced
    getattr(torch, NAME).get_amp_supported_dtype = lambda: [torch.bfloat16, torch.float16]
    for name in ("tensor", "as_tensor"):  # in C++ they copy into memory of the device, which there is none of
        setattr(torch, name, _made_on_cpu_first(getattr(torch, name)))

    from fluidsurrogate.core import devices

    own_devices = devices.device_available
    devices.device_available = lambda name: name == NAME or own_devices(name)

    import safetensors.torch  # which reads straight into the devices that it knows

    read = safetensors.torch.load_file
    safetensors.torch.load_file = lambda path, device="cpu": (
        {k: v.to(device) for k, v in read(path).items()} if _is_here(device) else read(path, device)
    )


def _conv2d_in_half_precision(*args: Any, **kwargs: Any) -> Tensor:
    """Convolve as autocast has it on a GPU."""
    with torch.autocast(NAME, enabled=False):
        return torch.conv2d(*tree_map(lambda a: a.bfloat16() if isinstance(a, Tensor) else a, args), **kwargs)


def _made_on_cpu_first(make: Any) -> Any:
    def made(data: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
        return make(data, **kwargs).to(NAME) if _is_here(device) else make(data, device=device, **kwargs)

    return made


@contextmanager
def only_there() -> Iterator[None]:
    """Refuse every operation that computes a tensor on the CPU while the block runs; copies to and fro are allowed."""
    with _NothingOnCPU():
        yield


class _NothingOnCPU(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        for leaf in tree_leaves(result):
            is_here = isinstance(leaf, PretendTensor) or not isinstance(leaf, Tensor) or not leaf.ndim
            if not is_here and name not in COPIES | {"lift_fresh"}:  # numbers of Python's, on their way
                raise RuntimeError(f"{name} computed a tensor of shape {tuple(leaf.shape)} on the CPU")
        return result
