"""The stage `compare`: scores of every forecast against the truth, as NetCDF, CSV and figures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack

from fluidsurrogate.config.dimension_defaults import dimensions_in
from fluidsurrogate.core.files import atomic_write, write_text
from fluidsurrogate.pipeline.run import Run
from fluidsurrogate.pipeline.stage import Provenance, Stage, Tree, register
from fluidsurrogate.pipeline.stages.rollout import ENSEMBLES, FORECASTS, ensemble_models

log = logging.getLogger("fluidsurrogate")
SCORES, VORTICES = "scores.nc", "vortices.png"
MAX_FLOWS = 5  # in the picture of flows in space


def outputs(tree: Tree) -> tuple[str, ...]:
    """Return the name of the file of scores."""
    return (SCORES,)


def provenance(run: Run, output: str) -> Provenance:
    """Return what the scores depend on."""
    return {"forecasts": run.provenance(FORECASTS), "compare": run.tree["compare"]}


def figures_and_table(tree: Tree) -> tuple[str, ...]:
    """Return the names of the files beside that of the scores."""
    of_space = (VORTICES,) if dimensions_in(tree) > 2 else ()
    return ("scores.csv", "comparison.png", "scores.png", *of_space)


def make(run: Run, missing: Sequence[str], force: bool) -> None:
    """Score the forecasts, write the scores and draw the figures."""
    from fluidsurrogate.data.netcdf_files import write_netcdf
    from fluidsurrogate.data.readers import open_data
    from fluidsurrogate.evaluation.comparison import PERSISTENCE, TRUTH
    from fluidsurrogate.evaluation.score_tables import to_csv
    from fluidsurrogate.pipeline.forecasts import score_all
    from fluidsurrogate.rendering.comparison_figure import draw_comparison
    from fluidsurrogate.rendering.isosurface_figure import draw_flows_in_space
    from fluidsurrogate.rendering.scores_figure import draw_scores

    log.info(f"compare: {run.out / SCORES}")
    options = run.experiment.compare
    with ExitStack() as files:
        ensembles = files.enter_context(open_data(run.out / ENSEMBLES)) if ensemble_models(run.tree) else None
        forecasts = files.enter_context(open_data(run.out / FORECASTS))
        scores = score_all(forecasts.load(), options.correlation_threshold, options.metrics, ensembles)
        write_text(run.out / "scores.csv", to_csv(scores))
        with atomic_write(run.out / "comparison.png") as beside:
            draw_comparison(forecasts, beside, ensembles=ensembles)
        if "z" in forecasts.dims:
            sources = [str(name) for name in forecasts["source"].values if str(name) != PERSISTENCE]
            names = [TRUTH, *(name for name in sources if name != TRUTH)][:MAX_FLOWS]
            with atomic_write(run.out / VORTICES) as beside:
                draw_flows_in_space(forecasts, names, beside)
    with atomic_write(run.out / "scores.png") as beside:
        draw_scores(scores, beside)
    write_netcdf(scores.assign_attrs(run.stamp(SCORES)), run.out / SCORES)


def report(run: Run) -> str:
    """Return the table of scores, and how well the truth is resolved."""
    from fluidsurrogate.data.readers import open_data
    from fluidsurrogate.evaluation.score_tables import summary
    from fluidsurrogate.simulation.resolution import describe_resolution

    with open_data(run.out / SCORES) as scores:
        table = summary(scores).to_string()
    with open_data(run.data_path) as data:
        resolution = describe_resolution(data.attrs)
    return f"{table}\n\nresolution of the truth: {resolution or 'not known'}"


register(
    Stage(
        name="compare",
        summary="score all forecasts against the truth: scores.nc, scores.csv, scores.png, comparison.png",
        inputs=("rollout",),
        kind="scores",
        files=(SCORES,),
        outputs=outputs,
        provenance=provenance,
        make=make,
        extra_files=figures_and_table,
        report=report,
    )
)
