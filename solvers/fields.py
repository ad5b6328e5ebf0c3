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
    """

    name: str
    order: int = 0
    parity: int = 1
    units: str = "1"
    long_name: str = ""

    def __post_init__(self) -> None:
        if self.order not in (0, 1) or self.parity not in (1, -1):
            raise ValueError(f"field {self.name!r}: order must be 0 or 1 and parity +1 or -1")

    @property
    def components(self) -> int:
        """1 for a scalar, 2 for a vector in the plane."""
        return 2**self.order


VORTICITY = FieldSpec("vorticity", 0, -1, "s-1", "vorticity")
FORCING = FieldSpec("forcing", 0, -1, "s-2", "curl of the body force")
TRACER = FieldSpec("tracer", 0, 1, "1", "passive tracer")
VELOCITY = FieldSpec("velocity", 1, 1, "m s-1", "velocity")


@dataclass(frozen=True)
class StateSpec:
    """A state of shape (batch, component, y, x): `fields` in order, on `grid`, stored every `interval`.

    `inputs` are fields of the same grid that the step depends on and does not change (a forcing); a group element acts
    on state and inputs together.
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
        """Raise ValueError where `state` or `inputs` have not the shapes that this spec says."""
        ny, nx = self.grid.n
        if state.ndim != 4 or tuple(state.shape[1:]) != (self.components, ny, nx):
            raise ValueError(f"state must be (batch, {self.components}, {ny}, {nx}); got {tuple(state.shape)}")
        given = dict(inputs or {})
        for field in self.inputs:
            if field.name not in given:
                raise ValueError(f"input {field.name!r} is missing: this step depends on it")
            value, shape = given.pop(field.name), (state.shape[0], field.components, ny, nx)
            if tuple(value.shape) != shape:
                raise ValueError(f"input {field.name!r} must be {shape}; got {tuple(value.shape)}")
        if given:
            raise ValueError(f"unknown input {sorted(given)[0]!r}; this step takes {[f.name for f in self.inputs]}")
