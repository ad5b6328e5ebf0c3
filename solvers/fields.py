"""What a state is: typed fields on a grid, and the time between two stored states."""

from __future__ import annotations

from dataclasses import dataclass

from solvers.grid import Grid


@dataclass(frozen=True)
class FieldSpec:
    """One physical field and how it transforms.

    `order` is the tensor order: 0 (one component) or 1 (a vector: components x, y). `parity` is its sign under a
    mirror beyond what the tensor order says: +1 for true tensors (tracer, velocity), −1 for pseudotensors (vorticity,
    stream function). An orthogonal matrix g maps the field to (g f)(x) = det(g)^[parity = −1] g^{⊗order} f(g⁻¹ x).

    `uniform`: the same at every point, as a gravity or a viscosity is: (batch, component, 1, 1), stored without y and
    x. `wall`: +1 or −1 where the box is a layer between two plates and its mirror image: the field is even or odd
    about the plates, y = 0 and half the height of the box; 0 in a periodic box. A boundary condition, no matter of
    parity. Of a vector it is the sign of the component along the plates; the one across them has the other.

    `solenoidal`: a vector field without divergence, as an incompressible flow's velocity."""

    name: str
    order: int = 0
    parity: int = 1
    units: str = "1"
    long_name: str = ""
    uniform: bool = False
    wall: int = 0
    solenoidal: bool = False

    def __post_init__(self) -> None:
        if self.order not in (0, 1) or self.parity not in (1, -1):
            raise ValueError(f"field {self.name!r}: order must be 0 or 1 and parity +1 or -1")
        if self.wall not in (-1, 0, 1):
            raise ValueError(f"field {self.name!r}: wall must be -1, 0 or +1")
        if self.solenoidal and self.order != 1:
            raise ValueError(f"field {self.name!r}: only a vector can be solenoidal")

    @property
    def components(self) -> int:
        """1 for a scalar, 2 for a vector in the plane."""
        return 2**self.order

    def extent(self, grid: Grid) -> tuple[int, int]:
        """(ny, nx) of its values on a grid; (1, 1) where it is uniform."""
        return (1, 1) if self.uniform else grid.n


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


@dataclass(frozen=True)
class StateSpec:
    """A state of shape (batch, component, y, x): `fields` in order, on `grid`, stored every `interval`.

    `inputs` are fields, uniform or of the same grid, that the step depends on and does not change: a forcing, gravity,
    a viscosity that differs from trajectory to trajectory. A group element acts on state and inputs together.
    """

    grid: Grid
    fields: tuple[FieldSpec, ...]
    interval: float
    inputs: tuple[FieldSpec, ...] = ()

    @property
    def components(self) -> int:
        """Number of state components over all fields."""
        return sum(field.components for field in self.fields)

    def check(self, state, inputs=None) -> None:
        """Raise ValueError where `state` or `inputs` have not the shapes that this spec says, or hold no trajectory."""
        ny, nx = self.grid.n
        if state.ndim != 4 or tuple(state.shape[1:]) != (self.components, ny, nx):
            raise ValueError(f"state must be (batch, {self.components}, {ny}, {nx}); got {tuple(state.shape)}")
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
