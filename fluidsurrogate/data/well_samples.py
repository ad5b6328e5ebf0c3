"""The samples of a WellDataset, or of a loader like it, as a dataset of this package.

A sample is a dict of tensors, as `the_well.data.WellDataset` (1.2.0) yields it: `input_fields` and `output_fields`
(time, x, y[, z], channel), and, where there are any, `constant_fields`, `constant_scalars`, `boundary_conditions`,
`space_grid` and the time grids. A batch has one axis more in front.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.coordinates import SAME_POINT
from fluidsurrogate.data.layout import component_names, field_attributes, field_dims, grid_coordinates
from solvers import KNOWN_FIELDS, FieldSpec, Grid, field_in

PERIODIC = 2  # the_well.data.datasets.BoundaryCondition
SPLIT = {"long_name": "part of the dataset"}


def from_well(
    samples: Any,
    *,
    fields: Mapping[int, Sequence[str]] | None = None,
    scalars: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
) -> xr.Dataset:
    """Return the samples of a WellDataset as a dataset that `train`, `forecast` and `compare` take.

    Each sample becomes a trajectory, its input and output fields one after the other. With `full_trajectory_mode=True`
    that is a whole trajectory of The Well, otherwise a window of it. All samples are read once to check them. A
    WellDataset is then read lazily, sample by sample; the samples of any other iterable are held in memory.

    Parameters
    ----------
    samples : WellDataset, DataLoader, iterable of dict, or mapping of str to these
        The samples, not normalised and without augmentation. Of a loader over a WellDataset, the WellDataset is read. A
        mapping has the keys "train", "valid" and "test", which become the coordinate `split`.
    fields : mapping of int to sequence of str, optional
        The names of the channels by tensor order, as `WellDataset.metadata.field_names` has them: {1: ["velocity_x",
        "velocity_y"]}. Needed for samples that do not come from a WellDataset.
    scalars : sequence of str, optional
        The names of `constant_scalars`, such as ["viscosity"]. Needed for such samples if they have any.
    names : mapping of str to str, optional
        The Well's names of fields by those of this package, where they differ: {"vorticity": "omega"}.

    Returns
    -------
    xr.Dataset
        Fields with the dims (trajectory, time, [component,] [z,] y, x); times count from the first state of a sample.
        The vorticity of a flow in the plane may be an antisymmetric tensor of order 2, as `export_data` writes it.

    Raises
    ------
    UsageError
        If the samples are normalised, augmented, changes instead of states, not periodic, not on an even Cartesian
        grid, or differ in their grid or times.

    Examples
    --------
    >>> import fluidsurrogate as fs
    >>> import numpy as np
    >>> x, y = np.meshgrid(np.arange(8) + 0.5, np.arange(8) + 0.5, indexing="ij")
    >>> sample = {
    ...     "input_fields": np.zeros((1, 8, 8, 2)), "output_fields": np.ones((3, 8, 8, 2)),
    ...     "space_grid": np.stack([x, y], -1), "boundary_conditions": np.full((2, 2), 2.0),
    ...     "input_time_grid": np.array([0.0]), "output_time_grid": np.array([0.5, 1.0, 1.5]),
    ... }
    >>> dict(fs.from_well([sample], fields={1: ["velocity_x", "velocity_y"]})["velocity"].sizes)
    {'trajectory': 1, 'time': 4, 'component': 2, 'y': 8, 'x': 8}
    """
    if not isinstance(samples, Mapping):
        return _Samples(samples, fields, scalars, names).dataset()
    if unknown := set(samples) - {"train", "valid", "test"}:
        raise UsageError(f"the keys must be train, valid and test (got {sorted(map(str, unknown))[0]!r})")
    parts = [
        part.assign_coords(split=("trajectory", np.full(part.sizes["trajectory"], key, dtype=object), SPLIT))
        for key, part in ((key, _Samples(value, fields, scalars, names).dataset()) for key, value in samples.items())
    ]
    if not parts:
        raise UsageError("there are no samples: give some under train, valid or test")
    for part in parts[1:]:
        for name in ("time", *(axis for axis in "zyx" if axis in part.coords)):
            if part.sizes[name] != parts[0].sizes[name] or not np.allclose(part[name], parts[0][name]):
                raise UsageError(
                    f"the samples of {sorted(samples)} differ in {name}: give those of one length and grid"
                )
    joined = xr.concat(parts, "trajectory", coords="minimal", compat="override", join="override", data_vars="all")
    return joined.assign_coords(trajectory=("trajectory", np.arange(joined.sizes["trajectory"])))


@final
class _Samples:
    """The samples of one source, checked; what they have in common, and how to read one of them."""

    def __init__(
        self,
        source: Any,
        fields: Mapping[int, Sequence[str]] | None,
        scalars: Sequence[str] | None,
        names: Mapping[str, str] | None,
    ) -> None:
        source = source.dataset if hasattr(source, "batch_sampler") else source  # of a DataLoader
        wells = list(_wells(source))
        for well in wells:
            _check_well(well)
        metadata = wells[0].metadata if wells else None
        given = fields if fields is not None else getattr(metadata, "field_names", None)
        if given is None:
            raise UsageError("these samples do not say what their channels are: give fields, such as "
                             "fields={1: ['velocity_x', 'velocity_y']}")  # fmt: skip
        self.fields, self.ours = given, {theirs: ours for ours, theirs in (names or {}).items()}
        self.constant_fields = getattr(metadata, "constant_field_names", {})
        self.scalars = scalars if scalars is not None else getattr(metadata, "constant_scalar_names", ())
        self.read: Callable[[int], dict[str, np.ndarray]]
        if hasattr(source, "__getitem__") and hasattr(source, "__len__") and wells:
            self.count = len(source)
            self.read = functools.lru_cache(maxsize=2)(lambda index: _arrays(source[index]))
        else:
            held = list(_unbatched(source))
            self.count, self.read = len(held), held.__getitem__
        if not self.count:
            raise UsageError("there are no samples")
        self.first = self.read(0)
        self.grid, self.origin = _grid(self.first)
        self.times = _times(self.first)

    def dataset(self) -> xr.Dataset:
        """Return the samples as a dataset, lazily where they can be read again."""
        dimensions = len(self.grid.n)
        variables: dict[str, Any] = {}
        constants = self._checked_constants()
        for name, spec, pick in self._channels(self.fields, "input_fields"):
            shape = (len(self.times), *(spec.components,) * spec.order, *self.grid.n)
            variables[name] = (["trajectory", "time", *field_dims(spec)], self._lazily(pick, shape),
                               field_attributes(spec))  # fmt: skip
        if not {"vorticity", "velocity"} & set(variables):
            found = ", ".join(variables) or "no field"
            raise UsageError(f"the samples hold {found}, and neither vorticity nor velocity: say which field is it, "
                             "such as names={'vorticity': 'omega'}")  # fmt: skip
        variables |= constants
        coordinates: dict[str, Any] = {
            "trajectory": ("trajectory", np.arange(self.count), {"long_name": "trajectory", "units": "1"}),
            "time": ("time", self.times, {"long_name": "time", "units": "s", "axis": "T"}),
            **grid_coordinates(self.grid),
        }
        if any("component" in dims for dims, *_ in variables.values()):
            names = component_names(dimensions)
            coordinates["component"] = ("component", names, {"long_name": "component of a vector"})
        return xr.Dataset(variables, coordinates, {"origin": self.origin} if any(self.origin) else {})

    def _lazily(self, pick: Callable[[dict[str, np.ndarray]], np.ndarray], shape: tuple[int, ...]) -> Any:
        """Return what `pick` takes of each sample as a dask array, a chunk a sample."""
        import dask
        import dask.array  # imported late, as whatever takes its time and is needed by few

        read = dask.delayed(lambda index: pick(self.read(index)), pure=False)
        dtype = pick(self.first).dtype
        return dask.array.stack(
            [dask.array.from_delayed(read(index), shape=shape, dtype=dtype) for index in range(self.count)]
        )

    def _channels(
        self, by_order: Mapping[int, Sequence[str]], key: str
    ) -> Iterator[tuple[str, FieldSpec, Callable[[dict[str, np.ndarray]], np.ndarray]]]:
        """Yield name and type of each field, and a function that takes it from a sample in this package's order."""
        dimensions, start = len(self.grid.n), 0
        total = sum(len(channels) for channels in by_order.values())
        found = self.first[key].shape[-1] if key in self.first else 0
        if total != found:
            raise UsageError(f"the samples have {found} channels in {key}, and {total} names: {dict(by_order)}")
        axes = "xyz"[:dimensions]
        for order in sorted(by_order):
            suffixes = ["".join(np.array(list(axes))[list(i)]) for i in np.ndindex(*(dimensions,) * order)]
            channels = list(by_order[order])
            for at in range(0, len(channels), len(suffixes)):
                theirs = channels[at].removesuffix(f"_{suffixes[0]}") if order else channels[at]
                if order and channels[at : at + len(suffixes)] != [f"{theirs}_{suffix}" for suffix in suffixes]:
                    raise UsageError(f"the channels {channels} are not the components {', '.join(suffixes)} of "
                                     f"tensors of order {order}")  # fmt: skip
                name = self.ours.get(theirs, theirs)
                chosen = slice(start, start + len(suffixes))
                start += len(suffixes)
                known = field_in(KNOWN_FIELDS[name], dimensions) if name in KNOWN_FIELDS else None
                if order == 2:
                    if known is None or known.parity > 0:
                        continue  # a tensor of order 2 that this package has no field for
                    yield name, known, self._dual(theirs, key, chosen, known)
                elif known is not None and known.order == order and (known.parity > 0 or name == "vorticity"):
                    yield name, known, self._plain(key, chosen, known)
                elif known is None:
                    yield name, (spec := FieldSpec(name, order, dimensions=dimensions)), self._plain(key, chosen, spec)

    def _plain(self, key: str, chosen: slice, spec: FieldSpec) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
        """Return a function that takes some channels from a sample as a scalar or vector."""
        return lambda sample: _turned(_states(sample, key)[..., chosen], spec)

    def _dual(
        self, theirs: str, key: str, chosen: slice, spec: FieldSpec
    ) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
        """Return a function that takes the pseudoscalar or pseudovector from an antisymmetric tensor."""
        dimensions = spec.dimensions
        tensor = _states(self.first, key)[..., chosen]
        matrix = tensor.reshape(*tensor.shape[:-1], dimensions, dimensions)
        if not np.array_equal(matrix, -np.swapaxes(matrix, -1, -2)):
            raise UsageError(f"the tensor {theirs!r} is not antisymmetric, as that of a vorticity is")
        at = [1] if dimensions == 2 else [5, 6, 1]  # (x, y); in space (y, z), (z, x), (x, y)
        return lambda sample: _turned(_states(sample, key)[..., chosen][..., at], spec)

    def _checked_constants(self) -> dict[str, Any]:
        """Read all samples once: check that they fit together, and return what is constant in each of them."""
        picks = list(self._channels(self.constant_fields, "constant_fields"))
        collected: dict[str, list[Any]] = {name: [] for name in (*(pick[0] for pick in picks), *self.scalars)}
        for index in range(self.count):
            sample = self.read(index)
            apart = np.abs(_times(sample) - self.times) if len(_times(sample)) == len(self.times) else np.inf
            if np.any(apart > SAME_POINT * (self.times[1] - self.times[0])):
                raise UsageError(
                    f"sample {index} has other times than the first: take samples of one stride and length"
                )
            if _grid(sample) != (self.grid, self.origin):
                raise UsageError(f"sample {index} has another grid than the first")
            for name, _, pick in picks:
                collected[name].append(pick(sample))
            values = np.atleast_1d(sample.get("constant_scalars", ()))
            if len(values) != len(self.scalars):
                raise UsageError(f"the samples have {len(values)} constant_scalars, and {len(self.scalars)} names: "
                                 "give scalars, such as scalars=['viscosity']")  # fmt: skip
            for name, value in zip(self.scalars, values, strict=True):
                collected[name].append(value)
        constants: dict[str, Any] = {}
        for name, spec, _ in picks:
            values = np.stack(collected[name])
            if spec.uniform:  # The Well repeats it at each point
                values = values.reshape(*values.shape[: 1 + spec.order], -1)[..., 0]
            constants[name] = (["trajectory", *field_dims(spec)], values, field_attributes(spec))
        for name in self.scalars:
            ours = self.ours.get(name, name)
            attributes = field_attributes(KNOWN_FIELDS[ours]) if ours in KNOWN_FIELDS else {}
            constants[ours] = (["trajectory"], np.array(collected[name], dtype=np.float64), attributes)
        return constants


