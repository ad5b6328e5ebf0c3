"""Write the report of finished runs: one HTML page that holds everything it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import write_text
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.provenance import parse_json_attribute, provenance_attributes
from fluidsurrogate.reporting import charts, tables
from fluidsurrogate.reporting.animation import animation
from fluidsurrogate.reporting.record import REPORT
from fluidsurrogate.reporting.run_results import SCORES, RunResults, read_run
from fluidsurrogate.reporting.uncertainty_charts import uncertainty_charts


def report(runs: str | Path | Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Write a report on finished runs: one HTML file that needs no network.

    Of one run it says what was run on what, and shows tables of scores, curves of error and correlation, spectra, error
    against cost, uncertainty, symmetry, audits, and an animation of all forecasts. What the run has not made is left
    out. Of several runs it shows where their experiments differ, and the scores of all and of each.

    Parameters
    ----------
    runs : str, Path or sequence of these
        The folder of a run, or several.
    out : str or Path, optional
        The file to write. By default report.html in the folder of the run; several runs need a name.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UsageError
        If a folder is not one of a run, has no scores and `out` is not given, or has none and is to be compared.

    Examples
    --------
    The page of scores that were made in Python; `fs.report("runs/demo")` shows a whole run:

    >>> import tempfile
    >>> from pathlib import Path
    >>> import fluidsurrogate as fs
    >>> data = fs.generate(fs.Experiment.from_tree({
    ...     "name": "tiny",
    ...     "grid": {"n": 16},
    ...     "flow": {"kind": "decaying", "viscosity": 0.01, "wavenumber": 2},
    ...     "data": {"train": 2, "valid": 1, "test": 1, "steps": 4, "interval": 0.25},
    ... }))
    >>> folder = Path(tempfile.mkdtemp())
    >>> fs.compare({"persistence": data.isel(time=[0] * 5).assign_coords(time=data["time"])}, data).to_netcdf(
    ...     folder / "scores.nc"
    ... )
    >>> fs.report(folder).name
    'report.html'
    """
    folders = list(dict.fromkeys(as_path(path) for path in ([runs] if isinstance(runs, str | Path) else runs)))
    if not folders:
        raise UsageError("name the folder of at least one run")
    if out is None and len(folders) > 1:
        raise UsageError("several runs: name the file of their report (--out FILE.html)")
    with ExitStack() as files:
        found = [read_run(folder) for folder in folders]
        for run in found:
            for dataset in (run.data, run.forecasts):
                if dataset is not None:
                    files.enter_context(dataset)
        unscored = next((run.folder for run in found if run.scores is None), None)
        if len(found) > 1 and unscored is not None:
            raise UsageError(f"{unscored} has no {SCORES} to compare: first run fluidsurrogate compare")
        if out is None and unscored is not None:
            raise UsageError(f"{unscored} has no {SCORES} yet: first run fluidsurrogate compare, or name the file of "
                             "the report (--out FILE.html)")  # fmt: skip
        path = folders[0] / REPORT if out is None else as_path(out)
        if path.suffix not in (".html", ".htm"):
            raise UsageError(f"{path}: choose a name that ends in .html")
        write_text(path, render(found))
    return path


