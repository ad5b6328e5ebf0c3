"""Tables of the report, as text: what was run, scores, uncertainty, symmetry and audits."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.auditing.report import audit_table
from fluidsurrogate.core.provenance import brief_json, differing_keys, flatten_keys, parse_json_attribute
from fluidsurrogate.evaluation.comparison import TRUTH
from fluidsurrogate.evaluation.score_tables import summary
from fluidsurrogate.reporting.run_results import ModelResults, RunResults
from fluidsurrogate.reporting.uncertainty_charts import calibrated_sources
from fluidsurrogate.simulation.resolution import describe_resolution

Table = dict[str, Any]  # "columns": list of str; "rows": list of lists of str
NUMBER = re.compile(r"(> )?-?\d")
MADE_THE_TRUTH = 1e-5  # a mean nRMSE that only the solver of the data itself has
LOWER_IS_BETTER = ("nRMSE step 1", "mean", "last", "ms a step")


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], best: Sequence[Sequence[int]] = ()) -> Table:
    """Make a table.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    rows : sequence of sequence
        The cells, which are shown as text.
    best : sequence of sequence of int, default ()
        (row, column) of the cells that are the best of their column.

    Returns
    -------
    dict
        With the keys columns, rows, best, and text: the indices of columns that hold no number.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    text = [j for j in range(len(columns)) if not any(NUMBER.match(row[j]) for row in cells)]
    return {"columns": list(columns), "rows": cells, "best": [list(b) for b in best], "text": text}


def facts(run: RunResults) -> list[tuple[str, str]]:
    """Say what was run on what.

    Parameters
    ----------
    run : RunResults
        A run.

    Returns
    -------
    list of tuple of str
        Labels and texts; what is not known is left out.
    """
    tree, attrs = run.experiment, {} if run.data is None else run.data.attrs
    flow, grid = tree.get("flow", {}), tree.get("grid", {})
    found = [("experiment", f"{run.name}, seed {tree['seed']}" if "seed" in tree else run.name)]
    if "kind" in flow:
        parts = ", ".join(f"{k} {_plain(v)}" for k, v in flatten_keys(flow).items() if k != "kind")
        found.append(("flow", f"{flow['kind']}: {parts}"))
    if "equation" in attrs:
        found.append(("equation", str(attrs["equation"])))
    if "n" in grid:
        cells, stored = _cells(grid["n"]), _cells(grid.get("store", grid["n"]))
        kept = f"computed on {cells} cells, stored on {stored}" if stored != cells else f"{cells} cells"
        found.append(("grid", f"{kept}, box of {_plain(grid.get('length', '?'))} m"))
    if "scheme" in attrs:
        step = f", inner step {float(attrs['inner_step']):.3g} s" if "inner_step" in attrs else ""
        found.append(("solver", f"{attrs['scheme']}{step}, {attrs.get('solver_dtype', '')}".rstrip(", ")))
    if own := tree.get("data", {}).get("path"):
        found.append(("data", f"data of the user's own: {own}"))
    if run.data is not None:
        found.append(("data" if not own else "", _trajectories(run.data)))
        found.append(("resolution of the truth", describe_resolution(attrs) or "not known"))
    if run.scores is not None:
        times = run.scores["time"].values
        found.append(("test", f"{run.scores.sizes.get('trajectory', 1)} trajectories, {len(times) - 1} intervals of "
                      f"{(times[-1] - times[0]) / max(1, len(times) - 1):.4g} s"))  # fmt: skip
        if machine := run.scores.get("seconds_per_step", xr.DataArray()).attrs.get("machine"):
            found.append(("machine", str(machine)))
    if versions := parse_json_attribute(run.record.get("versions")):
        found.append(("versions", ", ".join(f"{package} {number}" for package, number in versions.items())))
    if "fingerprint" in run.record:
        found.append(("fingerprint", str(run.record["fingerprint"])))
    return found


def model_table(run: RunResults) -> Table | None:
    """Describe the models of a run, one row a model.

    Parameters
    ----------
    run : RunResults
        A run.

    Returns
    -------
    dict or None
        The table; None if there is no model.
    """
    rows = []
    for name, model in run.models.items():
        options = model.metadata.model.model_dump(mode="json", exclude_none=True)
        best = min((row["valid_nrmse"] for row in model.history), default=None)
        rows.append((name, options.get("kind"), options.get("group", "-"), options.get("augment", "-"),
                     options.get("width", "-"), "-" if best is None else f"{best:.4f}",
                     model.history[-1]["step"] if model.history else "-"))  # fmt: skip
    columns = ("model", "kind", "group", "augmented by", "width", "validation nRMSE", "steps")
    rows = [(*row[:-1], f"{row[-1]:.0f}" if row[-1] != "-" else "-") for row in rows]
    return table(columns, rows) if rows else None


