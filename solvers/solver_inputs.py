"""The numbers, vectors and forcing of a flow as inputs of its solver: their defaults, and checks of what users give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from solvers import fields as known
from solvers.array_types import Vector
from solvers.equation import TransportedScalar
from solvers.fields import FieldSpec, field_in
from solvers.validation import require_non_negative

# Inputs of a solver only where a user asks for them, one value a trajectory.
COEFFICIENTS = {f.name: f for f in (known.VISCOSITY, known.DRAG, known.DIFFUSIVITY)}
# Inputs of every solver whose equation has them.
TERMS = {f.name: f for f in (known.FORCING, known.GRAVITY, known.MEAN_GRADIENT, known.MEAN_VELOCITY)}


def default_inputs(
    coefficients: Mapping[str, float],
    forcing: Float[Tensor, "*space"] | None = None,
    scalar: TransportedScalar | None = None,
    mean_velocity: Vector | None = None,
    dimensions: int = 2,
) -> dict[str, Tensor]:
    """Return every term of an equation as a solver's input for one trajectory.

    Parameters
    ----------
    coefficients : mapping of str to float
        Viscosity, drag and, with a scalar, diffusivity.
    forcing : Tensor, optional
        The curl of the body force, shape (y, x), in 1/s², or in three dimensions the body force, shape (3, z, y, x), in
        m/s²; None: unforced.
    scalar : TransportedScalar, optional
        Gives mean gradient and gravity.
    mean_velocity : tuple of float, optional
        As (x, y) or (x, y, z), in m/s; None: zero.
    dimensions : int
        Number of dimensions, 2 or 3.

    Returns
    -------
    dict of str to Tensor
        Float64 on the CPU: numbers (1, 1, 1, 1), vectors (1, 2, 1, 1), the forcing (1, 1, y, x); in three dimensions
        (1, 1, 1, 1, 1), (1, 3, 1, 1, 1) and (1, 3, z, y, x). Terms that are absent are left out.

    Raises
    ------
    ValueError
        If a vector has another number of components.
    """
    vectors = {"mean_velocity": mean_velocity}
    if scalar is not None:
        vectors |= {"mean_gradient": scalar.mean_gradient, "gravity": scalar.gravity}
    values = {name: [value] for name, value in coefficients.items()}
    values |= {name: list(vector) for name, vector in vectors.items() if vector is not None}
    for name, vector in vectors.items():
        if vector is not None and len(vector) != dimensions:
            raise ValueError(f"{name} must have {dimensions} components (got {vector})")
    ones = [1] * dimensions
    tensors = {name: torch.tensor(v, dtype=torch.float64).reshape(1, -1, *ones) for name, v in values.items()}
    if forcing is None:
        return tensors
    # A copy: the caller may change its own tensor later.
    copied = forcing.to(torch.float64, copy=True)
    return tensors | {"forcing": copied.reshape(1, -1, *copied.shape[-dimensions:])}


def input_fields(
    defaults: Mapping[str, Tensor], varying: Sequence[str], dimensions: int = 2
) -> tuple[FieldSpec, ...]:  # fmt: skip
    """Return which terms are inputs of a solver.

    Parameters
    ----------
    defaults : mapping of str to Tensor
        Every term of the equation, as from `default_inputs`.
    varying : sequence of str
        Which of viscosity, drag and diffusivity may differ from trajectory to trajectory.
    dimensions : int
        Number of dimensions, 2 or 3.

    Returns
    -------
    tuple of FieldSpec
        Forcing and vectors that there are, then the varying coefficients.
    """
    terms = [field for name, field in TERMS.items() if name in defaults]
    chosen = (*terms, *(field for name, field in COEFFICIENTS.items() if name in varying))
    return tuple(field_in(field, dimensions) for field in chosen)


def check_coefficients(coefficients: Mapping[str, float], varying: Sequence[str]) -> None:
    """Raise an error if a coefficient is out of range, or if one that is to vary is none of them.

    Parameters
    ----------
    coefficients : mapping of str to float
        Viscosity, drag and, with a scalar, diffusivity.
    varying : sequence of str
        Names of those that are to be inputs.

    Raises
    ------
    ValueError
        If a coefficient is negative or not finite, or a name is unknown.
    """
    require_non_negative(**coefficients)
    if unknown := [name for name in varying if name not in coefficients]:
        raise ValueError(f"varying: unknown coefficient {unknown[0]!r}; one of {', '.join(coefficients)}")


def check_defaults(defaults: Mapping[str, Tensor]) -> None:
    """Raise an error if a term is not finite.

    Parameters
    ----------
    defaults : mapping of str to Tensor
        The terms, as from `default_inputs`.

    Raises
    ------
    ValueError
        For the first that is not; the message shows some of its values.
    """
    for name, default in defaults.items():
        if not bool(default.isfinite().all()):
            got = default[~default.isfinite()][:2].tolist()
            raise ValueError(f"{name} must be finite (got {', '.join(map(str, got))})")


def check_given(given: Mapping[str, Tensor]) -> None:
    """Raise an error if an input holds values that no equation has.

    Parameters
    ----------
    given : mapping of str to Tensor
        Inputs by name, one value or field for each trajectory.

    Raises
    ------
    ValueError
        If an input is not finite, or a coefficient is negative.
    """
    for name, value in given.items():
        if not bool(value.isfinite().all()):
            raise ValueError(f"input {name!r} must be finite for every trajectory")
        if name in COEFFICIENTS and not bool((value >= 0).all()):
            raise ValueError(f"input {name!r} must be at least 0 for every trajectory")
