"""Specifications of fields and states: how a field transforms, and which fields on which grid make up a state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from solvers.grid import Grid


@dataclass(frozen=True)
class FieldSpec:
    r"""One physical field, and how it transforms under rotations and mirrors.

    An orthogonal matrix g maps the field f to

    .. math:: (g f)(x) = \det(g)^{[\text{parity} = -1]} \, g^{\otimes \text{order}} f(g^{-1} x).

    Parameters
    ----------
    name : str
        The name, as in a dataset.
    order : int
        Tensor order: 0 (one component) or 1 (a vector with components x, y, and z in three dimensions).
    parity : int
        +1 for true tensors (tracer, velocity), −1 for pseudotensors (vorticity, stream function, helicity), which
        change sign under a mirror beyond what the tensor order says.
    units : str
        Units in UDUNITS notation.
    long_name : str
        Description for plots and files.
    uniform : bool
        Whether the field is the same at every point, as gravity or a viscosity is: its values then have the shape
        (batch, component, 1, 1), in three dimensions (batch, component, 1, 1, 1), and are stored without y and x.
    wall : int
        0 in a periodic box. +1 or −1 where the box is a layer between two plates together with its mirror image: the
        field is even or odd about the plates, y = 0 and half the height of the box. This is a boundary condition, no
        matter of parity. For a vector it is the sign of the component along the plates; the component across them has
        the other sign.
    solenoidal : bool
        Whether the field is a vector field without divergence, as the velocity of an incompressible flow is.
    dimensions : int
        2 in the plane, 3 in space. Vorticity is a pseudoscalar in the plane and a pseudovector in space.

    Raises
    ------
    ValueError
        If order, parity, wall or dimensions is none of these, a scalar is called solenoidal, or a field in space has
        plates.

    Examples
    --------
    >>> from solvers import FieldSpec
    >>> FieldSpec("vorticity", order=0, parity=-1, units="s-1").components
    1
    >>> FieldSpec("vorticity", order=1, parity=-1, units="s-1", dimensions=3).components
    3
    """

    name: str
    order: int = 0
    parity: int = 1
    units: str = "1"
    long_name: str = ""
    uniform: bool = False
    wall: int = 0
    solenoidal: bool = False
    dimensions: int = 2

    def __post_init__(self) -> None:
        if self.order not in (0, 1) or self.parity not in (1, -1):
            raise ValueError(f"field {self.name!r}: order must be 0 or 1 and parity +1 or -1")
        if self.wall not in (-1, 0, 1):
            raise ValueError(f"field {self.name!r}: wall must be -1, 0 or +1")
        if self.solenoidal and self.order != 1:
            raise ValueError(f"field {self.name!r}: only a vector can be solenoidal")
        if self.dimensions not in (2, 3) or (self.dimensions == 3 and self.wall):
            raise ValueError(f"field {self.name!r}: dimensions must be 2 or 3, and plates need 2")

    @property
    def components(self) -> int:
        """Number of components: 1 for a scalar, 2 for a vector in the plane, 3 for a vector in space."""
        return self.dimensions**self.order

    def extent(self, grid: Grid) -> tuple[int, ...]:
        """Return the shape (y, x) or (z, y, x) of the field's values on a grid.

        Parameters
        ----------
        grid : Grid
            The grid.

        Returns
        -------
        tuple of int
            The numbers of cells, or 1 on each axis if the field is uniform.
        """
        return (1,) * grid.dimensions if self.uniform else grid.n


VORTICITY = FieldSpec("vorticity", 0, -1, "s-1", "vorticity")
FORCING = FieldSpec("forcing", 0, -1, "s-2", "curl of the body force")
TRACER = FieldSpec("tracer", 0, 1, "1", "passive tracer")
TEMPERATURE = FieldSpec("temperature", 0, 1, "K", "temperature less its mean profile")
VELOCITY = FieldSpec("velocity", 1, 1, "m s-1", "velocity", solenoidal=True)
VISCOSITY = FieldSpec("viscosity", 0, 1, "m2 s-1", "kinematic viscosity", uniform=True)
DRAG = FieldSpec("drag", 0, 1, "s-1", "linear drag", uniform=True)
DIFFUSIVITY = FieldSpec("diffusivity", 0, 1, "m2 s-1", "diffusivity of the scalar", uniform=True)
GRAVITY = FieldSpec("gravity", 1, 1, "m s-2 K-1", "gravity times thermal expansion", uniform=True)
MEAN_GRADIENT = FieldSpec("mean_gradient", 1, 1, "m-1", "mean gradient of the scalar", uniform=True)
MEAN_VELOCITY = FieldSpec("mean_velocity", 1, 1, "m s-1", "mean velocity", uniform=True)
KNOWN_FIELDS = {
    field.name: field
    for field in (VORTICITY, FORCING, TRACER, TEMPERATURE, VELOCITY, VISCOSITY, DRAG, DIFFUSIVITY, GRAVITY,
                  MEAN_GRADIENT, MEAN_VELOCITY)
}  # fmt: skip

# In space the curl of a velocity is a vector, and a solver takes the body force itself, not its curl.
_IN_SPACE = {
    "vorticity": FieldSpec("vorticity", 1, -1, "s-1", "vorticity", solenoidal=True, dimensions=3),
    "forcing": FieldSpec("forcing", 1, 1, "m s-2", "body force", dimensions=3),
}


def field_in(field: FieldSpec, dimensions: int) -> FieldSpec:
    """Return the specification of a field of the plane in another number of dimensions.

    Vorticity, a pseudoscalar in the plane, becomes a pseudovector in space, and the forcing becomes the body force in
    place of its curl. All other fields keep their order and parity.

    Parameters
    ----------
    field : FieldSpec
        A field in two dimensions.
    dimensions : int
        2 or 3.

    Returns
    -------
    FieldSpec
        The field itself in two dimensions.

    Examples
    --------
    >>> from solvers import VORTICITY, field_in
    >>> field_in(VORTICITY, 3).components
    3
    """
    if dimensions == field.dimensions:
        return field
    return _IN_SPACE[field.name] if field.name in _IN_SPACE else replace(field, dimensions=dimensions)


@dataclass(frozen=True)
class StateSpec:
    """What a state consists of, and what determines its evolution beside it.

    A state is a tensor of shape (batch, component, y, x), in three dimensions (batch, component, z, y, x): the fields
    in order along the component axis. Inputs are fields that a step depends on and does not change, such as a forcing,
    gravity, or a viscosity that differs from trajectory to trajectory. A group element acts on state and inputs
    together.

    Parameters
    ----------
    grid : Grid
        Where the fields live.
    fields : tuple of FieldSpec
        The fields of the state.
    interval : float
        Time between two stored states, in s.
    inputs : tuple of FieldSpec
        The inputs, uniform or on the same grid.

    Raises
    ------
    ValueError
        If a field's number of dimensions is not that of the grid.

    Examples
    --------
    >>> from solvers import VELOCITY, TRACER, Grid, StateSpec
    >>> StateSpec(Grid.square(32), (VELOCITY, TRACER), interval=0.5).components
    3
    """

    grid: Grid
    fields: tuple[FieldSpec, ...]
    interval: float
    inputs: tuple[FieldSpec, ...] = ()

    def __post_init__(self) -> None:
        for field in (*self.fields, *self.inputs):
            if field.dimensions != self.grid.dimensions:
                raise ValueError(f"field {field.name!r} is of {field.dimensions} dimensions, and the grid of "
                                 f"{self.grid.dimensions}")  # fmt: skip

    @property
    def components(self) -> int:
        """Number of components of the state, over all fields."""
        return sum(field.components for field in self.fields)

    @property
    def vorticity_component(self) -> int | None:
        """Position of the vorticity among the components of a state in the plane; None if there is none."""
        names = [field.name for field in self.fields for _ in range(field.components)]
        has_vorticity = VORTICITY.name in names and self.grid.dimensions == 2
        return names.index(VORTICITY.name) if has_vorticity else None

    @property
    def velocity_of_vorticity(self) -> FieldSpec:
        """The velocity that belongs to the vorticity in the state."""
        vorticity = next(field for field in self.fields if field.name == VORTICITY.name)
        return replace(VELOCITY, wall=-vorticity.wall)

    def check(self, state: Tensor, inputs: Mapping[str, Tensor] | None = None) -> None:
        """Raise an error unless a state and its inputs have the shapes that the specification says.

        Parameters
        ----------
        state : Tensor
            Expected to be (batch, component, y, x) or (batch, component, z, y, x), with at least one trajectory.
        inputs : mapping of str to Tensor, optional
            Expected to hold every input and nothing else.

        Raises
        ------
        ValueError
            If a shape is wrong, or an input is missing or unknown.
        """
        if state.ndim < 3 or tuple(state.shape[1:]) != (self.components, *self.grid.n):
            expected = ", ".join(map(str, (self.components, *self.grid.n)))
            raise ValueError(f"state must be (batch, {expected}); got {tuple(state.shape)}")
        if not len(state):
            raise ValueError("state holds no trajectory: give at least one")
        given = dict(inputs or {})
        for field in self.inputs:
            if field.name not in given:
                raise ValueError(f"input {field.name!r} is missing: this step depends on it")
            value, shape = given.pop(field.name), (state.shape[0], field.components, *field.extent(self.grid))
            if tuple(value.shape) != shape:
                raise ValueError(f"input {field.name!r} must be {shape}; got {tuple(value.shape)}")
        if given:
            raise ValueError(f"unknown input {sorted(given)[0]!r}; this step takes {[f.name for f in self.inputs]}")
