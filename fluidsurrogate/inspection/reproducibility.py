"""Find out whether a result can be reproduced from what it records about itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.core.devices import device_available
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.provenance import flatten_keys, package_versions, parse_json_attribute
from fluidsurrogate.core.stores import as_location, exists
from fluidsurrogate.data.content_hash import CONTENT, MAX_HASHED_BYTES
from fluidsurrogate.data.readers import open_data
from fluidsurrogate.models.model_file_checks import check_experiment_size
from fluidsurrogate.models.model_files import CONFIG_FILE
from fluidsurrogate.pipeline.pipeline import RUN_ALL
from fluidsurrogate.pipeline.run import DATA, Run
from fluidsurrogate.pipeline.stage import STAGES, stages_in_order


def reproducibility(
    record: Mapping[str, Any], stage: str, variables_changed: Sequence[str] | None = ()
) -> dict[str, Any]:
    """Return what a result records about how it was made, and whether that reproduces it here and now.

    Parameters
    ----------
    record : mapping
        The attributes of a dataset, or what a model's config.json says under `about`. See
        `fluidsurrogate.core.provenance.provenance_attributes`.
    stage : str
        The stage that made the result.
    variables_changed : sequence of str, optional
        The variables whose values have changed since the result was made. None if that is not known.

    Returns
    -------
    dict
        What `fluidsurrogate.info` gives as `made`: `model`, `versions`, `changed` (packages by name, with the recorded
        and the installed version), `fingerprint`, `fingerprint_holds`, `experiment` and `seed`, each if it is recorded;
        `again`, "yes ..." or "no: ..." with the reasons; and the `command` that reproduces the result.
    """
    tree = recorded_experiment(record)
    provenance = parse_json_attribute(record.get("provenance"))
    recorded_versions = parse_json_attribute(record.get("versions"))
    found: dict[str, Any] = {}
    if "name" in record and stage == "train":
        found["model"] = str(record["name"])
    if recorded_versions:
        found["versions"] = recorded_versions
        now = package_versions()
        found["changed"] = {p: (was, now.get(p, "none")) for p, was in recorded_versions.items() if was != now.get(p)}
    if "fingerprint" in record and provenance is not None:
        text = str(record["provenance"])
        found["fingerprint"] = str(record["fingerprint"])
        found["fingerprint_holds"] = _fingerprint(text) == found["fingerprint"]
    if not tree:
        return found | {"again": "no: the experiment that made it is not recorded"}
    found |= {"experiment": tree, "seed": tree.get("seed")}
    if provenance is None:
        return found | {"again": "no: its inputs are not recorded, only its experiment"}
    if "stepper" in provenance:  # a forecast by `rollout_to_zarr`
        return found | {"again": "no: its starts are not recorded; give them to fluidsurrogate rollout"}
    reasons = [] if found.get("fingerprint_holds", True) else ["its fingerprint does not match its recorded inputs"]
    if variables_changed:
        reasons.append(f"its values have changed since it was made: {', '.join(variables_changed)}")
    obstacles, unchecked = _obstacles(tree, provenance, stage, found.get("model"))
    reasons += obstacles
    if reasons:
        return found | {"again": f"no: {'; '.join(reasons)}"}
    unchecked += ["its values"] if variables_changed is None else []
    caveat = f"; not checked: whether {' and '.join(unchecked)} are unchanged" if unchecked else ""
    changed = ", ".join(f"{package} was {was}, is {now}" for package, (was, now) in found.get("changed", {}).items())
    exact = "yes, bit-identical on the same device and number of threads"
    return found | {
        "again": (f"yes, up to rounding: {changed}" if changed else exact) + caveat,
        "command": " && ".join(f"fluidsurrogate {step} EXPERIMENT.toml" for step in _commands(stage)),
    }


def recorded_experiment(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the experiment that a result records.

    Parameters
    ----------
    record : mapping
        The attributes of a dataset, or what a model's config.json says under `about`.

    Returns
    -------
    dict or None
        The experiment as plain data; None if there is none, or if it does not look like one.
    """
    tree = parse_json_attribute(record.get("experiment"))
    parts = ("grid", "flow", "data", "models")
    return tree if tree and all(isinstance(tree.get(part, {}), dict) for part in parts) and "flow" in tree else None


