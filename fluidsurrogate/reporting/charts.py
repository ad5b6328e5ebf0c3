"""Charts of scores as figures of Plotly, in plain data: the page draws them in its own colours and font.

A colour that begins with "@" is one of the page, which changes with light and dark: "@ink", "@muted", "@line".
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from fluidsurrogate.evaluation.comparison import PERSISTENCE, TRUTH
from fluidsurrogate.rendering.style import COLOURS
from fluidsurrogate.reporting.run_results import RunResults

Figure = dict[str, Any]
Trace = dict[str, Any]
MAX_POINTS = 400  # of a curve: more are not seen
DIGITS = 5
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
INK, MUTED, LINE = "@ink", "@muted", "@line"
OWN_COLOURS = COLOURS[2:]  # the first two, black and grey, are those of the truth and of persistence


def source_colours(sources: Sequence[str]) -> dict[str, str]:
    """Choose the colour of each source.

    Parameters
    ----------
    sources : sequence of str
        The sources.

    Returns
    -------
    dict of str to str
        Colour by source: those of the page for truth and persistence, others in order for the rest.
    """
    own = [name for name in sources if name not in (TRUTH, PERSISTENCE)]
    colours = {name: OWN_COLOURS[i % len(OWN_COLOURS)] for i, name in enumerate(own)}
    return {name: colours.get(name) or (INK if name == TRUTH else MUTED) for name in sources}


def figure(identity: str, title: str, caption: str, traces: Sequence[Trace], **layout: Any) -> Figure:
    """Make a figure with its title and caption.

    Parameters
    ----------
    identity : str
        Its id on the page.
    title, caption : str
        What stands above and below it.
    traces : sequence of dict
        Traces of Plotly.
    **layout : object
        The layout of Plotly, without colours and fonts.

    Returns
    -------
    dict
        With the keys id, title, caption, data and layout.
    """
    return {"id": identity, "title": title, "caption": caption, "data": list(traces), "layout": layout}


def axis(title: str, **options: Any) -> dict[str, Any]:
    """Describe an axis.

    Parameters
    ----------
    title : str
        Its title, with units.
    **options : object
        Options of Plotly, such as type="log".

    Returns
    -------
    dict
        An axis of Plotly.
    """
    return {"title": {"text": title, "standoff": 8}, **options}


def log_axis(title: str, values: Any, **options: Any) -> dict[str, Any]:
    """Describe a logarithmic axis whose ticks are written out: 0.02, not 2 below 0.1.

    Parameters
    ----------
    title : str
        Its title, with units.
    values : array-like
        What is drawn. If it spans ten or more, the ticks are 1, 2 and 5 of each decade.
    **options : object
        Options of Plotly.

    Returns
    -------
    dict
        An axis of Plotly.
    """
    known = np.asarray(values, dtype=float)
    known = known[np.isfinite(known) & (known > 0)]
    is_wide = len(known) > 0 and known.max() >= 10 * known.min()
    return axis(title, type="log", tickformat=".3~g", **({"dtick": "D2"} if is_wide else {"nticks": 6}), **options)


def decades(low: float, high: float) -> dict[str, Any]:
    """Return the limits of a logarithmic axis.

    Parameters
    ----------
    low, high : float
        The limits.

    Returns
    -------
    dict
        The range of an axis of Plotly; empty if a limit has no logarithm.
    """
    known = bool(np.isfinite([low, high]).all()) and min(low, high) > 0
    return {"range": [float(np.log10(low)), float(np.log10(high))]} if known else {}


def with_units(name: str, values: xr.DataArray) -> str:
    """Return a name with the units of its values.

    Parameters
    ----------
    name : str
        What the values are.
    values : xr.DataArray
        Values with the attribute units, such as "m2 s-2".

    Returns
    -------
    str
        Such as "energy [m² s⁻²]".
    """
    units = re.sub(r"(?<=[a-z])-?\d", lambda m: m[0].translate(SUPERSCRIPTS), str(values.attrs.get("units", "1")))
    return name if units == "1" else f"{name} [{units}]"


def numbers(values: Any) -> list[float | None]:
    """Convert numbers to what JSON and Plotly take.

    Parameters
    ----------
    values : array-like
        One dimension.

    Returns
    -------
    list of float or None
        Rounded to five digits; None in place of what is not finite.
    """
    return [float(f"{v:.{DIGITS}g}") if np.isfinite(v) else None for v in np.asarray(values, dtype=float)]


def thinned(scores: xr.Dataset) -> xr.Dataset:
    """Leave out times, so that a curve has at most as many points as can be seen.

    Parameters
    ----------
    scores : xr.Dataset
        Scores by time.

    Returns
    -------
    xr.Dataset
        The first time, the last, and evenly those between.
    """
    return scores.isel(time=_shown(scores.sizes["time"]))


def _shown(count: int) -> np.ndarray:
    """Return which of so many points are drawn: the first, the last, and evenly those between."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).round().astype(int))


