"""What `fs.info` says, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fluidsurrogate.core.provenance import flatten_keys
from fluidsurrogate.inspection.info import kept_by

Row = tuple[str, str]


def report(info: Mapping[str, Any]) -> str:
    """A heading and a line for each thing that there is to say; of a run, a line for each result."""
    match info["kind"]:
        case "half made":
            return half_made(info)
        case "run":
            return _run(info)
        case "model":
            rows = list(_model(info))
        case _:
            rows = list(_dataset(info))
    rows += list(_made(info))
    width = max(len(key) for key, _ in rows)
    return "\n".join(
        [f"{info['path']}: {_kind(info)}", *(f"  {key:<{width}}  {value}".rstrip() for key, value in rows)]
    )


def half_made(info: Mapping[str, Any]) -> str:
    """One line on what an interrupted run has left."""
    done = f", {info['blocks']} blocks done" if "blocks" in info else ""
    return (
        f"{info['path']}: {info['of']}, half made ({_bytes(info['bytes'])}{done}); "
        f"the same fluidsurrogate {info['stage']} goes on from here"
    )


def _run(info: Mapping[str, Any]) -> str:
    lines = [f"{info['path']}: run of {info['name']!r}, {_bytes(info['bytes'])}"]
    if "data" in info:
        lines.append(f"  {info['data']}: data of your own (data.path)")
    for result in info["results"]:
        if result["kind"] == "broken":
            lines.append(f"  broken: {result['reason']}")
            continue
        lines.append(f"  {result['path']}: {_kind(result)}{_short(result)}")
        lines.append(f"    again: {result['made']['again']}")
    lines += [f"  {half_made(part)}" for part in info["half_made"]]
    lines += [f"  {path}: not made yet" for path in info["to_make"]]
    return "\n".join(lines)


def _short(result: Mapping[str, Any]) -> str:
    """What matters most of a result, behind its kind."""
    if "scores" in result:
        errors = result["scores"]["nrmse_mean"]
        return "; mean nRMSE " + ", ".join(f"{source} {value:.4f}" for source, value in errors.items())
    if "validation" in result:
        return f"; validation nRMSE {result['validation']['nrmse']:.4f}"
    if "splits" in result:
        return "; " + ", ".join(f"{count} {split}" for split, count in result["splits"].items())
    return ""


def _kind(info: Mapping[str, Any]) -> str:
    what = f"{info['model']['kind']} model" if info["kind"] == "model" else info["kind"]
    return f"{what}, {_bytes(info['bytes'])}"


def _dataset(info: Mapping[str, Any]) -> Iterator[Row]:
    for variable in info["variables"] if info["kind"] != "scores" else []:
        about = [variable["dtype"], variable["units"], variable["type"], variable["long_name"]]
        about = [part for part in about if part and part != variable["name"]]
        yield "variable", f"{variable['name']}({', '.join(variable['dims'])}): {', '.join(about)}"
    yield "dims", ", ".join(f"{name} {size}" for name, size in info["dims"].items())
    if "grid" in info:
        yield "grid", _grid(info["grid"])
    if "time" in info:
        time = info["time"]
        every = f", interval {time['interval']:.6g}" if "interval" in time else ""
        yield "time", f"{time.get('first', 0):.12g} to {time.get('last', 0):.12g}{every}"
    if "splits" in info:
        yield "splits", ", ".join(f"{split} {count}" for split, count in info["splits"].items())
    if "sources" in info:
        yield "sources", ", ".join(info["sources"])
    for name, errors in info.get("scores", {}).items():
        yield name, ", ".join(f"{source} {value:.4f}" for source, value in errors.items())
    if "audit" in info:
        audit = info["audit"]
        failed = f": {audit['failed']}" if audit["failed"] else ""
        yield "verdict", f"{audit['verdict']}{failed} (claims {audit['group']}, tolerance {audit['tolerance']})"
    if "flow" in info:
        yield "flow", _flow(info)
    for key, value in info["says"].items():
        yield key.replace("_", " "), str(value)
    if (changed := info["changed"]) is not None:
        yield "values", f"CHANGED since they were made: {', '.join(changed)}" if changed else "as they were made"
    elif "experiment" in info["made"]:
        yield "values", "not checked: too many, or there is no record of them"


def _model(info: Mapping[str, Any]) -> Iterator[Row]:
    yield "name", info["name"]
    yield "options", ", ".join(f"{k} = {v}" for k, v in info["model"].items() if k != "kind")
    if "parameters" in info:
        yield "parameters", f"{info['parameters']:,}, {info['dtype']}"
        yield "claims", kept_by(info["group"], info["stride"])
    else:
        yield "code", f"{info['code'] or 'given from Python'}; {info['numbers']:,} numbers, {info['dtype']}"
    yield "fields", _fields(info["fields"])
    yield "inputs", _fields(info["inputs"]) or "none"
    yield "grid", _grid(info["grid"])
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
    if "flow" in info:
        yield "flow", _flow(info)
    if (budget_coefficients := info.get("energy_budget")) is not None:
        kept = "at most" if budget_coefficients["at_most"] else "kept"
        given = {field["name"] for field in info["inputs"]}
        numbers = [f"{n} {'as given' if n in given else f'{budget_coefficients[n]:g}'}" for n in ("viscosity", "drag")]
        yield "energy", f"{kept} by its budget, {' and '.join(numbers)}"
    elif "energy_budget_found" in info:
        yield "energy", f"not held to its budget, which {info['energy_budget_found']}"
    yield "normalisation", ", ".join(f"{k} {' '.join(f'{n:.4g}' for n in v)}" for k, v in info["normalisation"].items())
    yield "format", str(info["format"])


def _made(info: Mapping[str, Any]) -> Iterator[Row]:
    made = info["made"]
    if "experiment" in made:
        yield "experiment", f"{made['experiment'].get('name')}, seed {made['seed']}"
    if "versions" in made:
        yield "made with", ", ".join(f"{package} {number}" for package, number in made["versions"].items())
    if "fingerprint" in made:
        holds = "that of what it was made from" if made["fingerprint_holds"] else "NOT that of what it was made from"
        yield "fingerprint", f"{made['fingerprint']}, {holds}"
    if info["kind"] in ("forecast", "audit"):
        yield "of model", made.get("model", "it does not say")
    yield ("again" if info["kind"] not in ("forecast", "audit") else "model again"), made["again"]
    if "command" in made:
        write = f"fluidsurrogate info {info['path']} --write-experiment FILE.toml"
        yield "", f"{write} && {made['command'].replace('EXPERIMENT', 'FILE')}"


def _grid(grid: Mapping[str, Any]) -> str:
    return " on ".join((f"{' x '.join(map(str, grid['cells']))} cells", " x ".join(f"{s:.6g}" for s in grid["length"])))


def _flow(info: Mapping[str, Any]) -> str:
    flow, data = info["flow"], info["made"]["experiment"].get("data", {})
    own = f"; so says its experiment, but its data are {data['path']}" if data.get("path") else ""
    return f"{flow.get('kind')}: " + ", ".join(f"{k} = {v}" for k, v in flatten_keys(flow).items() if k != "kind") + own


def _fields(fields: list[Mapping[str, Any]]) -> str:
    return ", ".join(f"{field['name']} ({field['units']}, {field['type']})" for field in fields)


def _bytes(count: int) -> str:
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"
