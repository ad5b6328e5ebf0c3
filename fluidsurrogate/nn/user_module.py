"""A `torch.nn.Module` of the user's own as a network, and the permission to import and run the code that it is."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.nn.layers import Kernels
from fluidsurrogate.nn.network import Field, FieldOut, Network, architecture
from solvers import C1, FieldSpec, Group, group_named

KIND = "module"
_allowed: ContextVar[bool] = ContextVar("code is allowed", default=False)


@contextmanager
def allowing_code(allowed: bool) -> Iterator[None]:
    """Let models of kind "module" import and run what their `path` names, for the duration and in this thread.

    No file can say this, only whoever starts the program: a TOML file or a model's folder may be somebody else's.
    """
    token = _allowed.set(allowed or _allowed.get())
    try:
        yield
    finally:
        _allowed.reset(token)


def code_is_allowed() -> bool:
    """True within `allowing_code(True)`."""
    return _allowed.get()


def refuse_code(path: str | None) -> str:
    """`path`; UsageError that says what would be executed unless that is allowed, or that there is no path."""
    if path is None:
        raise UsageError(
            f'kind = {KIND!r} has no path: name the class, path = "package.module:Class"; or give the module itself '
            "from Python, to fs.train and fs.load"
        )
    if not code_is_allowed():
        raise UsageError(
            f"kind = {KIND!r} would import and run {path}: if you trust that code, "
            "allow it by --allow-code (from Python: allow_code=True)"
        )
    return path


@final
class UserModule(Network):
    """A module that maps (batch, components in, y, x) to (batch, components out, y, x), normalised, as a network.

    It claims the group that its attribute `group`, a `solvers.Group` or the name of one, says, C1 without one; and no
    translations.
    UsageError where it has nothing to train, or a state that no safetensors file could hold.
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
        claimed = group_named(claimed) if isinstance(claimed, str) else claimed
        self.group = claimed if isinstance(claimed, Group) else C1
        self.module, self.components_out = module, sum(field.components for field in fields_out)

    def forward(self, x: Field, kernels: Kernels | None = None) -> FieldOut:
        y, expected = self.module(x), (len(x), self.components_out, *x.shape[2:])
        if not isinstance(y, Tensor) or tuple(y.shape) != expected:
            # Checked at every call: a component too few would be broadcast without a word.
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise UsageError(f"{type(self.module).__name__} must map {tuple(x.shape)} to {expected}; it gives {got}")
        return y


@architecture(KIND)
def module(
    fields_in: Sequence[FieldSpec],
    fields_out: Sequence[FieldSpec],
    *,
    path: str | None = None,
    options: dict[str, Any] | None = None,
) -> UserModule:
    """A torch.nn.Module of your own, "package.module:Class", its constructor given `options`; needs --allow-code.

    The constructor also gets whichever of these it names: channels_in and channels_out, or in_channels and
    out_channels, the numbers of components; fields_in and fields_out, the `FieldSpec`s themselves.
    """
    path = refuse_code(path)
    counts = [sum(field.components for field in fields) for fields in (fields_in, fields_out)]
    offered = {
        "channels_in": counts[0], "channels_out": counts[1], "in_channels": counts[0], "out_channels": counts[1],
        "fields_in": tuple(fields_in), "fields_out": tuple(fields_out),
    }  # fmt: skip
    return UserModule(_construct(path, offered, options or {}), fields_out)


def _construct(path: str, offered: Mapping[str, Any], options: Mapping[str, Any]) -> nn.Module:
    found = _find(path)
    signature = inspect.signature(found.__init__)
    arguments = {key: value for key, value in offered.items() if key in signature.parameters} | dict(options)
    try:
        signature.bind(None, **arguments)
    except TypeError as error:
        known = ", ".join(list(signature.parameters)[1:])
        raise UsageError(f"{path}: {error} (options); its constructor takes {known or 'nothing'}") from None
    try:
        with torch.device("cpu"):  # a constructor may compute with what it makes, which the meta device cannot
            return found(**arguments)
    except Exception as error:
        raise UsageError(f"{path}: its constructor raised {one_line(error)}") from error


def _find(path: str) -> type[nn.Module]:
    """The class behind "package.module:Class"."""
    name, colon, attribute = path.partition(":")
    if not (colon and name and attribute):
        raise UsageError(f'path must be "package.module:Class" (got {path!r})')
    try:
        where = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"{path}: importing {name} raised {one_line(error)}") from error
        raise UsageError(f"{path}: no module {error.name!r} here or among the installed packages") from None
    except Exception as error:
        raise UsageError(f"{path}: importing {name} raised {one_line(error)}") from error
    found = getattr(where, attribute, None)
    if found is None:
        raise UsageError(f"{path}: {where.__name__} ({getattr(where, '__file__', 'built in')}) has no {attribute!r}")
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise UsageError(f"{path} is not a torch.nn.Module's class")
    return found


def source_of(path: str) -> str:
    """A fingerprint of the file that defines the class behind "package.module:Class"; UsageError unless allowed."""
    file = inspect.getsourcefile(_find(refuse_code(path)))
    return "unknown" if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]


def one_line(error: Exception) -> str:
    """An exception's type, the first line of what it says, and where outside of torch it came from."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "torch" not in Path(f.filename).parts]
    said = (str(error).splitlines() or [""])[0]
    at = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {said}{at}"
