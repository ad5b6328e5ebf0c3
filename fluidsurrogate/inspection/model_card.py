"""What a model says of itself on its page: Markdown made of the model, its scores and its audit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import xarray as xr

from fluidsurrogate.auditing.report import table as audit_table
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.storage import flatten
from fluidsurrogate.evaluation.comparison import summary
from fluidsurrogate.inspection.info import kept_by, validation
from fluidsurrogate.inspection.reproducibility import experiment_in
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.simulation.resolution import RESOLUTION
from solvers import FieldSpec

TITLE = "fluidsurrogate: surrogates of incompressible flow that obey the flow's symmetries exactly"
AUTHORS = "The fluidsurrogate developers"  # both as in CITATION.cff
TAGS = ("fluid-dynamics", "navier-stokes", "turbulence", "surrogate", "equivariance", "physics")


def model_card(
    model: Surrogate,
    scores: xr.Dataset | None = None,
    audit: xr.Dataset | None = None,
    *,
    repository: str = "user/model",
    curve: str | None = None,
) -> str:
    """The card: what the model is, its data, network, scores, symmetries, how to use and cite it, and what made it.

    `scores` as `fs.compare` gives them, `audit` as `fs.audit`; `curve` the text of curve.csv, whose validation error
    stands in for scores. Its header is fixed: nothing that a model's files say gets into it.
    """
    name = str(model.about.get("name", model.config.kind))
    experiment = experiment_in(model.about) or {}
    parts = [
        _header(),
        f"# {name}",
        _what(model, experiment),
        "## Data",
        _table(("", ""), _data(model, experiment)),
        "## Network",
        _table(("", ""), _network(model)),
        "## Scores",
        _scores(name, scores, curve),
        "## Symmetries and conservation",
        "Not audited." if audit is None else f"```\n{audit_table(audit, name)}\n```",
        "## Use",
        _use(model, repository),
        "## Cite",
        f"```bibtex\n@software{{fluidsurrogate,\n  title = {{{TITLE}}},\n  author = {{{{{AUTHORS}}}}},\n"
        f"  version = {{{version('fluidsurrogate')}}},\n  license = {{MIT}}\n}}\n```",
        "## Made with",
        ", ".join(f"{package} {number}" for package, number in _json(model, "versions").items()) or "It does not say.",
    ]
    return "\n\n".join(parts) + "\n"


def _header() -> str:
    tags = "\n".join(f"- {tag}" for tag in TAGS)
    return f"---\nlicense: mit\nlibrary_name: fluidsurrogate\ntags:\n{tags}\n---"


def _what(model: Surrogate, experiment: Mapping[str, Any]) -> str:
    spec = model.spec
    flow = experiment.get("flow", {}).get("kind")
    fields, inputs = (" and ".join(field.name for field in some) for some in (spec.fields, spec.inputs))
    given = f", given {inputs}" if inputs else ""
    cells = " × ".join(map(str, spec.grid.n))
    return (
        f"A surrogate of incompressible flow in two dimensions: it carries the {fields} of a "
        f"{flow + ' ' if flow else ''}flow on {cells} cells{given} to {spec.interval:g} time units later, as often as "
        f"it is asked to. {_keeps(model)}"
    )


def _keeps(model: Surrogate) -> str:
    group, stride = model.network.group.name, model.network.stride
    if group == "C1" and stride is None:
        return "It claims no symmetry of the flow."
    return f"It keeps {kept_by(group, stride)}: move what goes in, and what comes out moves with it, to rounding."


def _data(model: Surrogate, experiment: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    spec, data = model.spec, experiment.get("data", {})
    yield "flow", experiment.get("flow", {}).get("kind", "it does not say")
    for key, value in flatten(experiment.get("flow", {})).items():
        if key != "kind":
            yield key, value
    yield "cells (y, x)", " × ".join(map(str, spec.grid.n))
    yield "box (y, x)", " × ".join(f"{side:.6g}" for side in spec.grid.length)
    yield "fields", ", ".join(map(_field, spec.fields))
    yield "inputs", ", ".join(map(_field, spec.inputs)) or "none"
    yield "interval", f"{spec.interval:g}"
    if {"train", "valid", "steps"} <= set(data):
        yield "trajectories", f"{data['train']} to train, {data['valid']} to validate, of {data['steps']} intervals"
    if data:
        yield "made by", data.get("path") or "the classical solver of fluidsurrogate"
    yield "resolution of the data", model.about.get(RESOLUTION, "not known")
    yield "seed", model.about.get("seed", "it does not say")
    yield "fingerprint of the model", model.about.get("fingerprint", "it does not say")


def _network(model: Surrogate) -> Iterable[tuple[str, Any]]:
    yield from model.config.model_dump(mode="json", exclude_none=True).items()
    yield "parameters", f"{model.parameters:,}"
    yield "precision", model.dtype_name


def _scores(name: str, scores: xr.Dataset | None, curve: str | None) -> str:
    if scores is not None:
        if "source" not in scores.dims or "nrmse_first_step" not in scores:
            raise UsageError("scores must be a Dataset as fs.compare gives it, by source")
        frame = summary(scores)
        rows = [
            (f"**{source}**" if source == name else source, *frame.loc[source].fillna("")) for source in frame.index
        ]
        last = float(scores["time"].values[-1] - scores["time"].values[0])
        about = f"nRMSE is ‖f − t‖ / ‖t‖ over the box, the mean over unseen trajectories; the last time is {last:g}."
        return f"{_table(('', *frame.columns), rows)}\n\n{about}"
    if curve is not None and (found := validation(curve)):
        first, mean = found["nrmse_first_step"], found["nrmse"]
        return (
            f"In validation, after {found['step']} steps of training: nRMSE {first:.4f} after one interval, {mean:.4f} "
            "in the geometric mean over the lead times."
        )
    return "None are given."


def _use(model: Surrogate, repository: str) -> str:
    module = ", module=network" if model.config.is_user_module else ""
    lines = [
        "```python",
        "import fluidsurrogate as fs",
        "",
        f'model = fs.load("hf://{repository}"{module})',
        f"forecast = fs.forecast(model, dataset, steps=20)  # in and out: {model.spec.fields[0].name}(time, y, x)",
        "```",
    ]
    code = model.config.import_path or "a module of its maker's own"
    note = f"\n\nIts code is not here: `network` is {code}, built as it was for training."
    return "\n".join(lines) + (note if module else "")


def _field(field: FieldSpec) -> str:
    return f"{field.name} ({field.units})"


def _json(model: Surrogate, key: str) -> dict[str, Any]:
    """What the model recorded as JSON; nothing where it is none."""
    try:
        value = json.loads(model.about.get(key, "{}"))
    except (TypeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.split()).replace("|", "\\|")
