"""The model card: a page of Markdown about a model, its data, scores and symmetries."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import xarray as xr

from fluidsurrogate.auditing.report import audit_table
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.provenance import flatten_keys
from fluidsurrogate.evaluation.score_tables import summary
from fluidsurrogate.inspection.model_info import best_validation, describe_symmetries
from fluidsurrogate.inspection.reproducibility import recorded_experiment
from fluidsurrogate.models.bfloat16 import BFLOAT16_CHECK
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
    """Write the model card: what the model is, its data, network, scores and symmetries, how to use and cite it.

    Parameters
    ----------
    model : Surrogate
        The trained model.
    scores : Dataset, optional
        From `fluidsurrogate.compare`.
    audit : Dataset, optional
        From `fluidsurrogate.audit`.
    repository : str
        The repository on the Hub, "user/model".
    curve : str, optional
        The text of the model's curve.csv: its lowest validation error is shown if there are no scores.

    Returns
    -------
    str
        Markdown with a YAML header. The header is fixed: no text from the model's files gets into it.

    Raises
    ------
    UsageError
        If `scores` are not a Dataset from `fluidsurrogate.compare`.
    """
    name = str(model.about.get("name", model.config.kind))
    experiment = recorded_experiment(model.about) or {}
    parts = [
        _header(),
        f"# {name}",
        _summary(model, experiment),
        "## Data",
        _table(("", ""), _data_rows(model, experiment)),
        "## Network",
        _table(("", ""), _network_rows(model)),
        "## Scores",
        _scores(name, scores, curve),
        f"In bfloat16: {_cell(model.about.get(BFLOAT16_CHECK, 'not checked'))}.",
        "## Symmetries and conservation",
        "Not audited." if audit is None else f"```\n{audit_table(audit, name)}\n```",
        "## Use",
        _use(model, repository),
        "## Cite",
        f"```bibtex\n@software{{fluidsurrogate,\n  title = {{{TITLE}}},\n  author = {{{{{AUTHORS}}}}},\n"
        f"  version = {{{version('fluidsurrogate')}}},\n  license = {{MIT}}\n}}\n```",
        "## Made with",
        ", ".join(f"{package} {number}" for package, number in _recorded_json(model, "versions").items())
        or "Not recorded.",
    ]
    return "\n\n".join(parts) + "\n"


def _header() -> str:
    """Return the YAML header that the Hub reads."""
    tags = "\n".join(f"- {tag}" for tag in TAGS)
    return f"---\nlicense: mit\nlibrary_name: fluidsurrogate\ntags:\n{tags}\n---"


def _summary(model: Surrogate, experiment: Mapping[str, Any]) -> str:
    """Return what the model maps to what, and its symmetries, in two sentences."""
    spec = model.spec
    flow = experiment.get("flow", {}).get("kind")
    fields, inputs = (" and ".join(field.name for field in group) for group in (spec.fields, spec.inputs))
    given = f", given {inputs}," if inputs else ""
    cells, dimensions = " × ".join(map(str, spec.grid.n)), "two" if spec.grid.dimensions == 2 else "three"
    return (
        f"A surrogate of incompressible flow in {dimensions} dimensions: it maps the {fields} of a "
        f"{flow + ' ' if flow else ''}flow on {cells} cells{given} to the state {spec.interval:g} time units later, "
        f"and is applied repeatedly for longer forecasts. {_symmetries(model)}"
    )


def _symmetries(model: Surrogate) -> str:
    """Return which symmetries the network claims."""
    group, stride = model.network.group.name, model.network.stride
    if group == "C1" and stride is None:
        return "It claims no symmetry of the flow."
    symmetries = describe_symmetries(group, stride)
    return f"It keeps {symmetries}: if the input is transformed, the output transforms with it, up to rounding."


def _data_rows(model: Surrogate, experiment: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Yield the rows of the table on the training data."""
    spec, data = model.spec, experiment.get("data", {})
    yield "flow", experiment.get("flow", {}).get("kind", "not recorded")
    for key, value in flatten_keys(experiment.get("flow", {})).items():
        if key != "kind":
            yield key, value
    axes = ", ".join(spec.grid.axes)
    yield f"cells ({axes})", " × ".join(map(str, spec.grid.n))
    yield f"box ({axes})", " × ".join(f"{side:.6g}" for side in spec.grid.length)
    yield "fields", ", ".join(map(_field, spec.fields))
    yield "inputs", ", ".join(map(_field, spec.inputs)) or "none"
    yield "interval", f"{spec.interval:g}"
    if {"train", "valid", "steps"} <= set(data):
        yield "trajectories", f"{data['train']} to train, {data['valid']} to validate, of {data['steps']} intervals"
    if data:
        yield "made by", data.get("path") or "the classical solver of fluidsurrogate"
    yield "resolution of the data", model.about.get(RESOLUTION, "not known")
    yield "seed", model.about.get("seed", "not recorded")
    yield "fingerprint of the model", model.about.get("fingerprint", "not recorded")


def _network_rows(model: Surrogate) -> Iterable[tuple[str, Any]]:
    """Yield the rows of the table on the network."""
    yield from model.config.model_dump(mode="json", exclude_none=True).items()
    yield "parameters", f"{model.parameters:,}"
    yield "precision", model.dtype_name


def _scores(name: str, scores: xr.Dataset | None, curve: str | None) -> str:
    """Return the table of scores, or else the validation error."""
    if scores is not None:
        if "source" not in scores.dims or "nrmse_first_step" not in scores:
            raise UsageError("scores must be a Dataset from fs.compare, with a dimension 'source'")
        frame = summary(scores)
        rows = [
            (f"**{source}**" if source == name else source, *frame.loc[source].fillna("")) for source in frame.index
        ]
        last = float(scores["time"].values[-1] - scores["time"].values[0])
        note = f"nRMSE is ‖f − t‖ / ‖t‖ over the box, the mean over unseen trajectories; the last time is {last:g}."
        return f"{_table(('', *frame.columns), rows)}\n\n{note}"
    if curve is not None and (found := best_validation(curve)):
        first, mean = found["nrmse_first_step"], found["nrmse"]
        return (
            f"In validation, after {found['step']} steps of training: nRMSE {first:.4f} after one interval, {mean:.4f} "
            "in the geometric mean over the lead times."
        )
    return "No scores are given."


def _use(model: Surrogate, repository: str) -> str:
    """Return the code that loads and applies the model."""
    module = ", module=network" if model.config.is_user_module else ""
    dims = ", ".join(("time", *model.spec.grid.axes))
    lines = [
        "```python",
        "import fluidsurrogate as fs",
        "",
        f'model = fs.load("hf://{repository}"{module})',
        f"forecast = fs.forecast(model, dataset, steps=20)  # in and out: {model.spec.fields[0].name}({dims})",
        "```",
    ]
    code = model.config.import_path or "a torch.nn.Module of its author's"
    note = f"\n\nThe code of the network is not here: `network` is {code}, constructed as it was for training."
    return "\n".join(lines) + (note if module else "")


def _field(field: FieldSpec) -> str:
    """Return name and units of a field."""
    return f"{field.name} ({field.units})"


def _recorded_json(model: Surrogate, key: str) -> dict[str, Any]:
    """Return what the model recorded as JSON; an empty dict if that is not valid."""
    try:
        value = json.loads(model.about.get(key, "{}"))
    except (TypeError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    """Return a value as a cell of a table: one line, bars escaped."""
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.split()).replace("|", "\\|")