def score_table(runs: Mapping[str, RunResults], marks: bool = True) -> Table:
    """Make the table of scores that the command prints, with the best numbers marked.

    Parameters
    ----------
    runs : mapping of str to RunResults
        Runs with scores by label. Of several, the first column is the label.
    marks : bool, default True
        Whether to mark the best numbers.

    Returns
    -------
    dict
        The table.
    """
    rows: list[list[Any]] = []
    ranked: list[bool] = []
    columns: list[str] = []
    for label, run in runs.items():
        assert run.scores is not None
        frame = summary(run.scores)
        columns = [*columns, *(c for c in frame.columns if c not in columns)]
        for source, row in frame.iterrows():
            rows.append([*([label] if len(runs) > 1 else []), str(source), row.to_dict()])
            ranked.append(run.kind_of(str(source)) in ("model", "solver"))
    head = ["run", "source"] if len(runs) > 1 else ["source"]
    filled = [[*row[:-1], *(row[-1].get(c, "-") for c in columns)] for row in rows]
    best = []
    for j, name in enumerate([*head, *columns]):
        if marks and name in LOWER_IS_BETTER:
            values = [_number(r[j]) if kept else np.nan for r, kept in zip(filled, ranked, strict=True)]
            if np.isfinite(values).any():
                best.append((int(np.nanargmin(values)), j))
    return table([*head, *columns], filled, best)


def uncertainty_table(run: RunResults) -> Table | None:
    """Compare what calibrated models state with what came true, one row a model.

    Parameters
    ----------
    run : RunResults
        A run.

    Returns
    -------
    dict or None
        The table; None if no model is calibrated.
    """
    rows = []
    for name in calibrated_sources(run):
        assert run.scores is not None
        one, attrs = run.scores.sel(source=name), run.scores["error_bound"].attrs
        after = one.isel(time=slice(1, None))
        share = f"{float(after['bound_coverage'].mean()):.1%}" if "bound_coverage" in one else "-"
        skill = f"{float(after['spread_skill'].mean()):.2f}" if "spread_skill" in one else "-"
        horizon = "-"
        if "horizon_median" in one:
            horizon = f"{'> ' * (float(one['horizon_median_censored']) == 1)}{float(one['horizon_median']):g}"
        last = [f"{float(after[key][-1]):.3f}" for key in ("error_bound", "nrmse")]
        rows.append((name, f"{float(attrs.get('coverage', np.nan)):.0%}", share, *last, horizon, skill))
    columns = ("model", "stated coverage", "came true", "last bound", "last nRMSE", "horizon [s]", "spread / error")
    return table(columns, rows) if rows else None


def symmetry_table(run: RunResults) -> Table | None:
    """Show the symmetry error of every source for every element of the point group.

    Parameters
    ----------
    run : RunResults
        A run.

    Returns
    -------
    dict or None
        The table; None if the errors were not measured.
    """
    if run.scores is None or "equivariance_error_by_element" not in run.scores:
        return None
    errors = run.scores["equivariance_error_by_element"]
    rows = [(name, *("-" if np.isnan(v) else f"{v:.1e}" for v in errors.sel(source=name).values))
            for name in run.sources if name != TRUTH]  # fmt: skip
    return table(("source", *map(str, errors["element"].values)), rows)


def audits(run: RunResults) -> list[dict[str, str]]:
    """Return the audits of the models of a run.

    Parameters
    ----------
    run : RunResults
        A run.

    Returns
    -------
    list of dict
        For each audited model its name, verdict and the whole audit as text.
    """
    return [{"model": name, "verdict": str(model.audit.attrs.get("verdict", "")),
             "claims": str(model.audit.attrs.get("group", "")), "text": _audit_text(model, name)}
            for name, model in run.models.items() if model.audit is not None]  # fmt: skip


def difference_table(runs: Mapping[str, RunResults]) -> Table:
    """Show the keys at which the experiments of several runs differ.

    Parameters
    ----------
    runs : mapping of str to RunResults
        Runs by label.

    Returns
    -------
    dict
        The table: a row for each key, a column for each run.
    """
    flat = [flatten_keys(run.experiment) for run in runs.values()]
    everywhere = set.intersection(*(set(run.experiment.get("models", {})) for run in runs.values()))
    for tree in flat:  # of a model that only some runs have, its kind says enough
        for key in [key for key in tree if key.startswith("models.") and key.split(".")[1] not in everywhere]:
            if not key.endswith(".kind"):
                del tree[key]
    keys = sorted({key for tree in flat for key in differing_keys(flat[0], tree)})
    return table(("key", *runs), [(key, *(_plain(tree.get(key, "-")) for tree in flat)) for key in keys])


