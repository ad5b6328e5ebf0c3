"""Charts of calibrated forecasts: error and stated bound, coverage of the bound, and stated horizons."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fluidsurrogate.reporting.charts import Figure, axis, curve, figure, horizontal_line, log_axis, numbers, thinned
from fluidsurrogate.reporting.run_results import RunResults


def calibrated_sources(run: RunResults) -> list[str]:
    """Return the sources whose forecasts state an error bound.

    Parameters
    ----------
    run : RunResults
        A run.

    Returns
    -------
    list of str
        Their names.
    """
    if run.scores is None or "error_bound" not in run.scores:
        return []
    return [s for s in run.sources if bool(run.scores["error_bound"].sel(source=s).notnull().any())]


def uncertainty_charts(run: RunResults, colours: Mapping[str, str]) -> list[Figure]:
    """Draw bound and error by time, the share of forecasts within the bound, and the horizons.

    Parameters
    ----------
    run : RunResults
        A run with scores.
    colours : mapping of str to str
        Colour by source.

    Returns
    -------
    list of dict
        Empty if no model is calibrated.
    """
    sources = calibrated_sources(run)
    if not sources:
        return []
    assert run.scores is not None
    coverage = float(run.scores["error_bound"].attrs.get("coverage", 0.9))
    scores = thinned(run.scores.isel(time=slice(1, None)))
    time, bounds, shares, horizons = numbers(scores["time"].values), [], [], []
    for name in sources:
        one, colour = scores.sel(source=name), colours[name]
        for key, dash in (("nrmse", "solid"), ("error_bound", "dash"), ("ensemble_spread", "dot")):
            if key in one:
                says = {"nrmse": "error", "error_bound": "bound", "ensemble_spread": "spread"}[key]
                trace = curve(time, numbers(one[key].values), name, colour, dash)
                bounds.append(trace | {"name": f"{trace['name']}: {says}"})
        if "bound_coverage" in one:
            shares.append(curve(time, numbers(one["bound_coverage"].values), name, colour))
        stated = run.scores["horizon"].sel(source=name).values if "horizon" in run.scores else np.array([])
        if np.isfinite(stated).any():
            named = curve([], numbers(stated), name, colour)
            horizons.append({"type": "box", "y": named["y"], "name": named["name"], "legendgroup": name,
                             "boxpoints": "all", "jitter": 0.5, "pointpos": 0, "line": {"color": colour, "width": 1.5},
                             "marker": {"color": colour, "size": 5, "opacity": 0.6}, "fillcolor": "rgba(0,0,0,0)",
                             "hoverinfo": "y+name"})  # fmt: skip
    drawn = scores[["nrmse", "error_bound"]].sel(source=sources).to_array()
    found = [figure("bound", "Bound and error", f"Mean nRMSE (solid), its {100 * coverage:g} % bound (dashed) and the "
                    "spread of the members (dotted), of every calibrated model.", bounds, xaxis=axis("time [s]"),
                    yaxis=log_axis("nRMSE", drawn))]  # fmt: skip
    if shares:
        caption = ("Share of the test trajectories whose error is within the bound. It should be about "
                   f"{100 * coverage:g} %, the dotted line.")  # fmt: skip
        y = axis("share within the bound", range=[0, 1.05], tickformat=".0%")
        found.append(figure("coverage", "Coverage", caption, shares, xaxis=axis("time [s]"), yaxis=y,
                            shapes=[horizontal_line(coverage)]))  # fmt: skip
    if horizons:
        level = run.scores["horizon"].attrs.get("level", "0.5")
        found.append(figure("horizon", "Stated horizon", f"Time up to which the bound is at most {level}, one point a "
                            "test trajectory.", horizons, xaxis={"type": "category", "automargin": True},
                            yaxis=axis("horizon [s]", rangemode="tozero"), hovermode="closest"))  # fmt: skip
    return found
