"""Several files, folders and patterns as one dataset: trajectories beside each other, or pieces of one in time."""

from __future__ import annotations

import glob
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.provenance import parse_json_attribute
from fluidsurrogate.data.coordinates import SAME_POINT, spatial_dims
from fluidsurrogate.data.layout import field_names
from fluidsurrogate.data.readers.facts import FILE, NAMES, Facts
from fluidsurrogate.data.readers.opening import open_data
from fluidsurrogate.data.readers.package_layout import SPLIT_TIMES, join_trajectories
from fluidsurrogate.data.readers.registry import READERS, find_reader

# Names of folders that say what the files in them are for.
SPLIT_FOLDERS = {"train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid",
                 "test": "test", "testing": "test"}  # fmt: skip


@final
@dataclass
class Source:
    """One file, or folder that is a dataset.

    Parameters
    ----------
    path : str or Path
        Where it is.
    split : str, optional
        What its trajectories are for, by the names of the folders that it is in.
    facts : Facts, optional
        What is known about it.
    dataset : xr.Dataset, optional
        What it holds, opened.
    """

    path: str | Path
    split: str | None = None
    facts: Facts | None = None
    dataset: xr.Dataset | None = None


def find_sources(given: Sequence[str | Path]) -> list[Source]:
    """Return the files that files, folders and patterns stand for.

    Parameters
    ----------
    given : sequence of str or Path
        Each is a file, a folder that is a dataset or holds some, a pattern with `*`, or the address of a Zarr store.

    Returns
    -------
    list of Source
        In the order of their names, numbers in them by size; not opened yet.

    Raises
    ------
    UsageError
        If one stands for nothing.
    """
    found: list[Source] = []
    for one in given:
        if "://" in str(one):
            found.append(Source(str(one)))
            continue
        path = as_path(one)
        if path.exists():
            found += _in_folder(path) if path.is_dir() and find_reader(path) is None else [_source(path)]
            continue
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
        if not matches:
            raise UsageError(f"{path}: no such file or folder, and no file matches it")
        recognised = [match for match in matches if find_reader(match) is not None]
        if not recognised:
            raise UsageError(f"{path}: none of the {len(matches)} files has a known format; known formats: "
                             f"{', '.join(sorted(READERS))}")  # fmt: skip
        found += [_source(match) for match in sorted(recognised, key=_natural)]
    return found


def open_sources(sources: Sequence[Source], given: Mapping[str, Any]) -> tuple[xr.Dataset, Facts]:
    """Open files as one dataset in the layout of this package, lazily.

    Parameters
    ----------
    sources : sequence of Source
        The files; their facts and datasets are filled in.
    given : mapping
        What the user states.

    Returns
    -------
    dataset : xr.Dataset
        All trajectories.
    facts : Facts
        What is known about them, those of the first file and what differs.

    Raises
    ------
    UsageError
        If one cannot be opened, or they do not fit together.
    """
    for source in sources:
        # A split of the user's is of all files together.
        own = {name: value for name, value in given.items() if name != "split"}
        source.facts = Facts(Path(source.path), own)
        source.dataset = open_data(source.path, source.facts)
        for name in own.keys() - {"format", "names", "periodic"} - source.facts.found.keys():
            source.facts.say(f"{NAMES[name][1]} was not used: the format says it, or needs it not")
        if source.split is not None and "split" not in source.dataset.coords:
            count = source.dataset.sizes["trajectory"]
            labels = np.full(count, source.split, dtype=object)
            source.dataset = source.dataset.assign_coords(split=("trajectory", labels))
            source.facts.note("split", source.split, FILE, "the name of its folder")
    first = sources[0]
    assert first.facts is not None
    assert first.dataset is not None
    if len(sources) == 1:
        return first.dataset, first.facts
    for other in sources[1:]:
        _check_fits(first, other)
    return _join(sources, first.facts), first.facts