def _obstacles(
    tree: Mapping[str, Any], provenance: Mapping[str, Any], stage: str, name: str | None
) -> tuple[list[str], list[str]]:
    """Return why the experiment would not reproduce the result here, and what was not checked."""
    device = tree.get("device", "cpu")
    here = tree if isinstance(device, str) and device_available(device) else {**tree, "device": "cpu"}
    try:
        check_experiment_size(here)
        experiment = Experiment.from_tree(here, "its experiment", check_networks=False)
    except UsageError as error:
        return [f"this version rejects it: {str(error).splitlines()[0]}"], []
    used = {"generate": [], "train": [name]}.get(stage, list(experiment.models))
    if reasons := _missing_parts(experiment, used):
        return reasons, []
    content, unchecked = None, []
    if path := experiment.data.path:
        try:
            with open_data(path) as user_data:
                is_large = user_data.nbytes > MAX_HASHED_BYTES
        except UsageError as error:
            return [str(error)], []
        if is_large:
            content, unchecked = _recorded_content(provenance), [f"its data, {path},"]
    run = Run(experiment, Path(), content=content)
    now: Any = run.provenance(_output(stage, name, provenance))
    data = provenance.get("data")
    if stage == "train" and isinstance(data, dict) and set(data) == {"fingerprint"}:  # trained from Python
        if data["fingerprint"] != _fingerprint(json.dumps(run.provenance(DATA))):
            return ["it was trained on other data than its experiment generates: give them to fs.train"], []
        now = {**now, "data": data}
    return _differences(provenance, now, path), unchecked


def _missing_parts(experiment: Experiment, used: Sequence[str | None]) -> list[str]:
    """Return which models, modules and files the experiment needs but does not hold."""
    reasons = []
    for model in used:
        if model not in experiment.models:
            return [f"its experiment has no model {model!r}"]
        if experiment.models[model].is_user_module:
            code = experiment.models[model].import_path
            remedy = f"{code}: its code is not checked" if code else "given from Python: give it to fs.train"
            reasons.append(f"{model} is a module of your own, {remedy}")
        if (start := experiment.models[model].init) and not (as_path(start) / CONFIG_FILE).exists():
            reasons.append(f"{model} starts from {start}, which does not exist (seen from the current folder)")
    if (path := experiment.data.path) and not exists(as_location(path)):
        reasons.append(f"its data, {path}, do not exist (seen from the current folder)")
    return reasons


def _differences(recorded: Mapping[str, Any], now: Mapping[str, Any], path: str | None) -> list[str]:
    """Return what the result would depend on now but did not when it was made."""
    old, new = flatten_keys(recorded), flatten_keys(now)
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if path and (changed := [key for key in keys if CONTENT in key.split(".")]):
        names = ", ".join(key.rpartition(".")[2] for key in changed)
        return [f"its data, {path}, have changed: {names}"]
    return [f"this version would make another result: {key} was {old.get(key)}, is {new.get(key)}" for key in keys[:1]]


def _commands(stage: str) -> list[str]:
    """Return the commands that make a result of a stage from nothing."""
    order = [other.name for other in stages_in_order()]
    needed = order[: order.index(stage) + 1]
    return needed if len(needed) <= 2 else [RUN_ALL]


def _output(stage: str, name: str | None, provenance: Mapping[str, Any]) -> str:
    """Return which output of a stage a result is: from its name, or else from its recorded inputs."""
    if stage == "generate":
        return DATA
    if name is not None:
        return f"models/{name}"
    files = STAGES[stage].files
    return files[-1] if "members" in provenance else files[0]


def _recorded_content(provenance: Mapping[str, Any]) -> Mapping[str, str] | None:
    """Return the content of the user's data when a result was made from them; None if it is not recorded."""
    if isinstance(content := provenance.get(CONTENT), dict):
        return content
    inner = [part for key in ("data", "forecasts", "scores") if isinstance(part := provenance.get(key), dict)]
    return next((found for part in inner if (found := _recorded_content(part))), None)


def _fingerprint(text: str) -> str:
    """Return the fingerprint of recorded inputs."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