def score_charts(run: RunResults, colours: Mapping[str, str], prefix: str = "") -> list[Figure]:
    """Draw error and correlation by time.

    Parameters
    ----------
    run : RunResults
        A run with scores.
    colours : mapping of str to str
        Colour by source.
    prefix : str, default ""
        What the ids of the charts begin with.

    Returns
    -------
    list of dict
        Two figures.
    """
    assert run.scores is not None
    scores, time = thinned(run.scores), axis("time [s]")
    forecasts = [name for name in run.sources if name != TRUTH]
    errors = [t for name in forecasts for t in _with_spread(scores.isel(time=slice(1, None)), "nrmse", name, colours)]
    values = scores["nrmse"].sel(source=forecasts).isel(time=slice(1, None)).values
    values = values[np.isfinite(values) & (values > 0)]
    low = values.min() / 1.5 if len(values) else 0.0
    limits = decades(low, max(2 * low, min(values.max() * 1.5, 5.0))) if len(values) else {}
    correlations = [t for name in forecasts for t in _with_spread(scores, "correlation", name, colours)]
    layout: dict[str, Any] = {"xaxis": time, "yaxis": axis("pattern correlation", range=[-0.1, 1.03])}
    threshold = run.scores.attrs.get("correlation_threshold")
    says = ""
    if threshold is not None:
        layout["shapes"] = [horizontal_line(float(threshold))]
        says = f" Below the dotted line, {float(threshold):g}, a forecast counts as lost."
    return [
        figure(f"{prefix}nrmse", "Error", "nRMSE: the L² norm of the error over that of the truth. Mean over the test "
               "trajectories; the bands are ± one standard deviation.", errors, xaxis=time,
               yaxis=log_axis("nRMSE", values, **limits)),
        figure(f"{prefix}correlation", "Correlation", f"Pattern correlation with the truth.{says}", correlations,
               **layout),
    ]  # fmt: skip