def verdict(run: RunResults) -> str:
    """Say which network is best, and which classical solver is at least as accurate and cheapest.

    Parameters
    ----------
    run : RunResults
        A run with scores.

    Returns
    -------
    str
        Two sentences; empty if there is no network, or none with a finite error.
    """
    assert run.scores is not None
    errors = run.scores["nrmse_mean"].to_series()
    of_kind = {kind: [s for s in run.sources if run.kind_of(s) == kind and np.isfinite(errors[s])]
               for kind in ("model", "solver")}  # fmt: skip
    if not of_kind["model"]:
        return ""
    best = min(of_kind["model"], key=lambda name: float(errors[name]))
    costs = 1e3 * run.scores["seconds_per_step"].to_series() if "seconds_per_step" in run.scores else None
    if costs is None or not np.isfinite(costs[best]) or not of_kind["solver"]:
        return f"The most accurate network is {best}: mean nRMSE {errors[best]:.3g}."
    first = f"The most accurate network is {best}: mean nRMSE {errors[best]:.3g} at {costs[best]:.3g} ms a step."
    equal = [s for s in of_kind["solver"] if errors[s] <= errors[best] and np.isfinite(costs[s])]
    if not equal:
        return f"{first} No classical solver here is as accurate."
    solver = min(equal, key=lambda name: float(costs[name]))
    ratio = costs[best] / costs[solver]
    relation = f"{ratio:.2g} times cheaper" if ratio >= 1 else f"{1 / ratio:.2g} times dearer"
    says = f"{solver} is the cheapest classical solver that is at least as accurate"
    exact = ", because it made the truth" if errors[solver] < MADE_THE_TRUTH else ""
    return f"{first} {says}{exact}: {errors[solver]:.3g} at {costs[solver]:.3g} ms, {relation}."


def are_comparable(runs: Mapping[str, RunResults]) -> bool:
    """Return whether runs forecast the same flow on the same grid over the same times.

    Parameters
    ----------
    runs : mapping of str to RunResults
        Runs by label.

    Returns
    -------
    bool
        If not, or if a run does not record its experiment, their errors say nothing about each other.
    """

    def test_of(tree: Mapping[str, Any]) -> list[Any]:
        data = tree.get("data", {})
        length = data.get("test_steps", data.get("steps"))
        keys = ("interval", "state", "path", "test")  # times are of all test trajectories
        return [tree.get("flow"), tree.get("grid"), tree.get("device"), length, *(data.get(key) for key in keys)]

    first, *others = (test_of(run.experiment) for run in runs.values())
    return all(run.experiment for run in runs.values()) and all(other == first for other in others)


def experiment_text(run: RunResults) -> str:
    """Return the whole experiment as text.

    Parameters
    ----------
    run : RunResults
        A run.

    Returns
    -------
    str
        As JSON; empty if it is not recorded.
    """
    return json.dumps(run.experiment, indent=2, ensure_ascii=False) if run.experiment else ""


def _audit_text(model: ModelResults, name: str) -> str:
    """Return an audit as text; an audit of another version is only named."""
    assert model.audit is not None
    try:
        return audit_table(model.audit, name)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        return f"cannot be shown: {type(error).__name__} {error}"


def _trajectories(data: xr.Dataset) -> str:
    """Return how many trajectories a dataset has, by split."""
    total = data.sizes.get("trajectory", 1)
    if "split" not in data.coords:
        return f"{total} trajectories"
    by_split = Counter(map(str, np.ravel(data["split"].values)))
    return f"{total} trajectories: " + ", ".join(f"{count} {name}" for name, count in by_split.items())


def _cells(n: Any) -> str:
    """Return a grid's cells as text; a single number is that of a square."""
    return " x ".join(map(str, reversed(n))) if isinstance(n, list | tuple) else f"{n} x {n}"


def _plain(value: Any) -> str:
    """Return a value of an experiment as short text."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else brief_json(value)


def _number(text: str) -> float:
    """Return the number that a cell begins with; NaN if it is a dash."""
    word = text.removeprefix("> ").partition(" ")[0]
    return float("nan") if word == "-" else float(word)
