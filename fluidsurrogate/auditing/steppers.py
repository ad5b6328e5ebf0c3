"""What is audited or explained as a stepper: modules wrapped, views unwrapped, networks switched to evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from fluidsurrogate.auditing.module_stepper import ModuleStepper
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.models.surrogate import Surrogate
from solvers import Resampled, StateSpec, Stepper, VelocityForm


def as_stepper(model: Stepper | nn.Module, spec: StateSpec | None) -> Stepper:
    """Return a model as a stepper.

    Parameters
    ----------
    model : Stepper or torch.nn.Module
        A stepper, or a module that maps a state to the next state.
    spec : StateSpec or None
        Grid, fields, interval and inputs of a module's states.

    Returns
    -------
    Stepper
        The model itself, or a `ModuleStepper` around the module.

    Raises
    ------
    UsageError
        If the model is neither, a module comes without a spec, or a stepper with another spec than its own.
    """
    if isinstance(model, Stepper):
        if spec is not None and spec != model.spec:
            raise UsageError("spec differs from the stepper's own spec; give spec for a torch.nn.Module only")
        return model
    if not isinstance(model, nn.Module):
        raise UsageError(f"model must be a stepper or a torch.nn.Module (got {type(model).__name__})")
    if spec is None:
        raise UsageError("spec is required for a torch.nn.Module: a StateSpec of grid, fields, interval and inputs")
    return ModuleStepper(model, spec)


def unwrap(stepper: Stepper) -> Stepper:
    """Return the stepper inside views of it, such as `Resampled`.

    Parameters
    ----------
    stepper : Stepper
        Any stepper.

    Returns
    -------
    Stepper
        The innermost one.
    """
    while isinstance(stepper, Resampled | VelocityForm):
        stepper = stepper.stepper
    return stepper


def network_of(stepper: Stepper) -> nn.Module | None:
    """Return the network of a surrogate, or the module of a `ModuleStepper`.

    Parameters
    ----------
    stepper : Stepper
        Any stepper.

    Returns
    -------
    Module or None
        None for solvers and steppers of any other kind.
    """
    inner = unwrap(stepper)
    if isinstance(inner, Surrogate):
        return inner.network
    return inner.module if isinstance(inner, ModuleStepper) else None


@contextmanager
def evaluation_mode(stepper: Stepper) -> Iterator[None]:
    """Switch dropout and batch statistics to evaluation, and back afterwards.

    Parameters
    ----------
    stepper : Stepper
        Any stepper.

    Yields
    ------
    None
        The block runs once.
    """
    network = network_of(stepper)
    in_training = [] if network is None else [part for part in network.modules() if part.training]
    for part in in_training:
        part.training = False
    try:
        yield
    finally:
        for part in in_training:
            part.training = True