def _natural(path: Path) -> list[Any]:
    """Return a key that sorts run_10 behind run_9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", str(path))]


def _source(path: Path) -> Source:
    folders = [SPLIT_FOLDERS[part.lower()] for part in path.parts[:-1] if part.lower() in SPLIT_FOLDERS]
    return Source(path, folders[-1] if folders else None)


def _in_folder(folder: Path) -> list[Source]:
    """Return the datasets in a folder and the folders within it."""
    found: list[Source] = []
    pending: list[Path] = [folder]
    while pending:
        inner = pending.pop()
        for path in inner.iterdir():
            if find_reader(path) is not None:
                found.append(_source(path))
            elif path.is_dir():
                pending.append(path)
    if not found:
        raise UsageError(f"{folder}: holds no file of a known format; known formats: {', '.join(sorted(READERS))}")
    return sorted(found, key=lambda source: _natural(Path(source.path)))


def _check_fits(first: Source, other: Source) -> None:
    """Check that a file is on the grid, with the interval and the fields of the first."""
    a, b = first.dataset, other.dataset
    assert a is not None
    assert b is not None
    if set(field_names(a)) != set(field_names(b)):
        raise UsageError(f"{other.path}: holds {', '.join(field_names(b))}, {first.path} {', '.join(field_names(a))}: "
                         "import them apart")  # fmt: skip
    for axis in spatial_dims(a):
        if a.sizes[axis] != b.sizes.get(axis) or not np.allclose(
            a[axis], b[axis], rtol=0, atol=1e-3 * float(a[axis][0])
        ):
            raise UsageError(f"{other.path}: has another grid along {axis} than {first.path}: import them apart")
    intervals = [float(np.diff(d["time"].values[:2])[0]) for d in (a, b) if d.sizes["time"] > 1]
    if len(intervals) == 2 and not np.isclose(intervals[0], intervals[1], rtol=1e-6):
        raise UsageError(f"{other.path}: its states are {intervals[1]:g} s apart, those of {first.path} "
                         f"{intervals[0]:g} s: import them apart")  # fmt: skip
    if not np.allclose(a.attrs.get("origin", 0), b.attrs.get("origin", 0), atol=1e-6):
        raise UsageError(f"{other.path}: its samples are at other places of the cells than those of {first.path}: "
                         "import each with --to-centres")  # fmt: skip


def _join(sources: Sequence[Source], facts: Facts) -> xr.Dataset:
    """Join datasets along time if each goes on where the one before ends, else along trajectory."""
    datasets = [source.dataset for source in sources if source.dataset is not None]
    if _go_on(datasets):
        facts.note("files", f"{len(datasets)}, joined along time", FILE, "each goes on where the one before ends")
        joined = xr.concat([d.drop_vars(_without(d, "time")) for d in datasets], "time", combine_attrs="override")
        kept = datasets[0][_without(datasets[0], "time")]
        return joined.merge(kept).assign_attrs(datasets[0].attrs)
    facts.note("files", f"{len(datasets)}, each with trajectories of its own", FILE)
    datasets = _with_numbers_as_variables(datasets)
    counts = [d.sizes["time"] for d in datasets]
    attributes = dict(datasets[0].attrs)
    if any(not np.allclose(d["time"].values[:1], datasets[0]["time"].values[:1]) for d in datasets):
        facts.say("the files begin at different times; the times are now those of the first")
    longest = datasets[int(np.argmax(counts))]["time"].variable
    fields = field_names(datasets[0])
    if len(set(counts)) > 1:
        splits = [str(d["split"].values[0]) if "split" in d.coords else "" for d in datasets]
        by_split = {split: {n for s, n in zip(splits, counts, strict=True) if s == split} for split in splits}
        if "" in splits or any(len(numbers) > 1 for numbers in by_split.values()):
            raise UsageError(f"{sources[int(np.argmin(counts))].path}: has {min(counts)} times, others {max(counts)}: "
                             "cut the longer ones, or import them apart")  # fmt: skip
    rest = [d.drop_vars([*fields, "time", "trajectory"]) for d in datasets]
    joined = xr.concat(rest, "trajectory", data_vars="all" if _differ(rest) else "minimal", coords="minimal",
                       compat="override", join="override", combine_attrs="override")  # fmt: skip
    for field in fields:
        parts = [d[field].variable.transpose("trajectory", ...) for d in datasets]
        if len(set(counts)) > 1:
            variable, more = join_trajectories(facts if field == fields[0] else Facts(facts.path), parts, splits)
            attributes |= more
        else:
            variable = xr.Variable.concat(parts, "trajectory")
        variable.attrs = datasets[0][field].attrs
        joined[field] = variable
    total = sum(d.sizes["trajectory"] for d in datasets)
    labels = ("trajectory", np.arange(total), {"long_name": "trajectory", "units": "1"})
    return joined.assign_coords(time=longest, trajectory=labels).assign_attrs(attributes)[
        [*fields, *(name for name in joined.data_vars if name not in fields)]
    ]


def _without(dataset: xr.Dataset, dim: str) -> list[str]:
    return [str(name) for name, v in dataset.data_vars.items() if dim not in v.dims]


def _go_on(datasets: Sequence[xr.Dataset]) -> bool:
    """Return whether each dataset is one trajectory that begins one interval after the end of the one before."""
    if any(d.sizes["trajectory"] != 1 for d in datasets):
        return False
    times = np.concatenate([np.asarray(d["time"].values, np.float64) for d in datasets])
    steps = np.diff(times)
    return bool(len(steps) and steps[0] > 0 and (np.abs(steps - steps[0]) <= SAME_POINT * steps[0]).all())


def _differ(datasets: Sequence[xr.Dataset]) -> bool:
    """Return whether a variable without trajectories is not the same in all datasets."""
    return any(
        not d[name].variable.equals(datasets[0][name].variable)
        for d in datasets
        for name in _without(d, "trajectory")
        if name in datasets[0]
    )


def _with_numbers_as_variables(datasets: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """Return datasets whose viscosity is a variable along trajectory, if it is not the same number in all."""
    stated = [d.attrs.get("viscosity") for d in datasets]
    if len({json.dumps(value) for value in stated}) == 1 and not any("viscosity" in d for d in datasets):
        return list(datasets)
    made = []
    for d, value in zip(datasets, stated, strict=True):
        if "viscosity" not in d:
            if value is None:
                raise UsageError("the viscosity is stated by some of the files only: give it with --viscosity")
            d = d.assign(viscosity=("trajectory", np.full(d.sizes["trajectory"], float(value)), {"units": "m2 s-1"}))
        made.append(d.drop_attrs(deep=False).assign_attrs({k: v for k, v in d.attrs.items() if k != "viscosity"}))
    return made


def parse_split(text: str | Iterable[int]) -> tuple[int, ...] | str:
    """Return how trajectories are split: "folder", or the numbers for training, validation and test.

    Parameters
    ----------
    text : str or iterable of int
        "folder", or "80,10,10" or [80, 10, 10].

    Returns
    -------
    str or tuple of int
        One of both.

    Raises
    ------
    UsageError
        If it is neither.
    """
    if isinstance(text, str) and text.strip().lower() in ("folder", "folders"):
        return "folder"
    parts = re.split(r"[,\s/]+", text.strip()) if isinstance(text, str) else list(text)
    try:
        counts = tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        counts = ()
    if len(counts) != 3 or min(counts) < 0 or sum(counts) == 0:
        raise UsageError(f"--split {text}: give the numbers of trajectories for training, validation and test, as in "
                         "80,10,10, or the word folder for those of folders called train, valid and test")  # fmt: skip
    return counts


def with_split(dataset: xr.Dataset, split: str | Iterable[int], facts: Facts) -> xr.Dataset:
    """Return a dataset with the split that the user states.

    Parameters
    ----------
    dataset : xr.Dataset
        All trajectories.
    split : str or iterable of int
        As `parse_split` takes it.
    facts : Facts
        Where it is recorded.

    Returns
    -------
    xr.Dataset
        With the coordinate `split`.

    Raises
    ------
    UsageError
        If the numbers are not those of the trajectories, or the files say otherwise.
    """
    counts = parse_split(split)
    if isinstance(counts, str):
        if "split" not in dataset.coords:
            raise UsageError(f"--split folder: {facts.path} is in no folder called train, valid or test; give numbers, "
                             "as in --split 80,10,10")  # fmt: skip
        return dataset
    total = dataset.sizes["trajectory"]
    if sum(counts) != total:
        raise UsageError(
            f"--split {','.join(map(str, counts))}: these are {sum(counts)} trajectories, but there are {total}"
        )
    labels = np.repeat(np.array(["train", "valid", "test"], dtype=object), counts)
    stored = parse_json_attribute(dataset.attrs.get(SPLIT_TIMES))
    if stored is not None and not np.array_equal(labels == "test", dataset["split"].values == "test"):
        has = Counter(dataset["split"].values.tolist())
        raise UsageError(f"{facts.path}: its test trajectories are longer, so that --split must keep them; it has "
                         f"{', '.join(f'{n} {s}' for s, n in has.items())}")  # fmt: skip
    if stored is not None:  # validation may be taken out of training, which is as long
        dataset = dataset.assign_attrs({SPLIT_TIMES: json.dumps({**stored, "valid": stored["train"]})})
    facts.note("split", ", ".join(f"{n} {s}" for n, s in zip(counts, ("train", "valid", "test"), strict=True)), "flag")
    return dataset.assign_coords(split=("trajectory", labels, {"long_name": "part of the dataset"}))
