"""From a plain file, whose names and order of axes are its maker's, to the layout of this package, lazily."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, final

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.geometry import refuse_other_geometries
from fluidsurrogate.data.known_names import DIMS, VARIABLES, find_components, package_name
from fluidsurrogate.data.readers.facts import DEFAULT, FILE, FLAG, Facts
from fluidsurrogate.data.readers.package_layout import (
    AXIS_NAMES,
    ORDER,
    package_dataset,
    parse_axes,
    stack_components,
)
from fluidsurrogate.data.readers.plain_coordinates import Axis, read_times, side_of
from fluidsurrogate.data.readers.plain_fields import ends_are_equal, with_curl
from fluidsurrogate.data.readers.stored_arrays import block_shape
from solvers.grid import AXES

STATES = ("vorticity", "velocity", "tracer", "temperature")
NUMBERS = ("viscosity", "drag", "diffusivity")
PACKAGE_DIMS = {*ORDER}
KEPT_ATTRIBUTES = ("units", "long_name", "tensor_order", "parity", "wall_parity")


def to_package_layout(dataset: xr.Dataset, facts: Facts) -> xr.Dataset:
    """Return a plain dataset in the layout of this package; its values stay unread.

    Parameters
    ----------
    dataset : xr.Dataset
        The dataset as the file has it.
    facts : Facts
        What the user states, and where what was found and changed is recorded.

    Returns
    -------
    xr.Dataset
        With the dims trajectory, time, (component,) (z,) y and x.

    Raises
    ------
    UsageError
        If something that is needed is not stated, or the dataset is no flow in a periodic box.
    """
    refuse_other_geometries(dataset, facts.path)
    return _Conversion(dataset, facts).result()


@final
class _Conversion:
    """One conversion, step by step."""

    def __init__(self, dataset: xr.Dataset, facts: Facts) -> None:
        self.source, self.facts = dataset, facts
        names = facts.given.get("names") or {}  # a group before a name has chosen the group that is read
        self.names: Mapping[str, Any] = {
            own: ",".join(part.strip().rpartition("/")[2] for part in str(theirs).split(","))
            for own, theirs in names.items()
        }
        self.dims: dict[Any, str] = {}  # the file's names of dims: this package's

    def result(self) -> xr.Dataset:
        """Return the converted dataset."""
        fields = self._find_states()
        self.used = list(fields.values())
        self._name_dims(fields)
        # The names of the dims are known only now: a renamed latitude is one, too.
        refuse_other_geometries(self._renamed_coordinates(), self.facts.path)
        states = {name: self._laid_out(parts) for name, parts in fields.items()}
        states = {name: self._as_floats(name, variable) for name, variable in states.items()}
        first = next(iter(states.values()))
        space = tuple(dim for dim in AXES if dim in first.dims)
        axes = [Axis(dim, first.sizes[dim], self._coordinate(dim, first.sizes[dim]), self.facts) for dim in space]
        if missing := [dim for dim in ("y", "x") if dim not in first.dims]:
            raise UsageError(
                f"{self.facts.path}: {next(iter(states))} has no axis {missing[0]}: its dims are {first.dims}"
            )
        if "time" not in first.dims:
            raise UsageError(
                f"{self.facts.path}: {next(iter(states))} has no times, so that there are no steps to learn"
            )
        inputs = self._inputs(space)
        states, inputs = self._turned(states, axes), self._turned(inputs, axes)
        self._drop_repeated_ends(states, inputs, axes)
        sides = side_of(axes, self.facts)
        inputs = with_curl(inputs, space, sides, self.facts)
        times = read_times(self._coordinate("time", first.sizes["time"]), first.sizes["time"], self.facts)
        if "trajectory" not in first.dims:
            self.facts.note("trajectories", 1, FILE, "no axis of trajectories")
        self._take_mean_flow(states, inputs)
        origin = [axis.origin for axis in axes]
        numbers = self._numbers()
        viscosity = numbers.pop("viscosity", None)
        if np.ndim(viscosity) == 0:
            viscosity = self.facts.take("viscosity", viscosity, reason="the file's viscosity", is_needed=False)
        else:
            self.facts.note("viscosity", f"one a trajectory, {np.min(viscosity):g} to {np.max(viscosity):g}")
        made = package_dataset(
            self.facts,
            {**states, **inputs, **{name: v for name, v in numbers.items() if isinstance(v, xr.Variable)}},
            length=sides,
            times=times,
            origin=origin if any(origin) else None,
            viscosity=viscosity,
            attributes=self._attributes()
            | {name: float(v) for name, v in numbers.items() if not isinstance(v, xr.Variable)},
        )
        made = made.assign({name: v for name, v in self._others().items() if "trajectory" in first.dims})
        return made.assign_coords(self._labels(made.sizes["trajectory"]))

    # -- which variable is what

    def _find_states(self) -> dict[str, list[str]]:
        """Return the variables of each field of the state: one, or the components of a velocity."""
        found: dict[str, list[str]] = {}
        wide = [name for name, v in self.source.variables.items() if v.ndim >= 3]
        for own, theirs in self.names.items():
            parts = theirs.split(",")
            if own not in STATES:
                continue
            for part in parts:
                if part not in self.source.variables:
                    has = ", ".join(map(str, self.source.variables)) or "none"
                    raise UsageError(f"{self.facts.path}: has no variable {part!r}, which --map names; it has {has}")
            found[own] = parts
        is_given, source, reason = bool(found), FILE, "their names"
        components = find_components(wide, (3,) if self._is_in_space(wide) else (2,))
        taken = set(components or ()) | {part for parts in found.values() for part in parts}
        for name in wide:
            own = package_name(name, VARIABLES) or ""
            if own in STATES and name not in taken and own not in found:
                found[own] = [str(name)]
        if components and "velocity" not in found and not (is_given and "vorticity" in found):
            found["velocity"] = list(components)
        if not found and len(wide) == 1 and (axes := self.facts.given.get("axes")) is not None:
            found = {"velocity" if "component" in parse_axes(axes) else "vorticity": [str(wide[0])]}
            source, reason = DEFAULT, "the only array"
        if not {"vorticity", "velocity"} & set(found):
            has = ", ".join(f"{name} {v.shape}" for name, v in self.source.variables.items() if v.ndim > 1) or "none"
            raise UsageError(
                f"{self.facts.path}: which variable is the vorticity or the velocity? It has {has}: fluidsurrogate "
                f"import {self.facts.path} --map vorticity=NAME --to FOLDER"
            )
        what = "; ".join(f"{own} = {', '.join(parts)}" for own, parts in found.items())
        self.facts.note("variables", what, FLAG if is_given else source, "" if is_given else reason)
        return {own: found[own] for own in STATES if own in found}

    def _is_in_space(self, wide: list[Any]) -> bool:
        """Return whether the fields have the axis z."""
        axes = self.facts.given.get("axes")
        if axes is not None:
            return "z" in parse_axes(axes)
        return any(package_name(dim, DIMS) == "z" for name in wide for dim in self.source.variables[name].dims)

    # -- which axis is what

    def _name_dims(self, fields: Mapping[str, list[str]]) -> None:
        """Settle which dim of the file is which of this package."""
        axes = self.facts.given.get("axes")
        for parts in fields.values():
            for part in parts:
                dims = self.source.variables[part].dims
                if axes is not None:
                    named = parse_axes(axes)
                    short = tuple(dim for dim in named if dim != "component")
                    named = named if len(named) == len(dims) else short
                    if len(named) != len(dims):
                        raise UsageError(f"--axes {axes!r}: names {len(named)} axes, but {part!r} has {len(dims)}, "
                                         f"{self.source.variables[part].shape}")  # fmt: skip
                    self.dims |= dict(zip(dims, named, strict=True))
                else:
                    self._guess_dims(part)
        if axes is not None:
            self.facts.take("axes")
        else:
            first = self.source.variables[next(iter(fields.values()))[0]]
            letters = {dim: letter for letter, dim in AXIS_NAMES.items()}
            self.facts.note(
                "axes", " ".join(letters[self.dims[dim]] for dim in first.dims), FILE, "the names of the dims"
            )

    def _guess_dims(self, part: str) -> None:
        """Settle the dims of one variable by their names."""
        variable = self.source.variables[part]
        for dim, size in variable.sizes.items():
            own = package_name(dim, DIMS)
            if own is not None and own not in [self.dims.get(d) for d in variable.dims if d != dim]:
                self.dims[dim] = own
            elif size == 1:
                self.dims[dim] = "1"
            else:
                shape = ", ".join(f"{d} {n}" for d, n in variable.sizes.items())
                raise UsageError(
                    f"{self.facts.path}: which axis of {part!r} ({shape}) is what? Say it, n for trajectories, t for "
                    f'times, c for components: fluidsurrogate import {self.facts.path} --axes "n t y x" --to FOLDER'
                )

    def _renamed_coordinates(self) -> xr.Dataset:
        """Return the coordinates under the names of this package."""
        coords = {}
        for dim, own in self.dims.items():
            if own in AXES and (found := self._coordinate(own, self.source.sizes[dim])) is not None:
                coords[own] = found
        return xr.Dataset(coords={own: v for own, v in coords.items() if v.dims == (own,)})

    def _coordinate(self, own: str, count: int) -> xr.Variable | None:
        """Return the coordinate of an axis under this package's names of dims; None if the file has none."""
        theirs = [dim for dim, name in self.dims.items() if name == own]
        names = [*theirs, *(name for name, v in self.source.variables.items() if package_name(name, DIMS) == own)]
        for name in names:
            if name not in self.source.variables:
                continue
            variable = self.source.variables[name]
            if set(variable.dims) & set(theirs) and not {self.dims.get(dim) for dim in variable.dims} - {*ORDER, "1"}:
                return self._with_own_dims(variable)
            # An array without named dims, (n,) or (1, n), is told by its size.
            if variable.size == count and variable.ndim <= 2 and not set(variable.dims) & set(self.dims):
                return xr.Variable((own,), np.ravel(variable.values), variable.attrs)
        return None

    def _with_own_dims(self, variable: xr.Variable) -> xr.Variable:
        """Return a variable with the names of dims of this package, without those of length 1 that it has not."""
        dropped = {dim: 0 for dim in variable.dims if self.dims.get(dim) == "1"}
        variable = variable.isel(dropped)
        return xr.Variable([self.dims.get(dim, str(dim)) for dim in variable.dims], variable._data, variable.attrs)

    # -- values

    def _laid_out(self, parts: list[str]) -> xr.Variable:
        """Return a field in the order of this package, its components stacked, lazily."""
        made = []
        for part in parts:
            variable = self.source.variables[part]
            if variable.dtype.kind not in "fiu":
                raise UsageError(f"{self.facts.path}: {part!r} must be real numbers (it is {variable.dtype})")
            dims = [self.dims.get(dim, str(dim)) for dim in variable.dims]
            blocks = block_shape(variable.shape, variable.dtype, dims)
            own = self._with_own_dims(variable.chunk(dict(zip(variable.dims, blocks, strict=True))))
            kept = KEPT_ATTRIBUTES if len(parts) == 1 else ("units",)
            attrs = {key: variable.attrs[key] for key in kept if key in variable.attrs}
            made.append(xr.Variable(own.dims, own._data, attrs).transpose(*(d for d in ORDER if d in own.dims)))
        return made[0] if len(made) == 1 else stack_components(*made)

    def _as_floats(self, name: str, variable: xr.Variable) -> xr.Variable:
        """Return a variable in single or double precision."""
        if variable.dtype in (np.dtype("f4"), np.dtype("f8")):
            return variable
        wide = np.float32 if variable.dtype.itemsize <= 4 and variable.dtype.kind == "f" else np.float64
        if variable.dtype != np.dtype(wide).newbyteorder(variable.dtype.byteorder):
            self.facts.say(f"{name} was {variable.dtype} and is now {np.dtype(wide)}")
        return variable.astype(wide)

    def _turned(self, variables: dict[str, xr.Variable], axes: list[Axis]) -> dict[str, xr.Variable]:
        """Return variables with descending axes reversed."""
        turn = {axis.name: slice(None, None, -1) for axis in axes if axis.is_reversed}
        return {name: v.isel({d: s for d, s in turn.items() if d in v.dims}) for name, v in variables.items()}

    def _drop_repeated_ends(
        self, states: dict[str, xr.Variable], inputs: dict[str, xr.Variable], axes: list[Axis]
    ) -> None:
        """Drop the last sample along an axis, in place, if it is equal to the first everywhere that is looked."""
        for axis in axes:
            if all(ends_are_equal(variable, axis.name) for variable in states.values()):
                cut = {axis.name: slice(0, axis.count - 1)}
                for variables in (states, inputs):
                    for name, variable in variables.items():
                        variables[name] = variable.isel(cut) if axis.name in variable.dims else variable
                self.facts.say(f"the last sample along {axis.name} repeats the first and was dropped, "
                               f"{axis.count - 1} are left")  # fmt: skip
                axis.count -= 1

    # -- what else the file holds

    def _inputs(self, space: tuple[str, ...]) -> dict[str, xr.Variable]:
        """Return the forcing and the uniform vectors, lazily."""
        found = {}
        for name, variable in self.source.variables.items():
            own = next((k for k, v in self.names.items() if v == name), None) or package_name(name, VARIABLES)
            if own not in ("forcing", "mean_velocity", "mean_gradient", "gravity") or own in found:
                continue
            dims = [self.dims.get(dim, package_name(dim, DIMS) or str(dim)) for dim in variable.dims]
            if not set(dims) <= PACKAGE_DIMS - {"time"} or self.names.get(own) == "none":
                self.facts.say(f"{name} {variable.sizes} was left out: its dims are not those of an input")
                continue
            renamed = xr.Variable(
                dims, variable._data, {"units": variable.attrs["units"]} if "units" in variable.attrs else {}
            )
            found[own] = renamed.transpose(*(dim for dim in ORDER if dim in dims))
        return found

    def _numbers(self) -> dict[str, Any]:
        """Return viscosity, drag and diffusivity: a float, or an array of one a trajectory."""
        found: dict[str, Any] = {}
        for own in NUMBERS:
            mapped = self.names.get(own)
            for name in [mapped] if mapped else [n for n in (*self.source.variables, *self.source.attrs)
                                                 if package_name(n, VARIABLES) == own]:  # fmt: skip
                value = self.source.variables[name].values if name in self.source.variables else None
                with suppress(TypeError, ValueError):
                    value = np.asarray(self.source.attrs.get(name) if value is None else value, np.float64).squeeze()
                    if value.ndim == 0 and np.isfinite(value):
                        found[own] = float(value)
                    elif value.ndim == 1 and len(np.unique(value)) == 1:
                        found[own] = float(value[0])
                    elif value.ndim == 1:
                        about = {"long_name": own}
                        found[own] = value if own == "viscosity" else xr.Variable("trajectory", value, about)
                    break
        return found

    def _take_mean_flow(self, states: dict[str, xr.Variable], inputs: dict[str, xr.Variable]) -> None:
        """Move a mean flow of the velocity, if it is steady, to the input `mean_velocity`, in place."""
        from fluidsurrogate.data.readers.mean_flow import split_mean_flow

        if "velocity" in states and "mean_velocity" not in inputs:
            states["velocity"], mean = split_mean_flow(states["velocity"], self.facts)
            if mean is not None:
                inputs["mean_velocity"] = mean

    def _labels(self, count: int) -> dict[str, Any]:
        """Return the coordinates along `trajectory` that the file has, such as `split` and `seed`."""
        theirs = [dim for dim, own in self.dims.items() if own == "trajectory"]
        taken = {part for names in VARIABLES.values() for part in names}
        return {
            "trajectory" if name == theirs[0] else str(name): ("trajectory", v.values, v.attrs)
            for name, v in self.source.variables.items()
            if theirs and v.dims == (theirs[0],) and v.size == count and name not in taken
        }

    def _others(self) -> dict[str, xr.Variable]:
        """Return further variables along trajectory and time; those of other dims are left out, with a word."""
        known = {part for parts in self.used for part in parts} | {
            name for names in VARIABLES.values() for name in names
        }
        kept, dropped = {}, []
        for name, variable in self.source.data_vars.items():
            dims = [self.dims.get(dim, "") for dim in variable.dims]
            if set(dims) == {"trajectory", "time"} and variable.ndim == 2:
                kept[str(name)] = xr.Variable(dims, variable.variable._data, variable.attrs).transpose(*ORDER[:2])
            elif variable.ndim >= 2 and str(name) not in known:
                dropped.append(str(name))
        if dropped:
            self.facts.say(f"left out, because a step needs none of them: {', '.join(dropped)}")
        return kept

    def _attributes(self) -> dict[str, Any]:
        """Return the attributes of the file, without what is settled already."""
        settled = {"viscosity", "origin", "Conventions", *(f"length_{axis}" for axis in AXES)}
        return {str(key): value for key, value in self.source.attrs.items() if key not in settled}