def physics_charts(run: RunResults, colours: Mapping[str, str]) -> list[Figure]:
    """Draw energy and enstrophy by time, and energy spectra halfway and at the end.

    Parameters
    ----------
    run : RunResults
        A run with scores.
    colours : mapping of str to str
        Colour by source.

    Returns
    -------
    list of dict
        Four figures.
    """
    assert run.scores is not None
    scores, found = thinned(run.scores), []
    truth = run.scores.sel(source=TRUTH) if TRUTH in run.sources else run.scores.isel(source=0)
    for name, title in (("energy", "Energy"), ("enstrophy", "Enstrophy")):
        highest = float(truth[name].max())
        traces = [_line(scores["time"], scores[name].sel(source=s), s, colours) for s in run.sources]
        limits = {"range": [0, 1.4 * highest]} if np.isfinite(highest) and highest > 0 else {}
        y = axis(with_units(name, scores[name]), **limits)
        caption = f"{title} by time, mean over the test trajectories."
        found.append(figure(name, title, caption, traces, xaxis=axis("time [s]"), yaxis=y))
    times = run.scores["time"].values
    for label, t in (("halfway", len(times) // 2), ("at the end", len(times) - 1)):
        highest = float(truth["energy_spectrum"][t].max())
        traces = [
            _line(scores["wavenumber"], run.scores["energy_spectrum"].sel(source=s).isel(time=t), s, colours)
            for s in run.sources
        ]
        caption = f"Kinetic energy by wavenumber at t = {times[t]:g} s."
        y = axis(with_units("energy spectrum", scores["energy_spectrum"]), type="log",
                 **decades(1e-7 * highest, 5 * highest))  # fmt: skip
        x = log_axis("wavenumber [1/m]", scores["wavenumber"].values)
        found.append(figure(f"spectrum-{label.split()[-1]}", f"Energy spectrum {label}", caption, traces, xaxis=x,
                            yaxis=y | {"exponentformat": "power"}))  # fmt: skip
    return found


def front(costs: np.ndarray, errors: np.ndarray) -> list[int]:
    """Find the sources that no other one beats in both cost and error.

    Parameters
    ----------
    costs, errors : np.ndarray
        Of each source; NaN if it is not known.

    Returns
    -------
    list of int
        The indices of these sources, from the cheapest to the most accurate.
    """
    best, found = np.inf, []
    for i in np.lexsort((errors, costs)):
        if np.isfinite(costs[i]) and errors[i] < best:
            best = errors[i]
            found.append(int(i))
    return found


def front_chart(runs: Mapping[str, RunResults], colours: Mapping[str, str]) -> Figure | None:
    """Draw the mean error against the cost of a step, and the front of the sources that no other beats in both.

    Parameters
    ----------
    runs : mapping of str to RunResults
        Runs with scores by label.
    colours : mapping of str to str
        Colour by source.

    Returns
    -------
    dict or None
        The figure; None if no cost is known.
    """
    points: list[tuple[float, float, str, str, str]] = []
    for label, run in runs.items():
        assert run.scores is not None
        if "seconds_per_step" not in run.scores:
            continue
        for source in run.sources:
            one = run.scores.sel(source=source)
            cost, error = 1e3 * float(one["seconds_per_step"]), float(one["nrmse_mean"])
            if run.kind_of(source) in ("model", "solver") and np.isfinite(cost) and np.isfinite(error) and error > 0:
                points.append((cost, error, source, label, run.kind_of(source)))
    if not points:
        return None
    costs, errors = (np.array([point[i] for point in points]) for i in (0, 1))
    order = front(costs, errors)
    traces: list[Trace] = [{
        "type": "scatter", "mode": "lines", "x": numbers(costs[order]), "hoverinfo": "skip",
        "y": numbers(errors[order]), "line": {"color": MUTED, "dash": "dot", "width": 1.5},
    }]  # fmt: skip
    for cost, error, source, label, kind in points:
        suffix = f", {label}" if len(runs) > 1 else ""
        traces.append({
            "type": "scatter", "mode": "markers", "x": numbers([cost]), "y": numbers([error]),
            "name": html.escape(source + suffix, quote=False), "legendgroup": source,
            "marker": {"color": colours[source], "size": 12, "symbol": "circle" if kind == "model" else "square"},
            "hovertemplate": "%{x:.3g} ms a step, nRMSE %{y:.3g}",
        })  # fmt: skip
    return figure("front", "Error against cost", "Mean nRMSE against the time of one interval of all test trajectories "
                  "together. Circles are networks, squares classical solvers. On the dotted front nothing else is both "
                  "cheaper and more accurate.", traces, xaxis=log_axis("ms a step", costs),
                  yaxis=log_axis("mean nRMSE", errors), hovermode="closest")  # fmt: skip


def history_chart(run: RunResults, colours: Mapping[str, str]) -> Figure | None:
    """Draw the validation error of every model during training.

    Parameters
    ----------
    run : RunResults
        A run.
    colours : mapping of str to str
        Colour by source.

    Returns
    -------
    dict or None
        The figure; None if no history is recorded.
    """
    traces, drawn = [], []
    for name, model in run.models.items():
        if rows := [model.history[i] for i in _shown(len(model.history))] if model.history else []:
            steps, errors = numbers([row["step"] for row in rows]), numbers([row["valid_nrmse"] for row in rows])
            drawn += [row["valid_nrmse"] for row in rows]
            traces.append(curve(steps, errors, name, colours.get(name, INK)) | {"mode": "lines+markers"})
    if not traces:
        return None
    return figure("history", "Training", "Validation nRMSE, geometric mean over lead times, by training step.", traces,
                  xaxis=axis("training step"), yaxis=log_axis("validation nRMSE", drawn))  # fmt: skip


def comparison_chart(runs: Mapping[str, RunResults]) -> Figure:
    """Draw the mean error of every source in every run.

    Parameters
    ----------
    runs : mapping of str to RunResults
        Runs with scores by label.

    Returns
    -------
    dict
        The figure.
    """
    traces, drawn = [], []
    for i, (label, run) in enumerate(runs.items()):
        assert run.scores is not None
        sources = [name for name in run.sources if name != TRUTH]
        drawn += run.scores["nrmse_mean"].sel(source=sources).values.tolist()
        traces.append({
            "type": "scatter", "mode": "markers", "x": [html.escape(name, quote=False) for name in sources],
            "y": numbers(run.scores["nrmse_mean"].sel(source=sources)), "name": html.escape(label, quote=False),
            "marker": {"color": OWN_COLOURS[i % len(OWN_COLOURS)], "size": 11}, "hovertemplate": "%{y:.4g}",
        })  # fmt: skip
    return figure("comparison", "Mean error of every run", "Mean nRMSE over the forecast, one colour a run.", traces,
                  xaxis={"type": "category", "automargin": True}, yaxis=log_axis("mean nRMSE", drawn),
                  showlegend=True)  # fmt: skip


def _line(x: xr.DataArray, y: xr.DataArray, source: str, colours: Mapping[str, str]) -> Trace:
    """Make the curve of a source."""
    return curve(numbers(x.values), numbers(y.values), source, colours[source])


def curve(x: list[Any], y: list[Any], source: str, colour: str, dash: str = "") -> Trace:
    """Make the curve of a source.

    Parameters
    ----------
    x, y : list
        Plain numbers.
    source : str
        The source.
    colour : str
        Its colour.
    dash : str, default ""
        "solid", "dash" or "dot"; by default persistence is dashed and all others are solid.

    Returns
    -------
    dict
        A trace of Plotly.
    """
    width = 2.6 if source == TRUTH else 1.8
    dash = dash or ("dash" if source == PERSISTENCE else "solid")
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": html.escape(source, quote=False),
            "legendgroup": source, "line": {"color": colour, "width": width, "dash": dash},
            "hovertemplate": "%{y:.4g}"}  # fmt: skip


def _with_spread(scores: xr.Dataset, name: str, source: str, colours: Mapping[str, str]) -> Iterator[Trace]:
    """Make the curve of a source and the band of ± one standard deviation around it."""
    one = scores.sel(source=source)
    mean, spread = one[name].values, one[f"{name}_spread"].values
    known = np.isfinite(mean) & np.isfinite(spread)
    floor = 0.05 * mean[known] if name == "nrmse" else -1.0  # an axis in logarithms has no zero
    time = one["time"].values[known]
    low, high = np.maximum(mean[known] - spread[known], floor), mean[known] + spread[known]
    yield {"type": "scatter", "mode": "lines", "x": numbers([*time, *time[::-1]]), "y": numbers([*high, *low[::-1]]),
           "fill": "toself", "fillcolor": colours[source], "opacity": 0.12, "line": {"width": 0}, "hoverinfo": "skip",
           "legendgroup": source}  # fmt: skip
    yield _line(one["time"], one[name], source, colours)


def horizontal_line(y: float) -> dict[str, Any]:
    """Make a dotted horizontal line across a chart.

    Parameters
    ----------
    y : float
        Where it is.

    Returns
    -------
    dict
        A shape of Plotly.
    """
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y,
            "line": {"color": MUTED, "dash": "dot", "width": 1}}  # fmt: skip
