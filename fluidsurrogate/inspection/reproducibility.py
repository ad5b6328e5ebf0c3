"""Whether a result can be made again from what it says about itself, and its experiment as TOML to do so."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.seeding import has_device
from fluidsurrogate.core.storage import flatten, parse_record, versions
from fluidsurrogate.data.content_hash import CHECKED_BYTES, CONTENT, size_of_values
from fluidsurrogate.data.opening import open_data
from fluidsurrogate.models.model_file_checks import check_experiment_size
from fluidsurrogate.models.model_files import CONFIG_FILE
from fluidsurrogate.pipeline.pipeline import ALL
from fluidsurrogate.pipeline.run import DATA, Run
from fluidsurrogate.pipeline.stage import STAGES, stages_in_order

PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


def reproducibility(
    about: Mapping[str, Any], stage: str, variables_changed: Sequence[str] | None = ()
) -> dict[str, Any]:
    """What a result, made by a `stage`, records in `about` (see `store.stamp`), and what that is worth here and now.

    `experiment`, `seed`, `versions`, `fingerprint` as recorded, each where it is; `changed`, the packages whose version
    is another one here, by name (was, is); `fingerprint_holds`, whether it is that of the recorded `provenance`;
    `again`, "yes ..." or "no: ..." with the reasons; and the `command` that would make it from the experiment.
    `variables_changed` are the variables whose values are no longer those that were made, None where that is not known.
    """
    tree, provenance, was_made_by = (
        experiment_in(about),
        parse_record(about.get("provenance")),
        parse_record(about.get("versions")),
    )
    found: dict[str, Any] = {}
    if "name" in about and stage == "train":
        found["model"] = str(about["name"])
    if was_made_by:
        found["versions"] = was_made_by
        now = versions()
        found["changed"] = {p: (was, now.get(p, "none")) for p, was in was_made_by.items() if was != now.get(p)}
    if "fingerprint" in about and provenance is not None:
        text = str(about["provenance"])
        found["fingerprint"] = str(about["fingerprint"])
        found["fingerprint_holds"] = _fingerprint(text) == found["fingerprint"]
    if not tree:
        return found | {"again": "no: it does not say which experiment made it"}
    found |= {"experiment": tree, "seed": tree.get("seed")}
    if provenance is None:
        return found | {"again": "no: it does not say what it was made from, beside its experiment"}
    if "stepper" in provenance:  # of a long forecast, see `long_forecast.rollout_to_zarr`
        return found | {"again": "no: it went out from a start that is not in it: give that to fluidsurrogate rollout"}
    reasons = [] if found.get("fingerprint_holds", True) else ["its fingerprint is not that of what it was made from"]
    if variables_changed:
        reasons.append(f"it has changed since it was made, in {', '.join(variables_changed)}")
    obstacles, unchecked = _obstacles(tree, provenance, stage, found.get("model"))
    reasons += obstacles
    if reasons:
        return found | {"again": f"no: {'; '.join(reasons)}"}
    unchecked += ["its values"] if variables_changed is None else []
    provided = f"; not checked: whether {' and '.join(unchecked)} are what they were" if unchecked else ""
    changed = ", ".join(f"{package} was {was}, is {now}" for package, (was, now) in found.get("changed", {}).items())
    exact = "yes, to the bit on the same device and number of threads"
    return found | {
        "again": (f"yes, to rounding: {changed}" if changed else exact) + provided,
        "command": " && ".join(f"fluidsurrogate {step} EXPERIMENT.toml" for step in _commands(stage)),
    }


def experiment_in(about: Mapping[str, Any]) -> dict[str, Any] | None:
    """The experiment that a result records; None where it records none, or what looks like none."""
    tree = parse_record(about.get("experiment"))
    parts = ("grid", "flow", "data", "models")
    return tree if tree and all(isinstance(tree.get(part, {}), dict) for part in parts) and "flow" in tree else None


def _obstacles(
    tree: Mapping[str, Any], provenance: Mapping[str, Any], stage: str, name: str | None
) -> tuple[list[str], list[str]]:
    """Why the experiment would not make the result again, here; nothing where it would. And what was not looked at."""
    device = tree.get("device", "cpu")
    here = tree if isinstance(device, str) and has_device(device) else {**tree, "device": "cpu"}
    try:
        check_experiment_size(here)
        experiment = Experiment.from_tree(here, "its experiment", networks=False)
    except UsageError as error:
        return [f"this version does not take it: {str(error).splitlines()[0]}"], []
    reasons = []
    used = {"generate": [], "train": [name]}.get(stage, list(experiment.models))
    for model in used:
        if model not in experiment.models:
            return [f"its experiment has no model {model!r}"], []
        if experiment.models[model].is_user_module:
            code = experiment.models[model].code
            given = "given from Python, and is to be given to fs.train again"
            reasons.append(
                f"{model} is a module of your own, {f'{code}: its code is not looked at' if code else given}"
            )
        if (start := experiment.models[model].init) and not (as_path(start) / CONFIG_FILE).exists():
            reasons.append(f"{model} starts from {start}, which is not there (as seen from this folder)")
    if (path := experiment.data.path) and not as_path(path).exists():
        reasons.append(f"its data, {path}, are not there (as seen from this folder)")
    if reasons:
        return reasons, []
    content, unchecked = None, []
    if path:
        try:
            with open_data(path) as own:
                is_large = size_of_values(own) > CHECKED_BYTES
        except UsageError as error:
            return [str(error)], []
        if is_large:
            content, unchecked = _recorded_content(provenance), [f"its data, {path},"]
    run = Run(experiment, Path(), content=content)
    now: Any = run.provenance(_output(stage, name, provenance))
    data = provenance.get("data")
    if stage == "train" and isinstance(data, dict) and set(data) == {"fingerprint"}:  # trained from Python
        if data["fingerprint"] != _fingerprint(json.dumps(run.provenance(DATA))):
            return ["its data are not what its experiment generates: give them to fs.train"], []
        now = {**now, "data": data}
    old, new = flatten(provenance), flatten(now)
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if path and (changed := [key for key in keys if CONTENT in key.split(".")]):
        names = ", ".join(key.rpartition(".")[2] for key in changed)
        return [f"its data, {path}, have changed since, in {names}"], []
    what = [f"{key} was {old.get(key)}, is {new.get(key)}" for key in keys[:1]]
    return [f"this version makes something else of it: {said}" for said in what], unchecked


def _commands(stage: str) -> list[str]:
    """The commands that make a result of a stage from nothing."""
    order = [other.name for other in stages_in_order()]
    needed = order[: order.index(stage) + 1]
    return needed if len(needed) <= 2 else [ALL]


def _output(stage: str, name: str | None, provenance: Mapping[str, Any]) -> str:
    """Which output of a stage a result is, by its name, else by what it says that it was made from."""
    if stage == "generate":
        return DATA
    if name is not None:
        return f"models/{name}"
    files = STAGES[stage].files
    return files[-1] if "members" in provenance else files[0]


def _recorded_content(provenance: Mapping[str, Any]) -> Mapping[str, str] | None:
    """What the user's data held when a result was made from them; None where it does not say."""
    if isinstance(content := provenance.get(CONTENT), dict):
        return content
    inner = [part for key in ("data", "forecasts") if isinstance(part := provenance.get(key), dict)]
    return next((found for part in inner if (found := _recorded_content(part))), None)


def to_toml(tree: Mapping[str, Any]) -> str:
    """Nested plain data as TOML: what is not a table first, then a [table] for each, however deep."""
    return "\n".join(_lines(tree, "")).strip() + "\n"


def _lines(tree: Mapping[str, Any], prefix: str) -> list[str]:
    lines = [f"{_key(key)} = {_value(value)}" for key, value in tree.items() if not isinstance(value, Mapping)]
    for key, value in tree.items():
        if isinstance(value, Mapping):
            name = f"{prefix}{_key(key)}"
            inner = _lines(value, f"{name}.")
            # A table that only holds others needs no head of its own; an empty one does.
            only_tables = bool(value) and all(isinstance(part, Mapping) for part in value.values())
            lines += ["", *([] if only_tables else [f"[{name}]"]), *inner]
    return lines


def _key(key: str) -> str:
    return key if PLAIN_KEY.fullmatch(key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    # JSON's numbers, booleans and strings are TOML's, but for a character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