def _wells(source: Any) -> Iterator[Any]:
    """Yield the WellDatasets in a source: itself, or those in a Subset or a ConcatDataset of torch."""
    if hasattr(source, "metadata"):
        yield source
    else:
        for inner in getattr(source, "datasets", [source.dataset] if hasattr(source, "dataset") else []):
            yield from _wells(inner)


def _check_well(source: Any) -> None:
    """Refuse a WellDataset whose samples are no states, or differ from one reading to the next."""
    if "DeltaWellDataset" in (cls.__name__ for cls in type(source).__mro__):
        raise UsageError("a DeltaWellDataset yields changes: give a WellDataset, which yields states")
    if getattr(source, "use_normalization", False) and getattr(source, "norm", None) is not None:
        raise UsageError("the samples are normalised: give a WellDataset with use_normalization=False (models of this "
                         "package normalise for themselves)")  # fmt: skip
    if getattr(source, "transform", None) is not None:
        raise UsageError("the samples are augmented, so that each reading gives others: give a WellDataset without "
                         "transform")  # fmt: skip
    if getattr(source, "max_dt_stride", 1) > getattr(source, "min_dt_stride", 1):
        raise UsageError("the samples have random intervals: give a WellDataset with max_dt_stride = min_dt_stride")
    grid = getattr(source.metadata, "grid_type", "cartesian")
    if grid != "cartesian":
        raise UsageError(f"the grid is {grid}, and this package is for periodic Cartesian boxes only")


