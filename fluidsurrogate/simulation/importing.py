"""Import of data in other formats: into the layout of this package, and block by block into a Zarr folder.

An import that is killed continues where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json, write_json, zarr_compressors
from fluidsurrogate.core.locks import output_lock
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.progress import Progress
from fluidsurrogate.core.provenance import check_same_provenance, package_versions, parse_json_attribute
from fluidsurrogate.core.resumable import delete_leftovers, publish, start_or_resume
from fluidsurrogate.data.content_hash import CONTENT, MAX_HASHED_BYTES, digest_of_files, hash_variables
from fluidsurrogate.data.grids import describe_grid, grid_of
from fluidsurrogate.data.layout import CHUNK_BYTES, field_names
from fluidsurrogate.data.readers import Facts, open_data
from fluidsurrogate.data.readers.centres import to_cell_centres
from fluidsurrogate.data.readers.several_files import Source, find_sources, open_sources, with_split
from fluidsurrogate.data.readers.stored_arrays import BLOCK_BYTES
from fluidsurrogate.data.schema import PACKING_ATTRIBUTES
from fluidsurrogate.evaluation.physics_check import check
from fluidsurrogate.evaluation.physics_report import is_accepted, record_check
from fluidsurrogate.simulation.splits import without_padding

log = logging.getLogger("fluidsurrogate")
CHECKED_BYTES, MIN_CHECKED_TIMES = 2**25, 4  # of a trajectory, that are looked at before it is imported
FACTS = "facts"  # the attribute of an imported dataset that says where each fact about it comes from


def import_data(
    sources: str | Path | Sequence[str | Path],
    to: str | Path | None = None,
    *,
    format: str | None = None,
    axes: str | None = None,
    names: Mapping[str, str] | None = None,
    length: float | Sequence[float] | None = None,
    viscosity: float | None = None,
    interval: float | None = None,
    split: str | Sequence[int] | None = None,
    periodic: bool = False,
    to_centres: bool = False,
    accept: bool = False,
    force: bool = False,
) -> xr.Dataset:
    """Import data of another format: open it in the layout of this package, and write it to a Zarr folder.

    What the files state is taken from them, what they lack from the arguments; the log says what was assumed and where
    each fact comes from.

    Parameters
    ----------
    sources : str, Path or sequence of them
        Files, folders, patterns with `*`, or addresses of Zarr stores.
    to : str or Path, optional
        The Zarr folder to write, block by block; a call that was killed is continued by the same call. By default
        nothing is written, and the data are read when they are used.
    format : str, optional
        The name of the format or a part of it; by default it is recognised.
    axes : str, optional
        The order of the axes of the arrays: "n x y t" (n trajectories, t times, c components, 1 an axis of length 1).
    names : mapping of str to str, optional
        Names of the variables, this package's to the file's: {"vorticity": "vort"}; {"velocity": "vx,vy"}.
    length : float or sequence of float, optional
        Sides of the box, one number or (y, x) or (z, y, x), in m.
    viscosity : float, optional
        Kinematic viscosity, in m²/s.
    interval : float, optional
        Time between two stored states, in s.
    split : str or sequence of int, optional
        "folder", or the numbers of trajectories for training, validation and test.
    periodic : bool, default False
        Whether the data are periodic although their format usually holds others.
    to_centres : bool, default False
        Whether samples at nodes are moved to the cell centres, spectrally exact, with the forcing. By default they stay
        as they are and count as cell centres, which is a translation.
    accept : bool, default False
        Take the data although their check finds faults, or another reading that is better by a factor of ten (see
        `check`). The attribute `physics_check` then says so for ever.
    force : bool, default False
        Replace another import at `to`.

    Returns
    -------
    xr.Dataset
        With the dims trajectory, time, (component,) (z,) y and x. The attribute `facts` says where each fact comes
        from.

    Raises
    ------
    UsageError
        If a file cannot be read, states too little, or is refused; the message says what to do.

    Examples
    --------
    >>> import tempfile
    >>> import fluidsurrogate as fs
    >>> import numpy as np
    >>> folder = tempfile.TemporaryDirectory()
    >>> np.save(f"{folder.name}/vort.npy", np.random.default_rng(0).standard_normal((2, 5, 16, 16)))
    >>> data = fs.import_data(f"{folder.name}/vort.npy", axes="n t y x", length=1.0, interval=0.1)
    >>> dict(data["vorticity"].sizes)
    {'trajectory': 2, 'time': 5, 'y': 16, 'x': 16}
    >>> folder.cleanup()
    """
    given: dict[str, Any] = {
        "format": format, "axes": axes, "names": dict(names) if names else None, "length": length,
        "viscosity": viscosity, "interval": interval, "split": split, "periodic": periodic or None,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    found = find_sources(listed)
    target = None if to is None else _check_target(as_path(to))
    if target is None:
        return _open(found, given, to_centres, accept)
    provenance = {
        "sources": [str(source.path) for source in found],
        "files": [digest_of_files(Path(source.path)) for source in found if "://" not in str(source.path)],
        "given": json.loads(json.dumps(given, default=str)) | {"to_centres": to_centres, "accept": accept},
    }
    with output_lock(target):
        if not _is_up_to_date(target, provenance, force):
            dataset = _open(found, given, to_centres, accept)
            _write(dataset, target, provenance, force)
    return open_data(target)


def _check_target(path: Path) -> Path:
    """Return the folder to write, if its name and what is there allow it."""
    if path.suffix != ".zarr":
        raise UsageError(f"{path}: data are written to a Zarr folder: choose a name that ends in .zarr")
    if (
        path.exists() and not (path / "zarr.json").exists()
    ):  # `force` replaces data, not whatever a wrong name points to
        raise UsageError(f"{path} exists already and is not a Zarr folder; choose another name")
    return path


def _is_up_to_date(path: Path, provenance: Mapping[str, Any], force: bool) -> bool:
    """Return whether `path` was made from the same files and is not to be replaced; UsageError if it holds others."""
    if not path.exists() or force:
        return False
    with open_data(path) as dataset:
        check_same_provenance(path, parse_json_attribute(dataset.attrs.get("provenance")), provenance)
    delete_leftovers(path)
    log.info(f"{path} is up to date")
    return True


def _open(sources: list[Source], given: Mapping[str, Any], to_centres: bool, accept: bool) -> xr.Dataset:
    """Open the files as one dataset, log what is known about it, and check it by physics."""
    dataset, facts = open_sources(sources, given)
    if "split" in given:
        dataset = with_split(dataset, given["split"], facts)
    if to_centres:
        dataset = to_cell_centres(dataset, facts)
    for line in describe(sources, dataset, facts):
        log.info(line)
    recorded = [[fact.name, _plain(fact.value), fact.source, fact.reason] for fact in facts.found.values()]
    recorded += [["changed", remark, "", ""] for remark in facts.remarks]
    names = ", ".join(Path(source.path).name for source in sources[:3]) + (", ..." if len(sources) > 3 else "")
    attributes = {FACTS: json.dumps(recorded, ensure_ascii=False), "source": f"imported from {names}"}
    return _checked(dataset.assign_attrs(attributes), facts.path, accept)


def _checked(dataset: xr.Dataset, path: Path, accept: bool) -> xr.Dataset:
    """Return a dataset that records what its check found; UsageError if it should not be used as it is."""
    looked_at = without_padding(dataset)
    state = looked_at[field_names(looked_at)[0]]
    times = max(
        MIN_CHECKED_TIMES, CHECKED_BYTES * state.sizes["trajectory"] * state.sizes["time"] // max(1, state.nbytes)
    )
    if times < state.sizes["time"]:  # the check holds a trajectory in memory
        log.info(f"  the check looks at the first {times} of {state.sizes['time']} times of each trajectory")
        looked_at = looked_at.isel(time=slice(0, times))
    report = check(looked_at)
    for line in report.lines():
        log.info(f"  {line}")
    if report.is_refused and not accept and not is_accepted(dataset):
        raise UsageError(f"{path}: {report.refusal()}")
    return record_check(dataset, report, accept or is_accepted(dataset))


def describe(sources: Sequence[Source], dataset: xr.Dataset, facts: Facts) -> list[str]:
    """Return what is known about imported data, in lines.

    Parameters
    ----------
    sources : sequence of Source
        The files.
    dataset : xr.Dataset
        What they hold.
    facts : Facts
        What is known about it.

    Returns
    -------
    list of str
        The files, a table of the facts with where each comes from, what was changed, and what the dataset is.
    """
    more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
    lines = [f"{sources[0].path}{more}"]
    values = {name: _short(fact.value) for name, fact in facts.found.items()}
    width = max([len(value) for value in values.values() if len(value) <= 40], default=0)
    for name, fact in facts.found.items():
        reason = f": {fact.reason}" if fact.reason else ""
        lines.append(f"  {name:<12} {values[name]:<{width}}  ({fact.source}{reason})")
    if "viscosity" not in facts.found:
        lines.append(f"  {'viscosity':<12} {'not stated':<{width}}  (--viscosity gives it)")
    lines += [f"  changed: {remark}" for remark in facts.remarks]
    if "origin" in dataset.attrs:
        lines.append(f"  samples are not at the cell centres of a box that begins at 0; they count as cell centres, a "
                     f"translation by {_short(dataset.attrs['origin'])} m (origin), and inputs stay at the same "
                     "points: no symmetry is lost; --to-centres moves them by half a cell instead")  # fmt: skip
    sizes = f"{dataset.sizes['trajectory']} trajectories, {dataset.sizes['time']} times"
    lines.append(f"  -> {', '.join(field_names(dataset))}: {sizes}, {describe_grid(grid_of(dataset))}")
    return lines


def _short(value: Any) -> str:
    """Return a value for a table."""
    if isinstance(value, float | np.floating):
        return f"{value:.9g}"
    if isinstance(value, list | tuple | np.ndarray):
        return " x ".join(f"{number:.6g}" for number in value)
    return str(value)


def _plain(value: Any) -> Any:
    """Return a value as JSON takes it."""
    return value if isinstance(value, str | int | float | bool) else json.loads(json.dumps(value, default=str))


def _write(dataset: xr.Dataset, path: Path, provenance: Mapping[str, Any], force: bool) -> None:
    """Write a dataset block by block into a Zarr folder beside `path`, which gets its name when everything is done."""
    folder = start_or_resume(path, provenance, force)
    store = folder / "result"
    big = [str(name) for name, v in dataset.data_vars.items() if "trajectory" in v.dims and "x" in v.dims]
    step = _times_of_chunk(dataset, big)
    blocks = _blocks(dataset, big, step)
    done = _read_progress(folder, len(blocks)) if (store / "zarr.json").exists() else 0
    if not done:
        _create_store(dataset, store, big, step)
    with Progress(len(blocks), "import", "blocks", done) as progress:
        for number in range(done, len(blocks)):
            trajectories, times = blocks[number]
            for name in big:
                at = {"trajectory": trajectories, "time": times}
                if "time" not in dataset[name].dims and times.start:
                    continue
                region = {dim: part for dim, part in at.items() if dim in dataset[name].dims}
                part = dataset[[name]].isel(region)
                part = part.drop_vars(list(part.coords)).load()
                part[name].encoding.clear()
                part.to_zarr(store, region=region, consolidated=False)
            write_json(folder / "progress.json", {"blocks": number + 1})
            progress.update(1)
    record = {
        "provenance": json.dumps(provenance),
        "fingerprint": hashlib.sha256(json.dumps(provenance).encode()).hexdigest()[:16],
        "versions": json.dumps(package_versions()),
    }
    with open_data(store) as made:
        if made.nbytes <= MAX_HASHED_BYTES:  # of larger data nobody looks whether they have changed
            record[CONTENT] = json.dumps(hash_variables(made))
        attributes = made.attrs | record
    xr.Dataset(attrs=attributes).to_zarr(store, mode="a", consolidated=False)
    publish(path)


def _read_progress(folder: Path, blocks: int) -> int:
    """Return how many blocks an interrupted import has written."""
    done = read_json(folder / "progress.json")
    match done:
        case None:
            return 0
        case {"blocks": int(count)} if 0 < count <= blocks:
            return count
    raise UsageError(
        f"{folder / 'progress.json'} is not the progress file of an import: delete {folder} to start again"
    )


def _times_of_chunk(dataset: xr.Dataset, names: Sequence[str]) -> int:
    """Return how many times a chunk holds: a window of a few times is then read without the rest."""
    state = dataset[next(name for name in names if "time" in dataset[name].dims)]
    bytes_of_state = state.nbytes // max(1, state.sizes["trajectory"] * state.sizes["time"])
    return min(state.sizes["time"], max(1, CHUNK_BYTES // max(1, bytes_of_state)))


def _blocks(dataset: xr.Dataset, names: Sequence[str], step: int) -> list[tuple[slice, slice]]:
    """Return the parts that are read and written at a time, as slices of trajectories and of times."""
    count, times = dataset.sizes["trajectory"], dataset.sizes["time"]
    state_bytes = sum(
        dataset[name].nbytes // (count * (times if "time" in dataset[name].dims else 1)) for name in names
    )
    many = max(1, BLOCK_BYTES // max(1, state_bytes * times)) if step >= times else 1
    return [
        (slice(i, min(i + many, count)), slice(t, min(t + step, times)))
        for i in range(0, count, many)
        for t in range(0, times, step)
    ]


def _create_store(dataset: xr.Dataset, store: Path, big: Sequence[str], step: int) -> None:
    """Create the Zarr folder with everything but the values of the large variables."""
    import dask.array  # imported late, because the import takes time

    template, encoding = {}, {}
    for name, variable in dataset.variables.items():
        attrs = {key: value for key, value in variable.attrs.items() if key not in PACKING_ATTRIBUTES}
        if name in big:
            chunks = tuple({"trajectory": 1, "time": step}.get(str(dim), n) for dim, n in variable.sizes.items())
            zeros = dask.array.zeros(variable.shape, dtype=variable.dtype, chunks=variable.shape)
            template[name] = xr.Variable(variable.dims, zeros, attrs)
            encoding[name] = {"chunks": chunks, "compressors": zarr_compressors()}
        else:
            template[name] = xr.Variable(variable.dims, variable.values, attrs)
    made = xr.Dataset(template, attrs=dataset.attrs).set_coords(list(dataset.coords))
    made.to_zarr(store, mode="w", compute=False, consolidated=False, encoding=encoding)
