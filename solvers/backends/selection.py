"""The choice of a back end by its name."""

from __future__ import annotations

import functools
import logging

import torch
from torch import Tensor

from solvers.backends.base import BACKENDS

AUTO = "auto"
log = logging.getLogger("solvers")


def check_backend_name(name: str) -> str:
    """Raise an error if there is no back end of a name.

    Parameters
    ----------
    name : str
        ``"auto"`` or the name of a back end.

    Returns
    -------
    str
        The name.

    Raises
    ------
    ValueError
        If there is none; the message lists all names.
    """
    if name != AUTO and name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join((AUTO, *sorted(BACKENDS)))} (got {name!r})")
    return name


def check_backend(name: str, device: torch.device, has_fixed_step: bool, dimensions: int = 2) -> None:
    """Raise an error if a back end is unknown or cannot be used.

    Parameters
    ----------
    name : str
        ``"auto"`` or the name of a back end.
    device : torch.device
        Where the solver computes.
    has_fixed_step : bool
        Whether the user has fixed the inner time step.
    dimensions : int
        Number of dimensions of the flow.

    Raises
    ------
    ValueError
        If there is no back end of that name, or it is not available there; the message says why.
    """
    check_backend_name(name)
    reason = None if name == AUTO else BACKENDS[name].why_unavailable(device, has_fixed_step, dimensions)
    if reason:
        raise ValueError(f"backend {name!r} is not available: {reason}")


def resolve_backend(name: str, device: torch.device, dimensions: int = 2) -> str:
    """Return the name of the back end to use, looking for a C++ compiler if the choice is left open.

    Parameters
    ----------
    name : str
        The name of a back end; ``"auto"``: ``"native"`` on a CPU with a C++ compiler and ``"torch"`` elsewhere.
    device : torch.device
        Where the solver computes.
    dimensions : int
        Number of dimensions of the flow.

    Returns
    -------
    str
        The name of a back end.
    """
    if name != AUTO:
        return name
    reason = BACKENDS["native"].why_unavailable(device, False, dimensions)
    if reason and device.type == "cpu":
        _warn_slow(reason)
    return "torch" if reason else "native"


def wants_operations() -> bool:
    """Return whether forward-mode differentiation, a function transform or a compiler follows the computation.

    Returns
    -------
    bool
        True if the computation must consist of PyTorch operations.
    """
    if torch.autograd.forward_ad._current_level >= 0 or torch.compiler.is_compiling():
        return True
    return torch._C._functorch.peek_interpreter_stack() is not None


def wants_gradients(*tensors: Tensor | None) -> bool:
    """Return whether autograd follows what is done with one of the tensors.

    Parameters
    ----------
    *tensors : Tensor or None
        The tensors that a computation reads.

    Returns
    -------
    bool
        True if the computation must be differentiable in reverse mode.
    """
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


@functools.cache
def _warn_slow(reason: str) -> None:
    """Warn, once for each reason, that the slower back end is used."""
    log.warning(
        f"the solver steps by PyTorch operations, about 3 to 8 times slower than in C++: {reason}; "
        "set CXX to a C++ compiler"
    )