def _arrays(sample: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {key: np.asarray(value) for key, value in sample.items()}


def _unbatched(source: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, np.ndarray]]:
    """Yield single samples from an iterable of samples or of batches."""
    for item in source:
        arrays = _arrays(item)
        if missing := {"input_fields", "output_fields", "space_grid", "input_time_grid", "output_time_grid"} - set(
            arrays
        ):
            raise UsageError(f"a sample has no {sorted(missing)[0]!r}: a WellDataset yields it with return_grid=True")
        if arrays["input_time_grid"].ndim == 1:
            yield arrays
        else:
            yield from ({key: value[i] for key, value in arrays.items()} for i in range(len(arrays["input_fields"])))


def _states(sample: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    """Return constant fields, or input and output fields one after the other in time."""
    if key != "input_fields":
        return sample[key]
    return np.concatenate([sample["input_fields"], sample["output_fields"]])


def _turned(values: np.ndarray, spec: FieldSpec) -> np.ndarray:
    """Return (..., x, y[, z], component) as (..., [component,] [z,] y, x)."""
    d = spec.dimensions
    leading = tuple(range(values.ndim - d - 1))
    space = tuple(len(leading) + axis for axis in reversed(range(d)))
    turned = values.transpose(*leading, values.ndim - 1, *space)
    return turned if spec.order else turned.squeeze(len(leading))


def _times(sample: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the times of a sample from its first state on, which must be evenly spaced."""
    times = np.concatenate([sample["input_time_grid"], sample["output_time_grid"]]).astype(np.float64)
    times -= times[0]
    if len(times) < 2:
        raise UsageError("a sample has one time only: give input and output fields")
    step = times[-1] / (len(times) - 1)
    # The Well stores times in single precision, and counts them from the start of the simulation.
    even = np.abs(times - step * np.arange(len(times))) <= 1e-2 * step
    if not even.all():
        raise UsageError("the times of a sample are not evenly spaced")
    return step * np.arange(len(times))


def _grid(sample: Mapping[str, np.ndarray]) -> tuple[Grid, list[float]]:
    """Return the periodic grid of a sample, and where its coordinate 0 lies, in the order (z,) y, x."""
    boundaries = sample.get("boundary_conditions")
    if boundaries is not None and np.any(boundaries != PERIODIC):
        raise UsageError("the boundaries are walls or open, and this package is for periodic boxes only")
    if "space_grid" not in sample:
        raise UsageError("a sample has no 'space_grid': a WellDataset yields it with return_grid=True")
    places, n, length, origin = sample["space_grid"].astype(np.float64), [], [], []
    for axis in reversed(range(places.shape[-1])):
        along = np.moveaxis(places[..., axis], axis, 0).reshape(places.shape[axis], -1)
        values = along[:, 0]
        step = (values[-1] - values[0]) / (len(values) - 1)
        even = np.abs(along - values[:1, None] - (step * np.arange(len(values)))[:, None]) <= 1e-2 * step
        if step <= 0 or not even.all():
            raise UsageError(f"the grid is not even and increasing along {'xyz'[axis]}")
        n.append(len(values))
        length.append(float(step * len(values)))
        start = values[0] - step / 2
        origin.append(0.0 if abs(start) < SAME_POINT * step else float(start))
    try:
        return Grid(tuple(n), tuple(length)), origin
    except ValueError as error:
        raise UsageError(f"the grid of the samples: {error}") from None