def render(runs: Sequence[RunResults]) -> str:
    """Render the page of one or several runs.

    Parameters
    ----------
    runs : sequence of RunResults
        The runs; if there are several, each has scores.

    Returns
    -------
    str
        The page.

    Raises
    ------
    UsageError
        If a package that the page is made with is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        missing = (error.name or "plotly").partition(".")[0]
        raise UsageError(f"the report needs the package {missing}: pip install {missing}") from None

    loader = PackageLoader("fluidsurrogate.reporting", "page")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["script_json"] = script_json
    content = _one_run(runs[0]) if len(runs) == 1 else _several_runs(runs)
    has_figures = any(section["figures"] for section in content["sections"])
    return environment.get_template("report.html").render(
        **content,
        plotly=get_plotlyjs() if has_figures else "",
        style=loader.get_source(environment, "report.css")[0],
        script=loader.get_source(environment, "report.js")[0],
        made=f"fluidsurrogate {version('fluidsurrogate')}",
    )


def script_json(value: Any) -> str:
    """Encode plain data as JSON that nothing can break out of inside a script element.

    Parameters
    ----------
    value : object
        Plain data.

    Returns
    -------
    str
        JSON without the characters <, > and &, marked as safe.
    """
    from markupsafe import Markup

    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _section(title: str, **parts: Any) -> dict[str, Any]:
    """Make a section of the page; a part that is not given is empty."""
    empty: dict[str, Any] = {"text": "", "table": None, "figures": [], "audits": [], "facts": [], "animation": None}
    return {"id": re.sub(r"\W+", "-", title.lower()).strip("-"), "title": title, **empty, "details": "", **parts}


def _record(run: RunResults) -> dict[str, Any]:
    """Return what the report of a run records: that it was made from its scores."""
    scores = parse_json_attribute(run.scores.attrs.get("provenance")) if run.scores is not None else None
    return provenance_attributes(run.experiment, {"scores": scores}) if scores and "seed" in run.experiment else {}


def _one_run(run: RunResults) -> dict[str, Any]:
    """Gather what the page of one run shows."""
    colours = charts.source_colours(run.sources or list(run.models))
    about = _section("What was run", facts=tables.facts(run), table=tables.model_table(run),
                     details=tables.experiment_text(run))  # fmt: skip
    sections, lead = [about], ""
    if run.scores is not None:
        lead, one = tables.verdict(run), {run.name: run}
        sections.append(_section("Scores", table=tables.score_table(one),
                                 figures=charts.score_charts(run, colours),
                                 text="Mean over the test trajectories. The time of a step is that of one stored "
                                      "interval of all test trajectories together; > marks a lower bound, because the "
                                      "forecast ended before."))  # fmt: skip
        if (chart := charts.front_chart(one, colours)) is not None:
            sections.append(_section("Cost", figures=[chart]))
    if run.forecasts is not None:
        sections.append(_section("Forecasts", animation=animation(run.forecasts)))
    if run.scores is not None:
        sections.append(_section("Physics", figures=charts.physics_charts(run, colours)))
        if bounds := uncertainty_charts(run, colours):
            sections.append(_section("Uncertainty", table=tables.uncertainty_table(run), figures=bounds))
    if (errors := tables.symmetry_table(run)) is not None or tables.audits(run):
        sections.append(_section("Symmetry", table=errors, audits=tables.audits(run),
                                 text="|f(gx) - g f(x)| / |f(x) - x| of one step, by element of the point group: the "
                                      "error by which a step does not commute with it."))  # fmt: skip
    if (chart := charts.history_chart(run, colours)) is not None:
        sections.append(_section("Training", figures=[chart]))
    return {"title": run.name, "lead": lead, "sections": sections, "colours": colours, "record": _record(run)}


def _several_runs(runs: Sequence[RunResults]) -> dict[str, Any]:
    """Gather what the page of several runs shows."""
    labelled = _labels(runs)
    colours = charts.source_colours(list(dict.fromkeys(name for run in runs for name in run.sources)))
    differences, comparable = tables.difference_table(labelled), tables.are_comparable(labelled)
    says = "The keys at which the experiments of these runs differ; all others are the same."
    says = says if differences["rows"] else "The experiments of these runs are the same."
    warning = "" if comparable else "Flow, grid or times differ: errors are to be compared only within a run."
    if unknown := [label for label, run in labelled.items() if not run.experiment]:
        says = f"The experiment of {', '.join(unknown)} is not recorded."
        warning = "Nobody knows whether these runs have the same tests: errors are to be compared only within a run."
    sections = [
        _section("What differs", table=differences, text=says),
        _section("Scores", table=tables.score_table(labelled, comparable), text=warning,
                 figures=[charts.comparison_chart(labelled)]),
    ]  # fmt: skip
    if comparable and (chart := charts.front_chart(labelled, colours)) is not None:
        sections.append(_section("Cost", figures=[chart]))
    for number, (label, run) in enumerate(labelled.items()):
        section = _section(label, table=tables.score_table({label: run}), text=tables.verdict(run),
                           figures=charts.score_charts(run, colours, f"run-{number}-"))  # fmt: skip
        sections.append(section | {"id": f"run-{number}"})
    return {"title": " · ".join(labelled), "lead": "", "sections": sections, "colours": colours, "record": {}}


def _labels(runs: Sequence[RunResults]) -> Mapping[str, RunResults]:
    """Name each run: by its experiment if these names differ, else by its folder."""
    for names in ([run.name for run in runs], [run.folder.resolve().name for run in runs]):
        if len(set(names)) == len(runs):
            return dict(zip(names, runs, strict=True))
    return {str(run.folder): run for run in runs}
