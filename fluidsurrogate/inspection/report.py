"""The result of `fluidsurrogate.info` as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fluidsurrogate.core.provenance import flatten_keys
from fluidsurrogate.inspection.model_info import describe_symmetries

ReportRow = tuple[str, str]  # a label and its text


def report(info: Mapping[str, Any]) -> str:
    """Format a description as text.

    Parameters
    ----------
    info : mapping
        From `fluidsurrogate.info`.

    Returns
    -------
    str
        A heading and one labelled line for each thing known. For a run, one line for each result.
    """
    match info["kind"]:
        case "half made":
            return _partial_line(info)
        case "run":
            return _run_report(info)
        case "report":
            rows = []
        case "model":
            rows = list(_model_rows(info))
        case _:
            rows = list(_dataset_rows(info))
    rows += list(_provenance_rows(info))
    width = max(len(label) for label, _ in rows)
    lines = [f"  {label:<{width}}  {text}".rstrip() for label, text in rows]
    return "\n".join([f"{info['path']}: {_kind_and_size(info)}", *lines])


def _run_report(info: Mapping[str, Any]) -> str:
    """Format the description of a run."""
    lines = [f"{info['path']}: run of {info['name']!r}, {_format_bytes(info['bytes'])}"]
    if "data" in info:
        lines.append(f"  {info['data']}: data of your own (data.path)")
    for result in info["results"]:
        if result["kind"] == "broken":
            lines.append(f"  broken: {result['reason']}")
            continue
        lines.append(f"  {result['path']}: {_kind_and_size(result)}{_highlight(result)}")
        lines.append(f"    reproducible: {result['made']['again']}")
    lines += [f"  {_partial_line(part)}" for part in info["half_made"]]
    lines += [f"  {path}: not made yet" for path in info["to_make"]]
    return "\n".join(lines)


def _partial_line(info: Mapping[str, Any]) -> str:
    """Format the description of an interrupted result as one line."""
    done = f", {info['blocks']} blocks done" if "blocks" in info else ""
    return (
        f"{info['path']}: {info['of']}, interrupted ({_format_bytes(info['bytes'])}{done}); "
        f"the same fluidsurrogate {info['stage']} command continues it"
    )


def _highlight(result: Mapping[str, Any]) -> str:
    """Return the most important numbers of a result, to follow its kind."""
    if "scores" in result:
        errors = result["scores"]["nrmse_mean"]
        return "; mean nRMSE " + ", ".join(f"{source} {value:.4f}" for source, value in errors.items())
    if "validation" in result:
        return f"; validation nRMSE {result['validation']['nrmse']:.4f}"
    if "splits" in result:
        return "; " + ", ".join(f"{count} {split}" for split, count in result["splits"].items())
    return ""


def _kind_and_size(info: Mapping[str, Any]) -> str:
    """Return what something is and how large it is on disk."""
    kind = f"{info['model']['kind']} model" if info["kind"] == "model" else info["kind"]
    return f"{kind}, {_format_bytes(info['bytes'])}"


def _dataset_rows(info: Mapping[str, Any]) -> Iterator[ReportRow]:
    """Yield the lines of a dataset, forecast, table of scores or audit."""
    for variable in info["variables"] if info["kind"] != "scores" else []:
        parts = [variable["dtype"], variable["units"], variable["type"], variable["long_name"]]
        parts = [part for part in parts if part and part != variable["name"]]
        yield "variable", f"{variable['name']}({', '.join(variable['dims'])}): {', '.join(parts)}"
    yield "dims", ", ".join(f"{name} {size}" for name, size in info["dims"].items())
    if "grid" in info:
        yield "grid", _format_grid(info["grid"])
    if "time" in info:
        time = info["time"]
        interval = f", interval {time['interval']:.6g}" if "interval" in time else ""
        yield "time", f"{time.get('first', 0):.12g} to {time.get('last', 0):.12g}{interval}"
    if "splits" in info:
        yield "splits", ", ".join(f"{split} {count}" for split, count in info["splits"].items())
    for name, value, source, reason in info.get("facts", []):
        shown = f"{value:.9g}" if isinstance(value, float) else value
        origin = ": ".join(part for part in (source, reason) if part)
        yield "imported", f"{name} {shown} ({origin})" if origin else f"{name}: {shown}"
    if "sources" in info:
        yield "sources", ", ".join(info["sources"])
    for name, errors in info.get("scores", {}).items():
        yield name, ", ".join(f"{source} {value:.4f}" for source, value in errors.items())
    if "audit" in info:
        audit = info["audit"]
        failed = f": {audit['failed']}" if audit["failed"] else ""
        yield "verdict", f"{audit['verdict']}{failed} (claims {audit['group']}, tolerance {audit['tolerance']})"
    for i, line in enumerate(info.get("check", ())):
        yield "" if i else "check", line
    if "flow" in info:
        yield "flow", _format_flow(info)
    for key, value in info["says"].items():
        yield key.replace("_", " "), str(value)
    if (changed := info["changed"]) is not None:
        yield (
            "values",
            f"CHANGED since they were made: {', '.join(changed)}" if changed else "unchanged since they were made",
        )
    elif "experiment" in info["made"]:
        yield "values", "not checked for changes: too large, or their hashes are not recorded"


def _model_rows(info: Mapping[str, Any]) -> Iterator[ReportRow]:
    """Yield the lines of a model."""
    yield "name", info["name"]
    yield "options", ", ".join(f"{k} = {v}" for k, v in info["model"].items() if k != "kind")
    if "parameters" in info:
        yield "parameters", f"{info['parameters']:,}, {info['dtype']}"
        yield "claims", describe_symmetries(info["group"], info["stride"])
    else:
        yield "code", f"{info['code'] or 'given from Python'}; {info['numbers']:,} numbers, {info['dtype']}"
    yield "fields", _format_fields(info["fields"])
    yield "inputs", _format_fields(info["inputs"]) or "none"
    yield "grid", _format_grid(info["grid"])
    yield "interval", f"{info['interval']:g}"
    if "resolution" in info:
        yield "resolution of its data", info["resolution"]
    yield "constants", ", ".join(f"{name} {value:g}" for name, value in info["constants"].items()) or "not known"
    if "validation" in info:
        v = info["validation"]
        yield (
            "validation",
            f"nRMSE {v['nrmse_first_step']:.4f} after one interval, {v['nrmse']:.4f} in the geometric mean over lead "
            f"times, at step {v['step']} of {v['steps']}",
        )
    if "bfloat16" in info:
        yield "bfloat16", info["bfloat16"]
    if "flow" in info:
        yield "flow", _format_flow(info)
    if (coefficients := info.get("energy_budget")) is not None:
        kept = "bounded" if coefficients["at_most"] else "kept"
        inputs = {field["name"] for field in info["inputs"]}
        numbers = [f"{n} {'as given' if n in inputs else f'{coefficients[n]:g}'}" for n in ("viscosity", "drag")]
        found = str(info.get("energy_budget_found", ""))
        why = ": energy leaves for scales that are not stored" if "scales that are not stored" in found else ""
        yield "energy", f"{kept} by its budget, {' and '.join(numbers)}{why}"
    elif "energy_budget_found" in info:
        yield "energy", f"not held to its budget, which {info['energy_budget_found']}"
    yield "normalisation", ", ".join(f"{k} {' '.join(f'{n:.4g}' for n in v)}" for k, v in info["normalisation"].items())
    yield "format", str(info["format"])


def _provenance_rows(info: Mapping[str, Any]) -> Iterator[ReportRow]:
    """Yield the lines on what a result was made from, and whether it can be reproduced."""
    made = info["made"]
    is_of_model = info["kind"] in ("forecast", "audit", "explanation")
    if "experiment" in made:
        yield "experiment", f"{made['experiment'].get('name')}, seed {made['seed']}"
    if "versions" in made:
        yield "made with", ", ".join(f"{package} {number}" for package, number in made["versions"].items())
    if "fingerprint" in made:
        matches = "matches" if made["fingerprint_holds"] else "does NOT match"
        yield "fingerprint", f"{made['fingerprint']}, {matches} the recorded inputs"
    if is_of_model:
        yield "model", made.get("model", "not recorded")
    yield "model reproducible" if is_of_model else "reproducible", made["again"]
    if "command" in made:
        write = f"fluidsurrogate info {info['path']} --write-experiment FILE.toml"
        yield "", f"{write} && {made['command'].replace('EXPERIMENT', 'FILE')}"


def _format_grid(grid: Mapping[str, Any]) -> str:
    """Return cells and sides of a grid."""
    return " on ".join((f"{' x '.join(map(str, grid['cells']))} cells", " x ".join(f"{s:.6g}" for s in grid["length"])))


def _format_flow(info: Mapping[str, Any]) -> str:
    """Return the flow of the recorded experiment, with a note if the data are the user's own."""
    flow, data = info["flow"], info["made"]["experiment"].get("data", {})
    note = f"; named by the experiment, but the data are your own, {data['path']}" if data.get("path") else ""
    parameters = ", ".join(f"{k} = {v}" for k, v in flatten_keys(flow).items() if k != "kind")
    return f"{flow.get('kind')}: {parameters}{note}"


def _format_fields(fields: list[Mapping[str, Any]]) -> str:
    """Return names, units and types of fields."""
    return ", ".join(f"{field['name']} ({field['units']}, {field['type']})" for field in fields)


def _format_bytes(count: int) -> str:
    """Return a size with three digits and a unit."""
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"
